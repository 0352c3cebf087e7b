//! What balancers tell each other of servers: decisions of operators, surely, and what their checks found, as a hint.
//!
//! Why is a hint sent once and not acknowledged? Whoever misses it finds out by his own next check.

use std::{net::SocketAddr, time::Duration};

use foca::Identity as _;

use super::{Identity, Node, Output, Phase, Role};
use crate::{
    model::{Decision, Hint, NodeId, ServerKey, Told},
    swim::{
        DropReason,
        decisions::Due,
        roster::{Entry, Standing},
        telling::{self, Agreed, Decided, Hinted, TellingError, WireDecision, WireHint},
        wire::Datagram,
    },
};

/// Most hints that are sent, and that are believed, in one `HINTS_PER`: a broken network takes all servers down at once, and
/// every balancer sees that for itself.
const MAX_HINTS: u32 = 64;
const HINTS_PER: Duration = Duration::from_secs(1);

/// Counts hints, so that nobody floods anybody.
#[derive(Default)]
pub(super) struct Allowance {
    since: Duration,
    used: u32,
}

impl Allowance {
    fn take(&mut self, now: Duration) -> bool {
        if now.saturating_sub(self.since) >= HINTS_PER {
            (self.since, self.used) = (now, 0);
        }
        self.used += 1;
        self.used <= MAX_HINTS
    }
}

impl Node {
    /// Something was decided, or found, here.
    pub(super) fn tell(&mut self, told: Told, out: &mut Vec<Output>) {
        if self.phase != Phase::Member || self.identity().role() != Role::Balancer {
            return;
        }
        match told {
            Told::Decision(decision) => {
                if self.decisions.merge(self.now, &decision, None) {
                    self.push_decisions(out);
                }
            }
            Told::Hint(hint) => self.hint(&hint, out),
        }
    }

    fn hint(&mut self, hint: &Hint, out: &mut Vec<Output>) {
        if !self.hints_sent.take(self.now) {
            return;
        }
        let balancers = self.roster.alive().map(|entry| entry.identity).filter(|other| other.role() == Role::Balancer);
        for balancer in balancers.collect::<Vec<_>>() {
            let hinted = Hinted { sender: *self.identity(), hint: WireHint(hint.clone()) };
            self.send(self.contacts.path(balancer.addr()), &Datagram::Hinted(hinted), out);
        }
    }

    /// Tells the balancers what they lack.
    pub(super) fn push_decisions(&mut self, out: &mut Vec<Output>) {
        let due = self.decisions.due(self.now, telling::fits);
        if !due.is_empty() {
            self.decisions.expire(self.now, |node| self.roster.get(node).is_some());
        }
        for Due { peer, round, decisions } in due {
            let Some(entry) = self.roster.get(peer) else { continue };
            let to = self.contacts.path(entry.identity.addr());
            let decisions = decisions.into_iter().map(WireDecision::from).collect();
            self.send(to, &Datagram::Decided(Decided { sender: *self.identity(), round, decisions }), out);
        }
    }

    /// A balancer tells what was decided there.
    pub(super) fn decided(&mut self, from: SocketAddr, told: Decided, out: &mut Vec<Output>) -> Result<(), DropReason> {
        let Decided { sender, round, decisions } = told;
        self.believe(sender, from, out)?;
        for decision in decisions {
            let decision = match decision.check(self.unix_ms) {
                Ok(decision) => decision,
                Err(error) => {
                    self.disbelieve(from, &error, out);
                    continue;
                }
            };
            if !self.is_about_the_departed(&decision)
                && self.decisions.merge(self.now, &decision, Some(sender.node_id()))
            {
                out.push(Output::Told(Told::Decision(decision)));
            }
        }
        let agreed = Agreed { sender: *self.identity(), round, digest: self.digest() };
        self.send(from, &Datagram::Agreed(agreed), out);
        Ok(())
    }

    /// A decision is dropped, without the others that came along.
    fn disbelieve(&mut self, from: SocketAddr, error: &TellingError, out: &mut Vec<Output>) {
        match error {
            TellingError::Time => {
                self.counters.dropped(DropReason::Future);
                self.complain(from, DropReason::Future, None, out);
            }
            TellingError::Name(_) | TellingError::Weight(_) => self.counters.dropped(DropReason::Malformed),
        }
    }

    /// A balancer holds what it was told.
    pub(super) fn agreed(
        &mut self,
        from: SocketAddr,
        agreed: &Agreed,
        out: &mut Vec<Output>,
    ) -> Result<(), DropReason> {
        let &Agreed { sender, round, digest } = agreed;
        self.believe(sender, from, out)?;
        let since = self.decisions.waiting_since();
        let is_equal = digest == self.digest();
        if !self.decisions.acknowledged(self.now, sender.node_id(), round, is_equal) {
            return Err(DropReason::Unsolicited);
        }
        if let (Some(since), None) = (since, self.decisions.waiting_since()) {
            self.counters.agreement.add(self.now.saturating_sub(since));
        }
        Ok(())
    }

    /// A balancer's checks found that a server went up or down.
    pub(super) fn hinted(&mut self, from: SocketAddr, hinted: Hinted, out: &mut Vec<Output>) -> Result<(), DropReason> {
        let Hinted { sender, hint: WireHint(hint) } = hinted;
        self.believe(sender, from, out)?;
        if !self.hints_heard.take(self.now) {
            return Err(DropReason::TooMany);
        }
        out.push(Output::Told(Told::Hint(hint)));
        Ok(())
    }

    /// Only a live balancer speaks of servers that are not its own, to another balancer, and from its own address.
    fn believe(&mut self, sender: Identity, from: SocketAddr, out: &mut Vec<Output>) -> Result<(), DropReason> {
        if self.identity().role() != Role::Balancer {
            return Err(DropReason::NotForUs);
        }
        if self.sealer.is_none() && sender.addr().ip() != from.ip() {
            self.report_mismatch(sender.addr(), from, false, out);
            return Err(DropReason::RecordAddress);
        }
        if sender.role() != Role::Balancer || !self.roster.is_alive(&sender) {
            self.introduce_to(sender);
            return Err(DropReason::NotAMember);
        }
        Ok(())
    }

    /// What we compare with other balancers.
    pub(super) fn digest(&self) -> u64 {
        self.decisions.digest(|node| self.roster.get(node).is_some_and(Entry::is_alive))
    }

    /// Somebody has not heard yet that the node has left.
    fn is_about_the_departed(&self, decision: &Decision) -> bool {
        match decision.server {
            ServerKey::Static(_) => false,
            ServerKey::Node(node) => self.roster.get(node).is_some_and(|entry| entry.standing == Standing::Left),
        }
    }

    /// A balancer is there, again or for the first time.
    pub(super) fn track_balancer(&mut self, balancer: NodeId) {
        if self.identity().role() == Role::Balancer {
            self.decisions.track(self.now, balancer);
        }
    }

    /// A member is not there any more; with `for_good` it has left.
    pub(super) fn untrack(&mut self, member: NodeId, for_good: bool) {
        self.decisions.forget(member);
        if for_good {
            self.decisions.drop_node(member);
        }
    }
}
