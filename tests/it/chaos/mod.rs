//! Everything at once: servers that reset, stall, truncate, send garbage and restart, clients that vanish.
//!
//! A ledger knows of every request. It proves that no answer was given to the wrong request, that none was lost without an
//! error, that no POST reached servers twice and no GET was answered twice; and in the end the balancer serves as before, and
//! has nothing left of all that. `LB_CHAOS_SECONDS=3600` lasts an hour.

mod client;
pub(crate) mod ledger;
mod origin;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use ledger::{Ledger, Rng, seed};
use origin::Mood;

use crate::support::{Balancer, PATIENCE, config_file, wait_until};

const SERVERS: usize = 4;
const CLIENTS: usize = 16;
/// What memory may grow by between a warm balancer and its end, in KiB.
const GROWTH: u64 = 32 * 1024;

#[test]
fn no_request_is_lost_or_mixed_up_whatever_servers_and_clients_do() {
    let seconds = std::env::var("LB_CHAOS_SECONDS").map_or(10, |text| text.parse().expect("no number of seconds"));
    let mut seeds = Rng::new(seed());
    let (ledger, mood) = (Arc::new(Ledger::default()), Arc::new(Mood::default()));
    let servers: String = (0..SERVERS)
        .map(|number| {
            let address = origin::start(seeds.next(), &ledger, &mood);
            format!("[[pool.server]]\nname = \"s{number}\"\naddress = \"{address}\"\n")
        })
        .collect();
    let file = config_file(&format!(
        "workers = 3\n[[listener]]\nbind = \"127.0.0.1:0\"\n[log]\nformat = \"off\"\n\
         [timeouts]\nserver = \"700ms\"\nclient = \"5s\"\nconnect = \"2s\"\n\
         [[pool]]\nname = \"nodes\"\ncheck = {{ request = \"tcp\", interval = \"200ms\", rise = 1, fall = 2 }}\n{servers}"
    ));
    let balancer = Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off", "--stats=127.0.0.1:0"]);
    let address = balancer.traffic[0];
    wait_until("the first server is up", PATIENCE, || client::is_served(address, &ledger));

    let begun = Instant::now();
    let until = begun + Duration::from_secs(seconds);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let (seed, ledger) = (seeds.next(), Arc::clone(&ledger));
            std::thread::spawn(move || client::run(address, seed, &ledger, until))
        })
        .collect();
    std::thread::sleep(Duration::from_secs(seconds) / 3);
    let warm = balancer.lb.memory();
    for client in clients {
        client.join().expect("a client failed");
    }
    let storm = begun.elapsed();

    mood.calm();
    let mut in_a_row = 0;
    let calm = wait_until("it serves as before", PATIENCE, || {
        in_a_row = if client::is_served(address, &ledger) { in_a_row + 1 } else { 0 };
        in_a_row == 50
    });
    for column in ["scur", "qcur"] {
        wait_until("nothing is left in flight", PATIENCE, || sum(&balancer, column) == 0);
    }
    let (files, idle, memory) = (balancer.lb.open_files(), sum(&balancer, "srv_icur"), balancer.lb.memory());
    println!("a storm of {storm:?}, a calm of {calm:?}");
    println!("{} requests: {:?}", ledger.requests(), ledger.outcomes());
    println!("{files} files, {idle} idle connections, {warm} KiB warm, {memory} KiB in the end");
    assert_eq!(ledger.violations(), Vec::<String>::new());
    assert!(!balancer.lb.stderr.text().contains("BUG in lb"), "{}", balancer.lb.stderr.text());
    assert!(memory < warm + GROWTH, "{memory} KiB, {warm} KiB before");
    // Those of a balancer at rest, and the connections that it keeps.
    wait_until("no file is left open", PATIENCE, || {
        let idle = sum(&balancer, "srv_icur");
        balancer.lb.open_files() as u64 <= idle + 60
    });
    let outcomes = ledger.outcomes();
    for outcome in ["whole", "502", "504", "vanished", "broken off within its answer"] {
        assert!(outcomes.contains_key(outcome), "never happened: {outcome}; the test is too tame");
    }
    mood.over();
}

/// A column of the CSV over all traffic's rows.
fn sum(balancer: &Balancer, column: &str) -> u64 {
    let text = balancer.stats_page("/;csv").text();
    let index = text.lines().next().unwrap()[2..].split(',').position(|name| name == column).unwrap();
    let rows = text.lines().skip(1).filter(|line| !line.starts_with("stats,"));
    rows.filter_map(|line| line.split(',').nth(index)?.parse::<u64>().ok()).sum()
}
