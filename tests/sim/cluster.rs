//! Clusters that have settled, and figures of many runs.

use std::time::Duration;

use lb::{
    model::{ClusterKey, ClusterName, ClusterSecret, Keyring},
    swim::Role,
};

use super::net::{Net, Weather, ms};

/// A network with the addresses of those who run on it.
pub(crate) struct Cluster {
    pub(crate) net: Net,
    pub(crate) balancers: Vec<String>,
    pub(crate) nodes: Vec<String>,
}

impl Cluster {
    /// So many balancers and nodes who know each other. The weather holds from the start.
    pub(crate) fn settled(seed: u64, balancers: usize, nodes: usize, weather: Weather) -> Self {
        Self::settled_in(Net::new(seed), balancers, nodes, weather)
    }

    /// The same with a key, in good weather.
    pub(crate) fn sealed(seed: u64, balancers: usize, nodes: usize) -> Self {
        let key = ClusterKey::new([1; 32]).to_secret_text();
        let secret = ClusterSecret { keys: Keyring::parse(&key).expect("a key"), name: ClusterName::default() };
        Self::settled_in(Net { secret: Some(secret), ..Net::new(seed) }, balancers, nodes, Weather::default())
    }

    /// The same on a network that is given.
    pub(crate) fn settled_in(net: Net, balancers: usize, nodes: usize, weather: Weather) -> Self {
        let mut net = Net { weather, is_traced: false, ..net };
        let balancers: Vec<_> = (0..balancers).map(|host| format!("10.0.0.{}:7946", host + 1)).collect();
        let nodes: Vec<_> = (0..nodes).map(|host| format!("10.1.{}.{}:7946", host / 250, host % 250 + 1)).collect();
        let seeds: Vec<_> = balancers.iter().map(String::as_str).collect();
        for at in &balancers {
            net.start(Role::Balancer, at, &seeds);
        }
        let pause = ms(1000) / nodes.len().max(1) as u32;
        for at in &nodes {
            net.start(Role::Node, at, &seeds);
            net.run(pause);
        }
        // Nodes of large clusters take minutes until they have heard of each other, which none of them needs.
        let is_settled = if nodes.len() > 100 { Net::balancers_are_complete } else { Net::views_are_equal };
        net.wait_by(ms(100), ms(60_000), "settling", is_settled);
        net.run(if nodes.len() > 500 { ms(300) } else { ms(3000) + ms(net.seed * 37 % 1000) });
        Self { net, balancers, nodes }
    }
}

/// The seeds to run: so many in a debug build, so many otherwise; or the one of `LB_SIM_SEED`.
pub(crate) fn seeds(debug: u64, full: u64) -> impl Iterator<Item = u64> {
    let wish = std::env::var("LB_SIM_SEED").ok().map(|seed| seed.parse::<u64>().expect("LB_SIM_SEED is a number"));
    let count = if cfg!(debug_assertions) { debug } else { full };
    wish.map_or(0..count, |seed| seed..seed + 1)
}

/// What a run lasts, or how many there are: less in a debug build.
pub(crate) fn sized<T>(debug: T, full: T) -> T {
    if cfg!(debug_assertions) { debug } else { full }
}

/// Times of many runs.
#[derive(Default)]
pub(crate) struct Figures(Vec<Duration>);

impl Figures {
    pub(crate) fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// The time that this share of the runs does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        sorted[((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len()) - 1]
    }

    pub(crate) fn worst(&self) -> Duration {
        self.quantile(1.0)
    }

    /// For the reader of a run with `--nocapture`.
    pub(crate) fn print(&self, what: &str) {
        let [p50, p99, worst] = [0.5, 0.99, 1.0].map(|share| self.quantile(share).as_millis());
        println!("FIGURE {what}: p50 {p50} ms, p99 {p99} ms, worst {worst} ms of {}", self.0.len());
    }
}
