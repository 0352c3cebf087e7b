//! `lb members`.

use std::fmt::Write;

use super::args::MembersFormat;
use crate::admin::MemberRow;

/// The members as they are printed.
pub(super) fn render(members: &[MemberRow], format: MembersFormat) -> String {
    match format {
        MembersFormat::Text => text(members),
        MembersFormat::Json => {
            // Rows of plain values are always JSON.
            let json = serde_json::to_string_pretty(members).unwrap_or_default();
            format!("{json}\n")
        }
    }
}

/// Columns as wide as their longest cell: name, address, status, tags; tags hold the role, as in Serf.
fn text(members: &[MemberRow]) -> String {
    let width = |cell: fn(&MemberRow) -> &str| members.iter().map(|member| cell(member).len()).max().unwrap_or(0);
    let name = width(|member| &member.name);
    let address = width(|member| &member.address);
    let status = width(|member| member.status.word());
    let mut text = String::new();
    for member in members {
        let MemberRow { name: its_name, address: its_address, status: its_status, role, tags, notes } = member;
        let pairs: Vec<String> = std::iter::once(format!("role={}", role.word()))
            .chain(tags.iter().map(|(key, value)| format!("{key}={value}")))
            .collect();
        let line = format!(
            "{its_name:name$}  {its_address:address$}  {:status$}  {}{}",
            its_status.word(),
            pairs.join(","),
            if notes.is_empty() { String::new() } else { format!("  ({})", notes.join("; ")) },
        );
        let _infallible = writeln!(text, "{}", line.trim_end());
    }
    text
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
            tags: tags.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect(),
            notes: Vec::new(),
        };
        let members = [
            row("ha", MemberStatus::Alive, MemberRole::Balancer, &[]),
            row("47571468d86", MemberStatus::Failed, MemberRole::Node, &[("zone", "a")]),
        ];
        let expected = "ha           10.0.0.1:7946  alive   role=balancer\n\
                        47571468d86  10.0.0.1:7946  failed  role=node,zone=a\n";
        assert_eq!(render(&members, MembersFormat::Text), expected);
    }
}
