//! Keeping a user on a server by a cookie that the balancer inserts (HAProxy: `cookie NAME insert indirect nocache`).
//!
//! The application never sees the cookie: it is removed from requests, and one of that name which a server sets is removed
//! from responses. Everything else in Cookie lines passes byte for byte.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use http::{HeaderMap, HeaderValue, StatusCode, header};

/// The value of the first cookie of that name, over all Cookie lines (RFC 6265 section 4.2).
pub fn find<'headers>(headers: &'headers HeaderMap, name: &str) -> Option<&'headers [u8]> {
    headers.get_all(header::COOKIE).iter().flat_map(pairs).find_map(|pair| value_of(pair, name))
}

/// Removes the cookies of that name from all Cookie lines; a line that held nothing else goes as a whole.
pub fn strip(headers: &mut HeaderMap, name: &str) {
    let is_ours = |value: &HeaderValue| pairs(value).any(|pair| value_of(pair, name).is_some());
    if !headers.get_all(header::COOKIE).iter().any(is_ours) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(header::COOKIE).iter().cloned().collect();
    headers.remove(header::COOKIE);
    for line in lines {
        let rest = if is_ours(&line) { without(&line, name) } else { Some(line) };
        if let Some(rest) = rest {
            headers.append(header::COOKIE, rest);
        }
    }
}

/// The Set-Cookie line that leads a user to a server. It ends with the browser's session.
pub fn set_cookie(name: &str, value: &str) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("{name}={value}; path=/")).ok()
}

/// Writes the cookie into a response that would otherwise lead its user to any server.
///
/// Responses that a shared cache could keep are marked private: the next user must not get this one's cookie.
pub fn issue(headers: &mut HeaderMap, status: StatusCode, cookie: HeaderValue) {
    headers.reserve(2);
    headers.append(header::SET_COOKIE, cookie);
    if is_cacheable(headers, status) {
        headers.append(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
}

/// Removes cookies of that name which the server set: it must not know this one.
pub fn strip_response(headers: &mut HeaderMap, name: &str) {
    let is_ours = |line: &HeaderValue| value_of(line.as_bytes(), name).is_some();
    if !headers.get_all(header::SET_COOKIE).iter().any(is_ours) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    headers.remove(header::SET_COOKIE);
    for line in lines.into_iter().filter(|line| !is_ours(line)) {
        headers.append(header::SET_COOKIE, line);
    }
}

fn pairs(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|&byte| byte == b';')
}

/// The value, if the pair is of that name; quotes around it are not part of it.
fn value_of<'pair>(pair: &'pair [u8], name: &str) -> Option<&'pair [u8]> {
    let rest = pair.trim_ascii_start().strip_prefix(name.as_bytes())?.trim_ascii_start();
    let value = rest.strip_prefix(b"=")?;
    let value = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    Some(value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\"")).unwrap_or(value))
}

fn without(line: &HeaderValue, name: &str) -> Option<HeaderValue> {
    let kept: Vec<&[u8]> = pairs(line).filter(|pair| value_of(pair, name).is_none()).collect();
    let joined = kept.join(&b';');
    let trimmed = joined.trim_ascii();
    if trimmed.is_empty() { None } else { HeaderValue::from_bytes(trimmed).ok() }
}

/// Whether a shared cache may keep the response (RFC 9111 section 3, by status and Cache-Control alone).
fn is_cacheable(headers: &HeaderMap, status: StatusCode) -> bool {
    let by_status = matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 404 | 405 | 410 | 414 | 501);
    let forbids = |value: &HeaderValue| {
        value.as_bytes().split(|&byte| byte == b',').any(|directive| {
            let directive = directive.trim_ascii();
            [&b"private"[..], b"no-store", b"no-cache"].iter().any(|word| directive.eq_ignore_ascii_case(word))
        })
    };
    by_status && !headers.get_all(header::CACHE_CONTROL).iter().any(forbids)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn headers(lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, line.parse().unwrap());
        }
        headers
    }

    fn stripped(lines: &[&str]) -> Vec<String> {
        let mut headers = headers(lines);
        strip(&mut headers, "SERVERID");
        headers.get_all(header::COOKIE).iter().map(|line| line.to_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_cookie_is_found_among_others_on_any_line() {
        let found = |lines: &[&str]| find(&headers(lines), "SERVERID").map(<[u8]>::to_vec);
        assert_eq!(found(&["a=b; SERVERID=x"]), Some(b"x".to_vec()));
        assert_eq!(found(&["a=b", "SERVERID=\"x\"; c=d"]), Some(b"x".to_vec()));
        assert_eq!(found(&["XSERVERID=x", "SERVERID2=y", "serverid=z"]), None);
    }

    #[test]
    fn other_cookies_pass_byte_for_byte() {
        assert_eq!(stripped(&["a=b; SERVERID=x;c=\"d e\""]), ["a=b;c=\"d e\""]);
        assert_eq!(stripped(&["SERVERID=x; a=b"]), ["a=b"]);
        assert_eq!(stripped(&["a=b ;c"]), ["a=b ;c"]);
        assert_eq!(stripped(&["SERVERID=x", "a=b"]), ["a=b"]);
        assert!(stripped(&["SERVERID=x"]).is_empty());
    }

    #[test]
    fn a_cacheable_response_with_a_cookie_is_private() {
        let issued = |status, control: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(control) = control {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(control));
            }
            issue(&mut headers, status, set_cookie("SERVERID", "x").unwrap());
            assert_eq!(headers[header::SET_COOKIE], "SERVERID=x; path=/");
            headers.get_all(header::CACHE_CONTROL).iter().any(|value| value == "private")
        };
        assert!(issued(StatusCode::OK, None));
        assert!(issued(StatusCode::OK, Some("max-age=60")));
        assert!(!issued(StatusCode::OK, Some("No-Store")));
        assert!(!issued(StatusCode::SEE_OTHER, None));
    }

    #[test]
    fn a_servers_own_cookie_of_that_name_is_removed() {
        let mut headers = HeaderMap::new();
        for line in ["SERVERID=evil; path=/", "session=1; HttpOnly"] {
            headers.append(header::SET_COOKIE, line.parse().unwrap());
        }
        strip_response(&mut headers, "SERVERID");
        assert_eq!(headers.get_all(header::SET_COOKIE).iter().collect::<Vec<_>>(), ["session=1; HttpOnly"]);
    }

    proptest! {
        #[test]
        fn after_stripping_none_is_found_and_the_rest_still_is(lines in prop::collection::vec("[ -~]{0,40}", 0..4)) {
            let mut all: Vec<&str> = lines.iter().map(String::as_str).collect();
            all.push("other=1; SERVERID=x; last=2");
            let mut headers = headers(&all);
            let before = find(&headers, "other").map(<[u8]>::to_vec);
            strip(&mut headers, "SERVERID");
            prop_assert_eq!(find(&headers, "SERVERID"), None);
            prop_assert_eq!(find(&headers, "other").map(<[u8]>::to_vec), before);
        }
    }
}
