//! By which address a member is known.

use super::*;

#[test]
fn a_member_that_advertises_an_address_at_which_nobody_sees_it_is_told_so_once() {
    let mut net = Net::default();
    net.start(Role::Balancer, B, &[]);
    net.start_as(Role::Node, N[0], "192.0.2.5:7946", true, 1_700_000_000_000, &[B]);
    net.run(ms(20_000));
    let mismatch = |output: &&(Duration, Output)| {
        let (advertised, observed) = (addr("192.0.2.5:7946"), addr(N[0]));
        output.1 == Output::AddressMismatch { advertised, observed, ours: true }
    };
    assert_eq!(net.host(N[0]).log.iter().filter(mismatch).count(), 1);
}

#[test]
fn mismatches_without_end_fill_no_log_and_hide_a_later_one_for_an_hour_at_most() {
    let mut net = Net::default();
    net.start(Role::Balancer, B, &[]);
    let mut report = |now, port| {
        let node = &mut net.host_mut(B).node;
        node.now = now;
        let mut out = Vec::new();
        node.report_mismatch(addr("192.0.2.5:7946"), SocketAddr::new(addr(B).ip(), port), false, &mut out);
        out.len()
    };
    let noise: usize = (1..1000).map(|port| report(ms(1000), port)).sum();
    assert_eq!((noise, report(ms(3_600_000), 1000), report(ms(3_601_000), 1000)), (64, 0, 1));
}

#[test]
fn a_guessed_address_gives_way_to_the_one_that_leads_to_the_seed_which_answers() {
    let mut net = Net::default();
    net.start(Role::Balancer, B, &[]);
    // The first seed is gone for good, and the guess leads to another network.
    net.start_as(Role::Node, N[0], "172.18.0.5:7946", false, 1_700_000_000_000, &["192.0.2.1:7946", B]);
    net.wait(ms(2000), "joining", |net| net.host(B).pool.len() == 1);
    let servers: Vec<_> = net.host(B).pool.values().map(|(_, address)| *address).collect();
    assert_eq!(servers, [addr("10.0.0.11:3000")]);
    assert_eq!(net.host(N[0]).node.identity().address(), addr(N[0]));
}
