//! Registry to report.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant, SystemTime},
};

use super::{Backend, Check, Frontend, Process, Proxy, Queue, Report, Server, Traffic, Upstream};
use crate::{
    admin::{Context, MAX_CONNECTIONS, is_stats},
    model::Candidacy,
    queue::Depth,
    registry::{
        self, CheckRecord, FrontendLive, FrontendTotals, Gauge, Pool, PoolRecord, Rate, ServerTotals, TimeTotals,
    },
    telemetry::panics,
};

/// Column `iid` of the first proxy; HAProxy keeps 1 for itself.
const FIRST_NUMBER: u32 = 2;

impl Report {
    /// Copies everything at the moment `now`.
    pub(in crate::admin) fn collect(context: &Context, now: Instant) -> Self {
        let uptime = now.saturating_duration_since(context.registry.started());
        let process = process(context, uptime);
        let snapshot = context.registry.snapshot();
        let (own, others): (Vec<_>, Vec<_>) =
            context.registry.frontends().iter().partition(|frontend| is_stats(frontend));
        let own = own.into_iter().map(|live| stats(live, uptime));
        let others = others.into_iter().map(|live| listener(live, process.max_connections()));
        let pools = snapshot.pools.iter().map(|pool| backend(pool, process.max_connections(), now, uptime));
        let mut proxies: Vec<_> = own.chain(others).chain(pools).collect();
        for (proxy, number) in proxies.iter_mut().zip(FIRST_NUMBER..) {
            proxy.number = number;
        }
        Self { process, proxies }
    }
}

fn process(context: &Context, uptime: Duration) -> Process {
    let mut process = Process {
        pid: std::process::id(),
        hostname: context.hostname.clone(),
        version: env!("CARGO_PKG_VERSION"),
        workers: context.workers,
        started: context.started,
        uptime,
        open_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
        connections: 0,
        connections_total: 0,
        connection_rate: 0,
        requests_total: 0,
        bytes_out: 0,
        dropped_logs: context.dropped_logs(),
        panics: panics(),
        shortages: context.registry.shortages().count(),
    };
    for frontend in context.registry.frontends() {
        let totals = frontend.totals();
        process.connections += u64::from(frontend.connections.now());
        process.connections_total += totals.connections;
        process.connection_rate += frontend.connection_rate.last();
        process.requests_total += totals.requests;
        process.bytes_out += totals.bytes_out;
    }
    process
}

/// `limit` is the process's, for one that has none of its own.
fn listener(live: &FrontendLive, limit: Option<u64>) -> Proxy {
    let own = live.maxconn.map(|own| u64::from(own.get()));
    let frontend = Some(frontend(live, own.or(limit)));
    let name = live.name.to_string();
    Proxy { name, number: 0, tells_all: false, frontend, servers: Vec::new(), backend: None }
}

/// The stats page has a backend too, as in HAProxy: the page itself, which is up whenever it can be read.
fn stats(live: &FrontendLive, uptime: Duration) -> Proxy {
    let mut frontend = frontend(live, Some(MAX_CONNECTIONS as u64));
    frontend.intercepted = frontend.traffic.requests;
    let Traffic { sessions_limit, bytes_in, bytes_out, .. } = frontend.traffic;
    let backend = Backend {
        traffic: Traffic { sessions_limit, bytes_in, bytes_out, ..Traffic::default() },
        upstream: Upstream { unchanged: uptime, downs: Some(0), ..Upstream::default() },
        is_up: true,
        ..Backend::default()
    };
    Proxy {
        name: live.name.to_string(),
        number: 0,
        tells_all: false,
        frontend: Some(frontend),
        servers: Vec::new(),
        backend: Some(backend),
    }
}

fn frontend(live: &FrontendLive, limit: Option<u64>) -> Frontend {
    let FrontendTotals {
        connections,
        requests,
        bytes_in,
        bytes_out,
        request_errors,
        internal_errors,
        tunnels,
        responses,
    } = live.totals();
    let traffic = Traffic {
        sessions_limit: limit,
        sessions_total: connections,
        bytes_in,
        bytes_out,
        requests,
        responses,
        internal_errors,
        tunnels,
        ..gauges(&live.connections, &live.connection_rate)
    };
    Frontend {
        traffic,
        request_rate: live.request_rate.last(),
        request_rate_most: live.request_rate.most(),
        request_errors,
        intercepted: 0,
    }
}

/// `limit` is the process's: a pool has none of its own, and dashboards draw its load against one.
fn backend(pool: &Pool, limit: Option<u64>, now: Instant, uptime: Duration) -> Proxy {
    let live = &pool.live;
    let PoolRecord { changed, downs, down_since, downtime, served: _ } = live.record();
    let (active, backup) = pool.well();
    let backups_serve = pool.usable_active() == 0;
    let gets_users =
        |server: &&Arc<registry::Server>| server.candidacy() == Candidacy::Everybody && server.backup == backups_serve;
    let weigh = |weight: fn(&registry::Server) -> u64| {
        pool.servers.iter().filter(gets_users).map(|server| weight(server)).sum()
    };
    let (traffic, upstream) =
        upstream(live.totals(), live.times(), gauges(&live.in_flight, &live.request_rate), uptime);
    let backend = Backend {
        traffic: Traffic { sessions_limit: limit, ..traffic },
        upstream: Upstream {
            weight: weigh(|server| server.effective_weight().into()),
            own_weight: weigh(|server| server.weight.get().into()),
            active: active as u64,
            backup: backup as u64,
            downs: Some(downs),
            queue: queue(live.queued()),
            unchanged: now.saturating_duration_since(changed),
            downtime: (!pool.servers.is_empty()).then(|| downtime_so_far(downtime, down_since, now)),
            ..upstream
        },
        is_up: pool.is_up(),
        cookie: pool.policy.cookie.as_ref().map(|cookie| cookie.name.clone()),
        panics: pool.panics(),
        algorithm: Some(pool.policy.balance.word()),
        counts: None,
    };
    Proxy {
        name: pool.name.to_string(),
        number: 0,
        tells_all: false,
        frontend: None,
        servers: pool.servers.iter().map(|each| server(each, pool, now, uptime)).collect(),
        backend: Some(backend),
    }
}

fn server(server: &registry::Server, pool: &Pool, now: Instant, uptime: Duration) -> Server {
    let live = &server.live;
    let CheckRecord { last, failures, met, downs, down_since, downtime } = live.record();
    let check =
        pool.policy.check.as_ref().map(|policy| Check { rise: policy.rise, fall: policy.fall, failures, met, last });
    let is_checked = check.is_some();
    let (traffic, upstream) =
        upstream(live.totals(), live.times(), gauges(&live.in_flight, &live.request_rate), uptime);
    let limit = pool.limit(server).map(|limit| u64::from(limit.get()));
    Server {
        name: server.name.to_string(),
        number: server.number,
        traffic: Traffic { sessions_limit: limit, ..traffic },
        upstream: Upstream {
            weight: server.effective_weight().into(),
            own_weight: server.weight.get().into(),
            active: u64::from(!server.backup),
            backup: u64::from(server.backup),
            downs: is_checked.then_some(downs),
            queue: queue(pool.live.queued_for(server.id)),
            unchanged: now.saturating_duration_since(server.changed),
            downtime: is_checked.then(|| downtime_so_far(downtime, down_since, now)),
            ..upstream
        },
        state: server.state(),
        operator: server.operator,
        node: server.node,
        address: server.address,
        cookie: pool.policy.cookie.is_some().then(|| server.cookie.to_string()),
        initial_weight: u64::from(server.initial_weight.get()),
        operators_word: server.operators_word(SystemTime::now()),
        ejection: server.ejection(),
        is_backup: server.backup,
        queue_limit: limit.map(|_| pool.policy.queue_length as u64),
        throttle: server.warm_up.throttle(),
        idle_connections: u64::from(live.idle.load(Ordering::Relaxed)),
        check,
    }
}

/// What is counted alike for servers and pools; a session of either is a request.
fn upstream(totals: ServerTotals, times: TimeTotals, gauges: Traffic, uptime: Duration) -> (Traffic, Upstream) {
    let ServerTotals {
        requests,
        balanced,
        bytes_in,
        bytes_out,
        connects,
        reuses,
        connect_errors,
        response_errors,
        retries,
        redispatches,
        client_aborts,
        server_aborts,
        tunnels,
        responses,
    } = totals;
    let traffic = Traffic { sessions_total: requests, bytes_in, bytes_out, requests, responses, tunnels, ..gauges };
    let upstream = Upstream {
        connect_errors,
        response_errors,
        retries,
        redispatches,
        client_aborts,
        server_aborts,
        balanced,
        connects,
        reuses,
        idle: times.last.map(|last| uptime.saturating_sub(last)),
        times,
        ..Upstream::default()
    };
    (traffic, upstream)
}

fn queue(depth: Depth) -> Queue {
    Queue { now: depth.now as u64, most: depth.most as u64 }
}

fn gauges(sessions: &Gauge, rate: &Rate) -> Traffic {
    Traffic {
        sessions: u64::from(sessions.now()),
        sessions_most: u64::from(sessions.most()),
        rate: rate.last(),
        rate_most: rate.most(),
        ..Traffic::default()
    }
}

fn downtime_so_far(before: Duration, down_since: Option<Instant>, now: Instant) -> Duration {
    before + down_since.map(|since| now.saturating_duration_since(since)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::SystemTime};

    use super::*;
    use crate::{
        config::{self, PoolPolicy},
        model::{CheckReport, CheckStatus, PoolName, ServerName, Weight},
        registry::{Command, Registry, ResolvedServer, Slot, Times, add},
    };

    fn name(name: &str) -> PoolName {
        PoolName::parse(name).unwrap()
    }

    fn fixed(name: &str, weight: u16, backup: bool) -> ResolvedServer {
        ResolvedServer {
            name: ServerName::parse(name).unwrap(),
            address: Some(SocketAddr::from(([127, 0, 0, 1], 3000))),
            weight: Weight::new(weight).unwrap(),
            backup,
            maxconn: None,
            check_port: None,
        }
    }

    /// Two servers of weight 2 and 3 and a backup of weight 7, which are checked and up.
    fn context(start: Instant) -> Context {
        let registry = Arc::new(Registry::new(1, &[(name("web"), None), (name(config::STATS_PROXY), None)], start));
        let pool = config::Pool { name: name("nodes"), policy: PoolPolicy::default(), servers: Vec::new() };
        registry.apply(start, Command::Pools(vec![pool]));
        let servers = vec![fixed("s1", 2, false), fixed("s2", 3, false), fixed("b1", 7, true)];
        registry.apply(start, Command::Static { pool: name("nodes"), servers });
        for server in &registry.snapshot().pools[0].servers {
            registry.apply(start, checked(server, CheckStatus::L7Ok));
        }
        Context {
            registry,
            hostname: "ha".to_owned(),
            workers: 1,
            started: SystemTime::now(),
            refresh: Duration::ZERO,
            admin: false,
            members: None,
            figures: None,
            notes: Vec::new(),
            log_drops: Arc::default(),
        }
    }

    fn checked(server: &registry::Server, status: CheckStatus) -> Command {
        let report = CheckReport { status, code: None, duration: Duration::ZERO, detail: String::new() };
        Command::Checked { server: server.id, report }
    }

    #[test]
    fn the_stats_page_comes_first_and_proxies_are_numbered_from_two() {
        let now = Instant::now();
        let report = Report::collect(&context(now), now);
        let proxies: Vec<_> = report.proxies.iter().map(|proxy| (proxy.name.as_str(), proxy.number)).collect();
        assert_eq!(proxies, [("stats", 2), ("web", 3), ("nodes", 4)]);
    }

    #[test]
    fn a_pool_weighs_what_its_usable_servers_weigh() {
        let now = Instant::now();
        let context = context(now);
        let weight = || {
            let report = Report::collect(&context, now);
            let upstream = report.proxies[2].backend.clone().unwrap().upstream;
            (upstream.weight, upstream.active, upstream.backup)
        };
        let servers = context.registry.snapshot().pools[0].servers.clone();
        let fail = |server| (0..3).for_each(|_| context.registry.apply(now, checked(server, CheckStatus::L4Timeout)));
        assert_eq!(weight(), (5, 2, 1));
        fail(&servers[0]);
        assert_eq!(weight(), (3, 1, 1));
        fail(&servers[1]);
        assert_eq!(weight(), (7, 0, 1));
    }

    #[test]
    fn times_are_counted_up_to_now() {
        let start = Instant::now();
        let context = context(start);
        let server = Arc::clone(&context.registry.snapshot().pools[0].servers[0]);
        for _ in 0..3 {
            context.registry.apply(start + Duration::from_secs(10), checked(&server, CheckStatus::L4Connect));
        }
        add(&server.live.counters(Slot(0)).requests, 1);
        server.live.record_times(Slot(0), Duration::from_secs(4), Times::default());
        let report = Report::collect(&context, start + Duration::from_secs(25));
        let row = &report.proxies[2].servers[0];
        assert_eq!(report.process.uptime, Duration::from_secs(25));
        assert_eq!(row.upstream.idle, Some(Duration::from_secs(21)));
        assert_eq!((row.upstream.downtime, row.upstream.downs), (Some(Duration::from_secs(15)), Some(1)));
        assert_eq!(row.upstream.unchanged, Duration::from_secs(15));
        assert_eq!(row.traffic.sessions_total, 1);
    }
}
