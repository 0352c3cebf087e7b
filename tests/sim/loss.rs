//! Networks that lose datagrams: nobody who lives is given up.

use lb::swim::Output;

use super::{
    cluster::{Cluster, seeds, sized},
    net::{Net, Weather, ms},
};

#[test]
fn with_three_of_ten_datagrams_lost_ten_members_give_each_other_up_less_than_once_in_an_hour_of_a_node() {
    let minutes = sized(1, 10);
    let (mut runs, mut downs, mut removals, mut renewals) = (0, 0, 0, 0);
    let mut suspicions = 0;
    for seed in seeds(2, 20) {
        let Cluster { mut net, .. } = Cluster::settled(seed, 1, 9, Weather::losing(0.3));
        let before = net.false_downs.len();
        net.run(ms(60_000) * minutes);
        runs += 1;
        // Whoever was given up somewhere, and hears of it, comes back under a higher generation.
        let is_renewal = |output: &Output| matches!(output, Output::Renewed(_));
        renewals += net.hosts.values().flat_map(|host| &host.log).filter(|(_, output)| is_renewal(output)).count();
        downs += net.false_downs.len() - before;
        removals += net.false_removals.len();
        suspicions += suspicions_of(&net);
    }
    let node_hours = f64::from(runs * 10 * minutes) / 60.0;
    println!(
        "FIGURE 30 % loss, 10 members: {downs} false downs (each observer's), {renewals} returns and {removals} servers removed in {node_hours:.1} node-hours, after {suspicions} suspicions"
    );
    assert!(suspicions > 0, "else the loss would prove nothing");
    assert!(downs as f64 <= node_hours, "{downs} false downs in {node_hours} node-hours");
    assert!(renewals as f64 <= node_hours, "{renewals} returns of members that nobody had lost");
    assert_eq!(removals, 0);
}

#[test]
fn with_one_of_ten_datagrams_lost_fifty_members_never_give_each_other_up() {
    let seconds = sized(20, 3600);
    for seed in seeds(1, 1) {
        let Cluster { mut net, .. } = Cluster::settled(seed, 1, 49, Weather::losing(0.1));
        net.run(ms(1000) * seconds);
        println!(
            "FIGURE 10 % loss, 50 members, {seconds} s: {} false downs after {} suspicions",
            net.false_downs.len(),
            suspicions_of(&net)
        );
        assert!(net.false_downs.is_empty(), "{:?}", net.false_downs);
    }
}

#[test]
fn duplicates_delays_and_disorder_change_nothing() {
    for seed in seeds(2, 20) {
        let weather = Weather { loss: 0.05, delay: ms(5), jitter: ms(40), duplicate: 0.2, reorder: 0.2 };
        let Cluster { mut net, .. } = Cluster::settled(seed, 2, 6, weather);
        net.run(ms(60_000));
        assert!(net.false_downs.is_empty() && net.false_removals.is_empty(), "{:?}", net.false_downs);
        assert!(net.views_are_equal());
    }
}

#[test]
fn clocks_that_run_a_tenth_too_fast_or_too_slow_accuse_nobody() {
    for seed in seeds(2, 20) {
        let Cluster { mut net, nodes, .. } = Cluster::settled(seed, 1, 6, Weather::default());
        net.set_clock_rate(&nodes[0], 0.9);
        net.set_clock_rate(&nodes[1], 1.1);
        net.run(ms(60_000));
        assert!(net.false_downs.is_empty(), "{:?}", net.false_downs);
    }
}

#[test]
fn fifty_idle_members_of_a_sealed_cluster_send_and_receive_less_than_two_kilobytes_in_a_second() {
    /// The headers of IPv4 and UDP.
    const ADDED: u64 = 20 + 8;
    let seconds = sized(15, 120);
    for seed in seeds(1, 3) {
        let Cluster { mut net, .. } = Cluster::sealed(seed, 1, 49);
        net.run(ms(20_000));
        let traffic = |net: &Net| -> Vec<[u64; 2]> {
            let all = net.hosts.values().map(|host| {
                let counters = host.node.counters();
                let sent: u64 = counters.sent.values().sum();
                let received: u64 = counters.received.values().sum();
                [counters.sent_bytes + sent * ADDED, counters.received_bytes + received * ADDED]
            });
            all.collect()
        };
        let before = traffic(&net);
        net.run(ms(1000) * seconds);
        let rates = traffic(&net)
            .into_iter()
            .zip(before)
            .map(|(after, before)| [0, 1].map(|way| (after[way] - before[way]) / u64::from(seconds)));
        let rates: Vec<_> = rates.collect();
        let [sent, received] = [0, 1].map(|way| rates.iter().map(|rate| rate[way]).max().unwrap());
        println!(
            "FIGURE idle, 50 members, sealed: at most {sent} B/s sent and {received} B/s received by a member, with {ADDED} B added to each datagram"
        );
        assert!(sent <= 2000 && received <= 2000);
    }
}

fn suspicions_of(net: &Net) -> u64 {
    net.hosts.values().map(|host| host.node.counters().suspicions).sum()
}
