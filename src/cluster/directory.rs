//! What the cluster tells the pool.

use std::net::SocketAddr;

use crate::{
    model::{NodeId, Told},
    swim::{Role, ServiceRecord},
};

/// The pool behind a member, as a balancer has one. Only nodes are told of, never other balancers.
///
/// Each call returns once the pool follows: an acknowledgement goes out on the strength of it.
pub trait Directory {
    /// A node's record, new or told again; the latter every ten seconds, and every 100 ms while the node drains.
    /// Returns how many requests are in flight to that node.
    fn record(&mut self, record: &ServiceRecord, address: SocketAddr) -> u32;

    /// A node is there: again after [`Directory::down`], or for the first time, then without its record yet.
    fn up(&mut self, node: NodeId);

    /// A node does not answer the cluster. It may still answer requests: the path between us may be what failed.
    fn down(&mut self, node: NodeId);

    /// A node is gone for certain: it said so, right after a last record with the state `Left`.
    fn left(&mut self, node: NodeId);

    /// A node is gone for certain, for another boot has its address. Its application may live on without it.
    fn replaced(&mut self, node: NodeId) {
        self.left(node);
    }

    /// Another balancer tells something of a server: a decision of an operator, which holds from now on, or that its
    /// checks found it up or down, on which it should be checked here.
    fn told(&mut self, _told: Told) {}
}

/// The directory of a member that spreads no requests.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoDirectory;

impl Directory for NoDirectory {
    fn record(&mut self, _record: &ServiceRecord, _address: SocketAddr) -> u32 {
        0
    }

    fn up(&mut self, _node: NodeId) {}

    fn down(&mut self, _node: NodeId) {}

    fn left(&mut self, _node: NodeId) {}
}

/// Speaks of nodes only.
pub(super) fn is_node(role: Role) -> bool {
    match role {
        Role::Node => true,
        Role::Balancer => false,
    }
}
