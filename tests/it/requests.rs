//! What servers are told about a request, and which requests they never see.

use crate::support::{Balancer, Client, Closed, Origin, ok};

fn one() -> (Origin, Balancer) {
    let origin = Origin::named("s1");
    let balancer = Balancer::alone(&[&origin.as_server("s1")]);
    (origin, balancer)
}

#[test]
fn the_server_learns_who_asked_and_how() {
    let (origin, balancer) = one();
    let sent = "X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Proto: https\r\n\
                X_Forwarded_For: 6.6.6.6\r\n";
    balancer.client().try_get("/", sent).unwrap();
    let head = origin.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["1.1.1.1, 2.2.2.2", "127.0.0.1"]);
    assert_eq!(head.one("x-forwarded-port"), Some(balancer.traffic[0].port().to_string().as_str()));
    assert_eq!(head.one("x-forwarded-proto"), Some("http"));
    assert_eq!(head.one("x_forwarded_for"), None);
    assert_eq!(head.one("host"), Some("test.example"));
}

#[test]
fn what_is_for_the_next_hop_alone_goes_no_further() {
    let origin = Origin::answering(|wire, _| {
        let head = "HTTP/1.1 200 OK\r\nConnection: X-Inner\r\nX-Inner: 1\r\nKeep-Alive: timeout=5\r\nX-Outer: 1\r\n";
        Closed(wire.send(format!("{head}Content-Length: 0\r\n\r\n")).is_err())
    });
    let balancer = Balancer::alone(&[&origin.as_server("s1")]);
    let sent = "Connection: keep-alive, X-Trace, Host, X-Forwarded-For\r\nX-Trace: 1\r\nKeep-Alive: 5\r\n\
                TE: gzip\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eA==\r\nAccept: */*\r\n";
    let response = balancer.client().try_get("/", sent).unwrap();
    let head = origin.last().head;
    for gone in ["connection", "x-trace", "keep-alive", "te", "proxy-connection", "proxy-authorization"] {
        assert_eq!(head.one(gone), None, "{head:?}");
    }
    assert_eq!((head.one("accept"), head.one("host")), (Some("*/*"), Some("test.example")));
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"], "ours cannot be nominated away");
    assert_eq!((response.head.one("x-inner"), response.head.one("keep-alive")), (None, None));
    assert_eq!(response.head.one("x-outer"), Some("1"));
}

#[test]
fn h2c_is_not_handed_on() {
    let (origin, balancer) = one();
    let sent = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    assert_eq!(balancer.client().try_get("/", sent).unwrap().status(), 200);
    let head = origin.last().head;
    for gone in ["upgrade", "connection", "http2-settings"] {
        assert_eq!(head.one(gone), None, "{head:?}");
    }
}

#[test]
fn an_old_client_gets_an_old_answer() {
    let origin = Origin::answering(|wire, _| {
        let sent = wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        Closed(sent.and_then(|()| wire.send_chunk(b"plain")).and_then(|()| wire.end_chunks()).is_err())
    });
    let balancer = Balancer::alone(&[&origin.as_server("s1")]);
    let mut client = balancer.client();
    client.wire.send("GET / HTTP/1.0\r\n\r\n").unwrap();
    let head = client.wire.head().unwrap().unwrap();
    assert_eq!((head.status(), head.one("transfer-encoding")), (200, None));
    assert_eq!(client.wire.rest(), b"plain", "no chunks, and the end is the end of the connection");
    assert!(origin.last().head.start.ends_with("HTTP/1.1"));
}

#[test]
fn an_old_client_may_keep_its_connection() {
    let (_origin, balancer) = one();
    let mut client = balancer.client();
    for _ in 0..2 {
        let response = client.ask("GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").unwrap();
        assert_eq!(response.text(), "s1");
    }
}

#[test]
fn the_absolute_form_wins_over_host() {
    let (origin, balancer) = one();
    let response = balancer.client().ask("GET http://shop.example:81/x?y=1 HTTP/1.1\r\nHost: other\r\n\r\n").unwrap();
    assert_eq!(response.status(), 200);
    let head = origin.last().head;
    assert_eq!((head.start.as_str(), head.one("host")), ("GET /x?y=1 HTTP/1.1", Some("shop.example:81")));
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let names = ["a", "b", "c", "d", "e"];
    let origin = Origin::answering(|wire, request| {
        let path = request.head.start.split(' ').nth(1).unwrap().to_owned();
        Closed(wire.send(ok(&path)).is_err())
    });
    let balancer = Balancer::alone(&[&origin.as_server("s1")]);
    let Client { wire } = balancer.client();
    let all: String = names.iter().map(|name| format!("GET /{name} HTTP/1.1\r\nHost: a\r\n\r\n")).collect();
    wire.send(all).unwrap();
    let mut client = Client { wire };
    for name in names {
        assert_eq!(client.answer(false).unwrap().text(), format!("/{name}"));
    }
}

#[test]
fn a_client_that_expects_100_continue_gets_it_and_then_its_answer() {
    let origin = Origin::answering(|wire, request| Closed(wire.send(ok(&request.body.len().to_string())).is_err()));
    let balancer = Balancer::alone(&[&origin.as_server("s1")]);
    let mut client = balancer.client();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    assert_eq!(client.ask(head).unwrap().status(), 100);
    assert_eq!(client.ask("body").unwrap().text(), "4");
}

#[test]
fn headers_pass_in_their_order_with_their_repetitions() {
    let (origin, balancer) = one();
    let sent = "Accept: a\r\nX-One: 1\r\nAccept: b\r\nX-Empty:\r\nX-Spaces:   in  side  \r\n";
    balancer.client().try_get("/path?q=%20&r=/../", sent).unwrap();
    let head = origin.last().head;
    assert_eq!(head.start, "GET /path?q=%20&r=/../ HTTP/1.1");
    assert_eq!(head.all("accept"), ["a", "b"]);
    assert_eq!((head.one("x-empty"), head.one("x-spaces")), (Some(""), Some("in  side")));
}
