//! What operators want of servers, in words that balancers share.

use super::{AdminState, NodeId, PoolName, ServerName, Weight};

/// Who a server is on every balancer of a cluster, across its coming and going.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ServerKey {
    /// One of the configuration, by its name there.
    Static(ServerName),
    /// One that joined by itself, by the boot of its node.
    Node(NodeId),
}

impl std::fmt::Display for ServerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Static(name) => write!(f, "{name}"),
            Self::Node(node) => write!(f, "node {node}"),
        }
    }
}

/// A share as an operator writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedWeight {
    /// This one.
    Absolute(Weight),
    /// So many percent of the initial one; 100 is as if nobody had wanted anything.
    Percent(u16),
}

impl WantedWeight {
    /// Largest number of percent that makes a difference: the least weight that is one becomes the largest.
    pub const MOST_PERCENT: u16 = 25_600;

    /// The share of a server whose initial one is given, at most 256.
    pub fn of(self, initial: Weight) -> Weight {
        match self {
            Self::Absolute(weight) => weight,
            Self::Percent(percent) => {
                let share = u64::from(initial.get()) * u64::from(percent) / 100;
                u16::try_from(share).ok().and_then(|share| Weight::new(share).ok()).unwrap_or(Weight::MAX)
            }
        }
    }
}

impl std::fmt::Display for WantedWeight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Absolute(weight) => write!(f, "{weight}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What an operator wants of a server for as long as nobody wants something else. State and weight are apart: whoever
/// drains a server says nothing about its weight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    /// To be in this state.
    State(AdminState),
    /// To have this share.
    Weight(WantedWeight),
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::State(state) => write!(f, "{}", state.word()),
            Self::Weight(weight) => write!(f, "weight {weight}"),
        }
    }
}

/// Which of two decisions of operators holds: the later one by the clocks of their balancers.
///
/// Why no clock alone: clocks differ, and an operator who sees a drain and takes it back must win over it. So whoever
/// decides stamps later than everything that he has seen ([`Stamp::after`]), as in Lamport's clocks (CACM 21(7), 1978).
/// `version` and `node` make the order total.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Stamp {
    /// Unix time in milliseconds.
    pub at: u64,
    /// How many decisions led to this one.
    pub version: u32,
    /// The balancer on which it was made.
    pub node: NodeId,
}

impl Stamp {
    /// The last millisecond of the year 9999: a later time can't be written down (RFC 3339).
    pub const LATEST: u64 = 253_402_300_799_999;

    /// A stamp of now that is later than the one that holds. At the end of time `version` alone makes it so.
    pub fn after(seen: Option<Self>, unix_ms: u64, node: NodeId) -> Self {
        let (earliest, version) = seen.map_or((0, 0), |seen| (seen.at.saturating_add(1), seen.version));
        Self { at: unix_ms.max(earliest).min(Self::LATEST), version: version.saturating_add(1), node }
    }
}

/// What an operator decided, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The pool.
    pub pool: PoolName,
    /// The server.
    pub server: ServerKey,
    /// What is wanted of it.
    pub wish: Wish,
    /// Name of the balancer on which it was decided.
    pub by: ServerName,
    /// Which decision about the same holds.
    pub stamp: Stamp,
}

/// What one balancer's checks found of a server: it went up, or down. A hint, on which another one checks it itself.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hint {
    /// The pool.
    pub pool: PoolName,
    /// The server.
    pub server: ServerKey,
    /// Whether it is up.
    pub is_up: bool,
}

/// What balancers tell each other of servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// An operator decided something.
    Decision(Decision),
    /// A server went up or down.
    Hint(Hint),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_share_in_percent_is_a_weight_and_100_changes_nothing(initial in 0u16..=256, percent in 0u16..=25_600) {
            let initial = Weight::new(initial).unwrap();
            let share = WantedWeight::Percent(percent).of(initial);
            prop_assert!(share <= Weight::MAX);
            prop_assert!((share <= initial) == (percent <= 100 || share == initial));
            prop_assert_eq!(WantedWeight::Percent(100).of(initial), initial);
        }

        #[test]
        fn whoever_has_seen_a_decision_decides_later_whatever_his_clock_says(at: u32, now: u32, version: u16, nodes: (u64, u64)) {
            let seen = Stamp { at: at.into(), version: version.into(), node: NodeId(nodes.0) };
            let after = Stamp::after(Some(seen), now.into(), NodeId(nodes.1));
            prop_assert!(after > seen);
            prop_assert!(after.at >= u64::from(now));
        }

        #[test]
        fn words_at_the_end_of_time_still_follow_each_other(left in 0..3_u64, now: u64, version in 0..u32::MAX) {
            let seen = Stamp { at: Stamp::LATEST - left, version, node: NodeId(7) };
            let after = Stamp::after(Some(seen), now, NodeId(1));
            prop_assert!(after > seen && after.at <= Stamp::LATEST);
        }
    }
}
