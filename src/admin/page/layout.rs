//! Everything but the tables: what the process is, what the colours mean, what can be shown.

use std::time::Duration;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{Around, table};
use crate::admin::{
    MemberRow, MemberStatus,
    actions::Outcome,
    format::{grouped, human, uptime},
    report::{Process, Report},
    view::{Filter, Format, MAX_SCOPE, View},
};

const STYLE: &str = include_str!("style.css");

pub(super) fn page(report: &Report, view: &View, around: &Around<'_>) -> Markup {
    let Report { process, proxies } = report;
    let forms = around.admin.then(|| view.address());
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Statistics Report for lb on " (process.hostname) }
                // An empty icon keeps browsers from asking for one, which would be counted as a request.
                link rel="icon" href="data:,";
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    h1 { "lb" }
                    p.subtitle { "Statistics Report for pid " (process.pid) " on " (process.hostname) }
                }
                main {
                    @if let Some(outcome) = view.outcome { (message(outcome, view)) }
                    @for note in around.notes { p.note role="note" { (note) } }
                    @if around.members.is_none() {
                        p.note role="note" { "The cluster did not tell its members in time; the tables below are complete without it." }
                    }
                    h2 { "General process information" }
                    div.overview {
                        (facts(process))
                        (legend())
                        (display(view, around))
                    }
                    @for proxy in proxies { (table::proxy(proxy, forms.as_deref())) }
                    @if proxies.is_empty() { p.note role="note" { "No proxy has a name like that." } }
                    // Below: a large cluster must not push the servers out of sight.
                    (members(around.members.unwrap_or_default()))
                }
            }
        }
    }
}

/// What became of a form, with a link that takes the message away.
fn message(outcome: Outcome, view: &View) -> Markup {
    let (class, text) = match outcome {
        Outcome::Done => ("active-up", "Done."),
        Outcome::Nothing => ("active-going-down", "Nothing had to be changed."),
        Outcome::Partial => ("active-going-down", "Done for some servers; the names of others are not known."),
        Outcome::Invalid => ("down", "Nothing was done: the backend, the action or the servers are not known."),
        Outcome::Denied => ("down", "Nothing was done: this page may only be read (stats.admin)."),
        Outcome::TooLong => ("down", "Nothing was done: these are too many servers at once."),
    };
    html! {
        p.message.(class) role="status" {
            (text) " " a href=(view.address()) title="Remove this message" aria-label="Remove this message" { "✕" }
        }
    }
}

/// The words before the equals signs are those that monitoring tools look for in HAProxy's page. The version is not told to
/// whoever may look: it is in the metrics.
fn facts(process: &Process) -> Markup {
    let limit = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
    html! {
        div.facts {
            p { b { "pid = " } (process.pid) " (nbthread = " (process.workers) ")" }
            p { b { "uptime = " } (uptime(process.uptime)) }
            p { b { "system limits: " } "ulimit-n = " (limit(process.open_files)) }
            p { b { "maxconn = " } (limit(process.max_connections())) }
            p { b { "current conns = " } (grouped(process.connections)) "; " b { "conn rate = " } (grouped(process.connection_rate)) "/sec" }
            p { b { "total conns = " } (grouped(process.connections_total)) "; " b { "total requests = " } (grouped(process.requests_total)) }
            @for (what, count) in [
                ("lost log lines", process.dropped_logs),
                ("file descriptors refused", process.shortages),
                ("bugs met (see the log)", process.panics),
            ] {
                @if count > 0 { p.alarm { b { (what) " = " } (count) } }
            }
        }
    }
}

/// Class of a row and what its colour means.
const LEGEND: [[(&str, &str); 2]; 5] = [
    [("active-up", "active, UP"), ("backup-up", "backup, UP")],
    [("active-going-down", "active UP, checks fail"), ("backup-going-down", "backup UP, checks fail")],
    [("active-going-up", "active DOWN, checks pass"), ("backup-going-up", "backup DOWN, checks pass")],
    [("down", "active or backup, DOWN"), ("no-check", "not checked")],
    [("maint", "maintenance (MAINT)"), ("draining", "drains, stops or weight 0 (DRAIN, NOLB)")],
];

fn legend() -> Markup {
    html! {
        div.legend {
            table {
                caption { "Colours" }
                @for row in LEGEND {
                    tr { @for (class, meaning) in row { td.swatch.(class) {} td { (meaning) } } }
                }
            }
            p { "DRAIN: takes no new users; users with a cookie for it stay." }
        }
    }
}

fn display(view: &View, around: &Around<'_>) -> Markup {
    let Filter { hide_down, hide_maint, scope } = &view.filter;
    let with = |change: fn(&mut View)| {
        let mut other = view.clone();
        change(&mut other);
        other.address()
    };
    html! {
        nav.display aria-label="Display" {
            b { "Display" }
            ul {
                li {
                    form method="get" action=(view.path()) {
                        label {
                            "Scope: "
                            input type="search" name="scope" size="8" maxlength=(MAX_SCOPE) value=[scope.as_deref()]
                                title="Shows only proxies whose name contains this";
                        }
                    }
                }
                li {
                    a href=(with(|view| view.filter.hide_down = !view.filter.hide_down)) {
                        @if *hide_down { "Show all servers" } @else { "Hide 'DOWN' servers" }
                    }
                }
                li {
                    a href=(with(|view| view.filter.hide_maint = !view.filter.hide_maint)) {
                        @if *hide_maint { "Show 'MAINT' servers" } @else { "Hide 'MAINT' servers" }
                    }
                }
                @if around.refresh.as_secs() > 0 {
                    li {
                        a href=(with(|view| view.no_refresh = !view.no_refresh)) {
                            @if view.no_refresh { "Enable refresh" } @else { "Disable refresh" }
                        }
                        " (every " (human(around.refresh)) ")"
                    }
                }
                li { a href=(view.address()) { "Refresh now" } }
                li { a href=(with(|view| view.format = Format::Csv)) { "CSV export" } }
                li { a href="./metrics" { "Prometheus metrics" } }
            }
        }
    }
}

fn members(members: &[MemberRow]) -> Markup {
    html! {
        @if !members.is_empty() {
            section.proxy aria-label="Cluster members" {
                h3 { "Cluster" }
                div.scroll {
                    table.members {
                        thead { tr { @for head in ["Member", "Address", "Role", "Status", "For", "Tags", "Notes"] { th scope="col" { (head) } } } }
                        tbody {
                            @for member in members { (self::member(member)) }
                        }
                    }
                }
            }
        }
    }
}

fn member(member: &MemberRow) -> Markup {
    let MemberRow { name, address, status, role, seconds_in_status, tags, notes } = member;
    let class = match status {
        MemberStatus::Alive => "active-up",
        MemberStatus::Leaving => "draining",
        MemberStatus::Left => "no-check",
        MemberStatus::Failed => "down",
    };
    html! {
        tr.(class) {
            th scope="row" { (name) }
            td { (address) }
            td { (role.word()) }
            td { (status.word()) }
            td { (human(Duration::from_secs(*seconds_in_status))) }
            td { @for (index, (key, value)) in tags.iter().enumerate() { @if index > 0 { ", " } (key) "=" (value) } }
            td { (notes.join("; ")) }
        }
    }
}
