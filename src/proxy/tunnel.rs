//! Upgraded connections: after 101 both sides speak their own protocol, and bytes are passed as they come.
//!
//! Why not tokio's `copy_bidirectional`: it keeps two buffers for each tunnel as long as that lasts, and most tunnels are
//! silent most of the time; and it does not say which side an error came from.

use std::{
    future::poll_fn,
    io,
    mem::MaybeUninit,
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, response};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::{body::ResponseBody, exchange::Exchange, roster::Enrolled};
use crate::{
    downstream::{Answer, Upgrade},
    h1::Lines,
    net::{Metered, Millis, Watchdog, now_coarse},
    upstream::{Link, Traffic},
};

/// Answers 101 and passes bytes from then on. The exchange, with its place on the server, lasts as long as the tunnel.
///
/// What the client sent before the 101 waits at its side of the tunnel, and what the server sent right behind the 101 at
/// the other: both are the first bytes that pass.
pub(super) fn open(
    parts: response::Parts,
    lines: Lines,
    link: Box<Link>,
    client_side: Upgrade,
    mut exchange: Box<Exchange>,
) -> Answer<ResponseBody> {
    let mut enrolled = exchange.client.worker.enroll();
    exchange.tunnel_begins();
    tokio::task::spawn_local(async move {
        match client_side.await {
            Some(client) => {
                let end = pass(client, ServerSide::new(link), &mut exchange, &mut enrolled).await;
                note(&end, &mut exchange);
            }
            // The client left before it had read the 101.
            None => exchange.broken_by_client(),
        }
        exchange.finished(None);
        drop(enrolled);
    });
    Answer { parts, lines, body: ResponseBody::switching(), spare: HeaderMap::new() }
}

/// How a tunnel ended.
#[derive(Debug)]
enum End {
    /// Both sides have said that they are done.
    Done,
    /// Neither side said anything for too long.
    Silent,
    /// The same, and the balancer stops; or the server's maintenance waits no longer.
    Stopped,
    /// The client's connection broke.
    Client(io::Error),
    /// The server's connection broke.
    Server(io::Error),
}

fn note(end: &End, exchange: &mut Exchange) {
    match end {
        End::Done => {}
        End::Silent => exchange.tunnel_silent(),
        End::Stopped => exchange.stopped(),
        End::Client(error) => {
            tracing::debug!("a tunnel's client broke off: {error}");
            exchange.broken_by_client();
        }
        End::Server(error) => {
            tracing::debug!("a tunnel's server broke off: {error}");
            exchange.broken_by_server(false);
        }
    }
}

/// Passes bytes both ways until both sides have ended, or both were silent too long. The end of one side is passed on, and
/// the other may go on.
async fn pass(mut client: Metered, mut server: ServerSide, exchange: &mut Exchange, enrolled: &mut Enrolled) -> End {
    let owner = Rc::clone(&exchange.client);
    let worker = Rc::clone(&owner.worker);
    let timeouts = exchange.client.settings.timeouts.clone();
    let mut watchdog = pin!(Watchdog::new());
    let (mut up, mut down, mut last) = (Flow::default(), Flow::default(), now_coarse());
    poll_fn(|cx| {
        enrolled.introduce(&owner, cx.waker());
        if owner.cut.is_cut() {
            return Poll::Ready(End::Stopped);
        }
        let before = (up.passed, down.passed);
        let polled = (up.poll(cx, &mut client, &mut server), down.poll(cx, &mut server, &mut client));
        if (up.passed, down.passed) != before {
            last = now_coarse();
            exchange.tunnel_passed(down.passed - before.1);
        }
        match polled {
            (Poll::Ready(Err(Broken::Source(error))), _) | (_, Poll::Ready(Err(Broken::Sink(error)))) => {
                return Poll::Ready(End::Client(error));
            }
            (Poll::Ready(Err(Broken::Sink(error))), _) | (_, Poll::Ready(Err(Broken::Source(error)))) => {
                return Poll::Ready(End::Server(error));
            }
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => return Poll::Ready(End::Done),
            (Poll::Ready(Ok(())) | Poll::Pending, Poll::Ready(Ok(())) | Poll::Pending) => {}
        }
        let stopping = worker.draining_since().map(|since| (since, timeouts.tunnel_stop));
        let (deadline, expired) = deadline(last, timeouts.tunnel, stopping);
        if watchdog.as_mut().poll_expired(cx, Some(deadline)) { Poll::Ready(expired) } else { Poll::Pending }
    })
    .await
}

/// The server's connection, which may have said something behind its 101 already.
struct ServerSide {
    said: Bytes,
    stream: TcpStream,
    traffic: Traffic,
}

impl ServerSide {
    fn new(link: Box<Link>) -> Self {
        let (stream, said, traffic) = link.into_tunnel();
        Self { said, stream, traffic }
    }
}

impl AsyncRead for ServerSide {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.said.is_empty() {
            let length = self.said.len().min(buf.remaining());
            buf.put_slice(&self.said.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.traffic.received(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ServerSide {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, buf))?;
        self.traffic.sent(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// When a tunnel will have been silent too long, which is sooner when the balancer stops: a stop should not wait out its
/// grace period for tunnels that only wait, and whose clients connect again anyway.
fn deadline(last: Millis, silence: Duration, stopping: Option<(Millis, Duration)>) -> (Millis, End) {
    let silent = last.after(silence);
    match stopping.map(|(since, silence)| since.max(last).after(silence)) {
        Some(stopped) if stopped < silent => (stopped, End::Stopped),
        Some(_) | None => (silent, End::Silent),
    }
}

/// Read at once.
const PIECE: usize = 16 * 1024;
/// Pieces in a row, until the other direction has its turn.
const TURN: u32 = 8;

/// One direction.
#[derive(Debug, Default)]
struct Flow {
    /// Read, but not yet written. Almost always empty, so that a silent tunnel needs no buffer.
    left: Vec<u8>,
    written: usize,
    passed: u64,
    flushed: u64,
    source_ended: bool,
    done: bool,
}

/// Which end of a direction broke.
#[derive(Debug)]
enum Broken {
    Source(io::Error),
    Sink(io::Error),
}

impl Flow {
    /// Passes what there is; ready when the end has been passed on, too.
    fn poll<R, W>(&mut self, cx: &mut Context<'_>, source: &mut R, sink: &mut W) -> Poll<Result<(), Broken>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut space = [const { MaybeUninit::uninit() }; PIECE];
        for _ in 0..TURN {
            if self.done {
                return Poll::Ready(Ok(()));
            }
            ready!(self.poll_left(cx, sink)).map_err(Broken::Sink)?;
            if self.source_ended {
                ready!(Pin::new(&mut *sink).poll_shutdown(cx)).map_err(Broken::Sink)?;
                self.done = true;
                continue;
            }
            let mut piece = ReadBuf::uninit(&mut space);
            match Pin::new(&mut *source).poll_read(cx, &mut piece) {
                Poll::Ready(read) => read.map_err(Broken::Source)?,
                Poll::Pending => {
                    ready!(self.poll_flush(cx, sink)).map_err(Broken::Sink)?;
                    return Poll::Pending;
                }
            }
            let piece = piece.filled();
            self.source_ended = piece.is_empty();
            if !piece.is_empty() {
                let written = match Pin::new(&mut *sink).poll_write(cx, piece) {
                    Poll::Ready(written) => written.map_err(Broken::Sink)?,
                    Poll::Pending => 0,
                };
                self.passed += written as u64;
                self.left.extend_from_slice(&piece[written..]);
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Writes what could not be written before.
    fn poll_left<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Poll<io::Result<()>> {
        while self.written < self.left.len() {
            let written = ready!(Pin::new(&mut *sink).poll_write(cx, &self.left[self.written..]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written;
            self.passed += written as u64;
        }
        if self.written > 0 {
            // The buffer goes with it.
            *self = Self { left: Vec::new(), written: 0, ..std::mem::take(self) };
        }
        Poll::Ready(Ok(()))
    }

    /// What waits in the sink must not wait for more.
    fn poll_flush<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, sink: &mut W) -> Poll<io::Result<()>> {
        if self.flushed != self.passed {
            ready!(Pin::new(sink).poll_flush(cx))?;
            self.flushed = self.passed;
        }
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_stop_shortens_the_patience_with_silence() {
        let (last, second) = (Millis(5_000), Duration::from_secs(1));
        let when = |stopping| {
            let (deadline, end) = deadline(last, HOUR, stopping);
            (deadline.0, matches!(end, End::Stopped))
        };
        assert_eq!(when(None), (3_605_000, false));
        assert_eq!(when(Some((Millis(9_000), second))), (10_000, true), "silent since before the stop");
        assert_eq!(when(Some((Millis(4_500), second))), (6_000, true), "not silent since the stop");
        assert_eq!(when(Some((Millis(4_500), 2 * HOUR))), (3_605_000, false));
    }

    async fn flow_until_done(mut source: DuplexStream, mut sink: DuplexStream) -> (Flow, Result<(), Broken>) {
        let mut flow = Flow::default();
        let result = poll_fn(|cx| flow.poll(cx, &mut source, &mut sink)).await;
        (flow, result)
    }

    #[tokio::test]
    async fn every_byte_and_the_end_pass_a_narrow_sink() {
        let (mut client, source) = duplex(64 * 1024);
        let (sink, mut server) = duplex(7);
        let bytes: Vec<u8> = (0..200_000_u32).map(|place| (place % 251) as u8).collect();
        let sent = async {
            client.write_all(&bytes).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        let ((), read, (flow, result)) =
            futures_util::future::join3(sent, server.read_to_end(&mut received), flow_until_done(source, sink)).await;
        assert!(received == bytes && read.is_ok() && result.is_ok());
        assert_eq!((flow.passed, flow.left.capacity()), (bytes.len() as u64, 0), "no buffer stays behind");
    }

    #[tokio::test]
    async fn a_sink_that_is_gone_is_told_from_a_source() {
        let (mut client, source) = duplex(64);
        let (sink, server) = duplex(64);
        drop(server);
        client.write_all(b"lost").await.unwrap();
        let (_, result) = flow_until_done(source, sink).await;
        assert!(matches!(result, Err(Broken::Sink(_))), "{result:?}");
    }
}
