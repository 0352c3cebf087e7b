//! A member's time, which stands still while its process does.

use tokio::time::{Duration, Instant};

/// What the time advances by at most while the loop is at work.
const LONGEST_TURN: Duration = Duration::from_millis(250);
/// What a sleep may be longer than was planned.
const LATE: Duration = Duration::from_millis(50);

/// Advances by what a turn of the loop, or the sleep between two, may take at most, however long it took.
pub(super) struct Clock {
    time: Duration,
    turned: Instant,
    longest: Duration,
}

impl Clock {
    pub(super) fn new(now: Instant) -> Self {
        Self { time: Duration::ZERO, turned: now, longest: LONGEST_TURN }
    }

    /// What has passed since the start, as of the last [`Clock::advance`].
    pub(super) fn time(&self) -> Duration {
        self.time
    }

    pub(super) fn advance(&mut self, now: Instant) {
        self.time += now.duration_since(self.turned).min(self.longest);
        self.turned = now;
        self.longest = LONGEST_TURN;
    }

    /// From the last [`Clock::advance`] to the next the process sleeps for so long at most.
    pub(super) fn sleeps(&mut self, planned: Duration) {
        self.longest = planned + LATE;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_was_paused_for_a_minute_sees_no_more_than_it_meant_to_sleep() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let mut clock = Clock::new(start);
        clock.advance(at(200));
        assert_eq!(clock.time(), Duration::from_millis(200));
        clock.sleeps(Duration::from_millis(500));
        clock.advance(at(703));
        assert_eq!(clock.time(), Duration::from_millis(703), "a sleep that was not cut short, and a little late");
        clock.sleeps(Duration::from_millis(500));
        clock.advance(at(60_000));
        assert_eq!(clock.time(), Duration::from_millis(703 + 550), "paused in its sleep");
        clock.advance(at(120_000));
        assert_eq!(clock.time(), Duration::from_millis(703 + 550 + 250), "paused at work");
    }
}
