//! `--cookie`: a user with the cookie stays on one server, which never sees it.

mod cluster;
mod letters;
mod prefix;
mod users;

use std::collections::BTreeSet;

use crate::support::{Balancer, Closed, Origin, PATIENCE, Response, config_file, wait_until};

fn two(extra: &[&str]) -> ([Origin; 2], Balancer) {
    let origins = [Origin::named("s1"), Origin::named("s2")];
    let servers = [origins[0].as_server("s1"), origins[1].as_server("s2")];
    let balancer = Balancer::alone(&[&["--cookie=SERVERID", &servers[0], &servers[1]], extra].concat());
    (origins, balancer)
}

/// `SERVERID=value` of a response that sets it.
fn cookie(response: &Response) -> String {
    let set = response.head.one("set-cookie").expect("no cookie came");
    let (pair, attributes) = set.split_once(';').unwrap();
    assert!(pair.starts_with("SERVERID=") && attributes.trim() == "path=/", "{set}");
    pair.to_owned()
}

#[test]
fn a_user_with_the_cookie_stays_and_others_take_turns() {
    let (_origins, balancer) = two(&[]);
    let first = balancer.client().get("/");
    let cookie = cookie(&first);
    for _ in 0..6 {
        let response = balancer.client().try_get("/", &format!("Cookie: {cookie}\r\n")).unwrap();
        assert_eq!(response.text(), first.text());
        assert_eq!(response.head.one("set-cookie"), None, "who has it gets no other");
    }
    let others: Vec<String> = (0..4).map(|_| balancer.client().get("/").text()).collect();
    assert_eq!(others, ["s2", "s1", "s2", "s1"]);
    balancer.logged("a new cookie", |line| line["term"] == "--NI");
    balancer.logged("a valid cookie", |line| line["term"] == "--VN");
}

#[test]
fn the_cookie_tells_nothing_about_the_inside() {
    let (origins, balancer) = two(&[]);
    let value = cookie(&balancer.client().get("/"));
    for origin in &origins {
        assert!(!value.contains(&origin.address.port().to_string()), "{value}");
    }
    assert!(!value.contains("127"), "{value}");
}

#[test]
fn a_response_with_the_cookie_is_not_for_shared_caches() {
    let (_origins, balancer) = two(&[]);
    assert_eq!(balancer.client().get("/").head.one("cache-control"), Some("private"));
}

#[test]
fn the_server_gets_the_other_cookies_byte_for_byte() {
    let (origins, balancer) = two(&[]);
    let cookie = cookie(&balancer.client().get("/"));
    let sent = |line: &str| {
        balancer.client().try_get("/", &format!("Cookie: {line}\r\n")).unwrap();
        let head = origins[0].last().head;
        head.all("cookie").join("|")
    };
    assert_eq!(sent(&format!("a=\"1 2\"; {cookie}; b=x=y;c")), "a=\"1 2\"; b=x=y;c");
    assert_eq!(sent(&format!("{cookie}; a=1")), "a=1");
    assert_eq!(sent(&cookie), "", "a line that held nothing else goes");
    // A browser that speaks HTTP/2 sends each cookie on a line of its own.
    let crumbs = format!("a=1\r\nCookie: {cookie}\r\nCookie: b=\"x y\" ;c\r\nCookie: d=4; {cookie};e");
    assert_eq!(sent(&crumbs), "a=1|b=\"x y\" ;c|d=4;e");
}

#[test]
fn of_several_cookies_the_first_that_names_a_server_counts() {
    let (_origins, balancer) = two(&[]);
    let mut cookies: Vec<(String, String)> =
        (0..2).map(|_| balancer.client().get("/")).map(|response| (response.text(), cookie(&response))).collect();
    for _ in 0..2 {
        let [(first, one), (_, two)] = &cookies[..] else { panic!("{cookies:?}") };
        let lines = [
            format!("{one}; {two}"),
            format!("a=1; {one}\r\nCookie: {two}"),
            // One that was set for a domain which is not configured any more comes first for ever.
            format!("SERVERID=gone; {one}; {two}"),
            format!("SERVERID=\r\nCookie: SERVERID=0000000000000000; {one}"),
        ];
        for line in lines {
            let response = balancer.client().try_get("/", &format!("Cookie: {line}\r\n")).unwrap();
            assert_eq!((&response.text(), response.head.one("set-cookie")), (first, None), "{line}");
        }
        cookies.reverse();
    }
}

#[test]
fn the_cookie_has_the_attributes_of_the_file() {
    let origin = Origin::named("s1");
    let file = config_file(
        "[[pool]]\n[pool.cookie]\nname = \"SERVERID\"\nhttp-only = true\nsecure = true\nsame-site = \"strict\"\n\
         domain = [\"a.example\", \".b.example\"]\nmax-idle = \"30m\"\nmax-life = \"8h\"\n",
    );
    let balancer = Balancer::alone(&["--config", file.path().to_str().unwrap(), &origin.as_server("s1")]);
    let response = balancer.client().get("/");
    let set = response.head.one("set-cookie").unwrap();
    let (pair, attributes) = set.split_once("; ").unwrap();
    assert_eq!(attributes, "path=/; domain=a.example; domain=.b.example; HttpOnly; Secure; SameSite=Strict");
    let [name, last, first] = pair.split('|').collect::<Vec<_>>()[..] else { panic!("{set}") };
    assert!(name.starts_with("SERVERID=") && last == first && last.len() == 5, "{set}");
}

#[test]
fn a_cookie_that_names_nobody_is_replaced() {
    let (_origins, balancer) = two(&[]);
    for value in ["SERVERID=nobody", "SERVERID=", "SERVERID=127.0.0.1:80", "SERVERID=s1"] {
        let response = balancer.client().try_get("/", &format!("Cookie: {value}\r\n")).unwrap();
        assert_eq!(response.status(), 200);
        assert_ne!(cookie(&response), value);
    }
}

#[test]
fn a_server_cannot_set_a_cookie_of_that_name() {
    let origin = Origin::answering(|wire, _| {
        let head =
            "HTTP/1.1 200 OK\r\nSet-Cookie: SERVERID=mine\r\nSet-Cookie: theme=dark\r\nContent-Length: 0\r\n\r\n";
        Closed(wire.send(head).is_err())
    });
    let balancer = Balancer::alone(&["--cookie=SERVERID", &origin.as_server("s1")]);
    let response = balancer.client().get("/");
    let set = response.head.all("set-cookie");
    assert_eq!(set.len(), 2, "{set:?}");
    assert!(set.contains(&"theme=dark") && !set.contains(&"SERVERID=mine"), "{set:?}");
}

#[test]
fn a_user_whose_server_died_gets_another_and_its_cookie() {
    // Checks on, so that the death is noticed between requests; the user's own request must not fail in any case.
    let checks = ["--check=HEAD /", "--check-interval=100ms", "--check-fall=1", "--check-rise=1"];
    let ([s1, s2], balancer) = two(&checks);
    let names = || -> BTreeSet<String> { (0..2).map(|_| balancer.client().get("/").text()).collect() };
    wait_until("both are up", PATIENCE, || names() == BTreeSet::from(["s1".to_owned(), "s2".to_owned()]));
    let first = balancer.client().get("/");
    let (name, cookie_before) = (first.text(), cookie(&first));
    drop(if name == "s1" { (s1, None) } else { (s2, Some(s1)) }.0);
    let response = balancer.client().try_get("/", &format!("Cookie: {cookie_before}\r\n")).unwrap();
    assert_eq!(response.status(), 200);

    assert_ne!(response.text(), name);
    let new = cookie(&response);
    assert_ne!(new, cookie_before);
    let again = balancer.client().try_get("/", &format!("Cookie: {new}\r\n")).unwrap();
    assert_eq!((again.text(), again.head.one("set-cookie")), (response.text(), None));
}
