//! What a balancing algorithm is told of a request: only what it needs is looked up.

use http::{HeaderName, Uri, request};

use super::client::Client;
use crate::{
    balance::{Ask, hash},
    http_rules::{Added, Forwarding, forwarded_client},
    model::Algorithm,
};

/// What the algorithm asks of the request.
pub(super) fn ask(algorithm: &Algorithm, parts: &request::Parts, client: &Client) -> Ask {
    match algorithm {
        Algorithm::RoundRobin | Algorithm::LeastConn | Algorithm::First => Ask::default(),
        Algorithm::Random => Ask { random: client.worker.random(), ..Ask::default() },
        Algorithm::Source => by(Some(source(parts, client))),
        Algorithm::Uri => by(Some(hash(path(&parts.uri)))),
        Algorithm::Header(name) => by(first_value(parts, name, &client.forwarding).map(hash)),
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

/// The first value of the header, if it is not empty; values of one line are separated by commas. What we add ourselves comes
/// last.
fn first_value<'a>(parts: &'a request::Parts, name: &HeaderName, ours: &'a Forwarding) -> Option<&'a [u8]> {
    let ours = || ours.headers(Added::ALL).find_map(|(added, value)| (added == name).then_some(value));
    let line = parts.headers.get(name).or_else(ours)?;
    let value = line.as_bytes().split(|&byte| byte == b',').next().unwrap_or_default().trim_ascii();
    (!value.is_empty()).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderValue, Request};

    #[test]
    fn the_first_value_is_the_clients_and_ours_where_it_says_nothing() {
        let ours = Forwarding {
            client: HeaderValue::from_static("192.0.2.1"),
            port: HeaderValue::from_static("80"),
            proto: HeaderValue::from_static("http"),
            trusted: false,
        };
        let name = HeaderName::from_static("x-forwarded-for");
        for (said, first) in
            [(None, Some("192.0.2.1")), (Some("10.0.0.1, 10.0.0.2"), Some("10.0.0.1")), (Some(""), None)]
        {
            let mut request = Request::new(());
            request.headers_mut().extend(said.map(|said| (name.clone(), HeaderValue::from_static(said))));
            let parts = request.into_parts().0;
            assert_eq!(first_value(&parts, &name, &ours), first.map(str::as_bytes), "{said:?}");
            assert_eq!(first_value(&parts, &HeaderName::from_static("x-user"), &ours), None);
        }
    }
}
