//! A registrar on this machine: from what an operator or a program says to a machine with listeners, announcement groups, log
//! and administration socket. The daemon runs it in its own thread, a program that hosts one gets a thread for it.
//!
//! Does not parse command lines or files, catch signals, or print.

mod admin;
mod journal;
mod words;

use crate::config::{DialectSetting, Limits, PathLimits, Profile, RegistrarConfig};
use crate::csp;
use crate::machine::{Destination, LinkKind, Protocol};
use crate::registrar::{Registrar, Setup};
use crate::runtime::admin::AdminSocket;
use crate::runtime::driver::{self, Driver, DriverConfig, Remote, Thread};
use crate::runtime::interfaces::local_addresses;
use crate::runtime::listener::has_sctp;
use crate::runtime::multicast::{Group, Multicast};
use crate::runtime::names::host_name;
use crate::runtime::poller::{PollPoller, Poller};
use crate::runtime::{entropy, now};
use crate::types::{Addresses, ServerId, TransportAddress, TransportUse};
use admin::About;
use journal::Journal;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The port of ASAP (RFC 5352 9.2).
pub const ASAP_PORT: u16 = 3863;
/// The port of ENRP (RFC 5353 6.3).
pub const ENRP_PORT: u16 = 9901;

/// What a registrar is told. The default serves this machine only, at the usual ports, and knows nobody.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it serves elements and users; port 0: any.
    pub asap: Vec<SocketAddr>,
    /// Where it serves other registrars; port 0: any.
    pub enrp: Vec<SocketAddr>,
    /// Other registrars' ENRP addresses. Its own may be among them, so that all of a cluster can be told the same.
    pub peers: Vec<SocketAddr>,
    /// Whether it announces itself, and hears others do so.
    pub announce: Announce,
    /// Its identifier; none: random.
    pub id: Option<ServerId>,
    /// Timers.
    pub profile: Profile,
    /// How elements, users and other registrars speak.
    pub dialect: DialectSetting,
    /// Whether elements may register addresses other than their own.
    pub proxy_registration: bool,
    /// Limits; but the profile says how long SCTP tries a path.
    pub limits: Limits,
    /// Where it can be looked at.
    pub admin: Admin,
    /// Who is told how it is, by the component status protocol.
    pub monitor: Option<csp::Monitor>,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            asap: vec![(Ipv4Addr::LOCALHOST, ASAP_PORT).into()],
            enrp: vec![(Ipv4Addr::LOCALHOST, ENRP_PORT).into()],
            peers: Vec::new(),
            announce: Announce::Auto,
            id: None,
            profile: Profile::default(),
            dialect: DialectSetting::default(),
            proxy_registration: false,
            limits: Limits::default(),
            admin: Admin::Off,
            monitor: None,
        }
    }
}

/// How a registrar is announced.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Announce {
    /// To the usual groups, if somebody else could make use of it.
    Auto,
    /// Not at all.
    Off,
    /// To these groups; on the loopback interface, if only this machine is served.
    Groups(Vec<Group>),
}

/// Where administration is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Admin {
    /// Nowhere.
    Off,
    /// Here, or not at all will do.
    IfFree(PathBuf),
    /// Here.
    At(PathBuf),
}

/// A listener of a registrar. Displayed as `asap tcp 127.0.0.1:3863`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Listener {
    /// What carries the links it accepts.
    pub kind: LinkKind,
    /// What they are for.
    pub protocol: Protocol,
    /// Where it is.
    pub address: SocketAddr,
}

impl Listener {
    /// Whether it is for elements and users.
    pub fn serves_endpoints(&self) -> bool {
        self.protocol == Protocol::Asap
    }

    /// Whether it is for other registrars.
    pub fn serves_registrars(&self) -> bool {
        self.protocol == Protocol::Enrp
    }
}

impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", words::protocol(self.protocol), words::kind(self.kind), self.address)
    }
}

/// A registrar whose listeners are open; it serves when it is run.
#[derive(Debug)]
pub struct Host {
    driver: Driver<Registrar>,
    admin: Option<AdminSocket>,
    id: ServerId,
    listeners: Vec<Listener>,
    announcing: bool,
    journal: Journal,
}

impl Host {
    /// Opens everything. Errors name what could not be opened; of listeners they have the system's kind (`AddrInUse` and so on).
    pub fn open(settings: Settings, poller: Box<dyn Poller>) -> io::Result<Host> {
        let (asap, enrp) = (settings.asap, settings.enrp);
        if asap.is_empty() || enrp.is_empty() {
            let what = "a registrar needs an address for ASAP and one for ENRP";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        }
        let id = match settings.id {
            Some(id) => id,
            None => random_id()?,
        };
        let config = RegistrarConfig {
            proxy_registration: settings.proxy_registration,
            dialect: settings.dialect,
            ..RegistrarConfig::new(settings.profile)
        };
        let local = asap.iter().chain(&enrp).all(|address| address.ip().is_loopback());
        if !local {
            log::warn!(
                "serving networks without encryption or authentication: whoever reaches the ports can register servers"
            );
        }
        let sctp = has_sctp();
        let multicast = settings.announce.multicast(local, sctp);
        let announcing = multicast.is_some();
        // Where the kernel has SCTP it serves beside TCP, on the same addresses and ports.
        let kinds: &[LinkKind] = if sctp {
            &[LinkKind::Tcp, LinkKind::Sctp]
        } else {
            log::info!("TCP only: this system's kernel has no SCTP (on Linux `modprobe sctp` may load it)");
            &[LinkKind::Tcp]
        };
        let wanted: Vec<(LinkKind, Protocol, SocketAddr)> = kinds
            .iter()
            .flat_map(|kind| {
                let asap = asap.iter().map(|address| (*kind, Protocol::Asap, *address));
                asap.chain(enrp.iter().map(|address| (*kind, Protocol::Enrp, *address)))
            })
            .collect();
        let limits = Limits { path: PathLimits::new(settings.profile), ..settings.limits };
        let driver_config = DriverConfig { listeners: wanted.clone(), multicast, limits: limits.clone() };
        let (peers, monitor, seed) = (settings.peers, settings.monitor, entropy()?);
        let mut listeners = Vec::new();
        let driver = Driver::open(poller, driver_config, |bound| {
            let found = wanted.iter().zip(bound);
            listeners.extend(found.map(|((kind, protocol, _), address)| Listener {
                kind: *kind,
                protocol: *protocol,
                address: *address,
            }));
            let setup = Setup {
                id,
                asap: transports(&listeners, Protocol::Asap),
                enrp: transports(&listeners, Protocol::Enrp),
                announce: announcing,
                peers: destinations(&listeners, &peers),
            };
            let mut registrar = Registrar::new(config, limits, seed, setup);
            if let Some(monitor) = monitor {
                registrar.report_to(monitor, location(&listeners));
            }
            registrar
        })?;
        let journal = Journal::default();
        let about = About {
            listeners: listeners.clone(),
            profile: settings.profile.name(),
            started: now(),
            last_takeover: journal.last_takeover(),
        };
        let admin = open_admin(settings.admin, driver.remote(), about)?;
        Ok(Host { driver, admin, id, listeners, announcing, journal })
    }

    /// Its identifier at the start.
    pub fn id(&self) -> ServerId {
        self.id
    }

    /// Where it listens.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// A handle for other threads.
    pub fn remote(&self) -> Remote<Registrar> {
        self.driver.remote()
    }

    /// Serves in this thread until [`leave`] or [`Remote::stop`]. An error is the poller's.
    pub fn run(mut self) -> io::Result<()> {
        let id = self.id;
        log::info!(
            "registrar {id} is ready, {} announcing itself",
            if self.announcing { "and" } else { "not" }
        );
        let journal = &mut self.journal;
        let result = self.driver.run(&mut |registrar, now, event| journal.note(registrar, now, &event));
        drop(self.admin);
        log::info!("registrar {id} has stopped");
        result
    }

    /// Serves in a thread of its own.
    pub fn spawn(self) -> io::Result<Running> {
        let Host { driver, admin, id, listeners, announcing: _, mut journal } = self;
        let (remote, process) = (driver.remote(), std::process::id());
        let thread = driver::spawn(driver, "asap-registrar", move |registrar, now, event| {
            journal.note(registrar, now, &event);
        })?;
        Ok(Running { parts: Some((remote, thread, admin)), process, id, listeners })
    }
}

/// Has a registrar close its links in order, so that its clients go elsewhere at once, and its driver end.
pub fn leave(remote: &Remote<Registrar>) {
    remote.call(Box::new(|registrar, now| registrar.shutdown(now)));
    remote.stop();
}

/// A registrar with a thread of its own. Dropping it ends it in order.
#[derive(Debug)]
pub struct Running {
    parts: Option<(Remote<Registrar>, Thread, Option<AdminSocket>)>,
    process: u32,
    id: ServerId,
    listeners: Vec<Listener>,
}

impl Running {
    /// Starts one that waits by poll(2).
    pub fn start(settings: Settings) -> io::Result<Running> {
        Host::open(settings, Box::new(PollPoller::default()))?.spawn()
    }

    /// Its identifier at the start.
    pub fn id(&self) -> ServerId {
        self.id
    }

    /// Where it listens.
    pub fn listeners(&self) -> &[Listener] {
        &self.listeners
    }

    /// Whether this process was forked from the one it runs in: it is not here.
    pub fn is_inherited(&self) -> bool {
        self.process != std::process::id()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let parts = self.parts.take();
        if self.is_inherited() {
            // The threads, and whoever held the locks in these, are in the parent.
            std::mem::forget(parts);
            return;
        }
        if let Some((remote, thread, admin)) = parts {
            // Its thread asks the registrar's.
            drop(admin);
            leave(&remote);
            if let Err(error) = thread.join() {
                log::error!("the registrar's thread has failed: {error}");
            }
        }
    }
}

impl Announce {
    /// As people say it: `auto`, `off` or groups for elements and users, separated by commas; groups for registrars among themselves. The
    /// word that was not understood.
    pub fn by_words<'a>(asap: Option<&'a str>, enrp: Option<&'a str>) -> Result<Announce, &'a str> {
        let mut groups = Vec::new();
        let asap = match asap {
            Some("off") => return Ok(Announce::Off),
            None | Some("auto") => None,
            group => group,
        };
        for (protocol, text) in [(Protocol::Asap, asap), (Protocol::Enrp, enrp)] {
            let Some(text) = text else { continue };
            for word in text.split(',').map(str::trim) {
                groups.push(Group::by_word(protocol, word).ok_or(word)?);
            }
        }
        Ok(if groups.is_empty() { Announce::Auto } else { Announce::Groups(groups) })
    }

    /// The groups to announce to and to hear; `local` if only this machine is served, `sctp` if over that, too.
    fn multicast(&self, local: bool, sctp: bool) -> Option<Multicast> {
        match self {
            Announce::Auto if local => None,
            Announce::Auto => Some(Multicast::usual(&[Protocol::Asap, Protocol::Enrp], sctp)),
            Announce::Off => None,
            Announce::Groups(groups) => {
                Some(Multicast { groups: groups.clone(), hear: true, loopback: local })
            }
        }
    }
}

fn random_id() -> io::Result<ServerId> {
    loop {
        // The low half; 0 is no identifier.
        if let Some(id) = ServerId::new((entropy()? & 0xffff_ffff) as u32) {
            return Ok(id);
        }
    }
}

/// The addresses under which a listener can be reached: for a wildcard, this machine's.
fn reachable(listener: SocketAddr) -> Vec<IpAddr> {
    match listener.ip() {
        ip if !ip.is_unspecified() => vec![ip],
        any => local_addresses()
            .unwrap_or_default()
            .into_iter()
            .filter(|own| !own.is_loopback() && (any.is_ipv6() || own.is_ipv4()))
            .collect(),
    }
}

/// Where this registrar is, for people.
fn location(listeners: &[Listener]) -> String {
    let mut places: Vec<String> = Vec::new();
    for listener in listeners.iter().filter(|listener| listener.serves_endpoints()) {
        let port = listener.address.port();
        let here = reachable(listener.address).into_iter().map(|ip| SocketAddr::new(ip, port).to_string());
        here.for_each(|place| {
            if !places.contains(&place) {
                places.push(place);
            }
        });
    }
    csp::location(&host_name(), places)
}

/// Where others find this registrar for a protocol. SCTP first, one transport a port, with all its addresses: that
/// is what the RFCs demand.
fn transports(listeners: &[Listener], protocol: Protocol) -> Vec<TransportAddress> {
    let mut sctp: BTreeMap<u16, Vec<IpAddr>> = BTreeMap::new();
    let mut tcp = Vec::new();
    for listener in listeners.iter().filter(|listener| listener.protocol == protocol) {
        let (port, transport_use) = (listener.address.port(), TransportUse::DataOnly);
        let addresses = reachable(listener.address);
        match listener.kind {
            LinkKind::Tcp => tcp.extend(addresses.into_iter().map(|address| TransportAddress::Tcp {
                port,
                transport_use,
                address,
            })),
            LinkKind::Sctp => {
                let all = sctp.entry(port).or_default();
                addresses.into_iter().for_each(|ip| {
                    if !all.contains(&ip) {
                        all.push(ip);
                    }
                });
            }
            LinkKind::Udp => {}
        }
    }
    let of_port = |(port, addresses)| {
        let (transport_use, addresses) = (TransportUse::DataOnly, Addresses::new(addresses)?);
        Some(TransportAddress::Sctp { port, transport_use, addresses })
    };
    sctp.into_iter().filter_map(of_port).chain(tcp).collect()
}

/// Where to look for the peers, without this registrar itself: over SCTP first, if it serves over that, and over TCP.
fn destinations(listeners: &[Listener], peers: &[SocketAddr]) -> Vec<Destination> {
    let is_own = |peer: &SocketAddr| {
        listeners.iter().filter(|listener| listener.protocol == Protocol::Enrp).any(|listener| {
            let ip = listener.address.ip();
            let here = ip == peer.ip()
                || ip.is_unspecified()
                    && (peer.ip().is_loopback() || reachable(listener.address).contains(&peer.ip()));
            here && listener.address.port() == peer.port()
        })
    };
    let sctp = |listener: &Listener| (listener.protocol, listener.kind) == (Protocol::Enrp, LinkKind::Sctp);
    let kinds = match listeners.iter().any(sctp) {
        true => &[LinkKind::Sctp, LinkKind::Tcp][..],
        false => &[LinkKind::Tcp],
    };
    let mut found: Vec<Destination> = Vec::new();
    for peer in peers.iter().filter(|peer| !is_own(peer)) {
        for kind in kinds.iter().copied() {
            let (protocol, port) = (Protocol::Enrp, peer.port());
            let destination = Destination { kind, protocol, port, addresses: peer.ip().into() };
            if !found.contains(&destination) {
                found.push(destination);
            }
        }
    }
    found
}

fn open_admin(admin: Admin, remote: Remote<Registrar>, about: About) -> io::Result<Option<AdminSocket>> {
    let (path, must) = match admin {
        Admin::Off => return Ok(None),
        Admin::At(path) => (path, true),
        Admin::IfFree(path) => (path, false),
    };
    match AdminSocket::open(&path, admin::answer(remote, about)) {
        Ok(socket) => {
            log::info!("administration at {}", path.display());
            Ok(Some(socket))
        }
        Err(error) if must => {
            let what = format!("cannot open the administration socket {}: {error}", path.display());
            Err(io::Error::new(error.kind(), what))
        }
        Err(error) => {
            log::warn!(
                "no administration socket: {} ({error}); another registrar has it? Give this one a path of its own",
                path.display()
            );
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::Audience;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn listener(kind: LinkKind, address: &str) -> Listener {
        Listener { kind, protocol: Protocol::Enrp, address: at(address) }
    }

    #[test]
    fn announces_on_its_own_only_what_others_can_reach() {
        assert!(Announce::Auto.multicast(true, true).is_none());
        let all = Announce::Auto.multicast(false, true).unwrap();
        assert!(!all.loopback && all.groups.iter().any(|group| group.protocol == Protocol::Enrp));
        let own = Announce::by_words(Some("239.0.0.7:3863"), None).unwrap();
        assert!(own.multicast(true, true).is_some_and(|multicast| multicast.loopback));
    }

    #[test]
    fn groups_of_ones_own_are_said_in_words() {
        let said = Announce::by_words(Some("239.0.0.7:1, rsplib:239.0.0.8:2"), Some("239.0.0.9:3")).unwrap();
        let Announce::Groups(groups) = said else { panic!("{said:?}") };
        let groups: Vec<_> = groups.iter().map(|g| (g.protocol, g.audience, g.address.port())).collect();
        let (asap, enrp) = (Protocol::Asap, Protocol::Enrp);
        let (standard, rsplib) = (Audience::Standard, Audience::Rsplib);
        assert_eq!(groups, [(asap, standard, 1), (asap, rsplib, 2), (enrp, standard, 3)]);
        assert_eq!(Announce::by_words(Some("239.0.0.7:1,10.0.0.1:2"), None), Err("10.0.0.1:2"));
        assert_eq!(Announce::by_words(Some("off"), Some("239.0.0.7:1")), Ok(Announce::Off));
    }

    #[test]
    fn is_no_peer_of_its_own() {
        let peers = ["127.0.0.1:9901", "127.0.0.1:9902", "10.255.255.9:9901", "127.0.0.1:9902"].map(at);
        let ports = |own: &str| -> Vec<u16> {
            let found = destinations(&[listener(LinkKind::Tcp, own)], &peers);
            found.iter().map(|destination| destination.port).collect()
        };
        assert_eq!(ports("127.0.0.1:9901"), [9902, 9901]);
        assert_eq!(ports("0.0.0.0:9901"), [9902, 9901]);
        assert_eq!(ports("127.0.0.1:7"), [9901, 9902, 9901]);
    }

    #[test]
    fn looks_for_peers_over_sctp_first_if_it_serves_over_that() {
        let all = [listener(LinkKind::Tcp, "127.0.0.1:1"), listener(LinkKind::Sctp, "127.0.0.1:1")];
        let found = destinations(&all, &["127.0.0.1:2", "127.0.0.1:1"].map(at));
        let found: Vec<_> = found.iter().map(|destination| (destination.kind, destination.port)).collect();
        assert_eq!(found, [(LinkKind::Sctp, 2), (LinkKind::Tcp, 2)]);
    }

    #[test]
    fn is_found_over_sctp_first() {
        let all = [listener(LinkKind::Tcp, "127.0.0.1:1"), listener(LinkKind::Sctp, "127.0.0.1:1")];
        let kinds: Vec<_> = transports(&all, Protocol::Enrp).iter().map(TransportAddress::kind).collect();
        assert_eq!(kinds, [crate::types::TransportKind::Sctp, crate::types::TransportKind::Tcp]);
        assert!(transports(&all, Protocol::Asap).is_empty());
    }

    #[test]
    fn several_run_side_by_side_and_leave_nothing_behind() {
        let any = || vec![at("127.0.0.1:0")];
        let settings =
            || Settings { asap: any(), enrp: any(), announce: Announce::Off, ..Settings::default() };
        let (one, two) = (Running::start(settings()).unwrap(), Running::start(settings()).unwrap());
        assert_ne!(one.id(), two.id());
        let places: Vec<SocketAddr> = one.listeners().iter().map(|listener| listener.address).collect();
        assert_eq!(
            Running::start(Settings { asap: vec![places[0]], ..settings() }).unwrap_err().kind(),
            io::ErrorKind::AddrInUse
        );
        drop(one);
        for place in places {
            assert!(std::net::TcpStream::connect(place).is_err());
        }
        drop(two);
    }
}
