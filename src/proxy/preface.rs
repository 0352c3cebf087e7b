//! What a proxy says of a connection before HTTP begins.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    task::Poll,
};

use tokio::net::TcpStream;

use super::{client::LAST_CALL, roster::Enrolled, worker::Frontend};
use crate::{
    model::Cause,
    net::{ProxyHeaderError, ProxyHeaderReader, Watchdog, now_coarse},
    proxy_protocol::Endpoints,
};

/// Why a connection is closed before HTTP begins.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Nothing came: somebody looked whether the port is open. Not worth a line in the log.
    Silent,
    /// Who it is to be blamed on.
    Blamed(Cause),
}

/// Reads the PROXY protocol's header. Whose connection it is; `None` where the header does not say.
///
/// The whole header must come within the time that a request's head has. Who is no trusted proxy, if there are any, may not
/// send one, and there is no other way in: otherwise a client could choose whether its own word or ours is believed.
pub(super) async fn receive_preface(
    frontend: &Frontend,
    stream: &mut TcpStream,
    peer: SocketAddr,
    enrolled: &mut Enrolled,
) -> Result<Option<Endpoints>, Refusal> {
    let worker = enrolled.worker().clone();
    let complain =
        |why: &str| worker.complain(&format!("{}: closed a connection from {peer}: {why}", frontend.live.name));
    if !frontend.trusted_proxies.is_empty() && !frontend.trusted_proxies.contains(peer.ip()) {
        complain("it must begin with a PROXY protocol header, which only trusted-proxies may send");
        return Err(Refusal::Blamed(Cause::Proxy));
    }
    let mut reader = ProxyHeaderReader::new();
    let received = in_time(reader.receive(stream), enrolled).await;
    match received {
        Some(Ok(told)) => Ok(told),
        Some(Err(ProxyHeaderError::Invalid(invalid))) => {
            complain(&invalid.to_string());
            Err(Refusal::Blamed(Cause::Proxy))
        }
        _ if !reader.has_begun() => Err(Refusal::Silent),
        Some(Err(ProxyHeaderError::Closed | ProxyHeaderError::Io(_))) => Err(Refusal::Blamed(Cause::Client)),
        None => {
            complain("its PROXY protocol header was not complete in time");
            Err(Refusal::Blamed(Cause::ClientTimeout))
        }
    }
}

/// `None` when it takes too long.
async fn in_time<T>(reading: impl Future<Output = T>, enrolled: &mut Enrolled) -> Option<T> {
    let worker = enrolled.worker().clone();
    let deadline = now_coarse().after(worker.settings().timeouts.request_head);
    let (mut reading, mut watchdog) = (pin!(reading), pin!(Watchdog::new()));
    poll_fn(|cx| {
        enrolled.wake_by(cx.waker());
        if let Poll::Ready(read) = reading.as_mut().poll(cx) {
            return Poll::Ready(Some(read));
        }
        let drained = worker.draining_since().map(|since| since.after(LAST_CALL));
        let deadline = drained.map_or(deadline, |drained| drained.min(deadline));
        if watchdog.as_mut().poll_expired(cx, Some(deadline)) { Poll::Ready(None) } else { Poll::Pending }
    })
    .await
}
