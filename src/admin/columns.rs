//! The one table of what a row has: name, which kinds of rows fill it, and where its value comes from.
//!
//! The order is HAProxy 2.6's and may only grow at its end, because some tools read columns by their position. CSV and
//! metrics are read off this table. Why not a struct with a field for each column: half of the cells are empty for two of
//! the three kinds of rows, and the order of the fields would be a contract that nothing on the page says.

use std::{borrow::Cow, time::Duration};

use super::report::{Backend, Frontend, Part, Row, Server, Traffic, Upstream};

/// What a cell holds.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    /// Nothing.
    Empty,
    Number(u64),
    /// How long ago, in seconds; `None` is never.
    Ago(Option<Duration>),
    /// Shown in whole seconds.
    Seconds(Duration),
    /// Shown in whole milliseconds.
    Millis(Duration),
    Text(Cow<'static, str>),
}

/// One column.
pub(super) struct Column {
    pub(super) name: &'static str,
    fill: Fill,
}

/// Which rows fill a column, and with what.
enum Fill {
    /// None: the column stands for something that this balancer does not have.
    Never,
    /// All, each in its own way.
    Every(fn(&Row<'_>) -> Value),
    /// Those that have it, if it is told to whoever reads it.
    Told(fn(Part<'_>) -> Option<String>),
    /// All alike.
    Traffic(fn(&Traffic) -> Value),
    /// Those that have clients or a pool behind them: all but servers.
    Ends(fn(&Row<'_>) -> Value),
    Frontend(fn(&Frontend) -> Value),
    /// Servers and backends.
    Upstream(fn(&Upstream) -> Value),
    Server(fn(&Server) -> Value),
    Backend(fn(&Backend) -> Value),
}

impl Column {
    /// The row's value in this column.
    pub(super) fn of(&self, row: &Row<'_>) -> Value {
        match (&self.fill, row.part) {
            (Fill::Every(get), _) => get(row),
            (Fill::Told(get), part) if row.proxy.tells_all => get(part).into(),
            (Fill::Traffic(get), _) => get(row.traffic()),
            (Fill::Ends(get), Part::Frontend(_) | Part::Backend(_)) => get(row),
            (Fill::Frontend(get), Part::Frontend(frontend)) => get(frontend),
            (Fill::Upstream(get), Part::Server(server)) => get(&server.upstream),
            (Fill::Upstream(get), Part::Backend(backend)) => get(&backend.upstream),
            (Fill::Server(get), Part::Server(server)) => get(server),
            (Fill::Backend(get), Part::Backend(backend)) => get(backend),
            (Fill::Never | Fill::Told(_), _)
            | (Fill::Ends(_) | Fill::Frontend(_) | Fill::Backend(_), Part::Server(_))
            | (Fill::Upstream(_) | Fill::Server(_) | Fill::Backend(_), Part::Frontend(_))
            | (Fill::Frontend(_) | Fill::Server(_), Part::Backend(_)) => Value::Empty,
        }
    }
}

/// The place of a column in [`COLUMNS`]. Evaluated by the compiler wherever the name is fixed, so that a wrong name does
/// not compile.
pub(super) const fn position(name: &str) -> usize {
    let mut index = 0;
    while index < COLUMNS.len() {
        if is_same(COLUMNS[index].name, name) {
            return index;
        }
        index += 1;
    }
    panic!("there is no column of that name")
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

/// Every column.
pub(super) const COLUMNS: &[Column] = &[
    every("pxname", |row| row.proxy.name.clone().into()),
    every("svname", |row| row.service().to_owned().into()),
    upstream("qcur", |upstream| upstream.queue.now.into()),
    upstream("qmax", |upstream| upstream.queue.most.into()),
    traffic("scur", |traffic| traffic.sessions.into()),
    traffic("smax", |traffic| traffic.sessions_most.into()),
    traffic("slim", |traffic| traffic.sessions_limit.into()),
    traffic("stot", |traffic| traffic.sessions_total.into()),
    traffic("bin", |traffic| traffic.bytes_in.into()),
    traffic("bout", |traffic| traffic.bytes_out.into()),
    ends("dreq", |_| ZERO),
    traffic("dresp", |_| ZERO),
    frontend("ereq", |frontend| frontend.request_errors.into()),
    upstream("econ", |upstream| upstream.connect_errors.into()),
    upstream("eresp", |upstream| upstream.response_errors.into()),
    upstream("wretr", |upstream| upstream.retries.into()),
    upstream("wredis", |upstream| upstream.redispatches.into()),
    every("status", |row| row.status().into()),
    upstream("weight", |upstream| upstream.weight.into()),
    upstream("act", |upstream| upstream.active.into()),
    upstream("bck", |upstream| upstream.backup.into()),
    server("chkfail", |server| server.check.as_ref().map(|check| check.failures).into()),
    upstream("chkdown", |upstream| upstream.downs.into()),
    upstream("lastchg", |upstream| Value::Seconds(upstream.unchanged)),
    upstream("downtime", |upstream| upstream.downtime.map_or(Value::Empty, Value::Seconds)),
    server("qlimit", |server| server.queue_limit.into()),
    every("pid", |_| Value::Number(1)),
    every("iid", |row| row.proxy.number.into()),
    every("sid", |row| match row.part {
        Part::Server(server) => server.number.into(),
        Part::Frontend(_) | Part::Backend(_) => ZERO,
    }),
    server("throttle", |server| server.throttle.into()),
    upstream("lbtot", |upstream| upstream.balanced.into()),
    never("tracked"),
    every("type", |row| match row.part {
        Part::Frontend(_) => Value::Number(0),
        Part::Backend(_) => Value::Number(1),
        Part::Server(_) => Value::Number(2),
    }),
    traffic("rate", |traffic| traffic.rate.into()),
    frontend("rate_lim", |_| ZERO),
    traffic("rate_max", |traffic| traffic.rate_most.into()),
    server("check_status", |server| server.last_check().map(|check| check.status.code()).into()),
    server("check_code", |server| server.last_check().and_then(|check| check.code).map(u64::from).into()),
    server("check_duration", |server| server.last_check().map_or(Value::Empty, |check| Value::Millis(check.duration))),
    traffic("hrsp_1xx", |traffic| traffic.responses[0].into()),
    traffic("hrsp_2xx", |traffic| traffic.responses[1].into()),
    traffic("hrsp_3xx", |traffic| traffic.responses[2].into()),
    traffic("hrsp_4xx", |traffic| traffic.responses[3].into()),
    traffic("hrsp_5xx", |traffic| traffic.responses[4].into()),
    traffic("hrsp_other", |traffic| traffic.responses[5].into()),
    // Empty as long as there is none, as where HAProxy observes nothing.
    server("hanafail", |server| server.running_check().map(|check| check.met).filter(|met| *met > 0).into()),
    frontend("req_rate", |frontend| frontend.request_rate.into()),
    frontend("req_rate_max", |frontend| frontend.request_rate_most.into()),
    traffic("req_tot", |traffic| traffic.requests.into()),
    upstream("cli_abrt", |upstream| upstream.client_aborts.into()),
    upstream("srv_abrt", |upstream| upstream.server_aborts.into()),
    ends("comp_in", |_| ZERO),
    ends("comp_out", |_| ZERO),
    ends("comp_byp", |_| ZERO),
    ends("comp_rsp", |_| ZERO),
    upstream("lastsess", |upstream| Value::Ago(upstream.idle)),
    server("last_chk", |server| {
        let found = || server.last_check().map(|check| check.detail.clone());
        server.ejection.clone().or_else(found).into()
    }),
    never("last_agt"),
    upstream("qtime", |upstream| Value::Millis(upstream.times.average[0])),
    upstream("ctime", |upstream| Value::Millis(upstream.times.average[1])),
    upstream("rtime", |upstream| Value::Millis(upstream.times.average[2])),
    upstream("ttime", |upstream| Value::Millis(upstream.times.average[3])),
    never("agent_status"),
    never("agent_code"),
    never("agent_duration"),
    server("check_desc", |server| server.last_check().map(|check| check.status.description()).into()),
    never("agent_desc"),
    server("check_rise", |server| server.running_check().map(|check| check.rise).into()),
    server("check_fall", |server| server.running_check().map(|check| check.fall).into()),
    server("check_health", |server| server.check_level().into()),
    never("agent_rise"),
    never("agent_fall"),
    never("agent_health"),
    told("addr", |part| match part {
        Part::Server(server) => Some(server.address.to_string()),
        Part::Frontend(_) | Part::Backend(_) => None,
    }),
    told("cookie", |part| match part {
        Part::Server(server) => server.cookie.clone(),
        Part::Backend(backend) => backend.cookie.clone(),
        Part::Frontend(_) => None,
    }),
    every("mode", |_| "http".into()),
    backend("algo", |backend| backend.algorithm.into()),
    frontend("conn_rate", |frontend| frontend.traffic.rate.into()),
    frontend("conn_rate_max", |frontend| frontend.traffic.rate_most.into()),
    frontend("conn_tot", |frontend| frontend.traffic.sessions_total.into()),
    frontend("intercepted", |frontend| frontend.intercepted.into()),
    frontend("dcon", |_| ZERO),
    frontend("dses", |_| ZERO),
    traffic("wrew", |_| ZERO),
    upstream("connect", |upstream| upstream.connects.into()),
    upstream("reuse", |upstream| upstream.reuses.into()),
    ends("cache_lookups", |_| ZERO),
    ends("cache_hits", |_| ZERO),
    server("srv_icur", |server| server.idle_connections.into()),
    never("src_ilim"),
    upstream("qtime_max", |upstream| Value::Millis(upstream.times.longest[0])),
    upstream("ctime_max", |upstream| Value::Millis(upstream.times.longest[1])),
    upstream("rtime_max", |upstream| Value::Millis(upstream.times.longest[2])),
    upstream("ttime_max", |upstream| Value::Millis(upstream.times.longest[3])),
    traffic("eint", |traffic| traffic.internal_errors.into()),
    server("idle_conn_cur", |_| ZERO),
    server("safe_conn_cur", |server| server.idle_connections.into()),
    server("used_conn_cur", |server| server.traffic.sessions.into()),
    server("need_conn_est", |server| server.traffic.sessions.into()),
    upstream("uweight", |upstream| upstream.own_weight.into()),
    backend("agg_server_status", |_| ZERO),
    backend("agg_server_check_status", |_| ZERO),
    backend("agg_check_status", |_| ZERO),
    // Whatever comes behind this mark may come and go.
    every("-", |_| "-".into()),
    every("ssl_sess", |_| ZERO),
    every("ssl_reused_sess", |_| ZERO),
    every("ssl_failed_handshake", |_| ZERO),
    ends("h2_headers_rcvd", |_| ZERO),
    ends("h2_data_rcvd", |_| ZERO),
    ends("h2_settings_rcvd", |_| ZERO),
    ends("h2_rst_stream_rcvd", |_| ZERO),
    ends("h2_goaway_rcvd", |_| ZERO),
    ends("h2_detected_conn_protocol_errors", |_| ZERO),
    ends("h2_detected_strm_protocol_errors", |_| ZERO),
    ends("h2_rst_stream_resp", |_| ZERO),
    ends("h2_goaway_resp", |_| ZERO),
    ends("h2_open_connections", |_| ZERO),
    ends("h2_backend_open_streams", |_| ZERO),
    ends("h2_total_connections", |_| ZERO),
    ends("h2_backend_total_streams", |_| ZERO),
    // All traffic is HTTP/1.
    ends("h1_open_connections", |row| row.traffic().sessions.into()),
    ends("h1_open_streams", |row| row.traffic().sessions.into()),
    ends("h1_total_connections", |row| match row.part {
        Part::Backend(backend) => backend.upstream.connects.into(),
        Part::Frontend(_) | Part::Server(_) => row.traffic().sessions_total.into(),
    }),
    ends("h1_total_streams", |row| row.traffic().requests.into()),
    ends("h1_bytes_in", |row| row.traffic().bytes_in.into()),
    ends("h1_bytes_out", |row| row.traffic().bytes_out.into()),
    ends("h1_spliced_bytes_in", |_| ZERO),
    ends("h1_spliced_bytes_out", |_| ZERO),
];

/// Nothing of that kind happens here, but the column is never empty in HAProxy.
const ZERO: Value = Value::Number(0);

const fn never(name: &'static str) -> Column {
    Column { name, fill: Fill::Never }
}

const fn every(name: &'static str, get: fn(&Row<'_>) -> Value) -> Column {
    Column { name, fill: Fill::Every(get) }
}

const fn told(name: &'static str, get: fn(Part<'_>) -> Option<String>) -> Column {
    Column { name, fill: Fill::Told(get) }
}

const fn traffic(name: &'static str, get: fn(&Traffic) -> Value) -> Column {
    Column { name, fill: Fill::Traffic(get) }
}

const fn ends(name: &'static str, get: fn(&Row<'_>) -> Value) -> Column {
    Column { name, fill: Fill::Ends(get) }
}

const fn frontend(name: &'static str, get: fn(&Frontend) -> Value) -> Column {
    Column { name, fill: Fill::Frontend(get) }
}

const fn upstream(name: &'static str, get: fn(&Upstream) -> Value) -> Column {
    Column { name, fill: Fill::Upstream(get) }
}

const fn server(name: &'static str, get: fn(&Server) -> Value) -> Column {
    Column { name, fill: Fill::Server(get) }
}

const fn backend(name: &'static str, get: fn(&Backend) -> Value) -> Column {
    Column { name, fill: Fill::Backend(get) }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Empty, Into::into)
    }
}
