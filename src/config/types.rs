//! The validated configuration.

use std::{
    num::{NonZeroU32, NonZeroUsize},
    time::Duration,
};

use super::{Advertise, EventHandler, HostPort, KeySource, ListenAddress, RuntimeApi, UpgradeProtocol};
use crate::model::{
    Algorithm, CheckPolicy, ClusterName, CookiePolicy, Keyring, Networks, OutlierPolicy, PoolName, RetryOn, ServerName,
    Weight,
};

/// Name of the frontend that `--listen` makes.
pub const DEFAULT_FRONTEND: &str = "localnodes";
/// Name of the pool that servers join when nothing else is said.
pub const DEFAULT_POOL: &str = "nodes";
/// Name of the proxy that stands for the stats page in the CSV.
pub const STATS_PROXY: &str = "stats";

/// Everything `lb serve` needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where traffic comes in; at least one.
    pub listeners: Vec<Listener>,
    /// Where it goes.
    pub pools: Vec<Pool>,
    /// The stats page, when there is one.
    pub stats: Option<Stats>,
    /// The runtime API, when there is one.
    pub runtime_api: Option<RuntimeApi>,
    /// The cluster member, when there is one.
    pub gossip: Option<Gossip>,
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How large things may be.
    pub limits: Limits,
    /// The access log.
    pub log: LogFormat,
    /// Worker threads.
    pub workers: NonZeroUsize,
}

impl Config {
    /// Whether it has a pool of that name.
    pub fn has_pool(&self, name: &PoolName) -> bool {
        self.pools.iter().any(|pool| pool.name == *name)
    }

    /// The parts of `other` that differ and can't be changed while the balancer runs.
    pub fn fixed_parts_that_differ(&self, other: &Self) -> Vec<&'static str> {
        let Self { listeners, pools: _, stats, runtime_api, gossip, timeouts: _, limits: _, log, workers } = self;
        let differs = [
            ("listener", *listeners != other.listeners),
            ("stats", *stats != other.stats),
            ("runtime-api", *runtime_api != other.runtime_api),
            // Other keys from the same place are no other place.
            ("gossip", gossip.as_ref().map(Gossip::without_keys) != other.gossip.as_ref().map(Gossip::without_keys)),
            ("log", *log != other.log),
            ("workers", *workers != other.workers),
        ];
        differs.into_iter().filter_map(|(part, differs)| differs.then_some(part)).collect()
    }
}

/// One frontend: addresses whose requests go to one pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Its name in pages and logs.
    pub name: PoolName,
    /// Where it listens; at least one.
    pub bind: Vec<ListenAddress>,
    /// The pool it feeds.
    pub pool: PoolName,
    /// Client connections that are served at once; the others wait to be accepted. `None` is no limit.
    pub maxconn: Option<NonZeroU32>,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Proxies whose word about their clients is believed. Where it is not empty, nobody else may send such a header.
    pub trusted_proxies: Networks,
    /// Protocols to which a client may switch its connection.
    pub upgrades: Vec<UpgradeProtocol>,
}

/// One pool of servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// How it is balanced, kept and checked.
    pub policy: PoolPolicy,
    /// The servers known beforehand.
    pub servers: Vec<StaticServer>,
}

/// How a pool is balanced, kept and checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolPolicy {
    /// How a server is chosen.
    pub balance: Algorithm,
    /// How much of its fair share of all requests in flight a server may have, in percent, before algorithms that hash pass
    /// it by; above 100, or 0 for no bound.
    pub hash_balance_factor: u16,
    /// How long a server that comes up takes to get its whole share; `None` is no time.
    pub slowstart: Option<Duration>,
    /// Stickiness by cookie.
    pub cookie: Option<CookiePolicy>,
    /// Active checks; `None` when they are off.
    pub check: Option<CheckPolicy>,
    /// When servers are ejected for what they answer to users; `None` is never.
    pub outlier: Option<OutlierPolicy>,
    /// All servers are used, whatever their health, when fewer than so many percent are well; 0 is never.
    pub panic_threshold: u32,
    /// How often a connection that failed is tried again, on another server where there is one.
    pub retries: u32,
    /// What else is tried again.
    pub retry_on: RetryOn,
    /// Requests that a server gets at once, where it has no number of its own. `None` is no limit.
    pub server_maxconn: Option<NonZeroU32>,
    /// Requests that may wait for a server when all are full; the next one is answered 503.
    pub queue_length: usize,
    /// How long users with a cookie for a server that an operator drains may stay; `None` is for ever.
    pub drain_deadline: Option<Duration>,
    /// How long what is in flight on a server that an operator puts into maintenance may go on; `None` is to its end.
    pub maint_deadline: Option<Duration>,
}

impl PoolPolicy {
    /// Requests that a server with this number of its own gets at once; `None` is no limit.
    pub fn limit(&self, own: Option<u32>) -> Option<NonZeroU32> {
        own.map_or(self.server_maxconn, NonZeroU32::new)
    }
}

impl Default for PoolPolicy {
    fn default() -> Self {
        Self {
            balance: Algorithm::default(),
            hash_balance_factor: 150,
            slowstart: None,
            cookie: None,
            check: Some(CheckPolicy::default()),
            outlier: None,
            panic_threshold: 0,
            retries: 3,
            retry_on: RetryOn::default(),
            server_maxconn: None,
            queue_length: 1024,
            drain_deadline: None,
            maint_deadline: None,
        }
    }
}

/// A server known beforehand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticServer {
    /// Its name.
    pub name: ServerName,
    /// Where it answers.
    pub address: HostPort,
    /// Its share.
    pub weight: Weight,
    /// Used only when no other server is left.
    pub backup: bool,
    /// Requests that it gets at once; 0 is no limit, `None` is what its pool says.
    pub maxconn: Option<u32>,
    /// The port that checks ask; `None` is what its pool says.
    pub check_port: Option<u16>,
}

/// The stats page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stats {
    /// Where it answers.
    pub bind: ListenAddress,
    /// How often the page loads itself anew; zero is never.
    pub refresh: Duration,
    /// Whether whoever can open the page may change the state of servers there.
    pub admin: bool,
}

/// The cluster member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gossip {
    /// Where it receives datagrams (UDP).
    pub bind: ListenAddress,
    /// What other members should dial, when it is not what the system says.
    pub advertise: Option<Advertise>,
    /// Other members.
    pub join: Vec<HostPort>,
    /// Commands for what happens to members.
    pub event_handlers: Vec<EventHandler>,
    /// Where the cluster's keys are; `None`: the gossip is not sealed.
    pub key_source: Option<KeySource>,
    /// The cluster's name, if somebody chose one.
    pub cluster: Option<ClusterName>,
    /// Its name among the members; `None` is the hostname.
    pub name: Option<ServerName>,
    /// The keys, once somebody has read them from there.
    pub keys: Option<Keyring>,
}

/// How long things may take. The defaults are HAProxy's usual ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timeouts {
    /// A request that waits for a server with a free place.
    pub queue: Duration,
    /// Until a server accepts a connection.
    pub connect: Duration,
    /// Silence of a client in the middle of a request or response; also how far it may fall behind `Limits::min_rate`.
    pub client: Duration,
    /// Silence of a server that owes a response or the rest of one.
    pub server: Duration,
    /// A whole request head, from its first byte.
    pub request_head: Duration,
    /// An idle client connection between two requests. The first one has to begin within `request_head`.
    pub keep_alive: Duration,
    /// Silence in both directions of an upgraded connection.
    pub tunnel: Duration,
    /// The same once the balancer stops.
    pub tunnel_stop: Duration,
    /// What is in flight when the balancer stops.
    pub grace: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            queue: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            client: Duration::from_secs(50),
            server: Duration::from_secs(50),
            request_head: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            tunnel: Duration::from_secs(3600),
            tunnel_stop: Duration::from_secs(1),
            grace: Duration::from_secs(8),
        }
    }
}

/// How large things may be, and how slow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Head of a request or response in bytes; a longer request is answered 431, one whose target has more than half 414.
    pub head: usize,
    /// Body of a request in bytes; a longer one is answered 413. `None` is no limit, as in HAProxy.
    pub body: Option<u64>,
    /// Bytes per second that a client has to send of a request's body, or to read of a response, in the long run: it may fall
    /// behind by what the rate gives in `Timeouts::client`. Only time that it keeps us waiting counts. 0 is no least rate.
    pub min_rate: u32,
    /// Idle connections kept to one server by one worker.
    pub idle_per_server: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { head: 16 * 1024, body: None, min_rate: 240, idle_per_server: 256 }
    }
}

/// Format of the access log on standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// One JSON object a line.
    #[default]
    Json,
    /// HAProxy's `option httplog`.
    Haproxy,
    /// Nothing.
    Off,
}
