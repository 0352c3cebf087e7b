//! Headers as proxies send them, and as attackers do.

use std::net::SocketAddr;

use proptest::prelude::*;

use super::*;

fn line(line: &str) -> Parsed {
    parse(line.as_bytes())
}

fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

/// As a proxy of that version writes the two ends, which are of one family.
fn written(version: u8, Endpoints { source, destination }: Endpoints, extensions: &[u8]) -> Vec<u8> {
    let (from, to) = (source.ip(), destination.ip());
    if version == 1 {
        let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        return format!("PROXY {family} {from} {to} {} {}\r\n", source.port(), destination.port()).into_bytes();
    }
    let octets = |address: &SocketAddr| match address {
        SocketAddr::V4(address) => address.ip().octets().to_vec(),
        SocketAddr::V6(address) => address.ip().octets().to_vec(),
    };
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let rest = [octets(&source), octets(&destination), ports, extensions.to_vec()].concat();
    binary(0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, &rest)
}

fn ends(source: &str, destination: &str) -> Option<Endpoints> {
    Some(Endpoints { source: source.parse().unwrap(), destination: destination.parse().unwrap() })
}

#[test]
fn a_line_names_both_ends_of_the_connection() {
    let text = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n";
    let endpoints = ends("192.0.2.1:56324", "192.0.2.2:80");
    assert_eq!(line(text), Parsed::Header(Header { endpoints, length: text.len() }));
    assert_eq!(line(&format!("{text}GET / HTTP/1.1\r\n")), line(text), "what follows is not the header's");
    let text = "PROXY TCP6 2001:db8::1 ::1 65535 0\r\n";
    let endpoints = ends("[2001:db8::1]:65535", "[::1]:0");
    assert_eq!(line(text), Parsed::Header(Header { endpoints, length: text.len() }));
}

#[test]
fn the_longest_line_of_the_specification_is_read_and_a_longer_one_is_not() {
    let full = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let longest = format!("PROXY UNKNOWN {full} {full} 65535 65535\r\n");
    assert_eq!(longest.len(), 107);
    assert_eq!(line(&longest), Parsed::Header(Header { endpoints: None, length: 107 }));
    let longer = longest.replace("\r\n", " \r\n");
    assert_eq!(line(&longer), Parsed::Invalid(Invalid::Unterminated));
    assert_eq!(line(&longer[..106]), Parsed::Invalid(Invalid::Unterminated), "no line ends later");
    assert_eq!(line(&longer[..105]), Parsed::Incomplete);
}

#[test]
fn a_proxy_that_knows_no_addresses_leaves_the_true_ones() {
    for text in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN what ever\r\n"] {
        assert_eq!(line(text), Parsed::Header(Header { endpoints: None, length: text.len() }));
    }
    for (command, family, rest) in [
        // LOCAL, whatever the family is.
        (0x20, 0x00, 0),
        (0x20, 0x11, 12),
        (0x20, 0xff, 3),
        // UNSPEC, datagrams, Unix sockets.
        (0x21, 0x00, 7),
        (0x21, 0x12, 12),
        (0x21, 0x22, 40),
        (0x21, 0x31, 216),
        (0x21, 0x32, 216),
    ] {
        let header = Header { endpoints: None, length: 16 + rest };
        assert_eq!(parse(&binary(command, family, &vec![9; rest])), Parsed::Header(header), "{command:x} {family:x}");
    }
}

#[test]
fn lines_that_two_readers_could_read_differently_are_refused() {
    for text in [
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 80 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 56324 80 1\r\n",
        "PROXY TCP4  192.0.2.1 192.0.2.2 56324 80\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 056324 80\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +5632 80\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 80\r\n",
        "PROXY TCP4 ::1 ::1 1 80\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 80\r\n",
        "PROXY TCP6 fe80::1%eth0 ::1 1 80\r\n",
        "PROXY TCP5 192.0.2.1 192.0.2.2 1 80\r\n",
        "PROXY UNKNOWNS\r\n",
        "PROXY \r\n",
        "PROXY TCP4 192.0.2.1\t192.0.2.2 1 80\r\n",
    ] {
        assert_eq!(line(text), Parsed::Invalid(Invalid::Line), "{text:?}");
    }
    assert_eq!(line("PROXY TCP4 192.0.2.1 192.0.2.2 1 80\rG"), Parsed::Invalid(Invalid::Unterminated));
}

#[test]
fn http_is_no_header_from_its_first_bytes_on() {
    for text in ["G", "PU", "POST / HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n", "proxy ", "\r\nGET", "\n", "\x16\x03\x01"] {
        assert_eq!(line(text), Parsed::Invalid(Invalid::Signature), "{text:?}");
    }
    assert_eq!(line(""), Parsed::Incomplete);
}

#[test]
fn binary_headers_that_are_none_are_refused_as_soon_as_it_shows() {
    let refused = |bytes: &[u8], because| assert_eq!(parse(bytes), Parsed::Invalid(because), "{bytes:?}");
    refused(&binary(0x11, 0x11, &[0; 12])[..13], Invalid::Command);
    refused(&binary(0x22, 0x11, &[0; 12])[..13], Invalid::Command);
    for family in [0x01, 0x10, 0x13, 0x41, 0xff] {
        refused(&binary(0x21, family, &[0; 12])[..14], Invalid::Family);
    }
    refused(&binary(0x21, 0x11, &[0; 11])[..16], Invalid::TooShort);
    refused(&binary(0x21, 0x21, &[0; 35])[..16], Invalid::TooShort);
    refused(&binary(0x21, 0x31, &[0; 215])[..16], Invalid::TooShort);
    refused(&binary(0x20, 0x00, &[0; 4097])[..16], Invalid::TooLong);
    assert!(matches!(parse(&binary(0x20, 0x00, &[0; 4096])), Parsed::Header(Header { length: MAX_HEADER, .. })));
}

/// Any address of a family, with its port.
fn address(is_v4: bool) -> BoxedStrategy<SocketAddr> {
    if is_v4 {
        any::<([u8; 4], u16)>().prop_map(SocketAddr::from).boxed()
    } else {
        any::<([u8; 16], u16)>().prop_map(SocketAddr::from).boxed()
    }
}

fn endpoints() -> impl Strategy<Value = Endpoints> {
    let pair = any::<bool>().prop_flat_map(|is_v4| (address(is_v4), address(is_v4)));
    pair.prop_map(|(source, destination)| Endpoints { source, destination })
}

/// Bytes that are a header, or nearly one.
fn nearly_a_header() -> impl Strategy<Value = Vec<u8>> {
    let valid = (1..=2_u8, endpoints(), prop::collection::vec(any::<u8>(), 0..20))
        .prop_map(|(version, endpoints, extensions)| written(version, endpoints, &extensions));
    let spoiled = (valid, any::<prop::sample::Index>(), any::<u8>(), any::<bool>()).prop_map(
        |(mut bytes, place, byte, spoil)| {
            let place = place.index(bytes.len());
            bytes[place] = if spoil { byte } else { bytes[place] };
            bytes
        },
    );
    let line = "PROXY [ -~\r\n]{0,110}".prop_map(String::into_bytes);
    let random = prop::collection::vec(any::<u8>(), 0..40);
    prop_oneof![4 => spoiled, 1 => line, 1 => random]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        version in 1..=2_u8,
        endpoints in endpoints(),
        extensions in prop::collection::vec(any::<u8>(), 0..300),
        after in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let header = written(version, endpoints, &extensions);
        let expected = Header { endpoints: Some(endpoints), length: header.len() };
        prop_assert_eq!(parse(&[header, after].concat()), Parsed::Header(expected));
    }

    #[test]
    fn however_it_arrives_the_answer_is_the_same(bytes in nearly_a_header()) {
        let whole = parse(&bytes);
        for length in 0..=bytes.len() {
            let part = parse(&bytes[..length]);
            prop_assert!(part == Parsed::Incomplete || part == whole, "{} bytes: {:?}, all: {:?}", length, part, whole);
            if let Parsed::Header(header) = part {
                prop_assert!(header.length <= length);
            }
        }
    }

    #[test]
    fn the_longest_header_is_never_incomplete(bytes in nearly_a_header()) {
        let mut bytes = bytes;
        bytes.resize(MAX_HEADER, b'x');
        prop_assert_ne!(parse(&bytes), Parsed::Incomplete);
    }
}
