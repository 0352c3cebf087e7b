//! The open connections of a worker, and how to reach each.

use std::{rc::Rc, task::Waker, time::Duration};

use rustc_hash::FxHashMap;

use super::{
    client::{Client, Wish},
    worker::Worker,
};
use crate::net::Millis;

/// Which part of the idle connections ends at once when there is no room: the next shortage is a few milliseconds away.
const PART: usize = 8;
/// The least number of them.
const FEW: usize = 8;
/// How long a new connection may take to send its first byte before it counts as idle like others.
const NEWCOMER: Duration = Duration::from_secs(1);

/// The open connections of a worker.
#[derive(Debug, Default)]
pub(super) struct Roster {
    next: u64,
    entries: FxHashMap<u64, Entry>,
    /// Those that were not at rest when they were last looked at: few, beside all that wait.
    talking: Vec<u64>,
}

#[derive(Debug, Default)]
struct Entry {
    waker: Option<Waker>,
    /// `None` before a PROXY header has told whose it is.
    client: Option<Rc<Client>>,
}

impl Roster {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Wakers of all.
    pub(super) fn all(&self) -> Vec<Waker> {
        self.entries.values().filter_map(|entry| entry.waker.clone()).collect()
    }

    /// Tells the connections that have been idle for `long` to keep less memory; returns how to wake them.
    pub(super) fn due_to_rest(&mut self, now: Millis, long: Duration) -> Vec<Waker> {
        let Self { entries, talking, .. } = self;
        talking.retain(|number| {
            let client = entries.get(number).and_then(|entry| entry.client.as_ref());
            client.is_some_and(|client| !client.is_off_the_list())
        });
        let is_due = |client: &Client| client.idle_since().is_some_and(|(since, _)| since.after(long) <= now);
        let client = |number: &u64| Some((*number, &**self.entries.get(number)?.client.as_ref()?));
        let due = self.talking.iter().filter_map(client).filter(|(_, client)| is_due(client));
        self.tell(Wish::Rest, due.map(|(number, _)| number))
    }

    /// Tells some idle connections to end, those first that have been idle longest; returns how to wake them.
    pub(super) fn to_leave(&self, now: Millis) -> Vec<Waker> {
        // A client that has only just come may have sent its request already.
        let is_old = |since: Millis, first: bool| !first || since.after(NEWCOMER) <= now;
        let mut idle: Vec<_> = self
            .clients()
            .filter(|(_, client)| !client.is_leaving())
            .filter_map(|(number, client)| Some((client.idle_since()?, number)))
            .filter(|((since, first), _)| is_old(*since, *first))
            .collect();
        idle.sort_unstable_by_key(|((since, _), number)| (*since, *number));
        let enough = (idle.len() / PART).max(FEW);
        self.tell(Wish::Leave, idle.into_iter().take(enough).map(|(_, number)| number))
    }

    /// Wakers and clients of connections that are known.
    pub(super) fn with_client(&self) -> impl Iterator<Item = (Option<&Waker>, &Client)> {
        self.entries.values().filter_map(|entry| Some((entry.waker.as_ref(), &**entry.client.as_ref()?)))
    }

    fn clients(&self) -> impl Iterator<Item = (u64, &Client)> {
        self.entries.iter().filter_map(|(number, entry)| Some((*number, &**entry.client.as_ref()?)))
    }

    fn tell(&self, wish: Wish, numbers: impl Iterator<Item = u64>) -> Vec<Waker> {
        let entries = numbers.filter_map(|number| self.entries.get(&number));
        let told = entries.filter_map(|entry| {
            entry.client.as_ref()?.wish(wish);
            entry.waker.clone()
        });
        told.collect()
    }
}

impl Worker {
    /// Notes an open connection until the entry is dropped.
    pub(super) fn enroll(self: &Rc<Self>) -> Enrolled {
        let mut roster = self.roster.borrow_mut();
        roster.next += 1;
        let number = roster.next;
        roster.entries.insert(number, Entry::default());
        Enrolled { worker: Rc::clone(self), number, wakes: false, known: false }
    }
}

/// An open connection's entry in the roster.
#[derive(Debug)]
pub(super) struct Enrolled {
    worker: Rc<Worker>,
    number: u64,
    /// Whether the roster knows how to wake it.
    wakes: bool,
    /// Whether the roster knows whose it is.
    known: bool,
}

impl Enrolled {
    /// The worker that knows of it.
    pub(super) fn worker(&self) -> &Rc<Worker> {
        &self.worker
    }

    /// Tells how to wake the connection; a task keeps its waker, so once is enough.
    pub(super) fn wake_by(&mut self, waker: &Waker) {
        if !self.wakes {
            self.wakes = true;
            self.tell(Entry { waker: Some(waker.clone()), client: None });
        }
    }

    /// Tells whose connection it is and how to wake it.
    pub(super) fn introduce(&mut self, client: &Rc<Client>, waker: &Waker) {
        if !self.known {
            (self.wakes, self.known) = (true, true);
            self.tell(Entry { waker: Some(waker.clone()), client: Some(Rc::clone(client)) });
        }
    }

    /// Tells that the connection is not at rest any more.
    pub(super) fn talks(&self, client: &Client) {
        if client.comes_on_the_list() {
            self.worker.roster.borrow_mut().talking.push(self.number);
        }
    }

    fn tell(&self, entry: Entry) {
        self.worker.roster.borrow_mut().entries.insert(self.number, entry);
    }
}

impl Drop for Enrolled {
    fn drop(&mut self) {
        let mut roster = self.worker.roster.borrow_mut();
        let entry = roster.entries.remove(&self.number);
        if roster.entries.is_empty() {
            self.worker.empty.notify_waiters();
        }
        // The client counts its last bytes, and must find nothing locked.
        drop((roster, entry));
    }
}
