//! What waits to be written.

use bytes::Bytes;
use http::{HeaderMap, request, response};

use super::{
    Framing, Lines, Manner, ResponseFraming, write_chunk_head, write_last_chunk, write_request, write_response,
};

/// Data up to this length is copied: one small `send` costs less than a `writev` of two pieces, and many small pieces of a
/// client become one.
const COPIED: usize = 4 * 1024;
/// Room for the head of an ordinary message.
const HEAD: usize = 512;
/// Room that is kept for the next message.
const KEPT: usize = 1024;
/// No more is taken while so many bytes wait.
const ROOM: usize = 16 * 1024;

/// What waits to be written: small things gathered, then at most one large piece of data.
#[derive(Debug, Default)]
pub struct Outbox {
    /// The head, and data that was copied, with its framing.
    ready: Vec<u8>,
    /// Data that was copied and is not framed yet.
    gathered: Vec<u8>,
    /// A large piece, behind these.
    data: Bytes,
    /// What comes behind the large piece.
    after: Vec<u8>,
    chunked: bool,
    /// All data of a request, until something has been written.
    unsent: Vec<Bytes>,
    holds_unsent: bool,
}

impl Outbox {
    /// Begins a request, with `added` lines behind its headers; what was there before is forgotten.
    pub fn request(&mut self, parts: &request::Parts, added: &Lines, framing: Framing) {
        let mut ready = std::mem::take(&mut self.ready);
        ready.clear();
        ready.reserve(HEAD);
        *self = Self { ready, chunked: framing == Framing::Chunked, holds_unsent: true, ..Self::default() };
        write_request(&mut self.ready, parts, added, framing);
    }

    /// Begins a final response behind what there is; see [`write_response`].
    pub fn response(
        &mut self,
        parts: &response::Parts,
        lines: &Lines,
        manner: Manner,
        length: Option<u64>,
    ) -> (ResponseFraming, bool) {
        self.ready.reserve(HEAD);
        let (framing, keeps) = write_response(&mut self.ready, parts, lines, manner, length);
        self.chunked = framing == ResponseFraming::Chunked;
        (framing, keeps)
    }

    /// Adds bytes before the head of a response.
    pub fn interim(&mut self, bytes: &[u8]) {
        self.ready.extend_from_slice(bytes);
    }

    /// Adds a piece of the body, when there is room.
    pub fn data(&mut self, data: Bytes) {
        debug_assert!(self.has_room(), "the pieces before have been written");
        if data.is_empty() {
            return;
        }
        if self.holds_unsent {
            self.unsent.push(data.clone());
        }
        if data.len() <= COPIED {
            let small = if self.chunked { &mut self.gathered } else { &mut self.ready };
            return small.extend_from_slice(&data);
        }
        self.frame_gathered();
        if self.chunked {
            write_chunk_head(&mut self.ready, data.len());
            self.after.extend_from_slice(b"\r\n");
        }
        self.data = data;
    }

    /// Adds the end of the body.
    pub fn end(&mut self, trailers: Option<&HeaderMap>) {
        self.frame_gathered();
        if self.chunked {
            let last = if self.data.is_empty() { &mut self.ready } else { &mut self.after };
            write_last_chunk(last, trailers);
        }
    }

    /// Whether there is room for a piece of data.
    pub fn has_room(&self) -> bool {
        self.data.is_empty() && self.after.is_empty() && self.waiting() < ROOM
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting() == 0 && self.data.is_empty() && self.after.is_empty()
    }

    /// Whether nothing of the request in progress has been written.
    pub fn has_sent_nothing(&self) -> bool {
        self.holds_unsent
    }

    /// The data that was to be written, if nothing has been.
    pub fn take_unsent(&mut self) -> Vec<Bytes> {
        std::mem::take(&mut self.unsent)
    }

    /// What is to be written next, in order; some of it may be empty, and all of it is when nothing waits.
    pub fn pieces(&mut self) -> [&[u8]; 3] {
        self.frame_gathered();
        [&self.ready, &self.data, &self.after]
    }

    /// So many bytes of [`pieces`](Self::pieces) have been written.
    pub fn advance(&mut self, written: usize) {
        self.holds_unsent = false;
        self.unsent = Vec::new();
        let ours = written.min(self.ready.len());
        self.ready.drain(..ours);
        let data = (written - ours).min(self.data.len());
        // To advance to the end would keep the buffer behind the data for as long as nothing else comes.
        drop(self.data.split_to(data));
        self.after.drain(..written - ours - data);
        if self.is_empty() {
            // The next exchange may be far away, and most connections are idle.
            self.ready.shrink_to(KEPT);
        }
    }

    /// Bytes of ours, and copied ones, that wait.
    fn waiting(&self) -> usize {
        self.ready.len() + self.gathered.len()
    }

    fn frame_gathered(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        write_chunk_head(&mut self.ready, self.gathered.len());
        self.ready.append(&mut self.gathered);
        self.ready.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn outbox(framing: Framing) -> Outbox {
        let mut outbox = Outbox::default();
        outbox.request(&Request::post("/").body(()).unwrap().into_parts().0, &Lines::default(), framing);
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
        assert!((2..=ROOM).contains(&taken));
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
    fn what_was_written_is_let_go_of() {
        let mut outbox = outbox(Framing::Length(1 << 30));
        let data = Bytes::from(vec![b'x'; 3 * COPIED]);
        outbox.data(data.clone());
        outbox.advance(COPIED);
        assert!(!data.is_unique());
        let left = outbox.pieces().concat().len();
        outbox.advance(left);
        assert!(data.is_unique());
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
