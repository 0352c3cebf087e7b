//! One connection to a server.
//!
//! It is polled by whoever waits for it and has no task of its own: a request costs no wake-up but those of the sockets.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, Method, request, response};
use http_body::Frame;
use tokio::net::TcpStream;

use super::traffic::Traffic;
use crate::{
    h1::{BodyError, Decoder, Framing, Limits, Lines, Outbox, ParseError, Piece, parse_response},
    net::{Millis, joined, poll_read_piece, poll_write_outbox},
};

/// Responses in between (1xx) that a server may give to one request.
const MOST_INTERIM: u32 = 16;

/// Why no response, or no more of it, comes from a server.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The connection ended before any byte of a response.
    #[error("the server closed the connection before its response")]
    Closed,
    /// The connection was reset before any byte of a response.
    #[error("the server reset the connection before its response")]
    Reset,
    /// The connection ended in the middle of a response.
    #[error("the server closed the connection in the middle of its response")]
    Broken,
    /// What came is no response.
    #[error("the response is not valid: {0}")]
    Head(#[from] ParseError),
    /// What came is not the body that the head spoke of.
    #[error("the response's body is not valid: {0}")]
    Body(#[from] BodyError),
    /// Responses in between came without end.
    #[error("more than {MOST_INTERIM} informational responses")]
    Interim,
}

/// A connection to a server, with the request and the response that are on it.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    traffic: Traffic,
    outbox: Outbox,
    /// Bytes that were read and not yet taken.
    rest: Bytes,
    method: Method,
    /// Whether `rest` is worth a try to parse it.
    may_be_head: bool,
    interim: u32,
    /// Headers of the response that no rule asks for.
    lines: Lines,
    body: Decoder,
    /// Whether the exchange in progress, or the last one, leaves the connection as it found it.
    keep_alive: bool,
    /// Whether the server took no more of the request. The system tells of a reset once, and the write has heard it.
    was_refused: bool,
    /// Bytes that the last read brought: the next one is likely to bring as many.
    last_read: usize,
}

impl Link {
    /// Takes over a fresh connection. It is moved from hand to hand, hence the box.
    pub fn new(stream: TcpStream) -> Box<Self> {
        Box::new(Self {
            stream,
            traffic: Traffic::new(),
            outbox: Outbox::default(),
            rest: Bytes::new(),
            method: Method::GET,
            may_be_head: false,
            interim: 0,
            lines: Lines::default(),
            body: Decoder::Length(0),
            keep_alive: true,
            was_refused: false,
            last_read: 0,
        })
    }

    /// Begins a request: its head is written with the next [`poll_flush`](Self::poll_flush), with `added` lines behind its
    /// headers.
    pub fn begin(&mut self, parts: &request::Parts, added: &Lines, framing: Framing) {
        self.method.clone_from(&parts.method);
        self.interim = 0;
        self.keep_alive = false;
        self.was_refused = false;
        self.may_be_head = false;
        self.outbox.request(parts, added, framing);
    }

    /// Whether a piece of the request's body can be added.
    pub fn has_room(&self) -> bool {
        self.outbox.has_room()
    }

    /// Adds a piece of the request's body, when there is room.
    pub fn push_data(&mut self, data: Bytes) {
        self.outbox.data(data);
    }

    /// Adds the end of the request's body.
    pub fn push_end(&mut self, trailers: Option<&HeaderMap>) {
        self.outbox.end(trailers);
    }

    /// Writes what is to be written.
    ///
    /// # Errors
    /// When the server takes no more; it may have answered all the same.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let traffic = &self.traffic;
        let flushed = poll_write_outbox(&mut self.outbox, &mut self.stream, cx, |written| traffic.sent(written));
        self.was_refused |= matches!(flushed, Poll::Ready(Err(_)));
        flushed
    }

    /// Reads the head of a response: one in between (1xx) or the final one.
    ///
    /// # Errors
    /// When none comes.
    pub fn poll_head(&mut self, cx: &mut Context<'_>, limits: Limits) -> Poll<Result<response::Parts, ReadError>> {
        loop {
            if self.may_be_head
                && let Some(head) = parse_response(&self.rest, &self.method, limits)?
            {
                let _head = self.rest.split_to(head.length);
                self.may_be_head = !self.rest.is_empty();
                let status = head.parts.status;
                if status.is_informational() && status != http::StatusCode::SWITCHING_PROTOCOLS {
                    self.interim += 1;
                    if self.interim > MOST_INTERIM {
                        return Poll::Ready(Err(ReadError::Interim));
                    }
                } else {
                    self.lines = head.lines;
                    self.body = head.body;
                    self.keep_alive = head.keep_alive;
                }
                return Poll::Ready(Ok(head.parts));
            }
            let more = ready!(self.poll_read(cx));
            let was_reset = more.is_err();
            let more = more.unwrap_or_default();
            if more.is_empty() {
                return Poll::Ready(Err(match (self.has_begun(), was_reset) {
                    (true, _) => ReadError::Broken,
                    (false, true) => ReadError::Reset,
                    (false, false) => ReadError::Closed,
                }));
            }
            // A head that drips costs no more than its bytes: it is parsed again only when a line has come to its end.
            self.may_be_head =
                self.rest.is_empty() || more.contains(&b'\n') || self.rest.len() + more.len() >= limits.head;
            self.rest = joined(std::mem::take(&mut self.rest), more);
        }
    }

    /// Whether any byte of a response to the request in progress has come.
    pub fn has_begun(&self) -> bool {
        !self.rest.is_empty() || self.interim > 0
    }

    /// Takes the next piece of the response's body; `None` is its end.
    ///
    /// # Errors
    /// When it breaks off or is not valid.
    pub fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        loop {
            match self.body.decode(&mut self.rest) {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::More) => {}
                Err(error) => {
                    self.keep_alive = false;
                    return Poll::Ready(Some(Err(error.into())));
                }
            }
            match ready!(self.poll_read(cx)) {
                Ok(more) if !more.is_empty() => self.rest = more,
                end => {
                    self.keep_alive = false;
                    // A reset may have thrown away what had not arrived, and looks like an end once a write has met it.
                    let is_certain = self.body.is_done() || !self.was_refused;
                    let whole = end.is_ok() && self.body.may_end_here() && is_certain;
                    return Poll::Ready(if whole { None } else { Some(Err(ReadError::Broken)) });
                }
            }
        }
    }

    /// The headers of the response that are not among those which [`poll_head`](Self::poll_head) gave.
    pub fn take_lines(&mut self) -> Lines {
        std::mem::take(&mut self.lines)
    }

    /// What is left of the response's body, if that is known.
    pub fn left(&self) -> Option<u64> {
        self.body.left()
    }

    /// Whether the response's body is complete.
    pub fn is_done(&self) -> bool {
        self.body.is_done()
    }

    /// Whether it can take another request: the last response is complete, nothing is behind it, and neither side wants the
    /// connection to end. That all of the request was sent is for the caller to know.
    pub fn is_reusable(&self) -> bool {
        self.keep_alive && self.is_done() && self.rest.is_empty() && self.outbox.is_empty()
    }

    /// Whether a server has said something, or the end, while nothing was asked. tokio knows without a system call when
    /// nothing came.
    pub fn is_spoilt(&self) -> bool {
        let nothing_came = |error: &io::Error| error.kind() == io::ErrorKind::WouldBlock;
        !self.stream.try_read(&mut [0]).is_err_and(|error| nothing_came(&error))
    }

    /// What passed through it.
    pub fn traffic(&self) -> &Traffic {
        &self.traffic
    }

    /// When a byte of the request was last written.
    pub fn last_written(&self) -> Millis {
        self.traffic.last_out()
    }

    /// When a byte last passed.
    pub fn last(&self) -> Millis {
        self.traffic.last()
    }

    /// Whether nothing of the request in progress has been written.
    pub fn has_sent_nothing(&self) -> bool {
        self.outbox.has_sent_nothing()
    }

    /// Takes back what was pushed of the request's body and not written.
    pub fn take_unsent(&mut self) -> Vec<Bytes> {
        self.outbox.take_unsent()
    }

    /// The connection itself and what the server has said on it already, after a protocol was switched.
    pub fn into_tunnel(self: Box<Self>) -> (TcpStream, Bytes, Traffic) {
        (self.stream, self.rest, self.traffic)
    }

    /// Reads what is there; nothing at the end of the stream.
    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        let read = ready!(poll_read_piece(&mut self.stream, cx, self.body.left(), self.last_read))?;
        self.last_read = read.len();
        if !read.is_empty() {
            self.traffic.received(read.len());
        }
        Poll::Ready(Ok(read))
    }
}
