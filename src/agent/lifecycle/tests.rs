//! Every phase and every input.

use proptest::prelude::*;

use super::*;

const DRAIN: Duration = Duration::from_secs(7);

fn exit(status: i32) -> AppExit {
    AppExit::Known(ExitStatus::from_raw(status << 8))
}

fn killed_by(signal: i32) -> AppExit {
    AppExit::Known(ExitStatus::from_raw(signal))
}

/// A life that is followed by its clock.
struct Life {
    life: Lifecycle,
    now: Instant,
}

impl Life {
    #[expect(clippy::disallowed_methods, reason = "an instant to count from: nothing here waits")]
    fn new(supervises: bool, restart: RestartPolicy) -> Self {
        let now = Instant::now();
        let (life, first) = Lifecycle::begin(now, Rules { supervises, restart, drain_timeout: DRAIN });
        assert_eq!(first, if supervises { vec![Action::Start] } else { vec![] });
        Self { life, now }
    }

    /// With a command that is never restarted, ready for traffic.
    fn ready() -> Self {
        let mut life = Self::new(true, RestartPolicy::Never);
        assert_eq!(life.on(Input::AppReady), [Action::Announce(NodeState::Ready)]);
        life
    }

    fn draining() -> Self {
        let mut life = Self::ready();
        assert_eq!(life.on(Input::Terminate), [Action::Announce(NodeState::Draining), Action::AwaitDrained]);
        life
    }

    fn stopping() -> Self {
        let mut life = Self::draining();
        assert_eq!(life.on(Input::Drained), [Action::Stop]);
        life
    }

    fn killing() -> Self {
        let mut life = Self::stopping();
        life.wait();
        assert_eq!(life.on(Input::Elapsed), [Action::Kill]);
        life
    }

    fn on(&mut self, input: Input) -> Vec<Action> {
        self.life.handle(self.now, input)
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// Lets time pass until the deadline; how much it was.
    fn wait(&mut self) -> Duration {
        let waited = self.life.deadline().unwrap() - self.now;
        self.now += waited;
        waited
    }
}

#[test]
fn readiness_is_announced_once_for_each_turn() {
    let mut life = Life::ready();
    assert_eq!(life.on(Input::AppReady), []);
    assert_eq!(life.on(Input::AppLost), [Action::Announce(NodeState::Starting)]);
    assert_eq!(life.on(Input::AppLost), []);
    assert_eq!(life.on(Input::AppReady), [Action::Announce(NodeState::Ready)]);
}

#[test]
fn an_application_that_ends_is_withdrawn_at_once_and_its_status_is_the_agents() {
    for (how, status) in [(exit(0), 0), (exit(3), 3), (killed_by(9), 137), (AppExit::Unknown, 1)] {
        let mut life = Life::ready();
        let actions = life.on(Input::AppExited(how));
        assert_eq!(actions, [Action::Announce(NodeState::Starting), Action::Finish(status)]);
    }
}

#[test]
fn the_policy_says_who_starts_again() {
    let starts_again = |restart, how| {
        let mut life = Life::new(true, restart);
        let actions = life.on(Input::AppExited(how));
        assert_eq!(actions.is_empty(), life.life.deadline().is_some());
        actions.is_empty()
    };
    for how in [exit(0), exit(1), killed_by(15), AppExit::Unknown] {
        assert!(starts_again(RestartPolicy::Always, how));
        assert!(!starts_again(RestartPolicy::Never, how));
        assert_eq!(starts_again(RestartPolicy::OnFailure, how), how != exit(0));
    }
}

#[test]
fn pauses_double_up_to_ten_seconds_and_a_sound_run_resets_them() {
    let mut life = Life::new(true, RestartPolicy::Always);
    let mut pause_after = |ran| {
        life.pass(ran);
        assert_eq!(life.on(Input::AppExited(exit(1))), []);
        let pause = life.wait();
        assert_eq!(life.on(Input::Elapsed), [Action::Start]);
        pause.as_millis()
    };
    let pauses: Vec<_> = (0..9).map(|_| pause_after(Duration::from_secs(1))).collect();
    assert_eq!(pauses, [100, 200, 400, 800, 1600, 3200, 6400, 10_000, 10_000]);
    assert_eq!(pause_after(SOUND_AFTER), 100);
}

#[test]
fn a_pause_ends_neither_early_nor_by_what_answers_on_the_port() {
    let mut life = Life::new(true, RestartPolicy::Always);
    assert_eq!(life.on(Input::AppExited(exit(1))), []);
    assert!(!life.life.wants_readiness());
    for input in [Input::Elapsed, Input::AppReady, Input::AppLost, Input::Drained] {
        assert_eq!(life.on(input), []);
    }
    life.wait();
    assert_eq!(life.on(Input::Elapsed), [Action::Start]);
    assert!(life.life.wants_readiness());
}

#[test]
fn a_stop_during_a_pause_ends_with_the_last_status() {
    let mut life = Life::new(true, RestartPolicy::Always);
    assert_eq!(life.on(Input::AppExited(exit(9))), []);
    assert_eq!(life.on(Input::Terminate), [Action::Finish(9)]);
}

#[test]
fn a_command_that_cannot_start_ends_the_agent_whatever_the_policy() {
    for restart in RestartPolicy::ALL {
        assert_eq!(Life::new(true, restart).on(Input::StartFailed(127)), [Action::Finish(127)]);
    }
}

#[test]
fn a_stop_drains_even_before_the_application_was_ready() {
    let mut life = Life::new(true, RestartPolicy::Always);
    assert_eq!(life.on(Input::Terminate), [Action::Announce(NodeState::Draining), Action::AwaitDrained]);
}

#[test]
fn a_drain_ends_when_nothing_is_in_flight_or_time_is_up_or_somebody_hurries() {
    assert_eq!(Life::draining().on(Input::Drained), [Action::Stop]);
    assert_eq!(Life::draining().on(Input::Terminate), [Action::Stop]);
    let mut life = Life::draining();
    life.pass(DRAIN - Duration::from_millis(1));
    assert_eq!(life.on(Input::Elapsed), []);
    life.wait();
    assert_eq!(life.on(Input::Elapsed), [Action::Stop]);
}

#[test]
fn readiness_does_not_end_a_drain() {
    let mut life = Life::draining();
    assert!(life.life.is_draining() && !life.life.wants_readiness());
    assert_eq!(life.on(Input::AppLost), []);
    assert_eq!(life.on(Input::AppReady), []);
}

#[test]
fn an_application_that_ends_during_the_drain_is_not_started_again() {
    let mut life = Life::new(true, RestartPolicy::Always);
    life.on(Input::Terminate);
    assert_eq!(life.on(Input::AppExited(exit(1))), [Action::Finish(1)]);
}

#[test]
fn what_the_drain_leaves_is_the_applications() {
    let grace_after = |drained_after| {
        let mut life = Life::draining();
        life.pass(drained_after);
        assert_eq!(life.on(Input::Drained), [Action::Stop]);
        life.wait()
    };
    assert_eq!(grace_after(Duration::ZERO), DRAIN + STOP_GRACE);
    assert_eq!(grace_after(DRAIN), STOP_GRACE);
    assert_eq!(grace_after(DRAIN + STOP_GRACE), LEAST_STOP_GRACE);
}

#[test]
fn a_stopped_application_ends_or_is_killed_when_its_time_is_up() {
    assert_eq!(Life::stopping().on(Input::AppExited(killed_by(15))), [Action::Finish(143)]);
    let mut life = Life::stopping();
    assert_eq!(life.on(Input::Elapsed), [], "not before");
    assert_eq!(Life::killing().on(Input::AppExited(killed_by(9))), [Action::Finish(137)]);
}

#[test]
fn a_signal_while_stopping_is_handed_on_and_takes_no_time_away() {
    let mut life = Life::stopping();
    let until = life.life.deadline();
    assert_eq!(life.on(Input::Terminate), [Action::Stop]);
    assert_eq!(life.life.deadline(), until);
    assert_eq!(Life::killing().on(Input::Terminate), []);
}

#[test]
fn without_a_command_the_drain_is_all_there_is_to_stop() {
    for end in [Input::Drained, Input::Terminate] {
        let mut life = Life::new(false, RestartPolicy::Never);
        assert_eq!(life.on(Input::AppReady), [Action::Announce(NodeState::Ready)]);
        assert_eq!(life.on(Input::Terminate), [Action::Announce(NodeState::Draining), Action::AwaitDrained]);
        assert_eq!(life.on(end), [Action::Finish(0)]);
    }
}

#[test]
fn an_absurd_drain_timeout_does_not_overflow() {
    let mut life = Life::ready();
    life.life.rules.drain_timeout = Duration::MAX;
    assert_eq!(life.on(Input::Terminate), [Action::Announce(NodeState::Draining), Action::AwaitDrained]);
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        Just(Input::AppReady),
        Just(Input::AppLost),
        (0..3).prop_map(|status| Input::AppExited(exit(status))),
        Just(Input::AppExited(killed_by(9))),
        Just(Input::Terminate),
        Just(Input::Drained),
        Just(Input::Elapsed),
    ]
}

proptest! {
    /// Whatever happens in whatever order: one application at a time, asked before it is killed, and one end.
    #[test]
    fn any_order_of_events_keeps_the_promises(
        restart in prop::sample::select(&RestartPolicy::ALL[..]),
        events in prop::collection::vec((any_input(), 0u64..4000), 0..40),
    ) {
        let mut life = Life::new(true, restart);
        let (mut runs, mut was_told_to_stop, mut was_asked, mut is_over) = (true, false, false, false);
        for (input, ms) in events {
            life.pass(Duration::from_millis(ms));
            if matches!(input, Input::AppExited(_)) {
                // What does not run cannot end.
                if !runs {
                    continue;
                }
                runs = false;
            }
            was_told_to_stop |= input == Input::Terminate;
            for action in life.on(input) {
                prop_assert!(!is_over, "{action:?} after the end");
                match action {
                    Action::Start => {
                        prop_assert!(!runs && !was_told_to_stop);
                        runs = true;
                    }
                    Action::Announce(NodeState::Ready) => prop_assert!(runs && !was_told_to_stop),
                    Action::Announce(NodeState::Draining) | Action::AwaitDrained => prop_assert!(was_told_to_stop),
                    Action::Announce(NodeState::Starting) => prop_assert!(!was_told_to_stop),
                    Action::Announce(NodeState::Left) => prop_assert!(false, "leaving is the end's business"),
                    Action::Stop => {
                        prop_assert!(runs && was_told_to_stop);
                        was_asked = true;
                    }
                    Action::Kill => prop_assert!(runs && was_asked),
                    Action::Finish(_) => {
                        prop_assert!(!runs, "an application is left behind");
                        is_over = true;
                    }
                }
            }
            prop_assert!(is_over || runs || life.life.deadline().is_some(), "stuck");
        }
    }
}
