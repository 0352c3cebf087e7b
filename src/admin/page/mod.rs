//! The stats page.
//!
//! Its table is HAProxy's, column by column and colour by colour, because the people on call read it by habit. Markup,
//! style and texts are our own. There is no script: the page loads itself anew by a header, and tooltips are CSS.

mod layout;
mod table;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::{MemberRow, report::Report, view::View};

/// What the page shows beside the report.
pub(super) struct Around<'a> {
    /// `None` when the cluster did not answer; empty when this balancer is in none.
    pub(super) members: Option<&'a [MemberRow]>,
    /// Shown above everything else.
    pub(super) notes: &'a [String],
    /// How often the page may load itself anew; less than a second is never.
    pub(super) refresh: Duration,
    /// Whether servers can be put into another state here.
    pub(super) admin: bool,
}

/// Writes the page.
pub(super) fn render(report: &Report, view: &View, around: &Around<'_>) -> String {
    layout::page(report, view, around).into_string()
}
