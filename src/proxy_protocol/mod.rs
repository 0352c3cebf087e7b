//! The PROXY protocol, versions 1 and 2: a proxy that relays a connection says first whose connection it is
//! (HAProxy's proxy-protocol.txt).
//!
//! Only the receiver's side is here, and only its decision: bytes go in, and out comes the header, "more bytes are needed"
//! or why this is none. The header must never be guessed: whoever may send one must, or a client could send it in the
//! proxy's stead.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod binary;
mod parse;
#[cfg(test)]
mod tests;
mod text;

pub use parse::{Endpoints, Header, Invalid, MAX_HEADER, Parsed, parse};
