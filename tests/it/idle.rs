//! Idle client connections: they are put to rest after a quarter of a second, and nothing shows it from outside.

use std::{
    io::Read,
    net::TcpStream,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::support::{Balancer, Client, Origin, PATIENCE, config_file, wait_until};

/// Longer than an idle connection is left with its buffers: it is looked at each 250 ms, and was idle for so long.
const REST: Duration = Duration::from_millis(750);
const REQUEST: &str = "GET /pieces HTTP/1.1\r\nHost: test.example\r\n\r\n";

fn balancer(origin: &Origin, timeouts: &str) -> (Balancer, tempfile::NamedTempFile) {
    let file = config_file(&format!("workers = 1\n[timeouts]\n{timeouts}"));
    let path = file.path().to_str().unwrap();
    (Balancer::alone(&["-c", path, &origin.as_server("s1"), "--stats=127.0.0.1:0"]), file)
}

/// Waits on the balancer's side of time: by then connections that were idle before are at rest.
fn let_rest() {
    std::thread::sleep(REST);
}

#[test]
fn a_connection_at_rest_answers_again_and_again() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(&origin, "");
    let mut client = balancer.client();
    for _ in 0..3 {
        assert_eq!(client.get("/").text(), "s1");
        assert_eq!(client.get("/").text(), "s1");
        let_rest();
    }
    let page = balancer.stats_page("/metrics").text();
    assert!(page.contains("haproxy_frontend_sessions_total{proxy=\"localnodes\"} 1\n"), "{page}");
}

#[test]
fn a_connection_that_rests_before_its_first_request_is_served() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(&origin, "");
    let mut client = balancer.client();
    let_rest();
    assert_eq!(client.get("/").text(), "s1");
}

#[test]
fn the_keep_alive_time_goes_on_while_a_connection_rests() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(&origin, "keep-alive = \"3s\"\n");
    let mut client = balancer.client();
    client.get("/");
    let begun = Instant::now();
    assert_eq!(client.wire.rest(), b"");
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(2900), "{took:?}");
}

#[test]
fn the_time_for_the_first_request_goes_on_while_a_connection_rests() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(&origin, "request-head = \"3s\"\n");
    let begun = Instant::now();
    assert_eq!(balancer.client().wire.rest(), b"");
    assert!(begun.elapsed() > Duration::from_millis(2900), "{:?}", begun.elapsed());
}

#[test]
fn connections_at_rest_end_at_once_when_the_balancer_stops() {
    let origin = Origin::named("s1");
    let (mut balancer, _file) = balancer(&origin, "");
    let mut clients: Vec<Client> = (0..20).map(|_| balancer.client()).collect();
    clients.iter_mut().for_each(|client| assert_eq!(client.get("/").text(), "s1"));
    let_rest();
    balancer.lb.signal(Signal::TERM);
    let begun = Instant::now();
    assert!(clients.iter_mut().all(|client| client.wire.rest().is_empty()));
    // Without an end of their own they would last for the grace period, which is 8 s.
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(balancer.lb.wait().0.success());
}

#[test]
fn a_client_that_goes_away_while_its_connection_rests_is_forgotten() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(&origin, "");
    let mut client = balancer.client();
    client.get("/");
    let open = |wanted: &str| {
        let page = balancer.stats_page("/metrics").text();
        page.contains(&format!("haproxy_frontend_current_sessions{{proxy=\"localnodes\"}} {wanted}\n"))
    };
    assert!(open("1"));
    let_rest();
    drop(client);
    wait_until("the connection is gone", PATIENCE, || open("0"));
}

/// A connection goes to rest between a quarter and half of a second after its last response. Requests here come in two pieces, the
/// first or the second of which arrives at every moment of that time.
#[test]
fn no_piece_of_a_request_is_lost_when_it_comes_as_the_connection_goes_to_rest() {
    const EACH: u64 = 300;
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(&origin, "");
    let mut clients: Vec<(u64, Client)> = (0..EACH).map(|number| (number, balancer.client())).collect();
    clients.iter_mut().for_each(|(_, client)| assert_eq!(client.get("/").text(), "s1"));
    let begun = Instant::now();
    let until = |millis: u64| {
        std::thread::sleep(Duration::from_millis(millis).saturating_sub(begun.elapsed()));
    };
    // (when, number, first or second piece)
    let mut pieces: Vec<(u64, u64, bool)> = (0..EACH)
        .flat_map(|number| {
            // Not in the order in which they were answered, or all would have waited for as long.
            let first = 100 + number * 7 % EACH * 500 / EACH;
            [(first, number, true), (first + 1 + number * 7 % 40, number, false)]
        })
        .collect();
    pieces.sort_unstable();
    for (when, number, is_first) in pieces {
        until(when);
        // Cut at every place in turn.
        let (head, tail) = REQUEST.split_at(1 + number as usize % (REQUEST.len() - 1));
        clients[number as usize].1.wire.send(if is_first { head } else { tail }).unwrap();
    }
    for (number, client) in &mut clients {
        let answer = client.answer(false).unwrap_or_else(|error| panic!("client {number}: {error}"));
        assert_eq!((answer.status(), answer.text()), (200, "s1".to_owned()), "client {number}");
    }
    assert_eq!(origin.requests().len() as u64, 2 * EACH);
}

#[test]
fn half_a_head_that_came_with_the_request_before_is_kept_while_the_connection_rests() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(&origin, "");
    for cut in [1, 10, REQUEST.len() - 1] {
        let mut client = balancer.client();
        let (head, tail) = REQUEST.split_at(cut);
        let first = client.ask(format!("GET /first HTTP/1.1\r\nHost: test.example\r\n\r\n{head}")).unwrap();
        assert_eq!(first.text(), "s1");
        let_rest();
        assert_eq!(client.ask(tail).unwrap().text(), "s1", "cut at {cut}");
        assert_eq!(origin.last().head.start, "GET /pieces HTTP/1.1");
        assert_eq!(client.get("/after").text(), "s1");
    }
}

#[test]
fn half_a_head_that_came_with_the_request_before_is_answered_408_in_time() {
    let origin = Origin::named("s1");
    for timeouts in ["request-head = \"3s\"\n", "request-head = \"2s\"\nkeep-alive = \"500ms\"\n"] {
        let (balancer, _file) = balancer(&origin, timeouts);
        let mut client = balancer.client();
        client.ask(format!("{REQUEST}GET /half HTTP/1.1\r\nHo")).unwrap();
        let answer = client.answer(false).expect(timeouts);
        assert_eq!(answer.status(), 408, "{timeouts}");
        assert!(client.wire.is_closed());
        let line = balancer.logged("the half head", |line| line["status"] == 408);
        assert_eq!(line["term"], "cR--");
    }
}

#[test]
fn empty_lines_after_a_request_are_no_request() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(&origin, "request-head = \"2s\"\nkeep-alive = \"4s\"\n");
    let mut client = balancer.client();
    assert_eq!(client.ask(format!("{REQUEST}\r\n")).unwrap().text(), "s1");
    // A head would have been answered 408 before.
    std::thread::sleep(Duration::from_millis(3000));
    assert_eq!(client.get("/after").text(), "s1");
}

#[test]
fn a_response_that_is_read_late_is_whole_although_the_connection_was_idle_for_long() {
    const LENGTH: usize = 4_000_000;
    let origin = Origin::named(&"x".repeat(LENGTH));
    let (balancer, _file) = balancer(&origin, "");
    let mut stream = TcpStream::connect(balancer.traffic[0]).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    std::io::Write::write_all(&mut stream, REQUEST.as_bytes()).unwrap();
    let_rest();
    let mut read = vec![0; LENGTH];
    stream.read_exact(&mut read).unwrap();
    assert!(read.ends_with(b"xx"));
}
