//! Ejects servers for what they answer to users, and takes them back: `health` decides, the registry carries it out.

use std::{
    collections::HashMap,
    future::Future,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    health::{Action, Detector, Sample},
    model::{Candidacy, PoolName, eligible},
    registry::{Command, Pool, Registry, Server},
};

/// Least time between two looks: a change of the pools may follow another at once.
const PAUSE: Duration = Duration::from_millis(20);

/// Watches the servers of every pool that wants it, until `shutdown` ends.
pub async fn watch_outliers(registry: Arc<Registry>, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let mut changes = registry.changes();
    let mut detectors: HashMap<PoolName, Detector> = HashMap::new();
    // Left over from a watch that ended by a bug: nobody else would take them back.
    for pool in &registry.snapshot().pools {
        for server in pool.servers.iter().filter(|server| server.ejected.is_some()) {
            carry_out(&registry, pool, Instant::now(), Action::Return(server.id));
        }
    }
    loop {
        changes.mark_unchanged();
        let due = look(&registry, &mut detectors, Instant::now());
        let news = async {
            tokio::select! {
                // The registry outlives its watchers.
                _changed = changes.changed() => {}
                () = registry.signals().strike.notified() => {}
                () = reached(due) => {}
            }
        };
        tokio::select! {
            () = &mut shutdown => return,
            () = news => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Looks at every pool once; when to look again, if nothing happens before.
fn look(registry: &Registry, detectors: &mut HashMap<PoolName, Detector>, now: Instant) -> Option<Instant> {
    let snapshot = registry.snapshot();
    detectors.retain(|name, _| snapshot.pool(name).is_some());
    let mut due = None;
    for pool in &snapshot.pools {
        let actions = match &pool.policy.outlier {
            Some(policy) => {
                let samples: Vec<_> = pool.servers.iter().map(|server| sample(server)).collect();
                let detector = detectors.entry(pool.name.clone()).or_default();
                let actions = detector.step(now, policy, &samples);
                let next = detector.next_due(now, policy);
                due = Some(due.map_or(next, |due: Instant| due.min(next)));
                actions
            }
            None => detectors.remove(&pool.name).map(|mut detector| detector.release()).unwrap_or_default(),
        };
        actions.into_iter().for_each(|action| carry_out(registry, pool, now, action));
    }
    due
}

fn carry_out(registry: &Registry, pool: &Pool, now: Instant, action: Action) {
    let (server, ejection) = match action {
        Action::Eject(server, ejection) => (server, Some(ejection)),
        Action::Return(server) => (server, None),
    };
    if let Some(server) = pool.by_id(server) {
        server.live.forgive();
    }
    registry.apply(now, Command::Eject { server, ejection });
}

fn sample(server: &Server) -> Sample {
    let (judged, failed) = server.live.judged();
    Sample { server: server.id, usable: is_usable(server), strike: server.live.take_strike(), judged, failed }
}

/// Whether users could be sent there if it was not ejected.
fn is_usable(server: &Server) -> bool {
    let Server { operator, node, health, weight, .. } = server;
    eligible(*operator, *node, *health, *weight) == Candidacy::Everybody
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
