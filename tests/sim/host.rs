//! A process on the virtual network: a node behind a driver, and a pool that follows.

#![allow(dead_code, reason = "shared by two test programs")]

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use lb::{
    model::{NodeId, NodeState},
    swim::{Node, Output, ServiceRecord},
};

/// When every run begins, in Unix milliseconds.
pub(crate) const EPOCH: u64 = 1_700_000_000_000;
/// What the core's clock advances by at most over a pause, as in `cluster::clock`: by the longest sleep, which is a probe
/// period where there are others, and by what a sleep may be late.
const LONGEST_SLEEP: Duration = Duration::from_millis(550);
/// Datagrams that the kernel keeps for a process that does not read: a socket's default buffer, each datagram charged with
/// its bookkeeping. What comes later is lost.
const BACKLOG: usize = 256;

pub(crate) struct Host {
    pub(crate) node: Node,
    pub(crate) seeds: Vec<SocketAddr>,
    pub(crate) in_flight: u32,
    pub(crate) clock: Clock,
    /// Stands still, as under SIGSTOP.
    pub(crate) paused: bool,
    pub(crate) inbox: Vec<(SocketAddr, Vec<u8>)>,
    pub(crate) wake: Option<Duration>,
    /// Latest record of each member, as the pool has it.
    pub(crate) pool: BTreeMap<NodeId, (ServiceRecord, SocketAddr)>,
    /// What happened, with the time. Records are in the pool.
    pub(crate) log: Vec<(Duration, Output)>,
}

impl Host {
    pub(crate) fn new(node: Node, now: Duration, seeds: Vec<SocketAddr>) -> Self {
        Self {
            node,
            seeds,
            in_flight: 0,
            clock: Clock { time: Duration::ZERO, turned: now, rate: 1.0 },
            paused: false,
            inbox: Vec::new(),
            wake: None,
            pool: BTreeMap::new(),
            log: Vec::new(),
        }
    }

    /// When it said that for the first time.
    pub(crate) fn saw(&self, what: impl Fn(&Output) -> bool) -> Option<Duration> {
        self.log.iter().find(|(_, output)| what(output)).map(|&(at, _)| at)
    }

    pub(crate) fn arrived(&mut self, from: SocketAddr, bytes: Vec<u8>) {
        if self.inbox.len() < BACKLOG {
            self.inbox.push((from, bytes));
        }
    }

    /// Whether it says goodbye, or has.
    pub(crate) fn is_leaving(&self) -> bool {
        self.node.record().state == NodeState::Left
    }

    /// The others who answer, by boot.
    pub(crate) fn others_alive(&self) -> Vec<NodeId> {
        self.node.alive().collect()
    }

    /// Whether all balancers that it knows follow its latest record.
    pub(crate) fn is_acknowledged(&self) -> bool {
        let version = Some(self.node.record().version);
        self.node.drain_progress().iter().all(|progress| progress.acknowledged == version)
    }
}

/// The core's time on a host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    pub(crate) time: Duration,
    /// When it was set last.
    pub(crate) turned: Duration,
    /// Its seconds in a second.
    pub(crate) rate: f64,
}

impl Clock {
    /// The driver plans its sleeps, so that the clock of a process that runs keeps up.
    pub(crate) fn advance(&mut self, now: Duration) {
        self.time += (now - self.turned).mul_f64(self.rate);
        self.turned = now;
    }

    /// The process stood still: to the driver that is one sleep.
    pub(crate) fn catch_up(&mut self, now: Duration) {
        self.time += (now - self.turned).min(LONGEST_SLEEP).mul_f64(self.rate);
        self.turned = now;
    }

    /// When the clock will show that time, to the next millisecond.
    pub(crate) fn when(&self, time: Duration, now: Duration) -> Duration {
        let left = time.saturating_sub(self.time).div_f64(self.rate);
        let at = (self.turned + left).max(now + Duration::from_nanos(1));
        Duration::from_millis((at.as_nanos().div_ceil(1_000_000)) as u64)
    }
}
