//! How long an agent waits when it is stopped: not for nobody, and not when somebody hurries it.

use std::net::TcpStream;

use rustix::process::Signal;

use super::wait_for_answer;
use crate::support::{Balancer, PATIENCE, Wire, app, free_port, wait_for, wait_until};

/// Longer than any test has patience.
const DRAIN: &str = "--drain-timeout=10m";

#[test]
fn without_a_balancer_there_is_nothing_to_wait_for() {
    let mut agent = app::agent("s1", "--join=127.0.0.1:1", &[DRAIN], (free_port(), 0));
    agent.stderr.wait("ready for traffic");
    agent.signal(Signal::TERM);
    let (status, took) = agent.wait();
    println!("ended after {took:?}");
    assert_eq!(status.code(), Some(128 + 15));
    agent.stderr.wait("drained in ");
}

#[test]
fn a_balancer_that_is_dead_is_waited_for_only_until_the_cluster_knows() {
    let mut balancer = Balancer::clustered("127.0.0.1:0", &[]);
    let mut agent = app::agent("s1", &balancer.as_seed(), &[DRAIN], (free_port(), 0));
    wait_for_answer(&mut balancer.client(), "s1");
    balancer.lb.kill();
    agent.signal(Signal::TERM);
    let (status, took) = agent.wait();
    println!("ended {took:?} after the balancer was killed");
    assert_eq!(status.code(), Some(128 + 15));
    agent.stderr.wait("drained in");
}

#[test]
fn a_second_signal_ends_the_wait_for_a_request_in_flight() {
    let balancer = Balancer::clustered("127.0.0.1:0", &[]);
    let minutes = 600_000;
    let mut agent = app::agent("s1", &balancer.as_seed(), &[DRAIN], (free_port(), minutes));
    // The head of the answer comes at once, the rest in ten minutes.
    let asked = || {
        let mut wire = Wire::new(TcpStream::connect(balancer.traffic[0]).unwrap());
        wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
        (wire.head().unwrap().unwrap().status(), wire)
    };
    let (_in_flight, _) =
        wait_for("a request is in flight", PATIENCE, || Some(asked()).filter(|(status, _)| *status == 200));
    agent.signal(Signal::TERM);
    agent.stderr.wait("draining: no new requests");
    wait_until("new requests are refused", PATIENCE, || asked().0 == 503);
    assert!(!agent.has_ended(), "{}", agent.stderr.text());
    agent.signal(Signal::INT);
    let (status, took) = agent.wait();
    println!("ended {took:?} after the second signal");
    assert_eq!(status.code(), Some(128 + 15), "the app got SIGTERM");
    agent.stderr.wait("SIGINT again: no longer waiting for the drain");
}
