//! Which requests may switch their connection to another protocol (RFC 9110 section 7.8).

use http::{HeaderValue, Method, Version, header, request::Parts};

/// The protocols that are allowed, in the operator's order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Upgrades(Vec<HeaderValue>);

/// One of [`Upgrades`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrade(usize);

impl Upgrades {
    /// Allows these; what can't be a header's value can't be asked for either.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        Self(names.into_iter().filter_map(|name| HeaderValue::from_str(name).ok()).collect())
    }

    /// Its name for the `Upgrade` header.
    pub fn name(&self, Upgrade(index): Upgrade) -> Option<&HeaderValue> {
        self.0.get(index)
    }

    /// The first allowed protocol that the request asks for.
    pub(super) fn asked(&self, parts: &Parts) -> Option<Upgrade> {
        let connection = parts.headers.get_all(header::CONNECTION).iter();
        if parts.version != Version::HTTP_11 || !connection.flat_map(tokens).any(|token| is(token, b"upgrade")) {
            return None;
        }
        let mut asked = parts.headers.get_all(header::UPGRADE).iter().flat_map(tokens);
        let index = asked.find_map(|token| self.0.iter().position(|name| is(token, name.as_bytes())))?;
        // RFC 6455 section 4.1.
        let websocket = is(self.0[index].as_bytes(), b"websocket");
        (!websocket || parts.method == Method::GET).then_some(Upgrade(index))
    }
}

/// Whether a server's `Upgrade` header names just this protocol.
pub(super) fn names(value: &HeaderValue, protocol: &HeaderValue) -> bool {
    is(value.as_bytes().trim_ascii(), protocol.as_bytes())
}

/// Whether a list has the token.
pub(super) fn has_token(value: &HeaderValue, token: &[u8]) -> bool {
    tokens(value).any(|found| is(found, token))
}

fn tokens(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

fn is(token: &[u8], name: &[u8]) -> bool {
    token.eq_ignore_ascii_case(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;

    fn asked(allowed: &[&'static str], method: &str, upgrade: &[&str]) -> Option<HeaderValue> {
        let mut builder = Request::builder().method(method).header("connection", "keep-alive, Upgrade");
        for value in upgrade {
            builder = builder.header("upgrade", *value);
        }
        let upgrades = Upgrades::new(allowed.iter().copied());
        let found = upgrades.asked(&builder.body(()).unwrap().into_parts().0)?;
        upgrades.name(found).cloned()
    }

    #[test]
    fn the_first_allowed_protocol_is_taken() {
        let both = ["websocket", "tcp"];
        assert_eq!(asked(&both, "GET", &["WebSocket"]).unwrap(), "websocket");
        assert_eq!(asked(&both, "GET", &["h2c, tcp,websocket"]).unwrap(), "tcp");
        assert_eq!(asked(&both, "GET", &["h2c", "websocket"]).unwrap(), "websocket");
        assert_eq!(asked(&both, "GET", &["h2c"]), None);
        assert_eq!(asked(&[], "GET", &["websocket"]), None);
    }

    #[test]
    fn a_websocket_begins_with_get() {
        let both = ["websocket", "tcp"];
        assert_eq!(asked(&both, "POST", &["websocket"]), None);
        assert_eq!(asked(&both, "POST", &["tcp"]).unwrap(), "tcp");
    }
}
