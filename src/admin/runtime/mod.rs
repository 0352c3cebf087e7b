//! The runtime API: HAProxy's commands over TCP or a unix socket, with its framing, replies and errors (its management guide,
//! section 9.3).
//!
//! A command is one row of `table` and one function. Why not a trait with an implementation for each: a row shows at a glance
//! who may do it and what `help` says of it.

mod close_match;
mod input;
mod operate;
mod process;
mod server;
mod session;
mod show;
mod table;
#[cfg(test)]
mod tests;

pub use input::commands;
pub use server::{RuntimeListener, serve_runtime};
