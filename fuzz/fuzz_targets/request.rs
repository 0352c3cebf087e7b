//! Request heads: what passes can be read in one way only, and says the truth about its client.

#![no_main]

use std::net::SocketAddr;

use http::{HeaderMap, HeaderValue, Method, Version, header};
use lb::{
    http_rules::{Forwarding, Upgrades, forwarded_client, prepare_forwarding, screen, strip_hop_by_hop},
    model::{Networks, parse_network},
};
use lb_fuzz::{all, tokens};
use libfuzzer_sys::fuzz_target;

const HOP_BY_HOP: [&str; 6] = ["connection", "keep-alive", "proxy-authorization", "proxy-connection", "te", "upgrade"];
/// What a request means depends on these, so no client can have them removed by naming them in Connection.
const PROTECTED: [&str; 6] = ["host", "content-length", "transfer-encoding", "cookie", "authorization", "expect"];
const OURS: [&str; 4] = ["x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-proto"];

fuzz_target!(|input: &[u8]| {
    let Some((&flags, head)) = input.split_first() else { return };
    let Some(mut parts) = lb_fuzz::request(head) else { return };
    let before = parts.headers.clone();
    let Ok(screened) = screen(&mut parts, 8192, &Upgrades::new(["websocket"])) else { return };

    let target = parts.uri.to_string();
    assert!(target.starts_with('/') || (target == "*" && parts.method == Method::OPTIONS), "{target:?}");
    assert!(target.bytes().all(|byte| byte.is_ascii_graphic()), "{target:?}");
    assert_ne!(parts.method, Method::CONNECT);
    let hosts = all(&parts.headers, header::HOST).len();
    assert!(hosts == 1 || (hosts == 0 && parts.version == Version::HTTP_10));
    let encodings = all(&parts.headers, header::TRANSFER_ENCODING);
    assert!(encodings.len() <= 1 && encodings.iter().all(|value| value.as_bytes().eq_ignore_ascii_case(b"chunked")));
    assert_eq!(screened.has_cookie, parts.headers.contains_key(header::COOKIE));
    if screened.upgrade.is_some() {
        assert_eq!((&parts.method, parts.version), (&Method::GET, Version::HTTP_11));
        assert!(encodings.is_empty() && all(&parts.headers, header::CONTENT_LENGTH).iter().all(|value| *value == "0"));
    }

    let nominated = tokens(&parts.headers, header::CONNECTION);
    strip_hop_by_hop(&mut parts.headers, screened.hop_by_hop);
    for gone in HOP_BY_HOP {
        assert!(!parts.headers.contains_key(gone), "{gone}");
    }
    for name in &nominated {
        let is_gone = !parts.headers.contains_key(name);
        let may_stay = all(&parts.headers, name) == all(&before, name) || name == header::HOST;
        assert!(is_gone || may_stay, "{name}");
    }
    for name in PROTECTED.into_iter().filter(|name| *name != "host") {
        assert_eq!(all(&parts.headers, name), all(&before, name), "{name}");
    }

    let trusted = flags & 1 == 1;
    let proxies: Networks = parse_network("10.0.0.0/8").into_iter().collect();
    let stripped = parts.headers.clone();
    let added = prepare_forwarding(&mut parts.headers, trusted, screened.has_forwarding);
    for (name, value) in forwarding(trusted).headers(added) {
        parts.headers.append(name, value.clone());
    }
    check_forwarding(&stripped, &parts.headers, trusted);
    // Whatever came before, the last address is ours, and it is no trusted proxy.
    let client = |headers: &HeaderMap| forwarded_client(headers, &proxies);
    assert_eq!(client(&parts.headers), Some(SocketAddr::from(([192, 0, 2, 1], 0))));
    // One more trusted proxy at the end changes nothing.
    parts.headers = stripped.clone();
    parts.headers.append("x-forwarded-for", HeaderValue::from_static("10.9.9.9"));
    let proxy = SocketAddr::from(([10, 9, 9, 9], 0));
    assert_eq!(client(&parts.headers), Some(client(&stripped).unwrap_or(proxy)));
});

fn forwarding(trusted: bool) -> Forwarding {
    Forwarding {
        client: HeaderValue::from_static("192.0.2.1"),
        port: HeaderValue::from_static("80"),
        proto: HeaderValue::from_static("http"),
        trusted,
    }
}

fn check_forwarding(before: &HeaderMap, after: &HeaderMap, trusted: bool) {
    let addresses = all(after, "x-forwarded-for");
    let (last, others) = addresses.split_last().expect("ours");
    assert_eq!(*last, "192.0.2.1");
    assert_eq!(others, all(before, "x-forwarded-for"));
    for name in after.keys().map(|name| name.as_str()).filter(|name| name.contains('_')) {
        assert!(!OURS.contains(&name.replace('_', "-").as_str()), "{name}");
    }
    if trusted {
        for name in ["x-forwarded-port", "x-forwarded-proto"] {
            assert!(!before.contains_key(name) || all(before, name) == all(after, name));
            assert!(after.contains_key(name));
        }
        for name in ["forwarded", "x-forwarded-host"] {
            assert_eq!(all(before, name), all(after, name));
        }
    } else {
        assert_eq!(all(after, "x-forwarded-port"), ["80"]);
        assert_eq!(all(after, "x-forwarded-proto"), ["http"]);
        assert!(!after.contains_key("forwarded") && !after.contains_key("x-forwarded-host"));
    }
}
