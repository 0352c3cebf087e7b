//! `lb check`.

use std::{path::PathBuf, process::ExitCode};

use super::BAD_USAGE;
use crate::{app::ConfigFile, config::Overrides};

/// Tells everything that is wrong with a configuration, or what it comes to.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is where the program speaks to its user")]
pub(super) fn check(path: PathBuf) -> ExitCode {
    let file = ConfigFile { path: Some(path.clone()), overrides: Overrides::default() };
    match file.load() {
        Ok(config) => {
            let servers: usize = config.pools.iter().map(|pool| pool.servers.len()).sum();
            let (listeners, pools) = (config.listeners.len(), config.pools.len());
            println!("{}: valid ({listeners} listeners, {pools} pools, {servers} servers)", path.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(BAD_USAGE)
        }
    }
}
