//! What may be sent again, to whom, and when.
//!
//! The question is never "would it help" but "could the server have acted on it already". A request that never left may
//! always be sent; one that left may be sent again, once, only if repeating it is harmless (RFC 9110 section 9.2.2). A server
//! that closes a connection which it had kept for reuse is most likely tired of waiting, and any idempotent request is
//! repeated. One that closes a new connection is more likely dying, with the request perhaps half done: then only a
//! request that changes nothing is repeated, so that a server's sudden death fails no reader, and the dead one is left
//! alone.

#![deny(clippy::disallowed_methods, clippy::disallowed_types)]

use std::time::Duration;

use http::Method;

use crate::model::RetryOn;

/// How a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No connection was made.
    Connect,
    /// The connection was there, but nothing of the request was written to it.
    NotSent,
    /// The request was sent, and the connection closed before any byte of a response.
    ClosedBeforeResponse,
    /// The same, and it did not end in good order.
    ResetBeforeResponse,
    /// The request was sent, and no byte of a response came in time.
    Silence,
}

/// What has been done for a request so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// Connections that failed.
    pub connect_failures: u32,
    /// Servers that were silent.
    pub silences: u32,
    /// How many of both together may be.
    pub retries: u32,
    /// What else the operator wants to be tried again.
    pub retry_on: RetryOn,
    /// Whether the request was sent a second time already.
    pub resent: bool,
    /// Whether the connection had served a request before.
    pub reused: bool,
    /// Whether the request can be repeated: idempotent, and nothing of its body was read.
    pub repeatable: bool,
    /// Whether it also changes nothing at the server.
    pub safe: bool,
    /// Whether the pool has a server that was not tried.
    pub others_left: bool,
    /// Whether no server was silent, or the pool has one that was not.
    pub any_left: bool,
    /// Whether a cookie chose the server.
    pub sticky: bool,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Choose a server that was not tried; if the request was sent before, on a fresh connection.
    Elsewhere,
    /// Try the same servers again after a pause, without those that were silent.
    Again {
        /// How long to wait first.
        after: Duration,
    },
    /// The same server, on a fresh connection, at once.
    FreshConnection,
    /// Answer with the error.
    GiveUp,
}

/// Pause before a server is tried again that has just refused: long enough for one that restarts.
const PAUSE: Duration = Duration::from_millis(250);

/// Decides what happens to a request whose last try failed.
pub fn decide(failure: Failure, history: History) -> Decision {
    let History {
        connect_failures,
        silences,
        retries,
        retry_on,
        resent,
        reused,
        repeatable,
        safe,
        others_left,
        any_left,
        sticky,
    } = history;
    let used_up = connect_failures + silences > retries;
    match failure {
        Failure::NotSent if reused => Decision::FreshConnection,
        // A server that accepts and closes at once is as good as one that refuses.
        Failure::Connect | Failure::NotSent if used_up => Decision::GiveUp,
        Failure::Connect | Failure::NotSent if others_left => Decision::Elsewhere,
        Failure::Connect | Failure::NotSent if any_left => Decision::Again { after: PAUSE },
        Failure::Connect | Failure::NotSent => Decision::GiveUp,
        // A server that closes may be about to go: another one is the safer choice, unless the user's session is there.
        Failure::ClosedBeforeResponse | Failure::ResetBeforeResponse if reused && repeatable && !resent => {
            if others_left && !sticky {
                Decision::Elsewhere
            } else {
                Decision::FreshConnection
            }
        }
        Failure::ClosedBeforeResponse | Failure::ResetBeforeResponse
            if repeatable && safe && !resent && others_left =>
        {
            // It did not close for idleness: it is dying, or the request is what kills it. So the only server of a pool is
            // not asked again, and nothing goes to a third. Somebody whose session is there must not lose it to a server
            // that lives: it is asked once more.
            if sticky { Decision::FreshConnection } else { Decision::Elsewhere }
        }
        Failure::ClosedBeforeResponse | Failure::ResetBeforeResponse => Decision::GiveUp,
        // Never to the same server, which may still be at it; a user whose session is there waits for it in vain, too.
        Failure::Silence if retry_on.response_timeout && repeatable && others_left && !used_up => Decision::Elsewhere,
        Failure::Silence => Decision::GiveUp,
    }
}

/// Whether repeating the method is harmless (RFC 9110 section 9.2.2).
pub fn is_idempotent(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE, Method::PUT, Method::DELETE].contains(method)
}

/// Whether the method asks for nothing but an answer (RFC 9110 section 9.2.1).
pub fn is_safe(method: &Method) -> bool {
    [Method::GET, Method::HEAD, Method::OPTIONS, Method::TRACE].contains(method)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: History = History {
        connect_failures: 1,
        silences: 0,
        retries: 3,
        retry_on: RetryOn { response_timeout: false },
        resent: false,
        reused: true,
        repeatable: true,
        safe: false,
        others_left: true,
        any_left: true,
        sticky: false,
    };

    #[test]
    fn a_refused_request_goes_elsewhere_until_the_retries_are_used_up() {
        assert_eq!(decide(Failure::Connect, FIRST), Decision::Elsewhere);
        assert_eq!(decide(Failure::Connect, History { others_left: false, ..FIRST }), Decision::Again { after: PAUSE });
        let only_silent_ones = History { others_left: false, any_left: false, ..FIRST };
        assert_eq!(decide(Failure::Connect, only_silent_ones), Decision::GiveUp);
        assert_eq!(decide(Failure::Connect, History { connect_failures: 3, ..FIRST }), Decision::Elsewhere);
        assert_eq!(decide(Failure::Connect, History { connect_failures: 4, ..FIRST }), Decision::GiveUp);
    }

    #[test]
    fn a_sent_request_is_repeated_once_and_only_when_harmless() {
        let closed = |history| decide(Failure::ClosedBeforeResponse, history);
        assert_eq!(closed(FIRST), Decision::Elsewhere);
        assert_eq!(closed(History { sticky: true, ..FIRST }), Decision::FreshConnection);
        assert_eq!(closed(History { others_left: false, ..FIRST }), Decision::FreshConnection);
        assert_eq!(closed(History { resent: true, ..FIRST }), Decision::GiveUp);
        assert_eq!(closed(History { repeatable: false, ..FIRST }), Decision::GiveUp);
    }

    #[test]
    fn a_request_that_changes_nothing_survives_the_death_of_the_server_that_took_it() {
        let closed = |history| decide(Failure::ResetBeforeResponse, history);
        let fresh = History { reused: false, safe: true, ..FIRST };
        assert_eq!(closed(fresh), Decision::Elsewhere);
        assert_eq!(closed(History { sticky: true, ..fresh }), Decision::FreshConnection);
        assert_eq!(closed(History { safe: false, ..fresh }), Decision::GiveUp);
        assert_eq!(closed(History { repeatable: false, ..fresh }), Decision::GiveUp, "it has a body that was read");
        assert_eq!(closed(History { resent: true, ..fresh }), Decision::GiveUp);
        assert_eq!(closed(History { others_left: false, ..fresh }), Decision::GiveUp);
    }

    #[test]
    fn a_silent_server_is_left_only_where_the_operator_wants_it_and_it_is_harmless() {
        let silent = |history| decide(Failure::Silence, history);
        let retry_on = RetryOn { response_timeout: true };
        let wanted = History { retry_on, silences: 1, connect_failures: 0, reused: false, ..FIRST };
        assert_eq!(silent(History { retry_on: RetryOn::default(), ..wanted }), Decision::GiveUp);
        assert_eq!(silent(wanted), Decision::Elsewhere);
        assert_eq!(silent(History { sticky: true, resent: true, ..wanted }), Decision::Elsewhere);
        assert_eq!(silent(History { repeatable: false, ..wanted }), Decision::GiveUp);
        assert_eq!(silent(History { others_left: false, ..wanted }), Decision::GiveUp);
        assert_eq!(silent(History { silences: 3, ..wanted }), Decision::Elsewhere);
        assert_eq!(silent(History { silences: 3, connect_failures: 1, ..wanted }), Decision::GiveUp);
        assert_eq!(silent(History { retries: 0, ..wanted }), Decision::GiveUp);
    }

    #[test]
    fn a_request_that_never_left_may_always_be_sent() {
        let worst = History { repeatable: false, resent: true, ..FIRST };
        assert_eq!(decide(Failure::NotSent, worst), Decision::FreshConnection);
        assert_eq!(decide(Failure::NotSent, History { reused: false, ..worst }), Decision::Elsewhere);
    }

    #[test]
    fn a_post_is_not_idempotent() {
        assert!(is_idempotent(&Method::GET) && is_idempotent(&Method::DELETE));
        assert!(!is_idempotent(&Method::POST) && !is_idempotent(&Method::PATCH));
        assert!(is_safe(&Method::GET) && !is_safe(&Method::DELETE) && !is_safe(&Method::POST));
    }
}
