//! The cluster's brain, sans-IO.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]
