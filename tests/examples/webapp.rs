//! A webapp that is a member of the cluster by itself, without `lb agent`:
//!
//!     lb --listen 127.0.0.1:8080 --stats 127.0.0.1:1936 --gossip 127.0.0.1:7946
//!     LB_JOIN=127.0.0.1:7946 LB_GOSSIP=127.0.0.1:7001 LB_NAME=s1 LB_PORT=3001 cargo run --example webapp
//!     curl http://127.0.0.1:8080/
//!     curl -X PUT -d 20 http://127.0.0.1:3001/weight     its share of the pool, from now on
//!
//! SIGTERM and Ctrl-C drain it: requests in flight end, no new ones come, and then it leaves.

#![expect(clippy::print_stderr, reason = "this is where the program speaks to its user")]

use std::{convert::Infallible, env, error::Error, net::Ipv4Addr, num::NonZeroU16, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use lb::agent::{DrainOutcome, Membership};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

/// Docker kills a container ten seconds after it asked it to stop.
const DRAIN_LIMIT: Duration = Duration::from_secs(7);

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn main() -> Result<(), Box<dyn Error>> {
    let name = setting("LB_NAME", "webapp");
    let port: NonZeroU16 = setting("LB_PORT", "3000").parse()?;
    let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port.get())).await?;
    let membership = Membership::builder(setting("LB_JOIN", "127.0.0.1:7946").parse()?, port)
        .name(name.parse()?)
        .gossip(setting("LB_GOSSIP", ":7946").parse()?)
        .tag("app", "example")
        .join()
        .await?;
    let app = Arc::new(App { name, membership });
    let mut asked_to_stop = signal(SignalKind::terminate())?;
    let serving = tokio::spawn(serve(listener, Arc::clone(&app)));
    // Only now, when requests would be answered.
    app.membership.ready().await?;

    tokio::select! {
        _ = asked_to_stop.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    match app.membership.drain(DRAIN_LIMIT).await? {
        DrainOutcome::Drained { waited } => eprintln!("drained in {waited:.1?}"),
        DrainOutcome::TimedOut { unacknowledged, in_flight } => {
            eprintln!("not drained: {in_flight} requests in flight, {unacknowledged} balancers do not answer");
        }
    }
    serving.abort();
    app.membership.leave().await;
    Ok(())
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

struct App {
    name: String,
    membership: Membership,
}

async fn serve(listener: TcpListener, app: Arc<App>) {
    loop {
        // A connection that failed before it was accepted is its client's affair.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let app = Arc::clone(&app);
        let service = service_fn(move |request| {
            let app = Arc::clone(&app);
            async move { Ok::<_, Infallible>(app.answer(request).await) }
        });
        tokio::spawn(async move {
            let _ended = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

impl App {
    async fn answer(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/") => {
                // Its work; requests are in flight whenever it is asked to stop.
                tokio::time::sleep(Duration::from_millis(5)).await;
                answer(StatusCode::OK, &self.name)
            }
            (&Method::PUT, "/weight") => match self.set_weight(request.into_body()).await {
                Ok(()) => answer(StatusCode::OK, "told to the balancers\n"),
                Err(error) => answer(StatusCode::BAD_REQUEST, &format!("{error}\n")),
            },
            (_, _) => answer(StatusCode::NOT_FOUND, "try GET / or PUT /weight\n"),
        }
    }

    async fn set_weight(&self, body: Incoming) -> Result<(), Box<dyn Error + Send + Sync>> {
        let body = Limited::new(body, 16).collect().await?.to_bytes();
        let weight = std::str::from_utf8(&body)?.trim().parse()?;
        Ok(self.membership.set_weight(weight).await?)
    }
}

fn answer(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text.to_owned()));
    *response.status_mut() = status;
    response
}
