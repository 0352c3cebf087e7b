//! One check of one server.
//!
//! Why not a connection from the pool of a worker: a check asks whether a *new* user would be served, and an old connection
//! may live on while the server accepts no other.

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use tokio::net::{TcpSocket, TcpStream};

use crate::model::{CheckKind, CheckReport, CheckStatus, HttpCheck};

/// Longest response head, in bytes: the same as for traffic.
const LONGEST_HEAD: usize = 16 * 1024;
/// How much of a body is looked through, in bytes.
const LONGEST_BODY: usize = 64 * 1024;
const USER_AGENT: &str = concat!("lb-check/", env!("CARGO_PKG_VERSION"));

/// How long a check may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until the connection is accepted.
    pub connect: Duration,
    /// All of it, with the connection.
    pub whole: Duration,
}

/// Checks the server at `address` once. Never fails and never takes longer than its limits: what went wrong is the report.
///
/// The body of a response is read only if something is expected in it.
pub async fn check(address: SocketAddr, kind: &CheckKind, http: &HttpCheck, limits: Limits) -> CheckReport {
    let started = Instant::now();
    let deadline = tokio::time::Instant::from_std(started) + limits.whole;
    let connecting = tokio::time::timeout(limits.connect.min(limits.whole), connect(address));
    let found = match connecting.await {
        Err(_) => Found::silence(CheckStatus::L4Timeout, "no connection", limits.connect.min(limits.whole)),
        Ok(Err(found)) => found,
        Ok(Ok(stream)) => match kind {
            CheckKind::Tcp => Found { status: CheckStatus::L4Ok, code: None, detail: String::new() },
            CheckKind::Http { method, path } => {
                let exchange = tokio::time::timeout_at(deadline, ask(stream, address, (method, path), http));
                let silence = |_| Found::silence(CheckStatus::L7Timeout, "no response", limits.whole);
                exchange.await.unwrap_or_else(silence)
            }
        },
    };
    let Found { status, code, detail } = found;
    CheckReport { status, code, duration: started.elapsed(), detail }
}

/// A report without its duration.
struct Found {
    status: CheckStatus,
    code: Option<u16>,
    detail: String,
}

impl Found {
    fn problem(status: CheckStatus, detail: impl Into<String>) -> Self {
        Self { status, code: None, detail: detail.into() }
    }

    fn silence(status: CheckStatus, what: &str, limit: Duration) -> Self {
        Self::problem(status, format!("{what} within {}", humantime::format_duration(limit)))
    }
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Found> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    let socket = socket.map_err(|error| Found::problem(CheckStatus::SocketError, words(&error)))?;
    let stream = socket.connect(address).await;
    let stream = stream.map_err(|error| Found::problem(connect_status(&error), words(&error)))?;
    if is_own_echo(&stream) {
        return Err(Found::problem(CheckStatus::L4Connect, "Connection refused"));
    }
    Ok(stream)
}

/// Whether the connection leads to itself: on one machine the system may choose the very port that is being connected to, and
/// with nobody listening there the two ends meet (RFC 9293 section 3.5, simultaneous open). Rare, but a check asks often.
fn is_own_echo(stream: &TcpStream) -> bool {
    matches!((stream.local_addr(), stream.peer_addr()), (Ok(local), Ok(peer)) if local == peer)
}

/// Whether the server or this machine is to blame for a connection that was not made.
fn connect_status(error: &io::Error) -> CheckStatus {
    match Errno::from_io_error(error) {
        Some(Errno::TIMEDOUT) => CheckStatus::L4Timeout,
        // No free port or no memory on this side.
        Some(Errno::ADDRNOTAVAIL | Errno::AGAIN | Errno::NOBUFS | Errno::NOMEM | Errno::MFILE | Errno::NFILE) => {
            CheckStatus::SocketError
        }
        _ => CheckStatus::L4Connect,
    }
}

/// The system's sentence without its number: "Connection refused".
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

async fn ask(
    stream: TcpStream,
    address: SocketAddr,
    (method, path): (&Method, &PathAndQuery),
    http: &HttpCheck,
) -> Found {
    let HttpCheck { host, headers, .. } = http;
    let request = Request::builder()
        .method(method)
        .uri(Uri::from(path.clone()))
        .header(header::USER_AGENT, USER_AGENT)
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new());
    let host = host.clone().map_or_else(|| HeaderValue::try_from(address.to_string()), Ok);
    let (mut request, host) = match (request, host) {
        (Ok(request), Ok(host)) => (request, host),
        (Err(error), _) => return Found::problem(CheckStatus::SocketError, format!("no such request: {error}")),
        (_, Err(error)) => return Found::problem(CheckStatus::SocketError, format!("no such request: {error}")),
    };
    for (name, value) in headers {
        request.headers_mut().insert(name, value.clone());
    }
    request.headers_mut().insert(header::HOST, host);
    let mut builder = http1::Builder::new();
    builder.max_buf_size(LONGEST_HEAD);
    let (mut sender, connection) = match builder.handshake(TokioIo::new(stream)).await {
        Ok(pair) => pair,
        Err(error) => return no_response(&error),
    };
    let mut answer = pin!(async {
        match sender.send_request(request).await {
            Ok(response) => judge(response, http).await,
            Err(error) => no_response(&error),
        }
    });
    tokio::select! {
        biased;
        found = &mut answer => found,
        // The connection hands what it knows to the request before it ends.
        _ = connection => answer.await,
    }
}

async fn judge(response: Response<Incoming>, http: &HttpCheck) -> Found {
    let HttpCheck { host: _, headers: _, expect_status, expect_body, disable_on_404 } = http;
    let number = response.status().as_u16();
    let found = |status, detail: String| Found { status, code: Some(number), detail };
    if *disable_on_404 && number == 404 {
        return found(
            CheckStatus::L7Conditional,
            "the server answered with status 404: it takes no new users".to_owned(),
        );
    }
    if !expect_status.contains(number) {
        return found(CheckStatus::L7Status, format!("the server answered with status {number}"));
    }
    let Some(wanted) = expect_body else { return found(CheckStatus::L7Ok, String::new()) };
    match contains(response.into_body(), wanted).await {
        Ok(true) => found(CheckStatus::L7Ok, String::new()),
        Ok(false) => found(CheckStatus::L7Response, format!("the body has no {:?}", String::from_utf8_lossy(wanted))),
        Err(_) => found(CheckStatus::L7Response, "the connection closed in the middle of the body".to_owned()),
    }
}

/// Whether the beginning of the body contains `wanted`. What follows is not read.
async fn contains(mut body: Incoming, wanted: &[u8]) -> Result<bool, hyper::Error> {
    let mut seen = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else { continue };
        // It may have begun in the piece before.
        let from = (seen.len() + 1).saturating_sub(wanted.len());
        let room = LONGEST_BODY - seen.len();
        seen.extend_from_slice(&data[..data.len().min(room)]);
        if seen[from..].windows(wanted.len()).any(|part| part == wanted) {
            return Ok(true);
        }
        if seen.len() == LONGEST_BODY {
            break;
        }
    }
    Ok(false)
}

fn no_response(error: &hyper::Error) -> Found {
    let detail = if error.is_parse_too_large() {
        format!("the head of the response is longer than {LONGEST_HEAD} bytes")
    } else if error.is_parse() {
        String::from("the answer is not HTTP/1")
    } else {
        String::from("the connection closed before a response")
    };
    Found::problem(CheckStatus::L7Response, detail)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    const GENEROUS: Limits = Limits { connect: Duration::from_secs(5), whole: Duration::from_secs(5) };
    const SHORT: Limits = Limits { connect: Duration::from_millis(50), whole: Duration::from_millis(100) };

    fn head() -> CheckKind {
        "HEAD /health?deep=1".parse().unwrap()
    }

    /// Checks a server that reads a request and answers with `bytes`; the report and the request that it got.
    async fn answered_with(bytes: &[u8]) -> (CheckReport, String) {
        asked(&head(), &HttpCheck::default(), &[bytes]).await
    }

    /// The same for another check, and an answer that comes in pieces.
    async fn asked(kind: &CheckKind, http: &HttpCheck, pieces: &[&[u8]]) -> (CheckReport, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 4096];
            let length = stream.read(&mut request).await.unwrap();
            // A client that has heard enough may be gone already.
            for piece in pieces {
                let _ = stream.write_all(piece).await;
                tokio::task::yield_now().await;
            }
            String::from_utf8_lossy(&request[..length]).replace(&address.to_string(), "<address>")
        };
        tokio::join!(check(address, kind, http, GENEROUS), server)
    }

    async fn report_of(bytes: &[u8]) -> (CheckStatus, Option<u16>, String) {
        let (CheckReport { status, code, duration: _, detail }, _) = answered_with(bytes).await;
        (status, code, detail)
    }

    #[tokio::test]
    async fn the_request_says_who_asks_whom() {
        let (_, request) = answered_with(b"HTTP/1.1 200 OK\r\n\r\n").await;
        let mut lines: Vec<_> = request.trim_end().lines().map(str::to_ascii_lowercase).collect();
        lines[1..].sort();
        let agent = format!("user-agent: {USER_AGENT}");
        assert_eq!(lines, ["head /health?deep=1 http/1.1", "connection: close", "host: <address>", &agent]);
    }

    #[tokio::test]
    async fn statuses_2xx_and_3xx_pass() {
        for code in [200, 204, 301, 399] {
            let found = report_of(format!("HTTP/1.1 {code} Fine\r\n\r\n").as_bytes()).await;
            assert_eq!(found, (CheckStatus::L7Ok, Some(code), String::new()));
        }
    }

    #[tokio::test]
    async fn any_other_status_fails_and_is_named() {
        for code in [400, 404, 500, 503, 799] {
            let (status, found, detail) = report_of(format!("HTTP/1.1 {code} No\r\n\r\n").as_bytes()).await;
            assert_eq!((status, found), (CheckStatus::L7Status, Some(code)));
            assert!(detail.ends_with(&code.to_string()), "{detail}");
        }
    }

    #[tokio::test]
    async fn a_check_says_what_it_was_told_to_say() {
        let http = HttpCheck {
            host: Some(HeaderValue::from_static("app.example")),
            headers: vec![
                (header::USER_AGENT, HeaderValue::from_static("probe")),
                (header::ACCEPT, HeaderValue::from_static("*/*")),
            ],
            ..HttpCheck::default()
        };
        let (_, request) = asked(&head(), &http, &[b"HTTP/1.1 200 OK\r\n\r\n"]).await;
        let mut lines: Vec<_> = request.trim_end().lines().map(str::to_ascii_lowercase).collect();
        lines[1..].sort();
        assert_eq!(lines[1..], ["accept: */*", "connection: close", "host: app.example", "user-agent: probe"]);
    }

    #[tokio::test]
    async fn the_operator_says_which_statuses_pass() {
        let http = HttpCheck { expect_status: "204,401".parse().unwrap(), ..HttpCheck::default() };
        for (code, status) in [(204, CheckStatus::L7Ok), (401, CheckStatus::L7Ok), (200, CheckStatus::L7Status)] {
            let (report, _) = asked(&head(), &http, &[format!("HTTP/1.1 {code} Fine\r\n\r\n").as_bytes()]).await;
            assert_eq!((report.status, report.code), (status, Some(code)));
        }
    }

    #[tokio::test]
    async fn a_404_passes_on_condition_where_it_means_stopping() {
        let http = HttpCheck { disable_on_404: true, ..HttpCheck::default() };
        let (report, _) = asked(&head(), &http, &[b"HTTP/1.1 404 Not Found\r\n\r\n"]).await;
        assert_eq!((report.status, report.code), (CheckStatus::L7Conditional, Some(404)));
    }

    #[tokio::test]
    async fn a_body_is_searched_across_its_pieces_and_no_further_than_64_kib() {
        let get: CheckKind = "GET /".parse().unwrap();
        let http = HttpCheck { expect_body: Some(Arc::from(&b"all is well"[..])), ..HttpCheck::default() };
        const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n";
        let filler = vec![b'x'; LONGEST_BODY - 11];
        let found = |pieces: Vec<&'static [u8]>| {
            let (get, http) = (get.clone(), http.clone());
            async move {
                let (report, _) = asked(&get, &http, &pieces).await;
                assert_eq!(report.code, Some(200));
                (report.status, report.detail)
            }
        };
        let passed = (CheckStatus::L7Ok, String::new());
        let failed = (CheckStatus::L7Response, "the body has no \"all is well\"".to_owned());
        assert_eq!(found(vec![HEAD, b"we say: all is well."]).await, passed);
        assert_eq!(found(vec![HEAD, b"all is", b" well"]).await, passed);
        assert_eq!(found(vec![HEAD, b"all is we"]).await, failed);
        let filler: &'static [u8] = Box::leak(filler.into_boxed_slice());
        assert_eq!(found(vec![HEAD, filler, b"all is well"]).await, passed);
        assert_eq!(found(vec![HEAD, b"x", filler, b"all is well"]).await, failed);
    }

    #[tokio::test]
    async fn a_body_that_never_ends_times_out_at_layer_7() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf").await.unwrap();
            // Held until the check has given up.
            let _ = stream.read_to_end(&mut Vec::new()).await;
        };
        let http = HttpCheck { expect_body: Some(Arc::from(&b"whole"[..])), ..HttpCheck::default() };
        let get: CheckKind = "GET /".parse().unwrap();
        let (report, ()) = tokio::join!(check(address, &get, &http, SHORT), server);
        assert_eq!(report.status, CheckStatus::L7Timeout);
    }

    #[tokio::test]
    async fn what_is_not_http_is_an_invalid_response() {
        for garbage in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"\0\0\0\0\0\0\0\0\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"] {
            let (status, code, detail) = report_of(garbage).await;
            assert_eq!((status, code, detail.as_str()), (CheckStatus::L7Response, None, "the answer is not HTTP/1"));
        }
    }

    #[tokio::test]
    async fn a_connection_that_closes_too_early_is_an_invalid_response() {
        for part in [&b""[..], b"HTTP/1.1 200 OK\r\nServer:"] {
            let (status, _, detail) = report_of(part).await;
            assert_eq!(status, CheckStatus::L7Response);
            assert_eq!(detail, "the connection closed before a response");
        }
    }

    #[tokio::test]
    async fn an_endless_head_is_cut_off() {
        let head = [b"HTTP/1.1 200 OK\r\nX-Long: ".to_vec(), vec![b'a'; 4 * LONGEST_HEAD]].concat();
        let (status, _, detail) = report_of(&head).await;
        assert_eq!(status, CheckStatus::L7Response);
        assert!(detail.contains("longer than"), "{detail}");
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_times_out_at_layer_7() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let report = check(listener.local_addr().unwrap(), &head(), &HttpCheck::default(), SHORT).await;
        assert_eq!((report.status, report.code), (CheckStatus::L7Timeout, None));
        assert_eq!(report.detail, "no response within 100ms");
        assert!(report.duration >= SHORT.whole, "{:?}", report.duration);
    }

    #[tokio::test]
    async fn an_accepted_connection_is_enough_for_a_tcp_check() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let report = check(listener.local_addr().unwrap(), &CheckKind::Tcp, &HttpCheck::default(), GENEROUS).await;
        assert_eq!((report.status, report.detail.as_str()), (CheckStatus::L4Ok, ""));
    }

    #[tokio::test]
    async fn a_refused_connection_is_a_layer_4_problem() {
        // Bound and not listening: the port is taken, and nobody answers there.
        let taken = TcpSocket::new_v4().unwrap();
        taken.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        for kind in [CheckKind::Tcp, head()] {
            let report = check(taken.local_addr().unwrap(), &kind, &HttpCheck::default(), GENEROUS).await;
            assert_eq!((report.status, report.detail.as_str()), (CheckStatus::L4Connect, "Connection refused"));
        }
    }

    #[tokio::test]
    async fn a_server_whose_backlog_is_full_times_out_at_layer_4() {
        let full = TcpSocket::new_v4().unwrap();
        full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = full.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let mut waiting = Vec::new();
        while let Ok(stream) = tokio::time::timeout(Duration::from_millis(50), TcpStream::connect(address)).await {
            waiting.push(stream.unwrap());
        }
        let report = check(address, &CheckKind::Tcp, &HttpCheck::default(), SHORT).await;
        assert_eq!((report.status, report.detail.as_str()), (CheckStatus::L4Timeout, "no connection within 50ms"));
    }

    #[tokio::test]
    async fn a_connection_to_itself_is_told_from_a_server() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        assert!(!is_own_echo(&TcpStream::connect(listener.local_addr().unwrap()).await.unwrap()));
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let itself = socket.local_addr().unwrap();
        assert!(is_own_echo(&socket.connect(itself).await.unwrap()));
    }

    #[test]
    fn a_problem_of_this_machine_is_not_blamed_on_the_server() {
        let status = |errno: Errno| connect_status(&io::Error::from(errno));
        assert_eq!(status(Errno::MFILE), CheckStatus::SocketError);
        assert_eq!(status(Errno::ADDRNOTAVAIL), CheckStatus::SocketError);
        assert_eq!(status(Errno::HOSTUNREACH), CheckStatus::L4Connect);
        assert_eq!(status(Errno::TIMEDOUT), CheckStatus::L4Timeout);
    }
}
