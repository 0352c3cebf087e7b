//! The clear part of a sealed datagram.

use crate::{model::KeyId, swim::DropReason};

/// First byte of a sealed datagram; that of an unsealed one is 1.
const SEALED: u8 = 2;
/// What sealing adds to a message: header, form, token and tag.
pub(crate) const OVERHEAD: usize = HEADER + 1 + super::TOKEN + TAG;

pub(super) const BOOT: usize = 16;
pub(super) const TAG: usize = 16;
pub(super) const HEADER: usize = 1 + KEY_ID + BOOT + COUNTER;
const KEY_ID: usize = 4;
const COUNTER: usize = 8;

/// One start of a sender, drawn at random.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Boot(pub(super) [u8; BOOT]);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) key: KeyId,
    pub(super) boot: Boot,
    pub(super) counter: u64,
}

impl Header {
    pub(super) fn to_bytes(self) -> [u8; HEADER] {
        let Self { key: KeyId(key), boot: Boot(boot), counter } = self;
        let mut bytes = [SEALED; HEADER];
        bytes[1..][..KEY_ID].copy_from_slice(&key);
        bytes[1 + KEY_ID..][..BOOT].copy_from_slice(&boot);
        bytes[1 + KEY_ID + BOOT..].copy_from_slice(&counter.to_le_bytes());
        bytes
    }

    /// Takes a datagram apart: header, ciphertext, tag.
    pub(super) fn parse(bytes: &[u8]) -> Result<(Self, &[u8], [u8; TAG]), DropReason> {
        let Some((&version, rest)) = bytes.split_first() else { return Err(DropReason::Malformed) };
        if version != SEALED {
            return Err(DropReason::Version);
        }
        let parts = || {
            let (key, rest) = rest.split_first_chunk()?;
            let (boot, rest) = rest.split_first_chunk()?;
            let (counter, rest) = rest.split_first_chunk()?;
            let (sealed, tag) = rest.split_last_chunk()?;
            Some((Self { key: KeyId(*key), boot: Boot(*boot), counter: u64::from_le_bytes(*counter) }, sealed, *tag))
        };
        parts().ok_or(DropReason::Malformed)
    }
}
