//! Who waits for a place on a server, and who gets the next one.
//!
//! A request that may go anywhere waits in one line for the whole pool; one that a cookie leads to a server waits in that
//! server's own line. A place that becomes free goes to whoever has waited longest of the two lines. Why not one line for
//! all: those who wait for one busy server would have to be passed over again and again for a place on any other.
//!
//! Time does not occur here: a request that has waited long enough leaves, as one whose client has gone.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod line;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use self::line::{Line, Waiter};
use crate::model::{Candidacy, ServerId};

/// Names a request in the queue; one that came later has a larger one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// Where a request may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// To any server that takes anybody.
    Any {
        /// But not to these: they were tried. Empty for nearly all.
        avoid: Vec<ServerId>,
    },
    /// To the server that its cookie names, as long as that takes it.
    Only(ServerId),
}

/// A server as the queue sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seat {
    /// Its identity.
    pub id: ServerId,
    /// Who may be sent to it: a backup that is not needed takes only users with a cookie for it.
    pub candidacy: Candidacy,
}

/// A place on a server that was found for a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant<W> {
    /// The request.
    pub waiter: W,
    /// The server's place in the list that [`Queue::follow`] was given.
    pub server: usize,
    /// Whether it is another server than the one that was asked for.
    pub redispatched: bool,
}

/// What becomes of a request that has just come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// It is among those that got a place.
    Served,
    /// It waits.
    Waits {
        /// Its name here.
        ticket: Ticket,
        /// How many waited before it.
        ahead: Ahead,
    },
    /// As many wait as may; it is not in the queue.
    Full,
}

/// How many waited before a request when it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ahead {
    /// In the line of its server.
    pub server: usize,
    /// In the line of the pool.
    pub pool: usize,
}

/// How many wait now, and the most there ever were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Depth {
    /// Now.
    pub now: usize,
    /// The most at once.
    pub most: usize,
}

/// The requests of one pool that wait; `W` is how each is told.
///
/// Whether a server has a free place is for the caller to say: `take` is asked with a server's place in the list, and takes
/// one if there is one.
#[derive(Debug)]
pub struct Queue<W> {
    /// How many may wait.
    length: usize,
    servers: Vec<Seat>,
    free: Line<W>,
    bound: BTreeMap<ServerId, Line<W>>,
    next: u64,
    /// The server that is asked first.
    turn: usize,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self { length: 0, servers: Vec::new(), free: Line::default(), bound: BTreeMap::new(), next: 0, turn: 0 }
    }
}

impl<W> Queue<W> {
    /// How many wait.
    pub fn len(&self) -> usize {
        self.free.len() + self.bound.values().map(Line::len).sum::<usize>()
    }

    /// Whether nobody waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many wait that may go anywhere.
    pub fn depth(&self) -> Depth {
        self.free.depth()
    }

    /// How many wait for that server alone.
    pub fn depth_of(&self, server: ServerId) -> Depth {
        self.bound.get(&server).map(Line::depth).unwrap_or_default()
    }

    /// These are the pool's servers now, and so many requests may wait; who waits already may stay.
    ///
    /// Whoever waits for a server that takes nobody any more may go anywhere, and keeps its age.
    pub fn follow(&mut self, servers: Vec<Seat>, length: usize, take: impl FnMut(usize) -> bool) -> Vec<Grant<W>> {
        self.length = length;
        self.turn = self.turn.checked_rem(servers.len()).unwrap_or_default();
        self.servers = servers;
        let is_there = |id: ServerId| self.servers.iter().any(|seat| seat.id == id);
        let takes_some = |id| self.servers.iter().any(|seat| seat.id == id && seat.candidacy != Candidacy::Nobody);
        for (id, line) in &mut self.bound {
            if !takes_some(*id) {
                self.free.join(line);
            }
        }
        self.bound.retain(|id, _| is_there(*id));
        let mut free = std::mem::take(&mut self.free);
        free.forgive(|avoid| self.are_all(avoid));
        self.free = free;
        self.check_invariants();
        self.serve(take)
    }

    /// A request comes. The grants are for it and for whoever waited before it and can be served now.
    pub fn arrive(&mut self, wish: Wish, waiter: W, mut take: impl FnMut(usize) -> bool) -> (Arrival, Vec<Grant<W>>) {
        let ticket = Ticket(self.next);
        self.next += 1;
        let (bound, mut avoid, redispatched) = match wish {
            Wish::Any { avoid } => (None, avoid, false),
            Wish::Only(id) if self.takes(id) => (Some(id), Vec::new(), false),
            Wish::Only(_) => (None, Vec::new(), true),
        };
        if self.are_all(&avoid) {
            avoid.clear();
        }
        let line = match bound {
            Some(id) => self.bound.entry(id).or_default(),
            None => &mut self.free,
        };
        let before = line.len();
        line.add(ticket, Waiter { waiter, avoid, redispatched });
        let mut grants = self.serve(&mut take);
        let fits = self.len() <= self.length;
        let Some(line) = self.line(bound).filter(|line| line.has(ticket)) else { return (Arrival::Served, grants) };
        if fits {
            line.note_depth();
            let ahead = match bound {
                Some(_) => Ahead { server: before, pool: 0 },
                None => Ahead { server: 0, pool: before },
            };
            return (Arrival::Waits { ticket, ahead }, grants);
        }
        let removed = line.remove(ticket);
        // For a user of one server another one is better than none.
        let elsewhere = bound.and_then(|_| self.first_free_place(&mut take));
        let arrival = match (removed, elsewhere) {
            (Some(Waiter { waiter, .. }), Some(server)) => {
                grants.push(Grant { waiter, server, redispatched: true });
                Arrival::Served
            }
            (Some(_) | None, _) => Arrival::Full,
        };
        (arrival, grants)
    }

    /// A request leaves without having been served: its client has gone, or it has waited long enough. One that was served
    /// meanwhile is not here any more.
    pub fn leave(&mut self, ticket: Ticket) {
        let lines = std::iter::once(&mut self.free).chain(self.bound.values_mut());
        for line in lines {
            if line.remove(ticket).is_some() {
                break;
            }
        }
        self.check_invariants();
    }

    /// Gives every free place to whoever has waited longest of those that may have it.
    pub fn serve(&mut self, mut take: impl FnMut(usize) -> bool) -> Vec<Grant<W>> {
        let mut grants = Vec::new();
        let count = self.servers.len();
        let mut refused = 0;
        // Each server in turn, so that several that have come up share the work.
        while refused < count {
            let server = self.turn;
            self.turn = (self.turn + 1) % count;
            let found = self.first_for(server).filter(|_| take(server)).and_then(|first| self.take_out(first));
            match found {
                Some(Waiter { waiter, redispatched, .. }) => {
                    grants.push(Grant { waiter, server, redispatched });
                    refused = 0;
                }
                None => refused += 1,
            }
        }
        self.check_invariants();
        grants
    }

    /// Who has waited longest of those that may go to the server, and in which line: in the server's own, or `None` for
    /// the pool's.
    fn first_for(&self, server: usize) -> Option<(Ticket, Option<ServerId>)> {
        let seat = &self.servers[server];
        let bound =
            self.bound.get(&seat.id).and_then(|line| line.first(|_| true)).map(|ticket| (ticket, Some(seat.id)));
        let free = takes_anybody(seat).then(|| self.free.first(|avoid| !avoid.contains(&seat.id))).flatten();
        let free = free.map(|ticket| (ticket, None));
        bound.into_iter().chain(free).min_by_key(|(ticket, _)| *ticket)
    }

    fn take_out(&mut self, (ticket, bound): (Ticket, Option<ServerId>)) -> Option<Waiter<W>> {
        self.line(bound)?.remove(ticket)
    }

    fn first_free_place(&self, mut take: impl FnMut(usize) -> bool) -> Option<usize> {
        (0..self.servers.len()).find(|&server| takes_anybody(&self.servers[server]) && take(server))
    }

    /// Whether these are all servers that take anybody.
    fn are_all(&self, tried: &[ServerId]) -> bool {
        self.servers.iter().filter(|seat| takes_anybody(seat)).all(|seat| tried.contains(&seat.id))
    }

    fn line(&mut self, bound: Option<ServerId>) -> Option<&mut Line<W>> {
        match bound {
            Some(id) => self.bound.get_mut(&id),
            None => Some(&mut self.free),
        }
    }

    fn takes(&self, id: ServerId) -> bool {
        self.servers.iter().any(|seat| seat.id == id && seat.candidacy != Candidacy::Nobody)
    }

    /// Whoever waits for one server waits for one that takes it.
    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            for (id, line) in &self.bound {
                assert!(line.len() == 0 || self.takes(*id), "{} wait for a server that takes nobody", line.len());
            }
        }
    }
}

fn takes_anybody(seat: &Seat) -> bool {
    seat.candidacy == Candidacy::Everybody
}
