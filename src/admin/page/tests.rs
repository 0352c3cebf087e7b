//! The page on hand-made reports.

use std::time::Duration;

use super::{Around, render};
use crate::{
    admin::{
        MemberRole, MemberRow, MemberStatus,
        report::Server,
        tests::{UP, report, server},
        view::View,
    },
    model::{AdminState, Health, ServerState},
};

const ALONE: Around<'_> = Around { members: Some(&[]), notes: &[], refresh: Duration::from_secs(5), admin: false };

/// The row of the only server of the pool.
fn row(state: ServerState, change: impl Fn(&mut crate::admin::report::Server)) -> String {
    let mut server = server("s1", state);
    change(&mut server);
    let page = render(&report(vec![server]), &View::default(), &ALONE);
    let start = page.find("<th scope=\"row\" id=\"nodes/s1\">").unwrap();
    let start = page[..start].rfind("<tr").unwrap();
    page[start..].split("<tr class=\"end\">").next().unwrap().to_owned()
}

fn class(state: ServerState, is_backup: bool) -> String {
    let row = row(state, |server| server.is_backup = is_backup);
    row.split('"').nth(1).unwrap().to_owned()
}

#[test]
fn colours_tell_the_state() {
    let running = ServerState::Running;
    let failing = running(Health::Up { failed: 1, fall: 3 });
    let rising = running(Health::Down { passed: 1, rise: 2 });
    assert_eq!((class(UP, false), class(UP, true)), ("active-up".into(), "backup-up".into()));
    assert_eq!((class(failing, false), class(failing, true)), ("active-going-down".into(), "backup-going-down".into()));
    assert_eq!((class(rising, false), class(rising, true)), ("active-going-up".into(), "backup-going-up".into()));
    assert_eq!(class(running(Health::Down { passed: 0, rise: 2 }), false), "down");
    assert_eq!(class(running(Health::Initial), true), "down");
    assert_eq!(class(running(Health::Unchecked), false), "no-check");
    assert_eq!(class(ServerState::Drain(Health::Unchecked), false), "draining");
    assert_eq!(class(ServerState::Maint, false), "maint");
    assert!(row(UP, |server| server.upstream.weight = 0).starts_with("<tr class=\"draining\">"));
}

#[test]
fn a_status_says_for_how_long_and_where_it_goes() {
    let status = |state| {
        let row = row(state, |server| server.upstream.unchanged = Duration::from_secs(186));
        let start = row.find("<td class=\"status\">").unwrap() + 19;
        row[start..].split("</td>").next().unwrap().to_owned()
    };
    assert_eq!(status(UP), "3m6s UP");
    assert_eq!(status(ServerState::Running(Health::Up { failed: 1, fall: 3 })), "3m6s UP 2/3 ↓");
    assert_eq!(status(ServerState::Running(Health::Down { passed: 1, rise: 2 })), "3m6s DOWN 1/2 ↑");
    assert_eq!(status(ServerState::Maint), "3m6s MAINT");
    assert_eq!(status(ServerState::Running(Health::Unchecked)), "<i>no check</i>");
}

#[test]
fn every_row_has_31_columns() {
    let page = render(&report(vec![server("s1", UP)]), &View::default(), &ALONE);
    let body = page.split("<tbody>").skip(1).filter_map(|rest| rest.split("</tbody>").next());
    // A tooltip is a table of its own.
    let without_tips = |row: &str| {
        let mut parts = row.split("<div class=\"more\"");
        let first = parts.next().unwrap_or_default().to_owned();
        parts.fold(first, |text, part| text + part.split("</table>").nth(1).unwrap_or_default())
    };
    let mut rows = 0;
    for row in body.map(without_tips).flat_map(|body| body.split("<tr").skip(1).map(str::to_owned).collect::<Vec<_>>())
    {
        let spanned = |width: usize| row.matches(&format!("colspan=\"{width}\"")).count() * (width - 1);
        let cells = row.matches("<td").count() + row.matches("<th").count() + spanned(3) + spanned(8);
        assert_eq!(cells, 31, "{row}");
        rows += 1;
    }
    assert_eq!(rows, 5);
}

#[test]
fn what_others_say_is_escaped() {
    let hostile = "<script>alert(1)</script>";
    let member = MemberRow {
        name: hostile.to_owned(),
        address: hostile.to_owned(),
        status: MemberStatus::Failed,
        role: MemberRole::Node,
        seconds_in_status: 75,
        tags: [(hostile.to_owned(), hostile.to_owned())].into(),
        notes: vec![hostile.to_owned()],
    };
    let around = Around { members: Some(&[member]), notes: &[hostile.to_owned()], refresh: Duration::ZERO, ..ALONE };
    let mut down = server("s1", UP);
    down.check.as_mut().unwrap().last.as_mut().unwrap().detail = hostile.to_owned();
    let view = View::parse("/?scope=\"><script>");
    let page = render(&report(vec![down]), &view, &around);
    assert!(!page.contains("<script"));
    assert_eq!(page.matches("&lt;script&gt;alert(1)").count(), 7);
}

#[test]
fn links_keep_what_was_chosen_before() {
    let page = |address| render(&report(Vec::new()), &View::parse(address), &ALONE);
    let plain = page("/");
    for link in ["./;up", "./;no-maint", "./;norefresh", "./;csv", "./"] {
        assert!(plain.contains(&format!("href=\"{link}\"")), "{link}");
    }
    let narrowed = page("/;up;norefresh?scope=nod");
    for link in ["./;norefresh?scope=nod", "./;up;no-maint;norefresh?scope=nod", "./;csv;up;norefresh?scope=nod"] {
        assert!(narrowed.contains(&format!("href=\"{link}\"")), "{link}");
    }
    assert!(narrowed.contains("action=\"./;up;norefresh\"") && narrowed.contains("value=\"nod\""));
    assert!(narrowed.contains("Show all servers") && narrowed.contains("Enable refresh"));
}

#[test]
fn monitoring_tools_find_the_uptime() {
    let page = render(&report(Vec::new()), &View::default(), &ALONE);
    assert!(page.contains("uptime = </b>0d 0h00m39s"));
}

#[test]
fn a_cluster_that_does_not_answer_is_said() {
    let around = Around { members: None, ..ALONE };
    assert!(render(&report(Vec::new()), &View::default(), &around).contains("did not tell its members in time"));
}

#[test]
fn buttons_are_there_for_those_who_may_and_the_wish_in_force_is_pressed() {
    let drained = Server { operator: AdminState::Drain, ..server("s1", UP) };
    let report = report(vec![drained, server("s2", UP)]);
    let view = View::parse("/;up?scope=n");
    assert!(!render(&report, &view, &ALONE).contains("method=\"post\""));
    let page = render(&report, &view, &Around { admin: true, ..ALONE });
    assert_eq!(page.matches("method=\"post\" action=\"./;up?scope=n\"").count(), 2);
    assert!(page.contains("name=\"b\" value=\"#4\"") && page.contains("name=\"s\" value=\"s2\""));
    let pressed = |word: &str| page.matches(&format!("value=\"{word}\" disabled aria-pressed=\"true\"")).count();
    assert_eq!((pressed("ready"), pressed("drain"), pressed("maint")), (1, 1, 0));
}

#[test]
fn a_form_leads_back_to_a_message() {
    let page = |address| render(&report(Vec::new()), &View::parse(address), &ALONE);
    assert!(page("/;st=DONE").contains("Done."));
    assert!(page("/;st=DENY").contains("may only be read"));
    assert!(!page("/").contains("class=\"message"));
}
