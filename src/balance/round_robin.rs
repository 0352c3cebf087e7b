//! Weighted round robin, smooth and exact (HAProxy: `balance roundrobin`).
//!
//! Why a table and not a running count per server, as nginx keeps: counts must be changed for each request, which means a
//! lock as soon as two workers share them. A table is read with nothing but a turn number.

use std::sync::Arc;

use super::{
    balancer::Moment,
    members::{Member, Members},
};

/// Longest table. Shares that would need more are scaled down; the error is below one part in a thousand.
const MAX_TURNS: usize = 16_384;
/// Bits of a moment in the cycle. Two moments that differ do so by more: both are halves over at most `MAX_TURNS`.
const MOMENT_BITS: u32 = 40;

/// One full cycle of turns over the servers of a pool.
#[derive(Debug, Clone, Default)]
pub struct RoundRobin {
    turns: Arc<[u32]>,
    members: Members,
}

impl RoundRobin {
    /// Prepares a cycle in which each server gets turns in proportion to its share, spread as evenly as possible; a share of
    /// zero gets none.
    ///
    /// Each turn of a server with `n` of them is due at an evenly spaced moment `(k + 1/2) / n` of the cycle; sorting all
    /// moments gives the order. Ties keep the servers' order, so that equal shares give s1, s2, s3, s1, …
    pub fn new(members: &[Member]) -> Self {
        let members = Members::new(members);
        let counts = counts(members.all());
        // Sorting plain numbers is several times faster than sorting pairs with a comparison: moment above, server below.
        let mut due: Vec<u64> = Vec::with_capacity(counts.iter().sum::<u64>() as usize);
        for (place, &count) in (0u64..).zip(&counts) {
            due.extend((0..count).map(|turn| (moment(turn, count) << (64 - MOMENT_BITS)) | place));
        }
        due.sort_unstable();
        let place = |due: u64| (due & ((1 << (64 - MOMENT_BITS)) - 1)) as usize;
        Self { turns: due.into_iter().map(|due| members.all()[place(due)].server as u32).collect(), members }
    }

    /// Turns in a cycle; zero when no server may be chosen.
    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whether no server may be chosen.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// The server whose turn it is. `turn` may be any number; it counts around the cycle.
    #[inline]
    pub fn at(&self, turn: usize) -> Option<usize> {
        let position = turn.checked_rem(self.turns.len())?;
        self.turns.get(position).map(|&server| server as usize)
    }

    /// The server whose turn it is, or the next in turn that is free.
    #[inline]
    pub fn pick(&self, moment: &impl Moment) -> Option<usize> {
        let turn = moment.turn();
        let server = self.at(turn)?;
        if moment.is_free(server) { Some(server) } else { self.next_free(turn, moment) }
    }

    #[cold]
    fn next_free(&self, turn: usize, moment: &impl Moment) -> Option<usize> {
        // A server of small share may be far down a long cycle; after a few rounds' worth of turns each is asked once.
        let all = self.members.all();
        let rounds = self.len().min(4 * all.len());
        let in_turn = (1..rounds).filter_map(|later| self.at(turn.wrapping_add(later)));
        let in_order = (0..all.len()).map(|later| all[turn.wrapping_add(later) % all.len()].server);
        in_turn.chain(in_order).find(|&server| moment.is_free(server))
    }
}

/// The middle of the `turn`-th of `count` equal parts of the cycle.
fn moment(turn: u64, count: u64) -> u64 {
    ((2 * turn + 1) << (MOMENT_BITS - 1)) / count
}

/// Shares divided by their greatest common divisor, scaled down when the cycle would be too long.
fn counts(members: &[Member]) -> Vec<u64> {
    let common = members.iter().fold(0, |common, member| gcd(common, u64::from(member.share))).max(1);
    let mut counts: Vec<u64> = members.iter().map(|member| u64::from(member.share) / common).collect();
    let sum: u64 = counts.iter().sum();
    if sum > MAX_TURNS.max(counts.len()) as u64 {
        for count in &mut counts {
            *count = (*count * MAX_TURNS as u64 / sum).max(1);
        }
    }
    counts
}

fn gcd(left: u64, right: u64) -> u64 {
    if right == 0 { left } else { gcd(right, left % right) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::tests::{Scene, members};

    fn cycle(shares: &[u32]) -> Vec<usize> {
        let order = RoundRobin::new(&members(shares));
        (0..order.len()).map(|turn| order.at(turn).unwrap()).collect()
    }

    #[test]
    fn equal_weights_take_strict_turns() {
        assert_eq!(cycle(&[1, 1, 1]), [0, 1, 2]);
        assert_eq!(cycle(&[7, 7]), [0, 1]);
    }

    #[test]
    fn turns_of_a_heavy_server_are_spread() {
        assert_eq!(cycle(&[1, 3]), [1, 0, 1, 1]);
        assert_eq!(cycle(&[2, 1, 1]), [0, 1, 2, 0]);
        assert_eq!(cycle(&[1, 2, 5]), [2, 1, 2, 0, 2, 2, 1, 2]);
    }

    #[test]
    fn nobody_is_chosen_among_none() {
        assert_eq!(RoundRobin::new(&[]).at(7), None);
        assert_eq!(RoundRobin::new(&members(&[0])).pick(&Scene::idle(1)), None);
    }

    proptest! {
        #[test]
        fn each_server_gets_its_share_of_a_cycle(shares in prop::collection::vec(0u32..=256, 1..20)) {
            let total: usize = shares.iter().map(|&share| share as usize).sum();
            let turns = cycle(&shares);
            for (server, &share) in shares.iter().enumerate() {
                let got = turns.iter().filter(|&&turn| turn == server).count();
                prop_assert_eq!(got * total, share as usize * turns.len());
            }
        }

        #[test]
        fn a_cycle_stays_bounded(shares in prop::collection::vec(1u32..=25_600, 1..2000)) {
            prop_assert!(cycle(&shares).len() <= MAX_TURNS + shares.len());
        }

        #[test]
        fn a_server_waits_hardly_longer_than_its_share_says(shares in prop::collection::vec(1u32..=256, 2..12)) {
            let turns = cycle(&shares);
            for server in 0..shares.len() {
                let places: Vec<usize> = (0..2 * turns.len()).filter(|&turn| turns[turn % turns.len()] == server).collect();
                let fair = turns.len() as f64 / (places.len() / 2) as f64;
                for pair in places.windows(2) {
                    // Others are due at the same moments; each can come between once more than its share.
                    prop_assert!((pair[1] - pair[0]) as f64 <= fair + shares.len() as f64);
                }
            }
        }

        #[test]
        fn the_next_free_server_is_found_wherever_it_is(
            shares in prop::collection::vec(1u32..=256, 1..40), free in any::<prop::sample::Index>(), turn in any::<usize>(),
        ) {
            let free = free.index(shares.len());
            let mut scene = Scene::idle(shares.len());
            scene.next.set(turn);
            scene.full = (0..shares.len()).filter(|&server| server != free).collect();
            prop_assert_eq!(RoundRobin::new(&members(&shares)).pick(&scene), Some(free));
        }
    }
}
