//! Sockets: where they are opened, how their bytes and silences are measured, and how names become addresses.

mod buffers;
mod clock;
mod descriptors;
mod listen;
mod metered;
mod pieces;
mod proxy_header;
mod resolve;
mod unix;
mod watchdog;

pub use clock::{Millis, now_coarse};
pub use descriptors::{descriptor_limit, raise_descriptor_limit, shortage_of};
pub use listen::{BindError, bind_all, bind_udp, listen_addresses};
pub use metered::{Metered, Pulse};
pub use pieces::{joined, leave_buffer, poll_read_piece, poll_write_outbox};
pub use proxy_header::{ProxyHeaderError, ProxyHeaderReader};
pub use resolve::{ResolveError, resolve};
pub use unix::{SocketFile, bind_unix};
pub use watchdog::Watchdog;
