//! Configuration files: one that holds together, or a list of what is wrong.

#![no_main]

use std::num::NonZeroUsize;

use lb::config::{Config, Overrides, Source};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let source = Source { name: "lb.toml", text };
    match Config::build(Some(source), &Overrides::default(), NonZeroUsize::MIN) {
        Ok(config) => {
            assert!(!config.listeners.is_empty() && !config.pools.is_empty());
            for listener in &config.listeners {
                assert!(config.has_pool(&listener.pool) && !listener.bind.is_empty());
            }
            assert!(config.fixed_parts_that_differ(&config).is_empty());
        }
        Err(problems) => {
            assert!(!problems.list.is_empty());
            let lines: Vec<_> = problems.list.iter().map(|problem| problem.line).collect();
            assert!(lines.is_sorted(), "{lines:?}");
            let count = text.bytes().filter(|&byte| byte == b'\n').count() + 1;
            assert!(lines.iter().flatten().all(|line| (1..=count).contains(line)), "{lines:?} of {count}");
            // One problem is one line in a log.
            assert_eq!(problems.to_string().lines().count(), problems.list.len(), "{problems}");
        }
    }
});
