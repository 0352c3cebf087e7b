//! `maxconn`: what is too much for the servers waits for a place.

mod listeners;

use std::{
    collections::BTreeMap,
    sync::{Arc, Condvar, Mutex},
};

use rustix::process::Signal;
use tempfile::NamedTempFile;

use crate::support::{Balancer, Client, Closed, Origin, PATIENCE, Refusing, config_file, ok, wait_until};

/// A server that keeps each request until it is let go, and counts how many it has at once.
#[derive(Clone)]
struct Desk(Arc<(Mutex<State>, Condvar)>);

#[derive(Default)]
struct State {
    /// Targets in the order in which they came.
    seen: Vec<String>,
    now: usize,
    most: usize,
    /// How many more may go.
    passes: usize,
    healthy: bool,
}

impl Desk {
    fn new() -> Self {
        Self(Arc::new((Mutex::new(State { healthy: true, ..State::default() }), Condvar::new())))
    }

    /// The server; what it answers is its name.
    fn origin(&self, name: &'static str) -> Origin {
        let desk = self.clone();
        Origin::answering(move |wire, request| {
            let target = request.head.start.split(' ').nth(1).unwrap().to_owned();
            if target == "/health" {
                let healthy = desk.0.0.lock().unwrap().healthy;
                return Closed(wire.send(if healthy { ok("") } else { String::new() }).is_err() || !healthy);
            }
            desk.serve(target);
            Closed(wire.send(ok(name)).is_err())
        })
    }

    fn serve(&self, target: String) {
        let (state, changed) = &*self.0;
        let mut state = state.lock().unwrap();
        state.seen.push(target);
        state.now += 1;
        state.most = state.most.max(state.now);
        state = changed.wait_timeout_while(state, PATIENCE, |state| state.passes == 0).unwrap().0;
        state.passes = state.passes.saturating_sub(1);
        state.now -= 1;
    }

    /// Lets so many requests go.
    fn pass(&self, count: usize) {
        self.0.0.lock().unwrap().passes += count;
        self.0.1.notify_all();
    }

    fn set_healthy(&self, healthy: bool) {
        self.0.0.lock().unwrap().healthy = healthy;
    }

    fn seen(&self) -> Vec<String> {
        self.0.0.lock().unwrap().seen.clone()
    }

    #[track_caller]
    fn wait_for(&self, count: usize) {
        wait_until("the requests arrive", PATIENCE, || self.seen().len() == count);
    }
}

/// Servers that take one request at once, without checks; `more` goes to their pool. A busy machine needs time to fill the
/// queue.
fn config(servers: &[(&str, &Origin)], more: &str) -> String {
    let server = |(name, origin): &(&str, &Origin)| {
        format!("[[pool.server]]\nname = \"{name}\"\naddress = \"{}\"\n", origin.address)
    };
    let servers: String = servers.iter().map(server).collect();
    format!(
        "workers = 1\n[[listener]]\nbind = \"127.0.0.1:0\"\n[[pool]]\ncheck.request = \"off\"\nserver-maxconn = 1\n{more}\n\
         {servers}[timeouts]\nqueue = \"1m\"\n"
    )
}

/// A balancer of one worker with that configuration.
fn balancer(servers: &[(&str, &Origin)], more: &str, args: &[&str]) -> (Balancer, NamedTempFile) {
    let file = config_file(&config(servers, more));
    let path = file.path().to_str().unwrap().to_owned();
    (Balancer::start(&[&["-c", &path, "--gossip=off", "--stats=127.0.0.1:0"], args].concat()), file)
}

/// A client that has asked and has no answer yet.
fn asking(balancer: &Balancer, target: &str, headers: &str) -> Client {
    let client = balancer.client();
    client.wire.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).unwrap();
    client
}

/// Cells of the CSV's row.
fn row(balancer: &Balancer, proxy: &str, service: &str) -> BTreeMap<String, String> {
    let text = balancer.stats_page("/;csv").text();
    let names = text.lines().next().unwrap().strip_prefix("# ").unwrap().split(',');
    let line = text.lines().find(|line| line.starts_with(&format!("{proxy},{service},"))).unwrap();
    names.map(str::to_owned).zip(line.split(',').map(str::to_owned)).collect()
}

fn queued(balancer: &Balancer, service: &str) -> usize {
    row(balancer, "nodes", service)["qcur"].parse().unwrap()
}

#[track_caller]
fn wait_queued(balancer: &Balancer, service: &str, count: usize) {
    wait_until(&format!("{count} wait for {service}"), PATIENCE, || queued(balancer, service) == count);
}

fn status(client: &mut Client) -> u16 {
    client.answer(false).unwrap().status()
}

#[test]
fn no_server_ever_gets_more_requests_at_once_than_it_may() {
    const CLIENTS: usize = 16;
    const EACH: usize = 25;
    let (one, two) = (Desk::new(), Desk::new());
    let (s1, s2) = (one.origin("s1"), two.origin("s2"));
    for desk in [&one, &two] {
        desk.pass(CLIENTS * EACH);
    }
    let own = format!("--server=s2={},maxconn=1", s2.address);
    let (balancer, _file) = balancer(&[("s1", &s1)], "", &["--workers=4", "--server-maxconn=3", &own]);
    let address = balancer.traffic[0];
    let clients: Vec<_> = (0..CLIENTS)
        .map(|number| {
            std::thread::spawn(move || {
                let mut kept = Client::connect(address);
                for _ in 0..EACH {
                    if number % 2 == 0 {
                        kept = Client::connect(address);
                    }
                    assert_eq!(kept.get("/").status(), 200);
                }
            })
        })
        .collect();
    clients.into_iter().for_each(|client| client.join().unwrap());
    let most = [&one, &two].map(|desk| desk.0.0.lock().unwrap().most);
    assert_eq!(one.seen().len() + two.seen().len(), CLIENTS * EACH);
    assert!(most[0] <= 3 && most[1] <= 1, "{most:?} at once");
}

#[test]
fn those_who_wait_are_served_in_their_order_and_shown() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let (balancer, _file) = balancer(&[("s1", &s1)], "queue = { length = 9 }", &[]);
    let mut clients = vec![asking(&balancer, "/0", "")];
    desk.wait_for(1);
    for number in 1..=4 {
        clients.push(asking(&balancer, &format!("/{number}"), ""));
        wait_queued(&balancer, "BACKEND", number);
    }
    let server = row(&balancer, "nodes", "s1");
    let cells = ["scur", "slim", "qcur", "qlimit"].map(|name| server[name].as_str());
    assert_eq!(cells, ["1", "1", "0", "9"]);
    let metrics = balancer.stats_page("/metrics").text();
    for series in [
        "haproxy_backend_current_queue{proxy=\"nodes\"} 4",
        "haproxy_server_limit_sessions{proxy=\"nodes\",server=\"s1\"} 1",
        "haproxy_server_queue_limit{proxy=\"nodes\",server=\"s1\"} 9",
    ] {
        assert!(metrics.lines().any(|line| line == series), "{series} is missing");
    }
    desk.pass(5);
    for client in &mut clients {
        assert_eq!(status(client), 200);
    }
    assert_eq!(desk.seen(), ["/0", "/1", "/2", "/3", "/4"]);
    assert_eq!(desk.0.0.lock().unwrap().most, 1);
    let line = balancer.logged_path("/3");
    assert_eq!((&line["backend_queue"], &line["srv_queue"], &line["term"]), (&2.into(), &0.into(), &"----".into()));
    // The connection was kept; the time in the queue is not the server's.
    let timers = balancer.logged_path("/1")["timers"].clone();
    let [head, queue, connect, response, all] =
        ["TR", "Tw", "Tc", "Tr", "Ta"].map(|name| timers[name].as_i64().unwrap());
    assert!(queue > 0 && head + queue + connect + response <= all, "{timers}");
    wait_until("the last is counted", PATIENCE, || row(&balancer, "nodes", "s1")["qtime_max"] != "0");
    let (server, backend) = (row(&balancer, "nodes", "s1"), row(&balancer, "nodes", "BACKEND"));
    assert_eq!((server["smax"].as_str(), backend["qmax"].as_str(), backend["qcur"].as_str()), ("1", "4", "0"));
    // Those that waited were not chosen by the algorithm.
    assert_eq!((backend["lbtot"].as_str(), backend["econ"].as_str()), ("1", "0"));
}

#[test]
fn a_full_queue_answers_at_once() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let (balancer, _file) = balancer(&[("s1", &s1)], "queue = { length = 1 }", &[]);
    let mut first = asking(&balancer, "/first", "");
    desk.wait_for(1);
    let mut second = asking(&balancer, "/second", "");
    wait_queued(&balancer, "BACKEND", 1);
    assert_eq!(balancer.client().get("/third").status(), 503);
    let line = balancer.logged_path("/third");
    assert_eq!((&line["term"], &line["server"]), (&"SQ--".into(), &"<NOSRV>".into()));
    assert_eq!(line["timers"]["Tc"], -1);
    desk.pass(2);
    assert_eq!((status(&mut first), status(&mut second)), (200, 200));
    assert_eq!(row(&balancer, "nodes", "BACKEND")["econ"], "1");
}

#[test]
fn who_waits_too_long_is_told_so_and_may_ask_again() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let file = config_file(&config(&[("s1", &s1)], "").replace("1m", "200ms"));
    let path = file.path().to_str().unwrap();
    let balancer = Balancer::start(&["-c", path, "--gossip=off", "--stats=127.0.0.1:0"]);
    let mut first = asking(&balancer, "/first", "");
    desk.wait_for(1);
    let mut kept = balancer.client();
    assert_eq!(kept.get("/second").status(), 503);
    let line = balancer.logged_path("/second");
    assert_eq!((&line["term"], &line["server"]), (&"sQ--".into(), &"<NOSRV>".into()));
    assert!(line["timers"]["Tw"].as_i64().unwrap() >= 200, "{line}");
    assert_eq!(queued(&balancer, "BACKEND"), 0);
    desk.pass(2);
    assert_eq!((status(&mut first), kept.get("/again").status()), (200, 200));
}

#[test]
fn a_server_that_a_reload_adds_takes_who_waits() {
    let (one, two) = (Desk::new(), Desk::new());
    let (s1, s2) = (one.origin("s1"), two.origin("s2"));
    let (balancer, file) = balancer(&[("s1", &s1)], "cookie = { name = \"SERVERID\" }", &[]);
    let mut first = asking(&balancer, "/first", "");
    one.wait_for(1);
    let mut second = asking(&balancer, "/second", "");
    wait_queued(&balancer, "BACKEND", 1);
    std::fs::write(file.path(), config(&[("s1", &s1), ("s2", &s2)], "cookie = { name = \"SERVERID\" }")).unwrap();
    balancer.lb.signal(Signal::HUP);
    two.wait_for(1);
    two.pass(1);
    let response = second.answer(false).unwrap();
    assert_eq!(response.text(), "s2");
    let cookie = response.head.one("set-cookie").expect("its user stays there").split(';').next().unwrap().to_owned();
    two.pass(1);
    assert_eq!(second.try_get("/", &format!("Cookie: {cookie}\r\n")).unwrap().text(), "s2");
    one.pass(1);
    assert_eq!(status(&mut first), 200);
}

#[test]
fn a_limit_that_a_reload_raises_lets_those_go_who_wait() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let (balancer, file) = balancer(&[("s1", &s1)], "", &[]);
    let mut clients: Vec<Client> = (0..4).map(|number| asking(&balancer, &format!("/{number}"), "")).collect();
    wait_queued(&balancer, "BACKEND", 3);
    std::fs::write(file.path(), config(&[("s1", &s1)], "").replace("maxconn = 1", "maxconn = 3")).unwrap();
    balancer.lb.signal(Signal::HUP);
    desk.wait_for(3);
    assert_eq!((queued(&balancer, "BACKEND"), row(&balancer, "nodes", "s1")["slim"].as_str()), (1, "3"));
    desk.pass(4);
    assert!(clients.iter_mut().all(|client| status(client) == 200));
}

/// The cookie that leads to the server.
fn cookie_of(balancer: &Balancer, name: &str, desks: &[&Desk]) -> String {
    let mut client = balancer.client();
    loop {
        desks.iter().for_each(|desk| desk.pass(1));
        let response = client.get("/cookie");
        desks.iter().for_each(|desk| desk.0.0.lock().unwrap().passes = 0);
        if response.text() == name {
            let cookie = response.head.one("set-cookie").unwrap().split(';').next().unwrap();
            return format!("Cookie: {cookie}\r\n");
        }
    }
}

#[test]
fn users_of_a_server_wait_for_it_and_go_elsewhere_when_it_goes_down() {
    let (one, two) = (Desk::new(), Desk::new());
    let (s1, s2) = (one.origin("s1"), two.origin("s2"));
    let args = ["--check=GET /health", "--check-interval=100ms", "--check-fall=1", "--check-rise=1"];
    let (balancer, _file) = balancer(&[("s1", &s1), ("s2", &s2)], "cookie = { name = \"SERVERID\" }", &args);
    for service in ["s1", "s2"] {
        wait_until("it is up", PATIENCE, || row(&balancer, "nodes", service)["status"] == "UP");
    }
    let cookie = cookie_of(&balancer, "s1", &[&one, &two]);
    let before = one.seen().len();
    let mut first = asking(&balancer, "/first", &cookie);
    one.wait_for(before + 1);
    let mut second = asking(&balancer, "/second", &cookie);
    wait_queued(&balancer, "s1", 1);
    assert_eq!(queued(&balancer, "BACKEND"), 0);
    // Others are served beside them.
    two.pass(1);
    assert_eq!(balancer.client().get("/other").text(), "s2");
    one.set_healthy(false);
    two.pass(1);
    let response = second.answer(false).unwrap();
    assert_eq!((response.text().as_str(), response.head.all("set-cookie").len()), ("s2", 1));
    let line = balancer.logged_path("/second");
    assert_eq!((&line["term"], &line["redispatched"], &line["retries"]), (&"--DI".into(), &true.into(), &0.into()));
    one.pass(1);
    assert_eq!(first.answer(false).unwrap().text(), "s1", "what is in flight ends where it is");
}

#[test]
fn those_who_wait_outlast_a_time_without_servers() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let args = ["--check=GET /health", "--check-interval=100ms", "--check-fall=1", "--check-rise=1"];
    let (balancer, _file) = balancer(&[("s1", &s1)], "", &args);
    let state = |word: &str| {
        wait_until(word, PATIENCE, || row(&balancer, "nodes", "s1")["status"] == word);
    };
    state("UP");
    let mut first = asking(&balancer, "/first", "");
    desk.wait_for(1);
    let mut second = asking(&balancer, "/second", "");
    wait_queued(&balancer, "BACKEND", 1);
    desk.set_healthy(false);
    state("DOWN");
    desk.pass(1);
    assert_eq!(status(&mut first), 200);
    assert_eq!(queued(&balancer, "BACKEND"), 1, "a place on a server that is down is none");
    assert_eq!(balancer.client().get("/third").status(), 503);
    desk.set_healthy(true);
    desk.wait_for(2);
    desk.pass(1);
    assert_eq!(status(&mut second), 200);
}

#[test]
fn a_client_that_leaves_does_not_wait_any_more() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let (balancer, _file) = balancer(&[("s1", &s1)], "", &[]);
    let mut first = asking(&balancer, "/first", "");
    desk.wait_for(1);
    let gone = asking(&balancer, "/gone", "");
    wait_queued(&balancer, "BACKEND", 1);
    let mut last = asking(&balancer, "/last", "");
    wait_queued(&balancer, "BACKEND", 2);
    drop(gone);
    wait_queued(&balancer, "BACKEND", 1);
    let line = balancer.logged_path("/gone");
    assert_eq!((&line["term"], &line["status"], &line["server"]), (&"CQ--".into(), &(-1).into(), &"<NOSRV>".into()));
    desk.pass(2);
    assert_eq!((status(&mut first), status(&mut last)), (200, 200));
    assert_eq!(desk.seen(), ["/first", "/last"]);
}

#[test]
fn a_body_waits_with_its_request() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let (balancer, _file) = balancer(&[("s1", &s1)], "", &[]);
    let mut first = asking(&balancer, "/first", "");
    desk.wait_for(1);
    let mut second = balancer.client();
    second.wire.send("POST /second HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nhalf").unwrap();
    wait_queued(&balancer, "BACKEND", 1);
    desk.pass(2);
    assert_eq!(status(&mut first), 200);
    second.wire.send("more").unwrap();
    assert_eq!(status(&mut second), 200);
    assert_eq!(s1.last().body, b"halfmore");
}

#[test]
fn a_try_that_fails_gives_its_place_back_before_the_next() {
    let refusing = Refusing::new();
    let server = format!("--server=s1={},maxconn=1", refusing.address);
    let balancer = Balancer::alone(&["--stats=127.0.0.1:0", &server]);
    assert_eq!(balancer.client().get("/refused").status(), 503);
    let line = balancer.logged_path("/refused");
    assert_eq!((&line["term"], &line["retries"]), (&"SC--".into(), &3.into()));
    // It never waited for itself.
    let backend = row(&balancer, "nodes", "BACKEND");
    assert_eq!((backend["lbtot"].as_str(), backend["econ"].as_str()), ("4", "4"));
}

#[test]
fn who_pauses_before_another_try_holds_no_place() {
    let refusing = Refusing::new();
    let (balancer, _file) = balancer(&[], "retries = 100", &[&format!("--server=s1={}", refusing.address)]);
    let _client = asking(&balancer, "/", "");
    let sessions = |service| row(&balancer, "nodes", service)["scur"].clone();
    wait_until("it is there", PATIENCE, || sessions("BACKEND") == "1");
    wait_until("it pauses", PATIENCE, || sessions("s1") == "0");
    assert_eq!(sessions("BACKEND"), "1");
}

#[test]
fn a_stopping_balancer_serves_who_waits() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let (mut balancer, _file) = balancer(&[("s1", &s1)], "", &[]);
    let mut clients: Vec<Client> = (0..3).map(|number| asking(&balancer, &format!("/{number}"), "")).collect();
    wait_queued(&balancer, "BACKEND", 2);
    balancer.lb.signal(Signal::TERM);
    balancer.lb.stderr.wait("waiting for 3 connections (s1: 1 request, 2 queued)");
    desk.pass(3);
    for client in &mut clients {
        let response = client.answer(false).unwrap();
        assert_eq!((response.status(), response.head.one("connection")), (200, Some("close")));
    }
    assert_eq!(balancer.lb.wait().0.code(), Some(0));
}

#[test]
fn a_limit_of_nothing_is_no_limit() {
    let desk = Desk::new();
    let s1 = desk.origin("s1");
    let own = format!("--server=s1={},maxconn=0", s1.address);
    let balancer = Balancer::alone(&["--server-maxconn=1", "--maxconn=0", &own]);
    let mut clients: Vec<Client> = (0..3).map(|number| asking(&balancer, &format!("/{number}"), "")).collect();
    desk.wait_for(3);
    desk.pass(3);
    assert!(clients.iter_mut().all(|client| status(client) == 200));
}
