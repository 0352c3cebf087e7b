//! Choosing a server of a pool for a request, and taking a place there.

use std::{
    num::NonZeroU32,
    sync::{Arc, atomic::Ordering},
};

use super::{
    place::{Claim, Place},
    pool::Pool,
    server::{Origin, Server},
};
use crate::{
    balance::{Ask, Balancer, Member, Moment, hash, mix},
    config::PoolPolicy,
    model::{Algorithm, ServerId},
    queue::Wish,
};

impl Pool {
    /// A place on the server that a cookie names, or else on the one that the algorithm chooses of those that have a free
    /// place and are not in `avoid`.
    pub fn claim(&self, named: Option<Arc<Server>>, avoid: &[ServerId], ask: Ask) -> Claim {
        if self.is_limited {
            return self.claim_limited(named, avoid, ask);
        }
        let balanced = named.is_none();
        match named.or_else(|| self.choose(avoid, ask).cloned()) {
            Some(server) => Claim::Taken { place: Place::enter(server, &self.live), balanced },
            None => Claim::NoServer,
        }
    }

    /// The server that the algorithm chooses, without those in `avoid`, full or not.
    pub fn choose(&self, avoid: &[ServerId], ask: Ask) -> Option<&Arc<Server>> {
        self.pick(avoid, ask, false).map(|index| &self.servers[index])
    }

    #[inline]
    fn pick(&self, avoid: &[ServerId], ask: Ask, is_limited: bool) -> Option<usize> {
        let pick = |avoid: &[ServerId]| self.balancer.pick(ask, &Now { pool: self, avoid, is_limited });
        let well = if avoid.is_empty() { None } else { self.avoid_forced(avoid) };
        well.and_then(|avoid| pick(&avoid)).or_else(|| pick(avoid))
    }

    /// In a panic, these and all servers that are down: a request that one server has failed is not tried on those that
    /// probably fail it, too, as long as others are there.
    #[cold]
    fn avoid_forced(&self, avoid: &[ServerId]) -> Option<Vec<ServerId>> {
        let forced = self.servers.iter().filter(|server| server.forced).map(|server| server.id);
        self.panics().then(|| forced.chain(avoid.iter().copied()).collect())
    }

    /// Whether [`Pool::choose`] would find a server.
    pub fn has_other_than(&self, avoid: &[ServerId]) -> bool {
        self.members.iter().any(|member| member.share > 0 && !avoid.contains(&self.servers[member.server].id))
    }

    /// Requests that the server gets at once; `None` is no limit.
    pub fn limit(&self, server: &Server) -> Option<NonZeroU32> {
        self.policy.limit(server.maxconn)
    }

    fn claim_limited(&self, named: Option<Arc<Server>>, avoid: &[ServerId], ask: Ask) -> Claim {
        let balanced = named.is_none();
        if balanced && !self.has_other_than(avoid) {
            return Claim::NoServer;
        }
        let place = match &named {
            // Who comes now must not overtake those who wait: the queue knows whether a place is left.
            _ if self.live.is_waited_for() => None,
            Some(server) => self.try_enter(server),
            None => self.enter_any(avoid, ask),
        };
        match (place, named) {
            (Some(place), _) => Claim::Taken { place, balanced },
            (None, Some(server)) => Claim::Full(Wish::Only(server.id)),
            (None, None) => Claim::Full(Wish::Any { avoid: avoid.to_vec() }),
        }
    }

    fn enter_any(&self, avoid: &[ServerId], ask: Ask) -> Option<Place> {
        loop {
            let index = self.pick(avoid, ask, true)?;
            // Somebody else may have taken its last place meanwhile; it is not free any more then.
            if let Some(place) = self.try_enter(&self.servers[index]) {
                return Some(place);
            }
        }
    }

    fn try_enter(&self, server: &Arc<Server>) -> Option<Place> {
        Place::try_enter(server, self.limit(server), &self.live)
    }
}

/// A pool as its algorithm sees it.
struct Now<'a> {
    pool: &'a Pool,
    avoid: &'a [ServerId],
    /// Whether servers can be full.
    is_limited: bool,
}

impl Moment for Now<'_> {
    #[inline]
    fn turn(&self) -> usize {
        self.pool.live.turn.fetch_add(1, Ordering::Relaxed)
    }

    #[inline]
    fn load(&self, server: usize) -> u32 {
        self.pool.lives[server].in_flight.now()
    }

    #[inline]
    fn total(&self) -> u32 {
        self.pool.live.in_flight.now()
    }

    #[inline]
    fn is_free(&self, server: usize) -> bool {
        if self.avoid.is_empty() && !self.is_limited {
            return true;
        }
        let it = &self.pool.servers[server];
        let has_place = || self.pool.limit(it).is_none_or(|limit| self.load(server) < limit.get());
        !self.avoid.contains(&it.id) && (!self.is_limited || has_place())
    }
}

/// A balancer with what it was made from, which is kept from one snapshot to the next: most changes of a pool are none for
/// its algorithm.
#[derive(Debug, Clone)]
pub(super) struct Prepared {
    algorithm: Algorithm,
    factor: u16,
    pub(super) members: Arc<[Member]>,
    pub(super) balancer: Balancer,
}

impl Prepared {
    /// The last one, if it was made from the same.
    pub(super) fn for_members(last: Option<&Self>, policy: &PoolPolicy, members: Vec<Member>) -> Self {
        let PoolPolicy { balance, hash_balance_factor: factor, .. } = policy;
        let is_same =
            |last: &&Self| (&last.algorithm, last.factor, &*last.members) == (balance, *factor, members.as_slice());
        last.filter(is_same).cloned().unwrap_or_else(|| Self {
            algorithm: balance.clone(),
            factor: *factor,
            balancer: Balancer::new(balance, *factor, &members),
            members: members.into(),
        })
    }
}

/// What tells a server apart on every balancer alike: who it is, not where it is, nor what it is called here.
pub(super) fn identity(origin: &Origin) -> u64 {
    match origin {
        Origin::Static { name } => hash(name.as_str().as_bytes()),
        Origin::Member { node, lost: _ } => mix(node.0),
    }
}

#[cfg(test)]
mod tests;
