//! The cookie of a pool.

use std::time::Duration;

use toml::Spanned;

use crate::{
    config::{
        CookieModeChoice,
        checker::{Checker, parse_duration},
        raw::{OneOrMore, RawCookie, Text},
    },
    model::{CookieMode, CookiePolicy, InsertedCookie, Lifetime, SameSite},
};

/// Longest name of a domain (RFC 1035 section 2.3.4).
const LONGEST_DOMAIN: usize = 253;

impl Checker<'_> {
    pub(super) fn cookie(&mut self, raw: Spanned<RawCookie>) -> Option<CookiePolicy> {
        let place = raw.span().start;
        let RawCookie { name, mode, preserve, http_only, secure, same_site, domain, max_idle, max_life } =
            raw.into_inner();
        if name.is_none() {
            self.note(Some(place), "a pool's cookie has no name: name = \"SERVERID\" is expected");
        }
        let same_site_place = same_site.as_ref().map(|text| text.span().start);
        let same_site = self.parse::<SameSite>(same_site, "same-site");
        if same_site == Some(SameSite::None) && !secure {
            let message = "same-site: browsers drop a cookie with \"none\" that is not secure: say secure = true";
            self.note(same_site_place, message);
        }
        let cookie = InsertedCookie {
            preserve,
            http_only,
            secure,
            same_site,
            domains: domain.map(|domain| self.domains(domain)).unwrap_or_default(),
            lifetime: Lifetime {
                max_idle: self.seconds(max_idle, "max-idle"),
                max_life: self.seconds(max_life, "max-life"),
            },
        };
        let mode_place = mode.as_ref().map(|text| text.span().start);
        let mode = match self.parse(mode, "mode").unwrap_or_default() {
            CookieModeChoice::Insert => CookieMode::Insert(cookie),
            CookieModeChoice::Prefix => {
                if let Err(message) = lacks_attributes(&cookie) {
                    self.note(mode_place, &format!("mode: {message}"));
                }
                CookieMode::Prefix
            }
        };
        self.convert(name?, "cookie name", |name| CookiePolicy::new(name, mode))
    }

    fn domains(&mut self, domain: Spanned<OneOrMore>) -> Vec<String> {
        let span = domain.span();
        let domains = match domain.into_inner() {
            OneOrMore::One(one) => vec![one],
            OneOrMore::More(more) => more,
        };
        domains
            .into_iter()
            .filter_map(|text| self.convert(Spanned::new(span.clone(), text), "domain", parse_domain))
            .collect()
    }

    fn seconds(&mut self, text: Option<Text>, key: &str) -> Option<Duration> {
        self.convert(text?, key, |text| match parse_duration(text)? {
            time if time < Duration::from_secs(1) => {
                Err(format!("{text:?} is too short: at least '1s' is expected; leave it out for no limit"))
            }
            time => Ok(time),
        })
    }
}

/// Lets the command line's words about the cookie win; the attributes stay those of the file.
pub(super) fn override_cookie(
    policy: &mut Option<CookiePolicy>,
    name: Option<&str>,
    mode: Option<CookieModeChoice>,
    checker: &mut Checker<'_>,
) {
    let before = policy.take();
    let Some(new_name) = name.or(before.as_ref().map(|policy| policy.name.as_str())) else {
        if mode.is_some() {
            checker.note(None, "--cookie-mode says nothing without a cookie: add --cookie NAME");
        }
        return;
    };
    let old_mode = before.as_ref().map(|policy| policy.mode.clone()).unwrap_or_default();
    let new_mode = match (mode, old_mode) {
        (None | Some(CookieModeChoice::Insert), CookieMode::Insert(cookie)) => CookieMode::Insert(cookie),
        (Some(CookieModeChoice::Insert), CookieMode::Prefix) => CookieMode::default(),
        (None | Some(CookieModeChoice::Prefix), CookieMode::Prefix) => CookieMode::Prefix,
        (Some(CookieModeChoice::Prefix), CookieMode::Insert(cookie)) => {
            if let Err(message) = lacks_attributes(&cookie) {
                checker.note(None, &format!("--cookie-mode prefix: {message}"));
            }
            CookieMode::Prefix
        }
    };
    match CookiePolicy::new(new_name, new_mode) {
        Ok(new) => *policy = Some(new),
        Err(message) => checker.note(None, &format!("--cookie: {message}")),
    }
}

/// Attributes of a cookie that is the application's would do nothing.
fn lacks_attributes(cookie: &InsertedCookie) -> Result<(), String> {
    if *cookie == InsertedCookie::default() {
        return Ok(());
    }
    Err("the application's cookie keeps its own attributes: leave preserve, http-only, secure, same-site, domain, \
         max-idle and max-life out"
        .to_owned())
}

/// A domain as a Set-Cookie line has it; a dot in front is allowed, and browsers ignore it (RFC 6265 section 5.2.3).
fn parse_domain(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        !label.is_empty() && label.len() <= 63 && label.bytes().all(inner) && !label.starts_with('-')
    };
    let name = text.strip_prefix('.').unwrap_or(text);
    if name.len() <= LONGEST_DOMAIN && name.split('.').all(is_label) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is no domain: a name such as \"shop.example\" is expected"))
    }
}
