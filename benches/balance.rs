//! What balancing costs, per request and per change of a pool, and what the rules cost that every request passes.

use std::{hint::black_box, net::SocketAddr, sync::Arc, time::Instant};

use criterion::{BatchSize, Criterion};
use http::{HeaderMap, Request, request::Parts};
use lb::{
    balance::{Ask, Balancer, Member, hash, mix},
    config::{self, PoolPolicy},
    http_rules,
    model::{Algorithm, NodeId, NodeState, PoolName, ServerName, Weight},
    registry::{Claim, Command, MemberServer, Pool, Registry},
    sticky,
};

/// Servers in the pool that is measured: far more than most have, so that a step per server would show.
const SERVERS: usize = 1_000;
/// The algorithms that differ in what they cost; `source` is as `uri`.
const WORDS: [&str; 6] = ["roundrobin", "leastconn", "random", "uri", "hdr(x-none)", "first"];
/// Of its fair share a server may have so much in flight, in percent.
const FACTOR: u16 = 150;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    prepare(&mut criterion);
    choose(&mut criterion);
    publish(&mut criterion);
    request_rules(&mut criterion);
    cookies(&mut criterion);
    criterion.final_summary();
}

/// What a change of the servers costs: everything is prepared anew, which happens only when a share changes.
fn prepare(criterion: &mut Criterion) {
    let equal = members(|_| 100);
    let mixed = members(|server| (server as u32 % 256 + 1) * 100);
    let warming = members(|server| (server as u32 % 256 + 1) * (server as u32 % 100 + 1));
    for word in WORDS {
        for (servers, members) in [("equal", &equal), ("mixed", &mixed), ("warming", &warming)] {
            let algorithm = algorithm(word);
            criterion.bench_function(&format!("{word}, prepare 1,000 {servers} servers"), |bench| {
                bench.iter(|| Balancer::new(&algorithm, FACTOR, black_box(members)));
            });
        }
    }
}

/// What a request costs, with the pool as it is while the balancer runs.
fn choose(criterion: &mut Criterion) {
    for word in WORDS {
        for (load, in_flight) in [("idle", 0), ("busy", 3)] {
            let (_registry, pool, _places) = pool(word, in_flight);
            let mut number = 0u64;
            criterion.bench_function(&format!("{word}, choose among 1,000 {load} servers"), |bench| {
                bench.iter(|| {
                    number += 1;
                    let key = (word != "hdr(x-none)").then(|| mix(number));
                    pool.choose(&[], black_box(Ask { key, random: mix(!number) })).map(|server| server.id)
                });
            });
        }
    }
    criterion
        .bench_function("hash a path of 24 bytes", |bench| bench.iter(|| hash(black_box(b"/shop/basket/items/12345"))));
}

/// What a change of one server costs as a whole: the next snapshot, and that the queue learns of it.
fn publish(criterion: &mut Criterion) {
    for word in WORDS {
        let (registry, _pool, _places) = pool(word, 0);
        let mut weight = 1;
        criterion.bench_function(&format!("{word}, publish a new weight of one of 1,000 servers"), |bench| {
            bench.iter(|| {
                weight = 3 - weight;
                registry.apply(Instant::now(), member(500, weight));
            });
        });
    }
    let (registry, _pool, _places) = pool("roundrobin", 0);
    let mut is_lost = false;
    criterion.bench_function("roundrobin, publish a change that is none for the algorithm", |bench| {
        bench.iter(|| {
            is_lost = !is_lost;
            let node = NodeId(500);
            registry.apply(Instant::now(), if is_lost { Command::MemberDown(node) } else { Command::MemberUp(node) });
        });
    });
}

fn request_rules(criterion: &mut Criterion) {
    let head = typical_head();
    let upgrades = http_rules::Upgrades::new(["websocket"]);
    criterion.bench_function("screen a browser's request head", |bench| {
        bench.iter_batched_ref(
            || head.clone(),
            |head| http_rules::screen(head, 8192, &upgrades),
            BatchSize::SmallInput,
        );
    });
}

fn cookies(criterion: &mut Criterion) {
    let headers = typical_head().headers;
    criterion.bench_function("find the sticky cookie", |bench| {
        bench.iter(|| sticky::find(black_box(&headers), "SERVERID"));
    });
    criterion.bench_function("strip the sticky cookie", |bench| {
        let strip = |headers: &mut HeaderMap| sticky::strip(headers, "SERVERID");
        bench.iter_batched_ref(|| headers.clone(), strip, BatchSize::SmallInput);
    });
}

fn algorithm(word: &str) -> Algorithm {
    word.parse().unwrap_or_default()
}

fn members(share: impl Fn(usize) -> u32) -> Vec<Member> {
    (0..SERVERS).map(|server| Member { server, share: share(server), identity: mix(server as u64) }).collect()
}

fn name() -> PoolName {
    match PoolName::parse("nodes") {
        Ok(name) => name,
        Err(error) => panic!("{error}"),
    }
}

fn member(node: u64, weight: u16) -> Command {
    let (Ok(name), Ok(weight)) = (ServerName::parse(&format!("s{node}")), Weight::new(weight)) else {
        panic!("no name or no weight");
    };
    let address = SocketAddr::from(([127, 0, 0, 1], 3000 + node as u16));
    Command::Member(MemberServer {
        node: NodeId(node),
        pool: self::name(),
        name,
        address,
        weight,
        state: NodeState::Ready,
    })
}

/// A pool whose servers have so many requests in flight each, as long as the places are kept.
fn pool(word: &str, in_flight: usize) -> (Registry, Arc<Pool>, Vec<Claim>) {
    let registry = Registry::new(1, &[], Instant::now());
    let policy = PoolPolicy { balance: algorithm(word), check: None, ..PoolPolicy::default() };
    registry.apply(Instant::now(), Command::Pools(vec![config::Pool { name: name(), policy, servers: Vec::new() }]));
    (0..SERVERS as u64).for_each(|node| registry.apply(Instant::now(), member(node, 1)));
    let pool = Arc::clone(&registry.snapshot().pools[0]);
    let each = pool.servers.iter().flat_map(|server| std::iter::repeat_n(server, in_flight));
    let places = each.map(|server| pool.claim(Some(Arc::clone(server)), &[], Ask::default())).collect();
    (registry, pool, places)
}

/// What a browser sends, with a sticky cookie between two others.
fn typical_head() -> Parts {
    let request = Request::get("/shop/basket?item=42&colour=blue")
        .header("host", "shop.example:8080")
        .header("user-agent", "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0")
        .header("accept", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8")
        .header("accept-language", "fr-CH,fr;q=0.8,en;q=0.5")
        .header("accept-encoding", "gzip, deflate, br")
        .header("referer", "http://shop.example:8080/shop")
        .header("cookie", "theme=dark; SERVERID=s1; NODESESSID=s%3AuYb2kXb8RrVtq0.1TnVx9aLw3z")
        .header("connection", "keep-alive");
    match request.body(()) {
        Ok(request) => request.into_parts().0,
        Err(error) => panic!("the example request is not valid: {error}"),
    }
}
