//! Closing a connection whose client may still be sending (RFC 9112 section 9.6).
//!
//! To close it at once would reset it: bytes that arrive at a closed socket are answered so, and a reset makes the systems of
//! both sides throw away what the client has not read of its answer. So we only say that no more comes, and throw away what
//! the client sends until it closes, within bounds.

use std::{
    future::poll_fn,
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::io::{AsyncRead, ReadBuf};

use crate::net::{Metered, Watchdog, now_coarse};

/// How long a client may be silent: many times what an answer needs to get to it.
const SILENCE: Duration = Duration::from_secs(1);
/// How long it may take in all.
const LONGEST: Duration = Duration::from_secs(5);
/// Most bytes that are thrown away.
const MOST: usize = 16 * 1024 * 1024;
/// Bytes that are read at once.
const PIECE: usize = 16 * 1024;

/// Closes the connection when the client has, or has had its time. Everything for the client must have been written.
pub(super) async fn linger(mut socket: Metered) {
    if let Err(error) = socket.end_writing() {
        tracing::debug!("a client left before its connection was closed: {error}");
        return;
    }
    let end = now_coarse().after(LONGEST);
    let mut silent = now_coarse().after(SILENCE);
    let (mut thrown, mut watchdog) = (0, pin!(Watchdog::new()));
    poll_fn(|cx| {
        while let Poll::Ready(length) = poll_throw(&mut socket, cx) {
            thrown += length;
            silent = now_coarse().after(SILENCE);
            if length == 0 || thrown >= MOST {
                return Poll::Ready(());
            }
        }
        if watchdog.as_mut().poll_expired(cx, Some(silent.min(end))) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

/// Reads a piece for nothing; its length, which is 0 at the end.
fn poll_throw(socket: &mut Metered, cx: &mut Context<'_>) -> Poll<usize> {
    let mut space = [const { MaybeUninit::uninit() }; PIECE];
    let mut piece = ReadBuf::uninit(&mut space);
    let read = ready!(Pin::new(socket).poll_read(cx, &mut piece));
    Poll::Ready(if read.is_ok() { piece.filled().len() } else { 0 })
}
