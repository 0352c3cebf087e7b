//! A timer that is moved far more often than it fires.
//!
//! A request moves its connection's deadline several times, and almost no deadline is ever reached. Why not one
//! `tokio::time::timeout` for each: it enters and leaves the timer wheel every time. This one stays in the wheel at an old
//! deadline and looks, when that fires, how far the real one has moved.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep};

use super::clock::{Millis, now_coarse};

pin_project! {
    /// A timer that is moved far more often than it fires.
    #[derive(Debug)]
    pub struct Watchdog {
        #[pin]
        sleep: Sleep,
        armed: Option<Millis>,
    }
}

impl Watchdog {
    /// A timer that waits for nothing. Needs a tokio runtime.
    pub fn new() -> Self {
        Self { sleep: tokio::time::sleep(Duration::ZERO), armed: None }
    }

    /// Whether `deadline` has passed; if not, the task is woken when it does. `None` never passes. It is polled by one task
    /// all its life.
    pub fn poll_expired(self: Pin<&mut Self>, cx: &mut Context<'_>, deadline: Option<Millis>) -> bool {
        let mut this = self.project();
        loop {
            let Some(deadline) = deadline else {
                // Whatever it is armed for fires for nothing, once.
                return false;
            };
            let now = now_coarse();
            if deadline <= now {
                return true;
            }
            // The coarse clock may lag behind the timer, so that the time alone does not tell.
            if this.armed.is_some_and(|armed| armed <= deadline) && !this.sleep.is_elapsed() {
                // It is still to come, and wakes this task.
                return false;
            }
            if this.armed.is_none_or(|armed| deadline < armed) {
                this.sleep.as_mut().reset(Instant::now() + now.until(deadline));
                *this.armed = Some(deadline);
            }
            match this.sleep.as_mut().poll(cx) {
                Poll::Pending => return false,
                Poll::Ready(()) => *this.armed = None,
            }
        }
    }
}

impl Default for Watchdog {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{future::poll_fn, pin::pin};

    async fn expires(watchdog: &mut Pin<&mut Watchdog>, deadline: Millis) {
        poll_fn(|cx| if watchdog.as_mut().poll_expired(cx, Some(deadline)) { Poll::Ready(()) } else { Poll::Pending })
            .await;
    }

    #[tokio::test]
    async fn it_fires_at_the_deadline_and_again_at_the_next() {
        let mut watchdog = pin!(Watchdog::new());
        for _ in 0..2 {
            let deadline = now_coarse().after(Duration::from_millis(30));
            expires(&mut watchdog, deadline).await;
            assert!(now_coarse() >= deadline);
        }
    }

    #[tokio::test]
    async fn an_earlier_deadline_is_not_missed() {
        let mut watchdog = pin!(Watchdog::new());
        let far = now_coarse().after(Duration::from_secs(3600));
        assert!(!poll_fn(|cx| Poll::Ready(watchdog.as_mut().poll_expired(cx, Some(far)))).await);
        expires(&mut watchdog, now_coarse().after(Duration::from_millis(20))).await;
    }

    #[tokio::test]
    async fn a_deadline_that_moved_on_does_not_fire_early() {
        let mut watchdog = pin!(Watchdog::new());
        let near = now_coarse().after(Duration::from_millis(20));
        assert!(!poll_fn(|cx| Poll::Ready(watchdog.as_mut().poll_expired(cx, Some(near)))).await);
        let moved = near.after(Duration::from_millis(40));
        expires(&mut watchdog, moved).await;
        assert!(now_coarse() >= moved);
    }
}
