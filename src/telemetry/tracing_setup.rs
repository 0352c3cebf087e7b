//! Messages for people, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

use super::panics::report_panics;

/// Sends messages to standard error. `LB_TRACE` chooses what is told, in the syntax of `tracing_subscriber`'s `EnvFilter`
/// (`debug`, `lb=debug,warn`); `default` is for when it says nothing. Panics are told there, too. A second call changes
/// nothing.
pub fn init_tracing(default: &str) {
    let filter = EnvFilter::try_from_env("LB_TRACE").unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal();
    let messages = fmt().with_env_filter(filter).with_target(false).with_ansi(colours).with_writer(std::io::stderr);
    if messages.try_init().is_ok() {
        report_panics();
    }
}
