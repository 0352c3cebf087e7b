//! `lb demo`: a balancer and three webapps in one process, joined by gossip on loopback.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU16,
};

use futures_util::{Stream, StreamExt, future::join_all};
use tokio::{
    net::TcpListener,
    runtime::{Builder, LocalOptions},
    sync::watch,
};

use super::{Addresses, Bound, ConfigFile, LoadError, Order, StartError, run_node, serve, webapp::Webapp};
use crate::{
    agent::{self, AgentSettings, JoinError, NodeSettings, Orphans, RestartPolicy},
    config::{CookieModeChoice, GossipChoice, Host, HostPort, ListenAddress, LogFormat, Overrides},
    model::{NameError, PoolName, ServerName, Weight},
    net::{BindError, bind_udp},
};

/// How many webapps there are.
const WEBAPPS: usize = 3;

/// Where the demo listens, and what it shows.
#[derive(Debug, Clone)]
pub struct DemoSettings {
    /// Traffic.
    pub listen: ListenAddress,
    /// The stats page.
    pub stats: ListenAddress,
    /// The cookie that keeps users on a server, if any does.
    pub cookie: Option<String>,
    /// Whose cookie it is.
    pub cookie_mode: Option<CookieModeChoice>,
    /// The access log.
    pub log_format: LogFormat,
}

/// Why the demo cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The settings make no configuration.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The balancer cannot start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A webapp's agent cannot start.
    #[error(transparent)]
    Node(#[from] JoinError),
    /// A name is not one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The system gave no socket or thread.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// Runs the demo until it is told to stop; `ready` is called with its addresses once everything listens.
///
/// To be called on a tokio `LocalRuntime`.
///
/// # Errors
/// When something cannot start.
pub async fn demo(
    settings: DemoSettings,
    orders: impl Stream<Item = Order> + Unpin,
    ready: impl FnOnce(&Addresses),
) -> Result<(), DemoError> {
    let DemoSettings { listen, stats, cookie, cookie_mode, log_format } = settings;
    let overrides = Overrides {
        listen: vec![listen],
        stats: Some(stats),
        gossip: Some(GossipChoice::At(loopback(0))),
        cookie,
        cookie_mode,
        log_format: Some(log_format),
        ..Overrides::default()
    };
    let file = ConfigFile { path: None, overrides };
    let config = file.load()?;
    let bound = Bound::open(&config).await?;
    let addresses = bound.addresses()?;
    let Some(seed) = addresses.gossip else { return Err(io::Error::from(io::ErrorKind::AddrNotAvailable).into()) };
    let (stop, stopped) = watch::channel(false);
    // The webapps have a thread of their own: a slow one must not slow the balancer's checks.
    let (failed, failure) = tokio::sync::oneshot::channel();
    let webapps = std::thread::Builder::new().name("lb-webapps".into()).spawn(move || {
        if let Err(error) = run_webapps(seed, &stopped) {
            // A demo that has ended does not ask any more.
            let _unasked = failed.send(error);
        }
    })?;
    ready(&addresses);
    let balancer = serve(config, bound, file, orders);
    tokio::select! {
        served = balancer => served?,
        Ok(error) = failure => return Err(error),
    }
    stop.send_replace(true);
    // A panic of that thread has been reported.
    let _reported = webapps.join();
    Ok(())
}

fn loopback(port: u16) -> ListenAddress {
    ListenAddress { host: Some(Host::Ip(Ipv4Addr::LOCALHOST.into())), port }
}

fn run_webapps(seed: SocketAddr, stopped: &watch::Receiver<bool>) -> Result<(), DemoError> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default())?;
    let all = async {
        let each = (1..=WEBAPPS).map(|number| run_webapp(number, seed, stopped.clone()));
        join_all(each).await.into_iter().collect::<Result<(), DemoError>>()
    };
    runtime.block_on(all)
}

/// One webapp with its agent, until it is told to stop.
async fn run_webapp(number: usize, seed: SocketAddr, stopped: watch::Receiver<bool>) -> Result<(), DemoError> {
    let name = format!("s{number}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    let address = listener.local_addr()?;
    let Some(port) = NonZeroU16::new(address.port()) else { return Ok(()) };
    let app = tokio::task::spawn_local(Webapp::new(name.clone(), address).serve(listener));
    let node = NodeSettings {
        name: ServerName::parse(&name)?,
        service: PoolName::parse(crate::config::DEFAULT_POOL)?,
        port,
        weight: Weight::DEFAULT,
        tags: Vec::new(),
        join: vec![HostPort { host: Host::Ip(seed.ip()), port: seed.port() }],
        advertise: None,
        key_source: None,
        cluster: None,
    };
    let settings = AgentSettings {
        port,
        advertised: None,
        ready_path: None,
        drain_timeout: AgentSettings::DEFAULT_DRAIN_TIMEOUT,
        restart: RestartPolicy::Never,
        command: Vec::new(),
        orphans: Orphans::Leave,
    };
    let socket = bind_udp(&loopback(0)).await?;
    // The balancer has stopped by then: nothing is left to drain.
    let stop = futures_util::stream::once(async move {
        let mut stopped = stopped;
        let _told_or_gone = stopped.wait_for(|stopped| *stopped).await;
        agent::Signal::Terminate
    });
    run_node(socket, node, settings, Vec::new(), Box::pin(stop.chain(futures_util::stream::pending()))).await?;
    app.abort();
    Ok(())
}
