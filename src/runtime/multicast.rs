//! Announcement groups (RFC 5352 3.2, and those of registrars among themselves): UDP sockets that hear and speak on every interface that is up and
//! multicast-capable. Never fatal: what does not work is one line in the log and left out.

use crate::machine::Protocol;
use crate::runtime::interfaces::{Interface, multicast_interfaces};
use crate::runtime::link::is_idle;
use crate::types::Time;
use socket2::{Domain, InterfaceIndexOrAddress, SockAddr, SockRef, Socket, Type};
use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// The IANA group of ASAP announcements over IPv4.
pub const ASAP_GROUP_V4: &str = "224.0.1.185:3863";
/// The same over IPv6 (FF0X::133) with site scope, which reaches the own link as well: nothing needs to be
/// said twice.
pub const ASAP_GROUP_V6: &str = "[ff05::133]:3863";
/// The group of registrars among themselves over IPv4. RFC 5353 names none and IANA has assigned one address for all of
/// RSerPool: the port of ENRP tells them apart.
pub const ENRP_GROUP_V4: &str = "224.0.1.185:9901";
/// The same over IPv6.
pub const ENRP_GROUP_V6: &str = "[ff05::133]:9901";

/// Routers an announcement may pass, if they forward multicast at all: a site, not the world.
const HOPS: u32 = 16;
/// How often interfaces are looked at again.
const RECHECK: Duration = Duration::from_secs(10);
/// Datagrams taken in one turn.
const BUDGET: usize = 64;
/// The longest datagram there can be.
const MAX_DATAGRAM: usize = 65_535;

/// Which groups to hear and to speak to.
#[derive(Clone, Debug)]
pub struct Multicast {
    /// Groups with port, IPv4 and IPv6, and what is said there.
    pub groups: Vec<(Protocol, SocketAddr)>,
    /// Whether to listen.
    pub hear: bool,
    /// Use the loopback interface, and only it, for what is of no use to other machines.
    pub loopback: bool,
}

impl Multicast {
    /// The usual groups of these protocols on all interfaces but loopback.
    pub fn usual(protocols: &[Protocol]) -> Multicast {
        let all = [
            (Protocol::Asap, ASAP_GROUP_V4),
            (Protocol::Asap, ASAP_GROUP_V6),
            (Protocol::Enrp, ENRP_GROUP_V4),
            (Protocol::Enrp, ENRP_GROUP_V6),
        ];
        let wanted = all.iter().filter(|(protocol, _)| protocols.contains(protocol));
        let groups = wanted.filter_map(|(protocol, group)| Some((*protocol, group.parse().ok()?))).collect();
        Multicast { groups, hear: true, loopback: false }
    }
}

#[derive(Debug)]
struct Group {
    protocol: Protocol,
    address: SocketAddr,
    hearing: Option<UdpSocket>,
    speaking: Option<Socket>,
    /// Interfaces the hearing socket has joined on.
    joined: BTreeSet<u32>,
}

/// The sockets of the groups.
#[derive(Debug)]
pub(super) struct Groups {
    groups: Vec<Group>,
    loopback: bool,
    interfaces: Vec<Interface>,
    recheck: Time,
    /// What has been complained about.
    complaints: BTreeSet<String>,
    buffer: Vec<u8>,
}

impl Groups {
    pub fn open(config: &Multicast) -> Groups {
        let mut complaints = BTreeSet::new();
        let groups = config
            .groups
            .iter()
            .map(|(protocol, address)| {
                let mut checked = |what: &str, socket: io::Result<Socket>| {
                    socket
                        .map_err(|error| {
                            complain(&mut complaints, format!("cannot {what} {address}"), &error)
                        })
                        .ok()
                };
                Group {
                    protocol: *protocol,
                    address: *address,
                    hearing: config
                        .hear
                        .then(|| checked("hear", hearing(*address)))
                        .flatten()
                        .map(UdpSocket::from),
                    speaking: checked("speak to", speaking(*address)),
                    joined: BTreeSet::new(),
                }
            })
            .collect();
        let mut groups = Groups {
            groups,
            loopback: config.loopback,
            interfaces: Vec::new(),
            recheck: Time::ZERO,
            complaints,
            buffer: vec![0; MAX_DATAGRAM],
        };
        groups.look_at_interfaces();
        groups
    }

    /// The sockets to wait on for reading; the index is what [`Groups::receive`] takes.
    pub fn descriptors(&self) -> impl Iterator<Item = (usize, RawFd)> + '_ {
        self.groups.iter().enumerate().filter_map(|(n, group)| Some((n, group.hearing.as_ref()?.as_raw_fd())))
    }

    /// When [`Groups::recheck`] is due.
    pub fn deadline(&self) -> Time {
        self.recheck
    }

    /// Joins on interfaces that have come up since.
    pub fn recheck(&mut self, now: Time) {
        if now >= self.recheck {
            self.recheck = now + RECHECK;
            self.look_at_interfaces();
        }
    }

    fn look_at_interfaces(&mut self) {
        match multicast_interfaces(self.loopback) {
            Ok(interfaces) => self.interfaces = interfaces,
            Err(error) => complain(&mut self.complaints, "cannot list interfaces".to_owned(), &error),
        }
        for group in &mut self.groups {
            let Some(socket) = group.hearing.as_ref().map(SockRef::from) else { continue };
            group.joined.retain(|index| self.interfaces.iter().any(|known| known.index == *index));
            for interface in &self.interfaces {
                let result = match group.address {
                    SocketAddr::V4(v4) if interface.ipv4.is_some() => {
                        socket.join_multicast_v4_n(v4.ip(), &InterfaceIndexOrAddress::Index(interface.index))
                    }
                    SocketAddr::V6(v6) if interface.ipv6 => {
                        socket.join_multicast_v6(v6.ip(), interface.index)
                    }
                    SocketAddr::V4(_) | SocketAddr::V6(_) => continue,
                };
                match result {
                    Ok(()) => {
                        group.joined.insert(interface.index);
                    }
                    // Joined before.
                    Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {}
                    Err(error) => {
                        let what = format!("cannot join {} on {}", group.address, interface.name);
                        complain(&mut self.complaints, what, &error);
                    }
                }
            }
        }
    }

    /// Sends a datagram to every group of a protocol on every interface.
    pub fn announce(&mut self, protocol: Protocol, bytes: &[u8]) {
        for group in self.groups.iter().filter(|group| group.protocol == protocol) {
            let Some(socket) = &group.speaking else { continue };
            for interface in &self.interfaces {
                let chosen = match (group.address, interface.ipv4) {
                    (SocketAddr::V4(_), Some(v4)) => socket.set_multicast_if_v4(&v4),
                    (SocketAddr::V6(_), _) if interface.ipv6 => socket.set_multicast_if_v6(interface.index),
                    (SocketAddr::V4(_), None) | (SocketAddr::V6(_), _) => continue,
                };
                let sent = chosen.and_then(|()| {
                    socket.send_to_with_flags(bytes, &SockAddr::from(group.address), libc::MSG_NOSIGNAL)
                });
                match sent {
                    Ok(_) => {}
                    // An announcement that does not go out now is followed by the next one.
                    Err(error) if is_idle(&error) => {}
                    Err(error) => {
                        let what = format!("cannot announce to {} on {}", group.address, interface.name);
                        complain(&mut self.complaints, what, &error);
                    }
                }
            }
        }
    }

    /// Takes in the datagrams that wait at a socket; what they are said to be, and from whom.
    pub fn receive(&mut self, index: usize, tell: &mut dyn FnMut(Protocol, SocketAddr, &[u8])) {
        let Some(Group { protocol, hearing: Some(socket), .. }) = self.groups.get(index) else { return };
        for _ in 0..BUDGET {
            match socket.recv_from(&mut self.buffer) {
                Ok((len, from)) => tell(*protocol, from, &self.buffer[..len]),
                Err(error) if is_idle(&error) => return,
                Err(error) => {
                    complain(&mut self.complaints, "cannot receive announcements".to_owned(), &error);
                    return;
                }
            }
        }
    }
}

/// A log line, the first time it comes up.
fn complain(complaints: &mut BTreeSet<String>, what: String, error: &io::Error) {
    if !complaints.contains(&what) {
        log::warn!("multicast: {what}: {error}; going on without");
        complaints.insert(what);
    }
}

fn datagram_socket(address: SocketAddr) -> io::Result<Socket> {
    let kind = Type::DGRAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(address), kind, Some(socket2::Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

fn hearing(group: SocketAddr) -> io::Result<Socket> {
    let socket = datagram_socket(group)?;
    // Every program on the machine may hear the same group.
    socket.set_reuse_address(true)?;
    match group {
        SocketAddr::V4(_) => {
            socket.set_multicast_all_v4(false)?;
            // To the group itself, so that nothing else comes in here.
            socket.bind(&SockAddr::from(group))?;
        }
        SocketAddr::V6(_) => {
            socket.set_multicast_all_v6(false)?;
            socket.bind(&SockAddr::from(SocketAddr::from((Ipv6Addr::UNSPECIFIED, group.port()))))?;
        }
    }
    Ok(socket)
}

fn speaking(group: SocketAddr) -> io::Result<Socket> {
    let socket = datagram_socket(group)?;
    match group {
        SocketAddr::V4(_) => socket.set_multicast_ttl_v4(HOPS)?,
        SocketAddr::V6(_) => socket.set_multicast_hops_v6(HOPS)?,
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::poller::poll;
    use std::time::Instant;

    #[test]
    fn what_is_announced_on_loopback_is_heard_there_by_everyone() {
        // A port nobody uses: the system chooses one.
        let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let asap = SocketAddr::from(([224, 0, 1, 185], port));
        let enrp = SocketAddr::from(([224, 0, 1, 186], port));
        let groups = vec![(Protocol::Enrp, enrp), (Protocol::Asap, asap)];
        let config = Multicast { groups, hear: true, loopback: true };
        let mut both = [Groups::open(&config), Groups::open(&config)];
        both[0].announce(Protocol::Asap, b"here I am");
        both[0].announce(Protocol::Enrp, b"and here");
        for (ear, place, said) in [
            (0, 1, (Protocol::Asap, b"here I am".to_vec())),
            (1, 1, (Protocol::Asap, b"here I am".to_vec())),
            (1, 0, (Protocol::Enrp, b"and here".to_vec())),
        ] {
            let groups = &mut both[ear];
            let (index, fd) = groups.descriptors().nth(place).expect("a hearing socket");
            let mut heard = Vec::new();
            let limit = Instant::now() + Duration::from_secs(10);
            while heard.is_empty() {
                assert!(Instant::now() < limit, "nothing was heard");
                let mut entry = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
                poll(&mut entry, Some(Duration::from_secs(1))).unwrap();
                groups.receive(index, &mut |protocol, from, bytes| {
                    assert!(from.ip().is_loopback());
                    heard.push((protocol, bytes.to_vec()));
                });
            }
            assert_eq!(heard, [said]);
        }
    }

    #[test]
    fn a_group_that_is_none_is_left_out() {
        let groups = vec![(Protocol::Asap, "192.0.2.1:9".parse().unwrap())];
        let mut groups = Groups::open(&Multicast { groups, hear: true, loopback: true });
        groups.announce(Protocol::Asap, b"nobody");
        assert!(!groups.complaints.is_empty());
    }

    #[test]
    fn usual_groups_are_addresses() {
        assert_eq!(Multicast::usual(&[Protocol::Asap]).groups.len(), 2);
        assert_eq!(Multicast::usual(&[Protocol::Asap, Protocol::Enrp]).groups.len(), 4);
    }
}
