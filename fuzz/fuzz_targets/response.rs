//! Response heads: what passes has one framing and nothing for the next hop alone.

#![no_main]

use http::{StatusCode, header};
use lb::http_rules::prepare_response;
use lb_fuzz::all;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((&flags, head)) = input.split_first() else { return };
    let upgrade = flags & 1 == 1;
    let Some(mut parts) = lb_fuzz::response(head) else { return };
    let before = parts.headers.clone();
    if prepare_response(&mut parts, upgrade).is_err() {
        return;
    }
    let headers = &parts.headers;
    assert!(!(before.contains_key(header::CONTENT_LENGTH) && before.contains_key(header::TRANSFER_ENCODING)));
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
    for kept in [header::CONTENT_LENGTH, header::CONTENT_TYPE, header::SET_COOKIE, header::CACHE_CONTROL] {
        assert_eq!(all(headers, &kept), all(&before, &kept), "{kept}");
    }
});
