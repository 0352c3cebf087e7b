//! `lb`: a layer-7 load balancer whose servers join it by themselves.
//!
//! The program is a house of rooms on floors. A room imports only from lower floors; rooms of one floor know
//! each other only where the map says `(uses ...)`. `tests/it/architecture.rs` reads the map and the imports, and fails on
//! any other arrow.
//!
//! ```text
//! FLOOR 0  model      the vocabulary: ServerId, PoolName, Weight, AdminState, Health, Networks, ClusterKey, Decision;
//!                     `eligible()`, the one rule that says whether a server may get a request
//! FLOOR 1  balance    the algorithms
//! FLOOR 1  sticky     cookies: read, judge, issue, strip
//! FLOOR 1  health     the rise/fall machine, outliers, when to panic
//! FLOOR 1  retry      what may be sent again
//! FLOOR 1  queue      who waits for a place on a server, and who gets the next one
//! FLOOR 1  http_rules request validation, hop-by-hop and forwarding headers, the event -> status and flags table
//! FLOOR 1  h1         HTTP/1.1: heads and bodies to bytes and back
//! FLOOR 1  config     raw (serde) -> validated
//! FLOOR 1  proxy_protocol  the PROXY protocol's header
//! FLOOR 1  swim       foca wrapped sans-IO: identity, record, seal, Node::handle(now, input) -> outputs
//! FLOOR 2  registry   the pools: an immutable Snapshot under one ArcSwap, one writer `apply(Command)`; live counters
//! FLOOR 2  telemetry  the access log, tracing set-up
//! FLOOR 3  net        listeners, metered and timed connections, name resolution
//! FLOOR 3  downstream connections of clients: heads, bodies, responses, upgrades (uses net)
//! FLOOR 3  upstream   connecting to servers, the connection pool of a worker (uses net)
//! FLOOR 3  proxy      the tower stack, forwarding, bodies, upgrades (uses downstream, net, upstream)
//! FLOOR 3  probe      active checks
//! FLOOR 3  cluster    the tokio driver of swim::Node, names, key files, events (uses net)
//! FLOOR 4  admin      stats page, CSV, /metrics, members, runtime API
//! FLOOR 4  agent      readiness, supervision, drain; Membership, the public API
//! FLOOR 5  app        builds everything from a Config, runs it, drains it
//! FLOOR 5  cli        the command line (uses app)
//! ```
//!
//! Floor 1 is pure: no clock, no randomness, no tasks, no files, no sockets; time and chance are arguments. `clippy.toml`
//! lists what that means, and each of those rooms denies it.

// The simulator's network is shared with the tests of `tests/sim`, which know this library by its name.
#[cfg(test)]
extern crate self as lb;

pub mod model;

pub mod balance;
pub mod config;
pub mod h1;
pub mod health;
pub mod http_rules;
pub mod proxy_protocol;
pub mod queue;
pub mod retry;
pub mod sticky;
pub mod swim;

pub mod registry;
pub mod telemetry;

pub mod cluster;
pub mod downstream;
pub mod net;
pub mod probe;
pub mod proxy;
pub mod upstream;

pub mod admin;
pub mod agent;

pub mod app;
pub mod cli;
