//! The addresses of this machine.

use std::io;
use std::net::{IpAddr, Ipv4Addr};

/// The addresses under which a wildcard bind is reached, those a remote client could use first, loopback
/// last. Without interfaces that are down and without link-local IPv6, which means nothing without an interface.
pub fn local_addresses() -> io::Result<Vec<IpAddr>> {
    let mut addresses: Vec<IpAddr> = if_addrs::get_if_addrs()?
        .into_iter()
        .filter(|interface| interface.is_loopback() || interface.is_oper_up())
        .map(|interface| interface.ip())
        .filter(|address| match address {
            IpAddr::V4(_) => true,
            IpAddr::V6(v6) => !v6.is_unicast_link_local(),
        })
        .collect();
    // Stable: the system's order within each kind. IPv4 link-local is a last resort before loopback.
    addresses.sort_by_key(|address| match address {
        _ if address.is_loopback() => 2,
        IpAddr::V4(v4) if v4.is_link_local() => 1,
        IpAddr::V4(_) | IpAddr::V6(_) => 0,
    });
    addresses.dedup();
    Ok(addresses)
}

/// An interface that can carry multicast.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Interface {
    pub name: String,
    pub index: u32,
    pub addresses: Vec<IpAddr>,
}

impl Interface {
    /// By which the system knows it where it takes an IPv4 address for an interface.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|ip| match ip {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        })
    }

    pub fn has_ipv6(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv6)
    }
}

/// The interfaces that are up and multicast-capable, without loopback or with nothing but loopback.
pub(super) fn multicast_interfaces(loopback: bool) -> io::Result<Vec<Interface>> {
    let mut found: Vec<Interface> = Vec::new();
    for entry in if_addrs::get_if_addrs()? {
        let Some(index) = entry.index else { continue };
        if entry.is_loopback() != loopback || !(loopback || entry.is_oper_up() && is_multicast(&entry.name)) {
            continue;
        }
        let place = match found.iter().position(|interface| interface.index == index) {
            Some(place) => place,
            None => {
                found.push(Interface { name: entry.name.clone(), index, addresses: Vec::new() });
                found.len() - 1
            }
        };
        found[place].addresses.push(entry.ip());
    }
    Ok(found)
}

/// Whether the interface has IFF_MULTICAST; where the system does not say, trying does no harm.
fn is_multicast(name: &str) -> bool {
    const IFF_MULTICAST: u32 = 0x1000;
    std::fs::read_to_string(format!("/sys/class/net/{name}/flags"))
        .ok()
        .and_then(|text| u32::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok())
        .is_none_or(|flags| flags & IFF_MULTICAST != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_comes_last_and_link_local_ipv6_not_at_all() {
        let addresses = local_addresses().unwrap();
        let first_loopback = addresses.iter().position(IpAddr::is_loopback).expect("a loopback address");
        assert!(addresses[first_loopback..].iter().all(IpAddr::is_loopback), "{addresses:?}");
        assert!(!addresses.iter().any(|a| matches!(a, IpAddr::V6(v6) if v6.is_unicast_link_local())));
        assert!(!addresses.iter().any(IpAddr::is_unspecified));
    }

    #[test]
    fn loopback_carries_multicast_only_when_asked_for() {
        assert!(multicast_interfaces(false).unwrap().iter().all(|interface| interface.name != "lo"));
        let lo = multicast_interfaces(true).unwrap();
        assert!(lo.len() == 1 && lo[0].ipv4() == Some(Ipv4Addr::LOCALHOST), "{lo:?}");
    }
}
