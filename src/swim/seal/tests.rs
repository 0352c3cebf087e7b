use proptest::prelude::*;
use rand::SeedableRng;

use super::{header::BOOT, *};
use crate::model::ClusterKey;

fn secret(keys: &[u8], name: &str) -> ClusterSecret {
    ClusterSecret { keys: ring(keys), name: name.parse().unwrap() }
}

fn ring(keys: &[u8]) -> Keyring {
    let text: String = keys.iter().map(|&key| ClusterKey::new([key; 32]).to_secret_text() + "\n").collect();
    Keyring::parse(&text).unwrap()
}

/// A sealer with its own chance and clock.
struct Peer {
    sealer: Sealer,
    rng: StdRng,
    address: SocketAddr,
    now: Duration,
}

fn peer(number: u64, secret: ClusterSecret) -> Peer {
    let mut rng = StdRng::seed_from_u64(number);
    let address = SocketAddr::from(([10, 0, 0, 1], 1000 + number as u16));
    Peer { sealer: Sealer::new(secret, &mut rng), rng, address, now: Duration::ZERO }
}

impl Peer {
    /// A message of some length, long enough to be challenged.
    fn seal(&mut self, to: &Peer, text: &str) -> Vec<u8> {
        let write = |mut head: Vec<u8>| {
            head.extend_from_slice(format!("{text:32}").as_bytes());
            Ok::<_, ()>(head)
        };
        self.sealer.seal(to.address, write).unwrap()
    }

    fn open(&mut self, bytes: &[u8]) -> Result<Opened, DropReason> {
        self.sealer.open(self.now, bytes, &mut self.rng)
    }

    /// What is read.
    fn reads(&mut self, bytes: &[u8]) -> Option<String> {
        match self.open(bytes) {
            Ok(Opened::Message(message)) => Some(String::from_utf8(message[1..].to_vec()).unwrap().trim_end().into()),
            Ok(Opened::Challenge(_) | Opened::Answer { .. }) | Err(_) => None,
        }
    }

    #[track_caller]
    fn challenges(&mut self, bytes: &[u8]) -> Vec<u8> {
        match self.open(bytes) {
            Ok(Opened::Challenge(challenge)) => {
                assert!(challenge.len() <= bytes.len(), "no amplification");
                challenge
            }
            other => panic!("{other:?}"),
        }
    }

    #[track_caller]
    fn answers(&mut self, challenge: &[u8]) -> Vec<u8> {
        match self.open(challenge) {
            Ok(Opened::Answer { to: _, bytes }) => bytes,
            other => panic!("{other:?}"),
        }
    }
}

/// Two members that have met.
fn pair() -> (Peer, Peer) {
    let (mut a, mut b) = (peer(1, secret(&[1], "lb")), peer(2, secret(&[1], "lb")));
    meet(&mut a, &mut b);
    (a, b)
}

fn meet(a: &mut Peer, b: &mut Peer) {
    let first = a.seal(b, "hello");
    let challenge = b.challenges(&first);
    let again = a.answers(&challenge);
    assert_eq!(b.reads(&again).unwrap(), "hello");
}

#[test]
fn two_members_know_each_other_after_one_round_trip() {
    let (mut a, mut b) = pair();
    let there = a.seal(&b, "one");
    assert_eq!(b.reads(&there).unwrap(), "one");
    let back = b.seal(&a, "two");
    assert_eq!(a.reads(&back).unwrap(), "two", "the challenge has shown that the other side is alive, too");
    assert!(!there.windows(3).any(|window| window == b"one"));
}

#[test]
fn what_is_repeated_is_refused() {
    let (mut a, mut b) = pair();
    let sent: Vec<_> = (0..3000).map(|number| a.seal(&b, &number.to_string())).collect();
    for bytes in &sent {
        assert!(b.reads(bytes).is_some());
    }
    for bytes in &sent {
        assert_eq!(b.open(bytes), Err(DropReason::Replayed));
    }
    let own = a.seal(&b, "own");
    assert_eq!(a.open(&own), Err(DropReason::FromOurselves));
}

#[test]
fn what_was_recorded_before_a_restart_changes_nothing_after_it() {
    let (mut a, mut b) = (peer(1, secret(&[1], "lb")), peer(2, secret(&[1], "lb")));
    let mut recorded = vec![a.seal(&b, "hello")];
    let challenge = b.challenges(&recorded[0]);
    recorded.push(a.answers(&challenge));
    assert!(b.reads(&recorded[1]).is_some());
    recorded.extend((0..100).map(|number| a.seal(&b, &number.to_string())));
    recorded.iter().skip(2).for_each(|bytes| assert!(b.reads(bytes).is_some()));
    let recorded_by_b = b.seal(&a, "from b");

    let mut b = peer(3, secret(&[1], "lb"));
    for bytes in recorded.iter().chain([&recorded_by_b]) {
        b.challenges(bytes);
    }
    assert_eq!(b.open(&challenge), Err(DropReason::Unsolicited));
    // The living one is let in all the same.
    meet(&mut a, &mut b);
}

#[test]
fn a_challenge_is_answered_once_and_only_to_where_its_datagram_went() {
    let (mut a, mut b) = (peer(1, secret(&[1], "lb")), peer(2, secret(&[1], "lb")));
    let first = a.seal(&b, "hello");
    let (one, two) = (b.challenges(&first), b.challenges(&first));
    match a.open(&one) {
        Ok(Opened::Answer { to, .. }) => assert_eq!(to, b.address),
        other => panic!("{other:?}"),
    }
    assert_eq!(a.open(&two), Err(DropReason::Unsolicited));
}

#[test]
fn a_sender_that_was_forgotten_must_show_again_that_it_is_alive() {
    let mut b = peer(1, secret(&[1], "lb"));
    let mut first = peer(2, secret(&[1], "lb"));
    let hello = first.seal(&b, "hello");
    let challenge = b.challenges(&hello);
    let proof = first.answers(&challenge);
    assert!(b.reads(&proof).is_some());
    let late = first.seal(&b, "late");
    b.now = Duration::from_secs(1);
    for number in 0..MAX_SENDERS as u64 {
        meet(&mut peer(100 + number, secret(&[1], "lb")), &mut b);
    }
    assert_eq!(b.sealer.senders.len(), MAX_SENDERS);
    assert!(!b.sealer.senders.contains_key(&first.sealer.boot));
    b.challenges(&proof);
    b.challenges(&late);
    meet(&mut first, &mut b);
}

#[test]
fn keys_are_rotated_without_a_gap() {
    let (mut a, mut b) = pair();
    let exchange = |a: &mut Peer, b: &mut Peer, step: &str| {
        let (there, back) = (a.seal(b, "there"), b.seal(a, "back"));
        assert!(b.reads(&there).is_some() && a.reads(&back).is_some(), "{step}");
    };
    for (step, keys) in [("install", &[1, 2][..]), ("use", &[2, 1]), ("remove", &[2])] {
        a.sealer.set_keys(ring(keys));
        exchange(&mut a, &mut b, step);
        b.sealer.set_keys(ring(keys));
        exchange(&mut a, &mut b, step);
    }
    let mut late = peer(9, secret(&[1], "lb"));
    let old = late.seal(&b, "old");
    assert_eq!(b.open(&old), Err(DropReason::UnknownKey));
}

#[test]
fn what_was_seen_under_one_key_is_seen_under_the_next() {
    let (mut a, mut b) = pair();
    let old = a.seal(&b, "old");
    for peer in [&mut a, &mut b] {
        peer.sealer.set_keys(ring(&[2, 1]));
    }
    let new = a.seal(&b, "new");
    assert!(b.reads(&old).is_some() && b.reads(&new).is_some());
    assert_eq!((b.open(&old), b.open(&new)), (Err(DropReason::Replayed), Err(DropReason::Replayed)));
}

#[test]
fn another_key_or_cluster_is_refused_by_its_reason() {
    let mut b = peer(1, secret(&[1, 2], "lb"));
    let mut refused = |secret| {
        let bytes = peer(2, secret).seal(&b, "hello");
        b.open(&bytes)
    };
    assert_eq!(refused(secret(&[3], "lb")), Err(DropReason::UnknownKey));
    assert_eq!(refused(secret(&[1], "other")), Err(DropReason::NotAuthentic));
    assert!(matches!(refused(secret(&[2], "lb")), Ok(Opened::Challenge(_))));
}

#[test]
fn what_nobody_has_proven_is_not_remembered() {
    let mut b = peer(1, secret(&[1], "lb"));
    for number in 0..1000 {
        let mut stranger = peer(10 + number, secret(&[1], "lb"));
        let bytes = stranger.seal(&b, "hello");
        b.challenges(&bytes);
    }
    assert!(b.sealer.senders.is_empty());
    let bare = b.sealer.seal(b.address, Ok::<_, ()>).unwrap();
    assert_eq!(peer(2, secret(&[1], "lb")).open(&bare), Err(DropReason::Unproven), "too short for an answer");
}

#[test]
fn a_message_without_its_token_or_form_is_malformed() {
    let (mut a, mut b) = pair();
    for content in [&[][..], &[PROVEN], &[PROVEN, 1, 2, 3], &[CHALLENGE], &[CHALLENGE, 1, 2], &[9]] {
        let mut bytes = vec![0; HEADER];
        bytes.extend_from_slice(content);
        a.sealer.finish(&mut bytes);
        assert_eq!(b.open(&bytes), Err(DropReason::Malformed), "{content:?}");
    }
}

#[test]
fn the_seal_of_a_known_key_is_what_it_always_was() {
    // Members of different versions must understand each other.
    let (mut a, b) = (peer(1, secret(&[1], "lb")), peer(2, secret(&[1], "lb")));
    a.sealer.boot = Boot([7; BOOT]);
    a.sealer.set_keys(ring(&[1]));
    let bytes = a.seal(&b, "hello");
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    // Computed apart from this code, by RFC 5869 and RFC 8439.
    let expected = concat!(
        "02eccc9dc70707070707070707070707070707070701000000000000006262aeaaa6f3e1d1abc08c75d9437dc03b76e0efc4dedfe3c391",
        "d1a150ce26196837d0989bddf42713eba28490360175ff"
    );
    assert_eq!(text, expected);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn one_changed_bit_anywhere_is_refused(text in "[a-z]{0,200}", place in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let (mut a, mut b) = pair();
        let good = a.seal(&b, &text);
        let mut bad = good.clone();
        bad[place.index(good.len())] ^= 1 << bit;
        prop_assert!(b.reads(&bad).is_none());
        prop_assert!(b.open(&bad[..bad.len() - 1]).is_err());
        prop_assert_eq!(b.reads(&good).unwrap(), text);
    }

    #[test]
    fn any_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..1300), known in any::<bool>()) {
        let (a, mut b) = pair();
        let mut bytes = bytes;
        if known && bytes.len() >= HEADER {
            let header = Header { key: a.sealer.sending, boot: a.sealer.boot, counter: 99 };
            bytes[..HEADER].copy_from_slice(&header.to_bytes());
        }
        prop_assert!(b.open(&bytes).is_err());
        prop_assert_eq!(b.sealer.senders.len(), 1);
    }
}
