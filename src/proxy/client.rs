//! One client connection, as its requests and its timers see it.

use std::{
    cell::{Cell, RefCell},
    net::SocketAddr,
    rc::Rc,
    sync::{Arc, atomic::AtomicU64},
    task::Waker,
    time::Duration,
};

use http::HeaderValue;

use super::worker::{Frontend, Settings, Worker};
use crate::{
    http_rules::Forwarding,
    net::{Millis, Pulse, now_coarse},
    registry::{FrontendCounters, FrontendLive, Occupied, add},
    upstream::ServerDebt,
};

/// One client connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) frontend: Rc<Frontend>,
    pub(super) settings: Arc<Settings>,
    pub(super) address: SocketAddr,
    /// Where the connection came in.
    pub(super) local: SocketAddr,
    pub(super) forwarding: Forwarding,
    pub(super) pulse: Arc<Pulse>,
    stage: Cell<Stage>,
    upload: RefCell<Option<Rc<Upload>>>,
    counted: Cell<(u64, u64)>,
    stopped_reading: Cell<bool>,
    rests: Cell<bool>,
    bug: Cell<bool>,
    wish: Cell<Wish>,
    _occupied: Occupied<FrontendLive>,
}

/// How long a new connection may take to send its first byte once the worker drains.
const LAST_CALL: Duration = Duration::from_millis(250);

/// What the worker wishes of an idle connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Wish {
    /// Nothing.
    #[default]
    None,
    /// To keep no more memory than it needs for waiting.
    Rest,
    /// To end, because others need its descriptor.
    Leave,
}

/// What the connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The first byte of a request.
    Idle {
        /// Since when.
        since: Millis,
        /// Bytes that had been received then.
        received: u64,
        /// Whether it is the first request.
        first: bool,
    },
    /// The rest of a request's head.
    Head {
        /// When its first byte came.
        since: Millis,
    },
    /// The end of a response.
    Busy,
    /// The end of the connection: a response was given before its request was complete, and no other request can follow.
    Closing,
}

/// Why a connection was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Overdue {
    /// No request came; nobody misses it.
    Idle,
    /// A request head was not complete in time.
    Head,
    /// The client stopped reading a response.
    Reading,
    /// The client stopped sending a body; the request was told.
    Sending,
}

impl Client {
    pub(super) fn new(
        worker: &Rc<Worker>,
        frontend: &Rc<Frontend>,
        address: SocketAddr,
        local: SocketAddr,
        pulse: Arc<Pulse>,
    ) -> Rc<Self> {
        let text = |text: String| HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        let stage = Stage::Idle { since: now_coarse(), received: 0, first: true };
        let client = Self {
            worker: Rc::clone(worker),
            frontend: Rc::clone(frontend),
            settings: worker.settings(),
            address,
            local,
            forwarding: Forwarding {
                client: text(address.ip().to_canonical().to_string()),
                port: text(local.port().to_string()),
                proto: HeaderValue::from_static("http"),
            },
            pulse,
            stage: Cell::new(stage),
            upload: RefCell::new(None),
            counted: Cell::new((0, 0)),
            stopped_reading: Cell::new(false),
            rests: Cell::new(false),
            bug: Cell::new(false),
            wish: Cell::default(),
            _occupied: Occupied::enter(&frontend.live),
        };
        add(&client.counters().connections, 1);
        Rc::new(client)
    }

    pub(super) fn counters(&self) -> &FrontendCounters {
        self.frontend.live.counters(self.worker.slot)
    }

    /// A request's head is complete. How long it took.
    pub(super) fn begin_request(&self) -> Duration {
        let took = match self.stage.replace(Stage::Busy) {
            Stage::Head { since } => since.until(now_coarse()),
            Stage::Idle { .. } | Stage::Busy | Stage::Closing => Duration::ZERO,
        };
        *self.upload.borrow_mut() = None;
        took
    }

    /// A response is complete, as far as it is ours to say.
    pub(super) fn end_request(&self) {
        self.count_bytes();
        let unfinished = self.upload.borrow_mut().take().filter(|upload| upload.progress() != Progress::Complete);
        if let Some(upload) = unfinished {
            upload.cancel();
            self.stage.set(Stage::Closing);
            return;
        }
        let received = self.pulse.bytes_in();
        self.stage.set(Stage::Idle { since: now_coarse(), received, first: false });
    }

    /// The body of the request begins to be read.
    pub(super) fn begin_upload(&self, upload: &Rc<Upload>) {
        *self.upload.borrow_mut() = Some(Rc::clone(upload));
    }

    /// What the connection waits for, after it has read all that came.
    pub(super) fn stage(&self) -> Stage {
        if let Stage::Idle { received, .. } = self.stage.get()
            && self.pulse.bytes_in() > received
        {
            self.stage.set(Stage::Head { since: now_coarse() });
        }
        self.stage.get()
    }

    /// When the client will have been silent too long, and what for.
    pub(super) fn deadline(&self) -> Option<(Millis, Overdue)> {
        let timeouts = &self.settings.timeouts;
        let last = self.pulse.last();
        if self.pulse.is_write_blocked() {
            // The end of a response may still wait to be written when the next request is awaited already.
            return Some((last.after(timeouts.client), Overdue::Reading));
        }
        match self.stage() {
            Stage::Idle { since, first: true, .. } => {
                let deadline = since.after(timeouts.request_head);
                let drain = self.worker.draining_since().map(|since| since.after(LAST_CALL));
                Some((drain.map_or(deadline, |drain| drain.min(deadline)), Overdue::Idle))
            }
            Stage::Idle { since, first: false, .. } => {
                Some((since.max(last).after(timeouts.keep_alive), Overdue::Idle))
            }
            Stage::Closing => Some((last.after(timeouts.client), Overdue::Idle)),
            Stage::Head { since } => Some((since.after(timeouts.request_head), Overdue::Head)),
            Stage::Busy => {
                let waits = self.upload.borrow().as_ref().is_some_and(|upload| upload.waits());
                waits.then(|| (last.after(timeouts.client), Overdue::Sending))
            }
        }
    }

    /// Whether the connection should end after what it is in: the worker drains, or needs its descriptor. One that was
    /// accepted at the last moment has a little time to say what it wants.
    pub(super) fn should_end(&self) -> bool {
        self.wish.get() == Wish::Leave
            || self.worker.draining_since().is_some() && !matches!(self.stage(), Stage::Idle { first: true, .. })
    }

    /// Since when the connection waits for the first byte of a request, if it does and all that it owes is written, and
    /// whether it never had one.
    pub(super) fn idle_since(&self) -> Option<(Millis, bool)> {
        match self.stage() {
            Stage::Idle { since, first, .. } if !self.pulse.is_write_blocked() => Some((since, first)),
            Stage::Idle { .. } | Stage::Head { .. } | Stage::Busy | Stage::Closing => None,
        }
    }

    /// Whether the connection keeps no more memory than it needs for waiting.
    pub(super) fn rests(&self) -> bool {
        self.rests.get()
    }

    /// Notes whether it does.
    pub(super) fn set_rests(&self, rests: bool) {
        self.rests.set(rests);
    }

    /// Tells the connection what the worker wishes; whoever does so wakes it.
    pub(super) fn wish(&self, wish: Wish) {
        if self.wish.get() != Wish::Leave {
            self.wish.set(wish);
        }
    }

    /// Whether it was told to leave.
    pub(super) fn is_leaving(&self) -> bool {
        self.wish.get() == Wish::Leave
    }

    /// Whether it is idle and was told to rest since the last call.
    pub(super) fn may_rest(&self) -> bool {
        if self.wish.get() != Wish::Rest {
            return false;
        }
        self.wish.set(Wish::None);
        self.idle_since().is_some()
    }

    /// A head has begun with bytes that came together with the request before, when the connection became idle.
    pub(super) fn head_had_begun(&self) {
        if let Stage::Idle { since, .. } = self.stage.get() {
            self.stage.set(Stage::Head { since });
        }
    }

    /// Ends an upload whose client fell silent; the request learns of it.
    pub(super) fn expire_upload(&self) {
        if let Some(upload) = self.upload.borrow_mut().take() {
            upload.expire();
        }
    }

    /// Notes that the connection is given up because the client stopped reading.
    pub(super) fn note_stopped_reading(&self) {
        self.stopped_reading.set(true);
    }

    /// Whether the connection was given up because the client stopped reading.
    pub(super) fn has_stopped_reading(&self) -> bool {
        self.stopped_reading.get()
    }

    /// Notes that the connection is given up because of a bug of ours.
    pub(super) fn note_bug(&self) {
        self.bug.set(true);
    }

    /// Whether the connection is given up, or is being given up at this moment, because of a bug of ours.
    pub(super) fn has_met_bug(&self) -> bool {
        self.bug.get() || std::thread::panicking()
    }

    /// Counts the bytes that passed since the last call.
    pub(super) fn count_bytes(&self) {
        let now = (self.pulse.bytes_in(), self.pulse.bytes_out());
        let before = self.counted.replace(now);
        let counters = self.counters();
        let count = |counter: &AtomicU64, amount| add(counter, amount);
        count(&counters.bytes_in, now.0 - before.0);
        count(&counters.bytes_out, now.1 - before.1);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.count_bytes();
    }
}

/// How the transfer of a request's body stands.
#[derive(Debug, Default)]
pub(super) struct Upload {
    pub(super) received: Cell<u64>,
    progress: Cell<Progress>,
    waker: RefCell<Option<Waker>>,
    debt: RefCell<Option<ServerDebt>>,
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
    /// The client was silent too long.
    Expired,
    /// It is longer than allowed.
    TooLarge,
    /// It broke off, or is not valid.
    Broken,
    /// The response came before its end, and nobody wants the rest.
    Cancelled,
}

impl Upload {
    pub(super) fn progress(&self) -> Progress {
        self.progress.get()
    }

    pub(super) fn set(&self, progress: Progress) {
        self.progress.set(progress);
        self.tell_server();
    }

    /// Until a response's head comes the server is silent by right while we wait for the client: that time must not count
    /// against it. `None` when the head has come.
    pub(super) fn sends_to(&self, debt: Option<ServerDebt>) {
        *self.debt.borrow_mut() = debt;
    }

    fn tell_server(&self) {
        if let Some(debt) = &*self.debt.borrow() {
            debt.expect(!self.waits());
        }
    }

    /// Notes that the client owes the next piece, and whom to wake if it never comes.
    pub(super) fn wait(&self, waker: &Waker) {
        self.set(Progress::Waiting);
        let mut known = self.waker.borrow_mut();
        if !known.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *known = Some(waker.clone());
        }
    }

    fn waits(&self) -> bool {
        self.progress.get() == Progress::Waiting
    }

    fn expire(&self) {
        self.end(Progress::Expired);
    }

    fn cancel(&self) {
        self.end(Progress::Cancelled);
    }

    fn end(&self, progress: Progress) {
        self.progress.set(progress);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}
