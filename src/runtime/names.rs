//! Addresses as people write them, and this host's name.

use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};

/// The addresses that `address`, `address:port`, `[v6]:port`, `name` or `name:port` stands for; `port` is for those without
/// one. Names wait for the system's resolver.
pub fn look_up(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    if let Ok(address) = name.parse::<SocketAddr>() {
        return Ok(vec![address]);
    }
    let bare = name.strip_prefix('[').and_then(|n| n.strip_suffix(']')).unwrap_or(name);
    if let Ok(address) = bare.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let found = if name.contains(':') { name.to_socket_addrs()? } else { (name, port).to_socket_addrs()? };
    Ok(found.collect())
}

/// This host's name; `(none)`, as the kernel has it, if it has none.
pub fn host_name() -> String {
    let mut name = [0_u8; 256];
    // SAFETY: as much room as is said; the last byte is not given away and stays 0.
    let got = unsafe { libc::gethostname(name.as_mut_ptr().cast(), name.len() - 1) };
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(0);
    match String::from_utf8_lossy(&name[..end]) {
        name if got == 0 && !name.is_empty() => name.into_owned(),
        _ => "(none)".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_names_come_with_or_without_port() {
        let at = |name: &str| look_up(name, 3863).unwrap();
        assert_eq!(at("10.1.2.3"), ["10.1.2.3:3863".parse().unwrap()]);
        assert_eq!(at("10.1.2.3:99"), ["10.1.2.3:99".parse().unwrap()]);
        assert_eq!(at("::1"), ["[::1]:3863".parse().unwrap()]);
        assert_eq!(at("[::1]"), ["[::1]:3863".parse().unwrap()]);
        assert_eq!(at("[::1]:99"), ["[::1]:99".parse().unwrap()]);
        assert!(at("localhost").iter().all(|a| a.port() == 3863 && a.ip().is_loopback()));
        assert!(look_up("", 3863).is_err() || look_up("", 3863).unwrap().is_empty());
    }
}
