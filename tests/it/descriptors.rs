//! File descriptors run out: who is idle makes room, nothing spins, and all is well again afterwards.

use std::{
    sync::{Arc, Condvar, Mutex},
    time::{Duration, Instant},
};

use crate::support::{Balancer, Client, Closed, Origin, PATIENCE, ok, wait_until};

/// The balancer itself needs about twenty.
const LIMIT: u32 = 64;
const REQUEST: &str = "GET /wait HTTP/1.1\r\nHost: test.example\r\n\r\n";

#[test]
fn who_has_been_idle_longest_makes_room_for_new_clients() {
    const CLIENTS: usize = 150;
    let origin = Origin::named("s1");
    let balancer = Balancer::limited(LIMIT, &[&origin.as_server("s1"), "--stats=127.0.0.1:0"]);
    let before = balancer.lb.processor_time();
    let mut slowest = Duration::ZERO;
    let mut clients: Vec<Client> = Vec::new();
    for number in 0..CLIENTS {
        let begun = Instant::now();
        let mut client = balancer.client();
        assert_eq!(client.get("/").text(), "s1", "client {number}");
        slowest = slowest.max(begun.elapsed());
        clients.push(client);
    }
    println!("the slowest of {CLIENTS} clients waited {slowest:?}");
    assert!(slowest < Duration::from_secs(8), "{slowest:?}");
    let used = balancer.lb.processor_time() - before;
    assert!(used < Duration::from_secs(3), "{used:?}");

    let line = balancer.lb.stderr.wait("no file descriptors left");
    assert!(line.contains("(this process may have 64)") && line.contains("LimitNOFILE="), "{line}");
    let newest = clients.last_mut().unwrap();
    assert_eq!(newest.get("/again").text(), "s1");
    assert!(clients[0].wire.is_closed(), "the first client was kept");
    let metrics = balancer.stats_page("/metrics").text();
    let refused = metrics.lines().find_map(|line| line.strip_prefix("lb_descriptor_shortages_total "));
    assert!(refused.unwrap().parse::<f64>().unwrap() > 0.0, "{metrics}");
    assert!(metrics.contains("haproxy_server_connection_errors_total{proxy=\"nodes\",server=\"s1\"} 0\n"), "{metrics}");
}

/// A server that answers when it is told to.
fn patient_origin() -> (Origin, Arc<(Mutex<bool>, Condvar)>) {
    let may_answer = Arc::new((Mutex::new(false), Condvar::new()));
    let ours = Arc::clone(&may_answer);
    let origin = Origin::answering(move |wire, _| {
        let (answers, told) = &*ours;
        drop(told.wait_while(answers.lock().unwrap(), |answers| !*answers).unwrap());
        Closed(wire.send(ok("late")).is_err())
    });
    (origin, may_answer)
}

#[test]
fn when_all_are_busy_nothing_spins_and_the_server_is_not_to_blame() {
    let (origin, may_answer) = patient_origin();
    let balancer = Balancer::limited(LIMIT, &[&origin.as_server("s1"), "--stats=127.0.0.1:0"]);
    // More than there is room for, and each needs two descriptors.
    let mut clients: Vec<Client> = (0..LIMIT).map(|_| balancer.client()).collect();
    clients.iter().for_each(|client| client.wire.send(REQUEST).unwrap());
    let refused = balancer.logged("a request without a descriptor", |line| line["status"] == 503);
    assert_eq!(refused["term"], "RC--", "{refused}");

    balancer.lb.stderr.wait("no file descriptors left");
    let (begun, before) = (Instant::now(), balancer.lb.processor_time());
    std::thread::sleep(Duration::from_secs(3));
    let (took, used) = (begun.elapsed(), balancer.lb.processor_time() - before);
    println!("{used:?} of processor time in {took:?} without descriptors");
    assert!(used < took / 3, "{used:?} of processor time in {took:?}");
    let messages = balancer.lb.stderr.all().iter().filter(|line| line.contains("no file descriptors left")).count();
    assert!(messages as u64 <= 3 + begun.elapsed().as_secs() * 2, "{messages} messages");

    *may_answer.0.lock().unwrap() = true;
    may_answer.1.notify_all();
    let statuses: Vec<u16> = clients.iter_mut().map(|client| client.answer(false).unwrap().status()).collect();
    assert!(statuses.contains(&200) && statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    drop(clients);
    let begun = Instant::now();
    assert_eq!(balancer.client().get("/after").text(), "late");
    println!("served {:?} later", begun.elapsed());
    let metrics = balancer.stats_page("/metrics").text();
    assert!(metrics.contains("haproxy_server_connection_errors_total{proxy=\"nodes\",server=\"s1\"} 0\n"), "{metrics}");
}

#[test]
fn clients_that_never_say_anything_make_room_as_well() {
    let origin = Origin::named("s1");
    let balancer = Balancer::limited(LIMIT, &[&origin.as_server("s1")]);
    let silent: Vec<Client> = (0..2 * LIMIT).map(|_| balancer.client()).collect();
    let begun = Instant::now();
    wait_until("a client is served", PATIENCE, || {
        let mut client = balancer.client();
        client.try_get("/", "").is_ok_and(|response| response.text() == "s1")
    });
    // They would all have been closed after 10 s.
    println!("served {:?} after {} silent ones", begun.elapsed(), silent.len());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
