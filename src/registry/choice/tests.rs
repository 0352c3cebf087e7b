//! Algorithms on real pools: what the registry gives them, and what they make of it.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    config::{self, PoolPolicy},
    model::{CheckReport, CheckStatus, NodeId, NodeState, PoolName, ServerName, Weight},
    registry::{Command, MemberServer, Registry, ResolvedServer},
};

fn name() -> PoolName {
    PoolName::parse("nodes").unwrap()
}

fn policy(balance: &str) -> PoolPolicy {
    PoolPolicy { balance: balance.parse().unwrap(), check: None, ..PoolPolicy::default() }
}

fn registry(policy: PoolPolicy, now: Instant) -> Registry {
    let registry = Registry::new(1, &[], now);
    registry.apply(now, Command::Pools(vec![config::Pool { name: name(), policy, servers: Vec::new() }]));
    registry
}

/// A server of the configuration, as `name=weight`; one whose name begins with `b` is a backup.
fn set(registry: &Registry, servers: &[(&str, u16)]) {
    let server = |&(name, weight): &(&str, u16)| ResolvedServer {
        name: ServerName::parse(name).unwrap(),
        address: Some(SocketAddr::from(([127, 0, 0, 1], 3000))),
        weight: Weight::new(weight).unwrap(),
        backup: name.starts_with('b'),
        maxconn: None,
        check_port: None,
    };
    let servers = servers.iter().map(server).collect();
    registry.apply(Instant::now(), Command::Static { pool: name(), servers });
}

fn member(registry: &Registry, node: u64, now: Instant) {
    registry.apply(
        now,
        Command::Member(MemberServer {
            node: NodeId(node),
            pool: name(),
            name: ServerName::parse("web").unwrap(),
            address: SocketAddr::from(([127, 0, 0, 1], 1000 + node as u16)),
            weight: Weight::DEFAULT,
            state: NodeState::Ready,
        }),
    );
}

fn pool(registry: &Registry) -> Arc<Pool> {
    Arc::clone(&registry.snapshot().pools[0])
}

fn key(number: u64) -> Ask {
    Ask { key: Some(mix(number)), random: mix(!number) }
}

/// The place that was found.
fn taken(claim: Claim) -> Place {
    match claim {
        Claim::Taken { place, balanced: true } => place,
        Claim::Taken { .. } | Claim::Full(_) | Claim::NoServer => panic!("no place was chosen"),
    }
}

/// How often each server is chosen by so many requests.
fn counts(pool: &Pool, requests: u64) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for number in 0..requests {
        let server = pool.choose(&[], key(number)).unwrap();
        *counts.entry(server.name.to_string()).or_default() += 1;
    }
    counts
}

fn every_algorithm() -> Vec<String> {
    Algorithm::WORDS.iter().map(|word| word.replace("NAME", "x-user")).collect()
}

#[test]
fn backups_serve_only_when_no_other_is_left_by_every_algorithm() {
    for word in every_algorithm() {
        let registry = registry(policy(&word), Instant::now());
        set(&registry, &[("b1", 9), ("s1", 1), ("s2", 1), ("b2", 9)]);
        let names = |registry: &Registry| counts(&pool(registry), 500).into_keys().collect::<Vec<_>>();
        assert!(names(&registry).iter().all(|name| name.starts_with('s')), "{word}");
        set(&registry, &[("b1", 9), ("s1", 0), ("s2", 0), ("b2", 9)]);
        assert!(names(&registry).iter().all(|name| name.starts_with('b')), "{word}");
        set(&registry, &[("b1", 0), ("s1", 0)]);
        assert!(!pool(&registry).is_up() && pool(&registry).choose(&[], key(1)).is_none(), "{word}");
    }
}

#[test]
fn a_new_weight_acts_on_the_next_request() {
    let registry = registry(policy("roundrobin"), Instant::now());
    set(&registry, &[("s1", 1), ("s2", 1)]);
    assert_eq!(counts(&pool(&registry), 100)["s1"], 50);
    set(&registry, &[("s1", 3), ("s2", 1)]);
    assert_eq!(counts(&pool(&registry), 100)["s1"], 75);
    set(&registry, &[("s1", 0), ("s2", 256)]);
    assert_eq!(counts(&pool(&registry), 100)["s2"], 100);
}

#[test]
fn eighty_thousand_requests_are_shared_by_weight_exactly_and_evenly_on_one_worker_and_on_four() {
    const REQUESTS: usize = 80_000;
    for workers in [1, 4] {
        let registry = registry(policy("roundrobin"), Instant::now());
        set(&registry, &[("s1", 1), ("s2", 2), ("s3", 5)]);
        // In the order in which the workers got them; the turn tells, for it is taken and nothing else is shared.
        let pool = pool(&registry);
        let chosen: Vec<Vec<usize>> = std::thread::scope(|scope| {
            let work = || (0..REQUESTS / workers).map(|_| index_of(&pool, pool.choose(&[], Ask::default()))).collect();
            let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let all = chosen.concat();
        let counts = [0, 1, 2].map(|server| all.iter().filter(|&&chosen| chosen == server).count());
        assert_eq!(counts, [10_000, 20_000, 50_000], "{workers} workers");
        if workers == 1 {
            let runs = [0, 1, 2].map(|server| longest_run(&all, server));
            println!("weights 1:2:5, longest run of each server: {runs:?}");
            assert_eq!(runs, [1, 1, 2]);
        }
    }
}

fn index_of(pool: &Pool, server: Option<&Arc<Server>>) -> usize {
    pool.servers.iter().position(|other| other.id == server.unwrap().id).unwrap()
}

/// How often the server is chosen in a row at most.
fn longest_run(chosen: &[usize], server: usize) -> usize {
    chosen.split(|&other| other != server).map(<[usize]>::len).max().unwrap_or(0)
}

#[test]
fn two_balancers_that_met_the_same_nodes_in_another_order_choose_alike() {
    for word in ["source", "uri", "hdr(x-user)"] {
        let now = Instant::now();
        let (one, other) = (registry(policy(word), now), registry(policy(word), now));
        let nodes: Vec<u64> = (1..=9).collect();
        nodes.iter().for_each(|&node| member(&one, node, now));
        set(&one, &[("fixed", 1), ("also", 2)]);
        set(&other, &[("also", 2)]);
        // Names are shown with other numbers, and identities of this process are others, too.
        nodes.iter().rev().for_each(|&node| member(&other, node, now));
        set(&other, &[("also", 2), ("fixed", 1)]);
        let home = |registry: &Registry, number| {
            let pool = pool(registry);
            pool.choose(&[], key(number)).unwrap().origin.clone()
        };
        for number in 0..500 {
            assert_eq!(home(&one, number), home(&other, number), "{word}");
        }
    }
}

#[test]
fn leastconn_follows_places_as_they_are_taken_and_given_back() {
    let registry = registry(policy("leastconn"), Instant::now());
    set(&registry, &[("s1", 1), ("s2", 1)]);
    let pool = pool(&registry);
    let take = || taken(pool.claim(None, &[], Ask::default()));
    let name = |place: &Place| place.server().name.to_string();
    let mut held: Vec<Place> = (0..4).map(|_| take()).collect();
    assert_eq!(held.iter().map(name).collect::<Vec<_>>(), ["s1", "s2", "s1", "s2"]);
    drop((held.remove(2), held.remove(0)));
    assert_eq!([take(), take()].iter().map(name).collect::<Vec<_>>(), ["s1", "s1"]);
}

#[test]
fn a_full_server_is_passed_by_by_every_algorithm_and_who_finds_all_full_waits() {
    for word in every_algorithm() {
        let registry = registry(PoolPolicy { server_maxconn: NonZeroU32::new(2), ..policy(&word) }, Instant::now());
        set(&registry, &[("s1", 1), ("s2", 5), ("s3", 1)]);
        let pool = pool(&registry);
        let mut places = Vec::new();
        for _ in 0..6 {
            places.push(taken(pool.claim(None, &[], key(7))));
        }
        assert!(pool.servers.iter().all(|server| server.live.in_flight.now() == 2), "{word}");
        assert!(matches!(pool.claim(None, &[], key(7)), Claim::Full(Wish::Any { .. })), "{word}");
        let tried: Vec<_> = pool.servers.iter().map(|server| server.id).collect();
        assert!(matches!(pool.claim(None, &tried, key(7)), Claim::NoServer), "{word}");
        places.swap_remove(0);
        assert!(matches!(pool.claim(None, &[], key(7)), Claim::Taken { .. }), "{word}");
    }
}

#[test]
fn first_fills_one_server_after_the_other() {
    let registry = registry(PoolPolicy { server_maxconn: NonZeroU32::new(2), ..policy("first") }, Instant::now());
    set(&registry, &[("s1", 1), ("s2", 256)]);
    let pool = pool(&registry);
    let places: Vec<Place> = (0..4).map(|_| taken(pool.claim(None, &[], Ask::default()))).collect();
    let names: Vec<_> = places.iter().map(|place| place.server().name.as_str()).collect();
    assert_eq!(names, ["s1", "s1", "s2", "s2"]);
}

#[test]
fn a_server_that_was_tried_is_not_chosen_again_by_any_algorithm() {
    for word in every_algorithm() {
        let registry = registry(policy(&word), Instant::now());
        set(&registry, &[("s1", 1), ("s2", 9)]);
        let pool = pool(&registry);
        let first = pool.choose(&[], key(3)).unwrap();
        let second = pool.choose(&[first.id], key(3)).unwrap();
        assert_ne!(first.id, second.id, "{word}");
        assert!(pool.choose(&[first.id, second.id], key(3)).is_none(), "{word}");
        assert!(pool.has_other_than(&[first.id]) && !pool.has_other_than(&[first.id, second.id]), "{word}");
    }
}

const SLOWSTART: Duration = Duration::from_secs(10);

fn check(registry: &Registry, index: usize, passed: bool, now: Instant) {
    let status = if passed { CheckStatus::L7Ok } else { CheckStatus::L4Connect };
    let report = CheckReport { status, code: None, duration: Duration::ZERO, detail: String::new() };
    let server = pool(registry).servers[index].id;
    registry.apply(now, Command::Checked { server, report });
}

/// What the servers get of their weights, in percent.
fn warmth(registry: &Registry) -> Vec<u32> {
    pool(registry).servers.iter().map(|server| server.warm_up.percent()).collect()
}

/// A pool with checks and slow start, and two servers that have been up for longer than that takes.
fn warm() -> (Registry, Instant) {
    let now = Instant::now();
    let policy = PoolPolicy { slowstart: Some(SLOWSTART), ..PoolPolicy::default() };
    let registry = registry(policy, now);
    set(&registry, &[("s1", 2), ("s2", 2)]);
    check(&registry, 0, true, now);
    check(&registry, 1, true, now + Duration::from_secs(1));
    assert_eq!(warmth(&registry), [100, 100], "none is warmer than the others at the start");
    let now = now + Duration::from_secs(20);
    registry.tick(now);
    (registry, now)
}

#[test]
fn a_server_that_comes_up_beside_warm_ones_gets_its_share_little_by_little() {
    let (registry, now) = warm();
    (0..3).for_each(|_| check(&registry, 1, false, now));
    (0..2).for_each(|_| check(&registry, 1, true, now));
    assert_eq!(warmth(&registry), [100, 1]);
    assert_eq!((pool(&registry).servers[1].effective_weight(), pool(&registry).servers[1].share()), (1, 2));
    let after = |seconds| {
        registry.tick(now + Duration::from_secs(seconds));
        counts(&pool(&registry), 1500)["s2"]
    };
    let shares: Vec<u32> = (1..=10).map(after).collect();
    println!("of 1,500 requests, each second: {shares:?}");
    assert!(shares.is_sorted_by(|one, next| one < next), "{shares:?}");
    assert!(shares[0].abs_diff(136) < 30 && shares[4].abs_diff(500) < 30 && shares[9] == 750, "{shares:?}");
    let version = registry.snapshot().version;
    registry.tick(now + Duration::from_secs(12));
    assert_eq!(registry.snapshot().version, version, "a pool at rest is not made anew each second");
}

#[test]
fn a_newcomer_starts_slowly_and_a_server_that_drained_does_not() {
    let (registry, now) = warm();
    member(&registry, 7, now);
    check(&registry, 2, true, now);
    assert_eq!(warmth(&registry), [100, 100, 1]);
    registry.tick(now + Duration::from_secs(5));
    assert_eq!(warmth(&registry), [100, 100, 50]);
    registry.tick(now + Duration::from_secs(11));
    set(&registry, &[("s1", 0), ("s2", 2)]);
    set(&registry, &[("s1", 2), ("s2", 2)]);
    assert_eq!(warmth(&registry), [100, 100, 100]);
}

#[test]
fn servers_that_come_back_together_after_all_were_down_start_at_once() {
    let (registry, now) = warm();
    for index in [0, 1] {
        (0..3).for_each(|_| check(&registry, index, false, now));
    }
    for (index, later) in [(0, 0), (1, 2)] {
        (0..2).for_each(|_| check(&registry, index, true, now + Duration::from_secs(later)));
    }
    assert_eq!(warmth(&registry), [100, 100]);
}

#[test]
fn without_slow_start_a_server_gets_its_whole_share_at_once() {
    let now = Instant::now();
    let registry = registry(PoolPolicy::default(), now);
    set(&registry, &[("s1", 1), ("s2", 1)]);
    check(&registry, 0, true, now);
    check(&registry, 1, true, now + Duration::from_secs(60));
    assert_eq!(warmth(&registry), [100, 100]);
}

#[test]
fn a_change_that_is_none_for_the_algorithm_keeps_what_was_prepared() {
    let now = Instant::now();
    let registry = registry(policy("uri"), now);
    member(&registry, 1, now);
    let before = pool(&registry);
    registry.apply(now, Command::MemberDown(NodeId(1)));
    let after = pool(&registry);
    assert!(!Arc::ptr_eq(&before, &after) && Arc::ptr_eq(&before.members, &after.members));
    member(&registry, 2, now);
    assert!(!Arc::ptr_eq(&after.members, &pool(&registry).members));
}
