//! Servers that pass their checks and still serve users badly.

use std::{
    fmt,
    time::{Duration, Instant},
};

/// When a server is ejected for what it answers to users, and for how long (Envoy: outlier detection).
#[derive(Clone, Debug, PartialEq)]
pub struct OutlierPolicy {
    /// Bad answers in a row that eject a server: 5xx, and requests that got none. 0 is never.
    pub consecutive_5xx: u32,
    /// The same, counting only 502, 503, 504 and requests that got no answer. 0 is never.
    pub consecutive_gateway_errors: u32,
    /// Over how long success rates are compared, and how often.
    pub interval: Duration,
    /// A server is ejected whose success rate is below the mean by so many standard deviations. 0 is never.
    pub success_rate_factor: f64,
    /// Servers with enough requests that it takes to compare.
    pub success_rate_min_hosts: u32,
    /// Requests in an interval that are enough.
    pub success_rate_min_requests: u32,
    /// How long a first ejection lasts; the n-th one n times as long. One is forgotten for each interval that passes well.
    pub base_ejection_time: Duration,
    /// The longest that one lasts.
    pub max_ejection_time: Duration,
    /// Largest share of the pool's servers, in percent, that may be ejected at once. One may be in any case, and one that
    /// users can be sent to is always left.
    pub max_ejected_percent: u32,
}

// A policy never holds NaN: the configuration refuses it.
impl Eq for OutlierPolicy {}

impl Default for OutlierPolicy {
    /// Envoy's defaults.
    fn default() -> Self {
        Self {
            consecutive_5xx: 5,
            consecutive_gateway_errors: 0,
            interval: Duration::from_secs(10),
            success_rate_factor: 1.9,
            success_rate_min_hosts: 5,
            success_rate_min_requests: 100,
            base_ejection_time: Duration::from_secs(30),
            max_ejection_time: Duration::from_secs(300),
            max_ejected_percent: 10,
        }
    }
}

/// Why a server was ejected. `Display` tells the operator.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outlying {
    /// So many bad answers in a row.
    Consecutive5xx(u32),
    /// So many gateway errors in a row.
    ConsecutiveGatewayErrors(u32),
    /// It serves worse than the others.
    SuccessRate {
        /// Its own share of good answers in percent.
        own: f64,
        /// The others' mean, its own with it.
        mean: f64,
        /// What it would have taken.
        least: f64,
    },
}

impl fmt::Display for Outlying {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Consecutive5xx(count) => write!(f, "{count} failed requests in a row (5xx or no answer)"),
            Self::ConsecutiveGatewayErrors(count) => {
                write!(f, "{count} gateway errors in a row (502, 503, 504 or no answer)")
            }
            Self::SuccessRate { own, mean, least } => {
                write!(
                    f,
                    "{own:.1} % of its requests succeeded, of all servers' {mean:.1} %; at least {least:.1} % are wanted"
                )
            }
        }
    }
}

/// A server's ejection.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ejection {
    /// Why.
    pub reason: Outlying,
    /// When it ends.
    pub until: Instant,
    /// How long it lasts in all.
    pub lasts: Duration,
}
