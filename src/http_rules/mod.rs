//! What HTTP allows to pass, and what the balancer answers itself.
//!
//! A server behind a balancer believes what the balancer let through, so anything that two readers could read in two ways
//! (request smuggling) is refused here rather than repaired. The rules look at parsed heads only; they are pure.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod fault;
mod forwarding;
mod hop_by_hop;
#[cfg(test)]
mod properties;
mod request;
mod response;
mod upgrade;

pub use fault::Fault;
pub use forwarding::{Added, Forwarding, forwarded_client, prepare_forwarding};
pub use hop_by_hop::{HopByHop, strip_hop_by_hop};
pub use request::{Rejection, Screened, screen};
pub use response::{InvalidResponse, prepare_response};
pub use upgrade::{Upgrade, Upgrades};
