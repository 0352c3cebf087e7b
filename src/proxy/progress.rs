//! How far the body of a request has come, as the client's side and the server's side of it tell each other.

use std::{
    cell::{Cell, RefCell},
    task::Waker,
};

use super::pace::Pace;
use crate::net::{Millis, now_coarse};

/// How the transfer of a request's body stands.
#[derive(Debug)]
pub(super) struct Upload {
    received: Cell<u64>,
    pace: RefCell<Pace>,
    /// Bytes of the response that were written up to the last look.
    written: Cell<u64>,
    progress: Cell<Progress>,
    waker: RefCell<Option<Waker>>,
}

/// Where the transfer of a request's body has come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Progress {
    /// There is more, and nobody waits for it.
    #[default]
    Open,
    /// We wait for the client.
    Waiting,
    /// All of it is passed on.
    Complete,
    /// The client was silent too long, or too slow.
    Expired,
    /// It is longer than allowed.
    TooLarge,
    /// It broke off, or is not valid.
    Broken,
    /// The response came before its end, and nobody wants the rest.
    Cancelled,
}

impl Upload {
    pub(super) fn new(pace: Pace, written: u64) -> Self {
        Self {
            received: Cell::new(0),
            pace: RefCell::new(pace),
            written: Cell::new(written),
            progress: Cell::default(),
            waker: RefCell::default(),
        }
    }

    pub(super) fn progress(&self) -> Progress {
        self.progress.get()
    }

    pub(super) fn set(&self, progress: Progress) {
        self.progress.set(progress);
    }

    /// Bytes of the body that have come, with this piece of it.
    pub(super) fn receive(&self, bytes: u64) -> u64 {
        self.received.set(self.received.get() + bytes);
        self.pace.borrow_mut().note(now_coarse(), bytes, false);
        self.received.get()
    }

    /// Notes that the client owes the next piece, and whom to wake if it never comes.
    pub(super) fn wait(&self, waker: &Waker) {
        if !self.waits() {
            self.pace.borrow_mut().note(now_coarse(), 0, true);
        }
        self.set(Progress::Waiting);
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    /// Whether the client owes the next piece.
    pub(super) fn waits(&self) -> bool {
        self.progress.get() == Progress::Waiting
    }

    /// When the client will have sent too little; `None` while we don't wait for it. `written` is what was written to it:
    /// a client that reads a response does not have to send meanwhile.
    pub(super) fn deadline(&self, written: u64) -> Option<Millis> {
        if !self.waits() {
            return None;
        }
        let mut pace = self.pace.borrow_mut();
        let before = self.written.replace(written);
        if written > before {
            pace.note(now_coarse(), written - before, true);
        }
        pace.deadline()
    }

    pub(super) fn expire(&self) {
        self.end(Progress::Expired);
    }

    pub(super) fn cancel(&self) {
        self.end(Progress::Cancelled);
    }

    fn end(&self, progress: Progress) {
        self.progress.set(progress);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}
