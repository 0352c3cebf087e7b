//! What can be said on the command line. The doc comments are the help texts.

use std::{
    num::{NonZeroU16, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::TypedValueParser};
use http::uri::PathAndQuery;

use crate::{
    agent::RestartPolicy,
    config::{
        AddressError, Advertise, CheckChoice, CookieModeChoice, EventHandler, GOSSIP_PORT, GossipChoice, HostPort,
        KeySource, ListenAddress, LogFormat, MAX_LIMIT, Overrides, RuntimeBind, StaticServer, parse_duration,
    },
    model::{Algorithm, ClusterName, PoolName, ServerName, Weight},
};

/// A load balancer whose servers join it by themselves.
#[derive(Debug, Parser)]
#[command(
    name = "lb",
    version,
    propagate_version = false,
    disable_help_subcommand = true,
    after_help = "Options without a command are those of 'serve'. Each option can also be set by an environment variable, \
                  LB_ and its name: LB_LISTEN, LB_JOIN. Messages go to standard error; LB_TRACE=debug tells more.\n\n\
                  Examples:\n  \
                  lb --listen :80 --stats :1936             balance over the webapps that join\n  \
                  lb agent --join ha --port 3000 -- CMD     start a webapp, join the pool, drain before it stops\n  \
                  lb demo                                   a balancer and three webapps to play with"
)]
pub(super) struct Cli {
    #[command(subcommand)]
    pub(super) command: Command,
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the balancer (the default command).
    Serve(Box<ServeArgs>),
    /// Join a webapp to the pool: start it, announce it once it answers, drain it before it stops.
    Agent(Box<AgentArgs>),
    /// Show who is in the cluster, asked of a running balancer.
    Members(MembersArgs),
    /// Check a configuration and tell everything that is wrong with it.
    Check(CheckArgs),
    /// Print a new cluster key.
    Keygen(KeygenArgs),
    /// Run a balancer and three small webapps in this process, on loopback.
    Demo(DemoArgs),
    /// Print the completions of a shell.
    #[command(hide = true)]
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    #[command(hide = true)]
    Man,
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    lb --listen :80 --stats :1936\n  \
    lb --listen :8080 --gossip off --server s1=10.0.0.7:3000,weight=2 --server s2=10.0.0.8:3000\n  \
    lb -c /etc/lb.toml --cookie SERVERID\n\n\
    SIGTERM and SIGINT stop it after what is in flight has ended; SIGHUP reads the configuration again.")]
pub(super) struct ServeArgs {
    /// Configuration (TOML); options win over it.
    #[arg(short, long, value_name = "FILE", env = "LB_CONFIG")]
    config: Option<PathBuf>,
    /// Where traffic comes in: ':80', '0.0.0.0:80', '[::1]:80' or a name with a port; repeatable [default: :80].
    #[arg(long, value_name = "ADDR", env = "LB_LISTEN", value_delimiter = ' ')]
    listen: Vec<ListenAddress>,
    /// Client connections served at once; others wait to be accepted. 0 is no limit [default: 0].
    #[arg(long, value_name = "N", env = "LB_MAXCONN", value_parser = limit())]
    maxconn: Option<u32>,
    /// Stats page, CSV and /metrics [default: off].
    #[arg(long, value_name = "ADDR", env = "LB_STATS")]
    stats: Option<ListenAddress>,
    /// HAProxy's commands ('show stat', 'set server ... state drain'): an address or a socket's path, repeatable
    /// [default: off].
    #[arg(long, value_name = "ADDR|PATH[,level=user|operator|admin]", env = "LB_RUNTIME_API", value_delimiter = ' ')]
    runtime_api: Vec<RuntimeBind>,
    /// Address of the cluster member (UDP), or 'off' [default: :7946].
    #[arg(long, value_name = "ADDR", env = "LB_GOSSIP")]
    gossip: Option<GossipChoice>,
    /// Address (and gossip port) that other members should dial, when it is not what the system says.
    #[arg(long, value_name = "IP[:PORT]", env = "LB_ADVERTISE")]
    advertise: Option<Advertise>,
    /// Another member; repeatable. A balancer alone needs none.
    #[arg(long, value_name = "HOST[:PORT]", env = "LB_JOIN", value_delimiter = ' ', value_parser = seed)]
    join: Vec<HostPort>,
    /// Run a command (sh -c) when something happens to a member: 'member-join,member-leave=/on-change', or '/on-change' for
    /// all; repeatable. It gets what Serf's handlers get.
    #[arg(long, value_name = "[EVENT,..=]CMD", env = "LB_EVENT_HANDLER", value_delimiter = '\n')]
    event_handler: Vec<EventHandler>,
    /// File with the cluster's keys, which seal the gossip (see 'lb keygen'): the first is sent with, all are accepted. SIGHUP
    /// reads it again. LB_CLUSTER_KEY can hold the keys themselves.
    #[arg(long, value_name = "FILE", env = "LB_CLUSTER_KEY_FILE")]
    cluster_key_file: Option<PathBuf>,
    /// Name of the cluster: members with the same key and other names do not meet [default: lb].
    #[arg(long, value_name = "NAME", env = "LB_CLUSTER_NAME")]
    cluster_name: Option<ClusterName>,
    /// Name of this balancer among the members [default: the hostname].
    #[arg(long, value_name = "NAME", env = "LB_NAME")]
    name: Option<ServerName>,
    /// A server known beforehand; repeatable.
    #[arg(
        long,
        value_name = "[NAME=]HOST:PORT[,weight=N][,maxconn=N][,backup]",
        env = "LB_SERVER",
        value_delimiter = ' '
    )]
    server: Vec<StaticServer>,
    /// Requests at once on each server; others wait in a queue. 0 is no limit [default: 0].
    #[arg(long, value_name = "N", env = "LB_SERVER_MAXCONN", value_parser = limit())]
    server_maxconn: Option<u32>,
    /// How a server is chosen: roundrobin, leastconn, random, source, uri, hdr(NAME) or first [default: roundrobin].
    #[arg(long, value_name = "ALGORITHM", env = "LB_BALANCE")]
    balance: Option<Algorithm>,
    /// Keep each user on one server by a cookie of this name.
    #[arg(long, value_name = "NAME", env = "LB_COOKIE")]
    cookie: Option<String>,
    /// Whose cookie it is: 'insert' (the balancer's own) or 'prefix' (the app's, completed) [default: insert].
    #[arg(long, value_name = "MODE", env = "LB_COOKIE_MODE")]
    cookie_mode: Option<CookieModeChoice>,
    /// How servers are checked: a request, 'tcp' or 'off' [default: 'HEAD /'].
    #[arg(long, value_name = "CHECK", env = "LB_CHECK")]
    check: Option<CheckChoice>,
    /// From one check to the next, and the longest one may take [default: 2s].
    #[arg(long, value_name = "TIME", env = "LB_CHECK_INTERVAL", value_parser = positive_duration)]
    check_interval: Option<Duration>,
    /// Checks that must pass in a row to bring a server back up [default: 2].
    #[arg(long, value_name = "N", env = "LB_CHECK_RISE", value_parser = clap::value_parser!(u32).range(1..=1000))]
    check_rise: Option<u32>,
    /// Checks that must fail in a row to take a server down [default: 3].
    #[arg(long, value_name = "N", env = "LB_CHECK_FALL", value_parser = clap::value_parser!(u32).range(1..=1000))]
    check_fall: Option<u32>,
    /// Worker threads [default: one for each processor].
    #[arg(long, value_name = "N", env = "LB_WORKERS", value_parser = workers)]
    workers: Option<NonZeroUsize>,
    /// Access log on standard output: json, haproxy or off [default: json].
    #[arg(long, value_name = "FORMAT", env = "LB_LOG_FORMAT")]
    log_format: Option<LogFormat>,
    /// How long what is in flight may take to end when the balancer stops [default: 8s].
    #[arg(long, value_name = "TIME", env = "LB_GRACE", value_parser = parse_duration)]
    grace: Option<Duration>,
}

impl ServeArgs {
    /// The file and what wins over it.
    pub(super) fn into_parts(self) -> (Option<PathBuf>, Overrides) {
        let Self {
            config,
            listen,
            maxconn,
            stats,
            runtime_api,
            gossip,
            advertise,
            join,
            event_handler,
            cluster_key_file,
            cluster_name,
            name,
            server,
            server_maxconn,
            balance,
            cookie,
            cookie_mode,
            check,
            check_interval,
            check_rise,
            check_fall,
            workers,
            log_format,
            grace,
        } = self;
        let overrides = Overrides {
            listen,
            maxconn,
            stats,
            runtime_api,
            gossip,
            advertise,
            join,
            event_handlers: event_handler,
            key_source: cluster_key_file.map(KeySource::File),
            cluster: cluster_name,
            name,
            servers: server,
            server_maxconn,
            balance,
            cookie,
            cookie_mode,
            check,
            check_interval,
            check_rise,
            check_fall,
            workers,
            log_format,
            grace,
        };
        (config, overrides)
    }
}

#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    lb agent --join ha --port 3000 -- node server.js     as a container's entry point (PID 1)\n  \
    lb agent --join 10.0.0.1 --port 8080                 beside an app that somebody else runs\n\n\
    SIGTERM and SIGINT drain: the balancers stop sending requests, those in flight end, then the app gets SIGTERM. A second one hurries. SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and SIGWINCH are handed to the app. The exit status is the app's, 128 + n after signal n.")]
pub(super) struct AgentArgs {
    /// A member of the cluster, such as a balancer; repeatable.
    #[arg(long, value_name = "HOST[:PORT]", env = "LB_JOIN", value_delimiter = ' ', required = true, value_parser = seed)]
    pub(super) join: Vec<HostPort>,
    /// Port of the app.
    #[arg(long, value_name = "N", env = "LB_PORT")]
    pub(super) port: NonZeroU16,
    /// The pool to join.
    #[arg(long, value_name = "POOL", env = "LB_SERVICE", default_value = "nodes")]
    pub(super) service: PoolName,
    /// Name of the server [default: the hostname].
    #[arg(long, value_name = "NAME", env = "LB_NAME")]
    pub(super) name: Option<ServerName>,
    /// Share of the server, 0 to 256.
    #[arg(long, value_name = "N", env = "LB_WEIGHT", default_value = "1")]
    pub(super) weight: Weight,
    /// Address (and gossip port) that other members should dial, when it is not what the system says.
    #[arg(long, value_name = "IP[:PORT]", env = "LB_ADVERTISE")]
    pub(super) advertise: Option<Advertise>,
    /// Address of the cluster member (UDP).
    #[arg(long, value_name = "ADDR", env = "LB_GOSSIP", default_value_t = ListenAddress::any(GOSSIP_PORT))]
    pub(super) gossip: ListenAddress,
    /// File with the cluster's keys, which seal the gossip (see 'lb keygen'): the first is sent with, all are accepted. It is
    /// looked at every two seconds. LB_CLUSTER_KEY can hold the keys themselves.
    #[arg(long, value_name = "FILE", env = "LB_CLUSTER_KEY_FILE")]
    pub(super) cluster_key_file: Option<PathBuf>,
    /// Name of the cluster: members with the same key and other names do not meet [default: lb].
    #[arg(long, value_name = "NAME", env = "LB_CLUSTER_NAME")]
    pub(super) cluster_name: Option<ClusterName>,
    /// The app is ready when a GET of this path is answered with 2xx or 3xx [default: when it accepts connections].
    #[arg(long, value_name = "PATH", env = "LB_READY_PATH", value_parser = path)]
    pub(super) ready_path: Option<PathAndQuery>,
    /// Longest wait for requests in flight before the app is stopped.
    #[arg(long, value_name = "TIME", env = "LB_DRAIN_TIMEOUT", default_value = "7s", value_parser = parse_duration)]
    pub(super) drain_timeout: Duration,
    /// When to start the app again after it ended by itself: always, on-failure or never.
    #[arg(long, value_name = "POLICY", env = "LB_RESTART", default_value = "never")]
    pub(super) restart: RestartPolicy,
    /// Something that people and scripts should know of this node, without spaces; repeatable.
    #[arg(long, value_name = "K=V", env = "LB_TAG", value_delimiter = ' ', value_parser = tag)]
    pub(super) tag: Vec<(String, String)>,
    /// Run a command (sh -c) when something happens to a member: 'member-join,member-leave=/on-change', or '/on-change' for
    /// all; repeatable. It gets what Serf's handlers get.
    #[arg(long, value_name = "[EVENT,..=]CMD", env = "LB_EVENT_HANDLER", value_delimiter = '\n')]
    pub(super) event_handler: Vec<EventHandler>,
    /// The app and its arguments; without, somebody else runs it.
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<std::ffi::OsString>,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lb members --stats 10.0.0.1:1936 --format json")]
pub(super) struct MembersArgs {
    /// Stats page of the balancer to ask.
    #[arg(long, value_name = "HOST:PORT", env = "LB_STATS", default_value = "127.0.0.1:1936", value_parser = stats_target)]
    pub(super) stats: HostPort,
    /// How to print them: in columns, as 'serf members' does, or as one JSON array.
    #[arg(long, value_name = "FORMAT", env = "LB_FORMAT", default_value = "text")]
    pub(super) format: MembersFormat,
    /// Also tell since when each is what it is (text alone; JSON always does).
    #[arg(long)]
    pub(super) detailed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum MembersFormat {
    Text,
    Json,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  lb check -c /etc/lb.toml && kill -HUP $(pidof lb)")]
pub(super) struct CheckArgs {
    /// The configuration (TOML).
    #[arg(short, long, value_name = "FILE", env = "LB_CONFIG")]
    pub(super) config: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = "Example:\n  (umask 077 && lb keygen > lb.key) && lb --cluster-key-file lb.key")]
pub(super) struct KeygenArgs {}

#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Where traffic comes in.
    #[arg(long, value_name = "ADDR", env = "LB_LISTEN", default_value = "127.0.0.1:8080")]
    pub(super) listen: ListenAddress,
    /// Stats page.
    #[arg(long, value_name = "ADDR", env = "LB_STATS", default_value = "127.0.0.1:1936")]
    pub(super) stats: ListenAddress,
    /// Keep each user on one server by a cookie of this name.
    #[arg(long, value_name = "NAME", env = "LB_COOKIE")]
    pub(super) cookie: Option<String>,
    /// Whose cookie it is: 'insert' (the balancer's own) or 'prefix' (the app's, NODESESSID) [default: insert].
    #[arg(long, value_name = "MODE", env = "LB_COOKIE_MODE")]
    pub(super) cookie_mode: Option<CookieModeChoice>,
    /// Access log on standard output: json, haproxy or off.
    #[arg(long, value_name = "FORMAT", env = "LB_LOG_FORMAT", default_value = "off")]
    pub(super) log_format: LogFormat,
}

fn seed(text: &str) -> Result<HostPort, AddressError> {
    HostPort::parse_or(text, GOSSIP_PORT)
}

/// A stats page to ask; `:1936`, as a balancer listens there, is the one on this machine.
fn stats_target(text: &str) -> Result<HostPort, AddressError> {
    if let Some(port) = text.strip_prefix(':') { format!("127.0.0.1:{port}").parse() } else { text.parse() }
}

/// A limit on connections or requests.
fn limit() -> impl TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(0..=i64::from(MAX_LIMIT))
}

fn workers(text: &str) -> Result<NonZeroUsize, String> {
    let number = text.parse().ok().filter(|number: &NonZeroUsize| number.get() <= 1024);
    number.ok_or_else(|| "a number from 1 to 1024 is expected".to_owned())
}

fn positive_duration(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    if time < Duration::from_millis(1) {
        Err(format!("{text:?} is too short: at least '1ms' is expected"))
    } else {
        Ok(time)
    }
}

fn path(text: &str) -> Result<PathAndQuery, String> {
    let path = text.parse().ok().filter(|_| text.starts_with('/'));
    path.ok_or_else(|| format!("{text:?} is no path: something like '/ready' is expected"))
}

fn tag(text: &str) -> Result<(String, String), String> {
    let pair = text.split_once('=').filter(|(key, _)| !key.is_empty());
    let (key, value) = pair.ok_or_else(|| format!("{text:?} is no tag: KEY=VALUE is expected"))?;
    Ok((key.to_owned(), value.to_owned()))
}
