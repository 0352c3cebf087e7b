//! The API beside a balancer's member, in one process.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::SeqCst},
    },
};

use tokio::sync::mpsc;

use super::*;
use crate::{
    cluster::{Config, Directory, Names},
    config::Host,
    model::NodeId,
    swim::{MemberState, Role},
};

const DEADLINE: Duration = Duration::from_secs(20);

/// What a balancer's pool is told, and what it says is in flight.
struct Pool {
    told: mpsc::UnboundedSender<ServiceRecord>,
    in_flight: Arc<AtomicU32>,
}

impl Directory for Pool {
    fn record(&mut self, record: &ServiceRecord, _address: SocketAddr) -> u32 {
        // A test that has seen enough does not listen any more.
        let _unheard = self.told.send(record.clone());
        self.in_flight.load(SeqCst)
    }

    fn up(&mut self, _node: NodeId) {}

    fn down(&mut self, _node: NodeId) {}

    fn left(&mut self, _node: NodeId) {}
}

struct Balancer {
    told: mpsc::UnboundedReceiver<ServiceRecord>,
    in_flight: Arc<AtomicU32>,
    seed: HostPort,
    member: Member,
    task: JoinHandle<()>,
}

impl Balancer {
    async fn start() -> Self {
        let socket = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let seed = HostPort { host: Host::Ip(Ipv4Addr::LOCALHOST.into()), port: socket.local_addr().unwrap().port() };
        let record = ServiceRecord::new("ha".parse().unwrap(), "balancer".parse().unwrap(), 0);
        let config = Config { role: Role::Balancer, advertise: None, seeds: Vec::new(), record, secret: None };
        let (tell, told) = mpsc::unbounded_channel();
        let in_flight = Arc::new(AtomicU32::new(0));
        let pool = Pool { told: tell, in_flight: Arc::clone(&in_flight) };
        let (member, run) = crate::cluster::join(socket, config, Names, pool).unwrap();
        Self { told, in_flight, seed, member, task: tokio::spawn(run) }
    }

    async fn until_told(&mut self, what: &str, wanted: impl Fn(&ServiceRecord) -> bool) {
        let waiting = async { while !wanted(&self.told.recv().await.unwrap()) {} };
        timeout(DEADLINE, waiting).await.unwrap_or_else(|_| panic!("never told: {what}"));
    }
}

fn builder(seed: HostPort) -> Builder {
    let gossip = ListenAddress { host: Some(Host::Ip(Ipv4Addr::LOCALHOST.into())), port: 0 };
    let port = NonZeroU16::new(3000).unwrap();
    Membership::builder(seed, port).name("web1".parse().unwrap()).gossip(gossip)
}

#[tokio::test]
async fn what_the_application_says_reaches_the_balancer() {
    let mut balancer = Balancer::start().await;
    let membership =
        builder(balancer.seed.clone()).weight("10".parse().unwrap()).tag("zone", "a").join().await.unwrap();
    let first = |record: &ServiceRecord| {
        (record.name.as_str(), record.service.as_str(), record.port) == ("web1", DEFAULT_POOL, 3000)
            && (record.weight.get(), record.state) == (10, NodeState::Starting)
            && record.tags["zone"] == "a"
    };
    balancer.until_told("that it is there", first).await;
    membership.ready().await.unwrap();
    balancer.until_told("ready", |record| record.state == NodeState::Ready).await;
    membership.set_weight("20".parse().unwrap()).await.unwrap();
    balancer.until_told("a weight", |record| record.weight.get() == 20 && record.state == NodeState::Ready).await;
    membership.set_tag("zone", "b").await.unwrap();
    balancer.until_told("a tag", |record| record.tags["zone"] == "b" && record.weight.get() == 20).await;
    membership.not_ready().await.unwrap();
    balancer.until_told("not ready", |record| record.state == NodeState::Starting).await;
    membership.leave().await;
    balancer.until_told("goodbye", |record| record.state == NodeState::Left).await;
    let stopped = async {
        while membership.ready().await != Err(UpdateError::Stopped(Stopped)) {
            tokio::task::yield_now().await;
        }
    };
    timeout(DEADLINE, stopped).await.unwrap();
}

#[tokio::test]
async fn a_drain_waits_for_what_is_in_flight_and_says_what_is_left_when_time_is_up() {
    let mut balancer = Balancer::start().await;
    let membership = builder(balancer.seed.clone()).join().await.unwrap();
    membership.ready().await.unwrap();
    balancer.until_told("ready", |record| record.state == NodeState::Ready).await;
    balancer.in_flight.store(3, SeqCst);
    let (outcome, ()) = tokio::join!(membership.drain(Duration::from_secs(2)), async {
        balancer.until_told("the drain", |record| record.state == NodeState::Draining).await;
        // Pushed twice: the first acknowledgement has been read by then, however slow the machine is.
        balancer.until_told("the drain again", |record| record.state == NodeState::Draining).await;
    });
    assert_eq!(outcome, Ok(DrainOutcome::TimedOut { unacknowledged: 0, in_flight: 3 }));
    balancer.in_flight.store(0, SeqCst);
    let outcome = membership.drain(DEADLINE).await;
    assert!(matches!(outcome, Ok(DrainOutcome::Drained { .. })), "{outcome:?}");
    membership.ready().await.unwrap();
    balancer.until_told("ready again", |record| record.state == NodeState::Ready).await;
}

#[tokio::test]
async fn without_a_balancer_a_drain_ends_at_once_and_so_does_the_goodbye() {
    let nobody = HostPort { host: Host::Ip(Ipv4Addr::LOCALHOST.into()), port: 1 };
    let membership = builder(nobody).join().await.unwrap();
    let outcome = timeout(DEADLINE, membership.drain(Duration::MAX)).await.unwrap();
    assert!(matches!(outcome, Ok(DrainOutcome::Drained { .. })), "{outcome:?}");
    timeout(DEADLINE, membership.leave()).await.unwrap();
}

#[tokio::test]
async fn a_membership_that_is_dropped_is_silent_and_says_no_goodbye() {
    let mut balancer = Balancer::start().await;
    let membership = builder(balancer.seed.clone()).join().await.unwrap();
    membership.ready().await.unwrap();
    balancer.until_told("ready", |record| record.state == NodeState::Ready).await;
    drop(membership);
    let failed = async {
        let has_failed = |member: &swim::Member| member.name == "web1" && member.state == MemberState::Failed;
        while !balancer.member.members().await.unwrap().iter().any(has_failed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(DEADLINE, failed).await.unwrap();
    while let Ok(record) = balancer.told.try_recv() {
        assert_ne!(record.state, NodeState::Left);
    }
    balancer.task.abort();
}

#[tokio::test]
async fn what_cannot_be_told_changes_nothing() {
    let nobody = HostPort { host: Host::Ip(Ipv4Addr::LOCALHOST.into()), port: 1 };
    let membership = builder(nobody).join().await.unwrap();
    let long = membership.set_tag("k", "x".repeat(1000)).await;
    assert!(matches!(long, Err(UpdateError::Record(RecordError::Size(_)))), "{long:?}");
    membership.set_weight("2".parse().unwrap()).await.unwrap();
    let us = membership.members().await.unwrap().remove(0).record.unwrap();
    assert_eq!((us.weight.get(), us.tags.len()), (2, 0));
}

#[tokio::test]
async fn a_gossip_address_that_is_taken_is_told() {
    let balancer = Balancer::start().await;
    let taken = ListenAddress { host: Some(balancer.seed.host.clone()), port: balancer.seed.port };
    let refused = builder(balancer.seed.clone()).gossip(taken).join().await;
    assert!(matches!(refused, Err(JoinError::Bind(_))), "{refused:?}");
}

/// For runtimes with several threads: a future that is not `Send` would not compile.
#[tokio::test]
async fn its_futures_may_move_between_threads() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    let nobody = HostPort { host: Host::Ip(Ipv4Addr::LOCALHOST.into()), port: 1 };
    let membership = sendable(builder(nobody).join()).await.unwrap();
    sendable(membership.ready()).await.unwrap();
    sendable(membership.set_weight(Weight::DEFAULT)).await.unwrap();
    sendable(membership.drain(DEADLINE)).await.unwrap();
    sendable(membership.leave()).await;
}
