//! The runtime API: where it listens, and who may do what there.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use toml::Spanned;

use super::{
    ListenAddress,
    checker::Checker,
    raw::{OneOrMore, RawRuntimeApi},
};

/// Where commands are taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeApi {
    /// Its addresses; at least one.
    pub bind: Vec<RuntimeBind>,
    /// Silence of a client, or of one that does not read, after which its connection is closed.
    pub timeout: Duration,
}

impl Default for RuntimeApi {
    /// No address yet.
    fn default() -> Self {
        Self { bind: Vec::new(), timeout: Duration::from_secs(10) }
    }
}

/// One address of the runtime API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuntimeBind {
    /// Where it is.
    pub address: RuntimeAddress,
    /// What its clients may do.
    pub level: Level,
}

/// A port or a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RuntimeAddress {
    /// TCP.
    Tcp(ListenAddress),
    /// A unix socket.
    Unix(PathBuf),
}

/// What a client may do; each level includes those before it (HAProxy's management guide, section 9.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Level {
    /// Look at what tells nothing about addresses.
    User,
    /// Look at everything.
    Operator,
    /// Change servers.
    #[default]
    Admin,
}

impl Level {
    /// The word in the configuration and in `show cli level`.
    pub fn word(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Operator => "operator",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Level {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = [Self::User, Self::Operator, Self::Admin].into_iter().find(|level| level.word() == text);
        known.ok_or_else(|| format!("{text:?} is no level: 'user', 'operator' or 'admin' is expected"))
    }
}

impl FromStr for RuntimeBind {
    type Err = String;

    /// Reads `ADDR[,level=LEVEL]`; what has a `/` in it is the path of a unix socket.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',');
        let address = parts.next().unwrap_or_default();
        let address = if address.contains('/') {
            RuntimeAddress::Unix(address.into())
        } else {
            RuntimeAddress::Tcp(address.parse().map_err(|error: super::AddressError| error.to_string())?)
        };
        let mut level = Level::default();
        for option in parts {
            match option.split_once('=') {
                Some(("level", word)) => level = word.parse()?,
                Some(_) | None => {
                    return Err(format!("{option:?} is no option of a runtime API: 'level=LEVEL' is expected"));
                }
            }
        }
        Ok(Self { address, level })
    }
}

impl fmt::Display for RuntimeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

impl Checker<'_> {
    pub(super) fn runtime_api(&mut self, raw: Spanned<RawRuntimeApi>) -> Option<RuntimeApi> {
        let place = raw.span().start;
        let RawRuntimeApi { bind, timeout } = raw.into_inner();
        let timeout = self.duration(timeout, "timeout").unwrap_or(RuntimeApi::default().timeout);
        let Some(bind) = bind else {
            self.note(Some(place), "[runtime-api] has no bind: bind = \"127.0.0.1:9999\" is expected");
            return None;
        };
        Some(RuntimeApi { bind: self.binds(bind), timeout })
    }

    /// Reads one address or a list of them.
    pub(super) fn binds<T>(&mut self, bind: Spanned<OneOrMore>) -> Vec<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let span = bind.span();
        let texts = match bind.into_inner() {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        };
        if texts.is_empty() {
            self.note(Some(span.start), "bind: the list is empty: at least one address is expected");
        }
        let read = |text| self.parse(Some(Spanned::new(span.clone(), text)), "bind");
        texts.into_iter().filter_map(read).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slash_makes_a_path_and_the_level_is_an_option() {
        let bind: RuntimeBind = ":9999".parse().unwrap();
        assert_eq!(bind, RuntimeBind { address: RuntimeAddress::Tcp(ListenAddress::any(9999)), level: Level::Admin });
        let bind: RuntimeBind = "/run/lb.sock,level=user".parse().unwrap();
        assert_eq!(bind, RuntimeBind { address: RuntimeAddress::Unix("/run/lb.sock".into()), level: Level::User });
    }

    #[test]
    fn what_is_no_address_or_level_says_why() {
        for (text, why) in
            [("9999", "has no port"), (":9999,level=root", "'operator'"), (":9999,mode=666", "level=LEVEL")]
        {
            let error = text.parse::<RuntimeBind>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
