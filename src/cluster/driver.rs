//! The loop: socket, clock, resolver and requests in, whatever the core wants done out.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::{SystemTime, UNIX_EPOCH},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use rand::{SeedableRng, rngs::StdRng};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Duration, Instant},
};

use super::{
    Directory, Member, Resolve, Seed, Totals, View,
    address::{default_ip, local_ip_toward},
    clock::Clock,
    directory::is_node,
    events::Watchers,
    handle::Command,
    log,
    resolve::{Lookup, look_up},
    socket::Socket,
};
use crate::{
    model::{ClusterSecret, NodeId},
    swim::{Identity, IdentityError, Input, Node, NodeConfig, Output, RecordError, Role, ServiceRecord, canonical},
};

/// Longest sleep, when nothing is due.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);
/// Datagrams read in one turn at most, so that a flood can't stop the timers.
const BATCH: usize = 1024;
/// Longest UDP datagram; what is longer than ours is to be counted, not cut off.
const BUFFER: usize = 64 * 1024;

/// How a member takes part.
#[derive(Clone, Debug)]
pub struct Config {
    /// What it is for.
    pub role: Role,
    /// The address that others dial, if it was given; port 0 means that of the socket. Otherwise it is the socket's,
    /// or, for a socket bound to all addresses, the one that leads to the first seed that answers.
    pub advertise: Option<SocketAddr>,
    /// Other members to find; a balancer alone needs none.
    pub seeds: Vec<Seed>,
    /// What it says of itself; `node_id` and `version` are set by the member.
    pub record: ServiceRecord,
    /// Keys and name of the cluster; `None`: whoever reaches the socket can speak for a member.
    pub secret: Option<ClusterSecret>,
}

/// Why a member can't start.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// The socket can't be used.
    #[error("the gossip socket can't be used: {0}")]
    Socket(#[source] io::Error),
    /// The advertised address can't be dialled.
    #[error("can't advertise: {0}")]
    Address(#[from] IdentityError),
    /// The record can't be sent.
    #[error("the node's description can't be sent: {0}")]
    Record(#[from] RecordError),
}

/// A member of the cluster on a bound UDP socket: its handle, and the future that is the member and ends after
/// [`Member::leave`]. To be called within a tokio runtime with network and time.
///
/// # Errors
/// When the configuration can't work, see [`JoinError`].
pub fn join<R: Resolve, D: Directory>(
    socket: UdpSocket,
    config: Config,
    resolver: R,
    directory: D,
) -> Result<(Member, impl Future<Output = ()>), JoinError> {
    let Config { role, advertise, seeds, record, secret } = config;
    record.check()?;
    let socket = Socket::new(socket).map_err(JoinError::Socket)?;
    let (address, address_is_given) = advertised(socket.bound(), advertise);
    let node_id = NodeId(rand::random());
    let generation = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis());
    let identity = Identity::new(address, u64::try_from(generation).unwrap_or(u64::MAX), node_id, role)?;
    tracing::info!(address = %identity.address(), %role, node_id = %node_id, "cluster member started");
    let has_key = secret.is_some();
    let node_config = NodeConfig { identity, address_is_given, has_seeds: !seeds.is_empty(), record, secret };
    let node = Node::new(node_config, StdRng::from_rng(&mut rand::rng()));
    let (member, requests) = Member::new(node_id);
    let driver = Driver {
        role,
        socket,
        node,
        clock: Clock::new(Instant::now()),
        directory,
        lookups: seeds.into_iter().map(|seed| Lookup::new(seed, has_key)).collect(),
        wanted: Vec::new(),
        drains: Vec::new(),
        leavers: Vec::new(),
        gone: false,
        watchers: Watchers::default(),
        renewals: log::Renewals::default(),
        totals: Totals::default(),
    };
    Ok((member, driver.run(requests, resolver)))
}

/// The address to advertise at first, and whether it is settled.
fn advertised(bound: SocketAddr, given: Option<SocketAddr>) -> (SocketAddr, bool) {
    let port = |port: u16| if port == 0 { bound.port() } else { port };
    match given {
        Some(given) => (SocketAddr::new(given.ip(), port(given.port())), true),
        None if bound.ip().is_unspecified() => (SocketAddr::new(default_ip(), bound.port()), false),
        None => (bound, true),
    }
}

struct Driver<D> {
    role: Role,
    socket: Socket,
    node: Node,
    clock: Clock,
    directory: D,
    lookups: Vec<Lookup>,
    /// Seeds to look up, by position.
    wanted: Vec<usize>,
    drains: Vec<oneshot::Sender<()>>,
    leavers: Vec<oneshot::Sender<()>>,
    gone: bool,
    watchers: Watchers,
    renewals: log::Renewals,
    totals: Totals,
}

impl<D: Directory> Driver<D> {
    async fn run<R: Resolve>(mut self, mut requests: mpsc::Receiver<Command>, resolver: R) {
        let mut buffer = vec![0; BUFFER];
        let mut lookups = FuturesUnordered::new();
        let mut has_handles = true;
        while !self.gone {
            self.clock.advance(Instant::now());
            self.node.set_wall_clock(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
            self.drain_socket(&mut buffer);
            if self.node.next_deadline().is_some_and(|deadline| deadline <= self.clock.time()) {
                self.feed(Input::Tick);
            }
            if self.node.is_drained() {
                release(&mut self.drains);
            }
            self.watchers.reap(Instant::now(), &self.node);
            for position in std::mem::take(&mut self.wanted) {
                let seed = self.lookups[position].seed.clone();
                let resolver = &resolver;
                lookups.push(async move { (position, look_up(resolver, seed).await) });
            }
            if self.gone {
                break;
            }
            self.clock.advance(Instant::now());
            let until = self.node.next_deadline().map_or(LONGEST_SLEEP, |at| at.saturating_sub(self.clock.time()));
            let sleep = until.min(LONGEST_SLEEP);
            self.clock.sleeps(sleep);
            tokio::select! {
                biased;
                request = requests.recv(), if has_handles => match request {
                    Some(request) => {
                        self.clock.advance(Instant::now());
                        self.obey(request);
                    }
                    None => has_handles = false,
                },
                Some((position, outcome)) = lookups.next(), if !lookups.is_empty() => {
                    let addresses = self.lookups[position].finished(Instant::now(), outcome);
                    self.clock.advance(Instant::now());
                    self.feed(Input::SeedsResolved(addresses));
                }
                readable = self.socket.readable() => if let Err(error) = readable {
                    tracing::error!(%error, "the gossip socket is broken, the cluster member stops");
                    return;
                },
                () = tokio::time::sleep(sleep) => {}
            }
        }
        release(&mut self.leavers);
    }

    fn drain_socket(&mut self, buffer: &mut [u8]) {
        for _ in 0..BATCH {
            match self.socket.try_receive(buffer) {
                Ok((length, from)) => {
                    let bytes = buffer.get(..length).unwrap_or_default();
                    for lookup in &mut self.lookups {
                        lookup.heard(canonical(from));
                    }
                    self.feed(Input::Datagram { from, bytes });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => {
                    self.totals.receive_errors += 1;
                    tracing::debug!(%error, "reading the gossip socket failed");
                    return;
                }
            }
        }
    }

    fn obey(&mut self, command: Command) {
        // Whoever asked may have stopped waiting; then nobody misses the answer.
        match command {
            Command::SetState(state) => {
                let record = ServiceRecord { state, ..self.node.record().clone() };
                self.feed(Input::SetRecord(record));
            }
            Command::SetRecord(record) => self.feed(Input::SetRecord(*record)),
            Command::Members(answer) => drop(answer.send(self.node.members())),
            Command::View(answer) => {
                let (now, members, census) = (self.clock.time(), self.node.members(), self.node.census());
                drop(answer.send(View { now, members, census, totals: self.totals() }));
            }
            Command::Tell(told) => self.feed(Input::Tell(told)),
            Command::Watch(answer) => drop(answer.send(self.watchers.add(&self.node))),
            Command::DrainProgress(answer) => drop(answer.send(self.node.drain_progress())),
            Command::Drained(answer) => self.drains.push(answer),
            Command::SetKeys(keys) => {
                log::rotated(&keys);
                self.feed(Input::SetKeys(keys));
            }
            Command::Leave(answer) => {
                self.leavers.push(answer);
                self.feed(Input::Leave);
            }
        }
    }

    fn totals(&self) -> Totals {
        let protocol = self.node.counters().clone();
        Totals { protocol, sealing: self.node.sealing(), lost_events: self.watchers.lost, ..self.totals.clone() }
    }

    /// Hands something to the core and does what it wants, which may be answered with more.
    fn feed(&mut self, input: Input<'_>) {
        let mut out = Vec::new();
        self.node.handle(self.clock.time(), input, &mut out);
        let mut todo = VecDeque::from(out);
        while let Some(output) = todo.pop_front() {
            if let Some(answer) = self.perform(output) {
                let mut out = Vec::new();
                self.node.handle(self.clock.time(), answer, &mut out);
                todo.extend(out);
            }
        }
    }

    fn perform(&mut self, output: Output) -> Option<Input<'static>> {
        self.watchers.observe(&self.node, &output);
        match output {
            Output::Send { to, bytes } => self.send(to, &bytes),
            Output::ResolveSeeds => {
                for (position, lookup) in self.lookups.iter_mut().enumerate() {
                    if !std::mem::replace(&mut lookup.running, true) {
                        self.wanted.push(position);
                    }
                }
            }
            Output::FindAddress { toward } => return Some(Input::LocalAddress(self.find_address(toward))),
            Output::Record { record, address, role, news } => {
                let gossips_at = || self.node.member(record.node_id).map_or(address, |member| member.address);
                log::record(&record, if is_node(role) { address } else { gossips_at() }, role, news);
                let in_flight = if is_node(role) { self.directory.record(&record, address) } else { 0 };
                return Some(Input::Applied { node_id: record.node_id, version: record.version, in_flight });
            }
            Output::MemberUp(member) => {
                log::up(self.role, &member);
                if is_node(member.role) {
                    self.directory.up(member.node_id);
                }
            }
            Output::MemberDown(member) => {
                log::down(self.role, &member);
                if is_node(member.role) && !self.node.is_cut_off() {
                    self.directory.down(member.node_id);
                }
            }
            Output::CutOff { vanished, of } => {
                log::cut_off(self.role, vanished.len(), of);
                // Those who went first were believed to be down. Of others than nodes the pool knows nothing.
                vanished.into_iter().for_each(|node| self.directory.up(node));
            }
            Output::CutOffEnds { gone, lasted } => {
                log::cut_off_ends(self.role, gone.len(), lasted);
                gone.into_iter().for_each(|node| self.directory.down(node));
            }
            Output::MemberLeft(member) => {
                log::left(&member);
                if is_node(member.role) {
                    self.directory.left(member.node_id);
                }
            }
            Output::MemberReplaced(member) => {
                log::replaced(self.role, &member);
                if is_node(member.role) {
                    self.directory.replaced(member.node_id);
                }
            }
            Output::Renewed(identity) => self.renewals.happened(self.clock.time(), &identity),
            Output::Identified(identity) => log::identified(&identity),
            Output::AddressMismatch { advertised, observed, ours } => log::mismatch(advertised, observed, ours),
            Output::Told(told) => self.directory.told(told),
            Output::Refused { from, reason, key } => log::refused(from, reason, key, self.node.sealing().as_ref()),
            Output::Gone => self.gone = true,
        }
        None
    }

    fn find_address(&self, toward: SocketAddr) -> Option<IpAddr> {
        local_ip_toward(toward).inspect_err(|error| tracing::debug!(%toward, %error, "no local address")).ok()
    }

    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        if let Err(error) = self.socket.send(to, bytes) {
            self.totals.send_errors += 1;
            tracing::debug!(%to, %error, "a datagram was not sent");
        }
    }
}

/// Tells all who wait; one who has stopped waiting is not missed.
fn release(waiting: &mut Vec<oneshot::Sender<()>>) {
    for waiting in waiting.drain(..) {
        let _ = waiting.send(());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_address_is_advertised_else_that_of_the_socket_else_a_guess() {
        let addr = |text: &str| text.parse::<SocketAddr>().unwrap();
        let bound = addr("10.0.0.1:7946");
        assert_eq!(advertised(bound, Some(addr("192.0.2.9:0"))), (addr("192.0.2.9:7946"), true));
        assert_eq!(advertised(bound, Some(addr("192.0.2.9:1"))), (addr("192.0.2.9:1"), true));
        assert_eq!(advertised(bound, None), (bound, true));
        let (guess, settled) = advertised(addr("[::]:7946"), None);
        assert!(!settled && !guess.ip().is_unspecified() && guess.port() == 7946);
    }
}
