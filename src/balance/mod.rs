//! Which server gets the next request.
//!
//! A [`Balancer`] is prepared once for a set of servers, when the pool changes, and then asked for each request. What it
//! needs to know of the moment (whose turn it is, how many requests each server has) it asks of a [`Moment`], and only
//! when its algorithm needs it: choosing is a function of that, and nothing is remembered here from one request to the
//! next. So all workers can ask at once, and a person who refreshes a page sees s1, s2, s1, s2 whichever worker answers.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod balancer;
mod first;
mod hash;
mod key;
mod least_conn;
mod members;
mod random;
mod round_robin;
mod slow_start;
#[cfg(test)]
mod tests;

pub use balancer::{Ask, Balancer, Moment};
pub use first::First;
pub use hash::Hash;
pub use key::{hash, mix};
pub use least_conn::LeastConn;
pub use members::{Member, Members};
pub use random::Random;
pub use round_robin::RoundRobin;
pub use slow_start::{WHOLE, warmth};
