//! The app dies under its agent.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Instant,
};

use rustix::process::{Signal, kill_process};

use super::{app_of, wait_for_answer, wait_for_tag};
use crate::support::{Balancer, Closed, Lb, Origin, PATIENCE, app, free_port, ok, wait_until};

/// The port still answers when the app is dead, so only the agent can tell.
#[test]
fn an_app_that_is_killed_gets_no_more_requests_because_its_agent_says_so_at_once() {
    let balancer = Balancer::clustered("127.0.0.1:0", &["--log-format=off"]);
    let last = Arc::new(Mutex::new(Instant::now()));
    let heard = Arc::clone(&last);
    let origin = Origin::answering(move |wire, request| {
        if request.head.start.starts_with("HEAD ") {
            return Closed(wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err());
        }
        *heard.lock().unwrap() = Instant::now();
        Closed(wire.send(ok("s1")).is_err())
    });
    let port = format!("--port={}", origin.address.port());
    let mut agent =
        Lb::start(["agent", &balancer.as_seed(), "--gossip=127.0.0.1:0", "--name=s1", &port, "--", "sleep", "1000"]);
    let mut client = balancer.client();
    wait_for_answer(&mut client, "s1");
    let stop = Arc::new(AtomicBool::new(false));
    let load: Vec<_> = (0..4)
        .map(|_| {
            let (stop, mut client) = (Arc::clone(&stop), balancer.client());
            std::thread::spawn(move || {
                while !stop.load(SeqCst) {
                    client.get("/");
                }
            })
        })
        .collect();
    let killed = Instant::now();
    kill_process(app_of(&agent), Signal::KILL).unwrap();
    let withdrawn = wait_until("nothing is sent there", PATIENCE, || client.get("/").status() == 503);
    stop.store(true, SeqCst);
    load.into_iter().for_each(|client| client.join().unwrap());
    let last = last.lock().unwrap().saturating_duration_since(killed);
    println!("the last request came {last:?} after the kill, the first 503 {withdrawn:?} after it");
    assert_eq!(agent.wait().0.code(), Some(128 + 9), "the status is the app's");
}

#[test]
fn an_app_that_crashes_is_started_again_and_joins_again() {
    let balancer = Balancer::clustered("127.0.0.1:0", &["--log-format=off"]);
    let agent = app::agent("s1", &balancer.as_seed(), &["--restart=always"], (free_port(), 0));
    let mut client = balancer.client();
    for restart in 1..=2 {
        wait_for_answer(&mut client, "s1");
        kill_process(app_of(&agent), Signal::KILL).unwrap();
        let line = agent.stderr.wait(&format!("restart {restart} in "));
        assert!(line.starts_with("lb agent: ") && line.contains("signal: 9 (SIGKILL)"), "{line}");
        // Else the next round might kill the app that is dead already.
        wait_until("another one runs", PATIENCE, || {
            let lines = agent.stderr.all();
            lines.iter().filter(|line| line.contains("started the application as process ")).count() > restart
        });
    }
    wait_for_answer(&mut client, "s1");
}

#[test]
fn an_app_that_never_gets_ready_is_started_again_with_growing_pauses_and_one_line_for_each() {
    let agent = Lb::start([
        "agent",
        "--join=127.0.0.1:1",
        "--gossip=127.0.0.1:0",
        "--port=1",
        "--name=s1",
        "--restart=on-failure",
        "--",
        "sh",
        "-c",
        "exit 3",
    ]);
    for (restart, pause) in [(1, "0.1"), (2, "0.2"), (3, "0.4")] {
        let line = agent.stderr.wait(&format!("restart {restart} in {pause} s"));
        assert!(line.contains("exit status: 3"), "{line}");
    }
    let lines = agent.stderr.all();
    for (line, restart) in lines.iter().filter(|line| line.contains("exit status: 3")).zip(1..) {
        assert!(line.contains(&format!("restart {restart} in ")), "one line for each restart: {lines:?}");
    }
}

#[test]
fn a_status_of_zero_is_no_failure_and_ends_the_agent() {
    let mut agent = Lb::start([
        "agent",
        "--join=127.0.0.1:1",
        "--gossip=127.0.0.1:0",
        "--port=1",
        "--name=s1",
        "--restart=on-failure",
        "--",
        "true",
    ]);
    assert_eq!(agent.wait().0.code(), Some(0));
}

/// Outside of a container nothing ends with the agent. Its app goes on and keeps its traffic, and a new agent beside it
/// drains it when it is asked to.
#[test]
fn an_app_whose_agent_is_killed_keeps_its_requests_and_can_be_given_another_agent() {
    let balancer = Balancer::clustered("127.0.0.1:0", &["--log-format=off"]);
    let port = free_port();
    // The app reads its standard input to know when to end, so it gets one that stays.
    let program: Vec<String> = app::command().iter().map(|word| format!("'{word}'")).collect();
    let script = format!("sleep 60 | exec {}", program.join(" "));
    let command = ["sh".to_owned(), "-c".to_owned(), script];
    let mut first = app::agent_with_command("s1", &balancer.as_seed(), &[], (port, 0), &command);
    let mut client = balancer.client();
    wait_for_answer(&mut client, "s1");
    let group = app_of(&first);
    first.kill();
    wait_until("its agent is declared failed", PATIENCE, || {
        assert_eq!(client.get("/").status(), 200);
        balancer.lb.stderr.text().contains("member-failed")
    });
    assert_eq!(client.get("/").status(), 200);
    let port = format!("--port={port}");
    let mut second = Lb::start(["agent", &balancer.as_seed(), "--gossip=127.0.0.1:0", "--name=again", &port]);
    wait_for_tag(&balancer, "again", "state", "ready");
    second.signal(Signal::TERM);
    assert_eq!(second.wait().0.code(), Some(0));
    wait_until("nothing is sent there", PATIENCE, || client.get("/").status() == 503);
    rustix::process::kill_process_group(group, Signal::KILL).unwrap();
}
