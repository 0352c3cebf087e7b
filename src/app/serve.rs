//! The balancer, from its sockets to its last connection.

use std::{
    io,
    net::{TcpListener, UdpSocket},
    num::NonZeroU32,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime},
};

use futures_util::{Stream, StreamExt};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};

use super::{
    Bound, ConfigFile,
    cluster_link::PoolDirectory,
    event_handlers::{self, HandlerCounters},
    keys,
    members::{figures, member_rows},
    names, operators, runtime_api, shortage,
    task::{Failures, Task},
    workers::{self, Entrance, Signal, WorkerParts},
};
use crate::{
    admin,
    cluster::{self, Names, advertised, hostname, seeds},
    config::{Config, Gossip, Listener, LogFormat, Pool, STATS_PROXY, UpgradeProtocol},
    http_rules::Upgrades,
    model::{NameError, PoolName, ServerName},
    net::SocketFile,
    probe,
    proxy::{Frontend, Settings},
    registry::{Command, Registry, Slot},
    swim::{Role, ServiceRecord},
    telemetry::LogSink,
};

/// Why the balancer cannot start, or go on.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The cluster member cannot start.
    #[error("cannot join a cluster: {0}")]
    Cluster(#[from] cluster::JoinError),
    /// The machine's name is not a name for a member.
    #[error("cannot join a cluster as this host: {0}; choose a name with --name")]
    Name(#[from] NameError),
    /// The system gave no thread, descriptor or the like.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
    /// A bug has ended what it cannot do without. It has stopped in good order.
    #[error("{0} ended by a bug (see above): start lb again")]
    Broken(&'static str),
}

/// What a running balancer is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Stop: accept nothing more, finish what is in flight. Told a second time, stop at once.
    Stop,
    /// Read the configuration again.
    Reload,
}

/// Runs the balancer until it is told to stop and has drained.
///
/// To be called on a tokio `LocalRuntime`. `file` is read again on [`Order::Reload`].
///
/// # Errors
/// When something cannot start, or has ended by a bug; everything else has stopped then.
pub async fn serve(
    config: Config,
    bound: Bound,
    file: ConfigFile,
    mut orders: impl Stream<Item = Order> + Unpin,
) -> Result<(), StartError> {
    // Where the system gives them to everybody, each slow client and each idle thread would take memory by 2 MiB.
    if let Err(error) = rustix::thread::disable_transparent_huge_pages(true) {
        tracing::debug!("the system may use huge pages for this process: {error}");
    }
    let (failures, mut failed) = mpsc::unbounded_channel();
    let mut balancer = Balancer::start(config, bound, file, &failures)?;
    let broken = loop {
        tokio::select! {
            order = orders.next() => match order {
                Some(Order::Reload) => balancer.reload().await,
                Some(Order::Stop) | None => break None,
            },
            broken = failed.recv() => break broken,
        }
    };
    if let Some(what) = broken {
        tracing::error!("{what} ended by a bug (see above), and lb cannot go on without");
    }
    balancer.stop(orders).await;
    broken.map_or(Ok(()), |what| Err(StartError::Broken(what)))
}

/// A running balancer.
struct Balancer {
    config: Config,
    file: ConfigFile,
    registry: Arc<Registry>,
    settings: watch::Sender<Arc<Settings>>,
    signal: watch::Sender<Signal>,
    workers_end: mpsc::Receiver<()>,
    member: Option<cluster::Member>,
    tasks: Vec<Task>,
    handling: Option<Task>,
    socket_files: Vec<SocketFile>,
    names: Task,
    log: Option<LogSink>,
}

impl Balancer {
    fn start(config: Config, bound: Bound, file: ConfigFile, failures: &Failures) -> Result<Self, StartError> {
        let Bound { listeners, stats, runtime_api, gossip } = bound;
        let (started, now) = (SystemTime::now(), Instant::now());
        let registry = Arc::new(Registry::new(config.workers.get(), &frontends(&config), now));
        registry.apply(now, keys::cookie_keys(config.gossip.as_ref().and_then(|gossip| gossip.keys.as_ref())));
        registry.apply(now, Command::Pools(config.pools.clone()));
        names::publish_known(&registry, &config.pools);
        let log = match config.log {
            LogFormat::Json | LogFormat::Haproxy => Some(LogSink::start(io::stdout())?),
            LogFormat::Off => None,
        };
        let settings = watch::Sender::new(settings_of(&config));
        let signal = watch::Sender::new(Signal::Run);
        let (running, workers_end) = mpsc::channel(1);
        for (slot, entrances) in entrances(&config, listeners, &registry).into_iter().enumerate() {
            let parts = WorkerParts {
                slot: Slot(slot),
                entrances,
                registry: Arc::clone(&registry),
                settings: settings.subscribe(),
                log_format: config.log,
                log: log.as_ref().map(LogSink::buffer),
                signal: signal.subscribe(),
            };
            // The thread is waited for through `running`; joining it would block this one.
            let _detached = workers::start(parts, running.clone(), failures.clone())?;
        }
        let names = follow_names(&registry, &config.pools);
        let ours = Arc::clone(&registry);
        let checks = move || {
            let rng = StdRng::from_rng(&mut rand::rng());
            probe::run(Arc::clone(&ours), rng, std::future::pending())
        };
        let (ticking, short, watched) = (Arc::clone(&registry), Arc::clone(&registry), Arc::clone(&registry));
        let mut tasks = vec![
            Task::keep("the clock of the counters", move || tick(Arc::clone(&ticking))),
            Task::keep("the watch over file descriptors", move || shortage::tell(Arc::clone(&short))),
            Task::keep("checking servers", checks),
            Task::keep("the watch over outliers", move || {
                probe::watch_outliers(Arc::clone(&watched), std::future::pending())
            }),
        ];
        let (mut member, mut handling, handlers) = (None, None, Arc::default());
        if let (Some(gossip), Some(socket)) = (&config.gossip, gossip) {
            let (handle, run) = join_cluster(gossip, socket, &registry)?;
            tasks.push(Task::vital("the cluster's member", run, failures.clone()));
            tasks.push(tell_others(gossip, &handle, &registry)?);
            handling = handle_events(gossip, &handle, &handlers);
            member = Some(handle);
        }
        let log_drops = log.as_ref().map(LogSink::drops).unwrap_or_default();
        let context = Arc::new(admin_context(&config, &registry, member.clone(), &handlers, started, log_drops));
        let socket_files = runtime_api::start(&config, runtime_api, &context, &mut tasks);
        if let Some(listener) = stats {
            let listener = Arc::new(listener);
            let page = move || serve_stats(Arc::clone(&listener), Arc::clone(&context));
            tasks.push(Task::keep("the stats page", page));
        }
        Ok(Self {
            config,
            file,
            registry,
            settings,
            signal,
            workers_end,
            member,
            tasks,
            handling,
            socket_files,
            names,
            log,
        })
    }

    /// Reads the configuration again. A bad one changes nothing.
    async fn reload(&mut self) {
        let config = match self.file.load() {
            Ok(config) => config,
            Err(error) => {
                for line in error.to_string().lines() {
                    tracing::error!("{line}");
                }
                tracing::error!("the configuration was not reloaded: nothing has changed");
                return;
            }
        };
        if let Some(listener) = self.config.listeners.iter().find(|listener| !config.has_pool(&listener.pool)) {
            let Listener { name, pool, .. } = listener;
            tracing::error!("the listener '{name}' feeds the pool '{pool}', which the new configuration does not have");
            tracing::error!("the configuration was not reloaded: nothing has changed (restart to change listeners)");
            return;
        }
        let fixed = self.config.fixed_parts_that_differ(&config);
        if !fixed.is_empty() {
            tracing::warn!("changes of {} take effect after a restart", fixed.join(", "));
        }
        let rotated = keys::rotated(&self.config, &config);
        let Config { pools, timeouts, limits, .. } = config;
        self.registry.apply(Instant::now(), Command::Pools(pools.clone()));
        self.names = follow_names(&self.registry, &pools);
        self.config = Config { pools, timeouts, limits, ..self.config.clone() };
        self.settings.send_replace(settings_of(&self.config));
        if let Some(keys) = rotated {
            keys::rotate(&mut self.config, &self.registry, self.member.as_ref(), keys).await;
        }
        tracing::info!("the configuration was reloaded");
    }

    /// Accepts nothing more, waits for what is in flight, and leaves the cluster.
    async fn stop(self, orders: impl Stream<Item = Order> + Unpin) {
        let Self {
            config,
            file: _,
            registry,
            settings,
            signal,
            mut workers_end,
            member,
            tasks,
            handling,
            socket_files,
            names,
            log,
        } = self;
        let grace = config.timeouts.grace;
        tracing::info!("stopping: what is in flight has {} to end", humantime::format_duration(grace));
        signal.send_replace(Signal::Drain);
        drain(&registry, grace, &mut workers_end, orders).await;
        signal.send_replace(Signal::Quit);
        // A worker that is stuck would be a bug; it must not keep the process from ending.
        let _stuck = tokio::time::timeout(LAST_WAIT, workers_end.recv()).await;
        if let Some(member) = member {
            let _unheard = tokio::time::timeout(LAST_WAIT, member.leave()).await;
        }
        drop((tasks, socket_files, names, settings));
        if let Some(handling) = handling {
            handling.finish(event_handlers::LAST_RUN).await;
        }
        if log.is_some_and(|log| !log.finish(LAST_WAIT)) {
            tracing::warn!("nobody reads the access log: its last lines are lost");
        }
        tracing::info!("stopped");
    }
}

/// When the first report of what is waited for comes, and how often then.
const FIRST_REPORT: Duration = Duration::from_millis(500);
const REPORT_PERIOD: Duration = Duration::from_secs(1);
/// How long to wait before the stats page is tried again.
const STATS_PAUSE: Duration = Duration::from_secs(1);
/// Longest wait for what takes no time when all is well.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// Waits until the workers have ended, the grace period has, or somebody is impatient; tells what it waits for.
async fn drain(
    registry: &Registry,
    grace: Duration,
    workers_end: &mut mpsc::Receiver<()>,
    mut orders: impl Stream<Item = Order> + Unpin,
) {
    let begun = tokio::time::Instant::now();
    let mut report = tokio::time::interval_at(begun + FIRST_REPORT, REPORT_PERIOD);
    loop {
        tokio::select! {
            biased;
            _all_gone = workers_end.recv() => return,
            () = tokio::time::sleep_until(begun + grace) => {
                tracing::warn!("the grace period is over: closing {} connections", open_connections(registry));
                return;
            }
            Some(order) = orders.next() => match order {
                Order::Stop => {
                    tracing::warn!("told to stop again: closing {} connections", open_connections(registry));
                    return;
                }
                Order::Reload => tracing::warn!("stopping: the configuration is not read again"),
            },
            _ = report.tick() => {
                let left = grace.saturating_sub(begun.elapsed()).as_secs_f64();
                tracing::info!("waiting for {}, {left:.0} s more at most", what_is_open(registry));
            }
        }
    }
}

fn follow_names(registry: &Arc<Registry>, pools: &[Pool]) -> Task {
    let (registry, pools) = (Arc::clone(registry), pools.to_vec());
    Task::keep("looking names up", move || names::follow(Arc::clone(&registry), pools.clone()))
}

/// Needs a copy of the listener, so that another one is left when this one ends by a bug. When descriptors have run out it
/// waits for one.
async fn serve_stats(listener: Arc<TcpListener>, context: Arc<admin::Context>) {
    let copy = loop {
        match listener.try_clone().and_then(tokio::net::TcpListener::from_std) {
            Ok(copy) => break copy,
            Err(error) => tracing::error!("the stats page cannot be served yet: {error}"),
        }
        tokio::time::sleep(STATS_PAUSE).await;
    };
    admin::serve(copy, context, std::future::pending()).await;
}

async fn tick(registry: Arc<Registry>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        second.tick().await;
        registry.tick(Instant::now());
    }
}

fn settings_of(config: &Config) -> Arc<Settings> {
    Arc::new(Settings { timeouts: config.timeouts.clone(), limits: config.limits.clone() })
}

/// The stats page is a frontend, too.
fn frontends(config: &Config) -> Vec<(PoolName, Option<NonZeroU32>)> {
    let stats = config.stats.is_some().then(|| PoolName::parse(STATS_PROXY).ok()).flatten();
    let listeners = config.listeners.iter().map(|listener| (listener.name.clone(), listener.maxconn));
    stats.into_iter().map(|name| (name, None)).chain(listeners).collect()
}

/// Client connections, without those of people who watch.
fn open_connections(registry: &Registry) -> u32 {
    let traffic = registry.frontends().iter().filter(|frontend| frontend.name.as_str() != STATS_PROXY);
    traffic.map(|frontend| frontend.connections.now()).sum()
}

/// What a stopping balancer waits for: `2 connections (s5: 1 request)`.
fn what_is_open(registry: &Registry) -> String {
    let counted = |count: u32, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
    let snapshot = registry.snapshot();
    let servers = snapshot.pools.iter().flat_map(|pool| &pool.servers);
    let busy = servers.map(|server| (&server.name, server.live.in_flight.now())).filter(|(_, requests)| *requests > 0);
    let busy = busy.map(|(name, requests)| format!("{name}: {}", counted(requests, "request")));
    let queued: usize = snapshot.pools.iter().map(|pool| pool.live.waiting()).sum();
    let queued = (queued > 0).then(|| format!("{queued} queued"));
    let busy: Vec<_> = busy.chain(queued).collect();
    let connections = counted(open_connections(registry), "connection");
    if busy.is_empty() { connections } else { format!("{connections} ({})", busy.join(", ")) }
}

/// The entrances of each worker.
fn entrances(config: &Config, listeners: Vec<Vec<Vec<TcpListener>>>, registry: &Registry) -> Vec<Vec<Entrance>> {
    let mut workers: Vec<Vec<Entrance>> = (0..config.workers.get()).map(|_| Vec::new()).collect();
    for (listener, addresses) in config.listeners.iter().zip(listeners) {
        let Listener { name, bind: _, pool, maxconn: _, proxy_protocol, trusted_proxies, upgrades } = listener;
        let Some(frontend) = registry.frontends().iter().find(|frontend| frontend.name == *name) else { continue };
        let upgrades = Upgrades::new(upgrades.iter().map(UpgradeProtocol::as_str));
        for copies in addresses {
            for (entrances, listener) in workers.iter_mut().zip(copies) {
                entrances.push(Entrance {
                    listener,
                    frontend: Frontend {
                        live: Arc::clone(frontend),
                        pool: pool.clone(),
                        proxy_protocol: *proxy_protocol,
                        trusted_proxies: trusted_proxies.clone(),
                        upgrades: upgrades.clone(),
                    },
                });
            }
        }
    }
    workers
}

/// The service that a balancer's record names; no pool has it.
const BALANCER_SERVICE: &str = "balancer";

fn join_cluster(
    gossip: &Gossip,
    socket: UdpSocket,
    registry: &Arc<Registry>,
) -> Result<(cluster::Member, impl Future<Output = ()> + use<>), StartError> {
    let config = cluster::Config {
        role: Role::Balancer,
        advertise: advertised(gossip.advertise),
        seeds: seeds(&gossip.join),
        record: ServiceRecord::new(member_name(gossip)?, PoolName::parse(BALANCER_SERVICE)?, 0),
        secret: cluster::cluster_secret(gossip.keys.clone(), gossip.cluster.clone()),
    };
    let directory = PoolDirectory { registry: Arc::clone(registry) };
    Ok(cluster::join(socket, config, Names, directory)?)
}

fn member_name(gossip: &Gossip) -> Result<ServerName, NameError> {
    gossip.name.clone().map_or_else(|| ServerName::parse(&hostname()), Ok)
}

/// What operators say here, told to the other balancers, and what is made of what they tell.
fn tell_others(gossip: &Gossip, member: &cluster::Member, registry: &Arc<Registry>) -> Result<Task, NameError> {
    let (name, member, registry) = (member_name(gossip)?, member.clone(), Arc::clone(registry));
    let tell = move || operators::tell(Arc::clone(&registry), member.clone(), name.clone());
    Ok(Task::keep("telling the other balancers", tell))
}

fn handle_events(gossip: &Gossip, member: &cluster::Member, counters: &Arc<HandlerCounters>) -> Option<Task> {
    let (member, handlers, counters) = (member.clone(), gossip.event_handlers.clone(), Arc::clone(counters));
    let has_handlers = !handlers.is_empty();
    let run = move || event_handlers::run(member.clone(), handlers.clone(), Arc::clone(&counters));
    has_handlers.then(|| Task::keep("the event handlers", run))
}

fn admin_context(
    config: &Config,
    registry: &Arc<Registry>,
    member: Option<cluster::Member>,
    handlers: &Arc<HandlerCounters>,
    started: SystemTime,
    log_drops: Arc<AtomicU64>,
) -> admin::Context {
    let stats = config.stats.as_ref();
    let is_sealed = config.gossip.as_ref().is_some_and(|gossip| gossip.keys.is_some());
    let unsealed = "The cluster is not sealed: whoever reaches the gossip port can join the pool.";
    admin::Context {
        registry: Arc::clone(registry),
        hostname: hostname(),
        workers: config.workers.get(),
        started,
        refresh: stats.map(|stats| stats.refresh).unwrap_or_default(),
        admin: stats.is_some_and(|stats| stats.admin),
        notes: member.iter().filter(|_| !is_sealed).map(|_| unsealed.to_owned()).collect(),
        figures: member.clone().map(|member| -> admin::GatheredSource {
            let handlers = Arc::clone(handlers);
            Box::new(move || Box::pin(figures(member.clone(), Arc::clone(&handlers))))
        }),
        members: member.map(|member| -> admin::MembersSource {
            let registry = Arc::clone(registry);
            Box::new(move || Box::pin(member_rows(member.clone(), Arc::clone(&registry))))
        }),
        log_drops,
    }
}
