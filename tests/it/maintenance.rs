//! Drain, maintenance and weights by an operator: what becomes of connections, users and deadlines, and what survives.

use rustix::process::Signal;

use crate::{
    runtime_api::{address, ask, cell},
    support::{Balancer, Client, Closed, Gate, Origin, PATIENCE, config_file, ok, wait_until},
};

/// Two servers in a file, with further lines for their pool.
fn config(pool: &str, s1: &Origin, s2: &Origin) -> String {
    format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n[runtime-api]\nbind = \"127.0.0.1:0\"\n[stats]\nbind = \"127.0.0.1:0\"\n\
         admin = true\n[[pool]]\ncheck.request = \"off\"\ncookie.name = \"SERVERID\"\n{pool}\n\
         [[pool.server]]\nname = \"s1\"\naddress = \"{}\"\n[[pool.server]]\nname = \"s2\"\naddress = \"{}\"\n",
        s1.address, s2.address
    )
}

fn start(file: &tempfile::NamedTempFile) -> Balancer {
    Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off"])
}

fn operate(balancer: &Balancer, command: &str) {
    assert_eq!(ask(address(balancer), &format!("{command}\n")), "\n", "{command}");
}

/// The server `s1`, which answers `/slow` when the gate is open; `/tunnel` switches and echoes.
fn s1_behind(gate: &Gate) -> Origin {
    gate.origin_with(|wire, request| {
        if request.head.start.contains("/tunnel") {
            let head = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
            let _gone = wire.send(head);
            drop(wire.rest());
            return Closed(true);
        }
        Closed(wire.send(ok("s1")).is_err())
    })
}

/// The cookie that leads to s1.
fn cookie_for_s1(balancer: &Balancer) -> String {
    loop {
        let response = balancer.client().get("/");
        if response.text() == "s1" {
            return response.head.one("set-cookie").unwrap().split(';').next().unwrap().to_owned();
        }
    }
}

/// A client whose slow request is on its way to s1.
fn in_flight(balancer: &Balancer, origin: &Origin, cookie: &str) -> Client {
    let client = balancer.client();
    client.wire.send(format!("GET /slow HTTP/1.1\r\nHost: a\r\nCookie: {cookie}\r\n\r\n")).unwrap();
    let arrived = || origin.requests().iter().any(|request| request.head.start.contains("/slow"));
    wait_until("the request arrives", PATIENCE, arrived);
    client
}

fn tunnel(balancer: &Balancer, cookie: &str) -> Client {
    let mut client = balancer.client();
    let upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    client.wire.send(format!("GET /tunnel HTTP/1.1\r\nHost: a\r\n{upgrade}Cookie: {cookie}\r\n\r\n")).unwrap();
    assert_eq!(client.wire.head().unwrap().unwrap().status(), 101);
    client
}

#[test]
fn maintenance_lets_what_is_in_flight_end_and_keeps_no_connection() {
    let gate = Gate::default();
    let (s1, s2) = (s1_behind(&gate), Origin::named("s2"));
    let file = config_file(&config("", &s1, &s2));
    let balancer = start(&file);
    let cookie = cookie_for_s1(&balancer);
    let mut client = in_flight(&balancer, &s1, &cookie);
    assert_eq!(balancer.client().try_get("/", &format!("Cookie: {cookie}\r\n")).unwrap().text(), "s1");
    let idle = || cell(address(&balancer), "s1", "srv_icur").unwrap();
    wait_until("a connection is idle", PATIENCE, || idle() != "0");
    operate(&balancer, "set server nodes/s1 state maint");
    wait_until("idle connections are closed", PATIENCE, || idle() == "0");
    assert_eq!(cell(address(&balancer), "s1", "scur").unwrap(), "1");
    gate.open();
    assert_eq!(client.answer(false).unwrap().text(), "s1");
    wait_until("the request has ended", PATIENCE, || cell(address(&balancer), "s1", "scur").unwrap() == "0");
    assert_eq!(idle(), "0", "the connection that has become idle is not kept either");
}

#[test]
fn a_maintenance_deadline_cuts_off_what_is_left_and_nobody_else() {
    let (gate, other) = (Gate::default(), Gate::default());
    let (s1, s2) = (s1_behind(&gate), s1_behind(&other));
    let file = config_file(&config("maint-deadline = \"1s\"", &s1, &s2));
    let balancer = start(&file);
    let mut cookies = std::collections::BTreeSet::new();
    while cookies.len() < 2 {
        cookies
            .insert(balancer.client().get("/").head.one("set-cookie").unwrap().split(';').next().unwrap().to_owned());
    }
    let on = |origin: &Origin| {
        let its = cookies.iter().find(|cookie| {
            let before = origin.requests().len();
            balancer.client().try_get("/", &format!("Cookie: {cookie}\r\n")).unwrap();
            origin.requests().len() > before
        });
        its.unwrap().clone()
    };
    let (on_s1, on_s2) = (on(&s1), on(&s2));
    let mut cut = in_flight(&balancer, &s1, &on_s1);
    let mut tunnel = tunnel(&balancer, &on_s1);
    let mut spared = in_flight(&balancer, &s2, &on_s2);
    operate(&balancer, "set server nodes/s1 state maint");
    assert!(cut.wire.rest().is_empty() && tunnel.wire.rest().is_empty());
    balancer.lb.stderr.wait("the maint-deadline is over; cutting off 2 sessions");
    let is_cut = |line: &serde_json::Value| line["term"].as_str().unwrap().starts_with('K') && line["server"] == "s1";
    balancer.logged("the request that was cut off", |line| is_cut(line) && line["path"] == "/slow");
    balancer.logged("the tunnel that was cut off", |line| is_cut(line) && line["path"] == "/tunnel");
    wait_until("nothing is left on s1", PATIENCE, || cell(address(&balancer), "s1", "scur").unwrap() == "0");
    other.open();
    assert_eq!(spared.answer(false).unwrap().status(), 200);
    // After the maintenance s1 serves as before.
    gate.open();
    operate(&balancer, "set server nodes/s1 state ready");
    assert_eq!(balancer.client().try_get("/slow", &format!("Cookie: {on_s1}\r\n")).unwrap().status(), 200);
}

#[test]
fn a_drain_deadline_moves_the_users_who_are_left() {
    let (s1, s2) = (Origin::named("s1"), Origin::named("s2"));
    let file = config_file(&config("drain-deadline = \"1s\"", &s1, &s2));
    let balancer = start(&file);
    let cookie = cookie_for_s1(&balancer);
    operate(&balancer, "set server nodes/s1 state drain");
    let visit = || balancer.client().try_get("/", &format!("Cookie: {cookie}\r\n")).unwrap();
    wait_until("the user is moved", PATIENCE, || visit().text() == "s2");
    assert!(visit().head.one("set-cookie").is_some(), "with a new cookie");
    balancer.lb.stderr.wait("the drain-deadline is over");
    assert_eq!(cell(address(&balancer), "s1", "status").unwrap(), "DRAIN");
    operate(&balancer, "set server nodes/s1 state ready");
    assert_eq!(visit().text(), "s1");
}

#[test]
fn an_operators_word_survives_a_reload() {
    let (s1, s2) = (Origin::named("s1"), Origin::named("s2"));
    let file = config_file(&config("", &s1, &s2));
    let balancer = start(&file);
    operate(&balancer, "set server nodes/s1 state maint");
    operate(&balancer, "set server nodes/s2 weight 7");
    std::fs::write(file.path(), config("retries = 5", &s1, &s2)).unwrap();
    balancer.lb.signal(Signal::HUP);
    balancer.lb.stderr.wait("the configuration was reloaded");
    let api = address(&balancer);
    assert_eq!(cell(api, "s1", "status").unwrap(), "MAINT");
    assert_eq!(ask(api, "get weight nodes/s2\n"), "7 (initial 1)\n\n");
}

#[test]
fn weights_act_on_the_next_request() {
    let (s1, s2) = (Origin::named("s1"), Origin::named("s2"));
    let file = config_file(&config("", &s1, &s2));
    let balancer = start(&file);
    let turns = |count: usize| {
        let hosts: Vec<String> = (0..count).map(|_| balancer.client().get("/").text()).collect();
        hosts.iter().filter(|host| *host == "s1").count()
    };
    assert_eq!(turns(6), 3);
    operate(&balancer, "set weight nodes/s1 2");
    assert_eq!(turns(6), 4);
    operate(&balancer, "set server nodes/s1 weight 0");
    assert_eq!(turns(6), 0);
    operate(&balancer, "set server nodes/s1 weight 100%");
    assert_eq!(turns(6), 3);
}

#[test]
fn the_stats_page_puts_servers_into_another_state() {
    let (s1, s2) = (Origin::named("s1"), Origin::named("s2"));
    let file = config_file(&config("", &s1, &s2));
    let balancer = start(&file);
    let stats = balancer.stats.unwrap();
    let post = |headers: &str, form: &str| {
        let length = form.len();
        let request = format!("POST / HTTP/1.1\r\nHost: {stats}\r\n{headers}Content-Length: {length}\r\n\r\n{form}");
        Client::connect(stats).ask(request).unwrap()
    };
    let status = || cell(address(&balancer), "s1", "status").unwrap();
    let own = format!("Origin: http://{stats}\r\nSec-Fetch-Site: same-origin\r\n");
    let form = "b=%234&s=s1&action=maint";
    assert_eq!(post("Origin: http://evil.example\r\nSec-Fetch-Site: cross-site\r\n", form).status(), 403);
    assert_eq!(status(), "no check");
    let answer = post(&own, form);
    assert_eq!((answer.status(), answer.head.one("location")), (303, Some("./;st=DONE")));
    assert_eq!(status(), "MAINT");
    assert!(balancer.stats_page("/;st=DONE").text().contains("Done."));
    assert_eq!(balancer.client().get("/").text(), "s2");
}
