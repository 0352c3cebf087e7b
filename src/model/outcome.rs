//! How a request ended, as the four letters of HAProxy's termination state.

/// Who ended the request: the first letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Cause {
    /// Ended normally.
    #[default]
    Normal,
    /// The client closed.
    Client,
    /// The client was silent too long.
    ClientTimeout,
    /// The server closed or refused.
    Server,
    /// The server was silent too long.
    ServerTimeout,
    /// The proxy refused: bad syntax or a rule.
    Proxy,
    /// A resource of the balancer ran out.
    Resource,
    /// A bug of ours.
    Internal,
    /// The balancer was stopping and waited no longer.
    Stopped,
}

/// How far it had come: the second letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Phase {
    /// To its end.
    #[default]
    Done,
    /// Waiting for a complete request.
    Request,
    /// Waiting for a free server.
    Queue,
    /// Connecting to the server.
    Connect,
    /// Waiting for the response head.
    Headers,
    /// Transferring the body.
    Data,
}

/// What the request's cookie was worth: the third letter (HAProxy's configuration manual, section 8.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StickyRequest {
    /// The pool has no cookie.
    #[default]
    Off,
    /// No cookie came.
    None,
    /// It names no server that we know.
    Invalid,
    /// Its server is down, in maintenance, about to stop, or did not take the request.
    Down,
    /// It was not used for too long (`max-idle`).
    Expired,
    /// It was first given out too long ago (`max-life`).
    TooOld,
    /// It chose the server.
    Valid,
}

/// What was done to the response's cookie: the fourth letter (the same section).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum StickyResponse {
    /// The pool has no cookie.
    #[default]
    Off,
    /// Nothing.
    None,
    /// One was inserted.
    Inserted,
    /// The client's own was given another date.
    Updated,
    /// The server's passed as it was.
    Provided,
    /// The server's got the server's name before it.
    Rewritten,
    /// The server's was deleted, and none inserted.
    Deleted,
}

/// The whole termination state; `Display` writes the four letters, such as `--VN` or `SC--`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Termination {
    /// First letter.
    pub cause: Cause,
    /// Second letter.
    pub phase: Phase,
    /// Third letter.
    pub request: StickyRequest,
    /// Fourth letter.
    pub response: StickyResponse,
}

impl Termination {
    /// The four letters.
    pub fn letters(self) -> [u8; 4] {
        let cause = match self.cause {
            Cause::Normal => b'-',
            Cause::Client => b'C',
            Cause::ClientTimeout => b'c',
            Cause::Server => b'S',
            Cause::ServerTimeout => b's',
            Cause::Proxy => b'P',
            Cause::Resource => b'R',
            Cause::Internal => b'I',
            Cause::Stopped => b'K',
        };
        let phase = match self.phase {
            Phase::Done => b'-',
            Phase::Request => b'R',
            Phase::Queue => b'Q',
            Phase::Connect => b'C',
            Phase::Headers => b'H',
            Phase::Data => b'D',
        };
        let request = match self.request {
            StickyRequest::Off => b'-',
            StickyRequest::None => b'N',
            StickyRequest::Invalid => b'I',
            StickyRequest::Down => b'D',
            StickyRequest::Expired => b'E',
            StickyRequest::TooOld => b'O',
            StickyRequest::Valid => b'V',
        };
        let response = match self.response {
            StickyResponse::Off => b'-',
            StickyResponse::None => b'N',
            StickyResponse::Inserted => b'I',
            StickyResponse::Updated => b'U',
            StickyResponse::Provided => b'P',
            StickyResponse::Rewritten => b'R',
            StickyResponse::Deleted => b'D',
        };
        [cause, phase, request, response]
    }
}

impl std::fmt::Display for Termination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for letter in self.letters() {
            write!(f, "{}", char::from(letter))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_letters_are_those_of_haproxy() {
        assert_eq!(Termination::default().to_string(), "----");
        let refused = Termination { cause: Cause::Server, phase: Phase::Connect, ..Termination::default() };
        assert_eq!(refused.to_string(), "SC--");
        let sticky =
            Termination { request: StickyRequest::Valid, response: StickyResponse::None, ..Termination::default() };
        assert_eq!(sticky.to_string(), "--VN");
    }
}
