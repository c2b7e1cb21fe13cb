//! Links to other registrars: where there may be one, opening them and opening them again, and which of several is sent
//! on.
//!
//! An address to connect to is a target: from the configuration, or as a peer told it. A target without link is tried
//! again and again, ever more slowly but without end, also when its registrar is no peer any more: that is how the two
//! sides of a partition find each other. Two registrars that connect to each other at once keep both links, and each
//! sends on the one opened by the lower identifier. Of two targets that are one registrar's SCTP and TCP the latter waits a moment
//! for the former. Knows no message.

use super::peers::PeerState;
use super::{Event, Registrar, Wake};
use crate::config::RegistrarConfig;
use crate::machine::{Destination, Effect, LinkFailure, LinkId, LinkKind, Protocol};
use crate::types::{Addresses, ServerId, Time, TransportAddress, TransportUse};
use crate::wire::Dialect;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Links to and from peers. Far more than one operational scope has registrars.
const MAX_LINKS: usize = 256;
/// Targets that are not configured.
const MAX_LEARNT: usize = 256;
/// Targets named by announcements, that anybody can send, and not yet seen to be registrars.
const MAX_UNVERIFIED: usize = 8;
/// The longest pause before a target is tried again that is not configured.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Links {
    links: BTreeMap<LinkId, PeerLink>,
    targets: BTreeMap<u32, Target>,
    next_target: u32,
    /// The first pause before a target is tried again, and the longest before a configured one is.
    first_pause: Duration,
    longest_pause: Duration,
}

/// Where another registrar may be.
#[derive(Debug)]
struct Target {
    to: Destination,
    origin: Origin,
    /// Who answered there, or is said to.
    server: Option<ServerId>,
    link: Option<LinkId>,
    /// The pause after the next failure.
    pause: Duration,
    /// The last failure has been told.
    told: bool,
    /// It has waited for the same registrar's SCTP.
    waited: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Origin {
    Configured,
    /// A peer said so.
    Learnt,
    /// An announcement said so: it is tried once.
    Announced,
}

#[derive(Debug)]
struct PeerLink {
    /// The target it was opened to. For one that the peer opened: the target that was found to have it already.
    target: Option<u32>,
    state: LinkState,
}

#[derive(Debug)]
enum LinkState {
    Opening,
    Up(UpLink),
}

/// A link that is up.
#[derive(Debug)]
pub(super) struct UpLink {
    /// Where this registrar serves ENRP, as far as this link tells.
    pub(super) own: Option<TransportAddress>,
    /// The other end's addresses.
    pub(super) addresses: Vec<IpAddr>,
    /// What carries it.
    pub(super) kind: LinkKind,
    /// Its port, over SCTP the one it listens at.
    pub(super) port: Option<u16>,
    /// How the other end speaks.
    pub(super) dialect: Dialect,
    /// When it came up.
    pub(super) since: Time,
    /// Who is at the other end, once it has said so.
    pub(super) peer: Option<ServerId>,
    /// Its incarnation, if it is one of ours.
    pub(super) incarnation: u64,
}

impl Links {
    pub(super) fn new(configured: Vec<Destination>, config: &RegistrarConfig) -> Links {
        let cycle = config.peer_heartbeat_cycle;
        let first_pause = (cycle / 2).clamp(Duration::from_millis(10), Duration::from_secs(1));
        let target = |to| Target {
            to,
            origin: Origin::Configured,
            server: None,
            link: None,
            pause: first_pause,
            told: false,
            waited: false,
        };
        let targets: BTreeMap<u32, Target> = (0..).zip(configured.into_iter().map(target)).collect();
        Links {
            links: BTreeMap::new(),
            next_target: u32::try_from(targets.len()).unwrap_or(u32::MAX),
            targets,
            first_pause,
            longest_pause: (cycle * 5).clamp(first_pause, LONGEST_PAUSE),
        }
    }

    pub(super) fn targets(&self) -> impl Iterator<Item = u32> {
        self.targets.keys().copied()
    }

    pub(super) fn has(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.links.is_empty()
    }

    pub(super) fn up(&self, link: LinkId) -> Option<&UpLink> {
        match &self.links.get(&link)?.state {
            LinkState::Up(up) => Some(up),
            LinkState::Opening => None,
        }
    }

    pub(super) fn up_mut(&mut self, link: LinkId) -> Option<&mut UpLink> {
        match &mut self.links.get_mut(&link)?.state {
            LinkState::Up(up) => Some(up),
            LinkState::Opening => None,
        }
    }

    pub(super) fn all_up(&self) -> Vec<LinkId> {
        self.links.keys().copied().filter(|link| self.up(*link).is_some()).collect()
    }

    /// Links that are up and whose other end has not said who it is, or is no peer any more.
    pub(super) fn strangers(&self, is_peer: impl Fn(ServerId) -> bool) -> Vec<LinkId> {
        let is_strange = |link: &&LinkId| self.up(**link).is_some_and(|up| !up.peer.is_some_and(&is_peer));
        self.links.keys().filter(is_strange).copied().collect()
    }

    /// Links that are up and lead to this registrar.
    fn of(&self, server: ServerId) -> Vec<LinkId> {
        let is_its = |link: &&LinkId| self.up(**link).is_some_and(|up| up.peer == Some(server));
        self.links.keys().filter(is_its).copied().collect()
    }

    /// Whether there is a link to one that may be RSPLIB's.
    pub(super) fn may_reach_rsplib(&self) -> bool {
        let may_be = |link: &PeerLink| match &link.state {
            LinkState::Up(up) => up.dialect != Dialect::Rfc,
            LinkState::Opening => false,
        };
        self.links.values().any(may_be)
    }

    /// Whether no link is there or on its way, and every target has been tried.
    pub(super) fn all_failed(&self) -> bool {
        self.links.is_empty() && self.targets.values().all(|target| target.told)
    }

    /// Takes in a link that a peer opened; false if there are too many.
    pub(super) fn accept(&mut self, link: LinkId) -> bool {
        let room = self.links.len() < MAX_LINKS;
        if room {
            self.links.insert(link, PeerLink { target: None, state: LinkState::Opening });
        }
        room
    }

    pub(super) fn drain(&mut self) -> Vec<LinkId> {
        std::mem::take(&mut self.links).into_keys().collect()
    }

    /// Who is at the other end of a link is known now: also who its target is.
    pub(super) fn identify(&mut self, link: LinkId, server: ServerId) {
        if let Some(target) = self.links.get(&link).and_then(|link| self.targets.get_mut(&link.target?)) {
            (target.server, target.pause, target.told) = (Some(server), self.first_pause, false);
            if target.origin == Origin::Announced {
                target.origin = Origin::Learnt;
            }
        }
        if let Some(up) = self.up_mut(link) {
            up.peer = Some(server);
        }
    }

    /// The target of a link is this registrar itself: it is not tried again.
    pub(super) fn forget_target(&mut self, link: LinkId) {
        if let Some(target) = self.links.get_mut(&link).and_then(|link| link.target.take()) {
            self.targets.remove(&target);
        }
    }

    /// Enters where a registrar is said to be; gives the target to be tried, if it is new or moved.
    fn learn(&mut self, to: Destination, server: ServerId, origin: Origin) -> Option<u32> {
        if let Some((id, known)) = self.targets.iter_mut().find(|(_, target)| target.to == to) {
            known.server = Some(server);
            return known.link.is_none().then_some(*id);
        }
        let of_server = |target: &&mut Target| {
            target.origin == Origin::Learnt && target.server == Some(server) && origin == Origin::Learnt
        };
        if let Some(target) = self.targets.values_mut().find(of_server) {
            (target.to, target.pause) = (to, self.first_pause);
            return None;
        }
        let (limit, count) = match origin {
            Origin::Announced => (MAX_UNVERIFIED, self.count(Origin::Announced)),
            Origin::Configured | Origin::Learnt => (MAX_LEARNT, self.count(Origin::Learnt)),
        };
        if count >= limit {
            return None;
        }
        let id = self.next_target;
        self.next_target = id.checked_add(1)?;
        let pause = self.first_pause;
        let server = Some(server);
        let target = Target { to, origin, server, link: None, pause, told: false, waited: false };
        self.targets.insert(id, target);
        Some(id)
    }

    /// The link over SCTP to the registrar that this target over TCP leads to.
    fn sctp_beside(&self, to: &Destination) -> Option<LinkId> {
        let mut others = self.targets.values().filter(|other| is_over_sctp(&other.to, to));
        others.find_map(|other| other.link)
    }

    /// Targets over TCP of the registrar that this one leads to over SCTP.
    fn tcp_beside(&self, to: &Destination) -> Vec<u32> {
        let is_beside = |(_, other): &(&u32, &Target)| is_over_sctp(to, &other.to);
        self.targets.iter().filter(is_beside).map(|(id, _)| *id).collect()
    }

    /// An attempt found that the registrar has connected to us already, and between two SCTP ports there is one association: that
    /// link is the target's now. Whether there is such a link.
    fn turn_to_caller(&mut self, attempt: LinkId) -> bool {
        let id = self.links.get(&attempt).and_then(|link| link.target);
        let Some((id, target)) = id.and_then(|id| Some((id, self.targets.get_mut(&id)?))) else {
            return false;
        };
        let is_it = |link: &PeerLink| match &link.state {
            LinkState::Up(up) => {
                (up.kind, up.port) == (target.to.kind, Some(target.to.port))
                    && overlap(&up.addresses, target.to.addresses.as_slice())
            }
            LinkState::Opening => false,
        };
        let found = self.links.iter_mut().find(|(_, link)| link.target.is_none() && is_it(link));
        let Some((link, found)) = found else { return false };
        found.target = Some(id);
        target.link = Some(*link);
        if let LinkState::Up(UpLink { peer: Some(server), .. }) = found.state {
            target.server = Some(server);
        }
        (target.pause, target.told) = (self.first_pause, false);
        self.links.remove(&attempt);
        true
    }

    fn count(&self, origin: Origin) -> usize {
        self.targets.values().filter(|target| target.origin == origin).count()
    }

    fn targets_of(&self, server: ServerId) -> Vec<u32> {
        let is_its = |target: &&u32| self.targets.get(target).is_some_and(|t| t.server == Some(server));
        self.targets.keys().filter(is_its).copied().collect()
    }
}

impl Registrar {
    /// A target is to be tried.
    pub(super) fn connect_peer(&mut self, now: Time, id: u32) {
        let Some(target) = self.links.targets.get(&id) else { return };
        if target.link.is_some() {
            return;
        }
        // Its registrar has connected itself, or is connected over SCTP: enough, as long as that link lives.
        let linked = target.server.is_some_and(|server| self.link_to(server).is_some());
        let beside = self.links.sctp_beside(&target.to);
        let enough = linked || beside.is_some_and(|link| self.links.up(link).is_some());
        let waits = beside.is_some() && !target.waited && !enough;
        if let Some(target) = self.links.targets.get_mut(&id) {
            target.waited = waits;
        }
        if enough {
            return;
        }
        if waits {
            self.timers.set(Wake::ConnectPeer(id), now + self.links.first_pause);
            return;
        }
        if self.links.links.len() >= MAX_LINKS {
            self.timers.set(Wake::ConnectPeer(id), now + LONGEST_PAUSE);
            return;
        }
        let link = self.next_link();
        let Some(target) = self.links.targets.get_mut(&id) else { return };
        target.link = Some(link);
        let to = target.to.clone();
        self.links.links.insert(link, PeerLink { target: Some(id), state: LinkState::Opening });
        self.out.effects.push_back(Effect::Connect { link, to });
    }

    /// All that is known of where this registrar may be is to be tried soon.
    pub(super) fn reconnect(&mut self, now: Time, server: ServerId) {
        for id in self.links.targets_of(server) {
            let idle = self.links.targets.get(&id).is_some_and(|target| target.link.is_none());
            let sooner = self.timers.deadline(&Wake::ConnectPeer(id)).is_none_or(|at| at > now);
            if idle && sooner {
                self.timers.set(Wake::ConnectPeer(id), now);
            }
        }
    }

    /// A registrar is said to be there: connect, unless it is connected.
    pub(super) fn learn_target(
        &mut self,
        now: Time,
        server: ServerId,
        transport: &TransportAddress,
        heard_from: &[IpAddr],
    ) {
        self.learn_from(now, server, transport, heard_from, Origin::Learnt);
    }

    /// The same from an announcement. Nothing vouches for it, so it is tried at the address it came from, a few
    /// at a time, and once.
    pub(super) fn learn_announced(
        &mut self,
        now: Time,
        server: ServerId,
        transport: &TransportAddress,
        from: IpAddr,
    ) {
        self.learn_from(now, server, transport, &[from.to_canonical()], Origin::Announced);
    }

    fn learn_from(
        &mut self,
        now: Time,
        server: ServerId,
        transport: &TransportAddress,
        heard_from: &[IpAddr],
        origin: Origin,
    ) {
        let Some(to) = destination(transport, heard_from, origin == Origin::Announced) else { return };
        if let Some(id) = self.links.learn(to, server, origin)
            && self.link_to(server).is_none()
            && self.timers.deadline(&Wake::ConnectPeer(id)).is_none()
        {
            self.timers.set(Wake::ConnectPeer(id), now);
        }
    }

    pub(super) fn on_peer_up(
        &mut self,
        now: Time,
        link: LinkId,
        kind: LinkKind,
        local: &[SocketAddr],
        peer: &[SocketAddr],
    ) {
        // A link that was accepted has the listener's port at this end; so has one opened over SCTP.
        let own =
            (link.is_incoming() || kind == LinkKind::Sctp).then(|| own_transport(kind, local)).flatten();
        let addresses = peer.iter().map(|address| address.ip().to_canonical()).collect();
        let port = peer.first().map(SocketAddr::port);
        let dialect = self.dialect_of_link(kind);
        let Some(peer_link) = self.links.links.get_mut(&link) else { return };
        if matches!(peer_link.state, LinkState::Up(_)) {
            return;
        }
        let (since, peer, incarnation) = (now, None, 0);
        let up = UpLink { own, addresses, kind, port, dialect, since, peer, incarnation };
        peer_link.state = LinkState::Up(up);
        self.introduce(now, link);
    }

    pub(super) fn on_peer_down(&mut self, now: Time, link: LinkId, why: LinkFailure) {
        if why == LinkFailure::Present && self.links.turn_to_caller(link) {
            self.on_link_gone(now, link);
            return;
        }
        let met = self.links.up(link).and_then(|up| up.peer);
        if let Some(server) = self.remove_link(now, link, Some(why)) {
            self.on_links_lost(now, server);
        }
        if let Some(server) = met.filter(|_| why == LinkFailure::TimedOut) {
            self.break_off_silent(now, server);
        }
    }

    /// A link to a registrar has timed out. If it is silent on the others, too, they are dead as well: nothing was sent on them, so
    /// their own time has not begun.
    fn break_off_silent(&mut self, now: Time, server: ServerId) {
        if self.peers.state(server) != Some(PeerState::Alive) {
            for link in self.links.of(server) {
                self.break_off(now, link);
            }
        }
    }

    /// Breaks a link off that has become useless; its target is tried again.
    pub(super) fn break_off(&mut self, now: Time, link: LinkId) {
        if self.links.has(link) {
            self.out.close(link, true);
            if let Some(server) = self.remove_link(now, link, None) {
                self.reconnect(now, server);
            }
        }
    }

    /// Strikes a link off; says whose last link it was.
    fn remove_link(&mut self, now: Time, link: LinkId, why: Option<LinkFailure>) -> Option<ServerId> {
        let PeerLink { target, state } = self.links.links.remove(&link)?;
        let met = match state {
            LinkState::Up(up) => up.peer,
            LinkState::Opening => None,
        };
        if let Some(id) = target
            && let Some(target) = self.links.targets.get_mut(&id)
        {
            target.link = None;
            if target.origin == Origin::Announced {
                self.links.targets.remove(&id);
            } else {
                // Where a registrar was is tried at once: that tells whether it is gone, or the link alone.
                let was_there = met.is_some();
                let pause = if was_there { Duration::ZERO } else { target.pause };
                let longest = match target.origin {
                    Origin::Configured => self.links.longest_pause,
                    Origin::Learnt | Origin::Announced => LONGEST_PAUSE,
                };
                if !was_there {
                    target.pause = (target.pause * 2).min(longest);
                }
                let to = target.to.clone();
                if let Some(why) = why
                    && !target.told
                {
                    target.told = true;
                    self.out.events.push_back(Event::PeerDown { to: to.clone(), why });
                }
                self.timers.set(Wake::ConnectPeer(id), now + pause);
                // TCP need not wait for an attempt over SCTP that has failed.
                let pause = if was_there { self.links.first_pause } else { Duration::ZERO };
                for id in self.links.tcp_beside(&to) {
                    if self.timers.deadline(&Wake::ConnectPeer(id)).is_none_or(|at| at > now + pause)
                        && self.links.targets.get(&id).is_some_and(|target| !target.told || was_there)
                    {
                        self.timers.set(Wake::ConnectPeer(id), now + pause);
                    }
                }
            }
        }
        // Who is no peer any more, having been taken over, may have targets that were left alone for this link's sake.
        let lost = met.filter(|server| {
            self.peers.find_mut(*server).is_none_or(|known| {
                known.links.remove(&link);
                known.links.is_empty()
            })
        });
        self.on_link_gone(now, link);
        lost
    }

    /// The link messages to this registrar go on.
    pub(super) fn link_to(&self, server: ServerId) -> Option<LinkId> {
        preferred(self.id, server, &self.peers.find(server)?.links)
    }
}

/// Design 4: of two links that both ends have opened, each sends on that of the lower identifier. Of several
/// opened by the same end the newest: the others may be dead without notice.
pub(super) fn preferred(me: ServerId, server: ServerId, links: &BTreeSet<LinkId>) -> Option<LinkId> {
    links.iter().copied().max_by_key(|link| (link.is_incoming() == (server < me), *link))
}

/// Where a registrar with this transport can be connected to. An address that means another machine there than here
/// (loopback told over a network, or none in particular) is replaced by the one it was heard from; so is one that
/// was merely announced, if `only` where it came from counts.
fn destination(transport: &TransportAddress, heard_from: &[IpAddr], only: bool) -> Option<Destination> {
    let (kind, port, addresses) = match transport {
        TransportAddress::Tcp { port, address, .. } => (LinkKind::Tcp, *port, vec![*address]),
        TransportAddress::Sctp { port, addresses, .. } => {
            (LinkKind::Sctp, *port, addresses.as_slice().to_vec())
        }
        TransportAddress::Dccp { .. }
        | TransportAddress::Udp { .. }
        | TransportAddress::UdpLite { .. }
        | TransportAddress::Opaque(_) => return None,
    };
    let near = heard_from.is_empty() || heard_from.iter().any(IpAddr::is_loopback);
    // A link-local address of IPv6 says nothing without the interface, which is not told.
    let usable = |address: &IpAddr| {
        let local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        !address.is_unspecified() && !address.is_multicast() && !local && (near || !address.is_loopback())
    };
    let mut kept: Vec<IpAddr> =
        addresses.iter().map(IpAddr::to_canonical).filter(|address| usable(address)).collect();
    if kept.is_empty() || only && !heard_from.iter().any(|from| kept.contains(from)) {
        kept = heard_from.to_vec();
        // A TCP link goes to one address.
        kept.truncate(if kind == LinkKind::Tcp { 1 } else { usize::MAX });
    }
    let addresses = Addresses::new(kept).filter(|_| port != 0)?;
    Some(Destination { kind, protocol: Protocol::Enrp, port, addresses })
}

/// Whether the first leads over SCTP to where the second leads over TCP: our registrars have the same port numbers over both.
fn is_over_sctp(a: &Destination, b: &Destination) -> bool {
    a.kind == LinkKind::Sctp
        && b.kind == LinkKind::Tcp
        && a.port == b.port
        && overlap(a.addresses.as_slice(), b.addresses.as_slice())
}

fn overlap(some: &[IpAddr], others: &[IpAddr]) -> bool {
    some.iter().any(|address| others.contains(address))
}

fn own_transport(kind: LinkKind, local: &[SocketAddr]) -> Option<TransportAddress> {
    let (first, transport_use) = (local.first()?, TransportUse::DataOnly);
    let (port, address) = (first.port(), first.ip().to_canonical());
    match kind {
        LinkKind::Tcp => Some(TransportAddress::Tcp { port, transport_use, address }),
        LinkKind::Sctp => {
            let addresses = Addresses::new(local.iter().map(|local| local.ip().to_canonical()).collect())?;
            Some(TransportAddress::Sctp { port, transport_use, addresses })
        }
        LinkKind::Udp => None,
    }
}
