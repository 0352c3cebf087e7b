//! From what is written to what is meant: every value checked, every problem told.

mod balance;
mod cookie;
mod health;

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use toml::Spanned;

use self::{cookie::override_cookie, health::waits_in_vain};
use super::{
    Advertise, CheckChoice, Config, DEFAULT_FRONTEND, DEFAULT_POOL, EventHandler, Gossip, GossipChoice, HostPort,
    KeySource, Limits, ListenAddress, Listener, Overrides, Pool, PoolPolicy, Problems, StaticServer, Stats, Timeouts,
    UpgradeProtocol,
    checker::Checker,
    key_source,
    raw::{
        Number, RawConfig, RawGossip, RawLimits, RawListener, RawLog, RawPool, RawQueue, RawServer, RawStats,
        RawTimeouts, read,
    },
};
use crate::model::{CheckPolicy, Networks, PoolName, ServerName, Weight, parse_network};

/// Port of the cluster member, as Serf's.
pub const GOSSIP_PORT: u16 = 7946;
/// Port of the traffic when nothing is said.
const TRAFFIC_PORT: u16 = 80;
/// How often the stats page loads itself anew.
const REFRESH: Duration = Duration::from_secs(5);
/// Largest number for a limit on connections or requests, and for the queue.
pub const MAX_LIMIT: u32 = 1_000_000;
/// Most workers: more than any machine has processors to run them.
const MAX_WORKERS: i64 = 1024;

/// A configuration file's name and text.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// The name, for messages.
    pub name: &'a str,
    /// The text.
    pub text: &'a str,
}

impl Config {
    /// The configuration of a file, if there is one, with the command line's overrides; `processors` is how many workers
    /// there are when nobody says.
    ///
    /// # Errors
    /// Everything that is wrong with the file and with what the overrides make of it.
    pub fn build(
        source: Option<Source<'_>>,
        overrides: &Overrides,
        processors: NonZeroUsize,
    ) -> Result<Self, Problems> {
        let text = source.map_or("", |source| source.text);
        let (raw, problems) = read::<RawConfig>(text);
        let mut checker = Checker::new(text, problems);
        let mut config = checker.config(raw, processors);
        override_with(&mut config, overrides, &mut checker);
        checker.references(&config);
        let mut list = checker.into_problems();
        if list.is_empty() {
            return Ok(config);
        }
        list.sort_by_key(|problem| problem.line);
        Err(Problems { file: source.map(|source| source.name.to_owned()), list })
    }
}

impl Checker<'_> {
    fn config(&mut self, raw: RawConfig, processors: NonZeroUsize) -> Config {
        let RawConfig { workers, listener, pool, stats, runtime_api, gossip, timeouts, limits, log } = raw;
        let mut pools: Vec<Pool> = pool.into_iter().map(|pool| self.pool(pool)).collect();
        if pools.is_empty() {
            pools.push(Pool { name: default_pool(), policy: PoolPolicy::default(), servers: Vec::new() });
        }
        let first_pool = pools[0].name.clone();
        let mut listeners: Vec<Listener> =
            listener.into_iter().map(|listener| self.listener(listener, &pools)).collect();
        if listeners.is_empty() {
            let bind = vec![ListenAddress::any(TRAFFIC_PORT)];
            listeners.push(Listener {
                name: default_frontend(),
                bind,
                pool: first_pool,
                maxconn: None,
                proxy_protocol: false,
                trusted_proxies: Networks::default(),
                upgrades: vec![UpgradeProtocol::websocket()],
            });
        }
        let workers =
            self.number(workers, "workers", 1..=MAX_WORKERS).and_then(NonZeroUsize::new).unwrap_or(processors);
        Config {
            listeners,
            pools,
            stats: stats.and_then(|stats| self.stats(stats)),
            runtime_api: runtime_api.and_then(|api| self.runtime_api(api)),
            gossip: Some(self.gossip(gossip.unwrap_or_default())),
            timeouts: self.timeouts(timeouts),
            limits: self.limits(limits),
            log: self.log(log),
            workers,
        }
    }

    fn listener(&mut self, raw: RawListener, pools: &[Pool]) -> Listener {
        let RawListener { name, bind, pool, maxconn, proxy_protocol, trusted_proxies, upgrades } = raw;
        let place = pool.as_ref().map(|pool| pool.span().start);
        let pool: PoolName = self.parse(pool, "pool").unwrap_or_else(|| pools[0].name.clone());
        if !pools.iter().any(|known| known.name == pool) {
            let known = pools.iter().map(|pool| pool.name.as_str()).collect::<Vec<_>>().join(", ");
            self.note(place, &format!("pool: there is no pool '{pool}': one of {known} is expected"));
        }
        let binds = bind.map_or_else(|| vec![ListenAddress::any(TRAFFIC_PORT)], |bind| self.binds(bind));
        let trusted_proxies = trusted_proxies.into_iter();
        let upgrades = upgrades.map(|names| {
            names.into_iter().filter_map(|name| self.parse::<UpgradeProtocol>(Some(name), "upgrades")).collect()
        });
        Listener {
            name: self.parse(name, "name").unwrap_or_else(default_frontend),
            bind: binds,
            pool,
            maxconn: self.limit(maxconn, "maxconn").and_then(NonZeroU32::new),
            proxy_protocol,
            trusted_proxies: trusted_proxies
                .filter_map(|text| self.convert(text, "trusted-proxies", parse_network))
                .collect(),
            upgrades: upgrades.unwrap_or_else(|| vec![UpgradeProtocol::websocket()]),
        }
    }

    fn pool(&mut self, raw: RawPool) -> Pool {
        let RawPool {
            name,
            balance,
            hash_balance_factor,
            slowstart,
            cookie,
            check,
            outlier,
            panic_threshold,
            retries,
            retry_on,
            server_maxconn,
            queue,
            drain_deadline,
            maint_deadline,
            server,
        } = raw;
        let RawQueue { length } = queue;
        let default = PoolPolicy::default();
        Pool {
            name: self.parse(name, "name").unwrap_or_else(default_pool),
            policy: PoolPolicy {
                balance: self.parse(balance, "balance").unwrap_or_default(),
                hash_balance_factor: self
                    .hash_balance_factor(hash_balance_factor)
                    .unwrap_or(default.hash_balance_factor),
                slowstart: self.duration_or_zero(slowstart, "slowstart").filter(|time| !time.is_zero()),
                cookie: cookie.and_then(|cookie| self.cookie(cookie)),
                check: self.check(check),
                outlier: outlier.map(|outlier| self.outlier(outlier)),
                panic_threshold: self.number(panic_threshold, "panic-threshold", 0..=100).unwrap_or_default(),
                retries: self.number(retries, "retries", 0..=100).unwrap_or(default.retries),
                retry_on: self.retry_on(retry_on),
                server_maxconn: self.limit(server_maxconn, "server-maxconn").and_then(NonZeroU32::new),
                queue_length: self.limit(length, "length").map_or(default.queue_length, |length| length as usize),
                drain_deadline: self.duration(drain_deadline, "drain-deadline"),
                maint_deadline: self.duration_or_zero(maint_deadline, "maint-deadline"),
            },
            servers: server.into_iter().filter_map(|server| self.server(server)).collect(),
        }
    }

    fn server(&mut self, raw: Spanned<RawServer>) -> Option<StaticServer> {
        let place = raw.span().start;
        let RawServer { name, address, weight, backup, maxconn, check_port } = raw.into_inner();
        let Some(address) = address else {
            self.note(Some(place), "a server has no address: address = \"HOST:PORT\" is expected");
            return None;
        };
        let address: HostPort = self.parse(Some(address), "address")?;
        let name: Option<ServerName> = match name {
            Some(name) => self.parse(Some(name), "name"),
            None => ServerName::parse(&address.to_string().replace(['[', ']'], "")).ok(),
        };
        let weight = self.number(weight, "weight", 0..=256).and_then(|weight| Weight::new(weight).ok());
        let maxconn = self.limit(maxconn, "maxconn");
        let check_port = self.port(check_port, "check-port");
        Some(StaticServer { name: name?, address, weight: weight.unwrap_or_default(), backup, maxconn, check_port })
    }

    fn limit(&mut self, number: Option<Number>, key: &str) -> Option<u32> {
        self.number(number, key, 0..=i64::from(MAX_LIMIT))
    }

    fn stats(&mut self, raw: Spanned<RawStats>) -> Option<Stats> {
        let place = raw.span().start;
        let RawStats { bind, refresh, admin } = raw.into_inner();
        if bind.is_none() {
            self.note(Some(place), "[stats] has no bind: bind = \":1936\" is expected");
        }
        let refresh = self.duration_or_zero(refresh, "refresh").unwrap_or(REFRESH);
        Some(Stats { bind: self.parse(bind, "bind")?, refresh, admin })
    }

    fn gossip(&mut self, raw: RawGossip) -> Gossip {
        let RawGossip { bind, advertise, join, event_handler, key_file, cluster, name } = raw;
        let seed = |text: &str| HostPort::parse_or(text, GOSSIP_PORT);
        Gossip {
            bind: self.parse(bind, "bind").unwrap_or(ListenAddress::any(GOSSIP_PORT)),
            advertise: self.parse::<Advertise>(advertise, "advertise"),
            join: join.into_iter().filter_map(|join| self.convert(join, "join", seed)).collect(),
            event_handlers: event_handler
                .into_iter()
                .filter_map(|handler| self.convert(handler, "event-handler", str::parse::<EventHandler>))
                .collect(),
            key_source: key_file.and_then(|path| self.convert(path, "key-file", KeySource::file)),
            cluster: self.parse(cluster, "cluster"),
            name: self.parse(name, "name"),
            keys: None,
        }
    }

    fn timeouts(&mut self, raw: RawTimeouts) -> Timeouts {
        let RawTimeouts { queue, connect, client, server, request_head, keep_alive, tunnel, tunnel_stop, grace } = raw;
        let default = Timeouts::default();
        Timeouts {
            queue: self.duration(queue, "queue").unwrap_or(default.queue),
            connect: self.duration(connect, "connect").unwrap_or(default.connect),
            client: self.duration(client, "client").unwrap_or(default.client),
            server: self.duration(server, "server").unwrap_or(default.server),
            request_head: self.duration(request_head, "request-head").unwrap_or(default.request_head),
            keep_alive: self.duration(keep_alive, "keep-alive").unwrap_or(default.keep_alive),
            tunnel: self.duration(tunnel, "tunnel").unwrap_or(default.tunnel),
            tunnel_stop: self.duration_or_zero(tunnel_stop, "tunnel-stop").unwrap_or(default.tunnel_stop),
            grace: self.duration_or_zero(grace, "grace").unwrap_or(default.grace),
        }
    }

    fn limits(&mut self, raw: RawLimits) -> Limits {
        let RawLimits { head, body, min_rate, idle_per_server } = raw;
        let default = Limits::default();
        Limits {
            head: self.number(head, "head", 1024..=1024 * 1024).unwrap_or(default.head),
            body: self.number(body, "body", 0..=i64::MAX),
            min_rate: self.number(min_rate, "min-rate", 0..=1_000_000_000).unwrap_or(default.min_rate),
            idle_per_server: self
                .number(idle_per_server, "idle-per-server", 0..=65_536)
                .unwrap_or(default.idle_per_server),
        }
    }

    fn log(&mut self, raw: RawLog) -> super::LogFormat {
        let RawLog { format } = raw;
        self.parse(format, "format").unwrap_or_default()
    }

    /// Names that are given twice; the command line may have added one.
    fn references(&mut self, config: &Config) {
        for (index, pool) in config.pools.iter().enumerate() {
            if config.pools[..index].iter().any(|other| other.name == pool.name) {
                self.note(None, &format!("two pools are named '{}'", pool.name));
            }
            for (index, server) in pool.servers.iter().enumerate() {
                if pool.servers[..index].iter().any(|other| other.name == server.name) {
                    self.note(None, &format!("two servers of the pool '{}' are named '{}'", pool.name, server.name));
                }
            }
        }
        for (index, listener) in config.listeners.iter().enumerate() {
            if config.listeners[..index].iter().any(|other| other.name == listener.name) {
                self.note(None, &format!("two listeners are named '{}'", listener.name));
            }
        }
    }
}

/// Lets the command line's words win. They speak of the first listener and the first pool.
fn override_with(config: &mut Config, overrides: &Overrides, checker: &mut Checker<'_>) {
    let Overrides {
        listen,
        maxconn,
        stats,
        runtime_api,
        gossip,
        advertise,
        join,
        event_handlers,
        key_source,
        cluster,
        name,
        servers,
        server_maxconn,
        balance,
        cookie,
        cookie_mode,
        check,
        check_interval,
        check_rise,
        check_fall,
        workers,
        log_format,
        grace,
    } = overrides;
    let (listener, pool) = (&mut config.listeners[0], &mut config.pools[0]);
    if !listen.is_empty() {
        listener.bind.clone_from(listen);
    }
    listener.maxconn = maxconn.map_or(listener.maxconn, NonZeroU32::new);
    pool.policy.server_maxconn = server_maxconn.map_or(pool.policy.server_maxconn, NonZeroU32::new);
    pool.servers.extend(servers.iter().cloned());
    pool.policy.balance = balance.clone().unwrap_or_else(|| pool.policy.balance.clone());
    override_cookie(&mut pool.policy.cookie, cookie.as_deref(), *cookie_mode, checker);
    match check {
        Some(CheckChoice::Off) => pool.policy.check = None,
        Some(CheckChoice::Kind(kind)) => {
            let policy = pool.policy.check.take().unwrap_or_default();
            let policy = CheckPolicy { kind: kind.clone(), ..policy };
            if waits_in_vain(&policy) {
                checker.note(None, "--check: an answer to HEAD has no body, and the file's expect-body waits for one");
            }
            pool.policy.check = Some(policy);
        }
        None => {}
    }
    if let Some(policy) = &mut pool.policy.check {
        policy.interval = check_interval.unwrap_or(policy.interval);
        policy.rise = check_rise.unwrap_or(policy.rise);
        policy.fall = check_fall.unwrap_or(policy.fall);
    }
    if let Some(bind) = stats {
        let (refresh, admin) = config.stats.as_ref().map_or((REFRESH, false), |stats| (stats.refresh, stats.admin));
        config.stats = Some(Stats { bind: bind.clone(), refresh, admin });
    }
    if !runtime_api.is_empty() {
        config.runtime_api.get_or_insert_default().bind.clone_from(runtime_api);
    }
    if *gossip == Some(GossipChoice::Off) && !event_handlers.is_empty() {
        checker.note(None, "--gossip off leaves nothing to handle: drop it, or --event-handler");
    }
    key_source::override_with(&mut config.gossip, (key_source.as_ref(), cluster.as_ref()), gossip.as_ref(), checker);
    if *gossip == Some(GossipChoice::Off) && (!join.is_empty() || advertise.is_some()) {
        checker.note(None, "--gossip off leaves nothing to join or to advertise: drop it, or --join and --advertise");
    }
    if *gossip == Some(GossipChoice::Off) && name.is_some() {
        checker.note(None, "--gossip off leaves nobody to name: drop it, or --name");
    }
    if let Some(member) = &mut config.gossip {
        member.name = name.clone().or_else(|| member.name.take());
        member.advertise = advertise.or(member.advertise);
        member.join.extend(join.iter().cloned());
        member.event_handlers.extend(event_handlers.iter().cloned());
    }
    match (gossip, &mut config.gossip) {
        (Some(GossipChoice::Off), member) => *member = None,
        (Some(GossipChoice::At(bind)), Some(member)) => member.bind = bind.clone(),
        (Some(GossipChoice::At(_)) | None, _) => {}
    }
    config.workers = workers.unwrap_or(config.workers);
    config.log = log_format.unwrap_or(config.log);
    config.timeouts.grace = grace.unwrap_or(config.timeouts.grace);
}

fn default_frontend() -> PoolName {
    constant_name(DEFAULT_FRONTEND)
}

fn default_pool() -> PoolName {
    constant_name(DEFAULT_POOL)
}

/// A name that is known to be one.
fn constant_name(name: &'static str) -> PoolName {
    #[expect(clippy::expect_used, reason = "the names are constants, and a test reads each")]
    PoolName::parse(name).expect("a constant that is a name")
}
