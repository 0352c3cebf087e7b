//! One server at one moment.

use std::{net::SocketAddr, sync::Arc, time::Instant};

use super::{decided::Signatures, events, live::ServerLive, warm_up::WarmUp};
use crate::{
    balance::WHOLE,
    model::{
        AdminState, Candidacy, Ejection, Health, NodeId, NodeState, ServerId, ServerName, ServerState, WantedWeight,
        Weight, eligible,
    },
};

/// Where a server came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The configuration.
    Static {
        /// Its name there, which may not be the one that it is shown by.
        name: ServerName,
    },
    /// The cluster.
    Member {
        /// The boot of its node.
        node: NodeId,
        /// Since when the cluster has lost sight of it, if it has.
        lost: Option<Instant>,
    },
}

/// One server at one moment.
#[derive(Debug, Clone)]
pub struct Server {
    /// Its identity for the life of this process.
    pub id: ServerId,
    /// Its number in the pool, counted from 1 and never given twice (column `sid`).
    pub number: u32,
    /// The name that it is shown by, unique in the pool.
    pub name: ServerName,
    /// What it calls itself. It is shown by that as soon as no other server is.
    pub own_name: ServerName,
    /// Where it answers.
    pub address: SocketAddr,
    /// Its share: the initial one, or what an operator made of it.
    pub weight: Weight,
    /// Its share as the configuration, or its node, says.
    pub initial_weight: Weight,
    /// Used only when no other server is left.
    pub backup: bool,
    /// Requests that it gets at once; 0 is no limit, `None` is what its pool says.
    pub maxconn: Option<u32>,
    /// Where it came from.
    pub origin: Origin,
    /// What the operator wants of it.
    pub operator: AdminState,
    /// What the operator made of its share, if anything.
    pub wanted_weight: Option<WantedWeight>,
    /// On which balancer operators said so, and when.
    pub decided: Signatures,
    /// Since when the operator wants it so.
    pub operated: Instant,
    /// Whether it has been drained, or in maintenance, for longer than its pool allows: a drained one gets nobody any more,
    /// and what is left on one in maintenance is cut off.
    pub overdue: bool,
    /// What it says of itself.
    pub node: NodeState,
    /// The port that checks ask; `None` is what its pool says.
    pub check_port: Option<u16>,
    /// What the checks say of it.
    pub health: Health,
    /// Set while it gets nobody because of what it answers to users.
    pub ejected: Option<Ejection>,
    /// Whether it gets users although it is down: too few are left that are not.
    pub forced: bool,
    /// When its state changed.
    pub changed: Instant,
    /// How warm it is, where the pool has a slow start.
    pub warm_up: WarmUp,
    /// What a cookie must say to name it: opaque, and another one for another boot.
    pub cookie: Arc<str>,
    /// What names it, too, while the cluster's keys are being changed.
    pub former_cookies: Arc<[Arc<str>]>,
    /// Its counters.
    pub live: Arc<ServerLive>,
}

impl Server {
    /// Whether the cluster has lost sight of its node.
    pub(super) fn is_lost(&self) -> bool {
        match self.origin {
            Origin::Member { lost, .. } => lost.is_some(),
            Origin::Static { .. } => false,
        }
    }

    /// Who may be sent to it.
    pub fn candidacy(&self) -> Candidacy {
        self.candidacy_of(if self.forced { Health::Unchecked } else { self.standing() })
    }

    /// Who may be sent to it because of what it is itself, and not because its pool panics.
    pub fn own_candidacy(&self) -> Candidacy {
        self.candidacy_of(self.standing())
    }

    /// Whether everybody could be sent to it if it was not ejected.
    pub fn would_serve(&self) -> bool {
        self.candidacy_of(self.health) == Candidacy::Everybody
    }

    fn candidacy_of(&self, health: Health) -> Candidacy {
        // A drain that is over lets nobody in, as maintenance does; it is still checked, and shown as what it is.
        let operator = if self.overdue { AdminState::Maint } else { self.operator };
        eligible(operator, self.node, health, self.weight)
    }

    /// What checks and traffic together say of it.
    pub fn standing(&self) -> Health {
        if self.ejected.is_some() && self.health.is_up() { Health::Ejected } else { self.health }
    }

    /// What it gets of the pool's requests beside others, in hundredths of a weight of 1.
    pub fn share(&self) -> u32 {
        u32::from(self.weight.get()) * self.warm_up.percent()
    }

    /// Its weight as it is now, rounded up: less than what it was given while it starts slowly.
    pub fn effective_weight(&self) -> u32 {
        self.share().div_ceil(WHOLE)
    }

    /// Its state as one word.
    pub fn state(&self) -> ServerState {
        ServerState::new(self.operator, self.node, self.standing())
    }

    /// Why it is ejected and for how long, in words; `None` when it is not.
    pub fn ejection(&self) -> Option<String> {
        (self.standing() == Health::Ejected).then_some(self.ejected.as_ref()).flatten().map(events::ejected)
    }

    /// Whether it should be checked now.
    pub fn is_checked(&self) -> bool {
        self.health != Health::Unchecked && self.state() != ServerState::Maint
    }

    /// Whether requests and tunnels that are still on it are cut off.
    pub fn is_cut(&self) -> bool {
        self.overdue && self.operator == AdminState::Maint
    }

    /// Whether a connection to it may be kept for a later request.
    pub fn keeps_idle_connections(&self) -> bool {
        self.candidacy() != Candidacy::Nobody
    }
}
