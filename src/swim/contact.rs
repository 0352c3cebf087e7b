//! Whom we have dialled, and which way answers.
//!
//! Why not announce straight to the dialled address? foca accepts an announce only if it names the receiver's own
//! advertised address, and drops it silently otherwise: a balancer that advertises 172.17.0.2 can't be joined by dialling
//! 127.0.0.1, its DNS name, or a forwarded port. So we first ask who is there ([`super::wire::Hello`]), join whoever
//! answers, and keep sending to where it answered: that path is proven, and it makes our datagrams leave from the source
//! address that belongs to it.
//!
//! Why not always? A hello does not name whom it is for, since whoever dials does not know that yet. So somebody who owns an
//! address that is dialled (a seed's of yesterday, a dead member's) can pass a hello on to a live member, and its
//! answer back, without having a key; what is sent to that member by way of him he swallows. So a way round is taken only
//! to a member that is not reached straight, the advertised address is dialled as well, and as soon as that answers it
//! is the way. Whoever is suspected is asked on both.

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
    hellos: VecDeque<(u64, Dialled)>,
    /// Other addresses at which members answered, by the advertised ones.
    detours: BTreeMap<SocketAddr, Detour>,
    introductions: VecDeque<(SocketAddr, Duration)>,
}

/// Where a hello went, and what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Dialled {
    pub(crate) address: SocketAddr,
    /// Whether a member that we reach by a way round answers at the address that it advertises.
    pub(crate) is_check: bool,
}

struct Detour {
    by: SocketAddr,
    /// Whether what is for that member is sent there. Otherwise the advertised address answers as well.
    is_taken: bool,
}

impl Contacts {
    /// A hello with this nonce goes there.
    pub(crate) fn dialled(&mut self, nonce: u64, dialled: Dialled) {
        if self.hellos.len() >= MAX_CONTACTS {
            self.hellos.pop_front();
        }
        self.hellos.push_back((nonce, dialled));
    }

    /// Where the hello with this nonce went. Each is answered once.
    pub(crate) fn answered(&mut self, nonce: u64) -> Option<Dialled> {
        let position = self.hellos.iter().position(|&(open, _)| open == nonce)?;
        self.hellos.remove(position).map(|(_, dialled)| dialled)
    }

    /// The member that advertises one address answered at the dialled one. The way to a member that is alive stays what it
    /// is.
    pub(crate) fn learn_detour(&mut self, advertised: SocketAddr, dialled: SocketAddr, is_alive: bool) {
        let has_room = self.detours.len() < MAX_CONTACTS;
        match self.detours.get_mut(&advertised) {
            Some(detour) if !is_alive => *detour = Detour { by: dialled, is_taken: true },
            None if has_room => {
                self.detours.insert(advertised, Detour { by: dialled, is_taken: !is_alive });
            }
            Some(_) | None => {}
        }
    }

    /// The member answered at the address that it advertises, and may be sent to there.
    pub(crate) fn is_straight(&mut self, advertised: SocketAddr) {
        if let Some(detour) = self.detours.get_mut(&advertised) {
            detour.is_taken = false;
        }
    }

    /// The member that advertises one address answers at the other one: whoever answered there before is gone.
    pub(crate) fn belongs_to(&mut self, address: SocketAddr, advertised: SocketAddr) {
        self.detours.retain(|member, detour| detour.by != address || *member == advertised);
    }

    /// Where to send what is meant for a member.
    pub(crate) fn path(&self, advertised: SocketAddr) -> SocketAddr {
        self.detours.get(&advertised).filter(|detour| detour.is_taken).map_or(advertised, |detour| detour.by)
    }

    /// Where else a member answered, whether or not that is the way to it.
    pub(crate) fn detour(&self, advertised: SocketAddr) -> Option<SocketAddr> {
        self.detours.get(&advertised).map(|detour| detour.by)
    }

    /// The advertised addresses of those whom we reach by a way round.
    pub(crate) fn roundabout(&self) -> Vec<SocketAddr> {
        self.detours.iter().filter(|(_, detour)| detour.is_taken).map(|(advertised, _)| *advertised).collect()
    }

    pub(crate) fn forget_path(&mut self, advertised: SocketAddr) {
        self.detours.remove(&advertised);
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
        let dialled = Dialled { address: addr("10.0.0.1:1"), is_check: false };
        for nonce in 0..=MAX_CONTACTS as u64 {
            contacts.dialled(nonce, dialled);
        }
        assert_eq!(contacts.answered(0), None, "the oldest made room");
        assert_eq!((contacts.answered(5), contacts.answered(5)), (Some(dialled), None));
    }

    #[test]
    fn the_way_that_answered_is_the_way_to_send() {
        let mut contacts = Contacts::default();
        let (advertised, dialled) = (addr("172.17.0.2:7946"), addr("127.0.0.1:7946"));
        assert_eq!(contacts.path(advertised), advertised);
        contacts.learn_detour(advertised, dialled, false);
        assert_eq!((contacts.path(advertised), contacts.roundabout()), (dialled, vec![advertised]));
        contacts.belongs_to(dialled, addr("172.17.0.3:7946"));
        assert_eq!(contacts.path(advertised), advertised, "another one answers there now");
    }

    #[test]
    fn the_straight_way_is_taken_once_it_answers_and_not_left_while_the_member_is_alive() {
        let mut contacts = Contacts::default();
        let (advertised, dialled, other) = (addr("10.0.0.1:1"), addr("10.0.0.2:1"), addr("10.0.0.3:1"));
        contacts.learn_detour(advertised, dialled, false);
        contacts.is_straight(advertised);
        assert_eq!((contacts.path(advertised), contacts.detour(advertised)), (advertised, Some(dialled)));
        for by in [dialled, other] {
            contacts.learn_detour(advertised, by, true);
            assert_eq!(contacts.path(advertised), advertised);
        }
        contacts.learn_detour(advertised, other, false);
        assert_eq!(contacts.path(advertised), other, "it was not reached straight any more");
        contacts.learn_detour(advertised, dialled, true);
        assert_eq!(contacts.path(advertised), other, "it is alive by that");
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
