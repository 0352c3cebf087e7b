//! What the app finds when it starts, and what of it reaches the outside.

use std::{
    fs,
    io::Write,
    process::{Command, Output, Stdio},
};

use rustix::process::Signal;

use crate::support::{Lb, PATIENCE, wait_until};

const AGENT: [&str; 7] =
    [env!("CARGO_BIN_EXE_lb"), "agent", "--join=127.0.0.1:1", "--gossip=127.0.0.1:0", "--port=1", "--name=s1", "--"];

/// An agent with this app, from its start to its end; `through` runs it.
fn run(through: &[&str], app: &[&str]) -> Output {
    let words = [through, &AGENT, app].concat();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).env_clear().env("PATH", std::env::var_os("PATH").unwrap()).env("APP_SETTING", "a  b");
    command.stdin(Stdio::null()).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_app_gets_the_environment_and_the_standard_files_and_nothing_else() {
    let output = run(&["env"], &["env"]);
    let lines: Vec<_> = stdout(&output).lines().map(str::to_owned).collect();
    assert_eq!(lines.iter().filter(|line| !line.starts_with("PATH=")).collect::<Vec<_>>(), ["APP_SETTING=a  b"]);
    // Whoever runs the test may have left some open, which are not the agent's to close.
    let without = Command::new("ls").arg("/proc/self/fd").stdin(Stdio::null()).output().unwrap();
    assert_eq!(stdout(&run(&["env"], &["ls", "/proc/self/fd"])), stdout(&without));
}

/// A shell script that starts an agent in the background has SIGINT and SIGQUIT ignored for it, nohup has SIGHUP.
#[test]
fn no_signal_that_the_agent_takes_is_ignored_or_blocked_in_the_app() {
    let ignoring = ["sh", "-c", r#"trap '' HUP INT QUIT TERM USR1 USR2 PIPE; exec "$@""#, "sh"];
    let output = run(&ignoring, &["grep", "^Sig[BI]", "/proc/self/status"]);
    let text = stdout(&output);
    assert_eq!(text.lines().count(), 2, "{text}");
    for line in text.lines() {
        let mask = u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap();
        // Those above 31 are real-time signals, of which the C library keeps some for itself.
        assert_eq!(mask & 0x7fff_ffff, 0, "{text}");
    }
}

#[test]
fn what_the_app_writes_passes_byte_for_byte_and_the_agents_own_lines_can_be_told_apart() {
    let bytes: Vec<u8> = (0..=255).chain("\r\n\n\0 no end".bytes()).collect();
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&bytes).unwrap();
    let path = file.path().to_str().unwrap();
    let output = run(&["env"], &["sh", "-c", r#"cat "$0"; printf 'one\ntwo\n' >&2; exit 4"#, path]);
    assert_eq!(output.status.code(), Some(4));
    assert_eq!(output.stdout, bytes);
    let stderr = String::from_utf8(output.stderr).unwrap();
    let (ours, its): (Vec<_>, Vec<_>) = stderr.lines().partition(|line| line.starts_with("lb agent: "));
    assert_eq!(its, ["one", "two"]);
    assert!(ours.len() > 2, "{ours:?}");
}

/// `LB_TRACE=error` leaves nothing of the agent's but what is wrong.
#[test]
fn the_agent_can_be_told_to_be_quiet() {
    let output = run(&["env", "LB_TRACE=error"], &["sh", "-c", "echo app >&2"]);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "app\n");
}

#[test]
fn each_signal_reaches_the_app_as_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let heard = folder.path().join("heard");
    let script = r#"for name in HUP QUIT USR1 USR2 WINCH TERM; do trap "echo $name >>'$0'" $name; done
        echo ready >>"$0"; while ! grep -q TERM "$0"; do sleep 0.02; done; exit 5"#;
    let app = ["sh", "-c", script, heard.to_str().unwrap()];
    let mut agent = Lb::start([&AGENT[1..], &app].concat());
    let has_heard = |word: &str| fs::read_to_string(&heard).is_ok_and(|text| text.lines().any(|line| line == word));
    wait_until("it is ready", PATIENCE, || has_heard("ready"));
    for (signal, name) in [
        (Signal::HUP, "HUP"),
        (Signal::QUIT, "QUIT"),
        (Signal::USR1, "USR1"),
        (Signal::USR2, "USR2"),
        (Signal::WINCH, "WINCH"),
        // Nobody sends anything here, so it is the app's at once.
        (Signal::TERM, "TERM"),
    ] {
        agent.signal(signal);
        wait_until(&format!("it heard {name}"), PATIENCE, || has_heard(name));
    }
    assert_eq!(agent.wait().0.code(), Some(5));
}

/// The app's grandchildren lose their parents and die; a zombie of them would stay in the process table.
#[test]
fn orphans_are_reaped_while_the_app_runs() {
    let script = r#"for i in $(seq 100); do (sh -c 'echo $$ >>"$0"; exec sleep 0.01' "$0" & ) ; done
        while [ "$(wc -l <"$0")" -lt 100 ]; do sleep 0.02; done
        for pid in $(cat "$0"); do while [ -e /proc/$pid ]; do sleep 0.02; done; done; exit 6"#;
    let file = tempfile::NamedTempFile::new().unwrap();
    let output = run(&["timeout", "--signal=KILL", "60"], &["sh", "-c", script, file.path().to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(6), "{output:?}");
}
