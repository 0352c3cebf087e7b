//! `--cookie-mode prefix`: the app's own cookie leads its users back.

use crate::support::{Balancer, Closed, Origin, ok};

/// An app that begins a session for whoever has none, as most frameworks do.
fn app(name: &'static str) -> Origin {
    Origin::answering(move |wire, request| {
        let has_session = request.head.all("cookie").iter().any(|line| line.contains(&format!("SID={name}")));
        let set = if has_session { "" } else { "\r\nSet-Cookie: SID=NAME-1~2; Path=/app; HttpOnly" };
        Closed(wire.send(ok(name).replacen(" OK", &format!(" OK{}", set.replace("NAME", name)), 1)).is_err())
    })
}

fn two() -> ([Origin; 2], Balancer) {
    let apps = [app("s1"), app("s2")];
    let servers = [apps[0].as_server("s1"), apps[1].as_server("s2")];
    let balancer = Balancer::alone(&["--cookie=SID", "--cookie-mode=prefix", &servers[0], &servers[1]]);
    (apps, balancer)
}

/// `SID=value` of a new user, with the server that began the session.
fn session(balancer: &Balancer) -> (String, String) {
    let response = balancer.client().get("/");
    let (pair, attributes) = response.head.one("set-cookie").unwrap().split_once("; ").unwrap();
    assert_eq!(attributes, "Path=/app; HttpOnly", "the app's own");
    (pair.to_owned(), response.text())
}

#[test]
fn the_apps_cookie_leads_its_user_back_and_the_app_gets_what_it_set() {
    let (apps, balancer) = two();
    for _ in 0..2 {
        let (cookie, name) = session(&balancer);
        let (server, value) = cookie.strip_prefix("SID=").unwrap().split_once('~').unwrap();
        assert_eq!((server.len(), value), (16, format!("{name}-1~2").as_str()));
        assert!(!server.contains("s1") && !server.contains("s2"), "opaque: {server}");
        let app = &apps[usize::from(name == "s2")];
        for _ in 0..3 {
            let line = format!("Cookie: a=x~y ;{cookie};b=\"1 2\"\r\nCookie: c=3\r\n");
            let response = balancer.client().try_get("/", &line).unwrap();
            assert_eq!((response.text(), response.head.one("set-cookie")), (name.clone(), None), "nothing is created");
            assert_eq!(app.last().head.all("cookie"), [&format!("a=x~y ;SID={name}-1~2;b=\"1 2\""), "c=3"]);
        }
    }
}

#[test]
fn the_prefix_goes_whatever_it_names_and_what_has_none_is_untouched() {
    let (apps, balancer) = two();
    for (cookie, forwarded) in [
        ("SID=unknown~s1-1~2", "SID=s1-1~2"),
        ("SID=~x", "SID=x"),
        ("SID=0123456789abcdef~", "SID="),
        ("SID=plain; other=a~b", "SID=plain; other=a~b"),
    ] {
        let ask = || balancer.client().try_get("/", &format!("Cookie: {cookie}\r\n")).unwrap().text();
        assert_ne!(ask(), ask(), "{cookie} leads nowhere: the two have their turns");
        for app in &apps {
            assert_eq!(app.last().head.all("cookie"), [forwarded], "{cookie}");
        }
    }
}

#[test]
fn the_prefix_of_a_server_that_died_goes_and_the_next_one_gets_the_user() {
    let ([s1, s2], balancer) = two();
    let (cookie, name) = session(&balancer);
    assert_eq!(name, "s1", "its turn is the first");
    drop(s1);
    let response = balancer.client().try_get("/", &format!("Cookie: {cookie}\r\n")).unwrap();
    assert_eq!((response.status(), response.text().as_str()), (200, "s2"));
    assert_eq!(s2.last().head.all("cookie"), ["SID=s1-1~2"]);
    let new = response.head.one("set-cookie").unwrap();
    assert!(new.ends_with("~s2-1~2; Path=/app; HttpOnly") && !new.contains(&cookie[..20]), "{new}");
}
