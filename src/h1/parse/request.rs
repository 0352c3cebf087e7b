//! Bytes to the head of a request.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, Uri, Version,
    header::{self, HeaderName},
    request::Parts,
};
use httparse::Status;

use super::{Limits, MAX_HEADERS, MAX_TARGET, Noted, ParseError, nominates};
use crate::h1::Decoder;

/// What stands behind a head and would be kept with it if they shared their buffer: with more, the head is copied out.
const BEHIND: usize = 4 * 1024;

/// A head, and how what follows it is to be read.
#[derive(Debug)]
pub struct RequestHead {
    /// Method, target and headers. What Connection says of the connection alone is in `keep_alive`.
    pub parts: Parts,
    /// Reads the body.
    pub body: Decoder,
    /// Whether the client may send another request after this one (RFC 9112 section 9.3).
    pub keep_alive: bool,
    /// Whether the client waits to be asked for the body (RFC 9110 section 10.1.1).
    pub expects_continue: bool,
    /// Bytes of the head.
    pub length: usize,
}

/// Reads a head from the start of `input`; `None` when it is not complete yet. `spare` is an empty map whose room is used.
///
/// What is refused here cannot be told apart into messages with certainty; what else a balancer does not pass on is for
/// `http_rules` to say.
///
/// # Errors
/// When no further bytes could make it a head.
pub fn parse_request(input: &Bytes, limits: Limits, spare: &mut HeaderMap) -> Result<Option<RequestHead>, ParseError> {
    let mut lines = [const { MaybeUninit::uninit() }; MAX_HEADERS];
    let mut request = httparse::Request::new(&mut []);
    let parser = httparse::ParserConfig::default();
    let length = match parser.parse_request_with_uninit_headers(&mut request, input, &mut lines) {
        Ok(Status::Complete(length)) if length <= limits.head => length,
        Ok(Status::Partial) if input.len() < limits.head => return Ok(None),
        Ok(Status::Complete(_) | Status::Partial) => return Err(ParseError::TooLong(limits.head)),
        Err(error) => return Err(ParseError::Syntax(error)),
    };
    // The target and the values share the bytes of the head, rather than be copied one by one.
    let copied;
    let head = if input.len() - length < BEHIND {
        input
    } else {
        copied = Bytes::copy_from_slice(&input[..length]);
        &copied
    };
    let share = |part: &[u8]| {
        let start = part.as_ptr().addr() - input.as_ptr().addr();
        head.slice(start..start + part.len())
    };
    let old = request.version == Some(0);
    let target = request.path.unwrap_or_default();
    if target.len() > MAX_TARGET {
        return Err(ParseError::TargetTooLong);
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    parts.version = if old { Version::HTTP_10 } else { Version::HTTP_11 };
    parts.method = Method::from_bytes(request.method.unwrap_or_default().as_bytes())
        .map_err(|_| ParseError::Syntax(httparse::Error::Token))?;
    parts.uri = Uri::from_maybe_shared(share(target.as_bytes())).map_err(|_| ParseError::Target)?;
    let mut headers = std::mem::take(spare);
    headers.reserve(request.headers.len());
    let (mut framing, mut expects_continue) = (Noted::default(), false);
    // Who asks for another protocol, or names headers that are for the next hop alone.
    let all = request.headers.iter().any(nominates);
    for line in request.headers.iter() {
        let name = HeaderName::from_bytes(line.name.as_bytes())
            .map_err(|_| ParseError::Syntax(httparse::Error::HeaderName))?;
        let value = HeaderValue::from_maybe_shared(share(line.value))
            .map_err(|_| ParseError::Syntax(httparse::Error::HeaderValue))?;
        framing.note(&name, line.value)?;
        if name == header::EXPECT {
            expects_continue = !old && value.as_bytes().eq_ignore_ascii_case(b"100-continue");
        }
        if all || name != header::CONNECTION {
            headers.append(name, value);
        }
    }
    if framing.repeated_length {
        // All alike: one says as much.
        let length = headers.get(header::CONTENT_LENGTH).cloned();
        length.and_then(|length| headers.insert(header::CONTENT_LENGTH, length));
    }
    if framing.chunked && old {
        return Err(ParseError::Coding);
    }
    if framing.both {
        // Chunks win, and nothing behind them is believed (RFC 9112 section 6.1).
        headers.remove(header::CONTENT_LENGTH);
    }
    let body = if framing.chunked { Decoder::chunked() } else { Decoder::Length(framing.length.unwrap_or(0)) };
    parts.headers = headers;
    let keep_alive = framing.keeps(old) && !framing.both;
    Ok(Some(RequestHead { parts, body, keep_alive, expects_continue, length }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { head: 1024 };

    fn parse(text: &str) -> Result<Option<RequestHead>, ParseError> {
        parse_request(&Bytes::copy_from_slice(text.as_bytes()), LIMITS, &mut HeaderMap::new())
    }

    fn with(lines: &str) -> Result<RequestHead, ParseError> {
        parse(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")).map(Option::unwrap)
    }

    #[test]
    fn a_head_is_read_and_measured() {
        let text = "GET /a?b=c HTTP/1.1\r\nHost: h\r\nA: 1\r\nb:2 \r\na: 3\r\n\r\nGET";
        let head = parse(text).unwrap().unwrap();
        assert_eq!((head.parts.method.as_str(), head.parts.uri.to_string().as_str()), ("GET", "/a?b=c"));
        assert_eq!((head.length, head.keep_alive, head.body), (text.len() - 3, true, Decoder::Length(0)));
        assert_eq!(head.parts.headers.get_all("a").iter().collect::<Vec<_>>(), ["1", "3"]);
    }

    #[test]
    fn a_head_does_not_keep_the_buffer_of_much_that_is_behind_it() {
        for (behind, keeps) in [(BEHIND - 1, true), (BEHIND, false)] {
            let text = format!("PUT /a HTTP/1.1\r\nA: 1\r\ncontent-length: {behind}\r\n\r\n{}", "x".repeat(behind));
            let input = Bytes::from(text);
            let head = parse_request(&input, LIMITS, &mut HeaderMap::new()).unwrap().unwrap();
            assert_eq!((head.parts.uri.path(), &head.parts.headers["a"]), ("/a", &HeaderValue::from_static("1")));
            assert_eq!(!input.is_unique(), keeps, "{behind}");
        }
    }

    #[test]
    fn the_length_of_a_body_is_read_in_one_way_or_not_at_all() {
        assert_eq!(with("content-length: 3\r\ncontent-length: 3").unwrap().body, Decoder::Length(3));
        assert_eq!(with("transfer-encoding: Chunked").unwrap().body, Decoder::chunked());
        for (lines, error) in [
            ("content-length: 3\r\ncontent-length: 4", ParseError::Length),
            ("content-length: 3, 3", ParseError::Length),
            ("content-length: +3", ParseError::Length),
            ("content-length: 0x10", ParseError::Length),
            ("content-length:", ParseError::Length),
            ("content-length: 9223372036854775808", ParseError::Length),
            ("transfer-encoding: gzip, chunked", ParseError::Coding),
            ("transfer-encoding: chunked, chunked", ParseError::Coding),
            ("transfer-encoding: chunked\r\ntransfer-encoding: chunked", ParseError::Coding),
            ("transfer-encoding: identity", ParseError::Coding),
        ] {
            assert_eq!(with(lines).err(), Some(error), "{lines}");
        }
        let old = parse("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(old.err(), Some(ParseError::Coding));
    }

    #[test]
    fn chunks_win_over_a_length_and_nothing_behind_them_is_read() {
        for lines in [
            "content-length: 3\r\ntransfer-encoding: chunked",
            "transfer-encoding: chunked\r\ncontent-length: 3\r\ncontent-length: x",
        ] {
            let head = with(lines).unwrap();
            assert_eq!((head.body, head.keep_alive), (Decoder::chunked(), false));
            assert_eq!(head.parts.headers.get("content-length"), None);
        }
    }

    #[test]
    fn a_connection_is_kept_as_the_version_and_the_client_say() {
        let keeps = |text: &str| parse(text).unwrap().unwrap().keep_alive;
        assert!(keeps("GET / HTTP/1.1\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nconnection: x, Close\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.1\r\nconnection: close\r\nconnection: keep-alive\r\n\r\n"));
        assert!(!keeps("GET / HTTP/1.0\r\n\r\n"));
        assert!(keeps("GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n"));
    }

    #[test]
    fn only_a_client_of_today_is_asked_for_its_body() {
        assert!(with("Expect: 100-Continue").unwrap().expects_continue);
        assert!(!with("Expect: nothing").unwrap().expects_continue);
        let old = parse("POST / HTTP/1.0\r\nexpect: 100-continue\r\ncontent-length: 1\r\n\r\n").unwrap().unwrap();
        assert!(!old.expects_continue);
    }

    #[test]
    fn what_is_no_request_is_told_by_reason() {
        let long = "x".repeat(70_000);
        let large = Limits { head: 100_000 };
        let parse = |text: &str| {
            parse_request(&Bytes::copy_from_slice(text.as_bytes()), large, &mut HeaderMap::new())
                .map(|head| head.is_some())
        };
        assert_eq!(parse(&format!("GET /{long} HTTP/1.1\r\n\r\n")), Err(ParseError::TargetTooLong));
        assert_eq!(parse(&format!("GET / HTTP/1.1\r\na: {long}{long}")), Err(ParseError::TooLong(100_000)));
        let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(101));
        assert_eq!(parse(&many), Err(ParseError::Syntax(httparse::Error::TooManyHeaders)));
        for broken in
            ["GET /\r\n\r\n", "GET / HTTP/1.2\r\n\r\n", "GET / HTTP/1.1\r\na : b\r\n\r\n", "PRI * HTTP/2.0\r\n\r\n"]
        {
            assert!(matches!(parse(broken), Err(ParseError::Syntax(_))), "{broken}");
        }
        assert_eq!(parse("\r\n\r\nGET / HTTP/1.1\r\n\r\n"), Ok(true), "empty lines before a request mean nothing");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>) {
            let _any = parse_request(&Bytes::from(bytes), LIMITS, &mut HeaderMap::new());
        }

        #[test]
        fn a_head_is_complete_at_its_last_byte(cut in 0_usize..=40) {
            let text = "GET /a HTTP/1.1\r\nHost: h\r\nA: 1\r\n\r\nbehind";
            prop_assert_eq!(parse(&text[..cut]).unwrap().is_some(), cut >= text.len() - "behind".len());
        }
    }
}
