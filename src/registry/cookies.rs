//! Which server a cookie names, and the cookie that leads to each.

use std::sync::{Arc, OnceLock};

use http::HeaderValue;
use sha2::{Digest, Sha256};

use super::server::{Origin, Server};
use crate::{
    model::{CookieKey, CookieMode, CookiePolicy, InsertedCookie, PoolName},
    sticky::{self, Dates},
};

/// The cookies of a pool's servers at one moment.
#[derive(Debug, Default)]
pub(super) struct Cookies {
    /// What a cookie says, with the place of its server; in order, to be searched by halves.
    names: Vec<(u64, usize)>,
    /// The Set-Cookie line without dates for each server, written when it is first needed: a change of a large pool must
    /// not wait for lines that nobody may ask for.
    lines: Vec<OnceLock<Option<HeaderValue>>>,
}

impl Cookies {
    pub(super) fn new(policy: Option<&CookiePolicy>, servers: &[Arc<Server>]) -> Self {
        let Some(policy) = policy else { return Self::default() };
        let names = |(place, server): (usize, &Arc<Server>)| {
            let values = std::iter::once(&server.cookie).chain(&*server.former_cookies);
            values.filter_map(|value| number(value.as_bytes())).map(|number| (number, place)).collect::<Vec<_>>()
        };
        let mut names: Vec<_> = servers.iter().enumerate().flat_map(names).collect();
        names.sort_unstable();
        let lines = match policy.mode {
            CookieMode::Insert(_) => servers.iter().map(|_| OnceLock::new()).collect(),
            CookieMode::Prefix => Vec::new(),
        };
        Self { names, lines }
    }

    /// The place of the server that a cookie names.
    pub(super) fn place(&self, value: &[u8]) -> Option<usize> {
        let number = number(value)?;
        let found = self.names.binary_search_by_key(&number, |(number, _)| *number).ok()?;
        self.names.get(found).map(|(_, place)| *place)
    }

    /// The Set-Cookie line that leads a user to the server at that place.
    pub(super) fn line(
        &self,
        (place, server): (usize, &Server),
        name: &str,
        cookie: &InsertedCookie,
        dates: Dates,
    ) -> Option<HeaderValue> {
        let write = || sticky::set_cookie(name, &server.cookie, dates, cookie);
        if dates == Dates::default() { self.lines.get(place)?.get_or_init(write).clone() } else { write() }
    }
}

/// What a server's cookie says, and what may be said instead: the same on every balancer of a cluster, another one for each
/// boot of a node, and telling nothing about where the server is. With a key nobody can make the cookie of another server.
pub(super) fn values(keys: &[CookieKey], pool: &PoolName, origin: &Origin) -> (Arc<str>, Arc<[Arc<str>]>) {
    let identity = match origin {
        Origin::Static { name } => format!("static {name}"),
        // The boot alone: under which name it is shown depends on who joined first.
        Origin::Member { node, lost: _ } => format!("node {node}"),
    };
    let text = format!("{pool}\n{identity}");
    let mut values = keys.iter().map(|key| digits(&key.value(&text)));
    match values.next() {
        Some(first) => (first, values.collect()),
        None => (digits(&Sha256::digest(text)[..8]), [].into()),
    }
}

fn digits(bytes: &[u8]) -> Arc<str> {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>().into()
}

/// The value of a server's cookie as a number: 16 small hexadecimal digits, and nothing else.
fn number(value: &[u8]) -> Option<u64> {
    let is_digit = |byte: &u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let text = std::str::from_utf8(value).ok().filter(|text| text.len() == 16)?;
    text.as_bytes().iter().all(is_digit).then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_value_names_a_server() {
        assert_eq!(number(b"00000000000000ff"), Some(255));
        for forged in ["", "ff", "00000000000000FF", "+0000000000000ff", "00000000000000ff ", "000000000000000ff", "é"]
        {
            assert_eq!(number(forged.as_bytes()), None, "{forged}");
        }
    }
}
