//! Addresses as people write them: `:80`, `0.0.0.0:80`, `[::]:80`, `web1:3000`.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// Why a text is not an address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It has no `:PORT` at its end.
    #[error("{0:?} has no port: HOST:PORT is expected, such as ':80', '10.0.0.7:80', '[::1]:80' or 'web1:3000'")]
    NoPort(String),
    /// What follows the last colon is not a port.
    #[error("{0:?} has no valid port: a number from {1} to 65535 is expected after the last ':'")]
    Port(String, u16),
    /// What stands before the port is neither an IP address nor a host name.
    #[error("{0:?} is neither an IP address nor a host name (an IPv6 address needs brackets: '[::1]:80')")]
    Host(String),
}

/// A host: an IP address or a name that is looked up each time it is needed.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Ip(IpAddr),
    /// A name (RFC 1123 section 2.1).
    Name(String),
}

/// A host to connect to, with a port from 1 to 65535.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: u16,
}

impl HostPort {
    /// Reads `HOST[:PORT]`, with `default` for a missing port.
    ///
    /// # Errors
    /// When the host or the port is not one.
    pub fn parse_or(text: &str, default: u16) -> Result<Self, AddressError> {
        let bare_v6 = text.parse::<Ipv6Addr>().ok().map(|ip| Host::Ip(ip.into()));
        let host = bare_v6.or_else(|| (!text.contains(':')).then(|| parse_host(text)).flatten());
        host.map_or_else(|| text.parse(), |host| Ok(Self { host, port: default }))
    }
}

impl FromStr for HostPort {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = split_port(text, 1)?;
        let host = parse_host(host).ok_or_else(|| AddressError::Host(text.to_owned()))?;
        Ok(Self { host, port })
    }
}

/// Where to listen. Port 0 lets the system choose one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ListenAddress {
    /// The address or name; `None` is every address of both families.
    pub host: Option<Host>,
    /// The port.
    pub port: u16,
}

impl ListenAddress {
    /// Every address of both families.
    pub fn any(port: u16) -> Self {
        Self { host: None, port }
    }

    /// Whether only this machine can reach it.
    pub fn is_loopback(&self) -> bool {
        match &self.host {
            Some(Host::Ip(ip)) => ip.is_loopback(),
            Some(Host::Name(name)) => name == "localhost",
            None => false,
        }
    }
}

impl FromStr for ListenAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (host, port) = split_port(text, 0)?;
        if host.is_empty() || host == "*" {
            return Ok(Self::any(port));
        }
        let host = parse_host(host).ok_or_else(|| AddressError::Host(text.to_owned()))?;
        Ok(Self { host: Some(host), port })
    }
}

/// What other members should dial: an address, and a port when it is not the one that is listened on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Advertise {
    /// The address.
    pub ip: IpAddr,
    /// The port.
    pub port: Option<u16>,
}

impl FromStr for Advertise {
    type Err = AddressError;

    /// Reads `IP[:PORT]`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self { ip, port: None });
        }
        match text.parse::<HostPort>()? {
            HostPort { host: Host::Ip(ip), port } => Ok(Self { ip, port: Some(port) }),
            HostPort { host: Host::Name(_), .. } => Err(AddressError::Host(text.to_owned())),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, ":{}", self.port),
        }
    }
}

fn split_port(text: &str, least: u16) -> Result<(&str, u16), AddressError> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| AddressError::NoPort(text.to_owned()))?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let number = digits.then(|| port.parse().ok()).flatten().filter(|&number: &u16| number >= least);
    number.map(|number| (host, number)).ok_or_else(|| AddressError::Port(text.to_owned(), least))
}

fn parse_host(text: &str) -> Option<Host> {
    if let Some(v6) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return v6.parse::<Ipv6Addr>().ok().map(|ip| Host::Ip(ip.into()));
    }
    if let Ok(v4) = text.parse::<Ipv4Addr>() {
        return Some(Host::Ip(v4.into()));
    }
    is_host_name(text).then(|| Host::Name(text.to_owned()))
}

/// Letters, digits, `-` and `_` in labels of 1 to 63 bytes, 253 in all. Underscores are no part of RFC 1123, but Docker
/// Compose makes such names. A last label of digits only is a mistyped IPv4 address.
fn is_host_name(text: &str) -> bool {
    let text = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let numeric_end = text.rsplit('.').next().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit()));
    text.len() <= 253 && text.split('.').all(label) && !numeric_end
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn listen(text: &str) -> Result<String, AddressError> {
        text.parse::<ListenAddress>().map(|address| address.to_string())
    }

    #[test]
    fn a_port_alone_is_every_address() {
        assert_eq!(":80".parse(), Ok(ListenAddress::any(80)));
        assert_eq!("*:80".parse(), Ok(ListenAddress::any(80)));
    }

    #[test]
    fn addresses_and_names_are_read_as_written() {
        for text in [":0", "0.0.0.0:80", "[::]:80", "[::1]:65535", "localhost:8080", "web_1.example:1"] {
            assert_eq!(listen(text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn what_is_no_address_is_named() {
        assert_eq!(listen("nonsense"), Err(AddressError::NoPort("nonsense".into())));
        assert_eq!(listen("a:b"), Err(AddressError::Port("a:b".into(), 0)));
        assert_eq!(listen(":65536"), Err(AddressError::Port(":65536".into(), 0)));
        assert_eq!(listen(":+80"), Err(AddressError::Port(":+80".into(), 0)));
        assert_eq!(listen("300.0.0.1:80"), Err(AddressError::Host("300.0.0.1:80".into())));
        assert_eq!(listen("::1:80"), Err(AddressError::Host("::1:80".into())));
        assert_eq!("web:0".parse::<HostPort>(), Err(AddressError::Port("web:0".into(), 1)));
        assert_eq!(":80".parse::<HostPort>(), Err(AddressError::Host(":80".into())));
    }

    #[test]
    fn a_seed_may_leave_out_its_port() {
        let seed = |text| HostPort::parse_or(text, 7946).map(|seed| seed.to_string());
        assert_eq!(seed("ha").as_deref(), Ok("ha:7946"));
        assert_eq!(seed("ha:7000").as_deref(), Ok("ha:7000"));
        assert_eq!(seed("10.0.0.1").as_deref(), Ok("10.0.0.1:7946"));
        assert_eq!(seed("::1").as_deref(), Ok("[::1]:7946"));
        assert_eq!(seed("[::1]:7000").as_deref(), Ok("[::1]:7000"));
        assert!(seed("a b").is_err());
    }

    #[test]
    fn an_advertised_address_is_a_number() {
        let advertise = |text: &str| text.parse::<Advertise>().map(|Advertise { ip, port }| (ip.to_string(), port));
        assert_eq!(advertise("10.0.0.1"), Ok(("10.0.0.1".into(), None)));
        assert_eq!(advertise("::1"), Ok(("::1".into(), None)));
        assert_eq!(advertise("[::1]:7000"), Ok(("::1".into(), Some(7000))));
        assert!(advertise("ha:7000").is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_written_back(text in ".{0,40}") {
            if let Ok(address) = text.parse::<ListenAddress>() {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
            if let Ok(address) = HostPort::parse_or(&text, 1) {
                prop_assert_eq!(address.to_string().parse(), Ok(address));
            }
        }
    }
}
