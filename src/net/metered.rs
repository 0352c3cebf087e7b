//! A socket that remembers what passed through it, and when.

use std::{
    cell::Cell,
    io,
    net::Shutdown,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::clock::{Millis, now_coarse};

/// What passed through a socket.
#[derive(Debug)]
pub struct Pulse {
    bytes_in: Cell<u64>,
    bytes_out: Cell<u64>,
    last: Cell<Millis>,
    write_blocked: Cell<bool>,
}

impl Pulse {
    /// A pulse that begins now.
    pub fn begin() -> Rc<Self> {
        Rc::new(Self {
            bytes_in: Cell::new(0),
            bytes_out: Cell::new(0),
            last: Cell::new(now_coarse()),
            write_blocked: Cell::new(false),
        })
    }

    /// Bytes read so far.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.get()
    }

    /// Bytes written so far.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.get()
    }

    /// When a byte last passed in either direction.
    pub fn last(&self) -> Millis {
        self.last.get()
    }

    /// Whether the other side keeps us from writing.
    pub fn is_write_blocked(&self) -> bool {
        self.write_blocked.get()
    }

    fn add(&self, counter: &Cell<u64>, bytes: usize) {
        counter.set(counter.get() + bytes as u64);
        self.last.set(now_coarse());
    }
}

/// A TCP connection with its [`Pulse`].
#[derive(Debug)]
pub struct Metered {
    stream: TcpStream,
    pulse: Rc<Pulse>,
    unread: Bytes,
    ends_broken: bool,
}

impl Metered {
    /// Measures `stream` with `pulse`.
    pub fn new(stream: TcpStream, pulse: Rc<Pulse>) -> Self {
        Self { stream, pulse, unread: Bytes::new(), ends_broken: false }
    }

    /// Whether the connection, if it ended now, must look broken off: the other side would take an ordinary end for that of
    /// a response.
    pub fn end_broken(&mut self, broken: bool) {
        self.ends_broken = broken;
    }

    /// Gives bytes back that were read too early: they are the next to be read, and are not counted again.
    pub fn unread(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    /// Whether bytes were given back and not read since.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// The connection itself.
    pub fn get_ref(&self) -> &TcpStream {
        &self.stream
    }

    /// Tells the other side that nothing more is written.
    ///
    /// # Errors
    /// When the other side has broken the connection off.
    pub fn end_writing(&self) -> io::Result<()> {
        SockRef::from(&self.stream).shutdown(Shutdown::Write)
    }

    fn note_write(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.pulse.write_blocked.set(result.is_pending());
        if let Poll::Ready(Ok(written)) = result {
            self.pulse.add(&self.pulse.bytes_out, written);
        }
        result
    }
}

impl Drop for Metered {
    fn drop(&mut self) {
        if self.ends_broken
            && let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!("a connection ends as if it were closed in good order: {error}");
        }
    }
}

impl AsyncRead for Metered {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.has_unread() {
            let length = self.unread.len().min(buf.remaining());
            buf.put_slice(&self.unread.split_to(length));
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        let read = buf.filled().len() - before;
        if read > 0 {
            self.pulse.add(&self.pulse.bytes_in, read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    #[tokio::test]
    async fn what_is_given_back_is_read_first_and_counted_once() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let pulse = Pulse::begin();
        let mut metered = Metered::new(listener.accept().await.unwrap().0, Rc::clone(&pulse));
        other.write_all(b"cd").await.unwrap();
        let given_back = Bytes::from("ab".to_owned());
        metered.unread(given_back.clone());
        let mut read = [0; 4];
        metered.read_exact(&mut read[..1]).await.unwrap();
        assert!(metered.has_unread());
        metered.read_exact(&mut read[1..]).await.unwrap();
        assert_eq!((&read, metered.has_unread(), pulse.bytes_in()), (b"abcd", false, 2));
        assert!(given_back.is_unique(), "what was read is let go of");
    }
}
