//! HTTP/1.1 over a plain socket, for both sides of a conversation. It hides nothing: what is sent is what the test wrote.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{Arc, Mutex},
};

use socket2::{Domain, Socket, Type};

use super::PATIENCE;

/// A connection.
#[derive(Debug)]
pub(crate) struct Wire {
    reader: BufReader<Source>,
}

/// Where bytes come from, and where a copy of them is kept.
#[derive(Debug)]
struct Source {
    stream: TcpStream,
    heard: Option<Heard>,
}

/// Every byte that was read, as it came.
pub(crate) type Heard = Arc<Mutex<Vec<u8>>>;

impl Read for Source {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.stream.read(into)?;
        if let Some(heard) = &self.heard {
            heard.lock().unwrap().extend_from_slice(&into[..count]);
        }
        Ok(count)
    }
}

/// The first line of a message and its headers, in their order and as they were written.
#[derive(Debug, Clone, Default)]
pub(crate) struct Head {
    pub(crate) start: String,
    pub(crate) headers: Vec<(String, String)>,
}

impl Head {
    /// Every value of a header.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        let of_name = self.headers.iter().filter(|(its, _)| its.eq_ignore_ascii_case(name));
        of_name.map(|(_, value)| value.as_str()).collect()
    }

    /// The one value of a header.
    #[track_caller]
    pub(crate) fn one(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} is there {} times: {self:?}", all.len());
        all.first().copied()
    }

    pub(crate) fn status(&self) -> u16 {
        self.start.split(' ').nth(1).and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("{self:?}"))
    }

    fn length(&self) -> Option<usize> {
        self.one("content-length").map(|length| length.parse().unwrap())
    }

    fn is_chunked(&self) -> bool {
        self.one("transfer-encoding").is_some_and(|encoding| encoding.eq_ignore_ascii_case("chunked"))
    }
}

/// A whole body, and the lines after it if it was chunked.
#[derive(Debug, Clone, Default)]
pub(crate) struct Body {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

/// A whole response.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Response {
    pub(crate) fn status(&self) -> u16 {
        self.head.status()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Wire {
    pub(crate) fn new(stream: TcpStream) -> Self {
        Self::read_from(Source { stream, heard: None })
    }

    /// A connection of which every byte that is read is kept.
    pub(crate) fn recording(stream: TcpStream, heard: Heard) -> Self {
        Self::read_from(Source { stream, heard: Some(heard) })
    }

    fn read_from(source: Source) -> Self {
        source.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        source.stream.set_write_timeout(Some(PATIENCE)).unwrap();
        source.stream.set_nodelay(true).unwrap();
        Self { reader: BufReader::new(source) }
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        &self.reader.get_ref().stream
    }

    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream().write_all(bytes.as_ref())
    }

    /// One piece of a chunked body.
    pub(crate) fn send_chunk(&self, bytes: &[u8]) -> io::Result<()> {
        self.send([format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat())
    }

    pub(crate) fn end_chunks(&self) -> io::Result<()> {
        self.send("0\r\n\r\n")
    }

    /// The next head; `None` at the end of the connection.
    pub(crate) fn head(&mut self) -> io::Result<Option<Head>> {
        let Some(start) = self.line()? else { return Ok(None) };
        Ok(Some(Head { start, headers: self.fields()? }))
    }

    /// Header or trailer lines, to the empty line that ends them.
    fn fields(&mut self) -> io::Result<Vec<(String, String)>> {
        let mut fields = Vec::new();
        loop {
            match self.line()? {
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
                Some(line) if line.is_empty() => return Ok(fields),
                Some(line) => {
                    let (name, value) = line.split_once(':').ok_or_else(|| io::Error::other(line.clone()))?;
                    fields.push((name.to_owned(), value.trim().to_owned()));
                }
            }
        }
    }

    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        if self.reader.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let text = line.strip_suffix(b"\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        Ok(Some(String::from_utf8_lossy(text).into_owned()))
    }

    pub(crate) fn exact(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// One piece of a chunked body; empty for the last.
    pub(crate) fn chunk(&mut self) -> io::Result<Vec<u8>> {
        let size = self.chunk_size()?;
        let bytes = self.exact(size)?;
        self.empty_line()?;
        Ok(bytes)
    }

    fn chunk_size(&mut self) -> io::Result<usize> {
        let size = self.line()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        usize::from_str_radix(&size, 16).map_err(io::Error::other)
    }

    fn empty_line(&mut self) -> io::Result<()> {
        match self.line()? {
            Some(end) if end.is_empty() => Ok(()),
            Some(_) | None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }

    /// `length` bytes of a chunked body, in however many pieces they come.
    pub(crate) fn chunks_of(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while body.len() < length {
            let chunk = self.chunk()?;
            assert!(!chunk.is_empty(), "the body ended after {} bytes", body.len());
            body.extend(chunk);
        }
        Ok(body)
    }

    /// The body that belongs to a head; an error when it breaks off. `to_the_end` is what no framing means.
    pub(crate) fn body(&mut self, head: &Head, to_the_end: bool) -> io::Result<Body> {
        let mut bytes = Vec::new();
        if head.is_chunked() {
            loop {
                let size = self.chunk_size()?;
                if size == 0 {
                    return Ok(Body { bytes, trailers: self.fields()? });
                }
                bytes.extend(self.exact(size)?);
                self.empty_line()?;
            }
        }
        match head.length() {
            Some(length) => bytes = self.exact(length)?,
            None if to_the_end => drop(self.reader.read_to_end(&mut bytes)?),
            None => {}
        }
        Ok(Body { bytes, trailers: Vec::new() })
    }

    /// Whether the other side has closed, after waiting for it; false when it sent more.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.reader.fill_buf() {
            Ok(more) => more.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// Everything until the other side closes or breaks off.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        // What came before a reset counts.
        self.read_out().0
    }

    /// The same, with whether it was a reset.
    pub(crate) fn read_out(&mut self) -> (Vec<u8>, io::Result<()>) {
        let mut rest = Vec::new();
        let ended = self.reader.read_to_end(&mut rest).map(drop);
        (rest, ended)
    }

    pub(crate) fn close_write(&self) {
        // The other side may have gone first.
        let _gone = self.stream().shutdown(Shutdown::Write);
    }
}

/// A client that keeps its connection.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) wire: Wire,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        Self::try_connect(address).unwrap_or_else(|error| panic!("{address}: {error}"))
    }

    pub(crate) fn try_connect(address: SocketAddr) -> io::Result<Self> {
        TcpStream::connect(address).map(|stream| Self { wire: Wire::new(stream) })
    }

    /// A client for which the system keeps little, so that what it does not read waits in the balancer.
    pub(crate) fn narrow(address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        // Loopback's large segments would make the sender's buffer large, too.
        socket.set_tcp_mss(1000).unwrap();
        socket.connect(&address.into()).unwrap();
        Self { wire: Wire::new(socket.into()) }
    }

    /// Sends a whole request as it is written and reads the response.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> io::Result<Response> {
        let request = request.as_ref();
        self.wire.send(request)?;
        self.answer(request.starts_with(b"HEAD "))
    }

    /// The next response; `bodiless` when it answers HEAD.
    pub(crate) fn answer(&mut self, bodiless: bool) -> io::Result<Response> {
        let head = self.wire.head()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let bodiless = bodiless || matches!(head.status(), 100..=199 | 204 | 304);
        let Body { bytes: body, trailers } = if bodiless { Body::default() } else { self.wire.body(&head, true)? };
        Ok(Response { head, body, trailers })
    }

    /// A GET with further header lines, each ended by CRLF.
    pub(crate) fn try_get(&mut self, path: &str, headers: &str) -> io::Result<Response> {
        self.ask(format!("GET {path} HTTP/1.1\r\nHost: test.example\r\n{headers}\r\n"))
    }

    #[track_caller]
    pub(crate) fn get(&mut self, path: &str) -> Response {
        self.try_get(path, "").unwrap_or_else(|error| panic!("GET {path}: {error}"))
    }
}
