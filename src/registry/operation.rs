//! What operators do to servers, from the runtime API or the stats page.
//!
//! An operator's word is kept beside what the configuration and the node say, and never in their place: a reload, a new
//! address or a node that comes back without having restarted changes theirs and not the operator's. How they combine is
//! `model::eligible`'s rule, the strictest wins.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    decided::{Signatures, Signed},
    events,
    server::Server,
    writer::{Entry, Writer, count_turn},
};
use crate::{
    config::PoolPolicy,
    model::{
        AdminState, Decision, Health, PoolName, ServerId, ServerKey, ServerState, Told, WantedWeight, Weight, Wish,
    },
};

/// How long an operator's word is kept for a server that is gone: a node that was cut off has come back by then.
const KEPT: Duration = Duration::from_secs(3600);
/// Most servers that are not here of which a word is kept.
const MOST_GONE: usize = 1024;

/// What an operator wants of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// To be in this state.
    State(AdminState),
    /// To have this share.
    Weight(WantedWeight),
    /// To be taken for this, until checks say otherwise.
    Health(ForcedHealth),
}

impl Operation {
    /// What of it holds for as long as nobody wants something else, and on every balancer. A health does not: each balancer
    /// has checks of its own.
    fn wish(self) -> Option<Wish> {
        match self {
            Self::State(state) => Some(Wish::State(state)),
            Self::Weight(weight) => Some(Wish::Weight(weight)),
            Self::Health(_) => None,
        }
    }
}

/// A health as an operator says it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForcedHealth {
    /// As after checks that passed.
    Up,
    /// As after a check that asked for no new users (HAProxy: `NOLB`).
    Stopping,
    /// As after checks that failed.
    Down,
}

impl ForcedHealth {
    fn of(self, policy: &PoolPolicy) -> Health {
        match (self, &policy.check) {
            (Self::Up, None) => Health::Unchecked,
            (Self::Up, Some(check)) => Health::Up { failed: 0, fall: check.fall },
            (Self::Stopping, check) => {
                Health::Stopping { failed: 0, fall: check.as_ref().map_or(1, |check| check.fall) }
            }
            // Without checks nobody but an operator can bring it back.
            (Self::Down, check) => Health::Down { passed: 0, rise: check.as_ref().map_or(1, |check| check.rise) },
        }
    }
}

impl Server {
    /// The configuration or the node says what its share is; an operator's word stays above it.
    pub(super) fn set_initial_weight(&mut self, initial: Weight) {
        self.initial_weight = initial;
        self.weight = self.wanted_weight.map_or(initial, |wanted| wanted.of(initial));
    }

    fn operate(&mut self, now: Instant, since: Instant, operation: Operation, policy: &PoolPolicy) {
        match operation {
            Operation::State(wanted) => {
                if self.operator == wanted {
                    return;
                }
                if self.operator == AdminState::Maint {
                    self.health = after_maintenance(self.health, policy);
                }
                self.operator = wanted;
                self.operated = since;
                self.overdue = self.is_overdue(now, policy);
            }
            Operation::Weight(wanted) => {
                self.wanted_weight = (wanted != WantedWeight::Percent(100)).then_some(wanted);
                self.set_initial_weight(self.initial_weight);
            }
            Operation::Health(forced) => {
                self.health = forced.of(policy);
                // An operator knows better than what its users met.
                self.ejected = None;
            }
        }
    }

    /// Whether what its operator allows of its pool's users is over.
    fn is_overdue(&self, now: Instant, policy: &PoolPolicy) -> bool {
        let limit = match self.operator {
            AdminState::Ready => None,
            AdminState::Drain => policy.drain_deadline,
            AdminState::Maint => policy.maint_deadline,
        };
        limit.is_some_and(|limit| now.saturating_duration_since(self.operated) >= limit)
    }
}

/// Nobody asked it in the meantime. One that was up gets traffic, and the next check decides (HAProxy: `UP 1/3`); one that
/// was down gets traffic once a check has passed, as if it were new. Where nobody checks it, it is believed to be up.
fn after_maintenance(health: Health, policy: &PoolPolicy) -> Health {
    if policy.check.is_none() {
        return Health::Unchecked;
    }
    match health {
        Health::Up { fall, .. } | Health::Stopping { fall, .. } => Health::Up { failed: fall.saturating_sub(1), fall },
        Health::Down { .. } => Health::Initial,
        Health::Unchecked | Health::Initial | Health::Ejected => health,
    }
}

/// What operators want of servers, also of those that are gone for the moment.
#[derive(Debug, Default)]
pub(super) struct Wishes(HashMap<(PoolName, ServerKey), Kept>);

#[derive(Debug, Clone)]
struct Kept {
    operator: AdminState,
    operated: Instant,
    weight: Option<WantedWeight>,
    decided: Signatures,
    /// Since when its server is gone, if it is.
    gone: Option<Instant>,
}

impl Wishes {
    fn note(&mut self, pool: &PoolName, server: &Server) {
        let key = (pool.clone(), server.key());
        let Server { operator, operated, wanted_weight: weight, .. } = *server;
        self.0.insert(key, Kept { operator, operated, weight, decided: server.decided.clone(), gone: None });
    }

    /// Keeps a word from another balancer about a server that is not here, or not yet.
    pub(super) fn expect(
        &mut self,
        now: Instant,
        since: Instant,
        key: (PoolName, ServerKey),
        wish: Wish,
        signed: Signed,
    ) {
        let gone = self.0.values().filter(|kept| kept.gone.is_some()).count();
        if gone >= MOST_GONE && !self.0.contains_key(&key) {
            tracing::debug!("no room for {wish} of {}/{}, which is not here", key.0, key.1);
            return;
        }
        let kept = self.0.entry(key).or_insert_with(|| Kept {
            operator: AdminState::Ready,
            operated: since,
            weight: None,
            decided: Signatures::default(),
            gone: Some(now),
        });
        let held = kept.decided.about(wish);
        if held.as_ref().is_some_and(|held| held.stamp >= signed.stamp) {
            return;
        }
        *held = Some(signed);
        match wish {
            Wish::State(state) => (kept.operator, kept.operated) = (state, since),
            Wish::Weight(weight) => kept.weight = (weight != WantedWeight::Percent(100)).then_some(weight),
        }
    }

    /// Gives a server that has come what an operator wanted of it before.
    pub(super) fn restore(&self, now: Instant, pool: &PoolName, policy: &PoolPolicy, server: &mut Server) {
        if self.0.is_empty() {
            return;
        }
        if let Some(kept) = self.0.get(&(pool.clone(), server.key())) {
            server.operator = kept.operator;
            server.operated = kept.operated;
            server.overdue = server.is_overdue(now, policy);
            server.wanted_weight = kept.weight;
            server.decided = kept.decided.clone();
            server.set_initial_weight(server.initial_weight);
        }
    }

    /// Forgets what was wanted of servers that have been gone for long. What other balancers were told of a configured
    /// server stays, for theirs does as well.
    fn age(&mut self, now: Instant, is_there: impl Fn(&PoolName, &ServerKey) -> bool) {
        self.0.retain(|(pool, key), kept| {
            if is_there(pool, key) {
                kept.gone = None;
                return true;
            }
            let is_shared = [&kept.decided.state, &kept.decided.weight]
                .into_iter()
                .any(|signed| signed.as_ref().is_some_and(|signed| signed.by.is_some()));
            let gone = *kept.gone.get_or_insert(now);
            match key {
                ServerKey::Static(_) if is_shared => true,
                ServerKey::Static(_) | ServerKey::Node(_) => now.saturating_duration_since(gone) < KEPT,
            }
        });
    }
}

impl Writer {
    /// Carries out what an operator wants. Whether it changed anything that a reader sees.
    pub(super) fn operate(&mut self, time: (Instant, Duration), operations: Vec<(ServerId, Operation)>) -> bool {
        operations.into_iter().fold(false, |changed, (id, operation)| self.operate_here(time, id, operation) || changed)
    }

    /// An operator speaks to this balancer: the others are told.
    fn operate_here(&mut self, (now, unix): (Instant, Duration), id: ServerId, operation: Operation) -> bool {
        let all = self.pools.iter().flat_map(|entry| entry.servers.iter().map(move |server| (&entry.name, server)));
        let Some((pool, server)) = all.into_iter().find(|(_, server)| server.id == id) else { return false };
        let Some(wish) = operation.wish() else { return self.carry_out(now, now, id, operation, None) };
        let is_so_already = match wish {
            Wish::State(state) => server.operator == state,
            Wish::Weight(weight) => server.wanted_weight.unwrap_or(WantedWeight::Percent(100)) == weight,
        };
        if is_so_already {
            return false;
        }
        let signed = self.sign(unix, server.decided.clone().about(wish).as_ref());
        if let Some(by) = signed.by.clone() {
            let (pool, server) = (pool.clone(), server.key());
            self.tell(Told::Decision(Decision { pool, server, wish, by, stamp: signed.stamp }));
        }
        self.carry_out(now, now, id, operation, Some(signed))
    }

    /// Does it; `since` is when it was decided, and `signed` by whom.
    pub(super) fn carry_out(
        &mut self,
        now: Instant,
        since: Instant,
        id: ServerId,
        operation: Operation,
        signed: Option<Signed>,
    ) -> bool {
        let found = self.pools.iter_mut().find(|entry| entry.servers.iter().any(|server| server.id == id));
        let Some(entry) = found else { return false };
        let policy = Arc::clone(&entry.policy);
        let operate = |server: &mut Server| {
            server.operate(now, since, operation, &policy);
            if let (Some(wish), Some(signed)) = (operation.wish(), &signed) {
                *server.decided.about(wish) = Some(signed.clone());
            }
        };
        let changed = entry.operate_on(now, id, operate, operation);
        if let Some(server) = entry.servers.iter().find(|server| server.id == id) {
            self.wishes.note(&entry.name, server);
        }
        changed
    }

    /// Ends drains and maintenance that have lasted as long as their pools allow, and forgets what nobody needs any more.
    pub(super) fn enforce_deadlines(&mut self, now: Instant) -> bool {
        let mut changed = false;
        for entry in &mut self.pools {
            let policy = Arc::clone(&entry.policy);
            for slot in &mut entry.servers {
                // A reload may have moved the deadline.
                let overdue = slot.is_overdue(now, &policy);
                if overdue != slot.overdue {
                    Arc::make_mut(slot).overdue = overdue;
                    changed = true;
                    if overdue {
                        events::overdue(&entry.name, slot);
                    }
                }
            }
        }
        let pools = &self.pools;
        self.wishes.age(now, |pool, key| {
            let entry = pools.iter().find(|entry| entry.name == *pool);
            entry.is_some_and(|entry| entry.servers.iter().any(|server| server.key() == *key))
        });
        changed
    }
}

impl Entry {
    fn operate_on(&mut self, now: Instant, id: ServerId, operate: impl Fn(&mut Server), operation: Operation) -> bool {
        let Some(index) = self.servers.iter().position(|server| server.id == id) else { return false };
        let before = Arc::clone(&self.servers[index]);
        let mut after = Server::clone(&before);
        operate(&mut after);
        let facts = |server: &Server| {
            let Server { health, weight, operator, wanted_weight, .. } = *server;
            (server.state(), health, weight, operator, wanted_weight, server.decided.clone())
        };
        if facts(&before) == facts(&after) {
            return false;
        }
        let turned = before.state() != after.state();
        if turned {
            after.changed = now;
            count_turn(now, &before, &after);
            if after.state() == ServerState::Maint && before.health.is_up() {
                after.live.lock().downs += 1;
            }
        }
        self.servers[index] = Arc::new(after);
        if turned {
            let queue = (self.live.queued_for(id).now, self.live.waiting());
            events::operated(&self.name, &self.servers[index], before.state(), operation, &self.servers, queue);
        } else if before.weight != self.servers[index].weight {
            events::weighted(&self.name, &self.servers[index], before.weight);
        }
        if self.servers[index].overdue && !before.overdue {
            events::overdue(&self.name, &self.servers[index]);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Candidacy, NodeState, eligible};

    #[test]
    fn the_strictest_of_operator_and_node_wins() {
        use AdminState as Wish;
        use Candidacy::{Everybody, Nobody, StickyOnly};
        // The table of the README.
        let health = Health::Up { failed: 0, fall: 3 };
        for (operator, row) in [
            (Wish::Ready, [("UP", Everybody), ("DRAIN", Nobody), ("MAINT", Nobody), ("MAINT", Nobody)]),
            (Wish::Drain, [("DRAIN", StickyOnly), ("DRAIN", Nobody), ("MAINT", Nobody), ("MAINT", Nobody)]),
            (Wish::Maint, [("MAINT", Nobody), ("MAINT", Nobody), ("MAINT", Nobody), ("MAINT", Nobody)]),
        ] {
            let nodes = [NodeState::Ready, NodeState::Draining, NodeState::Starting, NodeState::Left];
            for (node, (word, candidacy)) in nodes.into_iter().zip(row) {
                assert_eq!(ServerState::new(operator, node, health).to_string(), word, "{operator:?} {node:?}");
                let found = eligible(operator, node, health, Weight::DEFAULT);
                assert_eq!(found, candidacy, "{operator:?} {node:?}");
            }
        }
    }
}
