//! What an operator writes, as the cluster wants it: seeds, the advertised address, the names of machines.

use std::{io, net::SocketAddr};

use super::{Resolve, Seed};
use crate::{
    config::{Advertise, Host, HostPort},
    net::resolve,
};

/// Looks names up as the rest of the program does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Names;

impl Resolve for Names {
    async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let target = HostPort { host: Host::Name(host.to_owned()), port };
        resolve(&target).await.map_err(io::Error::other)
    }
}

/// The members to dial.
pub fn seeds(join: &[HostPort]) -> Vec<Seed> {
    let host = |host: &Host| match host {
        Host::Ip(ip) => ip.to_string(),
        Host::Name(name) => name.clone(),
    };
    join.iter().map(|target| Seed { host: host(&target.host), port: target.port }).collect()
}

/// The advertised address; port 0 means that of the socket.
pub fn advertised(advertise: Option<Advertise>) -> Option<SocketAddr> {
    advertise.map(|Advertise { ip, port }| SocketAddr::new(ip, port.unwrap_or(0)))
}

/// The name of this machine or container.
pub fn hostname() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
