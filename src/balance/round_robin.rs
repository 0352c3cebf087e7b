//! Weighted round robin, smooth and exact.
//!
//! Why a table and not a running count per server, as nginx keeps: counts must be changed for each request, which means a
//! lock as soon as two workers share them. A table is read with nothing but a turn number.

use crate::model::Weight;

/// Longest table. Weights that would need more are scaled down; the error is below one part in a thousand.
const MAX_TURNS: usize = 16_384;

/// One full cycle of turns over the servers of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RoundRobin {
    turns: Box<[u32]>,
}

impl RoundRobin {
    /// Prepares a cycle in which the server at index `i` of `weights` gets turns in proportion to its weight, spread as
    /// evenly as possible; a weight of zero gets none.
    ///
    /// Each turn of a server of weight `w` is due at an evenly spaced moment `(k + 1/2) / w` of the cycle; sorting all
    /// moments gives the order. Ties keep the servers' order, so that equal weights give s1, s2, s3, s1, …
    pub fn new(weights: &[Weight]) -> Self {
        let shares = shares(weights);
        let mut due: Vec<(f64, u32)> = Vec::with_capacity(shares.iter().sum::<u32>() as usize);
        for (server, &share) in (0u32..).zip(&shares) {
            due.extend((0..share).map(|turn| ((f64::from(turn) + 0.5) / f64::from(share), server)));
        }
        due.sort_by(|left, right| left.0.total_cmp(&right.0).then(left.1.cmp(&right.1)));
        Self { turns: due.into_iter().map(|(_, server)| server).collect() }
    }

    /// Turns in a cycle; zero when no server may be chosen.
    pub fn len(&self) -> usize {
        self.turns.len()
    }

    /// Whether no server may be chosen.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Index of the server whose turn it is. `turn` may be any number; it counts around the cycle.
    pub fn pick(&self, turn: usize) -> Option<usize> {
        let position = turn.checked_rem(self.turns.len())?;
        self.turns.get(position).map(|&server| server as usize)
    }
}

/// Weights divided by their greatest common divisor, scaled down when the cycle would be too long.
fn shares(weights: &[Weight]) -> Vec<u32> {
    let common = weights.iter().fold(0, |common, weight| gcd(common, u32::from(weight.get()))).max(1);
    let mut shares: Vec<u32> = weights.iter().map(|weight| u32::from(weight.get()) / common).collect();
    let sum: usize = shares.iter().map(|&share| share as usize).sum();
    if sum > MAX_TURNS.max(shares.len()) {
        for share in shares.iter_mut().filter(|share| **share > 0) {
            *share = ((*share as usize * MAX_TURNS / sum) as u32).max(1);
        }
    }
    shares
}

fn gcd(left: u32, right: u32) -> u32 {
    if right == 0 { left } else { gcd(right, left % right) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cycle(weights: &[u16]) -> Vec<usize> {
        let weights: Vec<_> = weights.iter().map(|&weight| Weight::new(weight).unwrap()).collect();
        let order = RoundRobin::new(&weights);
        (0..order.len()).map(|turn| order.pick(turn).unwrap()).collect()
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
    }

    #[test]
    fn nobody_is_chosen_among_none() {
        assert_eq!(RoundRobin::new(&[]).pick(7), None);
        assert_eq!(RoundRobin::new(&[Weight::ZERO]).pick(7), None);
    }

    proptest! {
        #[test]
        fn each_server_gets_its_share_of_a_cycle(weights in prop::collection::vec(0u16..=256, 1..20)) {
            let total: usize = weights.iter().map(|&weight| usize::from(weight)).sum();
            let turns = cycle(&weights);
            for (server, &weight) in weights.iter().enumerate() {
                let got = turns.iter().filter(|&&turn| turn == server).count();
                prop_assert_eq!(got * total, usize::from(weight) * turns.len());
            }
        }

        #[test]
        fn a_cycle_stays_bounded(weights in prop::collection::vec(1u16..=256, 1..2000)) {
            prop_assert!(cycle(&weights).len() <= MAX_TURNS + weights.len());
        }
    }
}
