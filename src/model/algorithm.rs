//! How a server is chosen.

use std::{fmt, str::FromStr};

use http::HeaderName;

/// How a server is chosen for a request that no cookie decides (HAProxy: `balance`). `Display` writes the configuration's
/// word.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// Each server in turn, by weight, spread as evenly as the weights allow.
    #[default]
    RoundRobin,
    /// The server with the fewest requests in flight for its weight.
    LeastConn,
    /// The less loaded one of two servers drawn by chance.
    Random,
    /// By the client's address.
    Source,
    /// By the path, without the query.
    Uri,
    /// By the value of this header; in turn where a request has none.
    Header(HeaderName),
    /// The first server that has a free place.
    First,
}

impl Algorithm {
    /// Every word that is accepted, in the order of the documentation.
    pub const WORDS: [&'static str; 7] = ["roundrobin", "leastconn", "random", "source", "uri", "hdr(NAME)", "first"];

    /// HAProxy's word for it, in the CSV and on the stats page; it does not tell a header's name.
    pub fn word(&self) -> &'static str {
        match self {
            Self::RoundRobin => "roundrobin",
            Self::LeastConn => "leastconn",
            Self::Random => "random",
            Self::Source => "source",
            Self::Uri => "uri",
            Self::Header(_) => "hdr",
            Self::First => "first",
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "hdr({name})"),
            Self::RoundRobin | Self::LeastConn | Self::Random | Self::Source | Self::Uri | Self::First => {
                f.write_str(self.word())
            }
        }
    }
}

impl FromStr for Algorithm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(name) = text.strip_prefix("hdr(").and_then(|rest| rest.strip_suffix(')')) {
            let name = name.parse().map_err(|_| format!("{name:?} is no name of a header: hdr(X-User) is expected"))?;
            return Ok(Self::Header(name));
        }
        let plain = [Self::RoundRobin, Self::LeastConn, Self::Random, Self::Source, Self::Uri, Self::First];
        plain
            .into_iter()
            .find(|algorithm| algorithm.word() == text)
            .ok_or_else(|| format!("{text:?} is not supported: one of {} is expected", Self::WORDS.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read_and_written() {
        for word in Algorithm::WORDS {
            let text = word.replace("NAME", "x-user");
            assert_eq!(text.parse::<Algorithm>().unwrap().to_string(), text);
        }
        let by_header: Algorithm = "hdr(X-User)".parse().unwrap();
        assert_eq!((by_header.word(), by_header.to_string().as_str()), ("hdr", "hdr(x-user)"));
    }

    #[test]
    fn what_is_no_algorithm_says_why() {
        let why = |text: &str| text.parse::<Algorithm>().unwrap_err();
        assert!(why("fastest").contains("one of roundrobin, leastconn, "), "{}", why("fastest"));
        assert!(why("hdr").contains("hdr(NAME)"), "{}", why("hdr"));
        assert!(why("hdr()").contains("no name of a header") && why("hdr(a b)").contains("hdr(X-User)"));
    }
}
