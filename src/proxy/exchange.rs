//! One request and its response: what is counted and logged of it.

use std::{
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{Method, Response, StatusCode, Uri, Version, header};

use super::{body::ResponseBody, client::Client};
use crate::{
    http_rules::{Fault, forwarded_client},
    model::{Cause, Phase, Termination},
    registry::{Class, Occupied, Pool, PoolLive, Server, ServerLive, Times, add},
    telemetry::{Record, Timers},
    upstream::{Link, Traffic},
};

/// One request and its response. Dropped before [`Exchange::finished`], it counts as broken off by the client.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) client: Rc<Client>,
    pub(super) termination: Termination,
    /// The client speaks HTTP/1.0.
    pub(super) old: bool,
    begun: Instant,
    head_took: Duration,
    request: Option<(Method, Uri, Version)>,
    /// Who a trusted proxy says the client is, for the log.
    forwarded: Option<SocketAddr>,
    target: Option<Target>,
    connect: Option<Duration>,
    sent: Option<Instant>,
    response: Option<Duration>,
    status: Option<StatusCode>,
    wire: Option<Wire>,
    bytes: u64,
    retries: u32,
    redispatched: bool,
    done: bool,
}

/// What passed through the server's connection since the request came to it.
#[derive(Debug)]
struct Wire {
    traffic: Traffic,
    before: (u64, u64),
}

impl Wire {
    fn begin(traffic: &Traffic) -> Self {
        Self { traffic: traffic.clone(), before: (traffic.bytes_in(), traffic.bytes_out()) }
    }
}

/// Where the request was sent, with its place there.
#[derive(Debug)]
struct Target {
    pool: Arc<Pool>,
    server: Option<Arc<Server>>,
    _in_pool: Option<Occupied<PoolLive>>,
    _on_server: Option<Occupied<ServerLive>>,
}

impl Exchange {
    /// Begins with a request whose head is complete.
    pub(super) fn begin(client: &Rc<Client>, parts: &http::request::Parts) -> Box<Self> {
        let head_took = client.begin_request();
        add(&client.counters().requests, 1);
        let logs = client.worker.logs();
        let request = logs.then(|| (parts.method.clone(), parts.uri.clone(), parts.version));
        let forwarded = (logs && client.forwarding.trusted)
            .then(|| forwarded_client(&parts.headers, &client.frontend.trusted_proxies))
            .flatten();
        Box::new(Self {
            client: Rc::clone(client),
            termination: Termination { phase: Phase::Request, ..Termination::default() },
            old: parts.version < Version::HTTP_11,
            begun: Instant::now(),
            head_took,
            request,
            forwarded,
            target: None,
            connect: None,
            sent: None,
            response: None,
            status: None,
            wire: None,
            bytes: 0,
            retries: 0,
            redispatched: false,
            done: false,
        })
    }

    /// Goes to a pool, before a server is chosen.
    pub(super) fn enter(&mut self, pool: &Arc<Pool>) {
        let in_pool = Some(Occupied::enter(&pool.live));
        self.termination.phase = Phase::Connect;
        add(&pool.live.counters(self.client.worker.slot).requests, 1);
        self.target = Some(Target { pool: Arc::clone(pool), server: None, _in_pool: in_pool, _on_server: None });
    }

    /// Goes to a server; `balanced` tells that the algorithm chose it.
    pub(super) fn assign(&mut self, server: &Arc<Server>, balanced: bool) {
        let slot = self.client.worker.slot;
        let Some(target) = &mut self.target else { return };
        let counters = server.live.counters(slot);
        add(&counters.requests, 1);
        if balanced {
            add(&counters.balanced, 1);
            add(&target.pool.live.counters(slot).balanced, 1);
        }
        target._on_server = Some(Occupied::enter(&server.live));
        target.server = Some(Arc::clone(server));
    }

    /// A connection is there; `since` is when it began to be made, or `None` for one that was kept.
    pub(super) fn connected(&mut self, since: Option<Instant>, link: &Link) {
        self.count_wire();
        self.wire = Some(Wire::begin(link.traffic()));
        let reused = since.is_none();
        self.termination.phase = Phase::Headers;
        // A kept connection takes no time, and a look at the clock does.
        let sent = if reused && self.sent.is_none() { self.begun } else { Instant::now() };
        self.connect = Some(since.map(|since| sent.saturating_duration_since(since)).unwrap_or_default());
        self.sent = Some(sent);
        self.count(|counters| add(if reused { &counters.reuses } else { &counters.connects }, 1));
    }

    /// No connection could be made.
    pub(super) fn connect_failed(&mut self) {
        self.termination.phase = Phase::Connect;
        self.count(|counters| {
            add(&counters.connects, 1);
            add(&counters.connect_errors, 1);
        });
    }

    /// The request is tried once more, on another server or not.
    pub(super) fn retried(&mut self, elsewhere: bool) {
        self.retries += 1;
        self.redispatched |= elsewhere;
        self.count(|counters| add(if elsewhere { &counters.redispatches } else { &counters.retries }, 1));
    }

    /// The response's head came.
    pub(super) fn responded(&mut self, parts: &http::response::Parts) {
        self.response = self.sent.map(|sent| sent.elapsed());
        self.status = Some(parts.status);
        self.termination.phase = Phase::Data;
        if self.client.worker.logs() {
            self.bytes += head_length(parts);
        }
    }

    /// A piece of the response's body came.
    pub(super) fn add_bytes(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
    }

    /// The server broke the response's body off.
    pub(super) fn broken_by_server(&mut self, silent: bool) {
        self.termination.cause = if silent { Cause::ServerTimeout } else { Cause::Server };
        self.count(|counters| add(&counters.server_aborts, 1));
    }

    /// The client broke the response's body off, unless the server did before or it was a bug of ours.
    pub(super) fn broken_by_client(&mut self) {
        if self.termination.cause == Cause::Normal && self.client.has_met_bug() {
            self.termination.cause = Cause::Internal;
        } else if self.termination.cause == Cause::Normal {
            self.termination.cause = if self.client.was_too_slow() { Cause::ClientTimeout } else { Cause::Client };
            self.count(|counters| add(&counters.client_aborts, 1));
        }
    }

    /// A tunnel ended before both sides had said that they were done.
    pub(super) fn tunnel_broken(&mut self, silent: bool) {
        self.termination.cause = if silent { Cause::ClientTimeout } else { Cause::Client };
    }

    /// Answers with an error of our own.
    pub(super) fn refuse(mut self: Box<Self>, fault: Fault) -> Response<ResponseBody> {
        let (status, cause, phase) = fault.verdict();
        self.termination.cause = cause;
        self.termination.phase = phase;
        if fault.is_of_client() {
            add(&self.client.counters().request_errors, 1);
        }
        match fault {
            Fault::ClientTimeout | Fault::ClientBody => self.count(|counters| add(&counters.client_aborts, 1)),
            Fault::Rejected(_) | Fault::BodyTooLarge => {}
            Fault::ServerClosed | Fault::InvalidResponse | Fault::ServerTimeout => {
                self.count(|counters| add(&counters.response_errors, 1));
            }
            // Each failed connection was counted when it failed.
            Fault::NoServer | Fault::ConnectRefused | Fault::ConnectTimeout => {}
            // The server was not even asked.
            Fault::NoDescriptor => {}
        }
        let builder = Response::builder()
            .status(status)
            .header(header::CACHE_CONTROL, "no-cache")
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
        let builder = if fault.is_of_client() {
            // What is left of a request that was refused must not be read as the next one. To an old client hyper would
            // say keep-alive as well, unless the answer is old, too.
            let version = if self.old { Version::HTTP_10 } else { Version::HTTP_11 };
            builder.version(version).header(header::CONNECTION, "close")
        } else {
            builder
        };
        let builder = if status == StatusCode::METHOD_NOT_ALLOWED {
            builder.header(header::ALLOW, "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
        } else {
            builder
        };
        // The head is made of constants; a failure to build it would show in the first test.
        let (parts, ()) = builder.body(()).unwrap_or_default().into_parts();
        self.status = Some(status);
        if self.client.worker.logs() {
            self.bytes += head_length(&parts);
        }
        Response::from_parts(parts, ResponseBody::own(fault.body(), self))
    }

    /// The response is complete or broken off. The connection, if there was one, is kept when it can be.
    pub(super) fn finished(&mut self, used: Option<(Box<Link>, &Server, bool)>) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        if self.termination.cause == Cause::Normal {
            self.termination.phase = Phase::Done;
        }
        let client = Rc::clone(&self.client);
        self.count_wire();
        if let Some((link, server, true)) = used {
            client.worker.idle.borrow_mut().put(server, link);
        }
        let now = Instant::now();
        self.count_response(now);
        self.log(now);
        self.target = None;
        client.end_request();
    }

    /// Counts the bytes of the server's connection, which may have carried less than a response.
    fn count_wire(&mut self) {
        let Some(Wire { traffic, before: (received, sent) }) = self.wire.take() else { return };
        self.count(|counters| {
            add(&counters.bytes_in, traffic.bytes_out() - sent);
            add(&counters.bytes_out, traffic.bytes_in() - received);
        });
    }

    fn count_response(&self, now: Instant) {
        let slot = self.client.worker.slot;
        if let Some(status) = self.status {
            let class = Class::of(status.as_u16()).index();
            add(&self.client.counters().responses[class], 1);
            self.count(|counters| add(&counters.responses[class], 1));
        }
        if let (Some(target), Some(response)) = (&self.target, self.response) {
            let times = Times {
                queue: None,
                connect: self.connect,
                response: Some(response),
                total: now.saturating_duration_since(self.begun),
            };
            let at = self.client.worker.since_start(now);
            target.pool.live.record_times(slot, at, times);
            if let Some(server) = &target.server {
                server.live.record_times(slot, at, times);
            }
        }
    }

    /// Counts for the pool and, if one was chosen, the server.
    fn count(&self, count: impl Fn(&crate::registry::ServerCounters)) {
        let slot = self.client.worker.slot;
        if let Some(target) = &self.target {
            count(target.pool.live.counters(slot));
            if let Some(server) = &target.server {
                count(server.live.counters(slot));
            }
        }
    }

    fn log(&self, now: Instant) {
        let Some((method, uri, version)) = &self.request else { return };
        let total = now.saturating_duration_since(self.begun) + self.head_took;
        let client = &self.client;
        let connections = client.frontend.live.connections.now();
        let server = self.target.as_ref().and_then(|target| target.server.as_ref());
        let path = uri.path_and_query().map_or("*", |path| path.as_str());
        client.worker.log(&Record {
            begun: SystemTime::now() - total,
            client: self.forwarded.unwrap_or(client.address),
            frontend: client.frontend.live.name.as_str(),
            backend: client.frontend.pool.as_str(),
            server: server.map(|server| server.name.as_str()),
            timers: Timers {
                request: Some(self.head_took),
                queue: self.connect.map(|_| Duration::ZERO),
                connect: self.connect,
                response: self.response,
                total,
            },
            status: self.status.map(|status| status.as_u16()),
            bytes: self.bytes,
            termination: self.termination,
            connections: (client.worker.registry.connections(), connections),
            in_flight: (
                self.target.as_ref().map_or(0, |target| target.pool.live.in_flight.now()),
                server.map_or(0, |server| server.live.in_flight.now()),
            ),
            retries: self.retries,
            redispatched: self.redispatched,
            request: Some((method.as_str(), path, protocol(*version))),
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.done {
            // hyper drops a request whose client has gone.
            self.broken_by_client();
            self.finished(None);
        }
    }
}

/// Bytes of a response head as it is written.
fn head_length(parts: &http::response::Parts) -> u64 {
    let reason = parts.status.canonical_reason().unwrap_or_default();
    let line = "HTTP/1.1 200 ".len() + reason.len() + "\r\n\r\n".len();
    let headers: usize =
        parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + ": \r\n".len()).sum();
    (line + headers) as u64
}

fn protocol(version: Version) -> &'static str {
    if version == Version::HTTP_10 { "HTTP/1.0" } else { "HTTP/1.1" }
}
