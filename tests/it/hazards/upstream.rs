//! What a server may say before and beside its answer: 1xx, an answer to half a request, the version it speaks.

use std::{
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use super::{Bench, ask, get, post};
use crate::support::{Balancer, Client, Closed, Origin, PATIENCE, Refusing, Wire, ok};

const HINTS: &str =
    "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\nConnection: X-Inner\r\nX-Inner: 1\r\n\r\n";

/// A server that says `before` each answer.
fn hinting(before: &'static str) -> Origin {
    Origin::answering(move |wire, request| {
        let answer =
            if request.head.start.starts_with("HEAD ") { ok("").replace("Length: 0", "Length: 2") } else { ok("s1") };
        Closed(wire.send(format!("{before}{answer}")).is_err())
    })
}

#[test]
fn early_hints_reach_the_client_before_the_answer_is_there() {
    let (go, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let bench = Bench::before(Origin::answering(move |wire, _| {
        wire.send(HINTS).unwrap();
        gate.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        Closed(wire.send(ok("s1")).is_err())
    }));
    let mut client = bench.client();
    for _ in 0..2 {
        let hints = ask(&mut client, get("").as_bytes());
        assert_eq!((hints.status(), hints.head.one("link")), (103, Some("</style.css>; rel=preload")));
        assert_eq!((hints.head.one("connection"), hints.head.one("x-inner")), (None, None), "{hints:?}");
        go.send(()).unwrap();
        assert_eq!(client.answer(false).unwrap().text(), "s1");
    }
    assert_eq!(bench.origin.connections(), 1);
    assert_eq!(bench.logged(2), ["200 --", "200 --"]);
}

#[test]
fn every_interim_answer_reaches_the_client_in_its_order() {
    let bench = Bench::before(hinting(
        "HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: b\r\n\r\n\
         HTTP/1.1 199 Own\r\nX: 1\r\n\r\n",
    ));
    let mut client = bench.client();
    for method in ["GET", "HEAD", "POST"] {
        client.wire.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).unwrap();
        let seen: Vec<u16> = (0..5).map(|_| client.answer(method == "HEAD").unwrap().status()).collect();
        assert_eq!(seen, [102, 103, 103, 199, 200], "{method}");
    }
}

#[test]
fn an_interim_answer_sets_no_cookie_and_has_no_length() {
    let bench =
        Bench::before(hinting("HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: a\r\nSet-Cookie: a=b\r\n\r\n"));
    let mut client = bench.client();
    for _ in 0..2 {
        let hints = ask(&mut client, get("").as_bytes()).head;
        assert_eq!((hints.status(), hints.one("link")), (103, Some("a")));
        assert_eq!((hints.one("content-length"), hints.one("set-cookie")), (None, None), "{hints:?}");
        assert_eq!(client.answer(false).unwrap().text(), "s1");
    }
}

#[test]
fn an_old_client_gets_no_interim_answers() {
    let bench = Bench::before(hinting(HINTS));
    let mut client = bench.client();
    for _ in 0..2 {
        assert_eq!(ask(&mut client, b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n").text(), "s1");
    }
}

#[test]
fn interim_answers_keep_pipelined_requests_in_step() {
    let bench = Bench::before(hinting(HINTS));
    let mut client = bench.client();
    client.wire.send(get("").repeat(5)).unwrap();
    let seen: Vec<u16> = (0..10).map(|_| client.answer(false).unwrap().status()).collect();
    assert_eq!(seen, [103, 200].repeat(5));
}

/// The first final answer, and how many interim ones came before it.
fn final_answer(client: &mut Client) -> (u16, usize) {
    let mut interim = 0;
    loop {
        match client.answer(false).unwrap().status() {
            100..=199 => interim += 1,
            status => return (status, interim),
        }
    }
}

#[test]
fn interim_answers_without_an_end_are_given_up() {
    // With the default limits on time: what ends this is their number.
    let bench = Bench::before(Origin::answering(|wire, request| {
        if request.head.start.contains("/after") {
            return Closed(wire.send(ok("s1")).is_err());
        }
        while wire.send("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n").is_ok() {}
        Closed(true)
    }));
    let mut client = bench.client();
    client.wire.send(get("")).unwrap();
    let (status, interim) = final_answer(&mut client);
    assert!([502, 504].contains(&status), "{status}");
    assert!(interim <= 1000, "{interim}");
    bench.is_sound();
}

#[test]
fn interim_answers_do_not_put_off_the_deadline_of_an_answer() {
    let origin = Origin::answering(|wire, _| {
        while wire.send("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n").is_ok() {
            // How slow this server is.
            thread::sleep(Duration::from_millis(100));
        }
        Closed(true)
    });
    let bench = Bench::with(origin, "[timeouts]\nserver = \"500ms\"\n");
    let mut client = bench.client();
    client.wire.send(get("")).unwrap();
    assert_eq!(final_answer(&mut client).0, 504);
    assert_eq!(bench.logged(1), ["504 sH"]);
}

#[test]
fn an_interim_answer_that_is_not_valid_is_502() {
    for bad in [
        "HTTP/1.1 103 Early Hints\r\nX : 1\r\n\r\n",
        "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 103 Early Hints\r\nX: a\0b\r\n\r\n",
    ] {
        let bench = Bench::before(hinting(bad));
        let mut client = bench.client();
        client.wire.send(get("")).unwrap();
        assert_eq!(final_answer(&mut client).0, 502, "{bad:?}");
    }
}

#[test]
fn an_interim_answer_and_no_other_is_502() {
    let bench = Bench::before(Origin::answering(|wire, _| {
        let _gone = wire.send(HINTS);
        Closed(true)
    }));
    let mut client = bench.client();
    client.wire.send(get("")).unwrap();
    assert_eq!(final_answer(&mut client).0, 502);
    assert_eq!(bench.logged(1), ["502 SH"]);
    assert_eq!(bench.origin.requests().len(), 1, "it has been answered in part");
}

const EXPECTS: &str = "Content-Length: 4\r\nExpect: 100-continue\r\n";

#[test]
fn a_client_is_asked_for_its_body_when_the_server_asks() {
    let (go, gate) = mpsc::channel();
    let gate = Mutex::new(gate);
    let bench = Bench::before(Origin::raw(move |wire, _| {
        let head = wire.head().unwrap().unwrap();
        assert_eq!(head.one("expect"), Some("100-continue"));
        gate.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        wire.send("HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        assert_eq!(wire.exact(4).unwrap(), b"body");
        wire.send(ok("thanks")).unwrap();
    }));
    let mut client = bench.client();
    client.wire.send(post(EXPECTS, "")).unwrap();
    assert!(is_quiet(&mut client.wire), "the server has not asked yet");
    go.send(()).unwrap();
    assert_eq!(client.answer(false).unwrap().status(), 100);
    assert_eq!(ask(&mut client, b"body").text(), "thanks");
}

/// Whether nothing comes for a while; on a busy machine it sees less, and is true all the same.
fn is_quiet(wire: &mut Wire) -> bool {
    wire.stream().set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let quiet = wire.exact(1).is_err();
    wire.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    quiet
}

#[test]
fn a_client_whose_body_the_server_refuses_gets_its_answer_and_is_not_asked_afterwards() {
    for (status, framing) in [
        ("413 Payload Too Large", "Content-Length: 4\r\n"),
        ("401 Unauthorized", "Content-Length: 4\r\n"),
        ("417 Expectation Failed", "Transfer-Encoding: chunked\r\n"),
        ("200 OK", "Content-Length: 4\r\n"),
    ] {
        let bench = Bench::before(refusing(status));
        let mut client = bench.client();
        client.wire.send(post(&format!("{framing}Expect: 100-continue\r\n"), "")).unwrap();
        let mut answer = client.answer(false).unwrap();
        if answer.status() == 100 {
            answer = client.answer(false).unwrap();
        }
        assert!(answer.head.start.ends_with(status), "{answer:?}");
        assert_eq!(answer.text(), "no");
        assert!(client.wire.is_closed(), "{status}");
        bench.is_sound();
        assert_eq!(bench.origin.connections(), 2, "half a request is on the first: {status}");
    }
}

/// A server that answers `/it` after its head, and reads what else there is.
fn refusing(status: &'static str) -> Origin {
    Origin::raw(move |wire, _| {
        while let Ok(Some(head)) = wire.head() {
            if head.start.contains("/it") {
                wire.send(ok("no").replace("200 OK", status)).unwrap();
                drop(wire.rest());
                return;
            }
            wire.send(ok("s1")).unwrap();
        }
    })
}

#[test]
fn a_client_whose_body_the_server_refuses_is_never_asked_for_it() {
    let bench = Bench::before(refusing("413 Payload Too Large"));
    assert_eq!(bench.ask(post(EXPECTS, "")).status(), 413);
}

#[test]
fn a_server_that_never_asks_for_a_body_gets_it() {
    let bench = Bench::new();
    let mut client = bench.client();
    client.wire.send(post(EXPECTS, "")).unwrap();
    // As clients do: they wait for a while, and send it all the same.
    client.wire.stream().set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let asked = client.answer(false).map(|answer| answer.status()).ok();
    assert!([None, Some(100)].contains(&asked), "{asked:?}");
    client.wire.stream().set_read_timeout(Some(PATIENCE)).unwrap();
    client.wire.send("body").unwrap();
    let (mut answer, mut interim) = (client.answer(false).unwrap(), 0);
    while answer.status() == 100 {
        (answer, interim) = (client.answer(false).unwrap(), interim + 1);
    }
    assert!(interim <= 1, "{interim}");
    assert_eq!(answer.text(), "s1");
    assert_eq!(bench.origin.last().body, b"body");
}

/// More than all buffers on the way can hold, with what is thrown away of a request that has its answer.
const LARGE: usize = 64 * 1024 * 1024;

/// What a server does after an answer that comes before the request's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Then {
    /// It reads nothing, and waits.
    Wait,
    /// It reads all.
    Read,
    /// It closes, which resets: there is more to read.
    Close,
}

/// Uploads a lot to a server that answers early, and asserts that the client gets that answer, that the upload ends, and
/// that neither connection is used again.
fn answers_early(status: &'static str, then: Then, framing: &str) {
    let bench = Bench::before(Origin::raw(move |wire, _| {
        while let Ok(Some(head)) = wire.head() {
            if head.start.contains("/it") {
                wire.send(ok("early").replace("200 OK", status)).unwrap();
                match then {
                    Then::Wait => wait_for_the_end(wire),
                    Then::Read => drop(wire.rest()),
                    Then::Close => {}
                }
                return;
            }
            wire.send(ok("s1")).unwrap();
        }
    }));
    for round in 0..10 {
        // So that there is a connection to be used.
        bench.is_sound();
        let mut client = bench.client();
        client.wire.send(post(framing, "")).unwrap();
        let writer = client.wire.stream().try_clone().unwrap();
        let upload = thread::spawn(move || {
            let wire = Wire::new(writer);
            let piece = vec![b'x'; 64 * 1024];
            let chunked = [b"10000\r\n", piece.as_slice(), b"\r\n"].concat();
            let begun = Instant::now();
            (0..LARGE / piece.len()).try_for_each(|_| wire.send(&chunked)).is_err() && begun.elapsed() < PATIENCE
        });
        let answer = client.answer(false).unwrap_or_else(|error| panic!("{status} {then:?}, round {round}: {error}"));
        assert!(answer.head.start.ends_with(status), "{answer:?}, {then:?}, round {round}");
        assert_eq!(answer.text(), "early");
        assert!(client.wire.is_closed(), "{status} {then:?}");
        assert!(upload.join().unwrap(), "the upload is cancelled: {status} {then:?}");
        let before = bench.origin.connections();
        bench.is_sound();
        assert_eq!(bench.origin.connections(), before + 1, "half a request is on the one before: {status} {then:?}");
    }
}

/// Asserts that a client with the beginning of a request gets `status`, is told that its connection ends, and that it does.
#[track_caller]
fn announces_the_end(balancer: &Balancer, status: u16) {
    for (framing, part) in [(SIZED, "part"), (CHUNKED, "4\r\npart\r\n")] {
        for part in ["", part] {
            let mut client = balancer.client();
            client.wire.send(post(framing, part)).unwrap();
            let answer = client.answer(false).unwrap();
            assert_eq!(
                (answer.status(), answer.head.one("connection")),
                (status, Some("close")),
                "{framing:?} {part:?}"
            );
            assert!(client.wire.is_closed());
        }
    }
}

#[test]
fn an_answer_to_half_a_request_says_that_the_connection_ends() {
    announces_the_end(&Bench::before(refusing("200 OK")).balancer, 200);
    announces_the_end(&Bench::before(refusing("413 Payload Too Large")).balancer, 413);
    let closing = Origin::raw(|wire, _| drop(wire.head()));
    announces_the_end(&Bench::before(closing).balancer, 502);
    let nobody = Refusing::new();
    announces_the_end(&Balancer::alone(&[&format!("--server=s1={}", nobody.address), "--workers=1"]), 503);
}

/// Waits until the other side has gone, without reading.
fn wait_for_the_end(wire: &Wire) {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE && wire.stream().take_error().unwrap().is_none() && wire.send("").is_ok() {
        thread::sleep(Duration::from_millis(5));
    }
}

const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";
/// As many bytes as the chunks above have with their lines.
const SIZED: &str = "Content-Length: 67118080\r\n";

#[test]
fn an_early_answer_of_a_server_that_stops_reading_is_passed_on() {
    for framing in [CHUNKED, SIZED] {
        answers_early("413 Payload Too Large", Then::Wait, framing);
    }
}

#[test]
fn an_early_answer_of_a_server_that_reads_on_is_passed_on() {
    for framing in [CHUNKED, SIZED] {
        answers_early("200 OK", Then::Read, framing);
    }
}

#[test]
fn an_early_answer_of_a_server_that_closes_is_passed_on() {
    for framing in [CHUNKED, SIZED] {
        answers_early("413 Payload Too Large", Then::Close, framing);
    }
}

#[test]
fn a_body_in_chunks_is_not_lost_on_a_connection_of_an_old_server() {
    let bench = Bench::before(Origin::answering(|wire, request| {
        let answer = ok(&String::from_utf8_lossy(&request.body)).replace("HTTP/1.1", "HTTP/1.0");
        Closed(wire.send(answer.replace("\r\n\r\n", "\r\nConnection: keep-alive\r\n\r\n")).is_err())
    }));
    let mut client = bench.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").status(), 200);
        let answer = ask(&mut client, post(CHUNKED, "4\r\nbody\r\n0\r\n\r\n").as_bytes());
        assert_eq!((answer.status(), answer.text().as_str()), (200, "body"));
    }
}
