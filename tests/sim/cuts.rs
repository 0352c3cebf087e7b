//! Networks that fall apart and heal.

#![allow(clippy::wildcard_enum_match_arm, reason = "looks at few outputs")]

use lb::{
    model::NodeId,
    swim::{Output, Role},
};

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
fn a_balancer_that_is_cut_off_alone_keeps_every_server_however_large_the_cluster_is() {
    for (nodes, runs) in [(9, 2), (49, 1), (199, 1)] {
        for seed in seeds(runs, runs * 5) {
            let Cluster { mut net, balancers, .. } = Cluster::settled(seed, 1, nodes, Weather::default());
            let before = net.host(&balancers[0]).log.len();
            net.cut.insert(addr(&balancers[0]));
            let cut_off = |net: &Net| net.host(&balancers[0]).node.is_cut_off();
            let took = net.wait_by(ms(10), ms(4000), "noticing the cut", cut_off);
            println!("FIGURE {} members: cut off noticed after {} ms", nodes + 1, took.as_millis());
            net.run(ms(30_000));
            assert_eq!(dropped(&net, &balancers[0], before), [], "seed {seed}, {nodes} nodes");
            net.heal();
            net.wait_by(ms(10), ms(8000), "being back", |net| !cut_off(net));
            net.run(ms(5000));
            assert_eq!(net.host(&balancers[0]).others_alive().len(), nodes);
        }
    }
}

#[test]
fn two_who_are_cut_off_together_keep_every_server_as_well() {
    for seed in seeds(1, 5) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 59, Weather::default());
        net.part(&[&balancers[..], &nodes[..1]].concat(), &nodes[1..], true);
        let cut_off = |net: &Net| net.host(&balancers[0]).node.is_cut_off();
        net.wait_by(ms(10), ms(30_000), "noticing the cut", cut_off);
        net.run(ms(60_000));
        assert_eq!(dropped(&net, &balancers[0], 0), [], "seed {seed}");
        assert!(cut_off(&net));
    }
}

#[test]
fn members_that_leave_one_after_the_other_or_die_by_half_make_nobody_feel_cut_off() {
    for seed in seeds(1, 5) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 19, Weather::default());
        for (number, at) in nodes.iter().enumerate().take(15) {
            net.start(Role::Node, &format!("10.2.0.{}:7946", number + 1), &[&balancers[0]]);
            net.give(at, lb::swim::Input::Leave);
            net.run(ms(600));
            net.kill(at);
        }
        net.run(ms(10_000));
        // Nine of twenty.
        (1..10).for_each(|host| net.kill(&format!("10.2.0.{host}:7946")));
        net.run(ms(30_000));
        assert!(net.host(&balancers[0]).saw(|output| matches!(output, Output::CutOff { .. })).is_none());
        assert_eq!(net.host(&balancers[0]).others_alive().len(), 10);
    }
}

#[test]
fn a_balancer_that_misses_its_only_node_is_not_cut_off_and_one_that_misses_both_is() {
    for (nodes, expected) in [(1, false), (2, true)] {
        let Cluster { mut net, balancers, .. } = Cluster::settled(1, 1, nodes, Weather::default());
        net.cut.insert(addr(&balancers[0]));
        net.run(ms(10_000));
        assert_eq!(net.host(&balancers[0]).node.is_cut_off(), expected);
        assert_eq!(net.host(&balancers[0]).others_alive(), []);
        net.heal();
        net.run(ms(5000));
        assert!(!net.host(&balancers[0]).node.is_cut_off());
        assert_eq!(net.host(&balancers[0]).others_alive().len(), nodes);
    }
}

/// Whom a balancer's pool takes for gone since then, as its driver carries it out.
fn dropped(net: &Net, at: &str, since: usize) -> Vec<NodeId> {
    let (mut lost, mut is_cut) = (Vec::new(), false);
    for (_, output) in net.host(at).log.iter().skip(since) {
        match output {
            Output::MemberDown(member) if !is_cut => lost.push(member.node_id),
            Output::CutOff { vanished, .. } => {
                is_cut = true;
                lost.retain(|node| !vanished.contains(node));
            }
            Output::CutOffEnds { gone, .. } => {
                is_cut = false;
                lost.extend(gone);
            }
            Output::MemberUp(member) => lost.retain(|node| *node != member.node_id),
            _ => {}
        }
    }
    lost
}

#[test]
fn a_balancer_that_is_cut_off_says_so_and_takes_it_back_once_half_of_the_cluster_is_there_again() {
    for seed in seeds(2, 30) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 9, Weather::default());
        net.cut.insert(addr(&balancers[0]));
        net.run(ms(30_000));
        let begins = |output: &Output| matches!(output, Output::CutOff { of: 10, .. });
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
