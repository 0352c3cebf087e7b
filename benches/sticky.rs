//! What stickiness costs: finding the server of a cookie in a large pool, and the cookie for it.

use std::{
    hint::black_box,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use criterion::{BatchSize, Criterion};
use http::{HeaderMap, HeaderValue, header};
use lb::{
    config::{self, PoolPolicy},
    model::{CookieMode, CookiePolicy, Lifetime, PoolName, ServerName, Weight},
    registry::{Command, Pool, Registry, ResolvedServer},
    sticky::{self, Date, Dates},
};

/// Servers in the pool that is measured: far more than most have, so that a step per server would show.
const SERVERS: u16 = 1_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let registry = registry();
    let pool = Arc::clone(&registry.snapshot().pools[0]);
    criterion.bench_function("change a sticky pool of 1,000 servers", |bench| {
        bench.iter_batched(
            || Command::Pools(vec![config(&pool)]),
            |command| registry.apply(registry.started(), command),
            BatchSize::SmallInput,
        );
    });
    let Some(last) = pool.servers.last() else { return };
    criterion.bench_function("find the server of a cookie among 1,000", |bench| {
        bench.iter(|| pool.by_cookie(black_box(last.cookie.as_bytes())));
    });
    criterion.bench_function("the cookie for one of 1,000 servers", |bench| {
        bench.iter(|| pool.set_cookie(black_box(last.id), Dates::default()));
    });
    let now = Date::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_392_845));
    let lifetime = Lifetime { max_idle: Some(Duration::from_secs(1800)), max_life: None };
    let dates = Dates::new(&lifetime, None, now);
    criterion.bench_function("the same with dates", |bench| {
        bench.iter(|| pool.set_cookie(black_box(last.id), dates));
    });
    criterion.bench_function("judge the dates of a cookie", |bench| {
        bench.iter(|| Dates::split(black_box(b"0123456789abcdef|awOFU|awOFU")).1.judge(&lifetime, now));
    });
    let mut headers = HeaderMap::new();
    headers.insert(header::COOKIE, HeaderValue::from_static("theme=dark; SID=0123456789abcdef~s%3AuYb2kXb8RrVtq0"));
    criterion.bench_function("take the prefix off a cookie", |bench| {
        let strip = |headers: &mut HeaderMap| sticky::strip_prefix(headers, "SID");
        bench.iter_batched_ref(|| headers.clone(), strip, BatchSize::SmallInput);
    });
    criterion.final_summary();
}

fn config(pool: &Pool) -> config::Pool {
    config::Pool { name: pool.name.clone(), policy: PoolPolicy::clone(&pool.policy), servers: Vec::new() }
}

fn registry() -> Registry {
    let (now, name) = (Instant::now(), PoolName::parse("nodes"));
    let cookie = CookiePolicy::new("SERVERID", CookieMode::default());
    let (Ok(name), Ok(cookie)) = (name, cookie) else { panic!("the example pool is not valid") };
    let registry = Registry::new(1, &[], now);
    let policy = PoolPolicy { cookie: Some(cookie), check: None, ..PoolPolicy::default() };
    registry.apply(now, Command::Pools(vec![config::Pool { name: name.clone(), policy, servers: Vec::new() }]));
    let server = |number: u16| {
        let name = ServerName::parse(&format!("s{number}")).ok()?;
        let address = Some(SocketAddr::from(([127, 0, 0, 1], number)));
        Some(ResolvedServer { name, address, weight: Weight::DEFAULT, backup: false, maxconn: None, check_port: None })
    };
    registry.apply(now, Command::Static { pool: name, servers: (1..=SERVERS).filter_map(server).collect() });
    registry
}
