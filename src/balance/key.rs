//! Hashes that are the same on every balancer, every machine and every version of this program: two balancers side by side
//! must agree, also while one of them is being upgraded. So no hash of the standard library, which is seeded anew for each
//! process, nor one of a crate, which may change.
//!
//! Whoever chooses what is hashed can choose a server by it, here as with any hash that is no secret. The bound on the load
//! is what protects a server from that.

/// The fractional digits of the golden ratio.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// Odd, and half of its bits set, without a pattern: the first digits of the square root of two.
const FOLD: u64 = 0x6a09_e667_f3bc_c909;

/// Mixes the bits of a number: each bit of it changes half of the result's (the finalizer of Steele, Lea and Flood's
/// SplitMix64, in Stafford's variant 13).
#[inline]
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(STEP);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The hash of a text.
pub fn hash(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let folded = words.iter().fold(bytes.len() as u64, |state, word| fold(state, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(fold(folded, u64::from_le_bytes(last)))
}

/// Takes eight more bytes in: both halves of a product depend on all bits of its factors.
#[inline]
fn fold(state: u64, word: u64) -> u64 {
    let product = u128::from(state ^ word ^ FOLD) * u128::from(STEP ^ state.rotate_left(32));
    (product as u64) ^ ((product >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_hash_of_a_text_never_changes() {
        assert_eq!([hash(b""), hash(b"/"), hash(b"/shop/basket")], GOLDEN);
    }

    const GOLDEN: [u64; 3] = [1_164_211_225_827_066_340, 11_645_732_117_532_085_979, 11_461_491_859_163_076_911];

    #[test]
    fn texts_that_are_alike_have_hashes_that_are_not() {
        let texts: Vec<String> = (0..100_000).map(|number| format!("/page/{number}")).collect();
        let hashes: HashSet<u64> = texts.iter().map(|text| hash(text.as_bytes())).collect();
        assert_eq!(hashes.len(), texts.len());
        // The upper bits choose the slot: all values of the first six must come about equally often.
        let mut counts = [0u32; 64];
        hashes.iter().for_each(|hash| counts[(hash >> 58) as usize] += 1);
        assert!(counts.iter().all(|&count| (1_350..1_800).contains(&count)), "{counts:?}");
        assert_ne!(hash(b"a"), hash(b"a\0"));
    }
}
