//! What an operator asks of a pool: how to balance it, how to keep users on a server, how to check it.

use std::time::Duration;

use super::HttpCheck;

/// How a server is chosen for a request that no cookie decides. `Display` writes the configuration's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// Each server in turn, by weight, spread as evenly as the weights allow.
    #[default]
    RoundRobin,
}

impl Algorithm {
    /// Every algorithm, in the order of the documentation.
    pub const ALL: [Self; 1] = [Self::RoundRobin];

    /// The word in configuration files, on the command line and in the CSV.
    pub fn word(self) -> &'static str {
        match self {
            Self::RoundRobin => "roundrobin",
        }
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.word())
    }
}

impl std::str::FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|algorithm| algorithm.word() == text).ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|algorithm| algorithm.word()).collect();
            format!("{text:?} is not supported: one of {} is expected", words.join(", "))
        })
    }
}

/// Stickiness by a cookie that the balancer inserts (HAProxy: `cookie NAME insert indirect nocache`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookiePolicy {
    /// Name of the cookie, a token (RFC 6265 section 4.1.1).
    pub name: String,
}

impl CookiePolicy {
    /// Stickiness by a cookie of that name.
    ///
    /// # Errors
    /// When the name is not a token (RFC 9110 section 5.6.2).
    pub fn named(name: &str) -> Result<Self, String> {
        let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if !name.is_empty() && name.bytes().all(is_token) {
            Ok(Self { name: name.to_owned() })
        } else {
            Err(format!("{name:?} is no name for a cookie: letters, digits and !#$%&'*+-.^_`|~ are allowed"))
        }
    }
}

/// What a check does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CheckKind {
    /// Sends a request; what passes is [`HttpCheck`]'s to say.
    Http {
        /// The method.
        method: http::Method,
        /// The path with its query.
        path: http::uri::PathAndQuery,
    },
    /// Opens a connection; an accepted one passes.
    Tcp,
}

/// What is sent again although a server has it already, beside what always is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RetryOn {
    /// Idempotent requests that got no byte of an answer in time (HAProxy: `retry-on response-timeout`).
    pub response_timeout: bool,
}

/// How the servers of a pool are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckPolicy {
    /// What a check does.
    pub kind: CheckKind,
    /// What an HTTP check says beside, and what it wants to hear.
    pub http: HttpCheck,
    /// From the start of one check to the start of the next (HAProxy: `inter`).
    pub interval: Duration,
    /// The same while a server is on its way up or down (HAProxy: `fastinter`); `None` is `interval`.
    pub fast_interval: Option<Duration>,
    /// The same while a server is down (HAProxy: `downinter`); `None` is `interval`.
    pub down_interval: Option<Duration>,
    /// The longest a check may take, with its connection; `None` is `interval`.
    pub timeout: Option<Duration>,
    /// The port that is asked, where a server has none of its own for checks; `None` is the one that takes traffic.
    pub port: Option<u16>,
    /// Checks that must pass in a row before a server that was up is up again. At least 1.
    pub rise: u32,
    /// Checks that must fail in a row before a server is down. At least 1.
    pub fall: u32,
}

impl Default for CheckPolicy {
    fn default() -> Self {
        Self {
            kind: CheckKind::Http { method: http::Method::HEAD, path: http::uri::PathAndQuery::from_static("/") },
            http: HttpCheck::default(),
            interval: Duration::from_secs(2),
            fast_interval: None,
            down_interval: None,
            timeout: None,
            port: None,
            rise: 2,
            fall: 3,
        }
    }
}

impl std::fmt::Display for CheckKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Http { method, path } => write!(f, "{method} {path}"),
            Self::Tcp => f.write_str("tcp"),
        }
    }
}

impl std::str::FromStr for CheckKind {
    type Err = String;

    /// Reads `tcp` or `METHOD /path`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "tcp" {
            return Ok(Self::Tcp);
        }
        let parsed = text.split_once(' ').and_then(|(method, path)| {
            let method = method.parse().ok()?;
            let path: http::uri::PathAndQuery = path.parse().ok()?;
            (path.as_str().starts_with('/')).then_some(Self::Http { method, path })
        });
        parsed.ok_or_else(|| format!("{text:?} is no check: 'tcp', 'off' or a request such as 'HEAD /' is expected"))
    }
}
