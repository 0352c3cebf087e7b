//! Places on servers, and the queue of those who wait for one.
//!
//! As long as nobody waits, a place is taken and given back with one atomic operation each. Whoever finds all servers full
//! takes the queue's lock, and so does whoever gives back a place while somebody waits. No place is lost between the two:
//! one says that it waits before it looks for a place, the other gives its place back before it looks for who waits, and
//! these four have one order that all threads agree on.

use std::{
    future::Future,
    num::NonZeroU32,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll},
};

use tokio::sync::oneshot;

use super::{live::PoolLive, pool::Pool, server::Server};
use crate::{
    model::ServerId,
    queue::{Ahead, Arrival, Depth, Grant, Queue, Seat, Ticket, Wish},
};

/// A request's place on a server. When it is dropped, it goes to whoever waits for it.
#[derive(Debug)]
pub struct Place {
    server: Arc<Server>,
    pool: Arc<PoolLive>,
}

impl Place {
    /// Takes a place on a server that has no limit.
    pub(super) fn enter(server: Arc<Server>, pool: &Arc<PoolLive>) -> Self {
        server.live.in_flight.enter();
        Self { server, pool: Arc::clone(pool) }
    }

    /// Takes a place, unless the server is full.
    pub(super) fn try_enter(server: &Arc<Server>, limit: Option<NonZeroU32>, pool: &Arc<PoolLive>) -> Option<Self> {
        let entered = enter(server, limit);
        entered.then(|| Self { server: Arc::clone(server), pool: Arc::clone(pool) })
    }

    /// The server.
    pub fn server(&self) -> &Arc<Server> {
        &self.server
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.server.live.in_flight.leave();
        if self.pool.is_waited_for() {
            self.pool.serve_queue();
        }
    }
}

/// What became of a request that looked for a place.
#[derive(Debug)]
pub enum Claim {
    /// It has one.
    Taken {
        /// Its place.
        place: Place,
        /// Whether the algorithm chose the server.
        balanced: bool,
    },
    /// All servers that it may go to are full, or others wait already.
    Full(Wish),
    /// There is no server for it.
    NoServer,
}

/// What a request that waited gets.
#[derive(Debug)]
pub struct Granted {
    /// Its place.
    pub place: Place,
    /// Whether it is on another server than the one that it waited for.
    pub redispatched: bool,
}

/// A request that waits, as a future of its place; `None` would be a bug. When it is dropped, it leaves the queue, and a
/// place that it was given meanwhile goes to the next.
#[derive(Debug)]
pub struct Waiting {
    pool: Arc<PoolLive>,
    /// `None` once it is served.
    ticket: Option<Ticket>,
    ahead: Ahead,
    receiver: oneshot::Receiver<Granted>,
}

impl Waiting {
    /// How many waited before it when it came.
    pub fn ahead(&self) -> Ahead {
        self.ahead
    }
}

impl Future for Waiting {
    type Output = Option<Granted>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Granted>> {
        let polled = Pin::new(&mut self.receiver).poll(cx);
        if polled.is_ready() {
            self.ticket = None;
        }
        polled.map(Result::ok)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            self.pool.leave_queue(ticket);
        }
    }
}

/// The queue of a pool, shared by all workers.
#[derive(Debug, Default)]
pub(super) struct PoolQueue {
    /// How many wait, and one more while a request is about to.
    waiting: AtomicUsize,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: Queue<oneshot::Sender<Granted>>,
    servers: Vec<Limited>,
}

/// A server with the requests that it gets at once.
type Limited = (Arc<Server>, Option<NonZeroU32>);

/// Places that were found, to be told of once the lock is free: whoever is told may be gone, and gives the place back.
type Found = Vec<(oneshot::Sender<Granted>, Granted)>;

impl PoolLive {
    /// Whether any request waits for a place.
    #[inline]
    pub(super) fn is_waited_for(&self) -> bool {
        self.queue.waiting.load(SeqCst) > 0
    }

    /// How many wait for any server.
    pub fn queued(&self) -> Depth {
        self.queue.lock().queue.depth()
    }

    /// How many wait for that server alone.
    pub fn queued_for(&self, server: ServerId) -> Depth {
        self.queue.lock().queue.depth_of(server)
    }

    /// How many wait in all.
    pub fn waiting(&self) -> usize {
        self.queue.waiting.load(SeqCst)
    }

    /// Waits for a place; `None` when as many wait as may.
    pub fn enqueue(self: &Arc<Self>, wish: Wish) -> Option<Waiting> {
        let (sender, receiver) = oneshot::channel();
        let mut state = self.queue.lock();
        self.queue.waiting.store(state.queue.len() + 1, SeqCst);
        let State { queue, servers } = &mut *state;
        let (arrival, grants) = queue.arrive(wish, sender, |index| enter_one(servers, index));
        self.settle(state, grants);
        let (ticket, ahead) = match arrival {
            Arrival::Waits { ticket, ahead } => (Some(ticket), ahead),
            Arrival::Served => (None, Ahead::default()),
            Arrival::Full => return None,
        };
        Some(Waiting { pool: Arc::clone(self), ticket, ahead, receiver })
    }

    /// The pool has changed: servers that have come take who waits, and those who wait for one that has gone may go anywhere.
    pub(super) fn follow(self: &Arc<Self>, pool: &Pool) {
        let seats =
            pool.servers.iter().map(|server| Seat { id: server.id, candidacy: pool.candidacy(server) }).collect();
        let mut state = self.queue.lock();
        let State { queue, servers } = &mut *state;
        *servers = pool.servers.iter().map(|server| (Arc::clone(server), pool.limit(server))).collect();
        let grants = queue.follow(seats, pool.policy.queue_length, |index| enter_one(servers, index));
        self.settle(state, grants);
    }

    /// Gives free places to those who wait.
    #[cold]
    fn serve_queue(self: &Arc<Self>) {
        let mut state = self.queue.lock();
        let State { queue, servers } = &mut *state;
        let grants = queue.serve(|index| enter_one(servers, index));
        self.settle(state, grants);
    }

    fn leave_queue(&self, ticket: Ticket) {
        let mut state = self.queue.lock();
        state.queue.leave(ticket);
        self.queue.waiting.store(state.queue.len(), SeqCst);
    }

    /// Notes how many wait now, opens the lock and tells those who got a place.
    fn settle(self: &Arc<Self>, state: MutexGuard<'_, State>, grants: Vec<Grant<oneshot::Sender<Granted>>>) {
        let found: Found = grants
            .into_iter()
            .map(|Grant { waiter, server, redispatched }| {
                let place = Place { server: Arc::clone(&state.servers[server].0), pool: Arc::clone(self) };
                (waiter, Granted { place, redispatched })
            })
            .collect();
        self.queue.waiting.store(state.queue.len(), SeqCst);
        drop(state);
        for (sender, granted) in found {
            // Whoever has gone meanwhile drops the place, which finds the next.
            let _gone = sender.send(granted);
        }
    }
}

impl PoolQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn enter_one(servers: &[Limited], index: usize) -> bool {
    servers.get(index).is_some_and(|(server, limit)| enter(server, *limit))
}

fn enter(server: &Server, limit: Option<NonZeroU32>) -> bool {
    match limit {
        Some(limit) => server.live.in_flight.try_enter(limit),
        None => {
            server.live.in_flight.enter();
            true
        }
    }
}

#[cfg(test)]
mod tests;
