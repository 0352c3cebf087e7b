//! Dead boots that the cluster remembers at an address, with a clock ahead of that of the boot that has it now.

use super::{sealed::secret, *};
use crate::swim::identity::LATEST;

const OTHER: &str = "10.0.0.2:7946";
const ADVERTISED: &str = "10.0.5.5:7946";
const TRUE_TIME: u64 = 1_700_000_000_000;

fn renewals(net: &Net, at: &str) -> usize {
    net.host(at).log.iter().filter(|(_, output)| matches!(output, Output::Renewed(_))).count()
}

/// A node whose clock was ahead dies, and comes back with the true time. How often it was given up after that.
fn comes_back_earlier(net: &mut Net, ahead: u64, advertised: &str, forget: impl Fn(&mut Net)) -> usize {
    let old = net.start_as(Role::Node, N[0], advertised, true, TRUE_TIME + ahead, &[B]);
    net.wait(ms(2000), "joining", |net| net.host(B).pool.contains_key(&old));
    net.run(ms(2000));
    net.kill(N[0]);
    net.run(ms(6000));
    forget(net);
    let new = net.start_as(Role::Node, N[0], advertised, true, TRUE_TIME, &[B]);
    let balancers: Vec<_> = [B, OTHER].into_iter().filter(|at| net.hosts.contains_key(&addr(at))).collect();
    let took = net.wait(ms(2000), "being in the pools", |net| {
        balancers.iter().all(|at| net.host(at).pool.contains_key(&new) && net.host(at).others_alive().contains(&new))
    });
    println!("{ahead} ms ahead: back after {took:?}");
    net.run(ms(20_000));
    renewals(net, N[0])
}

#[test]
fn a_node_whose_clock_was_set_back_takes_the_place_of_its_ghost_also_at_an_address_that_only_it_says() {
    for ahead in [1, 120_000, 86_400_000, 100 * 365 * 86_400_000] {
        let mut net = Net { secret: secret(&[1], "lb"), ..Net::default() };
        net.aliases.insert(addr(ADVERTISED), addr(N[0]));
        net.start(Role::Balancer, B, &[]);
        assert_eq!(comes_back_earlier(&mut net, ahead, ADVERTISED, |_| {}), 0);
    }
}

#[test]
fn a_ghost_that_the_seed_has_forgotten_and_another_balancer_has_not_gives_way_after_one_refusal() {
    for (ahead, secret) in [(120_000, None), (120_000, secret(&[1], "lb")), (30 * 86_400_000, None)] {
        let mut net = Net { secret, ..Net::default() };
        net.start(Role::Balancer, OTHER, &[B]);
        net.start(Role::Balancer, B, &[OTHER]);
        let renewals = comes_back_earlier(&mut net, ahead, N[0], |net| {
            net.kill(B);
            net.run(ms(4000));
            net.start(Role::Balancer, B, &[OTHER]);
            net.run(ms(4000));
        });
        assert!(renewals <= 2, "{renewals}");
    }
}

/// The first node says to another member that somebody is dead.
fn say_dead(net: &mut Net, to: &str, whom: Identity, message: foca::Message<Identity>) {
    let (src, dst) = (*net.host(N[0]).node.identity(), *net.host(to).node.identity());
    let is_rumour = message == foca::Message::Gossip;
    let header = foca::Header { src, src_incarnation: 0, dst, message };
    let mut packet = postcard::to_stdvec(&header).unwrap();
    if is_rumour {
        packet.extend(1_u16.to_be_bytes());
        packet = postcard::to_extend(&foca::Member::new(whom, 0, foca::State::Down), packet).unwrap();
    }
    let bytes = Datagram::Swim(&packet).encode().unwrap();
    net.give(to, Input::Datagram { from: addr(N[0]), bytes: &bytes });
}

#[test]
fn whoever_is_told_time_and_again_that_it_is_down_comes_back_ten_times_a_second_at_most() {
    for message in [foca::Message::TurnUndead, foca::Message::Gossip] {
        let (mut net, _, _) = cluster();
        for _ in 0..2000 {
            let us = *net.host(B).node.identity();
            say_dead(&mut net, B, us, message.clone());
            net.run(ms(1));
        }
        let renewals = renewals(&net, B);
        assert!((10..=20).contains(&renewals), "{message:?}: {renewals}");
        assert!(net.host(B).node.counters().dropped[&DropReason::TooMany] > 1000, "{message:?}");
    }
}

#[test]
fn whoever_has_no_generation_left_to_rise_above_its_death_finds_out_who_is_gone() {
    let (mut net, _, _) = cluster();
    net.start(Role::Balancer, OTHER, &[B]);
    net.wait(ms(1000), "joining", |net| net.host(OTHER).others_alive().len() == 4);
    // Somebody makes up a ghost that only the last generation is above, and then a death of that one.
    let ghost = Identity::new(addr(B), LATEST - 1, NodeId(99), Role::Balancer).unwrap();
    say_dead(&mut net, OTHER, ghost, foca::Message::Gossip);
    let generation = |net: &Net| net.host(B).node.identity().generation();
    net.wait(ms(5000), "going above the ghost", |net| generation(net) == LATEST);
    for _ in 0..20 {
        let us = *net.host(B).node.identity();
        say_dead(&mut net, B, us, foca::Message::Gossip);
        net.run(ms(100));
    }
    for at in [OTHER, N[0], N[1], N[2]] {
        net.kill(at);
    }
    net.wait(ms(20_000), "finding out", |net| net.host(B).others_alive().is_empty());
}

#[test]
fn whoever_went_above_its_ghost_finds_out_that_those_who_knew_it_are_gone() {
    let mut net = Net::default();
    net.start(Role::Balancer, B, &[]);
    net.start(Role::Balancer, OTHER, &[]);
    let ghost = net.start_as(Role::Node, N[0], N[0], true, TRUE_TIME + 120_000, &[OTHER]);
    net.wait(ms(2000), "joining", |net| net.host(OTHER).pool.contains_key(&ghost));
    net.kill(N[0]);
    // The balancer that knows nothing of the ghost takes the new boot in, and then the other one speaks of it.
    net.pause(OTHER);
    net.start_as(Role::Node, N[0], N[0], true, TRUE_TIME, &[B, OTHER]);
    net.wait(ms(1000), "joining", |net| net.host(N[0]).others_alive().len() == 1);
    net.run(ms(1000));
    net.resume(OTHER);
    net.wait(ms(100), "going above the ghost", |net| {
        net.host(N[0]).saw(|output| matches!(output, Output::Identified(_))).is_some()
    });
    net.kill(B);
    net.kill(OTHER);
    net.wait(ms(10_000), "finding out", |net| net.host(N[0]).others_alive().is_empty());
}
