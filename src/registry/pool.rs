//! One pool at one moment, prepared for choosing.

use std::sync::Arc;

use super::{
    choice::{Prepared, identity},
    cookies::Cookies,
    live::{PoolLive, ServerLive},
    server::Server,
};
use http::HeaderValue;

use crate::{
    balance::{Balancer, Member},
    config::PoolPolicy,
    model::{Candidacy, CookieMode, CookiePolicy, PoolName, ServerId},
    sticky::Dates,
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
    /// Servers that may get anybody, without backups.
    usable: usize,
    /// Every server with what it gets of the pool's requests now.
    pub(super) members: Arc<[Member]>,
    pub(super) balancer: Balancer,
    /// The counters of each server, in their order: an algorithm that compares them all must not go by way of each server.
    pub(super) lives: Arc<[Arc<ServerLive>]>,
    /// Whether any server has a limit.
    pub(super) is_limited: bool,
    cookies: Arc<Cookies>,
}

impl Pool {
    /// `last` is what was prepared for the pool before, and becomes what is now.
    pub(super) fn new(
        name: PoolName,
        policy: Arc<PoolPolicy>,
        servers: Vec<Arc<Server>>,
        live: Arc<PoolLive>,
        last: &mut Option<Prepared>,
    ) -> Self {
        let usable = servers.iter().filter(|server| !server.backup && takes_anybody(server)).count();
        // Backups are used only when no other server is left.
        let backups_serve = usable == 0;
        let member = |(index, server): (usize, &Arc<Server>)| {
            let serves = takes_anybody(server) && server.backup == backups_serve;
            let share = if serves { server.share() } else { 0 };
            Member { server: index, share, identity: identity(&server.origin) }
        };
        let members = servers.iter().enumerate().map(member).collect();
        let prepared = last.insert(Prepared::for_members(last.as_ref(), &policy, members));
        let Prepared { members, balancer, .. } = prepared.clone();
        let lives = servers.iter().map(|server| Arc::clone(&server.live)).collect();
        let cookies = Arc::new(Cookies::new(policy.cookie.as_ref(), &servers));
        let is_limited = servers.iter().any(|server| policy.limit(server.maxconn).is_some());
        Self { name, policy, servers, live, usable, members, balancer, lives, is_limited, cookies }
    }

    /// A copy with copies of its servers.
    pub(super) fn with_servers(&self, servers: Vec<Arc<Server>>) -> Self {
        let Self { name, policy, servers: _, live, usable, members, balancer, lives, is_limited, cookies } = self;
        Self {
            name: name.clone(),
            policy: Arc::clone(policy),
            servers,
            live: Arc::clone(live),
            usable: *usable,
            members: Arc::clone(members),
            balancer: balancer.clone(),
            lives: Arc::clone(lives),
            is_limited: *is_limited,
            cookies: Arc::clone(cookies),
        }
    }

    /// Who may be sent to the server now: to a backup that is not needed, only users with a cookie for it.
    pub(super) fn candidacy(&self, server: &Server) -> Candidacy {
        let is_spare = server.backup && self.usable > 0;
        server.candidacy().min(if is_spare { Candidacy::StickyOnly } else { Candidacy::Everybody })
    }

    /// The server that a cookie names, whatever its state.
    pub fn by_cookie(&self, value: &[u8]) -> Option<&Arc<Server>> {
        self.servers.get(self.cookies.place(value)?)
    }

    /// The Set-Cookie line that leads a user to the server, with these dates; `None` when the pool inserts no cookie, or
    /// the server is not there.
    pub fn set_cookie(&self, id: ServerId, dates: Dates) -> Option<HeaderValue> {
        let Some(CookiePolicy { name, mode: CookieMode::Insert(cookie) }) = &self.policy.cookie else { return None };
        let place = self.place(id)?;
        self.cookies.line((place, self.servers.get(place)?), name, cookie, dates)
    }

    /// The server of that identity.
    pub fn by_id(&self, id: ServerId) -> Option<&Arc<Server>> {
        self.servers.get(self.place(id)?)
    }

    /// Later servers have larger identities.
    fn place(&self, id: ServerId) -> Option<usize> {
        self.servers.binary_search_by_key(&id, |server| server.id).ok()
    }

    /// Servers that may get anybody, without backups.
    pub fn usable_active(&self) -> usize {
        self.usable
    }

    /// Servers that may get anybody and are well, without backups and then backups: those that serve in a panic alone are
    /// not among them.
    pub fn well(&self) -> (usize, usize) {
        let is_well = |server: &&Arc<Server>| server.own_candidacy() == Candidacy::Everybody;
        let (backup, active): (Vec<_>, Vec<_>) = self.servers.iter().filter(is_well).partition(|server| server.backup);
        (active.len(), backup.len())
    }

    /// Whether servers get users although they are down, because too few are left.
    pub fn panics(&self) -> bool {
        self.servers.iter().any(|server| server.forced)
    }

    /// Whether a new user would find a server (HAProxy also calls a pool without any server UP; we do not).
    pub fn is_up(&self) -> bool {
        self.members.iter().any(|member| member.share > 0)
    }
}

fn takes_anybody(server: &Server) -> bool {
    server.candidacy() == Candidacy::Everybody
}
