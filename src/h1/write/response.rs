//! The head of a response to bytes.

use http::{HeaderMap, StatusCode, header, response::Parts};

use super::write_field;
use crate::h1::{Lines, Reason, is_bodiless};

/// What the request says of how its response must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// It was a HEAD.
    pub is_head: bool,
    /// Its client speaks HTTP/1.0.
    pub old: bool,
    /// The connection can take another request after this response.
    pub keep_alive: bool,
}

/// How the end of a response's body is told (RFC 9112 section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseFraming {
    /// There is no body.
    Empty,
    /// So many bytes follow.
    Length(u64),
    /// Chunks follow.
    Chunked,
    /// The end of the connection is the end of the body.
    UntilClose,
}

/// Writes the head of a final response, with the framing of its own body, whose `length` may be known, and says whether the
/// connection is kept. Returns that framing, and whether the connection can be kept.
pub fn write_response(
    out: &mut Vec<u8>,
    parts: &Parts,
    lines: &Lines,
    manner: Manner,
    length: Option<u64>,
) -> (ResponseFraming, bool) {
    let Manner { is_head, old, keep_alive } = manner;
    let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let framing = match length {
        _ if is_head || is_bodiless(parts.status) => ResponseFraming::Empty,
        Some(length) => ResponseFraming::Length(length),
        None if old => ResponseFraming::UntilClose,
        None => ResponseFraming::Chunked,
    };
    write_status(out, parts, old);
    out.extend_from_slice(lines.as_bytes());
    let (mut closes, mut has_length) = (false, lines.tells_length());
    // It would be a bug of ours: rather no response than one that can be read in two ways.
    assert!(!has_length || length.is_some(), "a response tells a length that its body does not have");
    for (name, value) in &parts.headers {
        match *name {
            header::CONNECTION if !switches => {
                closes |= value.as_bytes().eq_ignore_ascii_case(b"close");
                continue;
            }
            header::TRANSFER_ENCODING => continue,
            header::CONTENT_LENGTH => match framing {
                // Of a body that is not sent it tells how long it would be.
                ResponseFraming::Empty | ResponseFraming::Length(_) => has_length = true,
                ResponseFraming::Chunked | ResponseFraming::UntilClose => continue,
            },
            _ => {}
        }
        write_field(out, name.as_str(), value.as_bytes());
    }
    match framing {
        ResponseFraming::Length(length) if !has_length => {
            write_field(out, "content-length", itoa::Buffer::new().format(length).as_bytes());
        }
        ResponseFraming::Chunked => write_field(out, "transfer-encoding", b"chunked"),
        ResponseFraming::Empty | ResponseFraming::Length(_) | ResponseFraming::UntilClose => {}
    }
    let keeps = keep_alive && !closes && framing != ResponseFraming::UntilClose;
    match (switches, keeps, old) {
        // What a client does by itself it need not be told.
        (true, _, _) | (false, true, false) => {}
        (false, true, true) => write_field(out, "connection", b"keep-alive"),
        (false, false, _) => write_field(out, "connection", b"close"),
    }
    out.extend_from_slice(b"\r\n");
    (framing, keeps)
}

/// Writes a response in between (1xx), which has no body.
pub fn write_interim(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    let reason = status.canonical_reason().unwrap_or_default();
    out.extend_from_slice(format!("HTTP/1.1 {} {reason}\r\n", status.as_str()).as_bytes());
    for (name, value) in headers {
        write_field(out, name.as_str(), value.as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

fn write_status(out: &mut Vec<u8>, parts: &Parts, old: bool) {
    if parts.status == StatusCode::OK && !old {
        return out.extend_from_slice(b"HTTP/1.1 200 OK\r\n");
    }
    out.extend_from_slice(if old { b"HTTP/1.0 " } else { b"HTTP/1.1 " });
    out.extend_from_slice(parts.status.as_str().as_bytes());
    out.push(b' ');
    let known = parts.status.canonical_reason();
    let reason = known.or_else(|| parts.extensions.get().map(Reason::as_str));
    out.extend_from_slice(reason.unwrap_or_default().as_bytes());
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;

    const TODAY: Manner = Manner { is_head: false, old: false, keep_alive: true };

    fn write(status: u16, headers: &[(&str, &str)], manner: Manner, length: Option<u64>) -> (String, bool) {
        let mut builder = Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut out = Vec::new();
        let (_, keeps) =
            write_response(&mut out, &builder.body(()).unwrap().into_parts().0, &Lines::default(), manner, length);
        (String::from_utf8(out).unwrap(), keeps)
    }

    #[test]
    fn the_head_has_the_framing_of_the_body() {
        let row = |headers: &[(&str, &str)], length| write(200, headers, TODAY, length).0;
        assert_eq!(row(&[("a", "b")], Some(7)), "HTTP/1.1 200 OK\r\na: b\r\ncontent-length: 7\r\n\r\n");
        assert_eq!(row(&[("content-length", "7")], Some(7)), "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n");
        assert_eq!(row(&[("content-length", "7")], None), "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n");
    }

    #[test]
    fn what_has_no_body_says_at_most_how_long_it_would_be() {
        let head = Manner { is_head: true, ..TODAY };
        assert_eq!(
            write(200, &[("content-length", "7")], head, Some(0)).0,
            "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n"
        );
        assert_eq!(write(200, &[], head, Some(0)).0, "HTTP/1.1 200 OK\r\n\r\n");
        assert_eq!(write(304, &[], TODAY, Some(0)).0, "HTTP/1.1 304 Not Modified\r\n\r\n");
        let switched = [("connection", "Upgrade"), ("upgrade", "websocket")];
        assert_eq!(
            write(101, &switched, TODAY, Some(0)).0,
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n"
        );
    }

    #[test]
    fn whether_the_connection_is_kept_is_told_to_who_would_think_otherwise() {
        let old = Manner { old: true, ..TODAY };
        let ends = Manner { keep_alive: false, ..TODAY };
        for (manner, headers, length, last, kept) in [
            (TODAY, &[][..], Some(0), "content-length: 0", true),
            (TODAY, &[("connection", "close")][..], Some(0), "connection: close", false),
            (ends, &[][..], Some(0), "connection: close", false),
            (old, &[][..], Some(0), "connection: keep-alive", true),
            (old, &[][..], None, "connection: close", false),
        ] {
            let (text, keeps) = write(200, headers, manner, length);
            assert!(text.ends_with(&format!("{last}\r\n\r\n")), "{text}");
            assert_eq!(keeps, kept, "{text}");
        }
    }

    #[test]
    fn a_status_that_nobody_knows_keeps_its_reason() {
        let (mut parts, ()) = Response::builder().status(299).body(()).unwrap().into_parts();
        parts.extensions.insert(Reason::new("Odd"));
        let mut out = Vec::new();
        write_response(&mut out, &parts, &Lines::default(), TODAY, Some(0));
        assert!(out.starts_with(b"HTTP/1.1 299 Odd\r\n"));
    }
}
