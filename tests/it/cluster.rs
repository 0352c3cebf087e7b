//! Webapps join by themselves, and balancers and webapps find each other in any order. One cluster in each test, on
//! loopback.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::support::{
    Balancer, Client, Lb, Origin, PATIENCE,
    app::{self, beside},
    finished, free_port, wait_until,
};

/// Every agent here has it.
const TAG: &[&str] = &["--tag=team=blue"];

fn names(client: &mut Client, count: usize) -> Vec<String> {
    (0..count).map(|_| client.get("/").text()).collect()
}

/// Waits until exactly these take turns; how long it took.
#[track_caller]
fn wait_for_turns(balancer: &Balancer, expected: &[&str]) -> Duration {
    let expected: BTreeSet<String> = expected.iter().map(|&name| name.to_owned()).collect();
    let mut client = balancer.client();
    wait_until(&format!("{expected:?} take turns"), PATIENCE, || {
        names(&mut client, expected.len()).into_iter().collect::<BTreeSet<_>>() == expected
    })
}

/// Asserts that the answers repeat themselves after `round`.
#[track_caller]
fn assert_strict_turns(balancer: &Balancer, round: usize) {
    let order = names(&mut balancer.client(), round * 5);
    assert!(order.chunks(round).all(|turn| turn == &order[..round]), "{order:?}");
}

#[test]
fn three_webapps_join_and_take_strict_turns_and_a_fourth_joins_them() {
    let balancer = Balancer::clustered("127.0.0.1:0", &[]);
    let origins = ["s1", "s2", "s3"].map(Origin::named);
    let begun = Instant::now();
    let _agents =
        ["s1", "s2", "s3"].iter().zip(&origins).map(|(name, app)| beside(name, &balancer.as_seed(), app, TAG));
    let _agents: Vec<Lb> = _agents.collect();
    wait_for_turns(&balancer, &["s1", "s2", "s3"]);
    println!("three webapps serve {:?} after their agents were started", begun.elapsed());
    assert_strict_turns(&balancer, 3);
    let fourth = Origin::named("s4");
    let _agent = beside("s4", &balancer.as_seed(), &fourth, TAG);
    let took = wait_for_turns(&balancer, &["s1", "s2", "s3", "s4"]);
    println!("a fourth serves {took:?} after its agent was started");
    assert_strict_turns(&balancer, 4);
}

#[test]
fn an_app_gets_traffic_within_a_second_of_its_first_answer_and_not_before() {
    let balancer = Balancer::clustered("127.0.0.1:0", &[]);
    let port = free_port();
    let mut sleeper = Lb::start([
        "agent",
        &balancer.as_seed(),
        "--gossip=127.0.0.1:0",
        "--name=late",
        &format!("--port={port}"),
        "--",
        "sleep",
        "1000",
    ]);
    // The member is known, and its app does not answer.
    wait_until("it has joined", PATIENCE, || balancer.stats_page("/members").text().contains("\"late\""));
    for _ in 0..20 {
        assert_eq!(balancer.client().get("/").status(), 503);
    }
    let listener = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let _app = std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || {
                let mut wire = crate::support::Wire::new(stream);
                while let Ok(Some(head)) = wire.head() {
                    let body = if head.start.starts_with("HEAD ") { "" } else { "late" };
                    let _gone = wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n{body}"));
                }
            });
        }
    });
    let took = wait_until("it serves", PATIENCE, || balancer.client().get("/").text() == "late");
    println!("an app serves {took:?} after it began to answer");
    // A second is the aim; a busy test machine gets another.
    assert!(took < Duration::from_secs(2), "{took:?}");
    sleeper.signal(Signal::TERM);
    assert_eq!(sleeper.wait().0.code(), Some(128 + 15), "the status is the app's");
}

#[test]
fn the_exit_status_of_the_app_is_the_agents() {
    let mut agent = Lb::start([
        "agent",
        "--join=127.0.0.1:1",
        "--gossip=127.0.0.1:0",
        "--port=1",
        "--name=s1",
        "--",
        "sh",
        "-c",
        "exit 42",
    ]);
    assert_eq!(agent.wait().0.code(), Some(42));
    let mut agent =
        Lb::start(["agent", "--join=127.0.0.1:1", "--gossip=127.0.0.1:0", "--port=1", "--name=s1", "--", "/no/such"]);
    assert_eq!(agent.wait().0.code(), Some(127));
    agent.stderr.wait("/no/such");
}

#[test]
fn when_an_app_and_its_agent_are_killed_no_request_fails() {
    let balancer = Balancer::clustered("127.0.0.1:0", &[]);
    let seed = balancer.as_seed();
    let ports = [free_port(), free_port(), free_port()];
    let mut agents: Vec<Lb> =
        ["s1", "s2", "s3"].iter().zip(ports).map(|(name, port)| app::agent(name, &seed, &[], (port, 0))).collect();
    wait_for_turns(&balancer, &["s1", "s2", "s3"]);
    // The agent is killed by SIGKILL, and its app notices that and exits in the middle of whatever it does.
    drop(agents.pop());
    wait_until("the app is dead", PATIENCE, || std::net::TcpStream::connect(("127.0.0.1", ports[2])).is_err());
    let mut client = balancer.client();
    let begun = Instant::now();
    for number in 0..500 {
        let response = client.get("/");
        assert_eq!(response.status(), 200, "request {number}, {:?} after the kill", begun.elapsed());
    }
    println!("500 requests after the kill took {:?}", begun.elapsed());
    let took = wait_until("it is failed for the cluster", PATIENCE, || {
        let members: serde_json::Value = serde_json::from_slice(&balancer.stats_page("/members").body).unwrap();
        members.as_array().unwrap().iter().any(|member| member["name"] == "s3" && member["status"] == "failed")
    });
    println!("the cluster knew {:?} after the kill", begun.elapsed().max(took));
    assert_strict_turns(&balancer, 2);
}

#[test]
fn a_balancer_finds_the_agents_that_were_there_before_it_and_again_after_a_restart() {
    let port = free_port();
    let seed = format!("--join=127.0.0.1:{port}");
    let origins = ["s1", "s2"].map(Origin::named);
    let _agents = [beside("s1", &seed, &origins[0], TAG), beside("s2", &seed, &origins[1], TAG)];
    for agent in &_agents {
        // They run and have nobody to talk to.
        agent.stderr.wait("");
    }
    for attempt in ["started after its agents", "restarted"] {
        let begun = Instant::now();
        let mut balancer = Balancer::clustered(&format!("127.0.0.1:{port}"), &[]);
        wait_for_turns(&balancer, &["s1", "s2"]);
        let took = begun.elapsed();
        println!("a balancer that was {attempt} serves after {took:?}");
        assert!(took < Duration::from_secs(5), "{attempt}: {took:?}");
        balancer.lb.signal(Signal::TERM);
        assert!(balancer.lb.wait().0.success());
    }
}

#[test]
fn a_balancer_that_was_killed_is_found_again() {
    let origin = Origin::named("s1");
    let mut balancer = Balancer::clustered("127.0.0.1:0", &[]);
    let gossip = balancer.gossip.unwrap().to_string();
    let _agent = beside("s1", &balancer.as_seed(), &origin, TAG);
    wait_for_turns(&balancer, &["s1"]);
    balancer.lb.kill();
    let begun = Instant::now();
    let balancer = Balancer::clustered(&gossip, &[]);
    wait_for_turns(&balancer, &["s1"]);
    println!("a balancer that was killed serves {:?} after its restart", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[test]
fn members_are_listed_as_text_and_json() {
    let balancer = Balancer::clustered("127.0.0.1:0", &[]);
    let origin = Origin::named("s1");
    let agent = beside("s1", &balancer.as_seed(), &origin, TAG);
    wait_for_turns(&balancer, &["s1"]);
    let stats = format!("--stats={}", balancer.stats.unwrap());
    let list = |format: &str| {
        let output = finished(&["members", &stats, "--format", format]);
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = list("text");
    let line = text.lines().find(|line| line.starts_with("s1 ")).unwrap_or_else(|| panic!("{text}"));
    for part in ["127.0.0.1:", " alive ", "role=node", "team=blue", "service=nodes", "state=ready"] {
        assert!(line.contains(part), "{part} is missing in {line}");
    }
    assert!(text.contains("role=balancer"), "{text}");
    let json: serde_json::Value = serde_json::from_str(&list("json")).unwrap();
    let member = json.as_array().unwrap().iter().find(|member| member["name"] == "s1").unwrap();
    assert_eq!((&member["status"], &member["role"]), (&"alive".into(), &"node".into()));
    assert_eq!(member["tags"]["port"], origin.address.port().to_string());
    // One that leaves says so.
    agent.signal(Signal::TERM);
    wait_until("it has left", PATIENCE, || {
        !list("text").lines().any(|line| line.starts_with("s1 ") && line.contains(" alive "))
    });
}

#[test]
fn without_a_balancer_members_say_what_to_do() {
    let output = finished(&["members", &format!("--stats=127.0.0.1:{}", free_port())]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("no balancer's stats page answers at 127.0.0.1:") && said.lines().count() == 1, "{said}");
}

#[test]
fn a_name_that_does_not_exist_is_told_in_one_line_and_tried_again() {
    let origin = Origin::named("s1");
    let mut agent = beside("s1", "--join=no-such-host.invalid", &origin, TAG);
    let line = agent.stderr.wait("no-such-host.invalid");
    assert!(line.contains("WARN") && line.contains("will keep trying"), "{line}");
    let told = agent.stderr.all().iter().filter(|line| line.contains("no-such-host.invalid")).count();
    assert_eq!((told, agent.has_ended()), (1, false));
}
