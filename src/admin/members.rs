//! The members of the cluster as the page and `lb members` show them.
//!
//! This room doesn't know the cluster's: whoever builds both hands over a [`MembersSource`].

use std::collections::BTreeMap;

use futures_util::future::BoxFuture;

/// Asks for the members as they are now.
pub type MembersSource = Box<dyn Fn() -> BoxFuture<'static, Vec<MemberRow>> + Send + Sync>;

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MemberRow {
    /// Its name.
    pub name: String,
    /// Where its gossip is received, as `IP:port`.
    pub address: String,
    /// Whether it is there.
    pub status: MemberStatus,
    /// What it is there for.
    pub role: MemberRole,
    /// For how many seconds it has been alive, failed or left.
    #[serde(default)]
    pub seconds_in_status: u64,
    /// What it says of itself.
    pub tags: BTreeMap<String, String>,
    /// What a person should know of it, such as why its server gets no traffic.
    pub notes: Vec<String>,
}

/// Whether a member is there, in Serf's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberStatus {
    /// It answers.
    Alive,
    /// It said that it is about to leave.
    Leaving,
    /// It said that it leaves, and is gone.
    Left,
    /// It went silent.
    Failed,
}

impl MemberStatus {
    /// The word in JSON and on the page.
    pub fn word(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Leaving => "leaving",
            Self::Left => "left",
            Self::Failed => "failed",
        }
    }
}

/// What a member is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// It balances.
    Balancer,
    /// It serves.
    Node,
}

impl MemberRole {
    /// The word in JSON and on the page.
    pub fn word(self) -> &'static str {
        match self {
            Self::Balancer => "balancer",
            Self::Node => "node",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_json_and_page_are_the_same() {
        for status in [MemberStatus::Alive, MemberStatus::Leaving, MemberStatus::Left, MemberStatus::Failed] {
            assert_eq!(serde_json::to_value(status).unwrap(), status.word());
        }
        for role in [MemberRole::Balancer, MemberRole::Node] {
            assert_eq!(serde_json::to_value(role).unwrap(), role.word());
        }
    }
}
