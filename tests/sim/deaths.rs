//! Processes that are killed.

use lb::swim::Output;

use super::{
    cluster::{Cluster, Figures, seeds},
    net::{Weather, ms},
};

#[test]
fn of_ten_members_a_killed_one_is_down_within_three_seconds_as_a_rule_and_five_at_most() {
    let mut figures = Figures::default();
    for seed in seeds(6, 100) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 9, Weather::default());
        for at in &nodes[..5] {
            let victim = net.host(at).node.record().node_id;
            net.kill(at);
            let down = |output: &Output| matches!(output, Output::MemberDown(member) if member.node_id == victim);
            let took = net.wait(ms(8000), "declaring it down", |net| net.host(&balancers[0]).saw(down).is_some());
            figures.add(took);
            net.run(ms(1500) + ms(seed * 83 % 500));
        }
        assert!(net.false_downs.is_empty());
    }
    figures.print("SIGKILL, 10 members: down at the balancer");
    assert!(figures.quantile(0.5) <= ms(3000) && figures.quantile(0.99) <= ms(5000));
}

#[test]
fn of_two_members_the_killed_one_is_down_within_three_seconds() {
    let mut figures = Figures::default();
    for seed in seeds(6, 100) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 1, Weather::default());
        net.kill(&nodes[0]);
        let down = |output: &Output| matches!(output, Output::MemberDown(_));
        figures.add(net.wait(ms(5000), "declaring it down", |net| net.host(&balancers[0]).saw(down).is_some()));
    }
    figures.print("SIGKILL, 2 members: down at the balancer");
    assert!(figures.worst() <= ms(3000));
}
