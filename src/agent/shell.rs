//! Carries out what the lifecycle decides, and tells a person about it.

use std::{
    collections::VecDeque,
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::{
    FutureExt, Stream, StreamExt,
    future::{Fuse, FusedFuture},
};

use super::{
    contract::Cluster,
    lifecycle::{Action, AppExit, Input, Lifecycle, Rules},
    readiness::{Change, Readiness},
    settings::AgentSettings,
    signals::Signal,
    supervisor::{StartError, Supervisor},
};

#[cfg(test)]
mod tests;

/// How long the good-bye to the cluster may take. Docker kills 10 s after SIGTERM, and the application had its time before.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);

/// Runs an agent until its end and returns its exit status: the application's (128 + n after signal n), 126 or 127 when that
/// could not be started, 0 after a drain without a command.
///
/// `signals` may end; then nobody can ask the agent to stop. To be called inside of a tokio runtime with its timer and input
/// and output enabled.
pub async fn run(
    settings: AgentSettings,
    cluster: &impl Cluster,
    mut signals: impl Stream<Item = Signal> + Unpin,
) -> u8 {
    let mut supervisor = match Supervisor::new(settings.command.clone(), settings.orphans) {
        Ok(supervisor) => supervisor,
        Err(error) => {
            tracing::error!("cannot learn of the end of child processes: {error}");
            return 1;
        }
    };
    let mut readiness = Readiness::new(&settings);
    let rules = Rules {
        supervises: !settings.command.is_empty(),
        restart: settings.restart,
        drain_timeout: settings.drain_timeout,
    };
    if !rules.supervises {
        readiness.begin();
    }
    let (mut life, first) = Lifecycle::begin(Instant::now(), rules);
    let mut actions = VecDeque::from(first);
    let mut drain = pin!(Fuse::terminated());
    let mut drain_began = None;
    let (mut started, mut restarts) = (Instant::now(), 0);
    loop {
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Start => match supervisor.start() {
                    Ok(pid) => {
                        started = Instant::now();
                        tracing::info!("started the application as process {pid}");
                        readiness.begin();
                    }
                    Err(error) => {
                        tell_of_failed_start(&error);
                        actions.extend(life.handle(Instant::now(), Input::StartFailed(error.status())));
                    }
                },
                Action::Announce(state) => cluster.set_state(state).await,
                Action::AwaitDrained => {
                    let limit = humantime::format_duration(settings.drain_timeout);
                    tracing::info!("draining: no new requests, and at most {limit} for those in flight");
                    drain_began = Some(Instant::now());
                    drain.set(cluster.drained().fuse());
                }
                Action::Stop => {
                    tracing::info!("asking the application to end (SIGTERM)");
                    supervisor.send(rustix::process::Signal::TERM);
                }
                Action::Kill => {
                    tracing::warn!("the application did not end in time: killing it (SIGKILL)");
                    supervisor.kill();
                }
                Action::Finish(status) => {
                    leave(cluster).await;
                    tracing::info!("ending with exit status {status}");
                    return status;
                }
            }
        }
        let input = tokio::select! {
            Some(signal) = signals.next() => match signal {
                Signal::Terminate | Signal::Interrupt => {
                    tell_of_stop(signal, drain_began.is_some(), life.is_draining());
                    Input::Terminate
                }
                Signal::Hangup | Signal::Quit | Signal::User1 | Signal::User2 | Signal::WindowChange => {
                    supervisor.send(signal.to_system());
                    continue;
                }
            },
            exit = supervisor.exited() => Input::AppExited(exit),
            change = readiness.changed(), if life.wants_readiness() => match change {
                Change::Ready => Input::AppReady,
                Change::Lost => Input::AppLost,
            },
            () = &mut drain => Input::Drained,
            () = reached(life.deadline()) => Input::Elapsed,
        };
        if let Some(began) = drain_began {
            let was_waiting = input == Input::Drained || !drain.is_terminated();
            tell_of_drain(input, was_waiting.then(|| began.elapsed()));
        }
        actions.extend(life.handle(Instant::now(), input));
        if !life.is_draining() {
            drain.set(Fuse::terminated());
        }
        if let Input::AppExited(exit) = input {
            tell_of_end(exit, started.elapsed(), life.deadline(), &mut restarts);
        }
    }
}

/// Says goodbye within the limit.
pub(super) async fn leave(cluster: &impl Cluster) {
    if tokio::time::timeout(LEAVE_LIMIT, cluster.leave()).await.is_err() {
        tracing::warn!("leaving the cluster took too long; it will notice by itself that this node is gone");
    }
}

async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

fn tell_of_failed_start(error: &StartError) {
    match std::error::Error::source(error) {
        Some(source) => tracing::error!("{error}: {source}"),
        None => tracing::error!("{error}"),
    }
}

/// `again` is when it starts again, if it does. One line says all: of an application that can't run, there are many.
fn tell_of_end(exit: AppExit, ran: Duration, again: Option<Instant>, restarts: &mut u32) {
    let Some(again) = again else { return tracing::info!("the application ended: {exit}") };
    *restarts = restarts.saturating_add(1);
    let (ran, pause) = (ran.as_secs_f64(), again.saturating_duration_since(Instant::now()).as_secs_f64());
    tracing::warn!("the application ended after {ran:.1} s: {exit}; restart {restarts} in {pause:.1} s");
}

fn tell_of_stop(signal: Signal, again: bool, is_draining: bool) {
    match (again, is_draining) {
        (false, _) => tracing::info!("{signal}: ending"),
        (true, true) => tracing::warn!("{signal} again: no longer waiting for the drain"),
        (true, false) => tracing::info!("{signal} again: the application was already asked to end"),
    }
}

/// Says how the wait for the balancers ended, when `input` ended it; `waited` is `None` when it had ended before.
fn tell_of_drain(input: Input, waited: Option<Duration>) {
    let Some(seconds) = waited.map(|waited| waited.as_secs_f64()) else { return };
    match input {
        Input::Drained => tracing::info!("drained in {seconds:.1} s: nothing is in flight any more"),
        Input::Elapsed => {
            tracing::warn!("not drained after {seconds:.1} s: going on, what is in flight may be cut off")
        }
        Input::Terminate => tracing::warn!("the drain is cut short after {seconds:.1} s"),
        Input::AppExited(_) => tracing::warn!("the application ended {seconds:.1} s into the drain"),
        Input::AppReady | Input::AppLost | Input::StartFailed(_) => {}
    }
}
