//! Somebody without a key who owns an address that is dialled, and passes on what helps him.

use super::{sealed::secret, *};

const RELAY: &str = "10.0.0.66:7946";

/// What a stranger can tell from the size: hellos, and challenges with their answers.
fn is_hello(bytes: &[u8]) -> bool {
    [173, 181].contains(&bytes.len()) || bytes.len() < 80
}

/// Runs while hellos to the relay go on to the balancer and everything from there goes back to the node; the rest is
/// swallowed. How much that was.
fn relay(net: &mut Net, time: Duration) -> usize {
    pass_on(net, time, is_hello)
}

fn pass_on(net: &mut Net, time: Duration, passes: fn(&[u8]) -> bool) -> usize {
    let mut swallowed = 0;
    let end = net.now + time;
    while net.now < end {
        net.run(ms(1));
        let caught: Vec<_> = net.wire.iter().filter(|(_, (to, ..))| *to == addr(RELAY)).map(|(key, _)| *key).collect();
        for key in caught {
            let (_, from, bytes) = net.wire.remove(&key).unwrap();
            if from == addr(B) {
                net.wire.insert(key, (addr(N[0]), addr(RELAY), bytes));
            } else if passes(&bytes) {
                net.wire.insert(key, (addr(B), addr(RELAY), bytes));
            } else {
                swallowed += 1;
            }
        }
    }
    swallowed
}

fn sealed() -> Net {
    let weather = Weather { delay: ms(3), ..Weather::default() };
    Net { weather, secret: secret(&[1], "lb"), ..Net::default() }
}

fn are_alive(net: &Net, balancer: NodeId, node: NodeId) -> bool {
    net.serves(B, &[node]) && net.host(N[0]).others_alive() == [balancer]
}

#[test]
fn a_relay_gets_no_say_over_a_member_that_is_reached_straight() {
    let mut net = sealed();
    let balancer = net.start(Role::Balancer, B, &[]);
    let node = net.start(Role::Node, N[0], &[B, RELAY]);
    net.run(ms(3000));
    assert!(are_alive(&net, balancer, node));
    assert_eq!(relay(&mut net, ms(30_000)), 0);
    assert!(are_alive(&net, balancer, node) && net.false_downs.is_empty());
}

#[test]
fn a_relay_that_is_the_only_seed_is_left_for_the_straight_way_at_once() {
    for loss in [0.0, 0.2] {
        let mut net = sealed();
        let balancer = net.start(Role::Balancer, B, &[]);
        let node = net.start(Role::Node, N[0], &[RELAY]);
        net.weather.loss = loss;
        let first = relay(&mut net, ms(6000));
        net.weather.loss = 0.0;
        println!("{first} datagrams swallowed at first");
        relay(&mut net, ms(4000));
        assert_eq!(relay(&mut net, ms(30_000)), 0);
        assert!(are_alive(&net, balancer, node));
    }
}

#[test]
fn a_way_round_that_turns_into_a_hole_is_left_without_the_member_being_given_up() {
    let mut net = sealed();
    let balancer = net.start(Role::Balancer, B, &[]);
    // For a while there is no straight way, and somebody passes on everything.
    net.ways_cut.insert((addr(N[0]), addr(B)));
    let node = net.start(Role::Node, N[0], &[RELAY]);
    pass_on(&mut net, ms(3000), |_| true);
    assert!(are_alive(&net, balancer, node));
    assert_eq!(net.host(N[0]).node.contacts.path(addr(B)), addr(RELAY));
    net.heal();
    relay(&mut net, ms(10_000));
    assert_eq!(net.host(N[0]).node.contacts.path(addr(B)), addr(B));
    assert!(are_alive(&net, balancer, node) && net.false_downs.is_empty());
}
