//! Commands that show pools and servers.

use std::{fmt::Write as _, time::Instant};

use super::{process::NO_SUCH_FORMAT, table::Call};
use crate::{
    admin::{
        csv,
        report::{Proxy, Report, Server},
        view::Filter,
    },
    config::Level,
    model::{AdminState, Health, NodeState, ServerState},
};

/// `show stat [<px> <type> <sid>] [up|no-maint]*`, from the same table as the stats page's CSV.
pub(super) fn stat(call: &mut Call<'_>) -> String {
    let mut report = Report::collect(call.context, Instant::now());
    if call.state.level >= Level::Operator {
        report = report.for_operators();
    }
    let mut flags = call.arguments;
    let mut selection = None;
    if let [proxy, kinds, server, rest @ ..] = call.arguments {
        let number = report.proxies.iter().find(|its| its.name == *proxy).map(|its| i64::from(its.number));
        let proxy = number.unwrap_or_else(|| integer(proxy));
        if proxy == 0 {
            return "No such proxy.\n".to_owned();
        }
        selection = Some(Selection { proxy, kinds: integer(kinds), server: integer(server) });
        flags = rest;
    }
    if flags.iter().any(|word| ["typed", "json"].contains(word)) {
        return NO_SUCH_FORMAT.to_owned();
    }
    // Counted before rows are left out, as on the page.
    let (hide_down, hide_maint) = (flags.contains(&"up"), flags.contains(&"no-maint"));
    report.narrow(&Filter { hide_down, hide_maint, scope: None });
    if let Some(selection) = selection {
        selection.apply(&mut report);
    }
    match csv::render(&report) {
        Ok(csv) => String::from_utf8_lossy(&csv).into_owned(),
        Err(error) => {
            tracing::error!("the runtime API can't write its answer: {error}");
            "The answer could not be written.\n".to_owned()
        }
    }
}

/// A number as C's `atoi` reads it: 0 where there is none.
fn integer(text: &str) -> i64 {
    let sign = usize::from(text.starts_with('-'));
    let digits = text[sign..].bytes().take_while(u8::is_ascii_digit).count();
    text[..sign + digits].parse().unwrap_or(0)
}

/// Some rows of the table; -1 is all of them.
struct Selection {
    proxy: i64,
    /// 1 frontends, 2 backends, 4 servers, or sums of these.
    kinds: i64,
    server: i64,
}

impl Selection {
    fn apply(&self, report: &mut Report) {
        let Self { proxy, kinds, server } = *self;
        report.proxies.retain(|its| proxy == -1 || i64::from(its.number) == proxy);
        for its in &mut report.proxies {
            let without = |kind: i64| kinds & kind == 0;
            // HAProxy numbers frontends and backends 0.
            let of_proxy = server == -1 || server == 0;
            if without(1) || !of_proxy {
                its.frontend = None;
            }
            if without(2) || !of_proxy {
                its.backend = None;
            }
            its.servers.retain(|row| !without(4) && (server == -1 || i64::from(row.number) == server));
        }
    }
}

pub(super) fn backend(call: &mut Call<'_>) -> String {
    let report = Report::collect(call.context, Instant::now());
    let names = report.proxies.iter().filter(|proxy| proxy.backend.is_some()).map(|proxy| proxy.name.as_str());
    std::iter::once("# name").chain(names).flat_map(|name| [name, "\n"]).collect()
}

const STATE_COLUMNS: &str = "# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight \
                             srv_iweight srv_time_since_last_change srv_check_status srv_check_result \
                             srv_check_health srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id \
                             srv_fqdn srv_port srvrecord srv_use_ssl srv_check_port srv_check_addr srv_agent_addr \
                             srv_agent_port";

/// Format version 1 of the server state (HAProxy's management guide, `show servers state`).
pub(super) fn servers_state(call: &mut Call<'_>) -> String {
    let report = Report::collect(call.context, Instant::now());
    let wanted = call.argument(0);
    let is_wanted = |proxy: &&Proxy| wanted.is_none_or(|name| proxy.name == name) && proxy.backend.is_some();
    let proxies: Vec<&Proxy> = report.proxies.iter().filter(is_wanted).collect();
    if proxies.is_empty() && wanted.is_some() {
        return "Can't find backend.\n".to_owned();
    }
    let mut text = format!("1\n{STATE_COLUMNS}\n");
    for proxy in proxies {
        for server in &proxy.servers {
            state_line(&mut text, proxy, server);
        }
    }
    text
}

fn state_line(text: &mut String, proxy: &Proxy, server: &Server) {
    let Server { name, number, address, initial_weight, upstream, .. } = server;
    // Maintenance stops the checks, but not what the last one said.
    let last = server.check.as_ref().and_then(|check| check.last.as_ref());
    let result = last.map_or(0, |last| if last.status.passed() { 3 } else { 2 });
    let check_state = match (&server.check, server.state) {
        (None, _) => 0,
        (Some(_), ServerState::Maint) => 14,
        (Some(_), ServerState::Drain(_) | ServerState::Running(_)) => 6,
    };
    // Writing to a String cannot fail.
    let _infallible = writeln!(
        text,
        "{} {} {number} {name} {} {} {} {} {initial_weight} {} {} {result} {} {check_state} 0 0 0 - {} - 0 0 - - 0",
        proxy.number,
        proxy.name,
        address.ip(),
        operational_state(server.health()),
        admin_bits(server),
        upstream.weight,
        upstream.unchanged.as_secs(),
        last.map_or(0, |last| status_number(last.status.code())),
        server.check_level().unwrap_or(0),
        address.port(),
    );
}

/// 0 is stopped, 2 is running, 3 is stopping.
fn operational_state(health: Option<Health>) -> u8 {
    match health {
        Some(Health::Unchecked | Health::Up { .. }) => 2,
        Some(Health::Stopping { .. }) => 3,
        None | Some(Health::Initial | Health::Ejected | Health::Down { .. }) => 0,
    }
}

/// What was forced by an operator (1 maintenance, 8 drain), and what follows from the node's own word (2, 16).
fn admin_bits(server: &Server) -> u8 {
    let operator = match server.operator {
        AdminState::Ready => 0,
        AdminState::Drain => 8,
        AdminState::Maint => 1,
    };
    let node = match server.node {
        NodeState::Ready => 0,
        NodeState::Draining => 16,
        NodeState::Starting | NodeState::Left => 2,
    };
    operator | node
}

/// HAProxy's number of a check's short code.
fn status_number(code: &str) -> u8 {
    match code {
        "INI" => 1,
        "HANA" => 4,
        "SOCKERR" => 5,
        "L4OK" => 6,
        "L4TOUT" => 7,
        "L4CON" => 8,
        "L6OK" => 9,
        "L6TOUT" => 10,
        "L6RSP" => 11,
        "L7TOUT" => 12,
        "L7RSP" => 13,
        "L7OK" => 15,
        "L7OKC" => 16,
        "L7STS" => 17,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_read_as_far_as_it_goes() {
        assert_eq!(["4", "-1", "x", "", "-", "7x"].map(integer), [4, -1, 0, 0, 0, 7]);
    }

    #[test]
    fn the_state_has_as_many_columns_as_names() {
        let report = crate::admin::tests::report(vec![crate::admin::tests::server("s1", crate::admin::tests::UP)]);
        let mut line = String::new();
        state_line(&mut line, &report.proxies[2], &report.proxies[2].servers[0]);
        assert_eq!(line, "4 nodes 1 s1 127.0.0.1 2 0 1 1 0 15 3 4 6 0 0 0 - 3000 - 0 0 - - 0\n");
        assert_eq!(STATE_COLUMNS.split(' ').count() - 1, line.split(' ').count());
    }
}
