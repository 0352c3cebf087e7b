//! Checks, and what traffic tells of servers: when a server is up, stops, is ejected or down, and what users notice of it.

use std::{
    collections::BTreeMap,
    io::Read,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tempfile::NamedTempFile;

use crate::support::{Balancer, Client, Closed, Origin, PATIENCE, Refusing, config_file, ok, wait_until};

/// A server whose checks (HEAD) are answered with a status that the test changes, and its users (GET) with its name and
/// another such status.
struct Sick {
    origin: Origin,
    to_checks: Arc<AtomicU16>,
    to_users: Arc<AtomicU16>,
}

/// Instead of a status: no answer at all.
const SILENCE: u16 = 0;

impl Sick {
    fn named(name: &'static str) -> Self {
        let (to_checks, to_users) = (Arc::new(AtomicU16::new(200)), Arc::new(AtomicU16::new(200)));
        let (checks, users) = (Arc::clone(&to_checks), Arc::clone(&to_users));
        let origin = Origin::answering(move |wire, request| {
            let is_check = request.head.start.starts_with("HEAD ");
            let status = if is_check { &checks } else { &users }.load(SeqCst);
            let answer = match (status, is_check) {
                (SILENCE, _) => {
                    drop(wire.rest());
                    return Closed(true);
                }
                (status, true) => format!("HTTP/1.1 {status} Told\r\nContent-Length: 0\r\n\r\n"),
                (status, false) => ok(name).replacen("200 OK", &format!("{status} Told"), 1),
            };
            Closed(wire.send(answer).is_err())
        });
        Self { origin, to_checks, to_users }
    }
}

/// A balancer of such servers; `pool` is what else the pool says.
fn balancer(servers: &[SocketAddr], pool: &str, more: &str) -> (Balancer, NamedTempFile) {
    let listed: String = servers
        .iter()
        .enumerate()
        .map(|(index, address)| format!("[[pool.server]]\nname = \"s{}\"\naddress = \"{address}\"\n", index + 1))
        .collect();
    let file = config_file(&format!(
        "workers = 2\n[[listener]]\nbind = \"127.0.0.1:0\"\n{more}[[pool]]\nname = \"nodes\"\n{pool}\n{listed}"
    ));
    let balancer = Balancer::start(&["-c", file.path().to_str().unwrap(), "--gossip=off", "--stats=127.0.0.1:0"]);
    (balancer, file)
}

/// One column of a server's row in the CSV.
fn column(balancer: &Balancer, server: &str, column: &str) -> String {
    let csv = balancer.stats_page("/;csv").text();
    let mut lines = csv.lines();
    let names: Vec<_> = lines.next().unwrap().trim_start_matches("# ").split(',').collect();
    let row = lines.find(|line| line.starts_with(&format!("nodes,{server},"))).unwrap_or_else(|| panic!("{csv}"));
    let row: BTreeMap<_, _> = names.into_iter().zip(row.split(',')).collect();
    row[column].trim_matches('"').to_owned()
}

fn wait_for_status(balancer: &Balancer, server: &str, status: &str) {
    wait_until(&format!("{server} is {status}"), PATIENCE, || column(balancer, server, "status") == status);
}

/// Who answers so many new users.
fn answering(balancer: &Balancer, users: usize) -> BTreeMap<String, usize> {
    let mut count = BTreeMap::new();
    for _ in 0..users {
        *count.entry(balancer.client().get("/").text()).or_default() += 1;
    }
    count
}

#[test]
fn a_check_asks_another_port_as_it_is_told_and_looks_into_the_body() {
    let (serving, asked) = (Origin::named("s1"), Origin::named("all is well"));
    let check = format!(
        "[pool.check]\nrequest = \"GET /health\"\nhost = \"app.example\"\nheaders = {{ X-Probe = \"yes\" }}\n\
         expect-body = \"is well\"\ninterval = \"100ms\"\ntimeout = \"5s\"\nport = {}\n",
        asked.address.port()
    );
    let (balancer, _file) = balancer(&[serving.address], &check, "");
    wait_for_status(&balancer, "s1", "UP");
    assert_eq!(balancer.client().get("/").text(), "s1");
    let request = asked.last();
    assert!(request.head.start.starts_with("GET /health "), "{request:?}");
    assert_eq!((request.head.one("host"), request.head.one("x-probe")), (Some("app.example"), Some("yes")));
    assert_eq!(serving.requests().len(), 1, "no check came to the port of the traffic");
}

#[test]
fn a_body_without_what_is_expected_fails_and_says_so() {
    let origin = Origin::named("still starting");
    let check = "check = { request = \"GET /\", expect-body = \"is well\", interval = \"100ms\", timeout = \"5s\" }";
    let (balancer, _file) = balancer(&[origin.address], check, "");
    wait_until("it was checked", PATIENCE, || column(&balancer, "s1", "check_status") == "L7RSP");
    assert_eq!(column(&balancer, "s1", "check_code"), "200");
    assert_eq!(balancer.client().get("/").status(), 503);
}

#[test]
fn a_server_that_answers_404_keeps_its_users_and_gets_no_new_ones() {
    let (first, second) = (Sick::named("s1"), Sick::named("s2"));
    let pool = "cookie.name = \"SERVERID\"\ncheck = { interval = \"100ms\", timeout = \"5s\", disable-on-404 = true }";
    let (balancer, _file) = balancer(&[first.origin.address, second.origin.address], pool, "");
    wait_for_status(&balancer, "s1", "UP");
    wait_for_status(&balancer, "s2", "UP");
    let cookie =
        std::iter::repeat_with(|| balancer.client().get("/")).find(|response| response.text() == "s1").unwrap();
    let cookie = cookie.head.one("set-cookie").unwrap().split(';').next().unwrap().to_owned();

    first.to_checks.store(404, SeqCst);
    wait_for_status(&balancer, "s1", "NOLB");
    balancer.lb.stderr.wait("Server nodes/s1 is stopping, reason: Layer7 check conditionally passed, code: 404, info:");
    assert_eq!(column(&balancer, "s1", "check_status"), "L7OKC");
    assert_eq!(answering(&balancer, 6), BTreeMap::from([("s2".to_owned(), 6)]));
    let sticky = balancer.client().try_get("/", &format!("Cookie: {cookie}\r\n")).unwrap();
    assert_eq!((sticky.text().as_str(), sticky.head.one("set-cookie")), ("s1", None));

    first.to_checks.store(200, SeqCst);
    wait_for_status(&balancer, "s1", "UP");
}

#[test]
fn a_balancer_that_starts_anew_finds_a_server_stopping_and_leaves_it_its_users() {
    let (first, second) = (Sick::named("s1"), Sick::named("s2"));
    let pool = "cookie.name = \"SERVERID\"\ncheck = { interval = \"100ms\", timeout = \"5s\", disable-on-404 = true }";
    let start = || balancer(&[first.origin.address, second.origin.address], pool, "");
    let (earlier, _file) = start();
    wait_for_status(&earlier, "s1", "UP");
    let cookie = std::iter::repeat_with(|| earlier.client().get("/")).find(|response| response.text() == "s1").unwrap();
    let cookie = cookie.head.one("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    drop(earlier);

    first.to_checks.store(404, SeqCst);
    let (balancer, _file) = start();
    wait_for_status(&balancer, "s1", "NOLB");
    wait_for_status(&balancer, "s2", "UP");
    let sticky = balancer.client().try_get("/", &format!("Cookie: {cookie}\r\n")).unwrap();
    assert_eq!(sticky.text(), "s1");
    assert_eq!(answering(&balancer, 4), BTreeMap::from([("s2".to_owned(), 4)]));
}

#[test]
fn a_server_that_crashes_takes_nothing_with_it_but_what_it_had() {
    let (crashing, steady) = (Origin::named("s1"), Origin::named("s2"));
    // Far too seldom for checks to notice in time: the news must come from traffic.
    let (balancer, _file) = balancer(&[crashing.address, steady.address], "check = { interval = \"60s\" }", "");
    wait_for_status(&balancer, "s1", "UP");
    wait_for_status(&balancer, "s2", "UP");
    let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..6)
        .map(|_| {
            let (stop, served, address) = (Arc::clone(&stop), Arc::clone(&served), balancer.traffic[0]);
            std::thread::spawn(move || {
                let mut failed = Vec::new();
                while !stop.load(SeqCst) {
                    let response = Client::connect(address).get("/");
                    served.fetch_add(1, SeqCst);
                    if response.status() != 200 {
                        failed.push(response.status());
                    }
                }
                failed
            })
        })
        .collect();
    let more = |count: usize| {
        let before = served.load(SeqCst);
        wait_until("the load goes on", PATIENCE, || served.load(SeqCst) >= before + count);
    };
    more(200);
    drop(crashing);
    wait_for_status(&balancer, "s1", "DOWN");
    more(200);
    stop.store(true, SeqCst);
    let failed: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert!(failed.is_empty(), "{failed:?}");
    balancer.lb.stderr.wait("Server nodes/s1 is DOWN, reason: Layer4 connection problem");
    assert_ne!(column(&balancer, "s1", "hanafail"), "", "requests met it");
}

#[test]
fn many_refused_requests_are_few_checks_and_few_changes() {
    let (refusing, steady, asked) = (Refusing::new(), Origin::named("s2"), Sick::named("check"));
    let servers = format!(
        "check = {{ interval = \"60s\" }}\n[[pool.server]]\nname = \"s1\"\naddress = \"{}\"\ncheck-port = {}\n\
         [[pool.server]]\nname = \"s2\"\naddress = \"{}\"\n",
        refusing.address,
        asked.origin.address.port(),
        steady.address
    );
    let (balancer, _file) = balancer(&[], &servers, "");
    wait_for_status(&balancer, "s1", "UP");
    wait_for_status(&balancer, "s2", "UP");
    let begun = std::time::Instant::now();
    let mut client = balancer.client();
    for _ in 0..1000 {
        assert_eq!(client.get("/").text(), "s2");
    }
    wait_until("it was checked because of them", PATIENCE, || asked.origin.requests().len() > 1);
    let most = 4 * (begun.elapsed().as_millis() as usize / 1000 + 1) + 3;
    let (checks, met) = (asked.origin.requests().len(), column(&balancer, "s1", "hanafail"));
    assert!(checks <= most, "{checks} checks in {:?}", begun.elapsed());
    let met: usize = met.parse().unwrap();
    assert!((1..=most).contains(&met), "{met} failures counted in {:?}", begun.elapsed());
    assert_eq!(column(&balancer, "s1", "chkdown"), "0", "its checks pass");
}

#[test]
fn a_connection_that_is_reset_before_its_answer_brings_a_check_and_is_none() {
    let (listener, asked) = (TcpListener::bind("127.0.0.1:0").unwrap(), Sick::named("check"));
    let address = listener.local_addr().unwrap();
    let check = format!("check = {{ interval = \"60s\", fall = 1, port = {} }}", asked.origin.address.port());
    let (balancer, _file) = balancer(&[address], &check, "");
    wait_for_status(&balancer, "s1", "UP");
    let resetting = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
    });
    assert_eq!(balancer.client().get("/").status(), 502);
    resetting.join().unwrap();
    wait_until("it has counted", PATIENCE, || column(&balancer, "s1", "hanafail") == "1");
    wait_until("it was checked at once", PATIENCE, || asked.origin.requests().len() == 2);
    assert_eq!((column(&balancer, "s1", "status").as_str(), column(&balancer, "s1", "chkdown").as_str()), ("UP", "0"));
}

#[test]
fn an_ejected_server_that_passes_its_checks_again_does_not_go_down_by_it() {
    let servers = [Sick::named("s1"), Sick::named("s2")];
    let pool = "check = { interval = \"100ms\", timeout = \"5s\", fall = 1, rise = 1 }\n\
                [pool.outlier]\nconsecutive-5xx = 1\nbase-ejection-time = \"5m\"\n";
    let (balancer, _file) = balancer(&servers.each_ref().map(|server| server.origin.address), pool, "");
    for server in ["s1", "s2"] {
        wait_for_status(&balancer, server, "UP");
    }
    servers[0].to_users.store(500, SeqCst);
    wait_until("s1 is asked", PATIENCE, || balancer.client().get("/").status() == 500);
    wait_for_status(&balancer, "s1", "DOWN (ejected)");
    servers[0].to_checks.store(503, SeqCst);
    balancer.lb.stderr.wait("Server nodes/s1 is DOWN, reason: Layer7 wrong status, code: 503");
    servers[0].to_checks.store(200, SeqCst);
    balancer.lb.stderr.wait("Server nodes/s1 passes its checks again, and its ejection goes on.");
    assert_eq!(column(&balancer, "s1", "status"), "DOWN (ejected)");
}

#[test]
fn a_hung_server_is_down_after_as_many_checks_as_it_takes() {
    let (hanging, steady) = (Sick::named("s1"), Sick::named("s2"));
    let check = "check = { interval = \"200ms\", timeout = \"1s\", fall = 2 }";
    let more = "[timeouts]\nserver = \"300ms\"\n";
    let (balancer, _file) = balancer(&[hanging.origin.address, steady.origin.address], check, more);
    wait_for_status(&balancer, "s1", "UP");
    wait_for_status(&balancer, "s2", "UP");
    hanging.to_users.store(SILENCE, SeqCst);
    let statuses = [(); 2].map(|()| balancer.client().get("/").status());
    assert_eq!(statuses.iter().filter(|status| **status == 504).count(), 1, "{statuses:?}");
    hanging.to_checks.store(SILENCE, SeqCst);
    balancer
        .lb
        .stderr
        .wait("Server nodes/s1 is DOWN, reason: Layer7 timeout, info: \"no response within 1s\", check duration: 1");
    assert_eq!(column(&balancer, "s1", "chkfail"), "2");
    assert_eq!(answering(&balancer, 4), BTreeMap::from([("s2".to_owned(), 4)]));
}

#[test]
fn what_a_hung_server_does_not_answer_goes_elsewhere_if_the_operator_wants_it() {
    let (hanging, steady) = (Sick::named("s1"), Sick::named("s2"));
    hanging.to_users.store(SILENCE, SeqCst);
    let pool = "check.request = \"off\"\nretry-on = [\"response-timeout\"]\n";
    let more = "[timeouts]\nserver = \"300ms\"\n";
    let (balancer, _file) = balancer(&[hanging.origin.address, steady.origin.address], pool, more);
    for number in 0..4 {
        assert_eq!(balancer.client().get(&format!("/{number}")).text(), "s2");
    }
    let line = balancer.logged("a request that was sent elsewhere", |line| line["redispatched"] == true);
    assert_eq!((&line["server"], &line["status"], &line["retries"]), (&"s2".into(), &200.into(), &1.into()));
    let post = |path| {
        let request = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi");
        balancer.client().ask(request).unwrap().status()
    };
    let mut statuses = [post("/a"), post("/b")];
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 504], "a POST may have been acted on");
}

#[test]
fn what_a_hung_server_did_not_answer_never_comes_to_it_again() {
    let (hanging, refusing) = (Sick::named("s1"), Refusing::new());
    hanging.to_users.store(SILENCE, SeqCst);
    let pool = "check.request = \"off\"\nretry-on = [\"response-timeout\"]\n";
    let more = "[timeouts]\nserver = \"300ms\"\n";
    let (balancer, _file) = balancer(&[hanging.origin.address, refusing.address], pool, more);
    // Whichever of the two is asked first.
    for path in ["/a", "/b"] {
        assert!(balancer.client().get(path).status() >= 503);
    }
    let mut asked: Vec<_> = hanging.origin.requests().into_iter().map(|request| request.head.start).collect();
    asked.sort_unstable();
    assert_eq!(asked, ["GET /a HTTP/1.1", "GET /b HTTP/1.1"]);
}

#[test]
fn a_server_that_serves_badly_is_ejected_and_comes_back() {
    let servers = [Sick::named("s1"), Sick::named("s2"), Sick::named("s3")];
    let pool = "cookie.name = \"SERVERID\"\ncheck = { interval = \"100ms\", timeout = \"5s\" }\n\
                [pool.outlier]\nconsecutive-5xx = 3\nbase-ejection-time = \"6s\"\n";
    let addresses: Vec<_> = servers.iter().map(|server| server.origin.address).collect();
    let (balancer, _file) = balancer(&addresses, pool, "");
    for server in ["s1", "s2", "s3"] {
        wait_for_status(&balancer, server, "UP");
    }
    let first = std::iter::repeat_with(|| balancer.client().get("/")).find(|response| response.text() == "s1").unwrap();
    let cookie = first.head.one("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let ask_with_cookie = || balancer.client().try_get("/", &format!("Cookie: {cookie}\r\n")).unwrap();
    servers[0].to_users.store(500, SeqCst);
    for _ in 0..3 {
        assert_eq!(ask_with_cookie().status(), 500);
    }
    wait_for_status(&balancer, "s1", "DOWN (ejected)");
    let reason = "ejected for 6s: 3 failed requests in a row (5xx or no answer)";
    let line = balancer.lb.stderr.wait("Server nodes/s1 is DOWN");
    assert!(line.contains(&format!("({reason}). 2 active and 0 backup servers left.")), "{line}");
    assert_eq!(column(&balancer, "s1", "last_chk"), reason);
    assert!(balancer.stats_page("/").text().contains(reason));
    let moved = ask_with_cookie();
    assert_ne!(moved.text(), "s1");
    assert!(moved.head.one("set-cookie").is_some(), "the user is balanced anew");
    servers[0].to_users.store(200, SeqCst);
    balancer.lb.stderr.wait("Server nodes/s1 is UP (its ejection is over). 3 active");
    wait_for_status(&balancer, "s1", "UP");
    assert_eq!(answering(&balancer, 30).len(), 3);
}

#[test]
fn when_too_few_are_up_all_are_used_if_the_operator_wants_it() {
    for threshold in [0, 50] {
        let servers = [Sick::named("s1"), Sick::named("s2")];
        let pool = format!(
            "check = {{ interval = \"100ms\", timeout = \"5s\", fall = 1, rise = 1 }}\npanic-threshold = {threshold}\n"
        );
        let addresses = servers.each_ref().map(|server| server.origin.address);
        let (balancer, _file) = balancer(&addresses, &pool, "");
        for server in ["s1", "s2"] {
            wait_for_status(&balancer, server, "UP");
        }
        for server in &servers {
            server.to_checks.store(503, SeqCst);
        }
        wait_for_status(&balancer, "s1", "DOWN");
        wait_for_status(&balancer, "s2", "DOWN");
        if threshold == 0 {
            balancer.lb.stderr.wait("backend nodes has no server available!");
            assert_eq!(balancer.client().get("/").status(), 503);
            continue;
        }
        balancer.lb.stderr.wait("backend nodes panics: 0 of 2 servers are up, less than 50 %.");
        assert_eq!(answering(&balancer, 6), BTreeMap::from([("s1".to_owned(), 3), ("s2".to_owned(), 3)]));
        assert!(balancer.stats_page("/").text().contains("panic: servers that are down are used, too"));
        assert_eq!(["status", "act"].map(|name| column(&balancer, "BACKEND", name)), ["UP", "0"]);
        servers[0].to_checks.store(200, SeqCst);
        balancer.lb.stderr.wait("backend nodes panics no more");
        wait_for_status(&balancer, "s1", "UP");
        assert_eq!(answering(&balancer, 4), BTreeMap::from([("s1".to_owned(), 4)]));
    }
}
