//! Where the cluster's keys come from.
//!
//! Why are they not read here? This room touches no file; whoever reads the configuration reads the keys after it.

use std::{fmt, path::PathBuf};

use super::{Gossip, GossipChoice, checker::Checker};
use crate::model::ClusterName;

/// The variable of the environment that can hold the keys themselves. It is for this program alone: what the program
/// starts does not get it.
pub const CLUSTER_KEY_VARIABLE: &str = "LB_CLUSTER_KEY";

/// Where the cluster's keys are.
#[derive(Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In this file, which is read again with the configuration.
    File(PathBuf),
    /// In the environment: this is what it says.
    Environment(String),
}

/// The text of the environment is the secret itself.
impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => f.debug_tuple("File").field(path).finish(),
            Self::Environment(_) => f.write_str("Environment"),
        }
    }
}

impl KeySource {
    /// The file of that path.
    pub(super) fn file(path: &str) -> Result<Self, &'static str> {
        if path.is_empty() { Err("a path is expected") } else { Ok(Self::File(path.into())) }
    }
}

impl Gossip {
    /// The same before its keys were read.
    pub(super) fn without_keys(&self) -> Self {
        Self { keys: None, ..self.clone() }
    }
}

/// Lets the command line's words win.
pub(super) fn override_with(
    gossip: &mut Option<Gossip>,
    (key_source, cluster): (Option<&KeySource>, Option<&ClusterName>),
    choice: Option<&GossipChoice>,
    checker: &mut Checker<'_>,
) {
    let Some(gossip) = gossip else { return };
    let is_named = gossip.cluster.is_some() || cluster.is_some();
    if let Some(source) = key_source {
        gossip.key_source = Some(source.clone());
    }
    if let Some(cluster) = cluster {
        gossip.cluster = Some(cluster.clone());
    }
    if choice == Some(&GossipChoice::Off) {
        if matches!(key_source, Some(KeySource::File(_))) || cluster.is_some() {
            checker
                .note(None, "--gossip off leaves nothing to seal: drop it, or --cluster-key-file and --cluster-name");
        }
    } else if is_named && gossip.key_source.is_none() {
        checker.note(None, "a cluster has a name only with a key: add --cluster-key-file (or gossip.key-file)");
    }
}
