//! Scale-in under load: a webapp that is asked to stop loses no request.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    thread::JoinHandle,
    time::Instant,
};

use rustix::process::Signal;

use crate::support::{Balancer, Client, PATIENCE, app, free_port, wait_until};

/// How often an agent leaves; raise it to hunt for rare losses.
const REPETITIONS: usize = 5;
const CLIENTS: usize = 8;
/// What an app's answer takes, so that there is always something in flight.
const DELAY_MILLIS: u64 = 10;

/// Clients that ask all the time: half of them keep their connection, half open one for each request.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<String>>>,
}

impl Load {
    pub(crate) fn start(address: SocketAddr) -> Self {
        let (stop, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let clients = (0..CLIENTS)
            .map(|number| {
                let (stop, served) = (Arc::clone(&stop), Arc::clone(&served));
                std::thread::spawn(move || ask_until(&stop, &served, address, number % 2 == 0))
            })
            .collect();
        Self { stop, served, clients }
    }

    /// Waits for so many more answers.
    pub(crate) fn more(&self, count: usize) {
        let before = self.served.load(SeqCst);
        wait_until("the load goes on", PATIENCE, || self.served.load(SeqCst) >= before + count);
    }

    /// Ends it; what failed.
    pub(crate) fn end(self) -> Vec<String> {
        self.stop.store(true, SeqCst);
        self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    }
}

fn ask_until(stop: &AtomicBool, served: &AtomicUsize, address: SocketAddr, keeps: bool) -> Vec<String> {
    let mut failures = Vec::new();
    let mut kept = None;
    while !stop.load(SeqCst) {
        let connection = kept.take().map_or_else(|| Client::try_connect(address), Ok);
        let asked = connection.and_then(|mut client| client.try_get("/", "").map(|response| (client, response)));
        match asked {
            Ok((client, response)) if response.status() == 200 => {
                served.fetch_add(1, SeqCst);
                kept = keeps.then_some(client);
            }
            Ok((_, response)) => failures.push(format!("{}: {}", response.head.start, response.text())),
            Err(error) => failures.push(error.to_string()),
        }
    }
    failures
}

#[test]
fn an_agent_that_is_stopped_under_load_loses_no_request() {
    let balancer = Balancer::clustered("127.0.0.1:0", &["--log-format=json"]);
    let seed = balancer.as_seed();
    let _stays = app::agent("stays", &seed, &[], (free_port(), DELAY_MILLIS));
    // The app dies of SIGTERM at once; the shell above it ends with a status of its own.
    let program: Vec<String> = app::command().iter().map(|word| format!("'{word}'")).collect();
    let script = format!("exec 3<&0; {} <&3 & app=$!; trap 'kill $app; exit 7' TERM; wait $app", program.join(" "));
    let command = ["sh".to_owned(), "-c".to_owned(), script];
    for repetition in 0..REPETITIONS {
        let mut leaves = app::agent_with_command("leaves", &seed, &[], (free_port(), DELAY_MILLIS), &command);
        let mut client = balancer.client();
        wait_until("it serves", PATIENCE, || client.get("/").text() == "leaves");
        let load = Load::start(balancer.traffic[0]);
        load.more(100);
        let begun = Instant::now();
        leaves.signal(Signal::TERM);
        let (status, took) = leaves.wait();
        load.more(100);
        let served = load.served.load(SeqCst);
        let failures = load.end();
        println!("repetition {repetition}: left in {took:?}, {served} requests served, {} failed", failures.len());
        assert!(failures.is_empty(), "{} after {:?}:\n{}", failures.len(), begun.elapsed(), failures.join("\n"));
        assert_eq!(status.code(), Some(7), "the status is the app's");
        leaves.stderr.wait("drained in");
    }
}
