//! Bytes in and out in pieces of a size that fits what passes.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    pin::{Pin, pin},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::buffers::{Buffer, LITTLE, Size};
use crate::h1::Outbox;

const SMALL: usize = Size::Small.bytes();

/// Reads what is there; nothing at the end of the stream. `left` is what is left of the body in progress, if that is known, and
/// `last` what the last read brought: the next one is likely to bring as many.
///
/// # Errors
/// When the connection is broken.
pub fn poll_read_piece<R: AsyncRead + Unpin>(
    stream: &mut R,
    cx: &mut Context<'_>,
    left: Option<u64>,
    last: usize,
) -> Poll<io::Result<Bytes>> {
    let left = left.map_or(0, |left| usize::try_from(left).unwrap_or(usize::MAX));
    match left.max(last) {
        ..LITTLE => poll_read_little(stream, cx),
        LITTLE..SMALL => poll_read_much(stream, cx, Size::Small),
        SMALL.. => poll_read_much(stream, cx, Size::Large),
    }
}

/// Reads to the stack and copies: most messages are smaller than any buffer that would be good for all.
fn poll_read_little<R: AsyncRead + Unpin>(stream: &mut R, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    let mut space = [const { MaybeUninit::uninit() }; SMALL];
    let mut buffer = ReadBuf::uninit(&mut space);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
}

fn poll_read_much<R: AsyncRead + Unpin>(stream: &mut R, cx: &mut Context<'_>, size: Size) -> Poll<io::Result<Bytes>> {
    let mut buffer = Buffer::take(size);
    ready!(pin!(stream.read_buf(&mut buffer.room())).poll(cx))?;
    Poll::Ready(Ok(buffer.into_bytes()))
}

/// Takes a little that is left of a read out of its buffer: what it is the start of may be long in coming, and others could
/// use the buffer.
pub fn leave_buffer(rest: &mut Bytes) {
    if !rest.is_empty() && rest.len() < LITTLE && !rest.is_unique() {
        *rest = Bytes::copy_from_slice(rest);
    }
}

/// `more` behind `rest`, without copying `rest` each time.
pub fn joined(rest: Bytes, more: Bytes) -> Bytes {
    if rest.is_empty() {
        return more;
    }
    let mut joined = BytesMut::from(rest);
    joined.extend_from_slice(&more);
    joined.freeze()
}

/// Writes what waits; `wrote` is told how many bytes went.
///
/// # Errors
/// When the other side takes no more.
pub fn poll_write_outbox<W: AsyncWrite + Unpin>(
    outbox: &mut Outbox,
    stream: &mut W,
    cx: &mut Context<'_>,
    wrote: impl Fn(usize),
) -> Poll<io::Result<()>> {
    while !outbox.is_empty() {
        let stream = Pin::new(&mut *stream);
        let written = match outbox.pieces() {
            [ready, [], []] => ready!(stream.poll_write(cx, ready))?,
            pieces => ready!(stream.poll_write_vectored(cx, &pieces.map(IoSlice::new)))?,
        };
        if written == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        wrote(written);
        outbox.advance(written);
    }
    Poll::Ready(Ok(()))
}
