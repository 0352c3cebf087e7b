//! A webapp in a process of its own, for tests in which it has to die: this binary, started once more for one "test".

use std::{
    io::Read,
    net::{Ipv4Addr, TcpListener},
    time::Duration,
};

use super::{Closed, Lb, Origin, Wire, ok};

/// Tells the process that it is an app: its port, its name and the milliseconds that an answer takes.
pub(crate) const APP: &str = "TEST_APP";

/// The command line of an app; with [`APP`] in the environment.
pub(crate) fn command() -> Vec<String> {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    [
        &program,
        "--ignored",
        "--exact",
        "support::app::an_app_runs_when_it_is_asked_for",
        "--nocapture",
        "--test-threads=1",
    ]
    .map(str::to_owned)
    .to_vec()
}

/// An agent beside an app that runs already.
pub(crate) fn beside(name: &str, seed: &str, app: &Origin, args: &[&str]) -> Lb {
    let port = format!("--port={}", app.address.port());
    let gossip: &[&str] =
        if args.iter().any(|arg| arg.starts_with("--gossip=")) { &[] } else { &["--gossip=127.0.0.1:0"] };
    Lb::start([&["agent", seed, "--name", name, &port], gossip, args].concat())
}

/// An agent with its app. The app dies at once of SIGTERM, with whatever is in flight.
pub(crate) fn agent(name: &str, seed: &str, args: &[&str], (port, delay): (u16, u64)) -> Lb {
    agent_with_command(name, seed, args, (port, delay), &command())
}

/// An agent with a command that starts the app.
pub(crate) fn agent_with_command(
    name: &str,
    seed: &str,
    args: &[&str],
    (port, delay): (u16, u64),
    command: &[String],
) -> Lb {
    let mut all: Vec<String> = ["agent", seed, "--gossip=127.0.0.1:0", "--name", name].map(str::to_owned).to_vec();
    all.push(format!("--port={port}"));
    all.extend(args.iter().map(|&arg| arg.to_owned()));
    all.push("--".to_owned());
    all.extend_from_slice(command);
    Lb::start_with(all, (APP, &format!("{port} {name} {delay}")))
}

#[test]
#[ignore = "a process of other tests, which start it"]
fn an_app_runs_when_it_is_asked_for() {
    let Ok(asked) = std::env::var(APP) else { return };
    let mut words = asked.split(' ');
    let mut word = || words.next().unwrap().to_owned();
    let (port, name, delay): (u16, _, _) = (word().parse().unwrap(), word(), word().parse().unwrap());
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let name = name.clone();
            std::thread::spawn(move || answer(&mut Wire::new(stream), &name, Duration::from_millis(delay)));
        }
    });
    // The test above holds the other end; it may be killed at any time, and so may the agent between.
    let _closed = std::io::stdin().read(&mut [0]);
    std::process::exit(0);
}

fn answer(wire: &mut Wire, name: &str, delay: Duration) -> Closed {
    while let Ok(Some(head)) = wire.head() {
        if head.start.starts_with("HEAD ") {
            let _gone = wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
            continue;
        }
        // The app's work: part of its answer is there at once, the rest later.
        let whole = ok(name);
        let (first, rest) = whole.split_at(whole.len() - 1);
        if wire.send(first).is_err() {
            break;
        }
        std::thread::sleep(delay);
        if wire.send(rest).is_err() {
            break;
        }
    }
    Closed(true)
}
