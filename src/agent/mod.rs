//! The small process above (or beside) an application that joins the cluster for it.
//!
//! It says "ready" when the application answers, takes it out of the balancers *before* it is stopped, and is a good PID 1
//! for it: keeps its exit status, hands on signals, reaps orphans. Why not a shell script and an init: the order of those
//! steps is what loses requests, and only one process that knows all of them can keep it.
//!
//! `lifecycle` decides and is pure; `shell` acts. The cluster is behind [`Cluster`], so that both can be tested without one.
//! An application that is written in Rust may do without the small process: [`Membership`].

#[cfg(test)]
mod alone;
mod children;
mod contract;
mod lifecycle;
mod membership;
mod node;
mod readiness;
mod settings;
mod shell;
mod signals;
mod supervisor;

pub use children::Expected;
pub use contract::Cluster;
pub use membership::{Builder, DrainOutcome, Membership, UpdateError};
pub use node::{JoinError, NodeSettings, join};
pub use settings::{AgentSettings, Orphans, RestartPolicy};
pub use shell::run;
pub use signals::{Signal, SystemSignals};
