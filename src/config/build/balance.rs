//! How a pool is balanced.

use super::super::{checker::Checker, raw::Number};

/// The largest bound, in percent: a hundred times the fair share is as good as none.
const MAX_FACTOR: i64 = 10_000;

impl Checker<'_> {
    /// Reads the bound of hashing, in percent: 0 or more than 100, for below that not all requests would fit.
    pub(super) fn hash_balance_factor(&mut self, number: Option<Number>) -> Option<u16> {
        let place = number.as_ref().map(|number| number.span().start);
        let factor = self.number(number, "hash-balance-factor", 0..=MAX_FACTOR)?;
        if (1..=100).contains(&factor) {
            self.note(
                place,
                &format!("hash-balance-factor: {factor} is too low: 0, or 101 to {MAX_FACTOR} is expected"),
            );
            return None;
        }
        Some(factor)
    }
}
