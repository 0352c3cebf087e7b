//! Runs the schedule: follows the registry, starts checks that are due, hands in what they found.

use std::{
    future::Future,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::stream::{FuturesUnordered, StreamExt};
use rand::Rng;

use super::{
    check::{Limits, check},
    schedule::{Job, Schedule, Target, Ticket, connect_limit, time_limit},
};
use crate::{
    model::{CheckReport, CheckStatus, Health},
    registry::{Command, Registry, Snapshot},
};

/// Checks every server of the registry that wants checks, until `shutdown` ends.
///
/// All checks in flight belong to this future: to drop it ends them. Of a server's checks one counts; another that was
/// given up ends when its time is over. `rng` spreads the checks over
/// time; a seed that two balancers share would make them check in step.
pub async fn run(registry: Arc<Registry>, mut rng: impl Rng, shutdown: impl Future<Output = ()>) {
    let mut shutdown = pin!(shutdown);
    let mut changes = registry.changes();
    // What was there before counts as a change, too.
    changes.mark_changed();
    let mut schedule = Schedule::default();
    let mut in_flight = FuturesUnordered::new();
    let mut next_notes = None;
    loop {
        while let Some(job) = schedule.start_due(Instant::now(), &mut rng) {
            in_flight.push(carry_out(job));
        }
        tokio::select! {
            () = &mut shutdown => return,
            Ok(()) = changes.changed() => schedule.follow(Instant::now(), targets(&registry.snapshot())),
            Some((ticket, report)) = in_flight.next() => {
                if schedule.finish(ticket) {
                    registry.apply(Instant::now(), Command::Checked { server: ticket.server, report });
                }
            }
            () = notes(&registry, next_notes) => {
                let now = Instant::now();
                take_notes(&registry, &mut schedule, now);
                next_notes = Some(now + NOTES_PAUSE);
            }
            () = reached(schedule.next_due()) => {}
        }
    }
}

/// Least time between two looks at what requests met: they may meet it ten thousand times in a second.
const NOTES_PAUSE: Duration = Duration::from_millis(20);

/// Waits until requests have met a failure, and until it is time to look.
async fn notes(registry: &Registry, not_before: Option<Instant>) {
    if let Some(not_before) = not_before {
        tokio::time::sleep_until(not_before.into()).await;
    }
    registry.signals().trouble.notified().await;
}

/// Hands in what requests met, all of it as one change, and has the next check of each server come at once; that of servers
/// about which others know better as well.
fn take_notes(registry: &Registry, schedule: &mut Schedule, now: Instant) {
    let snapshot = registry.snapshot();
    let servers = snapshot.pools.iter().flat_map(|pool| &pool.servers);
    for doubtful in servers.clone().filter(|server| server.live.take_doubt()) {
        schedule.doubt(now, doubtful.id);
    }
    let met = servers.filter_map(|server| Some((server.id, server.live.take_trouble()?)));
    let troubles: Vec<_> = met.filter(|(server, _)| schedule.trouble(now, *server)).collect();
    if !troubles.is_empty() {
        registry.apply(now, Command::Troubled(troubles));
    }
}

async fn carry_out(Job { ticket, target }: Job) -> (Ticket, CheckReport) {
    let limits = Limits { connect: connect_limit(&target), whole: time_limit(&target.policy) };
    let mut report = check(target.address, &target.policy.kind, &target.policy.http, limits).await;
    if report.status == CheckStatus::L7Conditional && is_down(target.health) {
        // Who has lost his users has none to keep.
        report.status = CheckStatus::L7Status;
    }
    (ticket, report)
}

fn is_down(health: Health) -> bool {
    match health {
        Health::Ejected | Health::Down { .. } => true,
        Health::Unchecked | Health::Initial | Health::Up { .. } | Health::Stopping { .. } => false,
    }
}

fn targets(snapshot: &Snapshot) -> impl Iterator<Item = Target> {
    snapshot.pools.iter().filter_map(|pool| Some((pool, pool.policy.check.as_ref()?))).flat_map(|(pool, policy)| {
        let policy = Arc::new(policy.clone());
        pool.servers.iter().filter(|server| server.is_checked()).map(move |server| {
            let port = server.check_port.or(policy.port).unwrap_or(server.address.port());
            let address = SocketAddr::new(server.address.ip(), port);
            Target { server: server.id, address, health: server.health, policy: Arc::clone(&policy) }
        })
    })
}

async fn reached(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rand::{SeedableRng, rngs::StdRng};
    use tokio::{io::AsyncWriteExt, net::TcpListener, net::TcpSocket};

    use super::*;
    use crate::{
        config::{self, PoolPolicy},
        model::{CheckKind, CheckPolicy, CheckStatus, PoolName, ServerName, Weight},
        registry::{ResolvedServer, Server, Trouble},
    };

    const DEADLINE: Duration = Duration::from_secs(10);

    fn pool_name() -> PoolName {
        PoolName::parse("nodes").unwrap()
    }

    fn set_servers(registry: &Registry, addresses: &[SocketAddr]) {
        let servers = addresses.iter().enumerate().map(|(index, &address)| ResolvedServer {
            name: ServerName::parse(&format!("s{index}")).unwrap(),
            address: Some(address),
            weight: Weight::DEFAULT,
            backup: false,
            maxconn: None,
            check_port: None,
        });
        let command = Command::Static { pool: pool_name(), servers: servers.collect() };
        registry.apply(Instant::now(), command);
    }

    fn registry(interval: Duration, addresses: &[SocketAddr]) -> Arc<Registry> {
        let check = CheckPolicy { interval, ..CheckPolicy::default() };
        let policy = PoolPolicy { check: Some(check), ..PoolPolicy::default() };
        let registry = Registry::new(1, &[], Instant::now());
        let pool = config::Pool { name: pool_name(), policy, servers: Vec::new() };
        registry.apply(Instant::now(), Command::Pools(vec![pool]));
        set_servers(&registry, addresses);
        Arc::new(registry)
    }

    fn servers(registry: &Registry) -> Vec<Arc<Server>> {
        registry.snapshot().pool(&pool_name()).unwrap().servers.clone()
    }

    /// Waits until the registry is as wanted.
    async fn until(registry: &Registry, wanted: impl Fn(&[Arc<Server>]) -> bool) {
        let mut changes = registry.changes();
        let waiting = async {
            while !wanted(&servers(registry)) {
                changes.changed().await.unwrap();
            }
        };
        tokio::time::timeout(DEADLINE, waiting).await.expect("the registry did not become as wanted in time");
    }

    fn all_up(servers: &[Arc<Server>]) -> bool {
        servers.iter().all(|server| server.health.is_up())
    }

    /// Runs the checks while `story` lasts.
    async fn during(registry: &Arc<Registry>, story: impl Future<Output = ()>) {
        run(Arc::clone(registry), StdRng::seed_from_u64(1), story).await;
    }

    /// Answers each connection with a status, which may be changed; counts them.
    #[derive(Default)]
    struct FakeServer {
        status: AtomicUsize,
        asked: AtomicUsize,
    }

    impl FakeServer {
        async fn serve(&self, listener: &TcpListener) {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                self.asked.fetch_add(1, Ordering::Relaxed);
                stream.readable().await.unwrap();
                let status = self.status.load(Ordering::Relaxed);
                let _ = stream.write_all(format!("HTTP/1.1 {status} Status\r\n\r\n").as_bytes()).await;
            }
        }
    }

    #[tokio::test]
    async fn a_server_that_starts_to_answer_is_up_within_a_second() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        // Far longer than the deadline: only the haste for servers which never passed can make this one up in time.
        let registry = registry(Duration::from_secs(60), &[socket.local_addr().unwrap()]);
        during(&registry, async {
            let refused = || servers(&registry)[0].live.record().last.is_some();
            // A check that changes no state makes no snapshot, so this one condition is polled.
            let waiting = async {
                while !refused() {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(DEADLINE, waiting).await.unwrap();
            assert_eq!(servers(&registry)[0].live.record().last.unwrap().status, CheckStatus::L4Connect);

            let listener = socket.listen(16).unwrap();
            let server = FakeServer { status: 200.into(), ..FakeServer::default() };
            tokio::select! {
                () = server.serve(&listener) => {}
                () = until(&registry, all_up) => {}
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_server_that_fails_goes_down_and_comes_back() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = registry(Duration::from_millis(20), &[listener.local_addr().unwrap()]);
        let server = FakeServer { status: 200.into(), ..FakeServer::default() };
        let story = async {
            until(&registry, all_up).await;
            server.status.store(503, Ordering::Relaxed);
            until(&registry, |servers| !all_up(servers)).await;
            let record = servers(&registry)[0].live.record();
            let last = record.last.unwrap();
            assert_eq!((last.status, last.code, record.failures), (CheckStatus::L7Status, Some(503), 3));
            server.status.store(200, Ordering::Relaxed);
            until(&registry, all_up).await;
        };
        during(&registry, async {
            tokio::select! {
                () = server.serve(&listener) => {}
                () = story => {}
            }
        })
        .await;
    }

    #[tokio::test]
    async fn a_server_that_comes_is_checked_and_one_that_went_is_not() {
        let first = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let second = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = registry(Duration::from_millis(20), &[first.local_addr().unwrap()]);
        let servers = [0, 1].map(|_| FakeServer { status: 204.into(), ..FakeServer::default() });
        let story = async {
            until(&registry, all_up).await;
            set_servers(&registry, &[second.local_addr().unwrap()]);
            until(&registry, all_up).await;
            let asked = || servers.each_ref().map(|server| server.asked.load(Ordering::Relaxed));
            let [of_first, of_second] = asked();
            let waiting = async {
                while asked()[1] < of_second + 3 {
                    tokio::task::yield_now().await;
                }
            };
            tokio::time::timeout(DEADLINE, waiting).await.unwrap();
            // One check may have been on its way when its server went.
            assert!(asked()[0] <= of_first + 1);
        };
        during(&registry, async {
            tokio::select! {
                () = servers[0].serve(&first) => {}
                () = servers[1].serve(&second) => {}
                () = story => {}
            }
        })
        .await;
    }

    #[test]
    fn what_requests_met_of_many_servers_at_once_is_one_change() {
        let addresses: Vec<_> = (1..=200).map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        let (registry, now) = (registry(Duration::from_secs(60), &addresses), Instant::now());
        for server in servers(&registry) {
            let report =
                CheckReport { status: CheckStatus::L4Ok, code: None, duration: Duration::ZERO, detail: String::new() };
            registry.apply(now, Command::Checked { server: server.id, report });
        }
        let mut schedule = Schedule::default();
        schedule.follow(now, targets(&registry.snapshot()));
        let before = registry.snapshot().version;
        take_notes(&registry, &mut schedule, now);
        assert_eq!(registry.snapshot().version, before, "nothing was met");
        for server in servers(&registry) {
            registry.note_trouble(&server, Trouble::Refused);
        }
        take_notes(&registry, &mut schedule, now);
        assert_eq!(registry.snapshot().version, before + 1);
        assert!(servers(&registry).iter().all(|server| server.health == Health::Up { failed: 1, fall: 3 }));
    }

    #[tokio::test]
    async fn tcp_checks_are_enough_where_the_policy_says_so() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let registry = registry(Duration::from_secs(60), &[]);
        let check = CheckPolicy { kind: CheckKind::Tcp, ..CheckPolicy::default() };
        let policy = PoolPolicy { check: Some(check), ..PoolPolicy::default() };
        let pool = config::Pool { name: pool_name(), policy, servers: Vec::new() };
        registry.apply(Instant::now(), Command::Pools(vec![pool]));
        set_servers(&registry, &[listener.local_addr().unwrap()]);
        during(&registry, until(&registry, all_up)).await;
        assert_eq!(servers(&registry)[0].live.record().last.unwrap().status, CheckStatus::L4Ok);
    }
}
