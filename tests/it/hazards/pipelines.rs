//! Requests that are sent before the answer to the one before them.

use std::sync::{Mutex, mpsc};

use super::{Bench, get};
use crate::support::{Client, Closed, Origin, PATIENCE, ok};

/// A server that answers with the path that was asked for.
fn echoing() -> Origin {
    Origin::answering(|wire, request| {
        let path = request.head.start.split(' ').nth(1).unwrap().to_owned();
        Closed(wire.send(ok(&path)).is_err())
    })
}

fn ask_for(paths: &[&str]) -> String {
    paths.iter().map(|path| format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).collect()
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let bench = Bench::before(echoing());
    let names: Vec<String> = (0..50).map(|number| format!("/{number}")).collect();
    let mut client = bench.client();
    client.wire.send(ask_for(&names.iter().map(String::as_str).collect::<Vec<_>>())).unwrap();
    for name in &names {
        assert_eq!(&client.answer(false).unwrap().text(), name);
    }
    let bodies = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: a\r\n\r\n\
                  POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHEAD /d HTTP/1.1\r\n\
                  Host: a\r\n\r\n";
    client.wire.send(bodies).unwrap();
    for name in ["/a", "/b", "/c"] {
        assert_eq!(client.answer(false).unwrap().text(), name);
    }
    assert_eq!(client.answer(true).unwrap().head.one("content-length"), Some("2"));
}

#[test]
fn a_slow_answer_holds_up_those_behind_it_and_crosses_none() {
    let (go, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let origin = Origin::answering(move |wire, request| {
        let path = request.head.start.split(' ').nth(1).unwrap().to_owned();
        if path == "/slow" {
            gate.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        }
        Closed(wire.send(ok(&path)).is_err())
    });
    let bench = Bench::before(origin);
    let mut pipelined = bench.client();
    pipelined.wire.send(ask_for(&["/slow", "/second", "/third"])).unwrap();
    // Others are served meanwhile, by the same worker and the same server.
    let mut beside = bench.client();
    for number in 0..20 {
        let path = format!("/beside/{number}");
        assert_eq!(beside.get(&path).text(), path);
    }
    go.send(()).unwrap();
    for path in ["/slow", "/second", "/third"] {
        assert_eq!(pipelined.answer(false).unwrap().text(), path);
    }
}

#[test]
fn what_is_wrong_with_a_second_request_leaves_the_first_its_answer() {
    let bench = Bench::new();
    let bad = "GET /bad HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n";
    let refused = get("Transfer-Encoding: gzip, chunked\r\n");
    for second in [bad, &refused, "CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "garbage\r\n\r\n"] {
        let mut client = bench.client();
        client.wire.send(ask_for(&["/first"]) + second + &ask_for(&["/third"])).unwrap();
        assert_eq!(client.answer(false).unwrap().text(), "s1", "{second:?}");
        let status = client.answer(false).unwrap().status();
        assert!([400, 405].contains(&status), "{status} for {second:?}");
        assert!(client.wire.is_closed(), "{second:?}");
    }
    let starts: Vec<_> = bench.origin.requests().into_iter().map(|request| request.head.start).collect();
    assert_eq!(starts, ["GET /first HTTP/1.1"; 4]);
}

#[test]
fn nothing_is_served_after_a_request_that_asks_to_close() {
    let bench = Bench::new();
    for first in
        ["Connection: close\r\n", "Connection: Close, x\r\n", "Connection: keep-alive\r\nConnection: close\r\n"]
    {
        let Client { mut wire } = bench.client();
        wire.send(get(first) + &ask_for(&["/second"])).unwrap();
        let answer = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{first:?}: {answer:?}");
        assert!(answer.to_ascii_lowercase().contains("connection: close\r\n"), "{answer:?}");
    }
    assert!(!bench.heard().contains("/second"));
}

#[test]
fn a_client_that_sends_on_behind_its_last_request_loses_nothing_of_its_answer() {
    const LENGTH: usize = 300_000;
    let bench = Bench::before(Origin::answering(|wire, _| Closed(wire.send(ok(&"x".repeat(LENGTH))).is_err())));
    let mut client = bench.client();
    // More than is read at once: what a closed socket has not read makes the system throw away what it has not sent.
    let further = ask_for(&["/further"; 2000]);
    client.wire.send(get("Connection: close\r\n") + &further).unwrap();
    assert_eq!(bench.logged(1), ["200 --"]);
    assert_eq!(client.answer(false).unwrap().body.len(), LENGTH);
    assert!(client.wire.is_closed());
    assert!(!bench.heard().contains("further"));
}
