//! Saying goodbye.
//!
//! Why not just `leave_cluster`? That is one gossip to at most three members, which looks like a failure to all others,
//! and whoever then answers "you are dead" would make foca rejoin. So the balancers get a last record first, which they
//! acknowledge; foca's gossip is repeated; and after it foca hears nothing any more.

use std::time::Duration;

use foca::Identity as _;

use super::{Node, Output, Role};
use crate::{model::NodeState, swim::ServiceRecord};

/// How long a goodbye waits for the balancers' acknowledgements.
const GOODBYE: Duration = Duration::from_millis(300);
/// Gossips after leaving, and the time between them.
const GOSSIPS: u32 = 3;
const GOSSIP_PAUSE: Duration = Duration::from_millis(40);

/// How far the goodbye has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Not begun.
    Member,
    /// The last record is on its way; foca is still fed.
    Goodbye { until: Duration },
    /// foca has left.
    Fading { next: Duration, gossips: u32 },
    /// Said.
    Gone,
}

impl Phase {
    /// Whether the others hold us for a member, so that foca is to be fed.
    pub(super) fn is_known(self) -> bool {
        match self {
            Self::Member | Self::Goodbye { .. } => true,
            Self::Fading { .. } | Self::Gone => false,
        }
    }

    pub(super) fn next_deadline(self) -> Option<Duration> {
        match self {
            Self::Goodbye { until } => Some(until),
            Self::Fading { next, .. } => Some(next),
            Self::Member | Self::Gone => None,
        }
    }
}

impl Node {
    pub(super) fn leave(&mut self, out: &mut Vec<Output>) {
        if self.phase != Phase::Member {
            return;
        }
        self.phase = Phase::Goodbye { until: self.now + GOODBYE };
        self.replace_record(ServiceRecord { state: NodeState::Left, ..self.record.clone() });
        self.push_record(out);
        if self.identity().role() == Role::Balancer {
            // Nodes look for another balancer at once instead of waiting for a rumour. They do not acknowledge.
            let nodes: Vec<_> = self.roster.alive().map(|entry| entry.identity).collect();
            for node in nodes.iter().filter(|node| node.role() == Role::Node) {
                self.push_to(node.addr(), 0, out);
            }
        }
    }

    pub(super) fn go_on_leaving(&mut self, out: &mut Vec<Output>) {
        match self.phase {
            Phase::Member | Phase::Gone => {}
            Phase::Goodbye { until } => {
                if self.now >= until || self.delivery.is_acknowledged() {
                    let done = self.swim.leave_cluster(&mut self.effects);
                    self.count(done);
                    self.timers.clear();
                    self.phase = Phase::Fading { next: self.now + GOSSIP_PAUSE, gossips: GOSSIPS };
                    self.flush(out);
                    if self.swim.num_members() == 0 {
                        self.phase = Phase::Gone;
                        out.push(Output::Gone);
                    }
                }
            }
            Phase::Fading { next, gossips } => {
                if self.now >= next {
                    let done = self.swim.gossip(&mut self.effects);
                    self.count(done);
                    self.flush(out);
                    self.phase = if gossips > 1 {
                        Phase::Fading { next: self.now + GOSSIP_PAUSE, gossips: gossips - 1 }
                    } else {
                        out.push(Output::Gone);
                        Phase::Gone
                    };
                }
            }
        }
    }
}
