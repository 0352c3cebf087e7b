//! Requests with bodies that are large, or come in many pieces.

use std::{io::Read, sync::mpsc, thread};

use crate::support::{Balancer, Origin, PATIENCE, Wire, ok};

static PIECE: [u8; 64 * 1024] = [b'x'; 64 * 1024];

/// How many chunks a body has, the last and empty one included, and how long it is in all.
fn count_chunks(mut body: &[u8]) -> (usize, usize) {
    let (mut count, mut length) = (0, 0);
    loop {
        let line = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = usize::from_str_radix(str::from_utf8(&body[..line]).unwrap(), 16).unwrap();
        (count, length) = (count + 1, length + size);
        if size == 0 {
            return (count, length);
        }
        body = &body[line + 2 + size + 2..];
    }
}

#[test]
fn small_chunks_reach_the_server_together() {
    const CHUNKS: usize = 20_000;
    let (news, heard) = mpsc::channel();
    let origin = Origin::raw(move |wire, _| {
        let (mut all, mut reads, mut piece) = (Vec::new(), 0, vec![0; 256 * 1024]);
        while !all.ends_with(b"\r\n0\r\n\r\n") {
            match wire.stream().read(&mut piece) {
                Ok(length @ 1..) => all.extend_from_slice(&piece[..length]),
                _ => return,
            }
            reads += 1;
        }
        news.send((all, reads)).unwrap();
        wire.send(ok("s1")).unwrap();
    });
    let balancer = Balancer::alone(&[&origin.as_server("s1"), "--workers=1"]);
    let mut client = balancer.client();
    let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.wire.send([head, &"1\r\nx\r\n".repeat(CHUNKS), "0\r\n\r\n"].concat()).unwrap();
    assert_eq!(client.answer(false).unwrap().text(), "s1");
    let (all, reads) = heard.recv_timeout(PATIENCE).unwrap();
    let body = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let (chunks, length) = count_chunks(&all[body..]);
    println!("{CHUNKS} chunks became {chunks}, which were read {reads} times");
    assert_eq!(length, CHUNKS);
    assert!(chunks.min(reads) < CHUNKS / 10, "{chunks} chunks in {reads} pieces");
}

const UPLOAD: usize = 40_000_000;
const ANSWER_PIECES: usize = 200;

/// A server that sends a large answer on one thread while another reads the request, and tells how long that was.
fn talking_while_it_listens(upload: usize) -> (Origin, mpsc::Receiver<usize>) {
    let (news, received) = mpsc::channel();
    let origin = Origin::raw(move |wire, _| {
        let Ok(Some(_)) = wire.head() else { return };
        let answer = Wire::new(wire.stream().try_clone().unwrap());
        let talking = thread::spawn(move || {
            answer.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            (0..ANSWER_PIECES).try_for_each(|_| answer.send_chunk(&PIECE))?;
            answer.end_chunks()
        });
        let mut read = 0;
        while read < upload {
            match wire.exact(PIECE.len().min(upload - read)) {
                Ok(piece) => read += piece.len(),
                Err(_) => break,
            }
        }
        news.send(read).unwrap();
        talking.join().unwrap().unwrap();
    });
    (origin, received)
}

#[test]
fn a_client_may_send_all_of_its_request_before_it_reads_an_answer_that_began_before() {
    let (origin, received) = talking_while_it_listens(UPLOAD);
    let balancer = Balancer::alone(&[&origin.as_server("s1"), "--workers=1"]);
    let mut client = balancer.client();
    client.wire.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {UPLOAD}\r\n\r\n")).unwrap();
    if let Err(error) = client.wire.send(vec![b'x'; UPLOAD]) {
        panic!("the request is not taken: {error}; {:?}", balancer.lb.stdout.all());
    }
    assert_eq!(received.recv_timeout(PATIENCE), Ok(UPLOAD));
    let answer = client.answer(false).unwrap();
    assert_eq!((answer.status(), answer.body.len()), (200, ANSWER_PIECES * PIECE.len()));
}
