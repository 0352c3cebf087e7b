//! Servers that do what servers should not.

use std::{
    collections::BTreeMap,
    io,
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU8, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use socket2::SockRef;

use super::ledger::{Ledger, Rng, body_of, is_part_of_body};
use crate::support::{Head, Wire, free_port};

/// How the servers behave now.
#[derive(Debug, Default)]
pub(super) struct Mood(AtomicU8);

const CALM: u8 = 1;
const OVER: u8 = 2;

impl Mood {
    pub(super) fn calm(&self) {
        self.0.store(CALM, SeqCst);
    }

    pub(super) fn over(&self) {
        self.0.store(OVER, SeqCst);
    }

    fn is_wild(&self) -> bool {
        self.0.load(SeqCst) == 0
    }

    fn is_over(&self) -> bool {
        self.0.load(SeqCst) == OVER
    }
}

/// Starts a server that also restarts from time to time; its address.
pub(super) fn start(seed: u64, ledger: &Arc<Ledger>, mood: &Arc<Mood>) -> SocketAddr {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let (ledger, mood, mut rng) = (Arc::clone(ledger), Arc::clone(mood), Rng::new(seed));
    std::thread::spawn(move || {
        while !mood.is_over() {
            run(address, &mut rng, &ledger, &mood);
            // Down: connections are refused.
            std::thread::sleep(Duration::from_millis(rng.below(400)));
        }
    });
    address
}

/// Connections by their numbers; each with its [`Server::answering`].
type Open = BTreeMap<u64, (TcpStream, Arc<Mutex<bool>>)>;

/// From one start to the next.
fn run(address: SocketAddr, rng: &mut Rng, ledger: &Arc<Ledger>, mood: &Arc<Mood>) {
    let listener = TcpListener::bind(address).unwrap();
    // So that accepting ends, too.
    SockRef::from(&listener).set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let until = Instant::now() + Duration::from_millis(500 + rng.below(3000));
    let open: Arc<Mutex<Open>> = Arc::default();
    let mut number = 0;
    while !mood.is_over() && (Instant::now() < until || !mood.is_wild()) {
        let Ok((stream, _)) = listener.accept() else { continue };
        number += 1;
        let answering = Arc::default();
        open.lock().unwrap().insert(number, (stream.try_clone().unwrap(), Arc::clone(&answering)));
        let ours = Arc::clone(&open);
        let (rng, ledger, mood) = (Rng::new(rng.next()), Arc::clone(ledger), Arc::clone(mood));
        std::thread::spawn(move || {
            let mut server = Server { wire: Wire::new(stream), rng, ledger, mood, answering };
            // The other side may be gone at any time.
            let _ended = server.serve();
            // With the last of both handles the connection ends, or is reset.
            ours.lock().unwrap().remove(&number);
        });
    }
    // Half of the restarts take their connections with them.
    if rng.once_in(2) || mood.is_over() {
        for (stream, answering) in open.lock().unwrap().values() {
            let Ok(mut cut) = answering.try_lock() else { continue };
            *cut = true;
            let _gone_before = stream.shutdown(Shutdown::Both);
        }
    }
}

/// One connection.
struct Server {
    wire: Wire,
    rng: Rng,
    ledger: Arc<Ledger>,
    mood: Arc<Mood>,
    /// Whether a restart has cut the connection. Held while it answers: a restart in between would leave open whether
    /// anything of the answer has left.
    answering: Arc<Mutex<bool>>,
}

/// What a request asks for.
struct Asked {
    id: u64,
    length: usize,
}

/// Whether the connection can go on.
type Goes = io::Result<bool>;

impl Server {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            if self.is_wild() && self.rng.once_in(30) {
                std::thread::sleep(Duration::from_micros(self.rng.below(2000)));
                return Ok(());
            }
            let Some(head) = self.wire.head()? else { return Ok(()) };
            let Some(asked) = self.read_head(&head) else { return Ok(()) };
            let post = head.start.starts_with("POST ");
            let answering = Arc::clone(&self.answering);
            self.ledger.arrived(asked.id, post);
            if post && self.is_wild() && self.rng.once_in(20) {
                // Early, and the rest of the body unread.
                let cut = answering.lock().unwrap();
                if *cut {
                    return Ok(());
                }
                let _open = self.answer(&asked)?;
                return Ok(());
            }
            let body = self.wire.body(&head, false)?.bytes;
            if post && !is_part_of_body(asked.id, 0, &body) {
                self.ledger.violation(format!("POST {} arrived with the body of another", asked.id));
            }
            let cut = answering.lock().unwrap();
            if *cut {
                return Ok(());
            }
            let goes = if self.is_wild() { self.misbehave(&asked)? } else { self.answer(&asked)? };
            if !goes {
                return Ok(());
            }
        }
    }

    fn is_wild(&self) -> bool {
        self.mood.is_wild()
    }

    /// `/ID/LENGTH`, with the number in a header, too.
    fn read_head(&self, head: &Head) -> Option<Asked> {
        let mut parts = head.start.split(' ').nth(1)?.split('/').skip(1).map(str::parse);
        let id: u64 = parts.next()?.ok()?;
        if head.one("x-id") != Some(id.to_string().as_str()) {
            self.ledger.violation(format!("two requests have become one: {head:?}"));
        }
        Some(Asked { id, length: parts.next()?.ok()? as usize })
    }

    fn misbehave(&mut self, asked: &Asked) -> Goes {
        match self.rng.below(200) {
            0..10 => self.answer(asked).map(|_| false),
            10..18 => self.reset(),
            18..26 => Ok(false),
            26..34 => self.sized(asked, self.part_of(asked)).map(|_| false),
            34..42 => self.chunked(asked, self.part_of(asked), "").map(|_| false),
            42..46 => self.chunked(asked, self.part_of(asked), "no chunk\r\n").map(|_| false),
            46..52 => {
                self.sized(asked, self.part_of(asked))?;
                self.reset()
            }
            52..56 => {
                self.until_the_end(asked, self.part_of(asked))?;
                self.reset()
            }
            56..64 => self.garbage(asked),
            64 => self.stall(),
            65 => {
                self.chunked(asked, self.part_of(asked), "")?;
                self.stall()
            }
            66..74 => {
                // In one piece with the answer, so that the next request on this connection can't be meant.
                let asked = Asked { length: 1 + asked.length % 2000, ..*asked };
                let head = format!("{}Content-Length: {}\r\n\r\n", ours(&asked), asked.length);
                let more = b"HTTP/1.1 200 OK\r\nX-Id: 0\r\nX-Length: 4\r\nContent-Length: 4\r\n\r\nevil";
                self.ledger.answered(asked.id);
                self.wire.send([head.as_bytes(), &body_of(asked.id, asked.length), more].concat()).map(|()| true)
            }
            74..84 => {
                self.ledger.answered(asked.id);
                self.wire.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
                self.sized_now(asked, asked.length)
            }
            84..90 => self.drip(asked),
            _ => self.answer(asked),
        }
    }

    /// A valid answer in one of the three forms.
    fn answer(&mut self, asked: &Asked) -> Goes {
        match self.rng.below(10) {
            0 if self.is_wild() => self.until_the_end(asked, asked.length).map(|_| false),
            1..4 => self.chunked(asked, asked.length, "0\r\n\r\n"),
            _ => self.sized(asked, asked.length),
        }
    }

    /// Less than all of the body.
    fn part_of(&self, asked: &Asked) -> usize {
        self.rng.clone().below(asked.length as u64) as usize
    }

    fn sized(&mut self, asked: &Asked, length: usize) -> Goes {
        self.ledger.answered(asked.id);
        self.sized_now(asked, length)
    }

    fn sized_now(&mut self, asked: &Asked, length: usize) -> Goes {
        let head = format!("{}Content-Length: {}\r\n\r\n", ours(asked), asked.length);
        self.wire.send([head.as_bytes(), &body_of(asked.id, length)].concat()).map(|()| true)
    }

    fn chunked(&mut self, asked: &Asked, length: usize, end: &str) -> Goes {
        self.ledger.answered(asked.id);
        self.wire.send(format!("{}Transfer-Encoding: chunked\r\n\r\n", ours(asked)))?;
        let piece = 1 + self.rng.below(20_000) as usize;
        for chunk in body_of(asked.id, length).chunks(piece) {
            self.wire.send_chunk(chunk)?;
        }
        self.wire.send(end).map(|()| true)
    }

    fn until_the_end(&mut self, asked: &Asked, length: usize) -> Goes {
        self.ledger.answered(asked.id);
        let head = format!("{}\r\n", ours(asked));
        self.wire.send([head.as_bytes(), &body_of(asked.id, length)].concat()).map(|()| true)
    }

    fn drip(&mut self, asked: &Asked) -> Goes {
        self.ledger.answered(asked.id);
        let head = format!("{}Content-Length: {}\r\n\r\n", ours(asked), asked.length);
        let whole = [head.as_bytes(), &body_of(asked.id, asked.length)].concat();
        for piece in whole.chunks(1 + whole.len() / 8) {
            self.wire.send(piece)?;
            std::thread::sleep(Duration::from_micros(self.rng.below(3000)));
        }
        Ok(true)
    }

    fn garbage(&mut self, asked: &Asked) -> Goes {
        const KINDS: [&str; 5] = [
            "\0\u{1}\u{2} this is no HTTP\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nevil!",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nevil",
            "HTTP/1.1 200 OK\r\nNo colon\r\n\r\n",
        ];
        self.ledger.answered(asked.id);
        self.wire.send(KINDS[self.rng.below(KINDS.len() as u64) as usize]).map(|()| false)
    }

    /// Says nothing more until the balancer has had enough.
    fn stall(&mut self) -> Goes {
        drop(self.wire.rest());
        Ok(false)
    }

    fn reset(&mut self) -> Goes {
        SockRef::from(self.wire.stream()).set_linger(Some(Duration::ZERO))?;
        Ok(false)
    }
}

/// The head of an answer, up to what frames its body.
fn ours(asked: &Asked) -> String {
    format!("HTTP/1.1 200 OK\r\nX-Id: {}\r\nX-Length: {}\r\n", asked.id, asked.length)
}
