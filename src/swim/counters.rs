//! What was sent, received and dropped.

use std::collections::BTreeMap;

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
    /// A record that does not come from the address of its owner.
    RecordAddress,
    /// A record or a question of somebody who is not a member.
    NotAMember,
    /// A record older than the one at hand.
    Stale,
    /// An answer to a hello that we never sent, or an acknowledgement of something we did not push.
    Unsolicited,
    /// A second live member with the boot id of another one.
    DuplicateNode,
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
    /// Senders that were asked for a sign of life.
    pub challenges_sent: u64,
    /// Signs of life that we gave.
    pub challenges_answered: u64,
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
