//! Upgraded connections: what each side says and when it ends reaches the other side, and nothing else ends them.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::mpsc::channel,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use socket2::SockRef;
use tempfile::NamedTempFile;

use crate::support::{Balancer, Client, Closed, Origin, PATIENCE, Wire, config_file, ok, wait_for, wait_until};

const ASK: &str = "GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
const AGREE: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";

fn config(servers: &[(&str, SocketAddr)], listener: &str, more: &str) -> String {
    let servers: String = servers
        .iter()
        .map(|(name, address)| format!("[[pool.server]]\nname = \"{name}\"\naddress = \"{address}\"\n"))
        .collect();
    format!(
        "workers = 1\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\n{listener}\n\
         [[pool]]\nname = \"nodes\"\ncheck.request = \"off\"\n{servers}{more}"
    )
}

/// A balancer with a stats page; its file lives as long as it does.
fn balancer(config: &str) -> (Balancer, NamedTempFile) {
    let file = config_file(config);
    let path = file.path().to_str().unwrap();
    (Balancer::start(&["-c", path, "--gossip=off", "--stats=127.0.0.1:0"]), file)
}

fn before(server: SocketAddr) -> (Balancer, NamedTempFile) {
    balancer(&config(&[("s1", server)], "", ""))
}

/// A server that agrees to every tunnel; the test itself is its side.
struct Agreeing(TcpListener);

impl Agreeing {
    fn new() -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        Self(listener)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Both sides of a new tunnel: the client's and the server's.
    fn tunnel(&self, balancer: &Balancer) -> (Wire, Wire) {
        let Client { wire: mut client } = balancer.client();
        client.send(ASK).unwrap();
        let (stream, _) = wait_for("the balancer connects", PATIENCE, || self.0.accept().ok()).0;
        stream.set_nonblocking(false).unwrap();
        let mut server = Wire::new(stream);
        assert_eq!(server.head().unwrap().unwrap().one("upgrade"), Some("websocket"));
        server.send(AGREE).unwrap();
        assert_eq!(client.head().unwrap().unwrap().status(), 101);
        (client, server)
    }
}

/// Asserts that bytes pass both ways.
fn assert_open(client: &mut Wire, server: &mut Wire) {
    client.send("ping").unwrap();
    assert_eq!(server.exact(4).unwrap(), b"ping");
    server.send("pong").unwrap();
    assert_eq!(client.exact(4).unwrap(), b"pong");
}

/// A number of a row of the CSV.
fn counted(balancer: &Balancer, row: &str, column: &str) -> u64 {
    let text = balancer.stats_page("/;csv").text();
    let index = text.lines().next().unwrap()[2..].split(',').position(|name| name == column).unwrap();
    let row = text.lines().find(|line| line.starts_with(row)).unwrap();
    row.split(',').nth(index).unwrap().parse().unwrap()
}

const FRONTEND: &str = "haproxy_frontend_current_tunnels{proxy=\"web\"} ";
const BACKEND: &str = "haproxy_backend_current_tunnels{proxy=\"nodes\"} ";
const S1: &str = "haproxy_server_current_tunnels{proxy=\"nodes\",server=\"s1\"} ";

/// Tunnels now, by a series of the metrics.
fn tunnels(balancer: &Balancer, series: &str) -> u64 {
    let text = balancer.stats_page("/metrics").text();
    text.lines().find_map(|line| line.strip_prefix(series)).unwrap().parse().unwrap()
}

#[test]
fn the_end_of_one_side_is_passed_on_and_the_other_goes_on() {
    let agreeing = Agreeing::new();
    let (balancer, _file) = before(agreeing.address());
    let (mut client, mut server) = agreeing.tunnel(&balancer);
    client.send("last words").unwrap();
    client.close_write();
    assert_eq!(server.rest(), b"last words", "the client's end reaches the server");
    for _ in 0..3 {
        server.send("still here").unwrap();
        assert_eq!(client.exact(10).unwrap(), b"still here");
    }
    server.close_write();
    assert!(client.is_closed());
    assert_eq!(balancer.logged_path("/chat")["term"], "----");

    let (mut client, mut server) = agreeing.tunnel(&balancer);
    server.close_write();
    assert!(client.is_closed(), "the server's end reaches the client");
    for _ in 0..3 {
        client.send("still here").unwrap();
        assert_eq!(server.exact(10).unwrap(), b"still here");
    }
    client.close_write();
    assert!(server.is_closed());
}

#[test]
fn silence_ends_a_tunnel_that_is_open_or_half_closed() {
    for half_closed in [false, true] {
        let agreeing = Agreeing::new();
        let more = "[timeouts]\ntunnel = \"2s\"\nclient = \"100ms\"\nserver = \"100ms\"\n";
        let (balancer, _file) = balancer(&config(&[("s1", agreeing.address())], "", more));
        let (mut client, mut server) = agreeing.tunnel(&balancer);
        if half_closed {
            client.close_write();
            assert!(server.is_closed());
        }
        let begun = Instant::now();
        // Longer each time than an ordinary request may be silent.
        for _ in 0..3 {
            std::thread::sleep(Duration::from_millis(300));
            server.send("word").unwrap();
            assert_eq!(client.exact(4).unwrap(), b"word");
        }
        let spoken = begun.elapsed();
        assert!(client.is_closed());
        assert!(begun.elapsed() - spoken >= Duration::from_millis(1500), "it was given its time");
        assert_eq!(balancer.logged_path("/chat")["term"], "cD--");
        wait_until("the tunnel is gone", PATIENCE, || tunnels(&balancer, S1) == 0);
    }
}

#[test]
fn a_tunnel_is_counted_while_it_lasts_and_its_bytes_as_they_pass() {
    const UP: usize = 300_000;
    const DOWN: usize = 500_000;
    let agreeing = Agreeing::new();
    let (balancer, _file) = before(agreeing.address());
    let (mut client, mut server) = agreeing.tunnel(&balancer);
    std::thread::scope(|scope| {
        scope.spawn(|| client.send(vec![b'u'; UP]).unwrap());
        assert_eq!(server.exact(UP).unwrap(), vec![b'u'; UP]);
    });
    std::thread::scope(|scope| {
        scope.spawn(|| server.send(vec![b'd'; DOWN]).unwrap());
        assert_eq!(client.exact(DOWN).unwrap(), vec![b'd'; DOWN]);
    });
    for series in [FRONTEND, BACKEND, S1] {
        assert_eq!(tunnels(&balancer, series), 1, "{series}");
    }
    for row in ["web,FRONTEND,", "nodes,s1,", "nodes,BACKEND,"] {
        wait_until("all bytes are counted", PATIENCE, || {
            let (up, down) = (counted(&balancer, row, "bin") as usize, counted(&balancer, row, "bout") as usize);
            (UP..UP + 1000).contains(&up) && (DOWN..DOWN + 1000).contains(&down)
        });
    }
    assert!(balancer.stats_page("/").text().contains("<th scope=\"row\">Tunnels of these</th><td>1</td>"));
    // Broken off, not ended: what passed before counts all the same.
    SockRef::from(client.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(client);
    let line = balancer.logged_path("/chat");
    assert_eq!((&line["status"], &line["term"]), (&101.into(), &"CD--".into()));
    let bytes = line["bytes"].as_u64().unwrap() as usize;
    assert!((DOWN..DOWN + 1000).contains(&bytes), "{bytes}");
    for series in [FRONTEND, BACKEND, S1] {
        wait_until("none is counted any more", PATIENCE, || tunnels(&balancer, series) == 0);
    }
    for row in ["web,FRONTEND,", "nodes,s1,", "nodes,BACKEND,"] {
        wait_until("no session either", PATIENCE, || counted(&balancer, row, "scur") == 0);
        assert!(counted(&balancer, row, "bin") < (UP + 1000) as u64, "bytes are counted once");
    }
}

#[test]
fn a_server_that_breaks_a_tunnel_off_is_told_from_a_client() {
    let agreeing = Agreeing::new();
    let (balancer, _file) = before(agreeing.address());
    let (mut client, server) = agreeing.tunnel(&balancer);
    SockRef::from(server.stream()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(server);
    assert!(client.is_closed());
    assert_eq!(balancer.logged_path("/chat")["term"], "SD--");
    wait_until("it is counted", PATIENCE, || counted(&balancer, "nodes,s1,", "srv_abrt") == 1);
    assert_eq!(counted(&balancer, "nodes,s1,", "cli_abrt"), 0);
}

#[test]
fn what_the_client_says_too_early_waits_until_the_server_has_agreed() {
    let (heard, news) = channel();
    let (agree, agreed) = channel();
    let agreed = std::sync::Mutex::new(agreed);
    let origin = Origin::raw(move |wire, _| {
        wire.head().unwrap().unwrap();
        wire.stream().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let early = wire.exact(1).map_err(|error| error.kind());
        heard.send(early).unwrap();
        agreed.lock().unwrap().recv().unwrap();
        wire.stream().set_read_timeout(Some(PATIENCE)).unwrap();
        // In one piece with the first words.
        wire.send(format!("{AGREE}welcome")).unwrap();
        let words = wire.exact(9).unwrap();
        wire.send(words.to_ascii_uppercase()).unwrap();
        drop(wire.rest());
    });
    let (balancer, _file) = before(origin.address);
    let Client { mut wire } = balancer.client();
    wire.send(format!("{ASK}too early")).unwrap();
    let early = news.recv_timeout(PATIENCE).unwrap();
    assert_eq!(early, Err(io::ErrorKind::WouldBlock), "nothing reaches a server that has not agreed");
    agree.send(()).unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 101);
    assert_eq!(wire.exact(16).unwrap(), b"welcomeTOO EARLY");
}

#[test]
fn a_server_that_does_not_agree_answers_like_any_other() {
    let origin = Origin::answering(|wire, request| match request.head.start.contains("/no") {
        true => Closed(wire.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno").is_err()),
        false => Closed(wire.send(ok("a page")).is_err()),
    });
    let (balancer, _file) = before(origin.address);
    let mut client = balancer.client();
    for (path, status, text) in [("/no", 400, "no"), ("/page", 200, "a page"), ("/no", 400, "no")] {
        let response = client.try_get(path, "Connection: Upgrade\r\nUpgrade: websocket\r\n").unwrap();
        assert_eq!((response.status(), response.text().as_str()), (status, text));
    }
    assert_eq!(client.get("/plain").text(), "a page");
    assert_eq!(origin.connections(), 1, "neither side loses its connection by it");
    assert_eq!(tunnels(&balancer, S1), 0);
}

#[test]
fn a_server_may_switch_only_to_what_was_asked_for() {
    let origin = Origin::raw(|wire, _| {
        if let Ok(Some(_)) = wire.head() {
            let _gone = wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n");
            drop(wire.rest());
        }
    });
    let (balancer, _file) = before(origin.address);
    assert_eq!(balancer.client().ask(ASK).unwrap().status(), 502);
}

#[test]
fn other_protocols_pass_where_the_operator_allows_them() {
    let (protocols, taken) = channel();
    let origin = Origin::raw(move |wire, _| {
        if let Ok(Some(head)) = wire.head() {
            let Some(protocol) = head.one("upgrade").map(str::to_owned) else {
                let _gone = wire.send(ok("plain"));
                return;
            };
            let agree =
                format!("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
            wire.send(agree).unwrap();
            protocols.send(protocol).unwrap();
            drop(wire.rest());
        }
    });
    let (balancer, _file) = balancer(&config(&[("s1", origin.address)], "upgrades = [\"tcp\", \"SPDY/3.1\"]", ""));
    let ask = |protocol: &str| {
        let head = format!("POST /attach HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {protocol}\r\n\r\n");
        let Client { mut wire } = balancer.client();
        wire.send(head).unwrap();
        let head = wire.head().unwrap().unwrap();
        (head.status(), head.one("upgrade").map(str::to_owned))
    };
    for (asked, got) in [("tcp", "tcp"), ("spdy/3.1", "SPDY/3.1"), ("h2c, TCP", "tcp")] {
        assert_eq!(ask(asked), (101, Some(got.to_owned())));
        assert_eq!(taken.recv_timeout(PATIENCE).unwrap(), got, "the server sees the one name that is allowed");
    }
    for asked in ["websocket", "h2c"] {
        assert_eq!(ask(asked), (200, None));
    }
}

#[test]
fn tunnels_survive_what_happens_to_the_pool() {
    let agreeing = Agreeing::new();
    let s2 = Origin::named("s2");
    let (balancer, file) = balancer(&config(&[("s1", agreeing.address())], "", ""));
    let (mut client, mut server) = agreeing.tunnel(&balancer);
    std::fs::write(file.path(), config(&[("s2", s2.address)], "", "")).unwrap();
    balancer.lb.signal(Signal::HUP);
    wait_until("the pool has changed", PATIENCE, || {
        let rows = balancer.stats_page("/;csv").text();
        rows.contains("\nnodes,s2,") && !rows.contains("\nnodes,s1,")
    });
    assert_eq!(balancer.client().get("/").text(), "s2");
    assert_open(&mut client, &mut server);
    assert_eq!(tunnels(&balancer, BACKEND), 1);
    client.close_write();
    assert!(server.is_closed());
    server.close_write();
    assert!(client.is_closed());
    wait_until("it is gone from the pool", PATIENCE, || tunnels(&balancer, BACKEND) == 0);
}

#[test]
fn a_stop_does_not_wait_for_tunnels_that_say_nothing() {
    let agreeing = Agreeing::new();
    let more = "[timeouts]\ntunnel-stop = \"1500ms\"\ngrace = \"60s\"\n";
    let (mut balancer, _file) = balancer(&config(&[("s1", agreeing.address())], "", more));
    let (mut busy, mut busy_server) = agreeing.tunnel(&balancer);
    let (mut idle, mut idle_server) = agreeing.tunnel(&balancer);
    balancer.lb.signal(Signal::TERM);
    let begun = Instant::now();
    let mut words = 0;
    // The busy one speaks all the time, and longer than the idle one lasts.
    std::thread::scope(|scope| {
        let idle = scope.spawn(move || (idle.is_closed(), idle_server.is_closed(), begun.elapsed()));
        while !idle.is_finished() {
            assert_open(&mut busy, &mut busy_server);
            std::thread::sleep(Duration::from_millis(5));
            words += 1;
        }
        let (client, server, took) = idle.join().unwrap();
        assert!(client && server, "both sides are told");
        println!("the idle tunnel ended after {took:?}, the busy one said {words} words");
    });
    assert_open(&mut busy, &mut busy_server);
    assert_eq!(balancer.logged("the idle tunnel", |line| line["status"] == 101)["term"], "KD--");
    assert!(busy.is_closed(), "it ends when it falls silent");
    let (status, _) = balancer.lb.wait();
    assert_eq!(status.code(), Some(0));
}

#[test]
fn a_tunnel_that_never_falls_silent_ends_with_the_grace_period() {
    let origin = Origin::raw(|wire, _| {
        if let Ok(Some(_)) = wire.head() {
            wire.send(AGREE).unwrap();
            while wire.send("tick").is_ok() {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
    let more = "[timeouts]\ngrace = \"1s\"\n";
    let (mut balancer, _file) = balancer(&config(&[("s1", origin.address)], "", more));
    let Client { mut wire } = balancer.client();
    wire.send(ASK).unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 101);
    assert_eq!(wire.exact(4).unwrap(), b"tick");
    balancer.lb.signal(Signal::TERM);
    let ticks = wire.rest().len() / 4;
    assert!(ticks > 10, "{ticks}");
    assert_eq!(balancer.logged_path("/chat")["term"], "KD--");
    assert_eq!(balancer.lb.wait().0.code(), Some(0));
}
