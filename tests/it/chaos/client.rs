//! Clients that ask, check every byte of every answer, and sometimes go away.

use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::ledger::{Ledger, Rng, body_of, is_part_of_body};
use crate::support::{Client, Head, Wire};

/// Asks until it is time to end.
pub(super) fn run(address: SocketAddr, seed: u64, ledger: &Arc<Ledger>, until: Instant) {
    let mut asker = Asker { address, rng: Rng::new(seed), ledger: Arc::clone(ledger), kept: None, may_be_cut: false };
    while Instant::now() < until {
        asker.next();
    }
}

/// One whole answer, for the calm after the storm; whether it was good.
pub(super) fn is_served(address: SocketAddr, ledger: &Arc<Ledger>) -> bool {
    let mut asker = Asker { address, rng: Rng::new(1), ledger: Arc::clone(ledger), kept: None, may_be_cut: false };
    let id = asker.open(false);
    let request = asker.get(id, "Connection: close\r\n");
    asker
        .connect()
        .is_some_and(|mut wire| wire.send(request).is_ok() && asker.read_answer(&mut wire, id) == Ended::Whole)
}

struct Asker {
    address: SocketAddr,
    rng: Rng,
    ledger: Arc<Ledger>,
    /// A connection for more, and whether a POST was the last on it.
    kept: Option<(Wire, bool)>,
    /// Whether what is asked now may meet the end of its connection: a POST whose answer comes early, and the next request
    /// behind it, which can't know of that.
    may_be_cut: bool,
}

const BEFORE: &str = "before its answer";

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Whole, and the connection goes on.
    Kept,
    /// Whole, and the connection ends.
    Whole,
    /// Anything else: the connection is of no more use.
    Broken,
}

impl Asker {
    fn next(&mut self) {
        self.may_be_cut = false;
        match self.rng.below(100) {
            0..40 => self.ask_one(false),
            40..60 => self.ask_one(true),
            60..72 => self.pipeline(),
            72..78 => self.ask_and_close(),
            78..82 => self.vanish_in_head(),
            82..87 => self.vanish_in_upload(),
            87..95 => self.vanish_in_answer(),
            _ => self.vanish_after_request(),
        }
    }

    fn open(&self, post: bool) -> u64 {
        self.ledger.open(post)
    }

    /// How long the answer is to be: mostly short, sometimes longer than what buffers hold.
    fn length(&mut self) -> usize {
        let most = if self.rng.once_in(20) { 400_000 } else { 3000 };
        1 + self.rng.below(most) as usize
    }

    fn get(&mut self, id: u64, more: &str) -> String {
        let length = self.length();
        format!("GET /{id}/{length} HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\n{more}\r\n")
    }

    fn post_head(&mut self, id: u64, framing: &str) -> String {
        let length = self.length();
        format!("POST /{id}/{length} HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\n{framing}\r\n\r\n")
    }

    /// A new connection; the balancer must always accept one.
    fn connect(&self) -> Option<Wire> {
        match Client::try_connect(self.address) {
            Ok(Client { wire }) => Some(wire),
            Err(error) => {
                self.ledger.violation(format!("no connection: {error}"));
                None
            }
        }
    }

    /// A request on the kept connection, if there is one.
    fn ask_one(&mut self, post: bool) {
        let kept = self.kept.take().or_else(|| self.connect().map(|wire| (wire, false)));
        let Some((mut wire, behind_post)) = kept else { return };
        let id = self.open(post);
        self.may_be_cut = post || behind_post;
        let sent = if post { self.send_post(&wire, id) } else { self.send_get(&wire, id) };
        // An early answer may end the connection while the body is still sent: the answer counts.
        drop(sent);
        if self.read_answer(&mut wire, id) == Ended::Kept {
            self.kept = Some((wire, post));
        }
    }

    fn send_get(&mut self, wire: &Wire, id: u64) -> io::Result<()> {
        let request = self.get(id, "");
        self.send_in_pieces(wire, request.as_bytes())
    }

    fn send_post(&mut self, wire: &Wire, id: u64) -> io::Result<()> {
        let body = body_of(id, self.rng.below(30_000) as usize);
        if self.rng.once_in(2) {
            let head = self.post_head(id, &format!("Content-Length: {}", body.len()));
            return self.send_in_pieces(wire, &[head.as_bytes(), &body].concat());
        }
        wire.send(self.post_head(id, "Transfer-Encoding: chunked"))?;
        for chunk in body.chunks(1 + self.rng.below(9000) as usize) {
            wire.send_chunk(chunk)?;
        }
        wire.end_chunks()
    }

    fn send_in_pieces(&mut self, wire: &Wire, bytes: &[u8]) -> io::Result<()> {
        if !self.rng.once_in(8) {
            return wire.send(bytes);
        }
        for piece in bytes.chunks(1 + bytes.len() / 4) {
            wire.send(piece)?;
            std::thread::sleep(Duration::from_micros(self.rng.below(1000)));
        }
        Ok(())
    }

    fn pipeline(&mut self) {
        let Some(mut wire) = self.connect() else { return };
        let ids: Vec<u64> = (0..2 + self.rng.below(5)).map(|_| self.open(false)).collect();
        let requests: String = ids.iter().map(|&id| self.get(id, "")).collect();
        // Broken off by an answer that breaks off.
        let _sent = wire.send(requests);
        for (index, &id) in ids.iter().enumerate() {
            // What is behind a long answer may not leave before its own answer breaks off.
            self.may_be_cut = index > 0;
            if self.read_answer(&mut wire, id) != Ended::Kept {
                for _ in &ids[index + 1..] {
                    self.ledger.outcome("behind an answer that broke off");
                }
                return;
            }
        }
    }

    fn ask_and_close(&mut self) {
        let Some(mut wire) = self.connect() else { return };
        let id = self.open(false);
        let request = self.get(id, "Connection: close\r\n");
        if wire.send(request).is_ok() && self.read_answer(&mut wire, id) == Ended::Kept {
            self.ledger.violation(format!("the connection of {id} was asked to close, and nobody says so"));
        }
    }

    fn vanish_in_head(&mut self) {
        let Some(wire) = self.connect() else { return };
        // No number: what is not whole never arrives.
        let head = "GET /0/1 HTTP/1.1\r\nHost: a\r\nX-Id: 0\r\nX-Unfinished: ";
        let _sent = wire.send(&head[..1 + self.rng.below(head.len() as u64 - 1) as usize]);
        self.vanish(&wire);
    }

    fn vanish_in_upload(&mut self) {
        let Some(wire) = self.connect() else { return };
        let id = self.open(true);
        let head = self.post_head(id, "Content-Length: 50000");
        let part = self.rng.below(50_000) as usize;
        let _sent = wire.send([head.as_bytes(), &body_of(id, part)].concat());
        self.vanish(&wire);
    }

    fn vanish_in_answer(&mut self) {
        let Some(mut wire) = self.connect() else { return };
        let id = self.open(false);
        let _sent = wire.send(format!("GET /{id}/300000 HTTP/1.1\r\nHost: a\r\nX-Id: {id}\r\n\r\n"));
        if let Ok(Some(head)) = wire.head()
            && head.status() != 103
        {
            self.check_head(&head, id);
            let length = head.one("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            let part = self.rng.below(40_000).min(length) as usize;
            if head.status() == 200
                && let Ok(piece) = wire.exact(part)
            {
                self.take_piece(&mut Vec::new(), piece, id, false);
            }
        }
        self.vanish(&wire);
    }

    fn vanish_after_request(&mut self) {
        let Some(wire) = self.connect() else { return };
        let post = self.rng.once_in(2);
        let id = self.open(post);
        let _sent = if post { self.send_post(&wire, id) } else { self.send_get(&wire, id) };
        self.vanish(&wire);
    }

    /// Goes away, half of the times with a reset.
    fn vanish(&mut self, wire: &Wire) {
        self.ledger.outcome("vanished");
        if self.rng.once_in(2) {
            let _gone = SockRef::from(wire.stream()).set_linger(Some(Duration::ZERO));
        }
    }

    /// Reads the answer and checks that it is this request's, whole or visibly broken.
    fn read_answer(&mut self, wire: &mut Wire, id: u64) -> Ended {
        let head = loop {
            match wire.head() {
                Ok(Some(head)) if (100..200).contains(&head.status()) => {
                    if head.status() == 101 {
                        self.ledger.violation(format!("{id} was switched to another protocol"));
                        return Ended::Broken;
                    }
                }
                Ok(Some(head)) => break head,
                Ok(None) => return self.broken(id, &ErrorKind::UnexpectedEof.into(), BEFORE),
                Err(error) => return self.broken(id, &error, BEFORE),
            }
        };
        let own = !self.check_head(&head, id);
        let closes = head.one("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
        let body = match self.read_body(wire, &head, id, own) {
            Ok(body) => body,
            Err(error) => return self.broken(id, &error, "within its answer"),
        };
        if own {
            self.ledger.outcome(head.status().to_string());
            if !String::from_utf8_lossy(&body).starts_with(&head.status().to_string()) {
                self.ledger.violation(format!("{id} got a page of nobody: {head:?}"));
            }
        } else {
            self.ledger.outcome("whole");
            let length = head.one("x-length").and_then(|length| length.parse().ok());
            if length != Some(body.len()) {
                self.ledger.violation(format!("{id} got a clean end after {} of {length:?} bytes", body.len()));
            }
        }
        if closes { Ended::Whole } else { Ended::Kept }
    }

    /// Whether it is a server's head; then it must be this request's. Else it must be an error of the balancer's.
    fn check_head(&self, head: &Head, id: u64) -> bool {
        match head.one("x-id") {
            Some(its) => {
                if its != id.to_string() {
                    self.ledger.violation(format!("{id} got the answer of {its}"));
                }
                if !self.ledger.was_answered(id) {
                    self.ledger.violation(format!("{id} got an answer that no server gave"));
                }
                true
            }
            None => {
                if ![502, 503, 504].contains(&head.status()) {
                    self.ledger.violation(format!("{id} got {head:?}"));
                }
                false
            }
        }
    }

    /// In small pieces, so that what comes before a break is checked, too.
    fn read_body(&self, wire: &mut Wire, head: &Head, id: u64, own: bool) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = head.one("content-length") {
            let length: usize = length.parse().map_err(io::Error::other)?;
            while body.len() < length {
                let piece = wire.exact((length - body.len()).min(2048))?;
                self.take_piece(&mut body, piece, id, own);
            }
            return Ok(body);
        }
        loop {
            let piece = wire.chunk()?;
            if piece.is_empty() {
                return Ok(body);
            }
            self.take_piece(&mut body, piece, id, own);
        }
    }

    fn take_piece(&self, body: &mut Vec<u8>, piece: Vec<u8>, id: u64, own: bool) {
        if !own && !is_part_of_body(id, body.len(), &piece) {
            self.ledger.violation(format!("{id} got bytes that are not its own, from byte {} on", body.len()));
        }
        body.extend(piece);
    }

    /// A connection that breaks off is an answer of a kind; one that says nothing is none.
    fn broken(&self, id: u64, error: &io::Error, when: &str) -> Ended {
        let is = |kinds: &[ErrorKind]| kinds.contains(&error.kind());
        if is(&[ErrorKind::WouldBlock, ErrorKind::TimedOut]) {
            self.ledger.violation(format!("{id} waited in vain, {when}"));
        } else if !is(&[ErrorKind::UnexpectedEof, ErrorKind::ConnectionReset, ErrorKind::BrokenPipe]) {
            self.ledger.violation(format!("{id} got what is no HTTP, {when}: {error}"));
        } else if when == BEFORE && !self.may_be_cut {
            self.ledger.violation(format!("{id} got no answer, but the end of its connection: {error}"));
        } else {
            self.ledger.outcome(format!("broken off {when}"));
        }
        Ended::Broken
    }
}
