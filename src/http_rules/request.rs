//! Which requests are passed on.
//!
//! hyper's parser has refused broken syntax before; what it lets through and a server could read differently is refused
//! here. One pass over the headers notes everything of interest, so that an ordinary request costs no look-up.

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header, request::Parts, uri::PathAndQuery};

use super::{Upgrade, Upgrades};

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// CONNECT: this is no forward proxy.
    Method,
    /// The target is not a path, a whole `http` URL, or `*` of OPTIONS (RFC 9112 section 3.2), or not plain ASCII.
    Target,
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
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::Target | Self::Host | Self::TransferEncoding | Self::UpgradeWithBody => StatusCode::BAD_REQUEST,
        }
    }
}

/// What was noted of a request that may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Screened {
    /// It asks for another protocol, which is allowed.
    pub upgrade: Option<Upgrade>,
    /// It has Cookie lines.
    pub has_cookie: bool,
    /// It has headers that are for us alone.
    pub has_hop_by_hop: bool,
    /// It has headers that could be taken for ours, or are.
    pub has_forwarding: bool,
}

/// Checks a request head and brings its target into origin form; `upgrades` are the protocols that it may ask for.
///
/// # Errors
/// When the request must not reach a server.
pub fn screen(parts: &mut Parts, upgrades: &Upgrades) -> Result<Screened, Rejection> {
    if parts.method == Method::CONNECT {
        return Err(Rejection::Method);
    }
    let noted = Noted::of(&parts.headers)?;
    let authority = screen_target(&parts.method, &parts.uri)?;
    let version = parts.version;
    match (authority, noted.hosts) {
        (Some(authority), _) => {
            // The absolute form wins over Host, and servers must see one truth (RFC 9112 section 3.2.2).
            let host = HeaderValue::from_str(authority).map_err(|_| Rejection::Host)?;
            parts.headers.insert(header::HOST, host);
            let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
            parts.uri = Uri::from(path);
        }
        (None, 1) => {}
        (None, 0) if version < Version::HTTP_11 => {}
        (None, _) => return Err(Rejection::Host),
    }
    let upgrade = if noted.upgrade && noted.connection { upgrades.asked(parts) } else { None };
    if upgrade.is_some() && noted.body {
        return Err(Rejection::UpgradeWithBody);
    }
    Ok(Screened {
        upgrade,
        has_cookie: noted.cookie,
        has_hop_by_hop: noted.connection || noted.upgrade || noted.other_hop_by_hop,
        has_forwarding: noted.forwarding,
    })
}

/// What one pass over the headers finds.
#[derive(Default)]
struct Noted {
    hosts: u32,
    connection: bool,
    upgrade: bool,
    other_hop_by_hop: bool,
    cookie: bool,
    body: bool,
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
                header::TE | header::PROXY_AUTHORIZATION | header::TRAILER => noted.other_hop_by_hop = true,
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
                }
                _ => match name.as_str().as_bytes() {
                    b"keep-alive" | b"proxy-connection" => noted.other_hop_by_hop = true,
                    other => noted.forwarding |= matches!(other, [b'x', b'-' | b'_', b'f', ..]),
                },
            }
        }
        Ok(noted)
    }
}

/// The authority of an absolute form; `None` for the others that may pass.
fn screen_target<'uri>(method: &Method, uri: &'uri Uri) -> Result<Option<&'uri str>, Rejection> {
    let path = uri.path_and_query().map(PathAndQuery::as_str).unwrap_or_default();
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

/// `host[:port]`: what RFC 3986 section 3.2 allows in both, without user information.
fn is_host(value: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+;=:[]".contains(byte);
    !value.is_empty() && value.iter().all(allowed)
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

    fn verdict(method: &str, target: &str, headers: &[(&str, &str)]) -> Result<Screened, Rejection> {
        screen(&mut request(method, target, headers), &Upgrades::new(["websocket"]))
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
        assert!(screen(&mut old, &Upgrades::default()).is_ok());
    }

    #[test]
    fn an_absolute_target_wins_over_host() {
        let mut parts = request("GET", "http://a.example/x?y", &[("host", "b.example")]);
        assert!(screen(&mut parts, &Upgrades::default()).is_ok());
        assert_eq!(parts.headers["host"], "a.example");
        assert_eq!(parts.uri, "/x?y");
        assert_eq!(verdict("GET", "http://u@a.example/", &[("host", "b")]), Err(Rejection::Host));
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
