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
    inserted: u64,
}

impl Scheduler {
    pub(crate) fn insert(&mut self, at: Duration, timer: Timer<Identity>) {
        self.inserted += 1;
        self.heap.push(Reverse(Entry { at, timer, number: self.inserted }));
    }

    /// The next timer that is due.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Timer<Identity>> {
        if self.next_deadline()? <= now { self.heap.pop().map(|Reverse(entry)| entry.timer) } else { None }
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    pub(crate) fn clear(&mut self) {
        self.heap.clear();
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
        assert_eq!((timers.pop(at(1)), timers.next_deadline()), (None, Some(at(2))));
    }
}
