//! The tokio driver of the cluster member.
