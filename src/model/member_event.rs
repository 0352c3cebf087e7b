//! What scripts are told of members, in Serf's words.

/// Something that happened to a member of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MemberEvent {
    /// It is there, for the first time or again.
    Join,
    /// It said goodbye, or another process has its address.
    Leave,
    /// It stopped answering.
    Failed,
    /// What it says of itself has changed: state, weight or tags.
    Update,
    /// It left or failed long ago, and is off the list from now on.
    Reap,
}

impl MemberEvent {
    /// Every event.
    pub const ALL: [Self; 5] = [Self::Join, Self::Leave, Self::Failed, Self::Update, Self::Reap];

    /// The word in the log, in a handler's filter and in its environment.
    pub fn word(self) -> &'static str {
        match self {
            Self::Join => "member-join",
            Self::Leave => "member-leave",
            Self::Failed => "member-failed",
            Self::Update => "member-update",
            Self::Reap => "member-reap",
        }
    }
}
