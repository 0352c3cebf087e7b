//! What the pure rooms cost: preparing and asking the round robin, and the rules that every request passes.

use std::hint::black_box;

use criterion::{BatchSize, Criterion};
use http::{HeaderMap, Request, request::Parts};
use lb::{balance::RoundRobin, http_rules, model::Weight, sticky};

/// Servers in the pool that is measured: far more than most have, so that a step per server would show.
const SERVERS: u16 = 1_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    round_robin(&mut criterion);
    request_rules(&mut criterion);
    cookies(&mut criterion);
    criterion.final_summary();
}

fn round_robin(criterion: &mut Criterion) {
    let equal = weights(|_| 1);
    let mixed = weights(|server| server % 256 + 1);
    criterion.bench_function("round robin, prepare 1,000 equal servers", |bench| {
        bench.iter(|| RoundRobin::new(black_box(&equal)));
    });
    criterion.bench_function("round robin, prepare 1,000 servers of weights 1 to 256", |bench| {
        bench.iter(|| RoundRobin::new(black_box(&mixed)));
    });
    let order = RoundRobin::new(&mixed);
    let mut turn = 0;
    criterion.bench_function("round robin, pick among 1,000 servers", |bench| {
        bench.iter(|| {
            turn += 1;
            order.pick(black_box(turn))
        });
    });
}

fn request_rules(criterion: &mut Criterion) {
    let head = typical_head();
    criterion.bench_function("screen a browser's request head", |bench| {
        bench.iter_batched_ref(|| head.clone(), |head| http_rules::screen(head, 8192), BatchSize::SmallInput);
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

fn weights(of: impl Fn(u16) -> u16) -> Vec<Weight> {
    (0..SERVERS).filter_map(|server| Weight::new(of(server)).ok()).collect()
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
