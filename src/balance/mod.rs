//! Which server gets the next request.
//!
//! An algorithm is prepared once for a set of servers, when the pool changes, and then asked for each request with a turn
//! number. Keeping the turn outside makes choosing a pure function: all workers share one counter, so a person who
//! refreshes a page sees s1, s2, s1, s2 whichever workers answer.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod round_robin;

pub use round_robin::RoundRobin;
