//! Commands about the process and the session.

use std::{
    fmt::{Display, Write as _},
    time::{Duration, Instant, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

use super::table::Call;
use crate::{
    admin::{
        format::uptime,
        report::{Process, Report},
    },
    config::Level,
};

/// What `Release_date` says: tools want one, in this form.
const RELEASE_DATE: &str = "2026/11/23";
/// Longest time that a session may ask for; below the level admin, what is configured.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What kinds of output are not there.
pub(super) const NO_SUCH_FORMAT: &str = "Only the plain format is available here.\n";

pub(super) fn info(call: &mut Call<'_>) -> String {
    if call.arguments.iter().any(|word| ["typed", "json"].contains(word)) {
        return NO_SUCH_FORMAT.to_owned();
    }
    let Report { process, proxies } = Report::collect(call.context, Instant::now());
    let most_rate = proxies.iter().filter_map(|proxy| proxy.frontend.as_ref()).map(|its| its.traffic.rate_most).sum();
    let listeners = proxies.iter().filter(|proxy| proxy.frontend.is_some()).count() as u64;
    lines(&process, most_rate, listeners)
}

/// In HAProxy's order. What does not happen here is 0, because tools want every key.
fn lines(process: &Process, most_rate: u64, listeners: u64) -> String {
    let Process {
        pid,
        hostname,
        version,
        workers,
        started,
        uptime: up,
        open_files,
        connections,
        connections_total,
        connection_rate,
        requests_total,
        bytes_out,
        dropped_logs,
        panics: _,
        shortages: _,
    } = process;
    let mut text = String::new();
    let mut line = |key: &str, value: &dyn Display| {
        // Writing to a String cannot fail.
        let _infallible = writeln!(text, "{key}: {value}");
    };
    let limit = process.max_connections().unwrap_or(0);
    line("Name", &"lb");
    line("Version", version);
    line("Release_date", &RELEASE_DATE);
    line("Nbthread", workers);
    line("Nbproc", &1);
    line("Process_num", &1);
    line("Pid", pid);
    line("Uptime", &uptime(*up));
    line("Uptime_sec", &up.as_secs());
    for key in ["Memmax_MB", "PoolAlloc_MB", "PoolUsed_MB", "PoolFailed"] {
        line(key, &0);
    }
    line("Ulimit-n", &open_files.unwrap_or(0));
    line("Maxsock", &open_files.unwrap_or(0));
    line("Maxconn", &limit);
    line("Hard_maxconn", &limit);
    line("CurrConns", connections);
    line("CumConns", connections_total);
    line("CumReq", requests_total);
    for key in ["MaxSslConns", "CurrSslConns", "CumSslConns", "Maxpipes", "PipesUsed", "PipesFree"] {
        line(key, &0);
    }
    // A session is a connection.
    for prefix in ["Conn", "Sess"] {
        line(&format!("{prefix}Rate"), connection_rate);
        line(&format!("{prefix}RateLimit"), &0);
        line(&format!("Max{prefix}Rate"), &most_rate);
    }
    for key in [
        "SslRate",
        "SslRateLimit",
        "MaxSslRate",
        "SslFrontendKeyRate",
        "SslFrontendMaxKeyRate",
        "SslFrontendSessionReuse_pct",
        "SslBackendKeyRate",
        "SslBackendMaxKeyRate",
        "SslCacheLookups",
        "SslCacheMisses",
        "CompressBpsIn",
        "CompressBpsOut",
        "CompressBpsRateLim",
    ] {
        line(key, &0);
    }
    // Each connection is a task.
    line("Tasks", connections);
    line("Run_queue", &0);
    line("Idle_pct", &idle(*up, *workers));
    line("node", hostname);
    line("Stopping", &0);
    line("Jobs", &(connections + listeners));
    line("Unstoppable Jobs", &0);
    line("Listeners", &listeners);
    line("ActivePeers", &0);
    line("ConnectedPeers", &0);
    line("DroppedLogs", dropped_logs);
    line("BusyPolling", &0);
    line("FailedResolutions", &0);
    line("TotalBytesOut", bytes_out);
    for key in ["TotalSplicdedBytesOut", "BytesOutRate", "DebugCommandsIssued", "CumRecvLogs"] {
        line(key, &0);
    }
    line("Build info", version);
    for key in ["Memmax_bytes", "PoolAlloc_bytes", "PoolUsed_bytes"] {
        line(key, &0);
    }
    line("Start_time_sec", &started.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs());
    line("Tainted", &0);
    text
}

/// Percentage of the workers' time since the start in which they had nothing to do.
fn idle(up: Duration, workers: usize) -> u64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    let used = used.tv_sec as f64 + used.tv_nsec as f64 / 1e9;
    let had = up.as_secs_f64() * workers as f64;
    if had <= 0.0 { 100 } else { (100.0 * (1.0 - used / had)).clamp(0.0, 100.0) as u64 }
}

pub(super) fn version(_: &mut Call<'_>) -> String {
    concat!(env!("CARGO_PKG_VERSION"), "\n").to_owned()
}

pub(super) fn cli_level(call: &mut Call<'_>) -> String {
    format!("{}\n", call.state.level.word())
}

pub(super) fn operator(call: &mut Call<'_>) -> String {
    lower(call, Level::Operator)
}

pub(super) fn user(call: &mut Call<'_>) -> String {
    lower(call, Level::User)
}

fn lower(call: &mut Call<'_>, level: Level) -> String {
    if call.state.level < level {
        return "Permission denied\n".to_owned();
    }
    call.state.level = level;
    String::new()
}

pub(super) fn set_timeout(call: &mut Call<'_>) -> String {
    if call.argument(0) != Some("cli") {
        return "'set timeout' only supports 'cli'.\n".to_owned();
    }
    let Some(text) = call.argument(1) else { return "Expects an integer value.\n".to_owned() };
    match timeout(text) {
        Some(time) if time > call.state.configured_timeout && call.state.level < Level::Admin => {
            "Permission denied\n".to_owned()
        }
        Some(time) => {
            call.state.timeout = time;
            String::new()
        }
        None => "Invalid timeout value.\n".to_owned(),
    }
}

/// A time in seconds, or with another of HAProxy's units.
fn timeout(text: &str) -> Option<Duration> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let time = match unit {
        "us" => Duration::from_micros(number),
        "ms" => Duration::from_millis(number),
        "" | "s" => Duration::from_secs(number),
        "m" => Duration::from_secs(number.checked_mul(60)?),
        "h" => Duration::from_secs(number.checked_mul(3600)?),
        "d" => Duration::from_secs(number.checked_mul(86_400)?),
        _ => return None,
    };
    (Duration::from_millis(1)..=LONGEST).contains(&time).then_some(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_in_seconds_unless_it_says_otherwise() {
        assert_eq!(timeout("60"), Some(Duration::from_secs(60)));
        assert_eq!(timeout("1m"), Some(Duration::from_secs(60)));
        assert_eq!(timeout("250ms"), Some(Duration::from_millis(250)));
        for wrong in ["", "foo", "0", "1x", "2d", "99999999999999999999", "18446744073709551615d", "-1"] {
            assert_eq!(timeout(wrong), None, "{wrong}");
        }
    }
}
