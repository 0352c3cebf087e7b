//! The executable.

use std::{
    ffi::OsStr,
    fs::{self, DirEntry},
    io::{BufRead, BufReader, Read, Write},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::NamedTempFile;

use super::{PATIENCE, wait_for, wait_until, wire::Client};

/// A process of `lb` that is killed when it is dropped.
pub(crate) struct Lb {
    child: Child,
    pub(crate) stdout: Lines,
    pub(crate) stderr: Lines,
}

/// What a process wrote so far.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<(Mutex<Vec<String>>, Condvar, Mutex<bool>)>);

impl Lines {
    fn follow(source: impl Read + Send + 'static) -> Self {
        let lines = Self::default();
        let ours = lines.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(source).lines().map_while(Result::ok) {
                ours.0.0.lock().unwrap().push(line);
                ours.0.1.notify_all();
            }
            let _order = ours.0.0.lock().unwrap();
            *ours.0.2.lock().unwrap() = true;
            ours.0.1.notify_all();
        });
        lines
    }

    /// All lines so far.
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.0.lock().unwrap().clone()
    }

    pub(crate) fn text(&self) -> String {
        self.all().join("\n")
    }

    /// Waits for the first line of which `find` makes something.
    #[track_caller]
    pub(crate) fn find<T>(&self, what: &str, find: impl Fn(&str) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.0.0.lock().unwrap();
        let mut seen = 0;
        loop {
            if let Some(found) = lines[seen..].iter().find_map(|line| find(line)) {
                return found;
            }
            seen = lines.len();
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || *self.0.2.lock().unwrap() {
                let text = lines.join("\n");
                // A lock that is held by a panic is of no more use to others.
                drop(lines);
                panic!("no line about {what} in\n{text}");
            }
            lines = self.0.1.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits for a line that contains `part`.
    #[track_caller]
    pub(crate) fn wait(&self, part: &str) -> String {
        self.find(part, |line| line.contains(part).then(|| line.to_owned()))
    }
}

fn command(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lb"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"LB_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// Runs `lb` to its end.
pub(crate) fn finished(args: &[&str]) -> Output {
    command(args).stdin(Stdio::null()).output().unwrap()
}

/// A configuration file, which goes when it is dropped.
pub(crate) fn config_file(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::with_suffix(".toml").unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

impl Lb {
    pub(crate) fn start(args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        Self::spawn(&mut command(args))
    }

    /// With an environment variable for the apps that it starts.
    pub(crate) fn start_with(args: impl IntoIterator<Item = impl AsRef<OsStr>>, env: (&str, &str)) -> Self {
        Self::spawn(command(args).env(env.0, env.1))
    }

    /// With so many file descriptors and no more.
    pub(crate) fn start_limited(descriptors: u32, args: &[&str]) -> Self {
        let lb = command(args);
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n $0 && exec \"$@\"", &descriptors.to_string()]).arg(lb.get_program());
        for (name, value) in lb.get_envs() {
            assert!(value.is_none());
            shell.env_remove(name);
        }
        Self::spawn(shell.args(lb.get_args()))
    }

    /// Processor time that it has used so far, in its own code and in the kernel.
    pub(crate) fn processor_time(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        // A hundredth of a second each, on every Linux.
        Duration::from_millis(ticks * 10)
    }

    /// Any program that ends with its standard input.
    pub(crate) fn spawn(command: &mut Command) -> Self {
        // Standard input stays open until this process drops it, which tells the apps below to end.
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = Lines::follow(child.stdout.take().unwrap());
        let stderr = Lines::follow(child.stderr.take().unwrap());
        Self { child, stdout, stderr }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Memory that holds the process's data, in bytes: what is resident without files, such as the program's own code.
    pub(crate) fn data_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }

    /// Halts all of its threads; [`Lb::signal`] with `CONT` lets them go on.
    #[track_caller]
    pub(crate) fn halt(&self) {
        self.signal(Signal::STOP);
        let halted = |task: DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap();
            // proc_pid_stat(5): the name in parentheses may have anything in it, and the state follows.
            stat.rsplit(") ").next().unwrap().starts_with('T')
        };
        let tasks = format!("/proc/{}/task", self.child.id());
        wait_until("all threads are halted", PATIENCE, || {
            fs::read_dir(&tasks).unwrap().all(|task| halted(task.unwrap()))
        });
    }

    /// Memory that it has now, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many files and sockets it has open.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits for the end; how long it took comes with the status.
    #[track_caller]
    pub(crate) fn wait(&mut self) -> (ExitStatus, Duration) {
        wait_for("the process ends", PATIENCE, || self.child.try_wait().unwrap())
    }
}

impl Drop for Lb {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _ended_before = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- stderr of a process\n{}", self.stderr.text());
        }
    }
}

/// A running balancer.
pub(crate) struct Balancer {
    pub(crate) lb: Lb,
    /// Where it takes traffic, in the order of its configuration.
    pub(crate) traffic: Vec<SocketAddr>,
    pub(crate) stats: Option<SocketAddr>,
    pub(crate) gossip: Option<SocketAddr>,
}

impl Balancer {
    /// On loopback, without a cluster and, unless asked for, without checks.
    pub(crate) fn alone(args: &[&str]) -> Self {
        let checks: &[&str] = if args.iter().any(|arg| arg.starts_with("--check")) { &[] } else { &["--check=off"] };
        Self::start(&[&["--listen=127.0.0.1:0", "--gossip=off"], checks, args].concat())
    }

    /// On loopback with a stats page and a cluster member.
    pub(crate) fn clustered(gossip: &str, args: &[&str]) -> Self {
        let gossip = format!("--gossip={gossip}");
        Self::start(&[&["--listen=127.0.0.1:0", "--stats=127.0.0.1:0", &gossip], args].concat())
    }

    pub(crate) fn start(args: &[&str]) -> Self {
        Self::begin(Lb::start(args))
    }

    /// Alone, with one worker and so many file descriptors.
    pub(crate) fn limited(descriptors: u32, args: &[&str]) -> Self {
        let alone = ["--listen=127.0.0.1:0", "--gossip=off", "--check=off", "--workers=1"];
        Self::begin(Lb::start_limited(descriptors, &[&alone, args].concat()))
    }

    fn begin(lb: Lb) -> Self {
        // The line about gossip is the last of them.
        lb.stderr.wait("gossip ");
        let lines = lb.stderr.all();
        let after = |line: &str, words: &str| {
            let rest = line.split_once(words)?.1;
            rest.split(['/', ' ']).next()?.parse().ok()
        };
        let find = |words: &str| lines.iter().filter_map(|line| after(line, words)).collect::<Vec<SocketAddr>>();
        let traffic = find("listening for traffic on ");
        let stats = find("stats page on http://").pop();
        let gossip = find("gossip on ").pop();
        Self { lb, traffic, stats, gossip }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.traffic[0])
    }

    /// Who answers a user with that cookie, and the cookie that he gets.
    pub(crate) fn visit(&self, cookie: &str) -> (String, Option<String>) {
        let line = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
        let response = self.client().try_get("/", &line).unwrap();
        let set = response.head.one("set-cookie").map(|set| set.split(';').next().unwrap().to_owned());
        (response.text(), set)
    }

    /// The value of a metric's series, by the beginning of its line.
    pub(crate) fn figure(&self, series: &str) -> Option<f64> {
        let text = self.stats_page("/metrics").text();
        text.lines().find_map(|line| line.strip_prefix(series)?.trim().parse().ok())
    }

    /// The address of the cluster member, as `--join` takes it.
    pub(crate) fn as_seed(&self) -> String {
        format!("--join={}", self.gossip.expect("no cluster"))
    }

    /// What a GET of the stats page's server answers.
    #[track_caller]
    pub(crate) fn stats_page(&self, path: &str) -> super::Response {
        Client::connect(self.stats.expect("no stats page")).get(path)
    }

    /// Waits for a line of the access log of which `wanted` is true.
    #[track_caller]
    pub(crate) fn logged(&self, what: &str, wanted: impl Fn(&serde_json::Value) -> bool) -> serde_json::Value {
        self.lb.stdout.find(what, |line| serde_json::from_str(line).ok().filter(&wanted))
    }

    /// The line about a path.
    #[track_caller]
    pub(crate) fn logged_path(&self, path: &str) -> serde_json::Value {
        self.logged(path, |line| line["path"] == path)
    }
}
