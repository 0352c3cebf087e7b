//! Processes that stand still for a while, as under SIGSTOP.

use std::time::Duration;

use super::{
    cluster::{Cluster, Figures, seeds},
    net::{Net, Weather, ms},
};

#[test]
fn a_node_that_was_paused_accuses_nobody_and_is_seen_by_all_within_two_seconds() {
    pauses("a node", |cluster| cluster.nodes[0].clone());
}

#[test]
fn a_balancer_that_was_paused_accuses_nobody_and_is_seen_by_all_within_two_seconds() {
    pauses("the balancer", |cluster| cluster.balancers[0].clone());
}

fn pauses(whom: &str, choose: impl Fn(&Cluster) -> String) {
    for seconds in [3, 10, 30] {
        let mut figures = Figures::default();
        for seed in seeds(2, 50) {
            for (balancers, nodes) in [(1, 1), (1, 3), (2, 8)] {
                let mut cluster =
                    Cluster::settled(seed, balancers, nodes, Weather { jitter: ms(1), ..Weather::default() });
                let at = choose(&cluster);
                let net = &mut cluster.net;
                net.pause(&at);
                net.run(ms(seconds * 1000));
                let before = accusations(net, &at);
                net.resume(&at);
                figures.add(seen_by_all(net, ms(4000)));
                net.run(ms(5000));
                assert_eq!(accusations(net, &at), before, "it accuses others after {seconds} s");
                assert!(net.views_are_equal());
            }
        }
        figures.print(&format!("pause of {whom} for {seconds} s: seen by all again"));
        assert!(figures.worst() <= ms(2000));
    }
}

fn seen_by_all(net: &mut Net, limit: Duration) -> Duration {
    net.wait(limit, "being seen by all", Net::views_are_equal)
}

fn accusations(net: &Net, of: &str) -> usize {
    net.false_downs.iter().filter(|mistake| mistake.observer == super::net::addr(of)).count()
}

#[test]
fn half_of_the_nodes_paused_together_come_back_together() {
    for seed in seeds(2, 30) {
        let Cluster { mut net, nodes, .. } = Cluster::settled(seed, 1, 8, Weather::default());
        let paused: Vec<_> = nodes[..4].iter().map(|at| net.host(at).node.record().node_id).collect();
        for at in &nodes[..4] {
            net.pause(at);
        }
        net.run(ms(10_000));
        for at in &nodes[..4] {
            net.resume(at);
        }
        seen_by_all(&mut net, ms(3000));
        // What they read of each other's pause is old news and no accusation.
        let accused = net.false_downs.iter().filter(|mistake| !paused.contains(&mistake.victim)).count();
        assert_eq!(accused, 0, "{:?}", net.false_downs);
    }
}
