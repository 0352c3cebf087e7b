//! What the lab's users do, step by step, with real processes: a balancer, two webapps under their agents, and browsers
//! that keep cookies.

mod browser;
mod degraded;
mod drain;
mod webapp;

use std::net::{Ipv4Addr, SocketAddr};

use crate::{
    runtime_api::{address, ask, cell},
    support::{Balancer, Client, Lb, PATIENCE, free_port, wait_until},
};

/// The lab's network: `ha`, and `s1` and `s2` behind it.
struct Lab {
    balancer: Balancer,
    runtime: SocketAddr,
    _agents: [Lb; 2],
    /// Ports of `s1` and `s2`.
    apps: [u16; 2],
}

impl Lab {
    fn start(args: &[&str]) -> Self {
        let always = ["--runtime-api=127.0.0.1:0", "--check-rise=1"];
        let balancer = Balancer::clustered("127.0.0.1:0", &[&always, args].concat());
        let apps = [free_port(), free_port()];
        let agents = [0, 1].map(|index| webapp::agent(&format!("s{}", index + 1), &balancer.as_seed(), apps[index]));
        let runtime = address(&balancer);
        let lab = Self { balancer, runtime, _agents: agents, apps };
        lab.wait_for_status("s1", "UP");
        lab.wait_for_status("s2", "UP");
        lab
    }

    /// `echo COMMAND | socat - tcp:localhost:9999`; the command says nothing when all is well.
    fn command(&self, command: &str) {
        assert_eq!(ask(self.runtime, &format!("{command}\n")), "\n", "{command}");
    }

    /// What the stats page says of a server.
    fn status(&self, server: &str) -> String {
        cell(self.runtime, server, "status").unwrap_or_default()
    }

    fn wait_for_status(&self, server: &str, wanted: &str) {
        wait_until(&format!("{server} is {wanted}"), PATIENCE, || self.status(server) == wanted);
    }

    /// Makes `s1` slow, as the lab does it, past the balancer.
    fn delay_s1(&self, millis: u64) {
        let body = format!("{{\"delay\": {millis}}}");
        let request = format!("POST /delay HTTP/1.1\r\nHost: s1\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        let mut client = Client::connect(SocketAddr::from((Ipv4Addr::LOCALHOST, self.apps[0])));
        assert_eq!(client.ask(request).unwrap().status(), 200);
    }
}
