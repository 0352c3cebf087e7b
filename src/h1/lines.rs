//! Header lines that nobody looks at.

use super::write::write_field;

/// Header lines of a response that no rule asks for, as they are written.
///
/// Most lines of most responses are such: to hash their names and to share their values costs more than all rules together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Lines(Vec<u8>);

impl Lines {
    /// Room for the lines of an ordinary response.
    const ROOM: usize = 256;

    /// Whether no rule asks for lines of that name. It must be one of none that is hop-by-hop, tells how the message is read,
    /// or has to do with cookies or caches.
    pub(super) fn takes(name: &str) -> bool {
        const ASKED_FOR: [&str; 11] = [
            "cache-control",
            "connection",
            "content-length",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
            "set-cookie",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        // The first letter says it of most names.
        let may_be = name.as_bytes().first().is_some_and(|first| b"ckpstuCKPSTU".contains(first));
        !may_be || !ASKED_FOR.iter().any(|asked| name.eq_ignore_ascii_case(asked))
    }

    pub(super) fn push(&mut self, name: &str, value: &[u8]) {
        if self.0.is_empty() {
            self.0.reserve(Self::ROOM);
        }
        write_field(&mut self.0, name, value);
    }

    /// The lines, each with its end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_ask_for_is_not_taken_however_it_is_written() {
        for name in ["Connection", "CONTENT-LENGTH", "set-cookie", "Te", "Keep-Alive", "transfer-Encoding"] {
            assert!(!Lines::takes(name), "{name}");
        }
        for name in ["content-type", "Server", "date", "x-te", "", "connection-x"] {
            assert!(Lines::takes(name), "{name}");
        }
    }
}
