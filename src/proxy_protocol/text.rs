//! Version 1: one line of text, `PROXY TCP4 192.0.2.1 192.0.2.2 56324 80` and CRLF (proxy-protocol.txt, section 2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::parse::{Endpoints, Header, Invalid, Parsed};

pub(super) const SIGNATURE: &[u8] = b"PROXY ";

/// Longest line with its CRLF: what the specification says is always enough.
const MAX_LINE: usize = 107;

/// Reads a line; `bytes` begin with the signature, as far as they go.
pub(super) fn parse(bytes: &[u8]) -> Parsed {
    let Some(end) = bytes.iter().take(MAX_LINE - 1).position(|&byte| byte == b'\r') else {
        let is_full = bytes.len() >= MAX_LINE - 1;
        return if is_full { Parsed::Invalid(Invalid::Unterminated) } else { Parsed::Incomplete };
    };
    match bytes.get(end + 1) {
        None => return Parsed::Incomplete,
        Some(b'\n') => {}
        Some(_) => return Parsed::Invalid(Invalid::Unterminated),
    }
    match read_line(&bytes[..end]) {
        Some(endpoints) => Parsed::Header(Header { endpoints, length: end + 2 }),
        None => Parsed::Invalid(Invalid::Line),
    }
}

/// What a line without its CRLF says; `None` when it says nothing.
fn read_line(line: &[u8]) -> Option<Option<Endpoints>> {
    let rest = std::str::from_utf8(line.strip_prefix(SIGNATURE)?).ok()?;
    let mut words = rest.split(' ');
    let ip: fn(&str) -> Option<IpAddr> = match words.next()? {
        // Whatever follows is to be ignored.
        "UNKNOWN" => return Some(None),
        "TCP4" => |word| word.parse::<Ipv4Addr>().ok().map(IpAddr::from),
        "TCP6" => |word| word.parse::<Ipv6Addr>().ok().map(IpAddr::from),
        _ => return None,
    };
    let (source, destination) = (ip(words.next()?)?, ip(words.next()?)?);
    let (source_port, destination_port) = (port(words.next()?)?, port(words.next()?)?);
    let endpoints = Endpoints {
        source: SocketAddr::new(source, source_port),
        destination: SocketAddr::new(destination, destination_port),
    };
    words.next().is_none().then_some(Some(endpoints))
}

/// Decimal, without sign and leading zeros.
fn port(word: &str) -> Option<u16> {
    let is_plain = word == "0" || !word.starts_with(['0', '+']);
    word.parse().ok().filter(|_| is_plain)
}
