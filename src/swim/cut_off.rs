//! Have they all died, or are we cut off?
//!
//! When more than half of the cluster falls silent within seconds, the path between us is a likelier cause than so many
//! deaths at one moment, and from one place the two look alike. A balancer that believed in the deaths would drop servers
//! that serve; one that does not believe keeps its pool, and its checks say who still answers. So the silence of members
//! counts for nothing until the cluster is back, or until it has been gone for so long that this is how things are.

use std::{collections::BTreeMap, time::Duration};

use crate::model::NodeId;

/// How near in time the members must vanish.
const WINDOW: Duration = Duration::from_secs(5);
/// How long a cut is assumed at most. Afterwards those who have not come back are gone.
const LONGEST: Duration = Duration::from_secs(600);

/// Who vanished lately, and whether that makes us doubt ourselves.
#[derive(Default)]
pub(crate) struct CutOff {
    /// Members that vanished, and when: within the window, or since shortly before the cut.
    vanished: BTreeMap<NodeId, Duration>,
    cut: Option<Cut>,
}

#[derive(Clone, Copy)]
struct Cut {
    since: Duration,
    /// Members before it, ourselves included.
    of: usize,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// These vanished together: more than half of so many members, ourselves included.
    Begins { vanished: Vec<NodeId>, of: usize },
    /// It is over after so long; these are still gone.
    Ends { gone: Vec<NodeId>, lasted: Duration },
}

impl CutOff {
    /// A member stopped answering; so many others still do.
    pub(crate) fn vanished(&mut self, now: Duration, member: NodeId, alive: usize) -> Option<Turn> {
        if self.cut.is_none() {
            self.vanished.retain(|_, at| *at + WINDOW > now);
        }
        self.vanished.insert(member, now);
        let of = self.vanished.len() + alive + 1;
        if self.cut.is_some() || self.vanished.len() * 2 <= of {
            return None;
        }
        self.cut = Some(Cut { since: now, of });
        Some(Turn::Begins { vanished: self.vanished.keys().copied().collect(), of })
    }

    /// A member answers (again), said goodbye, or was replaced; so many others answer now.
    pub(crate) fn settled(&mut self, now: Duration, member: NodeId, alive: usize) -> Option<Turn> {
        self.vanished.remove(&member);
        let cut = self.cut?;
        if (alive + 1) * 2 >= cut.of { self.end(now) } else { None }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Duration) -> Option<Turn> {
        if self.next_deadline()? <= now { self.end(now) } else { None }
    }

    /// Since when we think that we are cut off.
    pub(crate) fn since(&self) -> Option<Duration> {
        self.cut.map(|cut| cut.since)
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.cut.map(|cut| cut.since + LONGEST)
    }

    fn end(&mut self, now: Duration) -> Option<Turn> {
        let cut = self.cut.take()?;
        let gone = std::mem::take(&mut self.vanished).into_keys().collect();
        Some(Turn::Ends { gone, lasted: now.saturating_sub(cut.since) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// So many of ten others vanish, one each so often; what is said of it at last.
    fn vanish(count: usize, pause: Duration) -> (CutOff, Option<Turn>) {
        let mut cut_off = CutOff::default();
        let mut last = None;
        for member in 0..count {
            last = last.or(cut_off.vanished(pause * member as u32, NodeId(member as u64), 9 - member));
        }
        (cut_off, last)
    }

    #[test]
    fn more_than_half_within_seconds_is_a_cut_and_half_or_slower_is_not() {
        assert_eq!(vanish(5, s(0)).1, None);
        let six = (0..6).map(NodeId).collect();
        assert_eq!(vanish(6, s(0)).1, Some(Turn::Begins { vanished: six, of: 11 }));
        assert_eq!(vanish(10, s(5)).1, None, "one after the other");
    }

    #[test]
    fn the_only_other_member_may_well_have_died() {
        assert_eq!(CutOff::default().vanished(s(0), NodeId(1), 0), None);
    }

    #[test]
    fn it_ends_when_half_are_there_again_and_names_those_who_are_not() {
        let (mut cut_off, _) = vanish(10, s(0));
        for member in 0..4 {
            assert_eq!(cut_off.settled(s(60), NodeId(member), member as usize + 1), None);
        }
        let gone = (5..10).map(NodeId).collect();
        assert_eq!(cut_off.settled(s(60), NodeId(4), 5), Some(Turn::Ends { gone, lasted: s(60) }));
        assert_eq!((cut_off.since(), cut_off.next_deadline()), (None, None));
    }

    #[test]
    fn a_cut_that_lasts_for_too_long_is_how_things_are() {
        let (mut cut_off, _) = vanish(10, s(0));
        assert_eq!(cut_off.tick(s(599)), None);
        assert!(matches!(cut_off.tick(s(600)), Some(Turn::Ends { gone, .. }) if gone.len() == 10));
    }

    proptest! {
        #[test]
        fn begins_and_ends_alternate_and_memory_is_bounded_by_who_vanished(
            events in prop::collection::vec((any::<bool>(), 0..20_u64, 0..8_u64), 1..200)
        ) {
            let (mut cut_off, mut now, mut begun) = (CutOff::default(), s(0), false);
            let mut alive: std::collections::BTreeSet<u64> = (0..20).collect();
            for (dies, member, pause) in events {
                now += s(pause);
                let ended = cut_off.tick(now);
                let turn = if dies && alive.remove(&member) {
                    cut_off.vanished(now, NodeId(member), alive.len())
                } else if !dies && alive.insert(member) {
                    cut_off.settled(now, NodeId(member), alive.len())
                } else {
                    None
                };
                for turn in ended.into_iter().chain(turn) {
                    let begins = matches!(turn, Turn::Begins { .. });
                    prop_assert_ne!(begins, begun);
                    begun = begins;
                }
                prop_assert_eq!(cut_off.since().is_some(), begun);
                prop_assert!(cut_off.vanished.len() <= 20);
            }
        }
    }
}
