//! What a balancing algorithm is told of a request: only what it needs is looked up.

use http::{HeaderName, Uri, request};

use super::client::Client;
use crate::{
    balance::{Ask, hash},
    http_rules::forwarded_client,
    model::Algorithm,
};

/// What the algorithm asks of the request.
pub(super) fn ask(algorithm: &Algorithm, parts: &request::Parts, client: &Client) -> Ask {
    match algorithm {
        Algorithm::RoundRobin | Algorithm::LeastConn | Algorithm::First => Ask::default(),
        Algorithm::Random => Ask { random: client.worker.random(), ..Ask::default() },
        Algorithm::Source => by(Some(source(parts, client))),
        Algorithm::Uri => by(Some(hash(path(&parts.uri)))),
        Algorithm::Header(name) => by(first_value(parts, name).map(hash)),
    }
}

fn by(key: Option<u64>) -> Ask {
    Ask { key, ..Ask::default() }
}

/// The client's address, as a trusted proxy told it if one is in front. Without the port, which is another one for each
/// connection.
fn source(parts: &request::Parts, client: &Client) -> u64 {
    let told =
        client.forwarding.trusted.then(|| forwarded_client(&parts.headers, &client.frontend.trusted_proxies)).flatten();
    // A listener of both families sees IPv4 as a part of IPv6; the client is the same one.
    match told.unwrap_or(client.address).ip().to_canonical() {
        std::net::IpAddr::V4(address) => hash(&address.octets()),
        std::net::IpAddr::V6(address) => hash(&address.octets()),
    }
}

/// The path alone, also where a whole URL is asked for; `*` has none.
fn path(uri: &Uri) -> &[u8] {
    uri.path().as_bytes()
}

/// The first value of the header, if it is not empty; values of one line are separated by commas.
fn first_value<'a>(parts: &'a request::Parts, name: &HeaderName) -> Option<&'a [u8]> {
    let line = parts.headers.get(name)?.as_bytes();
    let value = line.split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
    (!value.is_empty()).then_some(value)
}
