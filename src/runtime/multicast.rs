//! Announcement groups: one UDP socket to hear, one to speak per interface that is up and multicast-capable.

use std::net::SocketAddr;

/// The IANA group of ASAP announcements over IPv4.
pub const ASAP_GROUP_V4: &str = "224.0.1.185:3863";

/// Which groups to hear and to speak to.
#[derive(Clone, Debug)]
pub struct Multicast {
    /// Groups with port, IPv4 and IPv6.
    pub groups: Vec<SocketAddr>,
    /// Whether to listen.
    pub hear: bool,
}
