//! Connections to servers: opened, kept for the next request, used for one exchange after another.
//!
//! Each worker keeps its own, last in first out, so that taking one is no more than popping a stack: no lock, and the
//! warmest connection first. Why not `hyper_util`'s pooled client: its pool is shared between threads and keyed by host
//! name, while a server here is an identity that may lose its address to a stranger.

mod connect;
mod idle;
mod link;
mod traffic;

pub use connect::{ConnectError, connect};
pub use idle::IdleLinks;
pub use link::{Link, ReadError};
pub use traffic::Traffic;
