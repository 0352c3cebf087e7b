//! When each server is checked next. Pure: time and chance are arguments.
//!
//! Why not a timer for each server: an interval counts from start to start, shrinks while a server is new, is spread by
//! chance, and follows the policy when an operator changes it. As a table that is worked out anew at each change, all of
//! that is one function of what is known, and none of it a state to keep in step.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    collections::{BTreeSet, HashMap},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{Rng, RngExt};

use crate::model::{CheckPolicy, Health, ServerId};

/// From start to start while a server has not passed yet: its users wait, and one that begins to answer has to get traffic
/// within a second. Longer when there are so many that they would keep this thread busy.
const EAGER: Duration = Duration::from_millis(250);
/// New servers that are checked at once when they come together: whoever waits for a restarted balancer waits for the first
/// of them. The others follow one each `PACE`, so that a thousand take a second and not one moment of every processor
/// around.
const BURST: u32 = 64;
const PACE: Duration = Duration::from_millis(1);
/// Least time between two checks of a server, or two failures that count, because of what requests met: ten thousand
/// refused requests in a second tell no more than the first few.
const TROUBLE_GAP: Duration = Duration::from_millis(250);
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
    pub(super) policy: Arc<CheckPolicy>,
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
    /// When the next new server may be checked for the first time.
    next_slot: Option<Instant>,
    /// Servers that have not passed yet.
    new: u32,
}

#[derive(Debug)]
struct Entry {
    target: Target,
    turn: Turn,
    /// When requests last met a failure that counted.
    troubled: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
enum Turn {
    InFlight { start: Start, ticket: Ticket },
    Waiting { due: Instant, last: Option<Start> },
}

/// The start of a check.
#[derive(Debug, Clone, Copy)]
struct Start {
    at: Instant,
    /// How much of the spread the next one takes, 0 to 1.
    spread: f64,
    /// Whether the server had none before.
    first: bool,
}

impl Schedule {
    /// Takes up new servers, which are due at once, forgets those that are gone, and works out anew when the others are due.
    pub(super) fn follow(&mut self, now: Instant, targets: impl IntoIterator<Item = Target>) {
        let mut before = std::mem::take(&mut self.entries);
        self.queue.clear();
        let targets: Vec<_> = targets.into_iter().collect();
        let new = targets.iter().filter(|target| is_new(target.health)).count();
        self.new = u32::try_from(new).unwrap_or(u32::MAX);
        for target in targets {
            let before = before.remove(&target.server);
            let troubled = before.as_ref().and_then(|entry| entry.troubled);
            let turn = match before.map(|entry| entry.turn) {
                None => Turn::Waiting { due: self.slot(now), last: None },
                Some(turn @ Turn::InFlight { .. }) => turn,
                Some(Turn::Waiting { due: _, last: Some(last) }) => self.waiting_after(last, troubled, &target),
                Some(turn @ Turn::Waiting { due: _, last: None }) => turn,
            };
            if let Turn::Waiting { due, .. } = turn {
                self.queue.insert((due, target.server));
            }
            self.entries.insert(target.server, Entry { target, turn, troubled });
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
        let first = matches!(entry.turn, Turn::Waiting { last: None, .. });
        let start = Start { at: now, spread: rng.random_range(0.0..1.0), first };
        entry.turn = Turn::InFlight { start, ticket };
        let job = Job { ticket, target: entry.target.clone() };
        self.check_invariants();
        Some(job)
    }

    /// Takes note that a check has ended; whether its result still matters.
    pub(super) fn finish(&mut self, ended: Ticket) -> bool {
        let Some(entry) = self.entries.get(&ended.server) else { return false };
        let Turn::InFlight { start, ticket } = entry.turn else { return false };
        if ticket != ended {
            return false;
        }
        let turn = self.waiting_after(start, entry.troubled, &entry.target);
        self.wait(ended.server, turn);
        self.check_invariants();
        true
    }

    /// Requests have met a failure of the server: its next check is due at once. Whether the failure counts as one that a
    /// check has found; it does not so soon after another.
    pub(super) fn trouble(&mut self, now: Instant, server: ServerId) -> bool {
        let Some(entry) = self.entries.get_mut(&server) else { return false };
        let is_soon = entry.troubled.is_some_and(|last| now.saturating_duration_since(last) < TROUBLE_GAP);
        if is_soon || !entry.target.health.is_up() {
            return false;
        }
        entry.troubled = Some(now);
        let entry = &self.entries[&server];
        if let Turn::Waiting { due, last: Some(last) } = entry.turn {
            let turn = self.waiting_after(last, entry.troubled, &entry.target);
            self.queue.remove(&(due, server));
            self.wait(server, turn);
        }
        self.check_invariants();
        true
    }

    fn wait(&mut self, server: ServerId, turn: Turn) {
        if let Turn::Waiting { due, .. } = turn {
            self.queue.insert((due, server));
        }
        if let Some(entry) = self.entries.get_mut(&server) {
            entry.turn = turn;
        }
    }

    /// When a new server is checked for the first time.
    fn slot(&mut self, now: Instant) -> Instant {
        let earliest = now.checked_sub(PACE * BURST).unwrap_or(now);
        let slot = self.next_slot.map_or(earliest, |slot| slot.max(earliest));
        self.next_slot = Some(slot + PACE);
        slot.max(now)
    }

    fn waiting_after(&self, start: Start, troubled: Option<Instant>, target: &Target) -> Turn {
        let Start { at, spread, first } = start;
        let policy = &target.policy;
        let interval = match target.health {
            Health::Initial => policy.interval.min(EAGER.max(PACE * self.new)),
            Health::Up { failed: 1.., .. }
            | Health::Stopping { failed: 1.., .. }
            | Health::Down { passed: 1.., .. } => policy.fast_interval.unwrap_or(policy.interval),
            Health::Down { passed: 0, .. } => policy.down_interval.unwrap_or(policy.interval),
            Health::Unchecked | Health::Ejected | Health::Up { .. } | Health::Stopping { .. } => policy.interval,
        };
        // Servers that came together are up together: from their second check on, they share the whole interval.
        let part = if first && target.health.is_up() { 1.0 } else { SPREAD };
        let gap = interval.mul_f64(1.0 - spread * part).clamp(INTERVALS.0, INTERVALS.1);
        let at_once = troubled.filter(|troubled| *troubled > at).map(|troubled| troubled.max(at + TROUBLE_GAP));
        Turn::Waiting { due: at_once.map_or(at + gap, |at_once| at_once.min(at + gap)), last: Some(start) }
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
    policy.timeout.unwrap_or(policy.interval).clamp(INTERVALS.0, INTERVALS.1)
}

/// The longest that a check may take to connect. A new server's address may not exist yet; the system repeats a lost
/// connection request only after a second, so another attempt finds out sooner.
pub(super) fn connect_limit(target: &Target) -> Duration {
    let whole = time_limit(&target.policy);
    if is_new(target.health) { whole.min(2 * EAGER) } else { whole }
}

fn is_new(health: Health) -> bool {
    match health {
        Health::Initial => true,
        Health::Unchecked | Health::Up { .. } | Health::Stopping { .. } | Health::Ejected | Health::Down { .. } => {
            false
        }
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
            policy: Arc::new(CheckPolicy { interval: INTERVAL, ..CheckPolicy::default() }),
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

    /// A server that was checked at the start and is due again; how long after the start its second check began.
    fn settled(health: Health) -> (Fixture, Duration) {
        let mut fixture = Fixture::following([target(1, health)]);
        let first = fixture.start_due(Duration::ZERO).unwrap();
        assert!(fixture.schedule.finish(first));
        let second = fixture.next().unwrap();
        let ticket = fixture.start_due(second).unwrap();
        assert!(fixture.schedule.finish(ticket));
        (fixture, second)
    }

    #[test]
    fn the_interval_counts_from_start_to_start_once_a_check_has_passed() {
        let (mut fixture, second) = settled(Health::Initial);
        fixture.follow(second + Duration::from_secs(1), [target(1, UP)]);
        assert_within_spread(fixture.next(), second, INTERVAL);
    }

    #[test]
    fn a_server_on_its_way_is_checked_by_the_fast_interval_and_one_that_is_down_by_its_own() {
        let secs = Duration::from_secs;
        let after = |health| {
            let (mut fixture, second) = settled(UP);
            let mut changed = target(1, health);
            let (fast_interval, down_interval) = (Some(secs(1)), Some(secs(30)));
            changed.policy =
                Arc::new(CheckPolicy { interval: secs(10), fast_interval, down_interval, ..CheckPolicy::default() });
            fixture.follow(second, [changed]);
            (fixture.next(), second)
        };
        for (health, interval) in [
            (UP, 10),
            (Health::Up { failed: 1, fall: 3 }, 1),
            (Health::Stopping { failed: 0, fall: 3 }, 10),
            (Health::Stopping { failed: 1, fall: 3 }, 1),
            (Health::Down { passed: 0, rise: 2 }, 30),
            (Health::Down { passed: 1, rise: 2 }, 1),
        ] {
            let (next, second) = after(health);
            assert_within_spread(next, second, secs(interval));
        }
    }

    #[test]
    fn a_failure_that_requests_met_counts_once_and_hurries_the_next_check() {
        let (mut fixture, second) = settled(UP);
        let met = |fixture: &mut Fixture, at| fixture.schedule.trouble(fixture.start + at, ServerId(1));
        let early = second + Duration::from_millis(100);
        assert!(met(&mut fixture, early));
        assert!(!met(&mut fixture, early + Duration::from_millis(249)), "so soon it tells nothing new");
        assert_eq!(fixture.next(), Some(second + TROUBLE_GAP), "a check has only just begun");
        fixture.follow(early, [target(1, Health::Up { failed: 1, fall: 3 })]);
        assert_eq!(fixture.next(), Some(second + TROUBLE_GAP), "a change does not put it off");
        let third = second + TROUBLE_GAP;
        let ticket = fixture.start_due(third).unwrap();
        assert!(fixture.schedule.finish(ticket));
        assert_within_spread(fixture.next(), third, INTERVAL);
        let late = third + Duration::from_millis(600);
        assert!(met(&mut fixture, late));
        assert_eq!(fixture.next(), Some(late), "at once");
    }

    #[test]
    fn what_requests_meet_says_nothing_of_a_server_that_is_down_or_gone() {
        let (mut fixture, second) = settled(Health::Down { passed: 0, rise: 2 });
        let before = fixture.next();
        assert!(!fixture.schedule.trouble(fixture.start + second, ServerId(1)));
        assert!(!fixture.schedule.trouble(fixture.start + second, ServerId(9)));
        assert_eq!(fixture.next(), before);
    }

    #[test]
    fn a_shorter_interval_holds_from_the_last_start() {
        let (mut fixture, second) = settled(UP);
        let mut hurried = target(1, UP);
        let interval = Duration::from_millis(500);
        hurried.policy = Arc::new(CheckPolicy { interval, ..CheckPolicy::default() });
        fixture.follow(second + Duration::from_millis(100), [hurried]);
        assert_within_spread(fixture.next(), second, interval);
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
    fn a_thousand_servers_that_came_together_are_never_checked_together() {
        let mut fixture = Fixture::following((0..1000).map(|server| target(server, Health::Initial)));
        let mut checks = [0; 400];
        let tick = Duration::from_millis(10);
        for number in 0..400 {
            let at = tick * number;
            let due: Vec<_> = std::iter::from_fn(|| fixture.start_due(at)).collect();
            checks[number as usize] = due.len();
            for ticket in due {
                assert!(fixture.schedule.finish(ticket));
                fixture.follow(at, (0..1000).map(|server| target(server, UP)));
            }
        }
        assert_eq!(checks[0], BURST as usize + 1, "the first have not to wait");
        assert!(checks[..100].iter().sum::<usize>() >= 1000, "after a second each has had one");
        assert!(checks[1..].iter().all(|checks| *checks < 50), "{checks:?}");
    }

    #[test]
    fn a_thousand_new_servers_that_do_not_answer_share_one_pace() {
        let new = || (0..1000).map(|server| target(server, Health::Initial));
        let mut fixture = Fixture::following(new());
        let mut checks = 0;
        for number in 0..500 {
            let at = Duration::from_millis(10) * number;
            while let Some(ticket) = fixture.start_due(at) {
                assert!(fixture.schedule.finish(ticket));
                checks += 1;
            }
        }
        assert!(checks <= 6000, "{checks} in 5 s");
    }

    proptest! {
        #[test]
        fn no_server_is_forgotten_or_checked_in_a_busy_loop(
            interval_ms in 0u64..5000,
            takes_ms in prop::collection::vec(0u64..6000, 1..20),
            seed in any::<u64>(),
        ) {
            let mut checked = target(1, UP);
            let interval = Duration::from_millis(interval_ms);
            checked.policy = Arc::new(CheckPolicy { interval, ..CheckPolicy::default() });
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
