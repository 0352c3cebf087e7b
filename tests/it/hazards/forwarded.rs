//! What a client says about where it comes from is not what the server is told.

use super::{Bench, get};

#[test]
fn the_server_learns_who_asked_and_how() {
    let bench = Bench::new();
    bench.ask(get("X-Forwarded-For: 1.1.1.1, 2.2.2.2\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Proto: https\r\n"));
    let head = bench.origin.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["1.1.1.1, 2.2.2.2", "127.0.0.1"]);
    assert_eq!(head.one("x-forwarded-port"), Some(bench.balancer.traffic[0].port().to_string().as_str()));
    assert_eq!(head.one("x-forwarded-proto"), Some("http"));
    assert_eq!(head.one("host"), Some("a.example"));
}

#[test]
fn the_true_address_is_always_the_last_line() {
    let bench = Bench::new();
    for (lines, before) in [
        ("", &[][..]),
        ("X-Forwarded-For:\r\n", &[""]),
        ("x-FORWARDED-for: 6.6.6.6\r\n", &["6.6.6.6"]),
        ("X-Forwarded-For: 6.6.6.6\r\nX: 1\r\nX-Forwarded-For: 7.7.7.7\r\n", &["6.6.6.6", "7.7.7.7"]),
        ("X-Forwarded-For: 6.6.6.6\r\nConnection: X-Forwarded-For\r\n", &[]),
    ] {
        bench.ask(get(lines));
        let head = bench.origin.last().head;
        assert_eq!(head.all("x-forwarded-for"), [before, &["127.0.0.1"]].concat(), "{lines:?}");
    }
}

#[test]
fn port_and_protocol_cannot_be_forged() {
    let bench = Bench::new();
    let port = bench.balancer.traffic[0].port().to_string();
    for lines in [
        "X-Forwarded-Proto: https\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Port: 444\r\n",
        "X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nConnection: x-forwarded-proto, X-Forwarded-Port\r\n",
        "X-FORWARDED-PROTO:https\r\nx-forwarded-port:\t443\r\n",
    ] {
        bench.ask(get(lines));
        let head = bench.origin.last().head;
        assert_eq!((head.one("x-forwarded-proto"), head.one("x-forwarded-port")), (Some("http"), Some(port.as_str())));
    }
}

#[test]
fn names_that_a_server_could_take_for_ours_are_dropped() {
    let bench = Bench::new();
    let lines = "X_Forwarded_For: 6.6.6.6\r\nX-Forwarded_For: 6.6.6.6\r\nx_forwarded-for: 6.6.6.6\r\n\
                 X_FORWARDED_PROTO: https\r\nX_Forwarded-Port: 443\r\nX_Other: stays\r\n";
    bench.ask(get(lines));
    let head = bench.origin.last().head;
    let shadows = head.headers.iter().filter(|(name, _)| name.contains('_')).collect::<Vec<_>>();
    assert_eq!(shadows, [&("x_other".to_owned(), "stays".to_owned())]);
    assert!(!bench.heard().contains("6.6.6.6"));
}

#[test]
fn other_standard_words_about_a_clients_origin_are_dropped() {
    let bench = Bench::new();
    bench.ask(get("Forwarded: for=6.6.6.6\r\nX-Forwarded-Host: b\r\nX-Real-IP: 6.6.6.6\r\n"));
    let head = bench.origin.last().head;
    assert!(head.all("forwarded").is_empty() && head.all("x-forwarded-host").is_empty());
    // It is no standard's, and some set it behind us for themselves.
    assert_eq!((head.all("x-real-ip"), head.all("host")), (vec!["6.6.6.6"], vec!["a.example"]));
}
