//! What all connections of one worker share.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

use tokio::sync::{Notify, watch};

use super::pace::Pace;
use crate::{
    config::{Limits, LogFormat, Timeouts},
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
}

/// What all connections of one worker share.
#[derive(Debug)]
pub struct Worker {
    pub(super) slot: Slot,
    pub(super) registry: Arc<Registry>,
    pub(super) idle: RefCell<IdleLinks>,
    reader: RefCell<Reader>,
    settings: watch::Receiver<Settings>,
    log: Option<RefCell<LogBuffer>>,
    log_format: LogFormat,
    log_waits: Notify,
    roster: RefCell<Roster>,
    draining: Cell<Option<Millis>>,
    empty: Notify,
    complained: Cell<Option<Millis>>,
    untold: Cell<u64>,
}

/// The connections that are open, and how to wake each.
#[derive(Debug, Default)]
struct Roster {
    next: u64,
    wakers: HashMap<u64, Option<Waker>>,
}

/// How often idle connections are looked through for ones that servers closed.
const SWEEP: Duration = Duration::from_secs(5);
/// Least time between two complaints about connections.
const COMPLAINTS: Duration = Duration::from_secs(10);
/// How long a log line may wait for others.
const LOG_DELAY: Duration = Duration::from_millis(50);

impl Worker {
    /// A worker that counts in `slot`.
    pub fn new(
        slot: Slot,
        registry: &Arc<Registry>,
        settings: watch::Receiver<Settings>,
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
            empty: Notify::new(),
            complained: Cell::new(None),
            untold: Cell::new(0),
        })
    }

    /// Does what no request should wait for: closes connections that are of no more use, hands over log lines. Never ends.
    pub async fn housekeeping(&self) {
        let mut changes = self.registry.changes();
        let sweep = async {
            loop {
                // The registry outlives its workers; a closed channel only means that this one is about to end.
                let _changed_or_time = tokio::time::timeout(SWEEP, changes.changed()).await;
                let snapshot = self.snapshot();
                self.idle.borrow_mut().sweep(&snapshot);
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
        let (never, _) = futures_util::future::join(sweep, flush).await;
        never
    }

    /// Lets each connection end after the request that it is in; idle ones end at once.
    pub fn drain(&self) {
        self.draining.set(Some(now_coarse()));
        let wakers: Vec<Waker> = self.roster.borrow().wakers.values().flatten().cloned().collect();
        wakers.into_iter().for_each(Waker::wake);
        self.empty.notify_waiters();
    }

    /// Connections that are open.
    pub fn connections(&self) -> usize {
        self.roster.borrow().wakers.len()
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

    pub(super) fn settings(&self) -> Settings {
        self.settings.borrow().clone()
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(self.reader.borrow_mut().load())
    }

    pub(super) fn pool(&self, name: &PoolName) -> Option<Arc<Pool>> {
        self.reader.borrow_mut().load().pool(name).cloned()
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

    /// Notes an open connection until the entry is dropped.
    pub(super) fn enroll(self: &Rc<Self>) -> Enrolled {
        let mut roster = self.roster.borrow_mut();
        roster.next += 1;
        let number = roster.next;
        roster.wakers.insert(number, None);
        Enrolled { worker: Rc::clone(self), number, known: false }
    }
}

/// An open connection's entry in the roster.
#[derive(Debug)]
pub(super) struct Enrolled {
    worker: Rc<Worker>,
    number: u64,
    known: bool,
}

impl Enrolled {
    /// The worker that knows of it.
    pub(super) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Tells how to wake the connection; a task keeps its waker, so once is enough.
    pub(super) fn wake_by(&mut self, waker: &Waker) {
        if !self.known {
            self.worker.roster.borrow_mut().wakers.insert(self.number, Some(waker.clone()));
            self.known = true;
        }
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        let mut roster = self.worker.roster.borrow_mut();
        roster.wakers.remove(&self.number);
        if roster.wakers.is_empty() {
            self.worker.empty.notify_waiters();
        }
    }
}
