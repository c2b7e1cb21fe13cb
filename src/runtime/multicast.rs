//! Announcement groups (RFC 5352 3.2, and those of registrars among themselves): UDP sockets that hear and speak on every interface that is up and
//! multicast-capable. Never fatal: what does not work is one line in the log and left out.
//!
//! What is said on RSPLIB's groups has no sender's address in it: whoever hears it takes the datagram's source for that. So it leaves from
//! a socket bound where the SCTP port is that it speaks for, on the interfaces that have the address.

use crate::machine::{Audience, Protocol};
use crate::runtime::interfaces::{Interface, multicast_interfaces};
use crate::runtime::link::is_idle;
use crate::types::Time;
use socket2::{Domain, InterfaceIndexOrAddress, SockAddr, SockRef, Socket, Type};
use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
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
/// The group on which RSPLIB's registrars are announced to elements and users. There is none over IPv6.
pub const RSPLIB_ASAP_GROUP: &str = "239.0.0.50:3863";
/// The group of RSPLIB's registrars among themselves.
pub const RSPLIB_ENRP_GROUP: &str = "239.0.0.51:9901";

/// Routers an announcement may pass, if they forward multicast at all: a site, not the world.
const HOPS: u32 = 16;
/// How often interfaces are looked at again.
const RECHECK: Duration = Duration::from_secs(10);
/// Datagrams taken in one turn.
const BUDGET: usize = 64;
/// The longest datagram there can be.
const MAX_DATAGRAM: usize = 65_535;

/// A group, and what is said there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Group {
    /// ASAP or ENRP.
    pub protocol: Protocol,
    /// For whom.
    pub audience: Audience,
    /// The group with its port.
    pub address: SocketAddr,
}

impl Group {
    /// As people say it: `GROUP:PORT`, or `rsplib:GROUP:PORT` for RSPLIB's programs; of RSPLIB's usual ones that is known.
    pub fn by_word(protocol: Protocol, word: &str) -> Option<Group> {
        let (text, rsplib) = match word.strip_prefix("rsplib:") {
            Some(text) => (text, true),
            None => (word, [RSPLIB_ASAP_GROUP, RSPLIB_ENRP_GROUP].contains(&word)),
        };
        let audience = if rsplib { Audience::Rsplib } else { Audience::Standard };
        let address: SocketAddr = text.parse().ok()?;
        address.ip().is_multicast().then_some(Group { protocol, audience, address })
    }
}

/// Which groups to hear and to speak to.
#[derive(Clone, Debug)]
pub struct Multicast {
    /// The groups, IPv4 and IPv6.
    pub groups: Vec<Group>,
    /// Whether to listen.
    pub hear: bool,
    /// Use the loopback interface, and only it, for what is of no use to other machines.
    pub loopback: bool,
}

impl Multicast {
    /// The usual groups of these protocols on all interfaces but loopback; RSPLIB's among them if there is SCTP, without which
    /// nobody there could be spoken with.
    pub fn usual(protocols: &[Protocol], sctp: bool) -> Multicast {
        let all = [
            (Protocol::Asap, ASAP_GROUP_V4),
            (Protocol::Asap, ASAP_GROUP_V6),
            (Protocol::Enrp, ENRP_GROUP_V4),
            (Protocol::Enrp, ENRP_GROUP_V6),
            (Protocol::Asap, RSPLIB_ASAP_GROUP),
            (Protocol::Enrp, RSPLIB_ENRP_GROUP),
        ];
        let wanted = all.iter().filter(|(protocol, _)| protocols.contains(protocol));
        let groups = wanted
            .filter_map(|(protocol, group)| Group::by_word(*protocol, group))
            .filter(|group| sctp || group.audience != Audience::Rsplib)
            .collect();
        Multicast { groups, hear: true, loopback: false }
    }
}

/// The sockets of a group.
#[derive(Debug)]
struct Place {
    group: Group,
    hearing: Option<UdpSocket>,
    speaking: Vec<Speaker>,
    /// Interfaces the hearing socket has joined on.
    joined: BTreeSet<u32>,
}

#[derive(Debug)]
struct Speaker {
    socket: Socket,
    /// Speaks for this address, and only where it is; none: for all of them.
    from: Option<IpAddr>,
}

/// The sockets of the groups.
#[derive(Debug)]
pub(super) struct Groups {
    places: Vec<Place>,
    loopback: bool,
    interfaces: Vec<Interface>,
    recheck: Time,
    /// What has been complained about.
    complaints: BTreeSet<String>,
    buffer: Vec<u8>,
}

impl Groups {
    /// Opens the sockets. `ports`: the SCTP ports there are, at each of their addresses.
    pub fn open(config: &Multicast, ports: &[(Protocol, SocketAddr)]) -> Groups {
        let mut complaints = BTreeSet::new();
        let mut checked = |what: String, socket: io::Result<Socket>| {
            socket.map_err(|error| complain(&mut complaints, what, &error)).ok()
        };
        let mut places = Vec::new();
        for group in &config.groups {
            let address = group.address;
            let hearing =
                config.hear.then(|| checked(format!("cannot hear {address}"), hearing(address))).flatten();
            let from: Vec<Option<SocketAddr>> = match group.audience {
                Audience::Standard => vec![None],
                Audience::Rsplib => sources(*group, ports).into_iter().map(Some).collect(),
            };
            let speaking = from.into_iter().filter_map(|from| {
                let what = match from {
                    None => format!("cannot speak to {address}"),
                    Some(from) => format!("cannot speak to {address} from {from}"),
                };
                let socket = checked(what, speaking(address, from))?;
                Some(Speaker { socket, from: from.map(|at| at.ip()).filter(|ip| !ip.is_unspecified()) })
            });
            let speaking = speaking.collect();
            let hearing = hearing.map(UdpSocket::from);
            places.push(Place { group: *group, hearing, speaking, joined: BTreeSet::new() });
        }
        let mut groups = Groups {
            places,
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
        self.places.iter().enumerate().filter_map(|(n, place)| Some((n, place.hearing.as_ref()?.as_raw_fd())))
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
        for place in &mut self.places {
            let Some(socket) = place.hearing.as_ref().map(SockRef::from) else { continue };
            let address = place.group.address;
            place.joined.retain(|index| self.interfaces.iter().any(|known| known.index == *index));
            for interface in &self.interfaces {
                let result = match address {
                    SocketAddr::V4(v4) if interface.ipv4().is_some() => {
                        socket.join_multicast_v4_n(v4.ip(), &InterfaceIndexOrAddress::Index(interface.index))
                    }
                    SocketAddr::V6(v6) if interface.has_ipv6() => {
                        socket.join_multicast_v6(v6.ip(), interface.index)
                    }
                    SocketAddr::V4(_) | SocketAddr::V6(_) => continue,
                };
                match result {
                    Ok(()) => {
                        place.joined.insert(interface.index);
                    }
                    // Joined before.
                    Err(error) if error.raw_os_error() == Some(libc::EADDRINUSE) => {}
                    Err(error) => {
                        let what = format!("cannot join {address} on {}", interface.name);
                        complain(&mut self.complaints, what, &error);
                    }
                }
            }
        }
    }

    /// Sends a datagram to every group of a protocol that is for `audience`, on every interface.
    pub fn announce(&mut self, protocol: Protocol, audience: Audience, bytes: &[u8]) {
        let meant = |place: &&Place| (place.group.protocol, place.group.audience) == (protocol, audience);
        for place in self.places.iter().filter(meant) {
            let group = place.group.address;
            for speaker in &place.speaking {
                let socket = &speaker.socket;
                for interface in &self.interfaces {
                    if speaker.from.is_some_and(|ip| !interface.addresses.contains(&ip)) {
                        continue;
                    }
                    let chosen = match (group, interface.ipv4()) {
                        (SocketAddr::V4(_), Some(v4)) => socket.set_multicast_if_v4(&v4),
                        (SocketAddr::V6(_), _) if interface.has_ipv6() => {
                            socket.set_multicast_if_v6(interface.index)
                        }
                        (SocketAddr::V4(_), None) | (SocketAddr::V6(_), _) => continue,
                    };
                    let sent = chosen.and_then(|()| {
                        socket.send_to_with_flags(bytes, &SockAddr::from(group), libc::MSG_NOSIGNAL)
                    });
                    match sent {
                        Ok(_) => {}
                        // An announcement that does not go out now is followed by the next one.
                        Err(error) if is_idle(&error) => {}
                        Err(error) => {
                            let what = format!("cannot announce to {group} on {}", interface.name);
                            complain(&mut self.complaints, what, &error);
                        }
                    }
                }
            }
        }
    }

    /// Takes in the datagrams that wait at a socket; on which group, and from whom.
    pub fn receive(&mut self, index: usize, tell: &mut dyn FnMut(Group, SocketAddr, &[u8])) {
        let Some(Place { group, hearing: Some(socket), .. }) = self.places.get(index) else { return };
        for _ in 0..BUDGET {
            match socket.recv_from(&mut self.buffer) {
                Ok((len, from)) => tell(*group, from, &self.buffer[..len]),
                Err(error) if is_idle(&error) => return,
                Err(error) => {
                    complain(&mut self.complaints, "cannot receive announcements".to_owned(), &error);
                    return;
                }
            }
        }
    }
}

/// Where datagrams to one of RSPLIB's groups leave from: where the SCTP ports of its protocol are that can be reached in its family.
fn sources(group: Group, ports: &[(Protocol, SocketAddr)]) -> Vec<SocketAddr> {
    let mut sources: Vec<SocketAddr> = Vec::new();
    for (_, at) in ports.iter().filter(|(protocol, _)| *protocol == group.protocol) {
        let source = match (group.address, at.ip()) {
            (SocketAddr::V4(_), IpAddr::V4(_)) | (SocketAddr::V6(_), IpAddr::V6(_)) => *at,
            // Such a port serves IPv4 as well.
            (SocketAddr::V4(_), IpAddr::V6(any)) if any.is_unspecified() => {
                (Ipv4Addr::UNSPECIFIED, at.port()).into()
            }
            (SocketAddr::V4(_) | SocketAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => continue,
        };
        if !sources.contains(&source) {
            sources.push(source);
        }
    }
    sources
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

fn speaking(group: SocketAddr, from: Option<SocketAddr>) -> io::Result<Socket> {
    let socket = datagram_socket(group)?;
    if let Some(from) = from {
        // Only for the sake of the number: others may have it, and what comes to it is for them.
        socket.set_reuse_address(true)?;
        socket.bind(&SockAddr::from(from))?;
    }
    match group {
        SocketAddr::V4(_) => {
            socket.set_multicast_all_v4(false)?;
            socket.set_multicast_ttl_v4(HOPS)?;
        }
        SocketAddr::V6(_) => {
            socket.set_multicast_all_v6(false)?;
            socket.set_multicast_hops_v6(HOPS)?;
        }
    }
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::poller::poll;
    use std::time::Instant;

    /// A port nobody uses: the system chooses one.
    fn free_port() -> u16 {
        UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    fn group(protocol: Protocol, audience: Audience, address: impl Into<SocketAddr>) -> Group {
        Group { protocol, audience, address: address.into() }
    }

    fn on_loopback(groups: &[Group]) -> Multicast {
        Multicast { groups: groups.to_vec(), hear: true, loopback: true }
    }

    /// What comes next on a group.
    fn next(groups: &mut Groups, place: usize) -> Vec<(Group, SocketAddr, Vec<u8>)> {
        let (index, fd) = groups.descriptors().nth(place).expect("a hearing socket");
        let mut heard = Vec::new();
        let limit = Instant::now() + Duration::from_secs(10);
        while heard.is_empty() {
            assert!(Instant::now() < limit, "nothing was heard");
            let mut entry = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
            poll(&mut entry, Some(Duration::from_secs(1))).unwrap();
            groups.receive(index, &mut |group, from, bytes| heard.push((group, from, bytes.to_vec())));
        }
        heard
    }

    #[test]
    fn what_is_announced_on_loopback_is_heard_there_by_everyone() {
        let port = free_port();
        let asap = group(Protocol::Asap, Audience::Standard, ([224, 0, 1, 185], port));
        let enrp = group(Protocol::Enrp, Audience::Standard, ([224, 0, 1, 186], port));
        let config = on_loopback(&[enrp, asap]);
        let mut both = [Groups::open(&config, &[]), Groups::open(&config, &[])];
        both[0].announce(Protocol::Asap, Audience::Standard, b"here I am");
        both[0].announce(Protocol::Enrp, Audience::Standard, b"and here");
        let (one, other) = (b"here I am".to_vec(), b"and here".to_vec());
        for (ear, place, said) in [(0, 1, (asap, one.clone())), (1, 1, (asap, one)), (1, 0, (enrp, other))] {
            let heard = next(&mut both[ear], place);
            assert!(heard.iter().all(|(_, from, _)| from.ip().is_loopback()));
            let heard: Vec<_> = heard.into_iter().map(|(group, _, bytes)| (group, bytes)).collect();
            assert_eq!(heard, [said]);
        }
    }

    #[test]
    fn what_rsplib_is_told_leaves_from_each_sctp_port_also_where_the_number_is_in_use_for_udp() {
        let (asap, enrp) = (free_port(), free_port());
        let rsplib = group(Protocol::Asap, Audience::Rsplib, ([239, 0, 0, 50], asap));
        let ours = group(Protocol::Asap, Audience::Standard, ([224, 0, 1, 185], asap));
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let ports =
            [(Protocol::Asap, local(asap)), (Protocol::Enrp, local(enrp)), (Protocol::Asap, local(enrp))];
        let config = on_loopback(&[rsplib, ours]);
        let mut ear = Groups::open(&config, &[]);
        // Two registrars of one number, as in two network namespaces, and a third program that has it too.
        let third = speaking(rsplib.address, Some(local(asap))).unwrap();
        for _ in 0..2 {
            let mut mouth = Groups::open(&config, &ports);
            assert!(mouth.complaints.is_empty(), "{:?}", mouth.complaints);
            mouth.announce(Protocol::Asap, Audience::Rsplib, b"12345678");
            let mut sources = Vec::new();
            while sources.len() < 2 {
                for (group, from, bytes) in next(&mut ear, 0) {
                    assert_eq!((group, bytes), (rsplib, b"12345678".to_vec()));
                    sources.push(from);
                }
            }
            assert_eq!(sources, [local(asap), local(enrp)]);
        }
        drop(third);
    }

    #[test]
    fn nothing_is_said_to_rsplib_without_an_sctp_port() {
        let port = free_port();
        let rsplib = group(Protocol::Asap, Audience::Rsplib, ([239, 0, 0, 50], port));
        let groups =
            Groups::open(&on_loopback(&[rsplib]), &[(Protocol::Enrp, "127.0.0.1:1".parse().unwrap())]);
        assert!(groups.places[0].speaking.is_empty() && groups.complaints.is_empty());
    }

    #[test]
    fn rsplib_is_told_from_where_its_family_reaches_the_port() {
        let rsplib = Group::by_word(Protocol::Asap, RSPLIB_ASAP_GROUP).unwrap();
        let from = |at: &str| sources(rsplib, &[(Protocol::Asap, at.parse().unwrap())]);
        assert_eq!(from("10.1.1.1:7"), ["10.1.1.1:7".parse().unwrap()]);
        assert_eq!(from("0.0.0.0:7"), ["0.0.0.0:7".parse().unwrap()]);
        assert_eq!(from("[::]:7"), ["0.0.0.0:7".parse().unwrap()]);
        assert_eq!(from("[fd00::1]:7"), []);
    }

    #[test]
    fn a_group_that_is_none_is_left_out() {
        let none = group(Protocol::Asap, Audience::Standard, ([192, 0, 2, 1], 9));
        let mut groups = Groups::open(&on_loopback(&[none]), &[]);
        groups.announce(Protocol::Asap, Audience::Standard, b"nobody");
        assert!(!groups.complaints.is_empty());
    }

    #[test]
    fn usual_groups_are_addresses() {
        let count = |protocols: &[Protocol], sctp| Multicast::usual(protocols, sctp).groups.len();
        assert_eq!(count(&[Protocol::Asap], false), 2);
        assert_eq!(count(&[Protocol::Asap, Protocol::Enrp], false), 4);
        assert_eq!(count(&[Protocol::Asap, Protocol::Enrp], true), 6);
    }

    #[test]
    fn a_group_is_for_whom_it_is_said_to_be() {
        let audience = |word| Group::by_word(Protocol::Asap, word).map(|group| group.audience);
        assert_eq!(audience("239.0.0.50:3863"), Some(Audience::Rsplib));
        assert_eq!(audience("239.1.2.3:3863"), Some(Audience::Standard));
        assert_eq!(audience("rsplib:239.1.2.3:3863"), Some(Audience::Rsplib));
        assert_eq!(audience("rsplib:[ff05::7]:3863"), Some(Audience::Rsplib));
        assert_eq!(audience("10.0.0.1:3863"), None);
        assert_eq!(audience("rsplib"), None);
    }
}
