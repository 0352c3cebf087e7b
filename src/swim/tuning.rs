//! How fast the protocol beats.
//!
//! foca's LAN preset follows memberlist, which needs 6 to 10 seconds to see a death. Here it takes about 2.3 s: one probe
//! period until somebody probes the dead node, one more until the probe has failed, then the time to object.
//!
//! Why can that be so short? With three of ten datagrams lost a probe fails in one of five cases, direct and indirect: a
//! node suspects somebody every two or three seconds. What must not fail is the objection, and it has some fifteen chances
//! in its 1.5 s, because the suspect is asked directly ([`super::suspicion`]). `tests/sim/loss.rs` measures what is left.
//!
//! Why no local health as in Lifeguard (Dadgar, Phillips, Currey, 2017), where a member that is slow itself gives others more
//! time? foca fixes its probe times when it is built, and the common cause of a slow member, a process that stood still, is
//! dealt with by the driver: its clock advances by a quarter of a second at most, and it reads before it judges.

use std::{
    num::{NonZeroU8, NonZeroUsize},
    time::Duration,
};

use foca::{Config, PeriodicParams};

use super::wire::MAX_SWIM;

/// How long the departed are remembered: a dead boot must not come back by an old rumour. Rumours die within seconds, so an
/// hour is plenty, and it bounds what a churn of addresses can pile up.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// How long they are remembered when there is no room.
const REMEMBERED_AT_LEAST: Duration = Duration::from_secs(60);
/// By how much they may be forgotten earlier, then.
pub(crate) const FORGOTTEN_EARLIER: Duration = REMEMBERED.saturating_sub(REMEMBERED_AT_LEAST);

const PROBE_PERIOD: Duration = Duration::from_millis(500);

/// The protocol's settings for a cluster of so many live members, ourselves included.
pub(crate) fn settings(members: usize) -> Config {
    // No panic for constants: a zero can't happen, and would become one.
    let size = |number: usize| NonZeroUsize::new(number).unwrap_or(NonZeroUsize::MIN);
    let every = |frequency, members| Some(PeriodicParams { frequency, num_members: size(members) });
    Config {
        probe_period: PROBE_PERIOD,
        probe_rtt: Duration::from_millis(150),
        num_indirect_probes: size(3),
        max_transmissions: transmissions(members),
        suspect_to_down_after: suspicion(members),
        remove_down_after: Some(REMEMBERED),
        max_packet_size: size(MAX_SWIM),
        // A node that was declared dead while it was paused learns of it and renews its identity.
        notify_down_members: true,
        periodic_announce: every(Duration::from_secs(30), 1),
        periodic_announce_to_down_members: every(Duration::from_secs(5), 2),
        periodic_gossip: every(Duration::from_millis(100), 3),
    }
}

/// How long a member takes to find out by itself that each one of so many, ourselves included, is gone: it probes one after
/// the other.
pub(crate) fn alone(members: usize) -> Duration {
    PROBE_PERIOD * u32::try_from(members).unwrap_or(u32::MAX) + suspicion(members)
}

/// 1.5 s times log10 of the size, at least 1.5 s (SWIM section 4.2; the factor as in Lifeguard and memberlist).
pub(crate) fn suspicion(members: usize) -> Duration {
    let members = u32::try_from(members).unwrap_or(u32::MAX);
    Duration::from_millis(1500).mul_f64(f64::from(members).log10().max(1.0))
}

/// Four times log10 of the size as in memberlist, but at least 10: at three members the formula would say 2, and two
/// lost datagrams would lose the news.
fn transmissions(members: usize) -> NonZeroU8 {
    let digits = u8::try_from(members.max(1).ilog10() + 1).unwrap_or(u8::MAX);
    NonZeroU8::new(digits.saturating_mul(4).max(10)).unwrap_or(NonZeroU8::MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspicion_grows_with_the_cluster_and_transmissions_have_a_floor() {
        assert_eq!((suspicion(1), suspicion(10)), (Duration::from_millis(1500), Duration::from_millis(1500)));
        assert_eq!(suspicion(1000), Duration::from_millis(4500));
        assert_eq!((transmissions(3).get(), transmissions(1000).get()), (10, 16));
    }
}
