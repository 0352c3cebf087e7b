//! When to contact the seeds next.
//!
//! Why not once, at the start? The balancer may start after its nodes, come back elsewhere under the same name, or be cut
//! off for a while; and foca, once it knows nobody, stays alone for good. So the seeds are contacted for ever: every
//! 100 ms to 1 s while we miss a balancer. Otherwise their names are looked up about every second, and whoever is not
//! known yet is contacted: a balancer that died and is back elsewhere is in the DNS long before its death is certain.

use std::{ops::Range, time::Duration};

use rand::{RngExt, rngs::StdRng};

const EAGER_MS: Range<u64> = 100..1_000;
const CALM_MS: Range<u64> = 1_000..1_400;
/// To the first contact after the last balancer was lost: at once, but not all nodes in the same instant.
const LOSS_MS: Range<u64> = 0..200;

/// Between two searches for the lost: as long as some were lost within the last five minutes, and later.
const SEEK_MS: Range<u64> = 300..600;
const SEEK_LATER_MS: Range<u64> = 4_500..5_500;
const RECENT: Duration = Duration::from_secs(300);

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
            self.next = if content { now + pause(true, rng) } else { self.next.min(now + random(LOSS_MS, rng)) };
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

/// When to look for those who failed.
#[derive(Default)]
pub(crate) struct Seeker {
    next: Option<Duration>,
}

impl Seeker {
    /// A member failed.
    pub(crate) fn lost(&mut self, now: Duration) {
        let next = now + Duration::from_millis(SEEK_MS.start);
        self.next = Some(self.next.map_or(next, |before| before.min(next)));
    }

    pub(crate) fn is_due(&self, now: Duration) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// They were looked for; the last one of them failed at that time, if there are any.
    pub(crate) fn sought(&mut self, now: Duration, newest: Option<Duration>, rng: &mut StdRng) {
        self.next = newest.map(|newest| {
            let is_recent = now.saturating_sub(newest) < RECENT;
            now + random(if is_recent { SEEK_MS } else { SEEK_LATER_MS }, rng)
        });
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.next
    }
}

fn pause(content: bool, rng: &mut StdRng) -> Duration {
    random(if content { CALM_MS } else { EAGER_MS }, rng)
}

fn random(millis: Range<u64>, rng: &mut StdRng) -> Duration {
    Duration::from_millis(rng.random_range(millis))
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn contacts(keeper: &mut SeedKeeper, millis: Range<u64>, rng: &mut StdRng) -> usize {
        millis.filter(|&now| keeper.is_due(Duration::from_millis(now), rng)).count()
    }

    #[test]
    fn the_lost_are_sought_twice_a_second_for_some_minutes_and_rarely_after_that() {
        let (mut seeker, mut rng) = (Seeker::default(), StdRng::seed_from_u64(1));
        assert!(!seeker.is_due(Duration::from_secs(3600)));
        seeker.lost(Duration::ZERO);
        let mut searches = [0, 0];
        for now in (0..600_000).map(Duration::from_millis) {
            if seeker.is_due(now) {
                searches[usize::from(now >= RECENT)] += 1;
                seeker.sought(now, Some(Duration::ZERO), &mut rng);
            }
        }
        assert!((500..=1000).contains(&searches[0]) && (54..=68).contains(&searches[1]), "{searches:?}");
        seeker.sought(Duration::from_secs(600), None, &mut rng);
        assert_eq!(seeker.next_deadline(), None);
    }

    #[test]
    fn it_is_eager_for_ever_until_content_and_again_at_once_when_not() {
        let (mut keeper, mut rng) = (SeedKeeper::new(), StdRng::seed_from_u64(1));
        assert!(keeper.is_due(Duration::ZERO, &mut rng));
        assert!((99..1000).contains(&contacts(&mut keeper, 0..100_000, &mut rng)));
        keeper.set_content(Duration::from_secs(100), true, &mut rng);
        assert!((71..=100).contains(&contacts(&mut keeper, 100_000..200_000, &mut rng)));
        keeper.set_content(Duration::from_secs(200), false, &mut rng);
        assert!(contacts(&mut keeper, 200_000..200_200, &mut rng) >= 1);
    }
}
