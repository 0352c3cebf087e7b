//! The whole program: everything built from a configuration, run, and drained.
//!
//! Only this room starts tasks and threads that live long in `lb`; in another program [`crate::agent::Membership`] starts
//! the one that it needs. Traffic has a thread for each worker; everything else (checks, cluster, stats page,
//! configuration) shares the thread that calls [`serve`], so that operators never delay requests.

mod cluster_link;
mod demo;
mod event_handlers;
mod keys;
mod members;
mod names;
mod node;
mod operators;
mod query;
mod reload;
mod runtime_api;
mod serve;
mod shortage;
mod sockets;
mod task;
mod webapp;
mod workers;

pub use demo::{DemoError, DemoSettings, demo};
pub use node::run_node;
pub use query::{QueryError, query_members};
pub use reload::{ConfigFile, LoadError};
pub use serve::{Order, StartError, serve};
pub use sockets::{Addresses, Bound};
