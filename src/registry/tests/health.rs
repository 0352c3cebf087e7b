//! What checks and traffic say of servers, as the pools show it.

use super::*;
use crate::model::{AdminState, Candidacy, Ejection, Health, Outlying};

/// Servers of the configuration that are up; those whose name begins with `b` are backups.
fn up(policy: PoolPolicy, names: &[&str]) -> (Registry, Instant) {
    let (registry, now) = registry(policy);
    let servers = names.iter().zip(3001..).map(|(name, port)| fixed(name, port, name.starts_with('b'))).collect();
    registry.apply(now, Command::Static { pool: pool_name(), servers });
    for server in &pool(&registry).servers {
        registry.apply(now, checked(server, true));
    }
    (registry, now)
}

fn named(registry: &Registry, name: &str) -> Arc<Server> {
    pool(registry).servers.iter().find(|server| server.name.as_str() == name).unwrap().clone()
}

fn troubled(server: &Server) -> Command {
    Command::Troubled(vec![(server.id, Trouble::Refused)])
}

fn eject(server: &Server, now: Instant, ejects: bool) -> Command {
    let lasts = Duration::from_secs(30);
    let ejection = Ejection { reason: Outlying::Consecutive5xx(5), until: now + lasts, lasts };
    Command::Eject(vec![(server.id, ejects.then_some(ejection))])
}

fn fail(registry: &Registry, now: Instant, name: &str) {
    for _ in 0..3 {
        registry.apply(now, checked(&named(registry, name), false));
    }
}

fn state(registry: &Registry, name: &str) -> String {
    named(registry, name).state().to_string()
}

#[test]
fn what_requests_meet_counts_as_failed_checks_until_the_server_is_down() {
    let (registry, now) = up(PoolPolicy::default(), &["s1"]);
    let server = named(&registry, "s1");
    let mut states = Vec::new();
    for _ in 0..4 {
        registry.apply(now, troubled(&server));
        states.push(state(&registry, "s1"));
    }
    assert_eq!(states, ["UP 2/3", "UP 1/3", "DOWN", "DOWN"]);
    let record = server.live.record();
    assert_eq!((record.met, record.failures, record.downs), (3, 0, 1));
    registry.apply(now, checked(&server, true));
    registry.apply(now, troubled(&server));
    assert_eq!(state(&registry, "s1"), "DOWN 1/2", "who is down gets no requests that could tell anything");
}

#[test]
fn what_requests_meet_says_nothing_where_no_check_could_bring_the_server_back() {
    let (registry, now) = up(unchecked(), &["s1"]);
    let before = registry.snapshot().version;
    registry.apply(now, troubled(&named(&registry, "s1")));
    assert_eq!((state(&registry, "s1").as_str(), registry.snapshot().version), ("no check", before));
}

#[test]
fn one_failed_check_is_enough_for_a_server_whose_node_is_lost_and_no_loss_is_without_one() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let lost = Command::MemberDown(NodeId(1));
    let check = |passes| registry.apply(now, checked(&named(&registry, "s1"), passes));
    let mut states = Vec::new();
    let mut note = || states.push(state(&registry, "s1"));
    check(true);
    registry.apply(now, lost.clone());
    note();
    check(true);
    note();
    check(false);
    note();
    registry.apply(now, Command::MemberUp(NodeId(1)));
    check(true);
    check(true);
    check(false);
    note();
    registry.apply(now, lost);
    note();
    assert_eq!(states, ["UP", "UP", "DOWN", "UP 2/3", "DOWN"]);
}

#[test]
fn an_ejected_server_gets_nobody_and_its_checks_go_on() {
    let (registry, now) = up(PoolPolicy::default(), &["s1", "s2"]);
    let server = named(&registry, "s1");
    registry.apply(now, eject(&server, now, true));
    let ejected = named(&registry, "s1");
    assert_eq!((ejected.candidacy(), ejected.is_checked()), (Candidacy::Nobody, true));
    assert_eq!(
        (state(&registry, "s1").as_str(), turns(&pool(&registry), 2)),
        ("DOWN (ejected)", vec!["s2".into(), "s2".into()])
    );
    fail(&registry, now, "s1");
    assert_eq!(state(&registry, "s1"), "DOWN", "what checks find is the graver news");
    registry.apply(now, eject(&server, now, false));
    assert_eq!(state(&registry, "s1"), "DOWN");
    (0..2).for_each(|_| registry.apply(now, checked(&server, true)));
    assert_eq!(state(&registry, "s1"), "UP");
    assert_eq!(server.live.record().downs, 1, "it was one outage");
}

#[test]
fn what_a_request_can_cause_takes_no_server_down() {
    let (registry, now) = up(PoolPolicy::default(), &["s1"]);
    let server = named(&registry, "s1");
    let (before, last) = (registry.snapshot().version, server.live.record().last);
    for _ in 0..10 {
        registry.apply(now, Command::Troubled(vec![(server.id, Trouble::Reset)]));
    }
    assert_eq!((state(&registry, "s1").as_str(), registry.snapshot().version), ("UP", before));
    assert_eq!(
        (server.live.record().met, server.live.record().last),
        (10, last),
        "it is counted, and no check found it"
    );
}

#[test]
fn ejections_that_come_together_are_one_change() {
    let (registry, now) = up(PoolPolicy::default(), &["s1", "s2", "s3"]);
    let before = registry.snapshot().version;
    let lasts = Duration::from_secs(30);
    let ejection = Some(Ejection { reason: Outlying::Consecutive5xx(5), until: now + lasts, lasts });
    let of = |name| (named(&registry, name).id, ejection);
    registry.apply(now, Command::Eject(vec![of("s1"), of("s3")]));
    assert_eq!((registry.snapshot().version, turns(&pool(&registry), 2)), (before + 1, vec!["s2".into(), "s2".into()]));
}

#[test]
fn an_ejected_server_is_back_with_the_change_that_took_the_last_other_one() {
    let (registry, now) = up(PoolPolicy::default(), &["s1", "s2", "s3"]);
    let mut changes = Vec::new();
    registry.apply(now, Command::Operate(vec![(named(&registry, "s3").id, drain())]));
    registry.apply(now, eject(&named(&registry, "s1"), now, true));
    for _ in 0..3 {
        registry.apply(now, checked(&named(&registry, "s2"), false));
        changes.push((state(&registry, "s1"), state(&registry, "s2"), pool(&registry).is_up()));
    }
    let ejected = "DOWN (ejected)".to_owned();
    let before = [(ejected.clone(), "UP 2/3".to_owned(), true), (ejected, "UP 1/3".to_owned(), true)];
    assert_eq!(changes[..2], before);
    assert_eq!(changes[2], ("UP".to_owned(), "DOWN".to_owned(), true));
    assert_eq!(pool(&registry).live.record().downs, 0, "the pool never was empty");
}

fn drain() -> Operation {
    Operation::State(AdminState::Drain)
}

#[test]
fn a_reload_that_turns_checks_on_turns_nobody_away() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, Command::Static { pool: pool_name(), servers: vec![fixed("s1", 3001, false)] });
    let set = |policy| {
        registry.apply(now, Command::Pools(vec![config::Pool { name: pool_name(), policy, servers: Vec::new() }]))
    };
    set(PoolPolicy::default());
    assert_eq!((state(&registry, "s1").as_str(), pool(&registry).is_up()), ("UP", true));
    registry.apply(
        now,
        Command::Static { pool: pool_name(), servers: vec![fixed("s1", 3001, false), fixed("s2", 3002, false)] },
    );
    assert_eq!(named(&registry, "s2").health, Health::Initial, "a new one has to pass first");
    fail(&registry, now, "s1");
    assert_eq!(state(&registry, "s1"), "DOWN");
    set(unchecked());
    assert_eq!(state(&registry, "s1"), "no check");
}

#[test]
fn a_new_server_that_stops_keeps_the_users_of_an_earlier_process() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, Command::Static { pool: pool_name(), servers: vec![fixed("s1", 3001, false)] });
    let server = named(&registry, "s1");
    registry.apply(now, stopping(&server));
    assert_eq!((state(&registry, "s1").as_str(), named(&registry, "s1").candidacy()), ("NOLB", Candidacy::StickyOnly));
}

fn stopping(server: &Server) -> Command {
    let report = CheckReport {
        status: CheckStatus::L7Conditional,
        code: Some(404),
        duration: Duration::ZERO,
        detail: String::new(),
    };
    Command::Checked { server: server.id, report }
}

#[test]
fn a_server_that_stops_keeps_its_users_and_is_no_choice_for_others() {
    let (registry, now) = up(PoolPolicy::default(), &["s1", "s2"]);
    let server = named(&registry, "s1");
    registry.apply(now, stopping(&server));
    assert_eq!((state(&registry, "s1").as_str(), named(&registry, "s1").candidacy()), ("NOLB", Candidacy::StickyOnly));
    assert_eq!(turns(&pool(&registry), 2), ["s2", "s2"]);
    registry.apply(now, troubled(&server));
    assert_eq!(state(&registry, "s1"), "NOLB 2/3");
    registry.apply(now, checked(&server, true));
    assert_eq!(state(&registry, "s1"), "UP");
    assert_eq!(server.live.record().downs, 0, "it never was down");
}

#[test]
fn in_a_panic_all_are_used_and_it_ends_with_enough_that_are_up() {
    let policy = PoolPolicy { panic_threshold: 50, ..PoolPolicy::default() };
    let (registry, now) = up(policy, &["s1", "s2", "s3", "s4"]);
    for (name, users, panics) in [("s1", 3, false), ("s2", 2, false), ("s3", 4, true), ("s4", 4, true)] {
        fail(&registry, now, name);
        let pool = pool(&registry);
        assert_eq!((pool.usable_active(), pool.panics(), pool.is_up()), (users, panics, true), "{name}");
    }
    assert_eq!(state(&registry, "s1"), "DOWN", "the word is the truth");
    assert_eq!(pool(&registry).well(), (0, 0), "so are the counts");
    for name in ["s1", "s2"] {
        (0..2).for_each(|_| registry.apply(now, checked(&named(&registry, name), true)));
    }
    let pool = pool(&registry);
    assert_eq!((pool.usable_active(), pool.panics()), (2, false));
}

#[test]
fn in_a_panic_a_request_that_failed_goes_to_a_server_that_is_up_as_long_as_there_is_one() {
    let policy = PoolPolicy { panic_threshold: 50, ..PoolPolicy::default() };
    let (registry, now) = up(policy, &["s1", "s2", "s3", "s4", "s5"]);
    ["s1", "s2", "s3"].into_iter().for_each(|name| fail(&registry, now, name));
    let pool = pool(&registry);
    let after = |tried: &[&str]| {
        let tried: Vec<_> = tried.iter().map(|name| named(&registry, name).id).collect();
        let chosen = (0..10).map(|_| pool.choose(&tried, Ask::default()).unwrap().name.to_string());
        chosen.collect::<std::collections::BTreeSet<_>>().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(after(&[]), ["s1", "s2", "s3", "s4", "s5"]);
    assert_eq!(after(&["s1"]), ["s4", "s5"]);
    assert_eq!(after(&["s1", "s4"]), ["s5"]);
    assert_eq!(after(&["s1", "s4", "s5"]), ["s2", "s3"]);
}

#[test]
fn backups_that_are_up_spare_a_pool_the_panic() {
    let policy = PoolPolicy { panic_threshold: 100, ..PoolPolicy::default() };
    let (registry, now) = up(policy, &["s1", "b1"]);
    fail(&registry, now, "s1");
    assert_eq!((turns(&pool(&registry), 2), pool(&registry).panics()), (vec!["b1".into(), "b1".into()], false));
    fail(&registry, now, "b1");
    assert_eq!((turns(&pool(&registry), 2), pool(&registry).panics()), (vec!["s1".into(), "s1".into()], true));
}

#[test]
fn a_pool_whose_servers_never_were_up_does_not_panic() {
    let (registry, now) = registry(PoolPolicy { panic_threshold: 100, ..PoolPolicy::default() });
    registry.apply(now, Command::Static { pool: pool_name(), servers: vec![fixed("s1", 3001, false)] });
    fail(&registry, now, "s1");
    assert_eq!(named(&registry, "s1").health, Health::Initial);
    assert!(!pool(&registry).is_up() && !pool(&registry).panics());
}

#[test]
fn a_change_of_the_threshold_acts_at_once() {
    let (registry, now) = up(PoolPolicy::default(), &["s1"]);
    fail(&registry, now, "s1");
    let set = |panic_threshold| {
        let policy = PoolPolicy { panic_threshold, ..PoolPolicy::default() };
        registry.apply(now, Command::Pools(vec![config::Pool { name: pool_name(), policy, servers: Vec::new() }]));
        pool(&registry).is_up()
    };
    assert_eq!([set(1), set(0)], [true, false]);
}
