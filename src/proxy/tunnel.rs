//! Upgraded connections: after 101 both sides speak their own protocol, and bytes are passed as they come.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Response, response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional},
    net::TcpStream,
};

use super::{body::ResponseBody, exchange::Exchange};
use crate::{
    net::{Pulse, Watchdog},
    upstream::{Link, Traffic},
};

/// Answers 101 and passes bytes from then on. The exchange, with its place on the server, lasts as long as the tunnel.
pub(super) fn open(
    parts: response::Parts,
    link: Box<Link>,
    client_side: OnUpgrade,
    exchange: Box<Exchange>,
) -> Response<ResponseBody> {
    exchange.client.pulse.end_apart();
    let worker = Rc::clone(&exchange.client.worker);
    let enrolled = worker.enroll();
    tokio::task::spawn_local(async move {
        let mut exchange = exchange;
        let ended = match client_side.await {
            Ok(client) => pass(client, ServerSide::new(link), &mut exchange).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = ended {
            tracing::debug!("a tunnel ended: {error}");
            exchange.tunnel_broken(error.kind() == io::ErrorKind::TimedOut);
        }
        exchange.finished(None);
        drop(enrolled);
    });
    Response::from_parts(parts, ResponseBody::switching())
}

/// Passes bytes both ways until both sides have ended, or both were silent too long.
async fn pass(client: Upgraded, server: ServerSide, exchange: &mut Exchange) -> io::Result<()> {
    let silence = exchange.client.settings.timeouts.tunnel;
    let pulse = Arc::new(Pulse::new());
    let mut client = Counted { io: TokioIo::new(client), pulse: Arc::clone(&pulse) };
    let mut server = Counted { io: server, pulse: Arc::clone(&pulse) };
    let mut copy = pin!(copy_bidirectional(&mut client, &mut server));
    let mut watchdog = pin!(Watchdog::new());
    poll_fn(|cx| {
        if let Poll::Ready(result) = copy.as_mut().poll(cx) {
            return Poll::Ready(result.map(|(_, to_client)| to_client));
        }
        if watchdog.as_mut().poll_expired(cx, Some(pulse.last().after(silence))) {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Poll::Pending
    })
    .await
    .map(|to_client| exchange.add_bytes(usize::try_from(to_client).unwrap_or(usize::MAX)))
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

/// Notes when a byte passes.
struct Counted<T> {
    io: T,
    pulse: Arc<Pulse>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.pulse.touch();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
