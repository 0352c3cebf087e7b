//! One request and its response: what is counted and logged of it.

use std::{
    borrow::Cow,
    net::SocketAddr,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, Method, Response, StatusCode, Uri, Version, header};

use super::{body::ResponseBody, client::Client};
use crate::{
    downstream::Answer,
    h1::Lines,
    http_rules::{Fault, forwarded_client},
    model::{Cause, Phase, StickyRequest, Termination},
    queue::Ahead,
    registry::{Class, Occupied, Place, Pool, Server, Times, add, subtract},
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
    queued: Queued,
    connect: Option<Duration>,
    sent: Option<Instant>,
    response: Option<Duration>,
    status: Option<StatusCode>,
    wire: Option<Wire>,
    bytes: u64,
    retries: u32,
    redispatched: bool,
    is_tunnel: bool,
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
    spot: Spot,
    pool: Occupied<Pool>,
}

/// Which server the request has to do with.
#[derive(Debug)]
enum Spot {
    /// None yet.
    Nowhere,
    /// The one that it waits for, or was tried on last.
    Without(Arc<Server>),
    /// The one on which it has a place.
    On(Place),
}

impl Spot {
    fn server(&self) -> Option<&Arc<Server>> {
        match self {
            Self::Nowhere => None,
            Self::Without(server) => Some(server),
            Self::On(place) => Some(place.server()),
        }
    }
}

/// How long the request waited for a place.
#[derive(Debug, Default)]
struct Queued {
    /// `None` as long as it never looked for one.
    waited: Option<Duration>,
    since: Option<Instant>,
    ahead: Ahead,
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
            queued: Queued::default(),
            connect: None,
            sent: None,
            response: None,
            status: None,
            wire: None,
            bytes: 0,
            retries: 0,
            redispatched: false,
            is_tunnel: false,
            done: false,
        })
    }

    /// Goes to a pool, before a server is chosen.
    pub(super) fn enter(&mut self, pool: &Arc<Pool>) {
        self.termination.phase = Phase::Connect;
        add(&pool.live.counters(self.client.worker.slot).requests, 1);
        self.target = Some(Target { spot: Spot::Nowhere, pool: Occupied::enter(pool) });
    }

    /// Gives up the place on a server where the request was tried.
    pub(super) fn leave_server(&mut self) {
        // What has passed so far, passed to and from this one.
        self.count_wire();
        if let Some(Target { spot, .. }) = &mut self.target
            && let Spot::On(place) = spot
        {
            let server = Arc::clone(place.server());
            *spot = Spot::Without(server);
            self.client.cut.leaves();
        }
    }

    /// Waits for a place from now on: on any server, or on the one that its cookie names.
    pub(super) fn begin_wait(&mut self, named: Option<Arc<Server>>, ahead: Ahead) {
        self.termination.phase = Phase::Queue;
        self.queued.since = Some(Instant::now());
        self.queued.ahead.server += ahead.server;
        self.queued.ahead.pool += ahead.pool;
        if let Some(Target { spot, .. }) = &mut self.target {
            *spot = named.map_or(Spot::Nowhere, Spot::Without);
        }
    }

    /// Waits no longer.
    pub(super) fn end_wait(&mut self) {
        if let Some(since) = self.queued.since.take() {
            self.queued.waited = Some(self.queued.waited.unwrap_or_default() + since.elapsed());
        }
    }

    /// Goes to the server on which it has a place; `balanced` tells that the algorithm chose it.
    pub(super) fn assign(&mut self, place: Place, balanced: bool) -> Arc<Server> {
        let slot = self.client.worker.slot;
        let server = Arc::clone(place.server());
        self.termination.phase = Phase::Connect;
        self.queued.waited.get_or_insert_default();
        let Some(target) = &mut self.target else { return server };
        let counters = server.live.counters(slot);
        add(&counters.requests, 1);
        if balanced {
            add(&counters.balanced, 1);
            add(&target.pool.live.counters(slot).balanced, 1);
        }
        target.spot = Spot::On(place);
        self.client.cut.goes_to(server.id);
        server
    }

    /// A connection is there; `since` is when it began to be made, or `None` for one that was kept.
    pub(super) fn connected(&mut self, since: Option<Instant>, link: &Link) {
        self.count_wire();
        self.wire = Some(Wire::begin(link.traffic()));
        let reused = since.is_none();
        self.termination.phase = Phase::Headers;
        // A kept connection takes no time, and a look at the clock does; a wait for a place takes some.
        let at_once = reused && self.sent.is_none() && self.queued.waited.is_none_or(|waited| waited.is_zero());
        let sent = if at_once { self.begun } else { Instant::now() };
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

    /// The server for which the request waited takes nobody any more, or too many wait for it.
    pub(super) fn turned_away(&mut self) {
        self.termination.request = StickyRequest::Down;
        self.redispatched = true;
        self.count(|counters| add(&counters.redispatches, 1));
    }

    /// The response's head came.
    pub(super) fn responded(&mut self, parts: &http::response::Parts, lines: &Lines) {
        self.response = self.sent.map(|sent| sent.elapsed());
        self.status = Some(parts.status);
        self.termination.phase = Phase::Data;
        if self.client.worker.logs() {
            self.bytes += head_length(parts) + lines.as_bytes().len() as u64;
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
        } else if self.termination.cause == Cause::Normal && self.client.cut.is_cut() {
            self.stopped();
        } else if self.termination.cause == Cause::Normal {
            self.termination.cause = if self.client.was_too_slow() { Cause::ClientTimeout } else { Cause::Client };
            self.count(|counters| add(&counters.client_aborts, 1));
        }
    }

    /// From now on it is a tunnel.
    pub(super) fn tunnel_begins(&mut self) {
        self.is_tunnel = true;
        add(&self.client.counters().tunnels, 1);
        self.count(|counters| add(&counters.tunnels, 1));
    }

    /// Bytes passed through the tunnel, of which the client got so many. Counted at once: its end may be days away.
    pub(super) fn tunnel_passed(&mut self, to_client: u64) {
        self.bytes += to_client;
        self.client.count_bytes();
        self.count_wire();
    }

    /// A tunnel was silent too long.
    pub(super) fn tunnel_silent(&mut self) {
        self.termination.cause = Cause::ClientTimeout;
    }

    /// The balancer stops and waits no longer, or the server's maintenance does not.
    pub(super) fn stopped(&mut self) {
        self.termination.cause = Cause::Stopped;
    }

    /// Answers with an error of our own.
    pub(super) fn refuse(mut self: Box<Self>, fault: Fault) -> Answer<ResponseBody> {
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
            Fault::QueueTimeout | Fault::QueueFull => self.count(|counters| add(&counters.connect_errors, 1)),
            // Each failed connection was counted when it failed.
            Fault::NoServer | Fault::ConnectRefused | Fault::ConnectTimeout => {}
            // The server was not even asked.
            Fault::NoDescriptor => {}
        }
        let builder = Response::builder()
            .status(status)
            .header(header::CACHE_CONTROL, "no-cache")
            .header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
        let builder = if fault.is_of_client() || self.client.is_owed_a_body() {
            // What is left of a request that was refused must not be read as the next one.
            builder.header(header::CONNECTION, "close")
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
        Answer { parts, lines: Lines::default(), body: ResponseBody::own(fault.body(), self), spare: HeaderMap::new() }
    }

    /// The response is complete or broken off. The connection, if there was one, is kept when it can be.
    pub(super) fn finished(&mut self, used: Option<(Box<Link>, &Server)>) {
        if std::mem::replace(&mut self.done, true) {
            return;
        }
        if self.termination.cause == Cause::Normal {
            self.termination.phase = Phase::Done;
        }
        let client = Rc::clone(&self.client);
        self.end_wait();
        self.count_wire();
        self.wire = None;
        if std::mem::take(&mut self.is_tunnel) {
            subtract(&self.client.counters().tunnels, 1);
            self.count(|counters| subtract(&counters.tunnels, 1));
        }
        if let Some((link, server)) = used {
            client.worker.idle.borrow_mut().put(server, link);
        }
        let now = Instant::now();
        self.count_response(now);
        self.log(now);
        self.target = None;
        client.cut.leaves();
        client.end_request();
    }

    /// Counts the bytes that passed through the server's connection since the last time, which may be less than a response.
    fn count_wire(&mut self) {
        let Some(Wire { traffic, before }) = &mut self.wire else { return };
        let now = (traffic.bytes_in(), traffic.bytes_out());
        let (received, sent) = std::mem::replace(before, now);
        self.count(|counters| {
            add(&counters.bytes_in, now.1 - sent);
            add(&counters.bytes_out, now.0 - received);
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
                queue: self.queued.waited,
                connect: self.connect,
                response: Some(response),
                total: now.saturating_duration_since(self.begun),
            };
            let at = self.client.worker.since_start(now);
            target.pool.live.record_times(slot, at, times);
            if let Some(server) = target.spot.server() {
                server.live.record_times(slot, at, times);
            }
        }
    }

    /// Counts for the pool and, if one was chosen, the server.
    fn count(&self, count: impl Fn(&crate::registry::ServerCounters)) {
        let slot = self.client.worker.slot;
        if let Some(target) = &self.target {
            count(target.pool.live.counters(slot));
            if let Some(server) = target.spot.server() {
                count(server.live.counters(slot));
            }
        }
    }

    fn log(&self, now: Instant) {
        let Some((method, uri, version)) = &self.request else { return };
        let total = now.saturating_duration_since(self.begun) + self.head_took;
        let client = &self.client;
        let connections = client.frontend.live.connections.now();
        let server = self.target.as_ref().and_then(|target| target.spot.server());
        // A request that was refused may have asked for no path.
        let path = uri.path_and_query().map_or_else(|| uri.to_string().into(), |path| Cow::Borrowed(path.as_str()));
        client.worker.log(&Record {
            begun: SystemTime::now() - total,
            client: self.forwarded.unwrap_or(client.address),
            frontend: client.frontend.live.name.as_str(),
            backend: client.frontend.pool.as_str(),
            server: server.map(|server| server.name.as_str()),
            timers: Timers {
                request: Some(self.head_took),
                queue: self.queued.waited,
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
            queued: (self.queued.ahead.server, self.queued.ahead.pool),
            retries: self.retries,
            redispatched: self.redispatched,
            request: Some((method.as_str(), &path, protocol(*version))),
        });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.done {
            if self.client.worker.has_quit() {
                self.stopped();
            } else {
                // A request whose client has gone is dropped.
                self.broken_by_client();
            }
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
