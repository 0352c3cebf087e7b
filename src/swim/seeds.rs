//! When to contact the seeds next.
//!
//! Why not once, at the start? The balancer may start after its nodes, come back elsewhere under the same name, or be cut
//! off for a while; and foca, once it knows nobody, stays alone for good. So the seeds are contacted for ever: every
//! 100 ms to 1 s while we miss a balancer, about every 5 s otherwise.

use std::{ops::Range, time::Duration};

use rand::{RngExt, rngs::StdRng};

const EAGER_MS: Range<u64> = 100..1_000;
const CALM_MS: Range<u64> = 4_500..5_500;

/// The keeper's state: whom it waits for, and until when.
pub(crate) struct SeedKeeper {
    next: Duration,
    content: bool,
}

impl SeedKeeper {
    /// Contacts at once.
    pub(crate) fn new() -> Self {
        Self { next: Duration::ZERO, content: false }
    }

    /// Whether the seeds are to be contacted now; if so the next time is set.
    pub(crate) fn is_due(&mut self, now: Duration, rng: &mut StdRng) -> bool {
        let due = self.next <= now;
        if due {
            self.next = now + pause(self.content, rng);
        }
        due
    }

    /// Whether those are known whom we need. Losing the last of them brings the next contact near.
    pub(crate) fn set_content(&mut self, now: Duration, content: bool, rng: &mut StdRng) {
        if self.content != content {
            self.content = content;
            let next = now + pause(content, rng);
            self.next = if content { next } else { next.min(self.next) };
        }
    }

    /// Contacts at the next opportunity.
    pub(crate) fn hurry(&mut self, now: Duration) {
        self.next = self.next.min(now);
    }

    pub(crate) fn next_deadline(&self) -> Duration {
        self.next
    }
}

fn pause(content: bool, rng: &mut StdRng) -> Duration {
    Duration::from_millis(rng.random_range(if content { CALM_MS } else { EAGER_MS }))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn contacts(keeper: &mut SeedKeeper, millis: Range<u64>, rng: &mut StdRng) -> usize {
        millis.filter(|&now| keeper.is_due(Duration::from_millis(now), rng)).count()
    }

    #[test]
    fn it_is_eager_for_ever_until_content_and_again_at_once_when_not() {
        let (mut keeper, mut rng) = (SeedKeeper::new(), StdRng::seed_from_u64(1));
        assert!(keeper.is_due(Duration::ZERO, &mut rng));
        assert!((99..1000).contains(&contacts(&mut keeper, 0..100_000, &mut rng)));
        keeper.set_content(Duration::from_secs(100), true, &mut rng);
        assert!((18..=22).contains(&contacts(&mut keeper, 100_000..200_000, &mut rng)));
        keeper.set_content(Duration::from_secs(200), false, &mut rng);
        assert!(contacts(&mut keeper, 200_000..201_000, &mut rng) >= 1);
    }
}
