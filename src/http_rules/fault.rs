//! The one table from what went wrong to what the client gets and what the log says.

use http::StatusCode;

use super::Rejection;
use crate::model::{Cause, Phase};

/// Why a request got no answer from a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The request breaks a rule.
    Rejected(Rejection),
    /// The pool has no server that takes requests.
    NoServer,
    /// Every server was full, and as many requests wait as may.
    QueueFull,
    /// Every server was full for too long.
    QueueTimeout,
    /// No server accepted a connection, after all tries.
    ConnectRefused,
    /// No server accepted a connection in time.
    ConnectTimeout,
    /// The system gave no file descriptor for a connection to the server.
    NoDescriptor,
    /// The server closed before its response head.
    ServerClosed,
    /// The response is not valid HTTP.
    InvalidResponse,
    /// The server was silent too long before its response head.
    ServerTimeout,
    /// The request's body did not come in time.
    ClientTimeout,
    /// The request's body broke off or was not valid.
    ClientBody,
    /// The request's body is longer than the operator allows.
    BodyTooLarge,
}

impl Fault {
    /// Status for the client, and the first two letters of the termination state.
    pub fn verdict(self) -> (StatusCode, Cause, Phase) {
        match self {
            Self::Rejected(rejection) => (rejection.status(), Cause::Proxy, Phase::Request),
            Self::NoServer | Self::ConnectRefused => (StatusCode::SERVICE_UNAVAILABLE, Cause::Server, Phase::Connect),
            Self::QueueFull => (StatusCode::SERVICE_UNAVAILABLE, Cause::Server, Phase::Queue),
            Self::QueueTimeout => (StatusCode::SERVICE_UNAVAILABLE, Cause::ServerTimeout, Phase::Queue),
            Self::ConnectTimeout => (StatusCode::SERVICE_UNAVAILABLE, Cause::ServerTimeout, Phase::Connect),
            Self::NoDescriptor => (StatusCode::SERVICE_UNAVAILABLE, Cause::Resource, Phase::Connect),
            Self::ServerClosed => (StatusCode::BAD_GATEWAY, Cause::Server, Phase::Headers),
            Self::InvalidResponse => (StatusCode::BAD_GATEWAY, Cause::Proxy, Phase::Headers),
            Self::ServerTimeout => (StatusCode::GATEWAY_TIMEOUT, Cause::ServerTimeout, Phase::Headers),
            Self::ClientTimeout => (StatusCode::REQUEST_TIMEOUT, Cause::ClientTimeout, Phase::Data),
            Self::ClientBody => (StatusCode::BAD_REQUEST, Cause::Client, Phase::Data),
            Self::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, Cause::Proxy, Phase::Request),
        }
    }

    /// Whether the client's request is what is wrong.
    pub fn is_of_client(self) -> bool {
        match self {
            Self::Rejected(_) | Self::ClientTimeout | Self::ClientBody | Self::BodyTooLarge => true,
            Self::NoServer
            | Self::QueueFull
            | Self::QueueTimeout
            | Self::ConnectRefused
            | Self::ConnectTimeout
            | Self::NoDescriptor
            | Self::ServerClosed
            | Self::InvalidResponse
            | Self::ServerTimeout => false,
        }
    }

    /// The body for the client: what happened, nothing about the inside.
    pub fn body(self) -> &'static str {
        body_of(self.verdict().0)
    }
}

/// The body that goes with a status of our own.
fn body_of(status: StatusCode) -> &'static str {
    match status.as_u16() {
        400 => "400 Bad Request: the request is not valid HTTP.\n",
        405 => "405 Method Not Allowed: this method is not served here.\n",
        408 => "408 Request Timeout: the request was not complete in time.\n",
        413 => "413 Payload Too Large: the body is longer than allowed here.\n",
        414 => "414 URI Too Long: the path is longer than allowed here.\n",
        417 => "417 Expectation Failed: only 100-continue can be expected.\n",
        431 => "431 Request Header Fields Too Large: the head is longer than allowed here.\n",
        502 => "502 Bad Gateway: the server gave no valid response.\n",
        503 => "503 Service Unavailable: no server is available to handle this request.\n",
        504 => "504 Gateway Timeout: the server did not respond in time.\n",
        _ => "The request cannot be served.\n",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Termination;

    fn row(fault: Fault) -> (u16, String) {
        let (status, cause, phase) = fault.verdict();
        let flags = Termination { cause, phase, ..Termination::default() }.to_string();
        (status.as_u16(), flags[..2].to_owned())
    }

    #[test]
    fn events_have_the_status_and_flags_of_the_table() {
        let rows = [
            (Fault::NoServer, 503, "SC"),
            (Fault::QueueFull, 503, "SQ"),
            (Fault::QueueTimeout, 503, "sQ"),
            (Fault::ConnectRefused, 503, "SC"),
            (Fault::ConnectTimeout, 503, "sC"),
            (Fault::NoDescriptor, 503, "RC"),
            (Fault::ServerClosed, 502, "SH"),
            (Fault::InvalidResponse, 502, "PH"),
            (Fault::ServerTimeout, 504, "sH"),
            (Fault::Rejected(Rejection::Host), 400, "PR"),
            (Fault::Rejected(Rejection::Method), 405, "PR"),
            (Fault::Rejected(Rejection::TargetTooLong), 414, "PR"),
            (Fault::Rejected(Rejection::Expectation), 417, "PR"),
            (Fault::ClientTimeout, 408, "cD"),
            (Fault::ClientBody, 400, "CD"),
            (Fault::BodyTooLarge, 413, "PR"),
        ];
        for (fault, status, flags) in rows {
            assert_eq!(row(fault), (status, flags.to_owned()), "{fault:?}");
            assert!(fault.body().starts_with(&status.to_string()), "{fault:?}");
        }
    }
}
