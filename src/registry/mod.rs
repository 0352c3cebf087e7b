//! The pools as they are now: the one place where traffic, checks, cluster and operators meet.
//!
//! Readers get an immutable [`Snapshot`] under one atomic pointer and never wait. Writers hand a [`Command`] to
//! [`Registry::apply`], one at a time; it returns once every later request sees the change, so that an acknowledgement sent
//! after it is true. Why not a lock around the pools: a worker would wait for an operator.
//!
//! What an operator says is signed with balancer and time as it is carried out, and handed to whoever follows
//! ([`Registry::follow`]): that is how the other balancers of a cluster hear of it, and theirs come in as commands.
//!
//! Counters live beside the snapshot and outlast it; each worker writes its own and whoever looks sums them up.

mod choice;
mod command;
mod cookies;
mod counters;
mod decided;
mod events;
mod feedback;
mod live;
mod operation;
mod panic;
mod place;
mod pool;
mod reader;
mod server;
mod shortage;
#[cfg(test)]
mod tests;
mod warm_up;
mod writer;

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use arc_swap::ArcSwap;

pub use command::{Command, MemberServer, ResolvedServer};
pub use counters::{
    Class, FrontendCounters, FrontendTotals, ServerCounters, ServerTotals, Slot, TimeTotals, Times, add, subtract,
};
pub use decided::{Signatures, Signed};
pub use feedback::{Judgement, Signals, Trouble};
pub use live::{CheckRecord, FrontendLive, Gauge, Occupied, PoolLive, PoolRecord, Rate, ServerLive};
pub use operation::{ForcedHealth, Operation};
pub use place::{Claim, Granted, Place, Waiting};
pub use pool::Pool;
pub use reader::Reader;
pub use server::{Origin, Server};
pub use shortage::{Shortage, Shortages};
pub use warm_up::WarmUp;

use crate::model::PoolName;

/// All pools at one moment.
#[derive(Debug)]
pub struct Snapshot {
    /// Counts the changes; a later snapshot has a larger one.
    pub version: u64,
    /// The pools, in the order of the configuration.
    pub pools: Vec<Arc<Pool>>,
}

impl Snapshot {
    /// The pool of that name.
    pub fn pool(&self, name: &PoolName) -> Option<&Arc<Pool>> {
        self.pools.iter().find(|pool| pool.name == *name)
    }
}

/// The pools and their one writer.
#[derive(Debug)]
pub struct Registry {
    snapshot: ArcSwap<Snapshot>,
    writer: Mutex<writer::Writer>,
    changed: tokio::sync::watch::Sender<u64>,
    frontends: Vec<Arc<FrontendLive>>,
    shortages: Shortages,
    signals: Signals,
    started: Instant,
}

impl Registry {
    /// An empty registry whose counters have a slot for each of `workers` worker threads. A frontend has a name and, if it
    /// is limited, how many client connections it serves at once.
    pub fn new(workers: usize, frontends: &[(PoolName, Option<NonZeroU32>)], now: Instant) -> Self {
        let live = |(name, maxconn): &(PoolName, _)| Arc::new(FrontendLive::new(name.clone(), *maxconn, workers));
        let frontends = frontends.iter().map(live).collect();
        Self {
            snapshot: ArcSwap::from_pointee(Snapshot { version: 0, pools: Vec::new() }),
            writer: Mutex::new(writer::Writer::new(workers, now)),
            changed: tokio::sync::watch::Sender::new(0),
            frontends,
            shortages: Shortages::default(),
            signals: Signals::default(),
            started: now,
        }
    }

    /// Changes the pools. When it returns, every request that has not chosen its server yet sees the change.
    pub fn apply(&self, now: Instant, command: Command) {
        // A panic of another writer is a bug that was reported; the writer's state is replaced as a whole, so it is sound.
        let mut writer = self.lock();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if let Some(snapshot) = writer.apply(now, unix, command) {
            let version = snapshot.version;
            // First: nobody must be sent by the old rules who was told of the new ones.
            for pool in &snapshot.pools {
                pool.live.follow(pool);
                for server in &pool.servers {
                    server.live.note_keeps_idle(server.keeps_idle_connections());
                }
            }
            self.snapshot.store(Arc::new(snapshot));
            self.changed.send_replace(version);
        }
        if std::mem::take(&mut writer.wants_checks) {
            self.signals.trouble.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, writer::Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the rates up to date and removes servers whose time is over; to be called once a second.
    pub fn tick(&self, now: Instant) {
        for frontend in &self.frontends {
            frontend.tick();
        }
        self.apply(now, Command::Tick);
    }

    /// The pools now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// A reader that costs one atomic load as long as nothing changes; one for each worker.
    pub fn reader(self: &Arc<Self>) -> Reader {
        Reader::new(self)
    }

    /// Tells of every change by its version.
    pub fn changes(&self) -> tokio::sync::watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The frontends, in the order of the configuration.
    pub fn frontends(&self) -> &[Arc<FrontendLive>] {
        &self.frontends
    }

    /// Client connections of all frontends.
    pub fn connections(&self) -> u32 {
        self.frontends.iter().map(|frontend| frontend.connections.now()).sum()
    }

    /// File descriptors that have run out.
    pub fn shortages(&self) -> &Shortages {
        &self.shortages
    }

    /// Wakes those who follow what traffic tells of servers.
    pub fn signals(&self) -> &Signals {
        &self.signals
    }

    /// When this process began to serve.
    pub fn started(&self) -> Instant {
        self.started
    }
}
