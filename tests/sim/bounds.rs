//! Nothing grows without end.

use std::net::SocketAddr;

use lb::{
    model::NodeId,
    swim::{DropReason, Identity, Input, MAX_MEMBERS, Role},
};

use super::{
    cluster::{Cluster, seeds, sized},
    net::{Weather, ms},
};

#[test]
fn nodes_that_come_and_go_for_hours_leave_a_bounded_list() {
    let cycles = sized(30, 400);
    for seed in seeds(1, 1) {
        let Cluster { mut net, balancers, .. } = Cluster::settled(seed, 1, 2, Weather::default());
        let mut last = String::new();
        for cycle in 0..cycles {
            let at = format!("10.2.{}.{}:7946", cycle / 250, cycle % 250 + 1);
            net.start(Role::Node, &at, &[&balancers[0]]);
            net.run(ms(1000));
            if cycle % 2 == 0 {
                net.give(&at, Input::Leave);
                net.run(ms(500));
            }
            net.kill(&at);
            net.run(ms(3000));
            last = at;
        }
        let members = net.host(&balancers[0]).node.members();
        assert!(members.len() <= 3 + 256, "{}", members.len());
        assert!(!last.is_empty());
        net.wait_by(ms(10), ms(5000), "equal views", |net| net.views_are_equal());
    }
}

#[test]
fn the_crowd_that_a_stranger_invents_is_bounded_and_forgotten() {
    let Cluster { mut net, balancers, nodes } = Cluster::settled(0, 1, 2, Weather::default());
    let dst = *net.host(&balancers[0]).node.identity();
    for host in 0..MAX_MEMBERS as u32 + 100 {
        let [_, a, b, c] = host.to_be_bytes();
        let from = SocketAddr::from(([11, a, b, c], 7946));
        let src = Identity::new(from, 1, NodeId(1_000_000 + u64::from(host)), Role::Node).unwrap();
        let header = foca::Header { src, src_incarnation: 0, dst, message: foca::Message::<Identity>::Announce };
        let bytes = [&[1, 0][..], &postcard::to_stdvec(&header).unwrap()].concat();
        net.give(&balancers[0], Input::Datagram { from, bytes: &bytes });
    }
    let node = &net.host(&balancers[0]).node;
    assert_eq!(node.members().len(), MAX_MEMBERS + 1);
    assert!(node.counters().dropped[&DropReason::MembersFull] >= 100);
    assert!(nodes.iter().all(|at| net.hosts.contains_key(&super::net::addr(at))));
}
