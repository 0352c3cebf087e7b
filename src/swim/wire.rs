//! Datagrams: `version | kind | body`, the body in postcard. With a key all but the version travels sealed
//! ([`super::seal`]).
//!
//! This is the only place where bytes become messages and back.
//! Nothing here is trusted: what does not decode completely is a [`DropReason`], never a panic.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    DropReason, Identity, Kind, ServiceRecord, seal,
    telling::{Agreed, Decided, Hinted},
};
use crate::model::NodeId;

/// Longest datagram in bytes: what fits the smallest IPv6 MTU without fragments (1,280 - 40 - 8; RFC 8200 section 5).
pub const MAX_DATAGRAM: usize = 1232;

/// Longest packet of foca that fits a datagram, sealed or not. A constant of the protocol: foca refuses longer ones also on receipt.
pub(crate) const MAX_SWIM: usize = MAX_DATAGRAM - seal::OVERHEAD - KIND;

/// Every unsealed hello has this size, which no answer exceeds: a forged source gets no amplification out of us.
pub(crate) const HELLO_SIZE: usize = 128;

const KIND: usize = 1;
const VERSION: u8 = 1;

/// One message between members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Datagram<'a> {
    Swim(&'a [u8]),
    Push(Push),
    Ask(Ask),
    Acknowledgement(Acknowledgement),
    Hello(Hello),
    Welcome(Welcome),
    Decided(Decided),
    Agreed(Agreed),
    Hinted(Hinted),
}

/// A record from its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Push {
    pub(crate) sender: Identity,
    /// Counts the pushes to this receiver; the acknowledgement repeats it.
    pub(crate) round: u32,
    pub(crate) record: ServiceRecord,
}

/// "Push me your record."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ask {
    pub(crate) sender: Identity,
}

/// "My pool follows this version of your record."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Acknowledgement {
    /// The boot that acknowledges.
    pub(crate) sender: NodeId,
    /// The boot whose record it is.
    pub(crate) node_id: NodeId,
    pub(crate) version: u64,
    pub(crate) round: u32,
    /// Requests that the sender still has on that node.
    pub(crate) in_flight: u32,
}

/// "Who are you?"
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) nonce: u64,
    /// Who asks. Nobody is taken in for it: it says which predecessor is worth telling.
    pub(crate) sender: Identity,
}

/// "I am this, and you look like that from here."
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Welcome {
    pub(crate) nonce: u64,
    pub(crate) identity: Identity,
    /// Source of the hello, as seen by the one who answers.
    pub(crate) observed: SocketAddr,
    /// Generation and boot of the other one that he knows at that address, or at the one which the sender advertises.
    pub(crate) predecessor: Option<(u64, NodeId)>,
}

impl Datagram<'_> {
    pub(crate) fn kind(&self) -> Kind {
        match self {
            Self::Swim(_) => Kind::Swim,
            Self::Push(_) => Kind::Push,
            Self::Ask(_) => Kind::Ask,
            Self::Acknowledgement(_) => Kind::Acknowledgement,
            Self::Hello(_) => Kind::Hello,
            Self::Welcome(_) => Kind::Welcome,
            Self::Decided(_) => Kind::Decided,
            Self::Agreed(_) => Kind::Agreed,
            Self::Hinted(_) => Kind::Hinted,
        }
    }

    /// The bytes to send unsealed.
    ///
    /// # Errors
    /// [`DropReason::Unencodable`] when they would not fit a datagram.
    pub(crate) fn encode(&self) -> Result<Vec<u8>, DropReason> {
        self.write(vec![VERSION])
    }

    /// Appends kind and body to what goes before them.
    ///
    /// # Errors
    /// [`DropReason::Unencodable`] when they would not fit a datagram, sealed or not.
    pub(crate) fn write(&self, mut head: Vec<u8>) -> Result<Vec<u8>, DropReason> {
        let begin = head.len();
        head.push(code(self.kind()));
        let bytes = match self {
            Self::Swim(packet) => {
                head.extend_from_slice(packet);
                head
            }
            Self::Push(push) => extend(head, push)?,
            Self::Ask(ask) => extend(head, ask)?,
            Self::Acknowledgement(acknowledgement) => extend(head, acknowledgement)?,
            Self::Hello(hello) => {
                let mut bytes = extend(head, hello)?;
                bytes.resize(begin + HELLO_SIZE - 1, 0);
                bytes
            }
            Self::Welcome(welcome) => extend(head, welcome)?,
            Self::Decided(decided) => extend(head, decided)?,
            Self::Agreed(agreed) => extend(head, agreed)?,
            Self::Hinted(hinted) => extend(head, hinted)?,
        };
        if bytes.len() - begin <= KIND + MAX_SWIM { Ok(bytes) } else { Err(DropReason::Unencodable) }
    }
}

/// Reads a datagram.
///
/// # Errors
/// Why it is no datagram of ours.
pub(crate) fn decode(bytes: &[u8]) -> Result<Datagram<'_>, DropReason> {
    if bytes.len() > MAX_DATAGRAM {
        return Err(DropReason::Oversized);
    }
    let &[version, ref message @ ..] = bytes else { return Err(DropReason::Malformed) };
    if version == VERSION { read(message) } else { Err(DropReason::Version) }
}

/// Reads kind and body.
///
/// # Errors
/// Why they are no message of ours.
pub(crate) fn read(message: &[u8]) -> Result<Datagram<'_>, DropReason> {
    let &[code, ref body @ ..] = message else { return Err(DropReason::Malformed) };
    match kind(code).ok_or(DropReason::UnknownKind)? {
        Kind::Swim => Ok(Datagram::Swim(body)),
        Kind::Push => whole(body).map(Datagram::Push),
        Kind::Ask => whole(body).map(Datagram::Ask),
        Kind::Acknowledgement => whole(body).map(Datagram::Acknowledgement),
        Kind::Hello if message.len() < HELLO_SIZE - 1 => Err(DropReason::Malformed),
        Kind::Hello => {
            postcard::take_from_bytes(body).map(|(hello, _)| Datagram::Hello(hello)).map_err(|_| DropReason::Malformed)
        }
        Kind::Welcome => whole(body).map(Datagram::Welcome),
        Kind::Decided => whole(body).map(Datagram::Decided),
        Kind::Agreed => whole(body).map(Datagram::Agreed),
        Kind::Hinted => whole(body).map(Datagram::Hinted),
    }
}

fn whole<T: DeserializeOwned>(body: &[u8]) -> Result<T, DropReason> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) | Err(_) => Err(DropReason::Malformed),
    }
}

fn extend<T: Serialize>(head: Vec<u8>, body: &T) -> Result<Vec<u8>, DropReason> {
    postcard::to_extend(body, head).map_err(|_| DropReason::Unencodable)
}

fn code(kind: Kind) -> u8 {
    match kind {
        Kind::Swim => 0,
        Kind::Push => 1,
        Kind::Ask => 2,
        Kind::Acknowledgement => 3,
        Kind::Hello => 4,
        Kind::Welcome => 5,
        Kind::Decided => 6,
        Kind::Agreed => 7,
        Kind::Hinted => 8,
    }
}

fn kind(code: u8) -> Option<Kind> {
    Kind::ALL.into_iter().find(|&kind| self::code(kind) == code)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        model::{Decision, Hint, PoolName, ServerName},
        swim::{
            MAX_RECORD, Role,
            identity::LATEST,
            telling::{WireDecision, WireHint, fits, tests::decision},
        },
    };

    fn identity() -> Identity {
        let longest = "[2001:db8:ffff:ffff:ffff:ffff:ffff:ffff]:65535".parse().unwrap();
        Identity::new(longest, LATEST, NodeId(u64::MAX), Role::Node).unwrap()
    }

    /// As long as they get.
    fn decided() -> Datagram<'static> {
        let decisions = vec![WireDecision::from(decision()); fits(&vec![decision(); 64])];
        Datagram::Decided(Decided { sender: identity(), round: u32::MAX, decisions })
    }

    fn push(tag: usize) -> Datagram<'static> {
        let (name, service) = (ServerName::parse("n").unwrap(), PoolName::parse("s").unwrap());
        let mut record = ServiceRecord::new(name, service, 1);
        record.tags.insert("t".into(), "x".repeat(tag));
        Datagram::Push(Push { sender: identity(), round: u32::MAX, record })
    }

    #[test]
    fn every_kind_survives_the_wire() {
        let nonce = u64::MAX;
        let welcome = Welcome {
            nonce,
            identity: identity(),
            observed: identity().address(),
            predecessor: Some((u64::MAX, NodeId(u64::MAX))),
        };
        let acknowledgement =
            Acknowledgement { sender: NodeId(1), node_id: NodeId(2), version: 3, round: 4, in_flight: 5 };
        let Decision { pool, server, .. } = decision();
        let hint = Hint { pool, server, is_up: true };
        for datagram in [
            Datagram::Swim(b"foca"),
            push(20),
            Datagram::Ask(Ask { sender: identity() }),
            Datagram::Acknowledgement(acknowledgement),
            Datagram::Hello(Hello { nonce, sender: identity() }),
            Datagram::Welcome(welcome),
            decided(),
            Datagram::Agreed(Agreed { sender: identity(), round: u32::MAX, digest: u64::MAX }),
            Datagram::Hinted(Hinted { sender: identity(), hint: WireHint(hint) }),
        ] {
            assert_eq!(decode(&datagram.encode().unwrap()), Ok(datagram));
        }
    }

    #[test]
    fn the_longest_welcome_is_not_longer_than_a_hello() {
        let predecessor = Some((u64::MAX, NodeId(u64::MAX)));
        let welcome = Welcome { nonce: u64::MAX, identity: identity(), observed: identity().address(), predecessor };
        assert!(Datagram::Welcome(welcome).encode().unwrap().len() <= HELLO_SIZE);
        let short = &Datagram::Hello(Hello { nonce: 1, sender: identity() }).encode().unwrap()[..HELLO_SIZE - 1];
        assert_eq!(decode(short), Err(DropReason::Malformed));
    }

    #[test]
    fn the_longest_record_fits_a_datagram() {
        assert!(push(MAX_RECORD).encode().unwrap().len() <= 1 + KIND + MAX_SWIM);
        assert!(
            decided().encode().unwrap().len() <= 1 + KIND + MAX_RECORD + 64,
            "decisions are no longer than records"
        );
    }

    #[test]
    fn junk_is_dropped_by_reason() {
        assert_eq!(decode(&[]), Err(DropReason::Malformed));
        assert_eq!(decode(&[9, 0]), Err(DropReason::Version));
        assert_eq!(decode(&[VERSION]), Err(DropReason::Malformed));
        assert_eq!(decode(&[VERSION, 99]), Err(DropReason::UnknownKind));
        assert_eq!(decode(&[VERSION; MAX_DATAGRAM + 1]), Err(DropReason::Oversized));
        let mut trailing = push(1).encode().unwrap();
        trailing.push(0);
        assert_eq!(decode(&trailing), Err(DropReason::Malformed));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_are_dropped(bytes in prop::collection::vec(any::<u8>(), 0..1300), kind in 0..10_u8) {
            let _ = decode(&bytes);
            let _ = decode(&[&[VERSION, kind][..], &bytes].concat());
        }
    }
}
