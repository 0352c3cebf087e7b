//! `lb check`.

use std::{path::PathBuf, process::ExitCode};

use super::{BAD_USAGE, complain, say};
use crate::{
    app::{ConfigFile, LoadError},
    config::Overrides,
};

/// Tells everything that is wrong with a configuration, or what it comes to.
pub(super) fn check(path: PathBuf) -> ExitCode {
    let file = ConfigFile { path: Some(path.clone()), overrides: Overrides::default() };
    match file.load() {
        Ok(config) => {
            let servers: usize = config.pools.iter().map(|pool| pool.servers.len()).sum();
            let counted = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
            say(&format!(
                "{}: valid ({}, {}, {})\n",
                path.display(),
                counted(config.listeners.len(), "listener"),
                counted(config.pools.len(), "pool"),
                counted(servers, "server")
            ));
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error.to_string());
            // As a start would end.
            if matches!(error, LoadError::Keys(_)) { ExitCode::FAILURE } else { ExitCode::from(BAD_USAGE) }
        }
    }
}
