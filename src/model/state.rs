//! What is known of a server, and the one rule that follows from it.

/// What the operator wants of a server. Later variants are stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum AdminState {
    /// Takes traffic.
    #[default]
    Ready,
    /// Takes no new users; users with a cookie for it still reach it.
    Drain,
    /// Takes no traffic and is not checked.
    Maint,
}

impl AdminState {
    /// The word that operators use.
    pub fn word(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Drain => "drain",
            Self::Maint => "maint",
        }
    }
}

/// What a node says of itself in its service record. A server from the configuration is always `Ready`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, serde::Serialize, serde::Deserialize)]
pub enum NodeState {
    /// The application does not answer yet, or no longer.
    Starting,
    /// The application answers.
    #[default]
    Ready,
    /// The node is about to stop: what is in flight ends, nothing new begins, not even for users with a cookie.
    Draining,
    /// The node has stopped.
    Left,
}

impl std::fmt::Display for NodeState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Left => "left",
        })
    }
}

/// What checks and traffic say of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// Checks are off: always believed to be up.
    Unchecked,
    /// No check has passed yet, so it never had traffic; the first one that passes makes it `Up`.
    Initial,
    /// Up.
    Up {
        /// Checks failed in a row; `fall` of them make it `Down`.
        failed: u32,
        /// How many it takes.
        fall: u32,
    },
    /// It answers and wants no new users; those with a cookie for it stay (HAProxy: `http-check disable-on-404`).
    Stopping {
        /// Checks failed in a row; `fall` of them make it `Down`.
        failed: u32,
        /// How many it takes.
        fall: u32,
    },
    /// It passes its checks, or has none, but its answers to users were bad: nobody is sent there for a while.
    Ejected,
    /// Was up and is down.
    Down {
        /// Checks passed in a row; `rise` of them make it `Up`.
        passed: u32,
        /// How many it takes.
        rise: u32,
    },
}

impl Health {
    /// Whether the server may be believed to answer.
    pub fn is_up(self) -> bool {
        match self {
            Self::Unchecked | Self::Up { .. } | Self::Stopping { .. } => true,
            Self::Initial | Self::Ejected | Self::Down { .. } => false,
        }
    }

    /// Who may be sent to a server of this health.
    fn candidacy(self) -> Candidacy {
        match self {
            Self::Unchecked | Self::Up { .. } => Candidacy::Everybody,
            Self::Stopping { .. } => Candidacy::StickyOnly,
            Self::Initial | Self::Ejected | Self::Down { .. } => Candidacy::Nobody,
        }
    }
}

/// Who may be sent to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Candidacy {
    /// Nobody.
    Nobody,
    /// Only a user whose cookie names it.
    StickyOnly,
    /// Everybody.
    Everybody,
}

/// The one rule that says whether a server may get a request, from what the operator wants, what the node says of
/// itself, what the checks say and the server's weight.
pub fn eligible(operator: AdminState, node: NodeState, health: Health, weight: super::Weight) -> Candidacy {
    let admin = match operator {
        AdminState::Ready => Candidacy::Everybody,
        AdminState::Drain => Candidacy::StickyOnly,
        AdminState::Maint => Candidacy::Nobody,
    };
    let node = match node {
        NodeState::Ready => Candidacy::Everybody,
        NodeState::Starting | NodeState::Draining | NodeState::Left => Candidacy::Nobody,
    };
    let weight = if weight == super::Weight::ZERO { Candidacy::StickyOnly } else { Candidacy::Everybody };
    admin.min(node).min(health.candidacy()).min(weight)
}

/// The state of a server as one word, in HAProxy's terms; `Display` writes the word as its pages and CSV do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServerState {
    /// No traffic, no checks.
    Maint,
    /// No new users; the health is still followed.
    Drain(Health),
    /// Neither of them: the health decides.
    Running(Health),
}

impl ServerState {
    /// Joins the operator's wish and the node's own word: the stricter of both is shown.
    ///
    /// A node whose application does not answer (`Starting`) or that has left shows as `Maint`, one that is about to
    /// stop as `Drain`.
    pub fn new(operator: AdminState, node: NodeState, health: Health) -> Self {
        let node = match node {
            NodeState::Ready => AdminState::Ready,
            NodeState::Draining => AdminState::Drain,
            NodeState::Starting | NodeState::Left => AdminState::Maint,
        };
        match operator.max(node) {
            AdminState::Maint => Self::Maint,
            AdminState::Drain => Self::Drain(health),
            AdminState::Ready => Self::Running(health),
        }
    }
}

impl std::fmt::Display for ServerState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (drains, health) = match *self {
            Self::Maint => return f.write_str("MAINT"),
            Self::Drain(health) => (true, health),
            Self::Running(health) => (false, health),
        };
        let word = |word| if drains { "DRAIN" } else { word };
        match health {
            Health::Unchecked => f.write_str(word("no check")),
            Health::Up { failed: 0, .. } => f.write_str(word("UP")),
            Health::Up { failed, fall } => write!(f, "{} {}/{fall}", word("UP"), fall.saturating_sub(failed)),
            Health::Stopping { failed: 0, .. } => f.write_str(word("NOLB")),
            Health::Stopping { failed, fall } => write!(f, "{} {}/{fall}", word("NOLB"), fall.saturating_sub(failed)),
            Health::Ejected => f.write_str("DOWN (ejected)"),
            Health::Initial | Health::Down { passed: 0, .. } => f.write_str("DOWN"),
            Health::Down { passed, rise } => write!(f, "DOWN {passed}/{rise}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Weight;

    const UP: Health = Health::Up { failed: 0, fall: 3 };

    fn candidacy(operator: AdminState, node: NodeState, health: Health) -> Candidacy {
        eligible(operator, node, health, Weight::DEFAULT)
    }

    #[test]
    fn the_strictest_source_wins() {
        assert_eq!(candidacy(AdminState::Ready, NodeState::Ready, UP), Candidacy::Everybody);
        assert_eq!(candidacy(AdminState::Drain, NodeState::Ready, UP), Candidacy::StickyOnly);
        assert_eq!(candidacy(AdminState::Drain, NodeState::Draining, UP), Candidacy::Nobody);
        assert_eq!(candidacy(AdminState::Maint, NodeState::Ready, UP), Candidacy::Nobody);
        assert_eq!(candidacy(AdminState::Ready, NodeState::Starting, UP), Candidacy::Nobody);
        assert_eq!(eligible(AdminState::Ready, NodeState::Ready, UP, Weight::ZERO), Candidacy::StickyOnly);
    }

    #[test]
    fn a_server_that_never_passed_a_check_gets_nobody() {
        assert_eq!(candidacy(AdminState::Ready, NodeState::Ready, Health::Initial), Candidacy::Nobody);
        assert_eq!(candidacy(AdminState::Ready, NodeState::Ready, Health::Unchecked), Candidacy::Everybody);
    }

    #[test]
    fn a_stopping_server_keeps_its_users_and_an_ejected_one_does_not() {
        let stopping = Health::Stopping { failed: 0, fall: 3 };
        assert_eq!(candidacy(AdminState::Ready, NodeState::Ready, stopping), Candidacy::StickyOnly);
        assert_eq!(candidacy(AdminState::Ready, NodeState::Ready, Health::Ejected), Candidacy::Nobody);
    }

    #[test]
    fn the_words_are_those_of_haproxy() {
        let word = |operator, health| ServerState::new(operator, NodeState::Ready, health).to_string();
        assert_eq!(word(AdminState::Ready, UP), "UP");
        assert_eq!(word(AdminState::Ready, Health::Up { failed: 1, fall: 3 }), "UP 2/3");
        assert_eq!(word(AdminState::Ready, Health::Down { passed: 0, rise: 2 }), "DOWN");
        assert_eq!(word(AdminState::Ready, Health::Down { passed: 1, rise: 2 }), "DOWN 1/2");
        assert_eq!(word(AdminState::Ready, Health::Unchecked), "no check");
        assert_eq!(word(AdminState::Drain, UP), "DRAIN");
        assert_eq!(word(AdminState::Drain, Health::Up { failed: 1, fall: 3 }), "DRAIN 2/3");
        assert_eq!(word(AdminState::Maint, UP), "MAINT");
        assert_eq!(word(AdminState::Ready, Health::Stopping { failed: 0, fall: 3 }), "NOLB");
        assert_eq!(word(AdminState::Ready, Health::Stopping { failed: 1, fall: 3 }), "NOLB 2/3");
        assert_eq!(word(AdminState::Drain, Health::Stopping { failed: 0, fall: 3 }), "DRAIN");
        assert_eq!(word(AdminState::Ready, Health::Ejected), "DOWN (ejected)");
    }
}
