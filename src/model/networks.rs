//! Sets of IP networks, for deciding whose word is believed.

use std::{
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use ipnet::{IpNet, Ipv4Net};

/// A set of IP networks; cheap to copy. Usually there are few, so each is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Networks(Arc<[IpNet]>);

impl Networks {
    /// Whether the address is in one of them. IPv4 written as IPv6 (`::ffff:10.0.0.1`) is IPv4.
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<IpNet> for Networks {
    fn from_iter<T: IntoIterator<Item = IpNet>>(networks: T) -> Self {
        Self(networks.into_iter().collect())
    }
}

/// Reads `10.0.0.0/8`, or an address alone for a network of one.
///
/// # Errors
/// When it is neither.
pub fn parse_network(text: &str) -> Result<IpNet, String> {
    let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| {
        format!(
            "{text:?} is no network: an address or a network is expected, such as '10.0.0.0/8', '10.0.0.7' or '::1'"
        )
    })?;
    Ok(canonical(network))
}

/// Networks of IPv4 written as IPv6 become what addresses are compared as.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = Ipv6Addr::BITS as u8 - 32;
    let IpNet::V6(v6) = network else { return network };
    let v4 = v6.addr().to_ipv4_mapped();
    let prefix = v6.prefix_len().checked_sub(MAPPED);
    v4.zip(prefix).and_then(|(ip, prefix)| Ipv4Net::new(ip, prefix).ok()).map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        texts.iter().map(|text| parse_network(text).unwrap()).collect()
    }

    #[test]
    fn an_address_is_in_a_network_of_its_family_however_it_is_written() {
        let networks = networks(&["10.0.0.0/8", "192.0.2.7", "2001:db8::/32", "::ffff:172.16.0.0/108"]);
        for (ip, inside) in [
            ("10.255.0.1", true),
            ("::ffff:10.0.0.1", true),
            ("11.0.0.1", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("2001:db8:ffff::1", true),
            ("2001:db9::1", false),
            ("172.16.3.4", true),
            ("172.32.0.1", false),
            ("::1", false),
        ] {
            assert_eq!(networks.contains(ip.parse().unwrap()), inside, "{ip}");
        }
        assert!(!Networks::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[test]
    fn what_is_no_network_says_what_would_be_one() {
        for text in ["", "10.0.0.0/33", "10.0.0/8", "all", "10.0.0.1:80", "::/129"] {
            let error = parse_network(text).unwrap_err();
            assert!(error.contains("'10.0.0.0/8'"), "{error}");
        }
    }
}
