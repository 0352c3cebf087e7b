//! `maxconn` of a listener: connections beyond it wait for the end of another.

use rustix::process::Signal;

use super::{Desk, asking, row, status};
use crate::support::{Balancer, Client, Origin, PATIENCE, wait_until};

#[test]
fn a_listener_serves_no_more_connections_at_once_than_it_may() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let args = ["--maxconn=2", "--workers=3", "--stats=127.0.0.1:0", &s1.as_server("s1")];
    let balancer = Balancer::alone(&args);
    let mut clients: Vec<Client> = (0..6).map(|number| asking(&balancer, &format!("/{number}"), "")).collect();
    desk.wait_for(2);
    let frontend = || row(&balancer, "localnodes", "FRONTEND");
    assert_eq!(["scur", "slim"].map(|name| frontend()[name].clone()), ["2", "2"]);
    // Who is served keeps its connection, and the others wait for its end.
    desk.pass(6);
    let mut served = 0;
    while !clients.is_empty() {
        let asked = desk.seen();
        let (mut now, later): (Vec<Client>, Vec<Client>) = {
            let mut answered = Vec::new();
            let mut waiting = Vec::new();
            for client in clients {
                client.wire.stream().set_nonblocking(true).unwrap();
                let there = client.wire.stream().peek(&mut [0]).is_ok();
                client.wire.stream().set_nonblocking(false).unwrap();
                if there { answered.push(client) } else { waiting.push(client) }
            }
            (answered, waiting)
        };
        assert!(now.len() <= 2 && asked.len() <= served + 2, "{asked:?} with {served} ended");
        for client in &mut now {
            assert_eq!(status(client), 200);
        }
        served += now.len();
        clients = later;
        drop(now);
        std::thread::yield_now();
    }
    wait_until("all have ended", PATIENCE, || frontend()["scur"] == "0");
    assert_eq!((frontend()["smax"].as_str(), frontend()["stot"].as_str()), ("2", "6"));
}

#[test]
fn a_connection_that_ends_while_it_waits_takes_nobodys_turn() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let balancer = Balancer::alone(&["--maxconn=1", "--workers=1", &s1.as_server("s1")]);
    let mut first = asking(&balancer, "/first", "");
    desk.wait_for(1);
    drop(asking(&balancer, "/gone", ""));
    drop(balancer.client());
    let mut last = asking(&balancer, "/last", "");
    desk.pass(3);
    assert_eq!(status(&mut first), 200);
    drop(first);
    assert_eq!(status(&mut last), 200);
}

#[test]
fn connections_that_wait_are_served_when_the_balancer_stops() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let mut balancer = Balancer::alone(&["--maxconn=1", "--workers=2", &s1.as_server("s1")]);
    let mut clients: Vec<Client> = (0..5).map(|number| asking(&balancer, &format!("/{number}"), "")).collect();
    desk.wait_for(1);
    balancer.lb.signal(Signal::TERM);
    wait_until("nothing more is accepted", PATIENCE, || Client::try_connect(balancer.traffic[0]).is_err());
    assert_eq!(desk.seen().len(), 1, "the limit holds to the end");
    desk.pass(5);
    for client in &mut clients {
        assert_eq!(status(client), 200);
    }
    assert_eq!(desk.0.0.lock().unwrap().most, 1);
    assert_eq!(balancer.lb.wait().0.code(), Some(0));
}

#[test]
fn a_whole_request_of_a_client_that_has_left_is_no_bad_one() {
    for limit in [&["--maxconn=1"][..], &[]] {
        let s1 = Origin::named("s1");
        let server = s1.as_server("s1");
        let balancer = Balancer::alone(&[limit, &["--workers=1", "--stats=127.0.0.1:0", &server]].concat());
        let mut first = asking(&balancer, "/first", "");
        assert_eq!(status(&mut first), 200);
        for _ in 0..50 {
            drop(asking(&balancer, "/gone", ""));
        }
        drop(first);
        let mut last = asking(&balancer, "/last", "");
        assert_eq!(status(&mut last), 200);
        balancer.logged_path("/last");
        drop(last);
        let frontend = || row(&balancer, "localnodes", "FRONTEND");
        wait_until("all have ended", PATIENCE, || frontend()["scur"] == "0");
        let lines = balancer.lb.stdout.all();
        let bad = |line: &&String| line.contains("BADREQ") || line.contains("\"status\":400");
        assert_eq!(lines.iter().filter(bad).collect::<Vec<_>>(), Vec::<&String>::new(), "{limit:?}");
        assert_eq!(frontend()["ereq"], "0", "{limit:?}");
    }
}
