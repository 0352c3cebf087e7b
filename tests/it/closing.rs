//! A connection that ends while its client still sends: the client gets the whole answer, and has no more time than it needs.

use std::{io::Write, net::TcpStream};

use crate::support::{Balancer, Origin, PATIENCE, config_file, ok, wait_until};

const MIB: usize = 1 << 20;
/// Bytes of each request.
const SENT: usize = 10 * MIB;
const ROUNDS: usize = 20;
static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

fn balancer(origin: &Origin) -> (Balancer, tempfile::NamedTempFile) {
    let file = config_file("workers = 1\n[limits]\nbody = 1000\n");
    let path = file.path().to_str().unwrap();
    (Balancer::alone(&["-c", path, &origin.as_server("s1"), "--stats=127.0.0.1:0"]), file)
}

/// Sends pieces until so many bytes are sent or nobody takes more.
fn pour(mut stream: TcpStream, bytes: usize, piece: &[u8]) -> usize {
    let mut sent = 0;
    while sent < bytes && stream.write_all(piece).is_ok() {
        sent += piece.len();
    }
    sent
}

/// Sends a head and [`SENT`] bytes, in its own time, and reads an answer until the end of the connection.
#[track_caller]
fn assert_answered(balancer: &Balancer, head: &str, piece: &[u8], status: u16, length: usize) {
    for round in 0..ROUNDS {
        let mut client = balancer.client();
        client.wire.send(head).unwrap();
        let (stream, piece) = (client.wire.stream().try_clone().unwrap(), piece.to_vec());
        let sending = std::thread::spawn(move || pour(stream, SENT, &piece));
        let answer = client.answer(false).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(answer.status(), status);
        assert!(answer.body.len() >= length, "round {round}: {} of {length} bytes", answer.body.len());
        let (rest, ended) = client.wire.read_out();
        assert_eq!((rest, ended.map_err(|error| error.to_string())), (Vec::new(), Ok(())), "round {round}");
        sending.join().unwrap();
    }
}

#[test]
fn a_request_that_is_refused_for_its_length_has_a_whole_answer() {
    let (balancer, _file) = balancer(&Origin::named("s1"));
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {SENT}\r\n\r\n");
    assert_answered(&balancer, &head, &PIECE, 413, 1);
}

#[test]
fn a_request_that_is_refused_on_its_way_has_a_whole_answer() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(&origin);
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    assert_answered(&balancer, head, &b"10\r\n0123456789abcdef\r\n".repeat(1000), 413, 1);
}

#[test]
fn a_request_whose_head_is_too_long_has_a_whole_answer() {
    let (balancer, _file) = balancer(&Origin::named("s1"));
    assert_answered(&balancer, "GET / HTTP/1.1\r\nHost: a\r\nLong: ", &PIECE, 431, 0);
}

#[test]
fn a_server_that_answers_early_has_its_whole_answer_delivered() {
    const LENGTH: usize = 3 * MIB;
    let origin = Origin::raw(|wire, _| {
        // The connection is used again where the request is complete before its answer.
        while let Ok(Some(_)) = wire.head() {
            if wire.send(ok(&"y".repeat(LENGTH))).is_err() || wire.exact(SENT).is_err() {
                return;
            }
        }
    });
    let balancer = Balancer::alone(&[&origin.as_server("s1"), "--workers=1"]);
    // The connection ends in that case, too.
    let head = format!("POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {SENT}\r\n\r\n");
    assert_answered(&balancer, &head, &PIECE, 200, LENGTH);
}

#[test]
fn a_client_that_sends_on_and_on_is_given_up() {
    let (balancer, _file) = balancer(&Origin::named("s1"));
    let client = balancer.client();
    client.wire.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n").unwrap();
    let stream = client.wire.stream().try_clone().unwrap();
    assert!(pour(stream, 256 * MIB, &PIECE) < 256 * MIB);
}

#[test]
fn a_client_that_falls_silent_and_stays_is_given_up() {
    let (balancer, _file) = balancer(&Origin::named("s1"));
    let mut client = balancer.client();
    let refused = client.ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n").unwrap();
    assert_eq!(refused.status(), 413);
    assert!(client.wire.is_closed());
    wait_until("the connection is gone", PATIENCE, || {
        let page = balancer.stats_page("/metrics").text();
        page.contains("haproxy_frontend_current_sessions{proxy=\"localnodes\"} 0\n")
    });
}
