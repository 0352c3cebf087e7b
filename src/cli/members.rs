//! `lb members`.

use std::{fmt::Write, time::Duration};

use super::args::MembersFormat;
use crate::admin::MemberRow;

/// The members as they are printed; `detailed` is more text.
pub(super) fn render(members: &[MemberRow], format: MembersFormat, detailed: bool) -> String {
    match format {
        MembersFormat::Text => text(members, detailed),
        MembersFormat::Json => {
            // Rows of plain values are always JSON.
            let json = serde_json::to_string_pretty(members).unwrap_or_default();
            format!("{json}\n")
        }
    }
}

/// Columns as wide as their longest cell: name, address, status, tags; tags hold the role, as in Serf. Then what a person
/// should know. In detail also for how long the status has been what it is.
fn text(members: &[MemberRow], detailed: bool) -> String {
    let width = |cell: fn(&MemberRow) -> &str| members.iter().map(|member| cell(member).len()).max().unwrap_or(0);
    let name = width(|member| &member.name);
    let address = width(|member| &member.address);
    let status = width(|member| member.status.word());
    let mut text = String::new();
    for member in members {
        let MemberRow {
            name: its_name,
            address: its_address,
            status: its_status,
            role,
            seconds_in_status,
            tags,
            notes,
        } = member;
        let role = (!tags.contains_key("role")).then(|| format!("role={}", role.word()));
        let pairs: Vec<String> =
            role.into_iter().chain(tags.iter().map(|(key, value)| format!("{key}={value}"))).collect();
        let line = format!(
            "{its_name:name$}  {its_address:address$}  {:status$}  {}{}{}",
            its_status.word(),
            pairs.join(","),
            if detailed { format!("  For: {}", time(*seconds_in_status)) } else { String::new() },
            if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) },
        );
        let _infallible = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// `3m 12s`
fn time(seconds: u64) -> String {
    humantime::format_duration(Duration::from_secs(seconds)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::{MemberRole, MemberStatus};

    #[test]
    fn the_columns_are_those_of_serf() {
        let row = |name: &str, status, role, tags: &[(&str, &str)]| MemberRow {
            name: name.into(),
            address: "10.0.0.1:7946".into(),
            status,
            role,
            seconds_in_status: 192,
            tags: tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            notes: Vec::new(),
        };
        let members = [
            row("ha", MemberStatus::Alive, MemberRole::Balancer, &[]),
            row("47571468d86", MemberStatus::Failed, MemberRole::Node, &[("zone", "a")]),
        ];
        let expected = "ha           10.0.0.1:7946  alive   role=balancer\n\
                        47571468d86  10.0.0.1:7946  failed  role=node,zone=a\n";
        assert_eq!(render(&members, MembersFormat::Text, false), expected);
        let detailed = "ha           10.0.0.1:7946  alive   role=balancer  For: 3m 12s\n";
        assert!(render(&members, MembersFormat::Text, true).starts_with(detailed));
    }

    #[test]
    fn a_role_of_its_own_takes_the_place_of_ours() {
        let row = MemberRow {
            name: "s1".into(),
            address: "10.0.0.1:7946".into(),
            status: MemberStatus::Alive,
            role: MemberRole::Node,
            seconds_in_status: 0,
            tags: [("role".into(), "backend".into())].into(),
            notes: vec!["nodes/s1: drain".into()],
        };
        let text = render(&[row], MembersFormat::Text, false);
        assert_eq!(text, "s1  10.0.0.1:7946  alive  role=backend  (nodes/s1: drain)\n");
    }
}
