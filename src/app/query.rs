//! Asking a running balancer.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::{
    admin::MemberRow,
    config::HostPort,
    net::{ResolveError, resolve},
};

/// Longest wait for the whole answer.
const LIMIT: Duration = Duration::from_secs(5);
/// Longest answer: 4,096 members of at most about a kilobyte.
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// Why a balancer did not answer.
#[derive(Debug, thiserror::Error)]
pub enum QueryError {
    /// Its name is not known.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// Nothing listens there.
    #[error(
        "no balancer's stats page answers at {address}: {reason} (start one with --stats, or name it with --stats)"
    )]
    Connect {
        /// Where.
        address: String,
        /// Why not.
        reason: String,
    },
    /// What answers is no balancer, or one without a cluster.
    #[error("the balancer at {address} does not tell its members: {reason}")]
    Answer {
        /// Where.
        address: String,
        /// What it said.
        reason: String,
    },
}

/// The members of the cluster, as the balancer whose stats page is at `target` knows them.
///
/// # Errors
/// When it can't be reached or does not tell.
pub async fn query_members(target: &HostPort) -> Result<Vec<MemberRow>, QueryError> {
    let unanswered = |reason: String| QueryError::Answer { address: target.to_string(), reason };
    let asked = tokio::time::timeout(LIMIT, ask(target));
    let body = asked.await.map_err(|_| unanswered(format!("no answer within {LIMIT:?}")))??;
    serde_json::from_slice(&body).map_err(|error| unanswered(format!("it answered something else ({error})")))
}

async fn ask(target: &HostPort) -> Result<Bytes, QueryError> {
    let address = || target.to_string();
    let refused = |error: std::io::Error| QueryError::Connect { address: address(), reason: error.to_string() };
    let broken = |error: String| QueryError::Answer { address: address(), reason: error };
    let stream = TcpStream::connect(&*resolve(target).await?).await.map_err(refused)?;
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| broken(error.to_string()))?;
    let request = Request::get("/members").header(header::HOST, target.to_string()).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| broken(error.to_string()))?;
    // It owns the sender: the connection ends when nothing can be sent any more.
    let answer = async move {
        let response = sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        let body = body.map_err(|error| broken(error.to_string()))?.to_bytes();
        if status == StatusCode::OK {
            return Ok(body);
        }
        let text = String::from_utf8_lossy(&body);
        let first_line: String = text.lines().next().unwrap_or_default().chars().take(120).collect();
        Err(broken(format!("{status}: {first_line}")))
    };
    // The connection moves the bytes.
    let (answer, _ended) = futures_util::future::join(answer, connection).await;
    answer
}
