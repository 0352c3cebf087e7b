//! The first server that has a free place (HAProxy: `balance first`): servers fill up one after the other, and those at the
//! end of the list can rest. Without limits the first one gets everything.

use super::{
    balancer::Moment,
    members::{Member, Members},
};

/// Prepared for the servers of a pool.
#[derive(Debug, Clone)]
pub struct First(Members);

impl First {
    /// Prepares for these servers.
    pub fn new(members: &[Member]) -> Self {
        Self(Members::new(members))
    }

    /// The first server that is free. Weights do not matter, except that one of zero gets nothing.
    #[inline]
    pub fn pick(&self, moment: &impl Moment) -> Option<usize> {
        self.0.all().iter().map(|member| member.server).find(|&server| moment.is_free(server))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::balance::tests::{Scene, members};

    #[test]
    fn servers_fill_up_in_their_order() {
        let servers = First::new(&members(&[0, 1, 9]));
        let mut scene = Scene::idle(3);
        assert_eq!(servers.pick(&scene), Some(1));
        scene.full = vec![1];
        assert_eq!(servers.pick(&scene), Some(2));
        scene.full = vec![1, 2];
        assert_eq!(servers.pick(&scene), None);
    }
}
