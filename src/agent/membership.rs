//! Membership for an application that is written in Rust: it joins the cluster, drains and leaves in its own process.
//!
//! Why not only `lb agent`? It finds out from outside what the application knows anyway: when it is ready, how much it can
//! take, and when it is about to stop.

use std::{num::NonZeroU16, path::PathBuf, time::Duration};

use tokio::{
    sync::Mutex,
    task::JoinHandle,
    time::{Instant, timeout},
};

use super::{
    node::{JoinError, NodeSettings, join},
    shell::leave,
};
use crate::{
    cluster::{Member, Stopped, hostname},
    config::{Advertise, DEFAULT_POOL, GOSSIP_PORT, HostPort, KeySource, ListenAddress},
    model::{ClusterName, NodeState, PoolName, ServerName, Weight},
    net::bind_udp,
    swim::{self, RecordError, ServiceRecord},
};

/// This process as a node of the cluster: its server gets requests from the moment it is [ready](Self::ready) until it
/// [drains](Self::drain).
///
/// ```no_run
/// use std::{num::NonZeroU16, time::Duration};
///
/// use lb::agent::Membership;
///
/// # async fn serve(_: tokio::net::TcpListener) {}
/// # async fn asked_to_stop() {}
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let listener = tokio::net::TcpListener::bind("0.0.0.0:3000").await?;
/// let port = NonZeroU16::try_from(listener.local_addr()?.port())?;
/// let membership = Membership::builder("ha:7946".parse()?, port)
///     .name("web1".parse()?)
///     .weight("10".parse()?)
///     .tag("zone", "a")
///     .join()
///     .await?;
/// let server = tokio::spawn(serve(listener));
/// membership.ready().await?;
/// asked_to_stop().await;
/// let outcome = membership.drain(Duration::from_secs(7)).await?;
/// println!("{outcome:?}: nobody sends anything here any more, unless it timed out");
/// membership.leave().await;
/// server.abort();
/// # Ok(())
/// # }
/// ```
///
/// Its futures are `Send`, and each may be dropped before it ends. The member itself is a task on the runtime in which
/// [`Builder::join`] was called, of either kind. It stops with that runtime.
///
/// **Dropping it without [`leave`](Self::leave) is a crash to the cluster**: the other members notice within seconds that
/// this one is silent. Its server gets requests as long as it passes the balancers' checks, as if the process had been cut
/// off.
#[derive(Debug)]
pub struct Membership {
    member: Member,
    /// What we say of ourselves. Locked until the member has been told, so that what is said last is what stays.
    record: Mutex<ServiceRecord>,
    task: Task,
}

/// What a [`Membership`] begins with.
#[derive(Debug, Clone)]
pub struct Builder {
    seeds: Vec<HostPort>,
    port: NonZeroU16,
    name: Option<ServerName>,
    service: Option<PoolName>,
    weight: Weight,
    tags: Vec<(String, String)>,
    gossip: ListenAddress,
    advertise: Option<Advertise>,
    key_source: Option<KeySource>,
    cluster: Option<ClusterName>,
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DrainOutcome {
    /// Every balancer has said that it sends nothing more, and that nothing is in flight. Also when there is no balancer.
    Drained {
        /// How long it took.
        waited: Duration,
    },
    /// Time was up before. The balancers go on as they were asked to, but what is in flight would be cut off by an end now.
    TimedOut {
        /// Balancers that have not acknowledged the drain: they may still send requests.
        unacknowledged: usize,
        /// Requests in flight, as far as balancers have told.
        in_flight: u32,
    },
}

/// Why something could not be said of this node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpdateError {
    /// The member does not run any more: its runtime has ended, or its socket broke.
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// It does not fit what a node may say; nothing has changed.
    #[error(transparent)]
    Record(#[from] RecordError),
}

impl Membership {
    /// A member to be: `seed` is another member, such as a balancer, and `port` the TCP port at which this process
    /// answers HTTP.
    pub fn builder(seed: HostPort, port: NonZeroU16) -> Builder {
        Builder {
            seeds: vec![seed],
            port,
            name: None,
            service: None,
            weight: Weight::DEFAULT,
            tags: Vec::new(),
            gossip: ListenAddress::any(GOSSIP_PORT),
            advertise: None,
            key_source: None,
            cluster: None,
        }
    }

    /// Asks for requests: each balancer checks the server, and uses it once a check has passed. Takes back a drain.
    ///
    /// # Errors
    /// [`UpdateError::Stopped`].
    pub async fn ready(&self) -> Result<(), UpdateError> {
        self.update(|record| record.state = NodeState::Ready).await
    }

    /// Asks for no requests, as before [`ready`](Self::ready): while a cache is filled, or a dependency is away. Does not
    /// wait for the balancers.
    ///
    /// # Errors
    /// [`UpdateError::Stopped`].
    pub async fn not_ready(&self) -> Result<(), UpdateError> {
        self.update(|record| record.state = NodeState::Starting).await
    }

    /// Changes the share of this server. A weight that an operator has set wins over it.
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub async fn set_weight(&self, weight: Weight) -> Result<(), UpdateError> {
        self.update(|record| record.weight = weight).await
    }

    /// Tells people and scripts something of this node (`lb members`), in place of what was said under this key.
    ///
    /// # Errors
    /// See [`UpdateError`].
    pub async fn set_tag(&self, key: impl Into<String>, value: impl Into<String>) -> Result<(), UpdateError> {
        let (key, value) = (key.into(), value.into());
        self.update(|record| drop(record.tags.insert(key, value))).await
    }

    /// Asks the balancers to send nothing new, not even for users with a cookie for this server, and waits until each has
    /// said that it does so and that nothing is in flight; for `limit` at most. The server must go on working meanwhile.
    ///
    /// When this future is dropped the balancers keep to the drain.
    ///
    /// # Errors
    /// [`UpdateError::Stopped`].
    pub async fn drain(&self, limit: Duration) -> Result<DrainOutcome, UpdateError> {
        let began = Instant::now();
        self.update(|record| record.state = NodeState::Draining).await?;
        match timeout(limit, self.member.drained()).await {
            Ok(drained) => Ok(drained.map(|()| DrainOutcome::Drained { waited: began.elapsed() })?),
            Err(_elapsed) => {
                let progress = self.member.drain_progress().await?;
                let version = self.member.members().await?.first().and_then(|us| Some(us.record.as_ref()?.version));
                let unacknowledged = progress.iter().filter(|balancer| balancer.acknowledged != version).count();
                let in_flight = progress.iter().filter_map(|balancer| balancer.in_flight).sum();
                Ok(DrainOutcome::TimedOut { unacknowledged, in_flight })
            }
        }
    }

    /// Everybody that this node knows of, itself first. As long as no balancer is among them, no requests come.
    ///
    /// # Errors
    /// When the member does not run any more.
    pub async fn members(&self) -> Result<Vec<swim::Member>, Stopped> {
        self.member.members().await
    }

    /// Says goodbye, which takes a second at most. The balancers send nothing here from then on; to lose no request,
    /// [`drain`](Self::drain) first. The member has stopped then, and cannot come back.
    pub async fn leave(&self) {
        leave(&self.member).await;
        self.task.0.abort();
    }

    async fn update(&self, change: impl FnOnce(&mut ServiceRecord)) -> Result<(), UpdateError> {
        let mut record = self.record.lock().await;
        let mut changed = record.clone();
        change(&mut changed);
        if self.task.0.is_finished() {
            return Err(Stopped.into());
        }
        self.member.set_record(changed.clone()).await?;
        *record = changed;
        Ok(())
    }
}

impl Builder {
    /// Another member to find the cluster by.
    #[must_use]
    pub fn seed(mut self, seed: HostPort) -> Self {
        self.seeds.push(seed);
        self
    }

    /// The server's name in the pool; the hostname unless it is said.
    #[must_use]
    pub fn name(mut self, name: ServerName) -> Self {
        self.name = Some(name);
        self
    }

    /// The pool; `nodes` unless it is said.
    #[must_use]
    pub fn service(mut self, service: PoolName) -> Self {
        self.service = Some(service);
        self
    }

    /// The server's share of its pool, from 0 to 256; 1 unless it is said.
    #[must_use]
    pub fn weight(mut self, weight: Weight) -> Self {
        self.weight = weight;
        self
    }

    /// Something that people and scripts should know of this node.
    #[must_use]
    pub fn tag(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((key.into(), value.into()));
        self
    }

    /// The UDP address of the cluster member; port 7946 of all addresses unless it is said.
    #[must_use]
    pub fn gossip(mut self, address: ListenAddress) -> Self {
        self.gossip = address;
        self
    }

    /// The address, and gossip port, that others should dial, where the system does not know it.
    #[must_use]
    pub fn advertise(mut self, advertise: Advertise) -> Self {
        self.advertise = Some(advertise);
        self
    }

    /// The file with the cluster's keys, which seal the gossip (`lb keygen` makes one): the first is sent with, all are
    /// accepted. It is looked at every two seconds, and other keys in it are used from then on.
    #[must_use]
    pub fn cluster_key_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.key_source = Some(KeySource::File(path.into()));
        self
    }

    /// The cluster's name, for clusters that share a key; `lb` unless it is said. Means nothing without a key.
    #[must_use]
    pub fn cluster_name(mut self, name: ClusterName) -> Self {
        self.cluster = Some(name);
        self
    }

    /// Joins: the member runs from now on, and finds the others as soon as they are there. It does not wait for them, and
    /// gets no requests before it is [ready](Membership::ready). To be called within a tokio runtime with network and time.
    ///
    /// # Errors
    /// When the gossip address is taken, the key file cannot be read, or something said of the node cannot be told.
    pub async fn join(self) -> Result<Membership, JoinError> {
        let Self { seeds, port, name, service, weight, tags, gossip, advertise, key_source, cluster } = self;
        let name = name.map_or_else(|| ServerName::parse(&hostname()), Ok)?;
        let service = service.map_or_else(|| PoolName::parse(DEFAULT_POOL), Ok)?;
        let socket = bind_udp(&gossip).await?;
        let node = NodeSettings { name, service, port, weight, tags, join: seeds, advertise, key_source, cluster };
        let record = node.record();
        let (member, run) = join(socket, node)?;
        Ok(Membership { member, record: Mutex::new(record), task: Task(tokio::spawn(run)) })
    }
}

/// A task that ends with whoever holds it.
#[derive(Debug)]
struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests;
