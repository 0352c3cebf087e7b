//! A client's socket, with what has been read of it and what is to be written to it.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::{
    h1::{Decoder, Outbox},
    net::{Metered, joined, poll_read_piece, poll_write_outbox},
};

/// What the connection and the body of the request in progress both have their hands on.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: Metered,
    /// Bytes that were read and not yet taken.
    pub(super) rest: Bytes,
    pub(super) outbox: Outbox,
    /// Reads the body of the request in progress, or of the last one.
    pub(super) body: Decoder,
    /// How many requests there have been: a body that is kept for longer than its request must not read the next one's.
    pub(super) turn: u64,
    /// Whether the request in progress has its final response.
    pub(super) is_answered: bool,
    /// Whether the client waits to be asked for the body.
    pub(super) expects_continue: bool,
    /// Who gets the socket when the response switches protocols.
    pub(super) upgrade: Option<oneshot::Sender<Metered>>,
    /// Bytes that the last read brought.
    last_read: usize,
}

impl Wire {
    pub(super) fn new(socket: Metered) -> Self {
        Self {
            socket,
            rest: Bytes::new(),
            outbox: Outbox::default(),
            body: Decoder::Length(0),
            turn: 0,
            is_answered: false,
            expects_continue: false,
            upgrade: None,
            last_read: 0,
        }
    }

    /// Reads more behind what there is; how many bytes came, of which there are none at the end.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let more = ready!(poll_read_piece(&mut self.socket, cx, self.body.left(), self.last_read))?;
        self.last_read = more.len();
        self.rest = joined(std::mem::take(&mut self.rest), more);
        Poll::Ready(Ok(self.last_read))
    }

    /// Writes what waits.
    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        poll_write_outbox(&mut self.outbox, &mut self.socket, cx, |_| {})
    }

    /// Whether the client is gone. Only what is not yet read can tell, so a client that has sent its next request may leave
    /// unseen until that is read.
    pub(super) fn poll_gone(&mut self, cx: &mut Context<'_>) -> bool {
        if !self.body.is_done() || !self.rest.is_empty() {
            return false;
        }
        matches!(self.poll_read(cx), Poll::Ready(Ok(0) | Err(_)))
    }
}

/// Whether that is nothing of a request. Empty lines before one mean nothing (RFC 9112 section 2.2).
pub(super) fn is_blank(rest: &[u8]) -> bool {
    rest.iter().all(|byte| b"\r\n".contains(byte))
}
