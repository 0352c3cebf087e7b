//! A request on its way to a server.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use http_body::Body;

use super::{body::RequestBody, progress::Upload};
use crate::{h1::Framing, upstream::Link};

/// What is left to be sent of a request.
#[derive(Debug)]
pub(super) struct Sending {
    /// `None` when the request has no body.
    body: Option<Box<RequestBody>>,
    framing: Framing,
    stage: Stage,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The body goes on.
    Body,
    /// Its end waits to be written.
    Flush,
    /// All of it is written.
    Complete,
    /// The server takes no more of it.
    Refused,
}

/// The client spoiled its request: what was sent of it must not be taken for the whole.
#[derive(Debug)]
pub(super) struct Spoilt;

impl Sending {
    pub(super) fn new(body: Option<RequestBody>) -> Self {
        let framing = match &body {
            None => Framing::Empty,
            Some(body) => body.size_hint().exact().map_or(Framing::Chunked, Framing::Length),
        };
        let body = body.map(Box::new);
        Self { body, framing, stage: Stage::Body }
    }

    /// The request is to be sent from its start; nothing of it was written before, or it has no body.
    pub(super) fn restart(&mut self, link: &mut Link) {
        if let Some(body) = &mut self.body {
            body.hold(link.take_unsent());
        }
        self.stage = Stage::Body;
    }

    /// How the end of the body is told.
    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Where the transfer of the body stands, if there is one.
    pub(super) fn upload(&self) -> Option<&Upload> {
        self.body.as_ref().map(|body| body.upload())
    }

    /// Whether all of it is written.
    pub(super) fn is_complete(&self) -> bool {
        self.stage == Stage::Complete
    }

    /// Whether the server took no more before the end.
    pub(super) fn is_refused(&self) -> bool {
        self.stage == Stage::Refused
    }

    /// Sends what the client has sent and the server takes.
    ///
    /// That a server takes no more is no error: it may have answered.
    pub(super) fn poll(&mut self, link: &mut Link, cx: &mut Context<'_>) -> Result<(), Spoilt> {
        loop {
            let waits = self.take(link, cx)?;
            if !matches!(self.stage, Stage::Body | Stage::Flush) {
                return Ok(());
            }
            match link.poll_flush(cx) {
                Poll::Pending => return Ok(()),
                Poll::Ready(Err(_)) => self.stage = Stage::Refused,
                Poll::Ready(Ok(())) if self.stage == Stage::Flush => self.stage = Stage::Complete,
                Poll::Ready(Ok(())) if waits => return Ok(()),
                Poll::Ready(Ok(())) => {}
            }
        }
    }

    /// Takes what the client has sent, as far as there is room; true when the client owes more.
    fn take(&mut self, link: &mut Link, cx: &mut Context<'_>) -> Result<bool, Spoilt> {
        while self.stage == Stage::Body && link.has_room() {
            let Some(body) = &mut self.body else {
                self.end(link, None);
                break;
            };
            match Pin::new(&mut **body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        link.push_data(data);
                        if body.is_end_stream() {
                            self.end(link, None);
                        }
                    }
                    Err(frame) => self.end(link, frame.trailers_ref()),
                },
                Poll::Ready(Some(Err(_))) => return Err(Spoilt),
                Poll::Ready(None) => self.end(link, None),
                Poll::Pending => return Ok(true),
            }
        }
        Ok(false)
    }

    fn end(&mut self, link: &mut Link, trailers: Option<&http::HeaderMap>) {
        link.push_end(trailers);
        self.stage = Stage::Flush;
    }
}
