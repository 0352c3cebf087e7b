//! `Expect: 100-continue`, and other expectations.

use super::{Bench, ask, post, refuses};
use crate::support::{Closed, Origin, ok};

#[test]
fn another_expectation_is_417() {
    let values = [
        "",
        "tea",
        "100",
        "100-continue;q=1",
        "100-continue, tea",
        "100-continue, 100-continue",
        "\"100-continue\"",
        "200-ok",
    ];
    let mut requests: Vec<_> =
        values.iter().map(|value| post(&format!("Expect: {value}\r\nContent-Length: 4\r\n"), "")).collect();
    requests.push(post("Expect: 100-continue\r\nExpect: tea\r\nContent-Length: 4\r\n", ""));
    requests.push(post("Expect: tea\r\n", ""));
    refuses(417, &requests);
}

#[test]
fn a_client_that_expects_100_continue_gets_it_and_then_its_answer() {
    let origin = Origin::answering(|wire, request| Closed(wire.send(ok(&request.body.len().to_string())).is_err()));
    let bench = Bench::before(origin);
    let mut client = bench.client();
    for (lines, body) in [
        ("Content-Length: 4\r\nExpect: 100-continue\r\n", "body"),
        ("Transfer-Encoding: chunked\r\nExpect: 100-Continue\r\n", "4\r\nbody\r\n0\r\n\r\n"),
    ] {
        assert_eq!(ask(&mut client, post(lines, "").as_bytes()).status(), 100, "{lines:?}");
        assert_eq!(ask(&mut client, body.as_bytes()).text(), "4", "{lines:?}");
    }
}

#[test]
fn a_client_need_not_wait_for_100_continue() {
    let bench = Bench::new();
    let mut client = bench.client();
    for _ in 0..3 {
        client.wire.send(post("Content-Length: 4\r\nExpect: 100-continue\r\n", "body")).unwrap();
        let mut answer = client.answer(false).unwrap();
        if answer.status() == 100 {
            answer = client.answer(false).unwrap();
        }
        assert_eq!(answer.text(), "s1");
        assert_eq!(bench.origin.last().body, b"body");
    }
}

#[test]
fn nobody_is_asked_for_a_body_that_does_not_exist() {
    let bench = Bench::new();
    let mut client = bench.client();
    for lines in ["Expect: 100-continue\r\n", "Content-Length: 0\r\nExpect: 100-continue\r\n"] {
        assert_eq!(ask(&mut client, post(lines, "").as_bytes()).text(), "s1", "{lines:?}");
    }
    let mut old = bench.client();
    old.wire.send("POST / HTTP/1.0\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\nbody").unwrap();
    assert_eq!(old.answer(false).unwrap().text(), "s1", "HTTP/1.0 has no 1xx");
}

#[test]
fn the_balancer_asks_for_no_body_that_it_refuses() {
    let bench = Bench::with(Origin::named("s1"), "[limits]\nbody = 1000\n");
    for (lines, status) in [
        ("Content-Length: 1001\r\nExpect: 100-continue\r\n", 413),
        ("Content-Length: 4\r\nTransfer-Encoding: gzip, chunked\r\nExpect: 100-continue\r\n", 400),
    ] {
        let mut client = bench.client();
        assert_eq!(ask(&mut client, post(lines, "").as_bytes()).status(), status, "{lines:?}");
        assert!(client.wire.is_closed(), "{lines:?}");
    }
    assert_eq!(bench.heard(), "");
}
