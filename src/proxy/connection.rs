//! Serving one client connection, from its first byte to its last.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{io::AsyncWriteExt, net::TcpStream};

use super::{
    body::ResponseBody,
    client::{Client, Overdue, Stage},
    roster::Enrolled,
    stack::stack,
    worker::Frontend,
};
use crate::{
    http_rules::Fault,
    model::{Cause, Phase, Termination},
    net::{Metered, Pulse, Watchdog, now_coarse},
    registry::{Class, add},
    telemetry::{Record, Timers},
};

/// Most header lines of a request.
const MAX_HEADERS: usize = 100;
/// How long a client may take to read that answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a connection is not driven any longer.
enum End {
    /// In good order, as far as HTTP is concerned.
    Closed,
    /// The client sent something that is no HTTP, or broke off.
    Failed(hyper::Error),
    /// The client was silent too long.
    Overdue(Overdue),
    /// It has been idle for a while.
    Idle,
}

/// Serves one connection until it ends.
///
/// hyper keeps a read buffer of 8 KiB for as long as it has the connection. So it gets it when the client speaks, and has
/// to give it back when the client has been silent for a second; the next request is served by a new hyper connection.
pub(super) fn serve(
    frontend: &Rc<Frontend>,
    stream: TcpStream,
    address: SocketAddr,
    mut enrolled: Enrolled,
) -> impl Future<Output = ()> + use<> {
    let local = stream.local_addr().unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
    let pulse = Arc::new(Pulse::new());
    let client = Client::new(enrolled.worker(), frontend, address, local, Arc::clone(&pulse));
    let mut socket = Metered::new(stream, pulse);
    async move {
        let mut watchdog = pin!(Watchdog::new());
        while socket.has_unread() || begins(&socket, &client, &mut enrolled, watchdog.as_mut()).await {
            // Boxed, because an idle connection needs nothing of it.
            let Some(idle) = Box::pin(talk(socket, &client, &mut enrolled, watchdog.as_mut())).await else { return };
            socket = idle;
        }
    }
}

/// Waits at rest for a request to begin, or for the other side to close; false when it is time to end.
async fn begins(
    socket: &Metered,
    client: &Rc<Client>,
    enrolled: &mut Enrolled,
    mut watchdog: Pin<&mut Watchdog>,
) -> bool {
    client.set_rests(true);
    let begins = poll_fn(|cx: &mut Context<'_>| {
        enrolled.introduce(client, cx.waker());
        // First of all: what has arrived already is a request.
        if socket.get_ref().poll_read_ready(cx).is_ready() {
            return Poll::Ready(true);
        }
        let deadline = client.deadline().map(|(deadline, _)| deadline);
        if client.should_end() || watchdog.as_mut().poll_expired(cx, deadline) {
            return Poll::Ready(false);
        }
        Poll::Pending
    });
    let begins = begins.await;
    client.set_rests(false);
    begins
}

/// Serves requests until the connection ends, or has been idle for a while: then it is given back.
async fn talk(
    socket: Metered,
    client: &Rc<Client>,
    enrolled: &mut Enrolled,
    watchdog: Pin<&mut Watchdog>,
) -> Option<Metered> {
    let head = client.settings.limits.head;
    let mut connection = http1::Builder::new()
        // One small `send` costs less than a `writev` of two pieces.
        .writev(false)
        .pipeline_flush(false)
        .auto_date_header(false)
        // `Client` keeps the time; hyper's timer would be moved for each request.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_header_size(head)
        .max_buf_size(head.max(64 * 1024))
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(stack(Rc::clone(client))))
        .with_upgrades();
    match drive(&mut connection, client, enrolled, watchdog).await {
        End::Closed => {}
        End::Failed(error) => refused(client, &error),
        End::Overdue(Overdue::Head) => {
            let answer = request_timeout();
            note_bad_request(client, 408, answer.len() as u64, Cause::ClientTimeout);
            if let Some(parts) = connection.into_parts() {
                // A client that does not read its error has lost nothing by it.
                let _unread = tokio::time::timeout(LAST_WORDS, last_words(parts.io.into_inner(), &answer)).await;
            }
        }
        // Dropping the connection drops the request that is in it, which counts and logs itself.
        End::Overdue(Overdue::Reading) => client.note_stopped_reading(),
        // Whether a head has begun together with the request before shows only when hyper gives its buffer back.
        End::Idle | End::Overdue(Overdue::Idle) => return at_rest(connection, client),
        End::Overdue(Overdue::Sending) => {}
    }
    None
}

type Connection<S> = http1::UpgradeableConnection<TokioIo<Metered>, S>;

/// Polls the connection and its timer until one of them ends it.
async fn drive<S>(
    connection: &mut Connection<S>,
    client: &Rc<Client>,
    enrolled: &mut Enrolled,
    mut watchdog: Pin<&mut Watchdog>,
) -> End
where
    S: Service<Request<Incoming>, Response = http::Response<ResponseBody>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut told_to_end = false;
    poll_fn(|cx: &mut Context<'_>| {
        enrolled.introduce(client, cx.waker());
        let mut polled = Pin::new(&mut *connection).poll(cx);
        // After the poll: what has arrived already is a request, and hyper closes an idle connection without looking.
        if polled.is_pending() && !told_to_end && client.should_end() {
            told_to_end = true;
            Pin::new(&mut *connection).graceful_shutdown();
            polled = Pin::new(&mut *connection).poll(cx);
        }
        if let Poll::Ready(result) = polled {
            return Poll::Ready(result.map_or_else(End::Failed, |()| End::Closed));
        }
        if client.may_rest() {
            return Poll::Ready(End::Idle);
        }
        loop {
            let Some((deadline, overdue)) = client.deadline() else { return Poll::Pending };
            if !watchdog.as_mut().poll_expired(cx, Some(deadline)) {
                return Poll::Pending;
            }
            if overdue != Overdue::Sending {
                return Poll::Ready(End::Overdue(overdue));
            }
            // The request ends with an answer of its own.
            client.expire_upload();
        }
    })
    .await
}

/// Takes an idle connection from hyper, with what it has read of the next request. `None` when it is not idle.
fn at_rest<S>(connection: Connection<S>, client: &Client) -> Option<Metered>
where
    S: Service<Request<Incoming>, Response = http::Response<ResponseBody>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    client.idle_since()?;
    let http1::Parts { io, read_buf, .. } = connection.into_parts()?;
    let mut socket = io.into_inner();
    // Empty lines before a request mean nothing (RFC 9112 section 2.2).
    let begun = read_buf.iter().position(|byte| !b"\r\n".contains(byte));
    if let Some(begun) = begun {
        client.head_had_begun();
        // A copy: a slice would keep the whole buffer.
        socket.unread(Bytes::copy_from_slice(&read_buf[begun..]));
    }
    Some(socket)
}

/// Answers a request whose head never became complete; hyper has no request to answer.
async fn last_words(mut io: Metered, answer: &[u8]) -> io::Result<()> {
    io.write_all(answer).await?;
    io.shutdown().await
}

fn request_timeout() -> Vec<u8> {
    let body = Fault::ClientTimeout.body();
    format!(
        "HTTP/1.1 408 Request Timeout\r\ncontent-length: {}\r\ncache-control: no-cache\r\nconnection: close\r\n\
         content-type: text/plain; charset=utf-8\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

/// hyper has answered a request that it could not read; counts and logs it.
fn refused(client: &Client, error: &hyper::Error) {
    match client.stage() {
        _ if error.is_parse_too_large() => note_bad_request(client, 431, 0, Cause::Proxy),
        _ if error.is_parse() => note_bad_request(client, 400, 0, Cause::Proxy),
        // The client left in the middle of a head.
        Stage::Head { .. } => note_bad_request(client, 400, 0, Cause::Client),
        Stage::Idle { .. } | Stage::Busy | Stage::Closing => {}
    }
}

fn note_bad_request(client: &Client, status: u16, bytes: u64, cause: Cause) {
    let counters = client.counters();
    add(&counters.request_errors, 1);
    add(&counters.responses[Class::of(status).index()], 1);
    let waited = match client.stage() {
        Stage::Head { since } => since.until(now_coarse()),
        Stage::Idle { .. } | Stage::Busy | Stage::Closing => Duration::ZERO,
    };
    client.worker.log(&Record {
        begun: SystemTime::now() - waited,
        client: client.address,
        frontend: client.frontend.live.name.as_str(),
        backend: client.frontend.live.name.as_str(),
        server: None,
        timers: Timers { total: waited, ..Timers::default() },
        status: Some(status),
        bytes,
        termination: Termination { cause, phase: Phase::Request, ..Termination::default() },
        connections: (client.worker.registry.connections(), client.frontend.live.connections.now()),
        in_flight: (0, 0),
        retries: 0,
        redispatched: false,
        request: None,
    });
}
