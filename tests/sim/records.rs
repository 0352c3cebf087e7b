//! News of a record on its way to every balancer.

use std::time::Duration;

use lb::{
    model::NodeState,
    swim::{Input, ServiceRecord},
};

use super::{
    cluster::{Cluster, Figures, seeds},
    net::{Net, Weather, ms},
};

#[test]
fn a_record_reaches_all_balancers_in_fifty_milliseconds_or_in_a_second_with_three_of_ten_datagrams_lost() {
    for members in [3, 10, 50] {
        fan_out(members, 1, 20);
    }
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes an optimized build: tests/scripts/simulator")]
fn a_record_reaches_all_balancers_as_fast_with_two_hundred_members() {
    fan_out(200, 1, 2);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes an optimized build: tests/scripts/simulator")]
fn a_record_reaches_all_balancers_as_fast_with_a_thousand_members() {
    fan_out(1000, 1, 1);
}

fn fan_out(members: usize, debug: u64, full: u64) {
    let balancers = if members > 3 { 3 } else { 2 };
    let (mut calm, mut lossy) = (Figures::default(), Figures::default());
    for seed in seeds(debug, full) {
        let mut cluster =
            Cluster::settled(seed, balancers, members - balancers, Weather { jitter: ms(1), ..Weather::default() });
        // A second of a thousand members costs many seconds here.
        let (calm_rounds, lossy_rounds) = if members > 500 { (5, 15) } else { (20, 100) };
        for round in 0..calm_rounds {
            calm.add(change(&mut cluster, round));
        }
        cluster.net.weather = Weather::losing(0.3);
        for round in calm_rounds..calm_rounds + lossy_rounds {
            lossy.add(change(&mut cluster, round));
        }
    }
    calm.print(&format!("record to {balancers} balancers of {members} members, no loss"));
    lossy.print(&format!("record to {balancers} balancers of {members} members, 30 % loss"));
    assert!(calm.worst() <= ms(50) && lossy.quantile(0.99) <= ms(1000));
}

/// Changes the record of some node; how long until every balancer has it.
fn change(cluster: &mut Cluster, round: usize) -> Duration {
    let Cluster { net, balancers, nodes } = cluster;
    let at = &nodes[round * 7 % nodes.len()];
    let record = ServiceRecord { app_version: round.to_string(), ..net.host(at).node.record().clone() };
    net.give(at, Input::SetRecord(record));
    let record = net.host(at).node.record().clone();
    let has = |net: &Net, balancer: &String| {
        net.host(balancer).pool.get(&record.node_id).is_some_and(|(known, _)| known.version == record.version)
    };
    let took = net.wait(ms(5000), "reaching all balancers", |net| balancers.iter().all(|balancer| has(net, balancer)));
    net.run(ms(20));
    took
}

#[test]
fn convergence_and_the_age_of_records_are_counted() {
    let Cluster { mut net, balancers, nodes } = Cluster::settled(0, 2, 3, Weather::default());
    let before = net.host(&nodes[0]).node.counters().convergence.clone();
    net.set_state(&nodes[0], NodeState::Draining);
    assert!(net.host(&nodes[0]).node.census().unacknowledged.is_some());
    net.run(ms(50));
    let after = &net.host(&nodes[0]).node.counters().convergence;
    assert_eq!((after.count - before.count, after.at_most[0] - before.at_most[0]), (1, 1), "within 5 ms");
    net.run(ms(30_000));
    let census = net.host(&balancers[0]).node.census();
    assert_eq!((census.records, census.unacknowledged), (4, None));
    assert!(census.oldest_record.unwrap() <= ms(11_000), "{census:?}");
    assert_eq!(census.members.values().sum::<u64>(), 5);
}
