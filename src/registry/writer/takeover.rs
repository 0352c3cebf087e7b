//! Another node at the address of a server: a new container, or a new agent beside an app that has lost its own.
//!
//! Which of them it is, only a check can tell: an app that goes on passing its checks must not wait for the first check of
//! its new server. So the old server serves until a check has passed for the new one, which takes its place then, or until
//! a check has failed for either, since an app that lives fails none. Where nobody checks, the old one goes at once: a new
//! container must inherit nothing.

use std::{net::SocketAddr, time::Instant};

use super::Writer;
use crate::{
    model::{AdminState, Candidacy, NodeId, NodeState, ServerId},
    registry::server::{Origin, Server},
};

const REASON: &str = "its address has a new node";

impl Writer {
    /// A new boot has a node's gossip address; where its own server is, and whether it has one, is not known yet. The old
    /// node is gone for certain, and its app may go on as that of any lost node.
    pub(super) fn replaced(&mut self, now: Instant, node: NodeId) -> bool {
        let mut changed = false;
        for entry in self.pools.iter_mut().filter(|entry| entry.policy.check.is_none()) {
            changed |= entry.remove_where(REASON, |server| super::is_on(server, node));
        }
        self.mark_lost(node, Some(now)) || changed
    }

    /// Servers at this address are those of old nodes from now on. Those that are of use until the new one serves stay, and
    /// are returned.
    pub(super) fn make_way(
        &mut self,
        now: Instant,
        pool: usize,
        address: SocketAddr,
        state: NodeState,
    ) -> Vec<ServerId> {
        let node_there = |server: &Server| match server.origin {
            Origin::Member { node, .. } if server.address == address => Some(node),
            Origin::Member { .. } | Origin::Static { .. } => None,
        };
        let all = self.pools.iter().flat_map(|entry| &entry.servers);
        let nodes: Vec<_> = all.filter_map(|server| node_there(server)).collect();
        // One failed check is enough to believe that it is gone.
        for node in nodes {
            self.mark_lost(node, Some(now));
        }
        let mut kept = Vec::new();
        for (index, entry) in self.pools.iter_mut().enumerate() {
            let may_stay = index == pool && entry.policy.check.is_some() && is_on_its_way(state);
            let stays = |server: &Server| may_stay && server.own_candidacy() != Candidacy::Nobody;
            entry.remove_where(REASON, |server| node_there(server).is_some() && !stays(server));
            for server in entry.servers.iter().filter(|server| node_there(server).is_some()) {
                server.live.want_check();
                self.wants_checks = true;
                kept.push(server.id);
            }
        }
        kept
    }

    /// Takes out old servers that are not of use any more.
    pub(super) fn settle_takeovers(&mut self) -> bool {
        let mut changed = false;
        for (old, new) in std::mem::take(&mut self.takeovers) {
            let Some(entry) = self.pools.iter_mut().find(|entry| entry.servers.iter().any(|server| server.id == old))
            else {
                continue;
            };
            let its = |id| entry.servers.iter().find(|server| server.id == id);
            // When the new one is gone before it served, the old one is what it was: lost by the cluster.
            let (Some(before), Some(after)) = (its(old), its(new)) else { continue };
            if before.own_candidacy() != Candidacy::Nobody && is_awaited(after) {
                self.takeovers.push((old, new));
            } else {
                changed |= entry.remove_where(REASON, |server| server.id == old);
            }
        }
        changed
    }
}

/// Whether a new server may serve soon. One that is drained or taken out before it has, by its node or by an operator,
/// speaks for the app: its word must not be undone by the old one, which nobody drains any more.
fn is_awaited(new: &Server) -> bool {
    let has_failed = || new.live.record().last.is_some_and(|last| last.status.is_verdict() && !last.status.passed());
    is_on_its_way(new.node) && new.operator == AdminState::Ready && !new.health.is_up() && !has_failed()
}

fn is_on_its_way(state: NodeState) -> bool {
    match state {
        NodeState::Starting | NodeState::Ready => true,
        NodeState::Draining | NodeState::Left => false,
    }
}
