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
    /// Whether it is because of what requests met.
    hurried: bool,
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
            let asks_alike = before.as_ref().is_some_and(|entry| asks_alike(&entry.target, &target));
            let turn = match before.map(|entry| entry.turn) {
                None => Turn::Waiting { due: self.slot(now), last: None },
                // It asks what nobody wants to know any more, perhaps for as long as nobody wants to wait.
                Some(Turn::InFlight { .. }) if !asks_alike => Turn::Waiting { due: self.slot(now), last: None },
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
        let last = match entry.turn {
            Turn::Waiting { last, .. } => last,
            Turn::InFlight { .. } => None,
        };
        let hurried = last.zip(entry.troubled).is_some_and(|(last, troubled)| troubled > last.at);
        let start = Start { at: now, spread: rng.random_range(0.0..1.0), first: last.is_none(), hurried };
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

    /// Requests have met a failure of the server: its next check is due at once, and one that has been in flight for long
    /// is given up for it. Whether the failure counts; it does not so soon after another.
    pub(super) fn trouble(&mut self, now: Instant, server: ServerId) -> bool {
        let is_up = self.entries.get(&server).is_some_and(|entry| entry.target.health.is_up());
        is_up && self.hurry(now, server, TROUBLE_GAP)
    }

    /// Somebody else has found something about the server that we have not: its next check is due at once, though not more
    /// often because of that than once in each of its intervals, whatever anybody says.
    pub(super) fn doubt(&mut self, now: Instant, server: ServerId) {
        let interval = self.entries.get(&server).map(|entry| entry.target.policy.interval);
        if let Some(interval) = interval {
            self.hurry(now, server, interval.clamp(TROUBLE_GAP, INTERVALS.1));
        }
    }

    fn hurry(&mut self, now: Instant, server: ServerId, gap: Duration) -> bool {
        let Some(entry) = self.entries.get_mut(&server) else { return false };
        if entry.troubled.is_some_and(|last| now.saturating_duration_since(last) < gap) {
            return false;
        }
        entry.troubled = Some(now);
        let entry = &self.entries[&server];
        match entry.turn {
            Turn::Waiting { due, last: Some(last) } => {
                let turn = self.waiting_after(last, entry.troubled, &entry.target);
                self.queue.remove(&(due, server));
                self.wait(server, turn);
            }
            // It may wait in vain for what another one finds out at once. One that began for this reason goes on, or
            // trouble without end would never let any check end.
            Turn::InFlight { start, .. } if !start.hurried && now.saturating_duration_since(start.at) > TROUBLE_GAP => {
                let turn = self.waiting_after(start, entry.troubled, &entry.target);
                self.wait(server, turn);
            }
            Turn::InFlight { .. } | Turn::Waiting { last: None, .. } => {}
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
        let Start { at, spread, first, hurried: _ } = start;
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

/// Whether a check of the one is as good as one of the other.
fn asks_alike(one: &Target, other: &Target) -> bool {
    let policies = (&*one.policy, &*other.policy);
    one.address == other.address
        && policies.0.kind == policies.1.kind
        && policies.0.http == policies.1.http
        && time_limit(policies.0) == time_limit(policies.1)
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
mod tests;
