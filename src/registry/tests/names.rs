//! Names and pools that come later than those who want them.

use super::*;

fn names(registry: &Registry) -> Vec<String> {
    pool(registry).servers.iter().map(|server| server.name.to_string()).collect()
}

#[test]
fn a_successor_gets_the_plain_name_once_its_killed_namesake_is_gone_and_stays_who_it_is() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let old = pool(&registry).servers[0].clone();
    registry.apply(now, checked(&old, true));
    // Killed, and there again at another address before anybody has noticed.
    registry.apply(now, member(2, "s1", 3002, NodeState::Ready));
    assert!(old.live.take_doubt(), "whether the old one lives is looked at once");
    assert_eq!(names(&registry), ["s1", "s1-2"]);
    let new = pool(&registry).servers[1].clone();
    registry.apply(now, checked(&new, true));
    assert_eq!(turns(&pool(&registry), 2).len(), 2);
    for _ in 0..3 {
        registry.apply(now, checked(&old, false));
    }
    registry.tick(now);
    assert_eq!(names(&registry), ["s1", "s1-2"], "its agent may live, and its app come back");
    registry.apply(now, Command::MemberDown(NodeId(1)));
    registry.tick(now);
    let left = pool(&registry).servers.clone();
    assert_eq!((names(&registry), left[0].id, &left[0].cookie), (vec!["s1".to_owned()], new.id, &new.cookie));
    assert!(Arc::ptr_eq(&left[0].live, &new.live), "its counters are its own");
}

#[test]
fn of_two_that_live_under_one_name_both_keep_theirs() {
    let (registry, now) = registry(PoolPolicy::default());
    for node in [1, 2, 3] {
        registry.apply(now, member(node, "s1", 3000 + node as u16, NodeState::Ready));
    }
    registry.apply(now, checked(&pool(&registry).servers[0], true));
    registry.apply(now, Command::MemberDown(NodeId(1)));
    registry.tick(now + Duration::from_secs(60));
    assert_eq!(names(&registry), ["s1", "s1-2", "s1-3"], "the app of a silent agent may well serve");
    registry.apply(now, Command::MemberLeft(NodeId(1)));
    assert_eq!(names(&registry), ["s1", "s1-3"], "the elder of the others");
}

#[test]
fn a_cut_off_namesake_whose_app_is_dead_makes_room_only_for_one_that_serves() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    registry.apply(now, member(2, "s1", 3002, NodeState::Ready));
    registry.apply(now, Command::MemberDown(NodeId(1)));
    registry.tick(now + Duration::from_secs(1));
    assert_eq!(names(&registry), ["s1", "s1-2"]);
    registry.apply(now, checked(&pool(&registry).servers[1], true));
    registry.tick(now + Duration::from_secs(1));
    assert_eq!(names(&registry), ["s1"]);
}

#[test]
fn nodes_that_wait_for_a_pool_join_it_with_the_reload_that_brings_it() {
    let (registry, now) = registry(unchecked());
    let late = PoolName::parse("late").unwrap();
    let waiting = |node, port| {
        Command::Member(MemberServer {
            node: NodeId(node),
            pool: late.clone(),
            name: ServerName::parse(&format!("s{node}")).unwrap(),
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            weight: Weight::DEFAULT,
            state: NodeState::Ready,
        })
    };
    for node in [1, 2, 3] {
        registry.apply(now, waiting(node, 3000 + node as u16));
    }
    registry.apply(now, Command::MemberLeft(NodeId(2)));
    registry.apply(now, Command::MemberDown(NodeId(3)));
    let pools = [pool_name(), late.clone()];
    let pools = pools.map(|name| config::Pool { name, policy: unchecked(), servers: Vec::new() });
    registry.apply(now, Command::Pools(pools.into()));
    let names: Vec<_> =
        registry.snapshot().pool(&late).unwrap().servers.iter().map(|server| server.name.to_string()).collect();
    assert_eq!(names, ["s1"]);
}
