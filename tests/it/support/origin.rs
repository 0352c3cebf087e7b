//! Servers behind the balancer: threads whose behaviour is a closure, and which remember what they were sent.

use std::{
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread::JoinHandle,
};

use super::{
    PATIENCE,
    wire::{Head, Heard, Wire},
};

/// A request as a server saw it.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Connections are counted from 1.
    pub(crate) connection: usize,
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// Whether a server closes the connection now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Closed(pub(crate) bool);

/// A server; it and its connections end when it is dropped.
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    requests: Mutex<Vec<Request>>,
    connections: Mutex<Vec<TcpStream>>,
    heard: Mutex<Vec<Heard>>,
    stopped: AtomicBool,
}

/// A plain response.
pub(crate) fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

impl Origin {
    /// A server that answers with its name.
    pub(crate) fn named(name: &str) -> Self {
        let (full, head) = (ok(name), ok(name).replace(&format!("\r\n\r\n{name}"), "\r\n\r\n"));
        Self::answering(move |wire, request| {
            let answer = if request.head.start.starts_with("HEAD ") { &head } else { &full };
            Closed(wire.send(answer).is_err())
        })
    }

    /// A server whose closure gets whole requests.
    pub(crate) fn answering(answer: impl Fn(&mut Wire, &Request) -> Closed + Send + Sync + 'static) -> Self {
        Self::start(move |wire, connection, shared| {
            while let Ok(Some(head)) = wire.head() {
                let Ok(body) = wire.body(&head, false) else { return };
                let request = Request { connection, head, body: body.bytes, trailers: body.trailers };
                shared.requests.lock().unwrap().push(request.clone());
                if answer(wire, &request) == Closed(true) {
                    return;
                }
            }
        })
    }

    /// A server whose closure gets each connection and its number.
    pub(crate) fn raw(serve: impl Fn(&mut Wire, usize) + Send + Sync + 'static) -> Self {
        Self::start(move |wire, connection, _| serve(wire, connection))
    }

    fn start(serve: impl Fn(&mut Wire, usize, &Shared) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (ours, serve) = (Arc::clone(&shared), Arc::new(serve));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming() {
                if ours.stopped.load(SeqCst) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let number = {
                    let mut connections = ours.connections.lock().unwrap();
                    connections.push(stream.try_clone().unwrap());
                    connections.len()
                };
                let heard = Heard::default();
                ours.heard.lock().unwrap().push(Arc::clone(&heard));
                let (shared, serve) = (Arc::clone(&ours), Arc::clone(&serve));
                std::thread::spawn(move || {
                    let mut wire = Wire::recording(stream, heard);
                    serve(&mut wire, number, &shared);
                    // The copy in `connections` would keep it open.
                    let _closed_before = wire.stream().shutdown(Shutdown::Both);
                });
            }
        });
        Self { address, shared, accepting: Some(accepting) }
    }

    /// As `--server` takes it.
    pub(crate) fn as_server(&self, name: &str) -> String {
        format!("--server={name}={}", self.address)
    }

    /// Requests so far, in their order; without checks, which have another Host than clients.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The last request.
    pub(crate) fn last(&self) -> Request {
        self.requests().pop().expect("no request came")
    }

    /// Every byte that each connection brought so far, as far as it was read.
    pub(crate) fn heard(&self) -> Vec<Vec<u8>> {
        self.shared.heard.lock().unwrap().iter().map(|heard| heard.lock().unwrap().clone()).collect()
    }

    /// Connections so far.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.lock().unwrap().len()
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.shared.stopped.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _woken = TcpStream::connect(self.address);
        // From then on connections are refused.
        let _ended = self.accepting.take().map(JoinHandle::join);
        for connection in self.shared.connections.lock().unwrap().drain(..) {
            let _closed_before = connection.shutdown(Shutdown::Both);
        }
    }
}

/// Holds up requests for `/slow` until it is opened, at the latest when it is dropped.
#[derive(Default)]
pub(crate) struct Gate(Arc<(Mutex<bool>, Condvar)>);

impl Gate {
    /// A server that answers with its name, and `/slow` when the gate is open.
    pub(crate) fn origin(&self, name: &'static str) -> Origin {
        self.origin_with(move |wire, _| Closed(wire.send(ok(name)).is_err()))
    }

    /// A server whose closure gets whole requests, those for `/slow` when the gate is open.
    pub(crate) fn origin_with(&self, answer: impl Fn(&mut Wire, &Request) -> Closed + Send + Sync + 'static) -> Origin {
        let gate = Arc::clone(&self.0);
        Origin::answering(move |wire, request| {
            if request.head.start.contains("/slow") {
                let (open, changed) = &*gate;
                drop(changed.wait_timeout_while(open.lock().unwrap(), PATIENCE, |open| !*open).unwrap());
            }
            answer(wire, request)
        })
    }

    pub(crate) fn open(&self) {
        *self.0.0.lock().unwrap() = true;
        self.0.1.notify_all();
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.open();
    }
}
