//! One pool at one moment, prepared for choosing.

use std::sync::{Arc, atomic::Ordering};

use super::{live::PoolLive, server::Server};
use http::HeaderValue;

use crate::{
    balance::RoundRobin,
    config::PoolPolicy,
    model::{Candidacy, CookiePolicy, PoolName, ServerId, Weight},
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
        Self { name, policy, servers, live, usable, order, set_cookies }
    }

    /// The server whose turn it is, without those in `avoid`.
    pub fn choose(&self, avoid: &[ServerId]) -> Option<&Arc<Server>> {
        let turn = self.live.turn.fetch_add(1, Ordering::Relaxed);
        (0..self.order.len())
            .filter_map(|later| self.order.pick(turn.wrapping_add(later)))
            .map(|index| &self.servers[index])
            .find(|server| !avoid.contains(&server.id))
    }

    /// Whether [`Pool::choose`] would find a server.
    pub fn has_other_than(&self, avoid: &[ServerId]) -> bool {
        (0..self.order.len())
            .filter_map(|turn| self.order.pick(turn))
            .any(|index| !avoid.contains(&self.servers[index].id))
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

    /// Whether a new user would find a server (HAProxy also calls a pool without any server UP; we do not).
    pub fn is_up(&self) -> bool {
        !self.order.is_empty()
    }
}

fn takes_anybody(server: &Server) -> bool {
    server.candidacy() == Candidacy::Everybody
}
