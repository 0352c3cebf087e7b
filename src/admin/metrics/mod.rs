//! The report for Prometheus: HAProxy 2.6's own families, so that its dashboards and alerts keep working.
//!
//! Why not the registry of the `prometheus` crate: its counters would be a second set beside those of the data plane. The
//! crate's data model and encoder are used, its counters are not.

mod families;
mod gathered;

use prometheus::{
    Encoder as _, TextEncoder,
    proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType},
};

use self::families::{FAMILIES, Family, Figure, Kind, OWN, PROCESS, Rows, Source};
use super::{
    columns::{COLUMNS, Value},
    report::{Part, Proxy, Report, Row, Server},
};
use crate::{
    model::{Health, ServerState},
    registry::Class,
};

pub use gathered::{Gathered, GatheredSource, Sample};
pub(super) use prometheus::TEXT_FORMAT;

/// Writes every family, each with all its series.
///
/// # Errors
/// When a family is malformed, which is a bug of ours.
pub(super) fn render(report: &Report, gathered: Vec<Gathered>) -> Result<Vec<u8>, prometheus::Error> {
    let mut families: Vec<_> = process(report).collect();
    for (kind, scope) in [(Rows::FRONTENDS, "frontend"), (Rows::BACKENDS, "backend"), (Rows::SERVERS, "server")] {
        let rows: Vec<_> =
            report.proxies.iter().flat_map(Proxy::rows).filter(|row| Rows::of(row.part).contains(kind)).collect();
        for Family { name, kind: of, rows: filled, source, help } in FAMILIES {
            let series: Vec<_> = rows.iter().flat_map(|row| series(*source, row)).collect();
            // The encoder refuses a family without series.
            if filled.contains(kind) && !series.is_empty() {
                families.push(family(&format!("haproxy_{scope}_{name}"), *of, help, series));
            }
        }
    }
    families.extend(gathered.into_iter().filter_map(gathered::family));
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text)?;
    Ok(text)
}

/// One series before it has the type of its family.
struct Series {
    labels: Vec<LabelPair>,
    value: f64,
}

fn process(report: &Report) -> impl Iterator<Item = MetricFamily> {
    let build = Series { labels: vec![label("version", report.process.version)], value: 1.0 };
    let build = family("haproxy_process_build_info", Kind::Gauge, "The version that runs, as a label.", vec![build]);
    let figures = |prefix: &'static str, figures: &'static [Figure]| {
        figures.iter().map(move |figure| {
            let series = Series { labels: Vec::new(), value: (figure.get)(&report.process) };
            family(&format!("{prefix}_{}", figure.name), figure.kind, figure.help, vec![series])
        })
    };
    std::iter::once(build).chain(figures("haproxy_process", PROCESS)).chain(figures("lb", OWN))
}

/// The series of one row in one family.
fn series(source: Source, row: &Row<'_>) -> Vec<Series> {
    match source {
        Source::Column(column) => vec![Series { labels: labels(row, None), value: number(COLUMNS[column].of(row)) }],
        Source::Tunnels => vec![Series { labels: labels(row, None), value: row.traffic().tunnels as f64 }],
        Source::Codes => {
            let responses = row.traffic().responses.map(|count| count as f64);
            each("code", row, Class::WORDS.into_iter().zip(responses))
        }
        Source::Status => match row.part {
            Part::Frontend(_) => one_of("state", row, &UP_OR_DOWN, "UP"),
            Part::Backend(backend) => one_of("state", row, &UP_OR_DOWN, if backend.is_up { "UP" } else { "DOWN" }),
            Part::Server(server) => one_of("state", row, &STATES, state(server)),
        },
        Source::CheckStatus => match row.part {
            Part::Server(server) if server.check.is_some() => one_of("state", row, &CHECK_STATES, check_state(server)),
            Part::Frontend(_) | Part::Backend(_) | Part::Server(_) => Vec::new(),
        },
        Source::ServersByState => count("state", row, &STATES, state),
        Source::ServersByCheck => count("state", row, &CHECK_STATES, check_state),
    }
}

const UP_OR_DOWN: [&str; 2] = ["DOWN", "UP"];
const STATES: [&str; 5] = ["DOWN", "UP", "MAINT", "DRAIN", "NOLB"];
const CHECK_STATES: [&str; 16] = [
    "HANA", "SOCKERR", "L4OK", "L4TOUT", "L4CON", "L6OK", "L6TOUT", "L6RSP", "L7TOUT", "L7RSP", "L7OK", "L7OKC",
    "L7STS", "PROCERR", "PROCTOUT", "PROCOK",
];

fn state(server: &Server) -> &'static str {
    match server.state {
        ServerState::Maint => "MAINT",
        ServerState::Running(Health::Stopping { .. }) => "NOLB",
        ServerState::Drain(health) if health.is_up() => "DRAIN",
        ServerState::Running(health) if health.is_up() => "UP",
        ServerState::Drain(_) | ServerState::Running(_) => "DOWN",
    }
}

/// Empty before the first check and during maintenance, which is none of the states.
fn check_state(server: &Server) -> &'static str {
    server.last_check().map(|check| check.status.code()).unwrap_or_default()
}

/// A series for each state, 1 for the present one.
fn one_of(name: &str, row: &Row<'_>, states: &[&'static str], present: &str) -> Vec<Series> {
    each(name, row, states.iter().map(|state| (*state, f64::from(u8::from(*state == present)))))
}

/// A series for each state: how many of the pool's servers are in it. None for a proxy that is no pool.
fn count(name: &str, row: &Row<'_>, states: &[&'static str], of: fn(&Server) -> &'static str) -> Vec<Series> {
    let servers = &row.proxy.servers;
    if servers.is_empty() {
        return Vec::new();
    }
    let count = |state| servers.iter().filter(|server| of(server) == state).count() as f64;
    each(name, row, states.iter().map(|state| (*state, count(*state))))
}

fn each(name: &str, row: &Row<'_>, values: impl Iterator<Item = (&'static str, f64)>) -> Vec<Series> {
    values.map(|(word, value)| Series { labels: labels(row, Some(label(name, word))), value }).collect()
}

/// Whose series it is: `proxy` and, for a server, `server`.
fn labels(row: &Row<'_>, more: Option<LabelPair>) -> Vec<LabelPair> {
    let server = match row.part {
        Part::Server(server) => Some(label("server", &server.name)),
        Part::Frontend(_) | Part::Backend(_) => None,
    };
    std::iter::once(label("proxy", &row.proxy.name)).chain(server).chain(more).collect()
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut pair = LabelPair::default();
    pair.set_name(name.to_owned());
    pair.set_value(value.to_owned());
    pair
}

/// Times in seconds; what is not there is not a number, as in HAProxy.
fn number(value: Value) -> f64 {
    match value {
        Value::Number(number) => number as f64,
        Value::Ago(ago) => ago.map_or(-1.0, |ago| ago.as_secs() as f64),
        Value::Seconds(time) => time.as_secs() as f64,
        Value::Millis(time) => time.as_secs_f64(),
        Value::Empty | Value::Text(_) => f64::NAN,
    }
}

fn family(name: &str, kind: Kind, help: &str, series: Vec<Series>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(match kind {
        Kind::Gauge => MetricType::GAUGE,
        Kind::Counter => MetricType::COUNTER,
    });
    let metric = |Series { labels, value }| {
        let mut metric = Metric::from_label(labels);
        match kind {
            Kind::Gauge => {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                metric.set_gauge(gauge);
            }
            Kind::Counter => {
                let mut counter = Counter::default();
                counter.set_value(value);
                metric.set_counter(counter);
            }
        }
        metric
    };
    family.set_metric(series.into_iter().map(metric).collect());
    family
}
