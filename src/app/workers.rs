//! The worker threads.

use std::{
    io, net,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::Arc,
    thread::JoinHandle,
};

use futures_util::future::join_all;
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
    sync::{mpsc, watch},
};

use super::task::{Failures, kept};
use crate::{
    config::LogFormat,
    proxy::{Frontend, Settings, Worker, accept_loop, accept_pending},
    registry::{Registry, Slot},
    telemetry::LogBuffer,
};

/// What the workers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// Accept and serve.
    Run,
    /// Accept nothing more; end when all connections have.
    Drain,
    /// End now.
    Quit,
}

/// A listening socket of one worker, with what comes in there.
pub(super) struct Entrance {
    pub(super) listener: net::TcpListener,
    pub(super) frontend: Frontend,
}

/// What a worker is built from.
pub(super) struct WorkerParts {
    pub(super) slot: Slot,
    pub(super) entrances: Vec<Entrance>,
    pub(super) registry: Arc<Registry>,
    pub(super) settings: watch::Receiver<Arc<Settings>>,
    pub(super) log_format: LogFormat,
    pub(super) log: Option<LogBuffer>,
    pub(super) signal: watch::Receiver<Signal>,
}

/// Turns of tasks between two looks for new events while there is work: a request takes about four, so that a hundred
/// busy connections share one system call.
const TURNS: u32 = 400;

const HOUSEKEEPING: &str = "the housekeeping of a worker";

/// Starts a worker thread, which runs until it is told to end. It holds `running` as long as it does. One that ends before,
/// by an error or a bug, is a failure: its share of the traffic would find nobody.
///
/// # Errors
/// When the system has no thread to give.
pub(super) fn start(parts: WorkerParts, running: mpsc::Sender<()>, failures: Failures) -> io::Result<JoinHandle<()>> {
    let name = format!("lb-worker-{}", parts.slot.0);
    std::thread::Builder::new().name(name).spawn(move || {
        // The panic hook has told of a panic.
        let ended = catch_unwind(AssertUnwindSafe(|| run(parts)));
        if let Ok(Err(error)) = &ended {
            tracing::error!("a worker could not start: {error}");
        }
        if !matches!(ended, Ok(Ok(()))) {
            // Nobody listens any more when the process is about to end.
            let _ending = failures.send("a worker");
        }
        drop(running);
    })
}

fn run(parts: WorkerParts) -> io::Result<()> {
    // Not a `LocalSet`: it would put a second queue before the runtime's own, and each wake-up through both.
    let mut builder = Builder::new_current_thread();
    let runtime = builder.enable_all().event_interval(TURNS).build_local(LocalOptions::default())?;
    // Tasks that are left end with the runtime: they have used up the grace period.
    runtime.block_on(serve(parts))
}

async fn serve(parts: WorkerParts) -> io::Result<()> {
    let WorkerParts { slot, entrances, registry, settings, log_format, log, mut signal } = parts;
    let worker = Worker::new(slot, &registry, settings, log_format, log);
    let mut open = Vec::with_capacity(entrances.len());
    for Entrance { listener, frontend } in entrances {
        open.push((TcpListener::from_std(listener)?, Rc::new(frontend)));
    }
    tokio::select! {
        () = accept_all(&open, &worker) => {}
        () = kept(HOUSEKEEPING, || worker.housekeeping()) => {}
        () = told(&mut signal, Signal::Drain) => {}
    }
    // The order may be here before the news of what arrived ahead of it; the runtime asks the system for those now.
    tokio::task::yield_now().await;
    worker.drain();
    for (listener, frontend) in open {
        accept_pending(listener, &worker, &frontend)?;
    }
    tokio::select! {
        () = worker.drained() => {}
        () = kept(HOUSEKEEPING, || worker.housekeeping()) => {}
        () = told(&mut signal, Signal::Quit) => worker.quit(),
    }
    Ok(())
}

/// Accepts connections on all listeners. Never ends.
async fn accept_all(open: &[(TcpListener, Rc<Frontend>)], worker: &Rc<Worker>) {
    let accepting = open.iter().map(|(listener, frontend)| {
        // A panic here is one of accepting; each connection has a task of its own.
        kept("accepting connections", move || accept_loop(listener, worker, frontend))
    });
    join_all(accepting).await;
}

/// Waits until the workers are told `wanted`, or something stronger.
async fn told(signal: &mut watch::Receiver<Signal>, wanted: Signal) {
    let is_told = |now: &Signal| match (*now, wanted) {
        (Signal::Quit, _) | (Signal::Drain, Signal::Drain) => true,
        (Signal::Run | Signal::Drain, _) => false,
    };
    // A sender that is gone can tell nothing more: that is the end, too.
    let _told_or_gone = signal.wait_for(is_told).await;
}
