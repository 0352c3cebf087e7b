//! A socket that remembers what passed through it, and when.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use super::clock::{Millis, now_coarse};

/// What passed through a socket. One thread writes it; the atomics are plain loads and stores.
#[derive(Debug, Default)]
pub struct Pulse {
    bytes_in: AtomicU64,
    bytes_out: AtomicU64,
    last: AtomicU64,
    last_out: AtomicU64,
    write_blocked: AtomicBool,
    ends_apart: AtomicBool,
    has_errand: AtomicBool,
    errand: Mutex<Errand>,
}

/// What whoever has the pulse wants of whoever has the socket.
#[derive(Debug, Default)]
struct Errand {
    /// Bytes to be written before anything else.
    aside: Vec<u8>,
    /// Whether the local address is asked for.
    wants_local: bool,
    local: Option<SocketAddr>,
}

impl Pulse {
    /// A pulse that begins now.
    pub fn new() -> Self {
        let pulse = Self::default();
        pulse.touch();
        pulse
    }

    /// Bytes read so far.
    pub fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Relaxed)
    }

    /// Bytes written so far.
    pub fn bytes_out(&self) -> u64 {
        self.bytes_out.load(Relaxed)
    }

    /// When a byte last passed in either direction.
    pub fn last(&self) -> Millis {
        Millis(self.last.load(Relaxed))
    }

    /// When a byte was last written.
    pub fn last_out(&self) -> Millis {
        Millis(self.last_out.load(Relaxed))
    }

    /// Whether the other side keeps us from writing.
    pub fn is_write_blocked(&self) -> bool {
        self.write_blocked.load(Relaxed)
    }

    /// Counts now as a moment of activity.
    pub fn touch(&self) {
        self.last.store(now_coarse().0, Relaxed);
    }

    /// Has these bytes written before anything else that comes, from the next poll on: responses in between (1xx)
    /// of a server.
    pub fn write_aside(&self, bytes: &[u8]) {
        self.errand().aside.extend_from_slice(bytes);
        self.has_errand.store(true, Relaxed);
    }

    /// From now on the end of what is written is told by itself, because the other direction may go on: a tunnel. Before,
    /// closing the connection tells it, which needs no system call more.
    pub fn end_apart(&self) {
        self.ends_apart.store(true, Relaxed);
    }

    /// Where the connection came in. `None` until the socket is polled for writing or flushing the next time: looking it up
    /// takes a system call, which hardly any connection needs.
    pub fn local(&self) -> Option<SocketAddr> {
        let mut errand = self.errand();
        if errand.local.is_none() {
            errand.wants_local = true;
            self.has_errand.store(true, Relaxed);
        }
        errand.local
    }

    fn errand(&self) -> MutexGuard<'_, Errand> {
        self.errand.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, counter: &AtomicU64, bytes: usize) {
        counter.store(counter.load(Relaxed) + bytes as u64, Relaxed);
        self.touch();
    }
}

/// A TCP connection with its [`Pulse`].
#[derive(Debug)]
pub struct Metered {
    stream: TcpStream,
    pulse: Arc<Pulse>,
    unread: Bytes,
    ends_broken: bool,
}

impl Metered {
    /// Measures `stream` with `pulse`.
    pub fn new(stream: TcpStream, pulse: Arc<Pulse>) -> Self {
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

    /// Says where the connection came in, and writes what is to be written first.
    fn poll_errand(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.pulse.has_errand.load(Relaxed) {
            let pulse = Arc::clone(&self.pulse);
            let mut errand = pulse.errand();
            if std::mem::take(&mut errand.wants_local) {
                errand.local = Some(self.stream.local_addr()?);
            }
            if !errand.aside.is_empty() {
                let polled = Pin::new(&mut self.stream).poll_write(cx, &errand.aside);
                let written = ready!(self.note_write(polled))?;
                errand.aside.drain(..written);
            }
            if errand.aside.is_empty() {
                errand.aside = Vec::new();
                self.pulse.has_errand.store(false, Relaxed);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Tells the other side that nothing more is written.
    ///
    /// # Errors
    /// When the other side has broken the connection off.
    pub fn end_writing(&self) -> io::Result<()> {
        SockRef::from(&self.stream).shutdown(Shutdown::Write)
    }

    fn note_write(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let blocked = result.is_pending();
        if self.pulse.is_write_blocked() != blocked {
            self.pulse.write_blocked.store(blocked, Relaxed);
        }
        if let Poll::Ready(Ok(written)) = result {
            self.pulse.add(&self.pulse.bytes_out, written);
            self.pulse.last_out.store(self.pulse.last.load(Relaxed), Relaxed);
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
            buf.put_slice(&self.unread[..length]);
            self.unread.advance(length);
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
        ready!(self.poll_errand(cx))?;
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_errand(cx))?;
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_errand(cx))?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.pulse.ends_apart.load(Relaxed) {
            return Poll::Ready(Ok(()));
        }
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
        let pulse = Arc::new(Pulse::new());
        let mut metered = Metered::new(listener.accept().await.unwrap().0, Arc::clone(&pulse));
        other.write_all(b"cd").await.unwrap();
        metered.unread(Bytes::from_static(b"ab"));
        let mut read = [0; 4];
        metered.read_exact(&mut read[..1]).await.unwrap();
        assert!(metered.has_unread());
        metered.read_exact(&mut read[1..]).await.unwrap();
        assert_eq!((&read, metered.has_unread(), pulse.bytes_in()), (b"abcd", false, 2));
    }

    #[tokio::test]
    async fn only_what_ends_apart_is_shut_down() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let pulse = Arc::new(Pulse::new());
        let mut metered = Metered::new(listener.accept().await.unwrap().0, Arc::clone(&pulse));
        metered.shutdown().await.unwrap();
        metered.write_all(b"more").await.unwrap();
        pulse.end_apart();
        metered.shutdown().await.unwrap();
        let mut read = Vec::new();
        other.read_to_end(&mut read).await.unwrap();
        assert_eq!(read, b"more");
    }

    #[tokio::test]
    async fn the_local_address_is_told_after_the_next_flush() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut other = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let pulse = Arc::new(Pulse::new());
        let mut metered = Metered::new(listener.accept().await.unwrap().0, Arc::clone(&pulse));
        assert_eq!(pulse.local(), None);
        pulse.write_aside(b"aside");
        metered.flush().await.unwrap();
        assert_eq!(pulse.local(), listener.local_addr().ok());
        let mut read = [0; 5];
        other.read_exact(&mut read).await.unwrap();
        assert_eq!(&read, b"aside");
    }
}
