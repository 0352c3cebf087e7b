//! What all connections of one worker share.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};

use super::{pace::Pace, roster::Roster};
use crate::{
    balance::mix,
    config::{Limits, LogFormat, Timeouts},
    http_rules::Upgrades,
    model::{Networks, PoolName},
    net::{Millis, now_coarse},
    registry::{FrontendLive, Pool, Reader, Registry, Slot, Snapshot},
    telemetry::{LogBuffer, Record, write_haproxy, write_json},
    upstream::IdleLinks,
};

/// What an operator can change while the balancer runs; new connections see the change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// How long things may take.
    pub timeouts: Timeouts,
    /// How large things may be, and how slow.
    pub limits: Limits,
}

impl Settings {
    /// What is asked of a client that sends or reads a body.
    pub(super) fn pace(&self) -> Pace {
        Pace::new(self.limits.min_rate, self.timeouts.client)
    }
}

/// One way in, and the pool that it feeds.
#[derive(Debug)]
pub struct Frontend {
    /// Its counters.
    pub live: Arc<FrontendLive>,
    /// The pool.
    pub pool: PoolName,
    /// Whether each connection begins with a header of the PROXY protocol.
    pub proxy_protocol: bool,
    /// Proxies whose word about their clients is believed.
    pub trusted_proxies: Networks,
    /// Protocols to which clients may switch.
    pub upgrades: Upgrades,
}

/// What all connections of one worker share.
#[derive(Debug)]
pub struct Worker {
    pub(super) slot: Slot,
    pub(super) registry: Arc<Registry>,
    pub(super) idle: RefCell<IdleLinks>,
    reader: RefCell<Reader>,
    settings: watch::Receiver<Arc<Settings>>,
    log: Option<RefCell<LogBuffer>>,
    log_format: LogFormat,
    log_waits: Notify,
    pub(super) roster: RefCell<Roster>,
    draining: Cell<Option<Millis>>,
    quit: Cell<bool>,
    pub(super) empty: Notify,
    complained: Cell<Option<Millis>>,
    untold: Cell<u64>,
    /// The state of a generator that need not be good, but another one for each worker and each balancer.
    random: Cell<u64>,
}

/// How often idle connections are looked through for ones that servers closed.
const SWEEP: Duration = Duration::from_secs(5);
/// How often client connections are looked through for ones that can give memory back; also how long they must have been
/// idle. Short, because the allocator keeps much of what the connections of one such time took together.
const REST_AFTER: Duration = Duration::from_millis(250);
/// Least time between two complaints about connections.
const COMPLAINTS: Duration = Duration::from_secs(10);
/// How long a log line may wait for others.
const LOG_DELAY: Duration = Duration::from_millis(50);

impl Worker {
    /// A worker that counts in `slot`.
    pub fn new(
        slot: Slot,
        registry: &Arc<Registry>,
        settings: watch::Receiver<Arc<Settings>>,
        log_format: LogFormat,
        log: Option<LogBuffer>,
    ) -> Rc<Self> {
        let most_idle = settings.borrow().limits.idle_per_server;
        Rc::new(Self {
            slot,
            registry: Arc::clone(registry),
            idle: RefCell::new(IdleLinks::new(most_idle)),
            reader: RefCell::new(registry.reader()),
            settings,
            log: log.map(RefCell::new),
            log_format,
            log_waits: Notify::new(),
            roster: RefCell::default(),
            draining: Cell::new(None),
            quit: Cell::new(false),
            empty: Notify::new(),
            complained: Cell::new(None),
            untold: Cell::new(0),
            random: Cell::new(rand::random()),
        })
    }

    /// Does what no request should wait for: closes connections that are of no more use, or that must make room, lets idle
    /// ones give memory back, hands over log lines. Never ends.
    pub async fn housekeeping(&self) {
        let mut changes = self.registry.changes();
        let sweep = async {
            loop {
                // The registry outlives its workers; a closed channel only means that this one is about to end.
                let _changed_or_time = tokio::time::timeout(SWEEP, changes.changed()).await;
                let snapshot = self.snapshot();
                self.idle.borrow_mut().sweep(&snapshot);
                self.cut_off(&snapshot);
            }
        };
        let rest = async {
            loop {
                tokio::time::sleep(REST_AFTER).await;
                self.wake(|roster| roster.due_to_rest(now_coarse(), REST_AFTER));
            }
        };
        let flush = async {
            loop {
                self.log_waits.notified().await;
                tokio::time::sleep(LOG_DELAY).await;
                if let Some(log) = &self.log {
                    log.borrow_mut().flush();
                }
            }
        };
        let (never, ..) = futures_util::future::join4(sweep, rest, flush, self.relieve()).await;
        never
    }

    /// Lets each connection end after the request that it is in; idle ones end at once.
    pub fn drain(&self) {
        self.draining.set(Some(now_coarse()));
        self.wake(|roster| roster.all());
        self.empty.notify_waiters();
    }

    /// Notes that whatever is in flight now will be cut off, which is nobody else's fault.
    pub fn quit(&self) {
        self.quit.set(true);
    }

    pub(super) fn has_quit(&self) -> bool {
        self.quit.get()
    }

    /// Wakes connections that the roster chooses.
    pub(super) fn wake(&self, choose: impl FnOnce(&mut Roster) -> Vec<Waker>) {
        // A waker may drop a task, which takes itself off the roster.
        let wakers = choose(&mut self.roster.borrow_mut());
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.roster.borrow().len()
    }

    /// Waits until no connection is open.
    pub async fn drained(&self) {
        while self.connections() > 0 {
            let emptied = self.empty.notified();
            if self.connections() > 0 {
                emptied.await;
            }
        }
    }

    /// Tells the operator of a connection that was closed, now and then: an attacker must not fill the log.
    pub(super) fn complain(&self, what: &str) {
        let now = now_coarse();
        let untold = self.untold.get();
        if self.complained.get().is_some_and(|last| last.after(COMPLAINTS) > now) {
            self.untold.set(untold + 1);
            return;
        }
        self.complained.set(Some(now));
        self.untold.set(0);
        let before =
            if untold > 0 { format!(" (and {untold} more since the last such message)") } else { String::new() };
        tracing::warn!("{what}{before}");
    }

    /// Since when no connection gets another request.
    pub(super) fn draining_since(&self) -> Option<Millis> {
        self.draining.get()
    }

    pub(super) fn settings(&self) -> Arc<Settings> {
        Arc::clone(&self.settings.borrow())
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.reader.borrow_mut().load())
    }

    pub(super) fn pool(&self, name: &PoolName) -> Option<Arc<Pool>> {
        self.reader.borrow_mut().load().pool(name).cloned()
    }

    /// A number drawn by chance (SplitMix64, which mixes a number that goes on by a fixed step).
    pub(super) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.random.set(state);
        mix(state)
    }

    /// Time since the start of the process.
    pub(super) fn since_start(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.registry.started())
    }

    /// Whether log lines are written at all.
    pub(super) fn logs(&self) -> bool {
        self.log.is_some()
    }

    pub(super) fn log(&self, record: &Record<'_>) {
        let Some(log) = &self.log else { return };
        let first = log.borrow_mut().add(|line| match self.log_format {
            LogFormat::Json => write_json(line, record),
            LogFormat::Haproxy => write_haproxy(line, record),
            LogFormat::Off => {}
        });
        if first {
            self.log_waits.notify_one();
        }
    }
}
