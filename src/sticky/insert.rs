//! The balancer's own cookie in responses (HAProxy: `cookie NAME insert indirect nocache`).

use std::fmt::Write;

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::{Dates, lines::value_of};
use crate::model::InsertedCookie;

/// The Set-Cookie line that leads a user to a server, with the attributes in HAProxy's order.
pub fn set_cookie(name: &str, value: &str, dates: Dates, cookie: &InsertedCookie) -> Option<HeaderValue> {
    let InsertedCookie { preserve: _, http_only, secure, same_site, domains, lifetime: _ } = cookie;
    let mut line = format!("{name}={value}{dates}; path=/");
    for domain in domains {
        line.push_str("; domain=");
        line.push_str(domain);
    }
    line.push_str(if *http_only { "; HttpOnly" } else { "" });
    line.push_str(if *secure { "; Secure" } else { "" });
    if let Some(same_site) = same_site {
        // Writing to memory cannot fail.
        let _infallible = write!(line, "; SameSite={}", same_site.word());
    }
    HeaderValue::try_from(line).ok()
}

/// Whether the server set a cookie of that name.
pub fn is_set(headers: &HeaderMap, name: &str) -> bool {
    headers.get_all(header::SET_COOKIE).iter().any(|line| is_of(line, name))
}

/// Removes cookies of that name which the server set: it must not know this one. Whether there was any.
pub fn strip_response(headers: &mut HeaderMap, name: &str) -> bool {
    if !is_set(headers, name) {
        return false;
    }
    let lines: Vec<HeaderValue> = headers.get_all(header::SET_COOKIE).iter().cloned().collect();
    headers.remove(header::SET_COOKIE);
    for line in lines.into_iter().filter(|line| !is_of(line, name)) {
        headers.append(header::SET_COOKIE, line);
    }
    true
}

fn is_of(line: &HeaderValue, name: &str) -> bool {
    value_of(line.as_bytes(), name).is_some()
}

/// Whether a shared cache may keep the response (RFC 9111 section 3, by status and Cache-Control alone). With a cookie it must
/// be marked private: the next user must not get this one's.
pub fn is_cacheable(headers: &HeaderMap, status: StatusCode) -> bool {
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
    use crate::model::SameSite;

    #[test]
    fn the_attributes_are_those_that_were_asked_for() {
        let line = |cookie: &InsertedCookie| set_cookie("SERVERID", "x", Dates::default(), cookie).unwrap();
        assert_eq!(line(&InsertedCookie::default()), "SERVERID=x; path=/");
        let all = InsertedCookie {
            http_only: true,
            secure: true,
            same_site: Some(SameSite::None),
            domains: vec![".a.example".into(), "b.example".into()],
            ..InsertedCookie::default()
        };
        let written = "SERVERID=x; path=/; domain=.a.example; domain=b.example; HttpOnly; Secure; SameSite=None";
        assert_eq!(line(&all), written);
        let strict = InsertedCookie { same_site: Some(SameSite::Strict), ..InsertedCookie::default() };
        assert_eq!(line(&strict), "SERVERID=x; path=/; SameSite=Strict");
    }

    #[test]
    fn a_response_is_cacheable_by_its_status_unless_it_says_otherwise() {
        let is_cacheable = |status, control: Option<&'static str>| {
            let mut headers = HeaderMap::new();
            if let Some(control) = control {
                headers.insert(header::CACHE_CONTROL, HeaderValue::from_static(control));
            }
            is_cacheable(&headers, status)
        };
        assert!(is_cacheable(StatusCode::OK, None));
        assert!(is_cacheable(StatusCode::OK, Some("max-age=60")));
        assert!(!is_cacheable(StatusCode::OK, Some("No-Store")));
        assert!(!is_cacheable(StatusCode::SEE_OTHER, None));
    }

    #[test]
    fn a_servers_own_cookie_of_that_name_is_removed() {
        let mut headers = HeaderMap::new();
        for line in ["SERVERID=evil; path=/", "session=1; HttpOnly"] {
            headers.append(header::SET_COOKIE, line.parse().unwrap());
        }
        assert!(strip_response(&mut headers, "SERVERID") && !strip_response(&mut headers, "SERVERID"));
        assert_eq!(headers.get_all(header::SET_COOKIE).iter().collect::<Vec<_>>(), ["session=1; HttpOnly"]);
    }
}
