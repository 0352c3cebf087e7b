//! The sockets of a balancer, opened before anything else so that a taken port is told at once.

use std::{
    io,
    net::{SocketAddr, TcpListener, UdpSocket},
    os::unix::net::UnixListener,
};

use crate::{
    config::{Config, RuntimeAddress},
    net::{BindError, SocketFile, bind_all, bind_udp, bind_unix},
};

/// The sockets of a balancer.
#[derive(Debug)]
pub struct Bound {
    /// For each listener of the configuration, for each of its addresses, one socket for each worker.
    pub(super) listeners: Vec<Vec<Vec<TcpListener>>>,
    pub(super) stats: Option<TcpListener>,
    pub(super) runtime_api: Vec<RuntimeSocket>,
    pub(super) gossip: Option<UdpSocket>,
}

/// A socket of the runtime API.
#[derive(Debug)]
pub(super) enum RuntimeSocket {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// Where a balancer listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Traffic, in the order of the configuration.
    pub traffic: Vec<SocketAddr>,
    /// The stats page.
    pub stats: Option<SocketAddr>,
    /// The runtime API, as it is written in a configuration.
    pub runtime_api: Vec<String>,
    /// The cluster member.
    pub gossip: Option<SocketAddr>,
}

impl Bound {
    /// Opens every socket that the configuration asks for.
    ///
    /// # Errors
    /// At the first that cannot be opened.
    pub async fn open(config: &Config) -> Result<Self, BindError> {
        let mut listeners = Vec::with_capacity(config.listeners.len());
        for listener in &config.listeners {
            let mut addresses = Vec::with_capacity(listener.bind.len());
            for address in &listener.bind {
                addresses.push(bind_all(address, config.workers.get()).await?);
            }
            listeners.push(addresses);
        }
        let stats = match &config.stats {
            Some(stats) => bind_all(&stats.bind, 1).await?.pop(),
            None => None,
        };
        let gossip = match &config.gossip {
            Some(gossip) => Some(bind_udp(&gossip.bind).await?),
            None => None,
        };
        let mut runtime_api = Vec::new();
        for bind in config.runtime_api.iter().flat_map(|api| &api.bind) {
            match &bind.address {
                RuntimeAddress::Tcp(address) => {
                    runtime_api.extend(bind_all(address, 1).await?.pop().map(RuntimeSocket::Tcp));
                }
                RuntimeAddress::Unix(path) => {
                    let (listener, file) = bind_unix(path)?;
                    runtime_api.push(RuntimeSocket::Unix(listener, file));
                }
            }
        }
        Ok(Self { listeners, stats, runtime_api, gossip })
    }

    /// Where they listen.
    ///
    /// # Errors
    /// When the system does not know.
    pub fn addresses(&self) -> io::Result<Addresses> {
        let Self { listeners, stats, runtime_api, gossip } = self;
        let firsts = listeners.iter().flatten().filter_map(|copies| copies.first());
        Ok(Addresses {
            traffic: firsts.map(TcpListener::local_addr).collect::<io::Result<_>>()?,
            stats: stats.as_ref().map(TcpListener::local_addr).transpose()?,
            runtime_api: runtime_api.iter().map(RuntimeSocket::address).collect::<io::Result<_>>()?,
            gossip: gossip.as_ref().map(UdpSocket::local_addr).transpose()?,
        })
    }
}

impl RuntimeSocket {
    fn address(&self) -> io::Result<String> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
            Self::Unix(_, file) => Ok(file.path().display().to_string()),
        }
    }
}
