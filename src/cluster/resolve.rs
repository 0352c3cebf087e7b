//! Seeds and their names.

use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::time::{Duration, Instant};

use crate::swim::canonical;

/// Longest wait for a resolver, which might hang; the next attempt may reach a better one.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// From the first warning about a seed to the second; doubled each time, up to the longest, for some seeds never come back.
const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);
/// A seed that has not answered for so long is worth a line: a balancer that comes last, or a lost datagram, is not.
const SILENCE: Duration = Duration::from_secs(10);

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

/// What became of a seed lately.
pub(super) struct Lookup {
    pub(super) seed: Seed,
    pub(super) running: bool,
    has_key: bool,
    unresolved: Warnings,
    /// Where it was dialled last.
    addresses: Vec<SocketAddr>,
    /// Since when nobody has answered there.
    silent_since: Option<Instant>,
    silent: Warnings,
}

impl Lookup {
    /// `has_key` is whether our datagrams are sealed.
    pub(super) fn new(seed: Seed, has_key: bool) -> Self {
        let (unresolved, silent) = (Warnings::default(), Warnings::default());
        Self { seed, has_key, running: false, unresolved, addresses: Vec::new(), silent_since: None, silent }
    }

    /// Takes in the outcome and says so in the log: failures at first and then now and then, success after failures. What
    /// it returns is dialled.
    pub(super) fn finished(&mut self, now: Instant, outcome: io::Result<Vec<SocketAddr>>) -> Vec<SocketAddr> {
        self.running = false;
        let error = match outcome {
            Ok(addresses) if !addresses.is_empty() => {
                if self.unresolved.end() {
                    tracing::info!("'{}' resolves now: {}", self.seed.host, list(&addresses));
                }
                self.dialled(now, &addresses);
                return addresses;
            }
            Ok(_) => "it has no address".to_owned(),
            Err(error) => error.to_string(),
        };
        if self.unresolved.is_due(now) {
            tracing::warn!("cannot resolve '{}' yet ({error}); will keep trying", self.seed.host);
        }
        Vec::new()
    }

    fn dialled(&mut self, now: Instant, addresses: &[SocketAddr]) {
        self.addresses = addresses.iter().map(|&address| canonical(address)).collect();
        let since = *self.silent_since.get_or_insert(now);
        if now.duration_since(since) >= SILENCE && self.silent.is_due(now) {
            tracing::warn!("{}; will keep trying", self.complaint());
        }
    }

    fn complaint(&self) -> String {
        // A sealed member does not answer whoever has no key; it tells its own log.
        let sealed = if self.has_key { "" } else { " Or is the cluster sealed with a key (see --cluster-key-file)?" };
        format!(
            "nobody answers at the seed '{}' ({}): does it run there, and let UDP through?{sealed}",
            self.seed,
            list(&self.addresses)
        )
    }

    /// A datagram came from there.
    pub(super) fn heard(&mut self, from: SocketAddr) {
        if self.silent_since.is_some() && self.addresses.contains(&from) {
            self.silent_since = None;
            if self.silent.end() {
                tracing::info!("the seed '{}' answers now, at {from}", self.seed);
            }
        }
    }
}

/// When to say something again that a person knows already.
#[derive(Default)]
struct Warnings {
    last: Option<(Instant, Duration)>,
}

impl Warnings {
    /// Whether to say it now.
    fn is_due(&mut self, now: Instant) -> bool {
        let pause = match self.last {
            None => FIRST_PAUSE,
            Some((at, pause)) if now.duration_since(at) >= pause => (pause * 2).min(LONGEST_PAUSE),
            Some(_) => return false,
        };
        self.last = Some((now, pause));
        true
    }

    /// It is over; whether it was said.
    fn end(&mut self) -> bool {
        self.last.take().is_some()
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup() -> Lookup {
        Lookup::new(Seed { host: "ha".into(), port: 7946 }, true)
    }

    fn addr(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_seed_that_does_not_resolve_is_told_at_once_and_then_less_and_less_often() {
        let (mut lookup, start) = (lookup(), Instant::now());
        let told = (0..7200_u64).filter(|&second| {
            let before = lookup.unresolved.last;
            lookup.finished(start + Duration::from_secs(second), Err(io::Error::other("no such name")));
            lookup.unresolved.last != before
        });
        assert_eq!(told.collect::<Vec<_>>(), [0, 30, 90, 210, 450, 930, 1890, 3810]);
        let addresses = vec![addr("10.0.0.1:7946"), addr("[fd00::1]:7946")];
        assert_eq!(lookup.finished(start, Ok(addresses.clone())), addresses, "all of them are dialled");
        assert!(!lookup.unresolved.end(), "it has been told that it resolves now");
    }

    #[test]
    fn a_seed_where_nobody_answers_is_told_by_name_and_address_once_it_is_more_than_a_lost_datagram() {
        let (mut lookup, start) = (lookup(), Instant::now());
        let mapped = addr("[::ffff:10.0.0.1]:7946");
        let dial = |lookup: &mut Lookup, second| {
            lookup.finished(start + Duration::from_secs(second), Ok(vec![mapped]));
            lookup.silent.last.is_some()
        };
        assert!(!dial(&mut lookup, 0) && !dial(&mut lookup, 9));
        lookup.heard(addr("10.0.0.9:7946"));
        assert!(dial(&mut lookup, 10), "somebody else is not the seed");
        let told = "nobody answers at the seed 'ha:7946' (10.0.0.1): does it run there, and let UDP through?";
        assert_eq!(lookup.complaint(), told);
        let without_key = Lookup { has_key: false, ..lookup };
        let more = " Or is the cluster sealed with a key (see --cluster-key-file)?";
        assert_eq!(without_key.complaint(), format!("{told}{more}"));
        lookup = Lookup { has_key: true, ..without_key };
        lookup.heard(addr("10.0.0.1:7946"));
        assert!(!dial(&mut lookup, 20) && !dial(&mut lookup, 29));
    }
}
