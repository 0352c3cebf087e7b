//! Bytes to lines, and lines to commands.

/// Longest line in bytes, as HAProxy's default buffer.
pub(super) const MAX_LINE: usize = 16 * 1024;

/// What a client has sent and nobody has looked at yet.
#[derive(Debug, Default)]
pub(super) struct Input {
    bytes: Vec<u8>,
    /// Bytes at the beginning without an end of a line.
    searched: usize,
}

/// The client sent a line that is longer than [`MAX_LINE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooLong;

impl Input {
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next complete line, without its end.
    pub(super) fn line(&mut self) -> Result<Option<String>, TooLong> {
        let Some(end) = self.bytes[self.searched..].iter().position(|&byte| byte == b'\n') else {
            self.searched = self.bytes.len();
            return if self.bytes.len() > MAX_LINE { Err(TooLong) } else { Ok(None) };
        };
        let mut line: Vec<u8> = self.bytes.drain(..=self.searched + end).collect();
        self.searched = 0;
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        if line.len() > MAX_LINE {
            return Err(TooLong);
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }
}

/// The commands of a line of the runtime API, each as its words. They stand between semicolons; a backslash takes away what
/// the character after it means. An empty line is one empty command.
pub fn commands(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut words, mut word) = (Vec::new(), Vec::new(), None::<String>);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            ';' => {
                words.extend(word.take());
                commands.push(std::mem::take(&mut words));
            }
            ' ' | '\t' => words.extend(word.take()),
            '\\' => word.get_or_insert_default().extend(letters.next()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    commands.push(words);
    commands
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(input: &mut Input) -> Vec<String> {
        std::iter::from_fn(|| input.line().unwrap()).collect()
    }

    #[test]
    fn lines_end_with_or_without_cr_and_the_rest_waits() {
        let mut input = Input::default();
        input.push(b"show info\r\nshow stat\nhel");
        assert_eq!(lines(&mut input), ["show info", "show stat"]);
        input.push(b"p\n\n");
        assert_eq!(lines(&mut input), ["help", ""]);
    }

    #[test]
    fn a_line_has_a_limit() {
        let mut input = Input::default();
        input.push(&[b'x'; MAX_LINE]);
        assert_eq!(input.line(), Ok(None));
        input.push(b"\n");
        assert_eq!(input.line().unwrap().unwrap().len(), MAX_LINE);
        input.push(&[b'x'; MAX_LINE + 1]);
        assert_eq!(input.line(), Err(TooLong));
    }

    #[test]
    fn semicolons_part_commands_unless_they_are_escaped() {
        assert_eq!(commands("show  stat up"), [["show", "stat", "up"]]);
        assert_eq!(commands(" show info ; show stat"), [["show", "info"], ["show", "stat"]]);
        assert_eq!(commands(r"set server a/b state\;x y\ z"), [["set", "server", "a/b", "state;x", "y z"]]);
        assert_eq!(commands("help;"), [vec!["help".to_owned()], vec![]]);
        assert_eq!(commands(""), [Vec::<String>::new()]);
    }

    proptest! {
        #[test]
        fn how_bytes_are_cut_into_pieces_does_not_matter(bytes in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
            let (mut whole, mut pieces) = (Input::default(), Input::default());
            whole.push(&bytes);
            let (first, rest) = bytes.split_at(cut.min(bytes.len()));
            pieces.push(first);
            let mut found = lines(&mut pieces);
            pieces.push(rest);
            found.extend(lines(&mut pieces));
            prop_assert_eq!(found, lines(&mut whole));
        }

        #[test]
        fn a_word_is_read_back_when_all_of_it_is_escaped(words in prop::collection::vec("[ -~]{1,8}", 1..5)) {
            let escaped = |word: &String| word.chars().flat_map(|letter| ['\\', letter]).collect::<String>();
            let line = words.iter().map(escaped).collect::<Vec<_>>().join(" \t");
            prop_assert_eq!(commands(&line), [words]);
        }

        #[test]
        fn a_line_has_one_command_more_than_semicolons(line in "[a-z; ]{0,40}") {
            prop_assert_eq!(commands(&line).len(), line.matches(';').count() + 1);
        }
    }
}
