//! Conversations over a pipe: what goes in, and every byte that comes out.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex},
    task::JoinHandle,
};

use super::{session::converse, table::State};
use crate::{
    admin::Context,
    config::{self, Level, PoolPolicy},
    model::{CookieMode, CookiePolicy, PoolName, ServerName, Weight},
    registry::{Command, Registry, ResolvedServer},
};

const VERSION: &str = env!("CARGO_PKG_VERSION");

fn context() -> Arc<Context> {
    let now = Instant::now();
    let name = |name: &str| PoolName::parse(name).unwrap();
    let registry = Arc::new(Registry::new(1, &[(name(config::STATS_PROXY), None), (name("localnodes"), None)], now));
    let cookie = CookiePolicy::new("SERVERID", CookieMode::default()).ok();
    let policy = PoolPolicy { cookie, ..PoolPolicy::default() };
    registry.apply(now, Command::Pools(vec![config::Pool { name: name("nodes"), policy, servers: Vec::new() }]));
    let server = |name: &str, port, weight| ResolvedServer {
        name: ServerName::parse(name).unwrap(),
        address: Some(SocketAddr::from(([127, 0, 0, 1], port))),
        weight: Weight::new(weight).unwrap(),
        backup: false,
        maxconn: None,
        check_port: None,
    };
    let servers = vec![server("s1", 3001, 1), server("s2", 3002, 10)];
    registry.apply(now, Command::Static { pool: name("nodes"), servers });
    Arc::new(Context {
        registry,
        hostname: "ha".to_owned(),
        workers: 1,
        started: SystemTime::now(),
        refresh: Duration::ZERO,
        admin: false,
        figures: None,
        members: None,
        notes: Vec::new(),
        log_drops: Arc::default(),
    })
}

fn talk_to(context: &Arc<Context>, level: Level, timeout: Duration) -> (DuplexStream, JoinHandle<()>) {
    let (ours, theirs) = duplex(64 * 1024);
    let context = Arc::clone(context);
    let state = State { level, timeout, configured_timeout: timeout, interactive: false, quits: false };
    let served = tokio::spawn(async move { converse(theirs, &context, state).await });
    (ours, served)
}

/// Sends all at once and reads to the end.
async fn ask_as(context: &Arc<Context>, level: Level, text: &str) -> String {
    let mut pipe = talk_to(context, level, Duration::from_secs(15)).0;
    pipe.write_all(text.as_bytes()).await.unwrap();
    let mut answer = String::new();
    pipe.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn ask(context: &Arc<Context>, text: &str) -> String {
    ask_as(context, Level::Admin, text).await
}

/// A column of a server's row.
async fn cell(context: &Arc<Context>, server: &str, column: &str) -> String {
    let csv = ask(context, "show stat\n").await;
    let mut lines = csv.lines();
    let index = lines.next().unwrap().trim_start_matches("# ").split(',').position(|name| name == column).unwrap();
    let row = lines.find(|line| line.starts_with(&format!("nodes,{server},"))).unwrap();
    row.split(',').nth(index).unwrap().to_owned()
}

#[tokio::test]
async fn framing_is_haproxys() {
    let context = context();
    let version = format!("{VERSION}\n\n");
    let unknown = "Unknown command. Please enter one of the following commands only:\n";
    for (sent, expected) in [
        ("show version\n", version.clone()),
        ("show version\r\n", version.clone()),
        ("  show   version  \n", version.clone()),
        ("show version\nshow cli level\n", format!("{version}admin\n\n")),
        ("show version;show cli level\n", format!("{version}admin\n\n")),
        ("disable server nodes/s1; enable server nodes/s1\n", "\n\n".to_owned()),
        ("prompt\nshow version\nquit\n", format!("\n> {version}> ")),
        ("prompt; show version; show cli level\nquit\n", format!("\n> {version}> admin\n\n> ")),
        ("prompt\nprompt\n", "\n> \n".to_owned()),
        ("prompt\nset timeout cli 60\nquit\n", "\n> \n> ".to_owned()),
        ("quit\nshow version\n", String::new()),
        ("show version <<\nshow cli level\n\n", version.clone()),
    ] {
        assert_eq!(ask(&context, sent).await, expected, "{sent:?}");
    }
    for sent in ["\n", "   \n", "show version;\n"] {
        let answer = ask(&context, sent).await;
        assert!(
            answer.trim_start_matches(&version).starts_with(unknown) && answer.ends_with("\n\n"),
            "{sent:?}: {answer}"
        );
    }
}

#[tokio::test]
async fn what_has_no_end_of_line_is_not_carried_out() {
    let context = context();
    let mut pipe = talk_to(&context, Level::Admin, Duration::from_secs(15)).0;
    pipe.write_all(b"disable server nodes/s1").await.unwrap();
    pipe.shutdown().await.unwrap();
    let mut answer = String::new();
    pipe.read_to_string(&mut answer).await.unwrap();
    assert_eq!((answer.as_str(), cell(&context, "s1", "status").await.as_str()), ("", "DOWN"));
}

#[tokio::test]
async fn a_line_that_is_too_long_ends_the_session() {
    let answer = ask(&context(), &format!("{}\n", "x".repeat(17_000))).await;
    assert_eq!(answer, "The command line is longer than 16384 bytes.\n\n");
}

#[tokio::test]
async fn silence_ends_the_session_and_the_client_says_how_long() {
    let context = context();
    let mut pipe = talk_to(&context, Level::User, Duration::from_millis(50)).0;
    pipe.read_to_end(&mut Vec::new()).await.unwrap();
    let mut pipe = talk_to(&context, Level::User, Duration::from_secs(3600)).0;
    pipe.write_all(b"prompt\nset timeout cli 50ms\n").await.unwrap();
    pipe.read_to_end(&mut Vec::new()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_does_not_read_is_given_up_and_costs_one_reply() {
    let context = context();
    let (mut pipe, served) = talk_to(&context, Level::Admin, Duration::from_millis(50));
    // Far more than the pipe holds; were it all answered in advance, the last command would be carried out.
    let text = format!("prompt\n{}disable server nodes/s1\n", "show stat\n".repeat(200));
    pipe.write_all(text.as_bytes()).await.unwrap();
    served.await.unwrap();
    let snapshot = context.registry.snapshot();
    assert_eq!(snapshot.pools[0].servers[0].state().to_string(), "DOWN");
    let mut rest = Vec::new();
    pipe.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() <= 64 * 1024);
}

#[tokio::test]
async fn errors_are_haproxys() {
    let context = context();
    for (command, reply) in [
        ("set server", "Require 'backend/server'.\n\n"),
        ("set server nodes/", "Require 'backend/server'.\n\n"),
        ("set timeout foo 10", "'set timeout' only supports 'cli'.\n\n"),
        ("set server nodes", "Require 'backend/server'.\n\n"),
        ("set server nodes/zz state maint", "No such server.\n\n"),
        ("set server zz/s1 state maint", "No such backend.\n\n"),
        ("set server nodes/s1 state foo", "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n\n"),
        ("set server nodes/s1 state", "'set server <srv> state' expects 'ready', 'drain' and 'maint'.\n\n"),
        ("set server nodes/s1 health foo", "'set server <srv> health' expects 'up', 'stopping', or 'down'.\n\n"),
        ("set server nodes/s1 weight", "Require <weight> or <weight%>.\n\n"),
        ("set server nodes/s1 weight 300", "Absolute weight can only be between 0 and 256 inclusive.\n\n"),
        ("set server nodes/s1 weight -1", "Absolute weight can only be between 0 and 256 inclusive.\n\n"),
        ("set server nodes/s1 weight abc", "Empty weight string empty or preceded by garbage\n"),
        ("set server nodes/s1 weight 5x", "Trailing garbage in weight string\n"),
        ("set server nodes/s1 weight -5%", "Relative weight must be positive.\n\n"),
        ("set weight nodes/s1", "Require <weight> or <weight%>.\n\n"),
        ("set weight nodes/zz 3", "No such server.\n\n"),
        ("get weight nodes/zz", "No such server.\n\n"),
        ("get weight zz/s1", "No such backend.\n\n"),
        ("get weight", "Require 'backend/server'.\n\n"),
        ("disable server", "Require 'backend/server'.\n\n"),
        ("enable server nodes/zz", "No such server.\n\n"),
        ("show servers state zz", "Can't find backend.\n\n"),
        ("show stat zz 4 1", "No such proxy.\n\n"),
        ("set timeout cli", "Expects an integer value.\n\n"),
        ("set timeout cli foo", "Invalid timeout value.\n\n"),
    ] {
        assert_eq!(ask(&context, &format!("{command}\n")).await, reply, "{command}");
    }
}

#[tokio::test]
async fn weights_are_set_and_told() {
    let context = context();
    for (command, told) in [
        ("set server nodes/s2 weight 50", "50 (initial 10)\n\n"),
        ("set weight nodes/s2 50%", "5 (initial 10)\n\n"),
        ("set server nodes/s2 weight 200%", "20 (initial 10)\n\n"),
        ("set server nodes/s2 weight 99999%", "256 (initial 10)\n\n"),
        ("set server nodes/s2 weight 0", "0 (initial 10)\n\n"),
        ("set weight nodes/s2 100%", "10 (initial 10)\n\n"),
    ] {
        assert_eq!(ask(&context, &format!("{command}\n")).await, "\n", "{command}");
        assert_eq!(ask_as(&context, Level::User, "get weight nodes/s2\n").await, told, "{command}");
    }
}

#[tokio::test]
async fn states_and_health_are_set_and_shown() {
    let context = context();
    for (command, status, state) in [
        ("set server nodes/s1 health up", "UP", "2 0 1 1"),
        ("set server nodes/s1 health stopping", "NOLB", "3 0 1 1"),
        ("set server nodes/s1 health up", "UP", "2 0 1 1"),
        ("set server nodes/s1 state drain", "DRAIN", "2 8 1 1"),
        ("disable server nodes/s1", "MAINT", "0 1 1 1"),
        ("enable server nodes/s1", "UP 1/3", "2 0 1 1"),
        ("set server nodes/s1 health down", "DOWN", "0 0 1 1"),
        ("set server nodes/s1 state maint", "MAINT", "0 1 1 1"),
        // It was down when the maintenance began, and one check brings it back.
        ("set server nodes/s1 state ready", "DOWN", "0 0 1 1"),
        ("set server nodes/s1 health up", "UP", "2 0 1 1"),
    ] {
        assert_eq!(ask(&context, &format!("{command}\n")).await, "\n", "{command}");
        assert_eq!(cell(&context, "s1", "status").await, status, "{command}");
        let states = ask(&context, "show servers state nodes\n").await;
        assert!(states.contains(&format!("\n4 nodes 1 s1 127.0.0.1 {state} ")), "{command}: {states}");
    }
}

#[tokio::test]
async fn each_level_may_do_what_haproxys_may() {
    let context = context();
    for level in [Level::User, Level::Operator] {
        for command in
            ["set server nodes/s1 state ready", "set weight nodes/s1 1", "disable server nodes/s1", "enable server zz"]
        {
            assert_eq!(ask_as(&context, level, &format!("{command}\n")).await, "Permission denied\n\n", "{command}");
        }
        assert_eq!(ask_as(&context, level, "get weight nodes/s1\n").await, "1 (initial 1)\n\n");
        assert_eq!(ask_as(&context, level, "show cli level\n").await, format!("{}\n\n", level.word()));
    }
    assert_eq!(ask_as(&context, Level::User, "operator\n").await, "Permission denied\n\n");
    assert_eq!(
        ask(&context, "operator; show cli level; set weight nodes/s1 1\n").await,
        "\noperator\n\nPermission denied\n\n"
    );
}

#[tokio::test]
async fn addresses_cookies_and_the_algorithm_are_for_operators() {
    let context = context();
    let operator = ask_as(&context, Level::Operator, "show stat\n").await;
    assert!(operator.contains(",127.0.0.1:3001,") && operator.contains(",SERVERID,http,roundrobin,"), "{operator}");
    let user = ask_as(&context, Level::User, "show stat\n").await;
    assert!(!user.contains("127.0.0.1") && !user.contains("SERVERID"), "{user}");
}

#[tokio::test]
async fn rows_are_selected_by_proxy_kind_and_server() {
    let context = context();
    let rows = async |arguments: &str| {
        let csv = ask(&context, &format!("show stat {arguments}\n")).await;
        assert!(csv.starts_with("# pxname,svname,") && csv.ends_with(",\n\n"), "{csv}");
        let name = |line: &str| line.split(',').take(2).collect::<Vec<_>>().join("/");
        csv.lines().skip(1).filter(|line| !line.is_empty()).map(name).collect::<Vec<_>>().join(" ")
    };
    let all = "stats/FRONTEND stats/BACKEND localnodes/FRONTEND nodes/s1 nodes/s2 nodes/BACKEND";
    for (arguments, expected) in [
        ("", all),
        ("zz", all),
        ("-1 -1 -1", all),
        ("nodes 4 1", "nodes/s1"),
        ("4 -1 -1", "nodes/s1 nodes/s2 nodes/BACKEND"),
        ("nodes 2 -1", "nodes/BACKEND"),
        ("-1 4 -1", "nodes/s1 nodes/s2"),
        ("99 1 1", ""),
        ("up", "stats/FRONTEND stats/BACKEND localnodes/FRONTEND nodes/BACKEND"),
    ] {
        assert_eq!(rows(arguments).await, expected, "{arguments}");
    }
    ask(&context, "disable server nodes/s1\n").await;
    assert_eq!(rows("-1 4 -1 no-maint").await, "nodes/s2");
}

#[tokio::test]
async fn show_info_has_what_tools_ask_for() {
    let info = ask(&context(), "show info\n").await;
    assert!(
        info.starts_with(&format!("Name: lb\nVersion: {VERSION}\n")) && info.ends_with("\nTainted: 0\n\n"),
        "{info}"
    );
    // hatop ends when one of these is missing or empty.
    for key in [
        "Name",
        "Version",
        "Release_date",
        "Nbproc",
        "Process_num",
        "Pid",
        "Uptime",
        "Maxconn",
        "CurrConns",
        "Maxpipes",
        "PipesUsed",
        "Tasks",
        "Run_queue",
        "node",
        "Idle_pct",
    ] {
        assert!(
            info.lines()
                .any(|line| line.strip_prefix(key).is_some_and(|rest| rest.len() > 2 && rest.starts_with(": "))),
            "{key}"
        );
    }
    // Datadog splits each of these at its one colon.
    let head = info.lines().take_while(|line| !line.starts_with("Memmax_MB"));
    assert!(head.clone().count() == 9 && head.clone().all(|line| line.matches(':').count() == 1), "{info}");
    assert!(info.trim_end().lines().all(|line| line.contains(": ")), "no empty line before the last: {info}");
}

#[tokio::test]
async fn pools_and_help_are_listed() {
    let context = context();
    assert_eq!(ask(&context, "show backend\n").await, "# name\nstats\nnodes\n\n");
    let heading = "The following commands are valid at this level:\n";
    let always = "  help [<command>]                        : all commands, or those like one\n  \
                  prompt                                  : begin or end a dialogue with a prompt\n  \
                  quit                                    : close the connection\n\n";
    let help = ask(&context, "help\n").await;
    assert!(help.starts_with(heading) && help.ends_with(always) && help.contains("\n  show version     "), "{help}");
    let expected = "  show stat [<px> <type> <sid>] [up|no-maint]*: the table of the stats page as CSV\n";
    assert_eq!(ask(&context, "help show stat\n").await, format!("{heading}{expected}{always}"));
    let unknown = ask(&context, "SHOW INFO\n").await;
    let near = "Unknown command, but maybe one of the following ones is a better match:\n  show info   ";
    assert!(unknown.starts_with(near) && unknown.ends_with(always) && unknown.lines().count() == 6, "{unknown}");
    let partial = ask(&context, "set\n").await;
    assert!(
        partial.contains("  set server ") && partial.contains("  set weight ") && !partial.contains("  show "),
        "{partial}"
    );
    let nothing = ask(&context, "nonsense\n").await;
    assert!(nothing.starts_with("Unknown command. Please enter one of"), "{nothing}");
}

#[tokio::test]
async fn what_a_page_makes_a_browser_send_changes_nothing() {
    let context = context();
    let request = "POST / HTTP/1.1\r\nHost: 127.0.0.1:9999\r\n\r\nset server nodes/s1 state maint\nprompt\n";
    let answer = ask(&context, request).await;
    assert!(answer.starts_with("Unknown command") && answer.matches("Unknown command").count() == 1, "{answer}");
    assert_eq!(cell(&context, "s1", "status").await, "DOWN");
}

#[tokio::test]
async fn only_an_admin_may_be_silent_for_longer_than_the_configuration_allows() {
    let context = context();
    for (level, time, expected) in [
        (Level::Admin, "24h", "\n"),
        (Level::Operator, "24h", "Permission denied\n\n"),
        (Level::User, "16", "Permission denied\n\n"),
        (Level::User, "15", "\n"),
    ] {
        assert_eq!(ask_as(&context, level, &format!("set timeout cli {time}\n")).await, expected, "{level:?} {time}");
    }
}

#[tokio::test]
async fn a_line_that_never_ends_ends_its_session() {
    let (mut pipe, served) = talk_to(&context(), Level::User, Duration::from_millis(200));
    let dripping = async {
        while pipe.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(15), dripping).await.unwrap();
    served.await.unwrap();
}

#[tokio::test]
async fn a_server_has_a_number_too() {
    let context = context();
    assert_eq!(ask(&context, "get weight nodes/#2\n").await, "10 (initial 10)\n\n");
    assert_eq!(ask(&context, "get weight nodes/#3\n").await, "No such server.\n\n");
}
