//! What a health check found, in HAProxy's words.

use std::time::Duration;

/// Result of one check. `Display` writes HAProxy's short code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CheckStatus {
    /// No check has ended yet.
    Initializing,
    /// A socket could not be made here: says nothing about the server.
    SocketError,
    /// The connection was accepted (TCP check).
    L4Ok,
    /// The connection was neither accepted nor refused in time.
    L4Timeout,
    /// The connection was refused, or the server can't be reached.
    L4Connect,
    /// No answer in time.
    L7Timeout,
    /// The answer is not HTTP, or the connection closed before one.
    L7Response,
    /// A status that passes.
    L7Ok,
    /// The server answers and wants no new users (404 where `disable-on-404` is set).
    L7Conditional,
    /// A status that fails.
    L7Status,
}

impl CheckStatus {
    /// Whether the check passed.
    pub fn passed(self) -> bool {
        matches!(self, Self::L4Ok | Self::L7Ok | Self::L7Conditional)
    }

    /// Whether it says anything about the server: a check that could not even begin here blames nobody.
    pub fn is_verdict(self) -> bool {
        !matches!(self, Self::Initializing | Self::SocketError)
    }

    /// The short code, as in column `check_status`.
    pub fn code(self) -> &'static str {
        self.words().0
    }

    /// The sentence, as in column `check_desc`.
    pub fn description(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Initializing => ("INI", "Initializing"),
            Self::SocketError => ("SOCKERR", "Socket error"),
            Self::L4Ok => ("L4OK", "Layer4 check passed"),
            Self::L4Timeout => ("L4TOUT", "Layer4 timeout"),
            Self::L4Connect => ("L4CON", "Layer4 connection problem"),
            Self::L7Timeout => ("L7TOUT", "Layer7 timeout"),
            Self::L7Response => ("L7RSP", "Layer7 invalid response"),
            Self::L7Ok => ("L7OK", "Layer7 check passed"),
            Self::L7Conditional => ("L7OKC", "Layer7 check conditionally passed"),
            Self::L7Status => ("L7STS", "Layer7 wrong status"),
        }
    }
}

impl std::fmt::Display for CheckStatus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.code())
    }
}

/// One finished check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// What it found.
    pub status: CheckStatus,
    /// The HTTP status, when there was an answer.
    pub code: Option<u16>,
    /// How long it took.
    pub duration: Duration,
    /// What went wrong, in words ("Connection refused"); empty when it passed.
    pub detail: String,
}
