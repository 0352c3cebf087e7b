//! The schedule, with instants that are made up.

use super::*;
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng};

const INTERVAL: Duration = Duration::from_secs(2);
const UP: Health = Health::Up { failed: 0, fall: 3 };

fn target(server: u64, health: Health) -> Target {
    Target {
        server: ServerId(server),
        address: SocketAddr::from(([127, 0, 0, 1], 3000)),
        health,
        policy: Arc::new(CheckPolicy { interval: INTERVAL, ..CheckPolicy::default() }),
    }
}

struct Fixture {
    schedule: Schedule,
    rng: StdRng,
    start: Instant,
}

impl Fixture {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from: nothing here waits")]
    fn following(targets: impl IntoIterator<Item = Target>) -> Self {
        let mut schedule = Schedule::default();
        let start = Instant::now();
        schedule.follow(start, targets);
        Self { schedule, rng: StdRng::seed_from_u64(7), start }
    }

    fn start_due(&mut self, at: Duration) -> Option<Ticket> {
        self.schedule.start_due(self.start + at, &mut self.rng).map(|job| job.ticket)
    }

    /// When the next check is due, counted from the start.
    fn next(&self) -> Option<Duration> {
        self.schedule.next_due().map(|due| due - self.start)
    }

    fn follow(&mut self, at: Duration, targets: impl IntoIterator<Item = Target>) {
        self.schedule.follow(self.start + at, targets);
    }
}

fn assert_within_spread(due: Option<Duration>, started: Duration, interval: Duration) {
    let gap = due.unwrap() - started;
    assert!(gap <= interval && gap >= interval.mul_f64(0.9), "{gap:?} instead of {interval:?}");
}

#[test]
fn a_new_server_is_checked_at_once_and_soon_again() {
    let mut fixture = Fixture::following([target(1, Health::Initial)]);
    let ticket = fixture.start_due(Duration::ZERO).unwrap();
    assert_eq!(fixture.start_due(INTERVAL), None, "one check at a time");
    assert!(fixture.schedule.finish(ticket));
    assert_within_spread(fixture.next(), Duration::ZERO, EAGER);
}

/// A server that was checked at the start and is due again; how long after the start its second check began.
fn settled(health: Health) -> (Fixture, Duration) {
    let mut fixture = Fixture::following([target(1, health)]);
    let first = fixture.start_due(Duration::ZERO).unwrap();
    assert!(fixture.schedule.finish(first));
    let second = fixture.next().unwrap();
    let ticket = fixture.start_due(second).unwrap();
    assert!(fixture.schedule.finish(ticket));
    (fixture, second)
}

#[test]
fn the_interval_counts_from_start_to_start_once_a_check_has_passed() {
    let (mut fixture, second) = settled(Health::Initial);
    fixture.follow(second + Duration::from_secs(1), [target(1, UP)]);
    assert_within_spread(fixture.next(), second, INTERVAL);
}

#[test]
fn a_server_on_its_way_is_checked_by_the_fast_interval_and_one_that_is_down_by_its_own() {
    let secs = Duration::from_secs;
    let after = |health| {
        let (mut fixture, second) = settled(UP);
        let mut changed = target(1, health);
        let (fast_interval, down_interval) = (Some(secs(1)), Some(secs(30)));
        changed.policy =
            Arc::new(CheckPolicy { interval: secs(10), fast_interval, down_interval, ..CheckPolicy::default() });
        fixture.follow(second, [changed]);
        (fixture.next(), second)
    };
    for (health, interval) in [
        (UP, 10),
        (Health::Up { failed: 1, fall: 3 }, 1),
        (Health::Stopping { failed: 0, fall: 3 }, 10),
        (Health::Stopping { failed: 1, fall: 3 }, 1),
        (Health::Down { passed: 0, rise: 2 }, 30),
        (Health::Down { passed: 1, rise: 2 }, 1),
    ] {
        let (next, second) = after(health);
        assert_within_spread(next, second, secs(interval));
    }
}

#[test]
fn a_failure_that_requests_met_counts_once_and_hurries_the_next_check() {
    let (mut fixture, second) = settled(UP);
    let met = |fixture: &mut Fixture, at| fixture.schedule.trouble(fixture.start + at, ServerId(1));
    let early = second + Duration::from_millis(100);
    assert!(met(&mut fixture, early));
    assert!(!met(&mut fixture, early + Duration::from_millis(249)), "so soon it tells nothing new");
    assert_eq!(fixture.next(), Some(second + TROUBLE_GAP), "a check has only just begun");
    fixture.follow(early, [target(1, Health::Up { failed: 1, fall: 3 })]);
    assert_eq!(fixture.next(), Some(second + TROUBLE_GAP), "a change does not put it off");
    let third = second + TROUBLE_GAP;
    let ticket = fixture.start_due(third).unwrap();
    assert!(fixture.schedule.finish(ticket));
    assert_within_spread(fixture.next(), third, INTERVAL);
    let late = third + Duration::from_millis(600);
    assert!(met(&mut fixture, late));
    assert_eq!(fixture.next(), Some(late), "at once");
}

#[test]
fn what_requests_meet_says_nothing_of_a_server_that_is_down_or_gone() {
    let (mut fixture, second) = settled(Health::Down { passed: 0, rise: 2 });
    let before = fixture.next();
    assert!(!fixture.schedule.trouble(fixture.start + second, ServerId(1)));
    assert!(!fixture.schedule.trouble(fixture.start + second, ServerId(9)));
    assert_eq!(fixture.next(), before);
}

#[test]
fn a_shorter_interval_holds_from_the_last_start() {
    let (mut fixture, second) = settled(UP);
    let mut hurried = target(1, UP);
    let interval = Duration::from_millis(500);
    hurried.policy = Arc::new(CheckPolicy { interval, ..CheckPolicy::default() });
    fixture.follow(second + Duration::from_millis(100), [hurried]);
    assert_within_spread(fixture.next(), second, interval);
}

#[test]
fn the_result_of_a_server_that_is_gone_no_longer_matters() {
    let mut fixture = Fixture::following([target(1, UP)]);
    let old = fixture.start_due(Duration::ZERO).unwrap();
    fixture.follow(Duration::ZERO, []);
    assert_eq!(fixture.next(), None);
    assert!(!fixture.schedule.finish(old));
    fixture.follow(Duration::ZERO, [target(1, UP)]);
    let new = fixture.start_due(Duration::ZERO).unwrap();
    assert!(!fixture.schedule.finish(old), "the check of its earlier life");
    assert!(fixture.schedule.finish(new));
}

#[test]
fn a_change_elsewhere_does_not_disturb_a_check_in_flight() {
    let mut fixture = Fixture::following([target(1, UP)]);
    let ticket = fixture.start_due(Duration::ZERO).unwrap();
    fixture.follow(Duration::from_millis(5), [target(1, UP), target(2, UP)]);
    assert_eq!(fixture.start_due(Duration::from_millis(5)).map(|ticket| ticket.server), Some(ServerId(2)));
    assert_eq!(fixture.start_due(Duration::from_millis(5)), None);
    assert!(fixture.schedule.finish(ticket));
}

#[test]
fn a_check_in_flight_that_asks_what_nobody_wants_to_know_any_more_is_given_up() {
    let changes: [fn(&mut Target); 4] = [
        |target| target.address.set_port(3001),
        |target| Arc::make_mut(&mut target.policy).kind = crate::model::CheckKind::Tcp,
        |target| Arc::make_mut(&mut target.policy).http.expect_body = Some(b"ready"[..].into()),
        |target| Arc::make_mut(&mut target.policy).timeout = Some(Duration::from_millis(100)),
    ];
    for change in changes {
        let (mut fixture, second) = settled(UP);
        let at = fixture.next().unwrap();
        let old = fixture.start_due(at).unwrap();
        let (mut changed, at) = (target(1, UP), at.max(second) + Duration::from_millis(10));
        change(&mut changed);
        fixture.follow(at, [changed.clone()]);
        fixture.follow(at, [changed]);
        let new = fixture.start_due(at).unwrap();
        assert!(!fixture.schedule.finish(old), "the answer to another question");
        assert!(fixture.schedule.finish(new));
    }
}

#[test]
fn a_check_that_was_in_flight_for_long_is_given_up_for_trouble_and_the_next_one_is_not() {
    let (mut fixture, _) = settled(UP);
    let at = fixture.next().unwrap();
    let old = fixture.start_due(at).unwrap();
    let trouble = |fixture: &mut Fixture, at| fixture.schedule.trouble(fixture.start + at, ServerId(1));
    assert!(trouble(&mut fixture, at + TROUBLE_GAP / 2));
    assert_eq!(fixture.start_due(at + TROUBLE_GAP / 2), None, "it has only just begun");
    let late = at + 2 * TROUBLE_GAP;
    assert!(trouble(&mut fixture, late));
    let new = fixture.start_due(late).unwrap();
    assert!(!fixture.schedule.finish(old), "its result comes too late");
    for number in 1..9 {
        assert!(trouble(&mut fixture, late + number * TROUBLE_GAP));
        assert_eq!(fixture.start_due(late + number * TROUBLE_GAP), None, "or none would ever end");
    }
    assert!(fixture.schedule.finish(new));
}

#[test]
fn a_thousand_servers_that_came_together_are_never_checked_together() {
    let mut fixture = Fixture::following((0..1000).map(|server| target(server, Health::Initial)));
    let mut checks = [0; 400];
    let tick = Duration::from_millis(10);
    for number in 0..400 {
        let at = tick * number;
        let due: Vec<_> = std::iter::from_fn(|| fixture.start_due(at)).collect();
        checks[number as usize] = due.len();
        for ticket in due {
            assert!(fixture.schedule.finish(ticket));
            fixture.follow(at, (0..1000).map(|server| target(server, UP)));
        }
    }
    assert_eq!(checks[0], BURST as usize + 1, "the first have not to wait");
    assert!(checks[..100].iter().sum::<usize>() >= 1000, "after a second each has had one");
    assert!(checks[1..].iter().all(|checks| *checks < 50), "{checks:?}");
}

#[test]
fn a_thousand_new_servers_that_do_not_answer_share_one_pace() {
    let new = || (0..1000).map(|server| target(server, Health::Initial));
    let mut fixture = Fixture::following(new());
    let mut checks = 0;
    for number in 0..500 {
        let at = Duration::from_millis(10) * number;
        while let Some(ticket) = fixture.start_due(at) {
            assert!(fixture.schedule.finish(ticket));
            checks += 1;
        }
    }
    assert!(checks <= 6000, "{checks} in 5 s");
}

proptest! {
    #[test]
    fn no_server_is_forgotten_or_checked_in_a_busy_loop(
        interval_ms in 0u64..5000,
        takes_ms in prop::collection::vec(0u64..6000, 1..20),
        seed in any::<u64>(),
    ) {
        let mut checked = target(1, UP);
        let interval = Duration::from_millis(interval_ms);
        checked.policy = Arc::new(CheckPolicy { interval, ..CheckPolicy::default() });
        let whole = time_limit(&checked.policy);
        let mut fixture = Fixture::following([checked]);
        fixture.rng = StdRng::seed_from_u64(seed);
        let mut at = Duration::ZERO;
        for takes in takes_ms {
            let ticket = fixture.start_due(at);
            prop_assert!(ticket.is_some());
            prop_assert!(fixture.schedule.finish(ticket.unwrap()));
            let due = fixture.next().unwrap();
            prop_assert!(due > at && due <= at + whole);
            at = due.max(at + Duration::from_millis(takes).min(whole));
        }
    }
}

#[test]
fn a_doubt_brings_one_check_in_an_interval_whether_the_server_is_up_or_down() {
    for health in [UP, Health::Down { passed: 0, rise: 2 }] {
        let (mut fixture, at) = settled(health);
        let mut checks = 0;
        let mut now = at;
        // Twenty of them in a second, for three intervals.
        while now < at + 3 * INTERVAL {
            now += Duration::from_millis(50);
            fixture.schedule.doubt(fixture.start + now, ServerId(1));
            while let Some(ticket) = fixture.start_due(now) {
                checks += 1;
                assert!(fixture.schedule.finish(ticket));
            }
        }
        assert!((3..=7).contains(&checks), "{checks} checks of a server that is {health:?}");
    }
    let (mut fixture, at) = settled(UP);
    fixture.schedule.doubt(fixture.start + at + TROUBLE_GAP, ServerId(1));
    assert_eq!(fixture.next(), Some(at + TROUBLE_GAP), "at once");
    fixture.schedule.doubt(fixture.start + at, ServerId(9));
}
