//! The stats page, its CSV, the metrics and the health of the process, with the numbers of what really happened.

use std::collections::BTreeMap;

use crate::support::{Balancer, Origin, PATIENCE, wait_until};

const REQUESTS: usize = 10;

fn after_traffic() -> ([Origin; 2], Balancer) {
    let origins = [Origin::named("s1"), Origin::named("s2")];
    let servers = [origins[0].as_server("s1"), origins[1].as_server("s2")];
    let balancer = Balancer::alone(&["--stats=127.0.0.1:0", &servers[0], &servers[1]]);
    let mut client = balancer.client();
    for _ in 0..REQUESTS {
        assert_eq!(client.get("/").status(), 200);
    }
    client.get("/");
    drop(client);
    (origins, balancer)
}

/// Rows of the CSV by proxy and name, each by column.
fn csv(balancer: &Balancer) -> BTreeMap<(String, String), BTreeMap<String, String>> {
    let response = balancer.stats_page("/;csv");
    assert_eq!(response.head.one("content-type"), Some("text/plain"));
    let text = response.text();
    let mut lines = text.lines();
    let columns: Vec<&str> = lines.next().unwrap().strip_prefix("# ").unwrap().split(',').collect();
    let row = |line: &str| {
        let cells = columns.iter().zip(line.split(','));
        let cells: BTreeMap<String, String> = cells.map(|(name, cell)| ((*name).to_owned(), cell.to_owned())).collect();
        ((cells["pxname"].clone(), cells["svname"].clone()), cells)
    };
    lines.map(row).collect()
}

fn cell(rows: &BTreeMap<(String, String), BTreeMap<String, String>>, row: (&str, &str), column: &str) -> String {
    rows[&(row.0.to_owned(), row.1.to_owned())][column].clone()
}

#[test]
fn the_csv_counts_what_happened() {
    let (_origins, balancer) = after_traffic();
    wait_until("the connection's end is counted", PATIENCE, || {
        cell(&csv(&balancer), ("localnodes", "FRONTEND"), "scur") == "0"
    });
    let rows = csv(&balancer);
    let total = (REQUESTS + 1).to_string();
    for (row, column, expected) in [
        (("localnodes", "FRONTEND"), "req_tot", total.as_str()),
        (("localnodes", "FRONTEND"), "stot", "1"),
        (("localnodes", "FRONTEND"), "hrsp_2xx", &total),
        (("localnodes", "FRONTEND"), "status", "OPEN"),
        (("nodes", "s1"), "stot", "6"),
        (("nodes", "s2"), "stot", "5"),
        (("nodes", "s1"), "lbtot", "6"),
        (("nodes", "s1"), "hrsp_2xx", "6"),
        (("nodes", "s1"), "scur", "0"),
        (("nodes", "s1"), "status", "no check"),
        (("nodes", "BACKEND"), "stot", &total),
        (("nodes", "BACKEND"), "status", "UP"),
    ] {
        assert_eq!(cell(&rows, row, column), expected, "{row:?} {column}");
    }
    let bytes: u64 = cell(&rows, ("nodes", "BACKEND"), "bout").parse().unwrap();
    assert!(bytes > 0);
}

#[test]
fn the_metrics_say_the_same() {
    let (_origins, balancer) = after_traffic();
    let response = balancer.stats_page("/metrics");
    assert!(response.head.one("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = response.text();
    for line in [
        r#"haproxy_frontend_http_requests_total{proxy="localnodes"} 11"#,
        r#"haproxy_server_http_responses_total{proxy="nodes",server="s1",code="2xx"} 6"#,
    ] {
        let sorted = |line: &str| {
            let mut parts: Vec<String> = line
                .split(['{', '}', ','])
                .map(|part| part.trim().to_owned())
                .filter(|part| !part.is_empty())
                .collect();
            parts.sort();
            parts
        };
        assert!(text.lines().any(|its| sorted(its) == sorted(line)), "{line} is missing in\n{text}");
    }
}

#[test]
fn the_page_shows_every_server_and_no_version() {
    let (_origins, balancer) = after_traffic();
    let response = balancer.stats_page("/");
    let text = response.text();
    assert_eq!(response.status(), 200);
    assert!(response.head.one("content-type").unwrap().starts_with("text/html"));
    for part in ["localnodes", "nodes", "s1", "s2"] {
        assert!(text.contains(part), "{part}");
    }
    assert!(!text.contains(env!("CARGO_PKG_VERSION")), "the version is nobody's business");
}

#[test]
fn health_is_that_of_the_process_or_of_a_pool() {
    let (_origins, balancer) = after_traffic();
    let status = |path: &str| balancer.stats_page(path).status();
    assert_eq!(status("/healthz"), 200);
    assert_eq!(status("/healthz?pool=nodes"), 200);
    assert_eq!(status("/healthz?pool=other"), 404);
    let empty = Balancer::alone(&["--stats=127.0.0.1:0"]);
    assert_eq!(empty.stats_page("/healthz").status(), 200);
    assert_eq!(empty.stats_page("/healthz?pool=nodes").status(), 503);
}
