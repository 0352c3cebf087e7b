//! What waits to be written to a server.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, request};
use tokio::{io::AsyncWrite, net::TcpStream};

use super::traffic::Traffic;
use crate::h1::{Framing, write_chunk_head, write_head, write_last_chunk};

/// Data up to this length is copied behind the head: one small `send` costs less than a `writev` of two pieces.
const COPIED: usize = 4 * 1024;

/// What waits to be written: some words of ours, then data of the client, then some words of ours.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    before: Vec<u8>,
    written: usize,
    data: Bytes,
    after: Vec<u8>,
    chunked: bool,
    /// The data, until something has been written.
    unsent: Option<Bytes>,
    sent: bool,
}

impl Outbox {
    pub(super) fn head(&mut self, parts: &request::Parts, framing: Framing) {
        *self = Self { chunked: framing == Framing::Chunked, ..Self::default() };
        self.before.reserve(512);
        write_head(&mut self.before, parts, framing);
    }

    pub(super) fn data(&mut self, data: Bytes) {
        debug_assert!(self.data.is_empty() && self.after.is_empty(), "the last piece has been written");
        if data.is_empty() {
            return;
        }
        if !self.sent {
            self.unsent = Some(data.clone());
        }
        if self.chunked {
            write_chunk_head(&mut self.before, data.len());
            self.after.extend_from_slice(b"\r\n");
        }
        self.data = data;
    }

    pub(super) fn end(&mut self, trailers: Option<&HeaderMap>) {
        if self.chunked {
            let last = if self.data.is_empty() { &mut self.before } else { &mut self.after };
            write_last_chunk(last, trailers);
        }
    }

    /// Whether there is room for a piece of data.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty() && self.after.is_empty() && self.unsent.is_none()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.written == self.before.len() && self.data.is_empty() && self.after.is_empty()
    }

    pub(super) fn has_sent_nothing(&self) -> bool {
        !self.sent
    }

    /// The data that was to be written, if nothing has been.
    pub(super) fn take_unsent(&mut self) -> Option<Bytes> {
        self.unsent.take()
    }

    pub(super) fn poll_flush(
        &mut self,
        stream: &mut TcpStream,
        traffic: &Traffic,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        if self.data.len() <= COPIED {
            self.before.extend_from_slice(&std::mem::take(&mut self.data));
            self.before.append(&mut self.after);
        }
        while !self.is_empty() {
            let ours = &self.before[self.written..];
            let written = if self.data.is_empty() && self.after.is_empty() {
                ready!(Pin::new(&mut *stream).poll_write(cx, ours))?
            } else {
                let pieces = [IoSlice::new(ours), IoSlice::new(&self.data), IoSlice::new(&self.after)];
                ready!(Pin::new(&mut *stream).poll_write_vectored(cx, &pieces))?
            };
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            traffic.sent(written);
            self.advance(written);
        }
        // The next exchange may be far away, and most connections are idle.
        self.before = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, written: usize) {
        self.sent = true;
        self.unsent = None;
        let ours = written.min(self.before.len() - self.written);
        self.written += ours;
        let data = (written - ours).min(self.data.len());
        self.data.advance(data);
        self.after.drain(..written - ours - data);
    }
}
