//! A worker's own view of the pools.
//!
//! Why a copy, when everybody may read the snapshot? A request counts its references to pool and server up and down several
//! times. In a snapshot that all workers share, all of them would write the same counts, and the processors would pass their
//! cache lines to and fro. What is not counted with each request stays shared.

use std::sync::Arc;

use arc_swap::{ArcSwap, Cache};

use super::{Registry, Snapshot, pool::Pool, server::Server};

/// A worker's own view of the pools.
#[derive(Debug)]
pub struct Reader {
    cache: Cache<SnapshotCell, Arc<Snapshot>>,
    /// What was copied last.
    seen: Arc<Snapshot>,
    own: Arc<Snapshot>,
}

impl Reader {
    pub(super) fn new(registry: &Arc<Registry>) -> Self {
        let none = Arc::new(Snapshot { version: 0, pools: Vec::new() });
        Self { cache: Cache::new(SnapshotCell(Arc::clone(registry))), seen: Arc::clone(&none), own: none }
    }

    /// The pools now.
    pub fn load(&mut self) -> &Arc<Snapshot> {
        let now = self.cache.load();
        if !Arc::ptr_eq(now, &self.seen) {
            self.own = Arc::new(copy(now, &self.seen, &self.own));
            self.seen = Arc::clone(now);
        }
        &self.own
    }
}

/// A copy of `now`; `own` is that of `seen`, and servers that have not changed since are taken from it.
fn copy(now: &Snapshot, seen: &Snapshot, own: &Snapshot) -> Snapshot {
    let pool = |pool: &Arc<Pool>| {
        let last = seen.pool(&pool.name).zip(own.pool(&pool.name));
        let server = |server: &Arc<Server>| {
            let unchanged = last.and_then(|(seen, own)| {
                let is_same = seen.by_id(server.id).is_some_and(|seen| Arc::ptr_eq(seen, server));
                own.by_id(server.id).filter(|_| is_same)
            });
            unchanged.map_or_else(|| Arc::new(Server::clone(server)), Arc::clone)
        };
        Arc::new(pool.with_servers(pool.servers.iter().map(server).collect()))
    };
    Snapshot { version: now.version, pools: now.pools.iter().map(pool).collect() }
}

/// Lets `arc_swap::Cache` reach the pointer inside of the registry.
#[derive(Debug)]
struct SnapshotCell(Arc<Registry>);

impl std::ops::Deref for SnapshotCell {
    type Target = ArcSwap<Snapshot>;

    fn deref(&self) -> &Self::Target {
        &self.0.snapshot
    }
}
