//! A node of the cluster: what it says of itself, and how it joins. The same for `lb agent` and for an application that
//! joins by itself ([`Membership`](super::Membership)).

use std::{future::Future, io, net::UdpSocket, num::NonZeroU16};

use super::contract::Cluster;
use crate::{
    cluster::{self, KeysError, Member, Names, NoDirectory, advertised, seeds, watched_keys},
    config::{Advertise, HostPort, KeySource},
    model::{ClusterName, NameError, NodeState, PoolName, ServerName, Weight},
    net::BindError,
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

impl NodeSettings {
    /// What it tells the balancers at first.
    pub(super) fn record(&self) -> ServiceRecord {
        let Self { name, service, port, weight, tags, join: _, advertise: _, key_source: _, cluster: _ } = self;
        let mut record = ServiceRecord::new(name.clone(), service.clone(), port.get());
        record.weight = *weight;
        record.tags = tags.iter().cloned().collect();
        record
    }
}

/// Why a node cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The gossip address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The hostname, which is the name of a node without another, is no name of a server.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The cluster member cannot start.
    #[error("cannot join the cluster: {0}")]
    Cluster(#[from] cluster::JoinError),
    /// The cluster's keys cannot be had.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The system gave no socket.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// A node on a bound UDP socket, in the state [`NodeState::Starting`]: its handle, and the future that is the member. To be
/// called within a tokio runtime.
///
/// # Errors
/// When the settings can't work, or the socket doesn't.
pub fn join(
    socket: UdpSocket,
    node: NodeSettings,
) -> Result<(Member, impl Future<Output = ()> + Send + use<>), JoinError> {
    let record = node.record();
    let NodeSettings { name: _, service: _, port: _, weight: _, tags: _, join, advertise, key_source, cluster } = node;
    let (secret, mut keys) = watched_keys(key_source, cluster)?;
    let seeds = seeds(&join);
    let config = cluster::Config { role: Role::Node, advertise: advertised(advertise), seeds, record, secret };
    let (member, run) = cluster::join(socket, config, Names, NoDirectory)?;
    let rotated = member.clone();
    let rotate = async move {
        loop {
            rotated.set_keys(keys.changed().await).await;
        }
    };
    let run = async move {
        tokio::select! {
            () = run => {}
            () = rotate => {}
        }
    };
    Ok((member, run))
}

impl Cluster for Member {
    async fn set_state(&self, state: NodeState) {
        // A member that has ended has nobody left to tell.
        let _ended = self.set_state(state).await;
    }

    async fn drained(&self) {
        let _ended = self.drained().await;
    }

    async fn leave(&self) {
        self.leave().await;
    }
}
