//! What a request for the stats page asks for, and the links that ask for something else.
//!
//! Options are found anywhere in the address, as in HAProxy, and not parsed as a query: tools in use ask for `/;csv`,
//! `/haproxy?stats/;csv` and `/stats;csv;norefresh`.

use super::actions::Outcome;

/// What is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Filter {
    /// Servers that are down or in maintenance.
    pub(super) hide_down: bool,
    /// Servers in maintenance.
    pub(super) hide_maint: bool,
    /// Proxies whose name does not contain this text, in any case.
    pub(super) scope: Option<String>,
}

/// How the report is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Format {
    #[default]
    Html,
    Csv,
}

/// What a request asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct View {
    pub(super) format: Format,
    pub(super) filter: Filter,
    /// The page must not load itself anew.
    pub(super) no_refresh: bool,
    /// What became of a form that led here.
    pub(super) outcome: Option<Outcome>,
}

/// Longest scope in characters, as in HAProxy.
pub(super) const MAX_SCOPE: usize = 20;

impl View {
    /// Reads the options out of a path with its query.
    pub(super) fn parse(address: &str) -> Self {
        Self {
            format: if address.contains(";csv") { Format::Csv } else { Format::Html },
            filter: Filter {
                hide_down: address.contains(";up"),
                hide_maint: address.contains(";no-maint"),
                scope: scope(address),
            },
            no_refresh: address.contains(";norefresh"),
            outcome: address
                .split_once(";st=")
                .and_then(|(_, rest)| Outcome::ALL.into_iter().find(|outcome| rest.starts_with(outcome.word()))),
        }
    }

    /// The address that asks for this view, without what became of a form. It is relative, so that it also leads here through a proxy that serves this
    /// page under a path of its own.
    pub(super) fn address(&self) -> String {
        let query = self.filter.scope.as_ref().map(|scope| format!("?scope={}", encoded(scope)));
        format!("{}{}", self.path(), query.unwrap_or_default())
    }

    /// The address of this view after a form.
    pub(super) fn address_after(&self, outcome: Outcome) -> String {
        self.address().replacen("./", &format!("./;st={}", outcome.word()), 1)
    }

    /// The same without the scope: where the form that asks for one leads.
    pub(super) fn path(&self) -> String {
        let Self { format, filter: Filter { hide_down, hide_maint, scope: _ }, no_refresh, outcome: _ } = self;
        let options = [
            (*format == Format::Csv, ";csv"),
            (*hide_down, ";up"),
            (*hide_maint, ";no-maint"),
            (*no_refresh, ";norefresh"),
        ];
        std::iter::once("./").chain(options.into_iter().filter(|(on, _)| *on).map(|(_, word)| word)).collect()
    }
}

fn scope(address: &str) -> Option<String> {
    let (_, rest) = address.split_once("scope=")?;
    let end = rest.find([';', '&', ' ']).unwrap_or(rest.len());
    // Of the characters that a name may have, a form encodes only the colon.
    let scope = rest[..end].replace("%3A", ":").replace("%3a", ":");
    let scope: String = scope.chars().take(MAX_SCOPE).collect();
    (!scope.is_empty()).then_some(scope)
}

/// What is no part of a name finds nothing, but must not change the address either.
fn encoded(scope: &str) -> String {
    scope.replace(['&', ';', '#', '"', ' '], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_found_anywhere() {
        for address in ["/;csv", "/haproxy?stats/;csv", "/stats;csv;norefresh", "/foo?x;csv"] {
            assert_eq!(View::parse(address).format, Format::Csv, "{address}");
        }
        let view = View::parse("/;up;no-maint;norefresh?scope=Nodes&x=1");
        let filter = Filter { hide_down: true, hide_maint: true, scope: Some("Nodes".into()) };
        assert_eq!(view, View { format: Format::Html, filter, no_refresh: true, outcome: None });
        assert_eq!(View::parse("/stats"), View::default());
    }

    #[test]
    fn an_address_leads_back_to_its_view() {
        for address in
            ["./", "./;csv", "./;up;norefresh", "./;no-maint?scope=a", "./;csv;up;no-maint;norefresh?scope=a:b"]
        {
            assert_eq!(View::parse(address).address(), address);
        }
    }

    #[test]
    fn what_became_of_a_form_is_shown_once() {
        let view = View::parse("/;st=DONE;up?scope=a");
        assert_eq!(view.outcome, Some(Outcome::Done));
        assert_eq!(view.address(), "./;up?scope=a");
        assert_eq!(view.address_after(Outcome::Partial), "./;st=PART;up?scope=a");
        assert_eq!(View::parse("/;st=XXXX").outcome, None);
    }

    #[test]
    fn a_scope_is_short_and_may_be_empty() {
        assert_eq!(scope("/?scope="), None);
        assert_eq!(scope("/?scope=a%3Ab;x").as_deref(), Some("a:b"));
        assert_eq!(scope(&format!("/?scope={}", "é".repeat(30))).map(|scope| scope.chars().count()), Some(MAX_SCOPE));
    }
}
