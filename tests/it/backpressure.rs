//! Who is slow keeps the other side waiting, and not its data in the balancer's memory.

use std::{
    net::Shutdown,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
        mpsc,
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::support::{Balancer, Client, Closed, Origin, PATIENCE, Wire, ok, wait_until};

const LENGTH: u64 = 1 << 30;
static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];
const MIB: u64 = 1 << 20;

/// Sends [`LENGTH`] bytes and counts those that somebody took.
fn pour(wire: &Wire, taken: &AtomicU64) {
    pour_pieces(wire, PIECE.as_slice(), LENGTH, taken);
}

/// Sends `piece` again and again, `length` bytes in all, and counts those that somebody took.
fn pour_pieces(wire: &Wire, piece: &[u8], length: u64, taken: &AtomicU64) {
    for _ in 0..length / piece.len() as u64 {
        if wire.send(piece).is_err() {
            return;
        }
        taken.fetch_add(piece.len() as u64, SeqCst);
    }
}

/// Waits until no more is taken.
#[track_caller]
fn stalled(taken: &AtomicU64, at_least: u64) {
    let mut last = (0, Instant::now());
    wait_until("nothing more is taken", 4 * PATIENCE, || {
        let now = taken.load(SeqCst);
        if now != last.0 {
            last = (now, Instant::now());
        }
        now >= at_least && last.1.elapsed() > Duration::from_secs(1)
    });
    assert!(last.0 < LENGTH, "all of it was taken");
}

/// A balancer that has been used, and its memory.
fn used(origin: &Origin) -> (Balancer, u64) {
    let balancer = Balancer::alone(&[&origin.as_server("s1"), "--workers=1"]);
    let mut client = balancer.client();
    for _ in 0..10 {
        assert_eq!(client.get("/small").status(), 200);
    }
    let before = balancer.lb.data_memory();
    (balancer, before)
}

#[track_caller]
fn assert_cost(what: &str, balancer: &Balancer, before: u64, most: u64) {
    let cost = balancer.lb.data_memory().saturating_sub(before);
    println!("{what}: {} KiB", cost / 1024);
    assert!(cost <= most, "{what}: {cost} bytes, {most} are allowed");
}

/// `clients` ask for 1 GiB each and read none of it for a while.
fn unread_downloads(clients: u64) {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&taken);
    let origin = Origin::answering(move |wire, request| {
        if request.head.start.contains("/small") {
            return Closed(wire.send(ok("s1")).is_err());
        }
        let _gone = wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n"));
        pour(wire, &counted);
        Closed(true)
    });
    let (balancer, before) = used(&origin);
    let mut waiting: Vec<Client> = (0..clients).map(|_| balancer.client()).collect();
    for client in &waiting {
        client.wire.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    }
    for client in &mut waiting {
        assert_eq!(client.wire.head().unwrap().unwrap().status(), 200);
    }
    stalled(&taken, clients * PIECE.len() as u64);
    assert_cost(&format!("{clients} downloads that nobody reads"), &balancer, before, clients * MIB);
    // They go on when they are read, and cost no more for it.
    for client in &mut waiting {
        for _ in 0..(64 * MIB / clients).div_ceil(PIECE.len() as u64) {
            assert!(client.wire.exact(PIECE.len()).unwrap() == PIECE);
        }
    }
    stalled(&taken, 64 * MIB);
    assert_cost("after 64 MiB", &balancer, before, clients * MIB);
}

#[test]
fn a_large_response_that_nobody_reads_costs_little() {
    unread_downloads(1);
}

#[test]
fn many_large_responses_that_nobody_reads_cost_little_each() {
    unread_downloads(64);
}

/// `clients` send 1 GiB each to a server that reads none of it for a while.
fn unread_uploads(clients: u64) {
    let gate = Arc::new(std::sync::Barrier::new(clients as usize + 1));
    let opened = Arc::clone(&gate);
    let origin = Origin::raw(move |wire, _| {
        while let Ok(Some(head)) = wire.head() {
            if head.start.contains("/small") {
                wire.send(ok("s1")).unwrap();
                continue;
            }
            opened.wait();
            for _ in 0..(64 * MIB / clients).div_ceil(PIECE.len() as u64) {
                assert!(wire.exact(PIECE.len()).unwrap() == PIECE);
            }
            opened.wait();
            return;
        }
    });
    let (balancer, before) = used(&origin);
    let taken = Arc::new(AtomicU64::new(0));
    let sockets: Vec<_> = (0..clients).map(|_| balancer.client().wire).collect();
    let senders: Vec<_> = sockets
        .iter()
        .map(|socket| {
            let (wire, counted) = (Wire::new(socket.stream().try_clone().unwrap()), Arc::clone(&taken));
            wire.stream().set_write_timeout(Some(8 * PATIENCE)).unwrap();
            thread::spawn(move || {
                wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LENGTH}\r\n\r\n")).unwrap();
                pour(&wire, &counted);
            })
        })
        .collect();
    stalled(&taken, clients * PIECE.len() as u64);
    assert_cost(&format!("{clients} uploads that nobody reads"), &balancer, before, clients * MIB);
    gate.wait();
    stalled(&taken, 64 * MIB);
    assert_cost("after 64 MiB", &balancer, before, clients * MIB);
    for socket in &sockets {
        socket.stream().shutdown(Shutdown::Both).unwrap();
    }
    for sender in senders {
        sender.join().unwrap();
    }
    gate.wait();
}

#[test]
fn a_large_request_that_nobody_reads_costs_little() {
    unread_uploads(1);
}

#[test]
fn many_large_requests_that_nobody_reads_cost_little_each() {
    unread_uploads(64);
}

/// More than the system's buffers on the way hold, and little enough for the machine if the balancer should take it all.
const IN_CHUNKS: u64 = 128 * MIB;

/// Sends a request of chunks of `size` bytes, many of them at once, on a thread of its own.
fn upload_in_chunks(socket: &Wire, size: usize, taken: &Arc<AtomicU64>) -> JoinHandle<()> {
    let (wire, counted) = (Wire::new(socket.stream().try_clone().unwrap()), Arc::clone(taken));
    wire.stream().set_write_timeout(Some(8 * PATIENCE)).unwrap();
    let chunk = [format!("{size:x}\r\n").as_bytes(), &PIECE[..size], b"\r\n"].concat();
    thread::spawn(move || {
        wire.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        pour_pieces(&wire, &chunk.repeat(PIECE.len() / chunk.len()), IN_CHUNKS, &counted);
    })
}

#[test]
fn small_chunks_that_nobody_reads_cost_little() {
    for size in [100, 1000] {
        let (done, gate) = mpsc::channel::<()>();
        let gate = Mutex::new(gate);
        let origin = Origin::raw(move |wire, _| {
            while let Ok(Some(head)) = wire.head() {
                if !head.start.contains("/small") {
                    // It ends with the test, which drops the other side.
                    let _dropped = gate.lock().unwrap().recv();
                    return;
                }
                wire.send(ok("s1")).unwrap();
            }
        });
        let (balancer, before) = used(&origin);
        let (taken, socket) = (Arc::new(AtomicU64::new(0)), balancer.client().wire);
        let sender = upload_in_chunks(&socket, size, &taken);
        let mut last = (0, Instant::now());
        wait_until("nothing more is taken", 4 * PATIENCE, || {
            let now = taken.load(SeqCst);
            if now != last.0 {
                last = (now, Instant::now());
            }
            assert_little(size, &balancer, before);
            now > 0 && last.1.elapsed() > Duration::from_secs(1)
        });
        assert_cost(&format!("chunks of {size} bytes that nobody reads"), &balancer, before, MIB);
        assert!(last.0 < IN_CHUNKS / 2, "{} bytes were taken", last.0);
        socket.stream().shutdown(Shutdown::Both).unwrap();
        sender.join().unwrap();
        drop(done);
    }
}

#[test]
fn small_chunks_that_are_read_slowly_cost_little() {
    const ENOUGH: u64 = 4 * MIB;
    for size in [100, 1000] {
        let read = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&read);
        let origin = Origin::raw(move |wire, _| {
            while let Ok(Some(head)) = wire.head() {
                if head.start.contains("/small") {
                    wire.send(ok("s1")).unwrap();
                    continue;
                }
                while let Ok(piece) = wire.exact(20_000) {
                    counted.fetch_add(piece.len() as u64, SeqCst);
                    // How slow this server is.
                    thread::sleep(Duration::from_millis(10));
                }
                return;
            }
        });
        let (balancer, before) = used(&origin);
        let (taken, socket) = (Arc::new(AtomicU64::new(0)), balancer.client().wire);
        let sender = upload_in_chunks(&socket, size, &taken);
        wait_until("the server has read some of it", 4 * PATIENCE, || {
            assert_little(size, &balancer, before);
            read.load(SeqCst) >= ENOUGH
        });
        assert_cost(&format!("chunks of {size} bytes that are read slowly"), &balancer, before, MIB);
        socket.stream().shutdown(Shutdown::Both).unwrap();
        sender.join().unwrap();
    }
}

/// Ends a test as soon as the balancer holds too much, before it holds all.
#[track_caller]
fn assert_little(size: usize, balancer: &Balancer, before: u64) {
    let cost = balancer.lb.data_memory().saturating_sub(before);
    assert!(cost <= MIB, "chunks of {size} bytes: {cost} bytes so far, {MIB} are allowed");
}
