//! What was wrong once: each of these was found in a running balancer, and is not to come back.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::NamedTempFile;

use crate::support::{Balancer, Client, Closed, Origin, PATIENCE, config_file, ok, wait_until};

fn config(pool: &str, address: &str, more: &str) -> String {
    format!(
        "workers = 1\n[[listener]]\nname = \"web\"\nbind = \"127.0.0.1:0\"\npool = \"{pool}\"\n\
         [[pool]]\nname = \"{pool}\"\ncheck.request = \"off\"\n\
         [[pool.server]]\nname = \"s1\"\naddress = \"{address}\"\n{more}"
    )
}

/// A balancer with a pool `nodes` of one server and a stats page; its file lives as long as it does.
fn balancer(address: &str, more: &str) -> (Balancer, NamedTempFile) {
    let file = config_file(&config("nodes", address, more));
    let path = file.path().to_str().unwrap();
    (Balancer::start(&["-c", path, "--gossip=off", "--stats=127.0.0.1:0"]), file)
}

/// A number of the server's row in the CSV.
fn counted(balancer: &Balancer, column: &str) -> u64 {
    let text = balancer.stats_page("/;csv").text();
    let index = text.lines().next().unwrap()[2..].split(',').position(|name| name == column).unwrap();
    let row = text.lines().find(|line| line.starts_with("nodes,s1,")).unwrap();
    row.split(',').nth(index).unwrap().parse().unwrap()
}

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

#[test]
fn what_had_arrived_before_the_order_to_stop_is_answered() {
    let origin = Origin::named("s1");
    let (mut balancer, _file) = balancer(&origin.address.to_string(), "");
    let mut warm = balancer.client();
    assert_eq!(warm.get("/").status(), 200);
    balancer.lb.halt();
    // The system accepts connections for a process that is stopped.
    let mut clients = vec![warm];
    clients.extend((0..3).map(|_| balancer.client()));
    for client in &clients {
        client.wire.send(GET).unwrap();
    }
    balancer.lb.signal(Signal::TERM);
    balancer.lb.signal(Signal::CONT);
    let answers = clients.iter_mut().map(|client| client.answer(false).map(|response| response.text()).ok());
    assert_eq!(answers.collect::<Vec<_>>(), vec![Some("s1".to_owned()); 4]);
    assert_eq!(balancer.lb.wait().0.code(), Some(0));
}

#[test]
fn a_reload_keeps_a_server_whose_address_is_a_name() {
    let origin = Origin::named("s1");
    let (balancer, _file) = balancer(&format!("localhost:{}", origin.address.port()), "");
    let mut client = balancer.client();
    wait_until("the name is looked up", PATIENCE, || client.get("/").status() == 200);
    let mut count = 1;
    let mut ask = |times: u64| {
        for _ in 0..times {
            assert_eq!(client.get("/").status(), 200);
            count += 1;
        }
        count
    };
    ask(10);
    for reload in 1..=3 {
        balancer.lb.signal(Signal::HUP);
        wait_until("the reload is done", PATIENCE, || {
            ask(1);
            balancer.lb.stderr.text().matches("the configuration was reloaded").count() == reload
        });
    }
    let total = ask(50);
    wait_until("all are counted for the same server", PATIENCE, || counted(&balancer, "stot") == total);
}

#[test]
fn a_reload_that_drops_a_pool_in_use_changes_nothing_and_says_why() {
    let (s1, other) = (Origin::named("s1"), Origin::named("other"));
    let (balancer, file) = balancer(&s1.address.to_string(), "");
    let mut kept = balancer.client();
    assert_eq!(kept.get("/").text(), "s1");
    std::fs::write(file.path(), config("renamed", &other.address.to_string(), "")).unwrap();
    balancer.lb.signal(Signal::HUP);
    let line = balancer.lb.stderr.wait("feeds the pool");
    assert!(line.contains("'web'") && line.contains("'nodes'"), "{line}");
    balancer.lb.stderr.wait("nothing has changed");
    assert_eq!(kept.get("/").text(), "s1");
    assert_eq!(balancer.client().get("/").text(), "s1");
    assert_eq!(other.connections(), 0);
}

#[test]
fn an_early_response_is_the_only_one_and_ends_the_connection() {
    let origin = Origin::raw(|wire, _| {
        if let Ok(Some(_)) = wire.head() {
            wire.send(ok("no")).unwrap();
            drop(wire.rest());
        }
    });
    let (balancer, _file) = balancer(&origin.address.to_string(), "[timeouts]\nrequest-head = \"300ms\"\n");
    let mut client = balancer.client();
    client.wire.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\npart").unwrap();
    assert_eq!(client.answer(false).unwrap().text(), "no");
    wait_until("the connection ends", PATIENCE, || client.wire.send("more").is_err());
    assert_eq!(String::from_utf8_lossy(&client.wire.rest()), "");
    assert_eq!(balancer.logged_path("/early")["status"], 200);
    let lines = balancer.lb.stdout.all();
    assert!(lines.iter().all(|line| !line.contains("408")), "{lines:?}");
}

#[test]
fn a_response_head_that_drips_is_504() {
    let origin = Origin::raw(|wire, _| {
        if let Ok(Some(_)) = wire.head() {
            for byte in ok("a head that takes six seconds").bytes() {
                if wire.send([byte]).is_err() {
                    return;
                }
                // How slow this server is.
                std::thread::sleep(Duration::from_millis(100));
            }
        }
    });
    let (balancer, _file) = balancer(&origin.address.to_string(), "[timeouts]\nserver = \"500ms\"\n");
    let begun = Instant::now();
    assert_eq!(balancer.client().get("/drip").status(), 504);
    let took = begun.elapsed();
    println!("504 after {took:?}");
    assert!((Duration::from_millis(450)..Duration::from_secs(4)).contains(&took), "{took:?}");
    assert_eq!(balancer.logged_path("/drip")["term"], "sH--");
}

#[test]
fn what_passes_a_tunnel_is_counted_for_its_server() {
    const PAYLOAD: usize = 50_000;
    let origin = Origin::raw(|wire, _| {
        if let Ok(Some(_)) = wire.head() {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
            let payload = wire.exact(PAYLOAD).unwrap();
            wire.send([payload.as_slice(), &payload].concat()).unwrap();
        }
    });
    let (balancer, _file) = balancer(&origin.address.to_string(), "");
    let Client { mut wire } = balancer.client();
    wire.send("GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 101);
    wire.send(vec![b'x'; PAYLOAD]).unwrap();
    assert_eq!(wire.exact(2 * PAYLOAD).unwrap().len(), 2 * PAYLOAD);
    wire.close_write();
    assert!(wire.is_closed());
    assert_eq!(balancer.logged_path("/chat")["status"], 101);
    let (sent, received) = (counted(&balancer, "bin"), counted(&balancer, "bout"));
    let payload = PAYLOAD as u64;
    assert!((payload + 1..payload + 2000).contains(&sent), "{sent}");
    assert!((2 * payload + 1..2 * payload + 2000).contains(&received), "{received}");
}

#[test]
fn the_end_of_a_response_waits_for_a_client_that_reads_slowly() {
    // How much of the end is left in the balancer, and not in the system's buffers, differs from length to length.
    std::thread::scope(|scope| {
        for length in [1_000_000, 1_025_000, 1_050_000, 1_075_000] {
            scope.spawn(move || read_slowly(length));
        }
    });
}

fn read_slowly(length: usize) {
    let origin = Origin::answering(move |wire, _| Closed(wire.send(ok(&"x".repeat(length))).is_err()));
    let timeouts = "[timeouts]\nkeep-alive = \"300ms\"\nclient = \"10s\"\n";
    let (balancer, _file) = balancer(&origin.address.to_string(), timeouts);
    let Client { mut wire } = Client::narrow(balancer.traffic[0]);
    wire.send(GET).unwrap();
    assert_eq!(wire.head().unwrap().unwrap().status(), 200);
    let mut read = 0;
    wait_until("the balancer has all of the response", PATIENCE, || {
        read += wire.exact(4000).unwrap().len();
        counted(&balancer, "scur") == 0
    });
    let left = length - read;
    println!("{left} bytes are left");
    let begun = Instant::now();
    wait_until("keep-alive is long over", PATIENCE, || begun.elapsed() > Duration::from_millis(700));
    assert_eq!(wire.exact(left).map(|rest| rest.len()).ok(), Some(left), "the response was cut off");
    assert!(wire.is_closed(), "keep-alive counts from the end of the response");
}
