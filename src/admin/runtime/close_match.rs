//! Which commands a person may have meant.

/// Most that are proposed, as in HAProxy.
const MOST: usize = 5;

/// The known commands that are nearest to what was written, the nearest first; none when nothing is near. Case does not
/// count.
pub(super) fn close_matches<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let written = written.to_ascii_lowercase();
    let mut near: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|known| {
            let distance = distance(&written, known);
            // A command of which more than a third would have to change is another one.
            (distance * 3 <= known.len()).then_some((distance, known))
        })
        .collect();
    near.sort();
    near.into_iter().take(MOST).map(|(_, known)| known).collect()
}

/// How many bytes have to be added, removed or changed to make one text of the other (V. Levenshtein, 1966).
fn distance(one: &str, other: &str) -> usize {
    let other = other.as_bytes();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, byte) in one.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = index + 1;
        for (column, of_other) in other.iter().enumerate() {
            let changed = diagonal + usize::from(byte != *of_other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_of_the_finger_finds_its_command() {
        let known = ["show info", "show stat", "set server", "quit"];
        assert_eq!(close_matches("SHOW INFO", known), ["show info"]);
        assert_eq!(close_matches("shwo stat", known), ["show stat"]);
        assert_eq!(close_matches("exit", known), [""; 0]);
    }

    #[test]
    fn a_distance_counts_changes() {
        for (one, other, expected) in [("", "abc", 3), ("abc", "abc", 0), ("kitten", "sitting", 3), ("ab", "ba", 2)] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }
}
