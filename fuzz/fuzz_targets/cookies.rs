//! Sticky cookies: ours is gone, or as the application set it; all others are untouched.

#![no_main]

use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue, header};
use lb::{
    model::{InsertedCookie, Lifetime},
    sticky::{self, Date, Dates, Verdict},
};
use lb_fuzz::all;
use libfuzzer_sys::fuzz_target;

const NAME: &str = "SERVERID";
const SERVER: &str = "0123456789abcdef";

fuzz_target!(|text: &[u8]| {
    let lines: Vec<HeaderValue> =
        text.split(|&byte| byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).take(20).collect();
    request(&lines);
    response(&lines);
    prefixed_request(&lines);
    prefixed_response(&lines);
    dates(text);
});

fn request(lines: &[HeaderValue]) {
    let mut headers = with(header::COOKIE, lines);
    let found = sticky::find(&headers, NAME).map(<[u8]>::to_vec);
    let before = pairs(&headers);
    sticky::strip(&mut headers, NAME);
    assert_eq!(sticky::find(&headers, NAME), None);
    let after = pairs(&headers);
    assert_eq!(found.is_some(), before.iter().any(|pair| is_ours(pair)));
    assert_eq!(after, before.into_iter().filter(|pair| !is_ours(pair)).collect::<Vec<_>>());
    if found.is_none() {
        assert_eq!(all(&headers, header::COOKIE), lines.iter().collect::<Vec<_>>(), "byte for byte");
    }
}

fn response(lines: &[HeaderValue]) {
    let mut headers = with(header::SET_COOKIE, lines);
    let is_set = sticky::is_set(&headers, NAME);
    assert_eq!(sticky::strip_response(&mut headers, NAME), is_set);
    let kept = all(&headers, header::SET_COOKIE);
    let mut left = lines.iter();
    assert!(kept.iter().all(|line| left.any(|other| other == *line)), "the others, in their order");
    if let Some(cookie) = sticky::set_cookie(NAME, SERVER, Dates::default(), &InsertedCookie::default()) {
        headers.append(header::SET_COOKIE, cookie.clone());
        assert_eq!(headers.get_all(header::SET_COOKIE).iter().filter(|line| **line == cookie).count(), 1);
        sticky::strip_response(&mut headers, NAME);
        assert!(!headers.get_all(header::SET_COOKIE).iter().any(|line| *line == cookie));
    }
}

fn prefixed_request(lines: &[HeaderValue]) {
    let before = with(header::COOKIE, lines);
    let mut headers = before.clone();
    sticky::strip_prefix(&mut headers, NAME);
    let after = all(&headers, header::COOKIE);
    assert_eq!(after.len(), lines.len(), "no line comes or goes");
    for (line, after) in lines.iter().zip(after) {
        let pairs = line.as_bytes().split(|&byte| byte == b';');
        let after: Vec<&[u8]> = after.as_bytes().split(|&byte| byte == b';').collect();
        assert_eq!(pairs.clone().count(), after.len());
        for (pair, after) in pairs.zip(after) {
            let value = |pair: &[u8]| sticky::find(&one(pair), NAME).map(<[u8]>::to_vec);
            let before = value(pair);
            let Some(prefix) = before.as_deref().and_then(sticky::prefix_of) else {
                assert_eq!(pair, after, "byte for byte");
                continue;
            };
            assert_eq!(pair.len() - after.len(), prefix.len() + 1);
            assert!(value(after).is_some(), "the application's cookie stays");
        }
    }
}

fn prefixed_response(lines: &[HeaderValue]) {
    let before = with(header::SET_COOKIE, lines);
    let mut headers = before.clone();
    assert_eq!(sticky::add_prefix(&mut headers, NAME, SERVER), sticky::is_set(&before, NAME));
    for (line, after) in lines.iter().zip(all(&headers, header::SET_COOKIE)) {
        if !sticky::is_set(&with(header::SET_COOKIE, std::slice::from_ref(line)), NAME) {
            assert_eq!(line, after, "byte for byte");
            continue;
        }
        // What the client sends back gives the application what it set.
        let pair = |line: &HeaderValue| line.as_bytes().split(|&byte| byte == b';').next().unwrap_or_default().to_vec();
        let mut sent = one(&pair(after));
        assert_eq!(sticky::find(&sent, NAME).and_then(sticky::prefix_of), Some(SERVER.as_bytes()));
        sticky::strip_prefix(&mut sent, NAME);
        assert_eq!(all(&sent, header::COOKIE), [&value(&pair(line))]);
    }
}

fn dates(text: &[u8]) {
    let (name, dates) = Dates::split(text);
    assert!(text.starts_with(name));
    let rewritten = format!("{SERVER}{dates}");
    assert_eq!(Dates::split(rewritten.as_bytes()), (SERVER.as_bytes(), dates));
    let limit = Some(Duration::from_secs(3600));
    let now = Date::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_392_845));
    for (max_idle, max_life) in [(None, None), (limit, None), (None, limit), (limit, limit)] {
        let lifetime = Lifetime { max_idle, max_life };
        if let Verdict::Renew(renewed) = dates.judge(&lifetime, now) {
            assert_eq!(renewed.judge(&lifetime, now), Verdict::Good);
        }
    }
}

fn is_ours(pair: &[u8]) -> bool {
    sticky::find(&one(pair), NAME).is_some()
}

fn one(pair: &[u8]) -> HeaderMap {
    with(header::COOKIE, &[value(pair)])
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
