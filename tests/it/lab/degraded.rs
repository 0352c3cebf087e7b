//! The lab's task "Round robin in degraded mode", in its seven steps: s1 becomes slow, and then too slow.

use std::{collections::BTreeMap, net::SocketAddr};

use super::{Lab, browser::Browser};

/// The lab's load test: so many users at once, each of whom loads the page so many times.
const USERS: usize = 10;
const VIEWS: usize = 6;

/// How often each host answered all users. Nobody may see an error.
#[track_caller]
fn load_test(site: SocketAddr) -> BTreeMap<String, usize> {
    let users: Vec<_> = (0..USERS)
        .map(|_| {
            std::thread::spawn(move || {
                let mut browser = Browser::new(site);
                (0..VIEWS).map(|_| browser.refresh().host).collect::<Vec<_>>()
            })
        })
        .collect();
    let mut counts = BTreeMap::new();
    for host in users.into_iter().flat_map(|user| user.join().unwrap()) {
        *counts.entry(host).or_default() += 1;
    }
    counts
}

fn halves() -> BTreeMap<String, usize> {
    ["s1", "s2"].map(|host| (host.to_owned(), USERS * VIEWS / 2)).into()
}

#[test]
fn the_seven_steps_of_degraded_mode() {
    // 1. Round robin without stickiness; a check may take as long as the interval.
    let lab = Lab::start(&["--check-interval=1s"]);
    let site = lab.balancer.traffic[0];

    // 2. No delay: each server answers half of the load test.
    lab.delay_s1(0);
    assert_eq!(load_test(site), halves());

    // 3. s1 takes 250 ms: its checks pass, and round robin does not care. Each server still answers half.
    lab.delay_s1(250);
    assert_eq!(load_test(site), halves());
    assert!(lab.status("s1").starts_with("UP"), "{}", lab.status("s1"));

    // 4. s1 takes 2500 ms: its checks time out, and after three of them it is DOWN.
    lab.delay_s1(2500);
    lab.wait_for_status("s1", "DOWN");
    let line = lab.balancer.lb.stderr.wait("Server nodes/s1 is DOWN");
    assert!(line.contains("Layer7 timeout"), "{line}");

    // 5. The load test sees no error, and s2 alone.
    assert_eq!(load_test(site), [("s2".to_owned(), USERS * VIEWS)].into());

    // 6. The delay goes, and s1 comes back by itself.
    lab.delay_s1(0);
    lab.wait_for_status("s1", "UP");
    assert_eq!(load_test(site), halves());

    // 7. Weights are another way: s1 gets one of three requests.
    lab.command("set server nodes/s2 weight 2");
    assert_eq!(
        load_test(site),
        [("s1".to_owned(), USERS * VIEWS / 3), ("s2".to_owned(), USERS * VIEWS * 2 / 3)].into()
    );
}
