//! Decisions of operators that hold on every balancer of a cluster.
//!
//! An operator's word is carried out here at once, signed, and handed to whoever follows ([`Registry::follow`]); a word from
//! another balancer arrives as [`super::Command::Decided`]. Both are the same to a server: the later one holds.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc;

use super::{
    Registry,
    operation::Operation,
    server::{Origin, Server},
    writer::Writer,
};
use crate::model::{AdminState, Decision, Hint, NodeId, ServerKey, ServerName, Stamp, Told, Wish};

/// Whose word about a server holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Signatures {
    /// About its state.
    pub state: Option<Signed>,
    /// About its weight.
    pub weight: Option<Signed>,
}

/// Who decided, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The balancer; `None` for one that is in no cluster.
    pub by: Option<ServerName>,
    /// Which decision holds.
    pub stamp: Stamp,
}

impl Signed {
    /// `lb-2 14:03:22 (version 3)`, in UTC, with the date when that is another one. A time after the year 9999, which can't be
    /// written so, shows as its end.
    pub fn describe(&self, now: SystemTime) -> String {
        let write = |time| humantime::format_rfc3339_seconds(time).to_string();
        let latest = UNIX_EPOCH + Duration::from_millis(Stamp::LATEST);
        let text = write(UNIX_EPOCH + Duration::from_millis(self.stamp.at.min(Stamp::LATEST)));
        let today = write(now.clamp(UNIX_EPOCH, latest));
        let (day, time) = text.trim_end_matches('Z').split_once('T').unwrap_or(("", &text));
        let day = if today.starts_with(day) { String::new() } else { format!("{day} ") };
        let by = self.by.as_ref().map(|by| format!("{by} ")).unwrap_or_default();
        format!("{by}{day}{time} (version {})", self.stamp.version)
    }
}

impl Signatures {
    pub(super) fn about(&mut self, wish: Wish) -> &mut Option<Signed> {
        match wish {
            Wish::State(_) => &mut self.state,
            Wish::Weight(_) => &mut self.weight,
        }
    }
}

impl Server {
    /// Who it is on every balancer.
    pub fn key(&self) -> ServerKey {
        match &self.origin {
            Origin::Static { name } => ServerKey::Static(name.clone()),
            Origin::Member { node, lost: _ } => ServerKey::Node(*node),
        }
    }

    /// What operators want of it and who said so, in words: `drain by lb-2 14:03:22 (version 3)`. `None` when they want
    /// nothing.
    pub fn operators_word(&self, now: SystemTime) -> Option<String> {
        let signed = |signed: &Option<Signed>| match signed {
            Some(signed) if signed.by.is_some() => format!(" by {}", signed.describe(now)),
            Some(signed) => format!(" {}", signed.describe(now)),
            None => String::new(),
        };
        let state = (self.operator != AdminState::Ready)
            .then(|| format!("{}{}", self.operator.word(), signed(&self.decided.state)));
        let weight = self.wanted_weight.map(|weight| format!("weight {weight}{}", signed(&self.decided.weight)));
        let words: Vec<_> = state.into_iter().chain(weight).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }
}

/// Those who tell the cluster.
#[derive(Debug)]
pub(super) struct Follower {
    name: ServerName,
    node: NodeId,
    news: mpsc::UnboundedSender<Told>,
}

impl Registry {
    /// From now on operators' words are signed by this balancer and handed out, with every turn of a server's health. There
    /// is one follower; a later one takes its place. The queue has no limit, since people fill it.
    pub fn follow(&self, name: ServerName, node: NodeId) -> mpsc::UnboundedReceiver<Told> {
        let (news, following) = mpsc::unbounded_channel();
        self.lock().follower = Some(Follower { name, node, news });
        following
    }

    /// Another balancer's checks found that a server went up or down. When we believe otherwise, it is checked at once; the
    /// word itself decides nothing.
    pub fn hint(&self, hint: &Hint) {
        let snapshot = self.snapshot();
        let servers = snapshot.pool(&hint.pool).into_iter().flat_map(|pool| &pool.servers);
        let doubtful = |server: &&std::sync::Arc<Server>| {
            server.key() == hint.server && server.is_checked() && server.health.is_up() != hint.is_up
        };
        for server in servers.filter(doubtful) {
            server.live.want_check();
            self.signals().trouble.notify_one();
        }
    }
}

impl Writer {
    /// The signature of a word that is said here at that time.
    pub(super) fn sign(&self, unix: Duration, seen: Option<&Signed>) -> Signed {
        let node = self.follower.as_ref().map(|follower| follower.node).unwrap_or_default();
        let stamp =
            Stamp::after(seen.map(|seen| seen.stamp), u64::try_from(unix.as_millis()).unwrap_or(u64::MAX), node);
        Signed { by: self.follower.as_ref().map(|follower| follower.name.clone()), stamp }
    }

    pub(super) fn tell(&self, told: Told) {
        if let Some(follower) = &self.follower {
            // Nobody listens any more once the cluster's member has ended.
            let _unheard = follower.news.send(told);
        }
    }

    /// Carries out what an operator decided on another balancer, unless a later word holds. Whether it changed anything
    /// that a reader sees.
    pub(super) fn decided(&mut self, (now, unix): (Instant, Duration), decision: Decision) -> bool {
        let Decision { pool, server: key, wish, by, stamp } = decision;
        let signed = Signed { by: Some(by), stamp };
        let age = unix.saturating_sub(Duration::from_millis(stamp.at));
        let since = now.checked_sub(age).unwrap_or(now);
        let entry = self.pools.iter().find(|entry| entry.name == pool);
        let found = entry.and_then(|entry| entry.servers.iter().find(|server| server.key() == key));
        let Some(server) = found else {
            self.wishes.expect(now, since, (pool, key), wish, signed);
            return false;
        };
        let mut decided = server.decided.clone();
        if decided.about(wish).as_ref().is_some_and(|held| held.stamp >= stamp) {
            return false;
        }
        tracing::info!(
            "Server {pool}/{}: {wish}, as was decided on {}.",
            server.name,
            signed.describe(UNIX_EPOCH + unix)
        );
        let operation = match wish {
            Wish::State(state) => Operation::State(state),
            Wish::Weight(weight) => Operation::Weight(weight),
        };
        let id = server.id;
        self.carry_out(now, since, id, operation, Some(signed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_any_time_is_described_at_any_time() {
        let signed = |at| Signed { by: None, stamp: Stamp { at, version: 2, node: NodeId(1) } };
        let epoch = UNIX_EPOCH;
        let times = [epoch - Duration::from_secs(1), epoch, epoch + Duration::from_millis(Stamp::LATEST + 1)];
        for now in times {
            for at in [0, Stamp::LATEST, Stamp::LATEST + 1, u64::MAX] {
                assert!(signed(at).describe(now).ends_with(" (version 2)"));
            }
        }
        assert_eq!(signed(u64::MAX).describe(epoch), "9999-12-31 23:59:59 (version 2)");
        assert_eq!(signed(1000).describe(epoch), "00:00:01 (version 2)");
    }
}
