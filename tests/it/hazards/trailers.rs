//! Lines after a chunked body: passed on as such to those who can use them, never taken for headers.

use super::{Bench, ask, get, post};
use crate::support::{Closed, Origin, Response, ok};

/// Fields that mean something about the message itself.
const FORBIDDEN: &str = "Content-Length: 7\r\nHost: evil.example\r\nTransfer-Encoding: gzip\r\nTrailer: X-Sum\r\n\
                         Authorization: evil\r\nContent-Type: evil/evil\r\nSet-Cookie: evil=1\r\nTE: x\r\n";
const NAMES: &str =
    "X-Sum, Content-Length, Host, Transfer-Encoding, Trailer, Authorization, Content-Type, Set-Cookie, TE";

fn answering_with_trailers() -> Origin {
    let answer = format!(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: {NAMES}\r\n\r\n\
         4\r\nbody\r\n0\r\nX-Sum: 42\r\n{FORBIDDEN}X-Undeclared: 1\r\n\r\n"
    );
    Origin::answering(move |wire, request| {
        let sent = if request.head.start.contains("/it") { wire.send(&answer) } else { wire.send(ok("s1")) };
        Closed(sent.is_err())
    })
}

fn fields(trailers: &[(String, String)]) -> Vec<(String, &str)> {
    trailers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.as_str())).collect()
}

#[test]
fn announced_trailers_of_a_request_reach_the_server() {
    let bench = Bench::new();
    for name in ["X-Sum", "x-sum, x-other", "X-Other\r\nTrailer: X-SUM"] {
        let request =
            post(&format!("Transfer-Encoding: chunked\r\nTrailer: {name}\r\n"), "4\r\nbody\r\n0\r\nX-Sum: 42\r\n\r\n");
        assert_eq!(bench.ask(request).status(), 200);
        let last = bench.origin.last();
        assert_eq!(
            (last.body.as_slice(), fields(&last.trailers)),
            (&b"body"[..], vec![("x-sum".to_owned(), "42")]),
            "{name}"
        );
        assert_eq!(last.head.one("x-sum"), None);
    }
    assert_eq!(bench.origin.connections(), 1);
}

#[test]
fn trailers_of_a_request_change_nothing_of_its_head() {
    let bench = Bench::new();
    for trailer in [format!("Trailer: {NAMES}\r\n"), String::new()] {
        let lines = format!("Transfer-Encoding: chunked\r\n{trailer}");
        let mut client = bench.client();
        let request =
            post(&lines, &format!("4\r\nbody\r\n0\r\nX-Sum: 42\r\n{FORBIDDEN}X-Forwarded-For: 6.6.6.6\r\n\r\n"));
        assert_eq!(ask(&mut client, request.as_bytes()).status(), 200);
        let last = bench.origin.last();
        assert_eq!((last.head.one("host"), last.head.one("content-length")), (Some("a.example"), None));
        assert_eq!((last.head.one("transfer-encoding"), last.head.one("authorization")), (Some("chunked"), None));
        assert_eq!(last.body, b"body");
        assert_eq!(fields(&last.trailers), [("x-sum".to_owned(), "42")]);
        // The server's connection is where both sides think it is.
        assert_eq!(bench.ask(get("")).text(), "s1");
    }
    assert!(!bench.heard().contains("evil") && !bench.heard().contains("6.6.6.6"), "{}", bench.heard());
}

#[test]
fn trailers_that_a_server_could_take_for_ours_are_dropped() {
    let bench = Bench::new();
    let dropped = ["Forwarded", "X_Forwarded_For", "Content_Length", "Keep-Alive", "Proxy-Connection"];
    for name in dropped.into_iter().flat_map(|name| [name.to_owned(), name.to_ascii_lowercase()]) {
        for announced in [format!("Trailer: X-Sum, {name}\r\n"), String::new()] {
            let lines = format!("Transfer-Encoding: chunked\r\n{announced}");
            let body = format!("4\r\nbody\r\n0\r\n{name}: evil\r\nX-Sum: 42\r\n{name}: 6.6.6.6\r\n\r\n");
            assert_eq!(bench.ask(post(&lines, &body)).status(), 200);
            let last = bench.origin.last();
            assert_eq!(fields(&last.trailers), [("x-sum".to_owned(), "42")], "{name} {announced:?}");
            assert_eq!(last.body, b"body");
        }
    }
}

#[test]
fn after_trailers_a_connection_goes_on() {
    let bench = Bench::new();
    let mut client = bench.client();
    let request = post("Transfer-Encoding: chunked\r\n", "3\r\nabc\r\n0\r\nX: y\r\n\r\n");
    assert_eq!(ask(&mut client, request.as_bytes()).status(), 200);
    assert_eq!(client.get("/second").text(), "s1");
}

#[test]
fn after_trailers_that_end_in_half_a_line_end_a_connection_ends() {
    // They make the end of the trailers a matter of opinion.
    for end in ["\n\n", "\r\n\n", "\n\r\n"] {
        let bench = Bench::new();
        let mut wire = bench.client().wire;
        let request = post("Transfer-Encoding: chunked\r\n", &format!("3\r\nabc\r\n0\r\nX: y{end}"));
        wire.send(request + "GET /second HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        let head = wire.head().unwrap().unwrap();
        assert_eq!(head.status(), 400, "{head:?} after {end:?}");
        assert_eq!(head.one("connection"), Some("close"), "after {end:?}");
        // It may be gone already.
        let _closed = wire.send("GET /third HTTP/1.1\r\nHost: a\r\n\r\n");
        let rest = String::from_utf8_lossy(&wire.rest()).into_owned();
        assert!(!rest.contains("HTTP/1."), "{rest:?} after {end:?}");
        assert!(!bench.heard().contains("/second") && !bench.heard().contains("/third"), "{end:?}: {}", bench.heard());
        bench.is_sound();
    }
}

/// The answer to a client that asks with these lines, after which its connection still works.
fn answer(bench: &Bench, lines: &str) -> Response {
    let mut client = bench.client();
    let answer = ask(&mut client, get(lines).as_bytes());
    assert_eq!((answer.status(), answer.text().as_str()), (200, "body"), "{lines:?}");
    for name in ["host", "authorization", "content-type", "set-cookie", "x-sum", "content-length"] {
        assert_eq!(answer.head.one(name), None, "{lines:?}");
    }
    assert_eq!(client.get("/after").text(), "s1", "{lines:?}");
    answer
}

#[test]
fn trailers_of_a_server_reach_a_client_that_takes_them() {
    let bench = Bench::before(answering_with_trailers());
    for lines in ["TE: trailers\r\n", "TE: Trailers\r\nConnection: TE\r\n", "TE: gzip;q=0.5, trailers\r\n"] {
        assert_eq!(
            fields(&answer(&bench, lines).trailers),
            [("x-sum".to_owned(), "42"), ("x-undeclared".to_owned(), "1")],
            "{lines:?}"
        );
    }
}

#[test]
fn a_client_that_does_not_take_trailers_gets_the_body_alone() {
    let bench = Bench::before(answering_with_trailers());
    for lines in ["", "TE: gzip\r\n", "TE: xtrailers\r\n", "X-TE: trailers\r\n"] {
        assert_eq!(fields(&answer(&bench, lines).trailers), [], "{lines:?}");
    }
    let mut old = bench.client();
    assert_eq!(ask(&mut old, b"GET /it HTTP/1.0\r\nHost: a\r\nTE: trailers\r\n\r\n").text(), "body");
}

#[test]
fn a_server_learns_that_trailers_are_taken() {
    let bench = Bench::new();
    for (lines, told) in [
        ("TE: trailers\r\nConnection: TE\r\n", true),
        ("TE: trailers\r\n", true),
        ("TE: gzip, TRAILERS\r\n", true),
        ("TE: gzip\r\nTE: trailers\r\n", true),
        ("TE: gzip\r\n", false),
        ("TE: trailers;q=0\r\n", false),
        ("", false),
    ] {
        bench.ask(get(lines));
        let head = bench.origin.last().head;
        let expected = if told { (Some("trailers"), Some("TE")) } else { (None, None) };
        assert_eq!((head.one("te"), head.one("connection")), expected, "{lines:?}");
    }
    bench.ask("GET / HTTP/1.0\r\nHost: a\r\nTE: trailers\r\n\r\n");
    assert_eq!(bench.origin.last().head.one("te"), None, "an old client takes none");
}
