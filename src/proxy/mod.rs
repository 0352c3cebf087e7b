//! From a client's request to a server's response.
//!
//! A worker serves its connections on one thread and shares nothing with the others but the registry, so nothing here takes
//! a lock. Each request carries an `Exchange`, which counts it, keeps its place on the server, and
//! writes its log line when it is dropped: at the end of the response's body, wherever that comes.
//!
//! ```text
//! accept -> preface -> connection -> Observe -> Screen -> forward -> upstream
//!           (PROXY)                  (counts)   (rules)   (chooses, retries, answers)
//! ```

mod accept;
mod ask;
mod attempt;
mod body;
mod client;
mod connection;
mod cut;
mod exchange;
mod forward;
mod linger;
mod pace;
mod preface;
mod progress;
mod queue;
mod relief;
mod roster;
mod stack;
mod sticky;
mod tunnel;
mod upload;
mod verdict;
mod worker;

pub use accept::{accept_loop, accept_pending};
pub use worker::{Frontend, Settings, Worker};
