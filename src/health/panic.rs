//! When so few servers are left that it is better to believe none of the news (Envoy: panic threshold).

/// How many of the servers that could serve do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// Those that checks and traffic say are well.
    pub well: usize,
    /// All of them.
    pub all: usize,
}

/// Whether the share is below `threshold`, in percent; 0 is never.
pub fn panics(threshold: u32, Share { well, all }: Share) -> bool {
    all > 0 && well.saturating_mul(100) < all.saturating_mul(threshold as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_panics_below_its_threshold_and_not_at_it() {
        let share = |well, all| panics(50, Share { well, all });
        assert!(share(0, 1) && share(1, 3) && share(0, 4));
        assert!(!share(2, 4) && !share(1, 1) && !share(0, 0));
    }

    #[test]
    fn a_threshold_of_nothing_is_off_and_one_of_all_needs_all() {
        assert!(!panics(0, Share { well: 0, all: 5 }));
        assert!(panics(100, Share { well: 4, all: 5 }) && !panics(100, Share { well: 5, all: 5 }));
    }
}
