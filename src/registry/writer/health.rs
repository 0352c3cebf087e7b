//! What checks and traffic say of servers, taken into the pools.

use std::{sync::Arc, time::Instant};

use super::{Entry, Writer, is_on};
use crate::{
    health::{Finding, observe},
    model::{
        Candidacy, CheckPolicy, CheckReport, CheckStatus, Ejection, Health, Hint, NodeId, ServerId, ServerState, Told,
    },
    registry::{feedback::Trouble, server::Server},
};

impl Writer {
    pub(super) fn checked(&mut self, now: Instant, id: ServerId, report: CheckReport) -> bool {
        let found = self.pools.iter_mut().find(|entry| entry.servers.iter().any(|server| server.id == id));
        let Some(entry) = found else { return false };
        let Some(policy) = entry.policy.check.clone() else { return false };
        let (passed, is_verdict) = (report.status.passed(), report.status.is_verdict());
        let finding = finding(&report);
        let is_lost = entry.servers.iter().any(|server| server.id == id && server.is_lost());
        let fall = if is_lost { patience(finding, policy.fall) } else { policy.fall };
        let judge = |health| observe(health, finding, policy.rise, fall);
        let mut was_up = false;
        if let Some(server) = entry.servers.iter().find(|server| server.id == id) {
            was_up = server.health.is_up();
            let mut record = server.live.lock();
            record.failures += u64::from(is_verdict && !passed && server.health.is_up());
            record.last = Some(report);
        }
        // A balancer that runs out of descriptors must not take its own servers down.
        if !is_verdict {
            return false;
        }
        let changed = entry.change_all(now, |server| server.id == id, |server| server.health = judge(server.health));
        self.tell_of_turn(id, was_up);
        changed
    }

    /// Tells the other balancers when a server went up or down.
    fn tell_of_turn(&self, id: ServerId, was_up: bool) {
        for entry in &self.pools {
            if let Some(server) = entry.servers.iter().find(|server| server.id == id)
                && server.health.is_up() != was_up
            {
                let hint = Hint { pool: entry.name.clone(), server: server.key(), is_up: !was_up };
                self.tell(Told::Hint(hint));
            }
        }
    }

    /// The cluster has lost a node: its servers whose last check failed are down. A host that vanishes refuses nothing, and
    /// keeps whoever is sent there waiting.
    pub(super) fn give_up_failing(&mut self, now: Instant, node: NodeId) -> bool {
        self.pools.iter_mut().fold(false, |changed, entry| {
            let Some(rise) = entry.policy.check.as_ref().map(|check| check.rise) else { return changed };
            let is_failing = |server: &Server| is_on(server, node) && has_failed(server.health);
            let give_up = |server: &mut Server| server.health = observe(server.health, Finding::Failed, rise, 1);
            entry.change_all(now, is_failing, give_up) || changed
        })
    }

    pub(super) fn troubled(&mut self, now: Instant, troubles: Vec<(ServerId, Trouble)>) -> bool {
        // Each one, always.
        troubles.into_iter().fold(false, |changed, (id, trouble)| self.met(now, id, trouble) || changed)
    }

    fn met(&mut self, now: Instant, id: ServerId, trouble: Trouble) -> bool {
        let found = self.pools.iter_mut().find(|entry| entry.servers.iter().any(|server| server.id == id));
        let Some(entry) = found else { return false };
        let Some((rise, fall)) = entry.policy.check.as_ref().map(|check| (check.rise, check.fall)) else {
            return false;
        };
        // What is down gets requests only in a panic, and they say nothing new; what is not checked would never come back.
        let counts = |server: &&Arc<Server>| server.id == id && server.is_checked() && server.health.is_up();
        let Some(server) = entry.servers.iter().find(counts) else { return false };
        let mut record = server.live.lock();
        record.met += 1;
        let Some(report) = trouble.report() else { return false };
        record.last = Some(report);
        drop(record);
        let judge = |health| observe(health, Finding::Failed, rise, fall);
        let changed = entry.change_all(now, |server| server.id == id, |server| server.health = judge(server.health));
        self.tell_of_turn(id, true);
        changed
    }

    pub(super) fn eject(&mut self, now: Instant, ejections: Vec<(ServerId, Option<Ejection>)>) -> bool {
        ejections.into_iter().fold(false, |changed, (id, ejection)| {
            let found = self.pools.iter_mut().find(|entry| entry.servers.iter().any(|server| server.id == id));
            let set = |server: &mut Server| server.ejected = ejection;
            found.is_some_and(|entry| entry.change_all(now, |server| server.id == id, set)) || changed
        })
    }
}

impl Entry {
    /// Ends the ejections of a pool that has nobody else: bad answers are better than none. It is done with the change that
    /// took the last other server, so that no request finds the pool empty in between.
    pub(super) fn recall_ejected(&mut self, now: Instant) {
        let is_only_ejected = |server: &Server| server.ejected.is_some() && server.would_serve();
        if self.servers.iter().any(|server| server.own_candidacy() == Candidacy::Everybody) {
            return;
        }
        for server in self.servers.iter().filter(|server| is_only_ejected(server)) {
            server.live.forgive();
        }
        self.change_all(now, is_only_ejected, |server| server.ejected = None);
    }
}

/// The health of a server whose pool has begun to check its servers, or has ceased to. One that was serving goes on: the
/// first checks decide, and until then nobody is turned away because of a reload.
pub(super) fn after_toggle(health: Health, check: Option<&CheckPolicy>) -> Health {
    let Some(&CheckPolicy { fall, .. }) = check else { return Health::Unchecked };
    match health {
        Health::Unchecked | Health::Up { .. } => Health::Up { failed: 0, fall },
        Health::Stopping { .. } => Health::Stopping { failed: 0, fall },
        Health::Initial | Health::Ejected | Health::Down { .. } => Health::Initial,
    }
}

/// What a health means for users, without how near the next turn is.
pub(super) fn stage(health: Health) -> u8 {
    match health {
        Health::Unchecked | Health::Up { .. } => 0,
        Health::Stopping { .. } => 1,
        Health::Ejected => 2,
        Health::Initial | Health::Down { .. } => 3,
    }
}

/// How many failed checks take down a server whose node the cluster has lost: one. Neither the cluster nor a single check is
/// believed alone, but they know nothing of each other.
fn patience(finding: Finding, fall: u32) -> u32 {
    match finding {
        Finding::Failed => 1,
        Finding::Passed | Finding::Stopping => fall,
    }
}

fn has_failed(health: Health) -> bool {
    match health {
        Health::Up { failed, .. } | Health::Stopping { failed, .. } => failed > 0,
        Health::Unchecked | Health::Initial | Health::Ejected | Health::Down { .. } => false,
    }
}

fn finding(report: &CheckReport) -> Finding {
    match report.status {
        CheckStatus::L4Ok | CheckStatus::L7Ok => Finding::Passed,
        CheckStatus::L7Conditional => Finding::Stopping,
        CheckStatus::Initializing
        | CheckStatus::SocketError
        | CheckStatus::L4Timeout
        | CheckStatus::L4Connect
        | CheckStatus::L7Timeout
        | CheckStatus::L7Response
        | CheckStatus::L7Status => Finding::Failed,
    }
}

/// Whether a person is told: up to down, to another administrative state, but not each single check on the way.
pub(super) fn is_turn(before: ServerState, after: ServerState) -> bool {
    match (before, after) {
        (ServerState::Running(before), ServerState::Running(after))
        | (ServerState::Drain(before), ServerState::Drain(after)) => stage(before) != stage(after),
        (ServerState::Maint, ServerState::Maint) => false,
        (ServerState::Maint | ServerState::Drain(_) | ServerState::Running(_), _) => true,
    }
}
