//! Request lines, Host, header lines, and how large they may be.

use super::{Bench, get, refuses, show};
use crate::support::{Client, Origin};

fn with_line(line: &[u8]) -> Vec<u8> {
    [line, b"\r\nHost: a.example\r\n\r\n"].concat()
}

fn with_target(method: &str, target: &str) -> Vec<u8> {
    with_line(format!("{method} {target} HTTP/1.1").as_bytes())
}

/// A GET with a header line of raw bytes.
fn with_header(line: &[u8]) -> Vec<u8> {
    [b"GET /it HTTP/1.1\r\nHost: a.example\r\n", line, b"\r\n\r\n"].concat()
}

#[test]
fn a_target_that_is_no_path_and_no_url_is_refused() {
    let targets = ["admin", "host:80", "*", "a.example/x", "?x=1", "ftp://a/", "http://", "http:///x", "mailto:me"];
    let mut requests: Vec<_> = targets.iter().map(|target| with_target("GET", target)).collect();
    requests.push(with_target("POST", "*"));
    requests.push(with_target("OPTIONS", "admin"));
    requests.push(with_target("connect", "a.example:443"));
    refuses(400, &requests);
}

#[test]
fn a_target_of_other_bytes_than_plain_ascii_is_refused() {
    let bytes: [&[u8]; 9] =
        [b"\0", b"\x01", b"\t", b"\r", b"\n", b"\x7f", b"\x80", "\u{e9}".as_bytes(), "\u{2028}".as_bytes()];
    let inside = |bytes: &&[u8]| with_line(&[b"GET /a", *bytes, b"b HTTP/1.1"].concat());
    refuses(400, &bytes.iter().map(inside).collect::<Vec<_>>());
}

#[test]
fn a_request_line_that_is_not_exactly_one_is_refused() {
    refuses(
        400,
        &[
            &b"GET / HTTP/0.9"[..],
            b"GET / HTTP/1.2",
            b"GET / HTTP/1.10",
            b"GET / HTTP/2.0",
            b"GET / HTTP/3",
            b"GET / http/1.1",
            b"GET / HTTP/1.1 x",
            b"GET / XHTTP/1.1",
            b"GET /",
            b"GET / ",
            b"GET  / HTTP/1.1",
            b"GET /  HTTP/1.1",
            b"GET\t/ HTTP/1.1",
            b"GET /\tHTTP/1.1",
            b"GET / a HTTP/1.1",
            b"GET  HTTP/1.1",
            b" / HTTP/1.1",
            b" GET / HTTP/1.1",
            b"G@T / HTTP/1.1",
            b"G\0T / HTTP/1.1",
            b"GET: / HTTP/1.1",
            b"GET / HTTP/1.1\rX: 1",
            b"HTTP/1.1 200 OK",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
            b"{}",
        ]
        .map(with_line),
    );
}

#[test]
fn a_path_passes_as_it_came() {
    let bench = Bench::new();
    for path in
        ["/", "//evil.example/x", "/a/../b", "/%2e%2e/%00", "/a;b=c", "/?", "/?a=/../&b=%20", "/{a}|b\"c", "/a:80"]
    {
        assert_eq!(bench.ask(with_target("GET", path)).status(), 200, "{path}");
        assert_eq!(bench.origin.last().head.start, format!("GET {path} HTTP/1.1"));
    }
    assert_eq!(bench.ask(with_target("OPTIONS", "*")).status(), 200);
    assert_eq!(bench.origin.last().head.start, "OPTIONS * HTTP/1.1");
}

#[test]
fn connect_is_405() {
    let targets = ["a.example:443", "/", "*", "http://a.example/", "a.example"];
    let mut requests: Vec<_> = targets.iter().map(|target| with_target("CONNECT", target)).collect();
    requests.push(b"CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\nContent-Length: 3\r\n\r\nabc".to_vec());
    refuses(405, &requests);
    let allowed = Bench::new().ask(with_target("CONNECT", "a.example:443")).head.one("allow").map(str::to_owned);
    assert!(allowed.is_some_and(|methods| methods.contains("GET") && !methods.contains("CONNECT")));
}

#[test]
fn the_preface_of_http_2_reaches_no_server() {
    let bench = Bench::new();
    let Client { mut wire } = bench.client();
    wire.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").unwrap();
    let answer = wire.rest();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{}", show(&answer));
    assert_eq!(bench.heard(), "");
    bench.is_sound();
}

#[test]
fn a_request_names_exactly_one_host() {
    let values = [
        "",
        " ",
        "a,b",
        "a, b",
        "a b",
        "a\tb",
        "user@a",
        "user:pass@a",
        "http://a",
        "a/b",
        "a?b",
        "a#b",
        "a\\b",
        "a\"b",
        "<a>",
        "a|b",
        "a^b",
        "a`b",
        "{a}",
        "\u{e9}.example",
        ":80",
        "a:80:90",
        "a:b",
        "a:-1",
        "a:+80",
        "a:65536",
        "a:080000000000000000000080",
        "[::1",
        "::1",
        "::1]",
        "[]",
        "[]:80",
        "[::1]80",
        "[::1]:x",
        "[g::1]",
        "a[b]",
    ];
    let mut requests: Vec<_> = values.iter().map(|host| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).collect();
    requests.extend(
        [
            "GET / HTTP/1.1\r\n\r\n",
            "HEAD / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nX-Host: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\nhOsT: b\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a,b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\nHost: b,c\r\n\r\n",
        ]
        .map(str::to_owned),
    );
    refuses(400, &requests);
}

#[test]
fn a_host_passes_as_it_came() {
    let bench = Bench::new();
    for host in
        ["a", "A.Example:80", "a.example.", "a:", "127.0.0.1:8080", "[::1]", "[fe80::1]:65535", "a_b-c~d", "a%20b"]
    {
        assert_eq!(bench.ask(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).status(), 200, "{host}");
        assert_eq!(bench.origin.last().head.all("host"), [host]);
    }
}

#[test]
fn the_absolute_form_wins_over_host() {
    let bench = Bench::new();
    for (target, path, host) in [
        ("http://shop.example:81/x?y=1", "/x?y=1", "shop.example:81"),
        ("http://shop.example", "/", "shop.example"),
        ("http://shop.example?y=1", "/?y=1", "shop.example"),
        ("https://shop.example//x", "//x", "shop.example"),
        ("HTTP://shop.example/", "/", "shop.example"),
        ("http://[::1]:8080/", "/", "[::1]:8080"),
    ] {
        assert_eq!(
            bench.ask(format!("GET {target} HTTP/1.1\r\nHost: other.example\r\n\r\n")).status(),
            200,
            "{target}"
        );
        let head = bench.origin.last().head;
        assert_eq!((head.start.clone(), head.all("host")), (format!("GET {path} HTTP/1.1"), vec![host]), "{target}");
    }
    assert!(!bench.heard().contains("other.example"));
}

#[test]
fn an_absolute_form_with_a_bad_authority_is_refused() {
    let authorities = ["user@a", "user:pass@a", "@a", "a,b", ":80", "a:b", "a:65536", "[::1", "a@b@c"];
    refuses(400, &authorities.map(|authority| with_target("GET", &format!("http://{authority}/"))));
}

#[test]
fn a_header_line_that_could_be_read_otherwise_is_refused() {
    refuses(
        400,
        &[
            &b"X : 1"[..],
            b"X\t: 1",
            b"X:1\r\n folded",
            b"X: 1\r\n\tfolded",
            b"X: 1\r\n ",
            b"X: a\0b",
            b"X: a\rb",
            b"X: a\r",
            b"X: \x01",
            b"X: \x0b",
            b"X: \x7f",
            b"X\0: 1",
            b"X\x80: 1",
            b"X Y: 1",
            b"X[]: 1",
            b"\"X\": 1",
            b": 1",
            b"no colon",
            b"X",
            b"Transfer-Encoding : chunked",
            b"Content-Length\t: 5",
            b"\0",
        ]
        .map(with_header),
    );
    refuses(
        400,
        &[
            &b"GET / HTTP/1.1\r\n Host: a\r\n\r\n"[..],
            b"GET / HTTP/1.1\r\n\tHost: a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost:\r\n a\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\r\n\r\n",
            b"GET / HTTP/1.1\rHost: a\r\r",
        ],
    );
}

#[test]
fn bare_line_feeds_reach_the_server_as_whole_line_ends() {
    let bench = Bench::new();
    for request in [
        "GET /it HTTP/1.1\nHost: a.example\nX: 1\n\n",
        "GET /it HTTP/1.1\r\nHost: a.example\nX: 1\r\n\n",
        "GET /it HTTP/1.1\nHost: a.example\r\nX: 1\n\r\n",
        "\r\n\nGET /it HTTP/1.1\r\nHost: a.example\r\nX: 1\r\n\r\n",
    ] {
        assert_eq!(bench.ask(request).status(), 200, "{request:?}");
        let head = bench.origin.last().head;
        assert_eq!((head.start.as_str(), head.one("x")), ("GET /it HTTP/1.1", Some("1")), "{request:?}");
    }
    assert!(!bench.heard().replace("\r\n", "").contains(['\r', '\n']), "{:?}", bench.heard());
}

#[test]
fn headers_pass_in_their_order_with_their_repetitions() {
    let bench = Bench::new();
    bench
        .ask(get("Accept: a\r\nX-One: 1\r\nAccept: b\r\nX-Empty:\r\nX-Spaces: \t  in  side  \t\r\nX-High: \u{e9}\r\n"));
    let head = bench.origin.last().head;
    assert_eq!(head.all("accept"), ["a", "b"]);
    assert_eq!((head.one("x-empty"), head.one("x-spaces")), (Some(""), Some("in  side")));
    assert_eq!(head.one("x-high"), Some("\u{e9}"));
}

#[test]
fn more_than_100_header_lines_are_431() {
    let lines = |count: usize| get(&(1..count).map(|number| format!("X-{number}: 1\r\n")).collect::<String>());
    refuses(431, &[lines(101), lines(200), lines(1500)]);
    let bench = Bench::new();
    assert_eq!(bench.ask(lines(100)).status(), 200);
    assert_eq!(bench.origin.last().head.one("x-99"), Some("1"));
}

/// The default of `limits.head`.
const HEAD: usize = 16 * 1024;

#[test]
fn a_head_over_16_kib_is_431() {
    let of_size = |size: usize| {
        let rest = size - get("X: \r\n").len();
        get(&format!("X: {}\r\n", "x".repeat(rest)))
    };
    let without_an_end = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(HEAD));
    let many_parts: String = (0..90).map(|number| format!("X-{number}: {}\r\n", "x".repeat(200))).collect();
    refuses(431, &[of_size(HEAD + 1), of_size(HEAD * 2), of_size(HEAD * 20), without_an_end, get(&many_parts)]);
    let bench = Bench::new();
    assert_eq!(bench.ask(of_size(HEAD)).status(), 200);
    assert_eq!(bench.origin.last().head.one("x").map(str::len), Some(HEAD - get("X: \r\n").len()));
}

#[test]
fn a_target_over_8_kib_is_414() {
    let of_size = |size: usize| with_target("GET", &format!("/{}", "x".repeat(size - 1)));
    let url = |size: usize| with_target("GET", &format!("http://{}/", "x".repeat(size - "http:///".len())));
    let query = |size: usize| with_target("GET", &format!("/?{}", "x".repeat(size - 2)));
    refuses(414, &[of_size(8193), of_size(9000), of_size(16_000), url(8193), query(8193)]);
    let bench = Bench::new();
    assert_eq!(bench.ask(of_size(8192)).status(), 200);
    assert_eq!(bench.origin.last().head.start.len(), 8192 + "GET  HTTP/1.1".len());
}

#[test]
fn the_longest_target_grows_with_the_longest_head() {
    let bench = Bench::with(Origin::named("s1"), "[limits]\nhead = 65536\n");
    let of_size = |size: usize| with_target("GET", &format!("/{}", "x".repeat(size - 1)));
    assert_eq!(bench.ask(of_size(32_768)).status(), 200);
    assert_eq!(bench.ask(of_size(32_769)).status(), 414);
}
