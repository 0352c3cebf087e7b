//! The hazards of HTTP/1, as raw bytes: what reached the server, and what the client got.
//!
//! A test is one hazard, and its cases are the forms in which it comes. Each case has a client connection of its own; the
//! cases of one test share a balancer, which has to be as good as new after each of them.

mod bodies;
mod expect;
mod forwarded;
mod heads;
mod hop_by_hop;
mod kept;
mod pipelines;
mod servers;
mod trailers;
mod truncated;
mod upgrades;
mod upstream;
mod versions;

use serde_json::Value;
use tempfile::NamedTempFile;

use crate::support::{Balancer, Client, Origin, PATIENCE, Response, config_file, wait_for};

/// A balancer of one worker before one server that keeps what it hears.
struct Bench {
    origin: Origin,
    balancer: Balancer,
    _file: NamedTempFile,
}

impl Bench {
    fn new() -> Self {
        Self::before(Origin::named("s1"))
    }

    fn before(origin: Origin) -> Self {
        Self::with(origin, "")
    }

    /// With more of a configuration file.
    fn with(origin: Origin, more: &str) -> Self {
        let file = config_file(more);
        let path = file.path().to_str().unwrap();
        // One worker, so that every client meets the same connections to the server.
        let balancer = Balancer::alone(&["-c", path, "--workers=1", &origin.as_server("s1")]);
        Self { origin, balancer, _file: file }
    }

    fn client(&self) -> Client {
        self.balancer.client()
    }

    /// Asks on a connection of its own.
    #[track_caller]
    fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        ask(&mut self.client(), request.as_ref())
    }

    /// Everything that the server has heard, from all connections.
    fn heard(&self) -> String {
        String::from_utf8_lossy(&self.origin.heard().concat()).into_owned()
    }

    /// Waits for so many lines of the access log, and gives the status and the first two letters of each.
    #[track_caller]
    fn logged(&self, count: usize) -> Vec<String> {
        let lines = || {
            let lines = self.balancer.lb.stdout.all();
            let lines = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
            let lines = lines.map(|line| format!("{} {}", line["status"], &line["term"].as_str().unwrap()[..2]));
            Some(lines.collect::<Vec<_>>()).filter(|lines| lines.len() >= count)
        };
        wait_for("a line of the log for each request", PATIENCE, lines).0
    }

    /// Asserts that the next client is served as if nothing had been.
    #[track_caller]
    fn is_sound(&self) {
        assert_eq!(self.client().get("/after").status(), 200, "the balancer has suffered");
    }
}

/// Sends a request and reads its answer; the balancer may close before it has read all of a bad one.
#[track_caller]
fn ask(client: &mut Client, request: &[u8]) -> Response {
    let _closed_before = client.wire.send(request);
    client.answer(request.starts_with(b"HEAD ")).unwrap_or_else(|error| panic!("{}: {error}", show(request)))
}

/// Asserts that each request is answered `status`, that its connection ends there, that the log says that the balancer
/// refused it, and that no byte of any of them reached the server.
#[track_caller]
fn refuses(status: u16, requests: &[impl AsRef<[u8]>]) {
    let bench = Bench::new();
    for request in requests {
        let request = request.as_ref();
        let mut client = bench.client();
        assert_eq!(ask(&mut client, request).status(), status, "{}", show(request));
        assert!(client.wire.is_closed(), "left open after {}", show(request));
        assert_eq!(bench.heard(), "", "reached the server: {}", show(request));
    }
    assert_eq!(bench.logged(requests.len()), vec![format!("{status} PR"); requests.len()]);
    bench.is_sound();
}

/// A request for a failure's message.
fn show(request: &[u8]) -> String {
    let text = request.escape_ascii().to_string();
    if text.len() <= 300 { text } else { format!("{}... ({} bytes)", &text[..300], request.len()) }
}

/// A GET with these header lines, each with its end.
fn get(lines: &str) -> String {
    format!("GET /it HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n")
}

/// A POST with these header lines, and what follows the head.
fn post(lines: &str, body: &str) -> String {
    format!("POST /it HTTP/1.1\r\nHost: a.example\r\n{lines}\r\n{body}")
}
