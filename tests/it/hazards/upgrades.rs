//! The only protocol to switch to is the one that is allowed, and only when the server has agreed.

use std::time::Duration;

use super::{Bench, ask, get, refuses};
use crate::support::{Client, Closed, Origin, PATIENCE, ok};

const WEBSOCKET: &str = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

#[test]
fn other_protocols_are_not_asked_for() {
    let bench = Bench::new();
    for lines in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n",
        "Connection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket\r\n",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n",
        "Connection: Upgrade\r\nUpgrade: websocket/13\r\n",
        "Connection: Upgrade\r\nUpgrade:\r\n",
        "Connection: Upgrade\r\n",
        "Upgrade: websocket\r\n",
        "Connection: close\r\nUpgrade: websocket\r\n",
        "Connection: keep-alive\r\nUpgrade: h2c\r\n",
    ] {
        assert_eq!(bench.ask(get(lines)).text(), "s1", "{lines:?}");
        let head = bench.origin.last().head;
        for gone in ["upgrade", "connection", "http2-settings"] {
            assert_eq!(head.one(gone), None, "{lines:?}: {head:?}");
        }
    }
    for (line, body) in [("POST /it HTTP/1.1", true), ("GET /it HTTP/1.0", false)] {
        let length = if body { "Content-Length: 4\r\n\r\nbody" } else { "\r\n" };
        assert_eq!(bench.ask(format!("{line}\r\nHost: a\r\n{WEBSOCKET}{length}")).text(), "s1", "{line}");
        assert_eq!(bench.origin.last().head.one("upgrade"), None, "{line}");
    }
}

#[test]
fn an_upgrade_with_a_body_is_refused() {
    let with = |lines: &str| get(&format!("{WEBSOCKET}{lines}"));
    refuses(
        400,
        &[
            with("Content-Length: 5\r\n") + "hello",
            with("Content-Length: 00\r\n"),
            with("Transfer-Encoding: chunked\r\n") + "5\r\nhello\r\n0\r\n\r\n",
            with("Transfer-Encoding: chunked\r\n") + "0\r\n\r\n",
        ],
    );
}

#[test]
fn what_comes_before_the_server_agrees_reaches_it_only_after() {
    let origin = Origin::raw(|wire, _| {
        wire.head().unwrap().unwrap();
        // Long enough for what must not come; on a busy machine the test sees less, and does not fail for it.
        wire.stream().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        assert!(wire.exact(1).is_err(), "the server has not agreed yet");
        wire.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        wire.send(SWITCHING).unwrap();
        if wire.exact(5).unwrap() == b"early" {
            wire.send("back").unwrap();
        }
    });
    let bench = Bench::before(origin);
    let Client { mut wire } = bench.client();
    wire.send(get(WEBSOCKET) + "early").unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 101);
    assert_eq!(wire.exact(4).unwrap(), b"back");
}

#[test]
fn what_comes_with_an_upgrade_that_is_refused_is_the_next_request() {
    let bench = Bench::new();
    for answer in ["/next", "bad"] {
        let next = if answer == "bad" {
            "raw tunnel bytes\r\n\r\n".to_owned()
        } else {
            get("X: 1\r\n").replace("/it", answer)
        };
        let mut client = bench.client();
        assert_eq!(ask(&mut client, (get(WEBSOCKET) + &next).as_bytes()).text(), "s1");
        let second = client.answer(false).unwrap();
        assert_eq!(second.status(), if answer == "bad" { 400 } else { 200 });
    }
    assert!(!bench.heard().contains("raw tunnel"), "{}", bench.heard());
    assert_eq!(bench.origin.last().head.all("x-forwarded-for"), ["127.0.0.1"], "it is screened as any other");
}

#[test]
fn a_refused_upgrade_is_an_ordinary_response() {
    for answer in [
        ok("no socket here"),
        ok("no socket here").replace("200 OK", "426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: upgrade"),
    ] {
        let bench = Bench::before(Origin::answering(move |wire, _| Closed(wire.send(&answer).is_err())));
        let mut client = bench.client();
        assert_eq!(client.try_get("/", WEBSOCKET).unwrap().text(), "no socket here");
        assert_eq!(client.get("/").text(), "no socket here");
        assert_eq!(bench.origin.connections(), 1);
    }
}

#[test]
fn a_switch_that_nobody_asked_for_is_502() {
    for (asked, answer) in [
        ("", SWITCHING.to_owned()),
        ("Connection: Upgrade\r\nUpgrade: h2c\r\n", SWITCHING.replace("websocket", "h2c")),
        (WEBSOCKET, SWITCHING.replace("websocket", "h2c")),
        (WEBSOCKET, SWITCHING.replace("Upgrade: websocket\r\n", "")),
        (WEBSOCKET, SWITCHING.replace("\r\n\r\n", "\r\nUpgrade: h2c\r\n\r\n")),
    ] {
        let reply = format!("{answer}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        let bench = Bench::before(Origin::answering(move |wire, request| {
            let bad = request.head.start.contains("/it");
            Closed(wire.send(if bad { &reply } else { "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\ns1" }).is_err())
        }));
        let mut client = bench.client();
        assert_eq!(ask(&mut client, get(asked).as_bytes()).status(), 502, "{asked:?} {answer:?}");
        assert_eq!(client.get("/after").text(), "s1", "{asked:?} {answer:?}");
        assert_eq!(bench.logged(2), ["502 PH", "200 --"]);
    }
}
