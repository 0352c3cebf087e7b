//! Finding the others, and our own address on the way.
//!
//! Why may our address still change? A socket bound to all addresses does not know by which one it is reached until
//! there is somebody to reach; the kernel knows, once the other end is given. So an address that nobody gave us stays a
//! guess until the first seed answers, and is settled before foca says it to anybody.

use std::{
    collections::BTreeSet,
    net::{IpAddr, SocketAddr},
};

use foca::Identity as _;
use rand::RngExt;

use super::{Entry, Identity, Node, Output, Phase, canonical};
use crate::swim::{
    DropReason,
    contact::Dialled,
    wire::{Datagram, Hello, Welcome},
};

/// Most addresses that are dialled at one time.
const MAX_DIALLED: usize = 32;
/// Failed members that are dialled at one time.
const LOST: usize = 3;

/// What waits for our address.
pub(super) enum Pending {
    /// To join the one who answered our hello.
    Join { identity: Identity, observed: SocketAddr },
    /// To answer a hello.
    Answer { to: SocketAddr, hello: Hello },
}

impl Node {
    /// Has the seeds' names looked up when it is time.
    pub(super) fn keep_seeds(&mut self, out: &mut Vec<Output>) {
        if self.has_seeds && self.keeper.is_due(self.now, &mut self.rng) {
            out.push(Output::ResolveSeeds);
        }
    }

    /// Contacts the seeds. While nobody is missing only those that are new to us: the others would just say that they are
    /// still there, which foca finds out for less.
    pub(super) fn dial_seeds(&mut self, mut addresses: Vec<SocketAddr>, out: &mut Vec<Output>) {
        for advertised in self.contacts.roundabout() {
            self.check_straight_way(advertised, out);
        }
        if self.is_content() {
            let known: BTreeSet<_> = self.roster.alive().map(|entry| entry.identity.addr()).collect();
            let paths: BTreeSet<_> = known.iter().filter_map(|advertised| self.contacts.detour(*advertised)).collect();
            let ours = self.identity().addr();
            addresses.retain(|address| {
                let address = canonical(*address);
                address != ours && !known.contains(&address) && !paths.contains(&address)
            });
        }
        self.dial(&addresses, out);
    }

    /// Contacts some of those who failed, whoever else is there: with balancers on both sides of a cut no node misses one,
    /// and foca asks the dead just now and then. None is ever restored as alive; it says itself that it is.
    pub(super) fn seek_the_lost(&mut self, out: &mut Vec<Output>) {
        if !self.seeker.is_due(self.now) {
            return;
        }
        self.roster.expire(self.now);
        let mut lost: Vec<_> = self.roster.failed().collect();
        let newest = lost.iter().map(|(_, since)| *since).max();
        self.seeker.sought(self.now, newest, &mut self.rng);
        let mut chosen = Vec::new();
        while chosen.len() < LOST && !lost.is_empty() {
            let position = self.rng.random_range(0..lost.len());
            chosen.push(lost.swap_remove(position).0);
        }
        self.dial(&chosen, out);
    }

    /// Asks who is there.
    pub(super) fn dial(&mut self, addresses: &[SocketAddr], out: &mut Vec<Output>) {
        if self.phase != Phase::Member {
            return;
        }
        for address in addresses.iter().take(MAX_DIALLED).map(|&address| canonical(address)) {
            self.greet(Dialled { address, is_check: false }, out);
        }
    }

    /// Asks a member that we reach by a way round whether it answers at the address that it advertises.
    pub(super) fn check_straight_way(&mut self, advertised: SocketAddr, out: &mut Vec<Output>) {
        self.greet(Dialled { address: advertised, is_check: true }, out);
    }

    fn greet(&mut self, dialled: Dialled, out: &mut Vec<Output>) {
        let nonce = self.rng.random();
        self.contacts.dialled(nonce, dialled);
        self.send(dialled.address, &Datagram::Hello(Hello { nonce, sender: *self.identity() }), out);
    }

    /// Somebody asks who we are.
    pub(super) fn greeted(&mut self, from: SocketAddr, hello: Hello, out: &mut Vec<Output>) -> Result<(), DropReason> {
        if self.phase != Phase::Member {
            return Err(DropReason::AfterLeave);
        }
        // A guess of 127.0.0.1 (a container without a default route) is useless to whoever comes from outside.
        let useless = self.identity().addr().ip().is_loopback() && !from.ip().is_loopback();
        if useless && self.address_is_open() {
            self.pending = Some(Pending::Answer { to: from, hello });
            out.push(Output::FindAddress { toward: from });
        } else {
            self.answer(from, &hello, out);
        }
        Ok(())
    }

    /// Our hello was answered.
    pub(super) fn welcomed(&mut self, welcome: Welcome, out: &mut Vec<Output>) -> Result<(), DropReason> {
        let Welcome { nonce, identity, observed, predecessor } = welcome;
        let Dialled { address: dialled, is_check } = self.contacts.answered(nonce).ok_or(DropReason::Unsolicited)?;
        if self.phase != Phase::Member || identity.node_id() == self.identity().node_id() {
            // One of the seeds is ourselves.
            return Ok(());
        }
        let advertised = identity.addr();
        self.contacts.belongs_to(dialled, advertised);
        if dialled != advertised {
            let is_alive = self.roster.get(identity.node_id()).is_some_and(Entry::is_alive);
            self.contacts.learn_detour(advertised, dialled, is_alive);
            if self.contacts.path(advertised) != advertised {
                self.check_straight_way(advertised, out);
            }
        } else if self.sealer.is_some() || canonical(observed).ip() == self.identity().addr().ip() {
            // Without a key it would not take what comes from there for ours.
            self.contacts.is_straight(advertised);
        }
        if let Some((generation, node_id)) = predecessor
            && node_id != self.identity().node_id()
            && generation >= self.identity().generation()
            && let Some(above) = self.identity().above(generation)
        {
            // Our clock is behind that of the boot before us: without this the cluster would hold us for its ghost.
            self.become_identity(above, out);
            self.delivery.hurry(self.now);
        }
        if is_check {
            return Ok(());
        }
        if self.address_is_open() {
            self.pending = Some(Pending::Join { identity, observed });
            out.push(Output::FindAddress { toward: dialled });
        } else {
            self.join(identity, observed, out);
        }
        Ok(())
    }

    /// The system says by which address we are reached from there.
    pub(super) fn located(&mut self, ip: Option<IpAddr>, out: &mut Vec<Output>) {
        if self.address_is_open()
            && let Some(Ok(identity)) = ip.map(|ip| self.identity().at(ip))
        {
            self.become_identity(identity, out);
        }
        match self.pending.take() {
            Some(Pending::Join { identity, observed }) => self.join(identity, observed, out),
            Some(Pending::Answer { to, hello }) => self.answer(to, &hello, out),
            None => {}
        }
    }

    fn address_is_open(&self) -> bool {
        !self.address_is_given && self.is_unknown()
    }

    fn join(&mut self, identity: Identity, observed: SocketAddr, out: &mut Vec<Output>) {
        let observed = canonical(observed);
        if observed.ip() != self.identity().addr().ip() {
            self.report_mismatch(self.identity().addr(), observed, true, out);
        }
        if !self.roster.is_alive(&identity) && identity.addr() != self.identity().addr() {
            self.announce(identity);
        }
    }

    fn answer(&mut self, to: SocketAddr, hello: &Hello, out: &mut Vec<Output>) {
        let &Hello { nonce, sender } = hello;
        // Behind NAT, or with a given address, the source of a hello is not where the dead are remembered.
        let others = self.swim.iter_membership_state().map(foca::Member::id).filter(|known| {
            known.node_id() != sender.node_id() && (known.addr() == to || known.addr() == sender.addr())
        });
        let predecessor = others.map(|known| (known.generation(), known.node_id())).max();
        let welcome = Welcome { nonce, identity: *self.identity(), observed: to, predecessor };
        self.send(to, &Datagram::Welcome(welcome), out);
    }
}
