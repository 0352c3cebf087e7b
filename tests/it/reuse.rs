//! Containers come back under old names and at old addresses, and are new all the same.

use std::time::{Duration, Instant};

use crate::{
    runtime_api::{address, cell},
    support::{Balancer, Closed, Lb, Origin, PATIENCE, app, free_port, ok, wait_until},
};

fn balancer() -> Balancer {
    Balancer::clustered("127.0.0.1:0", &["--runtime-api=127.0.0.1:0", "--cookie=S"])
}

fn beside(name: &str, seed: &str, gossip: &str, app: &Origin) -> Lb {
    let (port, gossip) = (format!("--port={}", app.address.port()), format!("--gossip={gossip}"));
    Lb::start(["agent", seed, &gossip, "--name", name, &port])
}

/// Who answers a user with that cookie, and the cookie that he gets.
fn visit(balancer: &Balancer, cookie: &str) -> (String, Option<String>) {
    let line = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
    let response = balancer.client().try_get("/", &line).unwrap();
    let set = response.head.one("set-cookie").map(|set| set.split(';').next().unwrap().to_owned());
    (response.text(), set)
}

/// The aim is a second; a busy test machine gets two more.
#[track_caller]
fn assert_soon(begun: Instant) {
    let took = begun.elapsed();
    println!("it serves {took:?} after its agent was started");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_name_that_is_reused_at_another_address_serves_at_once_and_is_shown_plain_once_the_old_one_is_gone() {
    let balancer = balancer();
    let mut old = app::agent("s1", &balancer.as_seed(), &[], (free_port(), 0));
    wait_until("the old one serves", PATIENCE, || visit(&balancer, "").0 == "s1");
    let (_, cookie) = visit(&balancer, "");
    // Container and app are killed, and come up elsewhere before anybody has noticed.
    old.kill();
    let origin = Origin::named("new");
    let begun = Instant::now();
    let _new = beside("s1", &balancer.as_seed(), "127.0.0.1:0", &origin);
    wait_until("the new one serves", PATIENCE, || visit(&balancer, "").0 == "new");
    assert_soon(begun);
    let (by, set) = visit(&balancer, &cookie.unwrap());
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
    let gossip = format!("127.0.0.1:{}", free_port());
    let mut old = beside("s1", &balancer.as_seed(), &gossip, &origin);
    wait_until("the old one serves", PATIENCE, || visit(&balancer, "").0 == "app");
    let (_, cookie) = visit(&balancer, "");
    let cookie = cookie.unwrap();
    for _ in 0..20 {
        assert_eq!(visit(&balancer, &cookie), ("app".into(), None));
    }
    old.kill();
    let begun = Instant::now();
    let _new = beside("s2", &balancer.as_seed(), &gossip, &origin);
    let is_up = || cell(address(&balancer), "s2", "status").as_deref() == Some("UP");
    wait_until("the new one serves", PATIENCE, is_up);
    assert_soon(begun);
    assert_eq!(cell(address(&balancer), "s1", "status"), None, "the old one is gone for certain");
    assert_eq!(cell(address(&balancer), "s2", "stot").as_deref(), Some("0"));
    assert!(visit(&balancer, &cookie).1.is_some(), "the old cookie names nobody");
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
    for gossip in [format!("127.0.0.1:{}", free_port()), "127.0.0.1:0".to_owned()] {
        let mut first = beside("s1", &balancer.as_seed(), &gossip, &origin);
        wait_until("the app serves", PATIENCE, || visit(&balancer, "").0 == "app");
        let (_, cookie) = visit(&balancer, "");
        first.kill();
        let mut second = beside("s1", &balancer.as_seed(), &gossip, &origin);
        wait_until("the new server has its place", PATIENCE, || {
            let (by, _) = visit(&balancer, "");
            assert_eq!(by, "app");
            visit(&balancer, cookie.as_deref().unwrap()).1.is_some()
        });
        second.signal(rustix::process::Signal::TERM);
        second.wait();
        wait_until("it has left", PATIENCE, || cell(address(&balancer), "s1", "status").is_none());
    }
}
