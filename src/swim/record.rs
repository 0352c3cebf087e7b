//! What a node serves.
//!
//! Why is the address not part of it? Without a key anybody could send a record that points the balancer at a third
//! machine; the server's address is where the member itself is, and only the port is the node's to choose.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::model::{NameError, NodeId, NodeState, PoolName, ServerName, Weight};

/// Longest record on the wire, in bytes.
pub const MAX_RECORD: usize = 900;

/// What a node says of itself. Owned by that node; everybody else holds a copy.
///
/// A balancer has one, too, for its name in the list of members: service `balancer`, port 0.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawRecord", into = "RawRecord")]
pub struct ServiceRecord {
    /// The boot that owns the record. Set by the owner's [`super::Node`].
    pub node_id: NodeId,
    /// Its hostname, usually; also its server's name in the pool.
    pub name: ServerName,
    /// Grows with each change. Set by the owner's [`super::Node`].
    pub version: u64,
    /// The pool that it serves.
    pub service: PoolName,
    /// TCP port of the application; 0 for a balancer.
    pub port: u16,
    /// Its share of the pool.
    pub weight: Weight,
    /// Whether it takes requests.
    pub state: NodeState,
    /// Free pairs for people and scripts.
    pub tags: BTreeMap<String, String>,
    /// Version of the application, for people.
    pub app_version: String,
}

/// Why a record is not sent or accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    /// The name or the service is not a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The weight is above 256.
    #[error("weight {0} is above 256")]
    Weight(u16),
    /// A tag or the application's version has a control character, which would garble logs and terminals.
    #[error("{0:?} has a control character")]
    Text(String),
    /// The record is longer than [`MAX_RECORD`] bytes when encoded.
    #[error("the record is {0} bytes long, at most {MAX_RECORD} fit: shorten its tags")]
    Size(usize),
}

impl ServiceRecord {
    /// A record of a node that is not ready yet, with the default weight and no tags.
    pub fn new(name: ServerName, service: PoolName, port: u16) -> Self {
        Self {
            node_id: NodeId(0),
            name,
            version: 0,
            service,
            port,
            weight: Weight::DEFAULT,
            state: NodeState::Starting,
            tags: BTreeMap::new(),
            app_version: String::new(),
        }
    }

    /// Whether the record can be sent.
    ///
    /// # Errors
    /// When it is too long, or one of its texts has a control character.
    pub fn check(&self) -> Result<(), RecordError> {
        let Self { node_id: _, name: _, version: _, service: _, port: _, weight: _, state: _, tags, app_version } =
            self;
        let texts = tags.iter().flat_map(|(key, value)| [key, value]).chain([app_version]);
        for text in texts {
            if text.chars().any(char::is_control) {
                return Err(RecordError::Text(text.chars().take(32).collect()));
            }
        }
        // The owner fills in id and version later: judge with the longest of both, so that a good record stays good.
        let longest = Self { node_id: NodeId(u64::MAX), version: u64::MAX, ..self.clone() };
        match postcard::to_stdvec(&longest).map(|bytes| bytes.len()) {
            Ok(size) if size <= MAX_RECORD => Ok(()),
            Ok(size) => Err(RecordError::Size(size)),
            Err(_) => Err(RecordError::Size(usize::MAX)),
        }
    }

    /// Whether both say the same of the node, whatever their versions.
    pub(crate) fn says_the_same_as(&self, other: &Self) -> bool {
        *self == Self { node_id: self.node_id, version: self.version, ..other.clone() }
    }
}

/// A record as it travels: nothing in it is believed yet.
#[derive(Serialize, Deserialize)]
struct RawRecord {
    node_id: NodeId,
    name: String,
    version: u64,
    service: String,
    port: u16,
    weight: u16,
    state: NodeState,
    tags: BTreeMap<String, String>,
    app_version: String,
}

impl From<ServiceRecord> for RawRecord {
    fn from(record: ServiceRecord) -> Self {
        let ServiceRecord { node_id, name, version, service, port, weight, state, tags, app_version } = record;
        Self {
            node_id,
            name: name.as_str().to_owned(),
            version,
            service: service.as_str().to_owned(),
            port,
            weight: weight.get(),
            state,
            tags,
            app_version,
        }
    }
}

impl TryFrom<RawRecord> for ServiceRecord {
    type Error = RecordError;

    fn try_from(raw: RawRecord) -> Result<Self, Self::Error> {
        let RawRecord { node_id, name, version, service, port, weight, state, tags, app_version } = raw;
        let record = Self {
            node_id,
            name: ServerName::parse(&name)?,
            version,
            service: PoolName::parse(&service)?,
            port,
            weight: Weight::new(weight).map_err(|_| RecordError::Weight(weight))?,
            state,
            tags,
            app_version,
        };
        record.check()?;
        Ok(record)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> ServiceRecord {
        let mut record =
            ServiceRecord::new(ServerName::parse("web1").unwrap(), PoolName::parse("nodes").unwrap(), 3000);
        record.tags.insert("zone".into(), "a".into());
        record
    }

    fn decode(raw: &RawRecord) -> Result<ServiceRecord, postcard::Error> {
        postcard::from_bytes(&postcard::to_stdvec(raw).unwrap())
    }

    #[test]
    fn a_record_survives_the_wire() {
        assert_eq!(decode(&record().into()), Ok(record()));
    }

    #[test]
    fn a_record_with_a_bad_name_weight_or_text_is_refused() {
        for spoil in [
            |raw: &mut RawRecord| raw.name = "<b>".into(),
            |raw: &mut RawRecord| raw.service = String::new(),
            |raw: &mut RawRecord| raw.weight = 257,
            |raw: &mut RawRecord| raw.app_version = "1\n2".into(),
            |raw: &mut RawRecord| drop(raw.tags.insert("k".into(), "\x1b[2J".into())),
            |raw: &mut RawRecord| drop(raw.tags.insert("k".into(), "x".repeat(900))),
        ] {
            let mut raw: RawRecord = record().into();
            spoil(&mut raw);
            assert!(decode(&raw).is_err());
        }
    }

    #[test]
    fn the_size_is_judged_with_the_longest_version() {
        let mut long = record();
        long.tags.insert("k".into(), String::new());
        while long.check().is_ok() {
            long.tags.get_mut("k").unwrap().push('x');
        }
        assert_eq!(long.check(), Err(RecordError::Size(MAX_RECORD + 1)));
        long.tags.get_mut("k").unwrap().pop();
        (long.version, long.node_id) = (u64::MAX, NodeId(u64::MAX));
        assert_eq!(postcard::to_stdvec(&long).unwrap().len(), MAX_RECORD);
    }
}
