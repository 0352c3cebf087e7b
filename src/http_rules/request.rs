//! Which requests are passed on.
//!
//! The parser (`h1`) has refused broken syntax before; what it lets through and a server could read differently is refused
//! here. One pass over the headers notes everything of interest, so that an ordinary request costs no look-up.

use std::{net::Ipv6Addr, str};

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header, request::Parts, uri::PathAndQuery};

use super::{HopByHop, Upgrade, Upgrades, upgrade};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It is no request at all.
    Syntax,
    /// Its head is longer than the operator allows, or has too many lines.
    HeadTooLong,
    /// CONNECT: this is no forward proxy.
    Method,
    /// The target is not a path, a whole `http` URL, or `*` of OPTIONS (RFC 9112 section 3.2), or not plain ASCII.
    Target,
    /// The target is longer than the operator allows.
    TargetTooLong,
    /// Host is missing, there are several, or it is not `host[:port]` (RFC 9112 section 3.2).
    Host,
    /// Transfer-Encoding is anything but one `chunked` (RFC 9112 section 6.1).
    TransferEncoding,
    /// Expect is anything but `100-continue` (RFC 9110 section 10.1.1).
    Expectation,
    /// An upgrade together with a body.
    UpgradeWithBody,
}

impl Rejection {
    /// The status for the client.
    pub fn status(self) -> StatusCode {
        match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::HeadTooLong => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Syntax | Self::Target | Self::Host | Self::TransferEncoding | Self::UpgradeWithBody => {
                StatusCode::BAD_REQUEST
            }
        }
    }
}

/// What was noted of a request that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Screened {
    /// Its client takes trailers.
    pub trailers: bool,
    /// It asks for another protocol, which is allowed.
    pub upgrade: Option<Upgrade>,
    /// It has Cookie lines.
    pub has_cookie: bool,
    /// Its headers that are for us alone.
    pub hop_by_hop: HopByHop,
    /// Its sender wants to be asked for the body (`Expect: 100-continue`).
    pub expects_continue: bool,
    /// It has headers that could be taken for those that we write, or are.
    pub has_forwarding: bool,
}

/// Checks a request head and brings its target, which may have `longest_target` bytes, into origin form; `upgrades` are the
/// protocols that it may ask for.
///
/// # Errors
/// When the request must not reach a server.
pub fn screen(parts: &mut Parts, longest_target: usize, upgrades: &Upgrades) -> Result<Screened, Rejection> {
    if parts.method == Method::CONNECT {
        return Err(Rejection::Method);
    }
    let noted = Noted::of(&parts.headers)?;
    let authority = screen_target(&parts.method, &parts.uri, longest_target)?;
    let old = parts.version < Version::HTTP_11;
    match (authority, noted.hosts) {
        (_, 0) if !old => return Err(Rejection::Host),
        (Some(authority), _) => {
            // The absolute form wins over Host, and servers must see one truth (RFC 9112 section 3.2.2).
            let host = HeaderValue::from_str(authority).map_err(|_| Rejection::Host)?;
            parts.headers.insert(header::HOST, host);
            parts.uri = Uri::from(origin_form(&parts.uri)?);
        }
        (None, _) => {}
    }
    let upgrade = if noted.upgrade && noted.connection { upgrades.asked(parts) } else { None };
    if upgrade.is_some() && noted.body {
        return Err(Rejection::UpgradeWithBody);
    }
    Ok(Screened {
        upgrade,
        trailers: noted.trailers && !old,
        has_cookie: noted.cookie,
        expects_continue: noted.expect,
        hop_by_hop: HopByHop::new(noted.connection, noted.upgrade || noted.other_hop_by_hop),
        has_forwarding: noted.forwarding,
    })
}

/// What one pass over the headers finds.
#[derive(Default)]
struct Noted {
    hosts: u32,
    connection: bool,
    upgrade: bool,
    trailers: bool,
    other_hop_by_hop: bool,
    cookie: bool,
    body: bool,
    expect: bool,
    forwarding: bool,
}

impl Noted {
    fn of(headers: &HeaderMap) -> Result<Self, Rejection> {
        let mut noted = Self::default();
        let mut encodings = 0;
        for (name, value) in headers {
            match *name {
                header::HOST => {
                    noted.hosts += 1;
                    if noted.hosts > 1 || !is_host(value.as_bytes()) {
                        return Err(Rejection::Host);
                    }
                }
                header::COOKIE => noted.cookie = true,
                header::CONNECTION => noted.connection = true,
                header::UPGRADE => noted.upgrade = true,
                header::TE => {
                    noted.other_hop_by_hop = true;
                    noted.trailers |= upgrade::has_token(value, b"trailers");
                }
                header::PROXY_AUTHORIZATION => noted.other_hop_by_hop = true,
                header::FORWARDED => noted.forwarding = true,
                header::CONTENT_LENGTH => noted.body |= value.as_bytes() != b"0",
                header::TRANSFER_ENCODING => {
                    encodings += 1;
                    if encodings > 1 || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                        return Err(Rejection::TransferEncoding);
                    }
                    noted.body = true;
                }
                header::EXPECT => {
                    if !value.as_bytes().eq_ignore_ascii_case(b"100-continue") {
                        return Err(Rejection::Expectation);
                    }
                    noted.expect = true;
                }
                _ => match name.as_str().as_bytes() {
                    b"keep-alive" | b"proxy-connection" => noted.other_hop_by_hop = true,
                    b"content_length" | b"transfer_encoding" => noted.forwarding = true,
                    other => noted.forwarding |= matches!(other, [b'x', b'-' | b'_', b'f', ..]),
                },
            }
        }
        Ok(noted)
    }
}

/// The authority of an absolute form; `None` for the others that may pass.
fn screen_target<'uri>(method: &Method, uri: &'uri Uri, longest: usize) -> Result<Option<&'uri str>, Rejection> {
    let path = uri.path_and_query().map(PathAndQuery::as_str).unwrap_or_default();
    let before =
        |scheme: &str| scheme.len() + "://".len() + uri.authority().map_or(0, |authority| authority.as_str().len());
    if path.len() + uri.scheme_str().map_or(0, before) > longest {
        return Err(Rejection::TargetTooLong);
    }
    if !path.is_ascii() {
        return Err(Rejection::Target);
    }
    match (uri.scheme_str(), uri.authority()) {
        (None, None) if path.starts_with('/') || (path == "*" && method == Method::OPTIONS) => Ok(None),
        (Some("http" | "https"), Some(authority)) if is_host(authority.as_str().as_bytes()) => {
            Ok(Some(authority.as_str()))
        }
        (Some("http" | "https"), Some(_)) => Err(Rejection::Host),
        (None | Some(_), _) => Err(Rejection::Target),
    }
}

/// The path and query of an absolute form. Written out anew, because `http://a?b` has none that begins with `/`, and that
/// of `http://a#b` is empty: a request line without a target.
fn origin_form(uri: &Uri) -> Result<PathAndQuery, Rejection> {
    let path = uri.path_and_query().map_or_else(|| "/".to_owned(), PathAndQuery::to_string);
    PathAndQuery::try_from(path).map_err(|_| Rejection::Target)
}

/// `host[:port]` of RFC 3986 section 3.2, without user information, and with a comma taken for what it is: two hosts.
fn is_host(value: &[u8]) -> bool {
    if let [b'[', rest @ ..] = value {
        let end = rest.iter().position(|&byte| byte == b']').unwrap_or(rest.len());
        let (address, rest) = rest.split_at(end);
        let is_address = str::from_utf8(address).is_ok_and(|address| address.parse::<Ipv6Addr>().is_ok());
        return is_address && rest.strip_prefix(b"]").is_some_and(is_port_or_nothing);
    }
    let end = value.iter().position(|&byte| byte == b':').unwrap_or(value.len());
    let (name, rest) = value.split_at(end);
    !name.is_empty() && name.iter().all(|&byte| IN_NAME[usize::from(byte)]) && is_port_or_nothing(rest)
}

/// Bytes of a registered name (RFC 3986 section 3.2.2); a table, because every request has one.
const IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let mut marks: &[u8] = b"-._~%!$&'()*+;=";
    while let [mark, rest @ ..] = marks {
        table[*mark as usize] = true;
        marks = rest;
    }
    table
};

/// `:80`, `:`, or nothing.
fn is_port_or_nothing(value: &[u8]) -> bool {
    let Some((b':', port)) = value.split_first() else { return value.is_empty() };
    let digits = port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
    digits && port.iter().fold(0, |number, digit| number * 10 + u32::from(digit - b'0')) <= u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Parts {
        let mut builder = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        builder.body(()).unwrap().into_parts().0
    }

    const LONGEST: usize = 100;

    fn verdict(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Screened, Rejection> {
        screen(&mut request(method, target, headers), LONGEST, &Upgrades::new(["websocket"]))
    }

    #[test]
    fn an_ordinary_request_passes_with_nothing_noted() {
        assert_eq!(verdict("GET", "/a?b", &[("host", "a.example:80")]), Ok(Screened::default()));
    }

    #[test]
    fn a_request_must_name_one_valid_host() {
        for headers in
            [&[][..], &[("host", "a"), ("host", "a")], &[("host", "a,b")], &[("host", "u@a")], &[("host", "")]]
        {
            assert_eq!(verdict("GET", "/", headers), Err(Rejection::Host), "{headers:?}");
        }
        let mut old = request("GET", "/", &[]);
        old.version = Version::HTTP_10;
        assert_eq!(screen(&mut old, LONGEST, &Upgrades::default()), Ok(Screened::default()));
    }

    #[test]
    fn an_absolute_target_wins_over_host() {
        let mut parts = request("GET", "http://a.example/x?y", &[("host", "b.example")]);
        assert!(screen(&mut parts, LONGEST, &Upgrades::default()).is_ok());
        assert_eq!(parts.headers["host"], "a.example");
        assert_eq!(parts.uri, "/x?y");
        assert_eq!(verdict("GET", "http://u@a.example/", &[("host", "b")]), Err(Rejection::Host));
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_a_port_or_without() {
        for host in ["a", "a.example:80", "a:", "a:65535", "127.0.0.1:1", "[::1]", "[::1]:80", "a_b", "a%20"] {
            assert!(is_host(host.as_bytes()), "{host}");
        }
        for host in
            ["", ":80", "a:b", "a:1:2", "a:65536", "a:000080", "[::1", "[]", "[a]", "[::1]80", "::1", "a b", "a/"]
        {
            assert!(!is_host(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn a_server_always_gets_a_path() {
        for (target, path) in [
            ("http://a", "/"),
            ("http://a?x=/", "/?x=/"),
            ("http://a#x", "/"),
            ("http://a/b#x", "/b"),
            ("/b?c#x", "/b?c"),
        ] {
            let mut parts = request("GET", target, &[("host", "a")]);
            assert!(screen(&mut parts, LONGEST, &Upgrades::default()).is_ok());
            assert_eq!(parts.uri.to_string(), path, "{target}");
            assert_eq!(parts.uri.path_and_query().map(PathAndQuery::as_str), Some(path), "{target}");
        }
    }

    #[test]
    fn a_target_has_a_longest_length() {
        let path = |length: usize| format!("/{}", "x".repeat(length - 1));
        assert!(verdict("GET", &path(LONGEST), &[("host", "a")]).is_ok());
        assert_eq!(verdict("GET", &path(LONGEST + 1), &[("host", "a")]), Err(Rejection::TargetTooLong));
        let url = format!("http://a{}", path(LONGEST - 8));
        assert_eq!(url.len(), LONGEST);
        assert!(verdict("GET", &url, &[("host", "a")]).is_ok());
        assert_eq!(verdict("GET", &(url + "x"), &[("host", "a")]), Err(Rejection::TargetTooLong));
    }

    #[test]
    fn a_client_tells_that_it_takes_trailers() {
        let takes = |value| verdict("GET", "/", &[("host", "a"), ("te", value)]).unwrap().trailers;
        assert!(takes("trailers") && takes("gzip, Trailers"));
        assert!(!takes("gzip") && !takes("trailers;q=0"));
    }

    #[test]
    fn other_targets_are_refused() {
        for (method, target) in [("GET", "admin"), ("GET", "host:80"), ("GET", "*"), ("GET", "ftp://a/")] {
            assert_eq!(verdict(method, target, &[("host", "a")]), Err(Rejection::Target), "{target}");
        }
        assert!(verdict("OPTIONS", "*", &[("host", "a")]).is_ok());
        assert_eq!(verdict("CONNECT", "a:443", &[("host", "a")]), Err(Rejection::Method));
    }

    #[test]
    fn chunked_is_the_only_encoding() {
        let with = |values: &[&'static str]| {
            let mut headers = vec![("host", "a")];
            headers.extend(values.iter().map(|value| ("transfer-encoding", *value)));
            verdict("POST", "/", &headers)
        };
        assert!(with(&["chunked"]).is_ok());
        for values in [&["chunked, chunked"][..], &["gzip, chunked"], &[",chunked"], &["chunked", "chunked"], &["gzip"]]
        {
            assert_eq!(with(values), Err(Rejection::TransferEncoding), "{values:?}");
        }
    }

    #[test]
    fn only_what_is_allowed_is_an_upgrade() {
        let upgrade = |to| verdict("GET", "/", &[("host", "a"), ("connection", "Upgrade"), ("upgrade", to)]);
        assert!(upgrade("websocket").unwrap().upgrade.is_some());
        assert_eq!(upgrade("h2c").unwrap().upgrade, None);
        let body = [("host", "a"), ("connection", "Upgrade"), ("upgrade", "websocket"), ("content-length", "3")];
        assert_eq!(verdict("GET", "/", &body), Err(Rejection::UpgradeWithBody));
    }

    #[test]
    fn an_unknown_expectation_fails() {
        assert_eq!(verdict("PUT", "/", &[("host", "a"), ("expect", "tea")]), Err(Rejection::Expectation));
        assert!(verdict("PUT", "/", &[("host", "a"), ("expect", "100-Continue")]).is_ok());
    }
}
