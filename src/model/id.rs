//! Names and identities.
//!
//! A name is what a person reads; an id is what the program trusts. A container that comes back under an old name or
//! address gets a new [`ServerId`], so it never inherits connections, counters or sessions.

use std::{fmt, sync::Arc};

/// Identity of one server for the life of this process; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u64);

/// Identity of one boot of a cluster node, drawn at random when it starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The text is empty.
    #[error("a name must not be empty")]
    Empty,
    /// The text has a character outside of `A-Z a-z 0-9 - _ . :`.
    #[error("{0:?} is not a name: only letters, digits, '-', '_', '.' and ':' are allowed")]
    Character(String),
    /// The text is longer than 63 bytes.
    #[error("{0:?} is too long for a name: at most 63 bytes are allowed")]
    Length(String),
}

/// Longest name in bytes: a DNS label (RFC 1035 section 2.3.4), which is also the longest Linux hostname in use.
const MAX_NAME: usize = 63;

fn parse_name(text: &str) -> Result<Arc<str>, NameError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    if text.is_empty() {
        Err(NameError::Empty)
    } else if text.len() > MAX_NAME {
        Err(NameError::Length(text.chars().take(MAX_NAME).collect()))
    } else if !text.bytes().all(allowed) {
        Err(NameError::Character(text.to_owned()))
    } else {
        Ok(Arc::from(text))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Reads a name as HAProxy's configuration allows it: 1 to 63 of `A-Z a-z 0-9 - _ . :`.
            ///
            /// # Errors
            /// When the text is empty, too long or has another character.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                parse_name(text).map(Self)
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Self::parse(text)
            }
        }
    };
}

name!(
    /// Name of a pool of servers (HAProxy: a backend).
    PoolName
);
name!(
    /// Name of a server inside its pool.
    ServerName
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_id_is_a_name() {
        assert_eq!(ServerName::parse("47571468d86").unwrap().as_str(), "47571468d86");
    }

    #[test]
    fn a_name_with_markup_or_space_is_refused() {
        assert_eq!(ServerName::parse("<b>"), Err(NameError::Character("<b>".into())));
        assert_eq!(PoolName::parse("a b"), Err(NameError::Character("a b".into())));
        assert_eq!(PoolName::parse(""), Err(NameError::Empty));
        assert!(matches!(PoolName::parse(&"x".repeat(64)), Err(NameError::Length(_))));
    }
}
