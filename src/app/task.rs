//! Tasks of the balancer, and what becomes of each when it panics. That is a bug of ours, and no reason to stop traffic.
//!
//! A connection dies alone. What can begin anew from what others keep (accepting, checks, looking names up, the stats page)
//! is started again. What can't, because its state died with it (the cluster's member, a worker), ends the process in good
//! order, and whoever watches over the process starts it anew. Why not go on without: servers that nobody checks, or that
//! cannot leave, are worse than a balancer that is gone for a moment.

use std::{panic::AssertUnwindSafe, time::Duration};

use futures_util::FutureExt;
use tokio::{sync::mpsc, task::JoinHandle};

/// How long a task waits before it is started again, so that a bug that is met at once does not fill the log.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Told by what cannot go on: its name.
pub(super) type Failures = mpsc::UnboundedSender<&'static str>;

/// A task that ends with its owner.
pub(super) struct Task(JoinHandle<()>);

impl Task {
    /// A task that is started again when a bug ends it.
    pub(super) fn keep<F>(name: &'static str, make: impl FnMut() -> F + 'static) -> Self
    where
        F: Future<Output = ()> + 'static,
    {
        Self(tokio::task::spawn_local(kept(name, make)))
    }

    /// A task without which the process cannot go on.
    pub(super) fn vital(name: &'static str, task: impl Future<Output = ()> + 'static, failures: Failures) -> Self {
        Self(tokio::task::spawn_local(async move {
            if AssertUnwindSafe(task).catch_unwind().await.is_err() {
                // Nobody listens any more when the process is about to end.
                let _ending = failures.send(name);
            }
        }))
    }
}

impl Task {
    /// Waits until it has ended by itself, and ends it after `limit`.
    pub(super) async fn finish(mut self, limit: Duration) {
        if tokio::time::timeout(limit, &mut self.0).await.is_err() {
            self.0.abort();
            // It is gone only then, with what it owns.
            let _aborted = (&mut self.0).await;
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Carries out what `make` makes, and once more each time that a bug ends it. Ends when it does.
pub(super) async fn kept<F: Future<Output = ()>>(name: &'static str, mut make: impl FnMut() -> F) {
    // Made inside of what is guarded.
    while AssertUnwindSafe(async { make().await }).catch_unwind().await.is_err() {
        let pause = humantime::format_duration(RESTART_AFTER);
        tracing::error!("{name} ended by a bug (see above) and is started again in {pause}");
        tokio::time::sleep(RESTART_AFTER).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{cell::Cell, rc::Rc};

    #[tokio::test]
    async fn what_panics_is_started_again_until_it_ends_by_itself() {
        let starts = Cell::new(0);
        kept("the test", || async {
            starts.set(starts.get() + 1);
            tokio::task::yield_now().await;
            assert!(starts.get() == 3, "not yet");
        })
        .await;
        assert_eq!(starts.get(), 3);
    }

    #[tokio::test(flavor = "local")]
    async fn a_vital_task_that_panics_is_told_by_its_name() {
        let (failures, mut told) = mpsc::unbounded_channel();
        let _sound = Task::vital("sound", async {}, failures.clone());
        let _broken = Task::vital("broken", async { panic!("a bug") }, failures);
        assert_eq!(told.recv().await, Some("broken"));
        assert_eq!(told.recv().await, None);
    }

    #[tokio::test(flavor = "local")]
    async fn a_task_ends_with_its_owner() {
        let alive = Rc::new(());
        let its = Rc::clone(&alive);
        let task = Task::keep("the test", move || {
            let its = Rc::clone(&its);
            async move {
                std::future::pending::<()>().await;
                drop(its);
            }
        });
        tokio::task::yield_now().await;
        assert!(Rc::strong_count(&alive) > 1);
        drop(task);
        tokio::task::yield_now().await;
        assert_eq!(Rc::strong_count(&alive), 1);
    }
}
