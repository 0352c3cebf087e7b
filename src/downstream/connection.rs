//! One connection of a client: head, request, response, and again.

use std::{
    cell::RefCell,
    convert::Infallible,
    error::Error,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version, response};
use http_body::Body;
use tower::Service;

use super::{
    incoming::Incoming,
    wire::{Wire, is_blank},
};
use crate::{
    h1::{Limits, Lines, Manner, ParseError, RequestHead, ResponseFraming, parse_request},
    net::{Metered, leave_buffer},
};

/// A client's connection that is served.
pub struct Connection<S: Service<Request<Incoming>>, B> {
    wire: Rc<RefCell<Wire>>,
    service: S,
    limits: Limits,
    stage: Stage<B>,
    /// The request in progress; its room is used for one after the other.
    future: Pin<Box<Option<S::Future>>>,
    /// How its response must look.
    manner: Manner,
    /// Whether what was read is worth a try to parse it.
    may_be_head: bool,
    /// Whether the connection ends after the request in progress.
    ends: bool,
    /// Room for the headers of the next request.
    spare: HeaderMap,
}

/// A response.
#[derive(Debug)]
pub struct Answer<B> {
    /// Status and headers.
    pub parts: response::Parts,
    /// More headers.
    pub lines: Lines,
    /// Body.
    pub body: B,
    /// A map that is not needed any more: its room is that of the next request's headers.
    pub spare: HeaderMap,
}

impl<B> From<Response<B>> for Answer<B> {
    fn from(response: Response<B>) -> Self {
        let (parts, body) = response.into_parts();
        Self { parts, lines: Lines::default(), body, spare: HeaderMap::new() }
    }
}

/// What the connection is about.
#[derive(Debug)]
enum Stage<B> {
    /// To read the head of a request.
    Head,
    /// To wait for a response.
    Request,
    /// To pass the response's body on.
    Response(B, ResponseFraming),
    /// To write what is left, and end.
    End,
    /// To write what is left of a response that broke off.
    Break,
}

/// Why a connection ended otherwise than in good order.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// What came is no request. Nothing has been answered.
    #[error("no request: {0}")]
    Head(#[from] ParseError),
    /// The client left in the middle of a head.
    #[error("the client left in the middle of a head")]
    HeadEnds,
    /// The client left before it had its response.
    #[error("the client left before it had its response")]
    Gone,
    /// The response broke off.
    #[error("the response broke off")]
    Response,
    /// The connection is broken.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl<S, B> Connection<S, B>
where
    S: Service<Request<Incoming>, Response: Into<Answer<B>>, Error = Infallible>,
    B: Body<Data = Bytes, Error: Error> + Unpin,
{
    /// Serves the requests of `socket` with `service`, which must always be ready.
    pub fn new(socket: Metered, service: S, limits: Limits) -> Self {
        Self {
            wire: Rc::new(RefCell::new(Wire::new(socket))),
            service,
            limits,
            stage: Stage::Head,
            future: Box::pin(None),
            manner: Manner { is_head: false, old: false, keep_alive: true },
            may_be_head: false,
            ends: false,
            spare: HeaderMap::new(),
        }
    }

    /// Ends the connection after the request in progress, or at the next poll if there is none and nothing of one has come.
    pub fn end(&mut self) {
        self.ends = true;
        self.manner.keep_alive = false;
    }

    /// Gives the socket back, with what was read of another request; `None` when it has been given to who wanted it for
    /// another protocol.
    pub fn into_socket(self) -> Option<Metered> {
        let Self { wire, future, stage, .. } = self;
        // Each has a hand on the wire.
        drop((future, stage));
        let Wire { mut socket, rest, upgrade, .. } = Rc::into_inner(wire)?.into_inner();
        if upgrade.is_some() || !is_blank(&rest) {
            socket.unread(rest);
        }
        match upgrade {
            Some(upgrade) => {
                // Whoever wanted it may be gone.
                let _socket = upgrade.send(socket);
                None
            }
            None => Some(socket),
        }
    }

    /// Serves until the connection ends: in good order, when everything has been written, or broken.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            match &mut self.stage {
                Stage::Head => {
                    ready!(self.wire.borrow_mut().poll_flush(cx))?;
                    match ready!(self.poll_head(cx))? {
                        Some(head) => self.begin(head),
                        None => self.stage = Stage::End,
                    }
                }
                Stage::Request => {
                    let Some(future) = self.future.as_mut().as_pin_mut() else {
                        self.stage = Stage::End;
                        continue;
                    };
                    match future.poll(cx) {
                        Poll::Ready(Ok(response)) => self.respond(response.into()),
                        Poll::Pending => return self.wait(cx),
                    }
                }
                Stage::Response(..) => match self.poll_body(cx)? {
                    Poll::Ready(()) => {}
                    Poll::Pending => return self.wait(cx),
                },
                Stage::End => {
                    let mut wire = self.wire.borrow_mut();
                    ready!(wire.poll_flush(cx))?;
                    wire.socket.end_broken(false);
                    return Poll::Ready(Ok(()));
                }
                Stage::Break => {
                    ready!(self.wire.borrow_mut().poll_flush(cx))?;
                    return Poll::Ready(Err(Broken::Response));
                }
            }
        }
    }

    /// The next head; `None` when there is no further request.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<RequestHead>, Broken>> {
        let wire = &mut *self.wire.borrow_mut();
        loop {
            if std::mem::take(&mut self.may_be_head) {
                leave_buffer(&mut wire.rest);
                if let Some(head) = parse_request(&wire.rest, self.limits, &mut self.spare)? {
                    let _head = wire.rest.split_to(head.length);
                    return Poll::Ready(Ok(Some(head)));
                }
            }
            let before = wire.rest.len();
            match wire.poll_read(cx) {
                Poll::Pending if self.ends && is_blank(&wire.rest) => return Poll::Ready(Ok(None)),
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) if is_blank(&wire.rest) => return Poll::Ready(Err(error.into())),
                Poll::Ready(Ok(0)) if is_blank(&wire.rest) => return Poll::Ready(Ok(None)),
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(Broken::HeadEnds)),
                // A head that drips costs no more than its bytes: it is parsed again only when a line has come to its end.
                Poll::Ready(Ok(_)) => {
                    let ends_line = before == 0 || wire.rest[before..].contains(&b'\n');
                    self.may_be_head = ends_line || wire.rest.len() >= self.limits.head;
                }
            }
        }
    }

    fn begin(&mut self, head: RequestHead) {
        let RequestHead { parts, body, keep_alive, expects_continue, length: _ } = head;
        {
            let wire = &mut *self.wire.borrow_mut();
            wire.turn += 1;
            wire.is_answered = false;
            wire.body = body;
            wire.expects_continue = expects_continue;
            wire.upgrade = None;
        }
        self.manner = Manner {
            is_head: parts.method == Method::HEAD,
            old: parts.version < Version::HTTP_11,
            keep_alive: keep_alive && !self.ends,
        };
        let future = self.service.call(Request::from_parts(parts, Incoming::new(&self.wire)));
        self.future.set(Some(future));
        self.stage = Stage::Request;
    }

    fn respond(&mut self, answer: Answer<B>) {
        self.future.set(None);
        let Answer { parts, lines, body, spare } = answer;
        // Before the wire is borrowed: the body may have a hand on it, too.
        let length = body.size_hint().exact();
        let mut wire = self.wire.borrow_mut();
        wire.is_answered = true;
        // Whoever has its answer is not asked for its body any more.
        wire.expects_continue = false;
        let (framing, keeps) = wire.outbox.response(&parts, &lines, self.manner, length);
        self.manner.keep_alive = keeps;
        // Its client takes the end of the connection for the end of the body: until all of it is written, that must not
        // look like one.
        wire.socket.end_broken(framing == ResponseFraming::UntilClose);
        if parts.status == StatusCode::SWITCHING_PROTOCOLS {
            self.stage = Stage::End;
        } else {
            wire.upgrade = None;
            self.stage = Stage::Response(body, framing);
        }
        self.spare = spare;
        self.spare.clear();
    }

    /// Passes the response's body on, as far as there is room; ready when it is complete, though not all of it is written.
    fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        while let Stage::Response(body, framing) = &mut self.stage {
            let has_room = self.wire.borrow().outbox.has_room();
            if !has_room {
                ready!(self.wire.borrow_mut().poll_flush(cx))?;
            }
            let is_complete = *framing == ResponseFraming::Empty || body.is_end_stream();
            let frame = if is_complete { Poll::Ready(None) } else { Pin::new(body).poll_frame(cx) };
            // Only now, for the same reason.
            let mut wire = self.wire.borrow_mut();
            let trailers = match frame {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        if let ResponseFraming::Length(left) = framing {
                            *left = left.checked_sub(data.len() as u64).ok_or(Broken::Response)?;
                        }
                        wire.outbox.data(data);
                        continue;
                    }
                    Err(frame) => frame.into_trailers().ok(),
                },
                Poll::Ready(None) => None,
                Poll::Ready(Some(Err(_))) => {
                    drop(wire);
                    self.stage = Stage::Break;
                    break;
                }
                Poll::Pending => return Poll::Pending,
            };
            if matches!(framing, ResponseFraming::Length(1..)) {
                return Poll::Ready(Err(Broken::Response));
            }
            wire.outbox.end(trailers.as_ref());
            self.may_be_head = !wire.rest.is_empty();
            let keeps = self.manner.keep_alive && wire.body.is_done();
            drop(wire);
            self.stage = if keeps { Stage::Head } else { Stage::End };
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for the service or for its body, unless the client is gone.
    fn wait(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        let wire = &mut *self.wire.borrow_mut();
        let _later = wire.poll_flush(cx)?;
        self.may_be_head = true;
        if wire.poll_gone(cx) { Poll::Ready(Err(Broken::Gone)) } else { Poll::Pending }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Pulse;
    use http_body_util::{BodyExt, Empty, Full};
    use std::{future::poll_fn, time::Duration};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::{TcpListener, TcpStream},
        time::timeout,
    };

    #[tokio::test(flavor = "local")]
    async fn what_stands_behind_a_body_does_not_keep_its_buffer() {
        const BODY: usize = 100 * 1024;
        for answers in [true, false] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            let socket = Metered::new(listener.accept().await.unwrap().0, Pulse::begin());
            let swallow = tower::service_fn(async |request: Request<Incoming>| {
                request.into_body().collect().await.unwrap();
                if !answers {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(Response::new(Empty::new()))
            });
            let mut connection = Connection::<_, Empty<Bytes>>::new(socket, swallow, Limits { head: 1024 });
            let text = format!("PUT / HTTP/1.1\r\nContent-Length: {BODY}\r\n\r\n{}GET /next HT", "x".repeat(BODY));
            let half_read = poll_fn(|cx: &mut Context<'_>| {
                assert!(connection.poll(cx).is_pending());
                let is_waiting = matches!(connection.stage, Stage::Head) == answers;
                let wire = connection.wire.borrow();
                let is_half_read = wire.turn == 1 && is_waiting && &wire.rest[..] == b"GET /next HT";
                if is_half_read { Poll::Ready(()) } else { Poll::Pending }
            });
            let both = futures_util::future::join(client.write_all(text.as_bytes()), half_read);
            timeout(Duration::from_secs(15), both).await.unwrap().0.unwrap();
            assert!(connection.wire.borrow().rest.is_unique(), "answered: {answers}");
        }
    }

    #[tokio::test(flavor = "local")]
    async fn a_request_has_no_header_of_the_one_whose_map_it_got() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let socket = Metered::new(listener.accept().await.unwrap().0, Pulse::begin());
        let name_all = tower::service_fn(async |request: Request<Incoming>| {
            let headers = request.into_parts().0.headers;
            let names: Vec<_> = headers.keys().map(http::HeaderName::as_str).collect();
            let answer = Answer::from(Response::new(Full::from(names.join(","))));
            Ok::<_, Infallible>(Answer { spare: headers, ..answer })
        });
        let mut connection = Connection::<_, Full<Bytes>>::new(socket, name_all, Limits { head: 1024 });
        let text = "GET / HTTP/1.1\r\na: 1\r\nb: 2\r\n\r\nGET / HTTP/1.1\r\nb: 3\r\nConnection: close\r\n\r\n";
        client.write_all(text.as_bytes()).await.unwrap();
        let served = poll_fn(|cx: &mut Context<'_>| connection.poll(cx));
        timeout(Duration::from_secs(15), served).await.unwrap().unwrap();
        drop(connection);
        let mut got = String::new();
        client.read_to_string(&mut got).await.unwrap();
        let bodies: Vec<_> = got.split("\r\n\r\n").skip(1).map(|rest| rest.split("HTTP").next().unwrap()).collect();
        assert_eq!(bodies, ["a,b", "b"], "{got}");
    }
}
