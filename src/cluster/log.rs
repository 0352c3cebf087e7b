//! What the cluster does, for a person at three in the morning.

use std::{net::SocketAddr, time::Duration};

use crate::{
    model::{KeyId, Keyring, NodeState},
    swim::{DropReason, Identity, MAX_MEMBERS, Member, RecordNews, Role, Sealing, ServiceRecord},
};

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

/// A record arrived.
pub(super) fn record(record: &ServiceRecord, address: SocketAddr, role: Role, news: RecordNews) {
    let ServiceRecord { name, state, service, weight, .. } = record;
    if *state == NodeState::Left {
        // The goodbye gets its own line.
        return;
    }
    match news {
        RecordNews::Same => {}
        RecordNews::First => {
            tracing::info!(%name, %address, %role, %service, %state, %weight, "member-join");
        }
        RecordNews::Changed => {
            tracing::info!(%name, %address, %role, %service, %state, %weight, "member-update");
        }
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

/// The cluster thought that we were dead.
pub(super) fn renewed(identity: &Identity) {
    let generation = identity.generation();
    tracing::warn!(generation, "the cluster had given us up (were we paused, or cut off?); joining again");
}

/// We have another identity than we started with.
pub(super) fn identified(identity: &Identity) {
    tracing::info!(address = %identity.address(), "others reach us at this address");
}

/// An address is seen that is not advertised.
pub(super) fn mismatch(advertised: SocketAddr, observed: SocketAddr, ours: bool) {
    if ours {
        tracing::warn!(%advertised, %observed, "we advertise one address and are seen at another; balancers may refuse our record (see --advertise)");
    } else {
        tracing::warn!(%advertised, %observed, "refused a record: its member advertises one address and sends from another (see its --advertise)");
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
