//! The algorithms behind one door.

use super::{
    first::First, hash::Hash, least_conn::LeastConn, members::Member, random::Random, round_robin::RoundRobin,
};
use crate::model::Algorithm;

/// What an algorithm may know of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ask {
    /// The hash of what the request is told apart by; `None` when it has nothing of the kind.
    pub key: Option<u64>,
    /// A number drawn by chance; read by [`Algorithm::Random`] alone.
    pub random: u64,
}

/// What is going on in a pool. Each question has its price, so it is asked only when an algorithm needs the answer.
pub trait Moment {
    /// The next turn. It is another one each time, also for other workers.
    fn turn(&self) -> usize;

    /// Requests that the server has in flight.
    fn load(&self, server: usize) -> u32;

    /// Requests in the pool, with the one that asks.
    fn total(&self) -> u32;

    /// Whether the server may get this request: it is not full, and the request was not tried there.
    fn is_free(&self, server: usize) -> bool;
}

/// An algorithm, prepared for the servers of a pool. Copies are cheap.
#[derive(Debug, Clone)]
pub enum Balancer {
    /// In turn.
    RoundRobin(RoundRobin),
    /// Fewest requests in flight.
    LeastConn(LeastConn),
    /// The better one of two.
    Random(Random),
    /// By a hash.
    Hash(Hash),
    /// The first with a free place.
    First(First),
}

impl Balancer {
    /// Prepares the algorithm. `members` are the servers that serve now, in their order; one whose share is 0 is left out.
    /// `factor` is how much of its fair share a server may have in flight before a hash passes it by, in percent; 0 is no
    /// bound.
    pub fn new(algorithm: &Algorithm, factor: u16, members: &[Member]) -> Self {
        match algorithm {
            Algorithm::RoundRobin => Self::RoundRobin(RoundRobin::new(members)),
            Algorithm::LeastConn => Self::LeastConn(LeastConn::new(members)),
            Algorithm::Random => Self::Random(Random::new(members)),
            Algorithm::Source | Algorithm::Uri => Self::Hash(Hash::new(members, factor)),
            Algorithm::Header(_) => Self::Hash(Hash::new(members, factor).or_in_turn(members)),
            Algorithm::First => Self::First(First::new(members)),
        }
    }

    /// The server for a request, of those that are free; `None` when none is.
    #[inline]
    pub fn pick(&self, ask: Ask, moment: &impl Moment) -> Option<usize> {
        match self {
            Self::RoundRobin(order) => order.pick(moment),
            Self::LeastConn(servers) => servers.pick(moment),
            Self::Random(servers) => servers.pick(ask.random, moment),
            Self::Hash(servers) => servers.pick(ask.key, moment),
            Self::First(servers) => servers.pick(moment),
        }
    }
}
