//! Have they all died, or are we cut off?
//!
//! When more than half of the cluster falls silent within seconds, the path between us is a likelier cause than so many
//! deaths at one moment, and from one place the two look alike. A balancer that believed in the deaths would drop servers
//! that serve; one that does not believe keeps its pool, and its checks say who still answers. So the silence of members
//! counts for nothing until the cluster is back, or until it has been gone for so long that this is how things are.
//!
//! Why two signs? Whoever is cut off with others learns of each silence soon, and half of the cluster vanishes for him within
//! a time that grows with it. Whoever is cut off alone learns of one in half a second: in a large cluster he would have
//! believed in many deaths by then. But he hears nobody at all, which is clear after three probes, before the first death.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{MAX_MEMBERS, tuning};
use crate::model::NodeId;

/// How near in time the members must vanish, in a cluster of any size.
const WINDOW: Duration = Duration::from_secs(5);
/// How long a cut is assumed at most. Afterwards those who have not come back are gone.
const LONGEST: Duration = Duration::from_secs(600);
/// Members that leave a probe unanswered, while nobody at all is heard, until it is likelier that we are cut off. By chance
/// that happens once in weeks where three of ten datagrams are lost, since a suspect is asked again and again.
const SILENT: usize = 3;
/// What a probe and its failure take at most, on top of the time to object.
const PROBE: Duration = Duration::from_millis(1500);

/// Who vanished lately, and whether that makes us doubt ourselves.
#[derive(Default)]
pub(crate) struct CutOff {
    /// Members that vanished: within the window, or since shortly before the cut.
    vanished: BTreeMap<NodeId, Vanished>,
    /// Members that left a probe unanswered since somebody was heard; not more than [`SILENT`].
    silent: BTreeSet<NodeId>,
    cut: Option<Cut>,
    /// A cut lasted for too long, and nobody has been heard since it began: they are gone, whoever else vanishes.
    resigned: bool,
}

#[derive(Clone, Copy)]
struct Vanished {
    at: Duration,
    /// Members before, ourselves included.
    of: usize,
}

#[derive(Clone, Copy)]
struct Cut {
    since: Duration,
    /// Members before it, ourselves included.
    of: usize,
    /// Whether somebody has been heard since.
    heard: bool,
    /// Since when half of the members are there again, and no other one vanished.
    back: Option<Duration>,
}

/// What has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// These vanished, more than half of so many members, ourselves included; or nobody answers any more, and these vanished
    /// before that was clear.
    Begins { vanished: Vec<NodeId>, of: usize },
    /// It is over after so long; these are still gone.
    Ends { gone: Vec<NodeId>, lasted: Duration },
}

impl CutOff {
    /// A member stopped answering; so many others still do.
    pub(crate) fn vanished(&mut self, now: Duration, member: NodeId, alive: usize) -> Option<Turn> {
        if self.cut.is_none() {
            self.forget(now);
        }
        self.vanished.insert(member, Vanished { at: now, of: alive + 2 });
        if let Some(cut) = &mut self.cut {
            // It goes on.
            cut.back = None;
            return None;
        }
        let of = self.before(alive);
        // Newcomers in the place of the vanished: the path is all right.
        let is_minority = (alive + 1) * 2 < of;
        if self.resigned || self.vanished.len() * 2 <= of || !is_minority { None } else { Some(self.begin(now, of)) }
    }

    /// A live member left a probe unanswered; so many others are believed to live.
    pub(crate) fn unanswered(&mut self, now: Duration, member: NodeId, alive: usize) -> Option<Turn> {
        if self.silent.len() < SILENT {
            self.silent.insert(member);
        }
        if self.cut.is_some() || self.resigned || self.silent.len() < SILENT {
            return None;
        }
        self.forget(now);
        let of = self.before(alive);
        Some(self.begin(now, of))
    }

    /// Some member was heard; so many others answer.
    pub(crate) fn heard(&mut self, now: Duration, alive: usize) {
        self.silent.clear();
        self.resigned = false;
        if let Some(cut) = &mut self.cut {
            cut.heard = true;
            self.look(now, alive);
        }
    }

    /// A member answers (again), said goodbye, or was replaced; so many others answer now.
    pub(crate) fn settled(&mut self, now: Duration, member: NodeId, alive: usize) -> Option<Turn> {
        let was_missing = self.vanished.remove(&member).is_some();
        self.look(now, alive);
        let is_over = was_missing && self.vanished.is_empty() && self.cut.is_some_and(|cut| cut.back.is_some());
        if is_over { self.end(now) } else { None }
    }

    /// Time has passed.
    pub(crate) fn tick(&mut self, now: Duration) -> Option<Turn> {
        if self.next_deadline()? > now {
            return None;
        }
        self.resigned = self.cut.is_some_and(|cut| !cut.heard);
        self.end(now)
    }

    /// Since when we think that we are cut off.
    pub(crate) fn since(&self) -> Option<Duration> {
        self.cut.map(|cut| cut.since)
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        let Cut { since, of, back, heard: _ } = self.cut?;
        let longest = since + LONGEST;
        // The missing come back one after the other; and if it is not over, another one is missed within that time.
        Some(back.map_or(longest, |back| longest.min(back + PROBE + tuning::suspicion(of))))
    }

    /// Forgets those who vanished too long ago to have anything to do with those who vanish now.
    fn forget(&mut self, now: Duration) {
        self.vanished.retain(|_, Vanished { at, of }| *at + WINDOW.max(tuning::alone(*of)) > now);
        if self.vanished.len() >= MAX_MEMBERS {
            let oldest = self.vanished.iter().min_by_key(|(_, vanished)| vanished.at).map(|(member, _)| *member);
            oldest.map(|oldest| self.vanished.remove(&oldest));
        }
    }

    /// Members before the first of them vanished, ourselves included.
    fn before(&self, alive: usize) -> usize {
        let first = self.vanished.values().min_by_key(|vanished| vanished.at).map_or(0, |vanished| vanished.of);
        first.max(self.vanished.len() + alive + 1)
    }

    fn begin(&mut self, now: Duration, of: usize) -> Turn {
        self.cut = Some(Cut { since: now, of, heard: false, back: None });
        Turn::Begins { vanished: self.vanished.keys().copied().collect(), of }
    }

    /// Whether it seems to be over.
    fn look(&mut self, now: Duration, alive: usize) {
        if let Some(cut) = &mut self.cut {
            let is_back = cut.heard && (alive + 1) * 2 >= cut.of;
            cut.back = is_back.then(|| cut.back.unwrap_or(now));
        }
    }

    fn end(&mut self, now: Duration) -> Option<Turn> {
        let cut = self.cut.take()?;
        self.silent.clear();
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
        assert_eq!(vanish(10, s(8)).1, None, "one after the other");
    }

    #[test]
    fn a_large_cluster_may_vanish_as_slowly_as_two_members_find_it_out() {
        let mut cut_off = CutOff::default();
        let vanish = |member: u64| {
            let now = Duration::from_millis(member * 250);
            cut_off.vanished(now, NodeId(member), 198 - member as usize)
        };
        let begun = (0..150).filter_map(vanish).collect::<Vec<_>>();
        let most = (0..101).map(NodeId).collect();
        assert_eq!(begun, [Turn::Begins { vanished: most, of: 200 }]);
    }

    #[test]
    fn members_that_vanish_while_others_take_their_place_are_no_cut() {
        let mut cut_off = CutOff::default();
        for member in 0..200 {
            assert_eq!(cut_off.vanished(Duration::from_millis(member * 100), NodeId(member), 199), None);
        }
    }

    #[test]
    fn when_nobody_is_heard_and_three_leave_a_probe_unanswered_we_are_cut_off_at_once() {
        let mut cut_off = CutOff::default();
        assert_eq!([1, 2, 2].map(|member| cut_off.unanswered(s(0), NodeId(member), 9)), [None, None, None]);
        cut_off.heard(s(1), 9);
        assert_eq!([1, 2].map(|member| cut_off.unanswered(s(1), NodeId(member), 9)), [None, None]);
        let begins = Turn::Begins { vanished: Vec::new(), of: 10 };
        assert_eq!(cut_off.unanswered(s(2), NodeId(3), 9), Some(begins));
        assert_eq!(cut_off.vanished(s(3), NodeId(1), 8), None, "said already");
        // Somebody is heard, and who vanished has a moment to come back.
        cut_off.heard(s(20), 8);
        assert_eq!(cut_off.settled(s(21), NodeId(1), 9), Some(Turn::Ends { gone: Vec::new(), lasted: s(19) }));
    }

    #[test]
    fn the_only_other_member_may_well_have_died() {
        let mut cut_off = CutOff::default();
        assert_eq!([1, 1, 1].map(|member| cut_off.unanswered(s(0), NodeId(member), 1)), [None, None, None]);
        assert_eq!(cut_off.vanished(s(0), NodeId(1), 0), None);
    }

    #[test]
    fn it_ends_soon_after_half_are_there_again_and_names_those_who_are_not() {
        let (mut cut_off, _) = vanish(10, s(0));
        cut_off.heard(s(60), 0);
        for member in 0..5 {
            assert_eq!(cut_off.settled(s(60), NodeId(member), member as usize + 1), None);
        }
        assert_eq!(cut_off.tick(s(62)), None);
        let gone = (5..10).map(NodeId).collect();
        assert_eq!(cut_off.tick(s(64)), Some(Turn::Ends { gone, lasted: s(64) }));
        assert_eq!((cut_off.since(), cut_off.next_deadline()), (None, None));
    }

    #[test]
    fn a_cut_that_lasts_for_too_long_is_how_things_are_until_somebody_is_heard() {
        let (mut cut_off, _) = vanish(8, s(0));
        assert_eq!(cut_off.tick(s(599)), None);
        assert!(matches!(cut_off.tick(s(600)), Some(Turn::Ends { gone, .. }) if gone.len() == 8));
        assert_eq!([8, 9].map(|member| cut_off.vanished(s(601), NodeId(member), 0)), [None, None]);
        assert_eq!([1, 2, 3].map(|member| cut_off.unanswered(s(601), NodeId(member), 3)), [None, None, None]);
        cut_off.heard(s(700), 9);
        assert!([1, 2, 3].map(|member| cut_off.unanswered(s(701), NodeId(member), 9))[2].is_some());
    }

    proptest! {
        #[test]
        fn begins_and_ends_alternate_and_memory_is_bounded_by_who_vanished(
            events in prop::collection::vec((0..4_u8, 0..20_u64, 0..8_u64), 1..200)
        ) {
            let (mut cut_off, mut now, mut begun) = (CutOff::default(), s(0), false);
            let mut alive: BTreeSet<u64> = (0..20).collect();
            for (event, member, pause) in events {
                now += s(pause);
                let ended = cut_off.tick(now);
                let turn = match event {
                    0 if alive.remove(&member) => cut_off.vanished(now, NodeId(member), alive.len()),
                    1 if alive.insert(member) => cut_off.settled(now, NodeId(member), alive.len()),
                    2 if alive.contains(&member) => cut_off.unanswered(now, NodeId(member), alive.len()),
                    3 => {
                        cut_off.heard(now, alive.len());
                        None
                    }
                    _ => None,
                };
                for turn in ended.into_iter().chain(turn) {
                    let begins = matches!(turn, Turn::Begins { .. });
                    prop_assert_ne!(begins, begun);
                    begun = begins;
                }
                prop_assert_eq!(cut_off.since().is_some(), begun);
                prop_assert!(cut_off.vanished.len() <= 20 && cut_off.silent.len() <= SILENT);
            }
        }
    }
}
