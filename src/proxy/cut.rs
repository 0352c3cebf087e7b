//! Cutting off what is left on a server whose maintenance has lasted as long as its pool allows.
//!
//! The worker tells each client connection whose request is there, and wakes it; the connection ends itself, and with it
//! the request. Why not a flag that each poll reads at the server: a connection that waits for a silent server is not
//! polled.

use std::{cell::Cell, task::Waker};

use super::{roster::Roster, worker::Worker};
use crate::{model::ServerId, registry::Snapshot};

/// Which server a client's request is on, and from which it is to be cut off.
#[derive(Debug, Default)]
pub(super) struct Cut {
    on: Cell<Option<ServerId>>,
    off: Cell<Option<ServerId>>,
}

impl Cut {
    /// The request has a place on that server.
    pub(super) fn goes_to(&self, server: ServerId) {
        self.on.set(Some(server));
        // What it was told before was about another request.
        self.off.set(None);
    }

    /// The request has no place any more.
    pub(super) fn leaves(&self) {
        self.on.set(None);
    }

    /// Whether the request is on a server from which it is to be cut off.
    pub(super) fn is_cut(&self) -> bool {
        let on = self.on.get();
        on.is_some() && on == self.off.get()
    }

    /// Cuts the request off if it is on one of those servers. Whether it is.
    fn off(&self, servers: &[ServerId]) -> bool {
        let on = self.on.get().filter(|on| servers.contains(on));
        if on.is_some() {
            self.off.set(on);
        }
        on.is_some()
    }
}

impl Roster {
    /// Tells those whose request is on one of the servers that it is cut off; returns how to wake them.
    fn to_cut(&self, servers: &[ServerId]) -> Vec<Waker> {
        self.with_client()
            .filter(|(_, client)| client.cut.off(servers))
            .filter_map(|(waker, _)| waker.cloned())
            .collect()
    }
}

impl Worker {
    /// Cuts off what is left on servers whose time is over.
    pub(super) fn cut_off(&self, snapshot: &Snapshot) {
        let servers = snapshot.pools.iter().flat_map(|pool| &pool.servers);
        let cut: Vec<_> = servers.filter(|server| server.is_cut()).map(|server| server.id).collect();
        if !cut.is_empty() {
            self.wake(|roster| roster.to_cut(&cut));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_request_that_is_there_is_cut_off() {
        let (cut, one, other) = (Cut::default(), ServerId(1), ServerId(2));
        assert!(!cut.off(&[one]) && !cut.is_cut(), "no request");
        cut.goes_to(one);
        assert!(!cut.off(&[other]) && !cut.is_cut());
        assert!(cut.off(&[other, one]) && cut.is_cut());
        cut.leaves();
        assert!(!cut.is_cut());
        cut.goes_to(one);
        assert!(!cut.is_cut(), "the next request, after the maintenance");
    }
}
