//! The answers as their readers see them: on hand-made reports, and over a real socket.

mod exports;
mod server;

use std::{
    net::SocketAddr,
    time::{Duration, UNIX_EPOCH},
};

use super::report::{Backend, Check, Frontend, Process, Proxy, Report, Server, Traffic, Upstream};
use crate::model::{AdminState, CheckReport, CheckStatus, Health, NodeState, ServerState};

pub(super) const UP: ServerState = ServerState::Running(Health::Up { failed: 0, fall: 3 });

/// The stats page, a frontend and the pool `nodes` with these servers.
pub(super) fn report(servers: Vec<Server>) -> Report {
    let process = Process {
        pid: 42,
        hostname: "ha".to_owned(),
        version: "1.2.3",
        workers: 4,
        started: UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        uptime: Duration::from_secs(39),
        open_files: Some(4000),
        connections: 1,
        connections_total: 7,
        connection_rate: 2,
        requests_total: 9,
        bytes_out: 1234,
        dropped_logs: 0,
        panics: 0,
        shortages: 0,
    };
    let proxy = |name: &str, number| Proxy {
        name: name.to_owned(),
        number,
        tells_all: false,
        frontend: None,
        servers: Vec::new(),
        backend: None,
    };
    let backend = Backend { is_up: true, ..Backend::default() };
    let proxies = vec![
        Proxy { frontend: Some(Frontend::default()), backend: Some(backend.clone()), ..proxy("stats", 2) },
        Proxy { frontend: Some(Frontend::default()), ..proxy("localnodes", 3) },
        Proxy { servers, backend: Some(backend), ..proxy("nodes", 4) },
    ];
    Report { process, proxies }
}

/// A checked server of weight 1 whose last check passed.
pub(super) fn server(name: &str, state: ServerState) -> Server {
    let last = CheckReport {
        status: CheckStatus::L7Ok,
        code: Some(200),
        duration: Duration::from_millis(3),
        detail: String::new(),
    };
    Server {
        name: name.to_owned(),
        number: 1,
        traffic: Traffic::default(),
        upstream: Upstream { weight: 1, own_weight: 1, active: 1, downs: Some(0), ..Upstream::default() },
        state,
        operator: AdminState::Ready,
        node: NodeState::Ready,
        address: SocketAddr::from(([127, 0, 0, 1], 3000)),
        cookie: None,
        initial_weight: 1,
        operators_word: None,
        ejection: None,
        is_backup: false,
        idle_connections: 0,
        queue_limit: None,
        throttle: None,
        check: Some(Check { rise: 2, fall: 3, failures: 0, met: 0, last: Some(last) }),
    }
}
