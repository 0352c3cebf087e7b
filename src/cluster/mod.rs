//! The tokio driver of the cluster member: sockets, names and clocks around [`crate::swim::Node`].
//!
//! Why is it so thin? Every rule of the protocol lives in the pure core; here is only what cannot be pure: the socket and
//! the clock ([`join`]), the names of seeds and our own address ([`Resolve`], [`Names`]), the key files ([`KeyWatch`]), and
//! what people and their scripts are told (the log, [`Event`]s). Why does it spawn nothing? [`join`] returns a handle and
//! a future, and whoever joins decides which thread runs it and when it ends: `app`, or [`crate::agent::Membership`].
//!
//! The clock of the core advances by no more than the loop meant to sleep, and each turn empties the socket before any timer
//! fires: a process that was stopped for a minute first reads what the others said meanwhile, and accuses nobody of
//! a silence that was its own (the concern of Dadgar, Phillips, Currey: "Lifeguard", DSN-W 2018).

mod address;
mod clock;
mod directory;
mod driver;
mod events;
mod handle;
mod keys;
mod log;
mod names;
mod resolve;
mod socket;
#[cfg(test)]
mod tests;

pub use address::{default_ip, local_ip_toward};
pub use directory::{Directory, NoDirectory};
pub use driver::{Config, JoinError, join};
pub use events::{Event, Subject, tags};
pub use handle::{Member, Stopped, Totals, View};
pub use keys::{KeyWatch, KeysError, cluster_secret, read_keys, watched_keys};
pub use names::{Names, advertised, hostname, seeds};
pub use resolve::{Resolve, Seed};
