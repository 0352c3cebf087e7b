//! What operators and checks say on this balancer, told to the others.

use std::sync::Arc;

use crate::{cluster, model::ServerName, registry::Registry};

/// Tells the cluster of everything that the registry hands out, until the member has ended.
pub(super) async fn tell(registry: Arc<Registry>, member: cluster::Member, name: ServerName) {
    let mut news = registry.follow(name, member.node_id());
    while let Some(told) = news.recv().await {
        if member.tell(told).await.is_err() {
            return;
        }
    }
}
