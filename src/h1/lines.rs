//! Header lines that nobody looks at any more.

use http::{HeaderName, HeaderValue, header};

use super::write::write_field;

/// Header lines that no rule asks for, or for which all rules have been kept, as they are written.
///
/// Most lines of most responses are such, and what we add ourselves: to hash their names and to share their values would
/// cost more than all rules together.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Lines {
    text: Vec<u8>,
    tells_length: bool,
}

impl Lines {
    /// Room for the lines of an ordinary response, and for a cookie.
    const ROOM: usize = 256;

    /// Whether no rule asks for lines of that name. It must be one of none that is hop-by-hop, tells how the message is read,
    /// or has to do with cookies or caches.
    pub(super) fn takes(name: &str) -> bool {
        const ASKED_FOR: [&str; 11] = [
            "cache-control",
            "connection",
            "content-length",
            "keep-alive",
            "proxy-authorization",
            "proxy-connection",
            "set-cookie",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
        ];
        // The first letter says it of most names.
        let may_be = name.as_bytes().first().is_some_and(|first| b"ckpstuCKPSTU".contains(first));
        !may_be || !ASKED_FOR.iter().any(|asked| name.eq_ignore_ascii_case(asked))
    }

    /// Adds a line that says nothing of the length.
    pub fn push(&mut self, name: &HeaderName, value: &HeaderValue) {
        debug_assert!(*name != header::CONTENT_LENGTH && *name != header::TRANSFER_ENCODING, "{name}");
        self.push_parsed(name.as_str(), value.as_bytes());
    }

    /// Adds a line whose parts are known to be valid.
    pub(super) fn push_parsed(&mut self, name: &str, value: &[u8]) {
        if self.text.is_empty() {
            self.text.reserve(Self::ROOM);
        }
        write_field(&mut self.text, name, value);
    }

    /// Adds the length of a body that follows.
    pub(super) fn push_length(&mut self, name: &str, value: &[u8]) {
        self.tells_length = true;
        self.push_parsed(name, value);
    }

    /// Whether the length of the body is among them.
    pub(super) fn tells_length(&self) -> bool {
        self.tells_length
    }

    /// The lines, each with its end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text
    }
}

impl<'a> FromIterator<(HeaderName, &'a HeaderValue)> for Lines {
    /// Lines that are kept for long: they take no more room than they need.
    fn from_iter<I: IntoIterator<Item = (HeaderName, &'a HeaderValue)>>(headers: I) -> Self {
        let mut text = Vec::new();
        for (name, value) in headers {
            write_field(&mut text, name.as_str(), value.as_bytes());
        }
        text.shrink_to_fit();
        Self { text, tells_length: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rules_ask_for_is_not_taken_however_it_is_written() {
        for name in ["Connection", "CONTENT-LENGTH", "set-cookie", "Te", "Keep-Alive", "transfer-Encoding"] {
            assert!(!Lines::takes(name), "{name}");
        }
        for name in ["content-type", "Server", "date", "x-te", "", "connection-x"] {
            assert!(Lines::takes(name), "{name}");
        }
    }
}
