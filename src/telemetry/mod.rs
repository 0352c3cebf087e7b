//! What is written down: the access log on standard output, everything for people on standard error.

mod access_log;
mod sink;
mod tracing_setup;

pub use access_log::{Record, Timers, write_haproxy, write_json};
pub use sink::{LogBuffer, LogSink};
pub use tracing_setup::init_tracing;
