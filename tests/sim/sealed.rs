//! The same with sealed datagrams: a first contact takes one round trip more, and what is lost is more.

use lb::{
    model::{ClusterKey, ClusterSecret, Keyring},
    swim::{Input, Role},
};

use super::{
    cluster::{Cluster, seeds, sized},
    net::{Net, Weather, addr, ms},
};

fn ring(keys: &[u8]) -> Keyring {
    let text: String = keys.iter().map(|&key| ClusterKey::new([key; 32]).to_secret_text() + "\n").collect();
    Keyring::parse(&text).unwrap()
}

pub(crate) fn secret() -> Option<ClusterSecret> {
    Some(ClusterSecret { keys: ring(&[1]), name: "lb".parse().unwrap() })
}

fn settled(seed: u64, balancers: usize, nodes: usize, weather: Weather) -> Cluster {
    Cluster::settled_in(Net { secret: secret(), ..Net::new(seed) }, balancers, nodes, weather)
}

#[test]
fn sealed_members_join_keep_each_other_and_come_back_with_three_of_ten_datagrams_lost() {
    let minutes = sized(1, 10);
    let (mut downs, mut runs) = (0, 0);
    for seed in seeds(2, 20) {
        let Cluster { mut net, balancers, nodes } = settled(seed, 1, 9, Weather::losing(0.3));
        let before = net.false_downs.len();
        net.run(ms(60_000) * minutes);
        downs += net.false_downs.len() - before;
        runs += 1;
        assert!(net.false_removals.is_empty());
        net.kill(&nodes[0]);
        let node = net.start(Role::Node, &nodes[0], &[&balancers[0]]);
        net.wait_by(ms(10), ms(10_000), "coming back", |net| net.host(&balancers[0]).others_alive().contains(&node));
    }
    let node_hours = f64::from(runs * 10 * minutes) / 60.0;
    println!("FIGURE sealed, 30 % loss, 10 members: {downs} false downs in {node_hours:.1} node-hours");
    assert!(f64::from(u32::try_from(downs).unwrap()) <= node_hours);
}

#[test]
fn a_sealed_cluster_heals_from_a_cut_of_a_minute_within_a_second() {
    for seed in seeds(2, 20) {
        let Cluster { mut net, balancers, nodes } = settled(seed, 2, 8, Weather::default());
        let (some, others) = nodes.split_at(4);
        net.part(&[&balancers[..1], some].concat(), &[&balancers[1..], others].concat(), true);
        net.run(ms(60_000));
        assert!(balancers.iter().all(|at| net.host(at).others_alive().len() == 4));
        net.heal();
        let whole = |net: &Net| balancers.iter().all(|at| net.host(at).others_alive().len() == 9);
        net.wait_by(ms(5), ms(1000), "being routed again", whole);
        net.wait_by(ms(5), ms(5000), "equal views", Net::views_are_equal);
        assert!(net.false_removals.is_empty());
    }
}

#[test]
fn keys_are_rotated_one_member_after_the_other_while_datagrams_are_lost_and_nobody_is_missed() {
    for seed in seeds(2, 20) {
        let Cluster { mut net, balancers, nodes } = settled(seed, 2, 8, Weather::losing(0.05));
        for keys in [&[1, 2][..], &[2, 1], &[2]] {
            for at in balancers.iter().chain(&nodes) {
                net.give(at, Input::SetKeys(ring(keys)));
                net.run(ms(300));
            }
        }
        net.run(ms(10_000));
        assert!(net.false_downs.is_empty() && net.false_removals.is_empty(), "{:?}", net.false_downs);
        let second = ClusterKey::new([2; 32]).id();
        assert!(net.hosts.values().all(|host| host.node.sealing().unwrap().accepted == [second]));
    }
}

#[test]
fn fifty_sealed_members_find_a_restarted_balancer_within_two_seconds_and_notice_a_cut() {
    for seed in seeds(1, 5) {
        let Cluster { mut net, balancers, nodes } = settled(seed, 1, 49, Weather::default());
        net.kill(&balancers[0]);
        net.run(ms(500));
        net.start(Role::Balancer, &balancers[0], &[]);
        let complete = |net: &Net| net.host(&balancers[0]).others_alive().len() == nodes.len();
        let took = net.wait_by(ms(5), ms(3000), "finding everybody", complete);
        println!("FIGURE sealed, 50 members: a restarted balancer knows them after {} ms", took.as_millis());
        net.run(ms(5000));
        net.cut.insert(addr(&balancers[0]));
        net.wait_by(ms(10), ms(4000), "noticing the cut", |net| net.host(&balancers[0]).node.is_cut_off());
    }
}
