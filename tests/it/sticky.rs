//! `--cookie`: a user with the cookie stays on one server, which never sees it.

use std::collections::BTreeSet;

use crate::support::{Balancer, Closed, Origin, PATIENCE, Response, wait_until};

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
