//! Servers come, are drained and go all the time under load, and no request fails.

use std::{
    fmt::Write as _,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    runtime_api::{address, ask, cell},
    support::{Balancer, Client, Closed, Origin, PATIENCE, config_file, ok, wait_until},
};

/// Servers that come and go.
const CYCLES: usize = 50;
/// Requests each second; `tests/scripts/churn` asks for more.
const RATE: usize = 300;
/// What one client can do: each fourth request takes 40 ms.
const RATE_OF_ONE: usize = 40;
/// What a server answers before it is drained.
const SERVES: u64 = 10;

/// Answers at once, `/slow` a little later, and a POST with the length of its body.
fn origin() -> Origin {
    Origin::answering(|wire, request| {
        if request.head.start.contains("/slow") {
            std::thread::sleep(Duration::from_millis(40));
        }
        let answer = match request.head.start.split(' ').next() {
            Some("HEAD") => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_owned(),
            Some("POST") => ok(&request.body.len().to_string()),
            Some(_) | None => ok("fine"),
        };
        Closed(wire.send(answer).is_err())
    })
}

fn config(servers: &[(&str, &Origin)]) -> String {
    let mut text = "[[listener]]\nbind = \"127.0.0.1:0\"\n[runtime-api]\nbind = \"127.0.0.1:0\"\n[log]\n\
                    format = \"off\"\n[[pool]]\ncheck.interval = \"100ms\"\ncheck.rise = 1\ncheck.fall = 50\n"
        .to_owned();
    for (name, origin) in servers {
        writeln!(text, "[[pool.server]]\nname = \"{name}\"\naddress = \"{}\"", origin.address).unwrap();
    }
    text
}

/// One client with one connection: GETs, slow ones and POSTs, at its pace, until it is told to stop.
fn load(
    balancer: std::net::SocketAddr,
    gap: Duration,
    stop: &AtomicBool,
    done: &AtomicUsize,
    failures: &Mutex<Vec<String>>,
) {
    let body = "x".repeat(3000);
    let post = format!("POST /post HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let kinds = [
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "fine"),
        (&*post, "3000"),
        ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "fine"),
        ("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n", "fine"),
    ];
    let mut client = Client::connect(balancer);
    let mut due = Instant::now();
    for (request, expected) in kinds.into_iter().cycle() {
        if stop.load(SeqCst) {
            return;
        }
        match client.ask(request) {
            Ok(response) if response.status() == 200 && response.text() == expected => drop(done.fetch_add(1, SeqCst)),
            Ok(response) => failures.lock().unwrap().push(format!("{}: {}", response.status(), response.text())),
            Err(error) => {
                failures.lock().unwrap().push(error.to_string());
                client = Client::connect(balancer);
            }
        }
        due += gap;
        // Behind its time it does not hurry: the machine is slow, and the rate is a wish.
        due = due.max(Instant::now() - gap);
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
    }
}

#[test]
fn fifty_servers_come_and_go_under_load_and_no_request_fails() {
    let rate = std::env::var("LB_CHURN_RATE").map_or(RATE, |rate| rate.parse().unwrap());
    let base = [origin(), origin()];
    let file = config_file(&config(&[("s1", &base[0]), ("s2", &base[1])]));
    let balancer = Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off"]);
    let api = address(&balancer);
    for server in ["s1", "s2"] {
        wait_until(&format!("{server} is up"), PATIENCE, || cell(api, server, "status").is_some_and(|it| it == "UP"));
    }
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let failures = Arc::new(Mutex::new(Vec::new()));
    let crowd = rate.div_ceil(RATE_OF_ONE);
    let gap = Duration::from_secs(1).mul_f64(crowd as f64 / rate as f64);
    let clients: Vec<_> = (0..crowd)
        .map(|_| {
            let (stop, done, failures) = (Arc::clone(&stop), Arc::clone(&done), Arc::clone(&failures));
            let traffic = balancer.traffic[0];
            std::thread::spawn(move || load(traffic, gap, &stop, &done, &failures))
        })
        .collect();
    let begun = Instant::now();
    for cycle in 1..=CYCLES {
        let (name, newcomer) = (format!("x{cycle}"), origin());
        let reload = |servers: &[(&str, &Origin)]| {
            std::fs::write(file.path(), config(servers)).unwrap();
            balancer.lb.signal(Signal::HUP);
        };
        reload(&[("s1", &base[0]), ("s2", &base[1]), (&name, &newcomer)]);
        let is = |column: &str, wanted: &str| cell(api, &name, column).is_some_and(|it| it == wanted);
        wait_until(&format!("{name} serves"), PATIENCE, || {
            cell(api, &name, "stot").is_some_and(|it| it.parse::<u64>().unwrap() >= SERVES)
        });
        // Every second one goes through maintenance, which keeps nothing but what is in flight.
        let state = if cycle % 2 == 0 { "maint" } else { "drain" };
        assert_eq!(ask(api, &format!("set server nodes/{name} state {state}\n")), "\n");
        wait_until(&format!("{name} has drained"), PATIENCE, || is("scur", "0"));
        reload(&[("s1", &base[0]), ("s2", &base[1])]);
        wait_until(&format!("{name} is gone"), PATIENCE, || cell(api, &name, "stot").is_none());
        // The server itself ends here, and with it the connections that were idle.
    }
    let took = begun.elapsed();
    stop.store(true, SeqCst);
    clients.into_iter().for_each(|client| client.join().unwrap());
    let (done, failures) = (done.load(SeqCst), failures.lock().unwrap());
    println!(
        "{CYCLES} cycles in {took:.1?}: {done} requests ({:.0}/s), {} failed",
        done as f64 / took.as_secs_f64(),
        failures.len()
    );
    assert!(
        failures.is_empty(),
        "{} of {done} requests failed, such as {:?}",
        failures.len(),
        &failures[..failures.len().min(5)]
    );
    assert!(done > CYCLES, "the load was there");
}
