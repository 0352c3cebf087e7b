//! HTTP/1.0, on either side.

use super::{Bench, ask, get, post};
use crate::support::{Client, Closed, Origin, ok};

/// A server that answers in chunks.
fn chunked() -> Origin {
    Origin::answering(|wire, _| {
        let sent = wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        Closed(sent.and_then(|()| wire.send_chunk(b"plain")).and_then(|()| wire.end_chunks()).is_err())
    })
}

#[test]
fn an_old_client_gets_no_chunks_and_a_connection_that_ends() {
    let bench = Bench::before(chunked());
    for lines in ["", "Connection: close\r\n", "Connection: keep-alive\r\n", "Host: a\r\nTE: trailers, chunked\r\n"] {
        let Client { mut wire } = bench.client();
        wire.send(format!("GET / HTTP/1.0\r\n{lines}\r\n")).unwrap();
        let head = wire.head().unwrap().unwrap();
        assert_eq!((head.status(), head.one("transfer-encoding"), head.one("content-length")), (200, None, None));
        assert!(head.start.starts_with("HTTP/1.0 "), "{head:?}");
        assert_ne!(head.one("connection"), Some("keep-alive"), "its end is the end of the connection");
        assert_eq!(wire.rest(), b"plain", "{lines:?}");
        assert!(bench.origin.last().head.start.ends_with("HTTP/1.1"));
    }
    assert_eq!(bench.origin.connections(), 1);
}

#[test]
fn an_old_client_that_asks_for_it_keeps_its_connection() {
    let bench = Bench::new();
    let mut client = bench.client();
    for word in ["keep-alive", "Keep-Alive", "x, keep-alive"] {
        let answer = ask(&mut client, format!("GET / HTTP/1.0\r\nHost: a\r\nConnection: {word}\r\n\r\n").as_bytes());
        assert_eq!((answer.text().as_str(), answer.head.one("connection")), ("s1", Some("keep-alive")), "{word}");
    }
    for lines in ["", "Connection: close\r\n", "Connection: keep-alive, close\r\n"] {
        let mut client = bench.client();
        assert_eq!(ask(&mut client, format!("GET / HTTP/1.0\r\nHost: a\r\n{lines}\r\n").as_bytes()).text(), "s1");
        assert!(client.wire.is_closed(), "{lines:?}");
    }
}

#[test]
fn an_old_request_may_have_a_body_of_known_length() {
    let bench = Bench::new();
    assert_eq!(bench.ask("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").text(), "s1");
    assert_eq!(bench.origin.last().body, b"body");
    assert_eq!(bench.ask("POST http://b.example/x HTTP/1.0\r\nContent-Length: 4\r\n\r\nbody").text(), "s1");
    assert_eq!(bench.origin.last().head.all("host"), ["b.example"]);
}

#[test]
fn a_body_that_ends_with_the_servers_connection_is_understood() {
    for head in ["HTTP/1.1 200 OK", "HTTP/1.0 200 OK", "HTTP/1.1 200 OK\r\nConnection: close"] {
        let bench = Bench::before(Origin::answering(move |wire, _| {
            let _gone = wire.send(format!("{head}\r\n\r\nuntil the end"));
            Closed(true)
        }));
        let mut client = bench.client();
        for _ in 0..2 {
            let answer = client.get("/");
            assert_eq!(answer.text(), "until the end", "{head}");
            assert_eq!(
                (answer.head.start.as_str(), answer.head.one("connection")),
                ("HTTP/1.1 200 OK", None),
                "{head}"
            );
        }
    }
}

#[test]
fn an_old_server_is_asked_on_a_new_connection_each_time() {
    let bench = Bench::before(Origin::answering(|wire, _| {
        let _gone = wire.send(ok("old").replace("HTTP/1.1", "HTTP/1.0"));
        Closed(true)
    }));
    let mut client = bench.client();
    for _ in 0..5 {
        let answer = client.get("/");
        assert_eq!((answer.text().as_str(), answer.head.start.as_str()), ("old", "HTTP/1.1 200 OK"));
    }
    assert_eq!(
        ask(&mut client, post("Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n").as_bytes()).text(),
        "old"
    );
    assert_eq!(bench.origin.last().body, b"body");
    assert_eq!(bench.origin.connections(), 6);
}

#[test]
fn an_old_server_whose_chunks_cannot_be_is_502() {
    let bench = Bench::before(Origin::answering(|wire, _| {
        let _gone = wire.send("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n");
        Closed(true)
    }));
    assert_eq!(bench.ask(get("")).status(), 502);
    assert_eq!(bench.logged(1), ["502 PH"]);
}

#[test]
fn an_old_request_without_host_gets_one() {
    let bench = Bench::new();
    assert_eq!(bench.ask("GET / HTTP/1.0\r\n\r\n").text(), "s1");
    assert_eq!(bench.origin.last().head.all("host"), [bench.balancer.traffic[0].to_string()]);
    assert_eq!(bench.ask("GET / HTTP/1.0\r\nHost: its.own\r\n\r\n").text(), "s1");
    assert_eq!(bench.origin.last().head.all("host"), ["its.own"]);
}

#[test]
fn an_old_client_whose_request_is_refused_is_not_promised_another() {
    let bench = Bench::new();
    let mut client = bench.client();
    let answer = ask(&mut client, b"GET / HTTP/1.0\r\nHost: a,b\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!((answer.status(), answer.head.all("connection")), (400, vec!["close"]));
    assert!(client.wire.is_closed());
}
