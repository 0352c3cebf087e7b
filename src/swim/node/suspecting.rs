//! Whom we suspect: asking them, and giving up those who do not object.

use foca::{Header, Identity as _, Incarnation, Message, State, Timer};

use super::{Identity, Node, Output, membership::told};
use crate::swim::{DropReason, suspicion::Suspicion, wire::Datagram};

impl Node {
    /// foca starts the time to object with each failed probe of a live member, whether or not that is the first.
    pub(super) fn probe_failed(&mut self, suspect: Identity, incarnation: Incarnation, out: &mut Vec<Output>) {
        self.counters.probe_failures += 1;
        let alive = self.roster.alive().count();
        out.extend(self.cut_off.unanswered(self.now, suspect.node_id(), alive).map(told));
        if self.objection(suspect, incarnation) == Objection::Missing
            && self.suspicions.raise(self.now, suspect, incarnation)
        {
            self.counters.suspicions += 1;
        }
    }

    /// Asks those whom we suspect, and tells them so: whoever answers objects in the same breath.
    pub(super) fn ask_suspects(&mut self, out: &mut Vec<Output>) {
        for suspicion in self.suspicions.due(self.now) {
            let Suspicion { suspect, incarnation, verdict, .. } = suspicion;
            match self.objection(suspect, incarnation) {
                Objection::Missing if verdict.is_some_and(|verdict| verdict <= self.now) => {
                    self.suspicions.close(&suspicion);
                    self.judge(foca::Member::new(suspect, incarnation, State::Down), out);
                }
                Objection::Missing => {
                    let to = self.contacts.path(suspect.addr());
                    let Some(packet) = accusation(*self.identity(), suspect, incarnation) else {
                        self.counters.dropped(DropReason::Unencodable);
                        continue;
                    };
                    self.send(to, &Datagram::Swim(&packet), out);
                    if to != suspect.addr() {
                        self.check_straight_way(suspect.addr(), out);
                        self.send(suspect.addr(), &Datagram::Swim(&packet), out);
                    }
                }
                Objection::Heard => {
                    self.counters.refuted += 1;
                    self.suspicions.close(&suspicion);
                }
                Objection::TooLate => self.suspicions.close(&suspicion),
            }
        }
    }

    /// A member's name was taken by another one: it may be gone, since names are given to one process at a time. It is
    /// asked at once; if it answers both stay.
    pub(super) fn challenge(&mut self, rival: Identity, out: &mut Vec<Output>) {
        let known = self.swim.iter_members().find(|member| *member.id() == rival);
        let Some(incarnation) = known.map(foca::Member::incarnation) else { return };
        self.judge(foca::Member::new(rival, incarnation, State::Suspect), out);
        self.suspicions.challenge(self.now, rival, incarnation);
        self.ask_suspects(out);
    }

    /// Tells foca what we found out about a member, and it tells the others.
    fn judge(&mut self, verdict: foca::Member<Identity>, out: &mut Vec<Output>) {
        let done = self.swim.apply_many(std::iter::once(verdict), true, &mut self.effects);
        self.count(done);
        self.flush(out);
    }

    fn objection(&self, suspect: Identity, incarnation: Incarnation) -> Objection {
        match self.swim.iter_members().find(|member| *member.id() == suspect) {
            None => Objection::TooLate,
            Some(member) if member.state() == State::Suspect && member.incarnation() == incarnation => {
                Objection::Missing
            }
            Some(_) => Objection::Heard,
        }
    }

    /// Whether a suspect has objected before its time was up. foca leaves it alive then, but tells it that it is down all
    /// the same (2.0.0, `Timer::ChangeSuspectToDown`), and it would come back under a higher generation for nothing.
    pub(super) fn is_moot(&self, timer: &Timer<Identity>) -> bool {
        match timer {
            Timer::ChangeSuspectToDown { member_id, incarnation, token: _ } => {
                self.objection(*member_id, *incarnation) != Objection::Missing
            }
            Timer::ProbeRandomMember(_)
            | Timer::SendIndirectProbe { .. }
            | Timer::PeriodicAnnounce(_)
            | Timer::PeriodicAnnounceDown(_)
            | Timer::PeriodicGossip(_)
            | Timer::RemoveDown(_) => false,
        }
    }

    pub(super) fn suspects(&self) -> impl Iterator<Item = Identity> {
        self.swim.iter_members().filter(|member| member.state() == State::Suspect).map(|member| *member.id())
    }
}

/// What a suspect has said to our suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Objection {
    Missing,
    Heard,
    TooLate,
}

/// A ping that says whom we suspect. The incarnation of the sender is the lowest, which claims nothing about ourselves; the
/// number of the ping does no harm should it be that of a running probe, since an answer is an answer.
fn accusation(src: Identity, suspect: Identity, incarnation: Incarnation) -> Option<Vec<u8>> {
    let header = Header { src, src_incarnation: 0, dst: suspect, message: Message::Ping(0) };
    let mut packet = postcard::to_stdvec(&header).ok()?;
    packet.extend(1_u16.to_be_bytes());
    postcard::to_extend(&foca::Member::new(suspect, incarnation, State::Suspect), packet).ok()
}
