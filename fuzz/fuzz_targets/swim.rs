//! Datagrams: members that hear each other, whose datagrams are spoiled on the way, strangers, and what operators decide.
//!
//! In builds with debug assertions, as fuzzers make them, the member checks its invariants after each input.

#![no_main]

use std::{net::SocketAddr, time::Duration};

use lb::{
    model::{
        AdminState, Decision, NodeId, NodeState, PoolName, ServerKey, ServerName, Stamp, Told, WantedWeight, Wish,
    },
    swim::{Identity, Input, MAX_DATAGRAM, MAX_MEMBERS, Node, NodeConfig, Output, Role, ServiceRecord},
};
use libfuzzer_sys::fuzz_target;
use rand::{SeedableRng, rngs::StdRng};

fuzz_target!(|script: &[u8]| {
    let mut hosts = [Host::new(1, Role::Balancer), Host::new(2, Role::Node), Host::new(3, Role::Balancer)];
    let mut now = Duration::ZERO;
    let addresses = hosts.each_ref().map(|host| host.address);
    for seeker in [1, 2] {
        hosts[seeker].handle(now, Input::SeedsResolved(vec![addresses[0]]));
    }
    let mut script = script.iter().copied();
    while let Some(order) = script.next() {
        let argument = script.next().unwrap_or_default();
        // The node and the first balancer, or both balancers.
        let other = if order & 16 == 0 { 1 } else { 2 };
        let (to, from) = if order & 1 == 0 { (0, other) } else { (other, 0) };
        match order >> 1 & 7 {
            0 => {
                now += Duration::from_millis(u64::from(argument) * 20);
                hosts.iter_mut().for_each(|host| host.handle(now, Input::Tick));
            }
            // As it was sent.
            1..=3 => {
                if let Some(bytes) = hosts[from].sent(addresses[to]) {
                    hosts[to].hear(now, addresses[from], &bytes);
                }
            }
            // Spoiled, cut or longer.
            4 | 5 => {
                let Some(mut bytes) = hosts[from].sent(addresses[to]) else { continue };
                let place = usize::from(argument) % bytes.len();
                match script.next().unwrap_or_default() {
                    0 => bytes.truncate(place),
                    1 => bytes.extend(script.by_ref().take(place)),
                    mask => bytes[place] ^= mask,
                }
                hosts[to].hear(now, addresses[from], &bytes);
            }
            // From a stranger.
            6 => {
                let bytes: Vec<u8> = script.by_ref().take(usize::from(argument)).collect();
                let stranger = SocketAddr::from(([10, 0, 1, order], 7946));
                hosts[to].hear(now, stranger, &bytes);
            }
            _ if order & 32 != 0 => {
                let stamp = script.next().unwrap_or_default();
                hosts[to].handle(now, Input::Tell(Told::Decision(decision(argument, stamp))));
            }
            _ => hosts[to].handle(now, Input::LocalAddress(Some([10, 0, 2, argument].into()))),
        }
    }
});

struct Host {
    address: SocketAddr,
    node: Node,
    out: Vec<Output>,
}

impl Host {
    fn new(number: u8, role: Role) -> Self {
        let address = SocketAddr::from(([10, 0, 0, number], 7946));
        let name = |text: &str| ServerName::parse(text).expect("a name");
        let mut record = ServiceRecord::new(name("web"), PoolName::parse("nodes").expect("a name"), 3000);
        record.state = NodeState::Ready;
        let config = NodeConfig {
            identity: Identity::new(address, 1, NodeId(u64::from(number)), role).expect("an address to dial"),
            address_is_given: role == Role::Balancer,
            has_seeds: number > 1,
            record,
            secret: None,
        };
        Self { address, node: Node::new(config, StdRng::seed_from_u64(u64::from(number))), out: Vec::new() }
    }

    fn handle(&mut self, now: Duration, input: Input<'_>) {
        self.node.handle(now, input, &mut self.out);
        let records: Vec<_> = self.out.iter().filter_map(applied).collect();
        for (node_id, version) in records {
            self.node.handle(now, Input::Applied { node_id, version, in_flight: 0 }, &mut self.out);
        }
        // What is not sent is nobody's business here, and the script may be long.
        self.out.retain(|output| matches!(output, Output::Send { .. }));
        assert!(self.node.members().len() <= MAX_MEMBERS + 1);
    }

    fn hear(&mut self, now: Duration, from: SocketAddr, bytes: &[u8]) {
        self.handle(now, Input::Datagram { from, bytes });
    }

    /// The oldest datagram that is on its way to somebody, or to anybody if there is none for him.
    fn sent(&mut self, receiver: SocketAddr) -> Option<Vec<u8>> {
        let is_for = |output: &Output| matches!(output, Output::Send { to, .. } if *to == receiver);
        let place = self.out.iter().position(is_for).unwrap_or(0);
        let Output::Send { bytes, .. } = (!self.out.is_empty()).then(|| self.out.remove(place))? else { return None };
        assert!((1..=MAX_DATAGRAM).contains(&bytes.len()));
        Some(bytes)
    }
}

fn decision(argument: u8, stamp: u8) -> Decision {
    let name = |text: &str| ServerName::parse(text).expect("a name");
    let server = match argument & 3 {
        0 => ServerKey::Node(NodeId(2)),
        number => ServerKey::Static(name(&format!("s{number}"))),
    };
    let states = [AdminState::Ready, AdminState::Drain, AdminState::Maint];
    let wish = match states.get(usize::from(argument >> 2 & 3)) {
        Some(state) => Wish::State(*state),
        None => Wish::Weight(WantedWeight::Percent(u16::from(argument) * 100)),
    };
    // Now, long ago, or the end of time.
    let at = if stamp < 250 { u64::from(stamp) } else { Stamp::LATEST - u64::from(255 - stamp) };
    let stamp = Stamp { at, version: u32::from(stamp), node: NodeId(u64::from(argument)) };
    Decision { pool: PoolName::parse("nodes").expect("a name"), server, wish, by: name("lb"), stamp }
}

fn applied(output: &Output) -> Option<(NodeId, u64)> {
    match output {
        Output::Record { record, .. } => Some((record.node_id, record.version)),
        _ => None,
    }
}
