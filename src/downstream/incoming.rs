//! The body of a request, read from the client's socket as it is wanted.

use std::{
    cell::RefCell,
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame, SizeHint};
use tokio::sync::oneshot;

use super::wire::Wire;
use crate::{
    h1::{BodyError, Piece, write_interim},
    net::{Metered, leave_buffer},
};

/// The body of a request.
#[derive(Debug)]
pub struct Incoming {
    wire: Rc<RefCell<Wire>>,
    turn: u64,
}

/// Why a body ended early.
#[derive(Debug, thiserror::Error)]
pub enum IncomingError {
    /// The client broke off.
    #[error("the client broke the request off")]
    Broken,
    /// What came is not the body that the head spoke of.
    #[error("the request's body is not valid: {0}")]
    Body(#[from] BodyError),
}

impl Incoming {
    pub(super) fn new(wire: &Rc<RefCell<Wire>>) -> Self {
        Self { wire: Rc::clone(wire), turn: wire.borrow().turn }
    }

    /// The rest of what can be done with the client's connection.
    pub fn aside(&self) -> Aside {
        Aside { wire: Rc::clone(&self.wire), turn: self.turn }
    }

    /// The client's socket, once a response with status 101 has been written.
    pub fn upgrade(&self) -> Upgrade {
        let (sender, receiver) = oneshot::channel();
        let mut wire = self.wire.borrow_mut();
        if wire.turn == self.turn {
            wire.upgrade = Some(sender);
        }
        Upgrade(receiver)
    }

    fn look<T>(&self, look: impl FnOnce(&Wire) -> T) -> Option<T> {
        let wire = self.wire.borrow();
        (wire.turn == self.turn).then(|| look(&wire))
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = IncomingError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, IncomingError>>> {
        let mut wire = self.wire.borrow_mut();
        let wire = &mut *wire;
        if wire.turn != self.turn {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut wire.expects_continue) && wire.rest.is_empty() {
            wire.outbox.interim(b"HTTP/1.1 100 Continue\r\n\r\n");
            // What could not be written yet goes with the next flush, and that the client is gone is for the read to say.
            let _later = wire.poll_flush(cx);
        }
        loop {
            let decoded = wire.body.decode(&mut wire.rest);
            if wire.body.is_done() {
                leave_buffer(&mut wire.rest);
            }
            match decoded {
                Ok(Piece::Data(data)) => return Poll::Ready(Some(Ok(Frame::data(data)))),
                Ok(Piece::Trailers(trailers)) => return Poll::Ready(Some(Ok(Frame::trailers(trailers)))),
                Ok(Piece::End) => return Poll::Ready(None),
                Ok(Piece::More) => {}
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
            match ready!(wire.poll_read(cx)) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Poll::Ready(Some(Err(IncomingError::Broken))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.look(|wire| wire.body.is_done()).unwrap_or(true)
    }

    fn size_hint(&self) -> SizeHint {
        self.look(|wire| wire.body.left()).flatten().map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

/// A client's connection beside the body of its request. To be let go of with the request's future: who has it keeps the
/// socket open.
#[derive(Debug)]
pub struct Aside {
    wire: Rc<RefCell<Wire>>,
    turn: u64,
}

impl Aside {
    /// Has a response in between (1xx) written before the final one; once that has been given it is too late, and nothing
    /// is.
    pub fn interim(&self, status: StatusCode, headers: &HeaderMap) {
        let mut wire = self.wire.borrow_mut();
        if wire.turn == self.turn && !wire.is_answered {
            let mut text = Vec::new();
            write_interim(&mut text, status, headers);
            // It goes with the next flush, which follows each poll of the request's future.
            wire.outbox.interim(&text);
        }
    }

    /// Where the connection came in.
    ///
    /// # Errors
    /// When the system does not say it.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.wire.borrow().socket.get_ref().local_addr()
    }
}

/// The socket of a client whose request may switch protocols; it has what the client sent behind the request.
#[derive(Debug)]
pub struct Upgrade(oneshot::Receiver<Metered>);

impl Future for Upgrade {
    type Output = Option<Metered>;

    /// `None` when the connection ended before.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Metered>> {
        Pin::new(&mut self.0).poll(cx).map(Result::ok)
    }
}
