//! What several targets need: heads as they come out of hyper, which reads them with httparse.

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version, request, response};

/// As many as the balancer allows.
const MAX_HEADERS: usize = 100;

/// A request's head; `None` when hyper would refuse it already, or wait for more.
pub fn request(bytes: &[u8]) -> Option<request::Parts> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    head.parse(bytes).ok()?.is_complete().then_some(())?;
    let mut parts = http::Request::new(()).into_parts().0;
    parts.method = Method::from_bytes(head.method?.as_bytes()).ok()?;
    parts.uri = Uri::try_from(head.path?.as_bytes()).ok()?;
    parts.version = version(head.version?);
    parts.headers = map(head.headers)?;
    Some(parts)
}

/// A response's head; `None` when hyper would refuse it already, or wait for more.
pub fn response(bytes: &[u8]) -> Option<response::Parts> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    head.parse(bytes).ok()?.is_complete().then_some(())?;
    let mut parts = http::Response::new(()).into_parts().0;
    parts.status = StatusCode::from_u16(head.code?).ok()?;
    parts.version = version(head.version?);
    parts.headers = map(head.headers)?;
    Some(parts)
}

/// The comma-separated tokens of all lines of a header.
pub fn tokens(headers: &HeaderMap, name: HeaderName) -> Vec<HeaderName> {
    let lines = headers.get_all(name).iter();
    let words = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b','));
    words.filter_map(|word| HeaderName::from_bytes(word.trim_ascii()).ok()).collect()
}

/// Every value of a header.
pub fn all(headers: &HeaderMap, name: impl http::header::AsHeaderName) -> Vec<&HeaderValue> {
    headers.get_all(name).iter().collect()
}

fn version(minor: u8) -> Version {
    if minor == 0 { Version::HTTP_10 } else { Version::HTTP_11 }
}

fn map(headers: &[httparse::Header<'_>]) -> Option<HeaderMap> {
    let mut map = HeaderMap::new();
    for httparse::Header { name, value } in headers {
        map.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_bytes(value).ok()?);
    }
    Some(map)
}
