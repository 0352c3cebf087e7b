//! One line of waiting requests.

use std::collections::BTreeMap;

use super::{Depth, Ticket};
use crate::model::ServerId;

/// A request that waits.
#[derive(Debug)]
pub(super) struct Waiter<W> {
    pub(super) waiter: W,
    /// Servers that it was tried on.
    pub(super) avoid: Vec<ServerId>,
    /// Whether it waited for one server before.
    pub(super) redispatched: bool,
}

/// Requests by their age.
#[derive(Debug)]
pub(super) struct Line<W> {
    waiters: BTreeMap<Ticket, Waiter<W>>,
    most: usize,
}

impl<W> Default for Line<W> {
    fn default() -> Self {
        Self { waiters: BTreeMap::new(), most: 0 }
    }
}

impl<W> Line<W> {
    pub(super) fn len(&self) -> usize {
        self.waiters.len()
    }

    pub(super) fn depth(&self) -> Depth {
        Depth { now: self.waiters.len(), most: self.most }
    }

    /// Remembers how long the line is, if it never was longer.
    pub(super) fn note_depth(&mut self) {
        self.most = self.most.max(self.waiters.len());
    }

    pub(super) fn has(&self, ticket: Ticket) -> bool {
        self.waiters.contains_key(&ticket)
    }

    pub(super) fn add(&mut self, ticket: Ticket, waiter: Waiter<W>) {
        self.waiters.insert(ticket, waiter);
    }

    pub(super) fn remove(&mut self, ticket: Ticket) -> Option<Waiter<W>> {
        self.waiters.remove(&ticket)
    }

    /// The oldest of those whose tried servers are `acceptable`.
    pub(super) fn first(&self, acceptable: impl Fn(&[ServerId]) -> bool) -> Option<Ticket> {
        self.waiters.iter().find(|(_, waiter)| acceptable(&waiter.avoid)).map(|(ticket, _)| *ticket)
    }

    /// Takes in those of another line, whose server is gone.
    pub(super) fn join(&mut self, other: &mut Self) {
        let others = std::mem::take(&mut other.waiters);
        self.waiters
            .extend(others.into_iter().map(|(ticket, waiter)| (ticket, Waiter { redispatched: true, ..waiter })));
        self.note_depth();
    }

    /// Lets those try all servers again whose tried ones are all that is left.
    pub(super) fn forgive(&mut self, is_all: impl Fn(&[ServerId]) -> bool) {
        let hopeless = |waiter: &&mut Waiter<W>| !waiter.avoid.is_empty() && is_all(&waiter.avoid);
        self.waiters.values_mut().filter(hopeless).for_each(|waiter| waiter.avoid.clear());
    }
}
