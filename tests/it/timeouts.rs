//! Nobody is waited for in vain: each phase of a request has its limit, and each limit its status and its letters in the log.
//!
//! Silent servers, heads that stop and first bytes that never come are in `faults`.

use std::{
    net::SocketAddr,
    sync::{Mutex, mpsc},
    time::{Duration, Instant},
};

use tempfile::NamedTempFile;

use crate::support::{Balancer, Client, Closed, Deaf, Origin, PATIENCE, Wire, config_file, ok, wait_until};

/// A balancer with one server and these limits; its file lives as long as it does.
fn balancer(server: SocketAddr, limits: &str) -> (Balancer, NamedTempFile) {
    let file = config_file(&format!(
        "workers = 1\n[[listener]]\nbind = \"127.0.0.1:0\"\n[[pool]]\ncheck.request = \"off\"\nretries = 0\n\
         [[pool.server]]\nname = \"s1\"\naddress = \"{server}\"\n{limits}"
    ));
    (Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off"]), file)
}

/// What the log says of a path: status and letters.
#[track_caller]
fn verdict(balancer: &Balancer, path: &str) -> (i64, String) {
    let line = balancer.logged_path(path);
    (line["status"].as_i64().unwrap(), line["term"].as_str().unwrap().to_owned())
}

fn told(status: i64, letters: &str) -> (i64, String) {
    (status, letters.to_owned())
}

/// A server that reads a head and then sends as long as somebody takes it.
fn endless() -> Origin {
    Origin::raw(|wire, _| {
        let _gone = wire.head();
        let piece = vec![b'x'; 64 * 1024];
        let mut sent = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while sent.is_ok() {
            sent = wire.send(&piece);
        }
    })
}

/// A server that tells when the other side has ended the connection, after it read a head and answered.
fn watched(answer: &'static str) -> (Origin, mpsc::Receiver<()>) {
    let (tell, news) = mpsc::channel();
    let tell = Mutex::new(tell);
    let origin = Origin::raw(move |wire, _| {
        let _gone = wire.head();
        let _gone = wire.send(answer);
        tell.lock().unwrap().send(()).unwrap();
        drop(wire.rest());
        tell.lock().unwrap().send(()).unwrap();
    });
    (origin, news)
}

fn post(path: &str, length: usize) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n")
}

#[test]
fn a_head_that_drips_is_408_though_it_is_never_silent() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(origin.address, "[timeouts]\nrequest-head = \"1s\"\n");
    let Client { mut wire } = balancer.client();
    let mut head = "GET / HTTP/1.1\r\nHost: a\r\nX-Long: ".bytes().chain(std::iter::repeat(b'x'));
    let begun = Instant::now();
    wait_until("it is refused", PATIENCE, || {
        // How slow this client is; `wait_until` pauses as well.
        std::thread::sleep(Duration::from_millis(20));
        wire.send([head.next().unwrap()]).is_err()
    });
    assert!(begun.elapsed() >= Duration::from_millis(950), "{:?}", begun.elapsed());
    // The answer may be lost when bytes cross it.
    let answer = wire.rest();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 408 "), "{answer:?}");
    let line = balancer.logged("408", |line| line["status"] == 408);
    assert_eq!(line["term"], "cR--");
    assert_eq!(origin.connections(), 0);
}

#[test]
fn a_server_that_does_not_accept_in_time_is_503() {
    let deaf = Deaf::new();
    let (balancer, _file) = balancer(deaf.address, "[timeouts]\nconnect = \"300ms\"\n");
    let begun = Instant::now();
    assert_eq!(balancer.client().get("/deaf").status(), 503);
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    assert_eq!(verdict(&balancer, "/deaf"), told(503, "sC--"));
}

#[test]
fn a_chunked_response_that_stops_has_no_end() {
    let (origin, news) = watched("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n");
    let (balancer, _file) = balancer(origin.address, "[timeouts]\nserver = \"300ms\"\n");
    let Client { mut wire } = balancer.client();
    wire.send("GET /stops HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 200);
    assert_eq!(String::from_utf8_lossy(&wire.rest()), "4\r\npart\r\n");
    assert_eq!(verdict(&balancer, "/stops"), told(200, "sD--"));
    news.recv_timeout(PATIENCE).unwrap();
    news.recv_timeout(PATIENCE).expect("the server's connection is closed");
}

#[test]
fn a_kept_connection_is_closed_when_no_request_comes() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(origin.address, "[timeouts]\nkeep-alive = \"500ms\"\nrequest-head = \"60s\"\n");
    let mut client = balancer.client();
    assert_eq!(client.get("/only").text(), "s1");
    let begun = Instant::now();
    assert!(client.wire.is_closed());
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());
    assert_eq!(verdict(&balancer, "/only"), told(200, "----"));
    // A line about the close would come before this one.
    assert_eq!(balancer.client().get("/next").status(), 200);
    balancer.logged_path("/next");
    assert_eq!(balancer.lb.stdout.all().len(), 2);
}

#[test]
fn a_tunnel_in_which_nobody_speaks_is_closed_on_both_sides() {
    let (origin, news) =
        watched("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
    let (balancer, _file) = balancer(origin.address, "[timeouts]\ntunnel = \"500ms\"\nclient = \"50ms\"\n");
    let Client { mut wire } = balancer.client();
    let begun = Instant::now();
    wire.send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 101);
    assert!(wire.is_closed());
    assert!(begun.elapsed() >= Duration::from_millis(450), "{:?}", begun.elapsed());
    news.recv_timeout(PATIENCE).unwrap();
    news.recv_timeout(PATIENCE).expect("the server's side is closed, too");
    assert_eq!(verdict(&balancer, "/chat"), told(101, "cD--"));
}

#[test]
fn a_client_that_stops_reading_is_let_go() {
    let origin = endless();
    let (balancer, _file) = balancer(origin.address, "[timeouts]\nclient = \"500ms\"\n[limits]\nmin-rate = 0\n");
    let Client { mut wire } = balancer.client();
    wire.send("GET /unread HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 200);
    assert_eq!(verdict(&balancer, "/unread"), told(200, "cD--"));
    assert!(wire.rest().len() < 1_000_000_000);
}

#[test]
fn to_go_on_sending_does_not_excuse_who_stops_reading() {
    let origin = endless();
    let (balancer, _file) = balancer(origin.address, "[timeouts]\nclient = \"1s\"\n");
    let Client { mut wire } = balancer.client();
    wire.send("POST /both HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 200);
    wait_until("it is let go", PATIENCE, || wire.send_chunk(b"more").is_err());
    assert_eq!(verdict(&balancer, "/both"), told(200, "cD--"));
}

/// Sends a body of 60 bytes in 6 s and more; the status of the answer.
fn send_slowly(balancer: &Balancer, path: &str) -> Option<u16> {
    let mut client = balancer.client();
    client.wire.send(post(path, 60)).unwrap();
    for _ in 0..60 {
        // How slow this client is.
        std::thread::sleep(Duration::from_millis(100));
        if client.wire.send("x").is_err() {
            break;
        }
    }
    // When a byte crosses the answer, the system throws the answer away.
    client.answer(false).ok().map(|answer| answer.status())
}

#[test]
fn a_body_that_drips_is_408_though_it_is_never_silent() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(origin.address, "[timeouts]\nclient = \"2s\"\n[limits]\nmin-rate = 1000\n");
    let begun = Instant::now();
    let answer = send_slowly(&balancer, "/drips");
    assert!(begun.elapsed() >= Duration::from_millis(1900), "{:?}", begun.elapsed());
    assert!(answer.is_none_or(|status| status == 408), "{answer:?}");
    assert_eq!(verdict(&balancer, "/drips"), told(408, "cD--"));
    assert_eq!(origin.requests().len(), 0, "a part of a request is none");
}

#[test]
fn a_body_that_drips_arrives_whole_where_no_rate_is_asked_for() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(origin.address, "[timeouts]\nclient = \"4s\"\n[limits]\nmin-rate = 0\n");
    assert_eq!(send_slowly(&balancer, "/drips"), Some(200));
    assert_eq!(origin.last().body.len(), 60);
}

#[test]
fn a_body_that_stops_after_its_response_began_ends_both() {
    let (origin, news) = watched("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n");
    let (balancer, _file) = balancer(origin.address, "[timeouts]\nclient = \"500ms\"\n");
    let Client { mut wire } = balancer.client();
    wire.send(post("/both", 100) + "part").unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 200);
    assert_eq!(String::from_utf8_lossy(&wire.rest()), "4\r\npart\r\n");
    assert_eq!(verdict(&balancer, "/both"), told(200, "cD--"));
    news.recv_timeout(PATIENCE).unwrap();
    news.recv_timeout(PATIENCE).expect("the server's connection is closed");
}

const SLOWLY_READ: usize = 3_000_000;

/// Reads a response in 6 s and more, a little at a time; how much of it came.
fn read_slowly(limits: &str) -> (usize, (i64, String)) {
    let origin = Origin::answering(|wire, _| Closed(wire.send(ok(&"x".repeat(SLOWLY_READ))).is_err()));
    let (balancer, _file) = balancer(origin.address, limits);
    let Client { mut wire } = Client::narrow(balancer.traffic[0]);
    wire.send("GET /slowly HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 200);
    let mut read = 0;
    while let Ok(piece) = wire.exact(12_000) {
        read += piece.len();
        if read == SLOWLY_READ {
            break;
        }
        // How slow this client is.
        std::thread::sleep(Duration::from_millis(25));
    }
    (read, verdict(&balancer, "/slowly"))
}

#[test]
fn a_reader_that_is_too_slow_is_let_go_though_it_never_stops() {
    let (read, verdict) = read_slowly("[timeouts]\nclient = \"2s\"\n[limits]\nmin-rate = 10_000_000\n");
    println!("{read} bytes were read");
    assert!(read < SLOWLY_READ);
    assert_eq!(verdict, told(200, "cD--"));
}

#[test]
fn a_slow_reader_gets_all_of_it_where_no_rate_is_asked_for() {
    let limits = "[timeouts]\nclient = \"4s\"\n[limits]\nmin-rate = 0\n";
    assert_eq!(read_slowly(limits), (SLOWLY_READ, told(200, "----")));
}

#[test]
fn a_slow_server_is_not_held_against_who_reads() {
    let origin = Origin::raw(|wire, _| {
        let _gone = wire.head();
        wire.send("HTTP/1.1 200 OK\r\nContent-Length: 15\r\n\r\n").unwrap();
        for _ in 0..15 {
            // How slow this server is.
            std::thread::sleep(Duration::from_millis(100));
            wire.send("x").unwrap();
        }
        drop(wire.rest());
    });
    let limits = "[timeouts]\nclient = \"300ms\"\n[limits]\nmin-rate = 1_000_000_000\n";
    let (balancer, _file) = balancer(origin.address, limits);
    assert_eq!(balancer.client().get("/patient").text().len(), 15);
    assert_eq!(verdict(&balancer, "/patient"), told(200, "----"));
}

#[test]
fn a_slow_server_is_not_held_against_who_sends() {
    const LENGTH: usize = 30_000_000;
    let origin = Origin::raw(|wire: &mut Wire, _| {
        let _gone = wire.head();
        // How slow this server is.
        std::thread::sleep(Duration::from_secs(5));
        assert_eq!(wire.exact(LENGTH).unwrap().len(), LENGTH);
        wire.send(ok("at last")).unwrap();
    });
    let (balancer, _file) = balancer(origin.address, "[timeouts]\nclient = \"3s\"\n[limits]\nmin-rate = 100_000\n");
    let mut client = balancer.client();
    client.wire.send([post("/patient", LENGTH).as_bytes(), &vec![b'x'; LENGTH]].concat()).unwrap();
    assert_eq!(client.answer(false).unwrap().text(), "at last");
    assert_eq!(verdict(&balancer, "/patient"), told(200, "----"));
}

/// Ends the client's sending side once the server has its request; asserts that the server's connection is closed then.
fn half_close(answer: &'static str, request: &str) -> (Vec<u8>, Balancer) {
    let (origin, news) = watched(answer);
    let (balancer, _file) = balancer(origin.address, "");
    let Client { mut wire } = balancer.client();
    wire.send(request).unwrap();
    news.recv_timeout(PATIENCE).unwrap();
    if !answer.is_empty() {
        assert_eq!(wire.head().unwrap().unwrap().status(), 200);
    }
    wire.close_write();
    news.recv_timeout(PATIENCE).expect("the server's connection is closed");
    (wire.rest(), balancer)
}

#[test]
fn an_end_before_the_response_cancels_the_request() {
    let (answer, balancer) = half_close("", "GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(String::from_utf8_lossy(&answer), "");
    assert_eq!(verdict(&balancer, "/left"), told(-1, "CH--"));
}

#[test]
fn an_end_within_the_response_cancels_the_rest() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n";
    let (rest, balancer) = half_close(chunked, "GET /left HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(String::from_utf8_lossy(&rest), "4\r\npart\r\n");
    assert_eq!(verdict(&balancer, "/left"), told(200, "CD--"));
}

#[test]
fn an_end_within_the_request_is_400_and_never_a_whole_one() {
    let (answer, balancer) = half_close("", &(post("/left", 100) + "part"));
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{answer:?}");
    assert_eq!(verdict(&balancer, "/left"), told(400, "CD--"));
}
