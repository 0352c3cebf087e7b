//! Rise and fall: when checks make a server UP or DOWN.
//!
//! A pure step, so that every sequence of results can be tested; the checks themselves run in `probe`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use crate::model::Health;

/// The health after one more check.
///
/// `rise` checks in a row bring a server back up, `fall` in a row take it down (HAProxy's manual, section 5.2). The first
/// check that passes makes a new server `Up` at once: it has nothing to recover from, and its users are waiting.
pub fn observe(health: Health, passed: bool, rise: u32, fall: u32) -> Health {
    match (health, passed) {
        (Health::Unchecked, _) => Health::Unchecked,
        (Health::Initial, true) | (Health::Up { .. }, true) => Health::Up { failed: 0, fall },
        (Health::Initial, false) => Health::Initial,
        (Health::Up { failed, .. }, false) if failed + 1 < fall => Health::Up { failed: failed + 1, fall },
        (Health::Up { .. } | Health::Down { .. }, false) => Health::Down { passed: 0, rise },
        (Health::Down { passed, .. }, true) if passed + 1 < rise => Health::Down { passed: passed + 1, rise },
        (Health::Down { .. }, true) => Health::Up { failed: 0, fall },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn after(start: Health, results: &[bool]) -> Health {
        results.iter().fold(start, |health, &passed| observe(health, passed, 2, 3))
    }

    #[test]
    fn a_new_server_is_up_after_one_pass() {
        assert_eq!(after(Health::Initial, &[false, false, true]), Health::Up { failed: 0, fall: 3 });
    }

    #[test]
    fn three_failures_in_a_row_take_it_down() {
        let up = Health::Up { failed: 0, fall: 3 };
        assert_eq!(after(up, &[false, false]), Health::Up { failed: 2, fall: 3 });
        assert_eq!(after(up, &[false, false, true, false, false]), Health::Up { failed: 2, fall: 3 });
        assert_eq!(after(up, &[false, false, false]), Health::Down { passed: 0, rise: 2 });
    }

    #[test]
    fn two_passes_in_a_row_bring_it_back() {
        let down = Health::Down { passed: 0, rise: 2 };
        assert_eq!(after(down, &[true]), Health::Down { passed: 1, rise: 2 });
        assert_eq!(after(down, &[true, false, true]), Health::Down { passed: 1, rise: 2 });
        assert_eq!(after(down, &[true, true]), Health::Up { failed: 0, fall: 3 });
    }

    proptest! {
        #[test]
        fn the_counts_stay_below_their_limits(results in prop::collection::vec(any::<bool>(), 0..64), rise in 1u32..5, fall in 1u32..5) {
            let mut health = Health::Initial;
            for passed in results {
                health = observe(health, passed, rise, fall);
                match health {
                    Health::Up { failed, .. } => prop_assert!(failed < fall),
                    Health::Down { passed, .. } => prop_assert!(passed < rise),
                    Health::Initial => {}
                    Health::Unchecked => prop_assert!(false, "a checked server became unchecked"),
                }
            }
        }
    }
}
