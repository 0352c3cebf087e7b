//! What the operator asks for: read (`raw`), checked, and turned into types that cannot be wrong.
//!
//! A file and the command line become one [`Config`], or a list of everything that is wrong with them. Nothing here reads a
//! file: whoever does hands over the text.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod address;
mod build;
mod checker;
mod event_handler;
mod key_source;
mod overrides;
mod problem;
mod raw;
mod runtime_api;
#[cfg(test)]
mod tests;
mod types;
mod upgrade;

pub use address::{AddressError, Advertise, Host, HostPort, ListenAddress};
pub use build::{GOSSIP_PORT, MAX_LIMIT, Source};
pub use checker::parse_duration;
pub use event_handler::{EventHandler, EventHandlerError};
pub use key_source::{CLUSTER_KEY_VARIABLE, KeySource};
pub use overrides::{CheckChoice, CookieModeChoice, GossipChoice, Overrides};
pub use problem::{Problem, Problems};
pub use runtime_api::{Level, RuntimeAddress, RuntimeApi, RuntimeBind};
pub use types::{
    Config, DEFAULT_FRONTEND, DEFAULT_POOL, Gossip, Limits, Listener, LogFormat, Pool, PoolPolicy, STATS_PROXY,
    StaticServer, Stats, Timeouts,
};
pub use upgrade::UpgradeProtocol;
