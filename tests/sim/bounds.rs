//! Nothing grows without end.

use std::net::SocketAddr;

use lb::{
    model::NodeId,
    swim::{DropReason, Identity, Input, MAX_MEMBERS, Output, Role},
};

use super::{
    cluster::{Cluster, seeds},
    net::{Weather, ms},
};

#[test]
fn nodes_that_come_and_go_for_hours_leave_a_bounded_list() {
    /// More than are remembered of those who are gone.
    const CYCLES: u32 = 300;
    for seed in seeds(1, 1) {
        let Cluster { mut net, balancers, .. } = Cluster::settled(seed, 1, 2, Weather::default());
        for cycle in 0..CYCLES {
            let at = format!("10.2.{}.{}:7946", cycle / 250, cycle % 250 + 1);
            net.start(Role::Node, &at, &[&balancers[0]]);
            net.run(ms(1000));
            if cycle % 2 == 0 {
                net.give(&at, Input::Leave);
                net.run(ms(500));
            }
            net.kill(&at);
            net.run(ms(3000));
        }
        let members = net.host(&balancers[0]).node.members();
        assert!(members.len() <= 3 + 256, "{}", members.len());
        net.wait_by(ms(10), ms(5000), "equal views", |net| net.views_are_equal());
    }
}

#[test]
fn the_crowd_that_a_stranger_invents_is_bounded_and_forgotten() {
    let Cluster { mut net, balancers, nodes } = Cluster::settled(0, 1, 2, Weather::default());
    let dst = *net.host(&balancers[0]).node.identity();
    for host in 0..MAX_MEMBERS as u32 + 100 {
        let (from, _, bytes) = announcement(host, dst);
        net.give(&balancers[0], Input::Datagram { from, bytes: &bytes });
    }
    let full = |output: &Output| matches!(output, Output::Refused { reason: DropReason::MembersFull, .. });
    assert!(net.host(&balancers[0]).saw(full).is_some());
    let node = &net.host(&balancers[0]).node;
    assert_eq!(node.members().len(), MAX_MEMBERS + 1);
    assert!(node.counters().dropped[&DropReason::MembersFull] >= 100);
    assert!(nodes.iter().all(|at| net.hosts.contains_key(&super::net::addr(at))));
}

#[test]
fn members_that_left_give_their_place_to_newcomers_after_a_minute() {
    let Cluster { mut net, balancers, nodes } = Cluster::settled(0, 1, 2, Weather::default());
    let dst = *net.host(&balancers[0]).node.identity();
    let at = "10.1.9.9:7946";
    for host in 0..MAX_MEMBERS as u32 - nodes.len() as u32 {
        let (from, src, bytes) = announcement(host, dst);
        net.give(&balancers[0], Input::Datagram { from, bytes: &bytes });
        // As it says goodbye.
        let header = foca::Header { src, src_incarnation: 0, dst, message: foca::Message::<Identity>::Gossip };
        let member = foca::Member::new(src, 0, foca::State::Down);
        let update = [&1_u16.to_be_bytes()[..], &postcard::to_stdvec(&member).unwrap()].concat();
        let bytes = [&[1, 0][..], &postcard::to_stdvec(&header).unwrap(), &update].concat();
        net.give(&balancers[0], Input::Datagram { from, bytes: &bytes });
    }
    net.run(ms(61_000));
    let node = net.start(Role::Node, at, &[&balancers[0]]);
    net.wait(ms(2000), "joining", |net| net.host(&balancers[0]).others_alive().contains(&node));
    assert_eq!(net.host(&balancers[0]).node.counters().dropped.get(&DropReason::MembersFull), None);
    assert_eq!(net.host(&balancers[0]).others_alive().len(), nodes.len() + 1);
}

/// Of an invented node: where it seems to come from, who it is, and what it says.
fn announcement(host: u32, dst: Identity) -> (SocketAddr, Identity, Vec<u8>) {
    let [_, a, b, c] = host.to_be_bytes();
    let from = SocketAddr::from(([11, a, b, c], 7946));
    let src = Identity::new(from, 1, NodeId(1_000_000 + u64::from(host)), Role::Node).unwrap();
    let header = foca::Header { src, src_incarnation: 0, dst, message: foca::Message::<Identity>::Announce };
    (from, src, [&[1, 0][..], &postcard::to_stdvec(&header).unwrap()].concat())
}
