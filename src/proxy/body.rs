//! Bodies on their way: nothing is collected, each piece goes on as it comes.

use std::{
    cell::RefCell,
    collections::VecDeque,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{
    client::Client,
    exchange::Exchange,
    progress::{Progress, Upload},
    upload::{Sending, Spoilt},
};
use crate::{
    downstream::{Incoming, IncomingError},
    net::{Millis, now_coarse},
    registry::Server,
    upstream::{Link, ReadError},
};

/// Why a body ended early. The connection that it was meant for is closed, so that nobody takes it for complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The client's transfer failed.
    #[error(transparent)]
    Client(#[from] IncomingError),
    /// The server's transfer failed.
    #[error(transparent)]
    Server(#[from] ReadError),
    /// The server was silent too long.
    #[error("the server was silent too long")]
    Silent,
    /// What the client sends of its request cannot be passed on.
    #[error("the client broke its request off")]
    Spoilt,
    /// The client was silent too long, or too slow.
    #[error("the client was silent too long, or too slow")]
    Expired,
    /// The response has been given.
    #[error("the response came before the end of the request")]
    Cancelled,
    /// The body is longer than allowed.
    #[error("the body is longer than allowed")]
    TooLarge,
}

/// The body of a request on its way to a server.
#[derive(Debug)]
pub(super) struct RequestBody {
    /// The client's side.
    incoming: Incoming,
    /// Where the transfer stands.
    upload: Rc<Upload>,
    /// The most bytes that are allowed.
    most: u64,
    /// Pieces that a connection gave back, because nothing of the request had been written.
    held: VecDeque<Bytes>,
}

impl RequestBody {
    /// A body whose transfer shows in `upload`, of at most `most` bytes.
    pub(super) fn new(incoming: Incoming, upload: &Rc<Upload>, most: u64) -> Self {
        Self { incoming, upload: Rc::clone(upload), most, held: VecDeque::new() }
    }

    /// Puts back pieces that were taken and not written.
    pub(super) fn hold(&mut self, pieces: Vec<Bytes>) {
        for piece in pieces.into_iter().rev() {
            self.held.push_front(piece);
        }
    }

    /// Where the transfer stands.
    pub(super) fn upload(&self) -> &Upload {
        &self.upload
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { incoming, upload, most, held } = self.get_mut();
        if let Some(piece) = held.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match upload.progress() {
            Progress::Expired => return Poll::Ready(Some(Err(BodyError::Expired))),
            Progress::Cancelled => return Poll::Ready(Some(Err(BodyError::Cancelled))),
            Progress::Open | Progress::Waiting | Progress::Complete | Progress::TooLarge | Progress::Broken => {}
        }
        match Pin::new(&mut *incoming).poll_frame(cx) {
            Poll::Pending => {
                upload.wait(cx.waker());
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                if frame.is_trailers() {
                    // Nobody polls for more after them.
                    upload.set(Progress::Complete);
                    return Poll::Ready(Some(Ok(frame)));
                }
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                if upload.receive(length) > *most {
                    upload.set(Progress::TooLarge);
                    return Poll::Ready(Some(Err(BodyError::TooLarge)));
                }
                upload.set(if incoming.is_end_stream() { Progress::Complete } else { Progress::Open });
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                upload.set(Progress::Broken);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                upload.set(Progress::Complete);
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_empty() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // A body of known length is not polled once more for its end.
        if self.incoming.is_end_stream() && matches!(self.upload.progress(), Progress::Open | Progress::Waiting) {
            self.upload.set(Progress::Complete);
        }
    }
}

/// The body of a response on its way to a client, with what ends when it ends.
#[derive(Debug)]
pub(super) struct ResponseBody {
    source: Source,
    /// `None` for the head of a tunnel, which keeps its exchange itself.
    exchange: Option<Box<Exchange>>,
}

#[derive(Debug)]
enum Source {
    /// Our own words, which may be none.
    Own(Bytes),
    /// The server's.
    Server(Download),
}

/// A response's body that a server sends.
#[derive(Debug)]
pub(super) struct Download {
    source: Passage,
    /// The server.
    server: Arc<Server>,
    /// Since when the server owes the next piece.
    owed: Option<Millis>,
    /// Whether the client takes trailers.
    trailers: bool,
    /// Whether the end has been seen.
    ended: bool,
}

/// The connection that a body comes from.
#[derive(Debug)]
enum Passage {
    /// Nothing more is sent on it; whether all of the request was.
    Down(Box<Link>, bool),
    /// The rest of the request is still sent.
    Both(Rc<Both>),
}

/// A connection on which the response comes while the request is still sent.
///
/// Nobody asks for more of a response that the client does not read. The request must go on all the same, or a
/// client that sends all before it reads would wait for ever; so the client's connection has a hand on this, too.
#[derive(Debug)]
pub(super) struct Both(RefCell<(Box<Link>, Sending)>);

impl Both {
    /// Sends what the client has sent and the server takes.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) -> Result<(), Spoilt> {
        let (link, sending) = &mut *self.0.borrow_mut();
        sending.poll(link, cx)
    }
}

impl Passage {
    fn with<T>(&mut self, read: impl FnOnce(&mut Link) -> T) -> T {
        match self {
            Self::Down(link, _) => read(link),
            Self::Both(both) => read(&mut both.0.borrow_mut().0),
        }
    }

    fn look<T>(&self, look: impl FnOnce(&Link) -> T) -> T {
        match self {
            Self::Down(link, _) => look(link),
            Self::Both(both) => look(&both.0.borrow().0),
        }
    }

    /// Whether the server is silent by right: the client owes the next piece of the request.
    fn waits_for_client(&self) -> bool {
        match self {
            Self::Down(..) => false,
            Self::Both(both) => both.0.borrow().1.upload().is_some_and(Upload::waits),
        }
    }
}

impl ResponseBody {
    pub(super) fn own(text: &'static str, exchange: Box<Exchange>) -> Self {
        Self { source: Source::Own(Bytes::from_static(text.as_bytes())), exchange: Some(exchange) }
    }

    pub(super) fn switching() -> Self {
        Self { source: Source::Own(Bytes::new()), exchange: None }
    }

    pub(super) fn server(download: Download, exchange: Box<Exchange>) -> Self {
        Self { source: Source::Server(download), exchange: Some(exchange) }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self { source, exchange: Some(exchange) } = self.get_mut() else { return Poll::Ready(None) };
        match source {
            Source::Own(text) if text.is_empty() => Poll::Ready(None),
            Source::Own(text) => {
                let text = std::mem::take(text);
                exchange.add_bytes(text.len());
                Poll::Ready(Some(Ok(Frame::data(text))))
            }
            Source::Server(download) => download.poll_frame(cx, exchange),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Own(text) => text.is_empty(),
            Source::Server(download) => download.is_complete(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(text) => SizeHint::with_exact(text.len() as u64),
            Source::Server(download) => download.size_hint(),
        }
    }
}

impl Download {
    /// `trailers` tells whether the client takes them (RFC 9110 section 6.5.1).
    pub(super) fn new(link: Box<Link>, server: Arc<Server>, sending: Sending, client: &Client, trailers: bool) -> Self {
        let source = if sending.is_complete() || sending.is_refused() {
            Passage::Down(link, sending.is_complete())
        } else {
            let both = Rc::new(Both(RefCell::new((link, sending))));
            client.send_on(&both);
            Passage::Both(both)
        };
        Self { source, server, owed: None, ended: false, trailers }
    }

    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Passage::Both(both) = &self.source
            && both.poll_send(cx).is_err()
        {
            exchange.broken_by_client();
            return Poll::Ready(Some(Err(BodyError::Spoilt)));
        }
        let Poll::Ready(frame) = self.source.with(|link| link.poll_frame(cx)) else {
            return self.poll_silence(exchange);
        };
        self.owed = None;
        exchange.client.wake_at(None);
        Poll::Ready(match frame {
            Some(Ok(frame)) if frame.is_trailers() && !self.trailers => {
                self.ended = true;
                None
            }
            Some(Ok(frame)) => {
                exchange.add_bytes(frame.data_ref().map_or(0, Bytes::len));
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                exchange.broken_by_server(false);
                Some(Err(error.into()))
            }
            None => {
                self.ended = true;
                None
            }
        })
    }

    /// Nothing came: waits on, or gives up.
    fn poll_silence(&mut self, exchange: &mut Exchange) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.source.waits_for_client() {
            self.owed = None;
            exchange.client.wake_at(None);
            return Poll::Pending;
        }
        let now = now_coarse();
        let since = (*self.owed.get_or_insert(now)).max(self.source.look(Link::last));
        let deadline = since.after(exchange.client.settings.timeouts.server);
        if deadline <= now {
            exchange.client.wake_at(None);
            exchange.broken_by_server(true);
            return Poll::Ready(Some(Err(BodyError::Silent)));
        }
        exchange.client.wake_at(Some(deadline));
        Poll::Pending
    }

    fn is_complete(&self) -> bool {
        self.ended || self.source.look(Link::is_done)
    }

    fn size_hint(&self) -> SizeHint {
        self.source.look(Link::left).map_or_else(SizeHint::default, SizeHint::with_exact)
    }

    /// The connection, if it can take another request.
    fn into_reusable(self, exchange: &Exchange) -> Option<Box<Link>> {
        let (link, sent) = match self.source {
            Passage::Down(link, sent) => (link, sent),
            Passage::Both(both) => {
                exchange.client.send_no_more();
                let (link, sending) = Rc::into_inner(both)?.0.into_inner();
                let sent = sending.is_complete();
                (link, sent)
            }
        };
        // An early response leaves half a request on the connection: the next one would be read as its rest.
        (sent && link.is_reusable()).then_some(link)
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Self { source, exchange: Some(exchange) } = self else { return };
        match std::mem::replace(source, Source::Own(Bytes::new())) {
            Source::Own(_) => exchange.finished(None),
            Source::Server(download) => {
                if !download.is_complete() {
                    exchange.broken_by_client();
                }
                let server = Arc::clone(&download.server);
                let link = download.into_reusable(exchange);
                exchange.finished(link.map(|link| (link, &*server)));
            }
        }
    }
}
