//! What stickiness makes of a request and of its response.

use std::{sync::Arc, time::SystemTime};

use http::{HeaderMap, HeaderValue, header, response};

use super::exchange::Exchange;
use crate::{
    h1::Lines,
    model::{Candidacy, CookieMode, CookiePolicy, InsertedCookie, Lifetime, StickyRequest, StickyResponse},
    registry::{Pool, Server},
    sticky::{self, Date, Dates, Verdict},
};

/// What stickiness asks for.
#[derive(Default)]
pub(super) struct Sticky {
    /// The pool, if it has a cookie.
    pool: Option<Arc<Pool>>,
    /// The server that the cookie names, when it may be used.
    pub(super) server: Option<Arc<Server>>,
    /// The dates with which the client gets the cookie again that it has.
    renewed: Option<Dates>,
    /// Whether the cookie was made with a key that is about to go.
    is_outdated: bool,
    /// When the client got its first cookie, if it says so: it keeps that date when it moves to another server.
    first: Option<Date>,
}

/// What one cookie is worth.
struct Found {
    letter: StickyRequest,
    server: Option<Arc<Server>>,
    renewed: Option<Dates>,
    is_outdated: bool,
    first: Option<Date>,
}

impl Found {
    fn nothing(letter: StickyRequest) -> Self {
        Self { letter, server: None, renewed: None, is_outdated: false, first: None }
    }
}

impl Sticky {
    /// Reads the cookies of a request and makes of them what the server gets.
    pub(super) fn read(headers: &mut HeaderMap, has_cookie: bool, pool: Arc<Pool>, exchange: &mut Exchange) -> Self {
        let Some(policy) = &pool.policy.cookie else { return Self::default() };
        exchange.termination.request = StickyRequest::None;
        exchange.termination.response = StickyResponse::None;
        if !has_cookie {
            return Self { pool: Some(pool), ..Self::default() };
        }
        let Found { letter, server, renewed, is_outdated, first } = find(headers, &pool, policy);
        exchange.termination.request = letter;
        if letter != StickyRequest::None {
            match policy.mode {
                CookieMode::Insert(_) => sticky::strip(headers, &policy.name),
                CookieMode::Prefix => sticky::strip_prefix(headers, &policy.name),
            }
        }
        Self { pool: Some(pool), server, renewed, is_outdated, first }
    }

    /// The request goes to that server: the one that the cookie names, or another because that one did not take it.
    pub(super) fn goes_to(&self, server: &Server, exchange: &mut Exchange) {
        if self.server.is_some() && !self.names(server) && exchange.termination.request == StickyRequest::Valid {
            exchange.termination.request = StickyRequest::Down;
        }
    }

    /// Makes sure that the client has a cookie for the server that answered.
    pub(super) fn answer(
        &self,
        parts: &mut response::Parts,
        lines: &mut Lines,
        server: &Server,
        exchange: &mut Exchange,
    ) {
        let Some(pool) = &self.pool else { return };
        let Some(CookiePolicy { name, mode }) = &pool.policy.cookie else { return };
        let letter = match mode {
            CookieMode::Insert(cookie) => self.insert(parts, lines, server, (pool, name, cookie), exchange),
            CookieMode::Prefix => {
                sticky::add_prefix(&mut parts.headers, name, &server.cookie).then_some(StickyResponse::Rewritten)
            }
        };
        exchange.termination.response = letter.unwrap_or(StickyResponse::None);
    }

    fn insert(
        &self,
        parts: &mut response::Parts,
        lines: &mut Lines,
        server: &Server,
        (pool, name, cookie): (&Pool, &str, &InsertedCookie),
        exchange: &Exchange,
    ) -> Option<StickyResponse> {
        if cookie.preserve && sticky::is_set(&parts.headers, name) {
            return Some(StickyResponse::Provided);
        }
        let deleted = sticky::strip_response(&mut parts.headers, name).then_some(StickyResponse::Deleted);
        let has_it = self.names(server);
        let fresh = || Dates::new(&cookie.lifetime, self.first, now(&cookie.lifetime));
        let dates = if has_it && !self.is_outdated { self.renewed } else { Some(fresh()) };
        let Some(dates) = dates else { return deleted };
        // A request that waited may have got a server that came meanwhile. One that has left meanwhile has no line any
        // more: its next request is balanced anew.
        let line = pool
            .set_cookie(server.id, dates)
            .or_else(|| exchange.client.worker.pool(&pool.name)?.set_cookie(server.id, dates));
        let Some(line) = line else { return deleted };
        lines.push(&header::SET_COOKIE, &line);
        if sticky::is_cacheable(&parts.headers, parts.status) {
            lines.push(&header::CACHE_CONTROL, &HeaderValue::from_static("private"));
        }
        Some(if has_it { StickyResponse::Updated } else { StickyResponse::Inserted })
    }

    fn names(&self, server: &Server) -> bool {
        self.server.as_ref().is_some_and(|named| named.id == server.id)
    }
}

/// The first cookie whose server can be used, as HAProxy does; else what the first one is worth that names a server which is
/// known. There can be several: one that was set for another domain or path stays in the browser beside the new one.
fn find(headers: &HeaderMap, pool: &Pool, CookiePolicy { name, mode }: &CookiePolicy) -> Found {
    let mut best = Found::nothing(StickyRequest::None);
    for value in sticky::values(headers, name) {
        let found = match mode {
            CookieMode::Insert(InsertedCookie { lifetime, .. }) => judge(value, lifetime, pool),
            CookieMode::Prefix => named(sticky::prefix_of(value).unwrap_or_default(), pool),
        };
        if found.server.is_some() {
            return found;
        }
        if matches!(best.letter, StickyRequest::None | StickyRequest::Invalid) {
            best = found;
        }
    }
    best
}

fn judge(value: &[u8], lifetime: &Lifetime, pool: &Pool) -> Found {
    let (name, dates) = Dates::split(value);
    match dates.judge(lifetime, now(lifetime)) {
        Verdict::Good => Found { first: dates.first, ..named(name, pool) },
        Verdict::Renew(renewed) => Found { renewed: Some(renewed), first: dates.first, ..named(name, pool) },
        Verdict::Expired => Found::nothing(StickyRequest::Expired),
        Verdict::TooOld => Found::nothing(StickyRequest::TooOld),
    }
}

fn named(name: &[u8], pool: &Pool) -> Found {
    match pool.by_cookie(name) {
        None => Found::nothing(StickyRequest::Invalid),
        Some(server) if server.candidacy() == Candidacy::Nobody => Found::nothing(StickyRequest::Down),
        Some(server) => Found {
            server: Some(Arc::clone(server)),
            is_outdated: name != server.cookie.as_bytes(),
            ..Found::nothing(StickyRequest::Valid)
        },
    }
}

/// The clock is read only where a limit asks for it.
fn now(lifetime: &Lifetime) -> Date {
    if lifetime.is_unlimited() { Date::default() } else { Date::at(SystemTime::now()) }
}
