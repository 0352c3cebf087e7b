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

use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::Service};
use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::OwnedSemaphorePermit};

use super::{
    body::ResponseBody,
    client::{Client, Overdue, Stage},
    preface::{Refusal, real_ends, receive_preface},
    stack::stack,
    worker::{Enrolled, Frontend},
};
use crate::{
    http_rules::Fault,
    model::{Cause, Phase, Termination},
    net::{Metered, Pulse, Watchdog, now_coarse},
    registry::{Class, Occupied, add},
    telemetry::{Record, Timers},
};

/// Most header lines of a request.
const MAX_HEADERS: usize = 100;
/// How long a client may take to read that answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How a connection ended.
enum End {
    /// In good order, as far as HTTP is concerned.
    Closed,
    /// The client sent something that is no HTTP, or broke off.
    Failed(hyper::Error),
    /// The client was silent too long.
    Overdue(Overdue),
}

/// Serves one connection until it ends; `permit` is of those that the frontend has, if it is limited.
pub(super) async fn serve(
    frontend: Rc<Frontend>,
    mut stream: TcpStream,
    address: SocketAddr,
    mut enrolled: Enrolled,
    permit: Option<OwnedSemaphorePermit>,
) {
    let occupied = Occupied::enter(&frontend.live);
    add(&frontend.live.counters(enrolled.worker().slot).connections, 1);
    let mut ends = real_ends(&stream, address);
    let mut refusal = None;
    if frontend.proxy_protocol {
        match receive_preface(&frontend, &mut stream, ends, &mut enrolled).await {
            Ok(told) => ends = told,
            Err(why) => refusal = Some(why),
        }
    }
    let pulse = Arc::new(Pulse::new());
    let client = Client::new(enrolled.worker(), &frontend, ends, Arc::clone(&pulse), occupied, permit);
    match refusal {
        None => {}
        Some(Refusal::Silent) => return,
        Some(Refusal::Blamed(cause)) => return note_bad_request(&client, None, 0, cause),
    }
    let io = TokioIo::new(Metered::new(stream, pulse));
    let head = client.settings.limits.head;
    let mut connection = http1::Builder::new()
        // Large bodies are not copied; `Metered` joins small pieces, which costs less than a `writev`.
        .writev(true)
        .pipeline_flush(false)
        .auto_date_header(false)
        // `Client` keeps the time; hyper's timer would be moved for each request.
        .header_read_timeout(None)
        .max_headers(MAX_HEADERS)
        .max_header_size(head)
        // A body of 64 KiB with its head comes in one read.
        .max_buf_size(head.max(128 * 1024))
        .serve_connection(io, TowerToHyperService::new(stack(Rc::clone(&client))))
        .with_upgrades();
    match drive(&mut connection, &client, enrolled).await {
        End::Closed => {}
        End::Failed(error) => {
            refused(&client, &error);
            if client.is_unframed()
                && let Some(parts) = connection.into_parts()
            {
                parts.io.into_inner().reset();
            }
        }
        End::Overdue(Overdue::Head) => {
            let answer = request_timeout();
            note_bad_request(&client, Some(408), answer.len() as u64, Cause::ClientTimeout);
            if let Some(parts) = connection.into_parts() {
                // A client that does not read its error has lost nothing by it.
                let _unread = tokio::time::timeout(LAST_WORDS, last_words(parts.io.into_inner(), &answer)).await;
            }
        }
        // Dropping the connection drops the request that is in it, which counts and logs itself.
        End::Overdue(Overdue::Reading) => client.note_too_slow(),
        End::Overdue(Overdue::Idle | Overdue::Sending | Overdue::Alarm) => {}
    }
}

type Connection<S> = http1::UpgradeableConnection<TokioIo<Metered>, S>;

/// Polls the connection and its timer until one of them ends it.
async fn drive<S>(connection: &mut Connection<S>, client: &Client, mut enrolled: Enrolled) -> End
where
    S: Service<Request<Incoming>, Response = http::Response<ResponseBody>>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut watchdog = pin!(Watchdog::new());
    let mut told_to_end = false;
    poll_fn(|cx: &mut Context<'_>| {
        enrolled.wake_by(cx.waker());
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
        loop {
            let Some((deadline, overdue)) = client.deadline() else { return Poll::Pending };
            if !watchdog.as_mut().poll_expired(cx, Some(deadline)) {
                return Poll::Pending;
            }
            match overdue {
                // The request ends with an answer of its own.
                Overdue::Sending => client.expire_upload(),
                Overdue::Alarm => {
                    client.wake_at(None);
                    if let Poll::Ready(result) = Pin::new(&mut *connection).poll(cx) {
                        return Poll::Ready(result.map_or_else(End::Failed, |()| End::Closed));
                    }
                }
                Overdue::Idle | Overdue::Head | Overdue::Reading => return Poll::Ready(End::Overdue(overdue)),
            }
        }
    })
    .await
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
        _ if error.is_parse_too_large() => note_bad_request(client, Some(431), 0, Cause::Proxy),
        _ if error.is_parse() => note_bad_request(client, Some(400), 0, Cause::Proxy),
        // The client left in the middle of a head.
        Stage::Head { .. } => note_bad_request(client, Some(400), 0, Cause::Client),
        Stage::Idle { .. } | Stage::Busy | Stage::Closing => {}
    }
}

/// Counts and logs what is no request; `status` is `None` when nothing is answered.
fn note_bad_request(client: &Client, status: Option<u16>, bytes: u64, cause: Cause) {
    let counters = client.counters();
    add(&counters.request_errors, 1);
    if let Some(status) = status {
        add(&counters.responses[Class::of(status).index()], 1);
    }
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
        status,
        bytes,
        termination: Termination { cause, phase: Phase::Request, ..Termination::default() },
        connections: (client.worker.registry.connections(), client.frontend.live.connections.now()),
        in_flight: (0, 0),
        queued: (0, 0),
        retries: 0,
        redispatched: false,
        request: None,
    });
}
