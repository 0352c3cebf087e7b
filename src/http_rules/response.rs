//! Which responses are passed on.

use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{self, HeaderName},
    response::Parts,
};

use super::hop_by_hop::{strip_hop_by_hop, strip_plain_connection};

/// The response can be read in two ways, or answers another question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResponse {
    /// Content-Length together with Transfer-Encoding (RFC 9112 section 6.3).
    #[error("the response has both Content-Length and Transfer-Encoding")]
    TwoLengths,
    /// Transfer-Encoding is anything but one `chunked` (RFC 9112 section 6.1): its framing is taken off here, and what else
    /// it says would be lost with it.
    #[error("the response has a Transfer-Encoding other than one chunked")]
    TransferEncoding,
    /// 101 without a request for an upgrade, or to another protocol.
    #[error("the response switches to a protocol that nobody asked for")]
    Unasked,
}

/// Checks a response head and removes what is for us alone; `upgrade` tells whether the request asked for one.
///
/// # Errors
/// When the response must not reach the client.
pub fn prepare_response(parts: &mut Parts, upgrade: bool) -> Result<(), InvalidResponse> {
    let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    if switching && !upgrade {
        return Err(InvalidResponse::Unasked);
    }
    let Noted { length, encoding, connection, other } = Noted::of(&parts.headers);
    if length && encoding {
        return Err(InvalidResponse::TwoLengths);
    }
    if encoding && !is_only(&parts.headers, &header::TRANSFER_ENCODING, b"chunked") {
        return Err(InvalidResponse::TransferEncoding);
    }
    if switching {
        if !is_only(&parts.headers, &header::UPGRADE, b"websocket") {
            return Err(InvalidResponse::Unasked);
        }
        strip_hop_by_hop(&mut parts.headers);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    } else if other || (connection && !strip_plain_connection(&mut parts.headers)) {
        strip_hop_by_hop(&mut parts.headers);
    }
    if encoding {
        // The client may speak HTTP/1.0: its side of the copy is framed anew.
        parts.headers.remove(header::TRANSFER_ENCODING);
    }
    Ok(())
}

/// Whether there is one line of the header, with this value.
fn is_only(headers: &HeaderMap, name: &HeaderName, value: &[u8]) -> bool {
    let mut lines = headers.get_all(name).iter();
    lines.next().is_some_and(|line| line.as_bytes().eq_ignore_ascii_case(value)) && lines.next().is_none()
}

#[derive(Default)]
struct Noted {
    length: bool,
    encoding: bool,
    connection: bool,
    other: bool,
}

impl Noted {
    fn of(headers: &HeaderMap) -> Self {
        let mut noted = Self::default();
        for name in headers.keys() {
            match *name {
                header::CONTENT_LENGTH => noted.length = true,
                header::TRANSFER_ENCODING => noted.encoding = true,
                header::CONNECTION => noted.connection = true,
                header::UPGRADE | header::TE => noted.other = true,
                _ => noted.other |= matches!(name.as_str(), "keep-alive" | "proxy-connection"),
            }
        }
        noted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;

    fn prepare(status: u16, headers: &[(&str, &str)], upgrade: bool) -> Result<HeaderMap, InvalidResponse> {
        let mut builder = Response::builder().status(status);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        let mut parts = builder.body(()).unwrap().into_parts().0;
        prepare_response(&mut parts, upgrade).map(|()| parts.headers)
    }

    #[test]
    fn a_response_with_two_lengths_is_refused() {
        let headers = [("content-length", "3"), ("transfer-encoding", "chunked")];
        assert_eq!(prepare(200, &headers, false), Err(InvalidResponse::TwoLengths));
    }

    #[test]
    fn chunked_is_the_only_encoding() {
        for values in [&["gzip"][..], &["gzip, chunked"], &["chunked, chunked"], &["chunked", "chunked"], &[""]] {
            let headers: Vec<_> = values.iter().map(|value| ("transfer-encoding", *value)).collect();
            assert_eq!(prepare(200, &headers, false), Err(InvalidResponse::TransferEncoding), "{values:?}");
        }
    }

    #[test]
    fn protocols_are_switched_only_on_request() {
        let headers = [("connection", "upgrade"), ("upgrade", "websocket")];
        assert_eq!(prepare(101, &headers, false), Err(InvalidResponse::Unasked));
        assert_eq!(prepare(101, &headers, true).map(|left| left.len()), Ok(2));
        assert_eq!(prepare(101, &[("upgrade", "h2c")], true), Err(InvalidResponse::Unasked));
        let two = [("upgrade", "websocket"), ("upgrade", "h2c")];
        assert_eq!(prepare(101, &two, true), Err(InvalidResponse::Unasked));
        assert_eq!(prepare(200, &headers, true).map(|left| left.len()), Ok(0));
    }

    #[test]
    fn the_framing_of_the_copy_is_made_anew() {
        assert_eq!(prepare(200, &[("transfer-encoding", "chunked")], false).map(|left| left.len()), Ok(0));
        assert_eq!(prepare(200, &[("content-length", "3")], false).map(|left| left.len()), Ok(1));
    }
}
