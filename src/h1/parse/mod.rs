//! Bytes to heads.

mod request;
mod response;

use http::header::{self, HeaderName};

pub use request::{RequestHead, parse_request};
pub use response::{Reason, ResponseHead, parse_response};

/// Most header lines of a head.
const MAX_HEADERS: usize = 100;

/// How large a head may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes, with the line ends.
    pub head: usize,
}

/// Why bytes are not a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    /// Its syntax is broken (RFC 9112 sections 3, 4 and 5).
    #[error("{0}")]
    Syntax(httparse::Error),
    /// The target is no URI (RFC 9112 section 3.2).
    #[error("the target is not valid")]
    Target,
    /// The target is longer than any may be.
    #[error("the target is longer than {MAX_TARGET} bytes")]
    TargetTooLong,
    /// It is longer than allowed.
    #[error("the head is longer than {0} bytes")]
    TooLong(usize),
    /// Its length can be read in two ways (RFC 9112 section 6.3).
    #[error("the length of the body can be read in two ways")]
    Length,
    /// It has a transfer coding that we don't speak.
    #[error("the transfer coding is not 'chunked'")]
    Coding,
}

/// Longest target; `http::Uri` takes no more.
const MAX_TARGET: usize = u16::MAX as usize - 1;

/// Longest body, in bytes: more than any can have.
const MOST: u64 = i64::MAX as u64;

/// What the headers say of body and connection.
#[derive(Default)]
struct Noted {
    length: Option<u64>,
    repeated_length: bool,
    chunked: bool,
    /// It has both lengths.
    both: bool,
    close: bool,
    keep_alive: bool,
}

impl Noted {
    fn note(&mut self, name: &HeaderName, value: &[u8]) -> Result<(), ParseError> {
        match *name {
            // Chunks win; what else is said does not matter, but that it is.
            header::CONTENT_LENGTH if self.chunked => self.both = true,
            header::CONTENT_LENGTH => {
                let length = number(value).filter(|&length| length <= MOST).ok_or(ParseError::Length)?;
                self.repeated_length = self.length.is_some();
                if self.length.replace(length).is_some_and(|before| before != length) {
                    return Err(ParseError::Length);
                }
            }
            header::TRANSFER_ENCODING => {
                if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                    return Err(ParseError::Coding);
                }
                self.both |= self.length.is_some();
                self.chunked = true;
            }
            header::CONNECTION => {
                for token in value.split(|&byte| byte == b',') {
                    self.close |= token.trim_ascii().eq_ignore_ascii_case(b"close");
                    self.keep_alive |= token.trim_ascii().eq_ignore_ascii_case(b"keep-alive");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether the other side takes or gives another message after this one (RFC 9112 section 9.3).
    fn keeps(&self, old: bool) -> bool {
        !self.close && (!old || self.keep_alive)
    }
}

/// Whether a line of Connection says more than what becomes of the connection.
fn nominates(line: &httparse::Header<'_>) -> bool {
    let is_plain = |value: &[u8]| value.eq_ignore_ascii_case(b"keep-alive") || value.eq_ignore_ascii_case(b"close");
    line.name.eq_ignore_ascii_case("connection") && !is_plain(line.value)
}

/// A number of digits alone.
fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, &digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}
