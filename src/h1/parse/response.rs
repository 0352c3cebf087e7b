//! Bytes to the head of a response.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{
    HeaderValue, Method, Response, StatusCode, Version,
    header::{self, HeaderName},
    response::Parts,
};
use httparse::Status;

use super::{Limits, MAX_HEADERS, Noted, ParseError, nominates};
use crate::h1::{Decoder, Lines, is_bodiless};

/// A head, and how what follows it is to be read.
#[derive(Debug)]
pub struct ResponseHead {
    /// Status, and the headers that rules may ask for. What Connection says of the connection alone is in `keep_alive`.
    pub parts: Parts,
    /// The other headers, and the length of a body that follows.
    pub lines: Lines,
    /// Reads the body. A response in between (1xx) has none.
    pub body: Decoder,
    /// Whether the connection can take another request after this response (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// Bytes of the head.
    pub length: usize,
}

/// What a server calls its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(Box<str>);

impl Reason {
    /// A reason from a head that was parsed.
    pub fn new(reason: &str) -> Self {
        Self(reason.into())
    }

    /// Its text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads a head from the start of `input`; `None` when it is not complete yet. `asked` is the method that it answers.
///
/// # Errors
/// When no further bytes could make it a head.
pub fn parse_response(input: &Bytes, asked: &Method, limits: Limits) -> Result<Option<ResponseHead>, ParseError> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut response = httparse::Response::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_response_with_uninit_headers(&mut response, input, &mut lines) {
        Ok(Status::Complete(length)) if length <= limits.head => length,
        Ok(Status::Partial) if input.len() < limits.head => return Ok(None),
        Ok(Status::Complete(_) | Status::Partial) => return Err(ParseError::TooLong(limits.head)),
        Err(error) => return Err(ParseError::Syntax(error)),
    };
    let old = response.version == Some(0);
    let (mut parts, ()) = Response::new(()).into_parts();
    parts.version = if old { Version::HTTP_10 } else { Version::HTTP_11 };
    parts.status = response
        .code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .ok_or(ParseError::Syntax(httparse::Error::Status))?;
    if parts.status.canonical_reason().is_none() {
        // Nobody else knows what to call it.
        parts.extensions.insert(Reason::new(response.reason.unwrap_or_default()));
    }
    let (mut framing, mut lines) = (Noted::default(), Lines::default());
    // Who names others in Connection has them removed; and of a response in between rules ask for everything.
    let all = parts.status.is_informational() || response.headers.iter().any(nominates);
    let bodiless = asked == Method::HEAD || is_bodiless(parts.status);
    for line in response.headers.iter() {
        if !all && Lines::takes(line.name) {
            lines.push_parsed(line.name, line.value);
            continue;
        }
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| ParseError::Syntax(httparse::Error::HeaderName))?;
        framing.note(&name, line.value)?;
        if !all && !bodiless && name == header::CONTENT_LENGTH {
            // No rule changes it: it is how the body is read. One says as much as two that are alike.
            if !lines.tells_length() {
                lines.push_length(line.name, line.value);
            }
        } else if all || name != header::CONNECTION {
            // Shares the bytes of the input, rather than copy each value.
            let value = HeaderValue::from_maybe_shared(input.slice_ref(line.value))
                .map_err(|_| ParseError::Syntax(httparse::Error::HeaderValue))?;
            parts.headers.append(name, value);
        }
    }
    if framing.repeated_length {
        // All alike: one says as much.
        let length = parts.headers.get(header::CONTENT_LENGTH).cloned();
        length.and_then(|length| parts.headers.insert(header::CONTENT_LENGTH, length));
    }
    let body = body(&framing, bodiless, old)?;
    let keep_alive = framing.keeps(old) && !matches!(body, Decoder::UntilClose);
    Ok(Some(ResponseHead { parts, lines, body, keep_alive, length }))
}

/// How the body is read (RFC 9112 section 6.3).
fn body(framing: &Noted, bodiless: bool, old: bool) -> Result<Decoder, ParseError> {
    if framing.both {
        return Err(ParseError::Length);
    }
    if framing.chunked && old {
        return Err(ParseError::Coding);
    }
    Ok(match (bodiless, framing.chunked, framing.length) {
        (true, _, _) => Decoder::Length(0),
        (false, true, _) => Decoder::chunked(),
        (false, false, Some(length)) => Decoder::Length(length),
        (false, false, None) => Decoder::UntilClose,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { head: 1024 };

    fn parse(text: &str) -> Result<Option<ResponseHead>, ParseError> {
        parse_response(&Bytes::copy_from_slice(text.as_bytes()), &Method::GET, LIMITS)
    }

    fn body(text: &str) -> Result<Decoder, ParseError> {
        parse(text).map(|head| head.unwrap().body)
    }

    #[test]
    fn a_head_is_read_and_measured() {
        let head =
            parse("HTTP/1.1 201 Made\r\nA: 1\r\nb:2 \r\na: 3\r\ncontent-length: 5\r\n\r\nhello").unwrap().unwrap();
        assert_eq!((head.parts.status.as_u16(), head.length, head.keep_alive), (201, 58, true));
        assert_eq!(head.lines.as_bytes(), b"A: 1\r\nb: 2\r\na: 3\r\ncontent-length: 5\r\n");
        assert!(head.parts.headers.is_empty() && head.lines.tells_length());
        assert_eq!(head.body, Decoder::Length(5));
    }

    #[test]
    fn the_length_of_a_body_is_read_in_one_way_or_not_at_all() {
        assert_eq!(body("HTTP/1.1 200 OK\r\n\r\n"), Ok(Decoder::UntilClose));
        assert_eq!(body("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n"), Ok(Decoder::chunked()));
        assert_eq!(body("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 3\r\n\r\n"), Ok(Decoder::Length(3)));
        for (lines, error) in [
            ("content-length: 3\r\ncontent-length: 4", ParseError::Length),
            ("content-length: 3, 3", ParseError::Length),
            ("content-length: +3", ParseError::Length),
            ("content-length:", ParseError::Length),
            ("content-length: 99999999999999999999", ParseError::Length),
            ("content-length: 3\r\ntransfer-encoding: chunked", ParseError::Length),
            ("transfer-encoding: chunked\r\ncontent-length: 3\r\ncontent-length: 3", ParseError::Length),
            ("transfer-encoding: gzip, chunked", ParseError::Coding),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", ParseError::Coding),
        ] {
            assert_eq!(body(&format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n")), Err(error), "{lines}");
        }
        assert_eq!(body("HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"), Err(ParseError::Coding));
    }

    #[test]
    fn a_length_is_passed_on_once_and_only_with_its_body() {
        for (text, lines) in [
            ("200 OK\r\nContent-Length: 3\r\ncontent-length: 3", "Content-Length: 3\r\n"),
            ("200 OK\r\ntransfer-encoding: chunked", ""),
            ("200 OK\r\nx: 1", "x: 1\r\n"),
            ("304 Not Modified\r\ncontent-length: 3", ""),
            ("200 OK\r\nconnection: x\r\ncontent-length: 3", ""),
        ] {
            let head = parse(&format!("HTTP/1.1 {text}\r\n\r\n")).unwrap().unwrap();
            assert_eq!(head.lines.as_bytes(), lines.as_bytes(), "{text}");
            assert_eq!(head.lines.tells_length(), lines.starts_with('C'), "{text}");
        }
    }

    #[test]
    fn who_names_headers_for_the_next_hop_alone_has_them_all_looked_at() {
        let headers = |text: &str| {
            let head = parse(text).unwrap().unwrap();
            (head.parts.headers.len(), head.lines.as_bytes().len())
        };
        assert_eq!(headers("HTTP/1.1 200 OK\r\nconnection: Close\r\nx: 1\r\n\r\n"), (0, "x: 1\r\n".len()));
        assert_eq!(headers("HTTP/1.1 200 OK\r\nconnection: close, x\r\nx: 1\r\n\r\n"), (2, 0));
        assert_eq!(headers("HTTP/1.1 200 OK\r\nx: 1\r\nconnection: close\r\nConnection: x\r\n\r\n"), (3, 0));
        assert_eq!(headers("HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"), (1, 0));
    }

    #[test]
    fn some_responses_have_no_body_whatever_they_say() {
        for status in ["103 Early Hints", "204 No Content", "304 Not Modified"] {
            assert_eq!(body(&format!("HTTP/1.1 {status}\r\ncontent-length: 3\r\n\r\n")), Ok(Decoder::Length(0)));
        }
        let text = Bytes::from_static(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
        let head = parse_response(&text, &Method::HEAD, LIMITS).unwrap().unwrap();
        assert_eq!((head.body, head.keep_alive), (Decoder::Length(0), true));
        assert_eq!(head.parts.headers["content-length"], "3");
    }

    #[test]
    fn a_connection_is_kept_when_both_sides_can() {
        let keeps = |text: &str| parse(text).unwrap().unwrap().keep_alive;
        assert!(keeps("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(!keeps("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: x, Close\r\n\r\n"));
        assert!(!keeps("HTTP/1.0 200 OK\r\ncontent-length: 0\r\n\r\n"));
        assert!(keeps("HTTP/1.0 200 OK\r\ncontent-length: 0\r\nconnection: Keep-Alive\r\n\r\n"));
        assert!(!keeps("HTTP/1.1 200 OK\r\n\r\n"));
    }

    #[test]
    fn a_head_has_an_end() {
        let long = format!("HTTP/1.1 200 OK\r\na: {}", "x".repeat(1024));
        assert_eq!(parse(&long).err(), Some(ParseError::TooLong(1024)));
        let complete = format!("HTTP/1.1 200 OK\r\na: {}\r\n\r\n", "x".repeat(1024));
        assert_eq!(parse(&complete).err(), Some(ParseError::TooLong(1024)));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "a: b\r\n".repeat(101));
        assert_eq!(parse(&many).err(), Some(ParseError::Syntax(httparse::Error::TooManyHeaders)));
        assert!(matches!(parse("SSH-2.0-OpenSSH_9.2\r\n"), Err(ParseError::Syntax(_))));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _any = parse_response(&Bytes::from(bytes), &Method::GET, LIMITS);
        }

        #[test]
        fn a_head_is_complete_at_its_last_byte(cut in 0_usize..=63) {
            let text = "HTTP/1.1 201 Made\r\nA: 1\r\nb:2 \r\na: 3\r\ncontent-length: 5\r\n\r\nhello";
            prop_assert_eq!(parse(&text[..cut]).unwrap().is_some(), cut >= 58);
        }
    }
}
