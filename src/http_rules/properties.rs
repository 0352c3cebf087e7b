//! What must hold of every request and response that passes, whatever was sent. `fuzz/` looks for the same from raw bytes.

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header, request, response,
};
use proptest::prelude::*;

use super::*;

/// Lines of which most mean something to somebody on the way.
fn headers() -> impl Strategy<Value = HeaderMap> {
    let name = prop::sample::select(vec![
        "host",
        "connection",
        "keep-alive",
        "te",
        "upgrade",
        "proxy-connection",
        "proxy-authorization",
        "trailer",
        "transfer-encoding",
        "content-length",
        "cookie",
        "expect",
        "x-a",
        "forwarded",
        "x-forwarded-for",
        "x-forwarded-port",
        "x-forwarded-proto",
        "x-forwarded-host",
        "x_forwarded_for",
        "x-forwarded_proto",
    ]);
    let value = prop::sample::select(vec![
        "a",
        "a.example:80",
        "chunked",
        "Chunked",
        "gzip, chunked",
        "0",
        "3",
        "close",
        "keep-alive",
        "upgrade",
        "Upgrade, x-a",
        "x-a, host",
        "cookie, x-forwarded-for",
        "websocket",
        "h2c",
        "100-continue",
        "10.0.0.1, 1.1.1.1",
        "unknown",
        "https",
        "",
    ]);
    let lines = prop::collection::vec((name, value), 0..8);
    lines.prop_map(|lines| {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    })
}

fn requests() -> impl Strategy<Value = request::Parts> {
    let target = prop::sample::select(vec![
        "/",
        "/a?b",
        "*",
        "a",
        "a:80",
        "http://a/x",
        "https://a?x",
        "http://a#x",
        "http://u@a/",
        "ftp://a/",
    ]);
    let method = prop::sample::select(vec![Method::GET, Method::POST, Method::OPTIONS, Method::CONNECT]);
    let version = prop::sample::select(vec![Version::HTTP_10, Version::HTTP_11]);
    (method, target, version, headers(), any::<bool>()).prop_map(|(method, target, version, mut headers, named)| {
        if named {
            // Otherwise few would pass.
            headers.insert(header::HOST, HeaderValue::from_static("a"));
        }
        let mut parts = Request::new(()).into_parts().0;
        (parts.method, parts.uri, parts.version) = (method, Uri::from_static(target), version);
        parts.headers = headers;
        parts
    })
}

fn responses() -> impl Strategy<Value = response::Parts> {
    (prop::sample::select(vec![101_u16, 200, 204, 304, 502]), headers()).prop_map(|(status, headers)| {
        let mut parts = Response::new(()).into_parts().0;
        parts.status = StatusCode::from_u16(status).unwrap();
        parts.headers = headers;
        parts
    })
}

fn all(headers: &HeaderMap, name: impl header::AsHeaderName) -> Vec<&HeaderValue> {
    headers.get_all(name).iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_request_that_passes_can_be_read_in_one_way_only(mut parts in requests()) {
        let before = parts.headers.clone();
        let Ok(screened) = screen(&mut parts, 8192, &Upgrades::new(["websocket"])) else { return Ok(()) };
        let hosts = all(&parts.headers, header::HOST).len();
        prop_assert!(hosts == 1 || (hosts == 0 && parts.version == Version::HTTP_10));
        prop_assert!(all(&parts.headers, header::TRANSFER_ENCODING).len() <= 1);
        let target = parts.uri.to_string();
        prop_assert!(target.starts_with('/') || target == "*", "{}", target);
        strip_hop_by_hop(&mut parts.headers, screened.hop_by_hop);
        for gone in ["connection", "keep-alive", "te", "upgrade", "proxy-connection", "proxy-authorization"] {
            prop_assert!(!parts.headers.contains_key(gone), "{}", gone);
        }
        for kept in ["content-length", "transfer-encoding", "cookie", "expect"] {
            prop_assert_eq!(all(&parts.headers, kept), all(&before, kept));
        }
    }

    #[test]
    fn what_the_server_is_told_of_the_client_is_ours_or_a_trusted_proxys(
        mut parts in requests(),
        trusted in any::<bool>(),
    ) {
        let Ok(screened) = screen(&mut parts, 8192, &Upgrades::new(["websocket"])) else { return Ok(()) };
        let (ours, before) = (HeaderValue::from_static("ours"), parts.headers.clone());
        let forwarding = Forwarding { client: ours.clone(), port: ours.clone(), proto: ours.clone(), trusted };
        let added = prepare_forwarding(&mut parts.headers, trusted, screened.has_forwarding);
        for (name, value) in forwarding.headers(added) {
            parts.headers.append(name, value.clone());
        }
        let after = &parts.headers;
        let mut addresses = all(&before, "x-forwarded-for");
        addresses.push(&ours);
        prop_assert_eq!(all(after, "x-forwarded-for"), addresses);
        for name in ["x-forwarded-port", "x-forwarded-proto"] {
            let said = all(&before, name);
            prop_assert_eq!(all(after, name), if trusted && !said.is_empty() { said } else { vec![&ours] });
        }
        for name in ["forwarded", "x-forwarded-host"] {
            prop_assert_eq!(all(after, name), if trusted { all(&before, name) } else { vec![] });
        }
        prop_assert!(after.keys().all(|name| !name.as_str().contains('_')));
    }

    #[test]
    fn a_response_that_passes_has_nothing_for_us_alone(mut parts in responses(), upgrade in any::<bool>()) {
        let asked = HeaderValue::from_static("websocket");
        if prepare_response(&mut parts, upgrade.then_some(&asked)).is_err() {
            return Ok(());
        }
        for gone in ["keep-alive", "te", "proxy-connection", "transfer-encoding"] {
            prop_assert!(!parts.headers.contains_key(gone), "{}", gone);
        }
        let switches = parts.status == StatusCode::SWITCHING_PROTOCOLS;
        prop_assert!(!switches || upgrade);
        for only in [header::CONNECTION, header::UPGRADE] {
            prop_assert_eq!(all(&parts.headers, only).len(), usize::from(switches));
        }
    }
}
