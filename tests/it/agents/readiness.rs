//! An app that runs and does not work: its agent takes it out of the pool, and puts it back when it answers again.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::SeqCst},
};

use rustix::process::{Signal, kill_process};

use super::{app_of, wait_for_answer, wait_for_tag};
use crate::support::{Balancer, Closed, Lb, Origin, PATIENCE, app, free_port, ok, wait_until};

#[test]
fn an_app_that_says_it_is_not_ready_gets_no_requests_until_it_says_that_it_is() {
    let balancer = Balancer::clustered("127.0.0.1:0", &["--log-format=off"]);
    let is_ready = Arc::new(AtomicBool::new(true));
    let asked = Arc::clone(&is_ready);
    // What the balancer asks for is always answered well: only the agent looks at /ready.
    let origin = Origin::answering(move |wire, request| {
        let answer = match request.head.start.as_str() {
            "GET /ready HTTP/1.1" if !asked.load(SeqCst) => "HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_owned(),
            head if head.starts_with("HEAD ") => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
            _ => ok("s1"),
        };
        Closed(wire.send(answer).is_err())
    });
    let port = format!("--port={}", origin.address.port());
    let agent =
        Lb::start(["agent", &balancer.as_seed(), "--gossip=127.0.0.1:0", "--name=s1", "--ready-path=/ready", &port]);
    let mut client = balancer.client();
    wait_for_answer(&mut client, "s1");
    is_ready.store(false, SeqCst);
    let lost = wait_until("nothing is sent there", PATIENCE, || client.get("/").status() == 503);
    agent.stderr.wait("no longer answers");
    is_ready.store(true, SeqCst);
    let back = wait_for_answer(&mut client, "s1");
    println!("withdrawn after {lost:?}, back after {back:?}");
}

#[test]
fn an_app_that_hangs_gets_no_requests_until_it_goes_on() {
    // Its port takes connections all the time, so the balancer's checks find nothing.
    let balancer = Balancer::clustered("127.0.0.1:0", &["--log-format=off", "--check=tcp"]);
    let agent = app::agent("s1", &balancer.as_seed(), &["--ready-path=/"], (free_port(), 0));
    let mut client = balancer.client();
    wait_for_answer(&mut client, "s1");
    let app = app_of(&agent);
    kill_process(app, Signal::STOP).unwrap();
    let lost = wait_for_tag(&balancer, "s1", "state", "starting");
    assert_eq!(balancer.client().get("/").status(), 503);
    kill_process(app, Signal::CONT).unwrap();
    let back = wait_for_answer(&mut client, "s1");
    println!("withdrawn after {lost:?}, back after {back:?}");
}
