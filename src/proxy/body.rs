//! Bodies on their way: nothing is collected, each piece goes on as it comes.

use std::{
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use super::{
    client::{Progress, Upload},
    exchange::Exchange,
};
use crate::{registry::Server, upstream::Link};

/// Why a body ended early. hyper closes the connection it was meant for, so that nobody takes it for complete.
#[derive(Debug, thiserror::Error)]
pub(super) enum BodyError {
    /// The other side's transfer failed.
    #[error(transparent)]
    Transfer(#[from] hyper::Error),
    /// The client was silent too long.
    #[error("the client was silent too long")]
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
pub(super) enum RequestBody {
    /// None.
    Empty,
    /// From the client.
    Client {
        /// The client's side.
        incoming: Incoming,
        /// Where the transfer stands.
        upload: Rc<Upload>,
        /// The most bytes that are allowed.
        most: u64,
    },
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Client { incoming, upload, most } = self.get_mut() else { return Poll::Ready(None) };
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
                let length = frame.data_ref().map_or(0, Bytes::len) as u64;
                upload.received.set(upload.received.get() + length);
                if upload.received.get() > *most {
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
        match self {
            Self::Empty => true,
            Self::Client { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Client { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        // A body of known length is not polled once more for its end.
        if let Self::Client { incoming, upload, .. } = self
            && incoming.is_end_stream()
            && matches!(upload.progress(), Progress::Open | Progress::Waiting)
        {
            upload.set(Progress::Complete);
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
    /// The server's side.
    pub(super) incoming: Incoming,
    /// The connection it comes from.
    pub(super) link: Link<RequestBody>,
    /// The server.
    pub(super) server: Arc<Server>,
    /// The request's body, if it had one.
    pub(super) upload: Option<Rc<Upload>>,
    /// Whether the end has been seen.
    pub(super) ended: bool,
    /// That it breaks off, told only when hyper has sent what came before: it drops what it has not sent.
    pub(super) breaks: Option<hyper::Error>,
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
            Source::Server(download) => download.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Own(text) => SizeHint::with_exact(text.len() as u64),
            Source::Server(download) => download.incoming.size_hint(),
        }
    }
}

impl Download {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
        exchange: &mut Exchange,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(error) = self.breaks.take() {
            return Poll::Ready(Some(Err(error.into())));
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.link.expect(polled.is_pending());
        match ready!(polled) {
            Some(Ok(frame)) => {
                exchange.add_bytes(frame.data_ref().map_or(0, Bytes::len));
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                match self.upload.as_ref().map(|upload| upload.progress()) {
                    // A body that the client spoiled takes the server's connection with it.
                    Some(Progress::Expired | Progress::TooLarge | Progress::Broken) => exchange.broken_by_client(),
                    Some(Progress::Open | Progress::Waiting | Progress::Complete | Progress::Cancelled) | None => {
                        exchange.broken_by_server(self.link.timed_out());
                    }
                }
                self.breaks = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            None => {
                self.ended = true;
                Poll::Ready(None)
            }
        }
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let Self { source, exchange: Some(exchange) } = self else { return };
        match std::mem::replace(source, Source::Own(Bytes::new())) {
            Source::Own(_) => exchange.finished(None),
            Source::Server(Download { incoming, link, server, upload, ended, breaks: _ }) => {
                let complete = ended || incoming.is_end_stream();
                if !complete {
                    exchange.broken_by_client();
                }
                // An early response leaves half a request on the connection: the next one would be read as its rest.
                let reusable = complete && upload.is_none_or(|upload| upload.progress() == Progress::Complete);
                exchange.finished(Some((link, &server, reusable)));
            }
        }
    }
}
