//! The example of the public API, in a process of its own: this binary, started once more for one "test".

use std::{
    net::{Ipv4Addr, SocketAddr},
    process::Command,
};

use rustix::process::Signal;

use super::{wait_for_answer, wait_for_tag};
use crate::{
    leaving::Load,
    support::{Balancer, Client, Lb, app, free_port},
};

#[path = "../../examples/webapp.rs"]
mod webapp;

/// Tells the process that it is the example.
const EXAMPLE: &str = "TEST_EXAMPLE";

#[test]
#[ignore = "a process of the tests below, which start it"]
fn the_example_runs_when_it_is_asked_for() {
    if std::env::var_os(EXAMPLE).is_some() {
        webapp::main().unwrap();
        std::process::exit(0);
    }
}

fn example(name: &str, balancer: &Balancer, port: u16) -> Lb {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "agents::api::the_example_runs_when_it_is_asked_for", "--nocapture"])
        .env(EXAMPLE, "1")
        .env("LB_NAME", name)
        .env("LB_PORT", port.to_string())
        .env("LB_JOIN", balancer.gossip.unwrap().to_string())
        .env("LB_GOSSIP", "127.0.0.1:0");
    Lb::spawn(&mut command)
}

#[test]
fn a_webapp_that_joins_by_itself_changes_its_weight_drains_and_leaves_without_losing_a_request() {
    let balancer = Balancer::clustered("127.0.0.1:0", &["--log-format=off"]);
    let _stays = app::agent("stays", &balancer.as_seed(), &[], (free_port(), 5));
    let mut client = balancer.client();
    wait_for_answer(&mut client, "stays");
    let load = Load::start(balancer.traffic[0]);
    for _ in 0..3 {
        let port = free_port();
        let mut webapp = example("by-itself", &balancer, port);
        wait_for_answer(&mut client, "by-itself");
        load.more(50);
        let mut direct = Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let told = direct.ask("PUT /weight HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n20").unwrap();
        assert_eq!((told.status(), told.text().as_str()), (200, "told to the balancers\n"));
        wait_for_tag(&balancer, "by-itself", "weight", "20");
        let refused = direct.ask("PUT /weight HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n257").unwrap();
        assert_eq!(refused.status(), 400);
        load.more(50);
        webapp.signal(Signal::TERM);
        let (status, took) = webapp.wait();
        println!("left in {took:?}");
        assert!(status.success(), "{status}");
        webapp.stderr.wait("drained in");
        load.more(50);
    }
    let failures = load.end();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}
