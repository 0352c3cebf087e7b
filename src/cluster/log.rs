//! What the cluster does, for a person at three in the morning.

use std::{net::SocketAddr, time::Duration};

use crate::{
    model::{KeyId, Keyring, NodeState},
    swim::{DropReason, Identity, MAX_MEMBERS, Member, RecordNews, Role, Sealing, ServiceRecord},
};

/// Least time between two lines of being given up.
const RENEWALS_PAUSE: Duration = Duration::from_secs(60);

/// A member appeared. A balancer waits for its record, which brings the name ([`record`]).
pub(super) fn up(ours: Role, member: &Member) {
    let Member { name, address, role, .. } = member;
    match (ours, role, &member.record) {
        (Role::Balancer, _, Some(_)) => tracing::info!(%name, %address, %role, "member-join: it answers again"),
        (Role::Node, Role::Balancer, _) => tracing::info!(%address, %role, "member-join: found a balancer"),
        (Role::Balancer, _, None) | (Role::Node, Role::Node, _) => {
            tracing::debug!(%name, %address, %role, "member-join");
        }
    }
}

/// A record arrived. `address` is the server's, or, of a balancer, which has none, where it gossips.
pub(super) fn record(record: &ServiceRecord, address: SocketAddr, role: Role, news: RecordNews) {
    let ServiceRecord { name, state, service, weight, .. } = record;
    if *state == NodeState::Left {
        // The goodbye gets its own line.
        return;
    }
    let what = match news {
        RecordNews::Same => return,
        RecordNews::First => "member-join",
        RecordNews::Changed => "member-update",
    };
    match role {
        Role::Node => tracing::info!(%name, %address, %role, %service, %state, %weight, "{what}"),
        Role::Balancer => tracing::info!(%name, %address, %role, "{what}"),
    }
}

/// A member stopped answering.
pub(super) fn down(ours: Role, member: &Member) {
    let Member { name, address, role, .. } = member;
    match (ours, role) {
        (Role::Balancer, _) | (Role::Node, Role::Balancer) => {
            tracing::warn!(%name, %address, %role, "member-failed: it does not answer the cluster any more");
        }
        (Role::Node, Role::Node) => tracing::debug!(%name, %address, %role, "member-failed"),
    }
}

/// More than half of the members vanished together, or nobody answers.
pub(super) fn cut_off(ours: Role, vanished: usize, of: usize) {
    let what = if vanished * 2 > of {
        format!("{vanished} of {of} members vanished together")
    } else {
        format!("none of the {} other members answers any more", of.saturating_sub(1))
    };
    match ours {
        Role::Balancer => tracing::warn!(
            "{what}: this balancer seems to be cut off from the cluster. Its pools are kept, and checks alone decide who gets requests"
        ),
        Role::Node => tracing::warn!("{what}: this node seems to be cut off from the cluster"),
    }
}

/// They are back, or have been gone for too long.
pub(super) fn cut_off_ends(ours: Role, gone: usize, lasted: Duration) {
    let lasted = lasted.as_secs();
    match ours {
        Role::Balancer => tracing::info!(
            "after {lasted} s the cluster's word on its members counts again; {gone} of those that vanished are still gone"
        ),
        Role::Node => tracing::info!("no longer cut off after {lasted} s; {gone} members are still gone"),
    }
}

/// A member said goodbye.
pub(super) fn left(member: &Member) {
    let Member { name, address, role, .. } = member;
    tracing::info!(%name, %address, %role, "member-leave");
}

/// A new boot has a member's address.
pub(super) fn replaced(ours: Role, member: &Member) {
    let Member { name, address, role, .. } = member;
    match (ours, role) {
        (Role::Balancer, _) | (Role::Node, Role::Balancer) => {
            tracing::info!(%name, %address, %role, "member-leave: a new process has taken over its address");
        }
        (Role::Node, Role::Node) => tracing::debug!(%name, %address, %role, "member-leave: replaced"),
    }
}

/// Says that the cluster thought that we were dead, at most once a minute.
#[derive(Default)]
pub(super) struct Renewals {
    told: Option<Duration>,
    untold: u64,
}

impl Renewals {
    /// It happened, at this time since the start.
    pub(super) fn happened(&mut self, now: Duration, identity: &Identity) {
        if self.told.is_some_and(|told| told + RENEWALS_PAUSE > now) {
            self.untold += 1;
            return;
        }
        let (generation, untold) = (identity.generation(), std::mem::take(&mut self.untold));
        self.told = Some(now);
        if untold == 0 {
            tracing::warn!(generation, "the cluster had given us up (were we paused, or cut off?); joining again");
        } else {
            tracing::warn!(
                generation,
                "the cluster had given us up again, and {untold} times since that was last said here (does another member \
                 have our address?); joining again"
            );
        }
    }
}

/// We have another identity than we started with.
pub(super) fn identified(identity: &Identity) {
    tracing::info!(address = %identity.address(), "others reach us at this address");
}

/// An address is seen that is not advertised.
pub(super) fn mismatch(advertised: SocketAddr, observed: SocketAddr, ours: bool) {
    if ours {
        tracing::warn!(%advertised, %observed, "we advertise one address and are seen at another; without a cluster key balancers refuse us (see --advertise)");
    } else {
        tracing::warn!(%advertised, %observed, "refused a member: it advertises one address and sends from another (see its --advertise, or use a cluster key)");
    }
}

/// Somebody's datagrams are dropped.
pub(super) fn refused(from: SocketAddr, reason: DropReason, key: Option<KeyId>, ours: Option<&Sealing>) {
    let key = key.map(|key| key.to_string()).unwrap_or_default();
    let ours = ours.map(|sealing| list(&sealing.accepted)).unwrap_or_default();
    if reason == DropReason::Sealed {
        tracing::warn!("{from} sends gossip sealed with key {key} and this member has no key (see --cluster-key-file)");
    } else if reason == DropReason::Unsealed {
        tracing::warn!(
            "{from} sends unsealed gossip and this member has a key: start that one with the key, too (see --cluster-key-file)"
        );
    } else if reason == DropReason::UnknownKey {
        tracing::warn!(
            "{from} sends gossip sealed with key {key} and this member accepts {ours} only (see --cluster-key-file)"
        );
    } else if reason == DropReason::Future {
        tracing::warn!(
            "{from} tells what operators decided by a clock that is more than a day ahead of ours: it is not carried out here. Set the clocks right"
        );
    } else if reason == DropReason::MembersFull {
        tracing::warn!("the cluster is full: {from} speaks of more members than the {MAX_MEMBERS} that it may have");
    } else {
        tracing::warn!(
            "{from} sends gossip that says to be sealed with key {key} and is not for this cluster: it has another name (see --cluster-name), or is forged"
        );
    }
}

/// Other keys are used from now on.
pub(super) fn rotated(keys: &Keyring) {
    let accepted: Vec<_> = keys.keys().iter().map(|key| key.id()).collect();
    tracing::info!("gossip is sealed with key {} from now on; accepted: {}", keys.first().id(), list(&accepted));
}

fn list(keys: &[KeyId]) -> String {
    keys.iter().map(KeyId::to_string).collect::<Vec<_>>().join(", ")
}
