//! Between the cluster and the pools.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Instant};

use crate::{
    admin::{MemberRole, MemberRow, MemberStatus},
    cluster::{self, Directory},
    model::{NodeId, NodeState},
    registry::{Command, MemberServer, Origin, Registry},
    swim::{self, MemberState, Role, ServiceRecord},
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
}

/// The members as people see them.
pub(super) async fn member_rows(member: cluster::Member) -> Vec<MemberRow> {
    // A member that has ended knows nobody.
    let members = member.members().await.unwrap_or_default();
    members.iter().map(member_row).collect()
}

fn member_row(member: &swim::Member) -> MemberRow {
    let swim::Member { node_id, name, address, role, state, since: _, record } = member;
    let (role, is_node) = match role {
        Role::Balancer => (MemberRole::Balancer, false),
        Role::Node => (MemberRole::Node, true),
    };
    let mut tags = BTreeMap::new();
    let mut leaving = false;
    if let Some(record) = record {
        tags.clone_from(&record.tags);
        leaving = record.state == NodeState::Draining;
        if is_node {
            tags.insert("service".into(), record.service.to_string());
            tags.insert("port".into(), record.port.to_string());
            tags.insert("weight".into(), record.weight.to_string());
            tags.insert("state".into(), record.state.to_string());
        }
        if !record.app_version.is_empty() {
            tags.insert("version".into(), record.app_version.clone());
        }
    }
    tags.insert("node".into(), node_id.to_string());
    let (status, notes) = match state {
        MemberState::Alive if leaving => (MemberStatus::Leaving, Vec::new()),
        MemberState::Alive => (MemberStatus::Alive, Vec::new()),
        MemberState::Suspect => (MemberStatus::Alive, vec!["did not answer lately".to_owned()]),
        MemberState::Failed => (MemberStatus::Failed, Vec::new()),
        MemberState::Left => (MemberStatus::Left, Vec::new()),
    };
    MemberRow { name: name.clone(), address: address.to_string(), status, role, tags, notes }
}
