//! The cluster on a virtual network: what it must show when everything else goes wrong, measured on a virtual clock.
//!
//! Each run follows from a seed, which is printed with a failure; `LB_SIM_SEED=7 cargo test --test sim NAME` runs that one
//! alone. The schedules of `schedules` are drawn by proptest, which prints the seed and the shortest list of events that
//! fail; `LB_SIM_SEED` does not choose them. A debug build runs a few seeds and small clusters; `tests/scripts/simulator` runs all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "everything here is a test")]

mod bounds;
mod cluster;
mod cuts;
mod deaths;
mod host;
mod loss;
mod names;
mod net;
mod pauses;
mod records;
mod schedules;
mod sealed;
mod traps;
