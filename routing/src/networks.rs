//! Sets of IP networks, ready for lookups, and the addresses that nobody may have requests sent to.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Serialize, Serializer};

/// A set of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// Disjoint and sorted, so that the only one that can hold an address is the last that starts before it.
    disjoint: Box<[IpNet]>,
}

impl Networks {
    /// The union of some networks.
    #[must_use]
    pub fn new(networks: &[IpNet]) -> Self {
        let canonical: Vec<IpNet> = networks.iter().map(|network| canonical(network.trunc())).collect();
        let mut disjoint = IpNet::aggregate(&canonical);
        disjoint.sort_unstable_by_key(|network| (network.network(), network.prefix_len()));
        Self { disjoint: disjoint.into() }
    }

    /// Whether an address is in one of them. IPv4 in IPv6's clothes is IPv4.
    #[must_use]
    pub fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let n_before = self.disjoint.partition_point(|network| network.network() <= address);
        self.disjoint[..n_before].last().is_some_and(|network| network.contains(&address))
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.disjoint.is_empty()
    }
}

/// Addresses behind which a tenant would find the gateway or its node: loopback, link-local (the cloud's metadata
/// service), unspecified, multicast.
#[must_use]
pub fn is_never_a_backend(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    ip.is_loopback() || is_link_local || ip.is_unspecified() || ip.is_multicast()
}

/// `::ffff:10.0.0.0/104` is `10.0.0.0/8`.
fn canonical(network: IpNet) -> IpNet {
    let IpNet::V6(v6) = network else { return network };
    match (v6.network().to_ipv4_mapped(), v6.prefix_len().checked_sub(96)) {
        (Some(v4), Some(length)) => IpNet::new(v4.into(), length).unwrap_or(network),
        _ => network,
    }
}

impl Serialize for Networks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.disjoint.iter().map(IpNet::to_string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Networks {
        Networks::new(&texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn an_address_is_in_a_set_when_it_is_in_one_of_its_networks() {
        let set = networks(&["10.1.2.3/8", "192.0.2.0/25", "192.0.2.64/26", "198.51.100.7/32", "2001:db8::/32"]);
        for (address, expected) in [
            ("10.0.0.0", true),
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.127", true),
            ("192.0.2.128", false),
            ("198.51.100.7", true),
            ("198.51.100.8", false),
            ("::ffff:10.0.0.1", true),
            ("2001:db8::1", true),
            ("2001:db9::1", false),
            ("::a00:1", false),
        ] {
            assert_eq!(set.contain(address.parse().unwrap()), expected, "{address}");
        }
    }

    #[test]
    fn a_mapped_network_is_the_network_of_ipv4() {
        assert_eq!(networks(&["::ffff:10.0.0.0/104"]), networks(&["10.0.0.0/8"]));
        assert!(networks(&["::/0"]).contain("2001:db8::1".parse().unwrap()));
        assert!(!networks(&["::/0"]).contain("10.0.0.1".parse().unwrap()));
    }

    #[test]
    fn a_lookup_finds_what_a_scan_finds() {
        proptest::proptest!(|(nets: Vec<(u32, u8)>, address: u32)| {
            let nets: Vec<IpNet> = nets
                .iter()
                .map(|(address, length)| IpNet::new(IpAddr::V4((*address).into()), length % 33).unwrap())
                .collect();
            let address = IpAddr::V4(address.into());
            let scanned = nets.iter().any(|network| network.contains(&address));
            proptest::prop_assert_eq!(Networks::new(&nets).contain(address), scanned);
        });
    }

    #[test]
    fn nothing_is_in_the_empty_set() {
        assert!(!networks(&[]).contain("10.0.0.1".parse().unwrap()));
        assert!(networks(&[]).is_empty());
    }
}
