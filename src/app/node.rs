//! `lb agent`: a node of the cluster and the application that it stands for.

use std::{io, net::UdpSocket, num::NonZeroU16};

use futures_util::{Stream, StreamExt, stream::FuturesUnordered};

use super::cluster_link::{Names, advertised, seeds};
use crate::{
    agent::{self, AgentSettings, Cluster},
    cluster::{self, NoDirectory},
    config::{Advertise, HostPort},
    model::{NodeState, PoolName, ServerName, Weight},
    swim::{Role, ServiceRecord},
};

/// What a node says of itself, and whom it joins.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Its name; the server's name in the pool.
    pub name: ServerName,
    /// The pool that it joins.
    pub service: PoolName,
    /// The application's port.
    pub port: NonZeroU16,
    /// Its share.
    pub weight: Weight,
    /// Free pairs for people and scripts.
    pub tags: Vec<(String, String)>,
    /// Other members.
    pub join: Vec<HostPort>,
    /// What other members should dial.
    pub advertise: Option<Advertise>,
}

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The cluster member cannot start.
    #[error("cannot join the cluster: {0}")]
    Cluster(#[from] cluster::JoinError),
    /// The system gave no socket or signal handler.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs the agent until its application has ended; the exit status to end with.
///
/// To be called within a current-thread runtime.
///
/// # Errors
/// When it cannot start.
pub async fn run_node(
    socket: UdpSocket,
    node: NodeSettings,
    settings: AgentSettings,
    signals: impl Stream<Item = agent::Signal> + Unpin,
) -> Result<u8, NodeError> {
    let NodeSettings { name, service, port, weight, tags, join, advertise } = node;
    let mut record = ServiceRecord::new(name, service, port.get());
    record.weight = weight;
    record.tags = tags.into_iter().collect();
    let config = cluster::Config { role: Role::Node, advertise: advertised(advertise), seeds: seeds(&join), record };
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let (member, run) = cluster::join(socket, config, Names, NoDirectory)?;
    // The member runs beside the agent and ends with it.
    let mut member_runs = FuturesUnordered::from_iter([run]);
    let cluster = Joined { member };
    let agent = std::pin::pin!(agent::run(settings, &cluster, signals));
    let mut agent = futures_util::future::maybe_done(agent);
    let mut agent = std::pin::Pin::new(&mut agent);
    loop {
        tokio::select! {
            biased;
            Some(()) = member_runs.next() => {}
            () = agent.as_mut() => return Ok(agent.take_output().unwrap_or(1)),
        }
    }
}

/// The agent's view of the cluster.
struct Joined {
    member: cluster::Member,
}

impl Cluster for Joined {
    async fn set_state(&self, state: NodeState) {
        // A member that has ended has nobody left to tell.
        let _ended = self.member.set_state(state).await;
    }

    async fn drained(&self) {
        let _ended = self.member.drained().await;
    }

    async fn leave(&self) {
        self.member.leave().await;
    }
}
