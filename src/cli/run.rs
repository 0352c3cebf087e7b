//! Carries out a command.

use std::{fmt::Display, future::Future, io, process::ExitCode};

use futures_util::{Stream, StreamExt, stream};
use tokio::{
    runtime::{Builder, LocalOptions},
    signal::unix::{SignalKind, signal},
};

use super::{
    BAD_USAGE,
    args::{AgentArgs, Command, DemoArgs, MembersArgs, ServeArgs},
    check::check,
    complain, keys,
    members::render,
    say,
};
use crate::{
    agent::{AgentSettings, NodeSettings, Orphans, RestartPolicy, SystemSignals},
    app::{Addresses, Bound, ConfigFile, DemoSettings, LoadError, Order, demo, query_members, run_node, serve},
    cluster::hostname,
    config::KeySource,
    model::ServerName,
    net::{bind_udp, raise_descriptor_limit},
    telemetry::{init_prefixed_tracing, init_tracing},
};

/// Carries out a command.
pub(super) fn run(command: Command) -> ExitCode {
    let result = match command {
        Command::Serve(args) => block_on(run_balancer(*args)),
        Command::Agent(args) => block_on(run_agent(*args)),
        Command::Members(args) => block_on(show_members(args)),
        Command::Check(args) => Ok(check(args.config)),
        Command::Keygen(_) => {
            keys::generate();
            Ok(ExitCode::SUCCESS)
        }
        Command::Demo(args) => block_on(run_demo(args)),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut super::command(), "lb", &mut io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man => clap_mangen::Man::new(super::command())
            .render(&mut io::stdout())
            .map(|()| ExitCode::SUCCESS)
            .map_err(Failure::start),
    };
    result.unwrap_or_else(|Failure { message, status }| {
        for line in message.lines() {
            complain(&format!("lb: {line}"));
        }
        ExitCode::from(status)
    })
}

/// Why a command came to nothing, and the status to end with.
struct Failure {
    message: String,
    status: u8,
}

impl Failure {
    /// What was asked for is wrong.
    fn usage(error: impl Display) -> Self {
        Self { message: error.to_string(), status: BAD_USAGE }
    }

    /// What was asked for cannot be done here and now.
    fn start(error: impl Display) -> Self {
        Self { message: error.to_string(), status: 1 }
    }
}

fn block_on(command: impl Future<Output = Result<ExitCode, Failure>>) -> Result<ExitCode, Failure> {
    let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
    runtime.map_err(Failure::start)?.block_on(command)
}

async fn run_balancer(args: ServeArgs) -> Result<ExitCode, Failure> {
    init_tracing("info");
    let (path, mut overrides) = args.into_parts();
    overrides.key_source = keys::source(overrides.key_source).map_err(Failure::usage)?;
    let file = ConfigFile { path, overrides };
    let config = file.load().map_err(|error| match error {
        LoadError::Keys(error) => Failure::start(error),
        LoadError::Read { .. } | LoadError::Invalid(_) => Failure::usage(error),
    })?;
    match raise_descriptor_limit() {
        Ok(limit) => tracing::debug!("at most {limit:?} file descriptors"),
        Err(error) => tracing::warn!("the soft limit on file descriptors stays as it is: {error}"),
    }
    let orders = orders().map_err(Failure::start)?;
    let bound = Bound::open(&config).await.map_err(Failure::start)?;
    let Addresses { traffic, stats, runtime_api, gossip } = bound.addresses().map_err(Failure::start)?;
    for address in traffic {
        tracing::info!("listening for traffic on {address}");
    }
    if let Some(stats) = stats {
        tracing::info!("stats page on http://{stats}/");
    }
    for (address, bind) in runtime_api.iter().zip(config.runtime_api.iter().flat_map(|api| &api.bind)) {
        tracing::info!("runtime API on {address} (level {})", bind.level.word());
    }
    match gossip {
        Some(gossip) => match config.gossip.as_ref().and_then(|gossip| gossip.keys.as_ref()) {
            Some(keys) => tracing::info!("gossip on {gossip} (UDP), sealed with key {}", keys.first().id()),
            None => {
                tracing::info!("gossip on {gossip} (UDP)");
                tracing::warn!(
                    "the cluster is not sealed: whoever reaches the gossip port can join the pool (see --cluster-key-file)"
                );
            }
        },
        None => tracing::info!("gossip is off: servers cannot join by themselves"),
    }
    serve(config, bound, file, orders).await.map_err(Failure::start)?;
    Ok(ExitCode::SUCCESS)
}

async fn run_agent(args: AgentArgs) -> Result<ExitCode, Failure> {
    // The application has the same standard error.
    init_prefixed_tracing("info", "lb agent: ");
    let AgentArgs {
        join,
        port,
        service,
        name,
        weight,
        advertise,
        gossip,
        cluster_key_file,
        cluster_name,
        ready_path,
        drain_timeout,
        restart,
        tag,
        event_handler,
        command,
    } = args;
    if command.is_empty() && restart != RestartPolicy::Never {
        return Err(Failure::usage(format!(
            "--restart {restart} has nothing to start: add the app's command behind --, or drop --restart"
        )));
    }
    let name = match name {
        Some(name) => name,
        None => ServerName::parse(&hostname())
            .map_err(|error| Failure::usage(format!("{error}; choose one with --name")))?,
    };
    let key_source = keys::source(cluster_key_file.map(KeySource::File)).map_err(Failure::usage)?;
    if key_source.is_none() && cluster_name.is_some() {
        return Err(Failure::usage(
            "a cluster has a name only with a key: add --cluster-key-file, or drop --cluster-name",
        ));
    }
    let signals = SystemSignals::new().map_err(Failure::start)?;
    let socket = bind_udp(&gossip).await.map_err(Failure::start)?;
    let node =
        NodeSettings { name, service, port, weight, tags: tag, join, advertise, key_source, cluster: cluster_name };
    let settings = AgentSettings {
        port,
        advertised: advertise.map(|advertise| advertise.ip),
        ready_path,
        drain_timeout,
        restart,
        command,
        orphans: Orphans::Reap,
    };
    let status = run_node(socket, node, settings, event_handler, signals).await.map_err(Failure::start)?;
    Ok(ExitCode::from(status))
}

async fn show_members(args: MembersArgs) -> Result<ExitCode, Failure> {
    let MembersArgs { stats, format, detailed } = args;
    let members = query_members(&stats).await.map_err(Failure::start)?;
    say(&render(&members, format, detailed));
    Ok(ExitCode::SUCCESS)
}

async fn run_demo(args: DemoArgs) -> Result<ExitCode, Failure> {
    // Three agents in one log would drown what the balancer says.
    init_tracing("info,lb::agent=warn,lb::cluster=warn");
    let DemoArgs { listen, stats, cookie, cookie_mode, log_format } = args;
    let orders = orders().map_err(Failure::start)?;
    let settings = DemoSettings { listen, stats, cookie, cookie_mode, log_format };
    demo(settings, orders, |addresses| say(&welcome(addresses))).await.map_err(Failure::start)?;
    Ok(ExitCode::SUCCESS)
}

/// What to open and what to try.
fn welcome(addresses: &Addresses) -> String {
    let Addresses { traffic, stats, runtime_api: _, gossip: _ } = addresses;
    let site = traffic.first().map(|address| format!("http://{address}/")).unwrap_or_default();
    let page = stats.map(|address| format!("http://{address}/")).unwrap_or_default();
    let target = stats.map(|address| address.to_string()).unwrap_or_default();
    let rows = [
        (site.clone(), "the site: refresh it, and the three take turns"),
        (page.clone(), "the stats page"),
        (format!("curl {site}"), "each answer names its host"),
        (
            format!("curl -d '{{\"delay\": 2500}}' {site}delay"),
            "slows one server down: its checks fail, the others take over",
        ),
        (format!("curl '{page};csv'"), "HAProxy's CSV"),
        (format!("curl {page}metrics"), "metrics for Prometheus"),
        (format!("lb members --stats {target}"), "who is in the cluster"),
    ];
    let width = rows.iter().map(|(left, _)| left.len()).max().unwrap_or(0);
    let row = |(left, right): &(String, &str)| format!("  {left:width$}   {right}\n");
    let (open, run) = rows.split_at(2);
    format!(
        "A balancer and three webapps run in this process; s1, s2 and s3 join it by gossip.\n\nOpen:\n{}\n\
         Try in another terminal:\n{}\n\
         Start it with --cookie SERVERID to keep each user on one server. Ctrl-C ends it.\n\n",
        open.iter().map(row).collect::<String>(),
        run.iter().map(row).collect::<String>(),
    )
}

/// SIGTERM and SIGINT stop, SIGHUP reloads.
fn orders() -> io::Result<impl Stream<Item = Order> + Unpin> {
    let on = |kind: SignalKind, order: Order| -> io::Result<_> {
        let signal = signal(kind)?;
        Ok(stream::unfold(signal, move |mut signal| async move {
            signal.recv().await;
            Some((order, signal))
        })
        .boxed_local())
    };
    let signals = [
        on(SignalKind::terminate(), Order::Stop)?,
        on(SignalKind::interrupt(), Order::Stop)?,
        on(SignalKind::hangup(), Order::Reload)?,
    ];
    Ok(stream::select_all(signals))
}
