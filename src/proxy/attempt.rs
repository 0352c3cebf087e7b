//! One try to get a response from one server.

use std::{
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode, header, request, response};

use super::{
    client::Client,
    exchange::Exchange,
    progress::{Progress, Upload},
    upload::Sending,
};
use crate::{
    downstream::Aside,
    h1::{Framing, Limits, Lines},
    http_rules::{Fault, HopByHop, strip_hop_by_hop},
    net::{Millis, now_coarse},
    registry::{Server, Trouble},
    retry::Failure,
    upstream::{ConnectError, Link, ReadError},
};

/// How long a body that the client wants to be asked for waits for a server that does not ask (RFC 9110 section 10.1.1
/// lets a client wait no longer than it likes).
const CONTINUE: Duration = Duration::from_secs(1);

/// A try that brought no response.
#[derive(Debug)]
pub(super) enum Failed {
    /// Nothing can be done about it.
    Final(Fault),
    /// The request is still whole, and `retry` decides.
    Open {
        /// What happened.
        failure: Failure,
        /// What the client gets if this was the last try.
        fault: Fault,
    },
}

/// A request to be tried, with what is known of it.
#[derive(Debug)]
pub(super) struct Outgoing<'a> {
    /// Its head.
    pub(super) parts: &'a request::Parts,
    /// What the server is told of its client.
    pub(super) told: &'a Lines,
    /// Its body.
    pub(super) sending: &'a mut Sending,
    /// Whether the client waits to be asked for the body.
    pub(super) expects_continue: bool,
    /// The client's side, if it understands responses in between (HTTP/1.1).
    pub(super) aside: Option<&'a Aside>,
}

/// Opens a connection to the server.
pub(super) async fn open(server: &Server, exchange: &mut Exchange) -> Result<Box<Link>, Failed> {
    let Client { worker, settings, .. } = &*Rc::clone(&exchange.client);
    let since = Instant::now();
    let (fault, trouble) = match worker.connect(server.address, settings.timeouts.connect).await {
        Ok(stream) => {
            let link = Link::new(stream);
            exchange.connected(Some(since), &link);
            return Ok(link);
        }
        Err(ConnectError::Timeout(_)) => (Fault::ConnectTimeout, Trouble::Silent),
        Err(ConnectError::Refused(_)) => (Fault::ConnectRefused, Trouble::Refused),
        // No other server could be reached either.
        Err(ConnectError::Shortage(_)) => return Err(Failed::Final(Fault::NoDescriptor)),
    };
    worker.registry.note_trouble(server, trouble);
    exchange.connect_failed();
    Err(Failed::Open { failure: Failure::Connect, fault })
}

/// Sends the request on a connection and waits for the head of the response.
pub(super) async fn ask(
    link: &mut Link,
    outgoing: &mut Outgoing<'_>,
    client: &Client,
) -> Result<response::Parts, Failed> {
    link.begin(outgoing.parts, outgoing.told, outgoing.sending.framing());
    let has_body = outgoing.sending.framing() != Framing::Empty;
    let asked_for = (outgoing.expects_continue && has_body).then(|| now_coarse().after(CONTINUE));
    let answer = Ask { link, outgoing, client, asked_for, owed: None }.await;
    client.wake_at(None);
    answer
}

/// Waits for the head of a response while the request is sent.
struct Ask<'a, 'b> {
    link: &'a mut Link,
    outgoing: &'a mut Outgoing<'b>,
    client: &'a Client,
    /// When the body is sent without having been asked for; `None` when it may be sent.
    asked_for: Option<Millis>,
    /// Since when the server owes a response.
    owed: Option<Millis>,
}

impl Future for Ask<'_, '_> {
    type Output = Result<response::Parts, Failed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        loop {
            if let Err(failed) = this.send(cx) {
                return Poll::Ready(Err(failed));
            }
            let limits = Limits { head: this.client.settings.limits.head };
            match this.link.poll_head(cx, limits) {
                Poll::Ready(Ok(parts)) if is_interim(parts.status) => this.pass_interim(parts),
                Poll::Ready(result) => return Poll::Ready(result.map_err(|error| this.failed(&error))),
                Poll::Pending => {
                    let now = now_coarse();
                    if this.asked_for.is_some_and(|deadline| deadline <= now) {
                        this.asked_for = None;
                        continue;
                    }
                    return this.poll_silence(now);
                }
            }
        }
    }
}

impl Ask<'_, '_> {
    /// Sends what can be sent; only the head while the body has not been asked for.
    fn send(&mut self, cx: &mut Context<'_>) -> Result<(), Failed> {
        let refused = if self.asked_for.is_some() {
            matches!(self.link.poll_flush(cx), Poll::Ready(Err(_)))
        } else {
            let sending = &mut *self.outgoing.sending;
            if sending.poll(self.link, cx).is_err() {
                return Err(Failed::Final(sending.upload().and_then(client_fault).unwrap_or(Fault::ClientBody)));
            }
            sending.is_refused()
        };
        // A server that takes no more may have answered; one that took nothing has not.
        if refused && self.link.has_sent_nothing() {
            return Err(Failed::Open { failure: Failure::NotSent, fault: Fault::ConnectRefused });
        }
        Ok(())
    }

    fn pass_interim(&mut self, mut parts: response::Parts) {
        if parts.status == StatusCode::CONTINUE {
            // The client is asked as soon as the body is wanted.
            self.asked_for = None;
        } else if let Some(aside) = self.outgoing.aside {
            prepare_interim(&mut parts.headers);
            aside.interim(parts.status, &parts.headers);
        }
    }

    /// No response yet: waits on, or gives up.
    fn poll_silence(&mut self, now: Millis) -> Poll<Result<response::Parts, Failed>> {
        let deadline = if self.outgoing.sending.upload().is_some_and(Upload::waits) {
            // The server is silent by right: the client owes the next piece.
            self.owed = None;
            None
        } else {
            // Bytes of a head count only when all of it has come.
            let since = (*self.owed.get_or_insert(now)).max(self.link.last_written());
            Some(since.after(self.client.settings.timeouts.server))
        };
        if deadline.is_some_and(|deadline| deadline <= now) {
            let fault = Fault::ServerTimeout;
            return Poll::Ready(Err(if self.link.has_begun() {
                Failed::Final(fault)
            } else {
                Failed::Open { failure: Failure::Silence, fault }
            }));
        }
        self.client.wake_at([deadline, self.asked_for].into_iter().flatten().min());
        Poll::Pending
    }

    fn failed(&self, error: &ReadError) -> Failed {
        tracing::debug!("no response: {error}");
        match error {
            ReadError::Closed => Failed::Open { failure: Failure::ClosedBeforeResponse, fault: Fault::ServerClosed },
            ReadError::Reset => Failed::Open { failure: Failure::ResetBeforeResponse, fault: Fault::ServerClosed },
            ReadError::Broken => Failed::Final(Fault::ServerClosed),
            ReadError::Head(_) | ReadError::Body(_) | ReadError::Interim => Failed::Final(Fault::InvalidResponse),
        }
    }
}

fn is_interim(status: StatusCode) -> bool {
    status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS
}

/// Makes the headers of a response in between what the client gets.
fn prepare_interim(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers, HopByHop::Others);
    // It has no body, and a server could set our own cookie by it.
    for name in [header::CONTENT_LENGTH, header::TRANSFER_ENCODING, header::TRAILER, header::SET_COOKIE] {
        headers.remove(name);
    }
}

/// What the client did to its body.
fn client_fault(upload: &Upload) -> Option<Fault> {
    match upload.progress() {
        Progress::Expired => Some(Fault::ClientTimeout),
        Progress::TooLarge => Some(Fault::BodyTooLarge),
        Progress::Broken => Some(Fault::ClientBody),
        Progress::Open | Progress::Waiting | Progress::Complete | Progress::Cancelled => None,
    }
}
