//! Decisions and hints among balancers.

use super::*;
use crate::model::{AdminState, Decision, Hint, NodeId, PoolName, ServerKey, ServerName, Stamp, Told, Wish};

const BALANCERS: [&str; 3] = ["10.0.0.1:7946", "10.0.0.2:7946", "10.0.0.3:7946"];

fn decision(server: ServerKey, state: AdminState, seen: Option<Stamp>, node: NodeId) -> Decision {
    let (pool, by) = (PoolName::parse("nodes").unwrap(), ServerName::parse("lb").unwrap());
    Decision { pool, server, wish: Wish::State(state), by, stamp: Stamp::after(seen, 1_700_000_000_000, node) }
}

fn fixed() -> ServerKey {
    ServerKey::Static(ServerName::parse("s1").unwrap())
}

fn balancers(net: &mut Net) -> [NodeId; 3] {
    let ids = BALANCERS.map(|at| net.start(Role::Balancer, at, &BALANCERS));
    let all_know_all = |net: &Net| BALANCERS.iter().all(|at| net.host(at).node.delivery.len() == 2);
    net.wait(ms(2000), "finding each other", all_know_all);
    ids
}

/// The last decision that a balancer was told.
fn told(net: &Net, at: &str) -> Option<Decision> {
    let decision = |output: &Output| {
        if let Output::Told(Told::Decision(decision)) = output { Some(decision.clone()) } else { None }
    };
    net.host(at).log.iter().rev().find_map(|(_, output)| decision(output))
}

fn agree(net: &Net) -> bool {
    let digest = |at: &&str| net.host(at).node.digest();
    BALANCERS
        .iter()
        .all(|at| digest(at) == digest(&BALANCERS[0]) && net.host(at).node.decisions.waiting_since().is_none())
}

#[test]
fn a_decision_reaches_every_balancer_and_nobody_else() {
    let mut net = Net::default();
    let ids = balancers(&mut net);
    net.start(Role::Node, N[0], &[BALANCERS[0]]);
    net.run(ms(1000));
    let drain = decision(fixed(), AdminState::Drain, None, ids[0]);
    net.give(BALANCERS[0], Input::Tell(Told::Decision(drain.clone())));
    let took = net.wait(ms(20), "telling", |net| BALANCERS[1..].iter().all(|at| told(net, at) == Some(drain.clone())));
    println!("told after {took:?}");
    net.wait(ms(20), "agreeing", agree);
    assert_eq!(net.host(BALANCERS[0]).node.counters().agreement.count, 1);
    assert_eq!((told(&net, BALANCERS[0]), told(&net, N[0])), (None, None));
    // Whoever has seen it takes it back, though his clock is behind.
    let ready = decision(fixed(), AdminState::Ready, Some(drain.stamp), ids[1]);
    net.give(BALANCERS[1], Input::Tell(Told::Decision(ready.clone())));
    net.wait(ms(20), "taking it back", |net| told(net, BALANCERS[0]) == Some(ready.clone()));
}

#[test]
fn a_decision_arrives_although_half_of_all_datagrams_are_lost() {
    for seed in 0..10 {
        let mut net = Net::new(seed);
        let ids = balancers(&mut net);
        net.weather = Weather::losing(0.5);
        let drain = decision(fixed(), AdminState::Drain, None, ids[0]);
        net.give(BALANCERS[0], Input::Tell(Told::Decision(drain.clone())));
        net.wait(ms(10_000), "telling", |net| {
            BALANCERS[1..].iter().all(|at| net.host(at).node.digest() == net.host(BALANCERS[0]).node.digest())
        });
    }
}

#[test]
fn both_sides_of_a_cut_decide_and_agree_on_the_later_word_afterwards() {
    let mut net = Net::default();
    let ids = balancers(&mut net);
    net.cut.insert(addr(BALANCERS[2]));
    let early = decision(fixed(), AdminState::Maint, None, ids[2]);
    net.give(BALANCERS[2], Input::Tell(Told::Decision(early.clone())));
    net.run(ms(15_000));
    let mut late = decision(fixed(), AdminState::Drain, None, ids[0]);
    late.stamp.at += 5000;
    net.give(BALANCERS[0], Input::Tell(Told::Decision(late.clone())));
    net.run(ms(15_000));
    net.cut.clear();
    net.wait(ms(10_000), "agreeing", |net| agree(net) && told(net, BALANCERS[2]) == Some(late.clone()));
    assert_ne!(told(&net, BALANCERS[1]), Some(early));
}

#[test]
fn a_balancer_that_restarts_learns_from_the_others_what_it_decided_itself() {
    let mut net = Net::default();
    let ids = balancers(&mut net);
    let drain = decision(fixed(), AdminState::Drain, None, ids[0]);
    net.give(BALANCERS[0], Input::Tell(Told::Decision(drain.clone())));
    net.wait(ms(20), "agreeing", agree);
    net.kill(BALANCERS[0]);
    net.start(Role::Balancer, BALANCERS[0], &BALANCERS[1..]);
    let took = net.wait(ms(2000), "learning", |net| told(net, BALANCERS[0]) == Some(drain.clone()));
    println!("a restarted balancer knows after {took:?}");
}

#[test]
fn what_was_decided_about_a_node_is_forgotten_once_it_has_left() {
    let mut net = Net::default();
    let ids = balancers(&mut net);
    let node = net.start(Role::Node, N[0], &[BALANCERS[0]]);
    net.run(ms(2000));
    net.give(
        BALANCERS[0],
        Input::Tell(Told::Decision(decision(ServerKey::Node(node), AdminState::Drain, None, ids[0]))),
    );
    net.wait(ms(50), "agreeing", |net| agree(net) && net.host(BALANCERS[2]).node.decisions.len() == 1);
    net.give(N[0], Input::Leave);
    net.run(ms(30_000));
    assert!(BALANCERS.iter().all(|at| net.host(at).node.decisions.len() == 0));
}

#[test]
fn balancers_agree_although_one_saw_the_node_leave_and_others_saw_it_fail_and_forget_it_in_the_end() {
    let mut net = Net::default();
    let ids = balancers(&mut net);
    let node = net.start(Role::Node, N[0], &[BALANCERS[0]]);
    net.run(ms(2000));
    let about = |server| Input::Tell(Told::Decision(decision(server, AdminState::Drain, None, ids[0])));
    net.give(BALANCERS[0], about(ServerKey::Node(node)));
    net.give(BALANCERS[0], about(fixed()));
    net.wait(ms(50), "agreeing", |net| agree(net) && net.host(BALANCERS[2]).node.decisions.len() == 2);
    net.part(&[N[0].into()], &[BALANCERS[1].into(), BALANCERS[2].into()], true);
    net.give(N[0], Input::Leave);
    net.run(ms(30_000));
    net.kill(N[0]);
    let held = |net: &Net| BALANCERS.map(|at| net.host(at).node.decisions.len());
    assert_eq!(held(&net), [1, 2, 2]);
    assert!(agree(&net));
    net.is_traced = false;
    net.run(ms(4_300_000));
    assert_eq!(held(&net), [1, 1, 1], "the node is off the list");
}

#[test]
fn a_hint_goes_to_every_balancer_once_and_a_flood_of_them_is_stopped() {
    let mut net = Net::default();
    balancers(&mut net);
    let hint = Hint { pool: PoolName::parse("nodes").unwrap(), server: fixed(), is_up: false };
    for _ in 0..1000 {
        net.give(BALANCERS[0], Input::Tell(Told::Hint(hint.clone())));
    }
    net.run(ms(100));
    let heard = |at: &str| {
        net.host(at).log.iter().filter(|(_, output)| *output == Output::Told(Told::Hint(hint.clone()))).count()
    };
    assert_eq!([heard(BALANCERS[0]), heard(BALANCERS[1]), heard(BALANCERS[2])], [0, 64, 64]);
}

#[test]
fn a_decision_of_the_far_future_is_dropped_told_of_and_does_not_hold_up_the_others() {
    let mut net = Net::default();
    let ids = balancers(&mut net);
    let sender = *net.host(BALANCERS[0]).node.identity();
    let good = decision(fixed(), AdminState::Drain, None, ids[0]);
    let mut bad = decision(ServerKey::Node(NodeId(9)), AdminState::Drain, None, ids[0]);
    for at in [host::EPOCH + 25 * 3_600_000, Stamp::LATEST, u64::MAX] {
        bad.stamp.at = at;
        let decisions = [&bad, &good].map(|decision| crate::swim::telling::WireDecision::from(decision.clone())).into();
        let decided = crate::swim::telling::Decided { sender, round: 1, decisions };
        let bytes = Datagram::Decided(decided).encode().unwrap();
        net.give(BALANCERS[1], Input::Datagram { from: addr(BALANCERS[0]), bytes: &bytes });
    }
    net.run(ms(1000));
    for at in &BALANCERS[1..] {
        assert_eq!((told(&net, at), net.host(at).node.decisions.len()), (Some(good.clone()), 1));
    }
    let host = net.host(BALANCERS[1]);
    assert_eq!(host.node.counters().dropped[&DropReason::Future], 3);
    let refused =
        |(_, output): &&(Duration, Output)| matches!(output, Output::Refused { reason: DropReason::Future, .. });
    assert_eq!(host.log.iter().filter(refused).count(), 1, "once a minute");
}

#[test]
fn nodes_and_strangers_decide_nothing() {
    let mut net = Net::default();
    let ids = balancers(&mut net);
    let node = net.start(Role::Node, N[0], &[BALANCERS[0]]);
    net.run(ms(2000));
    let drain = decision(fixed(), AdminState::Drain, None, ids[0]);
    net.give(N[0], Input::Tell(Told::Decision(drain.clone())));
    let wire = |sender: Identity| {
        let decisions = vec![crate::swim::telling::WireDecision::from(drain.clone())];
        Datagram::Decided(crate::swim::telling::Decided { sender, round: 1, decisions }).encode().unwrap()
    };
    let of_node = Identity::new(addr(N[0]), 1_700_000_000_000, node, Role::Node).unwrap();
    let of_balancer = *net.host(BALANCERS[1]).node.identity();
    for (sender, from) in [(of_node, N[0]), (of_balancer, "10.0.0.99:7946")] {
        let bytes = wire(sender);
        net.give(BALANCERS[0], Input::Datagram { from: addr(from), bytes: &bytes });
    }
    net.run(ms(1000));
    assert!(BALANCERS.iter().all(|at| net.host(at).node.decisions.len() == 0));
}
