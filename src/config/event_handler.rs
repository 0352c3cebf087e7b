//! Commands that are run when something happens to a member of the cluster.

use std::{collections::BTreeSet, str::FromStr};

use crate::model::MemberEvent;

/// `EVENT[,EVENT…]=COMMAND`, or a command for every event, as Serf's `-event-handler` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventHandler {
    /// The events that it is for.
    pub events: BTreeSet<MemberEvent>,
    /// What `sh -c` gets.
    pub command: String,
}

/// Why a text is no handler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EventHandlerError {
    /// Nothing is to be run.
    #[error("{0:?} has no command: EVENT[,EVENT...]=COMMAND or COMMAND is expected")]
    Command(String),
    /// There is no such event.
    #[error(
        "{0:?} is no event: one of member-join, member-leave, member-failed, member-update, member-reap, * is expected"
    )]
    Event(String),
}

impl FromStr for EventHandler {
    type Err = EventHandlerError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (events, command) = match text.split_once('=').filter(|(left, _)| looks_like_events(left)) {
            Some((events, command)) => (read_events(events)?, command),
            None => (MemberEvent::ALL.into(), text),
        };
        if command.trim().is_empty() || command.contains('\0') {
            return Err(EventHandlerError::Command(text.to_owned()));
        }
        Ok(Self { events, command: command.to_owned() })
    }
}

/// What is before the first equals sign may be a part of the command, such as `A=1 /handler`.
fn looks_like_events(left: &str) -> bool {
    left.bytes().all(|byte| byte.is_ascii_lowercase() || matches!(byte, b'-' | b',' | b'*' | b':'))
}

fn read_events(text: &str) -> Result<BTreeSet<MemberEvent>, EventHandlerError> {
    let mut events = BTreeSet::new();
    for word in text.split(',') {
        if word == "*" {
            events.extend(MemberEvent::ALL);
        } else {
            let event = MemberEvent::ALL.into_iter().find(|event| event.word() == word);
            events.insert(event.ok_or_else(|| EventHandlerError::Event(word.to_owned()))?);
        }
    }
    Ok(events)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<(usize, String), String> {
        let handler = text.parse::<EventHandler>().map_err(|error| error.to_string())?;
        Ok((handler.events.len(), handler.command))
    }

    #[test]
    fn a_handler_is_for_the_events_that_it_names_or_for_all() {
        assert_eq!(read("/bin/h"), Ok((5, "/bin/h".into())));
        assert_eq!(read("member-join,member-leave=/bin/h a=b"), Ok((2, "/bin/h a=b".into())));
        assert_eq!(read("*=/bin/h"), Ok((5, "/bin/h".into())));
        assert_eq!(read("A=1 /bin/h"), Ok((5, "A=1 /bin/h".into())));
    }

    #[test]
    fn what_is_no_handler_says_why() {
        assert!(read("member-gone=/bin/h").unwrap_err().starts_with("\"member-gone\" is no event"));
        assert!(read("user:deploy=/bin/h").unwrap_err().starts_with("\"user:deploy\" is no event"));
        assert!(read("member-join=").unwrap_err().contains("has no command"));
        assert!(read(" ").is_err());
    }
}
