//! What the agent does next. Pure: time is an argument, inputs go in, actions come out.
//!
//! Why not a straight `async fn` that starts, waits and stops: at every point of it the application may die, a signal may
//! come, or time may run out, and each of those means something else in each phase. As a table it can be tested whole.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::{
    fmt,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::{Duration, Instant},
};

use super::settings::RestartPolicy;
use crate::model::NodeState;

#[cfg(test)]
mod tests;

/// First pause before a restart; doubled by each one up to [`LONGEST_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LONGEST_BACKOFF: Duration = Duration::from_secs(10);
/// An application that ran this long is believed to be sound, so the next pause is the first one again.
const SOUND_AFTER: Duration = Duration::from_secs(10);
/// What the application gets for its own end beyond the drain timeout, and the least that it gets in any case.
const STOP_GRACE: Duration = Duration::from_secs(2);
const LEAST_STOP_GRACE: Duration = Duration::from_secs(1);
/// Longest drain, so that sums of instants cannot overflow.
const LONGEST_DRAIN: Duration = Duration::from_secs(86_400);

/// What the lifecycle depends on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    /// Whether the agent runs the application.
    pub(super) supervises: bool,
    pub(super) restart: RestartPolicy,
    pub(super) drain_timeout: Duration,
}

/// Something that happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// The application answers.
    AppReady,
    /// The application no longer answers.
    AppLost,
    /// The application ended.
    AppExited(AppExit),
    /// The application could not be started; the agent's exit status says why.
    StartFailed(u8),
    /// Somebody asks the agent to end, or asks again.
    Terminate,
    /// No balancer sends anything any more.
    Drained,
    /// The time that [`Lifecycle::deadline`] named has come.
    Elapsed,
}

/// Something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Start the application.
    Start,
    /// Tell the cluster.
    Announce(NodeState),
    /// Begin to wait until no balancer sends anything.
    AwaitDrained,
    /// Ask the application to end (SIGTERM).
    Stop,
    /// End the application (SIGKILL).
    Kill,
    /// Leave the cluster and end with this status; the last action.
    Finish(u8),
}

/// How the application ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AppExit {
    /// With a status of its own or by a signal.
    Known(ExitStatus),
    /// Nobody can tell: something else in this process took its status.
    Unknown,
}

impl AppExit {
    /// The agent's own exit status for it: the same, and 128 + n for signal n, as in shells and Docker.
    pub(super) fn status(self) -> u8 {
        let status = match self {
            Self::Known(status) => status.code().or_else(|| status.signal().map(|signal| 128 + signal)),
            Self::Unknown => None,
        };
        status.and_then(|status| u8::try_from(status).ok()).unwrap_or(1)
    }

    fn is_success(self) -> bool {
        match self {
            Self::Known(status) => status.success(),
            Self::Unknown => false,
        }
    }
}

impl fmt::Display for AppExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(status) => status.fmt(f),
            Self::Unknown => f.write_str("unknown exit status"),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// The application runs, or somebody else runs it.
    Running { since: Instant },
    /// The application ended and starts again at a certain time.
    BackingOff { until: Instant, last: AppExit },
    /// The balancers are asked to send nothing; the application still works.
    Draining { until: Instant, stop_by: Instant },
    /// The application was asked to end.
    Stopping { until: Instant },
    /// The application was killed.
    Killing,
    /// All is done.
    Over,
}

/// The life of one agent.
#[derive(Debug)]
pub(super) struct Lifecycle {
    rules: Rules,
    phase: Phase,
    announced: NodeState,
    backoff: Duration,
}

impl Lifecycle {
    /// A new life and how it begins.
    pub(super) fn begin(now: Instant, rules: Rules) -> (Self, Vec<Action>) {
        let phase = Phase::Running { since: now };
        let life = Self { rules, phase, announced: NodeState::Starting, backoff: FIRST_BACKOFF };
        (life, if rules.supervises { vec![Action::Start] } else { Vec::new() })
    }

    /// What follows from something that happened.
    pub(super) fn handle(&mut self, now: Instant, input: Input) -> Vec<Action> {
        let before = self.announced;
        let actions = match self.phase {
            Phase::Running { since } => self.while_running(now, since, input),
            Phase::BackingOff { until, last } => self.while_backing_off(now, until, last, input),
            Phase::Draining { until, stop_by } => self.while_draining(now, until, stop_by, input),
            Phase::Stopping { until } => self.while_stopping(now, until, input),
            Phase::Killing => self.while_killing(input),
            Phase::Over => Vec::new(),
        };
        self.check_invariants(before);
        actions
    }

    /// When [`Input::Elapsed`] is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match self.phase {
            Phase::Running { .. } | Phase::Killing | Phase::Over => None,
            Phase::BackingOff { until, .. } | Phase::Draining { until, .. } | Phase::Stopping { until } => Some(until),
        }
    }

    /// Whether it matters if the application answers.
    pub(super) fn wants_readiness(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// Whether the balancers are waited for.
    pub(super) fn is_draining(&self) -> bool {
        matches!(self.phase, Phase::Draining { .. })
    }

    fn while_running(&mut self, now: Instant, since: Instant, input: Input) -> Vec<Action> {
        match input {
            Input::AppReady => self.announce(NodeState::Ready),
            Input::AppLost => self.announce(NodeState::Starting),
            Input::AppExited(exit) => {
                let mut actions = self.announce(NodeState::Starting);
                if !self.starts_again(exit) {
                    actions.extend(self.finish(exit.status()));
                    return actions;
                }
                if now.saturating_duration_since(since) >= SOUND_AFTER {
                    self.backoff = FIRST_BACKOFF;
                }
                self.phase = Phase::BackingOff { until: now + self.backoff, last: exit };
                self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
                actions
            }
            Input::StartFailed(status) => self.finish(status),
            Input::Terminate => {
                let until = now + self.rules.drain_timeout.min(LONGEST_DRAIN);
                self.phase = Phase::Draining { until, stop_by: until + STOP_GRACE };
                let mut actions = self.announce(NodeState::Draining);
                actions.push(Action::AwaitDrained);
                actions
            }
            Input::Drained | Input::Elapsed => Vec::new(),
        }
    }

    fn while_backing_off(&mut self, now: Instant, until: Instant, last: AppExit, input: Input) -> Vec<Action> {
        match input {
            Input::Elapsed if now >= until => {
                self.phase = Phase::Running { since: now };
                vec![Action::Start]
            }
            // Nobody was sent here since it ended, so there is nothing to wait for.
            Input::Terminate => self.finish(last.status()),
            Input::AppReady
            | Input::AppLost
            | Input::AppExited(_)
            | Input::StartFailed(_)
            | Input::Drained
            | Input::Elapsed => Vec::new(),
        }
    }

    fn while_draining(&mut self, now: Instant, until: Instant, stop_by: Instant, input: Input) -> Vec<Action> {
        match input {
            Input::AppExited(exit) => self.finish(exit.status()),
            Input::StartFailed(status) => self.finish(status),
            Input::Elapsed if now < until => Vec::new(),
            Input::Drained | Input::Elapsed | Input::Terminate if self.rules.supervises => {
                // What the drain did not use is the application's.
                self.phase = Phase::Stopping { until: stop_by.max(now + LEAST_STOP_GRACE) };
                vec![Action::Stop]
            }
            Input::Drained | Input::Elapsed | Input::Terminate => self.finish(0),
            Input::AppReady | Input::AppLost => Vec::new(),
        }
    }

    fn while_stopping(&mut self, now: Instant, until: Instant, input: Input) -> Vec<Action> {
        match input {
            Input::AppExited(exit) => self.finish(exit.status()),
            Input::Elapsed if now >= until => {
                self.phase = Phase::Killing;
                vec![Action::Kill]
            }
            // Handed on: some applications hurry at the second one. It never shortens the time that the application was
            // promised; an orchestrator may repeat itself.
            Input::Terminate => vec![Action::Stop],
            Input::AppReady | Input::AppLost | Input::StartFailed(_) | Input::Drained | Input::Elapsed => Vec::new(),
        }
    }

    fn while_killing(&mut self, input: Input) -> Vec<Action> {
        match input {
            Input::AppExited(exit) => self.finish(exit.status()),
            Input::AppReady
            | Input::AppLost
            | Input::StartFailed(_)
            | Input::Terminate
            | Input::Drained
            | Input::Elapsed => Vec::new(),
        }
    }

    fn announce(&mut self, state: NodeState) -> Vec<Action> {
        if self.announced == state {
            return Vec::new();
        }
        self.announced = state;
        vec![Action::Announce(state)]
    }

    fn finish(&mut self, status: u8) -> Vec<Action> {
        self.phase = Phase::Over;
        vec![Action::Finish(status)]
    }

    fn starts_again(&self, exit: AppExit) -> bool {
        match self.rules.restart {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => !exit.is_success(),
            RestartPolicy::Never => false,
        }
    }

    /// Only a running application is announced as ready, and a drain is never taken back.
    fn check_invariants(&self, before: NodeState) {
        if cfg!(debug_assertions) {
            let runs = matches!(self.phase, Phase::Running { .. });
            assert!(self.announced != NodeState::Ready || runs, "{:?} is announced as ready", self.phase);
            assert!(before != NodeState::Draining || self.announced == before, "a drain was taken back");
            assert!((FIRST_BACKOFF..=LONGEST_BACKOFF).contains(&self.backoff), "a pause of {:?}", self.backoff);
        }
    }
}
