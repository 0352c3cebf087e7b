//! The socket that members speak through.

use std::{
    io,
    net::{SocketAddr, UdpSocket},
};

use tokio::io::{Interest, unix::AsyncFd};

/// Wanted size of the kernel's buffers: a thousand nodes may greet a restarted balancer at one moment, and are all answered.
const KERNEL_BUFFER: usize = 1024 * 1024;

/// A bound UDP socket that wakes its task for what arrives alone.
///
/// Why not tokio's? That is told of each datagram that has left, too: an idle agent would wake for each one that it sends.
pub(super) struct Socket {
    socket: AsyncFd<UdpSocket>,
    bound: SocketAddr,
}

impl Socket {
    pub(super) fn new(socket: UdpSocket) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let bound = socket.local_addr()?;
        let kernel = socket2::SockRef::from(&socket);
        if let Err(error) = kernel.set_recv_buffer_size(KERNEL_BUFFER).and(kernel.set_send_buffer_size(KERNEL_BUFFER)) {
            tracing::debug!(%error, "the gossip socket keeps its small buffers");
        }
        #[expect(deprecated, reason = "unsound for types that lie about their descriptor; a standard socket does not")]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Self { socket, bound })
    }

    /// What it is bound to.
    pub(super) fn bound(&self) -> SocketAddr {
        self.bound
    }

    /// Once there may be a datagram.
    pub(super) async fn readable(&self) -> io::Result<()> {
        self.socket.readable().await.map(drop)
    }

    /// The next datagram's length and source; `WouldBlock` when there is none.
    pub(super) fn try_receive(&self, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
        self.socket.try_io(Interest::READABLE, |socket| socket.recv_from(buffer))
    }

    /// Sends a datagram; one for which the kernel's buffer has no room is lost, as it may be anywhere on its way.
    pub(super) fn send(&self, to: SocketAddr, bytes: &[u8]) -> io::Result<()> {
        let to = match to {
            // An IPv6 socket writes IPv4 addresses as mapped ones.
            SocketAddr::V4(v4) if self.bound.is_ipv6() => SocketAddr::from((v4.ip().to_ipv6_mapped(), v4.port())),
            SocketAddr::V4(_) | SocketAddr::V6(_) => to,
        };
        self.socket.get_ref().send_to(bytes, to).map(drop)
    }
}
