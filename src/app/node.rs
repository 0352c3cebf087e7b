//! `lb agent`: a node of the cluster and the application that it stands for.

use std::net::UdpSocket;

use futures_util::Stream;
use tokio::task::JoinHandle;

use crate::agent::{self, AgentSettings, JoinError, NodeSettings};

/// Runs the agent until its application has ended; the exit status to end with.
///
/// To be called within a tokio runtime.
///
/// # Errors
/// When it cannot start.
pub async fn run_node(
    socket: UdpSocket,
    node: NodeSettings,
    settings: AgentSettings,
    signals: impl Stream<Item = agent::Signal> + Unpin,
) -> Result<u8, JoinError> {
    let (member, run) = agent::join(socket, node)?;
    // A task of its own, and not part of this one: waking this one takes system calls.
    let mut member_runs = Running(tokio::spawn(run));
    let mut agent = std::pin::pin!(agent::run(settings, &member, signals));
    tokio::select! {
        biased;
        status = agent.as_mut() => return Ok(status),
        // It ends before the agent when its socket is broken, and has said so.
        ended = &mut member_runs.0 => if let Err(error) = ended && error.is_panic() {
            std::panic::resume_unwind(error.into_panic());
        },
    }
    Ok(agent.await)
}

/// The member ends with the agent.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
