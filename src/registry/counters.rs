//! Counters that cost a plain addition.
//!
//! Each worker has its own copy on its own cache lines and is its only writer, so a load, an addition and a store are
//! enough: no locked instruction, no line that travels between processors.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// Which worker writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot(pub usize);

/// Adds to a counter whose only writer is the calling thread.
#[inline]
pub fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed).wrapping_add(amount), Relaxed);
}

/// Takes away from a level whose only writer is the calling thread.
#[inline]
pub fn subtract(level: &AtomicU64, amount: u64) {
    level.store(level.load(Relaxed).wrapping_sub(amount), Relaxed);
}

/// One copy for each worker, far enough apart that they share no cache line (128 bytes: processors fetch lines in pairs).
#[derive(Debug)]
pub(super) struct PerWorker<T>(Box<[Padded<T>]>);

#[derive(Debug, Default)]
#[repr(align(128))]
struct Padded<T>(T);

impl<T: Default> PerWorker<T> {
    pub(super) fn new(workers: usize) -> Self {
        Self((0..workers.max(1)).map(|_| Padded::default()).collect())
    }

    /// The worker's own copy. A slot beyond the last is a bug; it shares the last copy rather than stop traffic.
    #[inline]
    pub(super) fn of(&self, Slot(slot): Slot) -> &T {
        debug_assert!(slot < self.0.len(), "slot {slot} of {}", self.0.len());
        &self.0[slot.min(self.0.len() - 1)].0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().map(|padded| &padded.0)
    }
}

/// Class of a response status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Class(usize);

impl Class {
    /// The six classes in HAProxy's words.
    pub const WORDS: [&'static str; 6] = ["1xx", "2xx", "3xx", "4xx", "5xx", "other"];

    /// The class of a status.
    pub fn of(status: u16) -> Self {
        match status {
            100..=599 => Self(usize::from(status / 100) - 1),
            _ => Self(5),
        }
    }

    /// Its place in [`Class::WORDS`] and in the totals.
    pub fn index(self) -> usize {
        self.0
    }
}

macro_rules! counters {
    ($(#[$doc:meta])* $live:ident => $totals:ident { $($(#[$field_doc:meta])* $field:ident,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $live {
            $($(#[$field_doc])* pub $field: AtomicU64,)*
            /// Responses by [`Class`].
            pub responses: [AtomicU64; 6],
        }

        /// The same, summed over the workers.
        #[derive(Debug, Default, Clone, PartialEq, Eq)]
        pub struct $totals {
            $($(#[$field_doc])* pub $field: u64,)*
            /// Responses by [`Class`].
            pub responses: [u64; 6],
        }

        impl $totals {
            pub(super) fn sum<'a>(workers: impl Iterator<Item = &'a $live>) -> Self {
                let mut totals = Self::default();
                for $live { $($field,)* responses } in workers {
                    $(totals.$field += $field.load(Relaxed);)*
                    for (total, counter) in totals.responses.iter_mut().zip(responses) {
                        *total += counter.load(Relaxed);
                    }
                }
                totals
            }
        }
    };
}

counters! {
    /// What one worker counts for a frontend.
    FrontendCounters => FrontendTotals {
        /// Connections accepted.
        connections,
        /// Requests received.
        requests,
        /// Bytes received from clients.
        bytes_in,
        /// Bytes sent to clients.
        bytes_out,
        /// Requests refused because of their form: bad syntax, too large, not complete in time.
        request_errors,
        /// Requests that the balancer answered itself because of a bug of ours.
        internal_errors,
        /// Tunnels that are open: the one number here that falls, too.
        tunnels,
    }
}

counters! {
    /// What one worker counts for a server, or for a pool as a whole.
    ServerCounters => ServerTotals {
        /// Requests sent or meant to be sent here.
        requests,
        /// Of these, chosen by the algorithm and not by a cookie.
        balanced,
        /// Bytes of requests.
        bytes_in,
        /// Bytes of responses.
        bytes_out,
        /// Connections opened.
        connects,
        /// Requests sent on a connection that was already open.
        reuses,
        /// Requests that failed because no connection could be made.
        connect_errors,
        /// Responses that were not valid, or did not come.
        response_errors,
        /// Requests tried once more on the same server.
        retries,
        /// Requests given to another server.
        redispatches,
        /// Transfers that the client broke off.
        client_aborts,
        /// Transfers that the server broke off.
        server_aborts,
        /// Tunnels that are open: the one number here that falls, too.
        tunnels,
    }
}

/// How long the phases of a request took. `None` is a phase that was not reached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Times {
    /// Waiting for a free server.
    pub queue: Option<Duration>,
    /// Connecting to the server.
    pub connect: Option<Duration>,
    /// From the request sent to the response head.
    pub response: Option<Duration>,
    /// From the request's first byte to the response's last.
    pub total: Duration,
}

/// Averages over about the last 1,024 requests, and the longest ever; written by one worker.
#[derive(Debug, Default)]
pub(super) struct TimeCounters {
    count: AtomicU64,
    last: AtomicU64,
    sums: [AtomicU64; 4],
    longest: [AtomicU64; 4],
}

/// Requests over which times are averaged, as in HAProxy.
const WINDOW: u64 = 1024;

impl TimeCounters {
    /// Counts one request that ended `at` after the start of the process.
    pub(super) fn record(&self, at: Duration, times: Times) {
        let Times { queue, connect, response, total } = times;
        let count = self.count.load(Relaxed);
        let full = count >= WINDOW;
        for (index, time) in [queue, connect, response, Some(total)].into_iter().enumerate() {
            let micros = time.unwrap_or_default().as_micros() as u64;
            let sum = self.sums[index].load(Relaxed);
            let leaving = if full { sum / WINDOW } else { 0 };
            self.sums[index].store(sum - leaving + micros, Relaxed);
            if micros > self.longest[index].load(Relaxed) {
                self.longest[index].store(micros, Relaxed);
            }
        }
        if !full {
            self.count.store(count + 1, Relaxed);
        }
        self.last.store(at.as_millis() as u64 + 1, Relaxed);
    }
}

/// Times summed over the workers, in the order queue, connect, response, total.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TimeTotals {
    /// Averages over about the last 1,024 requests of each worker.
    pub average: [Duration; 4],
    /// The longest ever.
    pub longest: [Duration; 4],
    /// When the last request ended, counted from the start of the process; `None` when there was none.
    pub last: Option<Duration>,
}

impl TimeTotals {
    pub(super) fn sum<'a>(workers: impl Iterator<Item = &'a TimeCounters>) -> Self {
        let (mut count, mut last, mut sums, mut longest) = (0, 0, [0; 4], [0; 4]);
        for worker in workers {
            count += worker.count.load(Relaxed);
            last = last.max(worker.last.load(Relaxed));
            for index in 0..4 {
                sums[index] += worker.sums[index].load(Relaxed);
                longest[index] = longest[index].max(worker.longest[index].load(Relaxed));
            }
        }
        Self {
            average: sums.map(|sum: u64| Duration::from_micros(sum / count.max(1))),
            longest: longest.map(Duration::from_micros),
            last: last.checked_sub(1).map(Duration::from_millis),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_fall_into_six_classes() {
        let word = |status| Class::WORDS[Class::of(status).index()];
        assert_eq!([101, 200, 304, 404, 503, 700].map(word), Class::WORDS);
        assert_eq!(word(99), "other");
    }

    #[test]
    fn totals_are_summed_over_the_workers() {
        let workers: PerWorker<FrontendCounters> = PerWorker::new(2);
        add(&workers.of(Slot(0)).requests, 3);
        add(&workers.of(Slot(1)).requests, 4);
        add(&workers.of(Slot(1)).responses[1], 1);
        let totals = FrontendTotals::sum(workers.iter());
        assert_eq!((totals.requests, totals.responses[1]), (7, 1));
    }

    #[test]
    fn the_average_follows_the_last_requests() {
        let counters = TimeCounters::default();
        let of = |millis| Times { total: Duration::from_millis(millis), ..Times::default() };
        for _ in 0..2000 {
            counters.record(Duration::ZERO, of(10));
        }
        let average = |counters| TimeTotals::sum(std::iter::once(counters)).average[3];
        assert_eq!(average(&counters), Duration::from_millis(10));
        for _ in 0..20_000 {
            counters.record(Duration::from_secs(9), of(20));
        }
        assert!(average(&counters).abs_diff(Duration::from_millis(20)) < Duration::from_millis(1));
        let totals = TimeTotals::sum(std::iter::once(&counters));
        assert_eq!((totals.longest[3], totals.last), (Duration::from_millis(20), Some(Duration::from_secs(9))));
    }
}
