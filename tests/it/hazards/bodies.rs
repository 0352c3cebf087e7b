//! How long a request's body is: two answers to that are request smuggling.

use super::{Bench, ask, post, refuses, show};

const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.example\r\n\r\n";

#[test]
fn a_transfer_encoding_other_than_one_chunked_is_refused() {
    let lines = [
        "Transfer-Encoding: chunked, chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Transfer-Encoding: chunked, gzip\r\n",
        "Transfer-Encoding: identity, chunked\r\n",
        "Transfer-Encoding: ,chunked\r\n",
        "Transfer-Encoding: chunked,\r\n",
        "Transfer-Encoding: ,\r\n",
        "Transfer-Encoding:\r\n",
        "Transfer-Encoding: gzip\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "Transfer-Encoding: chunkedx\r\n",
        "Transfer-Encoding: x chunked\r\n",
        "Transfer-Encoding: chunked;q=1\r\n",
        "Transfer-Encoding: chunked;\r\n",
        "Transfer-Encoding: \"chunked\"\r\n",
        "Transfer-Encoding: 'chunked'\r\n",
        "Transfer-Encoding: \x0bchunked\r\n",
        "Transfer-Encoding: \x0cchunked\r\n",
        "Transfer-Encoding: chunked\0\r\n",
        "Transfer-Encoding: \u{a0}chunked\r\n",
        "Transfer-Encoding: chunk\u{212a}ed\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: \r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nX: 1\r\ntransfer-encoding: identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "Transfer-Encoding\r\n: chunked\r\n",
        "Transfer-Encoding:\r\n chunked\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: gzip\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: identity\r\n",
        "Transfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n",
    ];
    refuses(400, &lines.map(|lines| post(lines, &format!("0\r\n\r\n{SMUGGLED}"))));
}

#[test]
fn a_transfer_encoding_of_an_old_client_is_refused() {
    let of_old = |lines: &str| format!("POST / HTTP/1.0\r\nHost: a\r\n{lines}\r\n0\r\n\r\n{SMUGGLED}");
    refuses(
        400,
        &[
            of_old("Transfer-Encoding: chunked\r\n"),
            of_old("Transfer-Encoding: identity\r\n"),
            of_old("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
            of_old("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n"),
            of_old("Connection: keep-alive\r\nTransfer-Encoding: chunked\r\n"),
        ],
    );
}

#[test]
fn a_content_length_that_is_no_plain_number_is_refused() {
    let lines = [
        "Content-Length: +5\r\n",
        "Content-Length: -5\r\n",
        "Content-Length: -0\r\n",
        "Content-Length: 0x5\r\n",
        "Content-Length: 5_0\r\n",
        "Content-Length: 5.0\r\n",
        "Content-Length: 5e0\r\n",
        "Content-Length: 5 5\r\n",
        "Content-Length: 5;\r\n",
        "Content-Length: \"5\"\r\n",
        "Content-Length: five\r\n",
        "Content-Length: \u{664}\r\n",
        "Content-Length:\r\n",
        "Content-Length: \r\n",
        "Content-Length: ,\r\n",
        "Content-Length: 5,\r\n",
        "Content-Length: 5, 5\r\n",
        "Content-Length: 5, 6\r\n",
        "Content-Length: 18446744073709551616\r\n",
        "Content-Length: 99999999999999999999999999999999\r\n",
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Content-Length: 0\r\nContent-Length: 5\r\n",
        "Content-Length: 5\r\nX: 1\r\ncontent-length: 0\r\n",
        "Content-Length: 5\r\nContent-Length:\r\n",
        "Content-Length : 5\r\n",
        "Content-Length:\r\n 5\r\n",
    ];
    refuses(400, &lines.map(|lines| post(lines, &format!("12345{SMUGGLED}"))));
}

#[test]
fn a_content_length_that_no_body_can_have_is_refused() {
    refuses(
        400,
        &["18446744073709551615", "9223372036854775808"]
            .map(|length| post(&format!("Content-Length: {length}\r\n"), SMUGGLED)),
    );
}

#[test]
fn the_same_content_length_twice_becomes_one() {
    let bench = Bench::new();
    for (lines, length) in [
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "5"),
        ("Content-Length: 5\r\nX: 1\r\nCONTENT-LENGTH:5\r\nContent-Length:  5 \r\n", "5"),
        ("Content-Length: 5\r\n", "5"),
    ] {
        assert_eq!(bench.ask(post(lines, "12345")).status(), 200, "{lines:?}");
        let last = bench.origin.last();
        assert_eq!((last.head.all("content-length"), last.body.as_slice()), (vec![length], &b"12345"[..]), "{lines:?}");
    }
}

#[test]
fn with_both_lengths_the_chunks_count_and_the_connection_ends() {
    let bench = Bench::new();
    for lines in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
        "Content-Length: 0\r\nTransfer-Encoding: chunked\r\n",
        "Content-Length: 500\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
        "Connection: keep-alive\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    ] {
        let mut client = bench.client();
        let request = post(lines, &format!("4\r\nbody\r\n0\r\n\r\n{SMUGGLED}"));
        assert_eq!(ask(&mut client, request.as_bytes()).status(), 200, "{lines:?}");
        assert!(client.wire.is_closed(), "the rest of such a connection is not to be trusted: {lines:?}");
        let last = bench.origin.last();
        assert_eq!((last.head.one("transfer-encoding"), last.head.one("content-length")), (Some("chunked"), None));
        assert_eq!(last.body, b"body");
    }
    assert!(!bench.heard().contains("smuggled"), "{}", bench.heard());
    bench.is_sound();
}

#[test]
fn names_that_only_look_like_lengths_do_not_reach_the_server() {
    let bench = Bench::new();
    let lines = "Content_Length: 50\r\nTransfer_Encoding: chunked\r\nContent-Length: 4\r\n";
    assert_eq!(bench.ask(post(lines, "body")).status(), 200);
    let head = bench.origin.last().head;
    assert_eq!((head.one("content_length"), head.one("transfer_encoding")), (None, None), "{head:?}");
}

/// Asserts that each body is answered 400, that its connection ends there, and that the server was left with a request
/// that is not complete, on a connection that nobody else got.
#[track_caller]
fn breaks(bodies: &[impl AsRef<str>]) {
    let bench = Bench::new();
    for body in bodies {
        let request = post("Transfer-Encoding: chunked\r\n", body.as_ref());
        // So that there is a connection that could be spoiled.
        bench.is_sound();
        let whole = bench.origin.requests().len();
        let mut client = bench.client();
        assert_eq!(ask(&mut client, request.as_bytes()).status(), 400, "{}", show(request.as_bytes()));
        assert!(client.wire.is_closed(), "left open after {}", show(request.as_bytes()));
        bench.is_sound();
        let whole = &bench.origin.requests()[whole..];
        assert!(whole.iter().all(|request| request.head.start.contains("/after")), "{}", show(request.as_bytes()));
    }
    for connection in bench.origin.heard() {
        let text = String::from_utf8_lossy(&connection);
        if let Some((_, after)) = text.split_once("POST /it ") {
            assert!(!after.contains("\r\n0\r\n") && !after.contains("/after"), "{text:?}");
        }
    }
    assert!(!bench.heard().contains("smuggled"), "{}", bench.heard());
    let bad = bench.logged(bodies.len() * 3).into_iter().filter(|line| !line.starts_with("200 "));
    assert_eq!(bad.collect::<Vec<_>>(), vec!["400 CD"; bodies.len()]);
}

#[test]
fn a_chunk_size_that_is_no_plain_hexadecimal_breaks_the_request() {
    let sizes = [
        "0x5",
        "0X5",
        "x5",
        "5_",
        "_5",
        "5_0",
        "",
        " 5",
        "\t5",
        "-1",
        "+5",
        "5h",
        "5 5",
        "5,5",
        "5.0",
        "\"5\"",
        "5\x0b",
        "\x0b5",
        "5\0",
        "FFFFFFFFFFFFFFFFF",
        "10000000000000000",
        "00000000000000000000000000000000g",
        "5\u{a0}",
    ];
    breaks(&sizes.map(|size| format!("{size}\r\nhello\r\n0\r\n\r\n{SMUGGLED}")));
}

#[test]
fn a_chunk_line_that_does_not_end_as_it_should_breaks_the_request() {
    breaks(
        &[
            "5\nhello\r\n0\r\n\r\n",
            "5\rhello\r\n0\r\n\r\n",
            "5\r\rhello\r\n0\r\n\r\n",
            "5;a\nhello\r\n0\r\n\r\n",
            "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
            "5 \nhello\r\n0\r\n\r\n",
            "5;a\rb\r\nhello\r\n0\r\n\r\n",
            "5\r\nhello\n0\r\n\r\n",
            "5\r\nhello\r0\r\n\r\n",
            "5\r\nhello0\r\n\r\n",
            "5\r\nhelloworld\r\n0\r\n\r\n",
            "5\r\nhel\r\n0\r\n\r\n",
            "5\r\nhello\r\n0\n\r\n",
            "5\r\nhello\r\n0\r\n\n",
            "5\r\nhello\r\n0\r\n\rX",
            "5\r\nhello\r\n0\r\nno colon\r\n\r\n",
            "5\r\nhello\r\n0\r\nX : 1\r\n\r\n",
            "5\r\nhello\r\n0\r\n X: 1\r\n\r\n",
            "5\r\nhello\r\n0\r\nX: a\0b\r\n\r\n",
        ]
        .map(|body| format!("{body}{SMUGGLED}")),
    );
}

#[test]
fn what_follows_trailers_that_end_in_a_bare_line_feed_is_no_request() {
    let bench = Bench::new();
    for trailers in ["X: 1\n\r\n", "X: 1\n\n", "X: 1\r\n\n", "\nX: 1\r\n\r\n"] {
        let mut client = bench.client();
        let request = post("Transfer-Encoding: chunked\r\n", &format!("5\r\nhello\r\n0\r\n{trailers}{SMUGGLED}"));
        // hyper reads on to the first empty line that ends as it should, and takes that for the end of the trailers.
        let status = ask(&mut client, request.as_bytes()).status();
        assert!([200, 400].contains(&status), "{status} for {trailers:?}");
    }
    assert!(!bench.heard().contains("smuggled"), "{}", bench.heard());
    bench.is_sound();
}

#[test]
fn chunk_lines_and_trailers_without_an_end_break_the_request() {
    let long = "x".repeat(17 * 1024);
    let many: String = (0..101).map(|number| format!("X-{number}: 1\r\n")).collect();
    breaks(&[
        format!("5;{long}\r\nhello\r\n0\r\n\r\n"),
        format!("5;a={long}\r\nhello\r\n0\r\n\r\n"),
        format!("5\r\nhello\r\n0;{long}\r\n\r\n"),
        "1;12345678\r\nx\r\n".repeat(3000) + "0\r\n\r\n",
        format!("5\r\nhello\r\n0\r\nX: {long}\r\n\r\n"),
        format!("5\r\nhello\r\n0\r\n{many}\r\n"),
    ]);
}

#[test]
fn chunks_reach_the_server_in_their_plain_form() {
    let bench = Bench::new();
    for body in [
        "5\r\nhello\r\n0\r\n\r\n",
        "005\r\nhello\r\n000\r\n\r\n",
        "5;a=b;c=\"d\"\r\nhello\r\n0;e\r\n\r\n",
        "5 ;a\r\nhello\r\n0 \r\n\r\n",
        "1\r\nh\r\n4\r\nello\r\n0\r\n\r\n",
        "00000000000000000005\r\nhello\r\n0\r\n\r\n",
    ] {
        assert_eq!(bench.ask(post("Transfer-Encoding: Chunked\r\n", body)).status(), 200, "{body:?}");
        assert_eq!(bench.origin.last().body, b"hello", "{body:?}");
    }
    let heard = bench.heard();
    // As a whole line: a port may have these digits, too.
    assert!(!heard.contains(';') && !heard.contains("\r\n005\r\n"), "{heard:?}");
}

#[test]
fn a_body_of_a_method_that_has_seldom_one_keeps_its_framing() {
    let bench = Bench::new();
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "TRACE", "get", "POST"] {
        for (framing, body) in [
            ("Transfer-Encoding: chunked", format!("{:x}\r\n{SMUGGLED}\r\n0\r\n\r\n", SMUGGLED.len())),
            (&*format!("Content-Length: {}", SMUGGLED.len()), SMUGGLED.to_owned()),
        ] {
            let request = format!("{method} /it HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{body}");
            assert_eq!(bench.ask(request).status(), 200, "{method} {framing}");
            let last = bench.origin.last();
            assert!(last.head.start.starts_with(method), "{method} {framing}: {last:?}");
            assert_eq!(String::from_utf8_lossy(&last.body), SMUGGLED, "{method} {framing}");
        }
    }
    let starts = bench.origin.requests().into_iter().map(|request| request.head.start);
    assert!(starts.into_iter().all(|start| start.contains("/it")), "a body was taken for a request");
}
