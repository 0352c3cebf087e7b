//! Who a member is.
//!
//! Why not just its address? Containers inherit addresses: the newcomer must beat what the cluster remembers of its
//! predecessor, and must not be taken for it. So an identity also carries the random id of this boot and a generation
//! that grows with every boot and every refuted death.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

use crate::model::NodeId;

/// Highest generation, the end of the year 9999 in Unix milliseconds: nobody's clock is that late, so what says more is
/// made up. A bound near our own time would part members whose clocks are far apart.
pub(crate) const LATEST: u64 = 253_402_300_799_999;

/// What a member is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Role {
    /// Spreads requests; receives everybody's record.
    Balancer,
    /// Serves requests; owns a record.
    Node,
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Balancer => "balancer",
            Self::Node => "node",
        })
    }
}

/// This cannot be a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IdentityError {
    /// Nobody could dial it.
    #[error("{0} is not an address that a member can be reached at")]
    Address(SocketAddr),
    /// The clock is wrong, or it is made up.
    #[error("{0} ms after 1970 is after the year 9999: the clock is wrong")]
    Generation(u64),
}

/// A member as SWIM knows it. Two identities of one address exclude each other: the greater
/// `(generation, node_id, role)` wins, a total order, so that two nodes never disagree about the winner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "RawIdentity")]
pub struct Identity {
    addr: SocketAddr,
    generation: u64,
    node_id: NodeId,
    role: Role,
}

/// An identity as it arrives: its address may be nonsense.
#[derive(Deserialize)]
struct RawIdentity {
    addr: SocketAddr,
    generation: u64,
    node_id: NodeId,
    role: Role,
}

impl TryFrom<RawIdentity> for Identity {
    type Error = IdentityError;

    fn try_from(raw: RawIdentity) -> Result<Self, Self::Error> {
        let RawIdentity { addr, generation, node_id, role } = raw;
        Self::new(addr, generation, node_id, role)
    }
}

impl Identity {
    /// An identity at the address that other members dial, made [`canonical`]. The generation is the Unix time in
    /// milliseconds, or more when a predecessor at this address had more.
    ///
    /// # Errors
    /// When nobody could dial the address (unspecified, multicast, or port 0), or the generation is after the year 9999.
    pub fn new(addr: SocketAddr, generation: u64, node_id: NodeId, role: Role) -> Result<Self, IdentityError> {
        let addr = canonical(addr);
        let broadcast = matches!(addr.ip(), IpAddr::V4(ip) if ip.is_broadcast());
        if addr.port() == 0 || addr.ip().is_unspecified() || addr.ip().is_multicast() || broadcast {
            Err(IdentityError::Address(addr))
        } else if generation > LATEST {
            Err(IdentityError::Generation(generation))
        } else {
            Ok(Self { addr, generation, node_id, role })
        }
    }

    /// Where the member is dialled, as it says itself.
    pub fn address(&self) -> SocketAddr {
        self.addr
    }

    /// Grows with every boot and every refuted death.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The boot.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// What the member is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The same member above a predecessor of the given generation; `None` when no number is left above it.
    pub(crate) fn above(self, generation: u64) -> Option<Self> {
        (generation < LATEST).then(|| Self { generation: generation + 1, ..self })
    }

    /// The same member at another IP address.
    pub(crate) fn at(self, ip: IpAddr) -> Result<Self, IdentityError> {
        Self::new(SocketAddr::new(ip, self.addr.port()), self.generation, self.node_id, self.role)
    }
}

impl foca::Identity for Identity {
    type Addr = SocketAddr;

    /// A false death: the boot goes on under a higher generation and the same `node_id`, so that pools do not churn.
    fn renew(&self) -> Option<Self> {
        self.above(self.generation)
    }

    fn addr(&self) -> SocketAddr {
        self.addr
    }

    fn win_addr_conflict(&self, adversary: &Self) -> bool {
        (self.generation, self.node_id, self.role) > (adversary.generation, adversary.node_id, adversary.role)
    }
}

/// The one spelling of an address: IPv4 is never written as IPv6 (`::ffff:10.0.0.1`, as a dual-stack socket reports it),
/// and IPv6 carries no flow label or scope.
pub fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;
    use foca::Identity as _;

    fn identity(addr: &str, generation: u64, node_id: u64) -> Identity {
        Identity::new(addr.parse().unwrap(), generation, NodeId(node_id), Role::Node).unwrap()
    }

    #[test]
    fn the_later_boot_wins_and_of_equals_exactly_one() {
        let (old, new) = (identity("10.0.0.1:7946", 1, 9), identity("10.0.0.1:7946", 2, 3));
        assert!(new.win_addr_conflict(&old) && !old.win_addr_conflict(&new));
        let (one, two) = (identity("10.0.0.1:7946", 1, 1), identity("10.0.0.1:7946", 1, 2));
        assert_ne!(one.win_addr_conflict(&two), two.win_addr_conflict(&one));
    }

    #[test]
    fn a_renewed_identity_keeps_its_boot_and_wins() {
        let old = identity("10.0.0.1:7946", 7, 1);
        let new = old.renew().unwrap();
        assert_eq!((new.node_id(), new.generation()), (NodeId(1), 8));
        assert!(new.win_addr_conflict(&old));
        assert_eq!(identity("10.0.0.1:7946", LATEST, 1).renew(), None);
    }

    #[test]
    fn a_generation_after_the_year_9999_is_refused_also_on_the_wire() {
        let last = identity("10.0.0.1:7946", LATEST, 1);
        for generation in [LATEST + 1, u64::MAX] {
            let refused = Identity::new(last.addr, generation, NodeId(1), Role::Node);
            assert_eq!(refused, Err(IdentityError::Generation(generation)));
            let bytes = postcard::to_stdvec(&Identity { generation, ..last }).unwrap();
            assert!(postcard::from_bytes::<Identity>(&bytes).is_err());
        }
    }

    #[test]
    fn a_mapped_address_is_made_canonical() {
        assert_eq!(identity("[::ffff:10.0.0.1]:7946", 1, 1), identity("10.0.0.1:7946", 1, 1));
    }

    #[test]
    fn an_address_that_nobody_can_dial_is_refused_also_on_the_wire() {
        for addr in ["0.0.0.0:7946", "[::]:7946", "10.0.0.1:0", "224.0.0.1:7946", "255.255.255.255:7946"] {
            let addr: SocketAddr = addr.parse().unwrap();
            assert_eq!(Identity::new(addr, 1, NodeId(1), Role::Node), Err(IdentityError::Address(addr)));
            let raw = Identity { addr, generation: 1, node_id: NodeId(1), role: Role::Node };
            let bytes = postcard::to_stdvec(&raw).unwrap();
            assert!(postcard::from_bytes::<Identity>(&bytes).is_err(), "{addr}");
        }
        let good = identity("[2001:db8::1]:7946", 1, 1);
        assert_eq!(postcard::from_bytes::<Identity>(&postcard::to_stdvec(&good).unwrap()), Ok(good));
    }
}
