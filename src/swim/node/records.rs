//! Records: ours to the balancers, everybody's to us.

use std::{net::SocketAddr, time::Duration};

use foca::Identity as _;

use super::{Node, Output, Phase, RecordNews};
use crate::{
    model::{NodeId, NodeState},
    swim::{
        DropReason, ServiceRecord,
        roster::Standing,
        wire::{Acknowledgement, Ask, Datagram, Push},
    },
};

/// Most mismatches of addresses that are reported in `REPORTED_FOR`, in which none is reported twice.
const MAX_REPORTED: usize = 64;
const REPORTED_FOR: Duration = Duration::from_secs(3600);

/// A push that waits for the pool to follow.
pub(super) struct Awaited {
    to: SocketAddr,
    round: u32,
    version: u64,
}

impl Node {
    pub(super) fn set_record(&mut self, record: ServiceRecord, out: &mut Vec<Output>) {
        if self.phase != Phase::Member {
            return;
        }
        if record.check().is_err() {
            return self.counters.dropped(DropReason::Unencodable);
        }
        let record = ServiceRecord { node_id: self.record.node_id, version: self.record.version, ..record };
        if record != self.record {
            self.replace_record(record);
            self.push_record(out);
        }
    }

    /// Makes it the next version, which everybody needs.
    pub(super) fn replace_record(&mut self, record: ServiceRecord) {
        let version = self.record.version.saturating_add(1);
        self.record = ServiceRecord { version, ..record };
        self.delivery.changed(self.now, version, self.record.state == NodeState::Draining);
    }

    /// Pushes our record to the balancers that are due.
    pub(super) fn push_record(&mut self, out: &mut Vec<Output>) {
        for (balancer, round) in self.delivery.due(self.now, &mut self.rng) {
            let Some(entry) = self.roster.get(balancer) else { continue };
            self.push_to(entry.identity.addr(), round, out);
        }
    }

    pub(super) fn push_to(&mut self, advertised: SocketAddr, round: u32, out: &mut Vec<Output>) {
        let push = Push { sender: *self.identity(), round, record: self.record.clone() };
        self.send(self.contacts.path(advertised), &Datagram::Push(push), out);
    }

    pub(super) fn acknowledged(&mut self, acknowledgement: &Acknowledgement) -> Result<(), DropReason> {
        let &Acknowledgement { sender, node_id, version, round, in_flight } = acknowledgement;
        let ours = node_id == self.record.node_id;
        if ours && self.delivery.acknowledged(self.now, sender, (version, round), in_flight, &mut self.rng) {
            if let Some(time) = self.delivery.take_convergence(self.now) {
                self.counters.convergence.add(time);
            }
            Ok(())
        } else {
            Err(DropReason::Unsolicited)
        }
    }

    /// A balancer lacks our record.
    pub(super) fn asked(&mut self, from: SocketAddr, ask: &Ask, out: &mut Vec<Output>) -> Result<(), DropReason> {
        if self.roster.is_alive(&ask.sender) {
            self.delivery.asked(self.now, ask.sender.node_id());
            Ok(())
        } else {
            self.check_source(from, ask.sender, out)?;
            self.introduce_to(ask.sender);
            Err(DropReason::NotAMember)
        }
    }

    pub(super) fn pushed(
        &mut self,
        from: SocketAddr,
        Push { sender, round, record }: Push,
        out: &mut Vec<Output>,
    ) -> Result<(), DropReason> {
        let node_id = sender.node_id();
        // Whoever may say where an owner is could send our users anywhere: nobody but its own address says so, or somebody
        // with the key.
        if record.node_id != node_id {
            return Err(DropReason::RecordAddress);
        }
        if self.sealer.is_none() && sender.addr().ip() != from.ip() {
            self.report_mismatch(sender.addr(), from, false, out);
            return Err(DropReason::RecordAddress);
        }
        let Some(entry) = self.roster.get(node_id).filter(|entry| entry.identity == sender) else {
            self.introduce_to(sender);
            return Err(DropReason::NotAMember);
        };
        if !entry.is_alive() && record.state != NodeState::Left {
            // foca told the sender that we hold it for dead, or will; it comes back with a new identity.
            self.introduce_to(sender);
            return Err(DropReason::NotAMember);
        }
        let news = match &entry.record {
            None => RecordNews::First,
            Some(known) if record.version < known.version => return Err(DropReason::Stale),
            Some(known) if record.says_the_same_as(known) => RecordNews::Same,
            Some(_) => RecordNews::Changed,
        };
        // A balancer's goodbye to a node comes outside of any round and wants no answer.
        if round > 0 {
            self.awaited.insert(node_id, Awaited { to: from, round, version: record.version });
        }
        // When it is known already the pool is asked all the same, for what is in flight.
        let is_new = entry.record.as_ref().is_none_or(|known| known.version != record.version);
        if is_new || news != RecordNews::Same {
            self.roster.set_record(record.clone());
        }
        self.roster.heard(self.now, node_id);
        let address = SocketAddr::new(sender.addr().ip(), record.port);
        let leaves = record.state == NodeState::Left;
        // Whoever had that name until now: there are two, or it died without a word and came back elsewhere.
        let rivals = if news == RecordNews::First { self.roster.namesakes(&record.name, node_id) } else { Vec::new() };
        out.push(Output::Record { record, address, role: sender.role(), news });
        if leaves {
            self.gone(sender, Standing::Left, out);
        }
        for rival in rivals {
            self.challenge(rival, out);
        }
        Ok(())
    }

    /// The pool follows: now its owner may know.
    pub(super) fn applied(&mut self, node_id: NodeId, version: u64, in_flight: u32, out: &mut Vec<Output>) {
        let Some(awaited) = self.awaited.remove(&node_id) else { return };
        if awaited.version != version {
            // A newer version came in between and gets its own answer.
            self.awaited.insert(node_id, awaited);
            return;
        }
        let sender = self.identity().node_id();
        let acknowledgement = Acknowledgement { sender, node_id, version, round: awaited.round, in_flight };
        self.send(awaited.to, &Datagram::Acknowledgement(acknowledgement), out);
    }

    /// Reports, once in an hour, that a member is seen elsewhere than it says.
    pub(super) fn report_mismatch(
        &mut self,
        advertised: SocketAddr,
        observed: SocketAddr,
        ours: bool,
        out: &mut Vec<Output>,
    ) {
        while self.reported.front().is_some_and(|&(at, ..)| at + REPORTED_FOR <= self.now) {
            self.reported.pop_front();
        }
        let is_known = self.reported.iter().any(|&(_, its, seen)| (its, seen) == (advertised, observed));
        if !is_known && self.reported.len() < MAX_REPORTED {
            self.reported.push_back((self.now, advertised, observed));
            out.push(Output::AddressMismatch { advertised, observed, ours });
        }
    }
}
