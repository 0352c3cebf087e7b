//! The third and fourth letter of the log, in every case (HAProxy's configuration manual, section 8.5).

use std::time::{Duration, SystemTime};

use lb::sticky::Date;

use crate::support::{Balancer, Client, Closed, Origin, PATIENCE, config_file, ok, wait_until};

const POOLS: [(&str, &str); 5] = [
    ("off", ""),
    ("plain", "cookie = { name = \"S\" }"),
    ("preserve", "cookie = { name = \"S\", preserve = true }"),
    ("dated", "cookie = { name = \"S\", max-idle = \"30m\", max-life = \"8h\" }"),
    ("prefix", "cookie = { name = \"S\", mode = \"prefix\" }"),
];

/// A server that sets the cookies which the request asks for.
fn origin(name: &'static str) -> Origin {
    Origin::answering(move |wire, request| {
        if request.head.start.starts_with("HEAD ") {
            return Closed(wire.send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").is_err());
        }
        let lines: String = request.head.all("x-set").iter().map(|set| format!("\r\nSet-Cookie: {set}")).collect();
        Closed(wire.send(ok(name).replacen(" OK", &format!(" OK{lines}"), 1)).is_err())
    })
}

/// Each pool of [`POOLS`] with a listener of its own.
fn balancer(origins: &[&Origin]) -> Balancer {
    let mut text = "[stats]\nbind = \"127.0.0.1:0\"\n".to_owned();
    for (pool, cookie) in POOLS {
        text += &format!("[[listener]]\nname = \"to-{pool}\"\nbind = \"127.0.0.1:0\"\npool = \"{pool}\"\n");
        text += &format!("[[pool]]\nname = \"{pool}\"\n{cookie}\n");
        text += "check = { rise = 1, fall = 2 }\n";
        for (index, origin) in origins.iter().enumerate() {
            text += &format!("[[pool.server]]\nname = \"s{}\"\naddress = \"{}\"\n", index + 1, origin.address);
        }
    }
    let file = config_file(&text);
    let balancer = Balancer::start(&["--config", file.path().to_str().unwrap(), "--gossip=off"]);
    wait_for_state(&balancer, "s3", "UP");
    wait_for_state(&balancer, "s2", "UP");
    wait_for_state(&balancer, "s1", "UP");
    balancer
}

/// Waits until the server has that state in all pools.
fn wait_for_state(balancer: &Balancer, server: &str, state: &str) {
    let is_so = |csv: &str| {
        let rows = csv.lines().filter(|line| line.split(',').nth(1) == Some(server));
        rows.filter(|line| line.split(',').nth(17) == Some(state)).count() == POOLS.len()
    };
    wait_until(&format!("{server} is {state}"), PATIENCE, || is_so(&balancer.stats_page("/;csv").text()));
}

fn ask(balancer: &Balancer, pool: usize, path: &str, cookie: &str, set: &str) -> (String, Vec<String>) {
    let mut headers = String::new();
    for (name, value) in [("Cookie", cookie), ("X-Set", set)] {
        if !value.is_empty() {
            headers += &format!("{name}: {value}\r\n");
        }
    }
    let response = Client::connect(balancer.traffic[pool]).try_get(path, &headers).unwrap();
    (response.text(), response.head.all("set-cookie").into_iter().map(str::to_owned).collect())
}

/// What a cookie says to name a server of the pool.
fn name_of(balancer: &Balancer, pool: usize, server: &str) -> String {
    let mut answers = (0..20).map(|_| ask(balancer, pool, "/learn", "", "S=orig"));
    let (_, set) = answers.find(|(by, _)| by == server).expect("each server has its turn");
    let name = set[0].strip_prefix("S=").unwrap().split(['|', '~', ';']).next().unwrap();
    name.to_owned()
}

#[test]
fn the_letters_tell_what_the_cookies_were_worth() {
    let (s1, s2, s3) = (origin("s1"), origin("s2"), origin("s3"));
    let balancer = balancer(&[&s1, &s2, &s3]);
    let (up, dead) = (name_of(&balancer, 1, "s1"), name_of(&balancer, 1, "s3"));
    let (up_dated, dead_dated) = (name_of(&balancer, 3, "s1"), name_of(&balancer, 3, "s3"));
    let (up_prefix, dead_prefix) = (name_of(&balancer, 4, "s1"), name_of(&balancer, 4, "s3"));
    let up_preserve = ask(&balancer, 2, "/learn", "", "").1[0].split(';').next().unwrap().to_owned();
    drop(s3);
    wait_for_state(&balancer, "s3", "DOWN");

    let date = |ago: i64| {
        let second = Duration::from_secs(ago.unsigned_abs());
        let moment = if ago < 0 { SystemTime::now() + second } else { SystemTime::now() - second };
        Date::at(moment).to_string()
    };
    // A date that is not over while this test runs, on whatever machine.
    let (soon, minute, idle, old) = (date(-3600), date(60), date(31 * 60), date(9 * 3600));
    let any_but_3 = ["s1", "s2"].as_slice();
    let (only_1, none) = (&any_but_3[..1], String::new());
    // The pool, the cookie of the request, what the server sets, the letters, who may answer, and what the client is told
    // to keep, by its beginning.
    let cases = [
        (0, format!("S={up}"), "", "----", any_but_3, vec![]),
        (0, none.clone(), "S=app", "----", any_but_3, vec!["S=app"]),
        (1, none.clone(), "", "--NI", any_but_3, vec!["S="]),
        (1, format!("S={up}"), "", "--VN", only_1, vec![]),
        (1, format!("S={up}|{soon}|{soon}"), "", "--VU", only_1, vec!["S="]),
        (1, "S=nobody".into(), "", "--II", any_but_3, vec!["S="]),
        (1, "S=".into(), "", "--II", any_but_3, vec!["S="]),
        (1, format!("S={dead}"), "", "--DI", any_but_3, vec!["S="]),
        (1, format!("S=nobody; S={dead}"), "", "--DI", any_but_3, vec!["S="]),
        (1, format!("S={dead}; S={up}"), "", "--VN", only_1, vec![]),
        (1, none.clone(), "S=app", "--NI", any_but_3, vec!["S="]),
        (1, format!("S={up}"), "S=app", "--VD", only_1, vec![]),
        (2, none.clone(), "", "--NI", any_but_3, vec!["S="]),
        (2, none.clone(), "S=; Max-Age=0", "--NP", any_but_3, vec!["S=; Max-Age=0"]),
        (2, up_preserve.clone(), "S=app", "--VP", any_but_3, vec!["S=app"]),
        (2, "S=nobody".into(), "S=app", "--IP", any_but_3, vec!["S=app"]),
        (3, none.clone(), "", "--NI", any_but_3, vec!["S="]),
        (3, format!("S={up_dated}|{soon}|{minute}"), "", "--VN", only_1, vec![]),
        (3, format!("S={up_dated}|{minute}|{minute}"), "", "--VU", only_1, vec!["S="]),
        (3, format!("S={up_dated}"), "", "--VU", only_1, vec!["S="]),
        (3, format!("S={up_dated}|{idle}|{idle}"), "", "--EI", any_but_3, vec!["S="]),
        (3, format!("S={up_dated}|{minute}|{old}"), "", "--OI", any_but_3, vec!["S="]),
        (3, format!("S={dead_dated}|{minute}|{minute}"), "", "--DI", any_but_3, vec!["S="]),
        (3, format!("S=nobody|{minute}|{minute}"), "", "--II", any_but_3, vec!["S="]),
        (4, none.clone(), "", "--NN", any_but_3, vec![]),
        (4, none, "S=app", "--NR", any_but_3, vec!["S="]),
        (4, format!("S={up_prefix}~app"), "", "--VN", only_1, vec![]),
        (4, format!("S={up_prefix}~app"), "S=app", "--VR", only_1, vec!["S="]),
        (4, "S=app".into(), "", "--IN", any_but_3, vec![]),
        (4, "S=gone~app".into(), "S=app", "--IR", any_but_3, vec!["S="]),
        (4, format!("S={dead_prefix}~app"), "", "--DN", any_but_3, vec![]),
        (4, format!("S={dead_prefix}~app"), "S=app", "--DR", any_but_3, vec!["S="]),
    ];
    for (index, (pool, cookie, set, letters, servers, told)) in cases.iter().enumerate() {
        let path = format!("/{index}");
        let what = format!("{}: Cookie: {cookie}, Set-Cookie: {set}", POOLS[*pool].0);
        let (by, cookies) = ask(&balancer, *pool, &path, cookie, set);
        assert_eq!(balancer.logged_path(&path)["term"], *letters, "{what}");
        assert!(servers.contains(&by.as_str()), "{what}: {by} answered");
        assert_eq!(cookies.len(), told.len(), "{what}: {cookies:?}");
        assert!(cookies.iter().zip(told).all(|(cookie, begin)| cookie.starts_with(begin)), "{what}: {cookies:?}");
    }
    // Whoever has to move keeps the date at which his life began.
    let first_of = |cookie: &str| {
        let (_, set) = ask(&balancer, 3, "/life", cookie, "");
        set[0].split(['|', ';']).nth(2).unwrap().to_owned()
    };
    assert_eq!(first_of(&format!("S={dead_dated}|{minute}|{minute}")), minute);
    assert_eq!(first_of(&format!("S={up_dated}|{minute}|{minute}")), minute);
    assert_ne!(first_of(&format!("S={up_dated}|{idle}|{idle}")), idle, "a new life");
}

#[test]
fn a_cookie_whose_server_refuses_connections_counts_as_one_of_a_server_that_is_down() {
    let (s1, s2) = (origin("s1"), origin("s2"));
    let balancer = Balancer::alone(&["--cookie=S", &s1.as_server("s1"), &s2.as_server("s2")]);
    let cookie = format!("S={}", name_of(&balancer, 0, "s1"));
    drop(s1);
    let (by, set) = ask(&balancer, 0, "/moved", &cookie, "");
    assert_eq!((by.as_str(), set.len()), ("s2", 1));
    let line = balancer.logged_path("/moved");
    assert_eq!((&line["term"], &line["redispatched"]), (&"--DI".into(), &true.into()));
}
