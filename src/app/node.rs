//! `lb agent`: a node of the cluster and the application that it stands for.

use std::{io, net::UdpSocket, num::NonZeroU16, sync::Arc};

use futures_util::{Stream, StreamExt, future::OptionFuture, stream::FuturesUnordered};

use super::{
    cluster_link::{Names, advertised, seeds},
    event_handlers,
    keys::{self, KeysError},
};
use crate::{
    agent::{self, AgentSettings, Membership},
    cluster::{self, NoDirectory},
    config::{Advertise, EventHandler, HostPort, KeySource},
    model::{ClusterName, NodeState, PoolName, ServerName, Weight},
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
    /// Where the cluster's keys are. A file is looked at every two seconds, and other keys in it are used from then on.
    pub key_source: Option<KeySource>,
    /// The cluster's name, if somebody chose one.
    pub cluster: Option<ClusterName>,
}

/// Why the agent cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The cluster member cannot start.
    #[error("cannot join the cluster: {0}")]
    Cluster(#[from] cluster::JoinError),
    /// The cluster's keys cannot be had.
    #[error(transparent)]
    Keys(#[from] KeysError),
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
    handlers: Vec<EventHandler>,
    signals: impl Stream<Item = agent::Signal> + Unpin,
) -> Result<u8, NodeError> {
    let NodeSettings { name, service, port, weight, tags, join, advertise, key_source, cluster } = node;
    let (secret, mut keys) = keys::watched(key_source, cluster)?;
    let mut record = ServiceRecord::new(name, service, port.get());
    record.weight = weight;
    record.tags = tags.into_iter().collect();
    let seeds = seeds(&join);
    let config = cluster::Config { role: Role::Node, advertise: advertised(advertise), seeds, record, secret };
    let socket = tokio::net::UdpSocket::from_std(socket)?;
    let (member, run) = cluster::join(socket, config, Names, NoDirectory)?;
    // The member runs beside the agent and ends with it.
    let mut member_runs = FuturesUnordered::from_iter([run]);
    let mut handlers = std::pin::pin!(OptionFuture::from((!handlers.is_empty()).then(|| event_handlers::run(
        member.clone(),
        handlers,
        Arc::default()
    ))));
    let membership = Joined { member };
    let agent = std::pin::pin!(agent::run(settings, &membership, signals));
    let mut agent = futures_util::future::maybe_done(agent);
    let mut agent = std::pin::Pin::new(&mut agent);
    loop {
        tokio::select! {
            biased;
            Some(()) = member_runs.next() => {}
            Some(()) = handlers.as_mut() => handlers.set(None.into()),
            keys = keys.changed() => membership.member.set_keys(keys).await,
            () = agent.as_mut() => return Ok(agent.take_output().unwrap_or(1)),
        }
    }
}

/// The agent's view of the cluster.
struct Joined {
    member: cluster::Member,
}

impl Membership for Joined {
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
