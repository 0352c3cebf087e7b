//! What needs a look inside: the rest of the scenarios is in `tests/sim`, on the same virtual network.

mod addresses;
mod forged;
mod ghosts;
#[path = "../../../../tests/sim/host.rs"]
mod host;
#[path = "../../../../tests/sim/net.rs"]
mod net;
mod relays;
mod sealed;
mod telling;

use std::time::Duration;

use proptest::prelude::*;

use self::net::{Net, Weather, addr, ms};
use super::*;
use crate::swim::{Kind, MAX_MEMBERS};

const B: &str = "10.0.0.1:7946";
const N: [&str; 3] = ["10.0.0.11:7946", "10.0.0.12:7946", "10.0.0.13:7946"];

/// A balancer with three nodes, settled.
fn cluster() -> (Net, NodeId, Vec<NodeId>) {
    cluster_of(0)
}

/// The same with another chance.
fn cluster_of(seed: u64) -> (Net, NodeId, Vec<NodeId>) {
    let mut net = Net::new(seed);
    let balancer = net.start(Role::Balancer, B, &[]);
    let nodes: Vec<_> = N.iter().map(|at| net.start(Role::Node, at, &[B])).collect();
    net.wait(ms(500), "joining", |net| net.serves(B, &nodes));
    net.run(ms(3000));
    (net, balancer, nodes)
}

#[test]
fn nodes_join_a_balancer_within_milliseconds_and_their_records_are_acknowledged() {
    let mut net = Net::default();
    let balancer = net.start(Role::Balancer, B, &[]);
    let nodes: Vec<_> = N.iter().map(|at| net.start(Role::Node, at, &[B])).collect();
    let took = net.wait(ms(50), "joining", |net| net.serves(B, &nodes));
    net.wait(ms(50), "acknowledging", |net| N.iter().all(|at| net.host(at).node.delivery.is_acknowledged()));
    println!("joined after {took:?}");
    assert_eq!(net.host(N[0]).node.drain_progress()[0].balancer, balancer);
    assert_eq!(net.host(B).pool[&nodes[0]].1, addr("10.0.0.11:3000"), "the member's address, the record's port");
    net.run(ms(60_000));
    assert!(net.hosts.values().all(|host| host.saw(|output| matches!(output, Output::MemberDown(_))).is_none()));
    assert!(net.host(B).node.counters().dropped.is_empty(), "{:?}", net.host(B).node.counters());
}

#[test]
fn a_balancer_that_starts_last_is_found_within_two_seconds() {
    let mut net = Net::default();
    let nodes: Vec<_> = N.iter().map(|at| net.start(Role::Node, at, &[B])).collect();
    net.run(ms(60_000));
    net.start(Role::Balancer, B, &[]);
    let took = net.wait(ms(1100), "finding the balancer", |net| net.serves(B, &nodes));
    println!("found after {took:?}");
}

#[test]
fn a_balancer_that_left_or_was_killed_and_comes_back_finds_all_nodes_within_two_seconds() {
    let mut slowest = Duration::ZERO;
    for seed in 0..50 {
        let (mut net, old, nodes) = cluster_of(seed);
        if seed % 5 == 0 {
            net.give(B, Input::Leave);
            net.wait(ms(600), "leaving", |net| net.host(B).saw(|output| *output == Output::Gone).is_some());
        }
        net.kill(B);
        net.run(ms(seed * 60));
        net.start(Role::Balancer, B, &[]);
        slowest = slowest.max(net.wait(ms(2000), "finding the nodes again", |net| net.serves(B, &nodes)));
        let replaced = |output: &Output| {
            matches!(output, Output::MemberReplaced(member) | Output::MemberDown(member) | Output::MemberLeft(member)
                if member.node_id == old)
        };
        net.wait(ms(1000), "replacing", |net| N.iter().all(|at| net.host(at).saw(replaced).is_some()));
    }
    println!("restarted balancer: at the latest after {slowest:?}");
}

#[test]
fn a_node_whose_clock_fell_behind_still_beats_its_predecessor() {
    let (mut net, _, nodes) = cluster();
    net.kill(N[0]);
    let new = net.start_as(Role::Node, N[0], N[0], true, 5, &[B]);
    net.wait(ms(500), "taking over", |net| net.serves(B, &[nodes[1], nodes[2], new]));
}

#[test]
fn a_drain_is_over_once_the_balancer_has_said_twice_that_nothing_is_in_flight() {
    let (mut net, balancer, nodes) = cluster();
    net.host_mut(B).in_flight = 2;
    net.set_state(N[0], NodeState::Draining);
    net.wait(ms(50), "hearing of it", |net| net.host(B).pool[&nodes[0]].0.state == NodeState::Draining);
    net.run(ms(1000));
    let progress = net.host(N[0]).node.drain_progress();
    assert_eq!((progress.len(), progress[0].balancer, progress[0].in_flight), (1, balancer, Some(2)));
    assert!(!net.host(N[0]).node.is_drained());
    net.host_mut(B).in_flight = 0;
    let took = net.wait(ms(300), "draining", |net| net.host(N[0]).node.is_drained());
    println!("drained after {took:?}");
}

#[test]
fn a_node_that_leaves_is_listed_as_left_everywhere_it_matters_and_stays_away() {
    let (mut net, _, nodes) = cluster();
    net.give(N[0], Input::Leave);
    net.wait(ms(500), "leaving", |net| net.host(N[0]).saw(|output| *output == Output::Gone).is_some());
    let left = |output: &Output| matches!(output, Output::MemberLeft(member) if member.node_id == nodes[0]);
    let down = |output: &Output| matches!(output, Output::MemberDown(_));
    assert!(net.host(B).saw(left).is_some());
    assert_eq!(net.host(N[0]).node.next_deadline(), None);
    net.run(ms(10_000));
    assert!(net.host(B).saw(down).is_none());
    assert!(net.serves(B, &nodes[1..]));
    assert!(net.host(N[0]).saw(|output| matches!(output, Output::Renewed(_))).is_none());
}

#[test]
fn a_node_that_leaves_without_a_balancer_does_not_wait() {
    let mut net = Net::default();
    net.start(Role::Node, N[0], &[B]);
    net.run(ms(1000));
    net.give(N[0], Input::Leave);
    assert!(net.host(N[0]).saw(|output| *output == Output::Gone).is_some());
}

#[test]
fn a_balancer_is_joined_by_an_address_that_it_does_not_advertise() {
    let mut net = Net::default();
    // Both on one host: the balancer guessed 172.17.0.2, the node dials 127.0.0.1 and lives there.
    let (bound, dialled) = ("172.17.0.2:7946", "127.0.0.1:7946");
    net.aliases.insert(addr(dialled), addr(bound));
    let balancer = net.start_as(Role::Balancer, bound, bound, false, 1, &[]);
    let node = net.start_as(Role::Node, "127.0.0.1:8000", "192.168.0.9:8000", false, 1, &[dialled]);
    net.wait(ms(100), "joining", |net| net.serves(bound, &[node]));
    assert_eq!(net.host(bound).node.identity().address(), addr(bound), "it keeps what others can reach");
    assert_eq!(net.host("127.0.0.1:8000").node.identity().address(), addr("127.0.0.1:8000"));
    assert_eq!(net.host(bound).pool[&node].1, addr("127.0.0.1:3000"));
    net.run(ms(10_000));
    assert!(net.serves(bound, &[node]) && net.host("127.0.0.1:8000").node.roster.get(balancer).unwrap().is_alive());
}

#[test]
fn a_balancer_that_guessed_loopback_learns_its_address_from_the_first_who_dials() {
    let mut net = Net::default();
    net.start_as(Role::Balancer, B, "127.0.0.1:7946", false, 1, &[]);
    let node = net.start_as(Role::Node, N[0], "127.0.0.1:7946", false, 1, &[B]);
    net.wait(ms(100), "joining", |net| net.serves(B, &[node]));
    assert_eq!(net.host(B).node.identity().address(), addr(B));
    assert_eq!(net.host(N[0]).node.identity().address(), addr(N[0]));
}

#[test]
fn a_record_from_another_address_than_its_owners_is_dropped_and_reported_once() {
    let mut net = Net::default();
    net.start(Role::Balancer, B, &[]);
    net.aliases.insert(addr("10.9.9.9:7946"), addr(N[0]));
    net.start_as(Role::Node, N[0], "10.9.9.9:7946", true, 1, &[B]);
    net.run(ms(3000));
    assert!(net.host(B).pool.is_empty());
    assert!(net.host(B).node.counters().dropped[&DropReason::RecordAddress] > 1);
    let mismatch = |output: &&(Duration, Output)| matches!(output.1, Output::AddressMismatch { ours: false, .. });
    assert_eq!(net.host(B).log.iter().filter(mismatch).count(), 1);
}

#[test]
fn two_balancers_both_serve_and_know_each_others_names() {
    let mut net = Net::default();
    let other = "10.0.0.2:7946";
    let first = net.start(Role::Balancer, B, &[]);
    let second = net.start(Role::Balancer, other, &[B]);
    let node = net.start(Role::Node, N[0], &[B]);
    net.wait(ms(1500), "joining", |net| net.serves(B, &[second, node]) && net.serves(other, &[first, node]));
    assert_eq!(net.host(N[0]).node.drain_progress().len(), 2);
    let names: Vec<_> = net.host(other).node.members().into_iter().map(|member| member.name).collect();
    assert_eq!(names, ["host2", "host1", "host3"]);
}

#[test]
fn fifty_nodes_are_found_again_by_a_restarted_balancer() {
    let mut net = Net::default();
    net.start(Role::Balancer, B, &[]);
    let at: Vec<_> = (0..50).map(|host| format!("10.0.1.{host}:7946")).collect();
    let nodes: Vec<_> = at.iter().map(|at| net.start(Role::Node, at, &[B])).collect();
    let took = net.wait(ms(2000), "joining", |net| net.serves(B, &nodes));
    println!("50 joined after {took:?}");
    net.run(ms(2000));
    net.kill(B);
    net.run(ms(200));
    net.start(Role::Balancer, B, &[]);
    let took = net.wait(ms(2000), "finding them again", |net| net.serves(B, &nodes));
    println!("50 found again after {took:?}");
}

#[test]
fn with_a_fifth_of_all_datagrams_lost_nodes_still_join_drain_and_leave() {
    for seed in 0..20 {
        lossy(seed);
    }
}

fn lossy(seed: u64) {
    let mut net = Net { weather: Weather::losing(0.2), ..Net::new(seed) };
    net.start(Role::Balancer, B, &[]);
    let nodes: Vec<_> = N.iter().map(|at| net.start(Role::Node, at, &[B])).collect();
    let joined = net.wait(ms(5000), "joining", |net| net.serves(B, &nodes));
    net.set_state(N[0], NodeState::Draining);
    net.run(ms(10));
    let drained = net.wait(ms(3000), "draining", |net| net.host(N[0]).node.is_drained());
    println!("a fifth lost: joined after {joined:?}, drained after {drained:?}");
    net.give(N[0], Input::Leave);
    net.wait(ms(500), "leaving", |net| net.host(N[0]).saw(|output| *output == Output::Gone).is_some());
    net.wait(ms(4000), "being gone", |net| net.serves(B, &nodes[1..]));
}

#[test]
fn a_crowd_is_admitted_up_to_the_bound_and_then_dropped_and_counted() {
    let mut net = Net::default();
    net.start(Role::Balancer, B, &[]);
    let dst = *net.host(B).node.identity();
    let crowd = MAX_MEMBERS as u32 + 100;
    for host in 0..crowd {
        let [_, a, b, c] = host.to_be_bytes();
        let from = SocketAddr::from(([11, a, b, c], 7946));
        let src = Identity::new(from, 1, NodeId(1000 + u64::from(host)), Role::Node).unwrap();
        let header = foca::Header { src, src_incarnation: 0, dst, message: foca::Message::Announce };
        let packet = postcard::to_stdvec(&header).unwrap();
        net.give(B, Input::Datagram { from, bytes: &Datagram::Swim(&packet).encode().unwrap() });
    }
    let node = &net.host(B).node;
    assert_eq!(node.roster.alive().count(), MAX_MEMBERS);
    assert_eq!(node.counters().dropped[&DropReason::MembersFull], 100);
}

#[test]
fn what_comes_after_the_goodbye_is_dropped() {
    let (mut net, _, _) = cluster();
    net.give(N[0], Input::Leave);
    net.run(ms(1000));
    let before = net.host(N[0]).node.counters().dropped.get(&DropReason::AfterLeave).copied().unwrap_or(0);
    let sender = *net.host(B).node.identity();
    let hello = Datagram::Hello(wire::Hello { nonce: 1, sender }).encode().unwrap();
    net.give(N[0], Input::Datagram { from: addr(B), bytes: &hello });
    assert_eq!(net.host(N[0]).node.counters().dropped[&DropReason::AfterLeave], before + 1);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn no_bytes_from_a_stranger_panic_or_change_the_membership(
        junk in prop::collection::vec((0..7_u8, prop::collection::vec(any::<u8>(), 0..400)), 1..20)
    ) {
        let mut net = Net::default();
        net.start(Role::Balancer, B, &[]);
        net.start(Role::Node, N[0], &[B]);
        net.wait(ms(100), "joining", |net| !net.host(B).pool.is_empty());
        let before = net.host(B).node.members();
        for (kind, bytes) in junk {
            let datagram = [&[1, kind][..], &bytes].concat();
            net.give(B, Input::Datagram { from: addr("10.6.6.6:666"), bytes: &bytes });
            net.give(B, Input::Datagram { from: addr("10.6.6.6:666"), bytes: &datagram });
        }
        prop_assert_eq!(net.host(B).node.members(), before);
    }

    #[test]
    fn damaged_datagrams_panic_nowhere(
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()), 50)
    ) {
        let mut net = Net::default();
        net.start(Role::Balancer, B, &[]);
        let _nodes = [N[0], N[1]].map(|at| net.start(Role::Node, at, &[B]));
        net.run(ms(2000));
        for (datagram, position, byte) in damage {
            let mut bytes = datagram.get(&net.trace).clone();
            let position = position.index(bytes.len());
            bytes[position] = byte;
            for at in [B, N[0]] {
                net.give(at, Input::Datagram { from: addr(N[1]), bytes: &bytes });
            }
            net.run(ms(20));
        }
    }
}

#[test]
fn the_count_of_hellos_answered_shows_in_the_counters() {
    let (net, _, _) = cluster();
    let counters = net.host(B).node.counters();
    assert!(counters.received[&Kind::Hello] >= 3 && counters.sent[&Kind::Welcome] == counters.received[&Kind::Hello]);
}
