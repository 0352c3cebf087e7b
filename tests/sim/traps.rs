//! What foca does by itself, and what our node makes of it.

use std::time::Duration;

use foca::{
    AccumulatingRuntime, Config, Foca, Header, Identity, Message, NoCustomBroadcast, OwnedNotification, PostcardCodec,
    Timer,
};
use lb::swim::{Input, Output};
use rand::{SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::{
    cluster::{Cluster, seeds},
    net::{Weather, addr, ms},
};

/// The simplest identity that may come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Id(u8, u16);

impl Identity for Id {
    type Addr = u8;

    fn renew(&self) -> Option<Self> {
        Some(Self(self.0, self.1 + 1))
    }

    fn addr(&self) -> u8 {
        self.0
    }

    fn win_addr_conflict(&self, other: &Self) -> bool {
        self.1 > other.1
    }
}

/// foca with its LAN settings and all that helps it to heal, and its timers.
struct Bare {
    foca: Foca<Id, PostcardCodec, StdRng, NoCustomBroadcast>,
    runtime: AccumulatingRuntime<Id>,
    timers: Vec<(Duration, Timer<Id>)>,
    said: Vec<OwnedNotification<Id>>,
}

impl Bare {
    fn new(address: u8) -> Self {
        let config = Config { notify_down_members: true, ..Config::new_lan(3_u32.try_into().unwrap()) };
        let foca = Foca::new(Id(address, 1), config, StdRng::seed_from_u64(u64::from(address)), PostcardCodec);
        Self { foca, runtime: AccumulatingRuntime::new(), timers: Vec::new(), said: Vec::new() }
    }

    fn hear(&mut self, letter: &[u8]) {
        self.foca.handle_data(letter, &mut self.runtime).unwrap();
    }

    /// What it wants to send, after it has set its timers and said what it has to say.
    fn letters(&mut self, now: Duration) -> Vec<(Id, Vec<u8>)> {
        while let Some((delay, timer)) = self.runtime.to_schedule() {
            self.timers.push((now + delay, timer));
        }
        while let Some(notification) = self.runtime.to_notify() {
            self.said.push(notification);
        }
        std::iter::from_fn(|| self.runtime.to_send()).map(|(to, letter)| (to, letter.to_vec())).collect()
    }

    fn run_timers(&mut self, now: Duration) {
        self.timers.sort_by_key(|(at, timer)| (*at, timer.clone()));
        while self.timers.first().is_some_and(|(at, _)| *at <= now) {
            let (_, timer) = self.timers.remove(0);
            self.foca.handle_timer(timer, &mut self.runtime).unwrap();
        }
    }
}

/// Runs some of them, at addresses from 1, datagrams arriving at once or not at all. How many were sent.
fn run(all: &mut [Bare], from: Duration, to: Duration, connected: bool) -> usize {
    let (mut sent, mut now) = (0, from);
    while now < to {
        all.iter_mut().for_each(|bare| bare.run_timers(now));
        loop {
            let letters: Vec<_> = all.iter_mut().flat_map(|bare| bare.letters(now)).collect();
            sent += letters.len();
            if letters.is_empty() {
                break;
            }
            for (to, letter) in letters.iter().filter(|_| connected) {
                all[usize::from(to.0) - 1].hear(letter);
            }
        }
        now += ms(10);
    }
    sent
}

/// So many that know each other.
fn acquainted<const COUNT: usize>() -> [Bare; COUNT] {
    let mut all: [Bare; COUNT] = std::array::from_fn(|position| Bare::new(position as u8 + 1));
    for bare in &mut all[1..] {
        bare.foca.announce(Id(1, 1), &mut bare.runtime).unwrap();
    }
    run(&mut all, ms(0), ms(5000), true);
    assert!(all.iter().all(|bare| bare.foca.num_members() == COUNT - 1));
    all
}

#[test]
fn bare_foca_stays_alone_for_ever_once_it_was_cut_off() {
    let mut pair = acquainted::<2>();
    run(&mut pair, ms(5000), ms(65_000), false);
    assert!(pair.iter().all(|bare| bare.said.contains(&OwnedNotification::Idle)));
    // An hour without a cut: nobody makes the first step.
    let sent = run(&mut pair, ms(65_000), ms(3_665_000), true);
    assert_eq!(sent, 0);
    assert!(pair.iter().all(|bare| bare.foca.num_members() == 0));
}

#[test]
fn a_node_is_never_alone_for_good() {
    let Cluster { mut net, balancers, nodes } = Cluster::settled(0, 1, 1, Weather::default());
    net.cut.insert(addr(&nodes[0]));
    net.run(ms(65_000));
    assert!([&balancers[0], &nodes[0]].iter().all(|at| net.host(at).others_alive().is_empty()));
    net.heal();
    net.wait(ms(1000), "finding each other again", |net| net.views_are_equal());
}

#[test]
fn bare_foca_rises_again_after_it_has_left() {
    let [mut first, mut second, mut third] = acquainted::<3>();
    third.foca.leave_cluster(&mut third.runtime).unwrap();
    let goodbye = third.letters(ms(5000));
    assert!(third.said.contains(&OwnedNotification::Defunct), "it believes that it has left");
    // One goodbye arrives, the other one gets lost. Whoever missed it finds that the third does not answer and asks the
    // first to try; the first does so and mentions that the third is down.
    let heard = goodbye.iter().find(|(to, _)| *to == Id(1, 1)).unwrap();
    first.hear(&heard.1);
    assert_eq!(first.foca.num_members(), 1);
    first.letters(ms(5000));
    let question = Header {
        src: *second.foca.identity(),
        src_incarnation: 0,
        dst: Id(1, 1),
        message: Message::PingReq { target: Id(3, 1), probe_number: 1 },
    };
    first.hear(&postcard::to_stdvec(&question).unwrap());
    for (to, letter) in first.letters(ms(5000)) {
        assert_eq!(to, Id(3, 1));
        third.hear(&letter);
    }
    let back = third.letters(ms(5000));
    assert!(third.said.contains(&OwnedNotification::Rejoin(Id(3, 2))), "{:?}", third.said);
    for (to, letter) in back {
        [&mut first, &mut second][usize::from(to.0) - 1].hear(&letter);
    }
    assert_eq!(first.foca.num_members(), 2, "it is a member again");
}

#[test]
fn a_node_that_has_left_stays_away_whatever_it_is_told() {
    let Cluster { mut net, balancers, nodes } = Cluster::settled(0, 1, 3, Weather::default());
    net.is_traced = true;
    net.run(ms(2000));
    let heard = std::mem::take(&mut net.trace);
    let boot = net.host(&nodes[0]).node.record().node_id;
    net.give(&nodes[0], Input::Leave);
    net.wait(ms(600), "leaving", |net| net.host(&nodes[0]).saw(|output| *output == Output::Gone).is_some());
    // What was on its way when it left, and what the cluster says to one that it holds for dead.
    for bytes in &heard {
        for at in [&nodes[0], &balancers[0]] {
            net.give(at, Input::Datagram { from: addr(&nodes[0]), bytes });
            net.give(at, Input::Datagram { from: addr(&balancers[0]), bytes });
        }
    }
    net.run(ms(10_000));
    assert_eq!(net.host(&nodes[0]).saw(|output| matches!(output, Output::Renewed(_))), None);
    assert!(!net.host(&balancers[0]).others_alive().contains(&boot));
}

#[test]
fn bare_foca_probes_nobody_once_it_was_told_that_it_is_dead() {
    let mut pair = acquainted::<2>();
    let [first, second] = &mut pair;
    let verdict =
        Header { src: *first.foca.identity(), src_incarnation: 0, dst: Id(2, 1), message: Message::TurnUndead };
    second.hear(&postcard::to_stdvec(&verdict).unwrap());
    // Its last word. The one that it was said to comes back, tells that, and believes for ever that the other one lives.
    run(&mut pair, ms(5000), ms(5010), false);
    let sent = run(&mut pair[1..], ms(5010), ms(3_605_010), false);
    assert!(pair[1].said.contains(&OwnedNotification::Rejoin(Id(2, 2))), "{:?}", pair[1].said);
    assert!(sent < 10, "{sent} datagrams in an hour");
    assert_eq!(pair[1].foca.num_members(), 1);
}

#[test]
fn a_balancer_that_is_told_it_is_dead_by_the_last_word_of_a_node_finds_out_that_the_node_is_gone() {
    for seed in seeds(20, 200) {
        let Cluster { mut net, balancers, nodes } = Cluster::settled(seed, 1, 1, Weather::default());
        net.pause(&balancers[0]);
        net.wait(ms(10_000), "the verdict", |net| net.host(&nodes[0]).others_alive().is_empty());
        // That it is on its way, and nothing else.
        net.kill(&nodes[0]);
        net.run(ms(10));
        net.resume(&balancers[0]);
        net.run(ms(10));
        assert!(net.host(&balancers[0]).saw(|output| matches!(output, Output::Renewed(_))).is_some(), "seed {seed}");
        net.wait(ms(10_000), "finding out", |net| net.host(&balancers[0]).others_alive().is_empty());
    }
}
