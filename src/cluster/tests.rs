//! Members on real sockets, on loopback.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    net::{SocketAddr, UdpSocket},
    rc::Rc,
    time::{Duration, Instant},
};

use tokio::task::LocalSet;

use super::*;
use crate::{
    model::{NodeId, NodeState, PoolName, ServerName},
    swim::{MemberState, Role, ServiceRecord},
};

/// A pool as a balancer has one.
#[derive(Clone, Default)]
struct Pool(Rc<RefCell<Inner>>);

#[derive(Default)]
struct Inner {
    servers: BTreeMap<NodeId, (ServiceRecord, SocketAddr)>,
    down: Vec<NodeId>,
    left: Vec<NodeId>,
    in_flight: u32,
}

impl Directory for Pool {
    fn record(&mut self, record: &ServiceRecord, address: SocketAddr) -> u32 {
        let mut inner = self.0.borrow_mut();
        inner.servers.insert(record.node_id, (record.clone(), address));
        inner.in_flight
    }

    fn up(&mut self, node: NodeId) {
        self.0.borrow_mut().down.retain(|down| *down != node);
    }

    fn down(&mut self, node: NodeId) {
        self.0.borrow_mut().down.push(node);
    }

    fn left(&mut self, node: NodeId) {
        let mut inner = self.0.borrow_mut();
        inner.servers.remove(&node);
        inner.left.push(node);
    }
}

impl Pool {
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.borrow().servers.values().map(|(record, _)| record.name.to_string()).collect();
        names.sort_unstable();
        names
    }
}

/// Knows one name, from some attempt on.
struct Names {
    name: &'static str,
    address: SocketAddr,
    failures: RefCell<u32>,
}

impl Resolve for Names {
    async fn resolve(&self, host: &str, _port: u16) -> std::io::Result<Vec<SocketAddr>> {
        let mut failures = self.failures.borrow_mut();
        if host != self.name || *failures > 0 {
            *failures = failures.saturating_sub(1);
            return Err(std::io::Error::other("no such name"));
        }
        Ok(vec![self.address])
    }
}

struct NoNames;

impl Resolve for NoNames {
    async fn resolve(&self, _host: &str, _port: u16) -> std::io::Result<Vec<SocketAddr>> {
        std::future::pending().await
    }
}

fn bind(address: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(address).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

fn config(role: Role, name: &str, seeds: &[SocketAddr]) -> Config {
    let (name, service) = (ServerName::parse(name).unwrap(), PoolName::parse("nodes").unwrap());
    let record = ServiceRecord { state: NodeState::Ready, ..ServiceRecord::new(name, service, 3000) };
    let seeds = seeds.iter().map(|seed| Seed { host: seed.ip().to_string(), port: seed.port() }).collect();
    Config { role, advertise: None, seeds, record, secret: None }
}

/// Starts a member as `app` would: on a task of its own.
fn start<D: Directory + 'static>(
    socket: UdpSocket,
    config: Config,
    resolver: impl Resolve + 'static,
    directory: D,
) -> (Member, tokio::task::JoinHandle<()>) {
    let (member, running) = join(socket, config, resolver, directory).unwrap();
    (member, tokio::task::spawn_local(running))
}

async fn node(name: &str, seed: SocketAddr) -> (Member, tokio::task::JoinHandle<()>) {
    start(bind("127.0.0.1:0").0, config(Role::Node, name, &[seed]), NoNames, NoDirectory)
}

/// Polls until the condition holds; how long it took.
async fn wait(what: &str, condition: impl AsyncFn() -> bool) -> Duration {
    let start = Instant::now();
    while !condition().await {
        assert!(start.elapsed() < Duration::from_secs(10), "{what} takes too long");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    println!("{what}: {:?}", start.elapsed());
    start.elapsed()
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

#[test]
fn nodes_join_a_balancer_drain_and_leave() {
    run(async {
        let (socket, balancer) = bind("127.0.0.1:0");
        let pool = Pool::default();
        let (at_balancer, _) = start(socket, config(Role::Balancer, "lb1", &[]), NoNames, pool.clone());
        let (first, ended) = node("web1", balancer).await;
        let (_second, _) = node("web2", balancer).await;
        wait("both are in the pool", async || pool.names() == ["web1", "web2"]).await;
        let addresses: Vec<_> = pool.0.borrow().servers.values().map(|(_, address)| *address).collect();
        assert_eq!(addresses, [SocketAddr::from(([127, 0, 0, 1], 3000)); 2]);

        pool.0.borrow_mut().in_flight = 1;
        first.set_state(NodeState::Draining).await.unwrap();
        let busy = async || first.drain_progress().await.unwrap().first().is_some_and(|now| now.in_flight == Some(1));
        wait("the balancer reports what is in flight", busy).await;
        pool.0.borrow_mut().in_flight = 0;
        let start = Instant::now();
        first.drained().await.unwrap();
        println!("drained: {:?}", start.elapsed());

        first.leave().await;
        ended.await.unwrap();
        assert_eq!(first.members().await, Err(Stopped));
        wait("it has left the pool", async || pool.names() == ["web2"]).await;
        let members = at_balancer.members().await.unwrap();
        let states: BTreeMap<_, _> = members.iter().map(|member| (&*member.name, member.state)).collect();
        let expected = [("lb1", MemberState::Alive), ("web1", MemberState::Left), ("web2", MemberState::Alive)];
        assert_eq!(states, BTreeMap::from(expected));
        assert!(pool.0.borrow().down.is_empty());
    });
}

#[test]
fn a_balancer_that_starts_after_its_nodes_and_is_killed_and_restarted_finds_them() {
    run(async {
        let (socket, balancer) = bind("127.0.0.1:0");
        drop(socket);
        let _nodes = (node("web1", balancer).await, node("web2", balancer).await);
        for _ in 0..2 {
            let (socket, _) = bind(&balancer.to_string());
            let pool = Pool::default();
            let (_member, running) = start(socket, config(Role::Balancer, "lb1", &[]), NoNames, pool.clone());
            let took = wait("the balancer finds both", async || pool.names() == ["web1", "web2"]).await;
            assert!(took < Duration::from_secs(5));
            running.abort();
            let _ = running.await;
        }
    });
}

#[test]
fn a_killed_node_is_reported_down() {
    run(async {
        let (socket, balancer) = bind("127.0.0.1:0");
        let pool = Pool::default();
        let (_member, _) = start(socket, config(Role::Balancer, "lb1", &[]), NoNames, pool.clone());
        let (_node, running) = node("web1", balancer).await;
        wait("it is in the pool", async || pool.names() == ["web1"]).await;
        running.abort();
        wait("it is down", async || pool.0.borrow().down.len() == 1).await;
        assert_eq!(pool.names(), ["web1"], "what follows from it is the pool's to decide");
    });
}

#[test]
fn a_name_that_does_not_exist_yet_is_tried_until_it_does_and_another_one_that_hangs_does_not_disturb() {
    run(async {
        let (socket, address) = bind("127.0.0.1:0");
        let pool = Pool::default();
        let (_member, _) = start(socket, config(Role::Balancer, "lb1", &[]), NoNames, pool.clone());
        let mut config = config(Role::Node, "web1", &[]);
        config.seeds = vec![Seed { host: "gone".into(), port: 1 }, Seed { host: "ha".into(), port: address.port() }];
        let names = Names { name: "ha", address, failures: RefCell::new(3) };
        let (_node, _) = start(bind("127.0.0.1:0").0, config, names, NoDirectory);
        wait("it is in the pool", async || pool.names() == ["web1"]).await;
    });
}

#[test]
fn sockets_bound_to_all_addresses_of_both_families_find_each_other() {
    run(async {
        let (socket, bound) = bind("[::]:0");
        let pool = Pool::default();
        let (at_balancer, _) = start(socket, config(Role::Balancer, "lb1", &[]), NoNames, pool.clone());
        let seed = SocketAddr::from(([127, 0, 0, 1], bound.port()));
        let (_node, _) = start(bind("[::]:0").0, config(Role::Node, "web1", &[seed]), NoNames, NoDirectory);
        wait("it is in the pool", async || pool.names() == ["web1"]).await;
        let server = pool.0.borrow().servers.values().next().unwrap().1;
        assert_eq!(server, SocketAddr::from(([127, 0, 0, 1], 3000)), "by the way on which it was dialled");
        let totals = at_balancer.view().await.unwrap().totals;
        assert_eq!((totals.send_errors, totals.protocol.dropped), (0, BTreeMap::new()));
    });
}

/// A name whose addresses change, as an orchestrator changes them.
#[derive(Clone, Default)]
struct Changing(Rc<RefCell<Vec<SocketAddr>>>);

impl Resolve for Changing {
    async fn resolve(&self, _host: &str, _port: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(self.0.borrow().clone())
    }
}

fn by_name(role: Role, name: &str) -> Config {
    Config { seeds: vec![Seed { host: "ha".into(), port: 7946 }], ..config(role, name, &[]) }
}

/// An address where nobody answers.
async fn nobody(at: &str) -> SocketAddr {
    bind(at).1
}

#[test]
fn every_address_of_a_name_is_tried_and_one_seed_that_is_gone_for_good_is_none_the_matter() {
    run(async {
        let (socket, balancer) = bind("127.0.0.1:0");
        let pool = Pool::default();
        let (_balancer, _) = start(socket, config(Role::Balancer, "lb1", &[]), NoNames, pool.clone());
        let names = Changing::default();
        *names.0.borrow_mut() = vec![nobody("[::1]:0").await, nobody("127.0.0.1:0").await, balancer];
        let (_first, _) = start(bind("[::]:0").0, by_name(Role::Node, "web1"), names, NoDirectory);
        let seeds = [nobody("127.0.0.1:0").await, balancer];
        let (_second, _) = start(bind("127.0.0.1:0").0, config(Role::Node, "web2", &seeds), NoNames, NoDirectory);
        wait("both are in the pool", async || pool.names() == ["web1", "web2"]).await;
    });
}

#[test]
fn a_balancer_that_comes_back_at_another_address_of_its_name_is_found() {
    run(async {
        let names = Changing::default();
        let (_node, _) = start(bind("127.0.0.1:0").0, by_name(Role::Node, "web1"), names.clone(), NoDirectory);
        for _ in 0..2 {
            let (socket, address) = bind("127.0.0.1:0");
            let pool = Pool::default();
            let (_balancer, running) = start(socket, config(Role::Balancer, "lb1", &[]), NoNames, pool.clone());
            *names.0.borrow_mut() = vec![address];
            wait("it is in the pool", async || pool.names() == ["web1"]).await;
            running.abort();
            let _ = running.await;
        }
    });
}

#[test]
fn a_member_is_the_same_by_ipv4_and_by_ipv6() {
    run(async {
        let (socket, bound) = bind("[::]:0");
        let pool = Pool::default();
        let (at_balancer, _) = start(socket, config(Role::Balancer, "lb1", &[]), NoNames, pool.clone());
        let port = bound.port();
        let names = Changing::default();
        *names.0.borrow_mut() = vec![
            SocketAddr::from((std::net::Ipv4Addr::LOCALHOST.to_ipv6_mapped(), port)),
            SocketAddr::from(([127, 0, 0, 1], port)),
        ];
        let (at_node, _) = start(bind("[::]:0").0, by_name(Role::Node, "web1"), names, NoDirectory);
        let by_six = config(Role::Node, "web2", &[SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, port))]);
        let (_other, _) = start(bind("[::1]:0").0, by_six, NoNames, NoDirectory);
        wait("both are in the pool", async || pool.names() == ["web1", "web2"]).await;
        let servers: Vec<_> =
            pool.0.borrow().servers.values().map(|(record, at)| (record.name.to_string(), at.ip())).collect();
        assert!(servers.contains(&("web1".into(), std::net::Ipv4Addr::LOCALHOST.into())), "{servers:?}");
        assert!(servers.contains(&("web2".into(), std::net::Ipv6Addr::LOCALHOST.into())), "{servers:?}");
        let balancers = at_node.members().await.unwrap().into_iter().filter(|member| member.role == Role::Balancer);
        assert_eq!(balancers.count(), 1, "by whatever name it was dialled");
        assert_eq!(at_balancer.members().await.unwrap().len(), 3);
    });
}

#[test]
fn whoever_watches_is_told_who_joins_changes_and_goes_in_order() {
    use crate::model::MemberEvent::{Failed, Join, Leave, Update};
    run(async {
        let (socket, balancer) = bind("127.0.0.1:0");
        let (at_balancer, _) = start(socket, config(Role::Balancer, "lb1", &[]), NoNames, Pool::default());
        let mut events = at_balancer.watch().await.unwrap();
        let mut next = async |name: &str| {
            let event = tokio::time::timeout(Duration::from_secs(20), events.recv()).await.unwrap().unwrap();
            assert_eq!((&*event.member.name, &*event.ourselves.name), (name, "lb1"));
            (event.kind, event.member.tags.get("state").cloned().unwrap_or_default())
        };
        assert_eq!(next("lb1").await, (Join, String::new()));
        let (first, _) = node("web1", balancer).await;
        assert_eq!(next("web1").await, (Join, "ready".into()));
        first.set_state(NodeState::Draining).await.unwrap();
        assert_eq!(next("web1").await, (Update, "draining".into()));
        first.leave().await;
        assert_eq!(next("web1").await.0, Leave);
        let (_second, running) = node("web2", balancer).await;
        assert_eq!(next("web2").await.0, Join);
        running.abort();
        assert_eq!(next("web2").await.0, Failed);
    });
}
