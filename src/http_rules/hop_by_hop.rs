//! Headers that are for the next hop alone (RFC 9110 section 7.6.1).

use http::{
    HeaderMap,
    header::{self, HeaderName},
};

/// Which of them a message has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum HopByHop {
    /// None.
    #[default]
    None,
    /// Connection alone.
    Connection,
    /// Others, too.
    Others,
}

impl HopByHop {
    pub(super) fn new(connection: bool, others: bool) -> Self {
        match (connection, others) {
            (_, true) => Self::Others,
            (true, false) => Self::Connection,
            (false, false) => Self::None,
        }
    }
}

/// Removes them, with those that Connection nominates; `found` is what the message has.
///
/// Transfer-Encoding stays: it has been checked, and the framing of the copy is made from it. What a message cannot do
/// without can't be nominated away.
pub fn strip_hop_by_hop(headers: &mut HeaderMap, found: HopByHop) {
    match found {
        HopByHop::None => {}
        HopByHop::Connection if strip_plain_connection(headers) => {}
        HopByHop::Connection | HopByHop::Others => strip_all(headers),
    }
}

fn strip_all(headers: &mut HeaderMap) {
    for name in nominated(headers) {
        headers.remove(name);
    }
    headers.remove(header::CONNECTION);
    for name in [header::UPGRADE, header::TE, header::PROXY_AUTHORIZATION, KEEP_ALIVE, PROXY_CONNECTION] {
        headers.remove(name);
    }
}

/// Removes a Connection header that is alone among its kind and nominates nothing, which is what most messages have.
/// Whether that was all there was to do.
fn strip_plain_connection(headers: &mut HeaderMap) -> bool {
    let mut lines = headers.get_all(header::CONNECTION).iter();
    let nominates = |value: &[u8]| !value.eq_ignore_ascii_case(b"keep-alive") && !value.eq_ignore_ascii_case(b"close");
    match (lines.next(), lines.next()) {
        (Some(only), None) if !nominates(only.as_bytes()) => {
            headers.remove(header::CONNECTION);
            true
        }
        _ => false,
    }
}

fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    let values = headers.get_all(header::CONNECTION).iter();
    let tokens = values.flat_map(|value| value.as_bytes().split(|&byte| byte == b','));
    let names = tokens.filter_map(|token| HeaderName::from_bytes(token.trim_ascii()).ok());
    names.filter(|name| !PROTECTED.contains(name)).collect()
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// What a message means without these is another message.
const PROTECTED: [HeaderName; 12] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::CONTENT_ENCODING,
    header::CONTENT_RANGE,
    header::TRANSFER_ENCODING,
    header::COOKIE,
    header::SET_COOKIE,
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::EXPECT,
    header::VARY,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_connection_header_is_all_there_is_to_strip() {
        for (value, plain) in [("Keep-Alive", true), ("close", true), ("close, x-trace", false), ("upgrade", false)] {
            let mut headers = HeaderMap::new();
            headers.append(header::CONNECTION, value.parse().unwrap());
            assert_eq!(strip_plain_connection(&mut headers), plain, "{value}");
            assert_eq!(headers.is_empty(), plain, "{value}");
        }
    }

    #[test]
    fn nominated_headers_go_and_protected_ones_stay() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Trace , host"),
            ("connection", "cookie"),
            ("x-trace", "1"),
            ("host", "a"),
            ("cookie", "b=c"),
            ("keep-alive", "5"),
            ("te", "trailers"),
            ("upgrade", "h2c"),
            ("accept", "*/*"),
        ] {
            headers.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        strip_hop_by_hop(&mut headers, HopByHop::Connection);
        let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "cookie", "host"]);
    }
}
