//! `lb check`.

use std::{path::PathBuf, process::ExitCode};

use super::BAD_USAGE;
use crate::{
    app::{ConfigFile, LoadError},
    config::Overrides,
};

/// Tells everything that is wrong with a configuration, or what it comes to.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where the program speaks to its user")]
pub(super) fn check(path: PathBuf) -> ExitCode {
    let file = ConfigFile { path: Some(path.clone()), overrides: Overrides::default() };
    match file.load() {
        Ok(config) => {
            let servers: usize = config.pools.iter().map(|pool| pool.servers.len()).sum();
            let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
            println!(
                "{}: valid ({}, {}, {})",
                path.display(),
                counted(config.listeners.len(), "listener"),
                counted(config.pools.len(), "pool"),
                counted(servers, "server")
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            // As a start would end.
            if matches!(error, LoadError::Keys(_)) { ExitCode::FAILURE } else { ExitCode::from(BAD_USAGE) }
        }
    }
}
