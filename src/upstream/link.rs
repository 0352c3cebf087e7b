//! One connection to a server, and the task that drives it.

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{Request, Response};
use http_body::Body;
use hyper::{
    body::Incoming,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tokio::net::TcpStream;

use crate::net::{Metered, Millis, Pulse, Watchdog, now_coarse};

/// What is asked of connections to servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkLimits {
    /// Silence of a server that owes something.
    pub silence: Duration,
    /// Head of a response, in bytes.
    pub head: usize,
}

/// Why a request got no response head.
#[derive(Debug)]
pub enum SendError<B> {
    /// Nothing of it was written; here it is.
    NotSent(Box<Request<B>>),
    /// The server was silent too long.
    Timeout,
    /// The answer is not valid HTTP.
    Invalid(hyper::Error),
    /// The connection ended before any byte of a response.
    Closed(hyper::Error),
    /// The connection ended in the middle of a response head.
    Broken(hyper::Error),
}

/// A connection to a server, ready for a request.
#[derive(Debug)]
pub struct Link<B> {
    sender: SendRequest<B>,
    pulse: Arc<Pulse>,
    debt: Rc<Debt>,
}

/// Whether the server owes us something, and since when.
#[derive(Debug, Default)]
struct Debt {
    in_use: Cell<bool>,
    since: Cell<Option<Millis>>,
    /// Whether it is a response's head: then its bytes count only when all of it has come.
    head: Cell<bool>,
    timed_out: Cell<bool>,
}

impl Debt {
    fn expect(&self, something: bool) {
        if something != self.since.get().is_some() {
            self.since.set(something.then(now_coarse));
        }
    }
}

/// What a server owes us, from the point of view of a request's body: nothing as long as the client owes us the next
/// piece of it.
#[derive(Debug)]
pub struct ServerDebt(Rc<Debt>);

impl ServerDebt {
    /// Notes whether the server owes us something now.
    pub fn expect(&self, something: bool) {
        self.0.expect(something);
    }
}

impl<B: Body + 'static> Link<B>
where
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Takes over a fresh connection. The second part drives it and must be spawned.
    ///
    /// # Errors
    /// When the connection can't be set up; for HTTP/1 it always can.
    pub async fn new(stream: TcpStream, limits: LinkLimits) -> hyper::Result<(Self, impl Future<Output = ()>)> {
        let pulse = Arc::new(Pulse::new());
        let io = TokioIo::new(Metered::new(stream, Arc::clone(&pulse)));
        let (sender, connection) = http1::Builder::new()
            // One small `send` costs less than a `writev` of two pieces.
            .writev(false)
            .max_header_size(limits.head)
            .max_buf_size(limits.head.max(64 * 1024))
            .handshake(io)
            .await?;
        let debt = Rc::new(Debt::default());
        let drive = Drive {
            connection: connection.with_upgrades(),
            watchdog: Watchdog::new(),
            pulse: Arc::clone(&pulse),
            debt: Rc::clone(&debt),
            silence: limits.silence,
        };
        Ok((Self { sender, pulse, debt }, drive))
    }

    /// Sends a request and waits for the response head.
    ///
    /// # Errors
    /// When there is none; with the request, if nothing of it was written.
    pub async fn send(&mut self, request: Request<B>) -> Result<Response<Incoming>, SendError<B>> {
        let received = self.pulse.bytes_in();
        self.debt.in_use.set(true);
        self.debt.head.set(true);
        self.expect(true);
        let result = self.sender.try_send_request(request).await;
        self.expect(false);
        self.debt.head.set(false);
        result.map_err(|mut failure| match failure.take_message() {
            _ if self.debt.timed_out.get() => SendError::Timeout,
            Some(request) => SendError::NotSent(Box::new(request)),
            None if failure.error().is_parse() => SendError::Invalid(failure.into_error()),
            None if self.pulse.bytes_in() > received => SendError::Broken(failure.into_error()),
            None => SendError::Closed(failure.into_error()),
        })
    }
}

impl<B> Link<B> {
    /// Notes whether the server owes us something now.
    pub fn expect(&self, something: bool) {
        self.debt.expect(something);
    }

    /// For one who learns later than the request is sent whether the server owes us something.
    pub fn debt(&self) -> ServerDebt {
        ServerDebt(Rc::clone(&self.debt))
    }

    /// Whether it was given up because the server was silent too long.
    pub fn timed_out(&self) -> bool {
        self.debt.timed_out.get()
    }

    /// Whether it can take a request right now.
    pub fn is_ready(&self) -> bool {
        self.sender.is_ready()
    }

    /// Whether it has ended.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Notes that no request is on it.
    pub(super) fn rest(&self) {
        self.debt.in_use.set(false);
        self.expect(false);
    }

    /// What passes through it.
    pub fn pulse(&self) -> &Arc<Pulse> {
        &self.pulse
    }
}

impl<B> Drop for Link<B> {
    fn drop(&mut self) {
        // Its task ends when the server ends the exchange; from now on that is owed, and bounded.
        self.expect(true);
    }
}

pin_project! {
    /// Drives a connection and gives it up when the server is silent too long.
    struct Drive<C> {
        #[pin]
        connection: C,
        #[pin]
        watchdog: Watchdog,
        pulse: Arc<Pulse>,
        debt: Rc<Debt>,
        silence: Duration,
    }
}

impl<C: Future> Future for Drive<C> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        // Whoever waits for the response learns of an error; an idle connection that ends is no news.
        if this.connection.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let deadline = match this.debt.since.get() {
            Some(since) => {
                let last = if this.debt.head.get() { this.pulse.last_out() } else { this.pulse.last() };
                Some(since.max(last).after(*this.silence))
            }
            // In the middle of a body that a slow client holds up: look again later.
            None => this.debt.in_use.get().then(|| now_coarse().after(*this.silence)),
        };
        if this.watchdog.poll_expired(cx, deadline) {
            this.debt.timed_out.set(true);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}
