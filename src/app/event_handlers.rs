//! Runs commands when something happens to members, as Serf's agent does.
//!
//! `sh -c COMMAND` gets the event in its environment and the member on its standard input. Each event is a process of its
//! own: Serf waits up to three seconds for more events of a kind, which is how late its scripts are. A handler has one
//! process at a time, so that its events keep their order; a slow one makes its own queue longer and delays nobody else.

use std::{
    fmt::Write as _,
    io,
    pin::pin,
    process::{ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use futures_util::future::{Either, join_all, select};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    sync::mpsc,
};

use crate::{
    agent::Expected,
    cluster::{self, Event, Subject},
    config::{CLUSTER_KEY_VARIABLE, EventHandler},
};

/// Events that wait for one handler at most; a member that flaps must not fill the memory.
const QUEUE: usize = 256;
/// Longest run of a handler.
const LIMIT: Duration = Duration::from_secs(30);
/// What a handler says is kept up to here, in bytes.
const MOST_OUTPUT: usize = 8 * 1024;
/// How long what a handler left behind may hold its output open.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// How long runs that have begun when the process stops in good order may take from then on.
pub(super) const LAST_RUN: Duration = Duration::from_secs(2);

/// How the handlers have fared since the start.
#[derive(Debug, Default)]
pub(super) struct HandlerCounters {
    /// Runs that have begun.
    pub(super) runs: AtomicU64,
    /// Runs that ended with another status than 0, could not begin, or took too long.
    pub(super) failures: AtomicU64,
    /// Events that a handler was too slow for.
    pub(super) dropped: AtomicU64,
}

/// Hands the member's events to the handlers until the member has ended.
pub(super) async fn run(member: cluster::Member, handlers: Vec<EventHandler>, counters: Arc<HandlerCounters>) {
    // A member that has ended before has nothing to tell.
    let Ok(mut events) = member.watch().await else { return };
    let (queues, runners): (Vec<_>, Vec<_>) = handlers
        .into_iter()
        .map(|handler| {
            let (queue, waiting) = mpsc::channel(QUEUE);
            ((handler.clone(), queue), follow(handler, waiting, Arc::clone(&counters)))
        })
        .unzip();
    let hand_out = async move {
        while let Some(event) = events.recv().await {
            for (handler, queue) in queues.iter().filter(|(handler, _)| handler.events.contains(&event.kind)) {
                if queue.try_send(event.clone()).is_err() {
                    counters.dropped.fetch_add(1, Relaxed);
                    tracing::warn!(
                        "event handler '{}': {} of {} is dropped, {QUEUE} others wait for it already",
                        handler.command,
                        event.kind.word(),
                        event.member.name
                    );
                }
            }
        }
    };
    tokio::join!(hand_out, join_all(runners));
}

/// One handler: one process after the other.
async fn follow(handler: EventHandler, mut waiting: mpsc::Receiver<Event>, counters: Arc<HandlerCounters>) {
    while let Some(event) = waiting.recv().await {
        counters.runs.fetch_add(1, Relaxed);
        let (what, whom) = (event.kind.word(), &event.member.name);
        let outcome = handle(&handler.command, &event, LIMIT).await;
        match &outcome {
            Ok(Run { end: End::Exited(status), output }) if status.success() => {
                tracing::debug!("event handler '{}' for {what} of {whom}: {output}", handler.command);
                continue;
            }
            Ok(Run { end, output }) => {
                let said = if output.is_empty() { "nothing" } else { output };
                tracing::warn!("event handler '{}' for {what} of {whom} {end}; it said: {said}", handler.command);
            }
            Err(error) => {
                tracing::error!("event handler '{}' for {what} of {whom} cannot be run: {error}", handler.command);
            }
        }
        counters.failures.fetch_add(1, Relaxed);
    }
}

/// How a run ended, and what it wrote.
#[derive(Debug)]
struct Run {
    end: End,
    output: String,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    Exited(ExitStatus),
    /// Somebody else took its status.
    Unknown,
    TooLong(Duration),
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "failed ({status})"),
            Self::Unknown => f.write_str("ended in an unknown way"),
            Self::TooLong(limit) => write!(f, "was killed after {}", humantime::format_duration(*limit)),
        }
    }
}

async fn handle(command: &str, event: &Event, limit: Duration) -> io::Result<Run> {
    let mut shell = Command::new("/bin/sh");
    // The cluster's key is ours: what a handler says comes into the log.
    shell.arg("-c").arg(command).env_remove(CLUSTER_KEY_VARIABLE).envs(environment(event));
    // A group of its own, so that what it started can be ended with it, and Ctrl-C at the balancer is not for it.
    shell.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = shell.spawn()?;
    let Some(process) = child.id() else { return Err(io::Error::other("it has no process id")) };
    let group = Group::new(command, process);
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let run = async {
        let tell = async {
            if let Some(mut stdin) = stdin {
                // One that does not read is none the worse for it.
                let _unread = stdin.write_all(line(&event.member).as_bytes()).await;
            }
        };
        let talk = pin!(async {
            tokio::join!(tell, read(stdout, &mut output), read(stderr, &mut errors));
        });
        match select(pin!(ended(&mut child, &group)), talk).await {
            Either::Left((end, talk)) => {
                // What it left in the background may go on, and not hold up the next event.
                let _late = tokio::time::timeout(LAST_WORDS, talk).await;
                end
            }
            Either::Right(((), end)) => end.await,
        }
    };
    let end = match tokio::time::timeout(limit, run).await {
        Ok(end) => end,
        Err(_) => {
            group.kill();
            let _killed = tokio::time::timeout(LAST_WORDS, ended(&mut child, &group)).await;
            End::TooLong(limit)
        }
    };
    output.extend(errors);
    output.truncate(MOST_OUTPUT);
    let output = String::from_utf8_lossy(&output).trim_end().replace('\n', " | ");
    Ok(Run { end, output: output.chars().filter(|letter| !letter.is_control()).collect() })
}

async fn ended(child: &mut Child, group: &Group<'_>) -> End {
    let end = match child.wait().await {
        Ok(status) => End::Exited(status),
        // An agent reaps everybody (agent::supervisor).
        Err(_) => group.expected.status().map_or(End::Unknown, End::Exited),
    };
    // What it left in the background may go on.
    group.is_ours.store(false, Relaxed);
    end
}

/// The processes of a run. When nobody waits for it any more, because the process ends, they end with it. Why not tokio's
/// `kill_on_drop`? It kills the shell alone, and by a number that may be somebody else's where an agent reaps.
struct Group<'a> {
    command: &'a str,
    leader: Option<Pid>,
    expected: Expected,
    /// As long as the shell is not reaped, its number is its own.
    is_ours: AtomicBool,
}

impl<'a> Group<'a> {
    fn new(command: &'a str, process: u32) -> Self {
        let leader = i32::try_from(process).ok().and_then(Pid::from_raw);
        Self { command, leader, expected: Expected::new(process), is_ours: AtomicBool::new(true) }
    }

    /// Whether there was anybody to kill.
    fn kill(&self) -> bool {
        let is_ours = self.is_ours.swap(false, Relaxed) && self.expected.status().is_none();
        match self.leader {
            Some(leader) if is_ours => kill_process_group(leader, Signal::KILL).is_ok(),
            Some(_) | None => false,
        }
    }
}

impl Drop for Group<'_> {
    fn drop(&mut self) {
        if self.kill() {
            tracing::warn!("event handler '{}' is killed with what it started: lb waits no longer", self.command);
        }
    }
}

/// Reads to the end, so that the writer never waits; keeps the beginning.
async fn read(source: Option<impl AsyncRead + Unpin>, kept: &mut Vec<u8>) {
    let Some(mut source) = source else { return };
    let mut buffer = vec![0; 4096];
    while let Ok(length @ 1..) = source.read(&mut buffer).await {
        let room = MOST_OUTPUT.saturating_sub(kept.len());
        kept.extend(buffer.get(..length.min(room)).unwrap_or_default());
    }
}

/// Serf's variables: the event, and who we are.
fn environment(event: &Event) -> Vec<(String, String)> {
    let Event { kind, member: _, ourselves: Subject { name, address: _, role, tags } } = event;
    let own = [("SERF_EVENT", kind.word()), ("SERF_SELF_NAME", name), ("SERF_SELF_ROLE", role)];
    let own = own.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned()));
    own.chain(tags.iter().map(|(tag, value)| (format!("SERF_TAG_{}", variable(tag)), value.clone()))).collect()
}

/// A tag as a part of a variable's name.
fn variable(tag: &str) -> String {
    let letter = |letter: char| if letter.is_ascii_alphanumeric() { letter.to_ascii_uppercase() } else { '_' };
    tag.chars().map(letter).collect()
}

/// Serf's line for a member: name, address, role and tags, with tabs between them.
fn line(Subject { name, address, role, tags }: &Subject) -> String {
    let mut line = format!("{name}\t{}\t{role}\t", address.ip());
    for (index, (tag, value)) in tags.iter().enumerate() {
        let comma = if index > 0 { "," } else { "" };
        let _infallible = write!(line, "{comma}{tag}={value}");
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::model::MemberEvent;

    fn event() -> Event {
        let member = |name: &str, role: &str, tags: &[(&str, &str)]| Subject {
            name: name.into(),
            address: "10.0.0.7:7946".parse().unwrap(),
            role: role.into(),
            tags: tags.iter().map(|(tag, value)| ((*tag).into(), (*value).into())).collect(),
        };
        Event {
            kind: MemberEvent::Join,
            member: member("s1", "node", &[("role", "node"), ("zone", "x")]),
            ourselves: member("ha", "balancer", &[("a-b", "c"), ("role", "balancer")]),
        }
    }

    async fn run(command: &str) -> Run {
        handle(command, &event(), Duration::from_secs(10)).await.unwrap()
    }

    /// What `serf agent -event-handler` 0.8.2 gave to the same script.
    #[tokio::test]
    async fn a_handler_gets_what_serf_gives() {
        let run = run("env | grep ^SERF | sort; cat").await;
        let expected = "SERF_EVENT=member-join | SERF_SELF_NAME=ha | SERF_SELF_ROLE=balancer | SERF_TAG_A_B=c | \
                        SERF_TAG_ROLE=balancer | s110.0.0.7noderole=node,zone=x";
        assert_eq!(run.output, expected, "tabs are taken out for the log");
        assert_eq!(line(&event().member), "s1\t10.0.0.7\tnode\trole=node,zone=x\n");
    }

    #[tokio::test]
    async fn a_failure_is_told_with_what_the_handler_said() {
        let run = run("echo no good >&2; exit 3").await;
        assert_eq!((run.end.to_string(), run.output), ("failed (exit status: 3)".into(), "no good".into()));
    }

    #[tokio::test]
    async fn a_handler_that_reads_nothing_writes_much_or_leaves_something_behind_holds_up_nothing() {
        let begun = Instant::now();
        let much = run("head -c 1000000 /dev/zero | tr '\\0' x").await;
        assert_eq!((much.output.len(), much.end), (MOST_OUTPUT, End::Exited(ExitStatus::default())));
        assert_eq!(run("exec <&-; true").await.end, End::Exited(ExitStatus::default()));
        assert_eq!(run("sleep 600 & echo $!; true").await.end, End::Exited(ExitStatus::default()));
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_killed_with_what_it_started() {
        let limit = Duration::from_millis(300);
        let run = handle("echo $$; sleep 600; echo never", &event(), limit).await.unwrap();
        assert_eq!(run.end, End::TooLong(limit));
        let group = Pid::from_raw(run.output.parse().unwrap()).unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        // Where PID 1 reaps nobody, what was killed stays as a zombie, which takes a signal.
        let lives = || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", group.as_raw_nonzero()));
            stat.is_ok_and(|stat| !stat.contains(") Z") && !stat.contains(") X"))
        };
        while lives() {
            assert!(Instant::now() < deadline, "it lives on");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}
