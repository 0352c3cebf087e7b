//! What balancers tell each other of servers, as it travels: decisions of operators, their acknowledgement, and hints.
//!
//! Nothing in it is believed yet: names are read anew, and a time after the year 9999 would win over every later word.

use serde::{Deserialize, Serialize};

use super::Identity;
use crate::model::{
    AdminState, Decision, Hint, NameError, NodeId, PoolName, ServerKey, ServerName, Stamp, WantedWeight, Weight, Wish,
};

/// Most bytes of decisions in one datagram; the longest decision takes a quarter of it.
const MAX_BYTES: usize = 900;
/// The end of the year 9999, in Unix milliseconds.
const END_OF_TIME: u64 = 253_402_300_800_000;

/// Decisions that the receiver may lack. None at all asks for a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Decided {
    pub(crate) sender: Identity,
    /// Counts the messages to this receiver; the acknowledgement repeats it.
    pub(crate) round: u32,
    pub(crate) decisions: Vec<WireDecision>,
}

/// "I hold what you told, or something later."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Agreed {
    pub(crate) sender: Identity,
    pub(crate) round: u32,
    /// Of everything that the sender holds.
    pub(crate) digest: u64,
}

/// "My checks found that this server went up, or down: look for yourself."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hinted {
    pub(crate) sender: Identity,
    pub(crate) hint: WireHint,
}

/// How many of these decisions go into one datagram.
pub(crate) fn fits(decisions: &[Decision]) -> usize {
    let mut left = MAX_BYTES;
    let size = |decision: &Decision| {
        postcard::to_stdvec(&WireDecision(decision.clone())).map_or(MAX_BYTES, |bytes| bytes.len())
    };
    let in_time = decisions.iter().take_while(|decision| {
        let size = size(decision);
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    in_time.count()
}

/// A decision that is read from the wire and written to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawDecision", into = "RawDecision")]
pub(crate) struct WireDecision(pub(crate) Decision);

/// The same for a hint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawHint", into = "RawHint")]
pub(crate) struct WireHint(pub(crate) Hint);

#[derive(Debug, thiserror::Error)]
pub(crate) enum TellingError {
    #[error(transparent)]
    Name(#[from] NameError),
    #[error("weight {0} is too large")]
    Weight(u16),
    #[error("a decision of the far future")]
    Time,
}

#[derive(Serialize, Deserialize)]
struct RawDecision {
    pool: String,
    server: RawKey,
    wish: RawWish,
    by: String,
    at: u64,
    version: u32,
    node: NodeId,
}

#[derive(Serialize, Deserialize)]
struct RawHint {
    pool: String,
    server: RawKey,
    is_up: bool,
}

#[derive(Serialize, Deserialize)]
enum RawKey {
    Static(String),
    Node(NodeId),
}

#[derive(Serialize, Deserialize)]
enum RawWish {
    Ready,
    Drain,
    Maint,
    Weight(u16),
    Percent(u16),
}

impl From<ServerKey> for RawKey {
    fn from(key: ServerKey) -> Self {
        match key {
            ServerKey::Static(name) => Self::Static(name.as_str().to_owned()),
            ServerKey::Node(node) => Self::Node(node),
        }
    }
}

impl TryFrom<RawKey> for ServerKey {
    type Error = NameError;

    fn try_from(raw: RawKey) -> Result<Self, Self::Error> {
        match raw {
            RawKey::Static(name) => ServerName::parse(&name).map(Self::Static),
            RawKey::Node(node) => Ok(Self::Node(node)),
        }
    }
}

impl From<WireDecision> for RawDecision {
    fn from(WireDecision(decision): WireDecision) -> Self {
        let Decision { pool, server, wish, by, stamp: Stamp { at, version, node } } = decision;
        let wish = match wish {
            Wish::State(AdminState::Ready) => RawWish::Ready,
            Wish::State(AdminState::Drain) => RawWish::Drain,
            Wish::State(AdminState::Maint) => RawWish::Maint,
            Wish::Weight(WantedWeight::Absolute(weight)) => RawWish::Weight(weight.get()),
            Wish::Weight(WantedWeight::Percent(percent)) => RawWish::Percent(percent),
        };
        let (pool, by) = (pool.as_str().to_owned(), by.as_str().to_owned());
        Self { pool, server: server.into(), wish, by, at, version, node }
    }
}

impl TryFrom<RawDecision> for WireDecision {
    type Error = TellingError;

    fn try_from(raw: RawDecision) -> Result<Self, Self::Error> {
        let RawDecision { pool, server, wish, by, at, version, node } = raw;
        if at >= END_OF_TIME {
            return Err(TellingError::Time);
        }
        let wish = match wish {
            RawWish::Ready => Wish::State(AdminState::Ready),
            RawWish::Drain => Wish::State(AdminState::Drain),
            RawWish::Maint => Wish::State(AdminState::Maint),
            RawWish::Weight(weight) => {
                Wish::Weight(WantedWeight::Absolute(Weight::new(weight).map_err(|_| TellingError::Weight(weight))?))
            }
            RawWish::Percent(percent) if percent > WantedWeight::MOST_PERCENT => {
                return Err(TellingError::Weight(percent));
            }
            RawWish::Percent(percent) => Wish::Weight(WantedWeight::Percent(percent)),
        };
        Ok(Self(Decision {
            pool: PoolName::parse(&pool)?,
            server: server.try_into()?,
            wish,
            by: ServerName::parse(&by)?,
            stamp: Stamp { at, version, node },
        }))
    }
}

impl From<WireHint> for RawHint {
    fn from(WireHint(Hint { pool, server, is_up }): WireHint) -> Self {
        Self { pool: pool.as_str().to_owned(), server: server.into(), is_up }
    }
}

impl TryFrom<RawHint> for WireHint {
    type Error = NameError;

    fn try_from(RawHint { pool, server, is_up }: RawHint) -> Result<Self, Self::Error> {
        Ok(Self(Hint { pool: PoolName::parse(&pool)?, server: server.try_into()?, is_up }))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The longest that there is.
    pub(crate) fn decision() -> Decision {
        Decision {
            pool: PoolName::parse(&"p".repeat(63)).unwrap(),
            server: ServerKey::Static(ServerName::parse(&"s".repeat(63)).unwrap()),
            wish: Wish::Weight(WantedWeight::Percent(WantedWeight::MOST_PERCENT)),
            by: ServerName::parse(&"b".repeat(63)).unwrap(),
            stamp: Stamp { at: END_OF_TIME - 1, version: u32::MAX, node: NodeId(u64::MAX) },
        }
    }

    fn decode(raw: &RawDecision) -> Result<WireDecision, postcard::Error> {
        postcard::from_bytes(&postcard::to_stdvec(raw).unwrap())
    }

    #[test]
    fn a_decision_survives_the_wire_and_several_fit_a_datagram() {
        let longest = WireDecision(decision());
        assert_eq!(decode(&longest.clone().into()), Ok(longest));
        assert!((4..8).contains(&fits(&vec![decision(); 64])), "{}", fits(&vec![decision(); 64]));
    }

    #[test]
    fn a_decision_with_a_bad_name_weight_or_time_is_refused() {
        for spoil in [
            |raw: &mut RawDecision| raw.pool = "<b>".into(),
            |raw: &mut RawDecision| raw.by = "x".repeat(64),
            |raw: &mut RawDecision| raw.server = RawKey::Static(String::new()),
            |raw: &mut RawDecision| raw.wish = RawWish::Weight(257),
            |raw: &mut RawDecision| raw.wish = RawWish::Percent(u16::MAX),
            |raw: &mut RawDecision| raw.at = u64::MAX,
        ] {
            let mut raw = WireDecision(decision()).into();
            spoil(&mut raw);
            assert!(decode(&raw).is_err());
        }
    }
}
