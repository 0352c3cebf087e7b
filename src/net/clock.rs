//! A clock for time-outs that costs a few nanoseconds.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment of the coarse clock, in milliseconds since the machine started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Millis(pub u64);

impl Millis {
    /// The moment `later` after this one.
    pub fn after(self, later: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(later.as_millis()).unwrap_or(u64::MAX)))
    }

    /// Time from this moment until `later`; zero when it has passed.
    pub fn until(self, later: Self) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// Now, exact to the kernel's tick (1 to 10 ms): enough for time-outs, and read without a system call.
pub fn now_coarse() -> Millis {
    let time = clock_gettime(ClockId::MonotonicCoarse);
    let millis = time.tv_sec.saturating_mul(1000).saturating_add(i64::from(time.tv_nsec as i32) / 1_000_000);
    Millis(u64::try_from(millis).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_ordered_and_far_ones_do_not_overflow() {
        let now = now_coarse();
        assert!(now.0 > 0 && now_coarse() >= now);
        assert_eq!(now.until(now.after(Duration::from_secs(3))), Duration::from_secs(3));
        assert_eq!(now.after(Duration::MAX), Millis(u64::MAX));
        assert_eq!(now.after(Duration::from_secs(1)).until(now), Duration::ZERO);
    }
}
