//! Without a key: somebody who speaks for a third machine.

use super::*;

const THIRD: &str = "192.0.2.9:7946";
const STRANGER: &str = "10.0.0.66:5000";

fn datagram(src: Identity, dst: Identity, message: foca::Message<Identity>) -> Vec<u8> {
    let packet = postcard::to_stdvec(&foca::Header { src, src_incarnation: 0, dst, message }).unwrap();
    Datagram::Swim(&packet).encode().unwrap()
}

fn third() -> Identity {
    Identity::new(addr(THIRD), 1_700_000_000_000, NodeId(99), Role::Node).unwrap()
}

#[test]
fn nothing_that_is_said_for_a_third_machine_makes_the_cluster_send_there() {
    let (mut net, _, nodes) = cluster();
    let balancer = *net.host(B).node.identity();
    let predecessor = Identity::new(addr(B), 1, NodeId(98), Role::Balancer).unwrap();
    for bytes in [
        datagram(third(), balancer, foca::Message::Announce),
        datagram(third(), balancer, foca::Message::Ping(1)),
        datagram(third(), predecessor, foca::Message::Gossip),
        Datagram::Ask(wire::Ask { sender: third() }).encode().unwrap(),
    ] {
        net.give(B, Input::Datagram { from: addr(STRANGER), bytes: &bytes });
        for _ in 0..2000 {
            net.run(ms(1));
            assert!(net.wire.values().all(|(to, ..)| *to != addr(THIRD)));
        }
    }
    assert!(net.serves(B, &nodes));
    assert_eq!(net.host(B).node.counters().dropped[&DropReason::RecordAddress], 4);
    let (advertised, observed) = (addr(THIRD), addr(STRANGER));
    let told = Output::AddressMismatch { advertised, observed, ours: false };
    assert_eq!(net.host(B).log.iter().filter(|(_, output)| *output == told).count(), 1);
}

#[test]
fn whoever_speaks_for_itself_is_taken_in() {
    let (mut net, _, _) = cluster();
    let bytes = datagram(third(), *net.host(B).node.identity(), foca::Message::Announce);
    net.give(B, Input::Datagram { from: addr(THIRD), bytes: &bytes });
    assert!(net.host(B).others_alive().contains(&NodeId(99)));
}

#[test]
fn a_member_that_is_known_may_come_by_another_way() {
    let (mut net, _, _) = cluster();
    let (node, balancer) = (*net.host(N[0]).node.identity(), *net.host(B).node.identity());
    let before = net.host(B).node.counters().dropped.clone();
    let bytes = datagram(node, balancer, foca::Message::Ping(1));
    net.give(B, Input::Datagram { from: addr("10.0.7.7:7946"), bytes: &bytes });
    assert_eq!(net.host(B).node.counters().dropped, before);
}
