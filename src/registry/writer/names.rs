//! By which names servers are shown, and who gives his to a successor.

use std::sync::Arc;

use super::Entry;
use crate::{
    model::{ServerId, ServerName},
    registry::server::Server,
};

impl Entry {
    /// The name, with a number behind it when another server has it: both live, and a person can tell them apart.
    pub(super) fn unique_name(&self, name: ServerName) -> ServerName {
        let is_free = |name: &ServerName| self.servers.iter().all(|server| server.name != *name);
        if is_free(&name) {
            return name;
        }
        let numbered = |number: usize| {
            let suffix = format!("-{number}");
            let kept = name.as_str().len().min(63 - suffix.len());
            ServerName::parse(&format!("{}{suffix}", &name.as_str()[..kept])).ok()
        };
        let unique = (2..).filter_map(numbered).find(is_free).unwrap_or_else(|| name.clone());
        tracing::warn!("two servers of {} are named '{name}'; the later one is shown as '{unique}'", self.name);
        unique
    }

    /// Servers that are down, lost by the cluster, and whose name another one has by now that is up: a container that was
    /// killed and started anew elsewhere.
    pub(super) fn succeeded(&self) -> Vec<ServerId> {
        let has_successor = |old: &Server| {
            let takes_its_place =
                |new: &&Arc<Server>| new.id > old.id && new.own_name == old.own_name && !new.is_lost();
            self.servers.iter().any(|new| takes_its_place(&new) && new.health.is_up())
        };
        let gone = self.servers.iter().filter(|old| old.is_lost() && !old.health.is_up() && has_successor(old));
        gone.map(|server| server.id).collect()
    }

    /// Shows servers by their own names whose namesakes are gone, the longest here first. It is the name alone that changes.
    pub(super) fn reclaim_names(&mut self) {
        for index in 0..self.servers.len() {
            let server = &self.servers[index];
            let is_free = self.servers.iter().all(|other| other.name != server.own_name);
            if is_free {
                let (before, own_name) = (server.name.clone(), server.own_name.clone());
                tracing::info!(
                    "Server {}/{before} is shown as '{own_name}' from now on: that name is free again.",
                    self.name
                );
                Arc::make_mut(&mut self.servers[index]).name = own_name;
            }
        }
    }
}
