//! Chooses a server, sends the request, sends it again when that is right, and brings the response back.

use std::{convert::Infallible, rc::Rc, sync::Arc};

use http::{HeaderValue, StatusCode, Version, header, request, response};
use http_body::Body;

use super::{
    attempt::{Failed, Outgoing, ask, open},
    body::{Download, RequestBody, ResponseBody},
    client::Client,
    exchange::Exchange,
    progress::Upload,
    queue::find_place,
    sticky::Sticky,
    tunnel,
    upload::Sending,
    verdict::tell,
};
use crate::{
    downstream::{Answer, Incoming},
    http_rules::{Added, Fault, Screened, prepare_forwarding, prepare_response, strip_hop_by_hop},
    registry::Server,
    retry::{Decision, Failure, History, decide, is_idempotent, is_safe},
    upstream::Link,
};

/// A request that keeps the rules.
pub(super) struct Passed {
    pub(super) parts: request::Parts,
    pub(super) body: Incoming,
    pub(super) screened: Screened,
    pub(super) exchange: Box<Exchange>,
}

/// Answers a request, whatever happens.
pub(super) async fn forward(passed: Passed) -> Result<Answer<ResponseBody>, Infallible> {
    let Passed { parts: mut asked, body, screened, mut exchange } = passed;
    let client = Rc::clone(&exchange.client);
    let upload = begin_upload(&exchange, &body);
    let upgrade = screened.upgrade.map(|_| body.upgrade());
    let aside = body.aside();
    let added = prepare_request(&mut asked, screened, &client);
    let sticky = read_cookies(&mut asked, screened, &client, &mut exchange);
    if exchange.old && !asked.headers.contains_key(header::HOST) {
        // HTTP/1.1 needs one (RFC 9112 section 3.2); without any, it is the address that was dialled.
        let dialled = client.local(&aside).and_then(|dialled| HeaderValue::try_from(dialled.to_string()).ok());
        asked.headers.extend(dialled.map(|host| (header::HOST, host)));
    }
    let told = client.told(added);
    let most = client.settings.limits.body.unwrap_or(u64::MAX);
    let mut sending = Sending::new(upload.map(|upload| RequestBody::new(body, &upload, most)));
    let aside = (!exchange.old).then_some(&aside);
    let outgoing = Outgoing {
        parts: &asked,
        told: &told,
        sending: &mut sending,
        expects_continue: screened.expects_continue,
        aside,
    };
    let answered = send(outgoing, &sticky, &mut exchange).await.and_then(|answer| {
        let Arrived { mut parts, mut link, server } = answer;
        prepare_response(&mut parts, client.asked(screened)).map_err(|invalid| {
            tracing::debug!("{} gave no valid response: {invalid}", server.name);
            Fault::InvalidResponse
        })?;
        let mut lines = link.take_lines();
        sticky.answer(&mut parts, &mut lines, &server, &mut exchange);
        if !sending.is_complete() {
            // What is left of the request is not read once the response has ended.
            parts.headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        exchange.responded(&parts, &lines);
        Ok((parts, lines, link, server))
    });
    let (parts, lines, link, server) = match answered {
        Ok(answered) => answered,
        Err(fault) => return Ok(exchange.refuse(fault)),
    };
    if let (StatusCode::SWITCHING_PROTOCOLS, Some(client_side)) = (parts.status, upgrade) {
        return Ok(tunnel::open(parts, lines, link, client_side, exchange));
    }
    let download = Download::new(link, server, sending, &client, screened.trailers);
    Ok(Answer { parts, lines, body: ResponseBody::server(download, exchange), spare: asked.headers })
}

/// The head of a response with the connection it came on.
struct Arrived {
    parts: response::Parts,
    link: Box<Link>,
    server: Arc<Server>,
}

fn begin_upload(exchange: &Exchange, body: &Incoming) -> Option<Rc<Upload>> {
    if body.is_end_stream() {
        return None;
    }
    Some(exchange.client.begin_upload())
}

/// Makes the head that the server gets, but for its cookies and for what is added to it.
fn prepare_request(parts: &mut request::Parts, screened: Screened, client: &Client) -> Added {
    strip_hop_by_hop(&mut parts.headers, screened.hop_by_hop);
    if let Some(protocol) = client.asked(screened) {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(header::UPGRADE, protocol.clone());
    } else if screened.trailers {
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("TE"));
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    }
    parts.version = Version::HTTP_11;
    prepare_forwarding(&mut parts.headers, client.forwarding.trusted, screened.has_forwarding)
}

/// Reads the cookies, and makes of them what the server gets.
fn read_cookies(parts: &mut request::Parts, screened: Screened, client: &Client, exchange: &mut Exchange) -> Sticky {
    let Some(pool) = client.worker.pool(&client.frontend.pool) else {
        return Sticky::default();
    };
    exchange.enter(&pool);
    Sticky::read(&mut parts.headers, screened.has_cookie, pool, exchange)
}

/// Sends the request to one server after another until one answers or `retry` says that it is enough.
async fn send(mut outgoing: Outgoing<'_>, sticky: &Sticky, exchange: &mut Exchange) -> Result<Arrived, Fault> {
    let client = Rc::clone(&exchange.client);
    let repeatable = outgoing.sending.upload().is_none() && is_idempotent(&outgoing.parts.method);
    let safe = is_safe(&outgoing.parts.method);
    let (mut named, mut again) = (sticky.server.clone(), None);
    let (mut tried, mut silent, mut connect_failures, mut resent) = (Vec::new(), Vec::new(), 0, false);
    loop {
        let pool = client.worker.pool(&client.frontend.pool).ok_or(Fault::NoServer)?;
        let (server, kept) = match again.take() {
            Some(server) => (server, None),
            None => {
                let server = find_place(&pool, named.take(), &tried, outgoing.parts, exchange).await?;
                sticky.goes_to(&server, exchange);
                let kept = if resent { None } else { client.worker.idle.borrow_mut().take(server.id) };
                (server, kept)
            }
        };
        let reused = kept.is_some();
        let outcome = attempt(&mut outgoing, &server, kept, exchange).await;
        tell(&client, &pool, &server, &outcome, reused);
        let (failure, fault) = match outcome {
            Ok((parts, link)) => return Ok(Arrived { parts, link, server }),
            Err(Failed::Final(fault)) => return Err(fault),
            Err(Failed::Open { failure, fault }) => (failure, fault),
        };
        match failure {
            Failure::Silence => silent.push(server.id),
            Failure::Connect | Failure::NotSent | Failure::ClosedBeforeResponse | Failure::ResetBeforeResponse => {
                connect_failures += u32::from(!reused)
            }
        }
        tried.push(server.id);
        // It may have waited long for its place: the pool is another one now.
        let pool = client.worker.pool(&client.frontend.pool).ok_or(fault)?;
        let history = History {
            connect_failures,
            silences: u32::try_from(silent.len()).unwrap_or(u32::MAX),
            retries: pool.policy.retries,
            retry_on: pool.policy.retry_on,
            resent,
            reused,
            repeatable,
            safe,
            others_left: pool.has_other_than(&tried),
            any_left: silent.is_empty() || pool.has_other_than(&silent),
            sticky: sticky.server.as_ref().is_some_and(|named| named.id == server.id),
        };
        let was_sent = match failure {
            Failure::ClosedBeforeResponse | Failure::ResetBeforeResponse | Failure::Silence => true,
            Failure::Connect | Failure::NotSent => false,
        };
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
                tried.clone_from(&silent);
                // A pause needs no place: others may be served meanwhile.
                exchange.leave_server();
                tokio::time::sleep(after).await;
            }
        }
    }
}

/// Sends the request to one server, on the connection that was kept or on a new one.
async fn attempt(
    outgoing: &mut Outgoing<'_>,
    server: &Server,
    kept: Option<Box<Link>>,
    exchange: &mut Exchange,
) -> Result<(response::Parts, Box<Link>), Failed> {
    let mut link = match kept {
        Some(link) => {
            exchange.connected(None, &link);
            link
        }
        None => open(server, exchange).await?,
    };
    match ask(&mut link, outgoing, &exchange.client).await {
        Ok(parts) => Ok((parts, link)),
        Err(failed) => {
            outgoing.sending.restart(&mut link);
            Err(failed)
        }
    }
}
