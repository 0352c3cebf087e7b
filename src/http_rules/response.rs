//! Which responses are passed on.

use http::{HeaderMap, HeaderValue, StatusCode, header, response::Parts};

use super::{
    hop_by_hop::{HopByHop, strip_hop_by_hop},
    upgrade,
};

/// The response answers another question.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidResponse {
    /// 101 without a request for an upgrade, or to another protocol.
    #[error("the response switches to a protocol that nobody asked for")]
    Unasked,
}

/// Checks a response head and removes what is for us alone; `asked` is the protocol that the request asked for.
///
/// # Errors
/// When the response must not reach the client.
pub fn prepare_response(parts: &mut Parts, asked: Option<&HeaderValue>) -> Result<(), InvalidResponse> {
    let switching = parts.status == StatusCode::SWITCHING_PROTOCOLS;
    let Noted { encoding, connection, other } = Noted::of(&parts.headers);
    if switching {
        let mut lines = parts.headers.get_all(header::UPGRADE).iter();
        let to = lines.next().filter(|_| lines.next().is_none());
        let protocol = asked.filter(|asked| to.is_some_and(|to| upgrade::names(to, asked)));
        let protocol = protocol.ok_or(InvalidResponse::Unasked)?.clone();
        strip_hop_by_hop(&mut parts.headers, HopByHop::Others);
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        parts.headers.insert(header::UPGRADE, protocol);
    } else {
        strip_hop_by_hop(&mut parts.headers, HopByHop::new(connection, other));
    }
    if parts.status == StatusCode::NO_CONTENT {
        // RFC 9110 section 8.6.
        parts.headers.remove(header::CONTENT_LENGTH);
    }
    if encoding {
        // The client may speak HTTP/1.0: its side of the copy is framed anew.
        parts.headers.remove(header::TRANSFER_ENCODING);
    }
    Ok(())
}

#[derive(Default)]
struct Noted {
    encoding: bool,
    connection: bool,
    other: bool,
}

impl Noted {
    fn of(headers: &HeaderMap) -> Self {
        let mut noted = Self::default();
        for name in headers.keys() {
            match *name {
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
        let asked = HeaderValue::from_static("websocket");
        prepare_response(&mut parts, upgrade.then_some(&asked)).map(|()| parts.headers)
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
