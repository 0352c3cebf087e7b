//! Speaking with foca.
//!
//! Why look into a packet before foca does? foca drops without a word what is addressed to the boot before us, which is
//! the first thing that a restarted balancer hears; and it has no bound on members.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use foca::{Error, Header, Identity as _, Message, OwnedNotification, PostcardCodec, State, Timer};
use rand::rngs::StdRng;

use super::{Identity, Node, Output, Phase, Role, Swim, fork, tuning};
use crate::model::NodeId;
use crate::swim::{
    DropReason, MAX_MEMBERS,
    cut_off::Turn,
    roster::Standing,
    wire::{Ask, Datagram},
};

/// No member takes fewer bytes in a packet: an IPv4 address alone has 7.
const SHORTEST_MEMBER: usize = 8;

/// Largest cluster whose two lists of members are compared after each input: the comparison is quadratic.
const CHECKED_MEMBERS: usize = 24;

/// Least time from one return from the dead to the next.
const RENEWAL_PAUSE: Duration = Duration::from_millis(100);

/// A fresh protocol instance.
pub(super) fn swim(identity: Identity, rng: &mut StdRng) -> Swim {
    Swim::new(identity, tuning::settings(1), fork(rng), PostcardCodec)
}

impl Node {
    pub(super) fn receive_swim(
        &mut self,
        from: SocketAddr,
        packet: &[u8],
        out: &mut Vec<Output>,
    ) -> Result<(), DropReason> {
        let (header, updates) =
            postcard::take_from_bytes::<Header<Identity>>(packet).map_err(|_| DropReason::Malformed)?;
        let us = *self.identity();
        if header.src.addr() == us.addr() {
            return Err(DropReason::FromOurselves);
        }
        if header.dst.addr() != us.addr() {
            return Err(DropReason::NotForUs);
        }
        self.check_source(from, header.src, out)?;
        if header.dst != us && header.message != Message::Announce {
            self.introduce_to(header.src);
            return Err(DropReason::ForOurPredecessor);
        }
        if !self.has_room(header.src, updates) {
            return Err(DropReason::MembersFull);
        }
        let says_so = |member: foca::Member<Identity>| *member.id() == us && member.state() == State::Down;
        if header.message == Message::TurnUndead || members_in(updates).any(says_so) {
            self.pronounced_dead(header.src, out)?;
        }
        self.swim.handle_data(packet, &mut self.effects).map_err(reason)?;
        if self.probe.is_some_and(|(probed, number)| header.src == probed && header.message == Message::Ack(number)) {
            self.timers.answered();
        }
        Ok(())
    }

    /// Somebody holds us for dead, and foca returns from that one generation higher. That does not help when he remembers
    /// a boot at our address whose clock was ahead of ours: he would say it again to each generation in between, as
    /// fast as the wire carries it. So he is asked whom he remembers, and the next word counts after a pause.
    fn pronounced_dead(&mut self, by: Identity, out: &mut Vec<Output>) -> Result<(), DropReason> {
        if self.renewed.is_some_and(|at| at + RENEWAL_PAUSE > self.now) {
            return Err(DropReason::TooMany);
        }
        self.renewed = Some(self.now);
        self.dial(&[self.contacts.path(by.addr())], out);
        Ok(())
    }

    /// Without a key nobody may bring in a third machine, which all members would then send to: a stranger comes from the
    /// address that it says, or from where it answered our hello. Those whom we know already go by many ways (a process
    /// that is bound to all addresses sends from the one which leads there), and saying so of them gains nobody anything.
    pub(super) fn check_source(
        &mut self,
        from: SocketAddr,
        sender: Identity,
        out: &mut Vec<Output>,
    ) -> Result<(), DropReason> {
        let is_its_own = sender.addr().ip() == from.ip()
            || self.contacts.detour(sender.addr()).is_some_and(|by| by.ip() == from.ip());
        if self.sealer.is_some() || is_its_own || self.roster.is_alive(&sender) {
            return Ok(());
        }
        self.report_mismatch(sender.addr(), from, false, out);
        Err(DropReason::RecordAddress)
    }

    /// Tells somebody who does not know us, though he should, that we are here.
    pub(super) fn introduce_to(&mut self, stranger: Identity) {
        if self.phase == Phase::Member
            && stranger.addr() != self.identity().addr()
            && self.contacts.may_introduce(self.now, stranger.addr())
        {
            self.announce(stranger);
        }
    }

    pub(super) fn announce(&mut self, to: Identity) {
        let done = self.swim.announce(to, &mut self.effects);
        self.count(done);
    }

    pub(super) fn run_timers(&mut self, out: &mut Vec<Output>) {
        while let Some(timer) = self.timers.pop(self.now) {
            if self.is_moot(&timer) {
                continue;
            }
            let done = self.swim.handle_timer(timer, &mut self.effects);
            self.count(done);
            self.flush(out);
        }
    }

    /// Carries out what foca wants. What it notifies may make it want more.
    pub(super) fn flush(&mut self, out: &mut Vec<Output>) {
        loop {
            while let Some((delay, timer)) = self.effects.to_schedule() {
                if self.phase.is_known() {
                    if let Timer::ChangeSuspectToDown { member_id, incarnation, token: _ } = timer {
                        self.probe_failed(member_id, incarnation, out);
                    }
                    self.timers.insert(self.now + delay, timer);
                }
            }
            while let Some((to, packet)) = self.effects.to_send() {
                if let Ok((Header { message: Message::Ping(number), .. }, _)) =
                    postcard::take_from_bytes::<Header<Identity>>(&packet)
                {
                    self.probe = Some((to, number));
                }
                let to = self.contacts.path(to.addr());
                self.send(to, &Datagram::Swim(&packet), out);
            }
            let Some(notification) = self.effects.to_notify() else { return };
            if self.phase.is_known() {
                self.notified(notification, out);
            }
        }
    }

    fn notified(&mut self, notification: OwnedNotification<Identity>, out: &mut Vec<Output>) {
        match notification {
            OwnedNotification::MemberUp(identity) => self.up(identity, out),
            OwnedNotification::MemberDown(identity) => {
                if self.roster.get(identity.node_id()).is_some_and(|entry| entry.identity == identity) {
                    self.gone(identity, Standing::Failed, out);
                }
            }
            OwnedNotification::Rename(before, after) => self.renamed(before, after, out),
            OwnedNotification::Rejoin(identity) => {
                out.push(Output::Renewed(identity));
                self.go_on_probing();
                self.delivery.hurry(self.now);
                self.keeper.hurry(self.now);
            }
            // No generation is left above ours, and whoever holds us for dead does so until he forgets us. That is no
            // reason to stand still beside him.
            OwnedNotification::Defunct => {
                if self.swim.reuse_down_identity().is_ok() {
                    self.go_on_probing();
                }
            }
            // The seed keeper looks for itself who is missing.
            OwnedNotification::Active | OwnedNotification::Idle => {}
        }
    }

    fn up(&mut self, identity: Identity, out: &mut Vec<Output>) {
        let node_id = identity.node_id();
        let known = self.roster.get(node_id);
        let elsewhere = known.is_some_and(|entry| entry.is_alive() && entry.identity.addr() != identity.addr());
        if elsewhere || node_id == self.identity().node_id() {
            return self.counters.dropped(DropReason::DuplicateNode);
        }
        if known.is_some_and(|entry| entry.standing == Standing::Left) {
            // A boot that said goodbye never comes back: this is a late rumour.
            return;
        }
        let was_alive = known.is_some_and(|entry| entry.is_alive());
        let asks = self.identity().role() == Role::Balancer;
        let member = self.roster.set_alive(self.now, identity, asks).member();
        if !was_alive {
            out.push(Output::MemberUp(member));
            self.settled(node_id, out);
        }
        if identity.role() == Role::Balancer {
            self.delivery.track(self.now, node_id);
            self.track_balancer(node_id);
            // It may know of us only by rumour, or not at all: it takes our record once it knows us.
            self.announce(identity);
        } else {
            self.delivery.forget(node_id);
        }
    }

    fn renamed(&mut self, before: Identity, after: Identity, out: &mut Vec<Output>) {
        let is_known = self.roster.get(before.node_id()).is_some_and(|entry| entry.identity == before);
        if before.node_id() != after.node_id() && is_known {
            self.contacts.forget_path(before.addr());
            self.delivery.forget(before.node_id());
            self.untrack(before.node_id(), true);
            if let Some(member) = self.roster.depart(self.now, before.node_id(), Standing::Left) {
                out.push(Output::MemberReplaced(member));
            }
            self.roster.remove(before.node_id());
            self.settled(before.node_id(), out);
            self.awaited.remove(&before.node_id());
        }
        // foca reports the newcomer as up only if it held the predecessor for down, which may have said goodbye to us.
        if self.swim.iter_members().any(|member| *member.id() == after) {
            self.up(after, out);
        } else if before.node_id() == after.node_id() && is_known {
            // It came back and is down again, both at once for us.
            self.gone(before, Standing::Failed, out);
        }
    }

    /// A member failed or left.
    pub(super) fn gone(&mut self, identity: Identity, standing: Standing, out: &mut Vec<Output>) {
        let Some(member) = self.roster.depart(self.now, identity.node_id(), standing) else { return };
        self.delivery.forget(identity.node_id());
        self.untrack(identity.node_id(), standing == Standing::Left);
        self.contacts.forget_path(identity.addr());
        match standing {
            Standing::Left => {
                out.push(Output::MemberLeft(member));
                self.settled(identity.node_id(), out);
            }
            Standing::Alive | Standing::Failed => {
                out.push(Output::MemberDown(member));
                self.seeker.lost(self.now);
                let alive = self.roster.alive().count();
                let turn = self.cut_off.vanished(self.now, identity.node_id(), alive);
                out.extend(turn.map(told));
            }
        }
    }

    /// A member is there, or gone for certain.
    fn settled(&mut self, node_id: NodeId, out: &mut Vec<Output>) {
        let alive = self.roster.alive().count();
        out.extend(self.cut_off.settled(self.now, node_id, alive).map(told));
    }

    /// A member said something.
    pub(super) fn heard(&mut self) {
        // Only during a cut it matters how many there are, and this comes with every datagram.
        let alive = if self.cut_off.since().is_some() { self.roster.alive().count() } else { 0 };
        self.cut_off.heard(self.now, alive);
    }

    /// A cut ends with time.
    pub(super) fn end_stale_cut(&mut self, out: &mut Vec<Output>) {
        out.extend(self.cut_off.tick(self.now).map(told));
    }

    /// Asks the members for the records that we lack.
    pub(super) fn ask_for_records(&mut self, out: &mut Vec<Output>) {
        for identity in self.roster.asks_due(self.now) {
            let to = self.contacts.path(identity.addr());
            self.send(to, &Datagram::Ask(Ask { sender: *self.identity() }), out);
        }
    }

    /// Whether those whom we need are there and answer: a balancer for a node, anybody for a balancer.
    pub(super) fn is_content(&self) -> bool {
        let needs_balancer = self.identity().role() == Role::Node;
        self.swim.iter_members().any(|member| {
            member.state() == State::Alive
                && (!needs_balancer || member.id().role() == Role::Balancer)
                && self.roster.is_alive(member.id())
        })
    }

    /// Fits foca's settings to the size of the cluster.
    pub(super) fn retune(&mut self) {
        let size = self.swim.num_members() + 1;
        if size != self.tuned_for {
            self.tuned_for = size;
            let done = self.swim.set_config(tuning::settings(size));
            self.count(done);
        }
    }

    /// Replaces our identity while nobody knows us.
    pub(super) fn become_identity(&mut self, identity: Identity, out: &mut Vec<Output>) {
        if identity == *self.identity() {
            return;
        }
        if self.is_unknown() {
            // A fresh instance and not `change_identity`, which would spread the death of an address that may well be
            // another member's (every machine has a 127.0.0.1).
            self.timers.clear();
            self.suspicions.clear();
            self.swim = swim(identity, &mut self.rng);
            self.tuned_for = 1;
        } else {
            let done = self.swim.change_identity(identity, &mut self.effects);
            self.count(done);
            self.go_on_probing();
        }
        out.push(Output::Identified(identity));
    }

    /// foca stops its probes when it changes its identity, and begins again when somebody says something (2.0.0,
    /// `Foca::change_identity`). If those whom it knows are gone nobody does, and it would never find out. It looks around
    /// after any list of updates, even an empty one.
    fn go_on_probing(&mut self) {
        let done = self.swim.apply_many(std::iter::empty(), false, &mut self.effects);
        self.count(done);
    }

    /// Whether we have met nobody yet.
    pub(super) fn is_unknown(&self) -> bool {
        self.swim.iter_membership_state().len() == 0
    }

    pub(super) fn count(&mut self, done: Result<(), Error>) {
        if let Err(error) = done {
            self.counters.dropped(reason(error));
        }
    }

    /// Whether all members that the packet tells of have room; who departed gives his up to them. Counts exactly only when it
    /// might get tight.
    fn has_room(&mut self, sender: Identity, updates: &[u8]) -> bool {
        let known = self.swim.iter_membership_state().len();
        if known + 1 + updates.len() / SHORTEST_MEMBER <= MAX_MEMBERS {
            return true;
        }
        let told = members_in(updates).map(|member| member.id().addr()).chain([sender.addr()]).collect();
        self.fits(&told) || (self.forget_departed() && self.fits(&told))
    }

    fn fits(&self, told: &BTreeSet<SocketAddr>) -> bool {
        let known: BTreeSet<_> = self.swim.iter_membership_state().map(|member| member.id().addr()).collect();
        known.union(told).count() <= MAX_MEMBERS
    }

    /// Makes foca forget departed members early: a cluster that is rolled
    /// several times in an hour has more of them than members. Whether there were some.
    fn forget_departed(&mut self) -> bool {
        let before = self.swim.iter_membership_state().len();
        let removals = self.timers.take_removals(self.now + tuning::FORGOTTEN_EARLIER);
        for timer in removals {
            let done = self.swim.handle_timer(timer, &mut self.effects);
            self.count(done);
        }
        self.swim.iter_membership_state().len() < before
    }

    pub(super) fn check_membership(&self) {
        if !self.phase.is_known() {
            return;
        }
        assert!(self.swim.iter_membership_state().len() <= MAX_MEMBERS, "members are bounded");
        let others = self.swim.num_members();
        assert!(others == 0 || self.timers.has_probe(), "{others} members and no probe to come");
        if others > CHECKED_MEMBERS {
            return;
        }
        for entry in self.roster.alive() {
            let known = self.swim.iter_members().any(|member| *member.id() == entry.identity);
            assert!(known, "who is alive in the roster is so in foca: {:?}", entry.identity);
        }
    }
}

/// What the updates of a packet say of members, after their number.
fn members_in(updates: &[u8]) -> impl Iterator<Item = foca::Member<Identity>> {
    let mut rest = updates.get(2..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (member, after) = postcard::take_from_bytes(rest).ok()?;
        rest = after;
        Some(member)
    })
}

pub(super) fn told(turn: Turn) -> Output {
    match turn {
        Turn::Begins { vanished, of } => Output::CutOff { vanished, of },
        Turn::Ends { gone, lasted } => Output::CutOffEnds { gone, lasted },
    }
}

fn reason(error: Error) -> DropReason {
    match error {
        Error::DataTooBig => DropReason::Oversized,
        Error::DataFromOurselves => DropReason::FromOurselves,
        Error::MalformedPacket | Error::IndirectForOurselves | Error::Decode(_) | Error::CustomBroadcast(_) => {
            DropReason::Malformed
        }
        Error::Encode(_) => DropReason::Unencodable,
        Error::NotUndead
        | Error::SameIdentity
        | Error::NotConnected
        | Error::IncompleteProbeCycle
        | Error::InvalidConfig => DropReason::Internal,
    }
}
