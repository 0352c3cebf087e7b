//! The table of a proxy: 31 columns, a name and eight groups, in HAProxy's order.

use maud::{Markup, html};

use crate::{
    admin::{
        format::{grouped, human},
        report::{Backend, Check, Frontend, Proxy, Server, Traffic, Upstream},
    },
    model::{AdminState, CheckReport, Health, ServerState},
    registry::Class,
};

/// A group of columns, and for each its heading and what it means.
type Group = (&'static str, &'static [(&'static str, &'static str)]);

/// The groups behind the name.
const GROUPS: [Group; 8] = [
    ("Queue", &[("Cur", "Requests that wait now"), ("Max", "Most that ever waited"), ("Limit", "How many may wait")]),
    (
        "Session rate",
        &[
            ("Cur", "New sessions in the last second"),
            ("Max", "Most in any second"),
            ("Limit", "How many are let in each second"),
        ],
    ),
    (
        "Sessions",
        &[
            ("Cur", "Connections of a frontend, requests in flight elsewhere"),
            ("Max", "Most at once"),
            ("Limit", "How many may be open at once"),
            ("Total", "Since the start"),
            ("LbTot", "Requests sent here by the algorithm and not by a cookie"),
            ("Last", "Since the last request"),
        ],
    ),
    ("Bytes", &[("In", "Bytes of requests"), ("Out", "Bytes of responses")]),
    ("Denied", &[("Req", "Requests refused by a rule"), ("Resp", "Responses withheld by a rule")]),
    (
        "Errors",
        &[
            ("Req", "Requests refused for their form"),
            ("Conn", "Requests for which no connection could be made"),
            ("Resp", "Responses that were not valid or did not come"),
        ],
    ),
    ("Warnings", &[("Retr", "Tried once more on the same server"), ("Redis", "Given to another server")]),
    (
        "Server",
        &[
            ("Status", "For how long it has been in which state"),
            ("LastChk", "What the last check found, and how long it took"),
            ("Wght", "Share of the load: in use / configured"),
            ("Act", "Active servers"),
            ("Bck", "Backup servers"),
            ("Chk", "Checks that failed while it was up"),
            ("Dwn", "How often it went down"),
            ("Dwntme", "How long it was down in all"),
            ("Thrtle", "Percentage of its weight during a slow start"),
        ],
    ),
];

/// `forms` is where the forms lead that put servers into another state, when there are any.
pub(super) fn proxy(proxy: &Proxy, forms: Option<&str>) -> Markup {
    let Proxy { name, number, tells_all: _, frontend, servers, backend } = proxy;
    // A table without servers needs no column for what can be done to them.
    let forms = forms.filter(|_| !servers.is_empty()).map(|address| Forms { address, backend: *number });
    html! {
        section.proxy id=(name) {
            h3 { a href={ "#" (name) } { (name) } }
            div.scroll {
                table.stats {
                    (head(forms.is_some()))
                    tbody {
                        @if let Some(frontend) = frontend { (self::frontend(frontend, name, forms.is_some())) }
                        @for server in servers { (self::server(server, name, forms.as_ref())) }
                        @if let Some(backend) = backend { (self::backend(backend, name, forms.is_some())) }
                    }
                }
            }
        }
    }
}

/// Where the forms of a table lead.
struct Forms<'a> {
    address: &'a str,
    backend: u32,
}

/// A cell with a button for each state; the one that its operator wants is pressed. A form of its own for each server, so
/// that a page which loads itself anew takes no tick marks away.
fn actions(server: &Server, Forms { address, backend }: &Forms<'_>) -> Markup {
    let states = [("ready", AdminState::Ready), ("drain", AdminState::Drain), ("maint", AdminState::Maint)];
    html! {
        td.actions {
            form method="post" action=(address) {
                input type="hidden" name="b" value={ "#" (backend) };
                input type="hidden" name="s" value=(server.name);
                @for (word, state) in states {
                    button.(word) name="action" value=(word) disabled[server.operator == state]
                        aria-pressed=(server.operator == state) aria-label={ (word) " " (server.name) } { (word) }
                }
            }
        }
    }
}

fn head(has_actions: bool) -> Markup {
    html! {
        thead {
            tr {
                th rowspan="2" {}
                @if has_actions { th rowspan="2" title="What the operator wants" { "Set" } }
                @for (group, columns) in GROUPS { th scope="colgroup" colspan=(columns.len()) { (group) } }
            }
            tr { @for (_, columns) in GROUPS { @for (name, meaning) in columns { th scope="col" title=(meaning) { (name) } } } }
        }
    }
}

fn frontend(frontend: &Frontend, proxy: &str, has_actions: bool) -> Markup {
    let Frontend { traffic, request_rate, request_rate_most, request_errors, intercepted } = frontend;
    let rates = [("Current connection rate", grouped(traffic.rate)), ("Current request rate", grouped(*request_rate))];
    let most_rates = [
        ("Highest connection rate", grouped(traffic.rate_most)),
        ("Highest request rate", grouped(*request_rate_most)),
    ];
    let mut totals =
        vec![("Connections", grouped(traffic.sessions_total)), ("HTTP requests", grouped(traffic.requests))];
    totals.extend(responses(traffic));
    totals.push(("Answered here", grouped(*intercepted)));
    totals.push(("Internal errors", grouped(traffic.internal_errors)));
    html! {
        tr.end {
            (name_cell("Frontend", proxy))
            @if has_actions { td {} }
            td colspan="3" {}
            td { (tip(grouped(traffic.rate), &rates)) }
            td { (tip(grouped(traffic.rate_most), &most_rates)) }
            td { "-" }
            (sessions(traffic))
            td { (tip(grouped(traffic.sessions_total), &totals)) }
            td {} td {}
            (bytes(traffic))
            td { "0" } td { "0" }
            td { (grouped(*request_errors)) } td {} td {}
            td {} td {}
            td.status { "OPEN" }
            td colspan="8" {}
        }
    }
}

fn server(server: &Server, proxy: &str, forms: Option<&Forms<'_>>) -> Markup {
    let Server { name, traffic, upstream, is_backup, idle_connections, queue_limit, throttle, check, .. } = server;
    let connections = [
        ("Requests in flight", grouped(traffic.sessions)),
        ("Tunnels of these", grouped(traffic.tunnels)),
        ("Idle connections", grouped(*idle_connections)),
    ];
    html! {
        tr.(class(server)) {
            (name_cell(name, proxy))
            @if let Some(forms) = forms { (actions(server, forms)) }
            (queue(upstream)) td { (limit(*queue_limit)) }
            td { (grouped(traffic.rate)) } td { (grouped(traffic.rate_most)) } td {}
            td { (tip(grouped(traffic.sessions), &connections)) }
            td { (grouped(traffic.sessions_most)) }
            td { (limit(traffic.sessions_limit)) }
            (history(traffic, upstream))
            (bytes(traffic))
            td {} td { "0" }
            (errors(upstream))
            td.status {
                (server_status(server))
            }
            td.check { @if let Some(last) = server.last_check() { (last_check(last)) } }
            td { (upstream.weight) "/" (upstream.own_weight) }
            td { (if *is_backup { "-" } else { "Y" }) }
            td { (if *is_backup { "Y" } else { "-" }) }
            td { @if let Some(Check { failures, met, .. }) = check { (failed_checks(*failures, *met)) } }
            (downs(upstream))
            td { @match throttle { Some(percent) => { (percent) " %" } None => { "-" } } }
        }
    }
}

fn backend(backend: &Backend, proxy: &str, has_actions: bool) -> Markup {
    let Backend { traffic, upstream, is_up, panics, algorithm, cookie: _, counts: _ } = backend;
    let balancing = algorithm.map(|word| format!("balancing: {word}"));
    html! {
        tr.end {
            (titled_cell("Backend", proxy, balancing))
            @if has_actions { td {} }
            (queue(upstream)) td {}
            td { (grouped(traffic.rate)) } td { (grouped(traffic.rate_most)) } td {}
            (sessions(traffic))
            (history(traffic, upstream))
            (bytes(traffic))
            td { "0" } td { "0" }
            (errors(upstream))
            td.status.alarm[!is_up || *panics] {
                (human(upstream.unchanged)) " " (backend.status())
                @if *panics { " (panic: servers that are down are used, too)" }
            }
            td {}
            td { (upstream.weight) "/" (upstream.own_weight) }
            td { (grouped(upstream.active)) }
            td { (grouped(upstream.backup)) }
            td {}
            (downs(upstream))
            td {}
        }
    }
}

/// The class that gives a server's row its colour; the legend tells what each means.
fn class(server: &Server) -> &'static str {
    let by_role = |active, backup| if server.is_backup { backup } else { active };
    match server.state {
        ServerState::Maint => "maint",
        ServerState::Drain(health) if health.is_up() => "draining",
        ServerState::Drain(health) | ServerState::Running(health) => match health {
            Health::Unchecked => "no-check",
            Health::Up { failed: 0, .. } if server.upstream.weight == 0 => "draining",
            Health::Up { failed: 0, .. } => by_role("active-up", "backup-up"),
            Health::Up { .. } => by_role("active-going-down", "backup-going-down"),
            Health::Stopping { .. } => "draining",
            Health::Initial | Health::Ejected | Health::Down { passed: 0, .. } => "down",
            Health::Down { .. } => by_role("active-going-up", "backup-going-up"),
        },
    }
}

/// The state, and who wants it so.
fn server_status(server: &Server) -> Markup {
    let shown = status(server.state, &server.upstream);
    let more = [("Operator", &server.operators_word), ("Ejection", &server.ejection)];
    let more: Vec<_> = more.into_iter().filter_map(|(what, text)| Some((what, html! { (text.as_ref()?) }))).collect();
    if more.is_empty() { shown } else { tip(shown, &more) }
}

/// For how long in which state, with an arrow when the checks are about to turn it.
fn status(state: ServerState, upstream: &Upstream) -> Markup {
    let health = match state {
        ServerState::Maint => None,
        ServerState::Drain(health) | ServerState::Running(health) => Some(health),
    };
    let arrow = match health {
        Some(Health::Up { failed, .. } | Health::Stopping { failed, .. }) if failed > 0 => " ↓",
        Some(Health::Down { passed, .. }) if passed > 0 => " ↑",
        Some(Health::Unchecked | Health::Initial | Health::Ejected) | None => "",
        Some(Health::Up { .. } | Health::Stopping { .. } | Health::Down { .. }) => "",
    };
    html! {
        @if state == ServerState::Running(Health::Unchecked) { i { (state.to_string()) } }
        @else { (human(upstream.unchanged)) " " (state.to_string()) (arrow) }
    }
}

fn last_check(last: &CheckReport) -> Markup {
    let CheckReport { status, code, duration, detail } = last;
    let shown = html! { (status.code()) @if let Some(code) = code { "/" (code) } " in " (duration.as_millis()) "ms" };
    let mut lines = vec![(status.description(), html! {})];
    if !detail.is_empty() {
        lines.push(("Detail", html! { (detail) }));
    }
    tip(shown, &lines)
}

/// Checks that failed, and failures that requests met.
fn failed_checks(failures: u64, met: u64) -> Markup {
    if met == 0 { grouped(failures) } else { tip(grouped(failures), &[("Failures that requests met", grouped(met))]) }
}

fn name_cell(name: &str, proxy: &str) -> Markup {
    titled_cell(name, proxy, None)
}

/// A name that tells more when the mouse is on it.
fn titled_cell(name: &str, proxy: &str, title: Option<String>) -> Markup {
    let anchor = format!("{proxy}/{name}");
    html! { th scope="row" id=(anchor) title=[title] { a href={ "#" (anchor) } { (name) } } }
}

/// Now, most.
fn queue(upstream: &Upstream) -> Markup {
    html! { td { (grouped(upstream.queue.now)) } td { (grouped(upstream.queue.most)) } }
}

/// Now, most, limit.
fn sessions(traffic: &Traffic) -> Markup {
    html! {
        td { (grouped(traffic.sessions)) } td { (grouped(traffic.sessions_most)) } td { (limit(traffic.sessions_limit)) }
    }
}

/// Total, balanced, last.
fn history(traffic: &Traffic, upstream: &Upstream) -> Markup {
    let Upstream { connects, reuses, times, .. } = upstream;
    let mut totals = vec![
        ("Requests", grouped(traffic.requests)),
        ("New connections", grouped(*connects)),
        ("Reused connections", share(*reuses, connects + reuses)),
    ];
    totals.extend(responses(traffic));
    let phases = ["Queue, longest / average", "Connect", "Response", "Total"];
    for (phase, (longest, average)) in phases.into_iter().zip(times.longest.iter().zip(times.average)) {
        totals.push((
            phase,
            html! { (grouped(longest.as_millis() as u64)) " / " (grouped(average.as_millis() as u64)) " ms" },
        ));
    }
    html! {
        td { (tip(grouped(traffic.sessions_total), &totals)) }
        td { (grouped(upstream.balanced)) }
        td { (upstream.idle.map_or_else(|| "?".to_owned(), human)) }
    }
}

fn bytes(traffic: &Traffic) -> Markup {
    html! { td { (grouped(traffic.bytes_in)) } td { (grouped(traffic.bytes_out)) } }
}

/// Errors and warnings; requests are refused only in frontends.
fn errors(upstream: &Upstream) -> Markup {
    let Upstream { connect_errors, response_errors, retries, redispatches, client_aborts, server_aborts, .. } =
        upstream;
    let aborts = [
        ("Transfers broken off by clients", grouped(*client_aborts)),
        ("Transfers broken off by servers", grouped(*server_aborts)),
    ];
    html! {
        td {} td { (grouped(*connect_errors)) } td { (tip(grouped(*response_errors), &aborts)) }
        td { (grouped(*retries)) } td { (grouped(*redispatches)) }
    }
}

fn downs(upstream: &Upstream) -> Markup {
    html! {
        td { @if let Some(downs) = upstream.downs { (grouped(downs)) } }
        td { @if let Some(downtime) = upstream.downtime { (human(downtime)) } }
    }
}

fn limit(limit: Option<u64>) -> Markup {
    limit.map_or_else(|| html! { "-" }, grouped)
}

fn responses(traffic: &Traffic) -> impl Iterator<Item = (&'static str, Markup)> {
    let all = traffic.responses.iter().sum();
    Class::WORDS.into_iter().zip(traffic.responses).map(move |(word, count)| (word, share(count, all)))
}

/// A number and its part of the whole.
fn share(part: u64, whole: u64) -> Markup {
    html! { (grouped(part)) @if part > 0 { " (" (part * 100 / whole.max(1)) " %)" } }
}

/// A value that tells more when the mouse or the keyboard is on it.
fn tip(value: Markup, lines: &[(&str, Markup)]) -> Markup {
    html! {
        div.tip tabindex="0" {
            (value)
            div.more role="tooltip" {
                table { @for (name, value) in lines { tr { th scope="row" { (name) } td { (value) } } } }
            }
        }
    }
}
