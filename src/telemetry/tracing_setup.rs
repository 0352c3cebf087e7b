//! Messages for people, on standard error.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, fmt};

/// Sends messages to standard error. `LB_TRACE` chooses what is told, in the syntax of `tracing_subscriber`'s `EnvFilter`
/// (`debug`, `lb=debug,warn`); the default is `info`. A second call changes nothing.
pub fn init_tracing() {
    let filter = EnvFilter::try_from_env("LB_TRACE").unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let messages = fmt().with_env_filter(filter).with_target(false).with_ansi(colours).with_writer(std::io::stderr);
    let _already_set = messages.try_init();
}
