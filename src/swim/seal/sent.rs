//! What was sent lately, in case somebody wants to know first that its sender is alive.
//!
//! Why keep copies, when the protocol repeats itself? It repeats a lost record after 100 ms and takes a lost probe for a
//! suspicion. With the copy a first contact takes one round trip more, and nothing else.

use std::{collections::VecDeque, net::SocketAddr};

use super::header::TAG;

/// Datagrams that are remembered: more than a member sends within a round trip, save in a burst to many whom it never met.
const MAX_SENT: usize = 128;

/// Names a datagram by a part of its tag.
pub(super) type Quote = [u8; 8];

pub(super) fn quote(tag: [u8; TAG]) -> Quote {
    std::array::from_fn(|index| tag[index])
}

#[derive(Default)]
pub(super) struct Sent {
    copies: VecDeque<Kept>,
    /// Room of copies that were taken.
    spare: Vec<Vec<u8>>,
}

struct Kept {
    quote: Quote,
    to: SocketAddr,
    message: Vec<u8>,
}

impl Sent {
    /// Keeps a copy instead of the oldest one; it has no name yet.
    pub(super) fn remember(&mut self, to: SocketAddr, message: &[u8]) {
        let oldest = if self.copies.len() < MAX_SENT { None } else { self.copies.pop_front().map(|kept| kept.message) };
        let mut room = oldest.or_else(|| self.spare.pop()).unwrap_or_default();
        room.clear();
        room.extend_from_slice(message);
        self.copies.push_back(Kept { quote: Quote::default(), to, message: room });
    }

    pub(super) fn name_newest(&mut self, quote: Quote) {
        if let Some(newest) = self.copies.back_mut() {
            newest.quote = quote;
        }
    }

    /// Gives a copy out, once.
    pub(super) fn take(&mut self, quote: Quote) -> Option<(SocketAddr, Vec<u8>)> {
        // The newest are asked for most.
        let place = self.copies.iter().rposition(|kept| kept.quote == quote)?;
        self.copies.remove(place).map(|Kept { quote: _, to, message }| (to, message))
    }

    pub(super) fn give_back(&mut self, room: Vec<u8>) {
        if self.spare.len() + self.copies.len() < MAX_SENT {
            self.spare.push(room);
        }
    }
}
