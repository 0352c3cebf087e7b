//! The member itself: one struct, inputs in, outputs out.
//!
//! Why is foca wrapped and not used by the driver? Nearly every rule here depends on two of its parts at once (a
//! renewed balancer needs our record again, a hello decides what foca may announce), and each must hold in the simulator
//! as it does in production. The parts: `membership` speaks with foca, `suspecting` with those who do not answer it,
//! `records` delivers records, `joining` finds the others, `telling` speaks with the other balancers, `leaving` says
//! goodbye, `sealing` keeps strangers out.

mod joining;
mod leaving;
mod membership;
mod records;
mod sealing;
mod suspecting;
mod telling;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use foca::{AccumulatingRuntime, Foca, NoCustomBroadcast, PostcardCodec, ProbeNumber};
use rand::{SeedableRng, rngs::StdRng};

pub use self::sealing::Sealing;
use self::{joining::Pending, leaving::Phase, records::Awaited, telling::Allowance};
use super::{
    Census, Counters, DrainProgress, DropReason, Identity, Member, MemberState, Role, ServiceRecord, canonical,
    contact::Contacts,
    cut_off::CutOff,
    decisions::Decisions,
    push::Delivery,
    roster::{Entry, Roster},
    scheduler::Scheduler,
    seal::Sealer,
    seeds::{SeedKeeper, Seeker},
    suspicion::Suspicions,
    tuning,
    wire::{self, Datagram},
};
use crate::model::{ClusterSecret, KeyId, Keyring, NodeId, NodeState, Told};

/// What a member is started with.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// Who we are.
    pub identity: Identity,
    /// Whether the identity's address was given, or its socket is bound to it: then it never changes. Otherwise it is a
    /// guess, which is corrected before anybody knows us.
    pub address_is_given: bool,
    /// Whether there are seeds to resolve.
    pub has_seeds: bool,
    /// Our record; its `node_id` and `version` are set here.
    pub record: ServiceRecord,
    /// Keys and name of the cluster; `None`: datagrams are not sealed.
    pub secret: Option<ClusterSecret>,
}

/// What happens to a member.
#[derive(Debug)]
pub enum Input<'a> {
    /// A datagram arrived.
    Datagram {
        /// Its source.
        from: SocketAddr,
        /// Its bytes.
        bytes: &'a [u8],
    },
    /// Time has passed; due when [`Node::next_deadline`] says so.
    Tick,
    /// Answer to [`Output::ResolveSeeds`]; any number of times, once for each name if the driver likes.
    SeedsResolved(Vec<SocketAddr>),
    /// Answer to [`Output::FindAddress`]: our address on the way there, if the system knows one.
    LocalAddress(Option<IpAddr>),
    /// Our record has changed; its `node_id` and `version` are set here. One that fails [`ServiceRecord::check`] is
    /// dropped and counted.
    SetRecord(ServiceRecord),
    /// Answer to [`Output::Record`]: the pool follows that version.
    Applied {
        /// The record's owner.
        node_id: NodeId,
        /// The record's version.
        version: u64,
        /// Requests that we still have on that node.
        in_flight: u32,
    },
    /// An operator decided something here, or a server went up or down: the other balancers are told. Of balancers alone.
    Tell(Told),
    /// These keys instead of those at hand. Nothing happens when there are none at hand: a cluster is sealed, or it is not.
    SetKeys(Keyring),
    /// Say goodbye; [`Output::Gone`] follows within half a second.
    Leave,
}

/// What a member wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram.
    Send {
        /// Its destination.
        to: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Resolve the seeds' names anew and answer with [`Input::SeedsResolved`].
    ResolveSeeds,
    /// Find which local address leads there and answer with [`Input::LocalAddress`].
    FindAddress {
        /// The other end.
        toward: SocketAddr,
    },
    /// A record arrived: bring the pool in line with it and answer with [`Input::Applied`]. Also comes when nothing has
    /// changed, to ask what is in flight.
    Record {
        /// The record.
        record: ServiceRecord,
        /// Where the application answers.
        address: SocketAddr,
        /// What its owner is for.
        role: Role,
        /// How it differs from the last one.
        news: RecordNews,
    },
    /// A member is there, again or for the first time.
    MemberUp(Member),
    /// A member does not answer any more.
    MemberDown(Member),
    /// Nobody answers any more, or more than half of the members vanished within 5 s, and within half a second for each
    /// member of a larger cluster: it is likelier that we are cut off. What was said of these members, and what
    /// [`Output::MemberDown`] says from now on, is no reason to drop a server: the pool is kept and its checks are trusted,
    /// until [`Output::CutOffEnds`].
    CutOff {
        /// Those who vanished; nobody yet when nobody at all answers.
        vanished: Vec<NodeId>,
        /// Members before, ourselves included.
        of: usize,
    },
    /// At least half of the members have been there again for some seconds in which no other one vanished, or all of them
    /// are, or ten minutes have passed: what is said of members counts again.
    CutOffEnds {
        /// Those who are still gone.
        gone: Vec<NodeId>,
        /// How long it was.
        lasted: Duration,
    },
    /// A member said goodbye.
    MemberLeft(Member),
    /// A new boot has taken over a member's address: the old one is gone for certain.
    MemberReplaced(Member),
    /// The cluster believed us dead; we go on under a higher generation.
    Renewed(Identity),
    /// We took another address for ours before anybody knew us, or went above a predecessor.
    Identified(Identity),
    /// A member sees us at another address than we advertise: its records may be refused, its datagrams get lost.
    AddressMismatch {
        /// What is advertised.
        advertised: SocketAddr,
        /// What was seen.
        observed: SocketAddr,
        /// Whose it is: ours or that of another one, which was refused for it.
        ours: bool,
    },
    /// Another balancer tells something of servers: a decision that holds from now on, or a hint to check one.
    Told(Told),
    /// Somebody's datagrams are dropped for another key, a missing one or another cluster's name
    /// ([`DropReason::is_about_keys`]), for want of room ([`DropReason::MembersFull`]), or its decisions for their time
    /// ([`DropReason::Future`]). Told at most once a minute for each reason and host, and of 16 hosts.
    Refused {
        /// Its source.
        from: SocketAddr,
        /// Why.
        reason: DropReason,
        /// The key that it is sealed with, as it says.
        key: Option<KeyId>,
    },
    /// The goodbye is said; nothing follows.
    Gone,
}

/// How a record differs from the last one of its owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordNews {
    /// There was none.
    First,
    /// It says something else.
    Changed,
    /// It says the same.
    Same,
}

type Swim = Foca<Identity, PostcardCodec, StdRng, NoCustomBroadcast>;

/// A member of the cluster. Time is what has passed since it started and never runs backwards.
pub struct Node {
    now: Duration,
    rng: StdRng,
    swim: Swim,
    effects: AccumulatingRuntime<Identity>,
    timers: Scheduler,
    /// Who was pinged last, and the ping's number.
    probe: Option<(Identity, ProbeNumber)>,
    suspicions: Suspicions,
    cut_off: CutOff,
    /// Size of the cluster that foca's settings are made for.
    tuned_for: usize,
    roster: Roster,
    delivery: Delivery,
    record: ServiceRecord,
    awaited: BTreeMap<NodeId, Awaited>,
    decisions: Decisions,
    hints_sent: Allowance,
    hints_heard: Allowance,
    keeper: SeedKeeper,
    seeker: Seeker,
    contacts: Contacts,
    has_seeds: bool,
    address_is_given: bool,
    pending: Option<Pending>,
    /// Mismatches of addresses that were reported, and when: one line each in an hour is enough.
    reported: VecDeque<(Duration, SocketAddr, SocketAddr)>,
    /// When we were last told that we are down, and came back.
    renewed: Option<Duration>,
    phase: Phase,
    counters: Counters,
    sealer: Option<Sealer>,
    /// When a refusal was told, by reason and host.
    refused: BTreeMap<(DropReason, IpAddr), Duration>,
    /// Unix time in milliseconds, if somebody told it.
    unix_ms: Option<u64>,
    challenges: sealing::Challenges,
}

impl Node {
    /// A member that knows nobody yet. The first deadline is at once.
    pub fn new(config: NodeConfig, mut rng: StdRng) -> Self {
        let NodeConfig { identity, address_is_given, has_seeds, record, secret } = config;
        let record = ServiceRecord { node_id: identity.node_id(), version: 1, ..record };
        let mut delivery = Delivery::default();
        delivery.changed(Duration::ZERO, record.version, record.state == NodeState::Draining);
        Self {
            now: Duration::ZERO,
            swim: membership::swim(identity, &mut rng),
            sealer: secret.map(|secret| Sealer::new(secret, &mut rng)),
            rng,
            effects: AccumulatingRuntime::new(),
            timers: Scheduler::default(),
            probe: None,
            suspicions: Suspicions::default(),
            cut_off: CutOff::default(),
            tuned_for: 1,
            roster: Roster::default(),
            delivery,
            record,
            awaited: BTreeMap::new(),
            decisions: Decisions::default(),
            hints_sent: Allowance::default(),
            hints_heard: Allowance::default(),
            keeper: SeedKeeper::new(),
            seeker: Seeker::default(),
            contacts: Contacts::default(),
            has_seeds,
            address_is_given,
            pending: None,
            reported: VecDeque::new(),
            renewed: None,
            phase: Phase::Member,
            counters: Counters::default(),
            refused: BTreeMap::new(),
            unix_ms: None,
            challenges: sealing::Challenges::default(),
        }
    }

    /// Takes in what happened at the time `now` and appends what is to be done, in order.
    pub fn handle(&mut self, now: Duration, input: Input<'_>, out: &mut Vec<Output>) {
        self.now = self.now.max(now);
        match input {
            Input::Datagram { from, bytes } => self.unseal(canonical(from), bytes, out),
            Input::Tick => self.tick(out),
            Input::SeedsResolved(addresses) => self.dial_seeds(addresses, out),
            Input::LocalAddress(ip) => self.located(ip, out),
            Input::SetRecord(record) => self.set_record(record, out),
            Input::Applied { node_id, version, in_flight } => self.applied(node_id, version, in_flight, out),
            Input::Tell(told) => self.tell(told, out),
            Input::SetKeys(keys) => self.set_keys(keys),
            Input::Leave => self.leave(out),
        }
        self.settle(out);
        if cfg!(debug_assertions) {
            self.check_invariants();
        }
    }

    /// What the wall clock shows, since the Unix epoch. Decisions of more than a day later are dropped; without it, those of
    /// the end of time.
    pub fn set_wall_clock(&mut self, unix: Duration) {
        self.unix_ms = Some(u64::try_from(unix.as_millis()).unwrap_or(u64::MAX));
    }

    /// When [`Input::Tick`] is due next; `None` once we are gone.
    pub fn next_deadline(&self) -> Option<Duration> {
        let member = self.phase == Phase::Member;
        [
            self.timers.next_deadline(self.swim.updates_backlog() > 0),
            self.phase.is_known().then(|| self.delivery.next_deadline()).flatten(),
            member.then(|| self.roster.next_ask()).flatten(),
            member.then(|| self.decisions.next_deadline()).flatten(),
            member.then(|| self.suspicions.next_deadline()).flatten(),
            (member && self.has_seeds).then(|| self.keeper.next_deadline()),
            member.then(|| self.seeker.next_deadline()).flatten(),
            member.then(|| self.cut_off.next_deadline()).flatten(),
            self.phase.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Who we are.
    pub fn identity(&self) -> &Identity {
        self.swim.identity()
    }

    /// What we say of ourselves.
    pub fn record(&self) -> &ServiceRecord {
        &self.record
    }

    /// Everybody we know of, ourselves first, then by boot. Who failed or left stays listed for an hour.
    pub fn members(&self) -> Vec<Member> {
        let suspects: Vec<_> = self.suspects().collect();
        let others = self.roster.iter().map(|entry| {
            let suspect = entry.is_alive() && suspects.contains(&entry.identity);
            let member = entry.member();
            if suspect { Member { state: MemberState::Suspect, ..member } } else { member }
        });
        std::iter::once(self.ourselves()).chain(others).collect()
    }

    /// Another member that is listed; a suspect counts as alive.
    pub fn member(&self, node_id: NodeId) -> Option<Member> {
        self.roster.get(node_id).map(Entry::member)
    }

    /// We as a member.
    pub fn ourselves(&self) -> Member {
        Member {
            node_id: self.identity().node_id(),
            name: self.record.name.to_string(),
            address: self.identity().address(),
            role: self.identity().role(),
            state: if self.phase == Phase::Member { MemberState::Alive } else { MemberState::Left },
            since: Duration::ZERO,
            record: Some(self.record.clone()),
        }
    }

    /// The others that answer, by boot.
    pub fn alive(&self) -> impl Iterator<Item = NodeId> {
        self.roster.alive().map(|entry| entry.identity.node_id())
    }

    /// What each live balancer has acknowledged of our record.
    pub fn drain_progress(&self) -> Vec<DrainProgress> {
        self.delivery.progress()
    }

    /// Whether every live balancer follows the current version of our record and said twice in a row that it has no
    /// request left here. True also when there is no balancer. Means something while the record says `Draining`.
    pub fn is_drained(&self) -> bool {
        self.delivery.is_drained()
    }

    /// Whether we think that it is us who are cut off: between [`Output::CutOff`] and [`Output::CutOffEnds`].
    pub fn is_cut_off(&self) -> bool {
        self.cut_off.since().is_some()
    }

    /// Totals since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Who is there now. Looks at every member.
    pub fn census(&self) -> Census {
        let mut census = Census {
            unacknowledged: self.delivery.waiting_since().map(|since| self.now.saturating_sub(since)),
            decisions: self.decisions.len(),
            cut_off: self.cut_off.since().map(|since| self.now.saturating_sub(since)),
            ..Census::default()
        };
        for Member { role, state, .. } in self.members() {
            *census.members.entry((role, state)).or_default() += 1;
        }
        for entry in self.roster.alive().filter(|entry| entry.record.is_some()) {
            census.records += 1;
            census.oldest_record = census.oldest_record.max(Some(self.now.saturating_sub(entry.heard)));
        }
        census
    }

    fn receive(&mut self, from: SocketAddr, datagram: Result<Datagram<'_>, DropReason>, out: &mut Vec<Output>) {
        let datagram = match datagram {
            Ok(datagram) => datagram,
            Err(reason) => return self.counters.dropped(reason),
        };
        self.counters.received(datagram.kind());
        // Anybody may say hello, and a seed may be ourselves.
        let is_of_member = !matches!(datagram, Datagram::Hello(_) | Datagram::Welcome(_));
        if !self.phase.is_known() {
            return self.counters.dropped(DropReason::AfterLeave);
        }
        let outcome = match datagram {
            Datagram::Acknowledgement(acknowledgement) => self.acknowledged(&acknowledgement),
            Datagram::Swim(packet) => self.receive_swim(from, packet, out),
            Datagram::Push(push) => self.pushed(from, push, out),
            Datagram::Ask(ask) => self.asked(from, &ask, out),
            Datagram::Hello(hello) => self.greeted(from, hello, out),
            Datagram::Welcome(welcome) => self.welcomed(welcome, out),
            Datagram::Decided(decided) => self.decided(from, decided, out),
            Datagram::Agreed(agreed) => self.agreed(from, &agreed, out),
            Datagram::Hinted(hinted) => self.hinted(from, hinted, out),
        };
        match outcome {
            Ok(()) if is_of_member => self.heard(),
            Ok(()) => {}
            Err(reason) => {
                self.counters.dropped(reason);
                if reason == DropReason::MembersFull {
                    self.complain(from, reason, None, out);
                }
            }
        }
    }

    fn tick(&mut self, out: &mut Vec<Output>) {
        self.run_timers(out);
        if self.phase == Phase::Member {
            self.ask_suspects(out);
            self.keep_seeds(out);
            self.seek_the_lost(out);
            self.end_stale_cut(out);
            self.ask_for_records(out);
        }
        if self.phase.is_known() {
            self.push_record(out);
        }
    }

    /// Carries what foca decided into the roster and out, and draws the conclusions.
    fn settle(&mut self, out: &mut Vec<Output>) {
        self.flush(out);
        // Without seeds there are only the dead to look for, who have seeds of their own: no hurry.
        let content = !self.has_seeds || self.is_content();
        self.keeper.set_content(self.now, content, &mut self.rng);
        self.retune();
        // What the flush made due (a record for a balancer that just appeared) need not wait for the next tick.
        if self.phase.is_known() {
            self.push_record(out);
        }
        if self.phase == Phase::Member {
            self.push_decisions(out);
        }
        self.go_on_leaving(out);
    }

    fn send(&mut self, to: SocketAddr, datagram: &Datagram<'_>, out: &mut Vec<Output>) {
        match self.encode(to, datagram) {
            Ok(bytes) => {
                self.counters.sent(datagram.kind());
                self.transmit(to, bytes, out);
            }
            Err(reason) => self.counters.dropped(reason),
        }
    }

    /// Panics when the parts contradict each other. Called after each input in debug builds.
    fn check_invariants(&self) {
        self.roster.check_invariants();
        self.check_membership();
        let id = self.identity().node_id();
        assert_eq!(self.record.node_id, id, "our record is ours");
        assert!(self.roster.get(id).is_none(), "we are not among the others");
        let balancers = self.roster.alive().filter(|entry| entry.identity.role() == Role::Balancer);
        let tracked = balancers.filter(|entry| self.delivery.tracks(entry.identity.node_id())).count();
        let alive = self.roster.alive().filter(|entry| entry.identity.role() == Role::Balancer).count();
        assert_eq!((tracked, self.delivery.len()), (alive, alive), "exactly the live balancers get our record");
    }
}

/// An independent stream of chance for foca.
fn fork(rng: &mut StdRng) -> StdRng {
    StdRng::from_rng(rng)
}
