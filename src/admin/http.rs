//! The admin server: who may connect, for how long, and which answer an address gets.
//!
//! It owns its connections: when [`serve`] returns, or is dropped, none is left. A connection lives for a minute at most and
//! there are few of them, so that nobody can keep operators out by opening many, or by reading slowly.

use std::{
    convert::Infallible,
    future::Future,
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use ::http::{HeaderValue, Method, Response, StatusCode, header, request};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
    time::timeout,
};

use super::{
    Context, MAX_CONNECTIONS, MemberRow,
    actions::{self, Outcome},
    csv, metrics, page,
    report::Report,
    view::{Format, View},
};
use crate::{
    model::PoolName,
    registry::{Class, Occupied, Slot},
};

/// Until a request's head is complete, also on an idle connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may live; what is in flight then may end within [`DRAIN_TIMEOUT`].
const LIFETIME: Duration = Duration::from_secs(60);
/// How long what is in flight may take when its connection is about to close.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long accepting rests after it failed: the usual reason, no free file descriptor, does not go away at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long the cluster may take to tell its members.
const MEMBERS_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a form may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest form in bytes: some hundred servers.
const MAX_FORM: usize = 16 * 1024;

/// Serves until `shutdown` is ready, then lets what is in flight end, for a few seconds at most.
pub async fn serve(listener: TcpListener, context: Arc<Context>, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let mut connections = JoinSet::new();
    // Dropped to tell every connection that the server closes.
    let (open, closing) = watch::channel(());
    loop {
        tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((stream, _peer)) => {
                    connections.spawn(serve_connection(stream, Arc::clone(&context), closing.clone()));
                }
                Err(error) => {
                    tracing::warn!("the admin server can't accept a connection: {error}");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(ended) = connections.join_next() => report_panic(ended),
        }
    }
    drop((listener, open));
    let drained = async {
        while let Some(ended) = connections.join_next().await {
            report_panic(ended);
        }
    };
    if timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::debug!("admin connections were still open when the time to drain was over");
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!("a connection of the admin server ended by a bug: {error}");
    }
}

async fn serve_connection(stream: TcpStream, context: Arc<Context>, mut closing: watch::Receiver<()>) {
    let _occupied = context.frontend().map(|frontend| {
        frontend.counters(OWN_SLOT).connections.fetch_add(1, Relaxed);
        Occupied::enter(frontend)
    });
    let service = service_fn(|request: Request<Incoming>| {
        let context = Arc::clone(&context);
        async move { Ok::<_, Infallible>(answer(&context, request).await) }
    });
    let mut builder = http1::Builder::new();
    // With half_close a client such as `printf … | nc` still gets its answer after it closed its side.
    builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).half_close(true);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = async { tokio::select! { _ = closing.changed() => (), () = tokio::time::sleep(LIFETIME) => () } } => {
            connection.as_mut().graceful_shutdown();
            timeout(DRAIN_TIMEOUT, connection).await.unwrap_or(Ok(()))
        }
    };
    if let Err(error) = ended {
        if error.is_parse()
            && let Some(frontend) = context.frontend()
        {
            frontend.counters(OWN_SLOT).request_errors.fetch_add(1, Relaxed);
        }
        tracing::debug!("an admin connection ended: {error}");
    }
}

/// The stats proxy has no worker of its own and no worker counts for it, so the first slot is free. Its counters are added
/// to by locked instructions all the same: the runtime may have several threads.
const OWN_SLOT: Slot = Slot(0);

async fn answer(context: &Context, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (request, body) = request.into_parts();
    let response = route(context, &request, body).await;
    if let Some(frontend) = context.frontend() {
        let counters = frontend.counters(OWN_SLOT);
        counters.requests.fetch_add(1, Relaxed);
        counters.responses[Class::of(response.status().as_u16()).index()].fetch_add(1, Relaxed);
        if request.method != Method::HEAD {
            let length = hyper::body::Body::size_hint(response.body()).lower();
            counters.bytes_out.fetch_add(length, Relaxed);
        }
    }
    response
}

async fn route(context: &Context, request: &request::Parts, body: Incoming) -> Response<Full<Bytes>> {
    let is_page = !["/metrics", "/healthz", "/members"].contains(&request.uri.path());
    match request.method {
        Method::GET | Method::HEAD => {}
        Method::POST if is_page => return act(context, request, body).await,
        _ => {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "this method is not answered here\n");
            let allowed = if is_page { "GET, HEAD, POST" } else { "GET, HEAD" };
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
            return response;
        }
    }
    match request.uri.path() {
        "/metrics" => {
            let gathered = gathered(context).await;
            let report = Report::collect(context, Instant::now());
            rendered(metrics::render(&report, gathered), metrics::TEXT_FORMAT)
        }
        "/healthz" => health(context, request.uri.query().unwrap_or_default()),
        "/members" => match members(context).await {
            Some(members) => rendered(serde_json::to_vec(&members), "application/json"),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "the cluster did not tell its members in time\n"),
        },
        _ => stats(context, request).await,
    }
}

/// Does what a form of the page asks for, and sends the browser back to the page.
async fn act(context: &Context, request: &request::Parts, body: Incoming) -> Response<Full<Bytes>> {
    if !actions::is_own_form(&request.headers) {
        return text(StatusCode::FORBIDDEN, "a form of another site is not accepted here\n");
    }
    let read = timeout(BODY_TIMEOUT, Limited::new(body, MAX_FORM).collect());
    let outcome = match read.await {
        Ok(Ok(body)) => actions::perform(context, &body.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Outcome::TooLong,
        Ok(Err(_)) | Err(_) => Outcome::Invalid,
    };
    let mut response = response(StatusCode::SEE_OTHER, "text/plain", Bytes::new());
    let address = HeaderValue::try_from(page_of(request).address_after(outcome));
    response.headers_mut().insert(header::LOCATION, address.unwrap_or_else(|_| HeaderValue::from_static("./")));
    response
}

fn page_of(request: &request::Parts) -> View {
    View::parse(request.uri.path_and_query().map_or("/", |address| address.as_str()))
}

async fn stats(context: &Context, request: &request::Parts) -> Response<Full<Bytes>> {
    let view = page_of(request);
    // Before the report is collected, so that its numbers are not older than they need to be.
    let members = match view.format {
        Format::Html => members(context).await,
        Format::Csv => None,
    };
    let mut report = Report::collect(context, Instant::now());
    report.narrow(&view.filter);
    match view.format {
        Format::Csv => rendered(csv::render(&report), "text/plain"),
        Format::Html => {
            let Context { notes, refresh, admin, .. } = context;
            let around = page::Around { members: members.as_deref(), notes, refresh: *refresh, admin: *admin };
            let mut response = html(page::render(&report, &view, &around));
            let refresh = context.refresh.as_secs();
            if refresh > 0 && !view.no_refresh {
                response.headers_mut().insert(header::REFRESH, HeaderValue::from(refresh));
            }
            response
        }
    }
}

/// `/healthz` is about this process; `/healthz?pool=NAME` about whether a new user would find a server.
fn health(context: &Context, query: &str) -> Response<Full<Bytes>> {
    let Some(name) = query.split('&').find_map(|pair| pair.strip_prefix("pool=")) else {
        return text(StatusCode::OK, "ok\n");
    };
    let snapshot = context.registry.snapshot();
    match PoolName::parse(name).ok().and_then(|name| snapshot.pool(&name)) {
        Some(pool) if pool.is_up() => text(StatusCode::OK, "ok\n"),
        Some(_) => text(StatusCode::SERVICE_UNAVAILABLE, "no server available\n"),
        None => text(StatusCode::NOT_FOUND, "no such pool\n"),
    }
}

/// The numbers of the cluster. When it does not answer in time the others are told without them.
async fn gathered(context: &Context) -> Vec<metrics::Gathered> {
    match &context.figures {
        Some(source) => timeout(MEMBERS_TIMEOUT, source()).await.unwrap_or_default(),
        None => Vec::new(),
    }
}

/// The members; none without a cluster, `None` when it does not answer.
async fn members(context: &Context) -> Option<Vec<MemberRow>> {
    match &context.members {
        Some(source) => timeout(MEMBERS_TIMEOUT, source()).await.ok(),
        None => Some(Vec::new()),
    }
}

/// A response whose body was made, or an apology: a stats page that fails is a bug, and must not take traffic with it.
fn rendered<E: std::fmt::Display>(body: Result<Vec<u8>, E>, kind: &'static str) -> Response<Full<Bytes>> {
    match body {
        Ok(body) => response(StatusCode::OK, kind, body.into()),
        Err(error) => {
            tracing::error!("the admin server can't write its answer: {error}");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n")
        }
    }
}

fn text(status: StatusCode, body: &'static str) -> Response<Full<Bytes>> {
    response(status, "text/plain; charset=utf-8", Bytes::from_static(body.as_bytes()))
}

/// Nothing but the page's own style may be loaded, and nobody may frame it.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
                                       form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

fn html(page: String) -> Response<Full<Bytes>> {
    let mut response = response(StatusCode::OK, "text/html; charset=utf-8", page.into());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(CONTENT_SECURITY_POLICY));
    // With "no-referrer", a browser would not tell where the page's own forms come from either.
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    response
}

fn response(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
