//! Sealed datagrams: who has the cluster's key speaks and is heard, and nobody else.
//!
//! ```text
//! version 1 | key id 4 | boot 16 | counter 8 | ciphertext | tag 16
//! ```
//!
//! ChaCha20-Poly1305 (RFC 8439) with the header and the cluster's name as associated data. The key is HKDF-SHA256 of the
//! cluster key with the sender's boot as salt, the nonce is the sender's counter.
//!
//! Why 128 random bits for a boot, when a [`crate::model::NodeId`] is there? A nonce must never come twice under one key.
//! Counters start anew at each start, so two starts that draw the same boot would reuse them all; of 64 bits that is to be
//! expected after some billions of starts, and its price is not a mixed-up member but the key stream. 128 bits are never
//! exhausted, and a member need not keep a counter on a disk.
//!
//! # Against whom
//!
//! Somebody who reads, changes, drops, repeats and sends datagrams from any address, and has no key. A member that turns
//! against its cluster is not kept out, nor is somebody who learns the key: he reads also what was recorded before.
//!
//! - **Forged, spoiled or of another cluster**: the tag is wrong, and nothing happens. An unknown key id costs no
//!   cryptography.
//! - **Repeated to the same receiver**: each sender has a [`replay::Window`] of its counters.
//! - **Recorded, and repeated to a receiver that has no window for that sender**, because it has restarted or has forgotten
//!   the sender: an old announcement and an old record could bring back a server whose address is another one's by now.
//!   So whoever is unknown must first show that it is alive. Its datagram is not taken in; it is answered by a challenge,
//!   which quotes that datagram's tag and carries the receiver's present token, and the sender repeats what it had to say
//!   together with the token. Only that opens a window. The token is drawn anew at each start, and whenever a window
//!   is given up, so no recorded answer opens one again.
//! - **A recorded challenge**: the sender remembers its last datagrams by their tags, and each is repeated once and to
//!   where it first went. The quoted tag also proves the one who challenges: it was made a moment ago. So both know each
//!   other after one round trip, once in the life of a pair of members.
//! - **Sent back to its sender**: our own boot is refused.
//! - **Repeated to another member than it was meant for**: SWIM packets, acknowledgements and answers name their
//!   receiver. A record or a question does not: it is true for whoever hears it, and older versions are stale.
//! - **Passed on**: a hello does not name its receiver, who is not known yet. So whoever owns an address that is dialled can
//!   pass it on to a member, and the answer back, and what is then sent to that member by way of him he can drop. It is sent
//!   there only until the address which the member advertises answers, that is for one round trip; and never when the
//!   member was reached by that before ([`super::contact`]). Where it does not answer there is no other way anyhow.
//! - **Memory and work**: what is not authentic leaves no state. Windows are bounded by [`MAX_SENDERS`]; a challenge is never
//!   longer than what causes it, and their number is limited.
//!
//! Why no time stamps? Clocks of containers and machines that wake up are wrong by hours, and a cluster must not fall apart
//! for that.

mod header;
mod replay;
mod sent;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, net::SocketAddr, time::Duration};

use chacha20poly1305::{AeadInOut, ChaCha20Poly1305, KeyInit, Nonce, Tag};
use rand::{RngExt, rngs::StdRng};
use rustc_hash::FxBuildHasher;

pub(crate) use self::header::OVERHEAD;
use self::{
    header::{Boot, HEADER, Header, TAG},
    replay::Window,
    sent::{Quote, Sent},
};
use super::{DropReason, MAX_DATAGRAM, MAX_MEMBERS};
use crate::model::{ClusterKey, ClusterSecret, KeyId, Keyring};

/// Most senders whose counters are followed: all members, and those who have just gone.
const MAX_SENDERS: usize = MAX_MEMBERS + 256;
/// What the derived keys are for.
const PURPOSE: &[u8] = b"lb gossip 2";

/// What a sealed datagram holds, its first byte.
const PLAIN: u8 = 0;
const PROVEN: u8 = 1;
const CHALLENGE: u8 = 2;
const TOKEN: usize = 8;
const CHALLENGE_SIZE: usize = HEADER + 1 + size_of::<Quote>() + TOKEN + TAG;

/// Seals and opens one member's datagrams.
pub(crate) struct Sealer {
    keys: Keyring,
    boot: Boot,
    /// Of the last datagram that was sealed.
    counter: u64,
    cipher: ChaCha20Poly1305,
    sending: KeyId,
    /// The cluster's name behind room for a header: the associated data.
    associated: Vec<u8>,
    token: u64,
    senders: HashMap<Boot, Sender, FxBuildHasher>,
    sent: Sent,
    /// What was opened last.
    opened: Vec<u8>,
}

/// Somebody who has shown to be alive.
struct Sender {
    key: KeyId,
    cipher: ChaCha20Poly1305,
    window: Window,
    heard: Duration,
}

/// What came of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Opened {
    /// It says this, behind a first byte that is of no meaning. To be given back for the next one.
    Message(Vec<u8>),
    /// Its sender is to be asked for a sign of life with this datagram.
    Challenge(Vec<u8>),
    /// It was a challenge. This is what it asks for.
    Answer { to: SocketAddr, bytes: Vec<u8> },
}

impl Sealer {
    pub(crate) fn new(secret: ClusterSecret, rng: &mut StdRng) -> Self {
        let ClusterSecret { keys, name } = secret;
        let boot = Boot(rng.random());
        let (cipher, sending) = first_of(&keys, boot);
        let mut associated = vec![0; HEADER];
        associated.extend_from_slice(name.as_str().as_bytes());
        Self {
            keys,
            boot,
            counter: 0,
            cipher,
            sending,
            associated,
            token: rng.random(),
            senders: HashMap::default(),
            sent: Sent::default(),
            opened: Vec::new(),
        }
    }

    /// Other keys from now on. The counter goes on: a key that comes back meets no nonce again.
    pub(crate) fn set_keys(&mut self, keys: Keyring) {
        (self.cipher, self.sending) = first_of(&keys, self.boot);
        self.keys = keys;
    }

    pub(crate) fn keys(&self) -> &Keyring {
        &self.keys
    }

    pub(crate) fn give_back(&mut self, message: Vec<u8>) {
        self.opened = message;
    }

    /// The sealed datagram of a message, which `write` appends to what it is given.
    pub(crate) fn seal<E>(
        &mut self,
        to: SocketAddr,
        write: impl FnOnce(Vec<u8>) -> Result<Vec<u8>, E>,
    ) -> Result<Vec<u8>, E> {
        let mut bytes = Vec::with_capacity(256);
        bytes.resize(HEADER, 0);
        bytes.push(PLAIN);
        let mut bytes = write(bytes)?;
        self.sent.remember(to, &bytes[HEADER + 1..]);
        let quote = self.finish(&mut bytes);
        self.sent.name_newest(quote);
        Ok(bytes)
    }

    /// Opens what came in.
    pub(crate) fn open(&mut self, now: Duration, bytes: &[u8], rng: &mut StdRng) -> Result<Opened, DropReason> {
        if bytes.len() > MAX_DATAGRAM {
            return Err(DropReason::Oversized);
        }
        let (header, sealed, tag) = Header::parse(bytes)?;
        if header.boot == self.boot {
            return Err(DropReason::FromOurselves);
        }
        let key = self.keys.keys().iter().find(|key| key.id() == header.key).ok_or(DropReason::UnknownKey)?;
        let known = self.senders.get(&header.boot).filter(|sender| sender.key == header.key);
        let fresh;
        let cipher = match known {
            // What was seen already is not worth opening.
            Some(sender) if sender.window.has(header.counter) => return Err(DropReason::Replayed),
            Some(sender) => &sender.cipher,
            None => {
                fresh = cipher_of(key, header.boot);
                &fresh
            }
        };
        self.opened.clear();
        self.opened.extend_from_slice(sealed);
        self.associated[..HEADER].copy_from_slice(&bytes[..HEADER]);
        cipher
            .decrypt_inout_detached(
                &nonce(header.counter),
                &self.associated,
                (&mut *self.opened).into(),
                &Tag::from(tag),
            )
            .map_err(|_| DropReason::NotAuthentic)?;
        let cipher = cipher.clone();
        match self.opened.first().copied() {
            Some(CHALLENGE) => self.challenged(now, header, cipher, rng),
            Some(form @ (PLAIN | PROVEN)) => {
                let proof = if form == PROVEN { 1..1 + TOKEN } else { 1..1 };
                let token = self.opened.get(proof.clone()).ok_or(DropReason::Malformed)?;
                if self.senders.contains_key(&header.boot) {
                    self.accept(now, header, cipher)?;
                } else if token == self.token.to_le_bytes() {
                    self.meet(now, header, cipher, rng);
                } else {
                    return self.challenge(bytes.len(), tag);
                }
                self.opened.drain(proof);
                Ok(Opened::Message(std::mem::take(&mut self.opened)))
            }
            Some(_) | None => Err(DropReason::Malformed),
        }
    }

    /// Somebody asks whether we are alive, quoting what we sent.
    fn challenged(
        &mut self,
        now: Duration,
        header: Header,
        cipher: ChaCha20Poly1305,
        rng: &mut StdRng,
    ) -> Result<Opened, DropReason> {
        let Some((quote, token)) = self.opened[1..].split_first_chunk() else { return Err(DropReason::Malformed) };
        let token: [u8; TOKEN] = token.try_into().map_err(|_| DropReason::Malformed)?;
        let Some((to, message)) = self.sent.take(*quote) else { return Err(DropReason::Unsolicited) };
        if self.senders.contains_key(&header.boot) {
            self.accept(now, header, cipher)?;
        } else {
            self.meet(now, header, cipher, rng);
        }
        let mut bytes = Vec::with_capacity(HEADER + 1 + TOKEN + message.len() + TAG);
        bytes.resize(HEADER, 0);
        bytes.push(PROVEN);
        bytes.extend_from_slice(&token);
        bytes.extend_from_slice(&message);
        self.finish(&mut bytes);
        self.sent.give_back(message);
        Ok(Opened::Answer { to, bytes })
    }

    /// Asks an unknown sender whether it is alive.
    fn challenge(&mut self, length: usize, tag: [u8; TAG]) -> Result<Opened, DropReason> {
        // A source may be forged: nobody gets more than he spent.
        if length < CHALLENGE_SIZE {
            return Err(DropReason::Unproven);
        }
        let mut bytes = Vec::with_capacity(CHALLENGE_SIZE);
        bytes.resize(HEADER, 0);
        bytes.push(CHALLENGE);
        bytes.extend_from_slice(&sent::quote(tag));
        bytes.extend_from_slice(&self.token.to_le_bytes());
        self.finish(&mut bytes);
        Ok(Opened::Challenge(bytes))
    }

    /// Takes in the counter of a known sender.
    fn accept(&mut self, now: Duration, header: Header, cipher: ChaCha20Poly1305) -> Result<(), DropReason> {
        let Some(sender) = self.senders.get_mut(&header.boot) else { return Err(DropReason::Unproven) };
        if !sender.window.accept(header.counter) {
            return Err(DropReason::Replayed);
        }
        (sender.key, sender.cipher, sender.heard) = (header.key, cipher, now);
        Ok(())
    }

    /// Begins to follow the counters of somebody who is alive.
    fn meet(&mut self, now: Duration, header: Header, cipher: ChaCha20Poly1305, rng: &mut StdRng) {
        if self.senders.len() >= MAX_SENDERS {
            let longest = self.senders.iter().min_by_key(|(boot, sender)| (sender.heard, **boot));
            if let Some(boot) = longest.map(|(boot, _)| *boot) {
                self.senders.remove(&boot);
                // Whatever it once answered with is void.
                self.token = rng.random();
            }
        }
        let window = Window::beginning_at(header.counter);
        self.senders.insert(header.boot, Sender { key: header.key, cipher, window, heard: now });
    }

    /// Writes the header, seals what follows it and appends the tag; what a challenge would quote.
    fn finish(&mut self, bytes: &mut Vec<u8>) -> Quote {
        self.counter += 1;
        let header = Header { key: self.sending, boot: self.boot, counter: self.counter }.to_bytes();
        self.associated[..HEADER].copy_from_slice(&header);
        bytes[..HEADER].copy_from_slice(&header);
        let sealed =
            self.cipher.encrypt_inout_detached(&nonce(self.counter), &self.associated, (&mut bytes[HEADER..]).into());
        // Only a message of 256 GiB fails.
        let tag: [u8; TAG] = sealed.map_or([0; TAG], Into::into);
        bytes.extend_from_slice(&tag);
        sent::quote(tag)
    }
}

/// The key that a datagram claims to be sealed with; `None` when it is not sealed.
pub(crate) fn claimed_key(bytes: &[u8]) -> Option<KeyId> {
    Header::parse(bytes).ok().map(|(header, ..)| header.key)
}

fn first_of(keys: &Keyring, boot: Boot) -> (ChaCha20Poly1305, KeyId) {
    (cipher_of(keys.first(), boot), keys.first().id())
}

fn cipher_of(key: &ClusterKey, Boot(boot): Boot) -> ChaCha20Poly1305 {
    let mut bytes = [0; 32];
    key.derive(&boot, PURPOSE, &mut bytes);
    ChaCha20Poly1305::new(&bytes.into())
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; 12];
    nonce[4..].copy_from_slice(&counter.to_le_bytes());
    nonce.into()
}
