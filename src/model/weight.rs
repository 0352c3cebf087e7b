//! Weights as HAProxy counts them.

use std::fmt;

/// Share of a server in its pool, 0 to 256; 0 takes no new users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Weight(u16);

/// The number is above 256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a weight is a whole number from 0 to 256")]
pub struct WeightError;

impl Weight {
    /// The weight of a server that nobody gave one.
    pub const DEFAULT: Self = Self(1);
    /// The largest.
    pub const MAX: Self = Self(256);
    /// Takes no new users.
    pub const ZERO: Self = Self(0);

    /// Checks the range, 0 to 256.
    ///
    /// # Errors
    /// When the number is above 256.
    pub fn new(weight: u16) -> Result<Self, WeightError> {
        if weight <= 256 { Ok(Self(weight)) } else { Err(WeightError) }
    }

    /// The number.
    pub fn get(self) -> u16 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Weight {
    type Err = WeightError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map_err(|_| WeightError).and_then(Self::new)
    }
}
