//! Those whom we suspect, and telling them so.
//!
//! Why not leave it to foca? It spreads a suspicion to random members and counts on one of them to reach the suspect, and
//! on the objection to find its way back: with three datagrams in ten lost, every fifth probe fails, and now and then such
//! a round trip takes longer than the time to object. So whoever suspects a member asks it himself, again and again until
//! it has objected or is given up. (Lifeguard's "buddy system", Dadgar, Phillips, Currey, 2017, tells a suspect in the next
//! probe that happens to reach it.)

use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

use foca::Incarnation;

use super::Identity;

/// From question to question. Some fifteen of them fit into the shortest time to object.
const PACE: Duration = Duration::from_millis(100);

/// What we hold against members, by address.
#[derive(Default)]
pub(crate) struct Suspicions {
    open: BTreeMap<SocketAddr, Suspicion>,
}

/// How long a challenged member has to answer. Ten questions are lost together, or their answers, once in a thousand times
/// when three of ten datagrams are; a second chance comes by gossip.
const CHALLENGE: Duration = Duration::from_secs(1);

/// A member that did not answer our probe. It objects by naming a higher incarnation of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Suspicion {
    pub(crate) suspect: Identity,
    pub(crate) incarnation: Incarnation,
    next: Duration,
    /// When we give it up ourselves; foca does in all other cases.
    pub(crate) verdict: Option<Duration>,
}

impl Suspicions {
    /// A probe has failed. Whether that is news.
    pub(crate) fn raise(&mut self, now: Duration, suspect: Identity, incarnation: Incarnation) -> bool {
        let known = self.open.get(&suspect.address());
        let is_new = known.is_none_or(|known| (known.suspect, known.incarnation) != (suspect, incarnation));
        if is_new {
            self.open.insert(suspect.address(), Suspicion { suspect, incarnation, next: now, verdict: None });
        }
        is_new
    }

    /// There is reason to think that it is gone: it is to answer within a second.
    pub(crate) fn challenge(&mut self, now: Duration, suspect: Identity, incarnation: Incarnation) {
        let verdict = Some(now + CHALLENGE);
        self.open.insert(suspect.address(), Suspicion { suspect, incarnation, next: now, verdict });
    }

    /// Suspects to ask now; they count as asked.
    pub(crate) fn due(&mut self, now: Duration) -> Vec<Suspicion> {
        let due = self.open.values_mut().filter(|suspicion| suspicion.next <= now);
        due.map(|suspicion| {
            suspicion.next = now + PACE;
            *suspicion
        })
        .collect()
    }

    /// It is settled, one way or the other.
    pub(crate) fn close(&mut self, suspicion: &Suspicion) {
        self.open.remove(&suspicion.suspect.address());
    }

    pub(crate) fn clear(&mut self) {
        self.open.clear();
    }

    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        self.open.values().map(|suspicion| suspicion.next).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::NodeId, swim::Role};

    #[test]
    fn a_suspect_is_asked_at_once_and_again_until_the_matter_is_settled() {
        let suspect = Identity::new("10.0.0.1:1".parse().unwrap(), 1, NodeId(1), Role::Node).unwrap();
        let mut suspicions = Suspicions::default();
        assert!(suspicions.raise(Duration::ZERO, suspect, 0) && !suspicions.raise(PACE, suspect, 0));
        let asked = |suspicions: &mut Suspicions, now: Duration| suspicions.due(now).first().copied();
        let first = asked(&mut suspicions, Duration::ZERO).unwrap();
        assert_eq!(asked(&mut suspicions, PACE / 2), None);
        assert!(asked(&mut suspicions, PACE).is_some());
        assert!(suspicions.raise(PACE, suspect, 1), "suspected again after it has objected");
        suspicions.close(&first);
        assert_eq!(suspicions.next_deadline(), None);
    }
}
