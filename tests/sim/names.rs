//! Addresses and names that are used again.

use lb::swim::{Input, Output, Role};

use super::{
    cluster::{Cluster, Figures, seeds},
    net::{Weather, addr, ms},
};

const ELSEWHERE: &str = "10.0.9.9:7946";

#[test]
fn the_only_balancer_that_comes_back_at_a_new_address_knows_all_nodes_within_two_seconds() {
    for pause in [0, 300, 2000, 20_000] {
        for count in [1, 3, 20] {
            let mut figures = Figures::default();
            for seed in seeds(if count > 3 { 1 } else { 3 }, 40) {
                let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, count, Weather::default());
                net.kill(&balancers[0]);
                net.run(ms(pause));
                net.start(Role::Balancer, ELSEWHERE, &[]);
                for at in &nodes {
                    net.host_mut(at).seeds = vec![addr(ELSEWHERE)];
                }
                let ids: Vec<_> = nodes.iter().map(|at| net.host(at).node.record().node_id).collect();
                figures.add(net.wait(ms(8000), "knowing all nodes", |net| {
                    let host = net.host(ELSEWHERE);
                    let alive = host.others_alive();
                    ids.iter().all(|node| alive.contains(node) && host.pool.contains_key(node))
                }));
            }
            figures.print(&format!(
                "the only balancer killed and started elsewhere after {pause} ms, {count} nodes: knows all"
            ));
            assert!(figures.worst() <= ms(2000));
        }
    }
}

#[test]
fn a_new_container_at_an_old_address_takes_its_place_within_a_second_as_another_boot() {
    let mut figures = Figures::default();
    for seed in seeds(5, 100) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 5, Weather::default());
        let old = net.host(&nodes[0]).node.record().node_id;
        net.kill(&nodes[0]);
        net.run(ms(seed % 4 * 700));
        let new = net.start_named(Role::Node, &nodes[0], "other", &[&balancers[0]]);
        figures.add(net.wait(ms(3000), "taking the place", |net| {
            let host = net.host(&balancers[0]);
            host.pool.contains_key(&new) && host.others_alive().contains(&new)
        }));
        let gone = |output: &Output| matches!(output, Output::MemberReplaced(member) if member.node_id == old);
        net.wait(ms(200), "dropping the old one", |net| net.host(&balancers[0]).saw(gone).is_some());
        assert!(!net.host(&balancers[0]).others_alive().contains(&old));
    }
    figures.print("same address, new container: known to the balancer");
    assert!(figures.worst() <= ms(1000));
}

#[test]
fn a_node_that_says_goodbye_and_is_restarted_at_once_is_in_the_pool_again() {
    for seed in seeds(5, 100) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 5, Weather::default());
        net.give(&nodes[0], Input::Leave);
        // The balancer has read the goodbye, the gossip of it has not begun.
        net.run(ms(1) + ms(seed % 5));
        net.kill(&nodes[0]);
        let new = net.start_named(Role::Node, &nodes[0], "again", &[&balancers[0]]);
        net.wait(ms(1000), "being back", |net| {
            let host = net.host(&balancers[0]);
            host.pool.contains_key(&new) && host.others_alive().contains(&new)
        });
    }
}

#[test]
fn a_name_at_a_new_address_is_accepted_at_once_and_the_old_bearer_is_suspected_at_once() {
    let (mut known, mut dropped) = (Figures::default(), Figures::default());
    for seed in seeds(5, 100) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 5, Weather::default());
        let (old, name) =
            (net.host(&nodes[0]).node.record().node_id, net.host(&nodes[0]).node.record().name.to_string());
        net.kill(&nodes[0]);
        let new = net.start_named(Role::Node, "10.1.9.9:7946", &name, &[&balancers[0]]);
        known.add(net.wait(ms(3000), "being known", |net| {
            let host = net.host(&balancers[0]);
            host.pool.contains_key(&new) && host.others_alive().contains(&new)
        }));
        dropped.add(
            net.wait(ms(5000), "dropping the old one", |net| !net.host(&balancers[0]).others_alive().contains(&old)),
        );
    }
    known.print("same name, new address: known to the balancer");
    dropped.print("same name, new address: the old one is down after that");
    assert!(known.worst() <= ms(1000) && dropped.worst() <= ms(2000));
}

#[test]
fn two_live_bearers_of_a_name_are_both_kept() {
    let Cluster { mut net, balancers, nodes } = Cluster::settled(0, 1, 3, Weather::default());
    let (old, name) = (net.host(&nodes[0]).node.record().node_id, net.host(&nodes[0]).node.record().name.to_string());
    let new = net.start_named(Role::Node, "10.1.9.9:7946", &name, &[&balancers[0]]);
    net.run(ms(20_000));
    let alive = net.host(&balancers[0]).others_alive();
    assert!(alive.contains(&old) && alive.contains(&new) && net.false_downs.is_empty());
    assert_eq!(net.alive_names(&balancers[0]).iter().filter(|its| **its == name).count(), 2);
}

#[test]
fn a_false_death_keeps_the_boot() {
    for seed in seeds(3, 50) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 3, Weather::default());
        let boot = net.host(&nodes[0]).node.record().node_id;
        let generation = net.host(&nodes[0]).node.identity().generation();
        net.cut.insert(addr(&nodes[0]));
        net.wait(ms(5000), "being given up", |net| !net.host(&balancers[0]).others_alive().contains(&boot));
        net.heal();
        net.wait(ms(2000), "being back", |net| net.host(&balancers[0]).others_alive().contains(&boot));
        assert!(net.host(&nodes[0]).node.identity().generation() > generation);
        assert!(net.false_removals.is_empty());
    }
}
