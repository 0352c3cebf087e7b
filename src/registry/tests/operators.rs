//! What operators want of servers, beside what else is known of them.

use super::*;
use crate::model::{AdminState, Candidacy, Decision, Hint, ServerKey, Stamp, Told, WantedWeight, Wish};

fn operate(registry: &Registry, now: Instant, index: usize, operation: Operation) {
    let server = pool(registry).servers[index].id;
    registry.apply(now, Command::Operate(vec![(server, operation)]));
}

fn word(registry: &Registry, index: usize) -> String {
    pool(registry).servers[index].state().to_string()
}

#[test]
fn an_operators_drain_keeps_those_who_have_a_cookie() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    registry.apply(now, member(2, "s2", 3002, NodeState::Ready));
    operate(&registry, now, 0, Operation::State(AdminState::Drain));
    assert_eq!(turns(&pool(&registry), 2), ["s2", "s2"]);
    assert_eq!(pool(&registry).servers[0].candidacy(), Candidacy::StickyOnly);
    operate(&registry, now, 0, Operation::State(AdminState::Ready));
    assert_eq!(turns(&pool(&registry), 2).len(), 2);
    assert_eq!(word(&registry, 0), "no check");
}

#[test]
fn an_operators_word_survives_the_nodes_and_the_configurations() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    registry.apply(now, Command::Static { pool: pool_name(), servers: vec![fixed("f1", 3002, false)] });
    operate(&registry, now, 0, Operation::State(AdminState::Drain));
    operate(&registry, now, 0, Operation::Weight(WantedWeight::Absolute(Weight::new(7).unwrap())));
    operate(&registry, now, 1, Operation::State(AdminState::Maint));
    let is_kept = |registry: &Registry| {
        let servers = pool(registry).servers.clone();
        let of = |name: &str| servers.iter().find(|server| server.name.as_str() == name).unwrap().clone();
        let (s1, f1) = (of("s1"), of("f1"));
        (s1.operator, s1.weight.get(), f1.operator) == (AdminState::Drain, 7, AdminState::Maint)
    };
    // The node says the same once more, or something else, or comes back after it was lost, or at another address.
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    assert!(is_kept(&registry));
    registry.apply(now, member(1, "s1", 3009, NodeState::Ready));
    assert!(is_kept(&registry));
    registry.apply(now, Command::MemberDown(NodeId(1)));
    registry.tick(now + Duration::from_secs(20));
    assert_eq!(pool(&registry).servers.len(), 1, "lost");
    registry.apply(now, member(1, "s1", 3009, NodeState::Ready));
    assert!(is_kept(&registry));
    // A reload, and a name that has another address now.
    let policy = PoolPolicy { retries: 5, ..unchecked() };
    registry.apply(now, Command::Pools(vec![config::Pool { name: pool_name(), policy, servers: Vec::new() }]));
    registry.apply(now, Command::Static { pool: pool_name(), servers: vec![fixed("f1", 3005, false)] });
    assert!(is_kept(&registry));
    // Another boot is another server.
    registry.apply(now, member(3, "s1", 3009, NodeState::Ready));
    let servers = pool(&registry).servers.clone();
    assert!(servers.iter().any(|server| server.name.as_str() == "s1" && server.operator == AdminState::Ready));
}

/// What is said while this is done.
fn said(act: impl FnOnce()) -> String {
    #[derive(Clone, Default)]
    struct Written(Arc<std::sync::Mutex<Vec<u8>>>);
    impl std::io::Write for Written {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let written = Written::default();
    let writer = written.clone();
    let messages = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    tracing::subscriber::with_default(messages, act);
    let bytes = written.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[test]
fn a_server_that_joins_under_an_operators_word_from_elsewhere_says_so() {
    let (registry, now) = registry(unchecked());
    registry.apply(
        now,
        Command::Decided(Decision {
            pool: pool_name(),
            server: ServerKey::Node(NodeId(1)),
            wish: Wish::State(AdminState::Maint),
            by: ServerName::parse("lb-2").unwrap(),
            stamp: Stamp { at: 1, version: 3, node: NodeId(9) },
        }),
    );
    let text = said(|| {
        registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
        registry.apply(now, member(2, "s2", 3002, NodeState::Ready));
    });
    let line = "Server nodes/s1 joined at 127.0.0.1:3001; an operator wants it so: maint by lb-2 1970-01-01 00:00:00 \
                (version 3).\n";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("Server nodes/s2 joined at 127.0.0.1:3002.\n"), "{text}");
}

#[test]
fn what_nobody_needs_any_more_is_forgotten() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    operate(&registry, now, 0, Operation::State(AdminState::Maint));
    registry.apply(now, Command::MemberLeft(NodeId(1)));
    registry.tick(now);
    registry.tick(now + Duration::from_secs(3601));
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    assert_eq!(word(&registry, 0), "no check");
}

#[test]
fn a_weight_in_percent_follows_the_initial_one() {
    let (registry, now) = registry(unchecked());
    let server = |weight| ResolvedServer { weight: Weight::new(weight).unwrap(), ..fixed("s1", 3001, false) };
    let set = |weight| registry.apply(now, Command::Static { pool: pool_name(), servers: vec![server(weight)] });
    let weights = || {
        let server = pool(&registry).servers[0].clone();
        (server.weight.get(), server.initial_weight.get())
    };
    set(10);
    operate(&registry, now, 0, Operation::Weight(WantedWeight::Percent(50)));
    assert_eq!(weights(), (5, 10));
    set(20);
    assert_eq!(weights(), (10, 20));
    operate(&registry, now, 0, Operation::Weight(WantedWeight::Absolute(Weight::new(3).unwrap())));
    set(30);
    assert_eq!(weights(), (3, 30));
    operate(&registry, now, 0, Operation::Weight(WantedWeight::Percent(100)));
    assert_eq!(weights(), (30, 30));
}

#[test]
fn leaving_maintenance_takes_one_check_more() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let server = pool(&registry).servers[0].clone();
    registry.apply(now, checked(&server, true));
    operate(&registry, now, 0, Operation::State(AdminState::Maint));
    assert_eq!((word(&registry, 0).as_str(), server.live.record().downs), ("MAINT", 1));
    assert!(!pool(&registry).servers[0].is_checked());
    operate(&registry, now, 0, Operation::State(AdminState::Ready));
    assert_eq!(word(&registry, 0), "UP 1/3");
    registry.apply(now, checked(&server, false));
    assert_eq!(word(&registry, 0), "DOWN");
    operate(&registry, now, 0, Operation::State(AdminState::Maint));
    operate(&registry, now, 0, Operation::State(AdminState::Ready));
    assert_eq!(word(&registry, 0), "DOWN");
    registry.apply(now, checked(&server, true));
    assert_eq!(word(&registry, 0), "UP", "the operator vouches for it, and one check is enough");
}

#[test]
fn deadlines_of_drain_and_maintenance_begin_with_the_operators_word() {
    let second = Duration::from_secs(1);
    let policy = PoolPolicy { drain_deadline: Some(5 * second), maint_deadline: Some(2 * second), ..unchecked() };
    let (registry, now) = registry(policy);
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let state = || {
        let server = pool(&registry).servers[0].clone();
        (server.state().to_string(), server.candidacy(), server.is_cut())
    };
    operate(&registry, now, 0, Operation::State(AdminState::Drain));
    registry.tick(now + 4 * second);
    assert_eq!(state(), ("DRAIN".into(), Candidacy::StickyOnly, false));
    registry.tick(now + 5 * second);
    assert_eq!(state(), ("DRAIN".into(), Candidacy::Nobody, false));
    operate(&registry, now + 6 * second, 0, Operation::State(AdminState::Maint));
    assert_eq!(state(), ("MAINT".into(), Candidacy::Nobody, false));
    registry.tick(now + 8 * second);
    assert_eq!(state(), ("MAINT".into(), Candidacy::Nobody, true));
    operate(&registry, now + 9 * second, 0, Operation::State(AdminState::Ready));
    assert_eq!(state(), ("no check".into(), Candidacy::Everybody, false));
}

#[test]
fn a_deadline_of_nothing_cuts_off_at_once() {
    let policy = PoolPolicy { maint_deadline: Some(Duration::ZERO), ..unchecked() };
    let (registry, now) = registry(policy);
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    operate(&registry, now, 0, Operation::State(AdminState::Maint));
    assert!(pool(&registry).servers[0].is_cut());
}

#[test]
fn a_deadline_that_was_over_is_over_for_a_server_that_comes_back() {
    let policy = PoolPolicy { drain_deadline: Some(Duration::from_secs(5)), ..unchecked() };
    let (registry, now) = registry(policy);
    let later = now + Duration::from_secs(6);
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    operate(&registry, now, 0, Operation::State(AdminState::Drain));
    registry.apply(later, member(1, "s1", 3009, NodeState::Ready));
    assert_eq!(pool(&registry).servers[0].candidacy(), Candidacy::Nobody);
}

#[test]
fn a_server_that_nobody_checks_is_believed_again_after_maintenance() {
    for forced in [ForcedHealth::Up, ForcedHealth::Stopping, ForcedHealth::Down] {
        let (registry, now) = registry(unchecked());
        registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
        operate(&registry, now, 0, Operation::Health(forced));
        operate(&registry, now, 0, Operation::State(AdminState::Maint));
        operate(&registry, now, 0, Operation::State(AdminState::Ready));
        assert_eq!(word(&registry, 0), "no check", "{forced:?}");
    }
}

#[test]
fn a_lost_node_goes_whatever_an_operator_said_of_a_server_that_nobody_checks() {
    let maintained = Operation::State(AdminState::Maint);
    let stopping = Operation::Health(ForcedHealth::Stopping);
    for (policy, operation) in [(unchecked(), stopping), (unchecked(), maintained), (PoolPolicy::default(), maintained)]
    {
        let (registry, now) = registry(policy);
        registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
        let server = pool(&registry).servers[0].clone();
        registry.apply(now, checked(&server, true));
        operate(&registry, now, 0, operation);
        registry.apply(now, Command::MemberDown(NodeId(1)));
        registry.tick(now + Duration::from_secs(60));
        assert_eq!(pool(&registry).servers.len(), 0, "{operation:?}");
    }
}

#[test]
fn many_servers_are_one_change() {
    let (registry, now) = registry(unchecked());
    let servers = (0..100).map(|number| fixed(&format!("s{number}"), 3000 + number, false)).collect();
    registry.apply(now, Command::Static { pool: pool_name(), servers });
    let before = registry.snapshot().version;
    let drained = Operation::State(AdminState::Drain);
    let operations = pool(&registry).servers.iter().map(|server| (server.id, drained)).collect();
    registry.apply(now, Command::Operate(operations));
    assert_eq!(registry.snapshot().version, before + 1);
    assert!(pool(&registry).servers.iter().all(|server| server.operator == AdminState::Drain));
}

/// A word from another balancer.
fn word_of(by: &str, server: ServerKey, wish: Wish, at: u64) -> Command {
    let stamp = Stamp { at, version: 3, node: NodeId(99) };
    Command::Decided(Decision { pool: pool_name(), server, wish, by: ServerName::parse(by).unwrap(), stamp })
}

const DRAIN: Wish = Wish::State(AdminState::Drain);
const READY: Wish = Wish::State(AdminState::Ready);

fn unix_ms() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64
}

#[test]
fn a_word_from_another_balancer_holds_as_ours_until_a_later_one() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let s1 = || ServerKey::Node(NodeId(1));
    registry.apply(now, word_of("lb-2", s1(), DRAIN, 1000));
    assert_eq!(pool(&registry).servers[0].candidacy(), Candidacy::StickyOnly);
    let told = pool(&registry).servers[0].operators_word(std::time::SystemTime::now()).unwrap();
    assert_eq!(told, "drain by lb-2 1970-01-01 00:00:01 (version 3)");
    registry.apply(now, word_of("lb-3", s1(), READY, 999));
    assert_eq!(word(&registry, 0), "DRAIN", "an earlier word");
    registry.apply(now, word_of("lb-3", s1(), Wish::Weight(WantedWeight::Absolute(Weight::ZERO)), 1));
    assert_eq!(pool(&registry).servers[0].weight, Weight::ZERO, "of the weight nobody had said anything");
    // Here, where the clock says later, or does not.
    operate(&registry, now, 0, Operation::State(AdminState::Ready));
    let far = unix_ms() + 3_600_000;
    registry.apply(now, word_of("lb-2", s1(), DRAIN, far));
    assert_eq!(word(&registry, 0), "DRAIN");
    operate(&registry, now, 0, Operation::State(AdminState::Ready));
    assert_eq!(word(&registry, 0), "no check", "whoever has seen it wins");
    registry.apply(now, word_of("lb-2", s1(), DRAIN, far));
    assert_eq!(word(&registry, 0), "no check", "told once more");
}

#[test]
fn an_operators_word_is_handed_out_signed_and_one_that_was_told_is_not() {
    let (registry, now) = registry(unchecked());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let mut news = registry.follow(ServerName::parse("lb-1").unwrap(), NodeId(7));
    operate(&registry, now, 0, Operation::State(AdminState::Drain));
    operate(&registry, now, 0, Operation::State(AdminState::Drain));
    operate(&registry, now, 0, Operation::Health(ForcedHealth::Down));
    registry.apply(now, word_of("lb-2", ServerKey::Node(NodeId(1)), READY, unix_ms() + 1000));
    let Ok(Told::Decision(decision)) = news.try_recv() else { panic!("nothing was told") };
    let Decision { pool, server, wish, by, stamp } = decision;
    assert_eq!((pool, server, wish), (pool_name(), ServerKey::Node(NodeId(1)), DRAIN));
    assert_eq!((by.as_str(), stamp.version, stamp.node), ("lb-1", 1, NodeId(7)));
    assert!(news.try_recv().is_err(), "once, and nothing else");
}

#[test]
fn a_word_about_a_server_that_is_not_here_waits_for_it() {
    let (registry, now) = registry(unchecked());
    let f1 = ServerKey::Static(ServerName::parse("f1").unwrap());
    registry.apply(now, word_of("lb-2", f1.clone(), READY, 1));
    registry.apply(now, word_of("lb-2", f1.clone(), DRAIN, 3));
    registry.apply(now, word_of("lb-2", f1, READY, 2));
    registry.apply(now, word_of("lb-2", ServerKey::Node(NodeId(1)), DRAIN, 1));
    for number in 0..5000 {
        registry.apply(now, word_of("lb-2", ServerKey::Node(NodeId(1000 + number)), DRAIN, 1));
    }
    registry.tick(now);
    let later = now + Duration::from_secs(3601);
    registry.tick(later);
    registry.apply(later, Command::Static { pool: pool_name(), servers: vec![fixed("f1", 3002, false)] });
    assert_eq!(word(&registry, 0), "DRAIN", "a configured server may come by the next reload");
    registry.apply(later, member(1, "s1", 3001, NodeState::Ready));
    assert_eq!(word(&registry, 1), "no check", "a boot that was away for an hour does not come back");
    registry.apply(later, member(6000, "s2", 3003, NodeState::Ready));
    assert_eq!(word(&registry, 2), "no check", "and there is a bound");
}

#[test]
fn a_turn_of_health_is_told_as_a_hint_and_a_hint_asks_for_a_check_only_where_we_believe_otherwise() {
    let (registry, now) = registry(PoolPolicy::default());
    registry.apply(now, member(1, "s1", 3001, NodeState::Ready));
    let mut news = registry.follow(ServerName::parse("lb-1").unwrap(), NodeId(7));
    let server = pool(&registry).servers[0].clone();
    let hint = |is_up| Hint { pool: pool_name(), server: ServerKey::Node(NodeId(1)), is_up };
    registry.hint(&hint(false));
    assert!(!server.live.take_doubt(), "it is not up here either");
    registry.hint(&hint(true));
    assert!(server.live.take_doubt() && !server.live.take_doubt());
    assert_eq!(word(&registry, 0), "DOWN", "a hint is no verdict");
    registry.apply(now, checked(&server, true));
    assert_eq!(news.try_recv(), Ok(Told::Hint(hint(true))));
    for _ in 0..3 {
        assert!(news.try_recv().is_err());
        registry.apply(now, checked(&server, false));
    }
    assert_eq!(news.try_recv(), Ok(Told::Hint(hint(false))));
}
