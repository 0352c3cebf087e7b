//! What the operator asks for: read (`raw`), checked, and turned into types that cannot be wrong.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod address;
mod types;

pub use address::{AddressError, Host, HostPort, ListenAddress};
pub use types::{
    Config, DEFAULT_FRONTEND, DEFAULT_POOL, Gossip, Limits, Listener, LogFormat, Pool, PoolPolicy, STATS_PROXY,
    StaticServer, Stats, Timeouts,
};
