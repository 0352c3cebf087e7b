//! The same network with sealed datagrams, and with people who have no key.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::model::{ClusterKey, ClusterSecret, Keyring};

fn ring(keys: &[u8]) -> Keyring {
    let text: String = keys.iter().map(|&key| ClusterKey::new([key; 32]).to_secret_text() + "\n").collect();
    Keyring::parse(&text).unwrap()
}

pub(super) fn secret(keys: &[u8], name: &str) -> Option<ClusterSecret> {
    Some(ClusterSecret { keys: ring(keys), name: name.parse().unwrap() })
}

/// A balancer with three nodes, settled.
fn cluster_with(secret: Option<ClusterSecret>, seed: u64) -> (Net, Vec<NodeId>) {
    let mut net = Net { seed, secret, ..Net::default() };
    net.start(Role::Balancer, B, &[]);
    let nodes: Vec<_> = N.iter().map(|at| net.start(Role::Node, at, &[B])).collect();
    net.wait(ms(1000), "joining", |net| net.serves(B, &nodes));
    net.run(ms(3000));
    (net, nodes)
}

fn downs(net: &Net) -> usize {
    let is_down = |output: &Output| matches!(output, Output::MemberDown(_));
    net.hosts.values().map(|host| host.log.iter().filter(|(_, output)| is_down(output)).count()).sum()
}

#[test]
fn a_sealed_cluster_joins_within_milliseconds_drains_and_leaves() {
    let mut net = Net { secret: secret(&[1], "lb"), ..Net::default() };
    net.start(Role::Balancer, B, &[]);
    let nodes: Vec<_> = N.iter().map(|at| net.start(Role::Node, at, &[B])).collect();
    let took = net.wait(ms(50), "joining", |net| net.serves(B, &nodes));
    println!("joined after {took:?}");
    net.run(ms(30_000));
    assert_eq!(downs(&net), 0);
    for host in net.hosts.values() {
        assert!(host.node.counters().dropped.is_empty(), "{:?}", host.node.counters());
    }
    // Challenges and answers among them, which are of no kind.
    let counted: u64 = net.hosts.values().map(|host| host.node.counters().sent_bytes).sum();
    assert_eq!(counted, net.trace.iter().map(|bytes| bytes.len() as u64).sum::<u64>());
    let sum = |count: fn(&Counters) -> u64| net.hosts.values().map(|host| count(host.node.counters())).sum::<u64>();
    let [asked, given] = [sum(|counters| counters.challenges_sent), sum(|counters| counters.challenges_answered)];
    assert!(asked >= given && given >= 3, "{asked} challenges, {given} answers");
    net.set_state(N[0], NodeState::Draining);
    net.run(ms(10));
    net.wait(ms(500), "draining", |net| net.host(N[0]).node.is_drained());
    net.give(N[0], Input::Leave);
    net.wait(ms(500), "leaving", |net| net.host(N[0]).saw(|output| *output == Output::Gone).is_some());
    net.wait(ms(500), "being gone", |net| net.serves(B, &nodes[1..]));
}

#[test]
fn sealed_nodes_join_and_keep_their_balancer_although_a_fifth_of_all_datagrams_is_lost() {
    let mut slowest = Duration::ZERO;
    for seed in 0..20 {
        let mut net = Net { weather: Weather::losing(0.2), secret: secret(&[1], "lb"), ..Net::new(seed) };
        net.start(Role::Balancer, B, &[]);
        let nodes: Vec<_> = N.iter().map(|at| net.start(Role::Node, at, &[B])).collect();
        slowest = slowest.max(net.wait(ms(10_000), "joining", |net| net.serves(B, &nodes)));
        net.kill(B);
        net.start(Role::Balancer, B, &[]);
        slowest = slowest.max(net.wait(ms(10_000), "finding the restarted balancer", |net| net.serves(B, &nodes)));
    }
    println!("a fifth lost, sealed: joined and found at the latest after {slowest:?}");
}

#[test]
fn members_with_another_key_name_or_none_do_not_join_and_it_is_told_of_each_host_once_a_minute() {
    for (theirs, reason) in [
        (secret(&[2], "lb"), DropReason::UnknownKey),
        (secret(&[1], "other"), DropReason::NotAuthentic),
        (None, DropReason::Unsealed),
    ] {
        let mut net = Net { secret: secret(&[1], "lb"), ..Net::default() };
        net.start(Role::Balancer, B, &[]);
        net.secret = theirs;
        let _strangers = N.map(|at| net.start(Role::Node, at, &[B]));
        let told = |net: &Net| {
            let told = |output: &Output| matches!(output, Output::Refused { reason: its, .. } if *its == reason);
            net.host(B).log.iter().filter(|(_, output)| told(output)).count()
        };
        net.run(ms(50_000));
        assert_eq!((told(&net), net.host(B).node.members().len()), (3, 1), "{reason:?}");
        net.run(ms(60_000));
        assert_eq!(told(&net), 6, "{reason:?}");
    }
    let mut net = Net::default();
    net.start(Role::Balancer, B, &[]);
    net.secret = secret(&[1], "lb");
    net.start(Role::Node, N[0], &[B]);
    net.run(ms(1000));
    let told = |output: &Output| matches!(output, Output::Refused { reason: DropReason::Sealed, key: Some(_), .. });
    assert!(net.host(B).saw(told).is_some());
}

#[test]
fn a_strangers_noise_hides_no_member_that_lacks_the_key_and_invented_hosts_fill_no_log() {
    let mut net = Net { secret: secret(&[1], "lb"), ..Net::default() };
    net.start(Role::Balancer, B, &[]);
    let sender = *net.host(B).node.identity();
    let hello = Datagram::Hello(wire::Hello { nonce: 1, sender }).encode().unwrap();
    let told_of = |net: &Net, host: IpAddr| {
        let told =
            |(_, output): &&(Duration, Output)| matches!(output, Output::Refused { from, .. } if from.ip() == host);
        net.host(B).log.iter().filter(told).count()
    };
    for port in 1..1000 {
        let from = SocketAddr::new(addr("10.6.6.6:666").ip(), port);
        net.give(B, Input::Datagram { from, bytes: &hello });
    }
    net.give(B, Input::Datagram { from: addr(N[0]), bytes: &hello });
    assert_eq!([addr("10.6.6.6:666"), addr(N[0])].map(|from| told_of(&net, from.ip())), [1, 1]);
    for host in 0..1000_u16 {
        let [a, b] = host.to_be_bytes();
        net.give(B, Input::Datagram { from: SocketAddr::from(([11, 0, a, b], 7946)), bytes: &hello });
    }
    let refused = |(_, output): &&(Duration, Output)| matches!(output, Output::Refused { .. });
    assert_eq!(net.host(B).log.iter().filter(refused).count(), 16);
}

#[test]
fn a_recording_has_few_challenges_sent_to_whomever_its_bearer_names() {
    let (mut net, _) = cluster_with(secret(&[1], "lb"), 1);
    let recorded = net.trace.clone();
    net.start(Role::Balancer, "10.0.0.2:7946", &[]);
    for bytes in recorded.iter().filter(|bytes| bytes.len() > 100).cycle().take(500) {
        net.give("10.0.0.2:7946", Input::Datagram { from: addr("10.6.6.6:666"), bytes });
    }
    let counters = net.host("10.0.0.2:7946").node.counters();
    assert_eq!((counters.challenges_sent, counters.dropped[&DropReason::TooMany]), (8, 492));
}

#[test]
fn keys_are_rotated_in_any_order_of_the_members_and_nobody_is_missed() {
    let (mut net, nodes) = cluster_with(secret(&[1], "lb"), 3);
    for keys in [&[1, 2][..], &[2, 1], &[2]] {
        for at in [N[2], B, N[0], N[1]] {
            net.give(at, Input::SetKeys(ring(keys)));
            net.run(ms(2000));
        }
    }
    net.run(ms(10_000));
    assert!(net.serves(B, &nodes));
    assert_eq!(downs(&net), 0);
    for host in net.hosts.values() {
        assert!(host.node.counters().dropped.is_empty(), "{:?}", host.node.counters());
        assert_eq!(host.node.sealing().unwrap().key, ClusterKey::new([2; 32]).id());
    }
}

/// Everything that was ever sent is sent to a balancer which starts anew, after one of its nodes has died. How many members
/// it believes in.
fn members_after_a_recording(secret: Option<ClusterSecret>) -> usize {
    let (mut net, _) = cluster_with(secret, 1);
    let recorded = net.trace.clone();
    N.iter().for_each(|at| net.kill(at));
    net.kill(B);
    net.run(ms(10_000));
    net.start(Role::Balancer, B, &[]);
    for bytes in &recorded {
        for at in N {
            net.give(B, Input::Datagram { from: addr(at), bytes });
        }
    }
    let members = net.host(B).node.members().len();
    assert_eq!(net.host(B).pool.is_empty(), members == 1);
    members
}

#[test]
fn a_recording_of_dead_members_brings_none_of_them_back_to_a_balancer_that_restarts() {
    assert_eq!(members_after_a_recording(secret(&[1], "lb")), 1);
    assert!(members_after_a_recording(None) > 1, "without a key it does: this test would see it");
}

/// A number that the environment may choose.
#[expect(clippy::disallowed_methods, reason = "a test is repeated with the seed of another run")]
fn chosen(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |number| number.parse().unwrap())
}

#[test]
fn random_truncated_replayed_wrong_key_and_forged_datagrams_change_nothing() {
    let seed = chosen("LB_SIM_SEED", 7);
    println!("LB_SIM_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let (mut net, nodes) = cluster_with(secret(&[1], "lb"), seed);
    let strangers = [secret(&[2], "lb"), secret(&[1], "other"), None];
    let foreign = strangers.map(|secret| cluster_with(secret, seed).0.trace);
    let recorded = net.trace.clone();
    let before: Vec<_> = [B, N[0]].map(|at| net.host(at).node.members()).to_vec();
    let senders = [B, N[0], N[1], "10.6.6.6:666", "127.0.0.1:9", "[2001:db8::1]:7946"].map(addr);
    for _ in 0..chosen("LB_HOSTILE", 100_000) {
        let own = &recorded[rng.random_range(0..recorded.len())];
        let bytes = match rng.random_range(0..6) {
            0 => (0..rng.random_range(0..1400)).map(|_| rng.random()).collect(),
            1 => own[..rng.random_range(0..own.len())].to_vec(),
            2 => own.clone(),
            3 => {
                let foreign = &foreign[rng.random_range(0..foreign.len())];
                foreign[rng.random_range(0..foreign.len())].clone()
            }
            4 => {
                let mut bytes = own.clone();
                let place = rng.random_range(0..bytes.len());
                bytes[place] ^= rng.random_range(1..=u8::MAX);
                bytes
            }
            // A good header, and nothing that belongs to it.
            _ => own[..29].iter().copied().chain((0..rng.random_range(0..1300)).map(|_| rng.random())).collect(),
        };
        let from = senders[rng.random_range(0..senders.len())];
        let at = if rng.random() { B } else { N[0] };
        let host = net.hosts.get_mut(&addr(at)).unwrap();
        let mut out = Vec::new();
        host.node.handle(net.now, Input::Datagram { from, bytes: &bytes }, &mut out);
        for output in &out {
            assert!(
                matches!(output, Output::Send { bytes: answer, .. } if answer.len() <= bytes.len() + 8)
                    || matches!(output, Output::Refused { .. }),
                "{output:?}"
            );
        }
    }
    let after: Vec<_> = [B, N[0]].map(|at| net.host(at).node.members()).to_vec();
    assert!(before == after);
    for at in [B, N[0]] {
        println!("{at}: {:?}", net.host(at).node.counters().dropped);
    }
    net.run(ms(10_000));
    assert!(net.serves(B, &nodes));
    assert_eq!(downs(&net), 0);
}
