//! Cookies of servers that join by themselves: every balancer knows them, and they end with the boot of their node.

use crate::support::{Balancer, Lb, Origin, PATIENCE, wait_until};

/// An agent beside an app that is a thread of this test.
fn beside(name: &str, seed: &str, app: &Origin) -> Lb {
    let port = format!("--port={}", app.address.port());
    Lb::start(["agent", seed, "--gossip=127.0.0.1:0", "--name", name, &port])
}

/// Who answers a user with that cookie, and the cookie that he gets.
fn visit(balancer: &Balancer, cookie: &str) -> (String, Option<String>) {
    let line = if cookie.is_empty() { String::new() } else { format!("Cookie: {cookie}\r\n") };
    let response = balancer.client().try_get("/", &line).unwrap();
    let set = response.head.one("set-cookie").map(|set| set.split(';').next().unwrap().to_owned());
    (response.text(), set)
}

#[test]
fn every_balancer_knows_the_cookies_of_the_others_and_a_new_boot_inherits_none() {
    let first = Balancer::clustered("127.0.0.1:0", &["--cookie=S"]);
    let second = Balancer::clustered("127.0.0.1:0", &["--cookie=S", &first.as_seed()]);
    let apps = ["s1", "s2"].map(Origin::named);
    let mut agent = beside("s1", &first.as_seed(), &apps[0]);
    let _other = beside("s2", &second.as_seed(), &apps[1]);
    for balancer in [&first, &second] {
        wait_until("both serve", PATIENCE, || visit(balancer, "").0 != visit(balancer, "").0);
    }
    let (_, cookie) = (0..2).map(|_| visit(&first, "")).find(|(by, _)| by == "s1").unwrap();
    let cookie = cookie.unwrap();
    for balancer in [&first, &second, &second, &first] {
        assert_eq!(visit(balancer, &cookie), ("s1".to_owned(), None));
    }

    // The container is killed, and another one comes up under its name and address.
    agent.kill();
    let _agent = beside("s1", &first.as_seed(), &apps[0]);
    for balancer in [&first, &second] {
        wait_until("the cookie leads nowhere", PATIENCE, || visit(balancer, &cookie).1.is_some());
        balancer.logged("an unknown cookie", |line| line["term"] == "--II");
        wait_until("both serve again", PATIENCE, || visit(balancer, "").0 != visit(balancer, "").0);
    }
    let new: Vec<_> = [&first, &second]
        .map(|balancer| {
            let mut visits = (0..2).map(|_| visit(balancer, &cookie));
            visits.find(|(by, _)| by == "s1").unwrap().1.unwrap()
        })
        .to_vec();
    assert!(new[0] == new[1] && new[0] != cookie, "{new:?} after {cookie}");
}
