//! Version 2: a signature, a command, an address family, a length, addresses, and what else somebody had to say
//! (proxy-protocol.txt, section 2.2). The extensions at the end (TLVs) are skipped.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use super::parse::{Endpoints, Header, Invalid, Parsed};

pub(super) const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, command, family and length.
const FIXED: usize = 16;
/// Most bytes after the fixed part: the longest addresses (216 bytes) and far more extensions than any proxy sends.
const MAX_REST: usize = 4096;
pub(super) const MAX_BINARY: usize = FIXED + MAX_REST;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;

/// Reads a header; `bytes` begin with the signature, as far as they go. Each field is judged as soon as it is there.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let is_local = match bytes.get(12) {
        None => return Parsed::Incomplete,
        Some(&LOCAL) => true,
        Some(&PROXY) => false,
        Some(_) => return Parsed::Invalid(Invalid::Command),
    };
    let Some(&family) = bytes.get(13) else { return Parsed::Incomplete };
    // A connection of the proxy's own: the family is to be ignored.
    let Some(addresses) = (if is_local { Some(Addresses::None) } else { Addresses::of(family) }) else {
        return Parsed::Invalid(Invalid::Family);
    };
    let Some(&[high, low]) = bytes.get(14..FIXED) else { return Parsed::Incomplete };
    let rest = usize::from(u16::from_be_bytes([high, low]));
    if rest > MAX_REST {
        return Parsed::Invalid(Invalid::TooLong);
    }
    if rest < addresses.length() {
        return Parsed::Invalid(Invalid::TooShort);
    }
    let Some(block) = bytes.get(FIXED..FIXED + rest) else { return Parsed::Incomplete };
    Parsed::Header(Header { endpoints: addresses.read(block), length: FIXED + rest })
}

/// What stands behind the length.
#[derive(Clone, Copy)]
enum Addresses {
    /// Nothing that is of use.
    None,
    /// Two IPv4 addresses, two ports.
    V4,
    /// Two IPv6 addresses, two ports.
    V6,
    /// So many bytes that name no TCP connection.
    Other(usize),
}

impl Addresses {
    /// By family (upper half) and transport (lower half).
    fn of(byte: u8) -> Option<Self> {
        match byte {
            0x00 => Some(Self::None),
            0x11 => Some(Self::V4),
            0x21 => Some(Self::V6),
            // Datagrams carry no HTTP/1, and Unix sockets have no addresses to tell.
            0x12 => Some(Self::Other(12)),
            0x22 => Some(Self::Other(36)),
            0x31 | 0x32 => Some(Self::Other(216)),
            _ => None,
        }
    }

    fn length(self) -> usize {
        match self {
            Self::None => 0,
            Self::V4 => 12,
            Self::V6 => 36,
            Self::Other(length) => length,
        }
    }

    fn read(self, block: &[u8]) -> Option<Endpoints> {
        let port = |at: usize| array(block, at).map(u16::from_be_bytes);
        let (source, destination) = match self {
            Self::None | Self::Other(_) => return None,
            Self::V4 => {
                let ip = |at| array::<4>(block, at).map(Ipv4Addr::from);
                (SocketAddr::from((ip(0)?, port(8)?)), SocketAddr::from((ip(4)?, port(10)?)))
            }
            Self::V6 => {
                let ip = |at| array::<16>(block, at).map(Ipv6Addr::from);
                (SocketAddr::from((ip(0)?, port(32)?)), SocketAddr::from((ip(16)?, port(34)?)))
            }
        };
        Some(Endpoints { source, destination })
    }
}

fn array<const N: usize>(block: &[u8], at: usize) -> Option<[u8; N]> {
    block.get(at..at + N)?.try_into().ok()
}
