//! Connections of clients: requests are read from them, handed to a [`tower::Service`], and answered, one after the other.
//!
//! It is one state machine that whoever has the connection polls: no task, no channel, and no buffer while nothing is on its
//! way. Bodies are read from the socket by whoever wants them ([`Incoming`]), and responses in pieces as they come.

mod connection;
mod incoming;
#[cfg(test)]
mod tests;
mod wire;

pub use connection::{Answer, Broken, Connection};
pub use incoming::{Aside, Incoming, IncomingError, Upgrade};
