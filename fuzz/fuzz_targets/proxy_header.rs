//! The PROXY protocol's header: the answer does not depend on how the bytes arrive.

#![no_main]

use lb::proxy_protocol::{Header, MAX_HEADER, Parsed, parse};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    assert!(bytes.len() < MAX_HEADER || whole != Parsed::Incomplete);
    for length in 0..bytes.len() {
        let part = parse(&bytes[..length]);
        assert!(part == Parsed::Incomplete || part == whole, "{length}: {part:?}, {whole:?}");
    }
    if let Parsed::Header(Header { length, endpoints }) = whole {
        assert!(length <= bytes.len());
        assert_eq!(parse(&bytes[..length]), whole, "what follows is not looked at");
        assert_eq!(parse(&bytes[..length - 1]), Parsed::Incomplete);
        if let Some(endpoints) = endpoints {
            assert_eq!(endpoints.source.is_ipv4(), endpoints.destination.is_ipv4());
        }
    }
});
