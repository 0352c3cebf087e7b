//! Between the wire and the rest: what is sealed is opened, what is not for us is refused and told.

use std::{net::SocketAddr, time::Duration};

use super::{Node, Output, Phase, wire};
use crate::{
    model::{KeyId, Keyring},
    swim::{
        DropReason,
        seal::{self, Opened},
        wire::Datagram,
    },
};

/// Least time from one refusal that is told to the next for the same reason.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60);

/// How a member's datagrams are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// The key that it sends with.
    pub key: KeyId,
    /// All that it accepts, that one included.
    pub accepted: Vec<KeyId>,
}

impl Node {
    /// How datagrams are sealed; `None` when they are not.
    pub fn sealing(&self) -> Option<Sealing> {
        let keys = self.sealer.as_ref()?.keys();
        Some(Sealing { key: keys.first().id(), accepted: keys.keys().iter().map(|key| key.id()).collect() })
    }

    /// Other keys from now on. A member without a key stays without: its whole cluster would have to change at one moment.
    pub(super) fn set_keys(&mut self, keys: Keyring) {
        if let Some(sealer) = &mut self.sealer {
            sealer.set_keys(keys);
        }
    }

    pub(super) fn unseal(&mut self, from: SocketAddr, bytes: &[u8], out: &mut Vec<Output>) {
        self.counters.received_bytes += bytes.len() as u64;
        let Some(sealer) = &mut self.sealer else {
            return match seal::claimed_key(bytes) {
                Some(key) => self.refuse(from, DropReason::Sealed, Some(key), out),
                None => self.receive(from, wire::decode(bytes), out),
            };
        };
        if wire::decode(bytes).is_ok() {
            return self.refuse(from, DropReason::Unsealed, None, out);
        }
        match sealer.open(self.now, bytes, &mut self.rng) {
            Ok(Opened::Message(message)) => {
                self.receive(from, wire::read(message.get(1..).unwrap_or_default()), out);
                if let Some(sealer) = &mut self.sealer {
                    sealer.give_back(message);
                }
            }
            Ok(Opened::Challenge(bytes)) => {
                self.counters.challenges_sent += 1;
                self.transmit(from, bytes, out);
            }
            Ok(Opened::Answer { to, bytes }) => {
                if self.phase != Phase::Gone {
                    self.counters.challenges_answered += 1;
                    self.transmit(to, bytes, out);
                }
            }
            Err(reason) => self.refuse(from, reason, seal::claimed_key(bytes), out),
        }
    }

    /// The bytes to send, sealed if there is a key.
    pub(super) fn encode(&mut self, to: SocketAddr, datagram: &Datagram<'_>) -> Result<Vec<u8>, DropReason> {
        match &mut self.sealer {
            Some(sealer) => sealer.seal(to, |head| datagram.write(head)),
            None => datagram.encode(),
        }
    }

    /// Sends what is ready to be sent.
    pub(super) fn transmit(&mut self, to: SocketAddr, bytes: Vec<u8>, out: &mut Vec<Output>) {
        self.counters.sent_bytes += bytes.len() as u64;
        out.push(Output::Send { to, bytes });
    }

    /// Counts a datagram that is dropped. What a wrong key or name would explain is told, though not each time: whoever
    /// sends it sends on.
    fn refuse(&mut self, from: SocketAddr, reason: DropReason, key: Option<KeyId>, out: &mut Vec<Output>) {
        self.counters.dropped(reason);
        if reason.is_about_keys() && self.refused.get(&reason).is_none_or(|&told| told + REFUSAL_PAUSE <= self.now) {
            self.refused.insert(reason, self.now);
            out.push(Output::Refused { from, reason, key });
        }
    }
}
