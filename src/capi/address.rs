//! Socket addresses between C and Rust: single, packed one behind the other, and written out.

use super::error;
use crate::socket::Result;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for either family.
pub(super) const LARGEST: usize = size_of::<libc::sockaddr_in6>();

/// The address at `at`, and its size.
///
/// # Safety
/// `at` is readable for the family it names; alignment does not matter.
pub(super) unsafe fn read(at: *const libc::sockaddr) -> Result<(SocketAddr, usize)> {
    if at.is_null() {
        return error(libc::EFAULT, "an address is NULL");
    }
    // SAFETY: every sockaddr begins with its family, which the caller promises to be readable.
    let family = unsafe { (&raw const (*at).sa_family).read_unaligned() };
    match i32::from(family) {
        libc::AF_INET => {
            // SAFETY: the family says what it is.
            let v4 = unsafe { at.cast::<libc::sockaddr_in>().read_unaligned() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            let address = SocketAddrV4::new(ip, u16::from_be(v4.sin_port));
            Ok((address.into(), size_of::<libc::sockaddr_in>()))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says what it is.
            let v6 = unsafe { at.cast::<libc::sockaddr_in6>().read_unaligned() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            let address = match ip.to_ipv4_mapped() {
                Some(v4) => SocketAddr::new(v4.into(), port),
                None => SocketAddrV6::new(ip, port, v6.sin6_flowinfo, v6.sin6_scope_id).into(),
            };
            Ok((address, size_of::<libc::sockaddr_in6>()))
        }
        other => error(libc::EAFNOSUPPORT, format!("address family {other} is neither AF_INET nor AF_INET6")),
    }
}

/// The `count` addresses packed at `at`.
///
/// # Safety
/// As [`read`], for each of them.
pub(super) unsafe fn read_packed(at: *const libc::sockaddr, count: usize) -> Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    let mut next = at;
    for _ in 0..count {
        // SAFETY: the caller promises `count` of them.
        let (address, size) = unsafe { read(next)? };
        addresses.push(address);
        next = next.wrapping_byte_add(size);
    }
    Ok(addresses)
}

/// The bytes of an address as C has them.
pub(super) fn write(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LARGEST);
    match address {
        SocketAddr::V4(v4) => {
            bytes.extend((libc::AF_INET as libc::sa_family_t).to_ne_bytes());
            bytes.extend(v4.port().to_be_bytes());
            bytes.extend(v4.ip().octets());
            bytes.resize(size_of::<libc::sockaddr_in>(), 0);
        }
        SocketAddr::V6(v6) => {
            bytes.extend((libc::AF_INET6 as libc::sa_family_t).to_ne_bytes());
            bytes.extend(v6.port().to_be_bytes());
            bytes.extend(v6.flowinfo().to_ne_bytes());
            bytes.extend(v6.ip().octets());
            bytes.extend(v6.scope_id().to_ne_bytes());
        }
    }
    bytes
}

/// The address as a `sockaddr_storage`.
pub(super) fn storage(address: SocketAddr) -> libc::sockaddr_storage {
    // SAFETY: all zeros is a sockaddr_storage (of no family).
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let bytes = write(address);
    // SAFETY: a sockaddr_storage has room for either family, and both are plain bytes.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut storage).cast::<u8>(), bytes.len()) };
    storage
}

/// `ADDRESS:PORT`, IPv6 in brackets, or `ADDRESS` alone for the port given.
pub(super) fn parse(text: &str, port: u16) -> Option<SocketAddr> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address);
    }
    let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(text);
    bare.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_addresses_of_both_families_are_read_as_written() {
        let list: Vec<SocketAddr> = vec![
            "10.1.2.3:4".parse().unwrap(),
            "[fe80::1%7]:8".parse().unwrap(),
            "1.2.3.4:5".parse().unwrap(),
        ];
        let packed: Vec<u8> = list.iter().flat_map(|a| write(*a)).collect();
        assert_eq!(packed.len(), 16 + 28 + 16);
        // SAFETY: three packed addresses are there.
        assert_eq!(unsafe { read_packed(packed.as_ptr().cast(), 3) }.unwrap(), list);
    }

    #[test]
    fn refuses_other_families() {
        let unix = [1u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        // SAFETY: 16 bytes with a family.
        assert_eq!(unsafe { read(unix.as_ptr().cast()) }.unwrap_err().errno, libc::EAFNOSUPPORT);
    }

    #[test]
    fn parses_addresses_with_and_without_port() {
        assert_eq!(parse("1.2.3.4", 9), "1.2.3.4:9".parse().ok());
        assert_eq!(parse("[::1]:7", 9), "[::1]:7".parse().ok());
        assert_eq!(parse("[::1]", 9), "[::1]:9".parse().ok());
        assert_eq!(parse("::1", 9), "[::1]:9".parse().ok());
        assert_eq!(parse("example:9", 9), None);
    }
}
