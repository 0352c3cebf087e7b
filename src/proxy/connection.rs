//! Serving one client connection, from its first byte to its last.

use std::{
    convert::Infallible,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use http::Request;
use tokio::{io::AsyncWriteExt, net::TcpStream, sync::OwnedSemaphorePermit};

use super::{
    body::ResponseBody,
    client::{Client, Ends, Local, Overdue, Stage},
    linger::linger,
    preface::{Refusal, receive_preface},
    roster::Enrolled,
    stack::stack,
    worker::Frontend,
};
use crate::{
    downstream::{Answer, Broken, Connection, Incoming},
    h1::{Limits, ParseError},
    http_rules::{Fault, Rejection},
    model::{Cause, Phase, Termination},
    net::{Metered, Pulse, Watchdog, now_coarse},
    registry::{Class, Occupied, add},
    telemetry::{Record, Timers},
};

/// How long a client may take to read that answer.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What answers requests.
trait Service:
    tower::Service<Request<Incoming>, Response = Answer<ResponseBody>, Error = Infallible, Future: 'static>
{
}

impl<S> Service for S where
    S: tower::Service<Request<Incoming>, Response = Answer<ResponseBody>, Error = Infallible, Future: 'static>
{
}

/// Why a connection is not driven any longer.
enum End {
    /// In good order, as far as HTTP is concerned.
    Closed,
    /// The client sent something that is no HTTP, or one of them broke off.
    Failed(Broken),
    /// A bug of ours: a panic.
    Bug,
    /// The client was silent too long.
    Overdue(Overdue),
    /// It has been idle for a while.
    Idle,
    /// Its request is cut off.
    Cut,
}

/// Serves one connection until it ends; `permit` is of those that the frontend has, if it is limited.
///
/// What serves requests takes a kilobyte for each connection. So it gets the connection when the client speaks, and has to
/// give it back when the client has been silent for a quarter of a second ([`super::worker`]); the next request gets another.
pub(super) fn serve(
    frontend: &Rc<Frontend>,
    stream: TcpStream,
    ends: Ends,
    enrolled: Enrolled,
    permit: Option<OwnedSemaphorePermit>,
) -> impl Future<Output = ()> + use<> {
    serve_by(stack, frontend, stream, ends, enrolled, permit)
}

/// The same with any service.
fn serve_by<M, S>(
    service: M,
    frontend: &Rc<Frontend>,
    mut stream: TcpStream,
    mut ends: Ends,
    mut enrolled: Enrolled,
    permit: Option<OwnedSemaphorePermit>,
) -> impl Future<Output = ()> + use<M, S>
where
    M: Fn(Rc<Client>) -> S,
    S: Service,
{
    let occupied = Occupied::enter(&frontend.live);
    add(&frontend.live.counters(enrolled.worker().slot).connections, 1);
    let frontend = Rc::clone(frontend);
    async move {
        let mut refusal = None;
        if frontend.proxy_protocol {
            // Boxed, because most connections have no use for its room.
            match Box::pin(receive_preface(&frontend, &mut stream, ends.source, &mut enrolled)).await {
                Ok(Some(told)) => ends = Ends { source: told.source, local: Local::Address(told.destination) },
                Ok(None) => {}
                Err(why) => refusal = Some(why),
            }
        }
        let pulse = Pulse::begin();
        let client = Client::new(enrolled.worker(), &frontend, ends, Rc::clone(&pulse), occupied, permit);
        match refusal {
            None => {}
            Some(Refusal::Silent) => return,
            Some(Refusal::Blamed(cause)) => return note_bad_request(&client, None, 0, cause),
        }
        let mut socket = Metered::new(stream, pulse);
        let mut watchdog = pin!(Watchdog::new());
        while socket.has_unread() || begins(&socket, &client, &mut enrolled, watchdog.as_mut()).await {
            // Boxed, because an idle connection needs nothing of it.
            let Some(idle) = Box::pin(talk(&service, socket, &client, &mut enrolled, watchdog.as_mut())).await else {
                return;
            };
            socket = idle;
        }
    }
}

/// Waits at rest for a request to begin, or for the other side to close; false when it is time to end.
async fn begins(
    socket: &Metered,
    client: &Rc<Client>,
    enrolled: &mut Enrolled,
    mut watchdog: Pin<&mut Watchdog>,
) -> bool {
    client.set_rests(true);
    let begins = poll_fn(|cx: &mut Context<'_>| {
        enrolled.introduce(client, cx.waker());
        // First of all: what has arrived already is a request.
        if socket.get_ref().poll_read_ready(cx).is_ready() {
            return Poll::Ready(true);
        }
        let deadline = client.deadline().map(|(deadline, _)| deadline);
        if client.should_end() || watchdog.as_mut().poll_expired(cx, deadline) {
            return Poll::Ready(false);
        }
        Poll::Pending
    });
    let begins = begins.await;
    client.set_rests(false);
    begins
}

/// Serves requests until the connection ends, or has been idle for a while: then it is given back.
async fn talk<S>(
    service: &impl Fn(Rc<Client>) -> S,
    socket: Metered,
    client: &Rc<Client>,
    enrolled: &mut Enrolled,
    watchdog: Pin<&mut Watchdog>,
) -> Option<Metered>
where
    S: Service,
{
    enrolled.talks(client);
    let limits = Limits { head: client.settings.limits.head };
    let mut connection = Connection::new(socket, service(Rc::clone(client)), limits);
    match drive(&mut connection, client, enrolled, watchdog).await {
        End::Closed => part(connection, client).await,
        End::Failed(Broken::Head(error)) => refuse(connection, client, &error).await,
        End::Failed(Broken::HeadEnds) => note_bad_request(client, Some(400), 0, Cause::Client),
        End::Failed(Broken::Gone | Broken::Response | Broken::Io(_)) => {}
        End::Bug => client.note_bug(),
        End::Overdue(Overdue::Head) => {
            answer(connection, client, Fault::ClientTimeout, Cause::ClientTimeout).await;
        }
        // Dropping the connection drops the request that is in it, which counts and logs itself.
        End::Overdue(Overdue::Reading) => client.note_too_slow(),
        End::Idle | End::Overdue(Overdue::Idle) => return at_rest(connection, client),
        End::Overdue(Overdue::Sending | Overdue::Alarm) | End::Cut => {}
    }
    None
}

/// Polls the connection and its timer until one of them ends it.
async fn drive<S: Service>(
    connection: &mut Connection<S, ResponseBody>,
    client: &Rc<Client>,
    enrolled: &mut Enrolled,
    mut watchdog: Pin<&mut Watchdog>,
) -> End {
    let mut told_to_end = false;
    poll_fn(|cx: &mut Context<'_>| {
        enrolled.introduce(client, cx.waker());
        let mut polled = poll_guarded(|| connection.poll(cx));
        // After the poll: what has arrived already is a request.
        if polled.is_pending() && !told_to_end && client.should_end() {
            told_to_end = true;
            connection.end();
            polled = poll_guarded(|| connection.poll(cx));
        }
        if polled.is_ready() {
            return polled;
        }
        if client.cut.is_cut() {
            return Poll::Ready(End::Cut);
        }
        client.poll_send(cx);
        if client.may_rest() {
            return Poll::Ready(End::Idle);
        }
        loop {
            let Some((deadline, overdue)) = client.deadline() else { return Poll::Pending };
            if !watchdog.as_mut().poll_expired(cx, Some(deadline)) {
                return Poll::Pending;
            }
            match overdue {
                // The request ends with an answer of its own.
                Overdue::Sending => client.expire_upload(),
                Overdue::Alarm => {
                    client.wake_at(None);
                    let polled = poll_guarded(|| connection.poll(cx));
                    if polled.is_ready() {
                        return polled;
                    }
                }
                Overdue::Idle | Overdue::Head | Overdue::Reading => return Poll::Ready(End::Overdue(overdue)),
            }
        }
    })
    .await
}

/// Polls what may panic: a bug of ours ends one connection and no other. The runtime would catch it as well, but drop all
/// that belongs to the connection in the midst of the panic, where another one ends the process.
fn poll_guarded(poll: impl FnOnce() -> Poll<Result<(), Broken>>) -> Poll<End> {
    match catch_unwind(AssertUnwindSafe(poll)) {
        Ok(polled) => polled.map(|result| result.map_or_else(End::Failed, |()| End::Closed)),
        // The panic hook has told of it.
        Err(_panic) => Poll::Ready(End::Bug),
    }
}

/// Takes the socket of an idle connection. `None` when it is not idle.
fn at_rest<S: Service>(connection: Connection<S, ResponseBody>, client: &Client) -> Option<Metered> {
    client.idle_since()?;
    let socket = connection.into_socket()?;
    if socket.has_unread() {
        client.head_had_begun();
    }
    Some(socket)
}

/// Ends a connection, unless it is a tunnel's now. Its client may still send: the rest of a request that has its answer, or
/// further requests, which get none.
async fn part<S: Service>(connection: Connection<S, ResponseBody>, client: &Client) {
    if let Some(socket) = connection.into_socket()
        && (client.stage() == Stage::Closing || socket.has_unread())
    {
        linger(socket).await;
    }
}

/// Answers what is no request.
async fn refuse<S: Service>(connection: Connection<S, ResponseBody>, client: &Client, error: &ParseError) {
    let fault = match error {
        ParseError::TargetTooLong => Fault::Rejected(Rejection::TargetTooLong),
        ParseError::TooLong(_) | ParseError::Syntax(httparse::Error::TooManyHeaders) => {
            Fault::Rejected(Rejection::HeadTooLong)
        }
        ParseError::Syntax(_) | ParseError::Target | ParseError::Length | ParseError::Coding => {
            Fault::Rejected(Rejection::Syntax)
        }
    };
    answer(connection, client, fault, Cause::Proxy).await;
}

/// Says what is wrong with a head, counts and logs it, and ends the connection.
async fn answer<S: Service>(connection: Connection<S, ResponseBody>, client: &Client, fault: Fault, cause: Cause) {
    let (status, body) = (fault.verdict().0, fault.body());
    let text = format!(
        "HTTP/1.1 {} {}\r\ncontent-length: {}\r\ncache-control: no-cache\r\nconnection: close\r\n\
         content-type: text/plain; charset=utf-8\r\n\r\n{body}",
        status.as_str(),
        status.canonical_reason().unwrap_or_default(),
        body.len()
    );
    note_bad_request(client, Some(status.as_u16()), text.len() as u64, cause);
    if let Some(mut socket) = connection.into_socket()
        // A client that does not read its error has lost nothing by it.
        && let Ok(Ok(())) = tokio::time::timeout(LAST_WORDS, socket.write_all(text.as_bytes())).await
    {
        linger(socket).await;
    }
}

/// Counts and logs what is no request; `status` is `None` when nothing is answered.
fn note_bad_request(client: &Client, status: Option<u16>, bytes: u64, cause: Cause) {
    let counters = client.counters();
    add(&counters.request_errors, 1);
    if let Some(status) = status {
        add(&counters.responses[Class::of(status).index()], 1);
    }
    let waited = match client.stage() {
        Stage::Head { since } => since.until(now_coarse()),
        Stage::Idle { .. } | Stage::Busy | Stage::Closing => Duration::ZERO,
    };
    client.worker.log(&Record {
        begun: SystemTime::now() - waited,
        client: client.address,
        frontend: client.frontend.live.name.as_str(),
        backend: client.frontend.live.name.as_str(),
        server: None,
        timers: Timers { total: waited, ..Timers::default() },
        status,
        bytes,
        termination: Termination { cause, phase: Phase::Request, ..Termination::default() },
        connections: (client.worker.registry.connections(), client.frontend.live.connections.now()),
        in_flight: (0, 0),
        queued: (0, 0),
        retries: 0,
        redispatched: false,
        request: None,
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Limits, LogFormat, Timeouts},
        model::{Networks, PoolName},
        proxy::{Settings, Worker, exchange::Exchange},
        registry::{Registry, Slot},
    };
    use http::{Response, StatusCode};
    use std::sync::Arc;
    use tokio::{io::AsyncReadExt, net::TcpListener, sync::watch, time::timeout};

    const PATIENCE: Duration = Duration::from_secs(15);

    /// A worker without servers: the service answers by itself.
    struct Bench {
        worker: Rc<Worker>,
        frontend: Rc<Frontend>,
        listener: TcpListener,
    }

    impl Bench {
        async fn new() -> Self {
            let name = PoolName::parse("in").unwrap();
            let registry = Arc::new(Registry::new(1, &[(name.clone(), None)], std::time::Instant::now()));
            let settings = Arc::new(Settings { timeouts: Timeouts::default(), limits: Limits::default() });
            let (_, settings) = watch::channel(settings);
            let worker = Worker::new(Slot(0), &registry, settings, LogFormat::Off, None);
            let frontend = Rc::new(Frontend {
                live: Arc::clone(&registry.frontends()[0]),
                pool: name,
                proxy_protocol: false,
                trusted_proxies: Networks::default(),
                upgrades: crate::http_rules::Upgrades::default(),
            });
            Self { worker, frontend, listener: TcpListener::bind("127.0.0.1:0").await.unwrap() }
        }

        async fn accept(&self) -> (TcpStream, Ends) {
            let (stream, source) = self.listener.accept().await.unwrap();
            (stream, Ends { source, local: Local::of_listener(self.listener.local_addr().unwrap()) })
        }

        /// A client whose connection is served in a task of its own.
        async fn client(&self) -> TcpStream {
            let client = TcpStream::connect(self.listener.local_addr().unwrap()).await.unwrap();
            let (stream, ends) = self.accept().await;
            tokio::task::spawn_local(serve_by(service, &self.frontend, stream, ends, self.worker.enroll(), None));
            client
        }
    }

    /// Answers 204, and panics when it is asked for `/panic`.
    fn service(_client: Rc<Client>) -> impl Service {
        tower::service_fn(|request: Request<Incoming>| async move {
            tokio::task::yield_now().await;
            assert!(request.uri().path() != "/panic", "asked to");
            let mut response = Response::new(ResponseBody::switching());
            *response.status_mut() = StatusCode::NO_CONTENT;
            Ok(Answer::from(response))
        })
    }

    async fn ask(client: &mut TcpStream, path: &str) -> Vec<u8> {
        client.write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = vec![0; 1000];
        let length = timeout(PATIENCE, client.read(&mut answer)).await.unwrap().unwrap_or(0);
        answer.truncate(length);
        answer
    }

    #[tokio::test(flavor = "local")]
    async fn a_panic_ends_its_connection_and_no_other() {
        let bench = Bench::new().await;
        let (mut sound, mut unlucky) = (bench.client().await, bench.client().await);
        assert!(ask(&mut sound, "/").await.starts_with(b"HTTP/1.1 204 "));
        assert!(ask(&mut unlucky, "/").await.starts_with(b"HTTP/1.1 204 "));
        assert_eq!(bench.worker.connections(), 2);
        assert_eq!(ask(&mut unlucky, "/panic").await, b"");
        assert!(ask(&mut sound, "/").await.starts_with(b"HTTP/1.1 204 "));
        assert_eq!((bench.worker.connections(), bench.frontend.live.connections.now()), (1, 1));
        assert!(ask(&mut bench.client().await, "/").await.starts_with(b"HTTP/1.1 204 "));
    }

    #[tokio::test(flavor = "local")]
    async fn what_dies_by_a_panic_is_told_from_what_the_client_broke_off() {
        let bench = Bench::new().await;
        let end = "127.0.0.1:1".parse().unwrap();
        let (ends, pulse) = (Ends { source: end, local: Local::Address(end) }, Pulse::begin());
        let occupied = Occupied::enter(&bench.frontend.live);
        let client = Client::new(&bench.worker, &bench.frontend, ends, pulse, occupied, None);
        let end = poll_guarded(|| panic!("a bug"));
        assert!(matches!(end, Poll::Ready(End::Bug)));
        let (request, ()) = Request::new(()).into_parts();
        let exchange = || Exchange::begin(&client, &request);
        let mut broken = exchange();
        broken.broken_by_client();
        assert_eq!(broken.termination.cause, Cause::Client);
        client.note_bug();
        let mut broken = exchange();
        broken.broken_by_client();
        assert_eq!(broken.termination.cause, Cause::Internal);
    }

    #[tokio::test(flavor = "local")]
    async fn an_idle_connection_needs_little() {
        let bench = Bench::new().await;
        let _client = TcpStream::connect(bench.listener.local_addr().unwrap()).await.unwrap();
        let (stream, ends) = bench.accept().await;
        let task = serve(&bench.frontend, stream, ends, bench.worker.enroll(), None);
        let size = std::mem::size_of_val(&task);
        assert!(size <= 512, "{size} bytes");
    }
}
