//! Connections to servers that are kept, and servers that close them at the wrong moment.

use std::{
    collections::BTreeSet,
    sync::{Mutex, mpsc},
};

use rustix::process::Signal;

use super::{Bench, ask, get};
use crate::support::{Closed, Origin, PATIENCE, ok};

/// A server that answers the first request of each connection, and reads the second and closes.
fn tired() -> Origin {
    let served = Mutex::new(BTreeSet::new());
    Origin::answering(move |wire, request| {
        let first = served.lock().unwrap().insert(request.connection);
        let bodiless = request.head.start.starts_with("HEAD ");
        let answer = if bodiless { ok("").replace("Length: 0", "Length: 2") } else { ok("s1") };
        Closed(!first || wire.send(answer).is_err())
    })
}

/// How often a request came.
fn times(bench: &Bench, start: &str) -> usize {
    bench.origin.requests().iter().filter(|request| request.head.start.starts_with(start)).count()
}

#[test]
fn a_server_that_closes_idle_connections_costs_nobody_a_request() {
    let bench = Bench::before(Origin::answering(|wire, _| Closed(wire.send(ok("s1")).is_ok())));
    let mut client = bench.client();
    for number in 0..200 {
        assert_eq!(client.get(&format!("/{number}")).text(), "s1");
    }
    assert_eq!(bench.origin.requests().len(), 200);
}

#[test]
fn what_can_be_repeated_and_met_a_closing_connection_is_sent_again_once() {
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"] {
        let bench = Bench::before(tired());
        let mut client = bench.client();
        assert_eq!(client.get("/first").status(), 200);
        let request = format!("{method} /second HTTP/1.1\r\nHost: a\r\nX: 1\r\n\r\n");
        assert_eq!(ask(&mut client, request.as_bytes()).status(), 200, "{method}");
        assert_eq!((times(&bench, &format!("{method} /second")), bench.origin.connections()), (2, 2));
        let sent = bench.origin.requests();
        assert_eq!(sent[1].head.headers, sent[2].head.headers, "it is the same request");
        assert_eq!(bench.logged(2), ["200 --", "200 --"]);
    }
}

#[test]
fn what_cannot_be_repeated_is_never_sent_again() {
    for (method, framing, body) in [
        ("POST", "Content-Length: 4\r\n", "body"),
        ("POST", "Content-Length: 0\r\n", ""),
        ("POST", "", ""),
        ("POST", "Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n"),
        ("PATCH", "", ""),
        ("OWN", "", ""),
        ("get", "", ""),
        ("PUT", "Content-Length: 4\r\n", "body"),
        ("DELETE", "Transfer-Encoding: chunked\r\n", "4\r\nbody\r\n0\r\n\r\n"),
    ] {
        let bench = Bench::before(tired());
        let mut client = bench.client();
        assert_eq!(client.get("/first").status(), 200);
        let request = format!("{method} /order HTTP/1.1\r\nHost: a\r\n{framing}\r\n{body}");
        assert_eq!(ask(&mut client, request.as_bytes()).status(), 502, "{method} {framing}");
        assert_eq!(times(&bench, &format!("{method} /order")), 1, "{method} {framing}");
        assert_eq!(bench.logged(2), ["200 --", "502 SH"]);
        assert_eq!(client.get("/after").status(), 200);
    }
}

#[test]
fn a_request_with_a_part_of_an_answer_is_never_sent_again() {
    for part in ["H", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"] {
        let bench = Bench::before(Origin::answering(move |wire, request| {
            if request.head.start.starts_with("DELETE ") {
                let _gone = wire.send(part);
                return Closed(true);
            }
            Closed(wire.send(ok("s1")).is_err())
        }));
        let mut client = bench.client();
        assert_eq!(client.get("/first").status(), 200);
        assert_eq!(ask(&mut client, b"DELETE /it HTTP/1.1\r\nHost: a\r\n\r\n").status(), 502, "{part:?}");
        assert_eq!(times(&bench, "DELETE "), 1, "{part:?}");
        let connections: Vec<_> = bench.origin.requests().iter().map(|request| request.connection).collect();
        assert_eq!(connections, [1, 1], "it came on the connection that was kept");
        assert_eq!(bench.logged(2), ["200 --", "502 SH"]);
    }
}

const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

/// A server that says more once it has answered `/talk`; what that is, it is told by the second part, which waits for it.
fn talkative() -> (Origin, impl Fn(&'static str)) {
    let (say, words) = mpsc::channel::<&str>();
    let (said, done) = mpsc::channel();
    let (words, said) = (Mutex::new(words), Mutex::new(said));
    let origin = Origin::answering(move |wire, request| {
        let sent = wire.send(ok("s1"));
        if request.head.start.contains("/talk") {
            let unasked = words.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            let _gone = wire.send(unasked);
            said.lock().unwrap().send(()).unwrap();
        }
        Closed(sent.is_err())
    });
    let say = move |words| {
        say.send(words).unwrap();
        done.recv_timeout(PATIENCE).unwrap();
    };
    (origin, say)
}

#[test]
fn what_a_server_says_while_nobody_asks_reaches_nobody() {
    let (origin, say) = talkative();
    let bench = Bench::before(origin);
    let (mut first, mut second) = (bench.client(), bench.client());
    assert_eq!(second.get("/").text(), "s1");
    for words in [EVIL, "x", "\r\n", "HTTP/1.1 100 Continue\r\n\r\n", "HTTP/1.1 408 Request Timeout\r\n\r\n"].repeat(10)
    {
        assert_eq!(first.get("/talk").text(), "s1");
        say(words);
        // The words wait at the balancer's door when the next request comes.
        let answer = second.get("/");
        assert_eq!((answer.status(), answer.text().as_str()), (200, "s1"), "{words:?}");
    }
}

#[test]
fn what_a_server_says_in_the_moment_of_the_next_request_is_not_its_answer() {
    let (origin, say) = talkative();
    let bench = Bench::before(origin);
    let (mut first, mut second) = (bench.client(), bench.client());
    for round in 0..20 {
        assert_eq!(first.get("/talk").text(), "s1");
        // Both wait at the balancer's door when it wakes up.
        bench.balancer.lb.halt();
        if round % 2 == 0 {
            say(EVIL);
        }
        second.wire.send(get("")).unwrap();
        if round % 2 == 1 {
            say(EVIL);
        }
        bench.balancer.lb.signal(Signal::CONT);
        assert_eq!(second.answer(false).unwrap().text(), "s1", "round {round}");
    }
}
