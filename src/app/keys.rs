//! What the cluster's keys mean for a balancer: other ones after a reload, cookies, words on the page.

use crate::{
    cluster,
    config::Config,
    model::{CookieKey, Keyring},
    registry::{Command, Registry},
    swim::{DropReason, Sealing},
};

/// The keys that a configuration which was read again brings; `None` when they are the same, or from another place, which
/// takes a restart.
pub(super) fn rotated(before: &Config, after: &Config) -> Option<Keyring> {
    let (before, after) = (before.gossip.as_ref()?, after.gossip.as_ref()?);
    let is_same_place = before.key_source == after.key_source && before.cluster == after.cluster;
    after.keys.clone().filter(|_| is_same_place && before.keys != after.keys)
}

/// Uses other keys from now on.
pub(super) async fn rotate(config: &mut Config, registry: &Registry, member: Option<&cluster::Member>, keys: Keyring) {
    registry.apply(std::time::Instant::now(), cookie_keys(Some(&keys)));
    if let Some(member) = member {
        member.set_keys(keys.clone()).await;
    }
    if let Some(gossip) = &mut config.gossip {
        gossip.keys = Some(keys);
    }
}

/// What the values of sticky cookies are made with.
pub(super) fn cookie_keys(keys: Option<&Keyring>) -> Command {
    Command::CookieKeys(keys.map(Keyring::keys).unwrap_or_default().iter().map(CookieKey::of).collect())
}

/// What a person should know of a member's own seal: its keys, and whom it does not hear.
pub(super) fn notes(totals: &cluster::Totals) -> Vec<String> {
    let mut notes = Vec::new();
    if let Some(Sealing { key, accepted }) = &totals.sealing {
        let others: Vec<_> = accepted.iter().filter(|other| *other != key).map(ToString::to_string).collect();
        let others = if others.is_empty() { String::new() } else { format!(", accepts also {}", others.join(", ")) };
        notes.push(format!("sealed with key {key}{others}"));
    }
    let dropped = [
        (DropReason::Sealed, "sealed, and there is no key here"),
        (DropReason::Unsealed, "unsealed"),
        (DropReason::UnknownKey, "sealed with another key"),
        (DropReason::NotAuthentic, "forged or of another cluster"),
    ];
    for (reason, words) in dropped {
        if let Some(count) = totals.protocol.dropped.get(&reason) {
            notes.push(format!("{count} datagrams dropped: {words}"));
        }
    }
    notes
}
