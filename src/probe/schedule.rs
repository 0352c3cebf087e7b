//! When each server is checked next. Pure: time and chance are arguments.
//!
//! Why not a timer for each server: an interval counts from start to start, shrinks while a server is new, is spread by
//! chance, and follows the policy when an operator changes it. As a table that is worked out anew at each change, all of
//! that is one function of what is known, and none of it a state to keep in step.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt};

use crate::model::{CheckPolicy, Health, ServerId};

/// From start to start while a server has not passed yet: its users wait, and one that begins to answer has to get traffic
/// within a second.
const EAGER: Duration = Duration::from_millis(250);
/// Largest part of the interval by which a check may come early, so that servers which came together are not checked
/// together for ever. Early and not late: `fall` times the interval stays an upper bound of how long a failure goes unseen.
const SPREAD: f64 = 0.1;
/// What an interval may be; the lower bound keeps a mistyped one from becoming a busy loop, the upper one keeps sums of
/// instants from overflowing.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(1), Duration::from_secs(86_400));

/// A server that should be checked.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub(super) server: ServerId,
    pub(super) address: SocketAddr,
    pub(super) health: Health,
    pub(super) policy: CheckPolicy,
}

/// A check that is to start now.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) ticket: Ticket,
    pub(super) target: Target,
}

/// Names one check. A server that went and came back while its check was in flight has another ticket, so that the old
/// result is not taken for the new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ticket {
    pub(super) server: ServerId,
    number: u64,
}

/// Who is checked when.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    entries: HashMap<ServerId, Entry>,
    /// Entries without a check in flight, the next one first.
    queue: BTreeSet<(Instant, ServerId)>,
    tickets: u64,
}

#[derive(Debug)]
struct Entry {
    target: Target,
    turn: Turn,
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    InFlight { started: Instant, spread: f64, ticket: Ticket },
    Waiting { due: Instant, last: Option<(Instant, f64)> },
}

impl Schedule {
    /// Takes up new servers, which are due at once, forgets those that are gone, and works out anew when the others are due.
    pub(super) fn follow(&mut self, now: Instant, targets: impl IntoIterator<Item = Target>) {
        let mut before = std::mem::take(&mut self.entries);
        self.queue.clear();
        for target in targets {
            let turn = match before.remove(&target.server).map(|entry| entry.turn) {
                None => Turn::Waiting { due: now, last: None },
                Some(turn @ Turn::InFlight { .. }) => turn,
                Some(Turn::Waiting { due: _, last: Some(last) }) => waiting_after(last, &target),
                Some(turn @ Turn::Waiting { due: _, last: None }) => turn,
            };
            if let Turn::Waiting { due, .. } = turn {
                self.queue.insert((due, target.server));
            }
            self.entries.insert(target.server, Entry { target, turn });
        }
        self.check_invariants();
    }

    /// When the next check is due; `None` while nobody waits for one.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.queue.first().map(|&(due, _)| due)
    }

    /// The next check that is due by `now`, which counts as started. A server has at most one check in flight.
    pub(super) fn start_due(&mut self, now: Instant, rng: &mut impl Rng) -> Option<Job> {
        let (_, server) = self.queue.first().copied().filter(|&(due, _)| due <= now)?;
        self.queue.pop_first();
        let entry = self.entries.get_mut(&server)?;
        self.tickets += 1;
        let ticket = Ticket { server, number: self.tickets };
        entry.turn = Turn::InFlight { started: now, spread: rng.random_range(0.0..SPREAD), ticket };
        let job = Job { ticket, target: entry.target.clone() };
        self.check_invariants();
        Some(job)
    }

    /// Takes note that a check has ended; whether its result still matters.
    pub(super) fn finish(&mut self, ended: Ticket) -> bool {
        let Some(entry) = self.entries.get_mut(&ended.server) else { return false };
        let Turn::InFlight { started, spread, ticket } = entry.turn else { return false };
        if ticket != ended {
            return false;
        }
        entry.turn = waiting_after((started, spread), &entry.target);
        if let Turn::Waiting { due, .. } = entry.turn {
            self.queue.insert((due, ended.server));
        }
        self.check_invariants();
        true
    }

    /// Exactly the entries without a check in flight are queued, each once and under its own time.
    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            let waiting = self.entries.values().filter(|entry| matches!(entry.turn, Turn::Waiting { .. })).count();
            assert_eq!(waiting, self.queue.len(), "the queue and the table disagree");
            for (at, server) in &self.queue {
                let turn = self.entries.get(server).map(|entry| entry.turn);
                assert!(matches!(turn, Some(Turn::Waiting { due, .. }) if due == *at), "{server:?} is queued wrongly");
            }
        }
    }
}

/// The longest that a check may take.
pub(super) fn time_limit(policy: &CheckPolicy) -> Duration {
    policy.interval.clamp(INTERVALS.0, INTERVALS.1)
}

/// The longest that a check may take to connect. A new server's address may not exist yet; the system repeats a lost
/// connection request only after a second, so another attempt finds out sooner.
pub(super) fn connect_limit(target: &Target) -> Duration {
    let whole = time_limit(&target.policy);
    if is_new(target.health) { whole.min(2 * EAGER) } else { whole }
}

fn waiting_after((started, spread): (Instant, f64), target: &Target) -> Turn {
    let whole = time_limit(&target.policy);
    let interval = if is_new(target.health) { whole.min(EAGER) } else { whole };
    Turn::Waiting { due: started + interval.mul_f64(1.0 - spread), last: Some((started, spread)) }
}

fn is_new(health: Health) -> bool {
    match health {
        Health::Initial => true,
        Health::Unchecked | Health::Up { .. } | Health::Down { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    const INTERVAL: Duration = Duration::from_secs(2);
    const UP: Health = Health::Up { failed: 0, fall: 3 };

    fn target(server: u64, health: Health) -> Target {
        Target {
            server: ServerId(server),
            address: SocketAddr::from(([127, 0, 0, 1], 3000)),
            health,
            policy: CheckPolicy { interval: INTERVAL, ..CheckPolicy::default() },
        }
    }

    struct Fixture {
        schedule: Schedule,
        rng: StdRng,
        start: Instant,
    }

    impl Fixture {
        #[expect(clippy::disallowed_methods, reason = "an instant to count from: nothing here waits")]
        fn following(targets: impl IntoIterator<Item = Target>) -> Self {
            let mut schedule = Schedule::default();
            let start = Instant::now();
            schedule.follow(start, targets);
            Self { schedule, rng: StdRng::seed_from_u64(7), start }
        }

        fn start_due(&mut self, at: Duration) -> Option<Ticket> {
            self.schedule.start_due(self.start + at, &mut self.rng).map(|job| job.ticket)
        }

        /// When the next check is due, counted from the start.
        fn next(&self) -> Option<Duration> {
            self.schedule.next_due().map(|due| due - self.start)
        }

        fn follow(&mut self, at: Duration, targets: impl IntoIterator<Item = Target>) {
            self.schedule.follow(self.start + at, targets);
        }
    }

    fn assert_within_spread(due: Option<Duration>, started: Duration, interval: Duration) {
        let gap = due.unwrap() - started;
        assert!(gap <= interval && gap >= interval.mul_f64(0.9), "{gap:?} instead of {interval:?}");
    }

    #[test]
    fn a_new_server_is_checked_at_once_and_soon_again() {
        let mut fixture = Fixture::following([target(1, Health::Initial)]);
        let ticket = fixture.start_due(Duration::ZERO).unwrap();
        assert_eq!(fixture.start_due(INTERVAL), None, "one check at a time");
        assert!(fixture.schedule.finish(ticket));
        assert_within_spread(fixture.next(), Duration::ZERO, EAGER);
    }

    #[test]
    fn the_interval_counts_from_start_to_start_once_a_check_has_passed() {
        let mut fixture = Fixture::following([target(1, Health::Initial)]);
        let ticket = fixture.start_due(Duration::ZERO).unwrap();
        assert!(fixture.schedule.finish(ticket));
        fixture.follow(Duration::from_secs(1), [target(1, UP)]);
        assert_within_spread(fixture.next(), Duration::ZERO, INTERVAL);
    }

    #[test]
    fn a_shorter_interval_holds_from_the_last_start() {
        let mut fixture = Fixture::following([target(1, UP)]);
        let ticket = fixture.start_due(Duration::ZERO).unwrap();
        assert!(fixture.schedule.finish(ticket));
        let mut hurried = target(1, UP);
        hurried.policy.interval = Duration::from_millis(500);
        fixture.follow(Duration::from_millis(100), [hurried]);
        assert_within_spread(fixture.next(), Duration::ZERO, Duration::from_millis(500));
    }

    #[test]
    fn the_result_of_a_server_that_is_gone_no_longer_matters() {
        let mut fixture = Fixture::following([target(1, UP)]);
        let old = fixture.start_due(Duration::ZERO).unwrap();
        fixture.follow(Duration::ZERO, []);
        assert_eq!(fixture.next(), None);
        assert!(!fixture.schedule.finish(old));
        fixture.follow(Duration::ZERO, [target(1, UP)]);
        let new = fixture.start_due(Duration::ZERO).unwrap();
        assert!(!fixture.schedule.finish(old), "the check of its earlier life");
        assert!(fixture.schedule.finish(new));
    }

    #[test]
    fn a_change_elsewhere_does_not_disturb_a_check_in_flight() {
        let mut fixture = Fixture::following([target(1, UP)]);
        let ticket = fixture.start_due(Duration::ZERO).unwrap();
        fixture.follow(Duration::from_millis(5), [target(1, UP), target(2, UP)]);
        assert_eq!(fixture.start_due(Duration::from_millis(5)).map(|ticket| ticket.server), Some(ServerId(2)));
        assert_eq!(fixture.start_due(Duration::from_millis(5)), None);
        assert!(fixture.schedule.finish(ticket));
    }

    #[test]
    fn a_thousand_servers_that_came_together_drift_apart() {
        let mut fixture = Fixture::following((0..1000).map(|server| target(server, UP)));
        while let Some(ticket) = fixture.start_due(Duration::ZERO) {
            assert!(fixture.schedule.finish(ticket));
        }
        let first = fixture.next().unwrap();
        let in_first_10_ms =
            std::iter::from_fn(|| fixture.start_due(first + Duration::from_millis(10))).collect::<Vec<_>>();
        assert!(in_first_10_ms.len() < 150, "{} at once", in_first_10_ms.len());
    }

    proptest! {
        #[test]
        fn no_server_is_forgotten_or_checked_in_a_busy_loop(
            interval_ms in 0u64..5000,
            takes_ms in prop::collection::vec(0u64..6000, 1..20),
            seed in any::<u64>(),
        ) {
            let mut checked = target(1, UP);
            checked.policy.interval = Duration::from_millis(interval_ms);
            let whole = time_limit(&checked.policy);
            let mut fixture = Fixture::following([checked]);
            fixture.rng = StdRng::seed_from_u64(seed);
            let mut at = Duration::ZERO;
            for takes in takes_ms {
                let ticket = fixture.start_due(at);
                prop_assert!(ticket.is_some());
                prop_assert!(fixture.schedule.finish(ticket.unwrap()));
                let due = fixture.next().unwrap();
                prop_assert!(due > at && due <= at + whole);
                at = due.max(at + Duration::from_millis(takes).min(whole));
            }
        }
    }
}
