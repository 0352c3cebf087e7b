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
