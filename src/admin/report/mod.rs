//! All numbers of one moment, copied out of the registry in one pass.
//!
//! The shapes follow the rows that HAProxy's users know: a proxy has a frontend, or servers and a backend, or all of them.

mod collect;

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use super::view::Filter;
use crate::{
    model::{AdminState, CheckReport, Health, NodeState, ServerState},
    registry::TimeTotals,
};

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report {
    pub(super) process: Process,
    /// The stats page itself, the frontends, the pools.
    pub(super) proxies: Vec<Proxy>,
}

/// The process as a whole.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) hostname: String,
    pub(super) version: &'static str,
    pub(super) workers: usize,
    pub(super) started: SystemTime,
    pub(super) uptime: Duration,
    /// Most files that may be open at once (`ulimit -n`); `None` is no limit.
    pub(super) open_files: Option<u64>,
    /// Client connections now.
    pub(super) connections: u64,
    pub(super) connections_total: u64,
    /// New client connections in the last second.
    pub(super) connection_rate: u64,
    pub(super) requests_total: u64,
    /// Bytes sent to clients.
    pub(super) bytes_out: u64,
    pub(super) dropped_logs: u64,
    /// Bugs that ended a connection or a task.
    pub(super) panics: u64,
    /// File descriptors that the system refused.
    pub(super) shortages: u64,
}

impl Process {
    /// Most client connections at once: each may need another one to a server, and both are files.
    pub(super) fn max_connections(&self) -> Option<u64> {
        self.open_files.map(|files| files / 2)
    }
}

/// A named part of the balancer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proxy {
    pub(super) name: String,
    /// Column `iid`.
    pub(super) number: u32,
    /// Whether addresses, cookies and the algorithm are told: to operators over the runtime API, and not to whoever can open
    /// the page.
    pub(super) tells_all: bool,
    pub(super) frontend: Option<Frontend>,
    pub(super) servers: Vec<Server>,
    pub(super) backend: Option<Backend>,
}

impl Proxy {
    /// Its rows, in the order in which they are shown.
    pub(super) fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        let frontend = self.frontend.iter().map(Part::Frontend);
        let servers = self.servers.iter().map(Part::Server);
        let backend = self.backend.iter().map(Part::Backend);
        frontend.chain(servers).chain(backend).map(|part| Row { proxy: self, part })
    }
}

/// One row with the proxy that it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) part: Part<'a>,
}

/// What a row tells of.
#[derive(Debug, Clone, Copy)]
pub(super) enum Part<'a> {
    Frontend(&'a Frontend),
    Server(&'a Server),
    Backend(&'a Backend),
}

impl<'a> Row<'a> {
    pub(super) fn traffic(&self) -> &'a Traffic {
        match self.part {
            Part::Frontend(frontend) => &frontend.traffic,
            Part::Server(server) => &server.traffic,
            Part::Backend(backend) => &backend.traffic,
        }
    }

    /// Column `svname`.
    pub(super) fn service(&self) -> &'a str {
        match self.part {
            Part::Frontend(_) => "FRONTEND",
            Part::Server(server) => &server.name,
            Part::Backend(_) => "BACKEND",
        }
    }

    /// Column `status`.
    pub(super) fn status(&self) -> String {
        match self.part {
            Part::Frontend(_) => "OPEN".to_owned(),
            Part::Server(server) => server.state.to_string(),
            Part::Backend(backend) => backend.status(),
        }
    }
}

/// What every row has.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Traffic {
    /// Connections of a frontend; requests in flight of a server or backend.
    pub(super) sessions: u64,
    pub(super) sessions_most: u64,
    pub(super) sessions_limit: Option<u64>,
    pub(super) sessions_total: u64,
    /// New sessions in the last second.
    pub(super) rate: u64,
    pub(super) rate_most: u64,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) requests: u64,
    /// By class: 1xx to 5xx, others.
    pub(super) responses: [u64; 6],
    pub(super) internal_errors: u64,
    /// Tunnels now.
    pub(super) tunnels: u64,
}

/// Where clients come in.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Frontend {
    pub(super) traffic: Traffic,
    /// Requests in the last second.
    pub(super) request_rate: u64,
    pub(super) request_rate_most: u64,
    pub(super) request_errors: u64,
    /// Requests that were answered here and sent to no server.
    pub(super) intercepted: u64,
}

/// What servers and backends have in common.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Upstream {
    pub(super) queue: Queue,
    pub(super) connect_errors: u64,
    pub(super) response_errors: u64,
    pub(super) retries: u64,
    pub(super) redispatches: u64,
    pub(super) client_aborts: u64,
    pub(super) server_aborts: u64,
    /// Requests whose server was chosen by the algorithm.
    pub(super) balanced: u64,
    pub(super) connects: u64,
    pub(super) reuses: u64,
    /// Share of a server as it is now, which is less while it starts slowly; of a backend the sum over the servers that get
    /// new users.
    pub(super) weight: u64,
    /// The same as it was configured or announced.
    pub(super) own_weight: u64,
    /// Whether a server is an active one; of a backend how many of these get new users.
    pub(super) active: u64,
    /// The same for backups.
    pub(super) backup: u64,
    /// How often it went down; `None` when it is not checked.
    pub(super) downs: Option<u64>,
    /// Since its state changed.
    pub(super) unchanged: Duration,
    /// How long it was down in all; `None` when nothing could be down.
    pub(super) downtime: Option<Duration>,
    /// Since the last request ended; `None` when there was none.
    pub(super) idle: Option<Duration>,
    pub(super) times: TimeTotals,
}

/// Requests that wait: for one server, or for any of a backend.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Queue {
    pub(super) now: u64,
    pub(super) most: u64,
}

/// One server of a pool.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Server {
    pub(super) name: String,
    /// Column `sid`.
    pub(super) number: u32,
    pub(super) traffic: Traffic,
    pub(super) upstream: Upstream,
    pub(super) state: ServerState,
    /// What its operator wants, and what it says of itself: the stricter of both is its state.
    pub(super) operator: AdminState,
    pub(super) node: NodeState,
    pub(super) address: SocketAddr,
    /// What a cookie must say to name it; `None` without stickiness.
    pub(super) cookie: Option<String>,
    /// Its share before an operator changed it.
    pub(super) initial_weight: u64,
    /// What operators want of it, on which balancer they said so, and when.
    pub(super) operators_word: Option<String>,
    /// Why it is ejected, if it is.
    pub(super) ejection: Option<String>,
    pub(super) is_backup: bool,
    pub(super) idle_connections: u64,
    /// Requests that may wait in its pool; `None` when it is never full.
    pub(super) queue_limit: Option<u64>,
    /// What it gets of its share while it starts slowly, in percent.
    pub(super) throttle: Option<u32>,
    /// `None` when checks are off.
    pub(super) check: Option<Check>,
}

/// The checks of a server.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Check {
    pub(super) rise: u32,
    pub(super) fall: u32,
    /// Checks that failed while it was up.
    pub(super) failures: u64,
    /// Failures that requests met while it was up.
    pub(super) met: u64,
    pub(super) last: Option<CheckReport>,
}

impl Server {
    /// The checks, unless they are off or paused by maintenance.
    pub(super) fn running_check(&self) -> Option<&Check> {
        self.check.as_ref().filter(|_| self.health().is_some())
    }

    /// The last check that ended, unless checks are off or paused.
    pub(super) fn last_check(&self) -> Option<&CheckReport> {
        self.running_check()?.last.as_ref()
    }

    /// What the checks say of it; `None` in maintenance, where nobody asks them.
    pub(super) fn health(&self) -> Option<Health> {
        match self.state {
            ServerState::Maint => None,
            ServerState::Drain(health) | ServerState::Running(health) => Some(health),
        }
    }

    /// Column `check_health`: 0 is down, below `rise` is on the way up, `rise + fall - 1` is the best.
    pub(super) fn check_level(&self) -> Option<u32> {
        let Check { rise, .. } = self.running_check()?;
        match self.health()? {
            Health::Unchecked => None,
            Health::Initial => Some(0),
            Health::Down { passed, rise: _ } => Some(passed),
            Health::Up { failed, fall } | Health::Stopping { failed, fall } => {
                Some((rise + fall).saturating_sub(1 + failed))
            }
            // Only one that passes its checks is ejected.
            Health::Ejected => Some((rise + self.running_check()?.fall).saturating_sub(1)),
        }
    }

    /// Down with nothing that speaks for it: what the page's "Hide 'DOWN' servers" hides, with maintenance.
    fn is_plainly_down(&self) -> bool {
        match self.health() {
            None | Some(Health::Initial | Health::Ejected | Health::Down { passed: 0, .. }) => true,
            Some(Health::Unchecked | Health::Up { .. } | Health::Stopping { .. } | Health::Down { .. }) => false,
        }
    }

    fn is_up(&self) -> bool {
        self.health().is_some_and(Health::is_up)
    }
}

/// A pool as a whole.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Backend {
    pub(super) traffic: Traffic,
    pub(super) upstream: Upstream,
    pub(super) is_up: bool,
    /// Name of the cookie that keeps users on a server.
    pub(super) cookie: Option<String>,
    /// Whether servers are used that are down, because too few are up.
    pub(super) panics: bool,
    /// HAProxy's word for how its servers are chosen; `None` when it has none.
    pub(super) algorithm: Option<&'static str>,
    /// Servers that are up, of all; set when some of them are hidden, so that nobody takes what is left for the whole.
    pub(super) counts: Option<(usize, usize)>,
}

impl Backend {
    pub(super) fn status(&self) -> String {
        let word = if self.is_up { "UP" } else { "DOWN" };
        match self.counts {
            Some((up, all)) => format!("{word} ({up}/{all})"),
            None => word.to_owned(),
        }
    }
}

impl Report {
    /// The same for operators.
    pub(super) fn for_operators(mut self) -> Self {
        for proxy in &mut self.proxies {
            proxy.tells_all = true;
        }
        self
    }

    /// Leaves out what the filter hides.
    pub(super) fn narrow(&mut self, filter: &Filter) {
        let Filter { hide_down, hide_maint, scope } = filter;
        if let Some(scope) = scope {
            let scope = scope.to_ascii_lowercase();
            self.proxies.retain(|proxy| proxy.name.to_ascii_lowercase().contains(&scope));
        }
        if !hide_down && !hide_maint {
            return;
        }
        for Proxy { servers, backend, .. } in &mut self.proxies {
            let up = servers.iter().filter(|server| server.is_up()).count();
            if let Some(backend) = backend {
                backend.counts = Some((up, servers.len()));
            }
            servers.retain(|server| {
                let hidden =
                    (*hide_down && server.is_plainly_down()) || (*hide_maint && server.state == ServerState::Maint);
                !hidden
            });
        }
    }
}
