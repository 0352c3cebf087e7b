//! Between the cluster and the pools.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use crate::{
    cluster::Directory,
    model::{NodeId, NodeState, Told},
    registry::{Command, MemberServer, Origin, Registry},
    swim::ServiceRecord,
};

/// Puts what the cluster says into the registry.
pub(super) struct PoolDirectory {
    pub(super) registry: Arc<Registry>,
}

impl PoolDirectory {
    fn in_flight(&self, node: NodeId) -> u32 {
        let snapshot = self.registry.snapshot();
        let servers = snapshot.pools.iter().flat_map(|pool| &pool.servers);
        let on_node = servers.filter(|server| matches!(server.origin, Origin::Member { node: its, .. } if its == node));
        on_node.map(|server| server.live.in_flight.now()).sum()
    }

    fn apply(&self, command: Command) {
        self.registry.apply(Instant::now(), command);
    }
}

impl Directory for PoolDirectory {
    fn record(&mut self, record: &ServiceRecord, address: SocketAddr) -> u32 {
        let ServiceRecord { node_id, name, version: _, service, port: _, weight, state, tags: _, app_version: _ } =
            record;
        // Counted before as well: a node that has left is out of the pool with the requests that it still has.
        let before = self.in_flight(*node_id);
        self.apply(Command::Member(MemberServer {
            node: *node_id,
            pool: service.clone(),
            name: name.clone(),
            address,
            weight: *weight,
            state: *state,
        }));
        match state {
            NodeState::Left => before,
            NodeState::Starting | NodeState::Ready | NodeState::Draining => self.in_flight(*node_id),
        }
    }

    fn up(&mut self, node: NodeId) {
        self.apply(Command::MemberUp(node));
    }

    fn down(&mut self, node: NodeId) {
        self.apply(Command::MemberDown(node));
    }

    fn left(&mut self, node: NodeId) {
        self.apply(Command::MemberLeft(node));
    }

    fn replaced(&mut self, node: NodeId) {
        self.apply(Command::MemberReplaced(node));
    }

    fn told(&mut self, told: Told) {
        match told {
            Told::Decision(decision) => self.apply(Command::Decided(decision)),
            Told::Hint(hint) => self.registry.hint(&hint),
        }
    }
}
