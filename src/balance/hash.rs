//! Consistent hashing with bounded load, for `source`, `uri` and `hdr(NAME)`.
//!
//! Requests with the same key go to the same server; when one of `n` servers comes or goes, about one key in `n` moves.
//! When that server has more than its share of what is in flight, the request goes on to the next one: Mirrokni, Thorup
//! and Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2016 (HAProxy: `hash-balance-factor`). The next one is where
//! the key hashed once more leads, so that what one server can't take is spread over all: Chen, Coleman and Shrivastava,
//! "Revisiting Consistent Hashing with Bounded Loads", 2021.
//!
//! Keys hash to slots, and each slot belongs to the server that came to it first. Each server walks from slot to slot on a
//! way of its own, in steps as fast as its share is large; who is where at what time depends on that server alone, and not
//! on the order in which servers are known, so all balancers make the same table. Why not a ring: it needs points in
//! proportion to the share, 256 times as many for the largest weight as for the smallest, and has to be sorted. Here the
//! work is the same whatever the weights, and looking a key up is reading one slot.

use std::sync::Arc;

use super::{
    balancer::Moment,
    key::mix,
    members::{Member, Members},
    round_robin::RoundRobin,
};

/// Slots of a table. It must not depend on the number of servers: keys would move when it changes.
const SLOTS: usize = 1 << SLOT_BITS;
const SLOT_BITS: u32 = 15;
/// Steps that all servers make together, for each slot. One slot in e^3 = 20 stays empty, and its keys are hashed once more;
/// with fewer steps more keys would move than have to when their number for each server changes with the other servers.
const STEPS_PER_SLOT: u64 = 3;
/// How often a key is hashed before the least loaded server is looked for instead.
const HASHES: usize = 32;
/// Requests in flight that are never too many for a server: a browser opens six connections, and a few requests at once
/// are no reason to tear one user's apart.
const ALWAYS_FITS: u32 = 8;
/// A slot that nobody came to.
const EMPTY: u32 = u32::MAX;

/// Prepared for the servers of a pool.
#[derive(Debug, Clone)]
pub struct Hash {
    /// For each slot its server's place among the members.
    slots: Arc<[u32]>,
    members: Members,
    total_share: u64,
    /// In percent of a server's fair share of what is in flight; 0 is no bound.
    factor: u16,
    /// For requests that have no key.
    in_turn: Option<RoundRobin>,
}

impl Hash {
    /// Prepares for these servers. One is passed by that has more in flight than `factor` percent of its share of all that
    /// is; 0 is no bound.
    pub fn new(members: &[Member], factor: u16) -> Self {
        let members = Members::new(members);
        let total_share = members.total_share();
        Self { slots: slots(members.all(), total_share), members, total_share, factor, in_turn: None }
    }

    /// Sends requests without a key to each server in turn.
    pub fn or_in_turn(self, members: &[Member]) -> Self {
        Self { in_turn: Some(RoundRobin::new(members)), ..self }
    }

    /// The server of the key, or the next one that is free and has room.
    #[inline]
    pub fn pick(&self, key: Option<u64>, moment: &impl Moment) -> Option<usize> {
        let Some(mut key) = key else {
            return match &self.in_turn {
                Some(order) => order.pick(moment),
                None => self.members.least_loaded(0, usize::MAX, moment),
            };
        };
        let total = if self.factor == 0 { 0 } else { moment.total() };
        for _ in 0..HASHES {
            let slot = self.slots[(key >> (u64::BITS - SLOT_BITS)) as usize];
            if let Some(member) = self.members.all().get(slot as usize)
                && moment.is_free(member.server)
                && self.has_room(member, total, moment)
            {
                return Some(member.server);
            }
            key = mix(key);
        }
        // Nearly all are full, or there is none.
        self.members.least_loaded(0, usize::MAX, moment)
    }

    /// Whether one request more stays within the bound.
    fn has_room(&self, member: &Member, total: u32, moment: &impl Moment) -> bool {
        if self.factor == 0 {
            return true;
        }
        let load = moment.load(member.server);
        // The bound, factor / 100 * total * share / total share, is rounded up: that a load is below it says the same of
        // the load and the fraction itself.
        let bound = u128::from(self.factor) * u128::from(total) * u128::from(member.share);
        load < ALWAYS_FITS || u128::from(load) * 100 * u128::from(self.total_share) < bound
    }
}

/// For each slot the place of the member that comes to it first.
fn slots(members: &[Member], total_share: u64) -> Arc<[u32]> {
    // In the order of their identities: it decides for one of two that come at the same time.
    let mut order: Vec<usize> = (0..members.len()).collect();
    order.sort_unstable_by_key(|&place| members[place].identity);
    // Time above, rank below: the lower number has come first.
    let mut firsts = vec![u64::MAX; SLOTS];
    for (rank, &place) in (0u64..).zip(&order) {
        let Member { share, identity, server: _ } = members[place];
        let steps = (STEPS_PER_SLOT * SLOTS as u64 * u64::from(share)).div_ceil(total_share);
        // The first step comes after a part of its time, or all servers of one share would step at once.
        let begin = (mix(!identity) >> 40) as f32 / (1u64 << 24) as f32;
        let pace = 1.0 / share as f32;
        let mut leap = mix(identity);
        for four in 0..steps.div_ceil(4) {
            leap = mix(leap);
            for part in 0..4 {
                let slot = (leap >> (part * 16)) as usize % SLOTS;
                let time = ((four * 4 + part) as f32 + begin) * pace;
                // Floats that are not negative are in the order of their bits.
                firsts[slot] = firsts[slot].min((u64::from(time.to_bits()) << 32) | rank);
            }
        }
    }
    let place = |first: u64| order.get((first & u64::from(u32::MAX)) as usize).map_or(EMPTY, |&place| place as u32);
    firsts.into_iter().map(place).collect()
}

#[cfg(test)]
mod tests;
