//! HTTP/1.1 as a balancer speaks it: heads and bodies to bytes and back, without IO.
//!
//! Why not hyper's: its client takes a task for each connection and three channels for each exchange, passes no early hints
//! on, and gives a response up when the request that it answers early cannot be written to its end. Its server keeps a
//! buffer of 8 KiB for each connection, hands bodies over through a channel, has no words for responses in between, and
//! takes what a balancer must not (RFC 9112 sections 2.2, 6.1 and 7.1.2). The syntax of heads is httparse's, which hyper uses
//! too.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod body;
mod chunked;
mod lines;
mod outbox;
mod parse;
mod write;

pub use body::Decoder;
pub use chunked::{Chunked, Piece};
pub use lines::Lines;
pub use outbox::Outbox;
pub use parse::{Limits, ParseError, Reason, RequestHead, ResponseHead, parse_request, parse_response};
pub use write::{Framing, Manner, ResponseFraming, write_interim, write_request, write_response};

use http::StatusCode;

use write::{write_chunk_head, write_last_chunk};

/// The bytes are not what HTTP/1.1 allows for a body (RFC 9112 sections 6 and 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The size of a chunk is not a hexadecimal number, is too large, or its line is too long.
    #[error("the size of a chunk is not valid")]
    ChunkSize,
    /// The data of a chunk does not end where its size says.
    #[error("a chunk is longer than its size")]
    ChunkEnd,
    /// The fields after the last chunk are not valid or too long.
    #[error("the trailers are not valid")]
    Trailers,
}

/// Whether no response of that status has a body (RFC 9110 section 6.4.1).
fn is_bodiless(status: StatusCode) -> bool {
    status.is_informational() || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED
}
