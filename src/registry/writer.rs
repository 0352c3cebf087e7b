//! The one writer: turns a command into the next snapshot.

mod health;
mod names;
mod takeover;

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Snapshot,
    choice::Prepared,
    command::{Command, MemberServer, ResolvedServer},
    cookies,
    decided::{Follower, Signatures},
    events,
    live::{PoolLive, ServerLive},
    operation::Wishes,
    panic,
    pool::Pool,
    server::{Origin, Server},
    warm_up::{self, WarmUp},
};
use crate::{
    config::{self, PoolPolicy},
    model::{AdminState, CookieKey, Health, NodeId, NodeState, PoolName, ServerId, ServerName, Weight},
};

/// How long a server stays in the table after both its node and its checks were lost, so that a person sees what went.
const HOLD: Duration = Duration::from_secs(10);

/// A pool while it is being changed.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: PoolName,
    pub(super) policy: Arc<PoolPolicy>,
    pub(super) servers: Vec<Arc<Server>>,
    pub(super) live: Arc<PoolLive>,
    next_number: u32,
    /// What the last snapshot chooses by.
    prepared: Option<Prepared>,
}

#[derive(Debug)]
pub(super) struct Writer {
    workers: usize,
    started: Instant,
    version: u64,
    next_id: u64,
    pub(super) pools: Vec<Entry>,
    /// What operators want of servers, also of those that are gone for the moment.
    pub(super) wishes: Wishes,
    /// Nodes that want to join a pool that is not here, or not yet.
    unplaced: HashMap<NodeId, MemberServer>,
    pub(super) follower: Option<Follower>,
    /// Servers that serve until the new one at their address does: the old one, and the new one.
    takeovers: Vec<(ServerId, ServerId)>,
    /// Some server is to be checked now ([`ServerLive::want_check`]).
    pub(super) wants_checks: bool,
    /// What cookies are made with; without any, everybody could make them.
    cookie_keys: Vec<CookieKey>,
}

impl Writer {
    pub(super) fn new(workers: usize, now: Instant) -> Self {
        Self {
            workers,
            started: now,
            version: 0,
            next_id: 0,
            pools: Vec::new(),
            wishes: Wishes::default(),
            unplaced: HashMap::new(),
            follower: None,
            takeovers: Vec::new(),
            wants_checks: false,
            cookie_keys: Vec::new(),
        }
    }

    /// Carries out a command; the next snapshot if it changed anything that a reader sees.
    /// `unix` is the same moment by the calendar.
    pub(super) fn apply(&mut self, now: Instant, unix: Duration, command: Command) -> Option<Snapshot> {
        let changed = match command {
            Command::Pools(pools) => self.set_pools(now, pools),
            Command::Static { pool, servers } => self.set_static(now, &pool, servers),
            Command::Member(member) => self.upsert_member(now, member),
            Command::MemberUp(node) => self.mark_lost(node, None),
            Command::MemberDown(node) => {
                // Should it come back, it says again what it wants.
                self.unplaced.remove(&node);
                self.mark_lost(node, Some(now))
            }
            Command::MemberReplaced(node) => {
                self.unplaced.remove(&node);
                self.replaced(now, node)
            }
            Command::MemberLeft(node) => {
                self.unplaced.remove(&node);
                self.remove_where("its node has left the cluster", |server| is_on(server, node))
            }
            Command::Checked { server, report } => self.checked(now, server, report),
            Command::Troubled(troubles) => self.troubled(now, troubles),
            Command::Eject(ejections) => self.eject(now, ejections),
            Command::Operate(operations) => self.operate((now, unix), operations),
            Command::Decided(decision) => self.decided((now, unix), decision),
            Command::CookieKeys(keys) => self.set_cookie_keys(keys),
            // Both, always.
            Command::Tick => self.tick(now) | self.enforce_deadlines(now),
        };
        let changed = self.settle_takeovers() || changed;
        self.check_invariants();
        changed.then(|| self.publish(now))
    }

    fn set_pools(&mut self, now: Instant, pools: Vec<config::Pool>) -> bool {
        self.pools.retain_mut(|entry| {
            let stays = pools.iter().any(|pool| pool.name == entry.name);
            if !stays {
                entry.remove_where("its pool is not configured any more", |_| true);
            }
            stays
        });
        for config::Pool { name, policy, servers: _ } in pools {
            let policy = Arc::new(policy);
            match self.pools.iter_mut().find(|entry| entry.name == name) {
                Some(entry) => {
                    let checks_toggled = entry.policy.check.is_some() != policy.check.is_some();
                    entry.policy = policy;
                    if checks_toggled {
                        let check = entry.policy.check.clone();
                        entry.change_all(
                            now,
                            |_| true,
                            |server| server.health = health::after_toggle(server.health, check.as_ref()),
                        );
                    }
                }
                None => self.pools.push(Entry {
                    name,
                    policy,
                    servers: Vec::new(),
                    live: Arc::new(PoolLive::new(self.workers, self.started)),
                    next_number: 1,
                    prepared: None,
                }),
            }
        }
        // Those who were waiting for one of them need not say so again.
        for (_, member) in std::mem::take(&mut self.unplaced) {
            self.upsert_member(now, member);
        }
        true
    }

    fn set_cookie_keys(&mut self, keys: Vec<CookieKey>) -> bool {
        if keys == self.cookie_keys {
            return false;
        }
        self.cookie_keys = keys;
        for Entry { name, servers, .. } in &mut self.pools {
            for server in servers {
                let server = Arc::make_mut(server);
                (server.cookie, server.former_cookies) = cookies::values(&self.cookie_keys, name, &server.origin);
            }
        }
        true
    }

    fn set_static(&mut self, now: Instant, pool: &PoolName, servers: Vec<ResolvedServer>) -> bool {
        let Some(index) = self.pools.iter().position(|entry| entry.name == *pool) else { return false };
        let is_gone = |server: &Server| match &server.origin {
            Origin::Member { .. } => false,
            Origin::Static { name } => !servers
                .iter()
                .any(|wanted| wanted.name == *name && wanted.address.is_none_or(|address| address == server.address)),
        };
        let mut changed = self.pools[index].remove_where("it is not configured there any more", is_gone);
        for ResolvedServer { name, address, weight, backup, maxconn, check_port } in servers {
            let origin = Origin::Static { name: name.clone() };
            let is_it = |server: &Server| server.origin == origin;
            if self.pools[index].servers.iter().any(|server| is_it(server)) {
                changed |= self.pools[index].change_all(now, is_it, |server| {
                    server.set_initial_weight(weight);
                    server.backup = backup;
                    server.maxconn = maxconn;
                    server.check_port = check_port;
                });
            } else if let Some(address) = address {
                self.add(now, index, origin.clone(), (name, address), (weight, backup, maxconn), NodeState::Ready);
                if check_port.is_some() {
                    self.pools[index].change_all(now, is_it, |server| server.check_port = check_port);
                }
                changed = true;
            }
        }
        changed
    }

    fn upsert_member(&mut self, now: Instant, member: MemberServer) -> bool {
        let was_unplaced = self.unplaced.remove(&member.node).is_some();
        let MemberServer { node, pool, name, address, weight, state } = member.clone();
        // A node that moves to another pool or address is a new server there: its old connections lead elsewhere.
        let mut changed =
            self.remove_where("its node moved", |server| is_on(server, node) && server.address != address);
        let Some(index) = self.pools.iter().position(|entry| entry.name == pool) else {
            if state == NodeState::Left {
                return changed;
            }
            if !was_unplaced {
                tracing::warn!(
                    "{name} at {address} wants to join the pool '{pool}', which this balancer does not have"
                );
            }
            self.unplaced.insert(node, member);
            return changed;
        };
        for entry in self.pools.iter_mut().filter(|entry| entry.name != pool) {
            changed |= entry.remove_where("its node moved", |server| is_on(server, node));
        }
        if state == NodeState::Left {
            return self.remove_where("its node has left the cluster", |server| is_on(server, node)) || changed;
        }
        if !self.pools[index].servers.iter().any(|server| is_on(server, node)) {
            let old = self.make_way(now, index, address, state);
            // Two of one name, or the old one is dead: its checks tell.
            for namesake in self.pools[index].servers.iter().filter(|server| server.own_name == name) {
                namesake.live.want_check();
                self.wants_checks = true;
            }
            self.add(now, index, Origin::Member { node, lost: None }, (name, address), (weight, false, None), state);
            let new = ServerId(self.next_id);
            self.takeovers.extend(old.into_iter().map(|old| (old, new)));
            return true;
        }
        self.pools[index].change_all(
            now,
            |server| is_on(server, node),
            |server| {
                server.set_initial_weight(weight);
                server.node = state;
            },
        ) || changed
    }

    fn mark_lost(&mut self, node: NodeId, now: Option<Instant>) -> bool {
        let mut changed = false;
        for entry in &mut self.pools {
            for server in &mut entry.servers {
                if let Origin::Member { node: its, lost } = &server.origin
                    && *its == node
                    && lost.is_some() != now.is_some()
                {
                    Arc::make_mut(server).origin = Origin::Member { node, lost: now };
                    changed = true;
                    if now.is_some() {
                        // Is it dead, or only cut off?
                        server.live.want_check();
                        self.wants_checks = true;
                    }
                }
            }
        }
        now.is_some_and(|now| self.give_up_failing(now, node)) || changed
    }

    fn tick(&mut self, now: Instant) -> bool {
        for entry in &self.pools {
            entry.live.tick();
            for server in &entry.servers {
                server.live.tick();
            }
        }
        let warmed = self.warm_up(now);
        let removed = self.pools.iter_mut().fold(false, |removed, entry| {
            let has_checks = entry.policy.check.is_some();
            let succeeded = entry.succeeded();
            let replaced = entry
                .remove_where("its node is lost and another one has its name", |server| succeeded.contains(&server.id));
            let lost = entry
                .remove_where("its node is lost and no check speaks for it", |server| is_gone(server, has_checks, now));
            replaced || lost || removed
        });
        warmed || removed
    }

    /// Whether a server that starts slowly gets more or less now than before.
    fn warm_up(&mut self, now: Instant) -> bool {
        self.pools.iter_mut().fold(false, |changed, Entry { servers, policy, .. }| {
            warm_up::follow(servers, policy.slowstart, now) || changed
        })
    }

    fn remove_where(&mut self, reason: &str, gone: impl Fn(&Server) -> bool) -> bool {
        let mut changed = false;
        for entry in &mut self.pools {
            changed |= entry.remove_where(reason, &gone);
        }
        changed
    }

    fn add(
        &mut self,
        now: Instant,
        pool: usize,
        origin: Origin,
        (name, address): (ServerName, SocketAddr),
        (weight, backup, maxconn): (Weight, bool, Option<u32>),
        node: NodeState,
    ) {
        self.next_id += 1;
        let (id, workers) = (ServerId(self.next_id), self.workers);
        let entry = &mut self.pools[pool];
        let (own_name, name) = (name.clone(), entry.unique_name(name));
        let (cookie, former_cookies) = cookies::values(&self.cookie_keys, &entry.name, &origin);
        let mut server = Server {
            id,
            number: entry.next_number,
            cookie,
            former_cookies,
            address,
            weight,
            initial_weight: weight,
            backup,
            maxconn,
            check_port: None,
            origin,
            operator: AdminState::Ready,
            wanted_weight: None,
            decided: Signatures::default(),
            operated: now,
            overdue: false,
            node,
            health: initial_health(&entry.policy),
            ejected: None,
            forced: false,
            changed: now,
            warm_up: WarmUp::default(),
            live: Arc::new(ServerLive::new(workers)),
            name,
            own_name,
        };
        entry.next_number += 1;
        self.wishes.restore(now, &entry.name, &entry.policy, &mut server);
        events::joined(&entry.name, &server, SystemTime::now());
        entry.servers.push(Arc::new(server));
    }

    /// The snapshot of what the pools are now; tells of pools that went up or down with it.
    fn publish(&mut self, now: Instant) -> Snapshot {
        self.version += 1;
        for entry in &mut self.pools {
            entry.recall_ejected(now);
            let Entry { name, policy, servers, .. } = entry;
            panic::settle(name, policy.panic_threshold, servers);
        }
        self.warm_up(now);
        let pool = |entry: &mut Entry| {
            let Entry { name, policy, servers, live, next_number: _, prepared } = entry;
            let pool = Pool::new(name.clone(), Arc::clone(policy), servers.clone(), Arc::clone(live), prepared);
            let mut record = live.lock();
            let ever_served = record.served;
            record.served |= pool.is_up();
            match (pool.is_up(), record.down_since) {
                (true, Some(since)) => {
                    record.downtime += now.saturating_duration_since(since);
                    record.down_since = None;
                    record.changed = now;
                }
                (false, None) => {
                    record.downs += u64::from(ever_served);
                    record.down_since = Some(now);
                    record.changed = now;
                    events::pool_is_empty(name, ever_served);
                }
                (true, None) | (false, Some(_)) => {}
            }
            drop(record);
            Arc::new(pool)
        };
        Snapshot { version: self.version, pools: self.pools.iter_mut().map(pool).collect() }
    }

    /// Identities, numbers and names are unique, and servers stand in the order in which they came.
    fn check_invariants(&self) {
        if cfg!(debug_assertions) {
            let all: Vec<_> = self.pools.iter().flat_map(|entry| &entry.servers).map(|server| server.id).collect();
            let unique: HashSet<_> = all.iter().collect();
            assert_eq!(unique.len(), all.len(), "a server's identity was given twice");
            for entry in &self.pools {
                let names: HashSet<_> = entry.servers.iter().map(|server| &server.name).collect();
                assert_eq!(names.len(), entry.servers.len(), "a name was given twice in {}", entry.name);
                assert!(entry.servers.is_sorted_by_key(|server| server.id), "servers out of order in {}", entry.name);
            }
        }
    }
}

impl Entry {
    fn remove_where(&mut self, reason: &str, gone: impl Fn(&Server) -> bool) -> bool {
        let before = self.servers.len();
        self.servers.retain(|server| {
            let gone = gone(server);
            if gone {
                events::removed(&self.name, server, reason);
            }
            !gone
        });
        let removed = self.servers.len() != before;
        if removed {
            self.reclaim_names();
        }
        removed
    }

    /// Changes some servers and tells of those whose state changed with it. Whether anything changed.
    fn change_all(&mut self, now: Instant, which: impl Fn(&Server) -> bool, change: impl Fn(&mut Server)) -> bool {
        let mut turned = Vec::new();
        let mut changed = false;
        for slot in self.servers.iter_mut().filter(|server| which(server)) {
            let mut after = Server::clone(slot);
            change(&mut after);
            let (before, state) = (slot.state(), after.state());
            let settings = |server: &Server| {
                (
                    server.weight,
                    server.initial_weight,
                    server.backup,
                    server.maxconn,
                    server.check_port,
                    server.node,
                    server.health,
                    server.ejected,
                )
            };
            if before == state && settings(&after) == settings(slot) {
                continue;
            }
            changed = true;
            if health::is_turn(before, state) {
                after.changed = now;
                count_turn(now, slot, &after);
                turned.push((before, slot.id));
            }
            *slot = Arc::new(after);
        }
        for (before, id) in turned {
            if let Some(server) = self.servers.iter().find(|server| server.id == id) {
                let queue = (self.live.queued_for(id).now, self.live.waiting());
                events::turned(&self.name, server, before, &self.servers, queue);
            }
        }
        changed
    }
}

/// Whether a server can be given up: its node is lost, and for long enough nothing else has spoken for it.
fn is_gone(server: &Server, has_checks: bool, now: Instant) -> bool {
    let Origin::Member { lost: Some(lost), .. } = server.origin else { return false };
    let silent_since = match server.health {
        // Nobody asks it, whatever it was when somebody did.
        _ if !has_checks || !server.is_checked() => lost,
        Health::Unchecked => lost,
        Health::Initial | Health::Down { .. } => lost.max(server.changed),
        Health::Up { .. } | Health::Stopping { .. } | Health::Ejected => return false,
    };
    now.saturating_duration_since(silent_since) >= HOLD
}

/// Keeps the record of how often and how long a server was down.
pub(super) fn count_turn(now: Instant, before: &Server, after: &Server) {
    let mut record = after.live.lock();
    match (before.standing().is_up(), after.standing().is_up()) {
        (true, false) => {
            record.downs += 1;
            record.down_since = Some(now);
        }
        (false, true) => {
            let since = record.down_since.take();
            record.downtime += since.map(|since| now.saturating_duration_since(since)).unwrap_or_default();
        }
        (true, true) | (false, false) => {}
    }
}

fn initial_health(policy: &PoolPolicy) -> Health {
    if policy.check.is_some() { Health::Initial } else { Health::Unchecked }
}

fn is_on(server: &Server, node: NodeId) -> bool {
    matches!(server.origin, Origin::Member { node: its, .. } if its == node)
}
