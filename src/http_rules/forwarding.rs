//! Who the client is, told to the server.

use std::net::{IpAddr, SocketAddr};

use http::{
    HeaderMap, HeaderValue,
    header::{self, CONTENT_LENGTH, HeaderName, TRANSFER_ENCODING},
};

use crate::model::Networks;

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Names that nothing may look like.
const SHADOWED: [HeaderName; 6] = [FOR, HOST, PORT, PROTO, CONTENT_LENGTH, TRANSFER_ENCODING];

/// What the server is told; made once for a client connection.
#[derive(Debug, Clone)]
pub struct Forwarding {
    /// The client's address.
    pub client: HeaderValue,
    /// The port that accepted the connection.
    pub port: HeaderValue,
    /// `http` or `https`.
    pub proto: HeaderValue,
    /// Whether the client is a proxy whose own forwarding headers are believed.
    pub trusted: bool,
}

/// Which of our headers a request is to have behind its own; X-Forwarded-For always.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Added {
    /// X-Forwarded-Port.
    pub port: bool,
    /// X-Forwarded-Proto.
    pub proto: bool,
}

impl Added {
    /// All of them.
    pub const ALL: Self = Self { port: true, proto: true };
}

impl Forwarding {
    /// The headers that are added.
    pub fn headers(&self, added: Added) -> impl Iterator<Item = (HeaderName, &HeaderValue)> {
        let all = [(FOR, &self.client, true), (PORT, &self.port, added.port), (PROTO, &self.proto, added.proto)];
        all.into_iter().filter_map(|(name, value, is_added)| is_added.then_some((name, value)))
    }
}

/// Makes room for what we say of the client: its address in a new last X-Forwarded-For line, and by X-Forwarded-Port and
/// -Proto how it came.
///
/// What a trusted proxy says of that itself stays, since it is nearer to the user. What anybody else says is replaced, and
/// its Forwarded (RFC 7239) and X-Forwarded-Host are dropped: a server would believe them.
///
/// `may_have_some` is false when the request is known to have no header of such a name. Names that differ only by `_` from
/// ours, or from those that tell the length, are dropped: many servers read both as one.
pub fn prepare_forwarding(headers: &mut HeaderMap, trusted: bool, may_have_some: bool) -> Added {
    if !may_have_some {
        return Added::ALL;
    }
    drop_look_alikes(headers);
    if trusted {
        return Added { port: !headers.contains_key(PORT), proto: !headers.contains_key(PROTO) };
    }
    for replaced in [header::FORWARDED, HOST, PORT, PROTO] {
        headers.remove(replaced);
    }
    Added::ALL
}

/// The client of a trusted proxy: the last address of X-Forwarded-For that is not itself a trusted proxy, since each proxy
/// adds at the end whom it heard. If all are trusted it is the first, the farthest that is known.
///
/// What is no address ends the search: whoever wrote that, it is not known what stands before it. `None` when the last one
/// is none already. The port is 0 where it is not told.
pub fn forwarded_client(headers: &HeaderMap, trusted: &Networks) -> Option<SocketAddr> {
    let lines = headers.get_all(FOR).iter().rev();
    let mut farthest = None;
    for word in lines.flat_map(|line| line.as_bytes().rsplit(|&byte| byte == b',')) {
        let Some(address) = read_address(word.trim_ascii()) else { break };
        farthest = Some(address);
        if !trusted.contains(address.ip()) {
            break;
        }
    }
    farthest
}

/// An IP address, with a port or without; some proxies write IPv6 in brackets.
fn read_address(word: &[u8]) -> Option<SocketAddr> {
    let word = std::str::from_utf8(word).ok()?;
    let bare = word.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(word);
    let bare = bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, 0));
    bare.or_else(|| word.parse().ok())
}

fn drop_look_alikes(headers: &mut HeaderMap) {
    let shadows = |name: &&HeaderName| {
        let name = name.as_str();
        name.contains('_') && SHADOWED.iter().any(|ours| ours.as_str() == name.replace('_', "-"))
    };
    let shadowing: Vec<_> = headers.keys().filter(shadows).cloned().collect();
    for name in shadowing {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::parse_network;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).fold(
            HeaderMap::new(),
            |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            },
        )
    }

    /// Prepares them, and adds what is to be added.
    fn add_forwarding_headers(headers: &mut HeaderMap, trusted: bool, may_have_some: bool) {
        let forwarding = Forwarding {
            client: HeaderValue::from_static("127.0.0.1"),
            port: HeaderValue::from_static("80"),
            proto: HeaderValue::from_static("http"),
            trusted,
        };
        let added = prepare_forwarding(headers, trusted, may_have_some);
        for (name, value) in forwarding.headers(added) {
            headers.append(name, value.clone());
        }
    }

    const SENT: [(&str, &str); 10] = [
        ("content_length", "6"),
        ("x-forwarded-for", "1.1.1.1"),
        ("x-forwarded-port", "443"),
        ("x-forwarded-proto", "https"),
        ("x-forwarded-host", "evil.example"),
        ("forwarded", "for=6.6.6.6;host=evil.example"),
        ("x_forwarded_for", "6.6.6.6"),
        ("x-forwarded_proto", "https"),
        ("x_forwarded_host", "evil.example"),
        ("x_other", "stays"),
    ];

    fn all<'headers>(headers: &'headers HeaderMap, name: &str) -> Vec<&'headers HeaderValue> {
        headers.get_all(name).iter().collect()
    }

    #[test]
    fn the_client_is_added_as_a_last_line_and_the_rest_replaced() {
        let mut headers = headers(&SENT);
        add_forwarding_headers(&mut headers, false, true);
        assert_eq!(all(&headers, "x-forwarded-for"), ["1.1.1.1", "127.0.0.1"]);
        assert_eq!(all(&headers, "x-forwarded-port"), ["80"]);
        assert_eq!(all(&headers, "x-forwarded-proto"), ["http"]);
        assert_eq!(all(&headers, "x_other"), ["stays"]);
        assert_eq!(headers.len(), 5, "{headers:?}");
    }

    #[test]
    fn what_a_trusted_proxy_says_stays_and_only_what_it_does_not_say_is_added() {
        let mut said = headers(&SENT);
        add_forwarding_headers(&mut said, true, true);
        assert_eq!(all(&said, "x-forwarded-for"), ["1.1.1.1", "127.0.0.1"]);
        assert_eq!(all(&said, "x-forwarded-port"), ["443"]);
        assert_eq!(all(&said, "x-forwarded-proto"), ["https"]);
        assert_eq!(all(&said, "x-forwarded-host"), ["evil.example"]);
        assert_eq!(all(&said, "forwarded"), ["for=6.6.6.6;host=evil.example"]);
        assert_eq!(said.len(), 7, "look-alikes go all the same: {said:?}");
        for may_have_some in [false, true] {
            let mut silent = HeaderMap::new();
            add_forwarding_headers(&mut silent, true, may_have_some);
            assert_eq!(all(&silent, "x-forwarded-port"), ["80"]);
            assert_eq!(all(&silent, "x-forwarded-proto"), ["http"]);
        }
    }

    #[test]
    fn the_client_is_the_last_address_that_is_no_trusted_proxy() {
        let trusted: Networks = ["10.0.0.0/8", "::1"].iter().map(|text| parse_network(text).unwrap()).collect();
        for (lines, client) in [
            (&["6.6.6.6, 192.0.2.1, 10.1.1.1"][..], Some("192.0.2.1:0")),
            (&["6.6.6.6", "192.0.2.1", "10.1.1.1,10.2.2.2"], Some("192.0.2.1:0")),
            (&["10.1.1.1, ::1"], Some("10.1.1.1:0")),
            (&["192.0.2.1:4711"], Some("192.0.2.1:4711")),
            (&["[2001:db8::1]:4711"], Some("[2001:db8::1]:4711")),
            (&["[2001:db8::1]"], Some("[2001:db8::1]:0")),
            (&["2001:db8::1"], Some("[2001:db8::1]:0")),
            (&["6.6.6.6, unknown, 10.1.1.1"], Some("10.1.1.1:0")),
            (&["6.6.6.6, unknown"], None),
            (&["6.6.6.6,"], None),
            (&[""], None),
            (&[], None),
        ] {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FOR, HeaderValue::from_static(line));
            }
            let found = forwarded_client(&headers, &trusted).map(|client| client.to_string());
            assert_eq!(found.as_deref(), client, "{lines:?}");
        }
    }
}
