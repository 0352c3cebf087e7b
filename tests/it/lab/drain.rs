//! The lab's task "Drain mode", in its seven steps.

use std::collections::BTreeSet;

use super::{
    Lab,
    browser::{Browser, Page},
};

/// The hosts that so many new users meet.
fn new_users(browser: &mut Browser, count: usize) -> BTreeSet<String> {
    let each = (0..count).map(|_| {
        browser.clear_cookies();
        browser.refresh().host
    });
    each.collect()
}

fn page(host: &str, views: u64) -> Page {
    Page { host: host.to_owned(), views }
}

#[test]
fn the_seven_steps_of_drain_mode() {
    let lab = Lab::start(&["--cookie=SERVERID", "--check-interval=200ms"]);
    let site = lab.balancer.traffic[0];

    // 1. A browser opens the site and is kept on one server, here s1: its session counts up.
    let mut first = Browser::new(site);
    while first.refresh().host != "s1" {
        first.clear_cookies();
    }
    assert_eq!(first.refresh(), page("s1", 2));
    let kept_by = first.cookie("SERVERID").unwrap().to_owned();

    // 2. s1 is drained over the runtime API; the stats page says so.
    lab.command("set server nodes/s1 state drain");
    assert_eq!(lab.status("s1"), "DRAIN");

    // 3. The browser refreshes: it stays on s1, with its session and its cookie.
    for views in 3..8 {
        assert_eq!(first.refresh(), page("s1", views));
    }
    assert_eq!(first.cookie("SERVERID"), Some(kept_by.as_str()));

    // 4. Another browser opens the site: it gets s2, and stays there.
    let mut second = Browser::new(site);
    for views in 1..5 {
        assert_eq!(second.refresh(), page("s2", views));
    }

    // 5. It clears its cookies and comes again, some times: never s1.
    assert_eq!(new_users(&mut second, 6), BTreeSet::from(["s2".to_owned()]));

    // 6. s1 is ready again: the first browser notices nothing, and new users get both servers.
    lab.command("set server nodes/s1 state ready");
    assert_eq!(lab.status("s1"), "UP");
    assert_eq!(first.refresh(), page("s1", 8));
    assert_eq!(new_users(&mut second, 6), BTreeSet::from(["s1".to_owned(), "s2".to_owned()]));

    // 7. s1 goes into maintenance: everybody moves, with a new session and a new cookie, and new users get s2.
    lab.command("set server nodes/s1 state maint");
    assert_eq!(lab.status("s1"), "MAINT");
    assert_eq!(first.refresh(), page("s2", 1));
    assert_ne!(first.cookie("SERVERID"), Some(kept_by.as_str()));
    assert_eq!(first.refresh(), page("s2", 2));
    assert_eq!(new_users(&mut second, 6), BTreeSet::from(["s2".to_owned()]));

    // And back: who has moved stays on s2, new users get both.
    lab.command("set server nodes/s1 state ready");
    lab.wait_for_status("s1", "UP");
    assert_eq!(first.refresh(), page("s2", 3));
    assert_eq!(new_users(&mut second, 6), BTreeSet::from(["s1".to_owned(), "s2".to_owned()]));
}
