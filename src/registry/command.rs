//! Everything that can happen to the pools.

use std::net::SocketAddr;

use super::{feedback::Trouble, operation::Operation};
use crate::{
    config,
    model::{CheckReport, CookieKey, Decision, Ejection, NodeId, NodeState, PoolName, ServerId, ServerName, Weight},
};

/// One change of the pools.
#[derive(Debug, Clone)]
pub enum Command {
    /// These pools exist, with these policies; others go. Servers stay.
    Pools(Vec<config::Pool>),
    /// These are the pool's servers from the configuration; those that are gone from it go, those that stay keep their
    /// health and counters.
    Static {
        /// The pool.
        pool: PoolName,
        /// Its servers with their addresses.
        servers: Vec<ResolvedServer>,
    },
    /// A node told of its service: it joins a pool, or what it said of itself changed.
    Member(MemberServer),
    /// The cluster believes that the node is there.
    MemberUp(NodeId),
    /// The cluster lost sight of the node. Its servers stay as long as they pass their checks: a broken gossip path is not
    /// a dead application.
    MemberDown(NodeId),
    /// Another boot has a node's gossip address. Its app may live: its checks tell.
    MemberReplaced(NodeId),
    /// The node said that it leaves.
    MemberLeft(NodeId),
    /// A check ended.
    Checked {
        /// The server.
        server: ServerId,
        /// What the check found.
        report: CheckReport,
    },
    /// An operator wants something of servers.
    Operate(Vec<(ServerId, Operation)>),
    /// An operator wanted something of a server on another balancer of the cluster.
    Decided(Decision),
    /// Requests met failures of these servers. What no request can cause counts as a failed check while its server is up.
    /// All at once: a network that breaks is one change, however many servers are behind it.
    Troubled(Vec<(ServerId, Trouble)>),
    /// These servers are ejected for what they answer to users; `None` ends it.
    Eject(Vec<(ServerId, Option<Ejection>)>),
    /// The values of cookies are made with the first of these keys, and those of all are understood; without any, everybody
    /// can make them.
    CookieKeys(Vec<CookieKey>),
    /// A second has passed.
    Tick,
}

/// A server of the configuration whose name was looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvedServer {
    /// Its name.
    pub name: ServerName,
    /// Where it answers; `None` when its name cannot be looked up now: then it keeps the address that it has, if any.
    pub address: Option<SocketAddr>,
    /// Its share.
    pub weight: Weight,
    /// Used only when no other server is left.
    pub backup: bool,
    /// Requests that it gets at once; 0 is no limit, `None` is what its pool says.
    pub maxconn: Option<u32>,
    /// The port that checks ask; `None` is what its pool says.
    pub check_port: Option<u16>,
}

/// A server that joined by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberServer {
    /// The boot of the node that it runs on.
    pub node: NodeId,
    /// The pool that it wants to join.
    pub pool: PoolName,
    /// The node's name.
    pub name: ServerName,
    /// Where it answers.
    pub address: SocketAddr,
    /// Its share.
    pub weight: Weight,
    /// What it says of itself.
    pub state: NodeState,
}
