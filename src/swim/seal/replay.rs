//! Which counters of one sender were seen: a window of bits that slides with the highest (RFC 6479).
//!
//! Why a thousand and not IPsec's 64? One counter serves all receivers of a sender: between two datagrams to us it may
//! have written to everybody else, so that two which overtake each other on the way are that far apart.

const WORDS: u64 = 16;
const BITS: u64 = 64;

/// Counters below this distance from the highest are told apart; what is older counts as seen. One word is always being
/// emptied.
pub(super) const WINDOW: u64 = (WORDS - 1) * BITS;

pub(super) struct Window {
    highest: u64,
    words: [u64; WORDS as usize],
}

impl Window {
    /// Where this counter is the first: it and all before it are seen.
    pub(super) fn beginning_at(counter: u64) -> Self {
        let mut words = [u64::MAX; WORDS as usize];
        words[place(counter).0] >>= BITS - 1 - counter % BITS;
        Self { highest: counter, words }
    }

    /// Whether the counter was seen, or is too old to tell.
    pub(super) fn has(&self, counter: u64) -> bool {
        let (word, bit) = place(counter);
        counter <= self.highest && (self.highest - counter >= WINDOW || self.words[word] & bit != 0)
    }

    /// Takes a counter in; `false` when it was seen, or is too old to tell.
    pub(super) fn accept(&mut self, counter: u64) -> bool {
        if self.has(counter) {
            return false;
        }
        if counter > self.highest {
            let (now, then) = (self.highest / BITS, counter / BITS);
            for block in (now + 1..=then).take(WORDS as usize) {
                self.words[(block % WORDS) as usize] = 0;
            }
            self.highest = counter;
        }
        let (word, bit) = place(counter);
        self.words[word] |= bit;
        true
    }
}

fn place(counter: u64) -> (usize, u64) {
    ((counter / BITS % WORDS) as usize, 1 << (counter % BITS))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_window_begins_with_everything_before_seen_and_everything_after_open() {
        for first in [0, 1, 62, 63, 64, 127, 1_000_000, u64::MAX - 5000] {
            let mut window = Window::beginning_at(first);
            assert!(!window.accept(first) && !window.accept(first.saturating_sub(1)));
            for next in 1..2000 {
                assert!(window.accept(first + next), "{next} after {first}");
                assert!(!window.accept(first + next), "{next} after {first} again");
            }
        }
    }

    #[test]
    fn a_leap_to_the_last_counter_forgets_nothing_that_matters() {
        let mut window = Window::beginning_at(1);
        assert!(window.accept(u64::MAX) && !window.accept(u64::MAX) && !window.accept(2));
        assert!(window.accept(u64::MAX - 1) && !window.accept(u64::MAX - 1));
    }

    proptest! {
        #[test]
        fn it_answers_as_a_list_of_all_counters_would(
            first in 0..200_u64, steps in prop::collection::vec((-1200..1500_i64, any::<bool>()), 1..400)
        ) {
            let (mut window, mut seen, mut highest) = (Window::beginning_at(first), BTreeSet::new(), first);
            for (step, near) in steps {
                let step = if near { step / 40 } else { step };
                let Some(counter) = highest.checked_add_signed(step) else { continue };
                let is_new = counter > first && highest.saturating_sub(counter) < WINDOW && !seen.contains(&counter);
                prop_assert_eq!(window.has(counter), !is_new);
                prop_assert_eq!(window.accept(counter), is_new);
                if is_new {
                    seen.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }
    }
}
