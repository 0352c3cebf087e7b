//! The real thing, from outside: the executable on loopback, its servers and its clients over plain sockets.
//!
//! Servers here are threads of this process (`support::Origin`) or, where one has to die, this binary started once more
//! (`support::app`). Nothing but Rust is needed to run them.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that panics says what went wrong")]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "measured times are for people, who ask with --nocapture"
)]

mod admin;
mod agents;
mod architecture;
mod backpressure;
mod balance;
mod balancers;
mod chaos;
mod churn;
mod cli;
mod closing;
mod cluster;
mod demo;
mod descriptors;
mod events;
mod faults;
mod hazards;
mod health;
mod idle;
mod keep_alive;
mod lab;
mod leaving;
mod maintenance;
mod proxies;
mod queue;
mod regressions;
mod reload;
mod reuse;
mod runtime_api;
mod sealed;
mod sticky;
mod support;
mod timeouts;
mod traffic;
mod tunnels;
mod unheard;
mod uploads;
