//! What operators and their tools see: the stats page, its CSV, `/metrics`, `/healthz`, the members of the cluster and the
//! runtime API.
//!
//! Every answer is made in two steps: `report` copies all numbers out of the registry at one moment, then pure functions
//! write that report as CSV, metrics or HTML. Why not read the counters while writing: two cells of one page would tell of
//! two moments, and no test could say what a page must look like.
//!
//! `columns` is the one table of what a row has; CSV and metrics are both read off it, so they can't disagree.

mod actions;
mod columns;
mod csv;
mod format;
mod http;
mod members;
mod metrics;
mod page;
mod report;
mod runtime;
#[cfg(test)]
mod tests;
mod view;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

pub use http::serve;
pub use members::{MemberRole, MemberRow, MemberStatus, MembersSource};
pub use metrics::{Gathered, GatheredSource, Sample};
pub use runtime::{RuntimeListener, commands, serve_runtime};

use crate::{
    config,
    registry::{FrontendLive, Registry},
};

/// Most connections to the admin server at once; others wait in the listener's queue.
const MAX_CONNECTIONS: usize = 256;

/// What the answers are made of.
pub struct Context {
    /// The pools and counters. Its frontend named [`config::STATS_PROXY`], if it has one, counts the admin server's own
    /// connections and requests.
    pub registry: Arc<Registry>,
    /// Name of this machine or container.
    pub hostname: String,
    /// Worker threads that carry traffic.
    pub workers: usize,
    /// When this process began to serve, by the wall clock.
    pub started: SystemTime,
    /// How often the page loads itself anew; less than a second is never.
    pub refresh: Duration,
    /// Whether whoever can open the page may change the state of servers there.
    pub admin: bool,
    /// Asks for the members of the cluster; `None` when this balancer is in none.
    pub members: Option<MembersSource>,
    /// Asks for the numbers of the cluster; `None` when this balancer is in none.
    pub figures: Option<GatheredSource>,
    /// What a person should know before anything else, such as that the gossip is not sealed; shown above the tables.
    pub notes: Vec<String>,
    /// Lines of the access log that were lost because its reader was too slow.
    pub log_drops: Arc<AtomicU64>,
}

impl Context {
    /// The frontend that counts the admin server's own traffic.
    fn frontend(&self) -> Option<&Arc<FrontendLive>> {
        self.registry.frontends().iter().find(|frontend| is_stats(frontend))
    }

    fn dropped_logs(&self) -> u64 {
        self.log_drops.load(Ordering::Relaxed)
    }
}

fn is_stats(frontend: &FrontendLive) -> bool {
    frontend.name.as_str() == config::STATS_PROXY
}
