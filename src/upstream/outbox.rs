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

/// Data up to this length is copied: one small `send` costs less than a `writev` of two pieces, and many small pieces of a
/// client become one.
const COPIED: usize = 4 * 1024;
/// No more is taken while so many bytes wait.
const ROOM: usize = 16 * 1024;

/// What waits to be written: small things gathered, then at most one large piece of data.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    /// The head, and data that was copied, with its framing.
    ready: Vec<u8>,
    written: usize,
    /// Data that was copied and is not framed yet.
    gathered: Vec<u8>,
    /// A large piece, behind these.
    data: Bytes,
    /// What comes behind the large piece.
    after: Vec<u8>,
    chunked: bool,
    /// All data, until something has been written.
    unsent: Vec<Bytes>,
    sent: bool,
}

impl Outbox {
    pub(super) fn head(&mut self, parts: &request::Parts, framing: Framing) {
        *self = Self { chunked: framing == Framing::Chunked, ..Self::default() };
        self.ready.reserve(512);
        write_head(&mut self.ready, parts, framing);
    }

    pub(super) fn data(&mut self, data: Bytes) {
        debug_assert!(self.has_room(), "the pieces before have been written");
        if data.is_empty() {
            return;
        }
        if !self.sent {
            self.unsent.push(data.clone());
        }
        if data.len() <= COPIED {
            self.gathered.extend_from_slice(&data);
            return;
        }
        self.frame_gathered();
        if self.chunked {
            write_chunk_head(&mut self.ready, data.len());
            self.after.extend_from_slice(b"\r\n");
        }
        self.data = data;
    }

    pub(super) fn end(&mut self, trailers: Option<&HeaderMap>) {
        self.frame_gathered();
        if self.chunked {
            let last = if self.data.is_empty() { &mut self.ready } else { &mut self.after };
            write_last_chunk(last, trailers);
        }
    }

    /// Whether there is room for a piece of data.
    pub(super) fn has_room(&self) -> bool {
        self.data.is_empty() && self.after.is_empty() && self.waiting() < ROOM
    }

    /// Whether data was gathered that more could be added to.
    pub(super) fn is_gathering(&self) -> bool {
        !self.gathered.is_empty()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting() == 0 && self.data.is_empty() && self.after.is_empty()
    }

    pub(super) fn has_sent_nothing(&self) -> bool {
        !self.sent
    }

    /// The data that was to be written, if nothing has been.
    pub(super) fn take_unsent(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.unsent)
    }

    pub(super) fn poll_flush(
        &mut self,
        stream: &mut TcpStream,
        traffic: &Traffic,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        self.frame_gathered();
        while !self.is_empty() {
            let ours = &self.ready[self.written..];
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
        self.ready = Vec::new();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    /// Bytes of ours, and copied ones, that wait.
    fn waiting(&self) -> usize {
        self.ready.len() - self.written + self.gathered.len()
    }

    fn frame_gathered(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        // What has been written makes room.
        self.ready.drain(..std::mem::take(&mut self.written));
        if self.chunked {
            write_chunk_head(&mut self.ready, self.gathered.len());
        }
        self.ready.append(&mut self.gathered);
        if self.chunked {
            self.ready.extend_from_slice(b"\r\n");
        }
    }

    fn advance(&mut self, written: usize) {
        self.sent = true;
        self.unsent = Vec::new();
        let ours = written.min(self.ready.len() - self.written);
        self.written += ours;
        let data = (written - ours).min(self.data.len());
        self.data.advance(data);
        self.after.drain(..written - ours - data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn outbox(framing: Framing) -> Outbox {
        let mut outbox = Outbox::default();
        outbox.head(&Request::post("/").body(()).unwrap().into_parts().0, framing);
        outbox
    }

    #[test]
    fn small_pieces_become_one_chunk_and_are_bounded() {
        let mut outbox = outbox(Framing::Chunked);
        let mut taken = 0;
        while outbox.has_room() {
            outbox.data(Bytes::from_static(b"ab"));
            taken += 2;
        }
        assert!(taken <= ROOM && outbox.is_gathering());
        outbox.end(None);
        let text = String::from_utf8(outbox.ready.clone()).unwrap();
        assert!(text.contains(&format!("\r\n\r\n{taken:x}\r\nabab")) && text.ends_with("ab\r\n0\r\n\r\n"));
    }

    #[test]
    fn what_was_written_makes_room_and_no_more() {
        let mut outbox = outbox(Framing::Length(1 << 30));
        let most = outbox.ready.len() + 2 * ROOM;
        for _ in 0..1000 {
            while outbox.has_room() {
                outbox.data(Bytes::from(vec![b'a'; 1000]));
            }
            outbox.frame_gathered();
            outbox.advance(700);
            assert!(outbox.ready.len() <= most && outbox.unsent.is_empty());
        }
    }

    #[test]
    fn a_large_piece_goes_behind_the_small_ones() {
        let mut outbox = outbox(Framing::Chunked);
        outbox.data(Bytes::from_static(b"small"));
        outbox.data(Bytes::from(vec![b'x'; COPIED + 1]));
        assert!(outbox.ready.ends_with(b"5\r\nsmall\r\n1001\r\n") && !outbox.has_room());
        assert_eq!(outbox.take_unsent().concat().len(), 5 + COPIED + 1);
    }
}
