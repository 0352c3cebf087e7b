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
    model::PoolName,
    registry::{Command, Registry, Server, Snapshot},
};

/// Least time between two looks: a change of the pools may follow another at once.
const PAUSE: Duration = Duration::from_millis(20);

/// Watches the servers of every pool that wants it, until `shutdown` ends.
pub async fn watch_outliers(registry: Arc<Registry>, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let mut changes = registry.changes();
    let mut detectors: HashMap<PoolName, Detector> = HashMap::new();
    // Left over from a watch that ended by a bug: nobody else would take them back.
    let snapshot = registry.snapshot();
    let servers = snapshot.pools.iter().flat_map(|pool| &pool.servers);
    let left_over = servers.filter(|server| server.ejected.is_some()).map(|server| Action::Return(server.id)).collect();
    carry_out(&registry, &snapshot, Instant::now(), left_over);
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
    let (mut due, mut all) = (None, Vec::new());
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
        all.extend(actions);
    }
    carry_out(registry, &snapshot, now, all);
    due
}

/// Carries out all that was decided at once, as one change.
fn carry_out(registry: &Registry, snapshot: &Snapshot, now: Instant, actions: Vec<Action>) {
    if actions.is_empty() {
        return;
    }
    let command = |action| match action {
        Action::Eject(server, ejection) => (server, Some(ejection)),
        Action::Return(server) => (server, None),
    };
    let ejections: Vec<_> = actions.into_iter().map(command).collect();
    for (server, _) in &ejections {
        if let Some(server) = snapshot.pools.iter().find_map(|pool| pool.by_id(*server)) {
            server.live.forgive();
        }
    }
    registry.apply(now, Command::Eject(ejections));
}

fn sample(server: &Server) -> Sample {
    let (judged, failed) = server.live.judged();
    Sample {
        server: server.id,
        usable: server.would_serve(),
        ejected: server.ejected.is_some(),
        strike: server.live.take_strike(),
        judged,
        failed,
    }
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
