//! A virtual network: hosts, datagrams in flight, one clock.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Duration,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::{
    model::{ClusterSecret, NodeId, NodeState, PoolName, ServerName},
    swim::{Identity, Input, Node, NodeConfig, Output, Role, ServiceRecord},
};

const LATENCY: Duration = Duration::from_millis(1);

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) struct Host {
    pub(super) node: Node,
    started: Duration,
    pub(super) seeds: Vec<SocketAddr>,
    pub(super) in_flight: u32,
    /// Since when it stands still, as under SIGSTOP, and what the kernel keeps for it.
    paused: Option<Duration>,
    backlog: Vec<(SocketAddr, Vec<u8>)>,
    /// Latest record of each member, as the pool has it.
    pub(super) pool: BTreeMap<NodeId, (ServiceRecord, SocketAddr)>,
    /// What happened, with the time.
    pub(super) log: Vec<(Duration, Output)>,
}

impl Host {
    pub(super) fn saw(&self, what: impl Fn(&Output) -> bool) -> Option<Duration> {
        self.log.iter().find(|(_, output)| what(output)).map(|&(at, _)| at)
    }
}

/// Hosts by the address that they are bound to, datagrams by the time of their arrival.
#[derive(Default)]
pub(super) struct Net {
    pub(super) now: Duration,
    pub(super) boots: u64,
    /// Starts every host's chance.
    pub(super) seed: u64,
    pub(super) hosts: BTreeMap<SocketAddr, Host>,
    pub(super) wire: BTreeMap<(Duration, u64), (SocketAddr, SocketAddr, Vec<u8>)>,
    pub(super) sent: u64,
    /// Second addresses of hosts, which use them as source when they send to one.
    pub(super) aliases: BTreeMap<SocketAddr, SocketAddr>,
    pub(super) cut: BTreeSet<SocketAddr>,
    /// Percent of the datagrams that get lost.
    pub(super) loss: u32,
    pub(super) chance: Option<StdRng>,
    /// Every datagram that was sent.
    pub(super) trace: Vec<Vec<u8>>,
    /// Keys and name of the cluster, if its datagrams are sealed.
    pub(super) secret: Option<ClusterSecret>,
}

impl Net {
    pub(super) fn start(&mut self, role: Role, at: &str, seeds: &[&str]) -> NodeId {
        self.start_as(role, at, at, true, 1_700_000_000_000 + self.now.as_millis() as u64, seeds)
    }

    pub(super) fn start_as(
        &mut self,
        role: Role,
        at: &str,
        advertised: &str,
        given: bool,
        generation: u64,
        seeds: &[&str],
    ) -> NodeId {
        self.boots += 1;
        let node_id = NodeId(self.boots);
        let (name, service) = (format!("host{}", self.boots), "nodes");
        let mut record = ServiceRecord::new(ServerName::parse(&name).unwrap(), PoolName::parse(service).unwrap(), 3000);
        record.state = NodeState::Ready;
        let config = NodeConfig {
            identity: Identity::new(addr(advertised), generation, node_id, role).unwrap(),
            address_is_given: given,
            has_seeds: !seeds.is_empty(),
            record,
            secret: self.secret.clone(),
        };
        let node = Node::new(config, StdRng::seed_from_u64(self.seed * 1000 + self.boots));
        let seeds = seeds.iter().map(|seed| addr(seed)).collect();
        let host = Host {
            node,
            started: self.now,
            seeds,
            in_flight: 0,
            paused: None,
            backlog: Vec::new(),
            pool: BTreeMap::new(),
            log: Vec::new(),
        };
        self.hosts.insert(addr(at), host);
        node_id
    }

    pub(super) fn kill(&mut self, at: &str) {
        self.hosts.remove(&addr(at));
    }

    pub(super) fn host(&self, at: &str) -> &Host {
        &self.hosts[&addr(at)]
    }

    pub(super) fn give(&mut self, at: &str, input: Input<'_>) {
        self.input(addr(at), input);
    }

    pub(super) fn set_state(&mut self, at: &str, state: NodeState) {
        let record = ServiceRecord { state, ..self.host(at).node.record().clone() };
        self.give(at, Input::SetRecord(record));
    }

    fn input(&mut self, at: SocketAddr, input: Input<'_>) {
        let Some(host) = self.hosts.get_mut(&at) else { return };
        let mut out = Vec::new();
        host.node.handle(self.now - host.started, input, &mut out);
        for output in out {
            self.output(at, output);
        }
    }

    fn output(&mut self, at: SocketAddr, output: Output) {
        let now = self.now;
        let host = self.hosts.get_mut(&at).unwrap();
        match output.clone() {
            Output::Send { to, bytes } => {
                assert!(bytes.len() <= crate::swim::MAX_DATAGRAM);
                let target = self.aliases.get(&to).copied().unwrap_or(to);
                // The source belongs to the way: whoever is dialled by a loopback address sees one.
                let own_alias = self.aliases.iter().find(|(alias, own)| {
                    **own == at && alias.ip().is_loopback() == to.ip().is_loopback() && at.ip() != alias.ip()
                });
                let source = match own_alias {
                    Some((alias, _)) if to.ip().is_loopback() => *alias,
                    Some(_) | None => at,
                };
                self.trace.push(bytes.clone());
                let chance = self.chance.get_or_insert_with(|| StdRng::seed_from_u64(self.seed));
                let lost = chance.random_range(0..100) < self.loss;
                if !lost && !self.cut.contains(&at) && !self.cut.contains(&target) {
                    self.sent += 1;
                    self.wire.insert((now + LATENCY, self.sent), (target, source, bytes));
                }
            }
            Output::ResolveSeeds => {
                let seeds = host.seeds.clone();
                self.input(at, Input::SeedsResolved(seeds));
            }
            Output::FindAddress { toward } => {
                let ip = if toward.ip().is_loopback() { addr("127.0.0.1:1").ip() } else { at.ip() };
                self.input(at, Input::LocalAddress(Some(ip)));
            }
            Output::Record { record, address, role: _, news: _ } => {
                let (node_id, version, in_flight) = (record.node_id, record.version, host.in_flight);
                host.log.push((now, output));
                host.pool.insert(node_id, (record, address));
                self.input(at, Input::Applied { node_id, version, in_flight });
            }
            Output::MemberUp(_)
            | Output::MemberDown(_)
            | Output::MemberLeft(_)
            | Output::MemberReplaced(_)
            | Output::Renewed(_)
            | Output::Identified(_)
            | Output::AddressMismatch { .. }
            | Output::Refused { .. }
            | Output::Gone => host.log.push((now, output)),
        }
    }

    pub(super) fn pause(&mut self, at: &str) {
        self.hosts.get_mut(&addr(at)).unwrap().paused = Some(self.now);
    }

    /// Goes on as the driver does: a quarter of a second has passed, and the socket is emptied before any timer.
    pub(super) fn resume(&mut self, at: &str) {
        let at = addr(at);
        let host = self.hosts.get_mut(&at).unwrap();
        host.started += self.now - host.paused.take().unwrap() - ms(250);
        for (from, bytes) in std::mem::take(&mut host.backlog) {
            self.input(at, Input::Datagram { from, bytes: &bytes });
        }
    }

    /// Runs until the condition holds; how long it took.
    #[track_caller]
    pub(super) fn wait(&mut self, limit: Duration, what: &str, condition: impl Fn(&Self) -> bool) -> Duration {
        let start = self.now;
        while !condition(self) {
            assert!(self.now < start + limit, "{what} took longer than {limit:?}");
            self.step();
        }
        self.now - start
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.step();
        }
    }

    /// The next thing that happens, at most 10 ms ahead.
    fn step(&mut self) {
        let mut next = self.now + ms(10);
        if let Some(((at, _), _)) = self.wire.first_key_value() {
            next = next.min(*at);
        }
        for host in self.hosts.values().filter(|host| host.paused.is_none()) {
            next = next.min(host.node.next_deadline().map_or(next, |deadline| deadline + host.started));
        }
        self.now = self.now.max(next);
        while let Some(entry) = self.wire.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, from, bytes) = entry.remove();
            match self.hosts.get_mut(&to) {
                Some(host) if host.paused.is_some() => host.backlog.push((from, bytes)),
                Some(_) | None => self.input(to, Input::Datagram { from, bytes: &bytes }),
            }
        }
        let due = |host: &Host| {
            host.paused.is_none() && host.node.next_deadline().is_some_and(|at| at + host.started <= self.now)
        };
        let due: Vec<_> = self.hosts.iter().filter(|(_, host)| due(host)).map(|(at, _)| *at).collect();
        for at in due {
            self.input(at, Input::Tick);
        }
    }

    /// Whether the balancer has exactly these servers, all of them alive.
    pub(super) fn serves(&self, balancer: &str, nodes: &[NodeId]) -> bool {
        let host = self.host(balancer);
        let alive: Vec<_> = host.node.roster.alive().map(|entry| entry.identity.node_id()).collect();
        alive == nodes && nodes.iter().all(|node| host.pool.contains_key(node))
    }
}

pub(super) const B: &str = "10.0.0.1:7946";
pub(super) const N: [&str; 3] = ["10.0.0.11:7946", "10.0.0.12:7946", "10.0.0.13:7946"];

/// A balancer with three nodes, settled.
pub(super) fn cluster() -> (Net, NodeId, Vec<NodeId>) {
    cluster_of(0)
}

/// The same with another chance.
pub(super) fn cluster_of(seed: u64) -> (Net, NodeId, Vec<NodeId>) {
    let mut net = Net { seed, ..Net::default() };
    let balancer = net.start(Role::Balancer, B, &[]);
    let nodes: Vec<_> = N.iter().map(|at| net.start(Role::Node, at, &[B])).collect();
    net.wait(ms(500), "joining", |net| net.serves(B, &nodes));
    net.run(ms(3000));
    (net, balancer, nodes)
}
