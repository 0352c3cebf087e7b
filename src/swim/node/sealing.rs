//! Between the wire and the rest: what is sealed is opened, what is not for us is refused and told.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{Node, Output, Phase, wire};
use crate::{
    model::{KeyId, Keyring},
    swim::{
        DropReason,
        seal::{self, Opened},
        wire::Datagram,
    },
};

/// Least time from one refusal that is told to the next for the same reason and host.
const REFUSAL_PAUSE: Duration = Duration::from_secs(60);
/// Most hosts of which the same is told in that time: a stranger's noise hides no member that lacks the key, and invented
/// hosts fill no log.
const MAX_REFUSALS: usize = 16;

/// Most senders that are challenged in `CHALLENGES_PER`, and how often each: a thousand nodes may greet a restarted balancer at
/// one moment, and each of them says several things before it has heard the first challenge.
const MAX_CHALLENGED: usize = 1024;
const MAX_CHALLENGES: u32 = 8;
const CHALLENGES_PER: Duration = Duration::from_millis(100);

/// How a member's datagrams are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealing {
    /// The key that it sends with.
    pub key: KeyId,
    /// All that it accepts, that one included.
    pub accepted: Vec<KeyId>,
}

/// Counts challenges: whoever has recorded something can have them sent to anybody.
#[derive(Default)]
pub(super) struct Challenges {
    since: Duration,
    asked: BTreeMap<SocketAddr, u32>,
}

impl Challenges {
    fn take(&mut self, now: Duration, to: SocketAddr) -> bool {
        if now.saturating_sub(self.since) >= CHALLENGES_PER {
            self.since = now;
            self.asked.clear();
        }
        if self.asked.len() >= MAX_CHALLENGED && !self.asked.contains_key(&to) {
            return false;
        }
        let asked = self.asked.entry(to).or_default();
        *asked += 1;
        *asked <= MAX_CHALLENGES
    }
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
            Ok(Opened::Challenge(_)) if !self.challenges.take(self.now, from) => {
                self.counters.dropped(DropReason::TooMany);
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
        if reason.is_about_keys() {
            self.complain(from, reason, key, out);
        }
    }

    /// Tells why something was dropped, unless it did so for that sender's host lately.
    pub(super) fn complain(&mut self, from: SocketAddr, reason: DropReason, key: Option<KeyId>, out: &mut Vec<Output>) {
        self.refused.retain(|_, told| *told + REFUSAL_PAUSE > self.now);
        let told = self.refused.keys().filter(|(its, _)| *its == reason).count();
        let subject = (reason, from.ip());
        if told < MAX_REFUSALS && !self.refused.contains_key(&subject) {
            self.refused.insert(subject, self.now);
            out.push(Output::Refused { from, reason, key });
        }
    }
}
