//! The idle connections of one worker.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use crate::{
    model::ServerId,
    registry::{Server, ServerLive, Snapshot},
    upstream::Link,
};

/// Idle connections by server, the last used on top.
#[derive(Debug)]
pub struct IdleLinks<B> {
    stacks: HashMap<ServerId, Stack<B>>,
    most: usize,
}

#[derive(Debug)]
struct Stack<B> {
    links: Vec<Link<B>>,
    live: Arc<ServerLive>,
}

impl<B> IdleLinks<B> {
    /// Keeps at most `most` connections for each server.
    pub fn new(most: usize) -> Self {
        Self { stacks: HashMap::new(), most }
    }

    /// A connection that can take a request right now.
    pub fn take(&mut self, server: ServerId) -> Option<Link<B>> {
        let stack = self.stacks.get_mut(&server)?;
        while let Some(link) = stack.links.pop() {
            stack.live.idle.fetch_sub(1, Ordering::Relaxed);
            if link.is_ready() {
                return Some(link);
            }
        }
        None
    }

    /// Keeps a connection whose last response is complete, if there is room and reason to.
    pub fn put(&mut self, server: &Server, link: Link<B>) {
        if link.is_closed() {
            return;
        }
        link.rest();
        let stack =
            self.stacks.entry(server.id).or_insert_with(|| Stack { links: Vec::new(), live: Arc::clone(&server.live) });
        if stack.links.len() < self.most {
            stack.live.idle.fetch_add(1, Ordering::Relaxed);
            stack.links.push(link);
        }
    }

    /// Closes what servers closed, and everything to servers that are gone or take nobody.
    pub fn sweep(&mut self, snapshot: &Snapshot) {
        let keeps = |id: &ServerId| {
            snapshot.pools.iter().filter_map(|pool| pool.by_id(*id)).any(|server| server.keeps_idle_connections())
        };
        self.stacks.retain(|id, stack| {
            let kept = keeps(id);
            if kept {
                stack.retain(|link| !link.is_closed());
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

impl<B> Stack<B> {
    fn retain(&mut self, keep: impl FnMut(&Link<B>) -> bool) {
        let before = self.links.len();
        self.links.retain(keep);
        let closed = u32::try_from(before - self.links.len()).unwrap_or(u32::MAX);
        self.live.idle.fetch_sub(closed, Ordering::Relaxed);
    }
}

impl<B> Drop for IdleLinks<B> {
    fn drop(&mut self) {
        self.clear();
    }
}
