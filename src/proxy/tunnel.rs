//! Upgraded connections: after 101 both sides speak their own protocol, and bytes are passed as they come.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Response, response};
use hyper::{
    body::Incoming,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, copy_bidirectional};

use super::{body::ResponseBody, exchange::Exchange};
use crate::net::{Pulse, Watchdog};

/// Answers 101 and passes bytes from then on. The exchange, with its place on the server, lasts as long as the tunnel.
pub(super) fn open(
    parts: response::Parts,
    server_side: Incoming,
    client_side: OnUpgrade,
    exchange: Box<Exchange>,
) -> Response<ResponseBody> {
    let mut response = Response::from_parts(parts, ());
    let server_upgrade = hyper::upgrade::on(&mut response);
    drop(server_side);
    let worker = Rc::clone(&exchange.client.worker);
    let enrolled = worker.enroll();
    tokio::task::spawn_local(async move {
        let mut exchange = exchange;
        let ended = match futures_util::future::try_join(client_side, server_upgrade).await {
            Ok((client, server)) => pass(client, server, &mut exchange).await,
            Err(error) => Err(io::Error::other(error)),
        };
        if let Err(error) = ended {
            tracing::debug!("a tunnel ended: {error}");
            exchange.tunnel_broken(error.kind() == io::ErrorKind::TimedOut);
        }
        exchange.finished(None);
        drop(enrolled);
    });
    let (parts, ()) = response.into_parts();
    Response::from_parts(parts, ResponseBody::switching())
}

/// Passes bytes both ways until both sides have ended, or both were silent too long.
async fn pass(client: Upgraded, server: Upgraded, exchange: &mut Exchange) -> io::Result<()> {
    let silence = exchange.client.settings.timeouts.tunnel;
    let pulse = Arc::new(Pulse::new());
    let mut client = Counted { io: TokioIo::new(client), pulse: Arc::clone(&pulse) };
    let mut server = Counted { io: TokioIo::new(server), pulse: Arc::clone(&pulse) };
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

/// Notes when a byte passes.
struct Counted {
    io: TokioIo<Upgraded>,
    pulse: Arc<Pulse>,
}

impl AsyncRead for Counted {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        self.pulse.touch();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Counted {
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
