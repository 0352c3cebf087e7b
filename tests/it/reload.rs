//! Signals: a balancer that stops finishes what is in flight, and one that reads its configuration again drops nothing.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Balancer, Client, Gate, Origin, PATIENCE, config_file, wait_until};

/// A client whose request is on its way to the server.
fn in_flight(balancer: &Balancer, origin: &Origin) -> Client {
    let client = balancer.client();
    client.wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until("the request arrives", PATIENCE, || !origin.requests().is_empty());
    client
}

#[test]
fn stopping_waits_for_what_is_in_flight_and_says_so() {
    let gate = Gate::default();
    let origin = gate.origin("done");
    let mut balancer = Balancer::alone(&[&origin.as_server("s1")]);
    let mut idle = balancer.client();
    assert_eq!(idle.get("/").status(), 200);
    let mut client = balancer.client();
    client.wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until("the request arrives", PATIENCE, || origin.requests().len() == 2);
    balancer.lb.signal(Signal::TERM);
    assert!(idle.wire.is_closed(), "an idle connection has nothing to wait for");
    balancer.lb.stderr.wait("waiting for 1 connection (s1: 1 request)");
    wait_until("nothing more is accepted", PATIENCE, || Client::try_connect(balancer.traffic[0]).is_err());
    gate.open();
    let response = client.answer(false).unwrap();
    assert_eq!((response.text().as_str(), response.head.one("connection")), ("done", Some("close")));
    let (status, took) = balancer.lb.wait();
    println!("stopped {took:?} after the last response");
    assert_eq!(status.code(), Some(0));
    // Lines that were on their way to the log have arrived.
    assert_eq!(balancer.logged_path("/slow")["status"], 200);
}

#[test]
fn an_idle_balancer_stops_at_once() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut balancer = Balancer::alone(&[]);
        let _idle = balancer.client();
        let begun = Instant::now();
        balancer.lb.signal(signal);
        assert_eq!(balancer.lb.wait().0.code(), Some(0));
        println!("an idle balancer stops within {:?}", begun.elapsed());
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
}

#[test]
fn when_the_grace_period_is_over_what_is_left_is_cut() {
    let gate = Gate::default();
    let origin = gate.origin("done");
    let mut balancer = Balancer::alone(&["--grace=300ms", &origin.as_server("s1")]);
    let mut client = in_flight(&balancer, &origin);
    let begun = Instant::now();
    balancer.lb.signal(Signal::TERM);
    assert!(client.answer(false).is_err());
    assert_eq!(balancer.lb.wait().0.code(), Some(0));
    assert!((Duration::from_millis(300)..Duration::from_secs(3)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    balancer.lb.stderr.wait("the grace period is over: closing 1 connections");
}

#[test]
fn a_second_signal_hurries() {
    let gate = Gate::default();
    let origin = gate.origin("done");
    let mut balancer = Balancer::alone(&[&origin.as_server("s1")]);
    let _client = in_flight(&balancer, &origin);
    balancer.lb.signal(Signal::TERM);
    balancer.lb.stderr.wait("stopping:");
    balancer.lb.signal(Signal::TERM);
    assert_eq!(balancer.lb.wait().0.code(), Some(0));
    balancer.lb.stderr.wait("told to stop again");
}

fn config(servers: &[(&str, &Origin)]) -> String {
    let server = |(name, origin): &(&str, &Origin)| {
        format!("[[pool.server]]\nname = \"{name}\"\naddress = \"{}\"\n", origin.address)
    };
    let servers: String = servers.iter().map(server).collect();
    format!("[[listener]]\nbind = \"127.0.0.1:0\"\n[[pool]]\ncheck.request = \"off\"\n{servers}")
}

#[test]
fn a_reload_adds_and_removes_servers_and_drops_nothing() {
    let gate = Gate::default();
    let (slow, s2) = (gate.origin("done"), Origin::named("s2"));
    let file = config_file(&config(&[("s1", &slow)]));
    let balancer = Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off"]);
    let mut kept = balancer.client();
    assert_eq!(kept.get("/").text(), "done");
    let mut busy = balancer.client();
    busy.wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until("the request arrives", PATIENCE, || slow.requests().len() == 2);
    std::fs::write(file.path(), config(&[("s1", &slow), ("s2", &s2)])).unwrap();
    balancer.lb.signal(Signal::HUP);
    balancer.lb.stderr.wait("the configuration was reloaded");
    wait_until("the new server has its turns", PATIENCE, || kept.get("/").text() == "s2");
    let turns: Vec<String> = (0..4).map(|_| kept.get("/").text()).collect();
    assert_eq!(turns, ["done", "s2", "done", "s2"]);
    std::fs::write(file.path(), config(&[("s2", &s2)])).unwrap();
    balancer.lb.signal(Signal::HUP);
    wait_until("the old server has no turns", PATIENCE, || (0..4).all(|_| kept.get("/").text() == "s2"));
    gate.open();
    assert_eq!(busy.answer(false).unwrap().text(), "done", "what is in flight ends on the server that is gone");
}

#[test]
fn a_bad_file_changes_nothing_and_says_why() {
    let s1 = Origin::named("s1");
    let file = config_file(&config(&[("s1", &s1)]));
    let balancer = Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off"]);
    let mut kept = balancer.client();
    assert_eq!(kept.get("/").text(), "s1");
    std::fs::write(file.path(), "wrokers = 3\n").unwrap();
    balancer.lb.signal(Signal::HUP);
    let line = balancer.lb.stderr.wait("wrokers");
    assert!(line.contains(&format!("{}:1: ", file.path().display())), "{line}");
    balancer.lb.stderr.wait("nothing has changed");
    for _ in 0..3 {
        assert_eq!(kept.get("/").text(), "s1");
    }
}

#[test]
fn what_needs_a_restart_is_named_at_a_reload() {
    let s1 = Origin::named("s1");
    let file = config_file(&config(&[("s1", &s1)]));
    let balancer = Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off"]);
    std::fs::write(file.path(), format!("workers = 7\n{}", config(&[("s1", &s1)]))).unwrap();
    balancer.lb.signal(Signal::HUP);
    let line = balancer.lb.stderr.wait("after a restart");
    assert!(line.contains("workers"), "{line}");
}

#[test]
fn a_reload_of_timeouts_is_for_new_connections() {
    let origin = Origin::raw(|wire, _| drop(wire.rest()));
    let file = config_file(&config(&[("s1", &origin)]));
    let balancer = Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off"]);
    std::fs::write(file.path(), format!("{}[timeouts]\nserver = \"200ms\"\n", config(&[("s1", &origin)]))).unwrap();
    balancer.lb.signal(Signal::HUP);
    balancer.lb.stderr.wait("the configuration was reloaded");
    assert_eq!(balancer.client().get("/").status(), 504);
}
