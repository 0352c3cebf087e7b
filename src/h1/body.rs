//! Where the body of a response ends.

use bytes::Bytes;

use super::{BodyError, Chunked, Piece};

/// Takes a body from bytes as they come (RFC 9112 section 6.3).
#[derive(Debug, PartialEq, Eq)]
pub enum Decoder {
    /// So many bytes are left.
    Length(u64),
    /// Chunks; boxed, because few responses have them.
    Chunked(Box<Chunked>),
    /// Everything until the server closes.
    UntilClose,
}

impl Decoder {
    /// A body of chunks, at its start.
    pub fn chunked() -> Self {
        Self::Chunked(Box::default())
    }

    /// Takes the next piece from the front of `input`; what is behind the body stays there.
    ///
    /// # Errors
    /// When the bytes are no such body.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Piece, BodyError> {
        match self {
            _ if self.is_done() => Ok(Piece::End),
            Self::Chunked(chunked) => {
                let piece = chunked.decode(input);
                if input.is_empty() {
                    // Nothing of a buffer that was taken byte by byte still holds it.
                    *input = Bytes::new();
                }
                piece
            }
            _ if input.is_empty() => Ok(Piece::More),
            Self::Length(left) => {
                let length = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= length as u64;
                Ok(Piece::Data(input.split_to(length)))
            }
            Self::UntilClose => Ok(Piece::Data(std::mem::take(input))),
        }
    }

    /// Whether all of the body has been taken.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => false,
        }
    }

    /// Whether the body is whole when the server closes now.
    pub fn may_end_here(&self) -> bool {
        matches!(self, Self::UntilClose) || self.is_done()
    }

    /// Bytes that are left, when it is known.
    pub fn left(&self) -> Option<u64> {
        match self {
            Self::Length(left) => Some(*left),
            Self::Chunked(_) | Self::UntilClose => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_known_length_leaves_what_is_behind_it() {
        let mut decoder = Decoder::Length(5);
        let mut input = Bytes::from_static(b"hel");
        assert_eq!(decoder.decode(&mut input), Ok(Piece::Data(Bytes::from_static(b"hel"))));
        assert_eq!(decoder.decode(&mut input), Ok(Piece::More));
        assert!(!decoder.may_end_here());
        input = Bytes::from_static(b"loX");
        assert_eq!(decoder.decode(&mut input), Ok(Piece::Data(Bytes::from_static(b"lo"))));
        assert!(decoder.is_done());
        assert_eq!(decoder.decode(&mut input), Ok(Piece::End));
        assert_eq!(input, Bytes::from_static(b"X"));
    }

    #[test]
    fn what_was_taken_is_let_go_of() {
        for (mut decoder, text) in [
            (Decoder::Length(5), "hello"),
            (Decoder::chunked(), "5\r\nhello\r\n0\r\n\r\n"),
            (Decoder::UntilClose, "hello"),
        ] {
            let read = Bytes::from(text.to_owned());
            let mut input = read.clone();
            while !input.is_empty() {
                decoder.decode(&mut input).unwrap();
            }
            assert!(read.is_unique(), "{decoder:?}");
        }
    }

    #[test]
    fn a_body_until_the_close_takes_everything() {
        let mut decoder = Decoder::UntilClose;
        let mut input = Bytes::from_static(b"all");
        assert_eq!(decoder.decode(&mut input), Ok(Piece::Data(Bytes::from_static(b"all"))));
        assert!(decoder.may_end_here() && !decoder.is_done());
    }
}
