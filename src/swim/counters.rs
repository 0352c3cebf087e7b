//! What was sent, received and dropped, who is there, and how fast news travels.
//!
//! Why no Prometheus families here? The core counts; how it is shown, and to whom, is for others to decide.

use std::{collections::BTreeMap, time::Duration};

use super::{MemberState, Role};

/// What a datagram carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A packet of the SWIM protocol.
    Swim,
    /// A record, from its owner to a balancer.
    Push,
    /// A balancer asks for a record that it lacks.
    Ask,
    /// A balancer's pool follows a record.
    Acknowledgement,
    /// "Who answers at this address?"
    Hello,
    /// The answer to a hello.
    Welcome,
    /// Decisions of operators, from balancer to balancer.
    Decided,
    /// A balancer holds these decisions.
    Agreed,
    /// A server went up or down, as a balancer's checks found.
    Hinted,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 9] = [
        Self::Swim,
        Self::Push,
        Self::Ask,
        Self::Acknowledgement,
        Self::Hello,
        Self::Welcome,
        Self::Decided,
        Self::Agreed,
        Self::Hinted,
    ];

    /// What metrics call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Swim => "swim",
            Self::Push => "push",
            Self::Ask => "ask",
            Self::Acknowledgement => "acknowledgement",
            Self::Hello => "hello",
            Self::Welcome => "welcome",
            Self::Decided => "decided",
            Self::Agreed => "agreed",
            Self::Hinted => "hinted",
        }
    }
}

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Longer than [`super::MAX_DATAGRAM`].
    Oversized,
    /// Another version of the protocol, or not the protocol at all.
    Version,
    /// A kind that this version does not know.
    UnknownKind,
    /// The bytes do not decode.
    Malformed,
    /// From an identity with our own address.
    FromOurselves,
    /// To our address, but to the identity that had it before us.
    ForOurPredecessor,
    /// To somebody else.
    NotForUs,
    /// It would take us over [`super::MAX_MEMBERS`].
    MembersFull,
    /// A record that does not come from the address of its owner, or a stranger's packet that does not come from his.
    RecordAddress,
    /// A record or a question of somebody who is not a member.
    NotAMember,
    /// A record older than the one at hand.
    Stale,
    /// An answer to a hello that we never sent, or an acknowledgement of something we did not push.
    Unsolicited,
    /// A second live member with the boot id of another one.
    DuplicateNode,
    /// More hints than anybody needs, more datagrams of somebody who has not shown to be alive than are answered, or another
    /// word that we are down while we are coming back from that.
    TooMany,
    /// A decision by a clock that is more than a day ahead of ours. The others of its datagram are taken in.
    Future,
    /// Sealed, and we have no key.
    Sealed,
    /// Not sealed, and we have a key.
    Unsealed,
    /// Sealed with a key that we do not accept.
    UnknownKey,
    /// Said to be sealed with a key of ours, and forged, spoiled on the way or of a cluster with another name.
    NotAuthentic,
    /// Sealed, and seen before.
    Replayed,
    /// Of a sender that has not shown to be alive, and too short to be answered by a challenge.
    Unproven,
    /// Arrived after we left.
    AfterLeave,
    /// An own message or record that could not be encoded. A bug of ours.
    Unencodable,
    /// foca reports a broken promise of its runtime. A bug of ours.
    Internal,
}

impl DropReason {
    /// What metrics call it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Oversized => "oversized",
            Self::Version => "version",
            Self::UnknownKind => "unknown_kind",
            Self::Malformed => "malformed",
            Self::FromOurselves => "from_ourselves",
            Self::ForOurPredecessor => "for_our_predecessor",
            Self::NotForUs => "not_for_us",
            Self::MembersFull => "members_full",
            Self::RecordAddress => "record_address",
            Self::NotAMember => "not_a_member",
            Self::Stale => "stale",
            Self::Unsolicited => "unsolicited",
            Self::DuplicateNode => "duplicate_node",
            Self::TooMany => "too_many",
            Self::Future => "future",
            Self::Sealed => "sealed",
            Self::Unsealed => "unsealed",
            Self::UnknownKey => "unknown_key",
            Self::NotAuthentic => "not_authentic",
            Self::Replayed => "replayed",
            Self::Unproven => "unproven",
            Self::AfterLeave => "after_leave",
            Self::Unencodable => "unencodable",
            Self::Internal => "internal",
        }
    }

    /// Whether a member with another key, without one, or of another cluster would cause it.
    pub fn is_about_keys(self) -> bool {
        match self {
            Self::Sealed | Self::Unsealed | Self::UnknownKey | Self::NotAuthentic => true,
            Self::Oversized
            | Self::Version
            | Self::UnknownKind
            | Self::Malformed
            | Self::FromOurselves
            | Self::ForOurPredecessor
            | Self::NotForUs
            | Self::MembersFull
            | Self::RecordAddress
            | Self::NotAMember
            | Self::Stale
            | Self::Unsolicited
            | Self::DuplicateNode
            | Self::TooMany
            | Self::Future
            | Self::Replayed
            | Self::Unproven
            | Self::AfterLeave
            | Self::Unencodable
            | Self::Internal => false,
        }
    }
}

/// Totals since the node started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams that decoded, by kind.
    pub received: BTreeMap<Kind, u64>,
    /// Datagrams handed to the driver, by kind.
    pub sent: BTreeMap<Kind, u64>,
    /// Datagrams dropped, by reason.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Bytes of all received datagrams, decoded or dropped, without the headers of IP and UDP.
    pub received_bytes: u64,
    /// Bytes of all sent datagrams, without the headers of IP and UDP.
    pub sent_bytes: u64,
    /// Our probes that neither the member nor anybody whom we asked to try it has answered in time.
    pub probe_failures: u64,
    /// Members that turned suspect by our own probes. What others suspect is not in it, see [`Census::members`].
    pub suspicions: u64,
    /// Those of our suspicions that the suspect refuted in time.
    pub refuted: u64,
    /// Senders that were asked for a sign of life.
    pub challenges_sent: u64,
    /// Signs of life that we gave.
    pub challenges_answered: u64,
    /// From a change of our record until every live balancer has acknowledged it.
    pub convergence: Timings,
    /// From an operator's decision, made or heard of here, until every live balancer was known to hold it.
    pub agreement: Timings,
}

/// Durations, counted in buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timings {
    /// How many.
    pub count: u64,
    /// All of them together.
    pub sum: Duration,
    /// How many were at most as long as [`Timings::BOUNDS`] at the same position; each counts in all buckets that fit.
    pub at_most: [u64; Self::BOUNDS.len()],
}

impl Timings {
    /// Upper ends of the buckets. What takes longer is in `count` alone.
    pub const BOUNDS: [Duration; 9] = [
        Duration::from_millis(5),
        Duration::from_millis(20),
        Duration::from_millis(50),
        Duration::from_millis(100),
        Duration::from_millis(250),
        Duration::from_millis(500),
        Duration::from_secs(1),
        Duration::from_secs(2),
        Duration::from_secs(5),
    ];

    pub(crate) fn add(&mut self, time: Duration) {
        self.count += 1;
        self.sum += time;
        for (bucket, bound) in self.at_most.iter_mut().zip(Self::BOUNDS) {
            *bucket += u64::from(time <= bound);
        }
    }
}

/// Who is there at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Members by what they are for and their state, ourselves included. Who failed or left is counted as long as it is
    /// listed.
    pub members: BTreeMap<(Role, MemberState), u64>,
    /// Live members whose record we hold.
    pub records: u64,
    /// Age of the oldest of these records: the time since its owner last pushed it. About 10 s at most while all is well.
    /// Nodes have none, because records are pushed to balancers alone.
    pub oldest_record: Option<Duration>,
    /// How long our own record has been waiting for the acknowledgement of some balancer.
    pub unacknowledged: Option<Duration>,
    /// Decisions of operators that we hold.
    pub decisions: usize,
    /// How long we have been thinking that it is us who are cut off: see [`super::Output::CutOff`].
    pub cut_off: Option<Duration>,
}

impl Counters {
    pub(crate) fn received(&mut self, kind: Kind) {
        *self.received.entry(kind).or_default() += 1;
    }

    pub(crate) fn sent(&mut self, kind: Kind) {
        *self.sent.entry(kind).or_default() += 1;
    }

    pub(crate) fn dropped(&mut self, reason: DropReason) {
        *self.dropped.entry(reason).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_in_every_bucket_that_is_long_enough() {
        let mut timings = Timings::default();
        for ms in [5, 6, 10_000] {
            timings.add(Duration::from_millis(ms));
        }
        assert_eq!((timings.count, timings.sum), (3, Duration::from_millis(10_011)));
        assert_eq!((timings.at_most[0], timings.at_most[1], timings.at_most[8]), (1, 2, 2));
    }
}
