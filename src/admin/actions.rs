//! What the stats page's forms do: HAProxy's `stats admin`, whose scripts go on working.
//!
//! A form has the backend (`b`, by name or as `#` and its number), servers (`s`, any number of them) and an action. The
//! reply sends the browser back to the page, with a word about what became of it.

use std::{sync::Arc, time::Instant};

use ::http::{HeaderMap, header};

use super::{Context, report::Report};
use crate::{
    model::AdminState,
    registry::{Command, ForcedHealth, Operation, Server},
};

/// What became of a form; `word` is what HAProxy's page puts into its address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Done for every server.
    Done,
    /// Nothing had to be changed.
    Nothing,
    /// Done for some servers; others are not known.
    Partial,
    /// The form is wrong.
    Invalid,
    /// This page may change nothing.
    Denied,
    /// The form is longer than allowed.
    TooLong,
}

impl Outcome {
    /// All, for whoever reads the word.
    pub(super) const ALL: [Self; 6] =
        [Self::Done, Self::Nothing, Self::Partial, Self::Invalid, Self::Denied, Self::TooLong];

    /// The word in the address.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Done => "DONE",
            Self::Nothing => "NONE",
            Self::Partial => "PART",
            Self::Invalid => "ERRP",
            Self::Denied => "DENY",
            Self::TooLong => "EXCD",
        }
    }
}

/// Whether a form comes from the page itself, or from no browser at all. A page of somebody else can send an operator's
/// browser here with any form (cross-site request forgery); browsers tell where a form comes from, by `Sec-Fetch-Site`
/// (W3C Fetch Metadata) where the connection is safe and by `Origin` (RFC 6454 section 7) everywhere.
pub(super) fn is_own_form(headers: &HeaderMap) -> bool {
    let one = |name: &str| {
        let mut values = headers.get_all(name).iter();
        (values.next().map(|value| value.to_str().unwrap_or_default()), values.next().is_some())
    };
    let (site, origin, host) = (one("sec-fetch-site"), one(header::ORIGIN.as_str()), one(header::HOST.as_str()));
    if site.1 || origin.1 || host.1 {
        return false;
    }
    if site.0.is_some_and(|site| site != "same-origin") {
        return false;
    }
    match (origin.0, host.0) {
        // No browser of today sends a form without one.
        (None, _) => true,
        (Some(origin), Some(host)) => {
            let of_origin = origin.split_once("://").map(|(_scheme, authority)| authority);
            of_origin.is_some_and(|authority| authority.eq_ignore_ascii_case(host))
        }
        (Some(_), None) => false,
    }
}

/// Does what the form asks for.
pub(super) fn perform(context: &Context, body: &[u8]) -> Outcome {
    if !context.admin {
        return Outcome::Denied;
    }
    let form = Form::read(body);
    let (Some(action), Some(servers)) = (Action::read(&form.action), backend(context, &form.backend)) else {
        return Outcome::Invalid;
    };
    let (mut known, mut unknown, mut operations) = (false, false, Vec::new());
    for name in &form.servers {
        let Some(server) = servers.iter().find(|server| server.name.as_str() == name) else {
            unknown = true;
            continue;
        };
        known = true;
        operations.extend(action.on(server).map(|operation| (server.id, operation)));
    }
    let altered = !operations.is_empty();
    if altered {
        // All at once: a rack of servers is one change of the pool.
        context.registry.apply(Instant::now(), Command::Operate(operations));
    }
    match (known, altered, unknown) {
        (false, _, true) => Outcome::Invalid,
        (_, true, true) => Outcome::Partial,
        (_, true, false) => Outcome::Done,
        (_, false, _) => Outcome::Nothing,
    }
}

/// The servers of a backend, by its name or number.
fn backend(context: &Context, name: &str) -> Option<Vec<Arc<Server>>> {
    let name = match name.strip_prefix('#') {
        Some(number) => {
            let number: u32 = number.parse().ok()?;
            let report = Report::collect(context, Instant::now());
            report.proxies.into_iter().find(|proxy| proxy.number == number)?.name
        }
        None => name.to_owned(),
    };
    let snapshot = context.registry.snapshot();
    snapshot.pools.iter().find(|pool| pool.name.as_str() == name).map(|pool| pool.servers.clone())
}

#[derive(Debug, Clone, Copy)]
enum Action {
    To(Operation),
    /// End maintenance and nothing else, as older pages do.
    Enable,
    /// Begin it, unless it has begun.
    Disable,
    /// End a drain and nothing else.
    Start,
}

impl Action {
    fn read(word: &str) -> Option<Self> {
        Some(match word {
            "ready" => Self::To(Operation::State(AdminState::Ready)),
            "drain" | "stop" => Self::To(Operation::State(AdminState::Drain)),
            "maint" => Self::To(Operation::State(AdminState::Maint)),
            "hrunn" => Self::To(Operation::Health(ForcedHealth::Up)),
            "hnolb" => Self::To(Operation::Health(ForcedHealth::Stopping)),
            "hdown" => Self::To(Operation::Health(ForcedHealth::Down)),
            "enable" => Self::Enable,
            "disable" => Self::Disable,
            "start" => Self::Start,
            _ => return None,
        })
    }

    /// What is to be done to the server, if anything.
    fn on(self, server: &Server) -> Option<Operation> {
        let ready = Operation::State(AdminState::Ready);
        match self {
            Self::To(operation) => Some(operation),
            Self::Enable => (server.operator == AdminState::Maint).then_some(ready),
            Self::Start => (server.operator == AdminState::Drain).then_some(ready),
            Self::Disable => (server.operator != AdminState::Maint).then_some(Operation::State(AdminState::Maint)),
        }
    }
}

/// A form's fields; of one that may be there once, the last counts.
#[derive(Debug, Default, PartialEq, Eq)]
struct Form {
    backend: String,
    servers: Vec<String>,
    action: String,
}

impl Form {
    /// Reads `application/x-www-form-urlencoded` (WHATWG URL standard, section 5.1).
    fn read(body: &[u8]) -> Self {
        let mut form = Self::default();
        for pair in body.split(|&byte| byte == b'&') {
            let split = pair.iter().position(|&byte| byte == b'=').unwrap_or(pair.len());
            let (name, value) = pair.split_at(split);
            let value = decoded(value.get(1..).unwrap_or_default());
            match name {
                b"b" => form.backend = value,
                b"s" => form.servers.push(value),
                b"action" => form.action = value,
                _ => {}
            }
        }
        form
    }
}

fn decoded(text: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let escaped = (first == b'%').then(|| after.get(..2)).flatten();
        let escaped = escaped.filter(|digits| digits.iter().all(u8::is_ascii_hexdigit));
        let escaped = escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        rest = match escaped {
            Some(byte) => {
                bytes.push(byte);
                &after[2..]
            }
            None => {
                bytes.push(if first == b'+' { b' ' } else { first });
                after
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_with_its_escapes() {
        let form = Form::read(b"s=s1&s=s%3A2&action=maint&b=%234&other=1");
        let expected = Form { backend: "#4".into(), servers: vec!["s1".into(), "s:2".into()], action: "maint".into() };
        assert_eq!(form, expected);
        assert_eq!(
            Form::read(b"action=a+b&b=%zz%+4%4&s"),
            Form { backend: "%zz% 4%4".into(), servers: vec![String::new()], action: "a b".into() }
        );
        assert_eq!(Form::read(b""), Form::default());
    }

    fn is_own(lines: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        is_own_form(&headers)
    }

    #[test]
    fn a_form_of_another_site_is_told_by_its_headers() {
        let host = ("host", "lb:1936");
        assert!(is_own(&[host]), "curl");
        assert!(is_own(&[host, ("origin", "http://LB:1936")]));
        assert!(is_own(&[host, ("origin", "http://lb:1936"), ("sec-fetch-site", "same-origin")]));
        for foreign in [
            &[host, ("origin", "http://evil.example")][..],
            &[host, ("origin", "http://lb:8080")],
            &[host, ("origin", "null")],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site")],
            &[host, ("origin", "http://lb:1936"), ("sec-fetch-site", "cross-site")],
            &[host, ("origin", "http://lb:1936"), ("origin", "http://evil.example")],
            &[("origin", "http://lb:1936")],
        ] {
            assert!(!is_own(foreign), "{foreign:?}");
        }
    }
}
