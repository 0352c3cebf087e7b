//! Sealed datagrams: what a member says is spoiled on its way, and repeated; strangers try to look like it.
//!
//! Nothing but what was really sealed with the key may be taken in, and that once.

#![no_main]

use std::{
    collections::{HashSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use lb::{
    model::{ClusterKey, ClusterSecret, Keyring, NodeId, NodeState, PoolName, ServerName},
    swim::{Identity, Input, MAX_DATAGRAM, Node, NodeConfig, Output, Role, ServiceRecord},
};
use libfuzzer_sys::fuzz_target;
use rand::{SeedableRng, rngs::StdRng};

fuzz_target!(|script: &[u8]| {
    let mut pair = [Host::new(1, Role::Balancer), Host::new(2, Role::Node)];
    let addresses = pair.each_ref().map(|host| host.address);
    pair[1].handle(Input::SeedsResolved(vec![addresses[0]]));
    // They meet; everything that they said is known to whoever listens.
    let mut heard: Vec<Vec<u8>> = Vec::new();
    while pair.iter().any(|host| !host.out.is_empty()) && heard.len() < 64 {
        for (from, to) in [(0, 1), (1, 0)] {
            for bytes in std::mem::take(&mut pair[from].out) {
                assert!(bytes.len() <= MAX_DATAGRAM);
                pair[to].hear(addresses[from], &bytes);
                heard.push(bytes);
            }
        }
    }
    assert!(pair.iter().all(|host| host.node.members().len() == 2));
    let genuine: HashSet<Vec<u8>> = heard.iter().cloned().collect();
    let mut script = script.iter().copied();
    while let (Some(order), Some(which)) = (script.next(), script.next()) {
        let mut bytes = heard[usize::from(which) % heard.len()].clone();
        let place = usize::from(script.next().unwrap_or_default()) % bytes.len();
        match order >> 1 & 3 {
            0 => bytes[place] ^= script.next().unwrap_or_default(),
            1 => bytes.truncate(place),
            2 => bytes.extend(script.by_ref().take(place)),
            // A header of theirs before anything.
            _ => {
                bytes.truncate(29.min(bytes.len()));
                bytes.extend(script.by_ref().take(place));
            }
        }
        let host = &mut pair[usize::from(order & 1)];
        let (members, received) = (host.node.members(), host.node.counters().received.clone());
        host.hear(SocketAddr::from(([10, 0, 1, order], 7946)), &bytes);
        assert!(host.node.members() == members, "a stranger changed the members");
        assert!(host.node.counters().received == received, "a stranger, or an echo, was believed");
        let answers = std::mem::take(&mut host.out);
        assert!(answers.is_empty() || genuine.contains(&bytes), "a forgery was answered");
        assert!(answers.iter().all(|answer| answer.len() <= bytes.len() + 8), "an answer amplifies");
    }
});

struct Host {
    address: SocketAddr,
    node: Node,
    out: Vec<Vec<u8>>,
}

impl Host {
    fn new(number: u8, role: Role) -> Self {
        let address = SocketAddr::from(([10, 0, 0, number], 7946));
        let name = ServerName::parse("web").expect("a name");
        let mut record = ServiceRecord::new(name, PoolName::parse("nodes").expect("a name"), 3000);
        record.state = NodeState::Ready;
        let keys = Keyring::new(ClusterKey::new([7; 32]));
        let config = NodeConfig {
            identity: Identity::new(address, 1, NodeId(u64::from(number)), role).expect("an address to dial"),
            address_is_given: true,
            has_seeds: role == Role::Node,
            record,
            secret: Some(ClusterSecret { keys, name: "lb".parse().expect("a name") }),
        };
        Self { address, node: Node::new(config, StdRng::seed_from_u64(u64::from(number))), out: Vec::new() }
    }

    fn handle(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.node.handle(Duration::ZERO, input, &mut out);
        let mut todo = VecDeque::from(std::mem::take(&mut out));
        while let Some(output) = todo.pop_front() {
            match output {
                Output::Send { bytes, .. } => self.out.push(bytes),
                Output::Record { record, .. } => {
                    let (node_id, version) = (record.node_id, record.version);
                    self.node.handle(Duration::ZERO, Input::Applied { node_id, version, in_flight: 0 }, &mut out);
                    todo.extend(out.drain(..));
                }
                _ => {}
            }
        }
    }

    fn hear(&mut self, from: SocketAddr, bytes: &[u8]) {
        self.handle(Input::Datagram { from, bytes });
    }
}
