//! Addresses that the scheduler may call on behalf of others: those of the Internet, and what the operator allows.
//!
//! The check is made on the address that is connected to, not on the name: a name may point to the Internet when it is
//! looked at, and into this network when it is called.

use ipnet::IpNet;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Networks of IPv4 that are not the Internet (IANA's registry of special-purpose addresses).
const INNER_V4: [(Ipv4Addr, u8); 15] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(100, 64, 0, 0), 10), // Shared by the customers of a provider.
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16), // Link-local; clouds give out credentials there.
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(192, 88, 99, 0), 24),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(224, 0, 0, 0), 4), // Multicast.
    (Ipv4Addr::new(240, 0, 0, 0), 4), // Reserved, and broadcast.
];
/// The Internet in IPv6; everything else is refused: loopback, unique local, link-local, multicast and what is to come.
const OUTER_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
/// Parts of it that lead elsewhere: Teredo and others, documentation, 6to4 (an IPv4 address within).
const INNER_V6: [(Ipv6Addr, u8); 4] = [
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];
/// NAT64: the last 32 bits are an IPv4 address, which is judged.
const NAT64: (Ipv6Addr, u8) = (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96);

/// What the operator allows beside the Internet.
#[derive(Debug, Clone, Default)]
pub struct Allowed(Vec<IpNet>);

/// Said of an address that is not to be called.
#[derive(Debug, thiserror::Error)]
#[error(
    "`{host}` is {address}, an internal address, which the scheduler does not call; its operator may allow it with --notify-allow"
)]
pub(crate) struct Inner {
    pub(crate) host: String,
    pub(crate) address: IpAddr,
}

impl Allowed {
    pub fn new(networks: Vec<IpNet>) -> Allowed {
        Allowed(networks)
    }

    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical(); // `::ffff:10.0.0.1` is 10.0.0.1.
        self.0.iter().any(|network| network.contains(&address)) || is_outer(address)
    }

    pub(crate) fn check(&self, host: &str, address: IpAddr) -> Result<(), Inner> {
        if self.permits(address) { Ok(()) } else { Err(Inner { host: host.to_owned(), address }) }
    }
}

fn is_outer(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !INNER_V4.iter().any(|(network, length)| {
            let shift = 32 - u32::from(*length);
            address.to_bits() >> shift == network.to_bits() >> shift
        }),
        IpAddr::V6(address) => {
            let within = |(network, length): &(Ipv6Addr, u8)| {
                let shift = 128 - u32::from(*length);
                address.to_bits() >> shift == network.to_bits() >> shift
            };
            if within(&NAT64) {
                let [.., a, b, c, d] = address.octets();
                return is_outer(IpAddr::V4(Ipv4Addr::new(a, b, c, d)));
            }
            within(&OUTER_V6) && !INNER_V6.iter().any(within)
        }
    }
}

/// Resolves names for the HTTP client, and gives it only addresses that may be called.
#[derive(Debug, Clone)]
pub(super) struct Resolver(pub(super) Arc<Allowed>);

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let host = name.as_str();
            let found: Vec<_> = tokio::net::lookup_host((host, 0)).await?.collect();
            let good: Vec<_> = found.iter().copied().filter(|found| allowed.permits(found.ip())).collect();
            match (good.is_empty(), found.first()) {
                (true, Some(bad)) => Err(Inner { host: host.to_owned(), address: bad.ip() }.into()),
                _ => Ok(Box::new(good.into_iter()) as Addrs),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(networks: &[&str], permitted: &[&str], refused: &[&str]) {
        let allowed = Allowed::new(networks.iter().map(|text| text.parse().expect("a network")).collect());
        for text in permitted {
            assert!(allowed.permits(text.parse().expect("an address")), "{text} may be called");
        }
        for text in refused {
            assert!(!allowed.permits(text.parse().expect("an address")), "{text} is refused");
        }
    }

    #[test]
    fn only_the_internet_is_called() {
        let outside =
            ["1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "172.15.255.255", "172.32.0.0"];
        let more =
            ["192.169.0.0", "223.255.255.255", "2606:4700::1111", "2a00::1", "64:ff9b::101:101", "::ffff:1.1.1.1"];
        let inside = [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.168.1.1",
            "198.19.0.1",
            "224.0.0.1",
            "239.1.2.3",
            "240.0.0.1",
            "255.255.255.255",
        ];
        let inside_v6 = [
            "::",
            "::1",
            "fe80::1",
            "fc00::1",
            "fd12:3456::1",
            "ff02::1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "2002:7f00:1::",
            "2001::1",
            "2001:db8::1",
            "100::1",
            "4000::1",
        ];
        check(&[], &[outside.as_slice(), &more].concat(), &[inside.as_slice(), &inside_v6].concat());
    }

    #[test]
    fn the_operator_allows_networks_however_their_addresses_are_written() {
        check(
            &["10.1.0.0/16", "fd00::/8"],
            &["10.1.2.3", "::ffff:10.1.2.3", "fd00::1", "1.1.1.1"],
            &["10.2.0.1", "127.0.0.1", "fc00::1"],
        );
    }
}
