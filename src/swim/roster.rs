//! Everybody we know of, dead or alive.
//!
//! Why not foca's own list? It forgets a member's boot as soon as its address has a new one, does not tell who left from
//! who failed, and knows nothing of records.

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use super::{Identity, Role, ServiceRecord};
use crate::model::{NodeId, ServerName};

/// Most members that are known at one time; datagrams that would bring more are dropped.
pub const MAX_MEMBERS: usize = 4096;
/// Most members listed after they failed or left, and for how long.
const MAX_DEPARTED: usize = 256;
const DEPARTED_FOR: Duration = Duration::from_secs(3600);

const FIRST_ASK: Duration = Duration::from_millis(200);
const LAST_ASK: Duration = Duration::from_secs(1);

/// What the cluster says of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberState {
    /// It answers.
    Alive,
    /// It did not answer lately and has little time left to object.
    Suspect,
    /// It stopped answering.
    Failed,
    /// It said goodbye.
    Left,
}

impl std::fmt::Display for MemberState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Failed => "failed",
            Self::Left => "left",
        })
    }
}

/// One line of the list of members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The boot.
    pub node_id: NodeId,
    /// Its name, or its address as long as its record is not known here. Nodes know only balancers' and their own.
    pub name: String,
    /// Where it gossips.
    pub address: SocketAddr,
    /// What it is for.
    pub role: Role,
    /// What the cluster says of it.
    pub state: MemberState,
    /// Since when, on the clock of [`super::Node::handle`].
    pub since: Duration,
    /// What it serves, when known.
    pub record: Option<ServiceRecord>,
}

/// Members by boot.
#[derive(Default)]
pub(crate) struct Roster {
    entries: BTreeMap<NodeId, Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) identity: Identity,
    pub(crate) standing: Standing,
    pub(crate) since: Duration,
    pub(crate) record: Option<ServiceRecord>,
    /// When the record was last pushed to us.
    pub(crate) heard: Duration,
    /// When its record was, or will be, asked for next, and the pause after that.
    ask: Option<(Duration, Duration)>,
}

/// What we hold of a member, apart from passing suspicion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    Alive,
    Failed,
    Left,
}

impl Entry {
    pub(crate) fn is_alive(&self) -> bool {
        self.standing == Standing::Alive
    }

    pub(crate) fn member(&self) -> Member {
        let Self { identity, standing, since, record, heard: _, ask: _ } = self;
        Member {
            node_id: identity.node_id(),
            name: record.as_ref().map_or_else(|| identity.address().to_string(), |record| record.name.to_string()),
            address: identity.address(),
            role: identity.role(),
            state: match standing {
                Standing::Alive => MemberState::Alive,
                Standing::Failed => MemberState::Failed,
                Standing::Left => MemberState::Left,
            },
            since: *since,
            record: record.clone(),
        }
    }
}

impl Roster {
    pub(crate) fn get(&self, node_id: NodeId) -> Option<&Entry> {
        self.entries.get(&node_id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub(crate) fn alive(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().filter(|entry| entry.is_alive())
    }

    /// Whether this very identity is alive.
    pub(crate) fn is_alive(&self, identity: &Identity) -> bool {
        self.get(identity.node_id()).is_some_and(|entry| entry.is_alive() && entry.identity == *identity)
    }

    /// The member is alive under this identity, from now on if it was not. With `asks` its record is asked for soon.
    pub(crate) fn set_alive(&mut self, now: Duration, identity: Identity, asks: bool) -> &Entry {
        let ask = asks.then_some((now + FIRST_ASK, FIRST_ASK));
        let entry = self.entries.entry(identity.node_id()).or_insert(Entry {
            identity,
            standing: Standing::Alive,
            since: now,
            record: None,
            heard: now,
            ask: None,
        });
        entry.identity = identity;
        if entry.record.is_none() {
            entry.ask = entry.ask.or(ask);
        }
        if !entry.is_alive() {
            (entry.standing, entry.since) = (Standing::Alive, now);
        }
        entry
    }

    /// The live member failed or left; `None` when it was not alive, unless it turns from failed to left.
    pub(crate) fn depart(&mut self, now: Duration, node_id: NodeId, standing: Standing) -> Option<Member> {
        let entry = self.entries.get_mut(&node_id)?;
        let corrected = entry.standing == Standing::Failed && standing == Standing::Left;
        if !entry.is_alive() && !corrected {
            return None;
        }
        (entry.standing, entry.since, entry.ask) = (standing, now, None);
        let member = entry.member();
        self.expire(now);
        Some(member)
    }

    /// Keeps the record of a known member. Departed members of that name are off the list: this is what became of them.
    pub(crate) fn set_record(&mut self, record: ServiceRecord) {
        let node_id = record.node_id;
        self.entries.retain(|_, entry| {
            let namesake = entry.record.as_ref().is_some_and(|other| other.name == record.name);
            entry.is_alive() || entry.identity.node_id() == node_id || !namesake
        });
        if let Some(entry) = self.entries.get_mut(&node_id) {
            (entry.record, entry.ask) = (Some(record), None);
        }
    }

    /// Its owner pushed the record that we hold.
    pub(crate) fn heard(&mut self, now: Duration, node_id: NodeId) {
        if let Some(entry) = self.entries.get_mut(&node_id) {
            entry.heard = now;
        }
    }

    pub(crate) fn remove(&mut self, node_id: NodeId) {
        self.entries.remove(&node_id);
    }

    /// Live members whose record is to be asked for now; they count as asked.
    pub(crate) fn asks_due(&mut self, now: Duration) -> Vec<Identity> {
        let mut due = Vec::new();
        for entry in self.entries.values_mut() {
            if let Some((next, pause)) = entry.ask
                && next <= now
            {
                due.push(entry.identity);
                entry.ask = Some((now + pause, (pause * 2).min(LAST_ASK)));
            }
        }
        due
    }

    pub(crate) fn next_ask(&self) -> Option<Duration> {
        self.entries.values().filter_map(|entry| entry.ask.map(|(next, _)| next)).min()
    }

    /// The members that failed, and when.
    pub(crate) fn failed(&self) -> impl Iterator<Item = (SocketAddr, Duration)> {
        let failed = self.iter().filter(|entry| entry.standing == Standing::Failed);
        failed.map(|entry| (entry.identity.address(), entry.since))
    }

    /// Live members of that name, apart from one.
    pub(crate) fn namesakes(&self, name: &ServerName, of: NodeId) -> Vec<Identity> {
        let same = |entry: &&Entry| {
            entry.identity.node_id() != of && entry.record.as_ref().is_some_and(|record| record.name == *name)
        };
        self.alive().filter(same).map(|entry| entry.identity).collect()
    }

    /// Drops departed members that are old or too many.
    pub(crate) fn expire(&mut self, now: Duration) {
        self.entries.retain(|_, entry| entry.is_alive() || entry.since + DEPARTED_FOR > now);
        let mut departed: Vec<_> = self
            .entries
            .values()
            .filter(|entry| !entry.is_alive())
            .map(|entry| (entry.since, entry.identity.node_id()))
            .collect();
        departed.sort_unstable();
        for &(_, node_id) in departed.iter().rev().skip(MAX_DEPARTED) {
            self.entries.remove(&node_id);
        }
    }

    /// Panics when the list contradicts itself. For debug builds.
    pub(crate) fn check_invariants(&self) {
        for (node_id, entry) in &self.entries {
            assert_eq!(*node_id, entry.identity.node_id(), "an entry is filed under its boot");
            assert!(entry.record.as_ref().is_none_or(|record| record.node_id == *node_id), "a record is its owner's");
            assert!(
                entry.ask.is_none() || (entry.is_alive() && entry.record.is_none()),
                "only what we lack is asked for"
            );
        }
        assert!(self.entries.len() - self.alive().count() <= MAX_DEPARTED, "the list of the departed is bounded");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::PoolName;

    fn identity(node_id: u64) -> Identity {
        let address = SocketAddr::from(([10, 0, (node_id >> 8) as u8, node_id as u8], 7946));
        Identity::new(address, 1, NodeId(node_id), Role::Node).unwrap()
    }

    fn record(node_id: u64, name: &str) -> ServiceRecord {
        let (name, service) = (ServerName::parse(name).unwrap(), PoolName::parse("nodes").unwrap());
        ServiceRecord { node_id: NodeId(node_id), ..ServiceRecord::new(name, service, 80) }
    }

    #[test]
    fn the_departed_stay_listed_but_not_for_ever_and_not_all() {
        let mut roster = Roster::default();
        for node_id in 0..1000 {
            roster.set_alive(Duration::ZERO, identity(node_id), false);
            roster.depart(Duration::from_secs(node_id), NodeId(node_id), Standing::Failed);
            roster.check_invariants();
        }
        assert_eq!(roster.iter().count(), MAX_DEPARTED);
        assert!(roster.get(NodeId(999)).is_some());
        roster.set_alive(Duration::ZERO, identity(5000), false);
        roster.depart(DEPARTED_FOR + Duration::from_secs(999), NodeId(5000), Standing::Left);
        assert_eq!(roster.iter().count(), 1);
    }

    #[test]
    fn a_departed_member_gives_way_to_its_namesake() {
        let mut roster = Roster::default();
        roster.set_alive(Duration::ZERO, identity(1), false);
        roster.set_record(record(1, "web"));
        roster.set_alive(Duration::ZERO, identity(2), false);
        roster.set_record(record(2, "web"));
        assert_eq!(roster.iter().count(), 2, "both are alive");
        roster.depart(Duration::ZERO, NodeId(1), Standing::Failed);
        roster.set_record(record(2, "web"));
        assert_eq!(roster.iter().count(), 1);
    }

    #[test]
    fn a_missing_record_is_asked_for_until_it_is_there() {
        let mut roster = Roster::default();
        roster.set_alive(Duration::ZERO, identity(1), true);
        let mut asked = Vec::new();
        for now in (0..2000).map(Duration::from_millis) {
            asked.extend(roster.asks_due(now).iter().map(|_| now.as_millis()));
        }
        assert_eq!(asked, [200, 400, 800, 1600]);
        roster.set_record(record(1, "web"));
        assert_eq!(roster.next_ask(), None);
    }

    #[test]
    fn a_member_that_failed_may_still_turn_out_to_have_left() {
        let mut roster = Roster::default();
        roster.set_alive(Duration::ZERO, identity(1), false);
        let state = |member: Option<Member>| member.map(|member| member.state);
        let one = NodeId(1);
        assert_eq!(state(roster.depart(Duration::ZERO, one, Standing::Failed)), Some(MemberState::Failed));
        assert_eq!(state(roster.depart(Duration::ZERO, one, Standing::Left)), Some(MemberState::Left));
        assert_eq!(state(roster.depart(Duration::ZERO, one, Standing::Failed)), None);
    }
}
