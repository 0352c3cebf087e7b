//! Runs the application and reaps what it leaves behind.
//!
//! Why not `tokio::process`: it waits for its own children only. A PID 1 has to wait for every orphan as well, and a second
//! waiter would take the application's status away from the first. So one loop takes every exit and looks whose it was.
//!
//! The application gets a process group of its own, unlike under tini, which also gives it the terminal: Ctrl-C has to reach
//! the agent alone, or it would end the application before the balancers have let go of it. The price: an application that
//! reads from the terminal is stopped by the system (SIGTTIN).

use std::{
    ffi::OsString,
    io,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{Command, ExitStatus},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, WaitOptions, WaitStatus},
};
use tokio::signal::unix::SignalKind;

use super::{children, lifecycle::AppExit, settings::Orphans};
use crate::config::CLUSTER_KEY_VARIABLE;

/// Why the application could not be started.
#[derive(Debug, thiserror::Error)]
pub(super) enum StartError {
    /// There is no command: a bug of ours.
    #[error("there is no command to start")]
    NoCommand,
    /// No such program in `PATH` or at that path.
    #[error("cannot start {0:?}: there is no such program, or its first line names an interpreter that does not exist")]
    NotFound(OsString),
    /// It exists and cannot be run.
    #[error("cannot start {0:?}")]
    NotExecutable(OsString, #[source] io::Error),
}

impl StartError {
    /// The exit status that shells give it.
    pub(super) fn status(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::NoCommand | Self::NotExecutable(..) => 126,
        }
    }
}

/// The one who runs the application.
#[derive(Debug)]
pub(super) struct Supervisor {
    command: Vec<OsString>,
    orphans: Orphans,
    child_ended: tokio::signal::unix::Signal,
    app: Option<Pid>,
}

impl Supervisor {
    /// Prepares to run `command`; to be called inside of a tokio runtime.
    ///
    /// # Errors
    /// When the system refuses a handler for SIGCHLD.
    pub(super) fn new(command: Vec<OsString>, orphans: Orphans) -> io::Result<Self> {
        let child_ended = tokio::signal::unix::signal(SignalKind::child())?;
        if orphans == Orphans::Reap {
            adopt_orphans();
        }
        Ok(Self { command, orphans, child_ended, app: None })
    }

    /// Starts the application with the agent's own standard input, output and error.
    ///
    /// # Errors
    /// When the program is missing or cannot be run.
    pub(super) fn start(&mut self) -> Result<Pid, StartError> {
        let (program, arguments) = self.command.split_first().ok_or(StartError::NoCommand)?;
        let mut command = Command::new(program);
        // The cluster's key is the agent's: an application that tells its environment would tell it, too.
        command.args(arguments).process_group(0).env_remove(CLUSTER_KEY_VARIABLE);
        let spawned = command.spawn();
        let child = spawned.map_err(|error| {
            let is_missing = error.kind() == io::ErrorKind::NotFound;
            let program = program.clone();
            if is_missing { StartError::NotFound(program) } else { StartError::NotExecutable(program, error) }
        })?;
        // The handle is dropped without a wait: `reap` does that.
        let pid = Pid::from_child(&child);
        self.app = Some(pid);
        Ok(pid)
    }

    /// Ends when the application has ended, and reaps orphans meanwhile. May be dropped before.
    pub(super) async fn exited(&mut self) -> AppExit {
        loop {
            // Before the wait: the signal may have come while nobody listened, and one may stand for several children.
            if let Some(exit) = self.reap() {
                self.end_the_rest();
                return exit;
            }
            if self.child_ended.recv().await.is_none() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// Hands a signal to the application, and to nobody else: what it started is its own business.
    pub(super) fn send(&self, signal: Signal) {
        // As long as it was not reaped, its number cannot belong to another process.
        match self.app.map(|app| rustix::process::kill_process(app, signal)) {
            Some(Ok(())) => {}
            Some(Err(error)) => tracing::warn!("the application could not be sent {signal:?}: {error}"),
            None => tracing::debug!("{signal:?} has nobody to go to: no application runs"),
        }
    }

    /// Ends the application and everything in its process group: behind a `sh -c`, the one who would not end is the child.
    pub(super) fn kill(&self) {
        if let Some(app) = self.app
            && let Err(error) = rustix::process::kill_process_group(app, Signal::KILL)
        {
            tracing::warn!("the application could not be killed: {error}");
        }
    }

    /// Asks what the application left behind in its process group to end: behind a `sh -c`, that may be the one who holds
    /// the port.
    fn end_the_rest(&mut self) {
        if let Some(app) = self.app.take() {
            // Most leave nothing, and then there is no such group any more.
            let _nobody = rustix::process::kill_process_group(app, Signal::TERM);
        }
    }

    /// Takes the status of every child that has ended; the application's, if it was among them.
    fn reap(&self) -> Option<AppExit> {
        let mut exit = None;
        loop {
            let ended = match self.orphans {
                Orphans::Reap => rustix::process::wait(WaitOptions::NOHANG),
                Orphans::Leave => rustix::process::waitpid(Some(self.app?), WaitOptions::NOHANG),
            };
            match ended {
                Ok(Some((pid, status))) if Some(pid) == self.app => {
                    exit = Some(AppExit::Known(to_exit_status(status)));
                    if self.orphans == Orphans::Leave {
                        return exit;
                    }
                }
                Ok(Some((pid, status))) => {
                    children::reaped(pid.as_raw_nonzero().get().unsigned_abs(), to_exit_status(status));
                    tracing::debug!("reaped {pid}");
                }
                Ok(None) => return exit,
                Err(Errno::INTR) => {}
                // There are no children: somebody else took the application's status.
                Err(Errno::CHILD) => return exit.or(self.app.map(|_| AppExit::Unknown)),
                Err(error) => {
                    tracing::error!("cannot wait for the application: {error}");
                    return exit;
                }
            }
        }
    }
}

/// PID 1 gets orphans anyway; another process has to ask for those below it.
fn adopt_orphans() {
    let own = rustix::process::getpid();
    if own != Pid::INIT
        && let Err(error) = rustix::process::set_child_subreaper(Some(own))
    {
        tracing::debug!("orphans of the application go to PID 1: {error}");
    }
}

fn to_exit_status(status: WaitStatus) -> ExitStatus {
    ExitStatus::from_raw(status.as_raw())
}

#[cfg(test)]
mod tests {
    use std::{
        path::Path,
        time::{Duration, Instant},
    };

    use super::*;
    use crate::agent::alone::has_own_process;

    const DEADLINE: Duration = Duration::from_secs(10);

    fn shell(script: &str, argument: &Path) -> Vec<OsString> {
        vec!["sh".into(), "-c".into(), script.into(), argument.into()]
    }

    fn started(script: &str, argument: &Path) -> Supervisor {
        let mut supervisor = Supervisor::new(shell(script, argument), Orphans::Leave).unwrap();
        supervisor.start().unwrap();
        supervisor
    }

    async fn exit_of(mut supervisor: Supervisor) -> AppExit {
        tokio::time::timeout(DEADLINE, supervisor.exited()).await.expect("the application did not end in time")
    }

    fn start_error(program: &Path) -> StartError {
        Supervisor::new(vec![program.into()], Orphans::Leave).unwrap().start().unwrap_err()
    }

    /// The content of a file, once a script has written it.
    async fn written(path: &Path) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match std::fs::read_to_string(path) {
                Ok(text) if text.ends_with('\n') => return text.trim_end().to_owned(),
                Ok(_) | Err(_) => assert!(Instant::now() < deadline, "nobody wrote {path:?}"),
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    #[tokio::test]
    async fn the_exit_status_is_kept() {
        for status in [0, 7, 255] {
            let exit = exit_of(started("exit $0", Path::new(&status.to_string()))).await;
            assert_eq!(exit.status(), status);
        }
    }

    #[tokio::test]
    async fn death_by_a_signal_is_128_and_its_number() {
        let exit = exit_of(started("kill -KILL $$", Path::new(""))).await;
        assert_eq!((exit.status(), exit.to_string().as_str()), (137, "signal: 9 (SIGKILL)"));
    }

    #[tokio::test]
    async fn what_cannot_run_says_so_as_a_shell_would() {
        let missing = start_error(Path::new("/nonexistent/app"));
        assert_eq!(missing.status(), 127);
        assert!(missing.to_string().contains("/nonexistent/app"), "{missing}");
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(start_error(file.path()).status(), 126);
    }

    #[tokio::test]
    async fn a_signal_reaches_the_application_in_its_own_process_group() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ready");
        let script = r#"trap 'exit 42' USR1; echo yes >"$0"; while :; do sleep 0.01; done"#;
        let supervisor = started(script, &file);
        written(&file).await;
        assert_eq!(rustix::process::getpgid(supervisor.app), Ok(supervisor.app.unwrap()));
        supervisor.send(Signal::USR1);
        assert_eq!(exit_of(supervisor).await.status(), 42);
    }

    #[tokio::test]
    async fn what_the_application_left_behind_is_asked_to_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ended");
        let script = "(trap 'echo ended >\"$0\"; exit' TERM; echo ready >\"$0.ready\"; while :; do sleep 0.02; done) & \
                      while [ ! -s \"$0.ready\" ]; do sleep 0.02; done; exit 3";
        assert_eq!(exit_of(started(script, &file)).await.status(), 3);
        assert_eq!(written(&file).await.trim(), "ended");
    }

    #[tokio::test]
    async fn a_kill_reaches_what_the_application_started() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("helper");
        let supervisor = started(r#"sleep 600 & echo $! >"$0"; wait"#, &file);
        let helper = written(&file).await;
        supervisor.kill();
        assert_eq!(exit_of(supervisor).await.status(), 137);
        let deadline = Instant::now() + DEADLINE;
        // Where PID 1 reaps nobody, the helper stays as a zombie.
        let ended = |stat: String| stat.contains(") Z") || stat.contains(") X");
        while !std::fs::read_to_string(format!("/proc/{helper}/stat")).map_or(true, ended) {
            assert!(Instant::now() < deadline, "the helper {helper} lives on");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Reaping takes the status of every child of a process, so the test has one to itself.
    #[tokio::test]
    async fn an_orphan_is_reaped() {
        if !has_own_process(module_path!(), "an_orphan_is_reaped") {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("orphan");
        // The subshell ends before the process that it started; a zombie would stay in /proc, and the script with it.
        let script = r#"(sleep 0.05 & echo $! >"$0"); read orphan <"$0"
            while [ -e /proc/$orphan ]; do sleep 0.01; done; exit 7"#;
        let mut supervisor = Supervisor::new(shell(script, &file), Orphans::Reap).unwrap();
        supervisor.start().unwrap();
        assert_eq!(exit_of(supervisor).await.status(), 7);
    }
}
