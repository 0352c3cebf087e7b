//! Uses servers whatever their health where too few are well (Envoy: panic threshold).

use std::sync::Arc;

use super::{events, server::Server};
use crate::{
    health::{Share, panics},
    model::{AdminState, Candidacy, Health, NodeState, PoolName, eligible},
};

/// Marks the servers of a pool that get users although they are down, or takes the marks away; tells when that changes.
///
/// Only those count and are used whose operator and node let them: maintenance and drain hold. So does a server's own wish
/// to stop, and one that never passed a check is still waited for, or every start would begin with a panic.
pub(super) fn settle(pool: &PoolName, threshold: u32, servers: &mut [Arc<Server>]) {
    let before = servers.iter().any(|server| server.forced);
    let panic = share(servers).filter(|(share, _)| panics(threshold, *share));
    for server in servers.iter_mut() {
        let forced = panic.is_some_and(|(_, backup)| server.backup == backup) && is_believed_down(server);
        if server.forced != forced {
            Arc::make_mut(server).forced = forced;
        }
    }
    match (before, panic) {
        (false, Some((share, _))) => events::panic_begins(pool, share, threshold),
        (true, None) => events::panic_ends(pool),
        (true, Some(_)) | (false, None) => {}
    }
}

/// How many of the servers in use are well, and whether these are the backups: they are when only among them one is left.
fn share(servers: &[Arc<Server>]) -> Option<(Share, bool)> {
    let of = |backup| {
        let could = servers.iter().filter(|server| server.backup == backup && could_serve(server));
        let (well, down): (Vec<_>, Vec<_>) = could.partition(|server| server.standing().is_up());
        Share { well: well.len(), all: well.len() + down.len() }
    };
    let (active, backup) = (of(false), of(true));
    let backups_serve = active.well == 0 && (backup.well > 0 || active.all == 0);
    let (share, backup) = if backups_serve { (backup, true) } else { (active, false) };
    (share.all > 0).then_some((share, backup))
}

/// Whether all but its health lets it serve.
fn could_serve(server: &Server) -> bool {
    let Server { operator, node, weight, .. } = *server;
    let others_let = eligible(operator, node, Health::Unchecked, weight) == Candidacy::Everybody;
    let health = match server.standing() {
        Health::Unchecked | Health::Up { .. } | Health::Down { .. } | Health::Ejected => true,
        Health::Initial | Health::Stopping { .. } => false,
    };
    others_let && health
}

fn is_believed_down(server: &Server) -> bool {
    match server.standing() {
        Health::Down { .. } | Health::Ejected => {
            server.operator != AdminState::Maint && server.node == NodeState::Ready
        }
        Health::Unchecked | Health::Initial | Health::Up { .. } | Health::Stopping { .. } => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        config::{self, PoolPolicy},
        model::{ServerName, Weight},
        registry::{Command, Registry, ResolvedServer},
    };

    const HEALTHS: [Health; 5] = [
        Health::Unchecked,
        Health::Initial,
        Health::Up { failed: 0, fall: 3 },
        Health::Stopping { failed: 0, fall: 3 },
        Health::Down { passed: 0, rise: 2 },
    ];
    const WISHES: [AdminState; 3] = [AdminState::Ready, AdminState::Drain, AdminState::Maint];
    const WORDS: [NodeState; 3] = [NodeState::Ready, NodeState::Starting, NodeState::Draining];

    type Draft = (usize, usize, usize, bool, u16);

    fn servers(drafts: &[Draft]) -> (PoolName, Vec<Arc<Server>>) {
        let (registry, now) = (Registry::new(1, &[], Instant::now()), Instant::now());
        let name = PoolName::parse("nodes").unwrap();
        let pool = config::Pool { name: name.clone(), policy: PoolPolicy::default(), servers: Vec::new() };
        registry.apply(now, Command::Pools(vec![pool]));
        let resolved = drafts.iter().enumerate().map(|(index, &(.., backup, weight))| ResolvedServer {
            name: ServerName::parse(&format!("s{index}")).unwrap(),
            address: Some(([127, 0, 0, 1], 80).into()),
            weight: Weight::new(weight).unwrap(),
            backup,
            maxconn: None,
            check_port: None,
        });
        registry.apply(now, Command::Static { pool: name.clone(), servers: resolved.collect() });
        let mut servers = registry.snapshot().pools[0].servers.clone();
        for (server, &(health, operator, node, ..)) in servers.iter_mut().zip(drafts) {
            let server = Arc::make_mut(server);
            (server.health, server.operator, server.node) = (HEALTHS[health], WISHES[operator], WORDS[node]);
        }
        (name, servers)
    }

    proptest! {
        #[test]
        fn a_panic_overrules_health_and_nothing_else(
            drafts in prop::collection::vec((0usize..5, 0usize..3, 0usize..3, any::<bool>(), 0u16..3), 0..8),
            threshold in 0u32..=100,
        ) {
            let (name, mut servers) = servers(&drafts);
            let before: Vec<_> = servers.iter().map(|server| server.candidacy()).collect();
            settle(&name, threshold, &mut servers);
            for (server, before) in servers.iter().zip(before) {
                let healthy = eligible(server.operator, server.node, Health::Unchecked, server.weight);
                prop_assert!(server.candidacy() >= before && server.candidacy() <= healthy);
                let had_its_chance = !matches!(server.health, Health::Initial | Health::Stopping { .. });
                prop_assert!(server.candidacy() == before || had_its_chance);
                prop_assert!(threshold > 0 || !server.forced);
            }
            let settled: Vec<_> = servers.iter().map(|server| server.forced).collect();
            settle(&name, threshold, &mut servers);
            prop_assert_eq!(settled, servers.iter().map(|server| server.forced).collect::<Vec<_>>());
        }
    }
}
