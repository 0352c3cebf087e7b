//! Floor 0: the vocabulary that every room shares.
//!
//! Only names and small rules live here. The one rule that decides whether a server may get a request is
//! [`eligible`]; every algorithm, page and counter asks it, so that none can disagree with another.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

mod algorithm;
mod check;
mod cluster_key;
mod cookie;
mod http_check;
mod id;
mod member_event;
mod networks;
mod outcome;
mod outlier;
mod policy;
mod state;
mod weight;
mod wish;

pub use algorithm::Algorithm;
pub use check::{CheckReport, CheckStatus};
pub use cluster_key::{ClusterKey, ClusterName, ClusterSecret, CookieKey, KeyError, KeyId, Keyring, KeyringError};
pub use cookie::{CookieMode, CookiePolicy, InsertedCookie, Lifetime, SameSite};
pub use http_check::{HttpCheck, StatusSet};
pub use id::{NameError, NodeId, PoolName, ServerId, ServerName};
pub use member_event::MemberEvent;
pub use networks::{Networks, parse_network};
pub use outcome::{Cause, Phase, StickyRequest, StickyResponse, Termination};
pub use outlier::{Ejection, OutlierPolicy, Outlying};
pub use policy::{CheckKind, CheckPolicy, RetryOn};
pub use state::{AdminState, Candidacy, Health, NodeState, ServerState, eligible};
pub use weight::{Weight, WeightError};
pub use wish::{Decision, Hint, ServerKey, Stamp, Told, WantedWeight, Wish};
