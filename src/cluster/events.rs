//! What happens to members, for those who watch.
//!
//! Why not the core's own outputs? A balancer first hears that somebody is there and only then who it is: a script wants
//! one `member-join`, with a name. And who falls off the list is no output at all.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use tokio::{
    sync::mpsc,
    time::{Duration, Instant},
};

use crate::{
    model::{MemberEvent, NodeId, NodeState},
    swim::{self, MemberState, Node, Output, RecordNews, Role},
};

/// Events that wait for one watcher at most.
const QUEUE: usize = 1024;
/// How often it is looked for members that are off the list.
const REAP_PACE: Duration = Duration::from_secs(30);

/// Something that happened to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// What.
    pub kind: MemberEvent,
    /// To whom.
    pub member: Subject,
    /// Who we were then.
    pub ourselves: Subject,
}

/// A member as scripts see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its name; its address as long as it has not told us.
    pub name: String,
    /// Where it gossips.
    pub address: SocketAddr,
    /// What it is for. A tag `role` of its own takes the place of `balancer` or `node`.
    pub role: String,
    /// What it says of itself.
    pub tags: BTreeMap<String, String>,
}

impl From<&swim::Member> for Subject {
    fn from(member: &swim::Member) -> Self {
        let mut tags = tags(member);
        let role = tags.entry("role".into()).or_insert_with(|| member.role.to_string()).clone();
        Self { name: member.name.clone(), address: member.address, role, tags }
    }
}

/// What a member says of itself, as pairs: its own tags, then what it serves.
pub fn tags(member: &swim::Member) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    if let Some(record) = &member.record {
        tags.clone_from(&record.tags);
        if member.role == Role::Node {
            tags.insert("service".into(), record.service.to_string());
            tags.insert("port".into(), record.port.to_string());
            tags.insert("weight".into(), record.weight.to_string());
            tags.insert("state".into(), record.state.to_string());
        }
        if !record.app_version.is_empty() {
            tags.insert("version".into(), record.app_version.clone());
        }
    }
    tags.insert("node".into(), member.node_id.to_string());
    tags
}

/// Those who watch, and whom they were told of.
#[derive(Default)]
pub(super) struct Watchers {
    queues: Vec<mpsc::Sender<Event>>,
    announced: BTreeMap<NodeId, Subject>,
    /// Those of them who are gone and still listed.
    departed: BTreeSet<NodeId>,
    next_reap: Option<Instant>,
    /// Events that a watcher was too slow to take.
    pub(super) lost: u64,
}

impl Watchers {
    /// Somebody watches from now on; who is there already joins for him.
    pub(super) fn add(&mut self, node: &Node) -> mpsc::Receiver<Event> {
        let (queue, events) = mpsc::channel(QUEUE);
        let members = node.members();
        let ours = node.identity().role();
        for (index, member) in members.iter().enumerate() {
            let is_there = match member.state {
                MemberState::Alive | MemberState::Suspect => true,
                MemberState::Failed | MemberState::Left => false,
            };
            if is_there && is_named(ours, member) {
                let subject = Subject::from(member);
                let event = Event { kind: MemberEvent::Join, member: subject.clone(), ourselves: ourselves(node) };
                self.lost += u64::from(queue.try_send(event).is_err());
                if index > 0 {
                    self.announced.insert(member.node_id, subject);
                }
            }
        }
        self.queues.push(queue);
        events
    }

    /// Tells what an output means for members. To be called after the core has made it.
    pub(super) fn observe(&mut self, node: &Node, output: &Output) {
        if self.queues.is_empty() {
            return;
        }
        match output {
            Output::MemberUp(member) if is_named(node.identity().role(), member) => {
                self.tell(node, MemberEvent::Join, member);
            }
            Output::Record { record, news: RecordNews::First | RecordNews::Changed, .. }
                if record.state != NodeState::Left =>
            {
                if let Some(member) = node.member(record.node_id) {
                    let is_known =
                        self.announced.contains_key(&member.node_id) && !self.departed.contains(&member.node_id);
                    self.tell(node, if is_known { MemberEvent::Update } else { MemberEvent::Join }, &member);
                }
            }
            Output::MemberDown(member) => self.tell(node, MemberEvent::Failed, member),
            Output::MemberLeft(member) | Output::MemberReplaced(member) => self.tell(node, MemberEvent::Leave, member),
            Output::Send { .. }
            | Output::ResolveSeeds
            | Output::FindAddress { .. }
            | Output::Record { .. }
            | Output::MemberUp(_)
            | Output::Refused { .. }
            | Output::CutOff { .. }
            | Output::CutOffEnds { .. }
            | Output::Renewed(_)
            | Output::Identified(_)
            | Output::AddressMismatch { .. }
            | Output::Told(_)
            | Output::Gone => {}
        }
    }

    /// Tells of those who are off the list, now and then.
    pub(super) fn reap(&mut self, now: Instant, node: &Node) {
        if self.departed.is_empty() || self.next_reap.is_some_and(|next| now < next) {
            return;
        }
        self.next_reap = Some(now + REAP_PACE);
        let reaped: Vec<_> =
            self.departed.iter().copied().filter(|&departed| node.member(departed).is_none()).collect();
        for departed in reaped {
            self.departed.remove(&departed);
            if let Some(member) = self.announced.remove(&departed) {
                self.send(Event { kind: MemberEvent::Reap, member, ourselves: ourselves(node) });
            }
        }
    }

    fn tell(&mut self, node: &Node, kind: MemberEvent, member: &swim::Member) {
        let subject = Subject::from(member);
        match kind {
            MemberEvent::Join | MemberEvent::Update => {
                self.departed.remove(&member.node_id);
                self.announced.insert(member.node_id, subject.clone());
            }
            MemberEvent::Leave | MemberEvent::Failed | MemberEvent::Reap => {
                if !self.announced.contains_key(&member.node_id) {
                    return;
                }
                let was_told = !self.departed.insert(member.node_id);
                // Nodes get no goodbye of other nodes. What comes later says that the address is somebody else's, which
                // is no news of who is gone already.
                if was_told && node.identity().role() == Role::Node {
                    return;
                }
            }
        }
        self.send(Event { kind, member: subject, ourselves: ourselves(node) });
    }

    fn send(&mut self, event: Event) {
        let lost = &mut self.lost;
        self.queues.retain(|queue| match queue.try_send(event.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                *lost += 1;
                tracing::warn!(
                    "{} of {} is lost to whoever watches: its queue is full",
                    event.kind.word(),
                    event.member.name
                );
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        });
    }
}

/// Whether nothing more will be learned of a member that is there: nodes get no records of others.
fn is_named(ours: Role, member: &swim::Member) -> bool {
    match ours {
        Role::Balancer => member.record.is_some(),
        Role::Node => true,
    }
}

fn ourselves(node: &Node) -> Subject {
    Subject::from(&node.ourselves())
}
