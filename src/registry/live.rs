//! What changes with every request: it lives beside the snapshots and outlasts them.

use std::{
    num::NonZeroU32,
    ops::Deref,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

use super::{
    counters::{
        FrontendCounters, FrontendTotals, PerWorker, ServerCounters, ServerTotals, Slot, TimeCounters, TimeTotals,
        Times,
    },
    feedback::{Feedback, Tally},
    place::PoolQueue,
    pool::Pool,
};
use crate::model::{CheckReport, PoolName};

/// How many there are now, and the most there ever were.
#[derive(Debug, Default)]
pub struct Gauge {
    now: AtomicU32,
    most: AtomicU32,
}

impl Gauge {
    /// How many there are now.
    pub fn now(&self) -> u32 {
        self.now.load(Ordering::Acquire)
    }

    /// The most there ever were at once.
    pub fn most(&self) -> u32 {
        self.most.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self) {
        let now = self.now.fetch_add(1, Ordering::AcqRel) + 1;
        self.note_most(now);
    }

    /// Adds one, unless there are `limit` already.
    pub(super) fn try_enter(&self, limit: NonZeroU32) -> bool {
        let one_more = |now: u32| (now < limit.get()).then_some(now + 1);
        let entered = self.now.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more);
        if let Ok(before) = entered {
            self.note_most(before + 1);
        }
        entered.is_ok()
    }

    /// In one order with whoever looks for a free place (`place`).
    pub(super) fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn note_most(&self, now: u32) {
        if now > self.most.load(Ordering::Relaxed) {
            self.most.fetch_max(now, Ordering::Relaxed);
        }
    }
}

/// Something that has a gauge.
trait Gauged {
    fn gauge(&self) -> &Gauge;
}

/// Counts as one until it is dropped.
#[derive(Debug)]
#[expect(private_bounds, reason = "only two kinds of this room have a gauge")]
pub struct Occupied<T: Gauged>(Arc<T>);

#[expect(private_bounds, reason = "only two kinds of this room have a gauge")]
impl<T: Gauged> Occupied<T> {
    /// Adds one to the gauge of `of`.
    pub fn enter(of: &Arc<T>) -> Self {
        of.gauge().enter();
        Self(Arc::clone(of))
    }
}

impl<T: Gauged> Deref for Occupied<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: Gauged> Drop for Occupied<T> {
    fn drop(&mut self) {
        self.0.gauge().leave();
    }
}

/// Events in the last whole second, and the most in any second.
#[derive(Debug, Default)]
pub struct Rate {
    total: AtomicU64,
    last: AtomicU64,
    most: AtomicU64,
}

impl Rate {
    /// Events in the last whole second.
    pub fn last(&self) -> u64 {
        self.last.load(Ordering::Relaxed)
    }

    /// The most events in any second.
    pub fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    /// A second has passed and the total is `total` now.
    fn tick(&self, total: u64) {
        let last = total.saturating_sub(self.total.swap(total, Ordering::Relaxed));
        self.last.store(last, Ordering::Relaxed);
        self.most.fetch_max(last, Ordering::Relaxed);
    }
}

/// What is counted for a frontend.
#[derive(Debug)]
pub struct FrontendLive {
    /// The frontend's name.
    pub name: PoolName,
    /// Client connections.
    pub connections: Gauge,
    /// Connections that may be served at once; `None` is no limit.
    pub maxconn: Option<NonZeroU32>,
    /// A permit for each of them.
    pub admission: Option<Arc<Semaphore>>,
    /// New connections each second.
    pub connection_rate: Rate,
    /// Requests each second.
    pub request_rate: Rate,
    workers: PerWorker<FrontendCounters>,
}

impl FrontendLive {
    pub(super) fn new(name: PoolName, maxconn: Option<NonZeroU32>, workers: usize) -> Self {
        Self {
            name,
            maxconn,
            admission: maxconn.map(|limit| Arc::new(Semaphore::new(limit.get() as usize))),
            connections: Gauge::default(),
            connection_rate: Rate::default(),
            request_rate: Rate::default(),
            workers: PerWorker::new(workers),
        }
    }

    /// The counters of one worker, which alone may write them.
    #[inline]
    pub fn counters(&self, slot: Slot) -> &FrontendCounters {
        self.workers.of(slot)
    }

    /// The counters of all workers.
    pub fn totals(&self) -> FrontendTotals {
        FrontendTotals::sum(self.workers.iter())
    }

    pub(super) fn tick(&self) {
        let totals = self.totals();
        self.connection_rate.tick(totals.connections);
        self.request_rate.tick(totals.requests);
    }
}

/// What the checks of a server have found so far.
#[derive(Debug, Clone, Default)]
pub struct CheckRecord {
    /// The last one.
    pub last: Option<CheckReport>,
    /// Checks that failed while the server was up.
    pub failures: u64,
    /// Failures that requests met while it was up, and that counted as a check.
    pub met: u64,
    /// How often the server went down.
    pub downs: u64,
    /// When it went down, if it is.
    pub down_since: Option<Instant>,
    /// How long it was down in all, without the present time.
    pub downtime: Duration,
}

/// What is counted for a server.
#[derive(Debug)]
pub struct ServerLive {
    /// Requests in flight.
    pub in_flight: Gauge,
    /// Requests each second.
    pub request_rate: Rate,
    /// Idle connections of all workers.
    pub idle: AtomicU32,
    /// Whether a connection that becomes idle is closed.
    closes_idle: AtomicBool,
    pub(super) feedback: Feedback,
    check: Mutex<CheckRecord>,
    workers: PerWorker<(ServerCounters, TimeCounters, Tally)>,
}

/// What is known of a pool's own ups and downs.
#[derive(Debug, Clone)]
pub struct PoolRecord {
    /// When it last went up or down.
    pub changed: Instant,
    /// How often it went down.
    pub downs: u64,
    /// When it went down, if it is.
    pub down_since: Option<Instant>,
    /// How long it was down in all, without the present time.
    pub downtime: Duration,
    /// Whether it ever had a server.
    pub served: bool,
}

/// What is counted for a pool, with servers that are gone and requests that found no server.
#[derive(Debug)]
pub struct PoolLive {
    /// Whose turn it is; shared by all workers.
    pub(super) turn: AtomicUsize,
    /// Requests in flight.
    pub in_flight: Gauge,
    /// Requests each second.
    pub request_rate: Rate,
    pub(super) queue: PoolQueue,
    record: Mutex<PoolRecord>,
    workers: PerWorker<(ServerCounters, TimeCounters)>,
}

macro_rules! upstream_live {
    ($live:ident, $record:ident, $record_type:ty) => {
        impl $live {
            /// The counters of one worker, which alone may write them.
            #[inline]
            pub fn counters(&self, slot: Slot) -> &ServerCounters {
                &self.workers.of(slot).0
            }

            /// Counts how long a request took that ended `at` after the start of the process.
            pub fn record_times(&self, slot: Slot, at: Duration, times: Times) {
                self.workers.of(slot).1.record(at, times);
            }

            /// The counters of all workers.
            pub fn totals(&self) -> ServerTotals {
                ServerTotals::sum(self.workers.iter().map(|worker| &worker.0))
            }

            /// The times of all workers.
            pub fn times(&self) -> TimeTotals {
                TimeTotals::sum(self.workers.iter().map(|worker| &worker.1))
            }

            /// A copy of the record of its ups and downs.
            pub fn record(&self) -> $record_type {
                self.lock().clone()
            }

            pub(super) fn lock(&self) -> MutexGuard<'_, $record_type> {
                self.$record.lock().unwrap_or_else(PoisonError::into_inner)
            }

            pub(super) fn tick(&self) {
                self.request_rate.tick(self.totals().requests);
            }
        }
    };
}

upstream_live!(ServerLive, check, CheckRecord);
upstream_live!(PoolLive, record, PoolRecord);

impl Gauged for Pool {
    fn gauge(&self) -> &Gauge {
        &self.live.in_flight
    }
}

impl Gauged for FrontendLive {
    fn gauge(&self) -> &Gauge {
        &self.connections
    }
}

impl ServerLive {
    pub(super) fn new(workers: usize) -> Self {
        Self {
            in_flight: Gauge::default(),
            request_rate: Rate::default(),
            idle: AtomicU32::new(0),
            closes_idle: AtomicBool::new(false),
            feedback: Feedback::default(),
            check: Mutex::default(),
            workers: PerWorker::new(workers),
        }
    }

    /// Whether a connection that becomes idle now may be kept; the request that used it may have chosen the server long ago.
    pub fn keeps_idle(&self) -> bool {
        !self.closes_idle.load(Ordering::Relaxed)
    }

    pub(super) fn note_keeps_idle(&self, keeps: bool) {
        self.closes_idle.store(!keeps, Ordering::Relaxed);
    }

    pub(super) fn tally(&self, slot: Slot) -> &Tally {
        &self.workers.of(slot).2
    }

    pub(super) fn tallies(&self) -> impl Iterator<Item = &Tally> {
        self.workers.iter().map(|worker| &worker.2)
    }
}

impl PoolLive {
    pub(super) fn new(workers: usize, now: Instant) -> Self {
        let record = PoolRecord { changed: now, downs: 0, down_since: None, downtime: Duration::ZERO, served: false };
        Self {
            turn: AtomicUsize::new(0),
            in_flight: Gauge::default(),
            request_rate: Rate::default(),
            queue: PoolQueue::default(),
            record: Mutex::new(record),
            workers: PerWorker::new(workers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guard_counts_until_it_is_dropped() {
        let frontend = Arc::new(FrontendLive::new(PoolName::parse("in").unwrap(), None, 1));
        let first = Occupied::enter(&frontend);
        let second = Occupied::enter(&frontend);
        drop(first);
        assert_eq!((frontend.connections.now(), frontend.connections.most()), (1, 2));
        drop(second);
        assert_eq!(frontend.connections.now(), 0);
    }

    #[test]
    fn a_gauge_stops_at_its_limit() {
        let (gauge, limit) = (Gauge::default(), NonZeroU32::new(2).unwrap());
        assert_eq!([0, 1, 2].map(|_| gauge.try_enter(limit)), [true, true, false]);
        gauge.leave();
        assert!(gauge.try_enter(limit));
        assert_eq!((gauge.now(), gauge.most()), (2, 2));
    }

    #[test]
    fn a_rate_is_what_came_since_the_last_tick() {
        let rate = Rate::default();
        rate.tick(5);
        rate.tick(7);
        assert_eq!((rate.last(), rate.most()), (2, 5));
    }
}
