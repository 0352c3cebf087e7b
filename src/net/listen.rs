//! Opening sockets to listen on.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::resolve::{ResolveError, resolve};
use crate::config::{Host, HostPort, ListenAddress};

/// Connections that wait to be accepted; the kernel lowers it to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;

/// Why an address can't be listened on.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The socket could not be opened or bound.
    #[error("cannot listen on {address}: {}", reason(.source))]
    Bind {
        /// The address as the operator wrote it.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The name in the address is not known.
    #[error("cannot listen on {address}: {source}")]
    Resolve {
        /// The address as the operator wrote it.
        address: String,
        /// Why not.
        source: ResolveError,
    },
}

fn reason(error: &io::Error) -> String {
    let known = [
        (io::ErrorKind::AddrInUse, "another process listens there already (see `ss -ltnup`)"),
        (io::ErrorKind::PermissionDenied, "permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)"),
        (io::ErrorKind::AddrNotAvailable, "this machine has no such address"),
    ];
    let words = known.iter().find(|(kind, _)| *kind == error.kind());
    words.map_or_else(|| error.to_string(), |(_, words)| (*words).to_owned())
}

/// What to bind for an address that an operator wrote, the best first. `:80` is both families at once, or IPv4 alone on a
/// machine without IPv6.
///
/// # Errors
/// When the address has a name that is not known.
pub async fn listen_addresses(address: &ListenAddress) -> Result<Vec<SocketAddr>, BindError> {
    let port = address.port;
    match &address.host {
        None => Ok([IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::UNSPECIFIED)]
            .map(|ip| SocketAddr::new(ip, port))
            .to_vec()),
        Some(Host::Ip(ip)) => Ok(vec![SocketAddr::new(*ip, port)]),
        Some(host @ Host::Name(_)) => {
            let target = HostPort { host: host.clone(), port };
            resolve(&target).await.map_err(|source| BindError::Resolve { address: address.to_string(), source })
        }
    }
}

/// Opens `copies` listeners on one address, among which the kernel spreads new connections (`SO_REUSEPORT`). With port 0
/// all get the port that the first was given.
///
/// # Errors
/// When none of the address's forms can be bound, with what was wrong with the last one.
pub async fn bind_all(address: &ListenAddress, copies: usize) -> Result<Vec<TcpListener>, BindError> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in listen_addresses(address).await? {
        match bind_copies(candidate, address.host.is_none(), copies) {
            Ok(listeners) => return Ok(listeners),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                last = error;
                break;
            }
            Err(error) => last = error,
        }
    }
    Err(BindError::Bind { address: address.to_string(), source: last })
}

/// Opens a datagram socket.
///
/// # Errors
/// When none of the address's forms can be bound.
pub async fn bind_udp(address: &ListenAddress) -> Result<UdpSocket, BindError> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for candidate in listen_addresses(address).await? {
        match open(candidate, Type::DGRAM, address.host.is_none()).and_then(|socket| {
            socket.bind(&SockAddr::from(candidate))?;
            Ok(UdpSocket::from(socket))
        }) {
            Ok(socket) => return Ok(socket),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                last = error;
                break;
            }
            Err(error) => last = error,
        }
    }
    Err(BindError::Bind { address: address.to_string(), source: last })
}

fn bind_copies(address: SocketAddr, both_families: bool, copies: usize) -> io::Result<Vec<TcpListener>> {
    if address.port() != 0 {
        // With SO_REUSEPORT a second process would silently take a share of the traffic; without it, it is refused.
        let lone = open(address, Type::STREAM, both_families)?;
        lone.set_reuse_address(true)?;
        lone.bind(&SockAddr::from(address))?;
    }
    let mut bound = address;
    let mut listeners = Vec::with_capacity(copies);
    for _ in 0..copies.max(1) {
        let socket = open(bound, Type::STREAM, both_families)?;
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        // Accepted connections inherit it, which saves a system call for each.
        socket.set_tcp_nodelay(true)?;
        socket.bind(&SockAddr::from(bound))?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        bound.set_port(listener.local_addr()?.port());
        listeners.push(listener);
    }
    Ok(listeners)
}

fn open(address: SocketAddr, kind: Type, both_families: bool) -> io::Result<Socket> {
    let protocol = if kind == Type::DGRAM { Protocol::UDP } else { Protocol::TCP };
    let socket = Socket::new(Domain::for_address(address), kind.nonblocking().cloexec(), Some(protocol))?;
    if address.is_ipv6() {
        socket.set_only_v6(!both_families)?;
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(port: u16) -> ListenAddress {
        ListenAddress { host: Some(Host::Ip(Ipv4Addr::LOCALHOST.into())), port }
    }

    #[tokio::test]
    async fn copies_share_a_port_that_the_system_chose() {
        let listeners = bind_all(&loopback(0), 3).await.unwrap();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        assert!(ports[0] != 0 && ports == [ports[0]; 3]);
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_named() {
        let first = bind_all(&loopback(0), 2).await.unwrap();
        let taken = loopback(first[0].local_addr().unwrap().port());
        let error = bind_all(&taken, 2).await.unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot listen on {taken}: another process listens")), "{error}");
    }

    #[tokio::test]
    async fn a_port_alone_answers_on_ipv4() {
        let listeners = bind_all(&ListenAddress::any(0), 1).await.unwrap();
        let port = listeners[0].local_addr().unwrap().port();
        assert!(std::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok());
    }
}
