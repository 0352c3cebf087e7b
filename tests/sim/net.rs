//! A virtual network: hosts with clocks of their own, datagrams in flight, weather, cuts.
//!
//! Everything that happens follows from the seed, which is printed; `LB_SIM_SEED` runs one seed alone. Shared by the
//! simulator's scenarios and by the tests of the node that need to see its inside, so that neither uses all of it.

#![allow(dead_code, clippy::wildcard_enum_match_arm, reason = "shared by two test programs, which look at few outputs")]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    time::Duration,
};

use lb::{
    model::{ClusterSecret, NodeId, NodeState, PoolName, ServerName},
    swim::{Identity, Input, MAX_DATAGRAM, Member, MemberState, Node, NodeConfig, Output, Role, ServiceRecord},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::host::{Clock, EPOCH, Host};

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// What happens to datagrams on their way. Shares are of 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) loss: f64,
    /// Least delay, and what chance adds to it at most.
    pub(crate) delay: Duration,
    pub(crate) jitter: Duration,
    /// Share of the datagrams that arrive twice.
    pub(crate) duplicate: f64,
    /// Share of the datagrams that are held up for up to 50 ms, so that later ones overtake them.
    pub(crate) reorder: f64,
}

impl Default for Weather {
    fn default() -> Self {
        Self { loss: 0.0, delay: ms(1), jitter: Duration::ZERO, duplicate: 0.0, reorder: 0.0 }
    }
}

impl Weather {
    pub(crate) fn losing(loss: f64) -> Self {
        Self { loss, jitter: ms(2), ..Self::default() }
    }
}

/// A running member that somebody declared gone.
#[derive(Clone, Debug)]
pub(crate) struct Mistake {
    pub(crate) at: Duration,
    pub(crate) observer: SocketAddr,
    pub(crate) victim: NodeId,
}

/// Hosts by the address that they are bound to, datagrams by the time of their arrival.
pub(crate) struct Net {
    pub(crate) now: Duration,
    /// Starts every host's chance, and the network's.
    pub(crate) seed: u64,
    pub(crate) boots: u64,
    pub(crate) hosts: BTreeMap<SocketAddr, Host>,
    pub(crate) weather: Weather,
    /// Hosts that nothing reaches and that reach nothing.
    pub(crate) cut: BTreeSet<SocketAddr>,
    /// Ways, from one to the other, that nothing passes.
    pub(crate) ways_cut: BTreeSet<(SocketAddr, SocketAddr)>,
    /// Second addresses of hosts, which use them as source when they send to one.
    pub(crate) aliases: BTreeMap<SocketAddr, SocketAddr>,
    /// Every datagram that was sent, unless the run is too long for that.
    pub(crate) trace: Vec<Vec<u8>>,
    pub(crate) is_traced: bool,
    /// Keys and name of the cluster, if its datagrams are sealed.
    pub(crate) secret: Option<ClusterSecret>,
    /// Of who sent what to whom, and when.
    pub(crate) digest: DefaultHasher,
    /// Running hosts that were declared down, and such that were taken for left or replaced.
    pub(crate) false_downs: Vec<Mistake>,
    pub(crate) false_removals: Vec<Mistake>,
    pub(crate) chance: Option<StdRng>,
    pub(crate) replay: Option<Replay>,
    pub(crate) number: u64,
    pub(crate) wire: BTreeMap<(Duration, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    pub(crate) wakes: BTreeSet<(Duration, SocketAddr)>,
}

impl Default for Net {
    fn default() -> Self {
        Self::new(0)
    }
}

/// Says how a failure can be repeated.
pub(crate) struct Replay(u64);

impl Replay {
    fn new(seed: u64) -> Self {
        println!("seed {seed}");
        Self(seed)
    }
}

impl Drop for Replay {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("failed; again with LB_SIM_SEED={}", self.0);
        }
    }
}

impl Net {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: Duration::ZERO,
            seed,
            boots: 0,
            hosts: BTreeMap::new(),
            weather: Weather::default(),
            cut: BTreeSet::new(),
            ways_cut: BTreeSet::new(),
            aliases: BTreeMap::new(),
            trace: Vec::new(),
            is_traced: true,
            secret: None,
            digest: DefaultHasher::new(),
            false_downs: Vec::new(),
            false_removals: Vec::new(),
            chance: None,
            replay: None,
            number: 0,
            wire: BTreeMap::new(),
            wakes: BTreeSet::new(),
        }
    }

    pub(crate) fn start(&mut self, role: Role, at: &str, seeds: &[&str]) -> NodeId {
        let name = format!("host{}", self.boots + 1);
        self.start_named(role, at, &name, seeds)
    }

    pub(crate) fn start_named(&mut self, role: Role, at: &str, name: &str, seeds: &[&str]) -> NodeId {
        self.start_host(role, at, at, name, true, self.wall_clock(), seeds)
    }

    pub(crate) fn start_as(
        &mut self,
        role: Role,
        at: &str,
        advertised: &str,
        given: bool,
        generation: u64,
        seeds: &[&str],
    ) -> NodeId {
        let name = format!("host{}", self.boots + 1);
        self.start_host(role, at, advertised, &name, given, generation, seeds)
    }

    #[allow(clippy::too_many_arguments, reason = "everything that a process is started with")]
    pub(crate) fn start_host(
        &mut self,
        role: Role,
        at: &str,
        advertised: &str,
        name: &str,
        address_is_given: bool,
        generation: u64,
        seeds: &[&str],
    ) -> NodeId {
        self.replay.get_or_insert_with(|| Replay::new(self.seed));
        self.boots += 1;
        let node_id = NodeId(self.boots);
        let (name, service) = (ServerName::parse(name).unwrap(), PoolName::parse("nodes").unwrap());
        let record = ServiceRecord { state: NodeState::Ready, ..ServiceRecord::new(name, service, 3000) };
        let config = NodeConfig {
            identity: Identity::new(addr(advertised), generation, node_id, role).unwrap(),
            address_is_given,
            has_seeds: !seeds.is_empty(),
            record,
            secret: self.secret.clone(),
        };
        let node = Node::new(config, StdRng::seed_from_u64(self.seed * 100_000 + self.boots));
        let host = Host::new(node, self.now, seeds.iter().map(|seed| addr(seed)).collect());
        self.hosts.insert(addr(at), host);
        self.plan(addr(at));
        node_id
    }

    /// Unix time in milliseconds.
    pub(crate) fn wall_clock(&self) -> u64 {
        EPOCH + self.now.as_millis() as u64
    }

    /// As by SIGKILL.
    pub(crate) fn kill(&mut self, at: &str) {
        self.hosts.remove(&addr(at));
    }

    pub(crate) fn host(&self, at: &str) -> &Host {
        &self.hosts[&addr(at)]
    }

    pub(crate) fn host_mut(&mut self, at: &str) -> &mut Host {
        self.hosts.get_mut(&addr(at)).unwrap()
    }

    /// The same input at another time, as from a person or the application.
    pub(crate) fn give(&mut self, at: &str, input: Input<'_>) {
        let at = addr(at);
        let Some(host) = self.hosts.get_mut(&at) else { return };
        host.clock.advance(self.now);
        self.input(at, input);
        self.plan(at);
    }

    pub(crate) fn set_state(&mut self, at: &str, state: NodeState) {
        let record = ServiceRecord { state, ..self.host(at).node.record().clone() };
        self.give(at, Input::SetRecord(record));
    }

    /// Stops the process as SIGSTOP does; the kernel goes on filling its socket.
    pub(crate) fn pause(&mut self, at: &str) {
        let now = self.now;
        let host = self.host_mut(at);
        host.clock.advance(now);
        host.paused = true;
    }

    pub(crate) fn resume(&mut self, at: &str) {
        let now = self.now;
        let host = self.host_mut(at);
        host.paused = false;
        host.clock.catch_up(now);
        self.turn(addr(at));
    }

    /// Cuts all ways between the two groups, or those from the first to the second only.
    pub(crate) fn part(&mut self, some: &[String], others: &[String], both_ways: bool) {
        for (from, to) in some.iter().flat_map(|from| others.iter().map(move |to| (addr(from), addr(to)))) {
            self.ways_cut.insert((from, to));
            if both_ways {
                self.ways_cut.insert((to, from));
            }
        }
    }

    pub(crate) fn heal(&mut self) {
        self.cut.clear();
        self.ways_cut.clear();
    }

    /// Runs until the condition holds; how long it took, to the millisecond.
    #[track_caller]
    pub(crate) fn wait(&mut self, limit: Duration, what: &str, condition: impl Fn(&Self) -> bool) -> Duration {
        self.wait_by(ms(1), limit, what, condition)
    }

    /// The same for conditions that are dear to look at.
    #[track_caller]
    pub(crate) fn wait_by(
        &mut self,
        pace: Duration,
        limit: Duration,
        what: &str,
        condition: impl Fn(&Self) -> bool,
    ) -> Duration {
        let start = self.now;
        while !condition(self) {
            assert!(self.now < start + limit, "{what} took longer than {limit:?}");
            self.run(pace);
        }
        self.now - start
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step(end - self.now);
        }
    }

    /// Everything that happens next at one moment, at most so far ahead.
    fn step(&mut self, most: Duration) {
        let arrival = self.wire.first_key_value().map(|((at, _), _)| *at);
        let wake = self.wakes.first().map(|(at, _)| *at);
        let next = arrival.into_iter().chain(wake).min().unwrap_or(self.now + most);
        self.now = next.clamp(self.now, self.now + most);
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, from, bytes) = entry.remove();
            let Some(host) = self.hosts.get_mut(&to) else { continue };
            host.arrived(from, bytes);
            self.turn(to);
        }
        while let Some(&(at, host)) = self.wakes.first().filter(|(at, _)| *at <= self.now) {
            self.wakes.remove(&(at, host));
            if self.hosts.get(&host).is_some_and(|host| host.wake == Some(at)) {
                self.turn(host);
            }
        }
    }

    /// One turn of the driver's loop: the clock, then all that the socket holds, then the timers.
    fn turn(&mut self, at: SocketAddr) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&at).filter(|host| !host.paused) else { return };
        host.clock.advance(now);
        host.node.set_wall_clock(ms(EPOCH) + now);
        for (from, bytes) in std::mem::take(&mut host.inbox) {
            self.input(at, Input::Datagram { from, bytes: &bytes });
        }
        let host = &self.hosts[&at];
        if host.node.next_deadline().is_some_and(|deadline| deadline <= host.clock.time) {
            self.input(at, Input::Tick);
        }
        self.plan(at);
    }

    /// The driver sleeps until the next deadline, to the millisecond as tokio does.
    fn plan(&mut self, at: SocketAddr) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&at).filter(|host| !host.paused) else { return };
        if let Some(wake) = host.wake.take() {
            self.wakes.remove(&(wake, at));
        }
        host.wake = host.node.next_deadline().map(|deadline| host.clock.when(deadline, now));
        self.wakes.extend(host.wake.map(|wake| (wake, at)));
    }

    fn input(&mut self, at: SocketAddr, input: Input<'_>) {
        let Some(host) = self.hosts.get_mut(&at) else { return };
        let mut out = Vec::new();
        host.node.handle(host.clock.time, input, &mut out);
        let mut todo = VecDeque::from(out);
        while let Some(output) = todo.pop_front() {
            if let Some(answer) = self.output(at, output) {
                let host = self.hosts.get_mut(&at).unwrap();
                let mut out = Vec::new();
                host.node.handle(host.clock.time, answer, &mut out);
                todo.extend(out);
            }
        }
    }

    fn output(&mut self, at: SocketAddr, output: Output) -> Option<Input<'static>> {
        let now = self.now;
        match &output {
            Output::MemberDown(member) => self.judge(at, member, |net| &mut net.false_downs),
            Output::MemberLeft(member) | Output::MemberReplaced(member) => {
                self.judge(at, member, |net| &mut net.false_removals);
            }
            _ => {}
        }
        let host = self.hosts.get_mut(&at).unwrap();
        match output {
            Output::Send { to, bytes } => self.send(at, to, bytes),
            Output::ResolveSeeds => return Some(Input::SeedsResolved(host.seeds.clone())),
            Output::FindAddress { toward } => {
                let ip = if toward.ip().is_loopback() { addr("127.0.0.1:1").ip() } else { at.ip() };
                return Some(Input::LocalAddress(Some(ip)));
            }
            Output::Record { record, address, .. } => {
                let (node_id, version, in_flight) = (record.node_id, record.version, host.in_flight);
                host.pool.insert(node_id, (record, address));
                return Some(Input::Applied { node_id, version, in_flight });
            }
            other => host.log.push((now, other)),
        }
        None
    }

    /// Notes it when a running process is taken for gone.
    fn judge(&mut self, observer: SocketAddr, member: &Member, list: impl Fn(&mut Self) -> &mut Vec<Mistake>) {
        let victim = member.node_id;
        let runs = |host: &&Host| host.node.record().node_id == victim;
        if self.hosts.values().find(runs).is_some_and(|host| !host.paused && !host.is_leaving()) {
            let at = self.now;
            list(self).push(Mistake { at, observer, victim });
        }
    }

    fn send(&mut self, at: SocketAddr, to: SocketAddr, bytes: Vec<u8>) {
        assert!(bytes.len() <= MAX_DATAGRAM);
        let target = self.aliases.get(&to).copied().unwrap_or(to);
        // The source belongs to the way: whoever is dialled by a loopback address sees one.
        let alias =
            self.aliases.iter().find(|(alias, own)| **own == at && to.ip().is_loopback() && alias.ip().is_loopback());
        let source = alias.map_or(at, |(alias, _)| *alias);
        (self.now, at, to, &bytes).hash(&mut self.digest);
        if self.is_traced {
            self.trace.push(bytes.clone());
        }
        let Weather { loss, duplicate, .. } = self.weather;
        if self.cut.contains(&at) || self.cut.contains(&target) || self.ways_cut.contains(&(at, target)) {
            return;
        }
        let copies = 1 + usize::from(self.strikes(duplicate));
        for _ in 0..copies {
            if !self.strikes(loss) {
                let arrival = self.now + self.delay();
                self.number += 1;
                self.wire.insert((arrival, self.number), (target, source, bytes.clone()));
            }
        }
    }

    fn delay(&mut self) -> Duration {
        let Weather { delay, jitter, reorder, .. } = self.weather;
        let held = if self.strikes(reorder) { ms(50) } else { Duration::ZERO };
        [jitter, held].into_iter().filter(|most| !most.is_zero()).fold(delay, |delay, most| {
            delay + Duration::from_nanos(self.chance().random_range(0..most.as_nanos() as u64))
        })
    }

    fn strikes(&mut self, share: f64) -> bool {
        share > 0.0 && self.chance().random_bool(share)
    }

    fn chance(&mut self) -> &mut StdRng {
        self.chance.get_or_insert_with(|| StdRng::seed_from_u64(self.seed))
    }

    /// Whether the balancer has exactly these servers, all of them alive.
    pub(crate) fn serves(&self, balancer: &str, nodes: &[NodeId]) -> bool {
        let host = self.host(balancer);
        host.others_alive() == nodes && nodes.iter().all(|node| host.pool.contains_key(node))
    }

    /// Whether everybody who runs sees exactly those who run, and every balancer has everybody's latest record.
    pub(crate) fn views_are_equal(&self) -> bool {
        let mut running: Vec<_> = self.hosts.values().filter(|host| !host.is_leaving()).collect();
        running.sort_by_key(|host| host.node.record().node_id);
        let everybody: Vec<_> = running.iter().map(|host| host.node.record().node_id).collect();
        running.iter().all(|host| {
            let own = host.node.record().node_id;
            let others: Vec<_> = everybody.iter().copied().filter(|id| *id != own).collect();
            let alive = host.others_alive();
            alive == others && (host.node.identity().role() == Role::Node || self.has_latest(host, &running))
        })
    }

    /// Whether every balancer sees everybody who runs and has his latest record, and every node knows all balancers.
    pub(crate) fn balancers_are_complete(&self) -> bool {
        let running: Vec<_> = self.hosts.values().collect();
        let is_balancer = |host: &&&Host| host.node.identity().role() == Role::Balancer;
        let balancers = running.iter().filter(is_balancer).count();
        running.iter().all(|host| match host.node.identity().role() {
            Role::Balancer => host.node.alive().count() == running.len() - 1 && self.has_latest(host, &running),
            Role::Node => host.node.drain_progress().len() == balancers && host.is_acknowledged(),
        })
    }

    fn has_latest(&self, balancer: &Host, running: &[&Host]) -> bool {
        running
            .iter()
            .map(|host| host.node.record())
            .filter(|record| record.node_id != balancer.node.record().node_id)
            .all(|record| balancer.pool.get(&record.node_id).is_some_and(|(known, _)| known.version == record.version))
    }

    /// Who runs, and what each holds of the others.
    pub(crate) fn describe(&self) -> String {
        let view = |host: &Host| {
            let members = host.node.members();
            members.iter().map(|member| format!("{}={} ", member.node_id.0, member.state)).collect::<String>()
        };
        self.hosts.iter().map(|(at, host)| format!("{at} {:?}: {}\n", host.node.identity(), view(host))).collect()
    }

    /// What was sent so far, by whom and when, as one number.
    pub(crate) fn digest(&self) -> u64 {
        self.digest.finish()
    }

    /// Who is alive for this host and runs elsewhere, by name.
    pub(crate) fn alive_names(&self, at: &str) -> Vec<String> {
        let members = self.host(at).node.members();
        members
            .into_iter()
            .skip(1)
            .filter(|member| member.state == MemberState::Alive)
            .map(|member| member.name)
            .collect()
    }

    /// Lets the host's clock run at another speed than time does.
    pub(crate) fn set_clock_rate(&mut self, at: &str, rate: f64) {
        let now = self.now;
        let host = self.host_mut(at);
        host.clock.advance(now);
        host.clock = Clock { rate, ..host.clock };
        self.plan(addr(at));
    }
}
