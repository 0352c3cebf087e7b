//! The table of families: HAProxy's names, types and labels, with our own explanations.

use std::time::UNIX_EPOCH;

use crate::admin::{
    columns::position,
    report::{Part, Process},
};

/// Type of a family.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Gauge,
    Counter,
}

/// Kinds of rows, as a set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows(u8);

impl Rows {
    pub(super) const FRONTENDS: Self = Self(0b001);
    pub(super) const BACKENDS: Self = Self(0b010);
    pub(super) const SERVERS: Self = Self(0b100);
    const ALL: Self = Self(0b111);
    const ENDS: Self = Self(0b011);
    const UPSTREAM: Self = Self(0b110);

    /// The kind of one row.
    pub(super) fn of(part: Part<'_>) -> Self {
        match part {
            Part::Frontend(_) => Self::FRONTENDS,
            Part::Backend(_) => Self::BACKENDS,
            Part::Server(_) => Self::SERVERS,
        }
    }

    pub(super) fn contains(self, kind: Self) -> bool {
        self.0 & kind.0 == kind.0
    }
}

/// Where the values of a family come from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    /// A column of the CSV, by its place.
    Column(usize),
    /// Tunnels now; HAProxy has no column for them.
    Tunnels,
    /// Responses, one series for each class.
    Codes,
    /// One series for each state, 1 for the present one.
    Status,
    /// The same for what the last check found.
    CheckStatus,
    /// How many servers of a backend are in each state.
    ServersByState,
    /// How many servers of a backend had each result of their last check.
    ServersByCheck,
}

/// One family that is exported for some kinds of rows, under a name of its own for each.
pub(super) struct Family {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) rows: Rows,
    pub(super) source: Source,
    pub(super) help: &'static str,
}

/// One number of the process.
pub(super) struct Figure {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) help: &'static str,
    pub(super) get: fn(&Process) -> f64,
}

/// The families of the process, without `build_info`, which has a label.
#[rustfmt::skip] // One line for each: it is a table.
pub(super) const PROCESS: &[Figure] = &[
    figure("nbthread", Kind::Gauge, "Threads that carry traffic.", |process| process.workers as f64),
    figure("nbproc", Kind::Gauge, "Processes; always 1.", |_| 1.0),
    figure("relative_process_id", Kind::Gauge, "Number of this process among them; always 1.", |_| 1.0),
    figure("uptime_seconds", Kind::Gauge, "Seconds since the start.", |process| process.uptime.as_secs() as f64),
    figure("start_time_seconds", Kind::Gauge, "When it started, in seconds since 1970.", |process| {
        process.started.duration_since(UNIX_EPOCH).map_or(f64::NAN, |since| since.as_secs() as f64)
    }),
    figure("max_fds", Kind::Gauge, "Files and sockets that may be open at once.", |process| known(process.open_files)),
    figure("max_sockets", Kind::Gauge, "Sockets that may be open at once.", |process| known(process.open_files)),
    figure("max_connections", Kind::Gauge, "Client connections that fit when each has one to a server.", |process| known(process.max_connections())),
    figure("hard_max_connections", Kind::Gauge, "The same, as the limit on open files allows.", |process| known(process.max_connections())),
    figure("current_connections", Kind::Gauge, "Client connections now.", |process| process.connections as f64),
    figure("connections_total", Kind::Counter, "Client connections accepted.", |process| process.connections_total as f64),
    figure("requests_total", Kind::Counter, "Requests received.", |process| process.requests_total as f64),
    figure("current_connection_rate", Kind::Gauge, "Client connections accepted in the last second.", |process| process.connection_rate as f64),
    figure("current_session_rate", Kind::Gauge, "Sessions begun in the last second; a session is a client connection.", |process| process.connection_rate as f64),
    figure("limit_connection_rate", Kind::Gauge, "Limit on connections per second; 0 is none.", |_| 0.0),
    figure("limit_session_rate", Kind::Gauge, "Limit on sessions per second; 0 is none.", |_| 0.0),
    figure("bytes_out_total", Kind::Counter, "Bytes sent to clients.", |process| process.bytes_out as f64),
    figure("dropped_logs_total", Kind::Counter, "Lines of the access log that were lost because nobody read them in time.", |process| process.dropped_logs as f64),
];

/// Numbers of the process that HAProxy does not have.
#[rustfmt::skip] // One line for each: it is a table.
pub(super) const OWN: &[Figure] = &[
    figure("panics_total", Kind::Counter, "Bugs of lb that ended a connection or a task; each is in the log with its place.", |process| process.panics as f64),
    figure("descriptor_shortages_total", Kind::Counter, "How often the system refused a file descriptor because of a limit.", |process| process.shortages as f64),
];

/// The families of frontends, backends and servers.
#[rustfmt::skip] // One line for each: it is a table.
pub(super) const FAMILIES: &[Family] = &[
    gauge("current_queue", "qcur", Rows::UPSTREAM, "Requests that wait for a free server."),
    gauge("max_queue", "qmax", Rows::UPSTREAM, "Most requests that ever waited at once."),
    gauge("current_sessions", "scur", Rows::ALL, "Open client connections of a frontend; requests in flight elsewhere."),
    special("current_tunnels", Kind::Gauge, Rows::ALL, Source::Tunnels, "Sessions that are tunnels now: WebSockets and the like."),
    gauge("max_sessions", "smax", Rows::ALL, "Most sessions that were ever open at once."),
    gauge("limit_sessions", "slim", Rows::ALL, "Sessions that may be open at once."),
    counter("sessions_total", "stot", Rows::ALL, "Sessions begun: connections of a frontend, requests elsewhere."),
    counter("bytes_in_total", "bin", Rows::ALL, "Bytes of requests."),
    counter("bytes_out_total", "bout", Rows::ALL, "Bytes of responses."),
    counter("requests_denied_total", "dreq", Rows::ENDS, "Requests refused by a rule."),
    counter("responses_denied_total", "dresp", Rows::ALL, "Responses withheld by a rule."),
    counter("request_errors_total", "ereq", Rows::FRONTENDS, "Requests refused for their form: malformed, too large or too slow."),
    counter("connection_errors_total", "econ", Rows::UPSTREAM, "Requests that failed because no connection could be made."),
    counter("response_errors_total", "eresp", Rows::UPSTREAM, "Responses that were malformed or never came."),
    counter("retry_warnings_total", "wretr", Rows::UPSTREAM, "Connections tried once more on the same server."),
    counter("redispatch_warnings_total", "wredis", Rows::UPSTREAM, "Requests handed to another server."),
    special("status", Kind::Gauge, Rows::ALL, Source::Status, "1 for the present state, 0 for the others."),
    gauge("limit_session_rate", "rate_lim", Rows::FRONTENDS, "Limit on new sessions per second; 0 is none."),
    gauge("max_session_rate", "rate_max", Rows::ALL, "Most new sessions in any second."),
    gauge("weight", "weight", Rows::UPSTREAM, "Share of the load; of a backend the sum over its usable servers."),
    gauge("uweight", "uweight", Rows::UPSTREAM, "The share as it was configured or announced."),
    gauge("active_servers", "act", Rows::BACKENDS, "Servers that get new users, without backups."),
    gauge("backup_servers", "bck", Rows::BACKENDS, "Backups that could get new users."),
    counter("check_failures_total", "chkfail", Rows::SERVERS, "Checks that failed while the server was up."),
    counter("check_up_down_total", "chkdown", Rows::UPSTREAM, "How often it went down."),
    gauge("check_last_change_seconds", "lastchg", Rows::UPSTREAM, "Seconds since its state changed."),
    counter("downtime_seconds_total", "downtime", Rows::UPSTREAM, "Seconds that it was down in all."),
    gauge("queue_limit", "qlimit", Rows::SERVERS, "Requests that may wait for this server."),
    gauge("current_throttle", "throttle", Rows::SERVERS, "Percentage of its weight while it starts slowly."),
    counter("loadbalanced_total", "lbtot", Rows::UPSTREAM, "Requests whose server was chosen by the algorithm and not by a cookie."),
    special("check_status", Kind::Gauge, Rows::SERVERS, Source::CheckStatus, "1 for what the last check found, 0 for the rest."),
    gauge("check_code", "check_code", Rows::SERVERS, "HTTP status that the last check got."),
    gauge("check_duration_seconds", "check_duration", Rows::SERVERS, "How long the last check took, in seconds."),
    special("http_responses_total", Kind::Counter, Rows::ALL, Source::Codes, "HTTP responses by the class of their status."),
    gauge("http_requests_rate_max", "req_rate_max", Rows::FRONTENDS, "Most requests in any second."),
    counter("http_requests_total", "req_tot", Rows::ENDS, "HTTP requests."),
    gauge("connections_rate_max", "conn_rate_max", Rows::FRONTENDS, "Most connections accepted in any second."),
    counter("connections_total", "conn_tot", Rows::FRONTENDS, "Connections accepted."),
    counter("intercepted_requests_total", "intercepted", Rows::FRONTENDS, "Requests answered by the balancer itself, such as for this page."),
    counter("denied_connections_total", "dcon", Rows::FRONTENDS, "Connections refused by a rule."),
    counter("denied_sessions_total", "dses", Rows::FRONTENDS, "Sessions refused by a rule."),
    counter("client_aborts_total", "cli_abrt", Rows::UPSTREAM, "Transfers that the client broke off."),
    counter("server_aborts_total", "srv_abrt", Rows::UPSTREAM, "Transfers that the server broke off."),
    counter("http_comp_bytes_in_total", "comp_in", Rows::ENDS, "Bytes given to compression; there is none."),
    counter("http_comp_bytes_out_total", "comp_out", Rows::ENDS, "Bytes that compression returned; there is none."),
    counter("http_comp_bytes_bypassed_total", "comp_byp", Rows::ENDS, "Bytes that were not compressed for lack of resources."),
    counter("http_comp_responses_total", "comp_rsp", Rows::ENDS, "Responses that were compressed."),
    gauge("last_session_seconds", "lastsess", Rows::UPSTREAM, "Seconds since its last request ended; -1 when there was none."),
    gauge("queue_time_average_seconds", "qtime", Rows::UPSTREAM, "Wait for a free server, averaged over about 1024 requests of each thread."),
    gauge("connect_time_average_seconds", "ctime", Rows::UPSTREAM, "Time to connect, averaged likewise."),
    gauge("response_time_average_seconds", "rtime", Rows::UPSTREAM, "Time from the request to the head of its response, averaged likewise."),
    gauge("total_time_average_seconds", "ttime", Rows::UPSTREAM, "Time from a request's first byte to its response's last, averaged likewise."),
    gauge("max_queue_time_seconds", "qtime_max", Rows::UPSTREAM, "Longest wait for a free server."),
    gauge("max_connect_time_seconds", "ctime_max", Rows::UPSTREAM, "Longest time to connect."),
    gauge("max_response_time_seconds", "rtime_max", Rows::UPSTREAM, "Longest time from a request to the head of its response."),
    gauge("max_total_time_seconds", "ttime_max", Rows::UPSTREAM, "Longest time from a request's first byte to its response's last."),
    counter("failed_header_rewriting_total", "wrew", Rows::ALL, "Headers that could not be rewritten."),
    counter("connection_attempts_total", "connect", Rows::UPSTREAM, "Connections opened to servers."),
    counter("connection_reuses_total", "reuse", Rows::UPSTREAM, "Requests sent on a connection that was already open."),
    counter("http_cache_lookups_total", "cache_lookups", Rows::ENDS, "Requests looked up in a cache; there is none."),
    counter("http_cache_hits_total", "cache_hits", Rows::ENDS, "Requests answered from a cache; there is none."),
    counter("internal_errors_total", "eint", Rows::ALL, "Requests that failed through a bug of the balancer."),
    gauge("idle_connections_current", "srv_icur", Rows::SERVERS, "Open connections that wait for a request."),
    gauge("idle_connections_limit", "src_ilim", Rows::SERVERS, "Open connections that may wait for a request."),
    gauge("unsafe_idle_connections_current", "idle_conn_cur", Rows::SERVERS, "Those of them that have not proved to stay open."),
    gauge("safe_idle_connections_current", "safe_conn_cur", Rows::SERVERS, "Those of them that may be used at once."),
    gauge("used_connections_current", "used_conn_cur", Rows::SERVERS, "Connections with a request in flight."),
    gauge("need_connections_current", "need_conn_est", Rows::SERVERS, "Connections that the present load needs."),
    special("agg_server_status", Kind::Gauge, Rows::BACKENDS, Source::ServersByState, "Servers in each state."),
    special("agg_server_check_status", Kind::Gauge, Rows::BACKENDS, Source::ServersByState, "Servers in each state; an older name of the same."),
    special("agg_check_status", Kind::Gauge, Rows::BACKENDS, Source::ServersByCheck, "Servers by the result of their last check."),
];

const fn figure(name: &'static str, kind: Kind, help: &'static str, get: fn(&Process) -> f64) -> Figure {
    Figure { name, kind, help, get }
}

const fn gauge(name: &'static str, column: &str, rows: Rows, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, rows, source: Source::Column(position(column)), help }
}

const fn counter(name: &'static str, column: &str, rows: Rows, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, rows, source: Source::Column(position(column)), help }
}

const fn special(name: &'static str, kind: Kind, rows: Rows, source: Source, help: &'static str) -> Family {
    Family { name, kind, rows, source, help }
}

/// `NaN` stands for a limit that there is not.
fn known(limit: Option<u64>) -> f64 {
    limit.map_or(f64::NAN, |limit| limit as f64)
}
