//! Behind other proxies: whose connection it is by the PROXY protocol, and whose request by forwarding headers.

use crate::support::{Balancer, Client, Closed, Origin, config_file, ok, wait_until};

const GET: &str = "GET /first HTTP/1.1\r\nHost: test.example\r\n\r\n";

/// A balancer whose listener has these further keys, and the server that sees what comes through.
fn behind(listener: &str) -> (Origin, Balancer) {
    let origin = Origin::answering(|wire, request| Closed(wire.send(ok(&request.body.len().to_string())).is_err()));
    let file = config_file(&format!(
        "[[listener]]\nbind = \"127.0.0.1:0\"\n{listener}\n[[pool]]\n\
         [pool.check]\nrequest = \"off\"\n[[pool.server]]\nname = \"s1\"\naddress = \"{}\"\n",
        origin.address
    ));
    let path = file.path().to_str().unwrap();
    let balancer = Balancer::start(&["-c", path, "--gossip=off", "--stats=127.0.0.1:0"]);
    (origin, balancer)
}

/// The header of version 2 with this command, family and rest.
fn binary(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [b"\r\n\r\n\0\r\nQUIT\n", &[command, family][..], &length, rest].concat()
}

/// Version 2 from 192.0.2.7:4711 to 192.0.2.1:443, with an extension of `extra` bytes.
fn relayed(extra: u16) -> Vec<u8> {
    let ports = [4711_u16.to_be_bytes(), 443_u16.to_be_bytes()].concat();
    let mut rest = [&[192, 0, 2, 7, 192, 0, 2, 1][..], &ports].concat();
    rest.push(0x04);
    rest.extend(extra.to_be_bytes());
    rest.resize(rest.len() + usize::from(extra), b'x');
    binary(0x21, 0x11, &rest)
}

/// Refused requests of the frontend, by the stats page.
fn request_errors(balancer: &Balancer) -> u64 {
    let csv = balancer.stats_page("/;csv").text();
    let column = csv.lines().next().unwrap().split(',').position(|name| name == "ereq").unwrap();
    let row = csv.lines().find(|line| line.starts_with("localnodes,FRONTEND,")).unwrap();
    row.split(',').nth(column).unwrap().parse().unwrap()
}

#[test]
fn the_client_of_a_proxy_line_is_the_client_everywhere() {
    let (origin, balancer) = behind("proxy-protocol = true");
    let mut client = balancer.client();
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
    assert_eq!(client.ask(format!("{header}{GET}")).unwrap().status(), 200);
    assert_eq!(client.get("/second").status(), 200, "the header is said once for a connection");
    for request in origin.requests() {
        assert_eq!(request.head.all("x-forwarded-for"), ["192.0.2.7"]);
        assert_eq!(request.head.one("x-forwarded-port"), Some("443"));
    }
    for path in ["/first", "/second"] {
        let line = balancer.logged_path(path);
        assert_eq!((&line["client_ip"], &line["client_port"]), (&"192.0.2.7".into(), &4711.into()));
    }
    let mut client = balancer.client();
    let header = "PROXY TCP6 2001:db8::7 2001:db8::1 4711 443\r\n";
    assert_eq!(client.ask(format!("{header}{GET}")).unwrap().status(), 200);
    assert_eq!(origin.last().head.all("x-forwarded-for"), ["2001:db8::7"]);
    assert_eq!(request_errors(&balancer), 0);
}

#[test]
fn a_binary_header_may_come_in_any_pieces_and_nothing_after_it_is_lost() {
    let (origin, balancer) = behind("proxy-protocol = true");
    let body = "0123456789";
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    for (extra, piece) in [(0, 1), (0, 7), (40, 13), (300, 999), (4081, 4112), (4081, 5000)] {
        let mut client = balancer.client();
        for piece in [relayed(extra), request.clone().into_bytes()].concat().chunks(piece) {
            client.wire.send(piece).unwrap();
        }
        let response = client.answer(false).unwrap();
        assert_eq!((response.status(), response.text().as_str()), (200, "10"), "{extra} {piece}");
        let seen = origin.last();
        assert_eq!((seen.head.all("x-forwarded-for"), seen.body.as_slice()), (vec!["192.0.2.7"], body.as_bytes()));
        assert_eq!(client.get("/").status(), 200);
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_is_the_client() {
    let (origin, balancer) = behind("proxy-protocol = true");
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), binary(0x20, 0x00, b""), binary(0x20, 0x11, &[9; 12])] {
        let mut client = balancer.client();
        assert_eq!(client.ask([&header, GET.as_bytes()].concat()).unwrap().status(), 200);
        let port = balancer.traffic[0].port().to_string();
        let head = origin.last().head;
        assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(head.one("x-forwarded-port"), Some(port.as_str()));
    }
}

#[test]
fn a_connection_without_a_header_is_closed_unanswered_and_the_operator_is_told() {
    let (origin, balancer) = behind("proxy-protocol = true");
    let spoiled = ["PROXY TCP4 192.0.2.7 192.0.2.1 4711 99999\r\n".as_bytes(), GET.as_bytes()].concat();
    let long = [&relayed(4082), GET.as_bytes()].concat();
    let cases = [GET.as_bytes().to_vec(), b"\x16\x03\x01".to_vec(), spoiled, long];
    for sent in &cases {
        let mut client = balancer.client();
        client.wire.send(sent).unwrap();
        assert_eq!(client.wire.rest(), b"", "{:?}", String::from_utf8_lossy(sent));
    }
    wait_until("all are counted", crate::support::PATIENCE, || request_errors(&balancer) == cases.len() as u64);
    balancer.logged("a connection without a header", |line| {
        line["status"] == -1
            && line["term"] == "PR--"
            && line["client_ip"] == "127.0.0.1"
            && line["method"] == "<BADREQ>"
    });
    balancer.lb.stderr.wait("localnodes: closed a connection from 127.0.0.1:");
    assert!(balancer.lb.stderr.text().contains("it does not begin with a PROXY protocol header"));
    assert!(origin.requests().is_empty());
}

#[test]
fn only_one_header_is_taken() {
    let (origin, balancer) = behind("proxy-protocol = true");
    let header = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n";
    let response = balancer.client().ask(format!("{header}{header}{GET}")).unwrap();
    assert_eq!(response.status(), 400);
    assert!(origin.requests().is_empty());
}

#[test]
fn a_header_must_be_complete_within_the_time_of_a_request_head() {
    let (_origin, balancer) = behind("proxy-protocol = true\n[timeouts]\nrequest-head = \"500ms\"");
    let mut silent = balancer.client();
    let mut slow = balancer.client();
    slow.wire.send("PROXY TCP4 192.0").unwrap();
    assert_eq!(slow.wire.rest(), b"");
    assert_eq!(silent.wire.rest(), b"");
    balancer.logged("a header that stalled", |line| line["status"] == -1 && line["term"] == "cR--");
    balancer.client().wire.close_write();
    let mut gone = balancer.client();
    gone.wire.send("PROXY TCP4 192.0").unwrap();
    gone.wire.close_write();
    assert_eq!(gone.wire.rest(), b"");
    balancer.logged("a header that broke off", |line| line["status"] == -1 && line["term"] == "CR--");
    assert_eq!(request_errors(&balancer), 2, "connections that said nothing at all are no errors");
}

#[test]
fn a_connection_that_has_not_said_whose_it_is_does_not_hold_up_the_end() {
    let (_origin, mut balancer) = behind("proxy-protocol = true");
    let mut waiting = balancer.client();
    waiting.wire.send("PROXY ").unwrap();
    let csv = || balancer.stats_page("/;csv").text();
    wait_until("the connection is counted", crate::support::PATIENCE, || {
        csv().lines().any(|line| line.starts_with("localnodes,FRONTEND,,,1,"))
    });
    balancer.lb.signal(rustix::process::Signal::TERM);
    assert_eq!(waiting.wire.rest(), b"");
    assert!(balancer.lb.wait().0.success());
    assert!(!balancer.lb.stderr.text().contains("the grace period is over"));
}

#[test]
fn only_a_trusted_proxy_may_send_a_header() {
    let (origin, balancer) = behind("proxy-protocol = true\ntrusted-proxies = [\"192.0.2.0/24\"]");
    let mut client = balancer.client();
    // It may be closed before all of it is sent.
    let _closed = client.wire.send(format!("PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n{GET}"));
    assert_eq!(client.wire.rest(), b"");
    balancer.lb.stderr.wait("which only trusted-proxies may send");
    assert!(origin.requests().is_empty());

    let (origin, balancer) = behind("proxy-protocol = true\ntrusted-proxies = [\"127.0.0.0/8\"]");
    let request = "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n\r\n";
    balancer.client().ask(format!("PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n{request}")).unwrap();
    let head = origin.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["6.6.6.6", "192.0.2.7"]);
    assert_eq!(head.one("x-forwarded-proto"), Some("http"), "the proxy is trusted, its client is not");
    assert_eq!(balancer.logged_path("/")["client_ip"], "192.0.2.7");
    balancer.client().ask(format!("PROXY TCP4 127.0.0.9 192.0.2.1 4711 443\r\n{request}")).unwrap();
    assert_eq!(origin.last().head.one("x-forwarded-proto"), Some("https"), "its client is a trusted proxy, too");
}

const FORWARDED: &str = "X-Forwarded-For: 6.6.6.6, 192.0.2.7\r\nX-Forwarded-For: 127.0.0.8\r\n\
                         X-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Forwarded-Host: shop.example\r\n\
                         Forwarded: for=6.6.6.6;proto=https\r\nX_Forwarded_For: 6.6.6.6\r\nX-Forwarded_Proto: https\r\n";

#[test]
fn what_a_trusted_proxy_says_of_its_client_is_kept() {
    let (origin, balancer) = behind("trusted-proxies = [\"10.0.0.0/8\", \"127.0.0.1\", \"127.0.0.8\"]");
    balancer.client().try_get("/a", FORWARDED).unwrap();
    let head = origin.last().head;
    assert_eq!(head.all("x-forwarded-for"), ["6.6.6.6, 192.0.2.7", "127.0.0.8", "127.0.0.1"]);
    assert_eq!((head.one("x-forwarded-proto"), head.one("x-forwarded-port")), (Some("https"), Some("443")));
    assert_eq!(head.one("x-forwarded-host"), Some("shop.example"));
    assert_eq!(head.one("forwarded"), Some("for=6.6.6.6;proto=https"));
    assert_eq!((head.one("x_forwarded_for"), head.one("x-forwarded_proto")), (None, None));
    let line = balancer.logged_path("/a");
    assert_eq!((&line["client_ip"], &line["client_port"]), (&"192.0.2.7".into(), &0.into()));

    balancer.client().try_get("/b", "").unwrap();
    let head = origin.last().head;
    let port = balancer.traffic[0].port().to_string();
    assert_eq!(head.all("x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!((head.one("x-forwarded-proto"), head.one("x-forwarded-port")), (Some("http"), Some(port.as_str())));
    assert_eq!(balancer.logged_path("/b")["client_ip"], "127.0.0.1");
    // A request that is refused is logged under its client, too.
    balancer.client().ask(format!("GET * HTTP/1.1\r\nHost: a\r\n{FORWARDED}\r\n")).unwrap();
    balancer.logged("a bad request of the client", |line| line["status"] == 400 && line["client_ip"] == "192.0.2.7");
}

#[test]
fn what_anybody_else_says_of_its_client_is_not_believed() {
    let (origin, balancer) = behind("trusted-proxies = [\"10.0.0.0/8\"]");
    let mut client = Client::connect(balancer.traffic[0]);
    client.try_get("/a", FORWARDED).unwrap();
    let head = origin.last().head;
    let port = balancer.traffic[0].port().to_string();
    assert_eq!(head.all("x-forwarded-for"), ["6.6.6.6, 192.0.2.7", "127.0.0.8", "127.0.0.1"]);
    assert_eq!((head.one("x-forwarded-proto"), head.one("x-forwarded-port")), (Some("http"), Some(port.as_str())));
    for gone in ["forwarded", "x-forwarded-host", "x_forwarded_for", "x-forwarded_proto"] {
        assert_eq!(head.one(gone), None);
    }
    assert_eq!(balancer.logged_path("/a")["client_ip"], "127.0.0.1");
}
