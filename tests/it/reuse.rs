//! Containers come back under old names and at old addresses, and are new all the same.

use std::time::{Duration, Instant};

use crate::{
    runtime_api::{address, cell},
    support::{
        Balancer, Closed, Origin, PATIENCE,
        app::{self, beside},
        free_port, ok, wait_until,
    },
};

fn balancer() -> Balancer {
    Balancer::clustered("127.0.0.1:0", &["--runtime-api=127.0.0.1:0", "--cookie=S"])
}

#[test]
fn a_name_that_is_reused_at_another_address_serves_at_once_and_is_shown_plain_once_the_old_one_is_gone() {
    let balancer = balancer();
    let mut old = app::agent("s1", &balancer.as_seed(), &[], (free_port(), 0));
    wait_until("the old one serves", PATIENCE, || balancer.visit("").0 == "s1");
    let (_, cookie) = balancer.visit("");
    // Container and app are killed, and come up elsewhere before anybody has noticed.
    old.kill();
    let origin = Origin::named("new");
    let begun = Instant::now();
    let _new = beside("s1", &balancer.as_seed(), &origin, &[]);
    wait_until("the new one serves", PATIENCE, || balancer.visit("").0 == "new");
    println!("it serves {:?} after its agent was started", begun.elapsed());
    let (by, set) = balancer.visit(&cookie.unwrap());
    assert!(by == "new" && set.is_some(), "the old cookie names nobody: {by} {set:?}");
    wait_until("it has its name", PATIENCE, || {
        cell(address(&balancer), "s1-2", "status").is_none()
            && cell(address(&balancer), "s1", "addr").as_deref() == Some(&*origin.address.to_string())
    });
    assert_eq!(cell(address(&balancer), "s1", "status").as_deref(), Some("UP"));
}

#[test]
fn an_address_that_is_reused_is_another_server_with_counters_of_its_own() {
    let balancer = balancer();
    let origin = Origin::named("app");
    let gossip = format!("--gossip=127.0.0.1:{}", free_port());
    let mut old = beside("s1", &balancer.as_seed(), &origin, &[&gossip]);
    wait_until("the old one serves", PATIENCE, || balancer.visit("").0 == "app");
    let (_, cookie) = balancer.visit("");
    let cookie = cookie.unwrap();
    for _ in 0..20 {
        assert_eq!(balancer.visit(&cookie), ("app".into(), None));
    }
    old.kill();
    let begun = Instant::now();
    let _new = beside("s2", &balancer.as_seed(), &origin, &[&gossip]);
    let is_up = || cell(address(&balancer), "s2", "status").as_deref() == Some("UP");
    wait_until("the new one serves", PATIENCE, is_up);
    println!("it serves {:?} after its agent was started", begun.elapsed());
    assert_eq!(cell(address(&balancer), "s1", "status"), None, "the old one is gone for certain");
    assert_eq!(cell(address(&balancer), "s2", "stot").as_deref(), Some("0"));
    assert!(balancer.visit(&cookie).1.is_some(), "the old cookie names nobody");
}

/// Of the two places where an old server may go, a new agent with the old one's gossip port meets both.
#[test]
fn a_new_agent_beside_an_app_that_lost_its_own_takes_it_over_without_a_failed_request() {
    let balancer = balancer();
    let origin = Origin::answering(|wire, request| {
        let is_check = request.head.start.starts_with("HEAD ");
        if is_check {
            std::thread::sleep(Duration::from_millis(400));
        }
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        Closed(if is_check { wire.send(head) } else { wire.send(ok("app")) }.is_err())
    });
    for gossip in [format!("--gossip=127.0.0.1:{}", free_port()), "--gossip=127.0.0.1:0".to_owned()] {
        let mut first = beside("s1", &balancer.as_seed(), &origin, &[&gossip]);
        wait_until("the app serves", PATIENCE, || balancer.visit("").0 == "app");
        let (_, cookie) = balancer.visit("");
        first.kill();
        let mut second = beside("s1", &balancer.as_seed(), &origin, &[&gossip]);
        wait_until("the new server has its place", PATIENCE, || {
            let (by, _) = balancer.visit("");
            assert_eq!(by, "app");
            balancer.visit(cookie.as_deref().unwrap()).1.is_some()
        });
        second.signal(rustix::process::Signal::TERM);
        second.wait();
        wait_until("it has left", PATIENCE, || cell(address(&balancer), "s1", "status").is_none());
    }
}
