//! What the tests of the algorithms share, and what must hold for all of them.

use std::cell::Cell;

use super::*;
use crate::model::Algorithm;

/// Servers with these shares, in their order.
pub(super) fn members(shares: &[u32]) -> Vec<Member> {
    let member = |(server, &share)| Member { server, share, identity: mix(server as u64) };
    shares.iter().enumerate().map(member).collect()
}

/// A moment that tests arrange.
pub(super) struct Scene {
    pub(super) next: Cell<usize>,
    pub(super) loads: Vec<Cell<u32>>,
    /// Servers that are not free.
    pub(super) full: Vec<usize>,
}

impl Scene {
    pub(super) fn idle(servers: usize) -> Self {
        Self::with_loads(&vec![0; servers])
    }

    pub(super) fn with_loads(loads: &[u32]) -> Self {
        Self { next: Cell::new(0), loads: loads.iter().copied().map(Cell::new).collect(), full: Vec::new() }
    }
}

impl Moment for Scene {
    fn turn(&self) -> usize {
        let turn = self.next.get();
        self.next.set(turn.wrapping_add(1));
        turn
    }

    fn load(&self, server: usize) -> u32 {
        self.loads[server].get()
    }

    fn total(&self) -> u32 {
        self.loads.iter().map(Cell::get).sum::<u32>() + 1
    }

    fn is_free(&self, server: usize) -> bool {
        !self.full.contains(&server)
    }
}

fn every_algorithm() -> Vec<Algorithm> {
    Algorithm::WORDS.iter().map(|word| word.replace("NAME", "x-user").parse().unwrap()).collect()
}

#[test]
fn no_algorithm_chooses_among_none() {
    for algorithm in every_algorithm() {
        for members in [vec![], members(&[0, 0])] {
            for ask in [Ask::default(), Ask { key: Some(7), random: u64::MAX }] {
                let balancer = Balancer::new(&algorithm, 150, &members);
                assert_eq!(balancer.pick(ask, &Scene::idle(2)), None, "{algorithm}");
            }
        }
    }
}

#[test]
fn every_algorithm_finds_the_one_free_server() {
    let shares: Vec<u32> = (1..=100).collect();
    for algorithm in every_algorithm() {
        let balancer = Balancer::new(&algorithm, 150, &members(&shares));
        for free in [0, 42, 99] {
            let mut scene = Scene::with_loads(&[20; 100]);
            scene.full = (0..100).filter(|&server| server != free).collect();
            for key in [None, Some(mix(free as u64))] {
                assert_eq!(balancer.pick(Ask { key, random: 1 << 40 }, &scene), Some(free), "{algorithm}");
            }
        }
    }
}
