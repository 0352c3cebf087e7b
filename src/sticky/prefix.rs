//! The application's own cookie with the server's name in front (HAProxy: `cookie NAME prefix`).

use http::{
    HeaderMap, HeaderValue,
    header::{self, Entry},
};

use super::lines::{pairs, place_of, unquoted};

/// Between the server's name and what the application wrote.
const DELIMITER: u8 = b'~';

/// The server's name in a value; `None` when it has no prefix.
pub fn prefix_of(value: &[u8]) -> Option<&[u8]> {
    value.iter().position(|&byte| byte == DELIMITER).map(|end| &value[..end])
}

/// Takes everything through the first `~` out of the cookies of that name, whatever it is: the application gets what it
/// once set.
pub fn strip_prefix(headers: &mut HeaderMap, name: &str) {
    rewrite(headers, header::COOKIE, |line| without_prefix(line, name));
}

/// Puts the server's name in front of the cookies of that name which a response sets; whether there was any.
pub fn add_prefix(headers: &mut HeaderMap, name: &str, server: &str) -> bool {
    rewrite(headers, header::SET_COOKIE, |line| with_prefix(line, name, server))
}

/// Rewrites the lines of a header where they stand; whether any was.
fn rewrite(
    headers: &mut HeaderMap,
    header: header::HeaderName,
    rewritten: impl Fn(&HeaderValue) -> Option<HeaderValue>,
) -> bool {
    // To ask for the entry of a header that is not there would make room for it.
    if !headers.contains_key(&header) {
        return false;
    }
    let Entry::Occupied(mut lines) = headers.entry(header) else { return false };
    let mut any = false;
    for line in lines.iter_mut() {
        if let Some(new) = rewritten(line) {
            *line = new;
            any = true;
        }
    }
    any
}

fn without_prefix(line: &HeaderValue, name: &str) -> Option<HeaderValue> {
    let bytes = line.as_bytes();
    let (mut kept, mut done, mut begin) = (Vec::new(), 0, 0);
    for pair in pairs(line) {
        if let Some(value) = place_of(pair, name).map(|place| unquoted(pair, place))
            && let Some(prefix) = prefix_of(&pair[value.clone()])
        {
            kept.extend_from_slice(&bytes[done..begin + value.start]);
            done = begin + value.start + prefix.len() + 1;
        }
        begin += pair.len() + 1;
    }
    if done == 0 {
        return None;
    }
    kept.extend_from_slice(&bytes[done..]);
    HeaderValue::try_from(kept).ok()
}

fn with_prefix(line: &HeaderValue, name: &str, server: &str) -> Option<HeaderValue> {
    let (before, value) = line.as_bytes().split_at(place_of(line.as_bytes(), name)?.start);
    HeaderValue::try_from([before, server.as_bytes(), &[DELIMITER], value].concat()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sticky::find;
    use proptest::prelude::*;

    fn with(header: header::HeaderName, lines: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header.clone(), line.parse().unwrap());
        }
        headers
    }

    fn lines(headers: &HeaderMap, header: header::HeaderName) -> Vec<&str> {
        headers.get_all(header).iter().map(|line| line.to_str().unwrap()).collect()
    }

    #[test]
    fn everything_through_the_first_tilde_goes_and_nothing_else() {
        for (sent, forwarded) in [
            ("S=srv~v", "S=v"),
            ("a=1; S=srv~v~w; b=c~d", "a=1; S=v~w; b=c~d"),
            ("S=srv~", "S="),
            ("S=~v ;S = gone~w", "S=v ;S = w"),
            ("S=\"srv~v\"; c", "S=\"v\"; c"),
            ("S=srv~\"v\"", "S=\"v\""),
            ("S=v; XS=a~b; s=a~b; S2=a~b; S", "S=v; XS=a~b; s=a~b; S2=a~b; S"),
        ] {
            let mut headers = with(header::COOKIE, &[sent, "x=y"]);
            strip_prefix(&mut headers, "S");
            assert_eq!(lines(&headers, header::COOKIE), [forwarded, "x=y"], "{sent}");
        }
    }

    #[test]
    fn the_prefix_changes_nothing_but_the_value() {
        for (set, told) in [
            ("S=v; Path=/x; HttpOnly", "S=srv~v; Path=/x; HttpOnly"),
            ("S=; Max-Age=0", "S=srv~; Max-Age=0"),
            (" S = \"v\" ;Secure", "S = srv~\"v\" ;Secure"),
            ("S=a~b", "S=srv~a~b"),
        ] {
            let mut headers = with(header::SET_COOKIE, &["theme=S=x", set.trim_start()]);
            assert!(add_prefix(&mut headers, "S", "srv"));
            assert_eq!(lines(&headers, header::SET_COOKIE), ["theme=S=x", told], "{set}");
        }
        let mut headers = with(header::SET_COOKIE, &["theme=S=x", "S; Path=/", "S2=a"]);
        assert!(!add_prefix(&mut headers, "S", "srv") && !add_prefix(&mut HeaderMap::new(), "S", "srv"));
        assert_eq!(lines(&headers, header::SET_COOKIE), ["theme=S=x", "S; Path=/", "S2=a"]);
    }

    proptest! {
        #[test]
        fn an_application_gets_back_what_it_set(value in "[!#-+\\--:<-\\[\\]-~]{0,30}", others in "[ -~]{0,30}") {
            let mut set = with(header::SET_COOKIE, &[&format!("S={value}; Path=/")]);
            prop_assert!(add_prefix(&mut set, "S", "0123456789abcdef"));
            let stored = set[header::SET_COOKIE].to_str().unwrap().split(';').next().unwrap().to_owned();
            let mut sent = with(header::COOKIE, &[&format!("{stored}; {others}"), &others]);
            prop_assert_eq!(find(&sent, "S").and_then(prefix_of), Some(&b"0123456789abcdef"[..]));
            strip_prefix(&mut sent, "S");
            prop_assert_eq!(find(&sent, "S"), Some(value.as_bytes()));
        }
    }
}
