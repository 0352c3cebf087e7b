//! The configuration's file, at the start and when it is read again.

use std::{io, num::NonZeroUsize, path::PathBuf};

use crate::{
    cluster::{KeysError, read_keys},
    config::{Config, Overrides, Problems, Source},
};

/// Where the configuration comes from.
#[derive(Debug, Clone, Default)]
pub struct ConfigFile {
    /// The file, if there is one.
    pub path: Option<PathBuf>,
    /// What the command line says.
    pub overrides: Overrides,
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file or the command line is wrong.
    #[error(transparent)]
    Invalid(#[from] Problems),
    /// The cluster's keys cannot be had.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

impl ConfigFile {
    /// Reads the file anew, lets the command line's words win, and reads the cluster's keys.
    ///
    /// # Errors
    /// When a file cannot be read, or anything is wrong.
    pub fn load(&self) -> Result<Config, LoadError> {
        let mut config = self.read()?;
        if let Some(gossip) = &mut config.gossip {
            gossip.keys = gossip.key_source.as_ref().map(read_keys).transpose()?;
        }
        Ok(config)
    }

    fn read(&self) -> Result<Config, LoadError> {
        let processors = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        let Some(path) = &self.path else { return Ok(Config::build(None, &self.overrides, processors)?) };
        let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read { path: path.clone(), source })?;
        let source = Source { name: &path.display().to_string(), text: &text };
        Ok(Config::build(Some(source), &self.overrides, processors)?)
    }
}
