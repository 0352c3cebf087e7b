//! Whom we have dialled, and which way answers.
//!
//! Why not announce straight to the dialled address? foca accepts an announce only if it names the receiver's own
//! advertised address, and drops it silently otherwise: a balancer that advertises 172.17.0.2 can't be joined by dialling
//! 127.0.0.1, its DNS name, or a forwarded port. So we first ask who is there ([`super::wire::Hello`]), join whoever
//! answers, and keep sending to where it answered: that path is proven, and it makes our datagrams leave from the source
//! address that belongs to it.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

/// Most hellos whose answer is awaited, and most paths remembered.
const MAX_CONTACTS: usize = 64;
/// Least time between two introductions to one address.
const INTRODUCTION_PAUSE: Duration = Duration::from_millis(100);

/// Open hellos, proven paths and recent introductions.
#[derive(Default)]
pub(crate) struct Contacts {
    hellos: VecDeque<(u64, SocketAddr)>,
    paths: BTreeMap<SocketAddr, SocketAddr>,
    introductions: VecDeque<(SocketAddr, Duration)>,
}

impl Contacts {
    /// A hello with this nonce goes to that address.
    pub(crate) fn dialled(&mut self, nonce: u64, address: SocketAddr) {
        if self.hellos.len() >= MAX_CONTACTS {
            self.hellos.pop_front();
        }
        self.hellos.push_back((nonce, address));
    }

    /// Where the hello with this nonce went. Each is answered once.
    pub(crate) fn answered(&mut self, nonce: u64) -> Option<SocketAddr> {
        let position = self.hellos.iter().position(|&(open, _)| open == nonce)?;
        self.hellos.remove(position).map(|(_, address)| address)
    }

    /// The member that advertises one address answered at the dialled one.
    pub(crate) fn learn_path(&mut self, advertised: SocketAddr, dialled: SocketAddr) {
        // Whoever answered there before is gone.
        self.paths.retain(|_, path| *path != dialled);
        if advertised == dialled {
            self.paths.remove(&advertised);
        } else if self.paths.contains_key(&advertised) || self.paths.len() < MAX_CONTACTS {
            self.paths.insert(advertised, dialled);
        }
    }

    /// Where to send what is meant for a member.
    pub(crate) fn path(&self, advertised: SocketAddr) -> SocketAddr {
        self.paths.get(&advertised).copied().unwrap_or(advertised)
    }

    pub(crate) fn forget_path(&mut self, advertised: SocketAddr) {
        self.paths.remove(&advertised);
    }

    /// Whether we may introduce ourselves to somebody who did not ask for it: rarely, since the source of the datagram
    /// that makes us do so may be forged.
    pub(crate) fn may_introduce(&mut self, now: Duration, address: SocketAddr) -> bool {
        while self.introductions.front().is_some_and(|&(_, at)| at + INTRODUCTION_PAUSE <= now) {
            self.introductions.pop_front();
        }
        let allowed =
            self.introductions.len() < MAX_CONTACTS && !self.introductions.iter().any(|&(known, _)| known == address);
        if allowed {
            self.introductions.push_back((address, now));
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_answer_counts_once_and_only_for_an_open_hello() {
        let mut contacts = Contacts::default();
        for nonce in 0..=MAX_CONTACTS as u64 {
            contacts.dialled(nonce, addr("10.0.0.1:1"));
        }
        assert_eq!(contacts.answered(0), None, "the oldest made room");
        assert_eq!((contacts.answered(5), contacts.answered(5)), (Some(addr("10.0.0.1:1")), None));
    }

    #[test]
    fn the_way_that_answered_is_the_way_to_send() {
        let mut contacts = Contacts::default();
        let (advertised, dialled) = (addr("172.17.0.2:7946"), addr("127.0.0.1:7946"));
        assert_eq!(contacts.path(advertised), advertised);
        contacts.learn_path(advertised, dialled);
        assert_eq!(contacts.path(advertised), dialled);
        contacts.learn_path(addr("172.17.0.3:7946"), dialled);
        assert_eq!(contacts.path(advertised), advertised, "another one answers there now");
    }

    #[test]
    fn strangers_are_introduced_to_rarely() {
        let mut contacts = Contacts::default();
        assert!(contacts.may_introduce(Duration::ZERO, addr("10.0.0.1:1")));
        assert!(!contacts.may_introduce(Duration::ZERO, addr("10.0.0.1:1")));
        let crowd = (0..1000)
            .filter(|&port| contacts.may_introduce(Duration::ZERO, SocketAddr::new(addr("10.0.0.2:0").ip(), port)));
        assert_eq!(crowd.count(), MAX_CONTACTS - 1);
        assert!(contacts.may_introduce(INTRODUCTION_PAUSE, addr("10.0.0.1:1")));
    }
}
