//! Chooses a server, sends the request, sends it again when that is right, and brings the response back.

use std::{convert::Infallible, rc::Rc, sync::Arc, time::Instant};

use http::{HeaderValue, Request, Response, StatusCode, Version, header, request, response};
use http_body::Body;
use hyper::body::Incoming;

use super::{
    body::{Download, RequestBody, ResponseBody},
    client::{Client, Progress, Upload},
    exchange::{Exchange, copy_head},
    tunnel,
};
use crate::{
    http_rules::{Fault, Screened, add_forwarding_headers, prepare_response, strip_hop_by_hop},
    model::{Candidacy, CookiePolicy, StickyRequest, StickyResponse},
    registry::{Pool, Server},
    retry::{Decision, Failure, History, decide, is_idempotent},
    sticky,
    upstream::{ConnectError, Link, SendError},
};

/// A request that keeps the rules.
pub(super) struct Passed {
    pub(super) parts: request::Parts,
    pub(super) body: Incoming,
    pub(super) screened: Screened,
    pub(super) exchange: Box<Exchange>,
}

/// Answers a request, whatever happens.
pub(super) async fn forward(passed: Passed) -> Result<Response<ResponseBody>, Infallible> {
    let Passed { parts, body, screened, mut exchange } = passed;
    let upload = begin_upload(&exchange, &body);
    let mut request = Request::from_parts(parts, ());
    let upgrade = screened.websocket.then(|| hyper::upgrade::on(&mut request));
    let (mut parts, ()) = request.into_parts();
    let sticky = prepare_request(&mut parts, screened, &mut exchange);
    let body = match &upload {
        None => RequestBody::Empty,
        Some(upload) => RequestBody::Client {
            incoming: body,
            upload: Rc::clone(upload),
            most: exchange.client.settings.limits.body.unwrap_or(u64::MAX),
        },
    };
    let sent = send(Request::from_parts(parts, body), upload.as_deref(), &sticky, &mut exchange).await;
    let answered = sent.and_then(|answer| {
        let Answer { response, link, server } = answer;
        let (mut parts, incoming) = response.into_parts();
        prepare_response(&mut parts, upgrade.is_some()).map_err(|invalid| {
            tracing::debug!("{} gave no valid response: {invalid}", server.name);
            Fault::InvalidResponse
        })?;
        issue_cookie(&mut parts, &sticky, &server, &mut exchange);
        parts.version = Version::HTTP_11;
        exchange.responded(&parts);
        Ok((parts, incoming, link, server))
    });
    let (parts, incoming, link, server) = match answered {
        Ok(answered) => answered,
        Err(fault) => return Ok(exchange.refuse(fault)),
    };
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client_side)) = (parts.status, upgrade) {
        return Ok(tunnel::open(parts, incoming, client_side, exchange));
    }
    let download = Download { incoming, link, server, upload, ended: false };
    Ok(Response::from_parts(parts, ResponseBody::server(download, exchange)))
}

/// What stickiness asks for.
struct Sticky {
    /// The pool, if it has a cookie.
    pool: Option<Arc<Pool>>,
    /// The server that the cookie names, when it may be used.
    server: Option<Arc<Server>>,
}

/// A response with the connection it came on.
struct Answer {
    response: Response<Incoming>,
    link: Link<RequestBody>,
    server: Arc<Server>,
}

fn begin_upload(exchange: &Exchange, body: &Incoming) -> Option<Rc<Upload>> {
    if body.is_end_stream() {
        return None;
    }
    let upload = Rc::new(Upload::default());
    exchange.client.begin_upload(&upload);
    Some(upload)
}

/// Makes the head that the server gets.
fn prepare_request(parts: &mut request::Parts, screened: Screened, exchange: &mut Exchange) -> Sticky {
    let client = Rc::clone(&exchange.client);
    if screened.has_hop_by_hop {
        strip_hop_by_hop(&mut parts.headers);
    }
    if screened.websocket {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    }
    add_forwarding_headers(&mut parts.headers, &client.forwarding, screened.has_forwarding);
    if parts.version < Version::HTTP_11 && !parts.headers.contains_key(header::HOST) {
        // HTTP/1.1 needs one (RFC 9112 section 3.2); without any, it is the address that was dialled.
        if let Ok(host) = HeaderValue::try_from(client.local.to_string()) {
            parts.headers.insert(header::HOST, host);
        }
    }
    parts.version = Version::HTTP_11;
    let Some(pool) = client.worker.pool(&client.frontend.pool) else {
        return Sticky { pool: None, server: None };
    };
    exchange.enter(&pool);
    let Some(CookiePolicy { name }) = &pool.policy.cookie else { return Sticky { pool: None, server: None } };
    let cookie = screened.has_cookie.then(|| sticky::find(&parts.headers, name)).flatten();
    let (found, server) = match cookie {
        None => (StickyRequest::None, None),
        Some(value) => match pool.by_cookie(value) {
            None => (StickyRequest::Invalid, None),
            Some(server) if server.candidacy() == Candidacy::Nobody => (StickyRequest::Down, None),
            Some(server) => (StickyRequest::Valid, Some(Arc::clone(server))),
        },
    };
    if found != StickyRequest::None {
        sticky::strip(&mut parts.headers, name);
    }
    exchange.termination.request = found;
    exchange.termination.response = StickyResponse::None;
    Sticky { pool: Some(pool), server }
}

/// Gives the client a cookie for the server, unless it has it already.
fn issue_cookie(parts: &mut response::Parts, sticky: &Sticky, server: &Server, exchange: &mut Exchange) {
    let Some(pool) = &sticky.pool else { return };
    if let Some(CookiePolicy { name }) = &pool.policy.cookie {
        sticky::strip_response(&mut parts.headers, name);
    }
    let has_it = sticky.server.as_ref().is_some_and(|named| named.id == server.id);
    // A server that has left meanwhile has no line any more: its next request is balanced anew.
    if let (false, Some(cookie)) = (has_it, pool.set_cookie(server.id)) {
        sticky::issue(&mut parts.headers, parts.status, cookie.clone());
        exchange.termination.response = StickyResponse::Inserted;
    }
}

/// A try that brought no response.
enum Failed {
    /// Nothing can be done about it.
    Final(Fault),
    /// The request is still whole, and `retry` decides.
    Open { request: Box<Request<RequestBody>>, failure: Failure, fault: Fault, reused: bool },
}

/// Sends the request to one server after another until one answers or `retry` says that it is enough.
async fn send(
    mut request: Request<RequestBody>,
    upload: Option<&Upload>,
    sticky: &Sticky,
    exchange: &mut Exchange,
) -> Result<Answer, Fault> {
    let client = Rc::clone(&exchange.client);
    let repeatable = upload.is_none() && is_idempotent(request.method());
    let (mut named, mut again) = (sticky.server.clone(), None);
    let (mut tried, mut connect_failures, mut resent) = (Vec::new(), 0, false);
    loop {
        let pool = client.worker.pool(&client.frontend.pool).ok_or(Fault::NoServer)?;
        let (server, kept) = match again.take() {
            Some(server) => (server, None),
            None => {
                let balanced = named.is_none();
                let server = named.take().or_else(|| pool.choose(&tried).cloned()).ok_or(Fault::NoServer)?;
                exchange.assign(&server, balanced);
                let kept = if resent { None } else { client.worker.idle.borrow_mut().take(server.id) };
                (server, kept)
            }
        };
        let (failure, fault, reused) =
            match attempt(request, upload, repeatable && !resent, (&server, kept), exchange).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Final(fault)) => return Err(fault),
                Err(Failed::Open { request: back, failure, fault, reused }) => {
                    request = *back;
                    (failure, fault, reused)
                }
            };
        connect_failures += u32::from(!reused);
        tried.push(server.id);
        let history = History {
            connect_failures,
            retries: pool.policy.retries,
            resent,
            reused,
            repeatable,
            others_left: pool.has_other_than(&tried),
            sticky: sticky.server.as_ref().is_some_and(|named| named.id == server.id),
        };
        let was_sent = failure == Failure::ClosedBeforeResponse;
        resent |= was_sent;
        match decide(failure, history) {
            Decision::GiveUp => return Err(fault),
            Decision::Elsewhere => exchange.retried(true),
            Decision::FreshConnection => {
                if was_sent {
                    exchange.retried(false);
                }
                again = Some(server);
            }
            Decision::Again { after } => {
                exchange.retried(false);
                tried.clear();
                tokio::time::sleep(after).await;
            }
        }
    }
}

/// Sends the request to one server, on the connection that was kept or on a new one.
async fn attempt(
    request: Request<RequestBody>,
    upload: Option<&Upload>,
    repeatable: bool,
    (server, kept): (&Arc<Server>, Option<Link<RequestBody>>),
    exchange: &mut Exchange,
) -> Result<Answer, Failed> {
    let reused = kept.is_some();
    let mut link = match kept {
        Some(link) => {
            exchange.connected(None, &link);
            link
        }
        None => match open(server, exchange).await {
            Ok(link) => link,
            // No other server could be reached either.
            Err(fault @ Fault::NoDescriptor) => return Err(Failed::Final(fault)),
            Err(fault) => {
                return Err(Failed::Open { request: Box::new(request), failure: Failure::Connect, fault, reused });
            }
        },
    };
    // Only a kept connection can turn out to have been closed by a server that was tired of waiting.
    let spare = (reused && repeatable).then(|| copy_head(&request));
    if let Some(upload) = upload {
        upload.sends_to(Some(link.debt()));
    }
    let sent = link.send(request).await;
    if let Some(upload) = upload {
        upload.sends_to(None);
    }
    let error = match sent {
        Ok(response) => return Ok(Answer { response, link, server: Arc::clone(server) }),
        Err(error) => error,
    };
    Err(match error {
        SendError::Timeout => Failed::Final(Fault::ServerTimeout),
        SendError::Invalid(_) => Failed::Final(Fault::InvalidResponse),
        SendError::Broken(_) => Failed::Final(Fault::ServerClosed),
        SendError::NotSent(request) => {
            Failed::Open { request, failure: Failure::NotSent, fault: Fault::ConnectRefused, reused }
        }
        SendError::Closed(_) => match (upload.and_then(client_fault), spare) {
            (Some(fault), _) => Failed::Final(fault),
            (None, None) => Failed::Final(Fault::ServerClosed),
            (None, Some(request)) => {
                let failure = Failure::ClosedBeforeResponse;
                Failed::Open { request: Box::new(request), failure, fault: Fault::ServerClosed, reused }
            }
        },
    })
}

/// Opens a connection to the server and starts the task that drives it.
async fn open(server: &Server, exchange: &mut Exchange) -> Result<Link<RequestBody>, Fault> {
    let Client { worker, settings, .. } = &*Rc::clone(&exchange.client);
    let since = Instant::now();
    let fault = match worker.connect(server.address, settings.timeouts.connect).await {
        Ok(stream) => match Link::new(stream, settings.link_limits()).await {
            Ok((link, drive)) => {
                tokio::task::spawn_local(drive);
                exchange.connected(Some(since), &link);
                return Ok(link);
            }
            Err(_) => Fault::ConnectRefused,
        },
        Err(ConnectError::Timeout(_)) => Fault::ConnectTimeout,
        Err(ConnectError::Refused(_)) => Fault::ConnectRefused,
        Err(ConnectError::Shortage(_)) => return Err(Fault::NoDescriptor),
    };
    exchange.connect_failed();
    Err(fault)
}

/// What the client did to its body that made the server's connection end.
fn client_fault(upload: &Upload) -> Option<Fault> {
    match upload.progress() {
        Progress::Expired => Some(Fault::ClientTimeout),
        Progress::TooLarge => Some(Fault::BodyTooLarge),
        Progress::Broken => Some(Fault::ClientBody),
        Progress::Open | Progress::Waiting | Progress::Complete | Progress::Cancelled => None,
    }
}
