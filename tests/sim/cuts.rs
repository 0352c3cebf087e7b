//! Networks that fall apart and heal.

use lb::{model::NodeId, swim::Output};

use super::{
    cluster::{Cluster, Figures, seeds},
    net::{Net, Weather, addr, ms},
};

#[test]
fn a_cut_of_a_minute_between_a_balancer_and_its_only_node_heals_in_a_second() {
    heals("1 balancer and 1 node, cut from each other", (1, 1), |cluster| {
        (cluster.balancers.clone(), cluster.nodes.clone())
    });
}

#[test]
fn a_cut_of_a_minute_between_a_balancer_and_half_of_its_nodes_heals_in_a_second() {
    heals("1 balancer and 9 nodes, 5 of them cut off", (1, 9), |cluster| {
        let (near, far) = cluster.nodes.split_at(4);
        ([&cluster.balancers[..], near].concat(), far.to_vec())
    });
}

#[test]
fn a_cut_of_a_minute_with_balancers_on_both_sides_heals_in_a_second() {
    heals("2 balancers and 4 nodes on each side", (4, 8), |cluster| {
        let (some, others) = (cluster.balancers.split_at(2), cluster.nodes.split_at(4));
        ([some.0, others.0].concat(), [some.1, others.1].concat())
    });
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes an optimized build: tests/scripts/simulator")]
fn a_cut_of_a_minute_through_the_middle_of_fifty_members_heals_in_a_second() {
    heals("2 balancers and 23 nodes on each side", (4, 46), |cluster| {
        let (some, others) = (cluster.balancers.split_at(2), cluster.nodes.split_at(23));
        ([some.0, others.0].concat(), [some.1, others.1].concat())
    });
}

fn heals(what: &str, (balancers, nodes): (usize, usize), sides: impl Fn(&Cluster) -> (Vec<String>, Vec<String>)) {
    let (mut routed, mut equal) = (Figures::default(), Figures::default());
    let large = balancers + nodes > 20;
    for seed in if large { seeds(1, 5) } else { seeds(3, 40) } {
        let mut cluster = Cluster::settled(seed, balancers, nodes, Weather { jitter: ms(1), ..Weather::default() });
        let (some, others) = sides(&cluster);
        cluster.net.part(&some, &others, true);
        cluster.net.run(ms(60_000 + seed * 71));
        assert!(!all_routed(&cluster), "the cut is noticed");
        cluster.net.heal();
        let start = cluster.net.now;
        while !all_routed(&cluster) {
            assert!(cluster.net.now < start + ms(20_000), "{what}: not routed again");
            cluster.net.run(ms(5));
        }
        routed.add(cluster.net.now - start);
        cluster.net.wait_by(ms(5), ms(20_000), "equal views", Net::views_are_equal);
        equal.add(cluster.net.now - start);
        assert!(cluster.net.false_removals.is_empty(), "a server that was cut off keeps its place");
    }
    routed.print(&format!("{what}, 60 s: routed again"));
    equal.print(&format!("{what}, 60 s: views equal"));
    assert!(routed.worst() <= ms(1000) && equal.worst() <= ms(5000));
}

/// Whether each balancer has all nodes, alive.
fn all_routed(cluster: &Cluster) -> bool {
    let Cluster { net, balancers, nodes } = cluster;
    let wanted: Vec<NodeId> = nodes.iter().map(|at| net.host(at).node.record().node_id).collect();
    balancers.iter().all(|balancer| {
        let alive = net.host(balancer).others_alive();
        wanted.iter().all(|node| alive.contains(node))
    })
}

#[test]
fn a_balancer_that_is_cut_off_says_so_and_takes_it_back_once_half_of_the_cluster_is_there_again() {
    for seed in seeds(2, 30) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 9, Weather::default());
        net.cut.insert(addr(&balancers[0]));
        net.run(ms(30_000));
        let begins = |output: &Output| matches!(output, Output::CutOff { vanished, of: 10 } if vanished.len() > 5);
        assert!(net.host(&balancers[0]).saw(begins).is_some());
        assert!(net.host(&balancers[0]).node.is_cut_off());
        assert!(nodes.iter().all(|at| !net.host(at).node.is_cut_off()), "who misses one member of ten is not cut off");
        net.heal();
        net.wait(ms(1000), "being back", |net| !net.host(&balancers[0]).node.is_cut_off());
        let ends = |output: &Output| matches!(output, Output::CutOffEnds { lasted, .. } if *lasted > ms(20_000));
        assert!(net.host(&balancers[0]).saw(ends).is_some());
    }
}

#[test]
fn a_way_that_is_cut_in_one_direction_costs_nobody_its_place_as_long_as_others_can_pass_on() {
    for seed in seeds(2, 30) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 5, Weather::default());
        net.ways_cut.insert((addr(&balancers[0]), addr(&nodes[0])));
        net.run(ms(60_000));
        assert!(net.false_downs.is_empty(), "{:?}", net.false_downs);
        net.heal();
        net.wait_by(ms(10), ms(2000), "equal views", Net::views_are_equal);
    }
}

#[test]
fn a_node_that_was_cut_off_while_the_cluster_forgot_it_comes_back_as_the_same_boot() {
    let Cluster { mut net, balancers, nodes } = Cluster::settled(0, 1, 3, Weather::default());
    let boot = net.host(&nodes[0]).node.record().node_id;
    net.cut.insert(addr(&nodes[0]));
    // Longer than foca remembers the dead.
    net.run(ms(3_700_000));
    net.heal();
    net.wait(ms(2000), "coming back", |net| net.host(&balancers[0]).others_alive().contains(&boot));
}
