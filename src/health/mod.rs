//! What makes a server UP or DOWN: checks in a row, bad answers to users, and how many others are left.
//!
//! Pure steps, so that every sequence of events can be tested; checks run in `probe`, and requests in `proxy`.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod outlier;
mod panic;

pub use outlier::{Action, Detector, Sample, Strike};
pub use panic::{Share, panics};

use crate::model::Health;

/// What one more look at a server has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finding {
    /// It serves.
    Passed,
    /// It does not.
    Failed,
    /// It serves the users that it has, and wants no others.
    Stopping,
}

/// The health after one more check, or after traffic has met a failure.
///
/// `rise` checks in a row bring a server back up, `fall` in a row take it down (HAProxy's manual, section 5.2). The first
/// check that passes makes a new server `Up` at once: it has nothing to recover from, and its users are waiting. A new one
/// can also be stopping: this process may be younger than the cookies that name it. One that is down cannot: it has lost
/// its users.
pub fn observe(health: Health, finding: Finding, rise: u32, fall: u32) -> Health {
    use Finding::{Failed, Passed, Stopping};
    match (health, finding) {
        (Health::Unchecked, _) => Health::Unchecked,
        (Health::Ejected, _) => Health::Ejected,
        (Health::Initial | Health::Up { .. } | Health::Stopping { .. }, Passed) => Health::Up { failed: 0, fall },
        (Health::Initial | Health::Up { .. } | Health::Stopping { .. }, Stopping) => {
            Health::Stopping { failed: 0, fall }
        }
        (Health::Initial, Failed) => Health::Initial,
        (Health::Up { failed, .. }, Failed) if failed + 1 < fall => Health::Up { failed: failed + 1, fall },
        (Health::Stopping { failed, .. }, Failed) if failed + 1 < fall => Health::Stopping { failed: failed + 1, fall },
        (Health::Up { .. } | Health::Stopping { .. }, Failed) => Health::Down { passed: 0, rise },
        (Health::Down { .. }, Failed | Stopping) => Health::Down { passed: 0, rise },
        (Health::Down { passed, .. }, Passed) if passed + 1 < rise => Health::Down { passed: passed + 1, rise },
        (Health::Down { .. }, Passed) => Health::Up { failed: 0, fall },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn finding(passed: bool) -> Finding {
        if passed { Finding::Passed } else { Finding::Failed }
    }

    fn after(start: Health, results: &[bool]) -> Health {
        results.iter().fold(start, |health, &passed| observe(health, finding(passed), 2, 3))
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

    #[test]
    fn a_server_that_is_up_can_be_stopping_and_be_back_at_once() {
        let up = Health::Up { failed: 1, fall: 3 };
        let stopping = observe(up, Finding::Stopping, 2, 3);
        assert_eq!(stopping, Health::Stopping { failed: 0, fall: 3 });
        assert_eq!(after(stopping, &[false]), Health::Stopping { failed: 1, fall: 3 });
        assert_eq!(after(stopping, &[false, false, false]), Health::Down { passed: 0, rise: 2 });
        assert_eq!(after(stopping, &[true]), Health::Up { failed: 0, fall: 3 });
    }

    #[test]
    fn a_new_server_can_be_stopping_and_one_that_is_down_cannot() {
        assert_eq!(observe(Health::Initial, Finding::Stopping, 2, 3), Health::Stopping { failed: 0, fall: 3 });
        let rising = Health::Down { passed: 1, rise: 2 };
        assert_eq!(observe(rising, Finding::Stopping, 2, 3), Health::Down { passed: 0, rise: 2 });
    }

    proptest! {
        #[test]
        fn the_counts_stay_below_their_limits(
            findings in prop::collection::vec(0..3, 0..64),
            rise in 1u32..5,
            fall in 1u32..5,
        ) {
            let (mut health, mut failures) = (Health::Initial, 0);
            for finding in findings {
                let finding = [Finding::Passed, Finding::Failed, Finding::Stopping][finding as usize];
                let before = health;
                health = observe(health, finding, rise, fall);
                failures = if finding == Finding::Failed { failures + 1 } else { 0 };
                prop_assert!(!before.is_up() || health.is_up() || failures >= fall, "down before {fall} failures");
                match health {
                    Health::Up { failed, .. } | Health::Stopping { failed, .. } => prop_assert!(failed < fall),
                    Health::Down { passed, .. } => prop_assert!(passed < rise),
                    Health::Initial => {}
                    Health::Unchecked | Health::Ejected => prop_assert!(false, "checks made it {health:?}"),
                }
            }
        }
    }
}
