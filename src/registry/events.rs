//! What a person is told when a server comes, goes, or turns. The words and numbers are those that HAProxy's users grep for.

use std::{sync::Arc, time::SystemTime};

use super::{operation::Operation, server::Server};
use crate::{
    health::Share,
    model::{AdminState, Candidacy, CheckReport, Ejection, Health, PoolName, ServerState, Weight},
};

pub(super) fn joined(pool: &PoolName, server: &Server, now: SystemTime) {
    let Server { name, address, .. } = server;
    match server.operators_word(now) {
        Some(word) => tracing::info!("Server {pool}/{name} joined at {address}; an operator wants it so: {word}."),
        None => tracing::info!("Server {pool}/{name} joined at {address}."),
    }
}

pub(super) fn removed(pool: &PoolName, server: &Server, reason: &str) {
    let sessions = server.live.in_flight.now();
    tracing::info!("Server {pool}/{} removed: {reason}. {sessions} sessions active.", server.name);
}

/// Nobody is served any more; before the first server came, that is no news.
pub(super) fn pool_is_empty(pool: &PoolName, ever_served: bool) {
    if ever_served {
        tracing::error!("backend {pool} has no server available!");
    } else {
        tracing::info!("backend {pool} has no server yet.");
    }
}

/// The pool sends users to servers that are down from now on.
pub(super) fn panic_begins(pool: &PoolName, Share { well, all }: Share, threshold: u32) {
    tracing::error!(
        "backend {pool} panics: {well} of {all} servers are up, less than {threshold} %. All are used, whatever their health!"
    );
}

/// It does so no longer.
pub(super) fn panic_ends(pool: &PoolName) {
    tracing::warn!("backend {pool} panics no more: servers that are down get no requests.");
}

/// Tells of a server that went from `before` to its present state; `queue` is how many requests waited for it, and how many
/// wait in the pool as a whole.
pub(super) fn turned(
    pool: &PoolName,
    server: &Server,
    before: ServerState,
    all: &[Arc<Server>],
    (requeued, waiting): (usize, usize),
) {
    let (role, name) = (if server.backup { "Backup Server" } else { "Server" }, &server.name);
    let counts = Counts::of(all);
    let sessions = server.live.in_flight.now();
    let left = || {
        let on_backup = if counts.active == 0 && counts.backup > 0 { " Running on backup." } else { "" };
        format!(
            "{counts} left.{on_backup} {sessions} sessions active, {requeued} requeued, {waiting} remaining in queue."
        )
    };
    match server.state() {
        ServerState::Maint => {
            tracing::warn!("{role} {pool}/{name} is going DOWN for maintenance. {}", left());
        }
        ServerState::Drain(health) if !matches!(before, ServerState::Drain(_)) && health.is_up() => {
            tracing::info!("{role} {pool}/{name} enters drain state. {counts} online. {sessions} sessions active.");
        }
        ServerState::Drain(health) | ServerState::Running(health) => {
            let reason = reason(server);
            match health {
                Health::Initial => {
                    tracing::info!("{role} {pool}/{name} is ready; it gets traffic once a check has passed.");
                }
                Health::Up { .. } | Health::Unchecked if was_ejected(before) => {
                    tracing::info!("{role} {pool}/{name} is UP (its ejection is over). {counts} online.");
                }
                Health::Up { .. } | Health::Unchecked => {
                    tracing::info!(
                        "{role} {pool}/{name} is UP{reason}. {counts} online. 0 sessions requeued, {waiting} total in queue."
                    );
                }
                Health::Stopping { .. } => {
                    tracing::warn!(
                        "{role} {pool}/{name} is stopping{reason}. {counts} online. {sessions} sessions active."
                    );
                }
                Health::Ejected if was_down(before) => {
                    tracing::info!("{role} {pool}/{name} passes its checks again, and its ejection goes on.");
                }
                Health::Ejected => {
                    let ejected = server.ejected.as_ref().map(ejected).unwrap_or_default();
                    tracing::warn!("{role} {pool}/{name} is DOWN ({ejected}). {}", left());
                }
                Health::Down { .. } => {
                    tracing::warn!("{role} {pool}/{name} is DOWN{reason}. {}", left());
                }
            }
        }
    }
}

/// Tells of a server that went from `before` to its present state because an operator wanted it.
pub(super) fn operated(
    pool: &PoolName,
    server: &Server,
    before: ServerState,
    operation: Operation,
    all: &[Arc<Server>],
    queue: (usize, usize),
) {
    let (role, name) = (if server.backup { "Backup Server" } else { "Server" }, &server.name);
    let counts = Counts::of(all);
    let sessions = server.live.in_flight.now();
    match operation {
        Operation::State(AdminState::Ready) if server.operator == AdminState::Ready => {
            let left = if before == ServerState::Maint { "maintenance" } else { "drain" };
            match server.state() {
                ServerState::Running(health) if health.is_up() => {
                    tracing::info!("{role} {pool}/{name} is UP/READY (leaving forced {left}). {counts} online.");
                }
                ServerState::Maint => {
                    tracing::info!("{role} {pool}/{name} leaves forced {left}, but its node is not ready.");
                }
                state @ (ServerState::Running(_) | ServerState::Drain(_)) => {
                    tracing::info!("{role} {pool}/{name} leaves forced {left} and is {state}.");
                }
            }
        }
        Operation::Health(_) => {
            let word = match server.health {
                Health::Unchecked | Health::Up { .. } => "UP",
                Health::Stopping { .. } => "stopping",
                Health::Initial | Health::Ejected | Health::Down { .. } => "DOWN",
            };
            tracing::warn!(
                "{role} {pool}/{name} is {word}, changed from CLI. {counts} left. {sessions} sessions active."
            );
        }
        Operation::State(_) | Operation::Weight(_) => turned(pool, server, before, all, queue),
    }
}

/// Tells of a share that an operator changed.
pub(super) fn weighted(pool: &PoolName, server: &Server, before: Weight) {
    let Server { name, weight, initial_weight, .. } = server;
    tracing::info!("Server {pool}/{name} has weight {weight} (it was {before}, initially {initial_weight}).");
}

/// Tells of a drain or a maintenance that has lasted as long as its pool allows.
pub(super) fn overdue(pool: &PoolName, server: &Server) {
    let (name, sessions) = (&server.name, server.live.in_flight.now());
    if server.is_cut() {
        tracing::warn!("Server {pool}/{name}: the maint-deadline is over; cutting off {sessions} sessions.");
    } else {
        tracing::warn!(
            "Server {pool}/{name}: the drain-deadline is over; users with a cookie for it go elsewhere. {sessions} sessions active."
        );
    }
}

/// An ejection as a person reads it: `ejected for 30s: 5 failed requests in a row (5xx or no answer)`.
pub(super) fn ejected(Ejection { reason, until: _, lasts }: &Ejection) -> String {
    format!("ejected for {}: {reason}", humantime::format_duration(*lasts))
}

fn was_ejected(before: ServerState) -> bool {
    match before {
        ServerState::Maint => false,
        ServerState::Drain(health) | ServerState::Running(health) => health == Health::Ejected,
    }
}

fn was_down(before: ServerState) -> bool {
    match before {
        ServerState::Maint => false,
        ServerState::Drain(health) | ServerState::Running(health) => matches!(health, Health::Down { .. }),
    }
}

/// The last check, as `, reason: …, code: …, info: "…", check duration: …ms`.
fn reason(server: &Server) -> String {
    let Some(CheckReport { status, code, duration, detail }) = server.live.record().last else { return String::new() };
    let code = code.map(|code| format!(", code: {code}")).unwrap_or_default();
    let info = if detail.is_empty() { String::new() } else { format!(", info: {detail:?}") };
    format!(", reason: {}{code}{info}, check duration: {}ms", status.description(), duration.as_millis())
}

/// How many servers take traffic, without those that do so in a panic alone.
struct Counts {
    active: usize,
    backup: usize,
}

impl Counts {
    fn of(servers: &[Arc<Server>]) -> Self {
        let count = |backup| {
            let serves =
                |server: &&Arc<Server>| server.backup == backup && server.own_candidacy() == Candidacy::Everybody;
            servers.iter().filter(serves).count()
        };
        Self { active: count(false), backup: count(true) }
    }
}

impl std::fmt::Display for Counts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} active and {} backup servers", self.active, self.backup)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::{
        config::{self, PoolPolicy},
        model::{ServerName, Weight},
        registry::{Command, Registry, ResolvedServer},
    };

    #[test]
    fn who_serves_in_a_panic_is_counted_by_what_it_is_itself() {
        let (registry, now) = (Registry::new(1, &[], Instant::now()), Instant::now());
        let name = PoolName::parse("nodes").unwrap();
        let pool = config::Pool { name: name.clone(), policy: PoolPolicy::default(), servers: Vec::new() };
        registry.apply(now, Command::Pools(vec![pool]));
        let servers = ["s1", "s2"].map(|name| ResolvedServer {
            name: ServerName::parse(name).unwrap(),
            address: Some(([127, 0, 0, 1], 80).into()),
            weight: Weight::DEFAULT,
            backup: false,
            maxconn: None,
            check_port: None,
        });
        registry.apply(now, Command::Static { pool: name, servers: servers.into() });
        let mut servers = registry.snapshot().pools[0].servers.clone();
        for server in &mut servers {
            Arc::make_mut(server).forced = true;
        }
        // It has come back, and the panic that is about to end is not over yet.
        Arc::make_mut(&mut servers[0]).health = Health::Up { failed: 0, fall: 3 };
        assert_eq!(Counts::of(&servers).to_string(), "1 active and 0 backup servers");
    }
}
