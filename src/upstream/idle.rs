//! The idle connections of one worker.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use rustc_hash::FxHashMap;

use crate::{
    model::ServerId,
    net::now_coarse,
    registry::{Server, ServerLive, Snapshot},
    upstream::Link,
};

/// A connection that was idle so long may be forgotten by something on the way, which swallows the next request.
const LONGEST_IDLE: Duration = Duration::from_secs(60);

/// Idle connections by server, the last used on top.
#[derive(Debug)]
pub struct IdleLinks {
    stacks: FxHashMap<ServerId, Stack>,
    most: usize,
}

#[derive(Debug)]
struct Stack {
    #[allow(clippy::vec_box, reason = "a link is boxed once, for all the moves of its life")]
    links: Vec<Box<Link>>,
    live: Arc<ServerLive>,
}

impl IdleLinks {
    /// Keeps at most `most` connections for each server.
    pub fn new(most: usize) -> Self {
        Self { stacks: FxHashMap::default(), most }
    }

    /// A connection that can take a request right now.
    pub fn take(&mut self, server: ServerId) -> Option<Box<Link>> {
        let stack = self.stacks.get_mut(&server)?;
        while let Some(link) = stack.links.pop() {
            stack.live.idle.fetch_sub(1, Ordering::Relaxed);
            if !link.is_spoilt() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection whose last response is complete, if there is room and reason to.
    pub fn put(&mut self, server: &Server, link: Box<Link>) {
        if !link.is_reusable() || !server.live.keeps_idle() {
            return;
        }
        let stack =
            self.stacks.entry(server.id).or_insert_with(|| Stack { links: Vec::new(), live: Arc::clone(&server.live) });
        if stack.links.len() < self.most {
            stack.live.idle.fetch_add(1, Ordering::Relaxed);
            stack.links.push(link);
        }
    }

    /// Closes what servers closed, what has not been used for long, and everything to servers that are gone or take nobody.
    pub fn sweep(&mut self, snapshot: &Snapshot) {
        let now = now_coarse();
        let keeps = |id: &ServerId| {
            snapshot.pools.iter().filter_map(|pool| pool.by_id(*id)).any(|server| server.keeps_idle_connections())
        };
        self.stacks.retain(|id, stack| {
            let kept = keeps(id);
            if kept {
                stack.retain(|link| now < link.last().after(LONGEST_IDLE) && !link.is_spoilt());
            } else {
                stack.retain(|_| false);
            }
            kept
        });
    }

    /// Closes all, and returns how many; for the moment when the system has no descriptors left.
    pub fn clear(&mut self) -> usize {
        let closed = self.stacks.values().map(|stack| stack.links.len()).sum();
        for stack in self.stacks.values_mut() {
            stack.retain(|_| false);
        }
        closed
    }
}

impl Stack {
    fn retain(&mut self, keep: impl FnMut(&Box<Link>) -> bool) {
        let before = self.links.len();
        self.links.retain(keep);
        let closed = u32::try_from(before - self.links.len()).unwrap_or(u32::MAX);
        self.live.idle.fetch_sub(closed, Ordering::Relaxed);
    }
}

impl Drop for IdleLinks {
    fn drop(&mut self) {
        self.clear();
    }
}
