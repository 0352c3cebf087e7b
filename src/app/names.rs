//! Servers of the configuration, and the names that some of them have for an address.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;

use crate::{
    config::{Host, Pool, StaticServer},
    model::PoolName,
    net::resolve,
    registry::{Command, Registry, ResolvedServer},
};

/// How often names are looked up again: a container that is replaced keeps its name and changes its address.
const PERIOD: Duration = Duration::from_secs(5);

/// Puts the configured servers into the registry and follows their names. Ends only when no server has a name.
///
/// A name that cannot be looked up keeps the address that it had; a server that never had one appears once it does.
pub(super) async fn follow(registry: Arc<Registry>, pools: Vec<Pool>) {
    publish_known(&registry, &pools);
    let mut pools: Vec<Followed> = pools.into_iter().map(Followed::new).collect();
    while pools.iter().any(Followed::has_names) {
        join_all(pools.iter_mut().map(|pool| pool.look_up(&registry))).await;
        tokio::time::sleep(PERIOD).await;
    }
}

/// Puts the servers into the registry that need no look-up: they must not wait for those that do, nor the first request
/// for any of them.
pub(super) fn publish_known(registry: &Registry, pools: &[Pool]) {
    pools.iter().cloned().map(Followed::new).for_each(|pool| pool.publish(registry));
}

struct Followed {
    name: PoolName,
    servers: Vec<(StaticServer, Known)>,
}

/// What is known of a server's address.
struct Known {
    address: Option<SocketAddr>,
    failing: bool,
}

impl Followed {
    fn new(pool: Pool) -> Self {
        let Pool { name, policy: _, servers } = pool;
        let known = |server: StaticServer| {
            let address = match server.address.host {
                Host::Ip(ip) => Some(SocketAddr::new(ip, server.address.port)),
                Host::Name(_) => None,
            };
            (server, Known { address, failing: false })
        };
        Self { name, servers: servers.into_iter().map(known).collect() }
    }

    fn has_names(&self) -> bool {
        self.servers.iter().any(|(server, _)| matches!(server.address.host, Host::Name(_)))
    }

    async fn look_up(&mut self, registry: &Registry) {
        let named = self.servers.iter_mut().filter(|(server, _)| matches!(server.address.host, Host::Name(_)));
        join_all(named.map(|(server, known)| known.refresh(server))).await;
        self.publish(registry);
    }

    fn publish(&self, registry: &Registry) {
        let resolved = |(server, known): &(StaticServer, Known)| {
            let StaticServer { name, address: _, weight, backup, maxconn, check_port } = server;
            let (weight, backup, maxconn, check_port) = (*weight, *backup, *maxconn, *check_port);
            ResolvedServer { name: name.clone(), address: known.address, weight, backup, maxconn, check_port }
        };
        let servers = self.servers.iter().map(resolved).collect();
        registry.apply(Instant::now(), Command::Static { pool: self.name.clone(), servers });
    }
}

impl Known {
    async fn refresh(&mut self, server: &StaticServer) {
        let name = &server.name;
        match resolve(&server.address).await {
            Ok(addresses) => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("server {name}: '{}' has an address now", server.address);
                }
                // Another order of the same addresses is no reason to start anew.
                if self.address.is_none_or(|known| !addresses.contains(&known)) {
                    self.address = addresses.first().copied();
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::warn!("server {name}: {error}; trying again every {PERIOD:?}");
                }
            }
        }
    }
}
