//! What the tests are written with.

pub(crate) mod app;
mod origin;
mod process;
mod wire;

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::atomic::{AtomicU16, Ordering::Relaxed},
    time::{Duration, Instant},
};

pub(crate) use origin::{Closed, Gate, Origin, ok};
pub(crate) use process::{Balancer, Lb, config_file, finished};
pub(crate) use wire::{Client, Head, Response, Wire};

/// Longest wait for anything; far more than it should take, because test machines are slow and busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(15);

/// Waits until `condition` gives something; how long it took comes with it.
#[track_caller]
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> (T, Duration) {
    let begun = Instant::now();
    loop {
        if let Some(value) = condition() {
            return (value, begun.elapsed());
        }
        assert!(begun.elapsed() < limit, "after {limit:?} still not: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The same for a condition without a value.
#[track_caller]
pub(crate) fn wait_until(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    wait_for(what, limit, || condition().then_some(())).1
}

/// A port that nobody has, outside of the range that the system gives to those who ask for any.
pub(crate) fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + (std::process::id() % 180) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Relaxed);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        if TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok() {
            return port;
        }
    }
}

/// An address that neither accepts nor refuses connections as long as it is kept: its queue is full.
pub(crate) struct Deaf {
    pub(crate) address: SocketAddr,
    _socket: socket2::Socket,
    _waiting: Vec<TcpStream>,
}

impl Deaf {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        socket.listen(0).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        // The system takes one more than it was asked to, at least.
        let patience = Duration::from_millis(500);
        let waiting = std::iter::from_fn(|| TcpStream::connect_timeout(&address, patience).ok()).collect();
        Self { address, _socket: socket, _waiting: waiting }
    }
}

/// An address that refuses connections as long as it is kept: bound, so that nobody else gets it, but not listened on.
pub(crate) struct Refusing {
    pub(crate) address: SocketAddr,
    _socket: socket2::Socket,
}

impl Refusing {
    pub(crate) fn new() -> Self {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { address, _socket: socket }
    }
}
