//! Headers for the next hop alone go no further, and nothing else goes with them.

use super::{Bench, get, post};
use crate::support::{Closed, Origin};

#[test]
fn what_is_for_the_next_hop_alone_goes_no_further() {
    let origin = Origin::answering(|wire, _| {
        let head = "HTTP/1.1 200 OK\r\nConnection: X-Inner, Content-Type\r\nX-Inner: 1\r\nKeep-Alive: timeout=5\r\n\
                    Proxy-Connection: x\r\nUpgrade: h2c\r\nContent-Type: text/x\r\nX-Outer: 1\r\n";
        Closed(wire.send(format!("{head}Content-Length: 0\r\n\r\n")).is_err())
    });
    let bench = Bench::before(origin);
    let lines = "Connection: keep-alive, X-Trace\r\nX-Trace: 1\r\nX-Trace: 2\r\nKeep-Alive: 5\r\nTE: gzip\r\n\
                 Proxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nAccept: */*\r\n";
    let response = bench.ask(get(lines));
    let head = bench.origin.last().head;
    for gone in ["connection", "x-trace", "keep-alive", "te", "proxy-connection", "proxy-authorization"] {
        assert_eq!(head.one(gone), None, "{head:?}");
    }
    assert_eq!((head.one("accept"), head.one("host")), (Some("*/*"), Some("a.example")));
    for gone in ["connection", "x-inner", "keep-alive", "proxy-connection", "upgrade"] {
        assert_eq!(response.head.one(gone), None, "{response:?}");
    }
    assert_eq!((response.head.one("x-outer"), response.head.one("content-type")), (Some("1"), Some("text/x")));
}

#[test]
fn headers_are_nominated_in_whatever_form() {
    let bench = Bench::new();
    for connection in [
        "Connection: X-Trace\r\n",
        "Connection: x-trace,close-not\r\n",
        "Connection: ,, X-TRACE ,\r\n",
        "Connection: \tx-trace\t\r\n",
        "Connection: keep-alive\r\nConnection: X-Trace\r\n",
        "Connection: close, X-Trace\r\n",
        "connection:x y, X-Trace\r\n",
    ] {
        bench.ask(get(&format!("X-Trace: 1\r\n{connection}X-Other: 1\r\n")));
        let head = bench.origin.last().head;
        assert_eq!((head.one("x-trace"), head.one("connection")), (None, None), "{connection:?}");
        assert_eq!(head.one("x-other"), Some("1"), "{connection:?}");
    }
}

#[test]
fn what_a_request_means_cannot_be_nominated_away() {
    let bench = Bench::new();
    let kept = [
        ("Cookie", "a=b"),
        ("Authorization", "Basic eA=="),
        ("Content-Type", "text/x"),
        ("Content-Encoding", "x"),
        ("Content-Range", "bytes 0-3/4"),
        ("Cache-Control", "no-store"),
    ];
    for (name, value) in kept {
        assert_eq!(
            bench
                .ask(post(&format!("{name}: {value}\r\nConnection: {name}\r\nContent-Length: 4\r\n"), "body"))
                .status(),
            200
        );
        assert_eq!(bench.origin.last().head.one(name), Some(value));
    }
    for lines in [
        "Connection: close, Host, Content-Length\r\nContent-Length: 4\r\n",
        "Connection: Content-Length\r\nConnection: host\r\nContent-Length: 4\r\n",
    ] {
        assert_eq!(bench.ask(post(lines, "body")).status(), 200);
        let last = bench.origin.last();
        assert_eq!((last.head.one("host"), last.body.as_slice()), (Some("a.example"), &b"body"[..]), "{lines:?}");
    }
    let lines = "Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n";
    assert_eq!(bench.ask(post(lines, "4\r\nbody\r\n0\r\n\r\n")).status(), 200);
    assert_eq!(bench.origin.last().body, b"body");
}
