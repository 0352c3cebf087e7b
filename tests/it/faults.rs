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

use crate::support::{Balancer, Client, Closed, Origin, PATIENCE, Refusing, Response, config_file};

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

/// As when it is killed. A POST may have been acted on, so it is not repeated.
#[test]
fn a_get_whose_server_closes_before_its_response_is_answered_by_another_and_a_post_is_not() {
    let (dying, steady) = (Origin::answering(|_, _| Closed(true)), Origin::named("s2"));
    let balancer = Balancer::alone(&[&dying.as_server("s1"), &steady.as_server("s2")]);
    for _ in 0..10 {
        assert_eq!(balancer.client().get("/").text(), "s2");
    }
    assert!(!dying.requests().is_empty(), "it was asked");
    let asked = dying.requests().len();
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n";
    let statuses: Vec<u16> = (0..4).map(|_| balancer.client().ask(post).unwrap().status()).collect();
    let refused = statuses.iter().filter(|status| **status == 502).count();
    assert_eq!(refused, dying.requests().len() - asked, "{statuses:?}");
    assert!(refused > 0 && refused < 4, "{statuses:?}");
}

#[test]
fn a_server_that_closes_before_its_response_is_502() {
    one_fault(&Origin::answering(|_, _| Closed(true)), 502, "SH");
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
fn a_body_that_is_longer_than_allowed_is_413() {
    let origin = Origin::named("s1");
    let bench = Bench::new(&[origin.address], "[limits]\nbody = 1000\n");
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
