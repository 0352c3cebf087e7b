//! Seeds and their names.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::time::{Duration, Instant};

/// Longest wait for a resolver, which might hang; the next attempt may reach a better one.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// From one warning about a name that does not resolve to the next.
const WARNING_PAUSE: Duration = Duration::from_secs(30);

/// Another member to join: its name or address, and its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Seed {
    /// A host name or an address; resolved anew at each attempt.
    pub host: String,
    /// UDP port.
    pub port: u16,
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Name resolution: all addresses of a host.
pub trait Resolve {
    /// Resolves a host's name. Never asked for a literal address.
    ///
    /// # Errors
    /// When the name has no address, at present.
    fn resolve(&self, host: &str, port: u16) -> impl Future<Output = io::Result<Vec<SocketAddr>>>;
}

/// What became of a seed's name lately.
pub(super) struct Lookup {
    pub(super) seed: Seed,
    pub(super) running: bool,
    warned: Option<Instant>,
    failing: bool,
}

impl Lookup {
    pub(super) fn new(seed: Seed) -> Self {
        Self { seed, running: false, warned: None, failing: false }
    }

    /// Takes in the outcome and says so in the log: failures at first and then now and then, success after failures.
    pub(super) fn finished(&mut self, now: Instant, outcome: io::Result<Vec<SocketAddr>>) -> Vec<SocketAddr> {
        self.running = false;
        let error = match outcome {
            Ok(addresses) if !addresses.is_empty() => {
                if std::mem::take(&mut self.failing) {
                    tracing::info!("'{}' resolves now: {}", self.seed.host, list(&addresses));
                }
                return addresses;
            }
            Ok(_) => "it has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        if !self.failing || self.warned.is_none_or(|at| now.duration_since(at) >= WARNING_PAUSE) {
            self.warned = Some(now);
            tracing::warn!("cannot resolve '{}' yet ({error}); will keep trying", self.seed.host);
        }
        self.failing = true;
        Vec::new()
    }
}

/// The seed's addresses. Literal ones need no resolver.
pub(super) async fn look_up<R: Resolve>(resolver: &R, seed: Seed) -> io::Result<Vec<SocketAddr>> {
    match seed.host.parse::<IpAddr>() {
        Ok(ip) => Ok(vec![SocketAddr::new(ip, seed.port)]),
        Err(_) => match tokio::time::timeout(LOOKUP_TIMEOUT, resolver.resolve(&seed.host, seed.port)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer from the resolver")),
        },
    }
}

fn list(addresses: &[SocketAddr]) -> String {
    addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ")
}
