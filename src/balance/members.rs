//! The servers that an algorithm chooses from.

use std::sync::Arc;

use super::balancer::Moment;

/// A server that serves now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    /// Its place in the pool's list of servers.
    pub server: usize,
    /// Its share, in a unit that is the same for all servers of a pool; a server without any gets nothing.
    pub share: u32,
    /// Tells it apart from all others, and is the same on every balancer.
    pub identity: u64,
}

/// The servers with a share, in their order.
#[derive(Debug, Clone, Default)]
pub struct Members(Arc<[Member]>);

impl Members {
    /// Leaves out the servers without a share.
    pub fn new(members: &[Member]) -> Self {
        Self(members.iter().filter(|member| member.share > 0).copied().collect())
    }

    /// The servers.
    #[inline]
    pub fn all(&self) -> &[Member] {
        &self.0
    }

    /// All shares together.
    pub fn total_share(&self) -> u64 {
        self.0.iter().map(|member| u64::from(member.share)).sum()
    }

    /// The free server with the fewest requests in flight for its share; of several, the first from the one at `server`
    /// on. An idle server is as good as any other idle one, whatever its share. Only so many servers from that one on are
    /// compared as `most` says, unless none of these is free.
    pub fn least_loaded(&self, server: usize, most: usize, moment: &impl Moment) -> Option<usize> {
        let start = self.0.partition_point(|member| member.server < server);
        let (before, from_there_on) = self.0.split_at(start);
        let (first, later) = from_there_on.split_at(most.min(from_there_on.len()));
        let (second, last) = before.split_at((most - first.len()).min(before.len()));
        // Anything is less than one request on no share at all.
        let none = Best { server: None, load: 1, share: 0 };
        let best = none.among(first, moment).among(second, moment);
        let best = if best.server.is_none() { best.among(later, moment).among(last, moment) } else { best };
        best.server
    }
}

/// The least loaded server so far.
#[derive(Clone, Copy)]
struct Best {
    server: Option<usize>,
    load: u64,
    share: u64,
}

impl Best {
    /// The best of itself and these, up to the first idle one. It is the work of a request to a busy pool, so it does as
    /// little as it can for each server.
    #[inline]
    fn among(mut self, members: &[Member], moment: &impl Moment) -> Self {
        // Nothing is less than nothing.
        let members = if self.load == 0 { &[] } else { members };
        for member in members {
            let (load, share) = (u64::from(moment.load(member.server)), u64::from(member.share));
            if load * self.share < self.load * share && moment.is_free(member.server) {
                self = Self { server: Some(member.server), load, share };
                if load == 0 {
                    break;
                }
            }
        }
        self
    }
}

/// Whether the first has clearly less to do for its share than the second.
#[inline]
pub(super) fn is_less((member, load): (&Member, u32), (other, its_load): (&Member, u32)) -> bool {
    u64::from(load) * u64::from(other.share) < u64::from(its_load) * u64::from(member.share)
}
