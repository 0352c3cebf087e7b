//! What is written down: the access log on standard output, everything for people on standard error.

mod access_log;
mod panics;
mod sink;
mod tracing_setup;

pub use access_log::{Record, Timers, write_haproxy, write_json};
pub use panics::panics;
pub use sink::{LogBuffer, LogSink};
pub use tracing_setup::{init_prefixed_tracing, init_tracing};
