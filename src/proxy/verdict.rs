//! What a try of a request says of its server's health.

use http::response;

use super::{attempt::Failed, client::Client};
use crate::{
    http_rules::Fault,
    registry::{Judgement, Pool, Server, Trouble},
    retry::Failure,
    upstream::Link,
};

/// Tells how a try ended, where somebody wants to know. A kept connection that is found closed says nothing: servers end
/// idle ones as they like.
#[inline]
pub(super) fn tell(
    client: &Client,
    pool: &Pool,
    server: &Server,
    outcome: &Result<(response::Parts, Box<Link>), Failed>,
    reused: bool,
) {
    if let Err(failed) = outcome
        && is_reset(failed)
        && !reused
    {
        client.worker.registry.note_trouble(server, Trouble::Reset);
    }
    if let Some(policy) = &pool.policy.outlier
        && let Some(judgement) = judgement(outcome, reused)
    {
        client.worker.registry.judge(client.worker.slot, server, policy, judgement);
    }
}

/// Whether the server took the connection and threw it away.
fn is_reset(failed: &Failed) -> bool {
    match failed {
        Failed::Open { failure: Failure::ResetBeforeResponse | Failure::NotSent, fault: _ } => true,
        Failed::Open { failure: Failure::Connect | Failure::ClosedBeforeResponse | Failure::Silence, fault: _ } => {
            false
        }
        Failed::Final(_) => false,
    }
}

fn judgement(outcome: &Result<(response::Parts, Box<Link>), Failed>, reused: bool) -> Option<Judgement> {
    match outcome {
        Ok((parts, _)) => Some(Judgement::of(parts.status.as_u16())),
        Err(Failed::Open { failure, fault: _ }) => match failure {
            Failure::Connect | Failure::Silence => Some(Judgement::Gateway),
            Failure::NotSent | Failure::ClosedBeforeResponse | Failure::ResetBeforeResponse => {
                (!reused).then_some(Judgement::Gateway)
            }
        },
        Err(Failed::Final(fault)) => match fault {
            Fault::ServerClosed | Fault::InvalidResponse | Fault::ServerTimeout => Some(Judgement::Gateway),
            Fault::Rejected(_)
            | Fault::NoServer
            | Fault::QueueFull
            | Fault::QueueTimeout
            | Fault::ConnectRefused
            | Fault::ConnectTimeout
            | Fault::NoDescriptor
            | Fault::ClientTimeout
            | Fault::ClientBody
            | Fault::BodyTooLarge => None,
        },
    }
}
