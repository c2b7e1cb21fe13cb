//! Addresses that stand for pools, for programs that know addresses only: `getaddrinfo` gives one for a name, `connect` gets it
//! back. They are of networks that nobody is in (240.0.0.0/4 is reserved, 100::/64 is for discarding, RFC 6666), and mean
//! something only in the process, and its children, that has asked for them.

use super::fork::Guarded;
use super::{Result, errors};
use crate::name::Name;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The first of the networks; a name's number is added.
const V4: u32 = 0xf000_0000;
const V6: u128 = 0x0100 << 112;
/// The most names that a process can have asked for.
const MOST: u32 = 4096;

/// The names that were asked for, by number.
static NAMES: Guarded<Vec<Name>> = Guarded::new(Vec::new());

/// The address that stands for a name from now on; the same for the same name.
pub(super) fn address(name: &Name, v6: bool) -> Result<IpAddr> {
    let mut names = NAMES.lock();
    let known = names.iter().position(|known| known == name);
    let at = known.unwrap_or(names.len());
    let number = u32::try_from(at).ok().filter(|number| *number < MOST);
    let number = number.ok_or_else(|| {
        errors::error(libc::ENOMEM, format!("{MOST} names of pools have addresses; there are no more"))
    })?;
    if known.is_none() {
        names.push(name.clone());
    }
    // No host's number is 0.
    Ok(match v6 {
        false => Ipv4Addr::from(V4 + number + 1).into(),
        true => Ipv6Addr::from(V6 + u128::from(number) + 1).into(),
    })
}

/// The name that an address stands for, if it does.
pub(super) fn name(address: IpAddr) -> Option<Name> {
    let number = match address.to_canonical() {
        IpAddr::V4(v4) => u32::from(v4).checked_sub(V4 + 1)?,
        IpAddr::V6(v6) => u128::from(v6).checked_sub(V6 + 1)?.try_into().ok()?,
    };
    NAMES.lock().get(usize::try_from(number).ok()?).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_stands_for_one_name_and_others_for_none() {
        let named = |text: &[u8]| Name::parse(text).unwrap();
        let (first, second) = (named(b"pool://A?timeout=1s"), named(b"pool://A?timeout=2s"));
        let (v4, v6) = (address(&first, false).unwrap(), address(&second, true).unwrap());
        assert!(v4.is_ipv4() && v6.is_ipv6());
        assert_eq!((name(v4), name(v6)), (Some(first.clone()), Some(second)));
        assert_eq!(address(&first, false).unwrap(), v4);
        let IpAddr::V4(plain) = v4 else { unreachable!() };
        assert_eq!(name(plain.to_ipv6_mapped().into()), Some(first));
        for text in ["127.0.0.1", "240.0.0.0", "255.255.255.255", "::1", "100::", "fe80::1", "100::ffff:ffff"]
        {
            assert_eq!(name(text.parse().unwrap()), None, "{text}");
        }
    }
}
