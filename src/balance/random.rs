//! The less loaded one of two servers that are drawn by chance, each by its weight (HAProxy: `balance random`).
//!
//! Two draws are enough: the longest line grows with the logarithm of the logarithm of their number, while it grows with
//! the logarithm for one draw (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001). Balancers that
//! know nothing of each other don't fall upon the same idle server, as they do with `leastconn`.

use super::{
    balancer::Moment,
    members::{Member, Members, is_less},
    round_robin::RoundRobin,
};

/// Prepared for the servers of a pool.
#[derive(Debug, Clone)]
pub struct Random {
    /// Holds each server as often as its share says: a place drawn evenly is a server drawn by its share.
    urn: RoundRobin,
    members: Members,
    /// Shares by the servers' places.
    shares: std::sync::Arc<[u32]>,
}

impl Random {
    /// Prepares for these servers.
    pub fn new(members: &[Member]) -> Self {
        let mut shares = vec![0; members.iter().map(|member| member.server + 1).max().unwrap_or(0)];
        for member in members {
            shares[member.server] = member.share;
        }
        Self { urn: RoundRobin::new(members), members: Members::new(members), shares: shares.into() }
    }

    /// The better one of the two that `random` draws; when neither is free, the best of all.
    #[inline]
    pub fn pick(&self, random: u64, moment: &impl Moment) -> Option<usize> {
        let (first, second) = (self.draw(random >> 32)?, self.draw(random & u64::from(u32::MAX))?);
        match (moment.is_free(first), moment.is_free(second)) {
            (true, true) if first == second => Some(first),
            (true, true) => {
                let with_load = |server| (self.member(server), moment.load(server));
                let ((one, its), (other, others)) = (with_load(first), with_load(second));
                Some(if is_less((&other, others), (&one, its)) { second } else { first })
            }
            (true, false) => Some(first),
            (false, true) => Some(second),
            (false, false) => self.members.least_loaded(first, usize::MAX, moment),
        }
    }

    /// The server at a place of the urn, from a number below 2^32.
    fn draw(&self, random: u64) -> Option<usize> {
        self.urn.at(((random * self.urn.len() as u64) >> 32) as usize)
    }

    fn member(&self, server: usize) -> Member {
        Member { server, share: self.shares[server], identity: 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::{
        mix,
        tests::{Scene, members},
    };

    /// Draws that look like chance and are the same each time.
    fn draws(count: u64) -> impl Iterator<Item = u64> {
        (0..count).map(|number| mix(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)))
    }

    #[test]
    fn idle_servers_are_drawn_by_weight() {
        let servers = Random::new(&members(&[1, 2, 5]));
        let mut counts = [0; 3];
        draws(80_000).for_each(|random| counts[servers.pick(random, &Scene::idle(3)).unwrap()] += 1);
        // Four standard deviations of a fair draw.
        for (count, expected) in counts.into_iter().zip([10_000i32, 20_000, 50_000]) {
            assert!((count - expected).abs() < 600, "{counts:?}");
        }
    }

    #[test]
    fn two_choices_keep_the_longest_line_short() {
        let servers = Random::new(&members(&[1; 100]));
        let scene = Scene::idle(100);
        for random in draws(10_000) {
            let server = servers.pick(random, &scene).unwrap();
            scene.loads[server].set(scene.loads[server].get() + 1);
        }
        let most = scene.loads.iter().map(std::cell::Cell::get).max().unwrap();
        assert!(most <= 104, "one choice would give about 130, and these gave {most}");
    }

    proptest! {
        #[test]
        fn whoever_is_drawn_is_free_and_has_a_share(
            shares in prop::collection::vec(0u32..=9, 1..20), full in prop::collection::btree_set(0usize..20, 0..20),
            random in any::<u64>(),
        ) {
            let mut scene = Scene::idle(shares.len());
            scene.full = full.into_iter().collect();
            let possible: Vec<_> = (0..shares.len()).filter(|&server| shares[server] > 0 && scene.is_free(server)).collect();
            match Random::new(&members(&shares)).pick(random, &scene) {
                Some(server) => prop_assert!(possible.contains(&server)),
                None => prop_assert!(possible.is_empty()),
            }
        }
    }
}
