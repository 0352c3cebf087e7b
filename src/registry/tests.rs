//! The registry as its users see it.

mod health;
mod names;
mod operators;
mod reader;
mod takeover;

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use super::*;
use crate::{
    balance::Ask,
    config::{self, PoolPolicy},
    model::{CheckReport, CheckStatus, CookieMode, CookiePolicy, NodeId, NodeState, ServerId, ServerName, Weight},
    sticky::Dates,
};

fn pool_name() -> PoolName {
    PoolName::parse("nodes").unwrap()
}

fn registry(policy: PoolPolicy) -> (Registry, Instant) {
    let now = Instant::now();
    let registry = Registry::new(2, &[], now);
    registry.apply(now, Command::Pools(vec![config::Pool { name: pool_name(), policy, servers: Vec::new() }]));
    (registry, now)
}

fn unchecked() -> PoolPolicy {
    PoolPolicy { check: None, ..PoolPolicy::default() }
}

fn member(node: u64, name: &str, port: u16, state: NodeState) -> Command {
    Command::Member(MemberServer {
        node: NodeId(node),
        pool: pool_name(),
        name: ServerName::parse(name).unwrap(),
        address: SocketAddr::from(([127, 0, 0, 1], port)),
        weight: Weight::DEFAULT,
        state,
    })
}

fn fixed(name: &str, port: u16, backup: bool) -> ResolvedServer {
    let name = ServerName::parse(name).unwrap();
    let address = Some(SocketAddr::from(([127, 0, 0, 1], port)));
    ResolvedServer { name, address, weight: Weight::DEFAULT, backup, maxconn: None, check_port: None }
}

fn checked(server: &Server, passed: bool) -> Command {
    let status = if passed { CheckStatus::L7Ok } else { CheckStatus::L4Connect };
    let report = CheckReport { status, code: passed.then_some(200), duration: Duration::ZERO, detail: String::new() };
    Command::Checked { server: server.id, report }
}

fn pool(registry: &Registry) -> Arc<Pool> {
    Arc::clone(registry.snapshot().pool(&pool_name()).unwrap())
}

fn turns(pool: &Pool, count: usize) -> Vec<String> {
    (0..count).filter_map(|_| pool.choose(&[], Ask::default())).map(|server| server.name.to_string()).collect()
}

#[test]
fn servers_take_strict_turns_and_a_newcomer_joins_them() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    registry.apply(now, member(2, "s2", 3002, NodeState::Ready));
    assert_eq!(turns(&pool(&registry), 4), ["s1", "s2", "s1", "s2"]);
    registry.apply(now, member(3, "s3", 3003, NodeState::Ready));
    let mut three = turns(&pool(&registry), 3);
    three.sort();
    assert_eq!(three, ["s1", "s2", "s3"]);
}

#[test]
fn a_new_server_gets_nothing_before_its_first_check_passed() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    assert!(pool(&registry).choose(&[], Ask::default()).is_none());
    let id = pool(&registry).servers[0].clone();
    registry.apply(now, checked(&id, true));
    assert_eq!(turns(&pool(&registry), 1), ["s1"]);
}

#[test]
fn a_check_that_could_not_begin_blames_nobody() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let server = pool(&registry).servers[0].clone();
    registry.apply(now, checked(&server, true));
    let report =
        CheckReport { status: CheckStatus::SocketError, code: None, duration: Duration::ZERO, detail: String::new() };
    for _ in 0..3 {
        registry.apply(now, Command::Checked { server: server.id, report: report.clone() });
    }
    assert_eq!(pool(&registry).servers[0].state().to_string(), "UP");
    let record = server.live.record();
    assert_eq!((record.failures, record.last), (0, Some(report)));
}

#[test]
fn a_draining_node_gets_nothing_from_the_moment_apply_returns() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    registry.apply(now, member(2, "s2", 3002, NodeState::Ready));
    registry.apply(now, member(1, "s1", 3001, NodeState::Draining));
    assert_eq!(turns(&pool(&registry), 3), ["s2", "s2", "s2"]);
    assert_eq!(pool(&registry).servers[0].state().to_string(), "DRAIN");
    registry.apply(now, member(1, "s1", 3001, NodeState::Left));
    assert_eq!(pool(&registry).servers.len(), 1);
}

#[test]
fn a_backup_serves_only_when_no_other_is_left() {
    let (registry, now) = registry(unchecked());
    let servers = vec![fixed("s1", 3001, false), fixed("b1", 3009, true)];
    registry.apply(now, Command::Static { pool: pool_name(), servers });
    assert_eq!(turns(&pool(&registry), 2), ["s1", "s1"]);
    let servers = vec![fixed("b1", 3009, true)];
    registry.apply(now, Command::Static { pool: pool_name(), servers });
    assert_eq!(turns(&pool(&registry), 2), ["b1", "b1"]);
}

#[test]
fn a_lost_node_keeps_its_server_until_the_checks_fail_too() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let server = pool(&registry).servers[0].clone();
    registry.apply(now, checked(&server, true));
    registry.apply(now, Command::MemberDown(NodeId(1)));
    registry.tick(now + Duration::from_secs(3600));
    assert_eq!(turns(&pool(&registry), 1), ["s1"]);
    let later = now + Duration::from_secs(3601);
    for _ in 0..3 {
        registry.apply(later, checked(&server, false));
    }
    assert!(pool(&registry).choose(&[], Ask::default()).is_none());
    registry.tick(later + Duration::from_secs(9));
    assert_eq!(pool(&registry).servers.len(), 1);
    registry.tick(later + Duration::from_secs(10));
    assert_eq!(pool(&registry).servers.len(), 0);
}

#[test]
fn a_new_boot_at_an_old_address_inherits_nothing() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let old = pool(&registry).servers[0].clone();
    registry.apply(now, member(2, "s1", 3001, NodeState::Ready));
    let pool = pool(&registry);
    assert_eq!(pool.servers.len(), 1);
    assert_eq!(pool.servers[0].name, old.name);
    assert_ne!((pool.servers[0].id, &pool.servers[0].cookie), (old.id, &old.cookie));
}

#[test]
fn each_server_of_a_large_pool_is_found_by_its_cookie_and_no_other_value() {
    let cookie = CookiePolicy::new("S", CookieMode::default()).ok();
    let (registry, now) = registry(PoolPolicy { cookie, ..unchecked() });
    let servers =
        |wanted: fn(&u16) -> bool| (1..=1000).filter(wanted).map(|port| fixed(&format!("s{port}"), port, false));
    for wanted in [|_: &u16| true, |port: &u16| port.is_multiple_of(3), |port: &u16| port.is_multiple_of(2)] {
        registry.apply(now, Command::Static { pool: pool_name(), servers: servers(wanted).collect() });
        let pool = pool(&registry);
        for server in &pool.servers {
            assert_eq!(pool.by_cookie(server.cookie.as_bytes()).map(|found| found.id), Some(server.id));
            assert_eq!(pool.by_id(server.id).map(|found| found.id), Some(server.id));
            let line = format!("S={}; path=/", server.cookie);
            assert_eq!(pool.set_cookie(server.id, Dates::default()).unwrap(), line);
            assert!(pool.by_cookie(&server.cookie.as_bytes()[1..]).is_none());
        }
        assert!(
            pool.by_cookie(b"0123456789abcdef").is_none() && pool.set_cookie(ServerId(0), Dates::default()).is_none()
        );
    }
}

#[test]
fn two_living_nodes_of_one_name_are_told_apart() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    registry.apply(now, member(2, "s1", 3002, NodeState::Ready));
    assert_eq!(turns(&pool(&registry), 2), ["s1", "s1-2"]);
}

#[test]
fn configured_servers_that_stay_keep_their_identity() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, Command::Static { pool: pool_name(), servers: vec![fixed("s1", 3001, false)] });
    let before = pool(&registry).servers[0].id;
    let servers = vec![fixed("s2", 3002, false), fixed("s1", 3001, false)];
    registry.apply(now, Command::Static { pool: pool_name(), servers });
    assert_eq!(pool(&registry).servers[0].id, before);
    assert_eq!(pool(&registry).servers.len(), 2);
}

#[test]
fn a_server_whose_name_cannot_be_looked_up_keeps_its_address() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, Command::Static { pool: pool_name(), servers: vec![fixed("s1", 3001, false)] });
    let before = pool(&registry).servers[0].id;
    let unknown = |name| ResolvedServer { address: None, ..fixed(name, 0, false) };
    registry.apply(now, Command::Static { pool: pool_name(), servers: vec![unknown("s1"), unknown("s2")] });
    assert_eq!(pool(&registry).servers.iter().map(|server| server.id).collect::<Vec<_>>(), [before]);
}

#[test]
fn a_configured_server_that_shares_its_name_with_a_member_stays_itself() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, member(1, "web", 3001, NodeState::Ready));
    for _ in 0..2 {
        registry.apply(now, Command::Static { pool: pool_name(), servers: vec![fixed("web", 3002, false)] });
    }
    let pool = pool(&registry);
    let shown: Vec<_> = pool.servers.iter().map(|server| (server.name.as_str(), server.number)).collect();
    assert_eq!(shown, [("web", 1), ("web-2", 2)]);
}

#[test]
fn downtime_is_counted_from_down_to_up() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let server = pool(&registry).servers[0].clone();
    registry.apply(now, checked(&server, true));
    for _ in 0..3 {
        registry.apply(now, checked(&server, false));
    }
    for _ in 0..2 {
        registry.apply(now + Duration::from_secs(7), checked(&server, true));
    }
    let record = server.live.record();
    assert_eq!((record.downs, record.failures, record.downtime), (1, 3, Duration::from_secs(7)));
    let pool = pool(&registry).live.record();
    assert_eq!((pool.down_since, pool.downtime), (None, Duration::from_secs(7)));
}
