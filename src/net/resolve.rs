//! Names to addresses, from `/etc/hosts` and DNS.
//!
//! Why not the system's resolver: a static binary cannot load its plug-ins, and it blocks. Each look-up reads the system's
//! files anew and caches nothing, because in a container network a name's addresses change when containers do.

use std::net::{IpAddr, SocketAddr};

use hickory_resolver::{
    Hosts, TokioResolver,
    config::{LookupIpStrategy, ResolveHosts},
    net::NetError,
    proto::{
        op::Query,
        rr::{Name, RecordType},
    },
};

use crate::config::{Host, HostPort};

/// Why a name has no address.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// Neither `/etc/hosts` nor DNS know the name, or DNS does not answer.
    #[error("cannot resolve '{name}': {}", reason(source))]
    Lookup {
        /// The name.
        name: String,
        /// What the look-up said.
        source: Box<NetError>,
    },
    /// The name exists and has no address.
    #[error("cannot resolve '{0}': it has no address")]
    NoAddress(String),
}

/// What an operator needs to know of hickory's long account.
fn reason(error: &NetError) -> String {
    if error.is_no_records_found() || error.is_nx_domain() { "no such name".to_owned() } else { error.to_string() }
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
    let known = known_addresses(&Hosts::from_system().unwrap_or_default(), name);
    let found = if known.is_empty() { ask_servers(name).await? } else { known };
    let mut addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip.to_canonical(), target.port)).collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    addresses.dedup();
    if addresses.is_empty() { Err(ResolveError::NoAddress(name.clone())) } else { Ok(addresses) }
}

/// What the hosts file says. A name that is there is not asked for elsewhere, not even for its addresses of the other family:
/// the servers may be silent, and nothing is found out before they answer.
fn known_addresses(hosts: &Hosts, name: &str) -> Vec<IpAddr> {
    let Ok(name) = Name::from_utf8(name) else { return Vec::new() };
    let known = [RecordType::A, RecordType::AAAA]
        .into_iter()
        .filter_map(|family| hosts.lookup_static_host(&Query::query(name.clone(), family)));
    known
        .flat_map(|found| found.answers().iter().filter_map(|record| record.data.ip_addr()).collect::<Vec<_>>())
        .collect()
}

async fn ask_servers(name: &str) -> Result<Vec<IpAddr>, ResolveError> {
    let failed = |source| ResolveError::Lookup { name: name.to_owned(), source: Box::new(source) };
    let mut builder = TokioResolver::builder_tokio().map_err(failed)?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    options.use_hosts_file = ResolveHosts::Never;
    options.cache_size = 0;
    let found = builder.build().map_err(failed)?.lookup_ip(name).await.map_err(failed)?;
    Ok(found.iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_name_in_the_hosts_file_is_asked_for_nowhere_else_in_either_family() {
        let mut hosts = Hosts::default();
        hosts.read_hosts_conf(&b"10.0.0.1 ha\nfd00::1 six ha6\n10.0.0.2 both\nfd00::2 both\n"[..]).unwrap();
        let known = |name| known_addresses(&hosts, name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(known("ha"), ["10.0.0.1"]);
        assert_eq!(known("ha6"), ["fd00::1"]);
        assert_eq!(known("both"), ["10.0.0.2", "fd00::2"]);
        assert_eq!(known("elsewhere"), <[String; 0]>::default());
    }

    #[tokio::test]
    async fn the_hosts_file_is_read() {
        let addresses = resolve(&"localhost:80".parse().unwrap()).await.unwrap();
        assert_eq!(addresses[0], SocketAddr::from((Ipv4Addr::LOCALHOST, 80)));
    }
}
