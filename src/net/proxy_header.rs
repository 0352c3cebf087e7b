//! Takes the PROXY protocol's header off a connection, and not one byte more.

use std::io;

use tokio::{io::AsyncReadExt, net::TcpStream};

use crate::proxy_protocol::{Endpoints, Invalid, MAX_HEADER, Parsed, parse};

/// Why a connection has no header.
#[derive(Debug, thiserror::Error)]
pub enum ProxyHeaderError {
    /// It begins with something else.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// It ended within the header, or before it.
    #[error("it ended before its PROXY protocol header was complete")]
    Closed,
    /// Reading it failed.
    #[error("it failed before its PROXY protocol header was complete: {0}")]
    Io(#[from] io::Error),
}

/// Reads the header that a connection begins with.
///
/// Why look before taking: what follows the header is for whoever reads next, and a byte that was not taken needs no place
/// to be kept. An incomplete header is taken at once, so that the next look waits for more of it.
#[derive(Debug)]
pub struct ProxyHeaderReader {
    bytes: Vec<u8>,
    taken: usize,
}

impl ProxyHeaderReader {
    /// A reader for one connection.
    pub fn new() -> Self {
        Self { bytes: vec![0; MAX_HEADER], taken: 0 }
    }

    /// Whether the beginning of a header came.
    pub fn has_begun(&self) -> bool {
        self.taken > 0
    }

    /// Whose connection it is; `None` when it is the proxy's own. Nothing is lost when this is cancelled and called again.
    ///
    /// # Errors
    /// When there is no header.
    pub async fn receive(&mut self, stream: &mut TcpStream) -> Result<Option<Endpoints>, ProxyHeaderError> {
        // The parser knows after `MAX_HEADER` bytes, so that there is always room for more here.
        while self.taken < MAX_HEADER {
            let seen = self.taken + stream.peek(&mut self.bytes[self.taken..]).await?;
            if seen == self.taken {
                return Err(ProxyHeaderError::Closed);
            }
            let (length, header) = match parse(&self.bytes[..seen]) {
                Parsed::Incomplete => (seen, None),
                Parsed::Header(header) => (header.length, Some(header)),
                Parsed::Invalid(invalid) => return Err(invalid.into()),
            };
            while self.taken < length {
                // What was seen is there to be taken.
                self.taken += stream.read(&mut self.bytes[self.taken..length]).await?;
            }
            if let Some(header) = header {
                return Ok(header.endpoints);
            }
        }
        Err(Invalid::TooLong.into())
    }
}

impl Default for ProxyHeaderReader {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;
    use tokio::{io::AsyncWriteExt, net::TcpListener};

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        client.set_nodelay(true).unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 80\r\n";

    #[tokio::test]
    async fn nothing_after_the_header_is_taken() {
        let (mut client, mut server) = pair().await;
        client.write_all(&[LINE, b"GET / HTTP/1.1\r\n"].concat()).await.unwrap();
        let endpoints = ProxyHeaderReader::new().receive(&mut server).await.unwrap().unwrap();
        assert_eq!(endpoints.source.to_string(), "192.0.2.1:56324");
        drop(client);
        let mut rest = String::new();
        server.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "GET / HTTP/1.1\r\n");
    }

    #[tokio::test]
    async fn a_header_that_comes_byte_by_byte_is_read() {
        let (mut client, mut server) = pair().await;
        let reading = tokio::spawn(async move {
            let read = ProxyHeaderReader::new().receive(&mut server).await;
            read.map(|read| (read, server))
        });
        for byte in LINE.iter().chain(b"x") {
            client.write_all(&[*byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        let (endpoints, mut server) = reading.await.unwrap().unwrap();
        assert_eq!(endpoints.unwrap().destination.to_string(), "192.0.2.2:80");
        assert_eq!(server.read_u8().await.unwrap(), b'x');
    }

    #[tokio::test]
    async fn a_connection_that_ends_early_is_told_from_one_with_something_else() {
        let http = &b"GET / HTTP/1.1\r\n\r\n"[..];
        for (sent, begun, told) in
            [(&LINE[..9], true, "ended before"), (b"", false, "ended before"), (http, false, "begin")]
        {
            let (mut client, mut server) = pair().await;
            client.write_all(sent).await.unwrap();
            drop(client);
            let mut reader = ProxyHeaderReader::new();
            let error = reader.receive(&mut server).await.unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
            assert_eq!(reader.has_begun(), begun);
        }
    }
}
