//! The configuration file as it is written, before anything but its form is checked.
//!
//! serde stops at the first error, but an operator wants all of them. So an entry with an error is noted, taken out of the
//! parsed table, and the rest is read again. Every field is optional here for that reason.

use std::collections::BTreeMap;

use serde::{Deserialize, de::DeserializeOwned};
use toml::{
    Spanned,
    de::{DeTable, DeValue, Deserializer},
};

use super::Problem;

/// A text with its place in the file.
pub(super) type Text = Spanned<String>;
/// A number with its place in the file.
pub(super) type Number = Spanned<i64>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawConfig {
    pub(super) workers: Option<Number>,
    pub(super) listener: Vec<RawListener>,
    pub(super) pool: Vec<RawPool>,
    pub(super) stats: Option<Spanned<RawStats>>,
    pub(super) runtime_api: Option<Spanned<RawRuntimeApi>>,
    pub(super) gossip: Option<RawGossip>,
    pub(super) timeouts: RawTimeouts,
    pub(super) limits: RawLimits,
    pub(super) log: RawLog,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawListener {
    pub(super) name: Option<Text>,
    pub(super) bind: Option<Spanned<OneOrMore>>,
    pub(super) pool: Option<Text>,
    pub(super) maxconn: Option<Number>,
    pub(super) proxy_protocol: bool,
    pub(super) trusted_proxies: Vec<Text>,
    pub(super) upgrades: Option<Vec<Text>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "expected a text or a list of texts")]
pub(super) enum OneOrMore {
    One(String),
    More(Vec<String>),
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawPool {
    pub(super) name: Option<Text>,
    pub(super) balance: Option<Text>,
    pub(super) hash_balance_factor: Option<Number>,
    pub(super) slowstart: Option<Text>,
    pub(super) cookie: Option<Spanned<RawCookie>>,
    pub(super) check: RawCheck,
    pub(super) outlier: Option<RawOutlier>,
    pub(super) panic_threshold: Option<Number>,
    pub(super) retries: Option<Number>,
    pub(super) retry_on: Vec<Text>,
    pub(super) server_maxconn: Option<Number>,
    pub(super) queue: RawQueue,
    pub(super) drain_deadline: Option<Text>,
    pub(super) maint_deadline: Option<Text>,
    pub(super) server: Vec<Spanned<RawServer>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawCookie {
    pub(super) name: Option<Text>,
    pub(super) mode: Option<Text>,
    pub(super) preserve: bool,
    pub(super) http_only: bool,
    pub(super) secure: bool,
    pub(super) same_site: Option<Text>,
    pub(super) domain: Option<Spanned<OneOrMore>>,
    pub(super) max_idle: Option<Text>,
    pub(super) max_life: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawCheck {
    pub(super) request: Option<Text>,
    pub(super) host: Option<Text>,
    pub(super) headers: BTreeMap<String, Text>,
    pub(super) expect_status: Option<Text>,
    pub(super) expect_body: Option<Text>,
    pub(super) disable_on_404: bool,
    pub(super) port: Option<Number>,
    pub(super) interval: Option<Text>,
    pub(super) fast_interval: Option<Text>,
    pub(super) down_interval: Option<Text>,
    pub(super) timeout: Option<Text>,
    pub(super) rise: Option<Number>,
    pub(super) fall: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawOutlier {
    #[serde(rename = "consecutive-5xx")]
    pub(super) consecutive_5xx: Option<Number>,
    pub(super) consecutive_gateway_errors: Option<Number>,
    pub(super) interval: Option<Text>,
    pub(super) success_rate_factor: Option<Spanned<f64>>,
    pub(super) success_rate_min_hosts: Option<Number>,
    pub(super) success_rate_min_requests: Option<Number>,
    pub(super) base_ejection_time: Option<Text>,
    pub(super) max_ejection_time: Option<Text>,
    pub(super) max_ejected_percent: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawQueue {
    pub(super) length: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawServer {
    pub(super) name: Option<Text>,
    pub(super) address: Option<Text>,
    pub(super) weight: Option<Number>,
    pub(super) backup: bool,
    pub(super) maxconn: Option<Number>,
    pub(super) check_port: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawStats {
    pub(super) bind: Option<Text>,
    pub(super) refresh: Option<Text>,
    pub(super) admin: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawRuntimeApi {
    pub(super) bind: Option<Spanned<OneOrMore>>,
    pub(super) timeout: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawGossip {
    pub(super) bind: Option<Text>,
    pub(super) advertise: Option<Text>,
    pub(super) join: Vec<Text>,
    pub(super) event_handler: Vec<Text>,
    pub(super) key_file: Option<Text>,
    pub(super) cluster: Option<Text>,
    pub(super) name: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawTimeouts {
    pub(super) queue: Option<Text>,
    pub(super) connect: Option<Text>,
    pub(super) client: Option<Text>,
    pub(super) server: Option<Text>,
    pub(super) request_head: Option<Text>,
    pub(super) keep_alive: Option<Text>,
    pub(super) tunnel: Option<Text>,
    pub(super) tunnel_stop: Option<Text>,
    pub(super) grace: Option<Text>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawLimits {
    pub(super) head: Option<Number>,
    pub(super) body: Option<Number>,
    pub(super) min_rate: Option<Number>,
    pub(super) idle_per_server: Option<Number>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub(super) struct RawLog {
    pub(super) format: Option<Text>,
}

/// Reads a file's text; what could be read of it, and what is wrong with the rest.
pub(super) fn read<T: DeserializeOwned + Default>(text: &str) -> (T, Vec<Problem>) {
    let (mut table, errors) = DeTable::parse_recoverable(text);
    let mut problems: Vec<Problem> = errors.iter().map(|error| problem(text, error)).collect();
    if !problems.is_empty() {
        // The table of a broken text has holes that would only confuse.
        return (T::default(), problems);
    }
    loop {
        let error = match T::deserialize(Deserializer::from(table.clone())) {
            Ok(read) => return (read, problems),
            Err(error) => error,
        };
        let problem = problem(text, &error);
        if !problems.contains(&problem) {
            problems.push(problem);
        }
        let removed = error.span().is_some_and(|span| remove_from_table(table.get_mut(), &span));
        if !removed {
            return (T::default(), problems);
        }
    }
}

fn problem(text: &str, error: &toml::de::Error) -> Problem {
    let line = error.span().map(|span| line_of(text, span.start));
    // Some messages have several lines; an operator's log has one for each problem.
    let message = error.message().lines().map(str::trim).collect::<Vec<_>>().join(", ");
    let message = message.replace("expected i64", "a whole number is expected");
    Problem { line, message }
}

/// The line of a place in a text, counted from 1.
pub(super) fn line_of(text: &str, place: usize) -> usize {
    text.as_bytes()[..place.min(text.len())].iter().filter(|&&byte| byte == b'\n').count() + 1
}

/// Takes out the smallest entry at that place.
fn remove_from_table(table: &mut DeTable<'_>, at: &std::ops::Range<usize>) -> bool {
    if table.iter_mut().any(|(_, value)| remove_inside(value, at)) {
        return true;
    }
    let hit = table.iter().find(|(key, value)| touches(&key.span(), at) || touches(&value.span(), at));
    let Some(key) = hit.map(|(key, _)| key.clone()) else { return false };
    table.remove(&key).is_some()
}

fn remove_inside(value: &mut Spanned<DeValue<'_>>, at: &std::ops::Range<usize>) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => remove_from_table(table, at),
        DeValue::Array(items) => {
            if items.iter_mut().any(|item| remove_inside(item, at)) {
                return true;
            }
            let before = items.len();
            let kept = items.iter().filter(|item| !touches(&item.span(), at)).cloned().collect();
            *items = kept;
            items.len() != before
        }
        DeValue::String(_) | DeValue::Integer(_) | DeValue::Float(_) | DeValue::Boolean(_) | DeValue::Datetime(_) => {
            false
        }
    }
}

fn touches(entry: &std::ops::Range<usize>, at: &std::ops::Range<usize>) -> bool {
    entry.start <= at.start && at.end <= entry.end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> Vec<(usize, String)> {
        let (_, problems) = read::<RawConfig>(text);
        problems.into_iter().map(|problem| (problem.line.unwrap(), problem.message)).collect()
    }

    #[test]
    fn every_unknown_key_and_wrong_type_is_found_with_its_line() {
        let text = "workers = \"two\"\nwrokers = 3\n[[pool]]\nname = \"nodes\"\ncolour = 1\n[[pool.server]]\nadress = \"a:1\"\n";
        let lines: Vec<usize> = problems(text).into_iter().map(|(line, _)| line).collect();
        let mut sorted = lines.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, [1, 2, 5, 7]);
    }

    #[test]
    fn an_unknown_key_is_named_with_the_known_ones() {
        let found = problems("[stats]\nbind = \":1936\"\nrefesh = \"5s\"\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].1.contains("refesh") && found[0].1.contains("`refresh`"), "{found:?}");
    }

    #[test]
    fn broken_syntax_is_found_with_its_line() {
        assert_eq!(problems("workers = 1\nlistener = [\n")[0].0, 2);
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "[a-z\\[\\]=\"0-9. \n{},#-]{0,120}") {
            let _ = read::<RawConfig>(&text);
        }
    }
}
