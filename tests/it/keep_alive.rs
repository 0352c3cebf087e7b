//! Servers that close their kept connections at random moments: no GET fails, and no POST arrives twice.
//!
//! `LB_RACE_REQUESTS` is how many there are of each; tests/scripts/keep-alive-race sends more.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, atomic::AtomicI64, atomic::Ordering::SeqCst},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use socket2::SockRef;

use crate::{
    chaos::ledger::{Ledger, Rng, seed},
    support::{Balancer, PATIENCE},
};

const CLIENTS: u64 = 16;
const SERVERS: usize = 3;

#[test]
fn servers_that_close_at_random_moments_cost_no_get_and_double_no_post() {
    let requests = std::env::var("LB_RACE_REQUESTS").map_or(10_000, |text| text.parse().expect("no number"));
    let seed = seed();
    let ledger = Arc::new(Ledger::default());
    let servers: Vec<SocketAddr> = (0..SERVERS as u64).map(|number| serve(seed ^ number, &ledger)).collect();
    let servers: Vec<String> =
        servers.iter().enumerate().map(|(number, at)| format!("--server=s{number}={at}")).collect();
    let mut args: Vec<&str> = servers.iter().map(String::as_str).collect();
    args.extend(["--workers=2", "--log-format=off"]);
    let balancer = Balancer::alone(&args);
    for post in [false, true] {
        let begun = Instant::now();
        let left = Arc::new(AtomicI64::new(requests));
        let clients: Vec<JoinHandle<u64>> = (0..CLIENTS)
            .map(|_| {
                let (left, ledger, address) = (Arc::clone(&left), Arc::clone(&ledger), balancer.traffic[0]);
                std::thread::spawn(move || ask(address, &left, &ledger, post))
            })
            .collect();
        let failed: u64 = clients.into_iter().map(|client| client.join().expect("a client failed")).sum();
        let method = if post { "POST" } else { "GET" };
        let rate = requests as f64 / begun.elapsed().as_secs_f64();
        println!("{requests} {method}: {failed} answered 502, {rate:.0} each second");
        assert!(post || failed == 0, "{failed} GETs got an error");
    }
    println!("{:?}", ledger.outcomes());
    assert_eq!(ledger.violations(), Vec::<String>::new());
    let outcomes = ledger.outcomes();
    for how in ["closed behind its answer", "closed at some moment", "closed without reading", "closed without answer"]
    {
        assert!(outcomes.get(how).is_some_and(|&times| times > 0), "no server has {how}: {outcomes:?}");
    }
}

/// A client on one connection; how many of its requests got an error, which only a POST may.
fn ask(address: SocketAddr, left: &AtomicI64, ledger: &Ledger, post: bool) -> u64 {
    let mut connection = Connection::new(TcpStream::connect(address).unwrap());
    let mut failed = 0;
    while left.fetch_sub(1, SeqCst) > 0 {
        let id = ledger.open(post);
        // One without a body could be sent again as easily as a GET.
        let request = match post {
            true if id.is_multiple_of(2) => format!("POST /{id} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"),
            true => format!("POST /{id} HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody"),
            false => format!("GET /{id} HTTP/1.1\r\nHost: a\r\n\r\n"),
        };
        connection.stream.write_all(request.as_bytes()).unwrap();
        let (head, body) = connection.message().unwrap().unwrap_or_else(|| panic!("no answer to {id}"));
        match head.split(' ').nth(1) {
            Some("200") => {
                if body != id.to_string() || !ledger.was_answered(id) {
                    ledger.violation(format!("{id} got the answer of {body}"));
                }
            }
            Some("502") => {
                failed += 1;
                if ledger.was_answered(id) {
                    ledger.violation(format!("{id} got 502, but its server had answered"));
                }
            }
            _ => ledger.violation(format!("{id} got {head}")),
        }
    }
    failed
}

/// A server that closes as it likes, but answers the first request of each connection.
fn serve(seed: u64, ledger: &Arc<Ledger>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let ledger = Arc::clone(ledger);
    let mut seeds = Rng::new(seed);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (ledger, rng) = (Arc::clone(&ledger), Rng::new(seeds.next()));
            std::thread::spawn(move || {
                let how = serve_connection(&mut Connection::new(stream), rng, &ledger);
                ledger.outcome(how.unwrap_or("closed by the balancer"));
            });
        }
    });
    address
}

/// Serves a connection until it ends; how it did.
fn serve_connection(connection: &mut Connection, mut rng: Rng, ledger: &Ledger) -> io::Result<&'static str> {
    for number in 0_u64.. {
        if number > 0 {
            match rng.below(40) {
                0 => return Ok("closed behind its answer"),
                1 => {
                    std::thread::sleep(Duration::from_micros(rng.below(400)));
                    // With a request in the buffer, the other side gets a reset.
                    return Ok("closed without reading");
                }
                2 => {
                    let patience = Duration::from_micros(1 + rng.below(3000));
                    connection.stream.set_read_timeout(Some(patience))?;
                }
                _ => {}
            }
        }
        let (head, _) = match connection.message() {
            Ok(Some(message)) => message,
            Ok(None) => return Ok("closed by the balancer"),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok("closed at some moment"),
            Err(error) => return Err(error),
        };
        connection.stream.set_read_timeout(Some(PATIENCE))?;
        let id = head.split(['/', ' ']).nth(2).and_then(|id| id.parse().ok()).ok_or(ErrorKind::InvalidData)?;
        ledger.arrived(id, head.starts_with("POST"));
        if number > 0 && rng.once_in(40) {
            if rng.once_in(2) {
                SockRef::from(&connection.stream).set_linger(Some(Duration::ZERO))?;
            }
            return Ok("closed without answer");
        }
        ledger.answered(id);
        let body = id.to_string();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        connection.stream.write_all(answer.as_bytes())?;
    }
    Ok("used up")
}

/// A connection with what was read from it.
struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { stream, buffer: Vec::with_capacity(4096) }
    }

    /// The next message: its first line, and its body, which has a length. `None` at the end.
    fn message(&mut self) -> io::Result<Option<(String, String)>> {
        loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                let head = String::from_utf8_lossy(&self.buffer[..end]).to_ascii_lowercase();
                let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next());
                let length: usize = length.map_or(0, |length| length.parse().unwrap());
                if self.buffer.len() >= end + 4 + length {
                    let start = String::from_utf8_lossy(&self.buffer[..end]).lines().next().unwrap().to_owned();
                    let body = String::from_utf8_lossy(&self.buffer[end + 4..end + 4 + length]).into_owned();
                    self.buffer.drain(..end + 4 + length);
                    return Ok(Some((start, body)));
                }
            }
            let mut piece = [0; 4096];
            match self.stream.read(&mut piece)? {
                0 if self.buffer.is_empty() => return Ok(None),
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                read => self.buffer.extend_from_slice(&piece[..read]),
            }
        }
    }
}
