//! `lb agent` and the public API as whoever runs them meets them: real processes that crash, hang and are stopped.

mod api;
mod crash;
mod drain;
mod process;
mod readiness;

use std::time::Duration;

use crate::support::{Balancer, Client, Lb, PATIENCE, wait_until};

/// What `lb members` says of a node under a tag, such as `state`.
fn tag(balancer: &Balancer, name: &str, tag: &str) -> Option<String> {
    let members: serde_json::Value = serde_json::from_slice(&balancer.stats_page("/members").body).unwrap();
    let members = members.as_array().unwrap();
    let member = members.iter().find(|member| member["name"] == name && member["status"] != "left")?;
    Some(member["tags"][tag].as_str()?.to_owned())
}

fn wait_for_tag(balancer: &Balancer, name: &str, key: &str, wanted: &str) -> Duration {
    wait_until(&format!("{key} of {name} is {wanted}"), PATIENCE, || {
        tag(balancer, name, key).is_some_and(|value| value == wanted)
    })
}

/// Waits until a request is answered by that server.
fn wait_for_answer(client: &mut Client, name: &str) -> Duration {
    wait_until(&format!("{name} serves"), PATIENCE, || client.get("/").text() == name)
}

/// The process that the agent has started last.
fn app_of(agent: &Lb) -> rustix::process::Pid {
    agent.stderr.wait("started the application as process ");
    let lines = agent.stderr.all();
    let last = lines.iter().rev().find_map(|line| line.split_once("started the application as process "));
    rustix::process::Pid::from_raw(last.unwrap().1.parse().unwrap()).unwrap()
}
