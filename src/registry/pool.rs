//! One pool at one moment, prepared for choosing.

use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
};

use super::{
    live::PoolLive,
    place::{Claim, Place},
    server::Server,
};
use http::HeaderValue;

use crate::{
    balance::RoundRobin,
    config::PoolPolicy,
    model::{Candidacy, CookiePolicy, PoolName, ServerId, Weight},
    queue::Wish,
    sticky,
};

/// One pool at one moment.
#[derive(Debug)]
pub struct Pool {
    /// Its name.
    pub name: PoolName,
    /// How it is balanced, kept and checked.
    pub policy: Arc<PoolPolicy>,
    /// Its servers in the order in which they came.
    pub servers: Vec<Arc<Server>>,
    /// Its counters.
    pub live: Arc<PoolLive>,
    /// Servers that may get anybody: without backups, then backups.
    usable: (usize, usize),
    order: RoundRobin,
    /// Whether any server has a limit.
    is_limited: bool,
    /// The Set-Cookie line of each server, in their order; none without stickiness.
    set_cookies: Vec<Option<HeaderValue>>,
}

impl Pool {
    pub(super) fn new(name: PoolName, policy: Arc<PoolPolicy>, servers: Vec<Arc<Server>>, live: Arc<PoolLive>) -> Self {
        let usable_of = |backup| move |server: &&Arc<Server>| server.backup == backup && takes_anybody(server);
        let usable = (servers.iter().filter(usable_of(false)).count(), servers.iter().filter(usable_of(true)).count());
        // Backups are used only when no other server is left.
        let backups_serve = usable.0 == 0;
        let turns = |server: &Arc<Server>| {
            let takes_turns = takes_anybody(server) && server.backup == backups_serve;
            if takes_turns { server.weight } else { Weight::ZERO }
        };
        let order = RoundRobin::new(&servers.iter().map(turns).collect::<Vec<_>>());
        let set_cookies = policy.cookie.as_ref().map_or_else(Vec::new, |CookiePolicy { name }| {
            servers.iter().map(|server| sticky::set_cookie(name, &server.cookie)).collect()
        });
        let is_limited = servers.iter().any(|server| policy.limit(server.maxconn).is_some());
        Self { name, policy, servers, live, usable, order, is_limited, set_cookies }
    }

    /// A place on the server that a cookie names, or else on the one whose turn it is of those that have a free place and
    /// are not in `avoid`.
    pub fn claim(&self, named: Option<Arc<Server>>, avoid: &[ServerId]) -> Claim {
        if self.is_limited {
            return self.claim_limited(named, avoid);
        }
        let balanced = named.is_none();
        match named.or_else(|| self.choose(avoid).cloned()) {
            Some(server) => Claim::Taken { place: Place::enter(server, &self.live), balanced },
            None => Claim::NoServer,
        }
    }

    /// The server whose turn it is, without those in `avoid`.
    pub fn choose(&self, avoid: &[ServerId]) -> Option<&Arc<Server>> {
        self.in_turn().find(|server| !avoid.contains(&server.id))
    }

    /// Whether [`Pool::choose`] would find a server.
    pub fn has_other_than(&self, avoid: &[ServerId]) -> bool {
        (0..self.order.len())
            .filter_map(|turn| self.order.pick(turn))
            .any(|index| !avoid.contains(&self.servers[index].id))
    }

    /// Requests that the server gets at once; `None` is no limit.
    pub fn limit(&self, server: &Server) -> Option<NonZeroU32> {
        self.policy.limit(server.maxconn)
    }

    /// Who may be sent to the server now: to a backup that is not needed, only users with a cookie for it.
    pub(super) fn candidacy(&self, server: &Server) -> Candidacy {
        let is_spare = server.backup && self.usable.0 > 0;
        server.candidacy().min(if is_spare { Candidacy::StickyOnly } else { Candidacy::Everybody })
    }

    /// The server that a cookie names, whatever its state.
    pub fn by_cookie(&self, value: &[u8]) -> Option<&Arc<Server>> {
        self.servers.iter().find(|server| server.cookie.as_bytes() == value)
    }

    /// The Set-Cookie line that leads a user to the server.
    pub fn set_cookie(&self, id: ServerId) -> Option<&HeaderValue> {
        let index = self.servers.iter().position(|server| server.id == id)?;
        self.set_cookies.get(index)?.as_ref()
    }

    /// The server of that identity.
    pub fn by_id(&self, id: ServerId) -> Option<&Arc<Server>> {
        self.servers.iter().find(|server| server.id == id)
    }

    /// Servers that may get anybody, without backups.
    pub fn usable_active(&self) -> usize {
        self.usable.0
    }

    /// Backups that may get anybody.
    pub fn usable_backup(&self) -> usize {
        self.usable.1
    }

    /// Whether servers get users although they are down, because too few are left.
    pub fn panics(&self) -> bool {
        self.servers.iter().any(|server| server.forced)
    }

    /// Whether a new user would find a server (HAProxy also calls a pool without any server UP; we do not).
    pub fn is_up(&self) -> bool {
        !self.order.is_empty()
    }

    /// The servers from the one whose turn it is; each as often as it has turns.
    fn in_turn(&self) -> impl Iterator<Item = &Arc<Server>> {
        let turn = self.live.turn.fetch_add(1, Ordering::Relaxed);
        (0..self.order.len())
            .filter_map(move |later| self.order.pick(turn.wrapping_add(later)))
            .map(|index| &self.servers[index])
    }

    fn claim_limited(&self, named: Option<Arc<Server>>, avoid: &[ServerId]) -> Claim {
        let balanced = named.is_none();
        if balanced && !self.has_other_than(avoid) {
            return Claim::NoServer;
        }
        let try_enter = |server: &Arc<Server>| Place::try_enter(server, self.limit(server), &self.live);
        let place = match &named {
            // Who comes now must not overtake those who wait: the queue knows whether a place is left.
            _ if self.live.is_waited_for() => None,
            Some(server) => try_enter(server),
            None => self.in_turn().filter(|server| !avoid.contains(&server.id)).find_map(try_enter),
        };
        match (place, named) {
            (Some(place), _) => Claim::Taken { place, balanced },
            (None, Some(server)) => Claim::Full(Wish::Only(server.id)),
            (None, None) => Claim::Full(Wish::Any { avoid: avoid.to_vec() }),
        }
    }
}

fn takes_anybody(server: &Server) -> bool {
    server.candidacy() == Candidacy::Everybody
}
