//! One client connection, as its requests and its timers see it.

use std::{
    borrow::Cow,
    cell::{Cell, RefCell},
    net::{IpAddr, SocketAddr},
    rc::Rc,
    sync::{Arc, atomic::AtomicU64},
    task::Context,
    time::Duration,
};

use http::HeaderValue;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    body::Both,
    cut::Cut,
    pace::Pace,
    progress::{Progress, Upload},
    worker::{Frontend, Settings, Worker},
};
use crate::{
    downstream::Aside,
    h1::Lines,
    http_rules::{Added, Forwarding, Screened},
    net::{Millis, Pulse, now_coarse},
    registry::{FrontendCounters, FrontendLive, Occupied, add},
};

/// One client connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) worker: Rc<Worker>,
    pub(super) frontend: Rc<Frontend>,
    pub(super) settings: Arc<Settings>,
    pub(super) address: SocketAddr,
    local: Local,
    pub(super) forwarding: Forwarding,
    /// All that servers are told of the client, as it is written.
    told: Lines,
    pub(super) pulse: Rc<Pulse>,
    stage: Cell<Stage>,
    upload: RefCell<Option<Rc<Upload>>>,
    counted: Cell<(u64, u64)>,
    /// When the request wants to look at the time again.
    alarm: Cell<Option<Millis>>,
    reading: RefCell<Reading>,
    too_slow: Cell<bool>,
    /// A response that comes while its request is still sent.
    both: RefCell<Option<Rc<Both>>>,
    rests: Cell<bool>,
    /// Whether the roster has it among those that talk.
    listed: Cell<bool>,
    bug: Cell<bool>,
    wish: Cell<Wish>,
    /// Whether its request is cut off.
    pub(super) cut: Cut,
    // Before the permit: whoever gets that next must not be counted beside this one.
    _occupied: Occupied<FrontendLive>,
    _permit: Option<OwnedSemaphorePermit>,
}

/// The two ends of a connection, as far as they are known without asking the system for each connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// The client.
    pub(super) source: SocketAddr,
    /// Where the connection came in.
    pub(super) local: Local,
}

/// Where a connection came in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Local {
    /// By this address.
    Address(SocketAddr),
    /// By this port of any of the machine's addresses.
    Port(u16),
}

impl Local {
    /// What a listener's address says of its connections.
    pub(super) fn of_listener(bound: SocketAddr) -> Self {
        if bound.ip().is_unspecified() { Self::Port(bound.port()) } else { Self::Address(bound) }
    }

    fn port(self) -> u16 {
        match self {
            Self::Address(address) => address.port(),
            Self::Port(port) => port,
        }
    }
}

/// How long a new connection may take to send its first byte once the worker drains.
pub(super) const LAST_CALL: Duration = Duration::from_millis(250);

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
    /// The client stopped reading a response, or reads it too slowly.
    Reading,
    /// The client stopped sending a body, or sends it too slowly; the request was told.
    Sending,
    /// Nobody yet: the request wants to look at the time.
    Alarm,
}

impl Client {
    pub(super) fn new(
        worker: &Rc<Worker>,
        frontend: &Rc<Frontend>,
        Ends { source: address, local }: Ends,
        pulse: Rc<Pulse>,
        occupied: Occupied<FrontendLive>,
        permit: Option<OwnedSemaphorePermit>,
    ) -> Rc<Self> {
        let settings = worker.settings();
        let reading = Reading { pace: settings.pace(), written: 0 };
        let stage = Stage::Idle { since: now_coarse(), received: 0, first: true };
        let forwarding = Forwarding {
            client: text(address.ip()),
            port: HeaderValue::from(local.port()),
            proto: HeaderValue::from_static("http"),
            trusted: frontend.trusted_proxies.contains(address.ip()),
        };
        Rc::new(Self {
            worker: Rc::clone(worker),
            frontend: Rc::clone(frontend),
            settings,
            address,
            local,
            told: forwarding.headers(Added::ALL).collect(),
            forwarding,
            pulse,
            stage: Cell::new(stage),
            upload: RefCell::new(None),
            counted: Cell::new((0, 0)),
            alarm: Cell::new(None),
            reading: RefCell::new(reading),
            too_slow: Cell::new(false),
            both: RefCell::new(None),
            rests: Cell::new(false),
            listed: Cell::new(false),
            bug: Cell::new(false),
            wish: Cell::default(),
            cut: Cut::default(),
            _occupied: occupied,
            _permit: permit,
        })
    }

    pub(super) fn counters(&self) -> &FrontendCounters {
        self.frontend.live.counters(self.worker.slot)
    }

    /// What a server is told of the client, as it is written.
    pub(super) fn told(&self, added: Added) -> Cow<'_, Lines> {
        match added {
            Added::ALL => Cow::Borrowed(&self.told),
            Added { .. } => Cow::Owned(self.forwarding.headers(added).collect()),
        }
    }

    /// The protocol that a request may switch to and asks for.
    pub(super) fn asked(&self, screened: Screened) -> Option<&HeaderValue> {
        self.frontend.upgrades.name(screened.upgrade?)
    }

    /// Where the connection came in; `None` when the system does not say it any more.
    pub(super) fn local(&self, aside: &Aside) -> Option<SocketAddr> {
        match self.local {
            Local::Address(address) => Some(address),
            Local::Port(_) => aside.local_addr().ok(),
        }
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
        self.wake_at(None);
        let upload = self.upload.borrow_mut().take();
        let unfinished = upload.filter(|upload| upload.progress() != Progress::Complete);
        if let Some(upload) = unfinished {
            upload.cancel();
            self.stage.set(Stage::Closing);
            return;
        }
        let received = self.pulse.bytes_in();
        self.stage.set(Stage::Idle { since: now_coarse(), received, first: false });
    }

    /// The body of the request begins to be read.
    pub(super) fn begin_upload(&self) -> Rc<Upload> {
        let upload = Rc::new(Upload::new(self.settings.pace(), self.pulse.bytes_out()));
        *self.upload.borrow_mut() = Some(Rc::clone(&upload));
        upload
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

    /// Asks for a look at the request at that time, instead of the time asked for before.
    pub(super) fn wake_at(&self, time: Option<Millis>) {
        self.alarm.set(time);
    }

    /// When somebody will have been silent too long or too slow, and what for.
    pub(super) fn deadline(&self) -> Option<(Millis, Overdue)> {
        let alarm = self.alarm.get().map(|time| (time, Overdue::Alarm));
        let silence = self.client_deadline();
        match (alarm, silence) {
            (Some(alarm), Some(silence)) => Some(if alarm.0 <= silence.0 { alarm } else { silence }),
            (alarm, silence) => alarm.or(silence),
        }
    }

    fn client_deadline(&self) -> Option<(Millis, Overdue)> {
        let timeouts = &self.settings.timeouts;
        let last = self.pulse.last();
        if let Some(deadline) = self.reading_deadline() {
            // The end of a response may still wait to be written when the next request is awaited already.
            return Some((deadline, Overdue::Reading));
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
                let deadline = self.upload.borrow().as_ref()?.deadline(self.pulse.bytes_out())?;
                Some((deadline, Overdue::Sending))
            }
        }
    }

    /// When the client will have read too little of a response; `None` as long as its socket takes what we write.
    fn reading_deadline(&self) -> Option<Millis> {
        let blocked = self.pulse.is_write_blocked();
        let mut reading = self.reading.borrow_mut();
        if blocked || reading.pace.waits() {
            let written = self.pulse.bytes_out();
            let before = std::mem::replace(&mut reading.written, written);
            reading.pace.note(now_coarse(), written - before, blocked);
        }
        reading.pace.deadline()
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

    /// Whether the connection is new to the list of those that talk; it is on it from now on.
    pub(super) fn comes_on_the_list(&self) -> bool {
        !self.listed.replace(true)
    }

    /// Whether the connection is at rest; it is on the list no more then.
    pub(super) fn is_off_the_list(&self) -> bool {
        let rests = self.rests.get();
        self.listed.set(!rests);
        rests
    }

    /// Notes whether the connection keeps no more memory than it needs for waiting.
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

    /// Ends an upload whose client fell silent or is too slow; the request learns of it.
    pub(super) fn expire_upload(&self) {
        self.note_too_slow();
        if let Some(upload) = self.upload.borrow_mut().take() {
            upload.expire();
        }
    }

    /// Notes that the client is given up because it is silent or too slow.
    pub(super) fn note_too_slow(&self) {
        self.too_slow.set(true);
    }

    /// Whether the client was given up because it was silent or too slow.
    pub(super) fn was_too_slow(&self) -> bool {
        self.too_slow.get()
    }

    /// Goes on sending a request whose response has begun.
    pub(super) fn send_on(&self, both: &Rc<Both>) {
        *self.both.borrow_mut() = Some(Rc::clone(both));
    }

    /// Lets go of what [`Client::send_on`] was given.
    pub(super) fn send_no_more(&self) {
        *self.both.borrow_mut() = None;
    }

    /// Sends what is to be sent of a request whose response has begun, and is perhaps not read.
    pub(super) fn poll_send(&self, cx: &mut Context<'_>) {
        let both = self.both.borrow().clone();
        if both.is_some_and(|both| both.poll_send(cx).is_err()) {
            // Whoever reads the response meets the same.
            self.send_no_more();
        }
    }

    /// Whether a request's body is not complete.
    pub(super) fn is_owed_a_body(&self) -> bool {
        self.upload.borrow().as_ref().is_some_and(|upload| upload.progress() != Progress::Complete)
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

/// An address for a header. IPv4 is written by hand: each connection has one, and `Display` takes as long as a whole request's
/// rules.
fn text(ip: IpAddr) -> HeaderValue {
    let text = match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let (mut text, mut digits) = (String::with_capacity("255.255.255.255".len()), itoa::Buffer::new());
            for (place, octet) in ip.octets().into_iter().enumerate() {
                text.push_str(if place > 0 { "." } else { "" });
                text.push_str(digits.format(octet));
            }
            text
        }
        IpAddr::V6(ip) => ip.to_string(),
    };
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("unknown"))
}

impl Drop for Client {
    fn drop(&mut self) {
        self.count_bytes();
    }
}

/// How fast the client reads.
#[derive(Debug)]
struct Reading {
    pace: Pace,
    /// Bytes that were written up to the last note.
    written: u64,
}
