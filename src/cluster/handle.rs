//! The handle by which the rest of the program speaks to the running member.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::events::Event;
use crate::{
    model::{Keyring, NodeId, NodeState, Told},
    swim::{Census, Counters, DrainProgress, RecordError, Sealing, ServiceRecord},
};

/// The member does not run any more: it has left, or its future was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the cluster member has stopped")]
pub struct Stopped;

/// A running member, for anybody who wants to speak to it. Requests are answered in order.
#[derive(Clone, Debug)]
pub struct Member {
    node_id: NodeId,
    commands: mpsc::Sender<Command>,
}

/// Totals of the member and its socket since the start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Those of the protocol.
    pub protocol: Counters,
    /// Datagrams that the system refused to send.
    pub send_errors: u64,
    /// Failed reads of the socket.
    pub receive_errors: u64,
    /// Events that were lost because whoever watches was too slow.
    pub lost_events: u64,
    /// How datagrams are sealed now; `None` when they are not.
    pub sealing: Option<Sealing>,
}

/// What a member knows at one moment.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The moment, on the clock of [`crate::swim::Member::since`].
    pub now: Duration,
    /// Everybody, the member itself first.
    pub members: Vec<crate::swim::Member>,
    /// Them in numbers.
    pub census: Census,
    /// Totals since the start.
    pub totals: Totals,
}

/// A request of the handle.
pub(super) enum Command {
    SetState(NodeState),
    SetRecord(Box<ServiceRecord>),
    Members(oneshot::Sender<Vec<crate::swim::Member>>),
    View(oneshot::Sender<View>),
    Tell(Told),
    Watch(oneshot::Sender<mpsc::Receiver<Event>>),
    DrainProgress(oneshot::Sender<Vec<DrainProgress>>),
    Drained(oneshot::Sender<()>),
    SetKeys(Keyring),
    Leave(oneshot::Sender<()>),
}

impl Member {
    /// A handle and the end at which its requests come out.
    pub(super) fn new(node_id: NodeId) -> (Self, mpsc::Receiver<Command>) {
        let (commands, requests) = mpsc::channel(64);
        (Self { node_id, commands }, requests)
    }

    /// The boot that this member is.
    pub fn node_id(&self) -> NodeId {
        self.node_id
    }

    /// Changes the state in our record and tells every balancer.
    ///
    /// # Errors
    /// When the member has stopped.
    pub async fn set_state(&self, state: NodeState) -> Result<(), Stopped> {
        self.commands.send(Command::SetState(state)).await.map_err(|_| Stopped)
    }

    /// Changes our record and tells every balancer. Its `node_id` and `version` are set by the member.
    ///
    /// # Errors
    /// When the record can't be sent ([`ServiceRecord::check`]); nothing changes then. A member that has stopped is no
    /// error: nobody is left to be told.
    pub async fn set_record(&self, record: ServiceRecord) -> Result<(), RecordError> {
        record.check()?;
        let _ = self.commands.send(Command::SetRecord(Box::new(record))).await;
        Ok(())
    }

    /// Everybody that the member knows of, itself first.
    ///
    /// # Errors
    /// When the member has stopped.
    pub async fn members(&self) -> Result<Vec<crate::swim::Member>, Stopped> {
        self.ask(Command::Members).await
    }

    /// Everything that the member knows now, in one piece.
    ///
    /// # Errors
    /// When the member has stopped.
    pub async fn view(&self) -> Result<View, Stopped> {
        self.ask(Command::View).await
    }

    /// Tells the other balancers of a decision, surely, or of a turn of a server's health, if nothing gets lost.
    ///
    /// # Errors
    /// When the member has stopped.
    pub async fn tell(&self, told: Told) -> Result<(), Stopped> {
        self.commands.send(Command::Tell(told)).await.map_err(|_| Stopped)
    }

    /// What happens to members from now on, after a `member-join` for each that is there. Whoever lets more than a thousand
    /// events wait loses some.
    ///
    /// # Errors
    /// When the member has stopped.
    pub async fn watch(&self) -> Result<mpsc::Receiver<Event>, Stopped> {
        self.ask(Command::Watch).await
    }

    /// What each balancer has acknowledged of our record.
    ///
    /// # Errors
    /// When the member has stopped.
    pub async fn drain_progress(&self) -> Result<Vec<DrainProgress>, Stopped> {
        self.ask(Command::DrainProgress).await
    }

    /// Waits until no balancer sends requests here or has one in flight ([`crate::swim::Node::is_drained`]). To be
    /// called after [`Member::set_state`] with [`NodeState::Draining`], and with a time limit: a balancer may hang.
    ///
    /// # Errors
    /// When the member stops before.
    pub async fn drained(&self) -> Result<(), Stopped> {
        self.ask(Command::Drained).await
    }

    /// Changes the cluster's keys; a member that was started without stays so. One that has stopped needs none.
    pub async fn set_keys(&self, keys: Keyring) {
        let _ = self.commands.send(Command::SetKeys(keys)).await;
    }

    /// Says goodbye, which takes half a second at most; then the member's future ends. If it has ended already nothing
    /// is left to do.
    pub async fn leave(&self) {
        let _ = self.ask(Command::Leave).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Stopped> {
        let (answer, answered) = oneshot::channel();
        self.commands.send(command(answer)).await.map_err(|_| Stopped)?;
        answered.await.map_err(|_| Stopped)
    }
}
