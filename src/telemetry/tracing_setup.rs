//! Messages for people, on standard error.

use std::{fmt::Result, io::IsTerminal};

use tracing::{Event, Subscriber};
use tracing_subscriber::{
    EnvFilter, fmt,
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

use super::panics::report_panics;

/// Sends messages to standard error. `LB_TRACE` chooses what is told, in the syntax of `tracing_subscriber`'s `EnvFilter`
/// (`debug`, `lb=debug,warn`); `default` is for when it says nothing. Panics are told there, too. A second call changes
/// nothing.
pub fn init_tracing(default: &str) {
    init_prefixed_tracing(default, "");
}

/// The same for a program that shares its standard error with another one: `prefix` begins each of its messages.
pub fn init_prefixed_tracing(default: &str, prefix: &'static str) {
    let filter = EnvFilter::try_from_env("LB_TRACE").unwrap_or_else(|_| EnvFilter::new(default));
    let colours = std::io::stderr().is_terminal();
    let format = Prefixed { prefix, format: fmt::format().with_target(false) };
    // By default a message that cannot be written is complained about, again on standard error, with a panic when that
    // fails, too: whoever reads us may go away at any time, and traffic must go on.
    let messages = fmt().log_internal_errors(false).with_writer(std::io::stderr);
    let messages = messages.with_env_filter(filter).with_ansi(colours).event_format(format);
    if messages.try_init().is_ok() {
        report_panics();
    }
}

/// Messages of a format that begin with some letters.
struct Prefixed<F> {
    prefix: &'static str,
    format: F,
}

impl<S, N, F> FormatEvent<S, N> for Prefixed<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> Result {
        writer.write_str(self.prefix)?;
        self.format.format_event(context, writer, event)
    }
}
