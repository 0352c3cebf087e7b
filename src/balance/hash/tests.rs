//! Keys stay where they are as far as they can, and no server gets much more than its share.

use proptest::prelude::*;

use super::*;
use crate::balance::tests::Scene;

const KEYS: u64 = 20_000;

/// Servers with these identities and shares, in this order.
fn servers(identities: &[u64], share: impl Fn(u64) -> u32) -> Vec<Member> {
    let member = |(server, &identity)| Member { server, share: share(identity), identity: mix(identity) };
    identities.iter().enumerate().map(member).collect()
}

/// The identity of each key's server.
fn homes(identities: &[u64], share: impl Fn(u64) -> u32) -> Vec<u64> {
    let hash = Hash::new(&servers(identities, share), 0);
    let scene = Scene::idle(identities.len());
    (0..KEYS).map(|key| identities[hash.pick(Some(mix(key)), &scene).unwrap()]).collect()
}

fn moved(before: &[u64], after: &[u64]) -> usize {
    before.iter().zip(after).filter(|(before, after)| before != after).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_in_which_servers_are_known_does_not_matter(
        identities in prop::collection::hash_set(any::<u64>(), 1..40), seed in any::<u64>(),
    ) {
        let identities: Vec<u64> = identities.into_iter().collect();
        let mut others = identities.clone();
        others.sort_unstable_by_key(|identity| mix(identity ^ seed));
        let share = |identity: u64| (identity % 256) as u32 + 1;
        prop_assert_eq!(homes(&identities, share), homes(&others, share));
    }

    #[test]
    fn who_leaves_takes_its_keys_along_and_hardly_any_other(
        identities in prop::collection::hash_set(any::<u64>(), 2..60), weighted in any::<bool>(),
    ) {
        let identities: Vec<u64> = identities.into_iter().collect();
        let share = |identity: u64| if weighted { (identity % 8) as u32 + 1 } else { 100 };
        let gone = identities[0];
        let (before, after) = (homes(&identities, share), homes(&identities[1..], share));
        let its = before.iter().filter(|&&home| home == gone).count();
        // The rest is the price of tables that are not walked to the end.
        let needless = moved(&before, &after) - its;
        prop_assert!(needless * 4 <= its + KEYS as usize / 250, "{its} had to move, and {needless} more did");
    }

    #[test]
    fn a_server_that_comes_takes_about_one_key_in_n(identities in prop::collection::hash_set(any::<u64>(), 2..60)) {
        let identities: Vec<u64> = identities.into_iter().collect();
        let (before, after) = (homes(&identities[1..], |_| 100), homes(&identities, |_| 100));
        let fair = KEYS as f64 / identities.len() as f64;
        prop_assert!((moved(&before, &after) as f64) < 1.5 * fair + 50.0);
    }

    #[test]
    fn a_share_that_changes_moves_only_what_it_must(
        identities in prop::collection::hash_set(any::<u64>(), 3..30), percent in 10u32..100,
    ) {
        let identities: Vec<u64> = identities.into_iter().collect();
        let slow = identities[0];
        let before = homes(&identities, |_| 100);
        let after = homes(&identities, |identity| if identity == slow { percent } else { 100 });
        let lost = before.iter().zip(&after).filter(|(before, after)| **before == slow && **after != slow).count();
        let needless = moved(&before, &after) - lost;
        prop_assert!(needless * 4 <= lost + KEYS as usize / 100, "{lost} had to move, and {needless} more did");
    }

    #[test]
    fn no_server_gets_more_than_the_bound(
        shares in prop::collection::vec(1u32..=5, 2..20), factor in 110u16..300, hot in 1u64..50,
    ) {
        let hash = Hash::new(&crate::balance::tests::members(&shares), factor);
        let scene = Scene::idle(shares.len());
        let total_share: u32 = shares.iter().sum();
        // As bad as it gets: few keys, and nothing ever ends.
        for request in 0..2_000u64 {
            let server = hash.pick(Some(mix(request % hot)), &scene).unwrap();
            let load = scene.loads[server].get() + 1;
            let bound = f64::from(factor) / 100.0 * f64::from(scene.total()) * f64::from(shares[server]) / f64::from(total_share);
            prop_assert!(load <= ALWAYS_FITS || f64::from(load) <= bound.ceil(), "{load} of {bound}");
            scene.loads[server].set(load);
        }
    }
}

#[test]
fn keys_are_spread_by_weight() {
    let counts = |shares: &[u32]| {
        let hash = Hash::new(&crate::balance::tests::members(shares), 0);
        let mut counts = vec![0u32; shares.len()];
        (0..100_000).for_each(|key| counts[hash.pick(Some(mix(key)), &Scene::idle(shares.len())).unwrap()] += 1);
        counts
    };
    for shares in [&[1, 1, 1][..], &[1, 2, 5], &[100; 20], &[256, 1]] {
        let total: u32 = shares.iter().sum();
        for (count, share) in counts(shares).into_iter().zip(shares) {
            let fair = 100_000.0 * f64::from(*share) / f64::from(total);
            let off = (f64::from(count) - fair).abs() / fair;
            assert!(off < 0.2, "{shares:?}: {count} instead of {fair}");
        }
    }
}

#[test]
fn of_a_thousand_servers_none_is_forgotten_and_none_gets_twice_its_share() {
    let mut counts = vec![0u32; 1_000];
    let hash = Hash::new(&crate::balance::tests::members(&[1; 1_000]), 0);
    let scene = Scene::idle(1_000);
    (0..200_000).for_each(|key| counts[hash.pick(Some(mix(key)), &scene).unwrap()] += 1);
    let (least, most) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
    println!("of 200 keys each on average, the least has {least} and the most {most}");
    assert!(*least > 50 && *most < 400, "{least} to {most}");
}

#[test]
fn a_key_stays_as_long_as_its_server_has_room() {
    let hash = Hash::new(&crate::balance::tests::members(&[1; 10]), 150);
    let scene = Scene::idle(10);
    let home = hash.pick(Some(mix(1)), &scene).unwrap();
    scene.loads[home].set(ALWAYS_FITS - 1);
    assert_eq!(hash.pick(Some(mix(1)), &scene), Some(home));
    scene.loads[home].set(ALWAYS_FITS);
    let next = hash.pick(Some(mix(1)), &scene).unwrap();
    assert_ne!(next, home);
    assert_eq!(hash.pick(Some(mix(1)), &scene), Some(next), "the next one is always the same, too");
}

#[test]
fn requests_without_a_key_take_turns_where_that_is_asked_for() {
    let members = crate::balance::tests::members(&[1, 1, 1]);
    let scene = Scene::idle(3);
    let hash = Hash::new(&members, 150).or_in_turn(&members);
    let picks: Vec<_> = (0..6).filter_map(|_| hash.pick(None, &scene)).collect();
    assert_eq!(picks, [0, 1, 2, 0, 1, 2]);
}

/// Balancers of different versions, side by side, must agree: whoever changes this table moves every key of every user.
#[test]
fn the_table_never_changes() {
    let home = |key: u64| homes(&[11, 22, 33], |identity| identity as u32)[key as usize];
    assert_eq!([0, 1, 2, 3, 4, 5, 6, 7].map(home), GOLDEN);
}

const GOLDEN: [u64; 8] = [33, 33, 33, 33, 33, 11, 33, 11];
