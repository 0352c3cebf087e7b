//! Whether a client keeps up: how long it may be silent, and how slow it may be.
//!
//! Silence alone does not bound a transfer: one byte now and then holds a connection, a place on a server and their memory for
//! as long as the client likes. A least rate does. Why not the average since the beginning: a client that sent much at once
//! could then be slow for hours. So time that we wait for the client uses up a credit of bytes, what passes renews it,
//! and it never grows beyond what the rate gives in the time that the client may be silent.

use std::time::Duration;

use crate::net::Millis;

/// One direction of a client's transfer. It knows no clock; whoever asks tells the time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Bytes per second; 0 is no least rate.
    rate: u64,
    silence: Duration,
    /// How far the client may fall behind its rate, in thousandths of a byte, as it was at `counted`.
    credit: u64,
    /// Up to when time is counted; `None` while we don't wait for the client.
    counted: Option<Millis>,
    /// Since when nothing has passed for which we wait.
    quiet: Millis,
}

impl Pace {
    /// A client that may be silent for `silence`, and in the long run no slower than `rate` bytes per second.
    pub(super) fn new(rate: u32, silence: Duration) -> Self {
        let rate = u64::from(rate);
        Self { rate, silence, credit: thousandths(rate, silence), counted: None, quiet: Millis::default() }
    }

    /// Notes that `bytes` have passed since the last note, and whether it is the client that we wait for from now on.
    pub(super) fn note(&mut self, now: Millis, bytes: u64, waits: bool) {
        if let Some(counted) = self.counted {
            self.credit = self.credit.saturating_sub(thousandths(self.rate, counted.until(now)));
        }
        self.credit = self.credit.saturating_add(bytes.saturating_mul(1000)).min(thousandths(self.rate, self.silence));
        if self.counted.is_none() || bytes > 0 {
            self.quiet = now;
        }
        self.counted = waits.then_some(now);
    }

    /// Whether we wait for the client.
    pub(super) fn waits(&self) -> bool {
        self.counted.is_some()
    }

    /// When the client is to be given up if nothing passes until then; `None` while we don't wait for it.
    pub(super) fn deadline(&self) -> Option<Millis> {
        let counted = self.counted?;
        let silent = self.quiet.after(self.silence);
        let slow = self.credit.checked_div(self.rate).map(|left| counted.after(Duration::from_millis(left)));
        Some(slow.map_or(silent, |slow| slow.min(silent)))
    }
}

/// What a rate gives in a time, in thousandths of a byte.
fn thousandths(rate: u64, time: Duration) -> u64 {
    rate.saturating_mul(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: u32 = 240;
    const SILENCE: Duration = Duration::from_secs(50);

    /// Passes `bytes` at the end of each `step`; the second at which the client is given up, or `None` within a day.
    fn given_up(mut pace: Pace, bytes: u64, step: u64) -> Option<u64> {
        pace.note(Millis(0), 0, true);
        for second in (0..24 * 3600).step_by(step as usize) {
            let deadline = pace.deadline().unwrap();
            let next = Millis((second + step) * 1000);
            if deadline <= next {
                return Some(deadline.0 / 1000);
            }
            pace.note(next, bytes, true);
        }
        None
    }

    #[test]
    fn a_byte_now_and_then_is_not_enough() {
        assert_eq!(given_up(Pace::new(RATE, SILENCE), 1, 40), Some(50));
        assert_eq!(given_up(Pace::new(RATE, SILENCE), 10, 1), Some(52));
        assert_eq!(given_up(Pace::new(RATE, SILENCE), 239, 1), Some(11_761));
    }

    #[test]
    fn the_least_rate_is_enough_for_ever_however_it_is_spread() {
        for step in [1, 7, 49] {
            assert_eq!(given_up(Pace::new(RATE, SILENCE), u64::from(RATE) * step, step), None, "every {step} s");
        }
    }

    #[test]
    fn silence_is_given_up_whatever_the_rate() {
        for rate in [0, 1, RATE, u32::MAX] {
            assert_eq!(given_up(Pace::new(rate, SILENCE), 0, 1), Some(50), "{rate}");
        }
    }

    #[test]
    fn without_a_least_rate_any_byte_will_do() {
        assert_eq!(given_up(Pace::new(0, SILENCE), 1, 49), None);
    }

    #[test]
    fn much_at_once_buys_no_more_than_the_silence() {
        let mut pace = Pace::new(RATE, SILENCE);
        pace.note(Millis(0), 1_000_000_000, true);
        assert_eq!(pace.deadline(), Some(Millis(50_000)));
        pace.note(Millis(40_000), 1, true);
        assert_eq!(pace.deadline(), Some(Millis(50_004)));
    }

    #[test]
    fn only_the_time_that_we_wait_counts() {
        let mut pace = Pace::new(RATE, SILENCE);
        pace.note(Millis(0), 0, true);
        pace.note(Millis(30_000), 0, false);
        assert_eq!((pace.waits(), pace.deadline()), (false, None));
        pace.note(Millis(1_000_000), 0, true);
        assert_eq!(pace.deadline(), Some(Millis(1_020_000)));
    }

    #[test]
    fn what_came_while_nobody_looked_counts_before_the_time_does() {
        // The process was stopped for an hour, and the client was not.
        let mut pace = Pace::new(RATE, SILENCE);
        pace.note(Millis(0), 0, true);
        pace.note(Millis(3_600_000), 2_400, true);
        assert_eq!(pace.deadline(), Some(Millis(3_610_000)));
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut pace = Pace::new(u32::MAX, Duration::from_secs(7 * 24 * 3600));
        pace.note(Millis(0), u64::MAX, true);
        pace.note(Millis(u64::MAX), u64::MAX, true);
        assert_eq!(pace.deadline(), Some(Millis(u64::MAX)));
        assert_eq!(Pace::new(1, Duration::MAX).credit, u64::MAX);
    }
}
