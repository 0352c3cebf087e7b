//! Messages that break off: whoever gets the rest of one must be able to tell.

use std::io;

use rustix::{net::connect_unspec, process::Signal};

use super::{Bench, post};
use crate::support::{Client, Closed, Origin, PATIENCE, Wire, wait_until};

/// Ends a connection with a reset (connect(2): dissolving the association).
fn reset(wire: &Wire) {
    connect_unspec(wire.stream()).unwrap();
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Close,
    Reset,
}

/// A server that breaks each answer off after `part`.
fn breaking(part: &'static str, end: End) -> Origin {
    Origin::answering(move |wire, request| {
        if request.head.start.contains("/after") {
            return Closed(wire.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\ns1").is_err());
        }
        let _gone = wire.send(part);
        if end == End::Reset {
            reset(wire);
        }
        Closed(true)
    })
}

const PARTS: [&str; 9] = [
    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n",
    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npa",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n0",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n0\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n4\r\npart\r\n0\r\nX: 1\r\n",
];

/// Asserts that the client can tell that an answer is not whole, and that the log knows whose fault it is.
#[track_caller]
fn never_ends_cleanly(part: &'static str, end: End) {
    let bench = Bench::before(breaking(part, end));
    let mut client = bench.client();
    client.wire.send("GET /it HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    match client.answer(false) {
        Err(_) => assert!(client.wire.is_closed(), "{end:?} after {part:?}"),
        // A reset can overtake what was sent before it.
        Ok(answer) => assert_eq!((answer.status(), end), (502, End::Reset), "ended as if it were whole: {part:?}"),
    }
    let line = bench.logged(1).remove(0);
    assert!(["200 SD", "502 SH"].contains(&line.as_str()), "{line} after {part:?}");
    bench.is_sound();
}

#[test]
fn an_answer_that_a_server_closes_on_never_ends_cleanly() {
    PARTS.iter().for_each(|part| never_ends_cleanly(part, End::Close));
}

#[test]
fn an_answer_that_a_server_resets_never_ends_cleanly() {
    PARTS.iter().for_each(|part| never_ends_cleanly(part, End::Reset));
    // Without the reset this one would be whole.
    never_ends_cleanly("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\npart", End::Reset);
}

#[test]
fn an_answer_whose_chunks_are_not_valid_never_ends_cleanly() {
    for chunks in [
        "4\r\npartX",
        "4\npart\r\n",
        "0x4\r\npart\r\n",
        "\r\n",
        "4;\n\r\npart",
        "FFFFFFFFFFFFFFFFF\r\n",
        "4\r\npart\r\n0\r\nno colon\r\n\r\n",
    ] {
        let answer = format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ngood\r\n{chunks}");
        let bench = Bench::before(Origin::answering(move |wire, _| Closed(wire.send(&answer).is_err())));
        let mut client = bench.client();
        assert!(client.try_get("/it", "").is_err(), "ended as if it were whole: {chunks:?}");
        assert!(client.wire.is_closed());
        assert_eq!(bench.logged(1), ["200 SD"], "{chunks:?}");
    }
}

#[test]
fn an_old_client_can_tell_that_an_answer_is_not_whole() {
    for part in &PARTS[3..] {
        let bench = Bench::before(breaking(part, End::Close));
        let mut wire = bench.client().wire;
        wire.send("GET /it HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
        // Without a length or chunks, nothing but a reset says that there should have been more.
        let (read, ended) = wire.read_out();
        assert_eq!(ended.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset), "{part:?}");
        assert!(read.starts_with(b"HTTP/1.0 200 OK\r\n"), "{part:?}");
        bench.is_sound();
    }
}

#[test]
fn an_old_client_can_tell_that_a_stop_cut_its_answer_off() {
    for lines in ["Transfer-Encoding: chunked\r\n\r\n4\r\n", "Connection: close\r\n\r\n"] {
        let origin = Origin::raw(move |wire, _| {
            if let Ok(Some(_)) = wire.head() {
                wire.send(format!("HTTP/1.1 200 OK\r\n{lines}part")).unwrap();
                drop(wire.rest());
            }
        });
        let mut bench = Bench::with(origin, "[timeouts]\ngrace = \"500ms\"\n");
        let mut wire = bench.client().wire;
        wire.send("GET /it HTTP/1.0\r\nHost: a\r\n\r\n").unwrap();
        assert_eq!(wire.head().unwrap().unwrap().status(), 200);
        assert_eq!(wire.exact(4).unwrap(), b"part");
        bench.balancer.lb.signal(Signal::TERM);
        let (rest, ended) = wire.read_out();
        assert_eq!(
            (rest, ended.map_err(|error| error.kind())),
            (vec![], Err(io::ErrorKind::ConnectionReset)),
            "{lines:?}"
        );
        bench.balancer.lb.wait();
    }
}

#[test]
fn a_request_that_breaks_off_is_never_whole_at_the_server() {
    let parts = [
        post("Content-Length: 100\r\n", ""),
        post("Content-Length: 100\r\n", "part"),
        post("Transfer-Encoding: chunked\r\n", ""),
        post("Transfer-Encoding: chunked\r\n", "4\r\npa"),
        post("Transfer-Encoding: chunked\r\n", "4\r\npart\r\n"),
        post("Transfer-Encoding: chunked\r\n", "4\r\npart\r\n0\r\n"),
        post("Transfer-Encoding: chunked\r\nTrailer: X\r\n", "4\r\npart\r\n0\r\nX: 1\r\n"),
    ];
    for end in [End::Close, End::Reset] {
        let bench = Bench::new();
        for part in &parts {
            let Client { wire } = bench.client();
            let begun = bench.heard().matches("POST /it").count();
            wire.send(part).unwrap();
            wait_until("the request has come to the server", PATIENCE, || {
                bench.heard().matches("POST /it").count() > begun
            });
            if end == End::Reset {
                reset(&wire);
            }
            drop(wire);
        }
        let lines = bench.logged(parts.len());
        assert!(lines.iter().all(|line| ["400 CD", "null CH", "-1 CH", "-1 CD"].contains(&line.as_str())), "{lines:?}");
        bench.is_sound();
        let starts = bench.origin.requests().into_iter().map(|request| request.head.start).collect::<Vec<_>>();
        assert_eq!(starts, ["GET /after HTTP/1.1"], "a part was taken for a whole");
        assert!(!bench.heard().contains("\r\n0\r\n"), "{}", bench.heard());
    }
}
