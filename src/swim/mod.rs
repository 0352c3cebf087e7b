//! The cluster's brain, sans-IO: SWIM membership (Das, Gupta, Motivala: "SWIM: Scalable Weakly-consistent
//! Infection-style Process Group Membership Protocol", DSN 2002) as foca implements it, and on top of it who serves what.
//!
//! Why not foca alone? It says who is alive, and nothing else: it gives up for good once it knows nobody, joins only an
//! address that the other side itself advertises, and spreads a node's description only to those who happen to listen at
//! that moment. So a [`Node`] adds what a load balancer needs:
//!
//! - a seed keeper that never gives up, and a hello that finds out who answers at a dialled address;
//! - [`ServiceRecord`]s, which their owners push straight to every balancer until it has acknowledged that its pool follows
//!   (`push`);
//! - decisions of operators, which all balancers hold (`decisions`), and hints of their checks (`telling`);
//! - questions to suspects, so that lost datagrams make no death (`suspicion`);
//! - the thought that it might be cut off itself, when most others vanish at once (`cut_off`);
//! - the cluster's key, without which nobody is heard (`seal`).
//!
//! Nothing here reads a clock, draws chance or touches a socket: [`Node::handle`] takes the time and an [`Input`] and
//! appends [`Output`]s for the driver in `cluster` to carry out. The same inputs always give the same outputs.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod contact;
mod counters;
mod cut_off;
mod decisions;
mod identity;
mod node;
mod push;
mod record;
mod roster;
mod scheduler;
mod seal;
mod seeds;
mod suspicion;
mod telling;
mod tuning;
mod wire;

pub use counters::{Census, Counters, DropReason, Kind, Timings};
pub use identity::{Identity, IdentityError, Role, canonical};
pub use node::{Input, Node, NodeConfig, Output, RecordNews, Sealing};
pub use push::DrainProgress;
pub use record::{MAX_RECORD, RecordError, ServiceRecord};
pub use roster::{MAX_MEMBERS, Member, MemberState};
pub use wire::MAX_DATAGRAM;
