//! `lb agent`: a node of the cluster and the application that it stands for.

use std::net::UdpSocket;

use futures_util::{Stream, StreamExt, stream::FuturesUnordered};

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
    // The member runs beside the agent and ends with it.
    let mut member_runs = FuturesUnordered::from_iter([run]);
    let agent = std::pin::pin!(agent::run(settings, &member, signals));
    let mut agent = futures_util::future::maybe_done(agent);
    let mut agent = std::pin::Pin::new(&mut agent);
    loop {
        tokio::select! {
            biased;
            Some(()) = member_runs.next() => {}
            () = agent.as_mut() => return Ok(agent.take_output().unwrap_or(1)),
        }
    }
}
