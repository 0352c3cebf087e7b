//! A new node at the address of a server that is in use.

use super::*;

/// A server that is up, and the second node at its address, which is ready.
fn taken_over() -> (Registry, Instant, Arc<Server>, Arc<Server>) {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let old = pool(&registry).servers[0].clone();
    registry.apply(now, checked(&old, true));
    registry.apply(now, member(2, "s1", 3001, NodeState::Starting));
    registry.apply(now, member(2, "s1", 3001, NodeState::Ready));
    let new = pool(&registry).servers[1].clone();
    (registry, now, old, new)
}

fn ids(registry: &Registry) -> Vec<ServerId> {
    pool(registry).servers.iter().map(|server| server.id).collect()
}

fn chosen(registry: &Registry) -> Option<ServerId> {
    pool(registry).choose(&[], Ask::default()).map(|server| server.id)
}

#[test]
fn the_old_server_serves_until_the_first_check_of_the_new_one_has_passed() {
    let (registry, now, old, new) = taken_over();
    assert_eq!(chosen(&registry), Some(old.id));
    assert!(old.live.take_doubt(), "whether its app lives is looked at once");
    registry.tick(now + Duration::from_secs(60));
    registry.apply(now, checked(&old, true));
    assert_eq!(chosen(&registry), Some(old.id));
    registry.apply(now, checked(&new, true));
    assert_eq!((ids(&registry), chosen(&registry)), (vec![new.id], Some(new.id)));
    let left = pool(&registry).servers[0].clone();
    assert_eq!((left.name.as_str(), &left.cookie), ("s1", &new.cookie));
    assert!(left.cookie != old.cookie && Arc::ptr_eq(&left.live, &new.live), "it inherits nothing");
}

#[test]
fn one_failed_check_of_either_takes_the_old_server_out() {
    for fails in [0, 1] {
        let (registry, now, old, new) = taken_over();
        registry.apply(now, checked([&old, &new][fails], false));
        assert_eq!(ids(&registry), [new.id], "{fails}");
    }
}

#[test]
fn the_old_server_does_not_serve_on_when_the_new_one_is_drained_or_taken_out_before_it_served() {
    let (registry, now, _, new) = taken_over();
    registry.apply(now, member(2, "s1", 3001, NodeState::Draining));
    assert_eq!((ids(&registry), chosen(&registry)), (vec![new.id], None));
    let (registry, now, _, new) = taken_over();
    let maint = Operation::State(crate::model::AdminState::Maint);
    registry.apply(now, Command::Operate(vec![(new.id, maint)]));
    assert_eq!((ids(&registry), chosen(&registry)), (vec![new.id], None));
}

#[test]
fn when_the_new_one_is_gone_before_it_served_the_old_one_is_a_server_whose_node_is_lost() {
    let (registry, now, old, _) = taken_over();
    registry.apply(now, member(2, "s1", 3001, NodeState::Left));
    assert_eq!((ids(&registry), chosen(&registry)), (vec![old.id], Some(old.id)));
    registry.apply(now, checked(&old, false));
    assert_eq!(chosen(&registry), None, "one failed check is enough");
    registry.tick(now + Duration::from_secs(10));
    assert_eq!(ids(&registry), []);
}

#[test]
fn a_server_that_is_of_no_use_makes_way_at_once() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let old = ids(&registry);
    registry.apply(now, member(2, "s1", 3001, NodeState::Ready));
    assert_eq!(ids(&registry).len(), 1);
    assert_ne!(ids(&registry), old);
}

#[test]
fn a_boot_with_the_gossip_address_of_another_leaves_the_others_app_to_its_checks() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let old = pool(&registry).servers[0].clone();
    registry.apply(now, checked(&old, true));
    registry.apply(now, Command::MemberReplaced(NodeId(1)));
    assert_eq!(chosen(&registry), Some(old.id));
    registry.apply(now, checked(&old, false));
    assert_eq!(chosen(&registry), None, "one failed check is enough");
}

#[test]
fn where_nobody_checks_the_server_of_a_replaced_node_goes_at_once() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    registry.apply(now, Command::MemberReplaced(NodeId(1)));
    assert_eq!(ids(&registry), []);
}
