//! Opening a TCP connection to a server.

use std::{io, net::SocketAddr, time::Duration};

use tokio::net::TcpStream;

use crate::{net::shortage_of, registry::Shortage};

/// Why no connection was made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The server refused, or can't be reached.
    #[error("connection failed: {0}")]
    Refused(#[source] io::Error),
    /// This process or system has no descriptor for it: says nothing about the server.
    #[error("no file descriptor is left")]
    Shortage(Shortage),
    /// Neither accepted nor refused in time.
    #[error("no connection within {}", humantime::format_duration(*.0))]
    Timeout(Duration),
}

/// Opens a connection within `limit`. Small writes leave at once (`TCP_NODELAY`).
///
/// # Errors
/// When the server refuses or does not answer in time.
pub async fn connect(address: SocketAddr, limit: Duration) -> Result<TcpStream, ConnectError> {
    let stream = tokio::time::timeout(limit, TcpStream::connect(address))
        .await
        .map_err(|_elapsed| ConnectError::Timeout(limit))?
        .map_err(|error| shortage_of(&error).map_or(ConnectError::Refused(error), ConnectError::Shortage))?;
    stream.set_nodelay(true).map_err(ConnectError::Refused)?;
    Ok(stream)
}
