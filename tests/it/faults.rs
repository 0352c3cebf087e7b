//! Servers that fail and clients that misbehave: each gets its status, its letters in the log, and disturbs nobody else.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::support::{Balancer, Client, Closed, Origin, PATIENCE, Refusing, Response, Wire, config_file, ok};

/// A balancer of one worker with two ways in: one to the servers under test, one to a sound server, which a client uses
/// all the time and which must never notice anything.
struct Bench {
    balancer: Balancer,
    stop: Arc<AtomicBool>,
    healthy: Option<JoinHandle<usize>>,
    _good: Origin,
    _file: NamedTempFile,
}

impl Bench {
    fn new(servers: &[std::net::SocketAddr], more: &str) -> Self {
        let good = Origin::named("good");
        let listed: String = servers
            .iter()
            .enumerate()
            .map(|(index, address)| format!("[[pool.server]]\nname = \"s{}\"\naddress = \"{address}\"\n", index + 1))
            .collect();
        let file = config_file(&format!(
            "workers = 1\n\
             [[listener]]\nname = \"tried\"\nbind = \"127.0.0.1:0\"\npool = \"tried\"\n\
             [[listener]]\nname = \"sound\"\nbind = \"127.0.0.1:0\"\npool = \"sound\"\n\
             [[pool]]\nname = \"tried\"\ncheck.request = \"off\"\n{listed}\
             [[pool]]\nname = \"sound\"\ncheck.request = \"off\"\n\
             [[pool.server]]\nname = \"good\"\naddress = \"{}\"\n{more}",
            good.address
        ));
        let balancer = Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off"]);
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, address) = (Arc::clone(&stop), balancer.traffic[1]);
        let healthy = std::thread::spawn(move || {
            let mut client = Client::connect(address);
            let mut count = 0;
            loop {
                assert_eq!(client.get("/healthy").text(), "good");
                count += 1;
                if stopped.load(SeqCst) {
                    return count;
                }
            }
        });
        Self { balancer, stop, healthy: Some(healthy), _good: good, _file: file }
    }

    fn client(&self) -> Client {
        self.balancer.client()
    }

    /// The access log's line about a path.
    fn line(&self, path: &str) -> Value {
        self.balancer.logged_path(path)
    }

    /// Asserts that the client beside was served all the time.
    fn end(mut self) {
        self.stop.store(true, SeqCst);
        let served = self.healthy.take().unwrap().join().expect("the healthy client was disturbed");
        assert!(served > 0, "the healthy client was not served");
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        // Another failure is told already.
        let _disturbed = self.healthy.take().map(JoinHandle::join);
    }
}

const SHORT: &str = "[timeouts]\nserver = \"500ms\"\nrequest-head = \"500ms\"\nclient = \"500ms\"\n";

/// Asks a bench with one such server, and asserts the status, the letters and that nobody else was disturbed.
fn one_fault(origin: &Origin, status: u16, letters: &str) -> Response {
    let bench = Bench::new(&[origin.address], SHORT);
    let response = bench.client().get("/fault");
    let line = bench.line("/fault");
    assert_eq!((response.status(), line["status"].as_u64()), (status, Some(status.into())));
    assert!(line["term"].as_str().unwrap().starts_with(letters), "{line}");
    assert_eq!(line["server"], "s1");
    assert!(response.text().starts_with(&status.to_string()), "{}", response.text());
    bench.end();
    response
}

#[test]
fn without_a_server_the_answer_is_503_at_once() {
    let bench = Bench::new(&[], "");
    let begun = Instant::now();
    let response = bench.client().get("/none");
    let took = begun.elapsed();
    println!("503 without a server after {took:?}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert_eq!(response.status(), 503);
    assert_eq!(response.text(), "503 Service Unavailable: no server is available to handle this request.\n");
    let line = bench.line("/none");
    assert_eq!((&line["term"], &line["server"], &line["status"]), (&"SC--".into(), &"<NOSRV>".into(), &503.into()));
    bench.end();
}

#[test]
fn a_refused_connection_goes_to_another_server() {
    let (refusing, origin) = (Refusing::new(), Origin::named("s2"));
    let bench = Bench::new(&[refusing.address, origin.address], "");
    let mut client = bench.client();
    for number in 0..10 {
        assert_eq!(client.get(&format!("/{number}")).text(), "s2");
    }
    let line = bench.balancer.logged("a redispatch", |line| line["redispatched"] == true);
    assert_eq!((&line["server"], &line["status"], &line["retries"]), (&"s2".into(), &200.into(), &1.into()));
    assert_eq!(line["term"], "----");
    bench.end();
}

#[test]
fn when_every_server_refuses_the_answer_is_503() {
    let refusing = Refusing::new();
    let bench = Bench::new(&[refusing.address], "");
    assert_eq!(bench.client().get("/refused").status(), 503);
    let line = bench.line("/refused");
    assert_eq!((&line["term"], &line["retries"]), (&"SC--".into(), &3.into()));
    bench.end();
}

#[test]
fn a_silent_server_is_504() {
    one_fault(&Origin::raw(|wire, _| drop(wire.rest())), 504, "sH");
}

#[test]
fn a_server_that_closes_before_its_response_is_502() {
    one_fault(&Origin::answering(|_, _| Closed(true)), 502, "SH");
}

#[test]
fn garbage_is_502() {
    let garbage = |bytes: &'static [u8]| {
        Origin::answering(move |wire, _| {
            let _gone = wire.send(bytes);
            Closed(true)
        })
    };
    one_fault(&garbage(b"\x00\x01\x02 this is no HTTP\r\n\r\n"), 502, "PH");
    one_fault(&garbage(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n"), 502, "PH");
    one_fault(&garbage(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"), 502, "PH");
    one_fault(&garbage(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"), 502, "PH");
}

#[test]
fn a_truncated_body_never_ends_cleanly() {
    for (path, answer) in [
        ("/sized", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart"),
        ("/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"),
    ] {
        let origin = Origin::answering(move |wire, _| {
            let _gone = wire.send(answer);
            Closed(true)
        });
        let bench = Bench::new(&[origin.address], SHORT);
        let mut client = bench.client();
        assert!(client.try_get(path, "").is_err(), "{path} ended as if it were whole");
        assert!(client.wire.is_closed());
        assert_eq!(bench.line(path)["term"], "SD--");
        bench.end();
    }
}

#[test]
fn a_body_that_stops_in_the_middle_is_given_up() {
    let origin = Origin::answering(|wire, _| {
        let _gone = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart");
        drop(wire.rest());
        Closed(true)
    });
    let bench = Bench::new(&[origin.address], SHORT);
    assert!(bench.client().try_get("/stuck", "").is_err());
    assert_eq!(bench.line("/stuck")["term"], "sD--");
    bench.end();
}

#[test]
fn requests_that_can_be_read_in_two_ways_never_reach_a_server() {
    let origin = Origin::named("s1");
    let bench = Bench::new(&[origin.address], SHORT);
    let host = "Host: a\r\n";
    let requests = [
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: 3, 4\r\n\r\nabcd"),
        format!("POST / HTTP/1.1\r\n{host}Content-Length: +3\r\n\r\nabc"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("POST / HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}Host: b\r\n\r\n"),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n".to_owned(),
        format!("GET admin HTTP/1.1\r\n{host}\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X : 1\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X: 1\r\n folded\r\n\r\n"),
        format!("GET / HTTP/1.1\r\n{host}X: a\0b\r\n\r\n"),
        format!("GET / HTTP/1.2\r\n{host}\r\n"),
        "this is no HTTP\r\n\r\n".to_owned(),
    ];
    for request in &requests {
        let response = bench.client().ask(request).unwrap_or_else(|error| panic!("{request:?}: {error}"));
        assert_eq!(response.status(), 400, "{request:?}");
    }
    assert_eq!(bench.client().ask(format!("CONNECT a:443 HTTP/1.1\r\n{host}\r\n")).unwrap().status(), 405);
    assert_eq!(origin.requests().len(), 0);
    bench.balancer.logged("a bad request", |line| line["status"] == 400 && line["term"] == "PR--");
    bench.end();
}

#[test]
fn with_both_lengths_smuggled_bytes_are_no_request() {
    let origin = Origin::named("s1");
    let bench = Bench::new(&[origin.address], SHORT);
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let both = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
        5 + smuggled.len()
    );
    let mut client = bench.client();
    let first = client.ask(both).unwrap().status();
    assert!([200, 400].contains(&first), "{first}");
    assert!(client.wire.is_closed(), "the rest of such a connection is not to be trusted");
    assert!(origin.requests().iter().all(|request| !request.head.start.contains("smuggled")));
    bench.end();
}

#[test]
fn a_head_that_dribbles_is_408() {
    let origin = Origin::named("s1");
    let bench = Bench::new(&[origin.address], SHORT);
    let mut client = bench.client();
    client.wire.send("GET / HTTP/1.1\r\nHost").unwrap();
    let response = client.answer(false).unwrap();
    assert_eq!(response.status(), 408);
    assert!(client.wire.is_closed());
    let line = bench.balancer.logged("408", |line| line["status"] == 408);
    assert_eq!((&line["term"], &line["server"]), (&"cR--".into(), &"<NOSRV>".into()));
    bench.end();
}

#[test]
fn a_client_that_says_nothing_is_let_go() {
    let bench = Bench::new(&[], SHORT);
    let mut client = bench.client();
    let begun = Instant::now();
    assert!(client.wire.is_closed());
    assert!(begun.elapsed() >= Duration::from_millis(450), "it was given its time");
    bench.end();
}

#[test]
fn a_body_that_stops_coming_is_408() {
    let origin = Origin::answering(|_, _| Closed(true));
    let bench = Bench::new(&[origin.address], "[timeouts]\nserver = \"500ms\"\nclient = \"1s\"\n");
    let mut client = bench.client();
    client.wire.send("POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\npart").unwrap();
    assert_eq!(client.answer(false).unwrap().status(), 408);
    assert_eq!(bench.line("/slow")["term"], "cD--");
    bench.end();
}

#[test]
fn what_is_too_large_is_told_so() {
    let origin = Origin::named("s1");
    let bench = Bench::new(&[origin.address], "[limits]\nbody = 1000\n");
    let long = format!("X-Long: {}\r\n", "x".repeat(64 * 1024));
    assert_eq!(bench.client().try_get("/", &long).unwrap().status(), 431);
    let many: String = (0..200).map(|number| format!("X-{number}: 1\r\n")).collect();
    assert_eq!(bench.client().try_get("/", &many).unwrap().status(), 431);
    let sized = format!("POST /sized HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n{}", "x".repeat(1001));
    assert_eq!(bench.client().ask(sized).unwrap().status(), 413);
    let chunk = format!("3e9\r\n{}\r\n0\r\n\r\n", "x".repeat(1001));
    let chunked = format!("POST /chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{chunk}");
    assert_eq!(bench.client().ask(chunked).unwrap().status(), 413);
    let allowed = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n{}", "x".repeat(1000));
    assert_eq!(bench.client().ask(allowed).unwrap().status(), 200);
    assert_eq!(bench.line("/sized")["term"], "PR--");
    bench.end();
}

#[test]
fn a_server_that_closes_idle_connections_costs_nobody_a_request() {
    let origin = Origin::answering(|wire, _| Closed(wire.send(ok("s1")).is_ok()));
    let bench = Bench::new(&[origin.address], "");
    let mut client = bench.client();
    for number in 0..200 {
        assert_eq!(client.get(&format!("/{number}")).text(), "s1");
    }
    bench.end();
}

/// Answers the first request of each connection, and reads the second and closes.
fn tired(wire: &mut Wire, first: bool) -> Closed {
    Closed(!first || wire.send(ok("s1")).is_err())
}

fn tired_origin() -> Origin {
    let served = std::sync::Mutex::new(std::collections::BTreeSet::new());
    Origin::answering(move |wire, request| tired(wire, served.lock().unwrap().insert(request.connection)))
}

#[test]
fn a_get_that_met_a_closing_connection_is_sent_again_once() {
    let origin = tired_origin();
    let bench = Bench::new(&[origin.address], "");
    let mut client = bench.client();
    assert_eq!(client.get("/first").status(), 200);
    assert_eq!(client.get("/second").status(), 200);
    let seconds = origin.requests().iter().filter(|request| request.head.start.contains("/second")).count();
    assert_eq!((seconds, origin.connections()), (2, 2));
    bench.end();
}

#[test]
fn a_post_that_was_sent_is_never_sent_again() {
    let origin = tired_origin();
    let bench = Bench::new(&[origin.address], "");
    let mut client = bench.client();
    assert_eq!(client.get("/first").status(), 200);
    let response = client.ask("POST /order HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody").unwrap();
    assert_eq!(response.status(), 502);
    let empty = client.get("/between").status();
    assert_eq!(empty, 200);
    let response = client.ask("POST /order HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").unwrap();
    assert_eq!(response.status(), 502);
    let orders = origin.requests().iter().filter(|request| request.head.start.contains("/order")).count();
    assert_eq!(orders, 2);
    assert_eq!(bench.line("/order")["term"], "SH--");
    bench.end();
}

#[test]
fn extra_bytes_of_a_server_never_reach_the_next_client() {
    let origin = Origin::answering(|wire, _| {
        Closed(wire.send(format!("{}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", ok("s1"))).is_err())
    });
    let bench = Bench::new(&[origin.address], "");
    let mut client = bench.client();
    for number in 0..20 {
        assert_eq!(client.get(&format!("/{number}")).text(), "s1");
    }
    bench.end();
}

#[test]
fn a_client_that_leaves_early_frees_its_server() {
    let (gone, news) = std::sync::mpsc::channel();
    let gone = std::sync::Mutex::new(gone);
    let origin = Origin::raw(move |wire, _| {
        wire.head().unwrap().unwrap();
        gone.lock().unwrap().send(false).unwrap();
        gone.lock().unwrap().send(wire.is_closed()).unwrap();
    });
    let bench = Bench::new(&[origin.address], "");
    let client = bench.client();
    client.wire.send("GET /left HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert!(!news.recv_timeout(PATIENCE).unwrap(), "the request has arrived");
    drop(client);
    assert!(news.recv_timeout(PATIENCE).unwrap(), "the server's side is closed, too");
    let line = bench.line("/left");
    assert_eq!((&line["term"], line["status"].as_i64()), (&"CH--".into(), Some(-1)));
    bench.end();
}
