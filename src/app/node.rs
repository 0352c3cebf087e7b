//! `lb agent`: a node of the cluster and the application that it stands for.

use std::{net::UdpSocket, sync::Arc};

use futures_util::{Stream, future::OptionFuture};
use tokio::task::JoinHandle;

use super::event_handlers;
use crate::{
    agent::{self, AgentSettings, JoinError, NodeSettings},
    config::EventHandler,
};

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
    handlers: Vec<EventHandler>,
    signals: impl Stream<Item = agent::Signal> + Unpin,
) -> Result<u8, JoinError> {
    let (member, run) = agent::join(socket, node)?;
    // A task of its own, and not part of this one: waking this one takes system calls.
    let mut member_runs = Running(tokio::spawn(run));
    let handling = (!handlers.is_empty()).then(|| event_handlers::run(member.clone(), handlers, Arc::default()));
    let mut handling = std::pin::pin!(OptionFuture::from(handling));
    let mut agent = std::pin::pin!(agent::run(settings, &member, signals));
    let mut is_member = true;
    let status = loop {
        tokio::select! {
            biased;
            status = agent.as_mut() => break status,
            Some(()) = handling.as_mut() => handling.set(None.into()),
            // It ends before the agent when its socket is broken, and has said so.
            ended = &mut member_runs.0, if is_member => {
                is_member = false;
                if let Err(error) = ended && error.is_panic() {
                    std::panic::resume_unwind(error.into_panic());
                }
            }
        }
    };
    // It has left, and tells nothing more.
    drop(member_runs);
    let _late = tokio::time::timeout(event_handlers::LAST_RUN, handling).await;
    Ok(status)
}

/// The member ends with the agent.
struct Running(JoinHandle<()>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}
