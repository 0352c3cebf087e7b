//! What an operator asks of the agent.

use std::{ffi::OsString, net::IpAddr, num::NonZeroU16, time::Duration};

use http::uri::PathAndQuery;

/// Everything the agent needs to know, apart from the cluster.
#[derive(Debug, Clone)]
pub struct AgentSettings {
    /// Where the application answers.
    pub port: NonZeroU16,
    /// The address that the balancers will use, for an application that is not bound to loopback.
    pub advertised: Option<IpAddr>,
    /// The application is ready when a GET of this path is answered with 2xx or 3xx; `None`: when it accepts connections.
    pub ready_path: Option<PathAndQuery>,
    /// The longest wait for the balancers and what is in flight before the application is stopped.
    pub drain_timeout: Duration,
    /// What to do when the application ends by itself.
    pub restart: RestartPolicy,
    /// The program and its arguments; empty when somebody else runs the application.
    pub command: Vec<OsString>,
    /// Whether to reap processes that nobody else waits for.
    pub orphans: Orphans,
}

impl AgentSettings {
    /// Docker kills a container 10 s after it asked it to stop; this leaves time for the application's own end.
    pub const DEFAULT_DRAIN_TIMEOUT: Duration = Duration::from_secs(7);
}

/// What to do when the application ends by itself. `Display` writes the command line's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RestartPolicy {
    /// Start it again.
    Always,
    /// Start it again unless it ended with status 0.
    OnFailure,
    /// Leave the cluster and end with its status, as Docker's users expect of an init: restarting is the container's policy.
    #[default]
    Never,
}

impl RestartPolicy {
    /// Every policy, in the order of the documentation.
    pub const ALL: [Self; 3] = [Self::Always, Self::OnFailure, Self::Never];

    /// The word on the command line.
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::OnFailure => "on-failure",
            Self::Never => "never",
        }
    }
}

impl std::fmt::Display for RestartPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

impl std::str::FromStr for RestartPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|policy| policy.word() == text).ok_or_else(|| {
            let words = Self::ALL.map(Self::word).join(", ");
            format!("{text:?} is no restart policy: one of {words} is expected")
        })
    }
}

/// Who waits for processes whose parent has died.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Orphans {
    /// The agent, as PID 1 or as a subreaper. It takes the exit status of *every* child of this process, so nothing else in
    /// it may start one.
    #[default]
    Reap,
    /// Somebody else: for an agent that shares its process with others.
    Leave,
}
