//! Cookies of servers that join by themselves: every balancer knows them, and they end with the boot of their node.

use crate::support::{Balancer, Origin, PATIENCE, app::beside, wait_until};

#[test]
fn every_balancer_knows_the_cookies_of_the_others_and_a_new_boot_inherits_none() {
    let first = Balancer::clustered("127.0.0.1:0", &["--cookie=S"]);
    let second = Balancer::clustered("127.0.0.1:0", &["--cookie=S", &first.as_seed()]);
    let apps = ["s1", "s2"].map(Origin::named);
    let mut agent = beside("s1", &first.as_seed(), &apps[0], &[]);
    let _other = beside("s2", &second.as_seed(), &apps[1], &[]);
    for balancer in [&first, &second] {
        wait_until("both serve", PATIENCE, || balancer.visit("").0 != balancer.visit("").0);
    }
    let (_, cookie) = (0..2).map(|_| first.visit("")).find(|(by, _)| by == "s1").unwrap();
    let cookie = cookie.unwrap();
    for balancer in [&first, &second, &second, &first] {
        assert_eq!(balancer.visit(&cookie), ("s1".to_owned(), None));
    }

    // The container is killed, and another one comes up under its name and address.
    agent.kill();
    let _agent = beside("s1", &first.as_seed(), &apps[0], &[]);
    for balancer in [&first, &second] {
        wait_until("the cookie leads nowhere", PATIENCE, || balancer.visit(&cookie).1.is_some());
        balancer.logged("an unknown cookie", |line| line["term"] == "--II");
        wait_until("both serve again", PATIENCE, || balancer.visit("").0 != balancer.visit("").0);
    }
    let new: Vec<_> = [&first, &second]
        .map(|balancer| {
            let mut visits = (0..2).map(|_| balancer.visit(&cookie));
            visits.find(|(by, _)| by == "s1").unwrap().1.unwrap()
        })
        .to_vec();
    assert!(new[0] == new[1] && new[0] != cookie, "{new:?} after {cookie}");
}
