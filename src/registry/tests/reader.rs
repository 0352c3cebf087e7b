//! A worker's own view.

use super::*;

#[test]
fn each_worker_counts_its_references_apart_and_takes_anew_only_what_changed() {
    let (registry, now) = registry(unchecked());
    let registry = Arc::new(registry);
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    registry.apply(now, member(2, "s2", 3002, NodeState::Ready));
    let (mut one, mut other) = (registry.reader(), registry.reader());
    let view = |reader: &mut Reader| Arc::clone(reader.load().pool(&pool_name()).unwrap());
    let (first, others, shared) = (view(&mut one), view(&mut other), pool(&registry));
    for apart in [&others, &shared] {
        assert!(!Arc::ptr_eq(&first, apart) && !Arc::ptr_eq(&first.servers[0], &apart.servers[0]));
        assert!(Arc::ptr_eq(&first.servers[0].live, &apart.servers[0].live), "one gauge for all");
    }
    assert!(Arc::ptr_eq(&first, &view(&mut one)), "nothing has changed");

    registry.apply(now, member(1, "s1", 3001, NodeState::Draining));
    let second = view(&mut one);
    assert!(!Arc::ptr_eq(&first.servers[0], &second.servers[0]), "s1 has changed");
    assert!(Arc::ptr_eq(&first.servers[1], &second.servers[1]), "s2 has not");
    assert_eq!(turns(&second, 2), ["s2", "s2"]);

    registry.apply(now, member(1, "s1", 3001, NodeState::Left));
    registry.apply(now, Command::MemberLeft(NodeId(1)));
    assert_eq!(view(&mut one).servers.len(), 1);
    assert_eq!(one.load().version, registry.snapshot().version);
}
