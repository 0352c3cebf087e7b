//! What several targets need: heads as they come out of the parser.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, request, response};
use lb::h1::{Limits, parse_request, parse_response};

const LIMITS: Limits = Limits { head: 16 * 1024 };

/// A request's head; `None` when the parser refuses it already, or waits for more.
pub fn request(bytes: &[u8]) -> Option<request::Parts> {
    let head = parse_request(&Bytes::copy_from_slice(bytes), LIMITS, &mut HeaderMap::new()).ok()??;
    Some(head.parts)
}

/// A response's head; `None` when the parser refuses it already, or waits for more.
pub fn response(bytes: &[u8]) -> Option<response::Parts> {
    let head = parse_response(&Bytes::copy_from_slice(bytes), &Method::GET, LIMITS).ok()??;
    Some(head.parts)
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
