//! Sticky cookies: ours is gone, all others are untouched.

#![no_main]

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use lb::sticky;
use lb_fuzz::all;
use libfuzzer_sys::fuzz_target;

const NAME: &str = "SERVERID";

fuzz_target!(|text: &[u8]| {
    let lines: Vec<HeaderValue> =
        text.split(|&byte| byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).take(20).collect();
    request(&lines);
    response(&lines);
});

fn request(lines: &[HeaderValue]) {
    let mut headers = with(header::COOKIE, lines);
    let found = sticky::find(&headers, NAME).map(<[u8]>::to_vec);
    let before = pairs(&headers);
    sticky::strip(&mut headers, NAME);
    assert_eq!(sticky::find(&headers, NAME), None);
    let after = pairs(&headers);
    let ours = |pair: &Vec<u8>| sticky::find(&with(header::COOKIE, &[value(pair)]), NAME).is_some();
    assert_eq!(found.is_some(), before.iter().any(ours));
    assert_eq!(after, before.into_iter().filter(|pair| !ours(pair)).collect::<Vec<_>>());
    if found.is_none() {
        assert_eq!(all(&headers, header::COOKIE), lines.iter().collect::<Vec<_>>(), "byte for byte");
    }
}

fn response(lines: &[HeaderValue]) {
    let mut headers = with(header::SET_COOKIE, lines);
    sticky::strip_response(&mut headers, NAME);
    let kept = all(&headers, header::SET_COOKIE);
    let mut left = lines.iter();
    assert!(kept.iter().all(|line| left.any(|other| other == *line)), "the others, in their order");
    if let Some(cookie) = sticky::set_cookie(NAME, "0123456789abcdef") {
        sticky::issue(&mut headers, StatusCode::OK, cookie.clone());
        assert_eq!(headers.get_all(header::SET_COOKIE).iter().filter(|line| **line == cookie).count(), 1);
        sticky::strip_response(&mut headers, NAME);
        assert!(!headers.get_all(header::SET_COOKIE).iter().any(|line| *line == cookie));
    }
}

fn with(name: HeaderName, lines: &[HeaderValue]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(name.clone(), line.clone());
    }
    headers
}

fn value(pair: &[u8]) -> HeaderValue {
    HeaderValue::from_bytes(pair).expect("a part of a value is a value")
}

fn pairs(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let lines = headers.get_all(header::COOKIE).iter();
    let pairs = lines.flat_map(|line| line.as_bytes().split(|&byte| byte == b';')).map(<[u8]>::trim_ascii);
    pairs.filter(|pair| !pair.is_empty()).map(<[u8]>::to_vec).collect()
}
