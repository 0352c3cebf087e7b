//! File descriptors that have run out: told to everybody who can give some back.

use tokio::sync::watch;

/// Who has no file descriptors left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// This process has reached its limit (`EMFILE`).
    Process,
    /// The whole system has reached its limit (`ENFILE`).
    System,
}

/// The shortages so far.
#[derive(Debug)]
pub struct Shortages(watch::Sender<(u64, Shortage)>);

impl Shortages {
    /// Notes that the system refused a descriptor, and wakes those who follow.
    pub fn note(&self, shortage: Shortage) {
        self.0.send_modify(|(count, last)| {
            *count += 1;
            *last = shortage;
        });
    }

    /// How often a descriptor was refused.
    pub fn count(&self) -> u64 {
        self.0.borrow().0
    }

    /// Tells of each shortage that comes from now on: how many there were and what kind the last one was.
    pub fn follow(&self) -> watch::Receiver<(u64, Shortage)> {
        self.0.subscribe()
    }
}

impl Default for Shortages {
    fn default() -> Self {
        Self(watch::Sender::new((0, Shortage::Process)))
    }
}
