//! CSV and metrics.

use std::{collections::BTreeMap, time::Duration};

use super::{UP, report, server};
use crate::{
    admin::{
        csv, metrics,
        report::{Report, Server},
        view::Filter,
    },
    model::{Health, ServerState},
};

/// The first line of HAProxy 2.6.12.
const HEADER: &str = "# pxname,svname,qcur,qmax,scur,smax,slim,stot,bin,bout,dreq,dresp,ereq,econ,eresp,wretr,wredis,\
status,weight,act,bck,chkfail,chkdown,lastchg,downtime,qlimit,pid,iid,sid,throttle,lbtot,tracked,type,rate,rate_lim,\
rate_max,check_status,check_code,check_duration,hrsp_1xx,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,hrsp_other,hanafail,req_rate,\
req_rate_max,req_tot,cli_abrt,srv_abrt,comp_in,comp_out,comp_byp,comp_rsp,lastsess,last_chk,last_agt,qtime,ctime,rtime,\
ttime,agent_status,agent_code,agent_duration,check_desc,agent_desc,check_rise,check_fall,check_health,agent_rise,\
agent_fall,agent_health,addr,cookie,mode,algo,conn_rate,conn_rate_max,conn_tot,intercepted,dcon,dses,wrew,connect,reuse,\
cache_lookups,cache_hits,srv_icur,src_ilim,qtime_max,ctime_max,rtime_max,ttime_max,eint,idle_conn_cur,safe_conn_cur,\
used_conn_cur,need_conn_est,uweight,agg_server_status,agg_server_check_status,agg_check_status,-,ssl_sess,ssl_reused_sess,\
ssl_failed_handshake,h2_headers_rcvd,h2_data_rcvd,h2_settings_rcvd,h2_rst_stream_rcvd,h2_goaway_rcvd,\
h2_detected_conn_protocol_errors,h2_detected_strm_protocol_errors,h2_rst_stream_resp,h2_goaway_resp,h2_open_connections,\
h2_backend_open_streams,h2_total_connections,h2_backend_total_streams,h1_open_connections,h1_open_streams,\
h1_total_connections,h1_total_streams,h1_bytes_in,h1_bytes_out,h1_spliced_bytes_in,h1_spliced_bytes_out,";

/// The cells that HAProxy 2.6.12 fills in each kind of row of the same set-up, as one letter a column: a dot is empty.
const FILLED: [(&str, &str); 3] = [
    (
        "FRONTEND",
        "xx..xxxxxxxxx....x........xxx...xxxx...xxxxxx.xxx..xxxx....................x.xxxxxxx..xx......x........xxxxxxxxxxxxxxxxxxxxxxxxx.",
    ),
    (
        "s1",
        "xxxxxx.xxx.x.xxxxxxxxxxxx.xxx.x.xx.xxxxxxxxxx...xxx....x..xxxx...x.xxx.....x.......xxx..x.xxxxxxxxxx...xxxx......................",
    ),
    (
        "BACKEND",
        "xxxxxxxxxxxx.xxxxxxxx.xxx.xxx.x.xx.x...xxxxxx...xxxxxxxx..xxxx.............x.......xxxxx..xxxxx....xxxxxxxxxxxxxxxxxxxxxxxxxxxxx.",
    ),
];

fn lines(report: &Report) -> Vec<String> {
    String::from_utf8(csv::render(report).unwrap()).unwrap().lines().map(str::to_owned).collect()
}

/// The rows by their names, each with its cells by the header's.
fn cells(report: &Report) -> BTreeMap<(String, String), BTreeMap<String, String>> {
    let text = csv::render(report).unwrap();
    let mut reader = ::csv::Reader::from_reader(text.as_slice());
    let header = reader.headers().unwrap().clone();
    let row = |record: ::csv::StringRecord| {
        let cells: BTreeMap<_, _> = header.iter().zip(record.iter()).map(|(k, v)| (k.into(), v.into())).collect();
        ((record[0].to_owned(), record[1].to_owned()), cells)
    };
    reader.records().map(|record| row(record.unwrap())).collect()
}

fn cell(server: Server, column: &str) -> String {
    let name = server.name.clone();
    cells(&report(vec![server]))[&("nodes".to_owned(), name)][column].clone()
}

#[test]
fn the_header_is_haproxys() {
    assert_eq!(lines(&report(Vec::new()))[0], HEADER);
}

#[test]
fn every_row_has_as_many_fields_as_the_header() {
    let mut talkative = server("s2", ServerState::Running(Health::Down { passed: 1, rise: 2 }));
    talkative.check.as_mut().unwrap().last.as_mut().unwrap().detail = "a \"b\", c\nd".to_owned();
    let mut unchecked = server("s3", ServerState::Running(Health::Unchecked));
    unchecked.check = None;
    let servers = vec![server("s1", UP), talkative, unchecked, server("s4", ServerState::Maint)];
    let text = csv::render(&report(servers)).unwrap();
    let mut reader = ::csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(text.as_slice());
    let lengths: Vec<_> = reader.records().map(|record| record.unwrap().len()).collect();
    assert_eq!(lengths, [129; 9]);
}

#[test]
fn rows_come_in_haproxys_order() {
    let names: Vec<_> = lines(&report(vec![server("s1", UP), server("s2", UP)]))
        .iter()
        .skip(1)
        .map(|line| line.split(',').take(2).collect::<Vec<_>>().join("/"))
        .collect();
    let expected = ["stats/FRONTEND", "stats/BACKEND", "localnodes/FRONTEND", "nodes/s1", "nodes/s2", "nodes/BACKEND"];
    assert_eq!(names, expected);
}

#[test]
fn the_cells_that_are_filled_are_haproxys() {
    let mut report = report(vec![server("s1", UP)]);
    for proxy in &mut report.proxies {
        if let Some(frontend) = &mut proxy.frontend {
            frontend.traffic.sessions_limit = Some(1);
        }
        if let Some(backend) = &mut proxy.backend {
            backend.traffic.sessions_limit = Some(1);
            backend.upstream.downs = Some(0);
            backend.upstream.downtime = Some(Duration::ZERO);
        }
        for server in &mut proxy.servers {
            server.upstream.downtime = Some(Duration::ZERO);
        }
    }
    let lines = lines(&report);
    for (name, expected) in FILLED {
        let line = lines.iter().rev().find(|line| line.split(',').nth(1) == Some(name)).unwrap();
        let filled: String = line.split(',').map(|cell| if cell.is_empty() { '.' } else { 'x' }).collect();
        assert_eq!(filled, expected, "{name}");
    }
}

#[test]
fn the_check_level_counts_as_haproxy_does() {
    let level = |health| cell(server("s", ServerState::Running(health)), "check_health");
    assert_eq!(level(Health::Up { failed: 0, fall: 3 }), "4");
    assert_eq!(level(Health::Up { failed: 2, fall: 3 }), "2");
    assert_eq!(level(Health::Down { passed: 1, rise: 2 }), "1");
    assert_eq!(level(Health::Initial), "0");
}

#[test]
fn maintenance_empties_the_last_check_but_keeps_its_count() {
    let maint = || server("s", ServerState::Maint);
    for column in ["check_status", "check_code", "check_duration", "check_desc", "check_health", "check_rise"] {
        assert_eq!(cell(maint(), column), "", "{column}");
    }
    assert_eq!(cell(maint(), "chkfail"), "0");
}

#[test]
fn a_server_that_never_served_was_last_used_never() {
    assert_eq!(cell(server("s", UP), "lastsess"), "-1");
}

#[test]
fn hidden_servers_are_still_counted() {
    let servers = vec![
        server("up", UP),
        server("down", ServerState::Running(Health::Down { passed: 0, rise: 2 })),
        server("rising", ServerState::Running(Health::Down { passed: 1, rise: 2 })),
        server("maint", ServerState::Maint),
    ];
    let shown = |filter| {
        let mut report = report(servers.clone());
        report.narrow(&filter);
        let names: Vec<_> = report.proxies[2].servers.iter().map(|server| server.name.clone()).collect();
        (names.join(" "), report.proxies[2].backend.as_ref().unwrap().status())
    };
    let nothing = Filter::default();
    assert_eq!(shown(nothing.clone()), ("up down rising maint".into(), "UP".into()));
    assert_eq!(shown(Filter { hide_down: true, ..nothing.clone() }), ("up rising".into(), "UP (1/4)".into()));
    assert_eq!(shown(Filter { hide_maint: true, ..nothing }), ("up down rising".into(), "UP (1/4)".into()));
}

#[test]
fn a_scope_keeps_the_proxies_whose_name_contains_it() {
    let mut report = report(Vec::new());
    report.narrow(&Filter { scope: Some("NODES".into()), ..Filter::default() });
    let names: Vec<_> = report.proxies.iter().map(|proxy| proxy.name.as_str()).collect();
    assert_eq!(names, ["localnodes", "nodes"]);
}

fn exposition(servers: Vec<Server>) -> String {
    String::from_utf8(metrics::render(&report(servers), Vec::new()).unwrap()).unwrap()
}

#[test]
fn a_state_is_one_series_for_each_word() {
    let text = exposition(vec![server("s1", ServerState::Drain(Health::Up { failed: 0, fall: 3 }))]);
    for (state, value) in [("DOWN", 0), ("UP", 0), ("MAINT", 0), ("DRAIN", 1), ("NOLB", 0)] {
        let line = format!("haproxy_server_status{{proxy=\"nodes\",server=\"s1\",state=\"{state}\"}} {value}\n");
        assert!(text.contains(&line), "{line}");
    }
    assert!(text.contains("haproxy_backend_agg_server_status{proxy=\"nodes\",state=\"DRAIN\"} 1\n"));
    assert!(text.contains("haproxy_server_check_status{proxy=\"nodes\",server=\"s1\",state=\"L7OK\"} 1\n"));
}

#[test]
fn times_are_seconds_and_missing_limits_are_not_numbers() {
    let text = exposition(vec![server("s1", UP)]);
    assert!(text.contains("haproxy_server_check_duration_seconds{proxy=\"nodes\",server=\"s1\"} 0.003\n"));
    assert!(text.contains("haproxy_server_limit_sessions{proxy=\"nodes\",server=\"s1\"} NaN\n"));
    assert!(text.contains("haproxy_process_uptime_seconds 39\n"));
    assert!(text.contains("haproxy_process_start_time_seconds 1700000000\n"));
    assert!(text.contains("haproxy_process_build_info{version=\"1.2.3\"} 1\n"));
}

#[test]
fn families_are_told_once_and_never_empty() {
    let text = exposition(Vec::new());
    let mut names: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(!text.contains("haproxy_server_"));
}
