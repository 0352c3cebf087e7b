//! Response heads: what passes has one framing and nothing for the next hop alone.

#![no_main]

use http::{HeaderValue, StatusCode, header};
use lb::http_rules::prepare_response;
use lb_fuzz::all;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&flags, head)) = input.split_first() else { return };
    let upgrade = flags & 1 == 1;
    let Some(mut parts) = lb_fuzz::response(head) else { return };
    let (asked, before) = (HeaderValue::from_static("websocket"), parts.headers.clone());
    if prepare_response(&mut parts, upgrade.then_some(&asked)).is_err() {
        return;
    }
    let headers = &parts.headers;
    for gone in ["keep-alive", "proxy-connection", "te", "transfer-encoding"] {
        assert!(!headers.contains_key(gone), "{gone}");
    }
    let (connection, to) = (all(headers, header::CONNECTION), all(headers, header::UPGRADE));
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        assert!(upgrade);
        assert!(connection.len() == 1 && connection[0] == "Upgrade" && to.len() == 1 && to[0] == "websocket");
    } else {
        assert!(connection.is_empty() && to.is_empty());
    }
    if parts.status == StatusCode::NO_CONTENT {
        assert!(!headers.contains_key(header::CONTENT_LENGTH), "RFC 9110 section 8.6");
    } else {
        assert_eq!(all(headers, header::CONTENT_LENGTH), all(&before, header::CONTENT_LENGTH));
    }
    for kept in [header::CONTENT_TYPE, header::SET_COOKIE, header::CACHE_CONTROL] {
        assert_eq!(all(headers, &kept), all(&before, &kept), "{kept}");
    }
});
