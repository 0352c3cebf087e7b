//! Chunks (RFC 9112 section 7.1).

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::BodyError;

/// Bytes of all chunk extensions of a body, and of its trailers: nobody needs more, and they cost without end.
const MOST_OVERHEAD: usize = 16 * 1024;
/// Most trailer lines.
const MAX_TRAILERS: usize = 100;
/// Digits of the largest size: 2^60 bytes.
const MOST_DIGITS: u8 = 15;

/// What a decoder found.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Data of the body; never empty.
    Data(Bytes),
    /// Fields after the body. The body is complete.
    Trailers(HeaderMap),
    /// The body is complete.
    End,
    /// Nothing before more bytes come.
    More,
}

/// Takes data out of chunks.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Chunked {
    state: State,
    overhead: usize,
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In the digits of a size.
    Size { size: u64, digits: u8 },
    /// In white space after a size, which some servers pad with.
    Padding { size: u64 },
    /// In the extensions of a chunk.
    Extension { size: u64 },
    /// Before the LF of a size's line.
    SizeEnd { size: u64 },
    /// In the data; so many bytes are left.
    Data { left: u64 },
    /// Before the CR after the data.
    DataCr,
    /// Before the LF after the data.
    DataLf,
    /// In the trailers, at a line's start or elsewhere.
    Trailers,
    /// Behind the last byte.
    Done,
    /// Behind bytes that are no chunks: what follows them may look like some again, and must not pass.
    Broken(BodyError),
}

impl Default for State {
    fn default() -> Self {
        Self::Size { size: 0, digits: 0 }
    }
}

impl Chunked {
    /// Takes the next piece from the front of `input`; what is behind the body stays there.
    ///
    /// # Errors
    /// When the bytes are no chunks, or more of them than the data is worth.
    pub fn decode(&mut self, input: &mut Bytes) -> Result<Piece, BodyError> {
        self.try_decode(input).inspect_err(|&error| self.state = State::Broken(error))
    }

    fn try_decode(&mut self, input: &mut Bytes) -> Result<Piece, BodyError> {
        loop {
            match self.state {
                State::Done => return Ok(Piece::End),
                State::Broken(error) => return Err(error),
                _ if input.is_empty() => return Ok(Piece::More),
                State::Data { left } => {
                    let length = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let left = left - length as u64;
                    self.state = if left == 0 { State::DataCr } else { State::Data { left } };
                    return Ok(Piece::Data(input.split_to(length)));
                }
                State::Trailers => {
                    if let Some(trailers) = self.take_trailers(input)? {
                        self.state = State::Done;
                        return Ok(if trailers.is_empty() { Piece::End } else { Piece::Trailers(trailers) });
                    }
                }
                State::Size { .. }
                | State::Padding { .. }
                | State::Extension { .. }
                | State::SizeEnd { .. }
                | State::DataCr
                | State::DataLf => {
                    let byte = input.get_u8();
                    self.state = self.step(byte)?;
                }
            }
        }
    }

    /// Whether the last byte has been taken.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    fn step(&mut self, byte: u8) -> Result<State, BodyError> {
        match (self.state, byte) {
            (State::Size { size, digits }, _) if byte.is_ascii_hexdigit() => {
                let digit = u64::from(char::from(byte).to_digit(16).unwrap_or_default());
                if size == 0 && digits > 0 {
                    // Zeros in front say nothing.
                    self.spend()?;
                    return Ok(State::Size { size: digit, digits });
                }
                if digits == MOST_DIGITS {
                    return Err(BodyError::ChunkSize);
                }
                Ok(State::Size { size: size * 16 + digit, digits: digits + 1 })
            }
            (State::Size { digits: 0, .. }, _) => Err(BodyError::ChunkSize),
            (State::Size { size, .. } | State::Padding { size }, b' ' | b'\t') => {
                self.spend()?;
                Ok(State::Padding { size })
            }
            (State::Size { size, .. } | State::Padding { size }, b';') => {
                self.spend()?;
                Ok(State::Extension { size })
            }
            (State::Size { size, .. } | State::Padding { size } | State::Extension { size }, b'\r') => {
                Ok(State::SizeEnd { size })
            }
            (State::Extension { size }, _) if byte != b'\n' && byte != 0 => {
                self.spend()?;
                Ok(State::Extension { size })
            }
            (State::SizeEnd { size: 0 }, b'\n') => Ok(State::Trailers),
            (State::SizeEnd { size }, b'\n') => Ok(State::Data { left: size }),
            (State::Size { .. } | State::Padding { .. } | State::Extension { .. } | State::SizeEnd { .. }, _) => {
                Err(BodyError::ChunkSize)
            }
            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataLf, b'\n') => Ok(State::default()),
            (State::DataCr | State::DataLf | State::Data { .. } | State::Trailers | State::Done, _) => {
                Err(BodyError::ChunkEnd)
            }
            (State::Broken(error), _) => Err(error),
        }
    }

    fn spend(&mut self) -> Result<(), BodyError> {
        self.overhead += 1;
        if self.overhead > MOST_OVERHEAD { Err(BodyError::ChunkSize) } else { Ok(()) }
    }

    /// Collects the fields after the last chunk until their empty line.
    fn take_trailers(&mut self, input: &mut Bytes) -> Result<Option<HeaderMap>, BodyError> {
        while input.has_remaining() {
            let byte = input.get_u8();
            if self.trailers.last() == Some(&b'\r') && byte != b'\n' {
                return Err(BodyError::Trailers);
            }
            if byte == b'\n' && self.trailers.last() != Some(&b'\r') {
                return Err(BodyError::Trailers);
            }
            self.trailers.push(byte);
            if self.trailers.len() > MOST_OVERHEAD {
                return Err(BodyError::Trailers);
            }
            if self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n") {
                return parse_trailers(&std::mem::take(&mut self.trailers)).map(Some);
            }
        }
        Ok(None)
    }
}

fn parse_trailers(text: &[u8]) -> Result<HeaderMap, BodyError> {
    let mut lines = [httparse::EMPTY_HEADER; MAX_TRAILERS];
    let Ok(httparse::Status::Complete((_, lines))) = httparse::parse_headers(text, &mut lines) else {
        return Err(BodyError::Trailers);
    };
    let mut trailers = HeaderMap::with_capacity(lines.len());
    for line in lines {
        let name = HeaderName::from_bytes(line.name.as_bytes()).map_err(|_| BodyError::Trailers)?;
        let value = HeaderValue::from_bytes(line.value).map_err(|_| BodyError::Trailers)?;
        trailers.append(name, value);
    }
    Ok(trailers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Data, trailers and what is left when `text` comes in pieces of `step` bytes.
    fn decode(text: &[u8], step: usize) -> Result<(Vec<u8>, HeaderMap, Vec<u8>), BodyError> {
        let mut chunked = Chunked::default();
        let (mut data, mut trailers, mut behind) = (Vec::new(), HeaderMap::new(), Vec::new());
        for piece in text.chunks(step.max(1)) {
            let mut input = Bytes::copy_from_slice(piece);
            loop {
                match chunked.decode(&mut input)? {
                    Piece::Data(bytes) => data.extend_from_slice(&bytes),
                    Piece::Trailers(fields) => trailers = fields,
                    Piece::End | Piece::More => break,
                }
            }
            behind.extend_from_slice(&input);
        }
        assert!(chunked.is_done(), "the body is not complete");
        Ok((data, trailers, behind))
    }

    #[test]
    fn data_comes_out_and_what_is_behind_stays() {
        let text = b"5;a=b\r\nhello\r\n6  \r\n world\r\n0\r\nx-sum: 7\r\n\r\nHTTP/1.1 200";
        for step in 1..text.len() {
            let (data, trailers, behind) = decode(text, step).unwrap();
            assert_eq!((data.as_slice(), behind.as_slice()), (&b"hello world"[..], &b"HTTP/1.1 200"[..]), "{step}");
            assert_eq!(trailers["x-sum"], "7");
        }
    }

    #[test]
    fn broken_chunks_are_refused() {
        for (text, error) in [
            (&b"\r\n"[..], BodyError::ChunkSize),
            (b"0x5\r\n", BodyError::ChunkSize),
            (b"5_\r\n", BodyError::ChunkSize),
            (b"-1\r\n", BodyError::ChunkSize),
            (b"5\n", BodyError::ChunkSize),
            (b"5;a\n", BodyError::ChunkSize),
            (b"5\rX", BodyError::ChunkSize),
            (b" 5\r\n", BodyError::ChunkSize),
            (b"5 5\r\n", BodyError::ChunkSize),
            (b"1000000000000000\r\n", BodyError::ChunkSize),
            (b"1\r\nab\r\n", BodyError::ChunkEnd),
            (b"1\r\na\n", BodyError::ChunkEnd),
            (b"0\r\na b\r\n\r\n", BodyError::Trailers),
            (b"0\r\na: b\n\r\n", BodyError::Trailers),
            (b"0\r\n\rX", BodyError::Trailers),
        ] {
            assert_eq!(decode(text, 1).err(), Some(error), "{:?}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn what_is_broken_stays_so_whatever_comes_behind_it() {
        for (text, error) in [
            (&b"5\r\nhelloX"[..], BodyError::ChunkEnd),
            (b"5_", BodyError::ChunkSize),
            (b"0\r\na: b\n", BodyError::Trailers),
        ] {
            let mut chunked = Chunked::default();
            let mut input = Bytes::copy_from_slice(text);
            let broken = std::iter::repeat_with(|| chunked.decode(&mut input)).take(2).find_map(Result::err);
            assert_eq!(broken, Some(error), "{:?}", String::from_utf8_lossy(text));
            for mut behind in [Bytes::from_static(b"\r\n0\r\n\r\n"), Bytes::new()] {
                assert_eq!(chunked.decode(&mut behind), Err(error), "{:?}", String::from_utf8_lossy(text));
            }
        }
    }

    #[test]
    fn extensions_and_trailers_are_bounded() {
        let extension = [b"5;".to_vec(), vec![b'a'; MOST_OVERHEAD + 1]].concat();
        assert_eq!(decode(&extension, 999).err(), Some(BodyError::ChunkSize));
        let many = b"1;aaaaaaa\r\nx\r\n".repeat(MOST_OVERHEAD / 8 + 1);
        assert_eq!(decode(&many, 999).err(), Some(BodyError::ChunkSize));
        let trailers = [b"0\r\na: ".to_vec(), vec![b'a'; MOST_OVERHEAD]].concat();
        assert_eq!(decode(&trailers, 999).err(), Some(BodyError::Trailers));
    }

    proptest! {
        #[test]
        fn what_was_cut_into_chunks_comes_back(
            chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..40), 0..6), step in 1_usize..50,
        ) {
            let mut text = Vec::new();
            for chunk in &chunks {
                crate::h1::write_chunk_head(&mut text, chunk.len());
                text.extend_from_slice(chunk);
                text.extend_from_slice(b"\r\n");
            }
            crate::h1::write_last_chunk(&mut text, None);
            let (data, trailers, behind) = decode(&text, step).unwrap();
            prop_assert_eq!(data, chunks.concat());
            prop_assert!(trailers.is_empty() && behind.is_empty());
        }

        #[test]
        fn no_bytes_make_it_panic_or_invent_data(bytes: Vec<u8>) {
            let mut chunked = Chunked::default();
            let mut input = Bytes::from(bytes.clone());
            let mut data = 0;
            while let Ok(Piece::Data(piece)) = chunked.decode(&mut input) {
                data += piece.len();
            }
            prop_assert!(data <= bytes.len());
        }
    }
}
