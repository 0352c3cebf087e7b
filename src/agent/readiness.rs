//! Whether the application answers.
//!
//! Why not "the process runs": a process that is still loading gets its users' requests refused. Why not the balancers'
//! checks alone: the node knows first, and a record that says `Starting` saves each of them the trouble.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use super::settings::AgentSettings;
use crate::{
    model::{CheckKind, CheckReport, CheckStatus, HttpCheck},
    probe,
};

/// From start to start of a check while the application is not ready, and while it is.
const EAGER: Duration = Duration::from_millis(100);
const CALM: Duration = Duration::from_secs(1);
/// Checks in a row that must fail before an application that was ready is not.
const LOST_AFTER: u32 = 3;
/// The longest that one check may take: as long as a balancer's check by default.
const LIMIT: Duration = Duration::from_secs(2);
/// How often a person is told what is still waited for.
const REMINDER: Duration = Duration::from_secs(10);

/// A turn of the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It answers now.
    Ready,
    /// It no longer answers.
    Lost,
}

/// Asks the application again and again.
#[derive(Debug)]
pub(super) struct Readiness {
    addresses: Vec<SocketAddr>,
    kind: CheckKind,
    tracker: Tracker,
    next: Instant,
    waiting_since: Instant,
    reminded: Instant,
}

impl Readiness {
    pub(super) fn new(settings: &AgentSettings) -> Self {
        let port = settings.port.get();
        // An application may be bound to the container's address only. Loopback refuses at once then, so the order is free.
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let addresses = loopback.into_iter().chain(settings.advertised).map(|ip| SocketAddr::new(ip, port)).collect();
        let kind = match settings.ready_path.clone() {
            Some(path) => CheckKind::Http { method: http::Method::GET, path },
            None => CheckKind::Tcp,
        };
        let now = Instant::now();
        Self { addresses, kind, tracker: Tracker::default(), next: now, waiting_since: now, reminded: now }
    }

    /// Begins anew, with an application that was just started or that somebody else runs.
    pub(super) fn begin(&mut self) {
        let now = Instant::now();
        (self.tracker, self.next) = (Tracker::default(), now);
        (self.waiting_since, self.reminded) = (now, now);
        let port = self.addresses.first().map_or(0, SocketAddr::port);
        tracing::info!("waiting until the application answers on port {port} ({})", self.kind);
    }

    /// Ends when the application turned. May be dropped before: a check in flight is asked anew.
    pub(super) async fn changed(&mut self) -> Change {
        loop {
            tokio::time::sleep_until(self.next.into()).await;
            let started = Instant::now();
            let (address, report) = self.ask().await;
            let change = self.tracker.observe(report.status.passed());
            self.next = started + self.tracker.interval();
            self.tell(change, address, &report);
            if let Some(change) = change {
                return change;
            }
        }
    }

    /// The answer of the first address that takes a connection; what the first one said when none does.
    async fn ask(&self) -> (Option<SocketAddr>, CheckReport) {
        let mut first = None;
        for &address in &self.addresses {
            let limits = probe::Limits { connect: LIMIT, whole: LIMIT };
            let report = probe::check(address, &self.kind, &HttpCheck::default(), limits).await;
            match report.status {
                // Nobody is there, or this machine does not speak IPv6.
                CheckStatus::L4Connect | CheckStatus::SocketError => first = first.or(Some(report)),
                CheckStatus::Initializing
                | CheckStatus::L4Ok
                | CheckStatus::L4Timeout
                | CheckStatus::L7Timeout
                | CheckStatus::L7Response
                | CheckStatus::L7Ok
                | CheckStatus::L7Conditional
                | CheckStatus::L7Status => return (Some(address), report),
            }
        }
        (None, first.unwrap_or_else(nobody_asked))
    }

    fn tell(&mut self, change: Option<Change>, address: Option<SocketAddr>, report: &CheckReport) {
        let now = Instant::now();
        let at = address.map(|address| format!(" on {address}")).unwrap_or_default();
        let waited = now - self.waiting_since;
        match change {
            Some(Change::Ready) => {
                tracing::info!("the application answers{at} after {:.1} s: ready for traffic", waited.as_secs_f64());
            }
            Some(Change::Lost) => {
                (self.waiting_since, self.reminded) = (now, now);
                tracing::warn!(
                    "the application no longer answers{at}: {}; it gets no traffic until it does",
                    report.detail
                );
            }
            None if !self.tracker.ready && now - self.reminded >= REMINDER => {
                self.reminded = now;
                let seconds = waited.as_secs();
                tracing::warn!("still waiting for the application after {seconds} s{at}: {}", report.detail);
            }
            None => {}
        }
    }
}

fn nobody_asked() -> CheckReport {
    CheckReport { status: CheckStatus::Initializing, code: None, duration: Duration::ZERO, detail: String::new() }
}

/// Turns checks into changes: one that passes makes ready, several in a row that fail take it back.
#[derive(Debug, Default)]
struct Tracker {
    ready: bool,
    failed: u32,
}

impl Tracker {
    fn observe(&mut self, passed: bool) -> Option<Change> {
        self.failed = if passed { 0 } else { self.failed.saturating_add(1) };
        match (self.ready, passed) {
            (false, true) => {
                self.ready = true;
                Some(Change::Ready)
            }
            (true, false) if self.failed >= LOST_AFTER => {
                self.ready = false;
                Some(Change::Lost)
            }
            (true, _) | (false, false) => None,
        }
    }

    fn interval(&self) -> Duration {
        if self.ready { CALM } else { EAGER }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;

    use tokio::{
        io::AsyncWriteExt,
        net::{TcpListener, TcpSocket},
    };

    use super::*;
    use crate::agent::{Orphans, RestartPolicy};

    const DEADLINE: Duration = Duration::from_secs(10);

    fn readiness(port: u16, ready_path: Option<&'static str>) -> Readiness {
        Readiness::new(&AgentSettings {
            port: NonZeroU16::new(port).unwrap(),
            advertised: Some(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9))),
            ready_path: ready_path.map(http::uri::PathAndQuery::from_static),
            drain_timeout: Duration::ZERO,
            restart: RestartPolicy::Never,
            command: Vec::new(),
            orphans: Orphans::Leave,
        })
    }

    fn changes(answers: &[bool]) -> Vec<Option<Change>> {
        let mut tracker = Tracker::default();
        answers.iter().map(|&passed| tracker.observe(passed)).collect()
    }

    #[test]
    fn one_answer_makes_ready() {
        assert_eq!(changes(&[false, true, true]), [None, Some(Change::Ready), None]);
    }

    #[test]
    fn three_failures_in_a_row_take_it_back_and_one_answer_returns_it() {
        let (ready, lost) = (Some(Change::Ready), Some(Change::Lost));
        assert_eq!(changes(&[true, false, false, true, false]), [ready, None, None, None, None]);
        assert_eq!(changes(&[true, false, false, false, false, true]), [ready, None, None, lost, None, ready]);
    }

    #[test]
    fn checks_are_eager_until_ready_and_calm_then() {
        let mut tracker = Tracker::default();
        assert_eq!(tracker.interval(), EAGER);
        tracker.observe(true);
        assert_eq!(tracker.interval(), CALM);
    }

    #[tokio::test]
    async fn an_application_that_begins_to_listen_is_ready() {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let mut readiness = readiness(socket.local_addr().unwrap().port(), None);
        assert_eq!(readiness.ask().await.1.status, CheckStatus::L4Connect);
        let _listener = socket.listen(16).unwrap();
        assert_eq!(tokio::time::timeout(DEADLINE, readiness.changed()).await, Ok(Change::Ready));
    }

    #[tokio::test]
    async fn an_application_bound_to_the_advertised_address_only_is_found() {
        let listener = TcpListener::bind("127.0.0.9:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (found, report) = readiness(address.port(), None).ask().await;
        assert_eq!((found, report.status), (Some(address), CheckStatus::L4Ok));
    }

    #[tokio::test]
    async fn with_a_path_an_error_status_is_not_ready() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut readiness = readiness(listener.local_addr().unwrap().port(), Some("/ready"));
        let app = async {
            for status in ["503 Not Yet", "503 Not Yet", "200 OK"] {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.readable().await.unwrap();
                stream.write_all(format!("HTTP/1.1 {status}\r\n\r\n").as_bytes()).await.unwrap();
            }
        };
        let both = async { tokio::join!(readiness.changed(), app).0 };
        assert_eq!(tokio::time::timeout(DEADLINE, both).await, Ok(Change::Ready));
    }
}
