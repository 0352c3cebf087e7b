//! By which address we are reached.
//!
//! Why not list the interfaces? A machine has many, and only the routing table knows which one leads to a given peer.
//! Connecting a UDP socket asks it, and sends nothing.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
};

/// The local address that the system would use on the way to a peer.
///
/// # Errors
/// When there is no route, or no such address family here.
pub fn local_ip_toward(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = match peer.ip() {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip().to_canonical())
}

/// The address to guess before any peer is known: the one on the default route, else loopback.
pub fn default_ip() -> IpAddr {
    // Documentation addresses (RFC 5737, RFC 3849): routed like the rest of the world, and nobody's.
    let outside: [IpAddr; 2] =
        [Ipv4Addr::new(192, 0, 2, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()];
    outside
        .into_iter()
        .find_map(|ip| local_ip_toward(SocketAddr::new(ip, 9)).ok())
        .unwrap_or(Ipv4Addr::LOCALHOST.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_reached_from_loopback() {
        let peer = SocketAddr::from((Ipv4Addr::LOCALHOST, 7946));
        assert_eq!(local_ip_toward(peer).unwrap(), peer.ip());
    }

    #[test]
    fn there_is_always_a_guess() {
        assert!(!default_ip().is_unspecified());
    }
}
