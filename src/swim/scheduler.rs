//! foca's timers, delivered in order.
//!
//! Why not a sleep task for each? foca wants every timer delivered, and of those due together in its own order; one queue
//! guarantees both, also after a pause in which many became due.

use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    mem::discriminant,
    time::Duration,
};

use foca::Timer;

use super::Identity;

/// Timers by deadline.
#[derive(Default)]
pub(crate) struct Scheduler {
    /// What foca does time and again and asks for anew each time: one of each kind, so a handful. A second one could only be
    /// from before a change of identity. foca would take no notice of it, but its mark for that is a `u8` (2.0.0,
    /// `TimerToken`): after 256 changes it would go on with both.
    periodic: Vec<Entry>,
    once: BinaryHeap<Reverse<Entry>>,
    /// Apart from the others: a probe whose answer has come needs no help.
    indirect: BinaryHeap<Reverse<Entry>>,
    is_answered: bool,
    inserted: u64,
}

impl Scheduler {
    pub(crate) fn insert(&mut self, at: Duration, timer: Timer<Identity>) {
        self.inserted += 1;
        let entry = Entry { at, timer, number: self.inserted };
        match entry.timer {
            Timer::ProbeRandomMember(_)
            | Timer::PeriodicGossip(_)
            | Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_) => {
                let kind = discriminant(&entry.timer);
                self.periodic.retain(|known| discriminant(&known.timer) != kind);
                self.periodic.push(entry);
            }
            Timer::SendIndirectProbe { .. } => {
                self.is_answered = false;
                self.indirect.push(Reverse(entry));
            }
            Timer::ChangeSuspectToDown { .. } | Timer::RemoveDown(_) => self.once.push(Reverse(entry)),
        }
    }

    /// The next timer that is due.
    pub(crate) fn pop(&mut self, now: Duration) -> Option<Timer<Identity>> {
        let periodic = self.periodic.iter().enumerate().min_by_key(|(_, entry)| *entry);
        let heads = [self.once.peek(), self.indirect.peek()].into_iter().flatten().map(|Reverse(entry)| entry);
        let first = heads.chain(periodic.map(|(_, entry)| entry)).min().filter(|entry| entry.at <= now)?.number;
        if let Some((position, _)) = periodic.filter(|(_, entry)| entry.number == first) {
            return Some(self.periodic.swap_remove(position).timer);
        }
        let is_once = self.once.peek().is_some_and(|Reverse(entry)| entry.number == first);
        let heap = if is_once { &mut self.once } else { &mut self.indirect };
        heap.pop().map(|Reverse(entry)| entry.timer)
    }

    /// The running probe is answered: what was to help it can wait for the next timer.
    pub(crate) fn answered(&mut self) {
        self.is_answered = true;
    }

    /// When the next timer is due that does something; gossip does when there is news. It would come ten times a second
    /// otherwise, and nearly always for nothing. Late gossip is no harm: once there is news, it is due.
    pub(crate) fn next_deadline(&self, has_news: bool) -> Option<Duration> {
        let periodic =
            self.periodic.iter().filter(|entry| has_news || !matches!(entry.timer, Timer::PeriodicGossip(_)));
        let indirect = self.indirect.peek().filter(|_| !self.is_answered);
        let others = self.once.peek().into_iter().chain(indirect).map(|Reverse(entry)| entry);
        periodic.chain(others).map(|entry| entry.at).min()
    }

    /// Whether another probe is to come, be it one that foca no longer takes notice of.
    pub(crate) fn has_probe(&self) -> bool {
        self.periodic.iter().any(|entry| matches!(entry.timer, Timer::ProbeRandomMember(_)))
    }

    /// The next ones that foca would forget departed members by, up to that time, whether due or not. Looks at every timer.
    pub(crate) fn take_removals(&mut self, until: Duration) -> Vec<Timer<Identity>> {
        let (mut removals, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.once)
            .into_vec()
            .into_iter()
            .partition(|Reverse(entry)| matches!(entry.timer, Timer::RemoveDown(_)) && entry.at <= until);
        self.once = others.into();
        removals.sort_unstable_by_key(|Reverse(entry)| entry.at);
        removals.into_iter().map(|Reverse(entry)| entry.timer).collect()
    }

    pub(crate) fn clear(&mut self) {
        self.periodic.clear();
        self.once.clear();
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

    fn member(address: &str) -> Identity {
        Identity::new(address.parse().unwrap(), 1, NodeId(1), Role::Node).unwrap()
    }

    #[test]
    fn timers_come_by_deadline_then_in_the_order_that_foca_wants_then_by_age() {
        let at = Duration::from_secs;
        let [one, other] = ["10.0.0.1:1", "10.0.0.2:1"].map(member);
        let help = Timer::SendIndirectProbe { probed_id: one, token: 1 };
        let mut timers = Scheduler::default();
        timers.insert(at(2), Timer::PeriodicGossip(1));
        for timer in [
            Timer::RemoveDown(other),
            Timer::RemoveDown(one),
            Timer::PeriodicAnnounce(1),
            Timer::ProbeRandomMember(1),
            help.clone(),
        ] {
            timers.insert(at(1), timer);
        }
        assert_eq!(timers.pop(Duration::ZERO), None);
        let due: Vec<_> = std::iter::from_fn(|| timers.pop(at(1))).collect();
        let announce = Timer::PeriodicAnnounce(1);
        let [first, second] = [other, one].map(Timer::RemoveDown);
        assert_eq!(due, [help, Timer::ProbeRandomMember(1), announce, first, second]);
        assert_eq!(timers.next_deadline(true), Some(at(2)));
    }

    #[test]
    fn foca_does_nothing_at_two_paces() {
        let at = Duration::from_secs;
        let mut timers = Scheduler::default();
        for token in 0..=255 {
            timers.insert(at(1), Timer::ProbeRandomMember(token));
            timers.insert(at(1), Timer::PeriodicGossip(token));
        }
        let due: Vec<_> = std::iter::from_fn(|| timers.pop(at(1))).collect();
        assert_eq!(due, [Timer::ProbeRandomMember(255), Timer::PeriodicGossip(255)]);
    }

    #[test]
    fn an_answered_probe_wakes_nobody_for_help_and_the_next_one_does() {
        let at = Duration::from_millis;
        let probed_id = member("10.0.0.1:1");
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
