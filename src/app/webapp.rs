//! The small webapp of `lb demo`: it answers what the lab's webapp answers.
//!
//! `GET /` counts the views of a session, which lives in this app's memory, so it shows which requests stayed together.
//! `POST /delay` with `{"delay": 250}` makes every later answer wait that many milliseconds.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    rc::Rc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{net::TcpListener, task::JoinSet};

/// The session's cookie.
const COOKIE: &str = "NODESESSID";
/// Longest body of `POST /delay`.
const MAX_BODY: usize = 1024;
/// Longest delay, so that a slip of the finger does not outlast the demo.
const MAX_DELAY: Duration = Duration::from_secs(60);
/// Most sessions that are remembered.
const MAX_SESSIONS: usize = 10_000;

/// One webapp.
pub(super) struct Webapp {
    name: String,
    address: SocketAddr,
    delay: Cell<Duration>,
    sessions: RefCell<HashMap<String, u64>>,
}

impl Webapp {
    pub(super) fn new(name: String, address: SocketAddr) -> Rc<Self> {
        Rc::new(Self { name, address, delay: Cell::default(), sessions: RefCell::default() })
    }

    /// Serves until it is dropped. Needs a tokio `LocalRuntime`.
    pub(super) async fn serve(self: Rc<Self>, listener: TcpListener) {
        let mut connections = JoinSet::new();
        loop {
            // A connection that failed before it was accepted is its client's affair.
            let Ok((stream, _)) = listener.accept().await else { continue };
            let app = Rc::clone(&self);
            let answer = service_fn(move |request| {
                let app = Rc::clone(&app);
                async move { Ok::<_, Infallible>(app.answer(request).await) }
            });
            connections.spawn_local(async move {
                let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
            });
            while connections.try_join_next().is_some() {}
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        if (request.method(), request.uri().path()) == (&Method::POST, "/delay") {
            return self.set_delay(request.into_body()).await;
        }
        tokio::time::sleep(self.delay.get()).await;
        match (request.method(), request.uri().path()) {
            (&Method::GET, "/") => self.hello(&request),
            (&Method::HEAD, "/") => Response::new(Full::default()),
            _ => plain(StatusCode::NOT_FOUND, "try GET / or POST /delay\n"),
        }
    }

    fn hello(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        let known = session_of(request).filter(|id| self.sessions.borrow().contains_key(id));
        let is_new = known.is_none();
        let id = known.unwrap_or_else(|| format!("{:016x}", rand::random::<u64>()));
        let mut sessions = self.sessions.borrow_mut();
        if sessions.len() >= MAX_SESSIONS {
            sessions.clear();
        }
        let views = sessions.entry(id.clone()).or_default();
        *views += 1;
        let body = json!({
            "hello": "world!",
            "ip": self.address.ip().to_string(),
            "host": self.name,
            "sessionViews": *views,
            "id": id,
        });
        let mut builder = Response::builder()
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .header("x-backend-ip", self.address.ip().to_string());
        if is_new {
            builder = builder.header(header::SET_COOKIE, format!("{COOKIE}={id}; Path=/; HttpOnly"));
        }
        builder.body(Full::from(format!("{body}\n"))).unwrap_or_default()
    }

    async fn set_delay(&self, body: Incoming) -> Response<Full<Bytes>> {
        let wrong = || plain(StatusCode::BAD_REQUEST, "a body such as {\"delay\": 250} is expected, in milliseconds\n");
        let Ok(body) = Limited::new(body, MAX_BODY).collect().await else { return wrong() };
        let value: Result<serde_json::Value, _> = serde_json::from_slice(&body.to_bytes());
        let Some(millis) = value.ok().and_then(|value| value.get("delay")?.as_u64()) else { return wrong() };
        let delay = Duration::from_millis(millis).min(MAX_DELAY);
        self.delay.set(delay);
        plain(StatusCode::OK, &format!("{} answers after {delay:?} now\n", self.name))
    }
}

fn session_of<B>(request: &Request<B>) -> Option<String> {
    let value = crate::sticky::find(request.headers(), COOKIE)?;
    String::from_utf8(value.to_vec()).ok()
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let builder = Response::builder().status(status).header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
    builder.body(Full::from(text.to_owned())).unwrap_or_default()
}
