//! Requests to bytes.

use http::{HeaderMap, header, request::Parts};

use super::write_field;
use crate::h1::Lines;

/// How the end of a request's body is told (RFC 9112 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes follow.
    Length(u64),
    /// Chunks follow.
    Chunked,
}

/// Writes the head of a request in HTTP/1.1 with `added` lines behind its headers, and with the framing of its own body rather
/// than the one in its headers.
pub fn write_request(out: &mut Vec<u8>, parts: &Parts, added: &Lines, framing: Framing) {
    out.extend_from_slice(parts.method.as_str().as_bytes());
    out.push(b' ');
    let target = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    if !target.starts_with(['/', '*']) {
        // What an absolute form had no path for.
        out.push(b'/');
    }
    out.extend_from_slice(target.as_bytes());
    out.extend_from_slice(b" HTTP/1.1\r\n");
    for (name, value) in &parts.headers {
        match *name {
            header::TRANSFER_ENCODING => continue,
            // Of a request without a body it says no more than that, which servers may want to hear.
            header::CONTENT_LENGTH if framing != Framing::Empty => continue,
            _ => {}
        }
        write_field(out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(added.as_bytes());
    match framing {
        Framing::Empty => {}
        Framing::Length(length) => write_field(out, "content-length", itoa::Buffer::new().format(length).as_bytes()),
        Framing::Chunked => write_field(out, "transfer-encoding", b"chunked"),
    }
    out.extend_from_slice(b"\r\n");
}

/// Writes what comes before the data of a chunk (RFC 9112 section 7.1); the data must be followed by CR LF.
///
/// A chunk of no bytes would end the body and must not be written.
pub(in crate::h1) fn write_chunk_head(out: &mut Vec<u8>, length: usize) {
    debug_assert!(length > 0, "a chunk of no bytes ends the body");
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - length.leading_zeros()).div_ceil(4);
    out.extend((0..digits).rev().map(|digit| HEX[(length >> (4 * digit)) & 15]));
    out.extend_from_slice(b"\r\n");
}

/// Ends a chunked body, with its trailers.
pub(in crate::h1) fn write_last_chunk(out: &mut Vec<u8>, trailers: Option<&HeaderMap>) {
    out.extend_from_slice(b"0\r\n");
    for (name, value) in trailers.into_iter().flatten() {
        if may_trail(name) {
            write_field(out, name.as_str(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a field may come after the body: not what says how to read or route the message, or who sent it (RFC 9110
/// section 6.5.1).
fn may_trail(name: &header::HeaderName) -> bool {
    const OTHERS: [&str; 4] = ["keep-alive", "proxy-connection", "proxy-authentication-info", "x-real-ip"];
    const HEAD_ONLY: [header::HeaderName; 19] = [
        header::AUTHORIZATION,
        header::CACHE_CONTROL,
        header::CONNECTION,
        header::CONTENT_ENCODING,
        header::CONTENT_LENGTH,
        header::CONTENT_RANGE,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::EXPECT,
        header::FORWARDED,
        header::HOST,
        header::MAX_FORWARDS,
        header::PROXY_AUTHENTICATE,
        header::PROXY_AUTHORIZATION,
        header::SET_COOKIE,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    // Servers that read `_` as `-` must not be fooled either.
    let text = name.as_str();
    !HEAD_ONLY.contains(name) && !text.contains('_') && !text.starts_with("x-forwarded-") && !OTHERS.contains(&text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn written(framing: Framing, headers: &[(&str, &str)]) -> String {
        let mut builder = Request::post("/a?b=c");
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut out = Vec::new();
        let mut added = Lines::default();
        added.push(&header::FORWARDED, &header::HeaderValue::from_static("us"));
        write_request(&mut out, &builder.body(()).unwrap().into_parts().0, &added, framing);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_head_has_the_framing_of_the_body() {
        let both = [("host", "h"), ("content-length", "7"), ("transfer-encoding", "chunked")];
        assert_eq!(
            written(Framing::Chunked, &both),
            "POST /a?b=c HTTP/1.1\r\nhost: h\r\nforwarded: us\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert_eq!(
            written(Framing::Length(7), &both),
            "POST /a?b=c HTTP/1.1\r\nhost: h\r\nforwarded: us\r\ncontent-length: 7\r\n\r\n"
        );
        let none = [("host", "h"), ("content-length", "0")];
        assert_eq!(
            written(Framing::Empty, &none),
            "POST /a?b=c HTTP/1.1\r\nhost: h\r\ncontent-length: 0\r\nforwarded: us\r\n\r\n"
        );
    }

    #[test]
    fn a_target_has_a_path() {
        for (target, line) in
            [("http://h?a=b", "GET /?a=b HTTP/1.1"), ("http://h#c", "GET / HTTP/1.1"), ("*", "GET * HTTP/1.1")]
        {
            let mut out = Vec::new();
            let parts = Request::get(target).body(()).unwrap().into_parts().0;
            write_request(&mut out, &parts, &Lines::default(), Framing::Empty);
            assert_eq!(String::from_utf8(out).unwrap().lines().next(), Some(line));
        }
    }

    #[test]
    fn chunks_have_their_size_in_hexadecimal() {
        let mut out = Vec::new();
        for length in [1, 15, 16, 26, 0x1000] {
            write_chunk_head(&mut out, length);
        }
        assert_eq!(out, b"1\r\nf\r\n10\r\n1a\r\n1000\r\n");
    }

    #[test]
    fn trailers_cannot_change_how_the_message_is_read() {
        let mut trailers = HeaderMap::new();
        for name in
            ["x-checksum", "content-length", "host", "transfer-encoding", "x-forwarded-for", "x_a", "keep-alive"]
        {
            trailers.insert(name, "1".parse().unwrap());
        }
        let mut out = Vec::new();
        write_last_chunk(&mut out, Some(&trailers));
        assert_eq!(out, b"0\r\nx-checksum: 1\r\n\r\n");
        out.clear();
        write_last_chunk(&mut out, None);
        assert_eq!(out, b"0\r\n\r\n");
    }
}
