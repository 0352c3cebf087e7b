//! Names to addresses, from `/etc/hosts` and DNS.
//!
//! Why not the system's resolver: a static binary cannot load its plug-ins, and it blocks. Each look-up reads the system's
//! files anew and caches nothing, because in a container network a name's addresses change when containers do.

use std::net::SocketAddr;

use hickory_resolver::{
    TokioResolver,
    config::{LookupIpStrategy, ResolveHosts},
};

use crate::config::{Host, HostPort};

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Neither `/etc/hosts` nor DNS know the name, or DNS does not answer.
    #[error("cannot resolve '{name}': {source}")]
    Lookup {
        /// The name.
        name: String,
        /// What the look-up said.
        source: Box<hickory_resolver::net::NetError>,
    },
    /// The name exists and has no address.
    #[error("cannot resolve '{0}': it has no address")]
    NoAddress(String),
}

/// Every address of a host, IPv4 first.
///
/// # Errors
/// When the name is not known or has no address.
pub async fn resolve(target: &HostPort) -> Result<Vec<SocketAddr>, ResolveError> {
    let name = match &target.host {
        Host::Ip(ip) => return Ok(vec![SocketAddr::new(*ip, target.port)]),
        Host::Name(name) => name,
    };
    let failed = |source| ResolveError::Lookup { name: name.clone(), source: Box::new(source) };
    let mut builder = TokioResolver::builder_tokio().map_err(failed)?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Always;
    options.cache_size = 0;
    let found = builder.build().map_err(failed)?.lookup_ip(name.as_str()).await.map_err(failed)?;
    let mut addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip.to_canonical(), target.port)).collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    if addresses.is_empty() { Err(ResolveError::NoAddress(name.clone())) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn the_hosts_file_is_read() {
        let addresses = resolve(&"localhost:80".parse().unwrap()).await.unwrap();
        assert_eq!(addresses[0], SocketAddr::from((Ipv4Addr::LOCALHOST, 80)));
    }
}
