//! Panics: a bug of ours, told loudly and counted. What dies with it is up to whoever runs the code that panicked.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    panic::PanicHookInfo,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// There is one panic hook in a process, and it cannot be given anything; so there is one count, too.
static PANICS: AtomicU64 = AtomicU64::new(0);

/// Has every panic told through tracing, in one message, and counted. Why not the standard hook: what it writes has neither
/// time nor level, and nobody counts it.
pub(super) fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        PANICS.fetch_add(1, Relaxed);
        // Made only when RUST_BACKTRACE asks for it.
        let trace = Backtrace::capture();
        let message = sentence(info, std::thread::current().name());
        if trace.status() == BacktraceStatus::Captured {
            tracing::error!("{message}\n{trace}");
        } else {
            tracing::error!("{message}");
        }
    }));
}

/// Panics so far, since they are counted.
pub fn panics() -> u64 {
    PANICS.load(Relaxed)
}

fn sentence(info: &PanicHookInfo<'_>, thread: Option<&str>) -> String {
    let what = info.payload_as_str().unwrap_or("a panic without words");
    let place = info.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
    let thread = thread.unwrap_or("a thread without a name");
    format!("BUG in lb {}: '{what}' at {place} in {thread}; please report this line", env!("CARGO_PKG_VERSION"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        io::{self, Write},
        sync::{Arc, Mutex},
    };

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_told_with_its_words_and_its_place_and_counted() {
        let written = Written::default();
        let writer = written.clone();
        let messages = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
        let before = panics();
        let usual = std::panic::take_hook();
        report_panics();
        let caught = tracing::subscriber::with_default(messages, || {
            std::panic::catch_unwind(|| panic!("the number is {}", 42)).is_err()
        });
        std::panic::set_hook(usual);
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert!(caught && panics() > before);
        assert!(text.contains(" ERROR "), "{text}");
        assert!(
            text.contains(concat!(
                "BUG in lb ",
                env!("CARGO_PKG_VERSION"),
                ": 'the number is 42' at src/telemetry/panics.rs:"
            )),
            "{text}"
        );
    }
}
