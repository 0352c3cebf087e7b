//! `--balance`: which server a request reaches, by each algorithm, with real processes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
};

use crate::support::{Balancer, Client, Closed, Gate, Origin, PATIENCE, config_file, ok, wait_for, wait_until};

const NAMES: [&str; 5] = ["s1", "s2", "s3", "s4", "s5"];

/// Servers `s1`, `s2`, … and a balancer in front of them.
fn balanced(servers: usize, args: &[&str]) -> (Vec<Origin>, Balancer) {
    let origins: Vec<Origin> = NAMES[..servers].iter().map(|name| Origin::named(name)).collect();
    let balancer = in_front_of(&origins, args);
    (origins, balancer)
}

fn in_front_of(origins: &[Origin], args: &[&str]) -> Balancer {
    let servers: Vec<String> = origins.iter().zip(NAMES).map(|(origin, name)| origin.as_server(name)).collect();
    let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
    Balancer::alone(&[&["--stats=127.0.0.1:0"], args, &servers].concat())
}

/// Which server answers a GET with these header lines.
fn answer(client: &mut Client, path: &str, lines: &str) -> String {
    let response = client.try_get(path, lines).unwrap();
    assert_eq!(response.status(), 200);
    response.text()
}

/// A column of the CSV by the names of the rows of the pool.
fn column(balancer: &Balancer, name: &str) -> BTreeMap<String, String> {
    let text = balancer.stats_page("/;csv").text();
    let mut rows = text.lines().map(|line| line.trim_start_matches("# ").split(',').collect::<Vec<_>>());
    let place = rows.next().unwrap().iter().position(|&column| column == name).unwrap();
    rows.filter(|row| row[0] == "nodes").map(|row| (row[1].to_owned(), row[place].to_owned())).collect()
}

/// HAProxy's word for the algorithm, as both the CSV and the page have it.
fn shown_algorithm(balancer: &Balancer) -> String {
    let word = column(balancer, "algo").remove("BACKEND").unwrap();
    let page = balancer.stats_page("/").text();
    assert!(page.contains(&format!("title=\"balancing: {word}\"")), "{word} is not on the page");
    word
}

/// Where each of these paths leads.
fn homes(balancer: &Balancer, paths: usize) -> Vec<String> {
    let mut client = balancer.client();
    (0..paths).map(|path| answer(&mut client, &format!("/page/{path}"), "")).collect()
}

#[test]
fn weights_one_two_five_are_kept_exactly_and_evenly_on_one_worker_and_on_four() {
    const CLIENTS: usize = 8;
    const EACH: usize = 500;
    for workers in ["--workers=1", "--workers=4"] {
        let origins: Vec<Origin> = ["s1", "s2", "s3"].into_iter().map(Origin::named).collect();
        let server = |index: usize, weight: u32| format!("{},weight={weight}", origins[index].as_server(NAMES[index]));
        let servers = [server(0, 1), server(1, 2), server(2, 5)];
        let balancer = Balancer::alone(&[
            "--stats=127.0.0.1:0",
            workers,
            "--log-format=off",
            &servers[0],
            &servers[1],
            &servers[2],
        ]);
        std::thread::scope(|scope| {
            for _ in 0..CLIENTS {
                scope.spawn(|| {
                    let mut client = balancer.client();
                    (0..EACH).for_each(|_| assert_eq!(client.get("/").status(), 200));
                });
            }
        });
        let chosen = column(&balancer, "lbtot");
        let counts = ["s1", "s2", "s3"].map(|name| chosen[name].parse::<usize>().unwrap());
        assert_eq!(counts, [500, 1_000, 2_500], "{workers}");
        // One after the other, over connections that are in the hands of any worker.
        let order: Vec<String> = (0..80).map(|_| balancer.client().get("/").text()).collect();
        let run = |name: &str| order.split(|other| other != name).map(<[String]>::len).max().unwrap();
        let runs = ["s1", "s2", "s3"].map(run);
        println!("{workers}: longest run of the servers of weight 1, 2 and 5: {runs:?}");
        assert_eq!(runs, [1, 1, 2]);
    }
}

#[test]
fn leastconn_leaves_a_busy_server_alone_and_lets_idle_ones_alternate() {
    let gate = Gate::default();
    let origins = [gate.origin("s1"), gate.origin("s2"), gate.origin("s3")];
    let balancer = in_front_of(&origins, &["--balance=leastconn", "--workers=2"]);
    let order: Vec<String> = (0..6).map(|_| balancer.client().get("/").text()).collect();
    assert_eq!(order, ["s1", "s2", "s3"].repeat(2));
    let slow = balancer.client();
    slow.wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until("the slow request arrives", PATIENCE, || origins[0].requests().len() == 3);
    let order: BTreeSet<String> = (0..8).map(|_| balancer.client().get("/").text()).collect();
    assert_eq!(order.into_iter().collect::<Vec<_>>(), ["s2", "s3"]);
    assert_eq!(shown_algorithm(&balancer), "leastconn");
}

#[test]
fn random_reaches_all_servers_and_prefers_the_less_loaded() {
    let gate = Gate::default();
    let origins = [gate.origin("s1"), gate.origin("s2")];
    let balancer = in_front_of(&origins, &["--balance=random"]);
    let slow: Vec<Client> = (0..10).map(|_| balancer.client()).collect();
    for client in &slow {
        client.wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    wait_until("the slow requests arrive", PATIENCE, || {
        origins.iter().map(|origin| origin.requests().len()).sum::<usize>() == 10
    });
    let most = origins.iter().map(|origin| origin.requests().len()).max().unwrap();
    assert!(most <= 9, "two draws that are the same server leave some to chance: {most} of 10");
    let mut client = balancer.client();
    let seen: BTreeSet<String> = (0..100).map(|_| client.get("/").text()).collect();
    assert_eq!(seen.len(), 2);
    assert_eq!(shown_algorithm(&balancer), "random");
}

#[test]
fn source_follows_the_address_and_not_the_connection() {
    let (_origins, balancer) = balanced(5, &["--balance=source"]);
    let seen: BTreeSet<String> = (0..20).map(|_| balancer.client().get("/").text()).collect();
    assert_eq!(seen.len(), 1);
    // Nobody is believed who is no trusted proxy.
    let told: BTreeSet<String> = (0..20)
        .map(|host| answer(&mut balancer.client(), "/", &format!("X-Forwarded-For: 10.0.0.{host}\r\n")))
        .collect();
    assert_eq!(told, seen);
    assert_eq!(shown_algorithm(&balancer), "source");
}

#[test]
fn source_is_whom_a_trusted_proxy_told() {
    let file = config_file("[[listener]]\ntrusted-proxies = [\"127.0.0.0/8\"]\n");
    let config = format!("--config={}", file.path().display());
    let (_origins, balancer) = balanced(5, &[&config, "--balance=source"]);
    let mut client = balancer.client();
    let mut of = |host: usize| answer(&mut client, "/", &format!("X-Forwarded-For: 10.0.0.{host}\r\n"));
    let first: Vec<String> = (0..60).map(&mut of).collect();
    let again: Vec<String> = (0..60).map(&mut of).collect();
    assert_eq!(first, again);
    assert_eq!(first.into_iter().collect::<BTreeSet<_>>().len(), 5, "different clients are spread");
}

#[test]
fn uri_follows_the_path_without_its_query() {
    let (_origins, balancer) = balanced(5, &["--balance=uri"]);
    let mut client = balancer.client();
    for path in 0..10 {
        let mut with_query = |query: &str| answer(&mut client, &format!("/page/{path}{query}"), "");
        let home = with_query("");
        for query in ["?", "?a=1", "?b=2&c=3"] {
            assert_eq!(with_query(query), home);
        }
        let whole = format!("http://a/page/{path}?d=4");
        assert_eq!(answer(&mut client, &whole, ""), home, "a whole URL as well");
    }
    assert_eq!(homes(&balancer, 60).into_iter().collect::<BTreeSet<_>>().len(), 5);
    assert_eq!(shown_algorithm(&balancer), "uri");
}

#[test]
fn two_balancers_choose_the_same_server_whatever_the_order_of_their_servers() {
    let origins: Vec<Origin> = NAMES.iter().map(|name| Origin::named(name)).collect();
    let servers: Vec<String> = origins.iter().zip(NAMES).map(|(origin, name)| origin.as_server(name)).collect();
    let mut args: Vec<&str> = servers.iter().map(String::as_str).collect();
    args.push("--balance=uri");
    let one = Balancer::alone(&args);
    args.reverse();
    let other = Balancer::alone(&args);
    assert_eq!(homes(&one, 60), homes(&other, 60));
}

#[test]
fn only_the_keys_of_a_server_that_goes_are_moved() {
    let (mut origins, balancer) = balanced(5, &["--balance=uri"]);
    let before = homes(&balancer, 100);
    // Requests for it find no connection, and go elsewhere.
    drop(origins.remove(4));
    let after = homes(&balancer, 100);
    assert!(!after.contains(&"s5".to_owned()));
    for (before, after) in before.iter().zip(&after) {
        assert!(before == after || before == "s5", "a key went from {before} to {after}");
    }
    assert_eq!(homes(&balancer, 100), after, "each key of the lost server has one new home");
    let moved: BTreeSet<&String> =
        before.iter().zip(&after).filter(|(before, _)| *before == "s5").map(|(_, after)| after).collect();
    assert!(moved.len() > 1, "they are spread over the others");
}

#[test]
fn a_server_that_has_more_than_its_share_is_passed_by() {
    let gate = Gate::default();
    let origins = [gate.origin("s1"), gate.origin("s2")];
    let balancer = in_front_of(&origins, &["--balance=uri"]);
    let slow: Vec<Client> = (0..40).map(|_| balancer.client()).collect();
    for client in &slow {
        client.wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    let counts = || origins.each_ref().map(|origin| origin.requests().len());
    wait_until("the slow requests arrive", PATIENCE, || counts().iter().sum::<usize>() == 40);
    // 150 % of the fair share of 40 requests on two servers is 30 for each.
    let mut counts = counts();
    counts.sort_unstable();
    assert_eq!(counts, [10, 30]);
}

#[test]
fn hdr_follows_the_value_and_requests_without_it_take_turns() {
    let (_origins, balancer) = balanced(5, &["--balance=hdr(X-User)"]);
    let mut client = balancer.client();
    let mut of = |user: usize| answer(&mut client, "/", &format!("x-user: user-{user}\r\n"));
    let first: Vec<String> = (0..60).map(&mut of).collect();
    assert_eq!((0..60).map(&mut of).collect::<Vec<_>>(), first);
    assert_eq!(first.into_iter().collect::<BTreeSet<_>>().len(), 5, "users are spread");
    let without: Vec<String> = (0..10).map(|_| client.get("/").text()).collect();
    assert_eq!(without[..5], without[5..]);
    assert_eq!(without.into_iter().collect::<BTreeSet<_>>().len(), 5);
    let empty: BTreeSet<String> = (0..5).map(|_| answer(&mut client, "/", "X-User:\r\n")).collect();
    assert_eq!(empty.len(), 5, "an empty value is as good as none");
    assert_eq!(shown_algorithm(&balancer), "hdr");
}

#[test]
fn first_fills_one_server_before_the_next() {
    let gate = Gate::default();
    let origins = [gate.origin("s1"), gate.origin("s2")];
    let balancer = in_front_of(&origins, &["--balance=first", "--server-maxconn=1"]);
    assert!((0..4).all(|_| balancer.client().get("/").text() == "s1"));
    let slow = balancer.client();
    slow.wire.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    wait_until("the slow request arrives", PATIENCE, || origins[0].requests().len() == 5);
    assert!((0..4).all(|_| balancer.client().get("/").text() == "s2"));
    assert_eq!(shown_algorithm(&balancer), "first");
}

#[test]
fn a_backup_serves_when_the_last_other_server_is_down_by_every_algorithm() {
    for algorithm in ["roundrobin", "leastconn", "random", "source", "uri", "hdr(X-User)", "first"] {
        let healthy = Arc::new(AtomicBool::new(true));
        let (its, spare) = (Arc::clone(&healthy), Origin::named("spare"));
        let origin = Origin::answering(move |wire, request| {
            let is_check = request.head.start.contains("/health");
            let answer = if is_check && !its.load(SeqCst) { "" } else { &ok("s1") };
            Closed(wire.send(answer).is_err() || answer.is_empty())
        });
        let balance = format!("--balance={algorithm}");
        let spare = format!("{},backup,weight=9", spare.as_server("spare"));
        let (_keeps, server) = (&origin, origin.as_server("s1"));
        let checks = ["--check=GET /health", "--check-interval=20ms", "--check-fall=1"];
        let balancer = Balancer::alone(&[&["--stats=127.0.0.1:0", &balance, &spare, &server], &checks[..]].concat());
        wait_until("the server is up", PATIENCE, || column(&balancer, "status")["s1"] == "UP");
        assert!((0..4).all(|_| balancer.client().get("/").text() == "s1"), "{algorithm}");
        healthy.store(false, SeqCst);
        wait_until("the server is down", PATIENCE, || column(&balancer, "act")["BACKEND"] == "0");
        assert!((0..4).all(|_| balancer.client().get("/").text() == "spare"), "{algorithm}");
    }
}

#[test]
fn a_server_that_comes_up_beside_a_warm_one_starts_slowly_and_says_so() {
    let healthy = Arc::new(AtomicBool::new(true));
    let its = Arc::clone(&healthy);
    let (warm, cold) = (
        Origin::named("s1"),
        Origin::answering(move |wire, _| {
            let is_healthy = its.load(SeqCst);
            Closed(!is_healthy || wire.send(ok("s2")).is_err())
        }),
    );
    let file = config_file("[[pool]]\nslowstart = \"1s\"\n");
    let config = format!("--config={}", file.path().display());
    let checks = ["--check=GET /", "--check-interval=20ms", "--check-fall=1", "--check-rise=1"];
    let servers = [warm.as_server("s1"), format!("{},weight=100", cold.as_server("s2"))];
    let args = [&["--stats=127.0.0.1:0", &config, &servers[0], &servers[1]], &checks[..]].concat();
    let balancer = Balancer::alone(&args);
    let status = |word: &'static str| move |balancer: &Balancer| column(balancer, "status")["s2"].starts_with(word);
    wait_until("both are up", PATIENCE, || column(&balancer, "act")["BACKEND"] == "2");
    wait_until("the first is warm", PATIENCE, || column(&balancer, "lastchg")["s1"].parse::<u32>().unwrap() >= 2);
    // A machine that halts for a second would miss it once.
    let (throttle, _) = wait_for("it is seen to start slowly", PATIENCE, || {
        healthy.store(false, SeqCst);
        wait_until("it is down", PATIENCE, || status("DOWN")(&balancer));
        healthy.store(true, SeqCst);
        wait_until("it is up", PATIENCE, || status("UP")(&balancer));
        let throttle = column(&balancer, "throttle").remove("s2").unwrap();
        throttle.parse::<u32>().ok()
    });
    assert!((1..100).contains(&throttle));
    wait_until("it has its whole share", PATIENCE, || column(&balancer, "throttle")["s2"].is_empty());
    assert_eq!(
        (column(&balancer, "weight")["s2"].as_str(), column(&balancer, "uweight")["s2"].as_str()),
        ("100", "100")
    );
}
