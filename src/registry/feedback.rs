//! What traffic tells of a server's health.
//!
//! Requests that are served tell it by two additions to their worker's own counters, and only where the pool wants it; those
//! that fail leave a note in a place of one. Whoever follows the notes is woken when the place was empty, so that ten
//! thousand failures in a second are one note, and no request ever waits.

use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};

use tokio::sync::Notify;

use super::{
    Registry,
    counters::{Slot, add},
    live::ServerLive,
    server::Server,
};
use crate::{
    health::Strike,
    model::{CheckReport, CheckStatus, OutlierPolicy},
};

/// How a connection for a request failed, which a check would find, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// The server refused it, or could not be reached.
    Refused,
    /// The server neither accepted nor refused it in time.
    Silent,
    /// The server accepted it and reset it before it answered.
    Reset,
}

impl Trouble {
    const ALL: [Self; 3] = [Self::Refused, Self::Silent, Self::Reset];

    /// The same as a check that failed: it says who has seen it. `None` for what a request can cause: whoever finds a path
    /// that crashes its handler would take down one server after another, so that a check has to tell.
    pub fn report(self) -> Option<CheckReport> {
        let (status, detail) = match self {
            Self::Refused => (CheckStatus::L4Connect, "Connection refused to a request"),
            Self::Silent => (CheckStatus::L4Timeout, "no connection for a request in time"),
            Self::Reset => return None,
        };
        Some(CheckReport { status, code: None, duration: std::time::Duration::ZERO, detail: detail.to_owned() })
    }

    /// The larger one is the graver news.
    fn note(self) -> u8 {
        match self {
            Self::Reset => 1,
            Self::Silent => 2,
            Self::Refused => 3,
        }
    }
}

/// What an answer to a request says of its server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It serves.
    Good,
    /// An error of the application: 5xx.
    Bad,
    /// It did not serve at all: 502, 503, 504, or nothing.
    Gateway,
}

impl Judgement {
    /// What a status says.
    pub fn of(status: u16) -> Self {
        match status {
            502..=504 => Self::Gateway,
            500.. => Self::Bad,
            0..500 => Self::Good,
        }
    }
}

/// What traffic has told of one server.
#[derive(Debug, Default)]
pub(super) struct Feedback {
    /// The note of the gravest trouble; 0 is none.
    trouble: AtomicU8,
    /// Bad answers in a row, shared by all workers: what is in a row can't be told from parts. As long as all is well it is
    /// only read.
    bad: AtomicU32,
    gateway: AtomicU32,
    /// A bit for each strike.
    strikes: AtomicU8,
    /// Somebody else has reason to doubt what is believed of it.
    doubt: AtomicBool,
}

/// Requests of one worker to one server, and those that failed.
#[derive(Debug, Default)]
pub(super) struct Tally {
    judged: AtomicU64,
    failed: AtomicU64,
}

/// Wakes those who follow the notes.
#[derive(Debug, Default)]
pub struct Signals {
    /// A connection has failed, or a check is asked for.
    pub trouble: Notify,
    /// Bad answers in a row have reached their limit.
    pub strike: Notify,
}

const STRIKE_BAD: u8 = 1;
const STRIKE_GATEWAY: u8 = 2;

impl Registry {
    /// Notes that a connection for a request has failed.
    #[cold]
    pub fn note_trouble(&self, server: &Server, trouble: Trouble) {
        if server.live.feedback.trouble.fetch_max(trouble.note(), AcqRel) == 0 {
            self.signals().trouble.notify_one();
        }
    }

    /// Counts what an answer, or none, says of its server. To be called once for each try.
    #[inline]
    pub fn judge(&self, slot: Slot, server: &Server, policy: &OutlierPolicy, judgement: Judgement) {
        let (tally, feedback) = (server.live.tally(slot), &server.live.feedback);
        add(&tally.judged, 1);
        if judgement == Judgement::Good {
            clear(&feedback.bad);
            clear(&feedback.gateway);
            return;
        }
        add(&tally.failed, 1);
        let mut strikes = 0;
        if is_limit(&feedback.bad, policy.consecutive_5xx) {
            strikes |= STRIKE_BAD;
        }
        if judgement == Judgement::Bad {
            clear(&feedback.gateway);
        } else if is_limit(&feedback.gateway, policy.consecutive_gateway_errors) {
            strikes |= STRIKE_GATEWAY;
        }
        if strikes != 0 && feedback.strikes.fetch_or(strikes, AcqRel) & strikes != strikes {
            self.signals().strike.notify_one();
        }
    }
}

/// Does not write what is there already: every worker reads it with every request.
fn clear(streak: &AtomicU32) {
    if streak.load(Relaxed) != 0 {
        streak.store(0, Relaxed);
    }
}

/// Counts one more in a row; whether these are enough. Then it begins anew.
fn is_limit(streak: &AtomicU32, limit: u32) -> bool {
    if limit == 0 {
        return false;
    }
    let is_limit = streak.fetch_add(1, Relaxed) + 1 >= limit;
    if is_limit {
        streak.store(0, Relaxed);
    }
    is_limit
}

impl ServerLive {
    /// Takes the note of the gravest trouble.
    pub fn take_trouble(&self) -> Option<Trouble> {
        if self.feedback.trouble.load(Relaxed) == 0 {
            return None;
        }
        let note = self.feedback.trouble.swap(0, AcqRel);
        Trouble::ALL.into_iter().find(|trouble| trouble.note() == note)
    }

    /// Asks for a check: another balancer found something else, or the cluster has lost sight of its node.
    pub(super) fn want_check(&self) {
        self.feedback.doubt.store(true, Relaxed);
    }

    /// Whether a check was asked for; asked once.
    pub fn take_doubt(&self) -> bool {
        self.feedback.doubt.load(Relaxed) && self.feedback.doubt.swap(false, Relaxed)
    }

    /// Takes the strikes since the last call; of both, the wider one.
    pub fn take_strike(&self) -> Option<Strike> {
        if self.feedback.strikes.load(Relaxed) == 0 {
            return None;
        }
        let strikes = self.feedback.strikes.swap(0, AcqRel);
        if strikes & STRIKE_BAD != 0 {
            Some(Strike::Consecutive5xx)
        } else {
            (strikes & STRIKE_GATEWAY != 0).then_some(Strike::ConsecutiveGatewayErrors)
        }
    }

    /// Forgets bad answers in a row: its ejection began or ended.
    pub fn forgive(&self) {
        clear(&self.feedback.bad);
        clear(&self.feedback.gateway);
    }

    /// Requests that were judged, and those of them that failed.
    pub fn judged(&self) -> (u64, u64) {
        self.tallies().fold((0, 0), |(judged, failed), tally| {
            (judged + tally.judged.load(Relaxed), failed + tally.failed.load(Relaxed))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, sync::Arc, time::Instant};

    use futures_util::FutureExt;

    use super::*;
    use crate::{
        config::{self, PoolPolicy},
        model::{PoolName, ServerName, Weight},
        registry::{Command, ResolvedServer},
    };

    fn registry() -> (Registry, Arc<Server>) {
        let (registry, now) = (Registry::new(2, &[], Instant::now()), Instant::now());
        let name = PoolName::parse("nodes").unwrap();
        let pool = config::Pool { name: name.clone(), policy: PoolPolicy::default(), servers: Vec::new() };
        registry.apply(now, Command::Pools(vec![pool]));
        let server = ResolvedServer {
            name: ServerName::parse("s1").unwrap(),
            address: Some(SocketAddr::from(([127, 0, 0, 1], 80))),
            weight: Weight::DEFAULT,
            backup: false,
            maxconn: None,
            check_port: None,
        };
        registry.apply(now, Command::Static { pool: name, servers: vec![server] });
        let server = Arc::clone(&registry.snapshot().pools[0].servers[0]);
        (registry, server)
    }

    fn is_woken(notify: &Notify) -> bool {
        notify.notified().now_or_never().is_some()
    }

    #[test]
    fn many_troubles_are_one_note() {
        let (registry, server) = registry();
        for _ in 0..10_000 {
            registry.note_trouble(&server, Trouble::Refused);
        }
        assert!(is_woken(&registry.signals().trouble) && !is_woken(&registry.signals().trouble));
        assert_eq!((server.live.take_trouble(), server.live.take_trouble()), (Some(Trouble::Refused), None));
        registry.note_trouble(&server, Trouble::Silent);
        assert!(is_woken(&registry.signals().trouble), "an empty place wakes again");
        registry.note_trouble(&server, Trouble::Refused);
        registry.note_trouble(&server, Trouble::Reset);
        assert_eq!(server.live.take_trouble(), Some(Trouble::Refused), "what a request can cause hides nothing");
    }

    #[test]
    fn bad_answers_strike_when_they_are_in_a_row_on_whatever_worker() {
        let (registry, server) = registry();
        let policy = OutlierPolicy { consecutive_5xx: 3, consecutive_gateway_errors: 2, ..OutlierPolicy::default() };
        let judge = |judgements: &[Judgement]| {
            for (index, judgement) in judgements.iter().enumerate() {
                registry.judge(Slot(index % 2), &server, &policy, *judgement);
            }
            let strike = server.live.take_strike();
            assert_eq!(strike.is_some(), is_woken(&registry.signals().strike));
            strike
        };
        use Judgement::{Bad, Gateway, Good};
        assert_eq!(judge(&[Bad, Bad, Good, Bad, Bad]), None);
        assert_eq!(judge(&[Gateway]), Some(Strike::Consecutive5xx));
        assert_eq!(judge(&[Good, Gateway, Bad, Gateway]), Some(Strike::Consecutive5xx));
        assert_eq!(judge(&[Good, Gateway, Gateway]), Some(Strike::ConsecutiveGatewayErrors));
        assert_eq!(server.live.judged(), (13, 10));
    }

    #[test]
    fn a_limit_of_nothing_never_strikes() {
        let (registry, server) = registry();
        let policy = OutlierPolicy { consecutive_5xx: 0, ..OutlierPolicy::default() };
        for _ in 0..100 {
            registry.judge(Slot(0), &server, &policy, Judgement::of(503));
        }
        assert_eq!(server.live.take_strike(), None);
    }

    #[test]
    fn statuses_are_judged_as_envoy_does() {
        let of = [101, 200, 404, 499, 500, 501, 502, 503, 504, 505].map(Judgement::of);
        use Judgement::{Bad, Gateway, Good};
        assert_eq!(of, [Good, Good, Good, Good, Bad, Bad, Gateway, Gateway, Gateway, Bad]);
    }
}
