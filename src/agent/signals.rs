//! Signals: which ones the agent takes, and where they come from.
//!
//! They reach [`run`](super::run) as a stream, so that a test can send one to an agent without sending it to every other test
//! in the process.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use futures_util::Stream;
use tokio::signal::unix::SignalKind;

/// A signal that the agent takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: begin the drain, or hurry.
    Terminate,
    /// SIGINT: the same.
    Interrupt,
    /// SIGHUP: for the application.
    Hangup,
    /// SIGQUIT: for the application (nginx ends gracefully, a JVM writes its threads).
    Quit,
    /// SIGUSR1: for the application.
    User1,
    /// SIGUSR2: for the application.
    User2,
    /// SIGWINCH: for the application.
    WindowChange,
}

impl Signal {
    /// Every signal that the agent takes.
    pub const ALL: [Self; 7] =
        [Self::Terminate, Self::Interrupt, Self::Hangup, Self::Quit, Self::User1, Self::User2, Self::WindowChange];

    /// The signal as the system knows it.
    pub(super) fn to_system(self) -> rustix::process::Signal {
        match self {
            Self::Terminate => rustix::process::Signal::TERM,
            Self::Interrupt => rustix::process::Signal::INT,
            Self::Hangup => rustix::process::Signal::HUP,
            Self::Quit => rustix::process::Signal::QUIT,
            Self::User1 => rustix::process::Signal::USR1,
            Self::User2 => rustix::process::Signal::USR2,
            Self::WindowChange => rustix::process::Signal::WINCH,
        }
    }
}

impl std::fmt::Display for Signal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Hangup => "SIGHUP",
            Self::Quit => "SIGQUIT",
            Self::User1 => "SIGUSR1",
            Self::User2 => "SIGUSR2",
            Self::WindowChange => "SIGWINCH",
        })
    }
}

/// The signals that this process gets. Never ends.
#[derive(Debug)]
pub struct SystemSignals(Vec<(Signal, tokio::signal::unix::Signal)>);

impl SystemSignals {
    /// Takes the signals over from their default action. To be called inside of a tokio runtime, and before the application
    /// starts, so that none is lost; once taken over, they stay so for the life of the process.
    ///
    /// # Errors
    /// When the system refuses a handler.
    pub fn new() -> io::Result<Self> {
        let taken = |signal: Signal| {
            let kind = SignalKind::from_raw(signal.to_system().as_raw());
            tokio::signal::unix::signal(kind).map(|stream| (signal, stream))
        };
        Signal::ALL.into_iter().map(taken).collect::<io::Result<_>>().map(Self)
    }
}

impl Stream for SystemSignals {
    type Item = Signal;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Signal>> {
        let mut ready = self.0.iter_mut().filter_map(|(signal, stream)| match stream.poll_recv(cx) {
            Poll::Ready(Some(())) => Some(*signal),
            Poll::Ready(None) | Poll::Pending => None,
        });
        ready.next().map_or(Poll::Pending, |signal| Poll::Ready(Some(signal)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::StreamExt;

    use super::*;
    use crate::agent::alone::has_own_process;

    /// Handlers stay for the life of a process: here, Ctrl-C would no longer end the tests.
    #[tokio::test]
    async fn every_signal_arrives_as_what_it_is() {
        if !has_own_process(module_path!(), "every_signal_arrives_as_what_it_is") {
            return;
        }
        let mut signals = SystemSignals::new().unwrap();
        for sent in Signal::ALL {
            rustix::process::kill_process(rustix::process::getpid(), sent.to_system()).unwrap();
            assert_eq!(tokio::time::timeout(Duration::from_secs(10), signals.next()).await, Ok(Some(sent)));
        }
    }
}
