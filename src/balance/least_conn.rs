//! The server with the fewest requests in flight for its weight (HAProxy: `balance leastconn`).
//!
//! Why no tree ordered by load, as HAProxy keeps one: it would be changed twice for each request, under a lock as soon as
//! two workers share it. The server whose turn it is, if it is idle, can't be beaten and is taken at once; only when it is
//! busy all are looked at, up to the first idle one. In a very large pool that would take longer than all the rest of a
//! request's balancing, so a part of it is looked at, another one each time: the best of hundreds is about the best of all.

use super::{
    balancer::Moment,
    members::{Member, Members},
    round_robin::RoundRobin,
};

/// As many servers are compared at most: half a microsecond's work.
const MOST_COMPARED: usize = 512;

/// Prepared for the servers of a pool.
#[derive(Debug, Clone)]
pub struct LeastConn {
    order: RoundRobin,
    members: Members,
}

impl LeastConn {
    /// Prepares for these servers.
    pub fn new(members: &[Member]) -> Self {
        Self { order: RoundRobin::new(members), members: Members::new(members) }
    }

    /// The free server with the fewest requests in flight for its share. Those that are even take turns.
    #[inline]
    pub fn pick(&self, moment: &impl Moment) -> Option<usize> {
        let server = self.order.at(moment.turn())?;
        if moment.load(server) == 0 && moment.is_free(server) {
            return Some(server);
        }
        self.members.least_loaded(server, MOST_COMPARED, moment)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::balance::tests::{Scene, members};

    #[test]
    fn idle_servers_alternate() {
        let servers = LeastConn::new(&members(&[1, 1, 1]));
        let scene = Scene::idle(3);
        let picks: Vec<_> = (0..6).filter_map(|_| servers.pick(&scene)).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    }

    #[test]
    fn the_least_loaded_for_its_weight_is_chosen() {
        let pick = |shares: &[u32], loads: &[u32]| LeastConn::new(&members(shares)).pick(&Scene::with_loads(loads));
        assert_eq!(pick(&[1, 1, 1], &[3, 1, 2]), Some(1));
        assert_eq!(pick(&[1, 5], &[1, 4]), Some(1));
        assert_eq!(pick(&[1, 5], &[1, 6]), Some(0));
        assert_eq!(pick(&[0, 1], &[0, 9]), Some(1), "a server without a share gets nothing");
    }

    #[test]
    fn a_very_large_pool_is_looked_at_in_parts_and_nobody_is_left_out() {
        let servers = LeastConn::new(&members(&[1; 2_000]));
        let mut scene = Scene::with_loads(&[5; 2_000]);
        scene.loads[400].set(1);
        assert_eq!(servers.pick(&scene), Some(400));
        scene.next.set(500);
        assert_eq!(servers.pick(&scene), Some(500), "the server with less is out of sight");
        scene.next.set(1_900);
        assert_eq!(servers.pick(&scene), Some(400), "the list has no end");
        scene.next.set(500);
        scene.full = (400..1_100).collect();
        assert_eq!(servers.pick(&scene), Some(1_100), "of those in sight none is free");
    }

    #[test]
    fn servers_that_are_equally_busy_alternate_too() {
        let servers = LeastConn::new(&members(&[1, 1, 1]));
        let scene = Scene::with_loads(&[2, 2, 2]);
        let picks: Vec<_> = (0..6).filter_map(|_| servers.pick(&scene)).collect();
        assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
    }

    proptest! {
        #[test]
        fn no_free_server_has_less_to_do(
            shares in prop::collection::vec(0u32..=256, 1..30), seed in prop::collection::vec(0u32..50, 30),
            full in prop::collection::btree_set(0usize..30, 0..10), turn in any::<usize>(),
        ) {
            let mut scene = Scene::with_loads(&seed[..shares.len()]);
            scene.next.set(turn);
            scene.full = full.into_iter().collect();
            let picked = LeastConn::new(&members(&shares)).pick(&scene);
            let free: Vec<_> = (0..shares.len()).filter(|&server| shares[server] > 0 && scene.is_free(server)).collect();
            prop_assert_eq!(picked.is_none(), free.is_empty());
            if let Some(picked) = picked {
                prop_assert!(free.contains(&picked));
                let ratio = |server: usize| f64::from(seed[server]) / f64::from(shares[server]);
                prop_assert!(free.iter().all(|&server| ratio(picked) <= ratio(server) + 1e-9));
            }
        }

        #[test]
        fn requests_that_stay_are_spread_by_weight(shares in prop::collection::vec(1u32..=20, 1..8)) {
            let servers = LeastConn::new(&members(&shares));
            let scene = Scene::idle(shares.len());
            let total: u32 = shares.iter().sum();
            for _ in 0..10 * total {
                let server = servers.pick(&scene).unwrap();
                scene.loads[server].set(scene.loads[server].get() + 1);
            }
            for (server, share) in shares.iter().enumerate() {
                prop_assert!(scene.loads[server].get().abs_diff(10 * share) <= *share.max(&1) + 1);
            }
        }
    }
}
