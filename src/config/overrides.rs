//! What the command line says: it wins over the file.

use std::{num::NonZeroUsize, str::FromStr, time::Duration};

use super::{
    Advertise, EventHandler, HostPort, KeySource, ListenAddress, LogFormat, MAX_LIMIT, RuntimeBind, StaticServer,
};
use crate::model::{Algorithm, CheckKind, ClusterName, ServerName, Weight};

/// What the command line says; `None` and empty lists leave the file's word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides {
    /// Addresses of the first listener.
    pub listen: Vec<ListenAddress>,
    /// Connections of the first listener at once; 0 is no limit.
    pub maxconn: Option<u32>,
    /// Address of the stats page.
    pub stats: Option<ListenAddress>,
    /// Addresses of the runtime API.
    pub runtime_api: Vec<RuntimeBind>,
    /// The cluster member.
    pub gossip: Option<GossipChoice>,
    /// `--event-handler`
    pub event_handlers: Vec<EventHandler>,
    /// What other members should dial.
    pub advertise: Option<Advertise>,
    /// Other members.
    pub join: Vec<HostPort>,
    /// Where the cluster's keys are.
    pub key_source: Option<KeySource>,
    /// The cluster's name.
    pub cluster: Option<ClusterName>,
    /// The name among the members.
    pub name: Option<ServerName>,
    /// Servers of the first pool.
    pub servers: Vec<StaticServer>,
    /// Requests at once on each server of the first pool that has no number of its own; 0 is no limit.
    pub server_maxconn: Option<u32>,
    /// How a server of the first pool is chosen.
    pub balance: Option<Algorithm>,
    /// Name of the first pool's cookie.
    pub cookie: Option<String>,
    /// Whose cookie it is.
    pub cookie_mode: Option<CookieModeChoice>,
    /// How the first pool is checked.
    pub check: Option<CheckChoice>,
    /// Time between checks of the first pool.
    pub check_interval: Option<Duration>,
    /// Checks that bring a server of the first pool up.
    pub check_rise: Option<u32>,
    /// Checks that take one down.
    pub check_fall: Option<u32>,
    /// Worker threads.
    pub workers: Option<NonZeroUsize>,
    /// The access log.
    pub log_format: Option<LogFormat>,
    /// What is in flight when the balancer stops.
    pub grace: Option<Duration>,
}

/// `--gossip`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GossipChoice {
    /// No cluster member.
    Off,
    /// One at this address.
    At(ListenAddress),
}

impl FromStr for GossipChoice {
    type Err = super::AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::At) }
    }
}

/// `--cookie-mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CookieModeChoice {
    /// The balancer's own.
    #[default]
    Insert,
    /// The application's.
    Prefix,
}

impl FromStr for CookieModeChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "insert" => Ok(Self::Insert),
            "prefix" => Ok(Self::Prefix),
            _ => Err(format!("{text:?} is no mode of a cookie: 'insert' or 'prefix' is expected")),
        }
    }
}

/// `--check`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckChoice {
    /// No checks.
    Off,
    /// These.
    Kind(CheckKind),
}

impl FromStr for CheckChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "off" { Ok(Self::Off) } else { text.parse().map(Self::Kind) }
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "json" => Ok(Self::Json),
            "haproxy" => Ok(Self::Haproxy),
            "off" => Ok(Self::Off),
            _ => Err(format!("{text:?} is no log format: 'json', 'haproxy' or 'off' is expected")),
        }
    }
}

impl FromStr for StaticServer {
    type Err = String;

    /// Reads `[NAME=]HOST:PORT[,weight=N][,maxconn=N][,backup]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let first = parts.next().unwrap_or_default();
        let (name, address) = match first.split_once('=') {
            Some((name, address)) => (Some(name), address),
            None => (None, first),
        };
        let address: HostPort = address.parse().map_err(|error: super::AddressError| error.to_string())?;
        let name = name.map_or_else(|| address.to_string().replace(['[', ']'], ""), str::to_owned);
        let name = ServerName::parse(&name).map_err(|error| error.to_string())?;
        let mut server =
            Self { name, address, weight: Weight::DEFAULT, backup: false, maxconn: None, check_port: None };
        for option in parts {
            match option.split_once('=') {
                None if option == "backup" => server.backup = true,
                Some(("weight", number)) => {
                    server.weight = number.parse().map_err(|error| format!("{number:?}: {error}"))?;
                }
                Some(("maxconn", number)) => {
                    let limit = number.parse().ok().filter(|number| *number <= MAX_LIMIT);
                    let limit = limit.ok_or_else(|| format!("maxconn={number}: 0 to {MAX_LIMIT} is expected"))?;
                    server.maxconn = Some(limit);
                }
                None | Some(_) => {
                    let known = "'weight=N', 'maxconn=N' or 'backup'";
                    return Err(format!("{option:?} is no option of a server: {known} is expected"));
                }
            }
        }
        Ok(server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_with_its_options() {
        let server: StaticServer = "s1=10.0.0.7:3000,weight=5,maxconn=9,backup".parse().unwrap();
        assert_eq!((server.name.as_str(), server.weight.get(), server.backup), ("s1", 5, true));
        assert_eq!(server.maxconn, Some(9));
        let bare: StaticServer = "[::1]:3000".parse().unwrap();
        assert_eq!((bare.name.as_str(), bare.address.to_string().as_str()), ("::1:3000", "[::1]:3000"));
    }

    #[test]
    fn what_is_no_server_says_why() {
        for (text, why) in [
            ("s1", "has no port"),
            ("s1=a:1,weight=300", "0 to 256"),
            ("s1=a:1,slow", "'weight=N', 'maxconn=N' or 'backup'"),
            ("s1=a:1,maxconn=-1", "0 to 1000000"),
            ("s 1=a:1", "not a name"),
        ] {
            let error = text.parse::<StaticServer>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
    }
}
