//! What is known of every request, from both ends.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, RwLock,
        atomic::{AtomicU8, AtomicU64, Ordering::SeqCst},
    },
};

/// A small generator (splitmix64): the same seed gives the same numbers.
#[derive(Debug, Clone)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mix(self.0)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in so many times.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

fn mix(mut word: u64) -> u64 {
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

/// The seed of this run: `LB_CHAOS_SEED`, or one that is new each time; printed, so that a run can be repeated as far as
/// the threads of two processes can.
pub(crate) fn seed() -> u64 {
    let seed = std::env::var("LB_CHAOS_SEED").ok().map(|text| text.parse().expect("LB_CHAOS_SEED is no number"));
    let seed = seed.unwrap_or_else(rand::random);
    println!("LB_CHAOS_SEED={seed}");
    seed
}

/// The body that belongs to a request and to its answer: each piece of eight bytes is of this request and of this place
/// alone.
pub(crate) fn body_of(id: u64, length: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(length + 8);
    while body.len() < length {
        body.extend_from_slice(&word_of(id, body.len()));
    }
    body.truncate(length);
    body
}

/// Whether these bytes are those of the request's body from a place on.
pub(crate) fn is_part_of_body(id: u64, from: usize, bytes: &[u8]) -> bool {
    let (mut place, mut left) = (from, bytes);
    while !left.is_empty() {
        let word = &word_of(id, place)[place % 8..];
        let length = word.len().min(left.len());
        if word[..length] != left[..length] {
            return false;
        }
        (place, left) = (place + length, &left[length..]);
    }
    true
}

fn word_of(id: u64, place: usize) -> [u8; 8] {
    mix(id.wrapping_mul(0x1_0000_0001) ^ ((place as u64 / 8) << 40)).to_le_bytes()
}

/// What is known of every request, in a byte for each, so that hours fit into memory.
#[derive(Default)]
pub(crate) struct Ledger {
    blocks: RwLock<Vec<Box<[AtomicU8]>>>,
    next: AtomicU64,
    outcomes: Mutex<BTreeMap<String, u64>>,
    violations: Mutex<Vec<String>>,
}

const BLOCK: usize = 1 << 16;
/// Bits of a request's byte: the method, how often it arrived, how often an answer was begun.
const POST: u8 = 1;
const ARRIVED: u8 = 1 << 1;
const ANSWERED: u8 = 1 << 4;
/// Most that each count can hold.
const MOST: u8 = 7;
/// More violations than these tell nothing new.
const ENOUGH: usize = 20;

impl Ledger {
    /// Notes a new request; its number.
    pub(crate) fn open(&self, post: bool) -> u64 {
        let id = self.next.fetch_add(1, SeqCst);
        let index = id as usize / BLOCK;
        if index >= self.blocks.read().unwrap().len() {
            let mut blocks = self.blocks.write().unwrap();
            while blocks.len() <= index {
                blocks.push((0..BLOCK).map(|_| AtomicU8::new(0)).collect());
            }
        }
        if post {
            self.change(id, |byte| byte | POST);
        }
        id
    }

    pub(crate) fn requests(&self) -> u64 {
        self.next.load(SeqCst)
    }

    /// A server has read the head of a request.
    pub(crate) fn arrived(&self, id: u64, post: bool) {
        let Some(before) = self.change(id, |byte| add(byte, ARRIVED)) else {
            return self.violation(format!("a request {id} arrived that nobody sent"));
        };
        let arrived = count(before, ARRIVED);
        if (before & POST != 0) != post {
            self.violation(format!("request {id} arrived with another method"));
        }
        match (post, arrived) {
            (_, 0) => {}
            (true, _) => self.violation(format!("POST {id} arrived {} times", arrived + 1)),
            // Sent again, which is right as long as only one of them is answered.
            (false, 1) => {}
            (false, _) => self.violation(format!("GET {id} arrived {} times", arrived + 1)),
        }
    }

    /// A server is about to write the first byte of an answer.
    pub(crate) fn answered(&self, id: u64) {
        if self.change(id, |byte| add(byte, ANSWERED)).is_some_and(|before| count(before, ANSWERED) > 0) {
            self.violation(format!("request {id} was answered twice"));
        }
    }

    /// Whether a server has begun an answer.
    pub(crate) fn was_answered(&self, id: u64) -> bool {
        self.change(id, |byte| byte).is_some_and(|byte| count(byte, ANSWERED) > 0)
    }

    /// How a request ended for its client.
    pub(crate) fn outcome(&self, what: impl Into<String>) {
        *self.outcomes.lock().unwrap().entry(what.into()).or_default() += 1;
    }

    pub(crate) fn outcomes(&self) -> BTreeMap<String, u64> {
        self.outcomes.lock().unwrap().clone()
    }

    /// Something that must never happen.
    pub(crate) fn violation(&self, what: String) {
        let mut violations = self.violations.lock().unwrap();
        if violations.len() < ENOUGH {
            eprintln!("VIOLATION: {what}");
            violations.push(what);
        }
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.violations.lock().unwrap().clone()
    }

    /// Changes the byte of a request; what it was. `None` for a request that nobody made.
    fn change(&self, id: u64, change: impl Fn(u8) -> u8) -> Option<u8> {
        if id >= self.requests() {
            return None;
        }
        let blocks = self.blocks.read().unwrap();
        let byte = &blocks.get(id as usize / BLOCK)?[id as usize % BLOCK];
        byte.fetch_update(SeqCst, SeqCst, |byte| Some(change(byte))).ok()
    }
}

fn count(byte: u8, unit: u8) -> u8 {
    (byte / unit) & MOST
}

fn add(byte: u8, unit: u8) -> u8 {
    if count(byte, unit) == MOST { byte } else { byte + unit }
}

#[test]
fn the_ledger_finds_what_must_not_happen() {
    let ledger = Ledger::default();
    let (get, post) = (ledger.open(false), ledger.open(true));
    ledger.arrived(get, false);
    ledger.arrived(get, false);
    ledger.answered(get);
    ledger.arrived(post, true);
    ledger.answered(post);
    assert_eq!(ledger.violations(), Vec::<String>::new());
    ledger.arrived(post, true);
    ledger.arrived(get, false);
    ledger.answered(get);
    ledger.arrived(99, false);
    assert_eq!(ledger.violations().len(), 4, "{:?}", ledger.violations());
    let (one, other) = (body_of(1, 1000), body_of(2, 1000));
    let same = one.chunks(8).zip(other.chunks(8)).filter(|(one, other)| one == other).count();
    assert_eq!((same, &one[..500]), (0, &body_of(1, 500)[..]));
    assert!(is_part_of_body(1, 13, &one[13..501]) && !is_part_of_body(1, 14, &one[13..501]));
}
