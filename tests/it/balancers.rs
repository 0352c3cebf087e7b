//! Several balancers in one cluster: each has the whole pool, each acknowledges a drain, and what an operator says to one
//! holds for all.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

use rustix::process::Signal;

use crate::{
    runtime_api::{address, ask, cell},
    support::{
        Balancer, Closed, Lb, Origin, PATIENCE,
        app::{self, beside},
        config_file, finished, free_port, ok, wait_until,
    },
};

/// A balancer with a runtime API that joins others.
fn balancer(gossip: &str, args: &[&str]) -> Balancer {
    Balancer::clustered(gossip, &[&["--runtime-api=127.0.0.1:0"], args].concat())
}

/// Each joins the one before it.
fn three(args: &[&str]) -> [Balancer; 3] {
    let first = balancer("127.0.0.1:0", args);
    let second = balancer("127.0.0.1:0", &[&[&*first.as_seed()], args].concat());
    let third = balancer("127.0.0.1:0", &[&[&*second.as_seed()], args].concat());
    [first, second, third]
}

fn status(balancer: &Balancer, server: &str) -> String {
    cell(address(balancer), server, "status").unwrap_or_default()
}

#[track_caller]
fn wait_for_status(balancers: &[Balancer], server: &str, wanted: &str) {
    for balancer in balancers {
        wait_until(&format!("{server} is {wanted}"), PATIENCE, || status(balancer, server) == wanted);
    }
}

fn say(balancer: &Balancer, command: &str) {
    assert_eq!(ask(address(balancer), &format!("{command}\n")), "\n", "{command}");
}

#[test]
fn what_an_operator_says_to_one_balancer_holds_for_all_also_for_one_that_comes_later() {
    let fixed = Origin::named("f1");
    let server = fixed.as_server("f1");
    let balancers = three(&[&server]);
    let origin = Origin::named("s1");
    let _agent = beside("s1", &balancers[0].as_seed(), &origin, &[]);
    wait_for_status(&balancers, "s1", "UP");
    let begun = Instant::now();
    say(&balancers[2], "set server nodes/s1 state drain");
    wait_for_status(&balancers, "s1", "DRAIN");
    println!("drained on all {:?} after it was said", begun.elapsed());
    say(&balancers[1], "set server nodes/f1 state maint");
    say(&balancers[1], "set server nodes/s1 weight 7");
    wait_for_status(&balancers, "f1", "MAINT");
    let weight = |balancer: &Balancer| ask(address(balancer), "get weight nodes/s1\n");
    wait_until("its weight is told", PATIENCE, || weight(&balancers[0]) == "7 (initial 1)\n\n");
    // Where a person looks: in the log, on the page, in the list of members.
    balancers[0].lb.stderr.wait("Server nodes/s1: drain, as was decided on ");
    let page = balancers[0].stats_page("/").text();
    assert!(page.contains("drain by ") && page.contains("weight 7 by "), "{page}");
    let members: serde_json::Value = serde_json::from_slice(&balancers[0].stats_page("/members").body).unwrap();
    let node = members.as_array().unwrap().iter().find(|member| member["name"] == "s1").unwrap();
    assert!(node["notes"][0].as_str().unwrap().starts_with("nodes/s1: drain by "), "{node}");
    // One that comes later, and one that was killed and comes back.
    let [first, mut second, third] = balancers;
    let gossip = second.gossip.unwrap().to_string();
    second.lb.kill();
    let late = [balancer("127.0.0.1:0", &[&first.as_seed(), &server]), balancer(&gossip, &[&first.as_seed(), &server])];
    for (name, wanted) in [("s1", "DRAIN"), ("f1", "MAINT")] {
        wait_for_status(&late, name, wanted);
    }
    // Whoever has seen a word takes it back.
    say(&late[1], "set server nodes/s1 state ready");
    wait_for_status(&[first, third], "s1", "UP");
    wait_for_status(&late, "s1", "UP");
}

#[test]
fn balancers_on_one_host_are_told_apart_by_the_names_that_they_are_given() {
    let file = config_file("[[listener]]\nbind = \"127.0.0.1:0\"\n[gossip]\nbind = \"127.0.0.1:0\"\nname = \"lb-1\"\n");
    let origin = Origin::named("f1");
    let (path, server) = (file.path().to_str().unwrap(), origin.as_server("f1"));
    let first = Balancer::start(&["-c", path, "--runtime-api=127.0.0.1:0", "--stats=127.0.0.1:0", &server]);
    let second = balancer("127.0.0.1:0", &["--name=lb-2", &first.as_seed(), &server]);
    let line = first.lb.stderr.wait("member-join name=lb-2");
    let expected = format!("member-join name=lb-2 address={} role=balancer", second.gossip.unwrap());
    assert!(line.ends_with(&expected), "a balancer has no service, state or weight: {line}");
    second.lb.stderr.wait("member-join name=lb-1");
    say(&second, "set server nodes/f1 state drain");
    first.lb.stderr.wait("Server nodes/f1: drain, as was decided on lb-2 ");
    let (file, by_option) = (["-c", path], ["--listen=127.0.0.1:0", "--gossip=127.0.0.1:0", "--name=lb-3"]);
    let third = Balancer::start(&[&file[..], &by_option, &[&first.as_seed()]].concat());
    first.lb.stderr.wait("member-join name=lb-3");
    drop(third);
    let output = finished(&["--gossip=off", "--name=lb-1"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(2) && said.contains("leaves nobody to name"), "{said}");
}

#[test]
fn a_stopping_agent_waits_for_what_is_in_flight_on_every_balancer() {
    let balancers = three(&[]);
    let port = free_port();
    let mut agent = app::agent("slow", &balancers[0].as_seed(), &["--drain-timeout=60s"], (port, 1500));
    wait_for_status(&balancers, "slow", "UP");
    let mut client = balancers[2].client();
    client.wire.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until("it is in flight", PATIENCE, || cell(address(&balancers[2]), "slow", "scur").as_deref() == Some("1"));
    agent.signal(Signal::TERM);
    for balancer in &balancers {
        wait_until("nothing new is sent", PATIENCE, || status(balancer, "slow") == "DRAIN");
    }
    assert_eq!(client.answer(false).unwrap().text(), "slow");
    agent.stderr.wait("drained in ");
    agent.wait();
}

#[test]
fn a_balancer_that_is_killed_does_not_hold_up_a_drain_for_longer_than_it_takes_to_notice() {
    let mut balancers = three(&[]);
    let origin = Origin::named("s1");
    let mut agent = Lb::start([
        "agent",
        &balancers[0].as_seed(),
        "--gossip=127.0.0.1:0",
        "--name=s1",
        "--drain-timeout=60s",
        &format!("--port={}", origin.address.port()),
    ]);
    wait_for_status(&balancers, "s1", "UP");
    balancers[1].lb.kill();
    agent.signal(Signal::TERM);
    let line = agent.stderr.wait("drained");
    assert!(line.contains("drained in "), "{line}");
    println!("{line}");
    assert!(agent.wait().0.success());
}

#[test]
fn a_server_that_one_balancer_finds_down_is_checked_by_the_others_at_once_and_judged_by_their_own_checks() {
    let broken = Arc::new(AtomicBool::new(false));
    let its = Arc::clone(&broken);
    let origin = Origin::answering(move |wire, request| {
        let head = request.head.start.starts_with("HEAD ");
        let sent = if its.load(Relaxed) {
            wire.send("HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n")
        } else if head {
            wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        } else {
            wire.send(ok("s1"))
        };
        Closed(sent.is_err())
    });
    let eager = balancer("127.0.0.1:0", &["--check-interval=100ms"]);
    // Left alone it would look again tomorrow.
    let lazy = balancer("127.0.0.1:0", &["--check-interval=24h", &eager.as_seed()]);
    let both = [eager, lazy];
    let _agent = beside("s1", &both[0].as_seed(), &origin, &[]);
    wait_for_status(&both, "s1", "UP");
    broken.store(true, Relaxed);
    wait_until("the one is sure", PATIENCE, || status(&both[0], "s1").starts_with("DOWN"));
    wait_until("the other has looked", PATIENCE, || status(&both[1], "s1") == "UP 2/3");
    assert_eq!(cell(address(&both[1]), "s1", "chkfail").unwrap(), "1", "once");
}
