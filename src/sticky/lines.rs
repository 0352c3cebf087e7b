//! Cookies in Cookie lines.

use std::ops::Range;

use http::{HeaderMap, HeaderValue, header};

/// The values of the cookies of that name, over all Cookie lines, in their order (RFC 6265 section 4.2).
///
/// There can be several: a browser sends one for each domain and path under which it was set.
pub fn values<'headers>(headers: &'headers HeaderMap, name: &str) -> impl Iterator<Item = &'headers [u8]> {
    headers.get_all(header::COOKIE).iter().flat_map(pairs).filter_map(move |pair| value_of(pair, name))
}

/// The first of [`values`].
pub fn find<'headers>(headers: &'headers HeaderMap, name: &str) -> Option<&'headers [u8]> {
    values(headers, name).next()
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

/// What stands between the semicolons of a Cookie line.
pub(super) fn pairs(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|&byte| byte == b';')
}

/// The value, if the pair is of that name; quotes around it are not part of it. A Set-Cookie line is a pair, too.
pub(super) fn value_of<'pair>(pair: &'pair [u8], name: &str) -> Option<&'pair [u8]> {
    place_of(pair, name).map(|place| &pair[unquoted(pair, place)])
}

/// Where the value stands, if the pair is of that name; with its quotes.
pub(super) fn place_of(pair: &[u8], name: &str) -> Option<Range<usize>> {
    let rest = pair.trim_ascii_start().strip_prefix(name.as_bytes())?.trim_ascii_start();
    let value = rest.strip_prefix(b"=")?.trim_ascii_start();
    let begin = pair.len() - value.len();
    let value = value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
    Some(begin..begin + value.len())
}

/// The place without the quotes around it, if there are both.
pub(super) fn unquoted(pair: &[u8], place: Range<usize>) -> Range<usize> {
    match &pair[place.clone()] {
        [b'"', .., b'"'] => place.start + 1..place.end - 1,
        _ => place,
    }
}

fn without(line: &HeaderValue, name: &str) -> Option<HeaderValue> {
    let kept: Vec<&[u8]> = pairs(line).filter(|pair| value_of(pair, name).is_none()).collect();
    let joined = kept.join(&b';');
    let trimmed = joined.trim_ascii();
    if trimmed.is_empty() { None } else { HeaderValue::from_bytes(trimmed).ok() }
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
        let found = |lines: &[&str]| -> Vec<String> {
            let headers = headers(lines);
            values(&headers, "SERVERID").map(|value| String::from_utf8(value.to_vec()).unwrap()).collect()
        };
        assert_eq!(found(&["a=b; SERVERID=x"]), ["x"]);
        assert_eq!(found(&["a=b", "SERVERID=\"x\"; c=d"]), ["x"]);
        assert_eq!(found(&["SERVERID=x; SERVERID = y ", "a=b", "SERVERID=\""]), ["x", "y", "\""]);
        assert_eq!(found(&["SERVERID=; SERVERID=  "]), ["", ""]);
        assert!(found(&["XSERVERID=x", "SERVERID2=y", "serverid=z", "SERVERID"]).is_empty());
    }

    #[test]
    fn other_cookies_pass_byte_for_byte() {
        assert_eq!(stripped(&["a=b; SERVERID=x;c=\"d e\""]), ["a=b;c=\"d e\""]);
        assert_eq!(stripped(&["SERVERID=x; a=b"]), ["a=b"]);
        assert_eq!(stripped(&["a=b ;c"]), ["a=b ;c"]);
        assert_eq!(stripped(&["SERVERID=x", "a=b"]), ["a=b"]);
        assert_eq!(stripped(&["a=1", "SERVERID=x", "b=2; SERVERID=y", ""]), ["a=1", "b=2", ""]);
        assert!(stripped(&["SERVERID=x"]).is_empty());
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
