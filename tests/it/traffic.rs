//! Requests and responses pass whole, in turn, as they come, on connections that are kept.

use crate::support::{Balancer, Client, Closed, Origin, Wire, ok};

fn three() -> (Vec<Origin>, Balancer) {
    let origins: Vec<Origin> = ["s1", "s2", "s3"].into_iter().map(Origin::named).collect();
    let servers: Vec<String> =
        origins.iter().zip(["s1", "s2", "s3"]).map(|(origin, name)| origin.as_server(name)).collect();
    let balancer = Balancer::alone(&servers.iter().map(String::as_str).collect::<Vec<_>>());
    (origins, balancer)
}

#[test]
fn servers_take_strict_turns_on_one_connection() {
    let (_origins, balancer) = three();
    let mut client = balancer.client();
    let order: Vec<String> = (0..12).map(|_| client.get("/").text()).collect();
    assert_eq!(order, ["s1", "s2", "s3"].repeat(4));
}

#[test]
fn servers_take_strict_turns_over_many_connections() {
    let (_origins, balancer) = three();
    let order: Vec<String> = (0..12).map(|_| balancer.client().get("/").text()).collect();
    assert_eq!(order, ["s1", "s2", "s3"].repeat(4));
}

#[test]
fn one_client_connection_needs_one_connection_to_each_server() {
    let (origins, balancer) = three();
    let mut client = balancer.client();
    for _ in 0..30 {
        assert_eq!(client.get("/").status(), 200);
    }
    let connections: Vec<usize> = origins.iter().map(Origin::connections).collect();
    assert_eq!(connections, [1, 1, 1]);
}

/// A body whose every byte tells its place.
fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|place| (place % 251) as u8).collect()
}

const LARGE: usize = 4 * 1024 * 1024;

#[test]
fn a_large_upload_arrives_whole() {
    let origin = Origin::answering(|wire, request| Closed(wire.send(ok(&request.body.len().to_string())).is_err()));
    let balancer = Balancer::alone(&[&origin.as_server("s1")]);
    let mut client = balancer.client();
    let body = pattern(LARGE);
    let head = format!("POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: {LARGE}\r\n\r\n");
    assert_eq!(client.ask([head.as_bytes(), &body].concat()).unwrap().text(), LARGE.to_string());
    assert!(origin.last().body == body);
    // The same in chunks, on the same connection.
    client.wire.send("POST /up HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    for chunk in body.chunks(100_000) {
        client.wire.send_chunk(chunk).unwrap();
    }
    client.wire.end_chunks().unwrap();
    assert_eq!(client.answer(false).unwrap().text(), LARGE.to_string());
    let last = origin.last();
    assert!(last.body == body);
    assert_eq!(last.head.one("transfer-encoding"), Some("chunked"));
    assert_eq!(origin.connections(), 1, "a connection whose body was read is kept");
}

#[test]
fn a_large_download_arrives_whole() {
    let origin = Origin::answering(|wire, request| {
        let body = pattern(LARGE);
        let sent = if request.head.start.contains("/chunked") {
            let head = wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            head.and_then(|()| body.chunks(70_000).try_for_each(|chunk| wire.send_chunk(chunk)))
                .and_then(|()| wire.end_chunks())
        } else {
            let head = wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n"));
            head.and_then(|()| wire.send(body))
        };
        Closed(sent.is_err())
    });
    let balancer = Balancer::alone(&[&origin.as_server("s1")]);
    let mut client = balancer.client();
    for path in ["/sized", "/chunked", "/sized"] {
        assert!(client.get(path).body == pattern(LARGE), "{path}");
    }
    assert_eq!(origin.connections(), 1);
}

/// Takes an upload in halves and tells of each; then answers in halves, the second when the client asks for it.
fn halves(wire: &mut Wire, _: usize) {
    let head = wire.head().unwrap().unwrap();
    assert_eq!(head.one("transfer-encoding"), Some("chunked"));
    assert_eq!(wire.chunks_of(5).unwrap(), b"first");
    wire.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    wire.send_chunk(b"got first").unwrap();
    assert_eq!(wire.chunks_of(6).unwrap(), b"second");
    wire.send_chunk(b"got second").unwrap();
    assert_eq!(wire.chunk().unwrap(), b"");
    wire.end_chunks().unwrap();
}

#[test]
fn bodies_pass_as_they_come_in_both_directions_at_once() {
    let origin = Origin::raw(halves);
    let balancer = Balancer::alone(&[&origin.as_server("s1")]);
    let Client { mut wire } = balancer.client();
    wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
    wire.send_chunk(b"first").unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 200);
    assert_eq!(wire.chunks_of(9).unwrap(), b"got first");
    wire.send_chunk(b"second").unwrap();
    assert_eq!(wire.chunks_of(10).unwrap(), b"got second");
    wire.end_chunks().unwrap();
    assert_eq!(wire.chunk().unwrap(), b"");
}

#[test]
fn the_first_half_of_a_sized_upload_arrives_before_the_second_is_sent() {
    let (heard, news) = std::sync::mpsc::channel();
    let heard = std::sync::Mutex::new(heard);
    let origin = Origin::raw(move |wire, _| {
        wire.head().unwrap().unwrap();
        heard.lock().unwrap().send(wire.exact(5).unwrap()).unwrap();
        heard.lock().unwrap().send(wire.exact(6).unwrap()).unwrap();
        wire.send(ok("thanks")).unwrap();
    });
    let balancer = Balancer::alone(&[&origin.as_server("s1")]);
    let mut client = balancer.client();
    client.wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nfirst").unwrap();
    assert_eq!(news.recv_timeout(crate::support::PATIENCE).unwrap(), b"first");
    client.wire.send("second").unwrap();
    assert_eq!(news.recv_timeout(crate::support::PATIENCE).unwrap(), b"second");
    assert_eq!(client.answer(false).unwrap().text(), "thanks");
}

#[test]
fn a_websocket_becomes_a_tunnel_both_ways() {
    let origin = Origin::raw(|wire, _| {
        let head = wire.head().unwrap().unwrap();
        assert_eq!((head.one("connection"), head.one("upgrade")), (Some("Upgrade"), Some("websocket")));
        assert_eq!(head.one("sec-websocket-key"), Some("abc"));
        wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
            .unwrap();
        while let Ok(byte) = wire.exact(1) {
            wire.send(byte.to_ascii_uppercase()).unwrap();
        }
    });
    let balancer = Balancer::alone(&[&origin.as_server("s1")]);
    let Client { mut wire } = balancer.client();
    let upgrade = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: abc\r\n";
    wire.send(format!("GET /chat HTTP/1.1\r\nHost: a\r\n{upgrade}\r\n")).unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 101);
    assert_eq!(wire.exact(5).unwrap(), b"hello");
    for word in ["ping", "pong"] {
        wire.send(word).unwrap();
        assert_eq!(wire.exact(4).unwrap(), word.to_ascii_uppercase().as_bytes());
    }
    wire.close_write();
    assert!(wire.is_closed(), "the end of one side reaches the other");
    assert_eq!(balancer.logged_path("/chat")["status"], 101);
}

#[test]
fn an_old_client_that_names_no_host_is_given_the_address_that_it_dialled() {
    let origin = Origin::named("s1");
    let alone = ["--gossip=off", "--check=off", "--workers=1", &origin.as_server("s1")];
    for (bound, dialled) in [("127.0.0.2", "127.0.0.2"), ("0.0.0.0", "127.0.0.2"), ("0.0.0.0", "127.0.0.3")] {
        let balancer = Balancer::start(&[&alone[..], &[&format!("--listen={bound}:0")]].concat());
        let dialled = std::net::SocketAddr::new(dialled.parse().unwrap(), balancer.traffic[0].port());
        for keep in ["", "Connection: keep-alive\r\n"] {
            let mut client = Client::connect(dialled);
            assert_eq!(client.ask(format!("GET / HTTP/1.0\r\n{keep}\r\n")).unwrap().text(), "s1");
            let head = origin.last().head;
            assert_eq!(head.one("host"), Some(dialled.to_string().as_str()));
            assert_eq!(head.one("x-forwarded-port"), Some(dialled.port().to_string().as_str()));
        }
    }
}
