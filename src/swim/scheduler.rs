//! foca's timers, delivered in order.
//!
//! Why not a sleep task for each? foca wants every timer delivered, and of those due together in its own order; one heap
//! guarantees both, also after a pause in which many became due.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    time::Duration,
};

use foca::Timer;

use super::Identity;

/// Timers by deadline.
#[derive(Default)]
pub(crate) struct Scheduler {
    heap: BinaryHeap<Reverse<Entry>>,
    /// Apart from the others: it comes ten times a second, and nearly always for nothing.
    gossip: BinaryHeap<Reverse<Entry>>,
    /// Apart from the others, too: a probe whose answer has come needs no help.
    indirect: BinaryHeap<Reverse<Entry>>,
    is_answered: bool,
    inserted: u64,
}

impl Scheduler {
    pub(crate) fn insert(&mut self, at: Duration, timer: Timer<Identity>) {
        self.inserted += 1;
        let heap = match timer {
            Timer::PeriodicGossip(_) => &mut self.gossip,
            Timer::SendIndirectProbe { .. } => {
                self.is_answered = false;
                &mut self.indirect
            }
            Timer::ProbeRandomMember(_)
            | Timer::ChangeSuspectToDown { .. }
            | Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::RemoveDown(_) => &mut self.heap,
        };
        heap.push(Reverse(Entry { at, timer, number: self.inserted }));
    }

    /// The next timer that is due.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Timer<Identity>> {
        let heaps = [&mut self.heap, &mut self.gossip, &mut self.indirect];
        // `Reverse` makes the earliest the greatest, and `None` is less than any.
        let first = heaps.into_iter().max_by(|one, other| one.peek().cmp(&other.peek()))?;
        if first.peek()?.0.at <= now { first.pop().map(|Reverse(entry)| entry.timer) } else { None }
    }

    /// The running probe is answered: what was to help it can wait for the next timer.
    pub(crate) fn answered(&mut self) {
        self.is_answered = true;
    }

    /// When the next timer is due that does something; gossip does when there is news. Late gossip is no harm: once there
    /// is news, it is due.
    pub(crate) fn next_deadline(&self, has_news: bool) -> Option<Duration> {
        let gossip = self.gossip.peek().filter(|_| has_news);
        let indirect = self.indirect.peek().filter(|_| !self.is_answered);
        self.heap.peek().into_iter().chain(gossip).chain(indirect).map(|Reverse(entry)| entry.at).min()
    }

    /// Whether another probe is to come. Looks at every timer.
    pub(crate) fn has_probe(&self) -> bool {
        self.heap.iter().any(|Reverse(entry)| matches!(entry.timer, Timer::ProbeRandomMember(_)))
    }

    /// The next ones that foca would forget departed members by, up to that time, whether due or not. Looks at every timer.
    pub(crate) fn take_removals(&mut self, until: Duration) -> Vec<Timer<Identity>> {
        let (mut removals, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.heap)
            .into_vec()
            .into_iter()
            .partition(|Reverse(entry)| matches!(entry.timer, Timer::RemoveDown(_)) && entry.at <= until);
        self.heap = others.into();
        removals.sort_unstable_by_key(|Reverse(entry)| entry.at);
        removals.into_iter().map(|Reverse(entry)| entry.timer).collect()
    }

    pub(crate) fn clear(&mut self) {
        self.heap.clear();
        self.gossip.clear();
        self.indirect.clear();
    }
}

struct Entry {
    at: Duration,
    timer: Timer<Identity>,
    number: u64,
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        // foca's order knows only kinds of timers: of two of a kind the older goes first.
        self.at.cmp(&other.at).then_with(|| self.timer.cmp(&other.timer)).then_with(|| self.number.cmp(&other.number))
    }
}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Entry {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::NodeId, swim::Role};

    #[test]
    fn timers_come_by_deadline_then_in_the_order_that_foca_wants_then_by_age() {
        let at = Duration::from_secs;
        let probed_id = Identity::new("10.0.0.1:1".parse().unwrap(), 1, NodeId(1), Role::Node).unwrap();
        let mut timers = Scheduler::default();
        timers.insert(at(2), Timer::PeriodicGossip(1));
        timers.insert(at(1), Timer::ProbeRandomMember(1));
        timers.insert(at(1), Timer::ProbeRandomMember(2));
        timers.insert(at(1), Timer::SendIndirectProbe { probed_id, token: 1 });
        assert_eq!(timers.pop(Duration::ZERO), None);
        assert_eq!(timers.pop(at(1)), Some(Timer::SendIndirectProbe { probed_id, token: 1 }));
        assert_eq!(timers.pop(at(1)), Some(Timer::ProbeRandomMember(1)));
        assert_eq!(timers.pop(at(1)), Some(Timer::ProbeRandomMember(2)));
        assert_eq!((timers.pop(at(1)), timers.next_deadline(true)), (None, Some(at(2))));
    }

    #[test]
    fn an_answered_probe_wakes_nobody_for_help_and_the_next_one_does() {
        let at = Duration::from_millis;
        let probed_id = Identity::new("10.0.0.1:1".parse().unwrap(), 1, NodeId(1), Role::Node).unwrap();
        let help = |token| Timer::SendIndirectProbe { probed_id, token };
        let mut timers = Scheduler::default();
        timers.insert(at(150), help(1));
        timers.insert(at(500), Timer::ProbeRandomMember(1));
        assert_eq!(timers.next_deadline(false), Some(at(150)));
        timers.answered();
        assert_eq!(timers.next_deadline(false), Some(at(500)));
        assert_eq!(timers.pop(at(500)), Some(help(1)), "foca wants it all the same");
        assert_eq!(timers.pop(at(500)), Some(Timer::ProbeRandomMember(1)));
        timers.insert(at(650), help(2));
        assert_eq!(timers.next_deadline(false), Some(at(650)));
    }

    #[test]
    fn gossip_without_news_wakes_nobody_and_is_delivered_with_the_next_timer() {
        let at = Duration::from_secs;
        let mut timers = Scheduler::default();
        timers.insert(at(1), Timer::PeriodicGossip(1));
        assert_eq!((timers.next_deadline(false), timers.next_deadline(true)), (None, Some(at(1))));
        timers.insert(at(3), Timer::ProbeRandomMember(1));
        assert_eq!((timers.next_deadline(false), timers.next_deadline(true)), (Some(at(3)), Some(at(1))));
        assert_eq!(timers.pop(at(3)), Some(Timer::PeriodicGossip(1)));
        assert_eq!(timers.pop(at(3)), Some(Timer::ProbeRandomMember(1)));
        assert_eq!(timers.pop(at(9)), None);
    }
}
