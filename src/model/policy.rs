//! What an operator asks of a pool: how to keep users on a server, how to check it.

use std::time::Duration;

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
    /// Sends a request; 2xx and 3xx pass.
    Http {
        /// The method.
        method: http::Method,
        /// The path with its query.
        path: http::uri::PathAndQuery,
    },
    /// Opens a connection; an accepted one passes.
    Tcp,
}

/// How the servers of a pool are checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckPolicy {
    /// What a check does.
    pub kind: CheckKind,
    /// From the start of one check to the start of the next; also the longest a check may take.
    pub interval: Duration,
    /// Checks that must pass in a row before a server that was up is up again. At least 1.
    pub rise: u32,
    /// Checks that must fail in a row before a server is down. At least 1.
    pub fall: u32,
}

impl Default for CheckPolicy {
    fn default() -> Self {
        Self {
            kind: CheckKind::Http { method: http::Method::HEAD, path: http::uri::PathAndQuery::from_static("/") },
            interval: Duration::from_secs(2),
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
