//! Places under the eyes of several threads.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicU32, AtomicUsize},
    time::{Duration, Instant},
};

use super::*;
use crate::{
    config::{self, PoolPolicy},
    model::{PoolName, ServerName, Weight},
    registry::{Command, Registry, ResolvedServer},
};

const PATIENCE: Duration = Duration::from_secs(15);

fn name() -> PoolName {
    PoolName::parse("nodes").unwrap()
}

/// A pool of servers without checks, each with its own number of places or the pool's, which is `limit`.
fn set(registry: &Registry, limit: u32, length: usize, servers: &[(&str, Option<u32>)]) {
    let (now, limit) = (Instant::now(), NonZeroU32::new(limit));
    let policy = PoolPolicy { check: None, server_maxconn: limit, queue_length: length, ..PoolPolicy::default() };
    registry.apply(now, Command::Pools(vec![config::Pool { name: name(), policy, servers: Vec::new() }]));
    let server = |(name, maxconn): &(&str, Option<u32>)| ResolvedServer {
        name: ServerName::parse(name).unwrap(),
        address: Some(SocketAddr::from(([127, 0, 0, 1], 3000))),
        weight: Weight::DEFAULT,
        backup: false,
        maxconn: *maxconn,
        check_port: None,
    };
    registry.apply(now, Command::Static { pool: self::name(), servers: servers.iter().map(server).collect() });
}

fn registry(limit: u32, length: usize, servers: &[(&str, Option<u32>)]) -> Arc<Registry> {
    let registry = Arc::new(Registry::new(1, &[], Instant::now()));
    set(&registry, limit, length, servers);
    registry
}

fn pool(registry: &Registry) -> Arc<Pool> {
    Arc::clone(&registry.snapshot().pools[0])
}

fn take(pool: &Pool) -> Place {
    match pool.claim(None, &[]) {
        Claim::Taken { place, .. } => place,
        Claim::Full(_) | Claim::NoServer => panic!("no place is free"),
    }
}

fn wait(pool: &Pool) -> Waiting {
    match pool.claim(None, &[]) {
        Claim::Full(wish) => pool.live.enqueue(wish).unwrap(),
        Claim::Taken { .. } | Claim::NoServer => panic!("not full"),
    }
}

async fn served(waiting: Waiting) -> Granted {
    tokio::time::timeout(PATIENCE, waiting).await.expect("nobody serves it").unwrap()
}

fn server_of(granted: &Granted) -> &str {
    granted.place.server().name.as_str()
}

#[test]
fn threads_never_hold_more_places_than_there_are_and_all_are_served() {
    const THREADS: usize = 8;
    const EACH: usize = 500;
    let registry = registry(2, THREADS, &[("s1", None), ("s2", Some(1))]);
    let held = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
    let waits = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (registry, held, waits) = (Arc::clone(&registry), Arc::clone(&held), Arc::clone(&waits));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                for _ in 0..EACH {
                    let place = match pool(&registry).claim(None, &[]) {
                        Claim::Taken { place, .. } => place,
                        Claim::Full(wish) => {
                            waits.fetch_add(1, SeqCst);
                            let waiting = pool(&registry).live.enqueue(wish).unwrap();
                            runtime.block_on(served(waiting)).place
                        }
                        Claim::NoServer => panic!("no server"),
                    };
                    let index = usize::from(place.server().name.as_str() == "s2");
                    let now = held[index].fetch_add(1, SeqCst) + 1;
                    assert!(now <= [2, 1][index], "{now} at once on {:?}", place.server().name);
                    std::thread::yield_now();
                    held[index].fetch_sub(1, SeqCst);
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    println!("{} of {} waited", waits.load(SeqCst), THREADS * EACH);
    let pool = pool(&registry);
    assert_eq!(pool.live.waiting(), 0);
    assert!(pool.servers.iter().all(|server| server.live.in_flight.now() == 0));
}

#[test]
fn a_place_that_is_given_back_while_somebody_begins_to_wait_is_not_missed() {
    const ROUNDS: usize = 20_000;
    let registry = registry(1, 9, &[("s1", None)]);
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let comes = {
        let (pool, begun, ended) = (pool(&registry), Arc::clone(&begun), Arc::clone(&ended));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            for round in 1..=ROUNDS {
                spin_until(&begun, round);
                match pool.claim(None, &[]) {
                    Claim::Taken { place, .. } => drop(place),
                    Claim::Full(wish) => {
                        let waiting = pool.live.enqueue(wish).unwrap();
                        drop(runtime.block_on(served(waiting)));
                    }
                    Claim::NoServer => panic!("no server"),
                }
                ended.store(round, SeqCst);
            }
        })
    };
    let pool = pool(&registry);
    for round in 1..=ROUNDS {
        let place = take(&pool);
        begun.store(round, SeqCst);
        // The two meet at another moment each time.
        (0..round % 400).for_each(|_| std::hint::spin_loop());
        drop(place);
        while !comes.is_finished() && ended.load(SeqCst) < round {
            std::thread::yield_now();
        }
    }
    comes.join().unwrap();
}

fn spin_until(counter: &AtomicUsize, value: usize) {
    while counter.load(SeqCst) < value {
        std::thread::yield_now();
    }
}

#[tokio::test]
async fn who_comes_while_others_wait_does_not_overtake_them() {
    let registry = registry(1, 9, &[("s1", None)]);
    let pool = pool(&registry);
    let place = take(&pool);
    let (first, second) = (wait(&pool), wait(&pool));
    assert_eq!((first.ahead().pool, second.ahead().pool, pool.live.queued().now), (0, 1, 2));
    drop(place);
    let third = wait(&pool);
    let first = served(first).await;
    drop(first);
    drop(served(second).await);
    drop(served(third).await);
    assert_eq!((pool.live.waiting(), pool.servers[0].live.in_flight.now()), (0, 0));
    drop(take(&pool));
}

#[tokio::test]
async fn who_goes_away_leaves_the_queue_and_passes_its_place_on() {
    let registry = registry(1, 9, &[("s1", None)]);
    let pool = pool(&registry);
    let place = take(&pool);
    let (gone, granted, last) = (wait(&pool), wait(&pool), wait(&pool));
    drop(gone);
    assert_eq!(pool.live.waiting(), 2);
    drop(place);
    // It has been given the place and does not know yet.
    assert_eq!(pool.live.waiting(), 1);
    drop(granted);
    drop(served(last).await);
    assert_eq!(pool.servers[0].live.in_flight.now(), 0);
}

#[tokio::test]
async fn a_queue_that_is_full_takes_nobody() {
    let registry = registry(1, 1, &[("s1", None)]);
    let pool = pool(&registry);
    let _place = take(&pool);
    let _waits = wait(&pool);
    let Claim::Full(wish) = pool.claim(None, &[]) else { panic!("not full") };
    assert!(pool.live.enqueue(wish).is_none());
    assert_eq!(pool.live.waiting(), 1);
}

#[tokio::test]
async fn a_server_that_comes_takes_who_waits() {
    let registry = registry(1, 9, &[("s1", None)]);
    let before = pool(&registry);
    let _place = take(&before);
    let waiting = wait(&before);
    set(&registry, 1, 9, &[("s1", None), ("s2", None)]);
    assert_eq!(server_of(&served(waiting).await), "s2");
}

#[tokio::test]
async fn who_waits_for_a_server_that_goes_is_sent_elsewhere() {
    let registry = registry(1, 9, &[("s1", None), ("s2", None)]);
    let before = pool(&registry);
    let s1 = Arc::clone(&before.servers[0]);
    let Claim::Taken { place: _place, balanced: false } = before.claim(Some(Arc::clone(&s1)), &[]) else {
        panic!("no place is free");
    };
    let Claim::Full(wish) = before.claim(Some(s1), &[]) else { panic!("not full") };
    let waiting = before.live.enqueue(wish).unwrap();
    assert_eq!((before.live.queued_for(before.servers[0].id).now, before.live.queued().now), (1, 0));
    set(&registry, 1, 9, &[("s2", None)]);
    let granted = served(waiting).await;
    assert_eq!((server_of(&granted), granted.redispatched), ("s2", true));
}

#[tokio::test]
async fn limits_that_come_and_change_hold_for_who_is_in_flight_already() {
    let registry = registry(0, 9, &[("s1", None)]);
    let unlimited = pool(&registry);
    let places = [take(&unlimited), take(&unlimited)];
    set(&registry, 1, 9, &[("s1", None)]);
    let limited = pool(&registry);
    let (first, second) = (wait(&limited), wait(&limited));
    let [one, two] = places;
    drop(one);
    assert_eq!(limited.live.waiting(), 2, "one is still in flight, as many as may be");
    drop(two);
    let first = served(first).await;
    set(&registry, 2, 9, &[("s1", None)]);
    let second = served(second).await;
    let third = wait(&pool(&registry));
    set(&registry, 0, 9, &[("s1", None)]);
    drop((first, second, served(third).await));
    assert_eq!(pool(&registry).servers[0].live.in_flight.now(), 0);
}
