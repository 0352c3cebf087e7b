//! Active checks: asks each server again and again whether it answers, and tells the registry. So does what requests meet.
//!
//! Why not a task for each server: a thousand tasks would each hold a timer and a copy of the policy, and nobody could say
//! what they will do next. One future owns every check that is in flight, so that dropping it ends them all, and a pure
//! `schedule` says who is due, so that time can be an argument in its tests.

mod check;
mod outliers;
mod runner;
mod schedule;

pub use check::{Limits, check};
pub use outliers::watch_outliers;
pub use runner::run;
