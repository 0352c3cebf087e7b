//! Delivery of our record to every balancer.
//!
//! Why not a gossip broadcast? It reaches whoever listens at that moment and tells nobody that it arrived. A drain must
//! know that no balancer chooses this node any more, so each balancer gets the record itself, again and again, until it
//! has acknowledged; afterwards now and then, in case it forgot.

use std::{collections::BTreeMap, time::Duration};

use rand::{RngExt, rngs::StdRng};

use crate::model::NodeId;

/// From push to push at first. Ten of them are lost together once in 170,000 times when three of ten datagrams are.
const FIRST_RETRY: Duration = Duration::from_millis(100);
/// Pushes of a version before the pauses grow: it is the receiver then that is in trouble, or gone.
const EAGER_PUSHES: u32 = 9;
const LAST_RETRY: Duration = Duration::from_secs(1);
/// From push to push while the node drains: each acknowledgement reports what is still in flight.
const DRAIN_PACE: Duration = Duration::from_millis(100);
/// From push to push otherwise, once acknowledged: 9 to 11 s, so that a thousand nodes do not push at one moment.
const CALM_PACE_MS: std::ops::Range<u64> = 9_000..11_000;
/// A request may just be between the choice of its server and the count of it when a balancer reports zero; by the
/// next report it is counted.
const ZEROS_TO_BELIEVE: u32 = 2;

/// What one balancer has acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainProgress {
    /// The balancer.
    pub balancer: NodeId,
    /// Latest version of our record that its pool follows.
    pub acknowledged: Option<u64>,
    /// Requests that it still had here, when it last said.
    pub in_flight: Option<u32>,
    /// How many times in a row it has reported none since the record last changed.
    pub zeros: u32,
}

/// Who needs our record, and when next.
#[derive(Default)]
pub(crate) struct Delivery {
    targets: BTreeMap<NodeId, Target>,
    version: u64,
    draining: bool,
    /// Since when some balancer has not acknowledged the current version.
    waiting_since: Option<Duration>,
}

struct Target {
    next: Duration,
    /// Time of the last push.
    sent: Duration,
    retry: Duration,
    /// Pushes since there was news for it.
    pushes: u32,
    round: u32,
    acknowledged: Option<u64>,
    in_flight: Option<u32>,
    zeros: u32,
    /// First push whose report is new evidence: it was sent after the last report came in.
    evidence_from: u32,
}

impl Delivery {
    /// A balancer appeared or renewed its identity: it gets the record now.
    pub(crate) fn track(&mut self, now: Duration, balancer: NodeId) {
        let target = self.targets.entry(balancer).or_insert_with(|| Target {
            next: now,
            sent: Duration::ZERO,
            retry: FIRST_RETRY,
            pushes: 0,
            round: 0,
            acknowledged: None,
            in_flight: None,
            zeros: 0,
            evidence_from: 1,
        });
        target.begin(now);
        if target.acknowledged != Some(self.version) {
            self.waiting_since.get_or_insert(now);
        }
    }

    /// A balancer asks for the record: it gets it, though not more often than it would by itself, for anybody can ask in
    /// its name.
    pub(crate) fn asked(&mut self, now: Duration, balancer: NodeId) {
        if let Some(target) = self.targets.get_mut(&balancer) {
            target.next = target.next.min(now.max(target.sent + FIRST_RETRY));
        }
    }

    /// A balancer is gone. Whatever it did not acknowledge is nobody's delay any more.
    pub(crate) fn forget(&mut self, balancer: NodeId) {
        self.targets.remove(&balancer);
        if self.is_acknowledged() {
            self.waiting_since = None;
        }
    }

    /// Since when some balancer has been missing the current version.
    pub(crate) fn waiting_since(&self) -> Option<Duration> {
        self.waiting_since
    }

    /// How long the current version took to be acknowledged by all; told once, as soon as it is.
    pub(crate) fn take_convergence(&mut self, now: Duration) -> Option<Duration> {
        if self.is_acknowledged() { self.waiting_since.take().map(|since| now.saturating_sub(since)) } else { None }
    }

    pub(crate) fn tracks(&self, balancer: NodeId) -> bool {
        self.targets.contains_key(&balancer)
    }

    pub(crate) fn len(&self) -> usize {
        self.targets.len()
    }

    /// The record has a new version: everybody gets it now, and what was reported before does not count.
    pub(crate) fn changed(&mut self, now: Duration, version: u64, draining: bool) {
        (self.version, self.draining) = (version, draining);
        self.waiting_since = (!self.targets.is_empty()).then_some(now);
        for target in self.targets.values_mut() {
            target.begin(now);
            target.zeros = 0;
            target.evidence_from = target.round.saturating_add(1);
        }
    }

    /// We have a new identity: everybody hears of it now.
    pub(crate) fn hurry(&mut self, now: Duration) {
        for target in self.targets.values_mut() {
            target.begin(now);
        }
    }

    /// The balancers to push to now, each with the number of that push; they count as sent.
    pub(crate) fn due(&mut self, now: Duration, rng: &mut StdRng) -> Vec<(NodeId, u32)> {
        let (version, draining) = (self.version, self.draining);
        let due = self.targets.iter_mut().filter(|(_, target)| target.next <= now);
        due.map(|(&balancer, target)| {
            target.round = target.round.saturating_add(1);
            target.sent = now;
            if target.acknowledged == Some(version) {
                target.next = now + pace(draining, rng);
            } else {
                target.next = now + target.retry;
                target.pushes = target.pushes.saturating_add(1);
                if target.pushes >= EAGER_PUSHES {
                    target.retry = (target.retry * 2).min(LAST_RETRY);
                }
            }
            (balancer, target.round)
        })
        .collect()
    }

    /// A balancer's pool follows a version. `false` when we never pushed that to it.
    pub(crate) fn acknowledged(
        &mut self,
        now: Duration,
        balancer: NodeId,
        (version, round): (u64, u32),
        in_flight: u32,
        rng: &mut StdRng,
    ) -> bool {
        let Some(target) = self.targets.get_mut(&balancer) else { return false };
        if version > self.version || round == 0 || round > target.round {
            return false;
        }
        if target.acknowledged < Some(version) {
            target.acknowledged = Some(version);
            if version == self.version {
                target.next = now + pace(self.draining, rng);
            }
        }
        if version == self.version && round >= target.evidence_from {
            target.in_flight = Some(in_flight);
            target.zeros = if in_flight == 0 { target.zeros.saturating_add(1) } else { 0 };
            target.evidence_from = target.round.saturating_add(1);
        }
        true
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.targets.values().map(|target| target.next).min()
    }

    /// Whether every balancer follows the current version.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.targets.values().all(|target| target.acknowledged == Some(self.version))
    }

    /// Whether every balancer follows the current version and has nothing in flight here, said twice.
    pub(crate) fn is_drained(&self) -> bool {
        self.is_acknowledged() && self.targets.values().all(|target| target.zeros >= ZEROS_TO_BELIEVE)
    }

    pub(crate) fn progress(&self) -> Vec<DrainProgress> {
        let progress = |(&balancer, target): (&NodeId, &Target)| DrainProgress {
            balancer,
            acknowledged: target.acknowledged,
            in_flight: target.in_flight,
            zeros: target.zeros,
        };
        self.targets.iter().map(progress).collect()
    }
}

impl Target {
    /// There is news for it.
    fn begin(&mut self, now: Duration) {
        (self.next, self.retry, self.pushes) = (now, FIRST_RETRY, 0);
    }
}

fn pace(draining: bool, rng: &mut StdRng) -> Duration {
    if draining { DRAIN_PACE } else { Duration::from_millis(rng.random_range(CALM_PACE_MS)) }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const BALANCER: NodeId = NodeId(7);

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn delivery(draining: bool) -> (Delivery, StdRng) {
        let mut delivery = Delivery::default();
        delivery.changed(ms(0), 1, draining);
        delivery.track(ms(0), BALANCER);
        (delivery, StdRng::seed_from_u64(1))
    }

    #[test]
    fn an_unacknowledged_push_is_repeated_ten_times_in_a_second_and_then_with_a_growing_pause_up_to_a_second() {
        let (mut delivery, mut rng) = delivery(false);
        let mut sent = Vec::new();
        for now in (0..5000).map(ms) {
            sent.extend(delivery.due(now, &mut rng).iter().map(|_| now.as_millis()));
        }
        let eager = (0..10).map(|push| push * 100);
        assert_eq!(sent, eager.chain([1100, 1500, 2300, 3300, 4300]).collect::<Vec<_>>());
    }

    #[test]
    fn a_thousand_questions_in_a_second_get_ten_answers() {
        let (mut delivery, mut rng) = delivery(false);
        delivery.due(ms(0), &mut rng);
        delivery.acknowledged(ms(1), BALANCER, (1, 1), 0, &mut rng);
        let mut pushes = 0;
        for now in (1..=1000).map(ms) {
            delivery.asked(now, BALANCER);
            pushes += delivery.due(now, &mut rng).len();
        }
        assert_eq!(pushes, 10);
    }

    #[test]
    fn an_acknowledged_push_is_repeated_every_ten_seconds_or_so() {
        let (mut delivery, mut rng) = delivery(false);
        assert_eq!(delivery.due(ms(0), &mut rng), [(BALANCER, 1)]);
        assert!(delivery.acknowledged(ms(1), BALANCER, (1, 1), 0, &mut rng));
        assert!((ms(9_001)..ms(11_001)).contains(&delivery.next_deadline().unwrap()));
    }

    #[test]
    fn a_drain_needs_two_zeros_of_which_the_second_was_asked_for_after_the_first() {
        let (mut delivery, mut rng) = delivery(true);
        delivery.due(ms(0), &mut rng);
        delivery.due(ms(100), &mut rng);
        delivery.acknowledged(ms(150), BALANCER, (1, 1), 0, &mut rng);
        delivery.acknowledged(ms(150), BALANCER, (1, 2), 0, &mut rng);
        delivery.acknowledged(ms(151), BALANCER, (1, 2), 0, &mut rng);
        assert!(!delivery.is_drained(), "copies and reports of one moment are one report");
        assert_eq!(delivery.due(ms(250), &mut rng), [(BALANCER, 3)]);
        delivery.acknowledged(ms(251), BALANCER, (1, 3), 0, &mut rng);
        assert!(delivery.is_drained());
    }

    #[test]
    fn a_request_in_flight_or_a_new_version_starts_the_count_anew() {
        let (mut delivery, mut rng) = delivery(true);
        for (round, in_flight) in [(1, 0), (2, 1), (3, 0)] {
            let now = ms(u64::from(round) * 100);
            delivery.due(now, &mut rng);
            delivery.acknowledged(now, BALANCER, (1, round), in_flight, &mut rng);
        }
        assert_eq!((delivery.progress()[0].zeros, delivery.is_drained()), (1, false));
        delivery.changed(ms(400), 2, true);
        assert_eq!((delivery.progress()[0].zeros, delivery.is_acknowledged()), (0, false));
        delivery.acknowledged(ms(400), BALANCER, (2, 3), 0, &mut rng);
        assert_eq!(delivery.progress()[0].zeros, 0, "that round was pushed before the change");
    }

    #[test]
    fn an_acknowledgement_of_something_never_pushed_is_refused() {
        let (mut delivery, mut rng) = delivery(true);
        assert!(!delivery.acknowledged(ms(0), BALANCER, (1, 1), 0, &mut rng));
        delivery.due(ms(0), &mut rng);
        assert!(!delivery.acknowledged(ms(0), BALANCER, (2, 1), 0, &mut rng));
        assert!(!delivery.acknowledged(ms(0), NodeId(8), (1, 1), 0, &mut rng));
    }

    #[test]
    fn without_balancers_a_node_is_drained() {
        assert!(Delivery::default().is_drained());
    }
}
