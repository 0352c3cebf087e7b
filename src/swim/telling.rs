//! What balancers tell each other of servers, as it travels: decisions of operators, their acknowledgement, and hints.
//!
//! Nothing in it is believed yet: names are read anew, and a word of the far future would win over every later one. A
//! decision that is no good is dropped alone, since others of its datagram may be all that a server's operator waits for.

use serde::{Deserialize, Serialize};

use super::Identity;
use crate::model::{
    AdminState, Decision, Hint, NameError, NodeId, PoolName, ServerKey, ServerName, Stamp, WantedWeight, Weight, Wish,
};

/// Most bytes of decisions in one datagram; the longest decision takes a quarter of it.
const MAX_BYTES: usize = 900;
/// How far ahead of ours the clock of another balancer may be, in milliseconds: by more than a wrong time zone makes.
const MOST_AHEAD: u64 = 24 * 3600 * 1000;

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
        postcard::to_stdvec(&WireDecision::from(decision.clone())).map_or(MAX_BYTES, |bytes| bytes.len())
    };
    let in_time = decisions.iter().take_while(|decision| {
        let size = size(decision);
        let fits = size <= left;
        left = left.saturating_sub(size);
        fits
    });
    in_time.count()
}

/// A hint that is read from the wire and written to it.
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

/// A decision as it travels. Whoever receives one checks it: [`WireDecision::check`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WireDecision {
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

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum RawKey {
    Static(String),
    Node(NodeId),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

impl From<Decision> for WireDecision {
    fn from(decision: Decision) -> Self {
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

impl WireDecision {
    /// The decision, if it may be believed at this Unix time in milliseconds. Who doesn't know the time believes all but the
    /// last day of time, which leaves room for a later word.
    pub(crate) fn check(self, unix_ms: Option<u64>) -> Result<Decision, TellingError> {
        let Self { pool, server, wish, by, at, version, node } = self;
        let latest = Stamp::LATEST - MOST_AHEAD;
        if at > unix_ms.map_or(latest, |unix| unix.saturating_add(MOST_AHEAD).min(latest)) {
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
        Ok(Decision {
            pool: PoolName::parse(&pool)?,
            server: server.try_into()?,
            wish,
            by: ServerName::parse(&by)?,
            stamp: Stamp { at, version, node },
        })
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
            stamp: Stamp { at: Stamp::LATEST - MOST_AHEAD, version: u32::MAX, node: NodeId(u64::MAX) },
        }
    }

    #[test]
    fn a_decision_survives_the_wire_and_several_fit_a_datagram() {
        let bytes = postcard::to_stdvec(&WireDecision::from(decision())).unwrap();
        assert_eq!(postcard::from_bytes::<WireDecision>(&bytes).unwrap().check(None).unwrap(), decision());
        assert!((4..8).contains(&fits(&vec![decision(); 64])), "{}", fits(&vec![decision(); 64]));
    }

    #[test]
    fn a_decision_with_a_bad_name_weight_or_time_is_refused() {
        for spoil in [
            |raw: &mut WireDecision| raw.pool = "<b>".into(),
            |raw: &mut WireDecision| raw.by = "x".repeat(64),
            |raw: &mut WireDecision| raw.server = RawKey::Static(String::new()),
            |raw: &mut WireDecision| raw.wish = RawWish::Weight(257),
            |raw: &mut WireDecision| raw.wish = RawWish::Percent(u16::MAX),
            |raw: &mut WireDecision| raw.at = u64::MAX,
            |raw: &mut WireDecision| raw.at += 1,
        ] {
            let mut raw = WireDecision::from(decision());
            spoil(&mut raw);
            assert!(raw.check(None).is_err());
        }
    }

    #[test]
    fn a_decision_is_at_most_a_day_ahead_of_our_clock() {
        let now = 1_700_000_000_000;
        let of = |at| WireDecision { at, ..decision().into() }.check(Some(now));
        assert!(of(0).is_ok() && of(now + MOST_AHEAD).is_ok());
        assert!(matches!(of(now + MOST_AHEAD + 1), Err(TellingError::Time)));
    }
}
