//! What the agent asks of the cluster.

use std::future::Future;

use crate::model::NodeState;

/// This node's place in the cluster. It begins as [`NodeState::Starting`].
///
/// Every future may be dropped before it ends.
pub trait Cluster {
    /// Tells the cluster of this node's state. It ends when the news is on its way and does not wait for an
    /// acknowledgement: the application's signals wait behind it.
    fn set_state(&self, state: NodeState) -> impl Future<Output = ()>;

    /// Ends when every balancer has acknowledged that it sends nothing new to this node and what was in flight there is
    /// over; to be asked once the state is [`NodeState::Draining`]. The agent bounds it by its drain timeout.
    fn drained(&self) -> impl Future<Output = ()>;

    /// Says good-bye; nothing follows it. The agent bounds it to one second.
    fn leave(&self) -> impl Future<Output = ()>;
}
