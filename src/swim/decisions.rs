//! What operators decided, held by every balancer, and who lacks what of it.
//!
//! Why not gossip? An operator who takes a server out wants it out everywhere now, and a balancer that joins later has to
//! learn of it as well. So decisions go straight from balancer to balancer, like records: until they are acknowledged, and
//! again to whoever turns out to hold something else. Why a register for each server, and not a log: the last word is all
//! that matters. Of two words the later holds (a last-writer-wins register, Shapiro, Preguiça, Baquero, Zawirski:
//! "Conflict-free Replicated Data Types", SSS 2011), so that all balancers agree in whatever order they hear of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use crate::model::{Decision, NodeId, PoolName, ServerKey, Stamp, Wish};

/// Most decisions that are held; the earliest makes room, of those that ask for nothing any more if there is one.
const MAX_DECISIONS: usize = 1024;

const FIRST_RETRY: Duration = Duration::from_millis(100);
const LAST_RETRY: Duration = Duration::from_secs(1);
/// From one comparison with another balancer to the next.
const COMPARE: Duration = Duration::from_secs(10);

/// How long what was decided about a node is kept after it fell off the list of members.
const UNLISTED: Duration = Duration::from_secs(600);

/// What a decision is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Topic {
    pool: PoolName,
    server: ServerKey,
    aspect: Aspect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Aspect {
    State,
    Weight,
}

impl Topic {
    fn of(decision: &Decision) -> Self {
        let Decision { pool, server, wish, by: _, stamp: _ } = decision;
        let aspect = match wish {
            Wish::State(_) => Aspect::State,
            Wish::Weight(_) => Aspect::Weight,
        };
        Self { pool: pool.clone(), server: server.clone(), aspect }
    }

    fn node(&self) -> Option<NodeId> {
        match self.server {
            ServerKey::Static(_) => None,
            ServerKey::Node(node) => Some(node),
        }
    }
}

/// The decisions, and the other balancers.
#[derive(Default)]
pub(crate) struct Decisions {
    held: BTreeMap<Topic, Decision>,
    /// Nodes that decisions are about and that are not listed, since when.
    unlisted: BTreeMap<NodeId, Duration>,
    peers: BTreeMap<NodeId, Peer>,
    /// Since when some balancer lacks something.
    waiting_since: Option<Duration>,
}

struct Peer {
    lacks: BTreeSet<Topic>,
    round: u32,
    /// What the last round carried.
    sent: Vec<(Topic, Stamp)>,
    next: Duration,
    retry: Duration,
}

/// One message to another balancer.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Due {
    pub(crate) peer: NodeId,
    pub(crate) round: u32,
    pub(crate) decisions: Vec<Decision>,
}

impl Decisions {
    /// Takes a decision in, made here or told by `from`; whether it holds from now on.
    pub(crate) fn merge(&mut self, now: Duration, decision: &Decision, from: Option<NodeId>) -> bool {
        let topic = Topic::of(decision);
        let known = self.held.get(&topic).map(|held| held.stamp);
        if let Some(from) = from
            && let Some(peer) = self.peers.get_mut(&from)
            && known.is_none_or(|known| known <= decision.stamp)
        {
            peer.lacks.remove(&topic);
        }
        if known.is_some_and(|known| known >= decision.stamp) {
            return false;
        }
        if known.is_none() && self.held.len() >= MAX_DECISIONS && !self.make_room(decision) {
            return false;
        }
        self.remove(&topic);
        self.held.insert(topic.clone(), decision.clone());
        for (_, peer) in self.peers.iter_mut().filter(|(peer, _)| Some(**peer) != from) {
            peer.lacks.insert(topic.clone());
            (peer.next, peer.retry) = (now, FIRST_RETRY);
            self.waiting_since.get_or_insert(now);
        }
        true
    }

    /// Drops the least important decision, if there is one that is less so than the new one.
    fn make_room(&mut self, new: &Decision) -> bool {
        let importance = |decision: &Decision| (asks_for_something(decision.wish), decision.stamp);
        let least = self.held.iter().min_by_key(|(_, decision)| importance(decision));
        match least.filter(|(_, least)| importance(least) < importance(new)).map(|(topic, _)| topic.clone()) {
            Some(topic) => {
                self.remove(&topic);
                self.note_agreement();
                true
            }
            None => false,
        }
    }

    fn remove(&mut self, topic: &Topic) {
        self.held.remove(topic);
        for peer in self.peers.values_mut() {
            peer.lacks.remove(topic);
        }
    }

    /// A balancer is there: it is told everything.
    pub(crate) fn track(&mut self, now: Duration, balancer: NodeId) {
        let all: BTreeSet<_> = self.held.keys().cloned().collect();
        if !all.is_empty() {
            self.waiting_since.get_or_insert(now);
        }
        let next = if all.is_empty() { now + COMPARE } else { now };
        let peer = self.peers.entry(balancer).or_insert_with(|| Peer {
            lacks: BTreeSet::new(),
            round: 0,
            sent: Vec::new(),
            next,
            retry: FIRST_RETRY,
        });
        (peer.lacks, peer.next, peer.retry) = (all, next, FIRST_RETRY);
    }

    /// A balancer is gone.
    pub(crate) fn forget(&mut self, balancer: NodeId) {
        self.peers.remove(&balancer);
        self.note_agreement();
    }

    /// A node is gone for certain, and its server with it.
    pub(crate) fn drop_node(&mut self, node: NodeId) {
        let its: Vec<_> = self.held.keys().filter(|topic| topic.server == ServerKey::Node(node)).cloned().collect();
        for topic in &its {
            self.remove(topic);
        }
        self.note_agreement();
    }

    /// Drops what was decided about nodes that have not been listed for long: they failed and do not come back.
    pub(crate) fn expire(&mut self, now: Duration, is_listed: impl Fn(NodeId) -> bool) {
        let nodes: BTreeSet<_> = self.held.keys().filter_map(Topic::node).filter(|node| !is_listed(*node)).collect();
        self.unlisted.retain(|node, _| nodes.contains(node));
        for node in nodes {
            let since = *self.unlisted.entry(node).or_insert(now);
            if since + UNLISTED <= now {
                self.drop_node(node);
            }
        }
    }

    /// Messages that are due; they count as sent. `fits` says how many of the decisions go into one.
    pub(crate) fn due(&mut self, now: Duration, fits: impl Fn(&[Decision]) -> usize) -> Vec<Due> {
        let mut messages = Vec::new();
        for (&id, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.next <= now) {
            let missing = peer.lacks.iter().filter_map(|topic| Some((topic, self.held.get(topic)?)));
            // More than a datagram takes, whatever their length.
            let (topics, mut decisions): (Vec<_>, Vec<_>) =
                missing.take(64).map(|(topic, decision)| (topic.clone(), decision.clone())).unzip();
            decisions.truncate(fits(&decisions));
            if decisions.is_empty() {
                peer.next = now + COMPARE;
                if self.held.is_empty() {
                    // Whoever holds something asks us.
                    continue;
                }
            } else {
                peer.next = now + peer.retry;
                peer.retry = (peer.retry * 2).min(LAST_RETRY);
            }
            peer.round = peer.round.saturating_add(1);
            peer.sent = topics.into_iter().zip(decisions.iter().map(|decision| decision.stamp)).collect();
            messages.push(Due { peer: id, round: peer.round, decisions });
        }
        messages
    }

    /// A balancer holds what a round carried, or something later, and perhaps just what we hold: see [`Self::digest`].
    /// `false` when nobody asked.
    pub(crate) fn acknowledged(&mut self, now: Duration, balancer: NodeId, round: u32, is_equal: bool) -> bool {
        let Some(peer) = self.peers.get_mut(&balancer).filter(|peer| round != 0 && peer.round == round) else {
            return false;
        };
        let was_comparison = peer.sent.is_empty();
        for (topic, stamp) in std::mem::take(&mut peer.sent) {
            if self.held.get(&topic).is_none_or(|held| held.stamp == stamp) {
                peer.lacks.remove(&topic);
            }
        }
        peer.retry = FIRST_RETRY;
        if was_comparison && !is_equal && peer.lacks.is_empty() {
            peer.lacks = self.held.keys().cloned().collect();
        }
        // A copy of this answer says nothing new.
        peer.round = peer.round.saturating_add(1);
        peer.next = if peer.lacks.is_empty() { now + COMPARE } else { now };
        self.note_agreement();
        true
    }

    fn note_agreement(&mut self) {
        if self.peers.values().all(|peer| peer.lacks.is_empty()) {
            self.waiting_since = None;
        }
    }

    /// How long some balancer has been lacking something.
    pub(crate) fn waiting_since(&self) -> Option<Duration> {
        self.waiting_since
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.peers.values().map(|peer| peer.next).min()
    }

    /// Equal for two balancers that hold the same about static servers and the nodes that are there. What was decided about
    /// others is no difference: one balancer saw such a node leave and another one saw it fail.
    pub(crate) fn digest(&self, is_there: impl Fn(NodeId) -> bool) -> u64 {
        let counts = |topic: &Topic| topic.node().is_none_or(&is_there);
        let counted = self.held.iter().filter(|(topic, _)| counts(topic));
        counted.fold(0, |digest, (topic, held)| digest ^ fingerprint(topic, held.stamp))
    }

    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }
}

fn asks_for_something(wish: Wish) -> bool {
    use crate::model::{AdminState, WantedWeight};
    match wish {
        Wish::State(state) => state != AdminState::Ready,
        Wish::Weight(weight) => weight != WantedWeight::Percent(100),
    }
}

/// FNV-1a (draft-eastlake-fnv): no secret is in it, it only has to be the same on every machine.
fn fingerprint(topic: &Topic, stamp: Stamp) -> u64 {
    let Topic { pool, server, aspect } = topic;
    let Stamp { at, version, node } = stamp;
    // Spelled out, because other versions of this program must come to the same number.
    let (sort, id) = match server {
        ServerKey::Static(name) => ("name", name.to_string()),
        ServerKey::Node(node) => ("node", node.to_string()),
    };
    let aspect = match aspect {
        Aspect::State => "state",
        Aspect::Weight => "weight",
    };
    let text = format!("{pool}\n{sort} {id}\n{aspect}\n{at} {version} {node}");
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::{AdminState, ServerName, WantedWeight, Weight};

    const PEER: NodeId = NodeId(7);
    const ZERO: Duration = Duration::ZERO;

    fn decision(server: u16, wish: Wish, at: u64, node: u64) -> Decision {
        let name = ServerName::parse(&format!("s{server}")).unwrap();
        Decision {
            pool: PoolName::parse("nodes").unwrap(),
            server: ServerKey::Static(name.clone()),
            wish,
            by: name,
            stamp: Stamp { at, version: 1, node: NodeId(node) },
        }
    }

    const DRAIN: Wish = Wish::State(AdminState::Drain);
    const READY: Wish = Wish::State(AdminState::Ready);

    fn all(decisions: &[Decision]) -> usize {
        decisions.len()
    }

    #[test]
    fn a_decision_is_told_until_it_is_acknowledged_and_compared_every_ten_seconds() {
        let mut decisions = Decisions::default();
        decisions.track(ZERO, PEER);
        assert!(decisions.merge(ZERO, &decision(1, DRAIN, 1, 1), None));
        let mut sent = Vec::new();
        for now in (0..1000).map(Duration::from_millis) {
            sent.extend(decisions.due(now, all).iter().map(|_| now.as_millis()));
        }
        assert_eq!(sent, [0, 100, 300, 700]);
        assert_eq!(decisions.waiting_since(), Some(ZERO));
        assert!(!decisions.acknowledged(ZERO, PEER, 3, true), "an older round");
        assert!(decisions.acknowledged(ZERO, PEER, 4, true));
        assert!(!decisions.acknowledged(ZERO, PEER, 4, true), "a copy");
        assert_eq!((decisions.waiting_since(), decisions.next_deadline()), (None, Some(COMPARE)));
        let compared = decisions.due(COMPARE, all);
        assert_eq!((compared.len(), compared[0].decisions.len()), (1, 0));
        assert!(decisions.acknowledged(COMPARE, PEER, compared[0].round, false), "it holds nothing");
        assert_eq!(decisions.due(COMPARE, all)[0].decisions.len(), 1, "so it is told again");
    }

    #[test]
    fn what_is_dropped_with_its_node_is_waited_for_no_longer() {
        let mut decisions = Decisions::default();
        decisions.track(ZERO, PEER);
        let its = Decision { server: ServerKey::Node(NodeId(3)), ..decision(1, DRAIN, 1, 1) };
        decisions.merge(ZERO, &its, None);
        assert_eq!(decisions.waiting_since(), Some(ZERO));
        decisions.drop_node(NodeId(3));
        assert_eq!(decisions.waiting_since(), None);
    }

    #[test]
    fn nothing_is_sent_where_nothing_was_decided() {
        let mut decisions = Decisions::default();
        decisions.track(ZERO, PEER);
        assert_eq!(decisions.due(Duration::from_secs(60), all), []);
    }

    #[test]
    fn a_later_balancer_is_told_everything_and_a_teller_is_not_told_back() {
        let mut decisions = Decisions::default();
        decisions.track(ZERO, PEER);
        decisions.merge(ZERO, &decision(1, DRAIN, 1, 7), Some(PEER));
        decisions.merge(ZERO, &decision(2, DRAIN, 1, 1), None);
        assert_eq!(decisions.due(ZERO, all)[0].decisions, [decision(2, DRAIN, 1, 1)]);
        decisions.track(ZERO, NodeId(8));
        let told = decisions.due(ZERO, |_| 1);
        assert_eq!((told[0].peer, told[0].decisions.len()), (NodeId(8), 1));
        assert!(decisions.acknowledged(ZERO, NodeId(8), told[0].round, false));
        assert_eq!(decisions.due(ZERO, |_| 1)[0].decisions, [decision(2, DRAIN, 1, 1)], "the rest at once");
    }

    #[test]
    fn state_and_weight_are_decided_apart_and_the_later_word_holds() {
        let mut decisions = Decisions::default();
        let heavy = Wish::Weight(WantedWeight::Absolute(Weight::MAX));
        assert!(decisions.merge(ZERO, &decision(1, DRAIN, 5, 1), None));
        assert!(decisions.merge(ZERO, &decision(1, heavy, 1, 2), None));
        assert!(!decisions.merge(ZERO, &decision(1, READY, 4, 2), None));
        assert!(decisions.merge(ZERO, &decision(1, READY, 5, 2), None), "of the same moment the greater boot's");
        assert_eq!(decisions.len(), 2);
    }

    #[test]
    fn decisions_are_bounded_and_those_that_ask_for_nothing_go_first() {
        let mut decisions = Decisions::default();
        decisions.merge(ZERO, &decision(0, DRAIN, 1, 1), None);
        for server in 1..2000 {
            decisions.merge(ZERO, &decision(server, READY, 10 + u64::from(server), 1), None);
        }
        assert_eq!(decisions.len(), MAX_DECISIONS);
        assert!(decisions.held.values().any(|held| held.wish == DRAIN), "the drain is older and stays");
        assert!(decisions.held.values().any(|held| held.stamp.at == 2009), "the latest is there");
    }

    #[test]
    fn what_was_decided_about_a_node_goes_with_it() {
        let mut decisions = Decisions::default();
        decisions.track(ZERO, PEER);
        decisions.merge(ZERO, &Decision { server: ServerKey::Node(NodeId(3)), ..decision(1, DRAIN, 1, 1) }, None);
        decisions.drop_node(NodeId(3));
        assert_eq!((decisions.len(), decisions.digest(|_| true)), (0, 0));
        assert_eq!(decisions.due(ZERO, all), []);
    }

    #[test]
    fn the_digest_is_the_same_on_every_version() {
        let weight = Wish::Weight(WantedWeight::Percent(50));
        let node = Decision { server: ServerKey::Node(NodeId(3)), ..decision(1, weight, 2, 1) };
        for (decision, digest) in [(decision(1, DRAIN, 1, 1), 0x99c0_0a37_3033_240f), (node, 0xfab4_3395_5ed4_5845)] {
            assert_eq!(fingerprint(&Topic::of(&decision), decision.stamp), digest, "{decision:?}");
        }
    }

    proptest! {
        #[test]
        fn all_balancers_agree_in_whatever_order_they_hear(
            words in prop::collection::vec((0_u16..4, any::<bool>(), 0_u64..6, 0_u64..3), 0..30),
            order in any::<u64>(),
        ) {
            // One balancer decides one thing at one moment.
            let wish = |drain: bool| if drain { DRAIN } else { READY };
            let mut told: Vec<_> = words.iter().map(|&(server, drain, at, node)| decision(server, wish(drain), at, node)).collect();
            told.sort_by_key(|decision| (decision.server.clone(), decision.stamp));
            told.dedup_by_key(|decision| (decision.server.clone(), decision.stamp));
            let (mut one, mut other) = (Decisions::default(), Decisions::default());
            for decision in &told {
                one.merge(ZERO, decision, None);
            }
            told.sort_by_key(|decision| fingerprint(&Topic::of(decision), decision.stamp) ^ order);
            for decision in told.iter().chain(&told) {
                other.merge(ZERO, decision, None);
            }
            prop_assert_eq!(one.digest(|_| true), other.digest(|_| true));
            prop_assert_eq!(&one.held, &other.held);
        }
    }
}
