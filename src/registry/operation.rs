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
    events,
    server::{Origin, Server},
    writer::{Entry, Writer, count_turn},
};
use crate::{
    config::PoolPolicy,
    model::{AdminState, Health, NodeId, PoolName, ServerId, ServerName, ServerState, Weight},
};

/// How long an operator's word is kept for a server that is gone: one that restarts its node has come back by then.
const KEPT: Duration = Duration::from_secs(3600);

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

/// A share as an operator writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WantedWeight {
    /// This one.
    Absolute(Weight),
    /// So many percent of the initial one; 100 is as if nobody had wanted anything.
    Percent(u16),
}

impl WantedWeight {
    /// Largest number of percent that makes a difference: the least weight that is one becomes the largest.
    pub const MOST_PERCENT: u16 = 25_600;

    /// The share of a server whose initial one is given, at most 256.
    pub fn of(self, initial: Weight) -> Weight {
        match self {
            Self::Absolute(weight) => weight,
            Self::Percent(percent) => {
                let share = u64::from(initial.get()) * u64::from(percent) / 100;
                u16::try_from(share).ok().and_then(|share| Weight::new(share).ok()).unwrap_or(Weight::MAX)
            }
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

    fn operate(&mut self, now: Instant, operation: Operation, policy: &PoolPolicy) {
        match operation {
            Operation::State(wanted) => {
                if self.operator == wanted {
                    return;
                }
                if self.operator == AdminState::Maint {
                    self.health = after_maintenance(self.health, policy);
                }
                self.operator = wanted;
                self.operated = now;
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

/// Who a server is across its coming and going.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Identity {
    Static(ServerName),
    Node(NodeId),
}

impl Identity {
    fn of(origin: &Origin) -> Self {
        match origin {
            Origin::Static { name } => Self::Static(name.clone()),
            Origin::Member { node, lost: _ } => Self::Node(*node),
        }
    }
}

/// What operators want of servers, also of those that are gone for the moment.
#[derive(Debug, Default)]
pub(super) struct Wishes(HashMap<(PoolName, Identity), Wish>);

#[derive(Debug, Clone, Copy)]
struct Wish {
    operator: AdminState,
    operated: Instant,
    weight: Option<WantedWeight>,
    /// Since when its server is gone, if it is.
    gone: Option<Instant>,
}

impl Wishes {
    fn note(&mut self, pool: &PoolName, server: &Server) {
        let key = (pool.clone(), Identity::of(&server.origin));
        let Server { operator, operated, wanted_weight: weight, .. } = *server;
        if operator == AdminState::Ready && weight.is_none() {
            self.0.remove(&key);
        } else {
            self.0.insert(key, Wish { operator, operated, weight, gone: None });
        }
    }

    /// Gives a server that has come what an operator wanted of it before.
    pub(super) fn restore(&self, now: Instant, pool: &PoolName, policy: &PoolPolicy, server: &mut Server) {
        if self.0.is_empty() {
            return;
        }
        if let Some(wish) = self.0.get(&(pool.clone(), Identity::of(&server.origin))) {
            server.operator = wish.operator;
            server.operated = wish.operated;
            server.overdue = server.is_overdue(now, policy);
            server.wanted_weight = wish.weight;
            server.set_initial_weight(server.initial_weight);
        }
    }

    /// Forgets what was wanted of servers that have been gone for long.
    fn age(&mut self, now: Instant, is_there: impl Fn(&PoolName, &Identity) -> bool) {
        self.0.retain(|(pool, identity), wish| {
            if is_there(pool, identity) {
                wish.gone = None;
                return true;
            }
            now.saturating_duration_since(*wish.gone.get_or_insert(now)) < KEPT
        });
    }
}

impl Writer {
    /// Carries out what an operator wants. Whether it changed anything that a reader sees.
    pub(super) fn operate(&mut self, now: Instant, operations: Vec<(ServerId, Operation)>) -> bool {
        operations.into_iter().fold(false, |changed, (id, operation)| self.operate_one(now, id, operation) || changed)
    }

    fn operate_one(&mut self, now: Instant, id: ServerId, operation: Operation) -> bool {
        let found = self.pools.iter_mut().find(|entry| entry.servers.iter().any(|server| server.id == id));
        let Some(entry) = found else { return false };
        let policy = Arc::clone(&entry.policy);
        let changed = entry.operate_on(now, id, |server| server.operate(now, operation, &policy), operation);
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
        self.wishes.age(now, |pool, identity| {
            let entry = pools.iter().find(|entry| entry.name == *pool);
            entry.is_some_and(|entry| entry.servers.iter().any(|server| Identity::of(&server.origin) == *identity))
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
        let facts =
            |server: &Server| (server.state(), server.health, server.weight, server.operator, server.wanted_weight);
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
    use proptest::prelude::*;

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

    proptest! {
        #[test]
        fn a_share_in_percent_is_a_weight_and_100_changes_nothing(initial in 0u16..=256, percent in 0u16..=25_600) {
            let initial = Weight::new(initial).unwrap();
            let share = WantedWeight::Percent(percent).of(initial);
            prop_assert!(share <= Weight::MAX);
            prop_assert!((share <= initial) == (percent <= 100 || share == initial));
            prop_assert_eq!(WantedWeight::Percent(100).of(initial), initial);
        }
    }
}
