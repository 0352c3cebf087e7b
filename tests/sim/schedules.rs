//! Anything may happen at any time; once it stops, everybody agrees.
//!
//! proptest draws what happens, other things in each run, and shortens what fails. What it prints is to be made a test in
//! `traps`: `LB_SIM_SEED` repeats no schedule.

use std::collections::BTreeSet;

use lb::{
    model::NodeState,
    swim::{Input, Output, Role},
};
use proptest::prelude::*;

use super::{
    cluster::{seeds, sized},
    net::{Net, Weather, addr, ms},
    sealed::secret,
};

#[derive(Clone, Debug)]
enum Event {
    /// Starts what does not run at that place, or ends it and starts another boot. Its clock is wrong by so many seconds,
    /// as it may be from one boot to the next.
    Start(usize, i32),
    Kill(usize),
    Leave(usize),
    Cut(usize),
    CutWay(usize, usize),
    Heal,
    Pause(usize),
    Resume(usize),
    Weather(u8),
    Drain(usize),
}

const HOSTS: usize = 8;
/// The first ones are balancers, known to all as seeds.
const BALANCERS: usize = 2;

fn place(host: usize) -> String {
    format!("10.0.0.{}:7946", host + 1)
}

fn event() -> impl Strategy<Value = Event> {
    let host = 0..HOSTS;
    prop_oneof![
        4 => host.clone().prop_map(|host| Event::Start(host, 0)),
        1 => (host.clone(), -100..100).prop_map(|(host, seconds_off)| Event::Start(host, seconds_off)),
        2 => host.clone().prop_map(Event::Kill),
        2 => host.clone().prop_map(Event::Leave),
        2 => host.clone().prop_map(Event::Cut),
        2 => (host.clone(), host.clone()).prop_map(|(from, to)| Event::CutWay(from, to)),
        2 => Just(Event::Heal),
        2 => host.clone().prop_map(Event::Pause),
        2 => host.clone().prop_map(Event::Resume),
        2 => (0..4_u8).prop_map(Event::Weather),
        1 => host.prop_map(Event::Drain),
    ]
}

fn start(net: &mut Net, host: usize, seconds_off: i32) {
    let role = if host < BALANCERS { Role::Balancer } else { Role::Node };
    let seeds: Vec<_> = (0..BALANCERS).map(place).collect();
    let seeds: Vec<_> = seeds.iter().map(String::as_str).collect();
    // Names are used again, sometimes at another address.
    let generation = net.wall_clock().saturating_add_signed(i64::from(seconds_off) * 1000);
    let (at, name) = (place(host), format!("host{}", host / 2));
    net.start_host(role, &at, &at, &name, true, generation, &seeds);
}

fn happen(net: &mut Net, event: &Event) {
    let runs = |net: &Net, host: usize| net.hosts.get(&addr(&place(host))).is_some_and(|host| !host.paused);
    match *event {
        Event::Start(host, seconds_off) => {
            net.kill(&place(host));
            start(net, host, seconds_off);
        }
        Event::Kill(host) => net.kill(&place(host)),
        Event::Leave(host) if runs(net, host) => net.give(&place(host), Input::Leave),
        Event::Pause(host) if runs(net, host) => net.pause(&place(host)),
        Event::Drain(host) if runs(net, host) => net.set_state(&place(host), NodeState::Draining),
        Event::Resume(host) if net.hosts.get(&addr(&place(host))).is_some_and(|host| host.paused) => {
            net.resume(&place(host))
        }
        Event::Leave(_) | Event::Pause(_) | Event::Drain(_) | Event::Resume(_) => {}
        Event::Cut(host) => drop(net.cut.insert(addr(&place(host)))),
        Event::CutWay(from, to) => drop(net.ways_cut.insert((addr(&place(from)), addr(&place(to))))),
        Event::Heal => net.heal(),
        Event::Weather(0) => net.weather = Weather::default(),
        Event::Weather(1) => net.weather = Weather::losing(0.3),
        Event::Weather(2) => net.weather = Weather { delay: ms(20), jitter: ms(100), ..Weather::default() },
        Event::Weather(_) => net.weather = Weather { duplicate: 0.3, reorder: 0.3, ..Weather::default() },
    }
}

/// All that a seed leads to.
fn run(seed: u64, is_sealed: bool, events: &[(u16, Event)]) -> Net {
    let secret = if is_sealed { secret() } else { None };
    let mut net = Net { is_traced: false, secret, ..Net::new(seed) };
    for host in 0..HOSTS {
        start(&mut net, host, 0);
    }
    for (pause, event) in events {
        net.run(ms(u64::from(*pause)));
        happen(&mut net, event);
        // What has said goodbye ends.
        let gone: Vec<_> = net
            .hosts
            .iter()
            .filter(|(_, host)| host.saw(|output| *output == Output::Gone).is_some())
            .map(|(at, _)| *at)
            .collect();
        net.hosts.retain(|at, _| !gone.contains(at));
    }
    net
}

fn calm_down(net: &mut Net) {
    net.heal();
    net.weather = Weather::default();
    for host in 0..HOSTS {
        let at = place(host);
        if net.hosts.get(&addr(&at)).is_some_and(|host| host.paused) {
            net.resume(&at);
        }
    }
    net.run(ms(500));
    net.hosts.retain(|_, host| !host.is_leaving());
    // Those who are left find each other by a balancer. One that was leaving is none.
    if !net.hosts.keys().any(|at| (0..BALANCERS).any(|host| addr(&place(host)) == *at)) {
        start(net, 0, 0);
    }
    let start = net.now;
    while !net.views_are_equal() {
        assert!(net.now < start + ms(20_000), "views are not equal after 20 s:\n{}", net.describe());
        net.run(ms(20));
    }
    net.wait_by(ms(20), ms(5000), "acknowledged records", |net| {
        net.hosts.values().all(super::host::Host::is_acknowledged)
    });
    let boots: BTreeSet<_> = net.hosts.values().map(|host| host.node.record().node_id).collect();
    assert_eq!(boots.len(), net.hosts.len());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: sized(10, 1000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_all_views_are_equal_once_it_has_stopped(
        seed in 0..1_000_000_u64,
        is_sealed in any::<bool>(),
        events in prop::collection::vec((0..4000_u16, event()), 1..40),
    ) {
        let mut net = run(seed, is_sealed, &events);
        calm_down(&mut net);
    }
}

#[test]
fn the_same_seed_gives_the_same_run_to_the_byte() {
    for seed in seeds(1, 20) {
        let events: Vec<_> = (0..30)
            .map(|step| {
                (
                    ((seed * 31 + step * 97) % 2000) as u16,
                    [
                        Event::Kill((step % 7) as usize),
                        Event::Start((step % 7) as usize, 0),
                        Event::Weather((step % 4) as u8),
                        Event::Pause((step % 5) as usize),
                        Event::Resume((step % 5) as usize),
                    ][(step % 5) as usize]
                        .clone(),
                )
            })
            .collect();
        let digest = |seed, is_sealed| run(seed, is_sealed, &events).digest();
        for is_sealed in [false, true] {
            assert_eq!(digest(seed, is_sealed), digest(seed, is_sealed));
            assert_ne!(digest(seed, is_sealed), digest(seed + 1, is_sealed), "chance has its say");
        }
    }
}
