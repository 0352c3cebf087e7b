//! Servers whose answers are not valid, or say more than was asked.

use super::{Bench, ask, show};
use crate::support::{Closed, Origin, ok};

const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

/// A server that gives each of `answers` to the path that is its number, and its name to others. It closes nothing.
fn answering(answers: &[impl AsRef<[u8]>]) -> Origin {
    let answers: Vec<Vec<u8>> = answers.iter().map(|answer| answer.as_ref().to_vec()).collect();
    Origin::answering(move |wire, request| {
        let path = request.head.start.split(' ').nth(1).unwrap();
        let number: Option<usize> = path[1..].parse().ok();
        let sent = match number {
            Some(number) => wire.send(&answers[number]),
            None => wire.send(ok("s1")),
        };
        Closed(sent.is_err())
    })
}

/// Asserts that each answer becomes a 502 which the log lays at the server's door, that its connection is not used again,
/// and that the client's is.
#[track_caller]
fn are_502(answers: &[impl AsRef<[u8]>]) {
    let bench = Bench::before(answering(answers));
    let mut client = bench.client();
    for (number, answer) in answers.iter().enumerate() {
        let answer = answer.as_ref();
        let response = client.get(&format!("/{number}"));
        assert_eq!(response.status(), 502, "{}", show(answer));
        assert_eq!(response.text(), "502 Bad Gateway: the server gave no valid response.\n", "{}", show(answer));
        let spoiled = bench.origin.last().connection;
        assert_eq!(client.get("/after").text(), "s1", "{}", show(answer));
        assert_ne!(bench.origin.last().connection, spoiled, "used again after {}", show(answer));
    }
    let lines = bench.logged(answers.len() * 2);
    assert_eq!(lines, ["502 PH", "200 --"].repeat(answers.len()));
}

#[test]
fn what_is_no_http_is_502() {
    are_502(&[
        &b"\x00\x01\x02 this is no HTTP\r\n\r\n"[..],
        b"\x15\x03\x01\x00\x02\x02\x46",
        b"<html>an error page of HTTP/0.9</html>\r\n\r\n",
        b"HTTP/1.2 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 -20 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 099 Low\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1  200 OK\r\nContent-Length: 0\r\n\r\n",
        b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 O\0K\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\rContent-Length: 0\r\r",
    ]);
}

#[test]
fn a_header_line_of_a_server_that_could_be_read_otherwise_is_502() {
    let with = |line: &[u8]| [b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", line, b"\r\n\r\ns2"].concat();
    are_502(
        &[&b"X : 1"[..], b"X: 1\r\n folded", b"X: a\0b", b"X: a\rb", b"X\x80: 1", b"X Y: 1", b": 1", b"no colon"]
            .map(with),
    );
}

#[test]
fn a_response_whose_length_can_be_read_in_two_ways_is_502() {
    are_502(
        &[
            "Content-Length: many",
            "Content-Length: +3",
            "Content-Length: -3",
            "Content-Length: 0x3",
            "Content-Length: 3 3",
            "Content-Length: 3, 4",
            "Content-Length: 18446744073709551616",
            "Content-Length:",
            "Content-Length: 3\r\nContent-Length: 4",
            "Content-Length: 3\r\nContent-Length: 0",
            "Content-Length: 3\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nContent-Length: 3",
            "Content-Length: 3\r\nTransfer-Encoding: identity",
            "Transfer-Encoding: gzip",
            "Transfer-Encoding: identity",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked, gzip",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: ,chunked",
            "Transfer-Encoding: chunked;q=1",
            "Transfer-Encoding: \u{a0}chunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding:",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
            "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        ]
        .map(|lines| format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{EVIL}")),
    );
}

#[test]
fn a_head_of_a_server_that_is_too_large_is_502() {
    let lines = |count: usize| (0..count).map(|number| format!("X-{number}: 1\r\n")).collect::<String>();
    let long = "x".repeat(17 * 1024);
    are_502(&[
        format!("HTTP/1.1 200 OK\r\nX: {long}\r\nContent-Length: 2\r\n\r\ns2"),
        format!("HTTP/1.1 200 OK\r\nX: {long}"),
        format!("HTTP/1.1 200 {long}\r\nContent-Length: 2\r\n\r\ns2"),
        format!("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\ns2", lines(101)),
        format!("HTTP/1.1 200 OK\r\n{}", lines(5000)),
    ]);
}

#[test]
fn the_same_length_twice_becomes_one() {
    let bench = Bench::before(answering(&["HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\ns2"]));
    let answer = bench.client().get("/0");
    assert_eq!((answer.head.all("content-length"), answer.text().as_str()), (vec!["2"], "s2"));
}

#[test]
fn bare_line_feeds_of_a_server_reach_the_client_as_whole_line_ends() {
    let bench = Bench::before(answering(&["HTTP/1.1 200 OK\nX: 1\r\nContent-Length: 2\n\ns2"]));
    // The reader of the tests takes nothing else.
    let answer = bench.client().get("/0");
    assert_eq!((answer.head.one("x"), answer.text().as_str()), (Some("1"), "s2"));
}

#[test]
fn more_than_was_announced_reaches_nobody() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\ns2\r\n0\r\n\r\n";
    let answers = [ok("s2") + EVIL, ok("s2") + "\r\n", ok("s2") + "x", chunked.to_owned() + EVIL, ok("s2") + &ok("")];
    let bench = Bench::before(answering(&answers));
    let mut client = bench.client();
    for round in 0..40 {
        assert_eq!(client.get(&format!("/{}", round % answers.len())).text(), "s2");
        assert_eq!(client.get("/after").text(), "s1", "after {:?}", answers[round % answers.len()]);
        assert_eq!(bench.client().get("/after").text(), "s1");
    }
    assert!(bench.logged(120).iter().all(|line| line == "200 --"));
}

#[test]
fn an_answer_without_a_body_keeps_the_connection_in_step() {
    const ETAG: &str = "ETag: \"x\"\r\n";
    let framings = ["", "Content-Length: 99\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n"];
    for status in ["204 No Content", "304 Not Modified"] {
        let bench = Bench::before(answering(&framings.map(|lines| format!("HTTP/1.1 {status}\r\n{lines}{ETAG}\r\n"))));
        let mut client = bench.client();
        for (number, lines) in framings.iter().enumerate() {
            let answer = client.get(&format!("/{number}"));
            assert!(answer.head.start.ends_with(status), "{answer:?}");
            assert_eq!(
                (answer.head.one("etag"), answer.head.one("transfer-encoding")),
                (Some("\"x\""), None),
                "{lines:?}"
            );
            // A 304 may tell the length that a 200 would have; nobody may make one up.
            let length = answer.head.one("content-length").map(|length| format!("Content-Length: {length}\r\n"));
            assert!(length.is_none_or(|length| status.starts_with("304") && length == *lines), "{answer:?}");
            assert_eq!(client.get("/after").text(), "s1", "{status} {lines:?}");
        }
        assert_eq!(bench.origin.connections(), 1);
    }
}

#[test]
fn a_body_where_none_can_be_reaches_nobody() {
    let answers = ["204 No Content", "304 Not Modified"]
        .map(|status| format!("HTTP/1.1 {status}\r\nContent-Length: 49\r\n\r\n{EVIL}"));
    let bench = Bench::before(answering(&answers));
    let mut client = bench.client();
    for round in 0..20 {
        assert!([204, 304].contains(&client.get(&format!("/{}", round % 2)).status()));
        assert_eq!(client.get("/after").text(), "s1");
    }
}

#[test]
fn an_answer_to_head_tells_the_length_and_has_no_body() {
    let answers = ["Content-Length: 1234\r\n", "Content-Length: 0\r\n", "Transfer-Encoding: chunked\r\n", "X: 1\r\n"]
        .map(|lines| format!("HTTP/1.1 200 OK\r\n{lines}\r\n"));
    let bench = Bench::before(answering(&answers));
    let mut client = bench.client();
    for (number, length) in [Some("1234"), Some("0"), None, None].into_iter().enumerate() {
        let answer = ask(&mut client, format!("HEAD /{number} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes());
        assert_eq!((answer.status(), answer.head.one("content-length")), (200, length), "{number}");
        assert_eq!(client.get("/after").text(), "s1", "{number}");
    }
    let talkative = Bench::before(answering(&[ok("body of a HEAD") + EVIL]));
    let mut client = talkative.client();
    for _ in 0..10 {
        assert_eq!(ask(&mut client, b"HEAD /0 HTTP/1.1\r\nHost: a\r\n\r\n").status(), 200);
        assert_eq!(client.get("/after").text(), "s1");
    }
}

#[test]
fn a_204_to_head_tells_no_length() {
    for lines in ["Content-Length: 2\r\n", "Content-Length: 0\r\n"] {
        let bench = Bench::before(answering(&[format!("HTTP/1.1 204 No Content\r\n{lines}X: 1\r\n\r\n")]));
        let mut client = bench.client();
        for _ in 0..2 {
            let answer = ask(&mut client, b"HEAD /0 HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!((answer.status(), answer.head.one("content-length")), (204, None), "{lines:?}");
            assert_eq!(answer.head.one("x"), Some("1"));
        }
    }
}

#[test]
fn a_status_that_is_not_registered_passes_as_it_came() {
    let starts = ["HTTP/1.1 599 Custom", "HTTP/1.1 599 ", "HTTP/1.1 299 All Right", "HTTP/1.1 799 "];
    let bench = Bench::before(answering(&starts.map(|start| format!("{start}\r\nContent-Length: 2\r\n\r\ns2"))));
    let mut client = bench.client();
    for (number, start) in starts.into_iter().enumerate() {
        let answer = client.get(&format!("/{number}"));
        assert_eq!((answer.head.start.as_str(), answer.text().as_str()), (start, "s2"));
    }
}
