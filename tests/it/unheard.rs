//! Whoever reads standard output or standard error goes away, and the work goes on.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Client, Origin, PATIENCE, wait_for};

/// A process of `lb`, killed when it is dropped.
struct Unheard(Child);

impl Unheard {
    fn start(args: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    /// Reads standard error up to a line with this part, and what follows the part; then closes it.
    fn last_words(&mut self, part: &str) -> String {
        let lines = BufReader::new(self.0.stderr.take().unwrap()).lines().map_while(Result::ok);
        lines.into_iter().find_map(|line| line.split_once(part).map(|(_, rest)| rest.to_owned())).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    #[track_caller]
    fn status(&mut self) -> Option<i32> {
        let (status, _) = wait_for("it has ended", PATIENCE, || self.0.try_wait().unwrap());
        status.code()
    }
}

impl Drop for Unheard {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

#[test]
fn a_balancer_serves_on_when_nobody_reads_its_messages_or_its_log_any_more() {
    let origin = Origin::named("s1");
    let server = origin.as_server("s1");
    let mut lb = Unheard::start(&["--listen=127.0.0.1:0", "--gossip=off", "--workers=1", "--check=off", &server]);
    let address: SocketAddr = lb.last_words("listening for traffic on ").parse().unwrap();
    drop(lb.0.stdout.take());
    for _ in 0..3 {
        // A message on standard error, and lines of the access log.
        lb.signal(Signal::HUP);
        for _ in 0..3 {
            assert_eq!(Client::connect(address).get("/").text(), "s1");
        }
    }
    lb.signal(Signal::TERM);
    assert_eq!(lb.status(), Some(0));
}

#[test]
fn an_agent_keeps_its_app_and_its_apps_status_when_nobody_reads_its_messages_any_more() {
    let args = ["agent", "--join=127.0.0.1:1", "--gossip=127.0.0.1:0", "--port=1", "--name=s1"];
    let app = "trap 'exit 5' TERM; echo here; while :; do sleep 0.05; done";
    let mut lb = Unheard::start(&[&args[..], &["--", "sh", "-c", app]].concat());
    lb.last_words("cluster member started");
    let mut here = [0; 5];
    lb.0.stdout.as_mut().unwrap().read_exact(&mut here).unwrap();
    lb.signal(Signal::TERM);
    assert_eq!(lb.status(), Some(5));
}

#[test]
fn what_is_printed_for_nobody_is_no_failure() {
    for args in [&["keygen"][..], &["--help"], &["--nonsense"]] {
        let mut lb = Unheard::start(args);
        drop((lb.0.stdout.take(), lb.0.stderr.take()));
        assert_eq!(lb.status(), Some(if args == ["--nonsense"] { 2 } else { 0 }), "{args:?}");
    }
}
