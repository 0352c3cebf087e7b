//! Scripts that are told of members, and the cluster's numbers.

use std::{fs, path::Path};

use rustix::process::Signal;

use crate::support::{Balancer, Lb, Origin, PATIENCE, app::beside, config_file, finished, free_port, wait_until};

/// Writes the event and its members into a file.
fn script(folder: &Path) -> String {
    format!("printf '%s %s ' \"$SERF_EVENT\" \"$SERF_TAG_ROLE\" >>{0}/log; cut -f1,3 >>{0}/log", folder.display())
}

fn told(folder: &Path) -> Vec<String> {
    let text = fs::read_to_string(folder.join("log")).unwrap_or_default();
    text.lines().map(|line| line.replace('\t', " ")).collect()
}

#[test]
fn a_script_is_told_of_every_member_that_joins_changes_fails_and_leaves_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let handler = format!("--event-handler=*={}", script(folder.path()));
    let broken = "--event-handler=member-leave=echo no good; exit 3";
    let balancer = Balancer::clustered("127.0.0.1:0", &[&handler, broken]);
    let origin = Origin::named("s1");
    let mut agent = beside("s1", &balancer.as_seed(), &origin, &["--tag=role=backend"]);
    let has = |line: &str| told(folder.path()).iter().any(|told| told == line);
    wait_until("it has joined", PATIENCE, || has("member-join balancer s1 backend"));
    agent.signal(Signal::TERM);
    agent.wait();
    wait_until("it has left", PATIENCE, || has("member-leave balancer s1 backend"));
    let events = told(folder.path());
    assert!(events[0].starts_with("member-join balancer "), "the balancer itself: {events:?}");
    let of_s1: Vec<_> =
        events.iter().filter(|line| line.contains(" s1 ")).map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!((of_s1.first(), of_s1.last()), (Some(&"member-join"), Some(&"member-leave")));
    assert!(of_s1.contains(&"member-update"), "it was drained: {of_s1:?}");
    let line = balancer.lb.stderr.wait("failed (exit status: 3)");
    assert!(
        line.contains("WARN") && line.contains("member-leave of s1") && line.contains("it said: no good"),
        "{line}"
    );

    let mut killed = beside("s2", &balancer.as_seed(), &origin, &[]);
    wait_until("another one has joined", PATIENCE, || has("member-join balancer s2 node"));
    killed.kill();
    wait_until("it has failed", PATIENCE, || has("member-failed balancer s2 node"));
    assert_eq!(balancer.figure("lb_event_handler_failures_total"), Some(1.0));
    assert_eq!(balancer.figure("lb_event_handler_dropped_total"), Some(0.0));
    assert!(balancer.figure("lb_event_handler_runs_total").unwrap() >= 6.0);
}

#[test]
fn an_agent_runs_scripts_and_learns_how_they_end_although_it_reaps_everybody() {
    let balancer = Balancer::clustered("127.0.0.1:0", &[]);
    let agent = Lb::start([
        "agent",
        &balancer.as_seed(),
        "--gossip=127.0.0.1:0",
        "--name=s1",
        "--port=1",
        "--event-handler=member-join=test $SERF_TAG_ROLE = node && cat && exit 7",
        "--",
        "sleep",
        "1000",
    ]);
    let line = agent.stderr.find("the balancer", |line| {
        (line.contains("failed (exit status: 7)") && line.contains("role=balancer")).then(|| line.to_owned())
    });
    assert!(line.contains(&balancer.gossip.unwrap().ip().to_string()), "{line}");
}

/// A handler that writes the number of something that it started and waits for, for so many seconds.
fn slow(folder: &Path, seconds: &str) -> String {
    let folder = folder.display();
    format!("--event-handler=member-join=sleep {seconds} & echo $! >{folder}/pid && wait && echo >{folder}/done")
}

fn process(folder: &Path) -> Option<u32> {
    fs::read_to_string(folder.join("pid")).ok()?.trim().parse().ok()
}

/// A zombie may stay for as long as nobody reaps it.
fn lives(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z") && !stat.contains(") X"))
}

fn clustered(args: &[&str]) -> Lb {
    Lb::start([&["--listen=127.0.0.1:0", "--gossip=127.0.0.1:0"], args].concat())
}

fn agent(args: &[&str]) -> Lb {
    let agent = ["agent", "--join=127.0.0.1:1", "--gossip=127.0.0.1:0", "--port=1", "--name=s1"];
    Lb::start([&agent[..], args, &["--", "sleep", "1000"]].concat())
}

#[test]
fn what_a_handler_has_begun_when_lb_stops_is_waited_for_and_killed_as_a_whole_after_a_while() {
    for start in [clustered, agent] {
        let (quick, endless) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut lb = start(&[&slow(quick.path(), "0.5"), &slow(endless.path(), "600")]);
        wait_until("both run", PATIENCE, || process(quick.path()).is_some() && process(endless.path()).is_some());
        lb.signal(Signal::TERM);
        lb.wait();
        assert!(quick.path().join("done").exists() && !endless.path().join("done").exists());
        let killed = process(endless.path()).unwrap();
        wait_until("what it started is gone, too", PATIENCE, || !lives(killed));
        let line = lb.stderr.wait("is killed with what it started");
        assert!(line.contains("WARN event handler 'sleep 600 "), "{line}");
    }
}

#[test]
fn handlers_stand_in_the_file_and_a_wrong_one_is_told_with_its_line() {
    let folder = tempfile::tempdir().unwrap();
    let handler = script(folder.path()).replace('"', "\\\"");
    let file = config_file(&format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[gossip]\nbind = \"127.0.0.1:0\"\nevent-handler = [\"member-join={handler}\"]\n"
    ));
    let _balancer = Balancer::start(&["-c", file.path().to_str().unwrap()]);
    wait_until("it has joined itself", PATIENCE, || told(folder.path()).len() == 1);
    let file = config_file("[gossip]\nevent-handler = [\n\"member-gone=/bin/true\",\n\"member-join=\"]\n");
    let output = finished(&["check", "-c", file.path().to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap() + &String::from_utf8(output.stdout).unwrap();
    assert!(said.contains(":3: event-handler: \"member-gone\" is no event"), "{said}");
    assert!(said.contains(":4: event-handler: \"member-join=\" has no command"), "{said}");
}

#[test]
fn the_cluster_tells_its_numbers() {
    let first = Balancer::clustered("127.0.0.1:0", &[]);
    let second = Balancer::clustered("127.0.0.1:0", &[&first.as_seed()]);
    let origin = Origin::named("s1");
    let _agent = beside("s1", &first.as_seed(), &origin, &[]);
    let alive = |role: &str| first.figure(&format!("lb_cluster_members{{role=\"{role}\",state=\"alive\"}}"));
    wait_until("all are there", PATIENCE, || (alive("balancer"), alive("node")) == (Some(2.0), Some(1.0)));
    wait_until("records are there", PATIENCE, || first.figure("lb_cluster_records") == Some(2.0));
    wait_until("all have acknowledged", PATIENCE, || first.figure("lb_cluster_unacknowledged_seconds") == Some(0.0));
    assert!(first.figure("lb_cluster_oldest_record_seconds").unwrap() < 60.0);
    for direction in ["sent", "received"] {
        let of = |kind: &str| format!("lb_cluster_datagrams_total{{direction=\"{direction}\",kind=\"{kind}\"}}");
        assert!(first.figure(&of("swim")).unwrap() > 0.0);
        assert!(first.figure(&format!("lb_cluster_bytes_total{{direction=\"{direction}\"}}")).unwrap() > 0.0);
        assert_eq!(first.figure(&format!("lb_cluster_socket_errors_total{{direction=\"{direction}\"}}")), Some(0.0));
    }
    for name in ["probe_failures", "suspicions", "refuted_suspicions", "lost_events"] {
        assert!(first.figure(&format!("lb_cluster_{name}_total")).is_some(), "{name}");
    }
    assert!(second.figure("lb_cluster_convergence_seconds_count").unwrap() >= 1.0);
    assert!(second.figure("lb_cluster_convergence_seconds_bucket{le=\"+Inf\"}").unwrap() >= 1.0);
    // Junk is counted and does no harm.
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(&[99; 20], first.gossip.unwrap()).unwrap();
    wait_until("it is counted", PATIENCE, || {
        first.figure("lb_cluster_dropped_datagrams_total{reason=\"version\"}") == Some(1.0)
    });
}

#[test]
fn an_agent_is_told_once_that_another_one_is_gone_however_it_went() {
    let folder = tempfile::tempdir().unwrap();
    let handler = format!("--event-handler={}", script(folder.path()));
    let balancer = Balancer::clustered("127.0.0.1:0", &[]);
    let origin = Origin::named("s1");
    let _watching = beside("s1", &balancer.as_seed(), &origin, &[&handler]);
    let other = format!("127.0.0.1:{}", free_port());
    // Its name is its address, since agents get no records of others.
    let of_other = || {
        let told = told(folder.path()).into_iter().filter(|line| line.contains(&other));
        told.map(|line| line.split(' ').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let (port, gossip) = (format!("--port={}", origin.address.port()), format!("--gossip={other}"));
    let start = || Lb::start(["agent", &balancer.as_seed(), &gossip, "--name=s2", &port]);
    let mut first = start();
    wait_until("it has joined", PATIENCE, || of_other() == ["member-join"]);
    first.signal(Signal::TERM);
    first.wait();
    wait_until("it is gone", PATIENCE, || of_other() == ["member-join", "member-failed"]);
    let _second = start();
    wait_until("another one is there", PATIENCE, || of_other().len() > 2);
    assert_eq!(of_other(), ["member-join", "member-failed", "member-join"]);
}
