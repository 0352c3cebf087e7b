//! Slow start of servers that come up beside others that are warm.
//!
//! Why not of each server that comes up: when all of a pool come up together, as at a start, none is warmer than the
//! others, and the first of them would get nearly everything while the second, a moment younger, still warms up.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::server::Server;
use crate::{
    balance::{WHOLE, warmth},
    model::ServerState,
};

/// How warm a server is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmUp {
    /// Since when it has been up, where somebody asked for a slow start.
    since: Option<Instant>,
    /// Whether it warms up little by little.
    is_gradual: bool,
    percent: u32,
}

impl Default for WarmUp {
    fn default() -> Self {
        Self { since: None, is_gradual: false, percent: WHOLE }
    }
}

impl WarmUp {
    /// What it gets of its weight, in percent.
    pub fn percent(self) -> u32 {
        self.percent
    }

    /// The same as long as it is less than everything.
    pub fn throttle(self) -> Option<u32> {
        (self.percent < WHOLE).then_some(self.percent)
    }
}

/// Brings the servers' warmth up to date, for a pool with this slow start. Whether any of them has another one now.
pub(super) fn follow(servers: &mut [Arc<Server>], slowstart: Option<Duration>, now: Instant) -> bool {
    let others_are_warm = slowstart.is_some_and(|slowstart| servers.iter().any(|other| is_warm(other, slowstart, now)));
    let mut changed = false;
    for server in servers {
        let next = next(server, slowstart, others_are_warm, now);
        if server.warm_up != next {
            changed |= server.warm_up.percent != next.percent;
            Arc::make_mut(server).warm_up = next;
        }
    }
    changed
}

fn next(server: &Server, slowstart: Option<Duration>, others_are_warm: bool, now: Instant) -> WarmUp {
    let Some(slowstart) = slowstart.filter(|_| is_up(server)) else { return WarmUp::default() };
    let (since, is_gradual) = match server.warm_up.since {
        Some(since) => (since, server.warm_up.is_gradual),
        None => (now, others_are_warm),
    };
    let percent = if is_gradual { warmth(now.saturating_duration_since(since), slowstart) } else { WHOLE };
    WarmUp { since: Some(since), is_gradual: is_gradual && percent < WHOLE, percent }
}

/// Whether it has served for long enough to be better prepared than one that comes up now.
fn is_warm(server: &Server, slowstart: Duration, now: Instant) -> bool {
    let is_old = |since| now.saturating_duration_since(since) >= slowstart;
    is_up(server) && server.warm_up.since.is_some_and(is_old)
}

/// Whether it answers, whoever may be sent to it: draining does not cool a server down.
fn is_up(server: &Server) -> bool {
    match server.state() {
        ServerState::Maint => false,
        ServerState::Drain(health) | ServerState::Running(health) => health.is_up(),
    }
}
