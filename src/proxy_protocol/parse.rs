//! The decision that both versions share.

use std::net::SocketAddr;

use super::{binary, text};

/// Longest header in bytes, of either version: what is to be kept until one is complete.
pub const MAX_HEADER: usize = binary::MAX_BINARY;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header. Every byte so far belongs to it.
    Incomplete,
    /// A whole header; what follows it is not the PROXY protocol's.
    Header(Header),
    /// No header, whatever follows.
    Invalid(Invalid),
}

/// A whole header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whose connection it is. `None` when the proxy speaks for itself (LOCAL), does not know (UNKNOWN, UNSPEC), or
    /// names no TCP addresses: then the addresses of the connection itself are the true ones.
    pub endpoints: Option<Endpoints>,
    /// Bytes of the header.
    pub length: usize,
}

/// The two ends of the connection that is relayed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoints {
    /// The client.
    pub source: SocketAddr,
    /// What the client dialled.
    pub destination: SocketAddr,
}

/// Why bytes are no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// They begin as neither version does.
    #[error("it does not begin with a PROXY protocol header")]
    Signature,
    /// Version 1: the line is longer than 107 bytes, or its CR is not followed by LF.
    #[error("its PROXY line has no end within 107 bytes")]
    Unterminated,
    /// Version 1: the line is not `PROXY TCP4|TCP6|UNKNOWN ...`, or an address or port in it is none.
    #[error("its PROXY line is malformed")]
    Line,
    /// Version 2: another version, or a command that is neither LOCAL nor PROXY.
    #[error("its PROXY header has an unknown version or command")]
    Command,
    /// Version 2: an address family or a transport that does not exist.
    #[error("its PROXY header has an unknown address family")]
    Family,
    /// Version 2: more than 4096 bytes after the fixed part.
    #[error("its PROXY header is longer than 4112 bytes")]
    TooLong,
    /// Version 2: the addresses do not fit into the length that is given.
    #[error("its PROXY header is too short for its addresses")]
    TooShort,
}

/// Reads the header that `bytes` begin with.
///
/// More bytes never change an answer other than [`Parsed::Incomplete`], and that is never the answer to
/// [`MAX_HEADER`] bytes or more.
pub fn parse(bytes: &[u8]) -> Parsed {
    let begins = |signature: &[u8]| bytes.iter().zip(signature).all(|(byte, expected)| byte == expected);
    if bytes.is_empty() {
        Parsed::Incomplete
    } else if begins(text::SIGNATURE) {
        text::parse(bytes)
    } else if begins(binary::SIGNATURE) {
        binary::parse(bytes)
    } else {
        Parsed::Invalid(Invalid::Signature)
    }
}
