//! Everything a driver has but its machine: links with their places and deadlines, listeners, announcement groups,
//! poller. Carries out effects; what comes of them is the driver's to tell.

use crate::config::Limits;
use crate::machine::{Destination, Effect, LinkFailure, LinkId, LinkKind, Protocol};
use crate::runtime::driver::DriverConfig;
use crate::runtime::link::{Connection, failure, plain_address};
use crate::runtime::listener::Listener;
use crate::runtime::multicast::Groups;
use crate::runtime::poller::{Interest, Poller};
use crate::runtime::reports::Reports;
use crate::types::Time;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::time::Duration;

/// How long no connection is accepted after the system had no room for one.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long a link that was closed in order may take to hand over what is queued.
pub(super) const LINGER: Duration = Duration::from_secs(1);
/// Connections that may wait to be accepted; the system has its own ceiling.
const BACKLOG: i32 = 4_096;

/// How often two listeners that are to have one port number look for it.
const PAIRS: usize = 16;

/// Tokens of the poller: the wake-up, then listeners, announcement groups, links.
pub(super) const WAKE: usize = 0;
pub(super) const LISTENERS: usize = 1;
pub(super) const GROUPS: usize = 1 << 16;
pub(super) const LINKS: usize = 1 << 17;

/// Everything but the machine.
pub(super) struct World {
    pub poller: Box<dyn Poller>,
    limits: Limits,
    pub listeners: Vec<Listener>,
    /// Where they are, in the order of the configuration: one listener may serve several of its entries.
    locals: Vec<SocketAddr>,
    /// Until when no connection is accepted, after the system had no room.
    pub accept_paused: Option<Time>,
    crowded: bool,
    pub groups: Option<Groups>,
    reports: Reports,
    pub links: Vec<Option<Link>>,
    vacant: Vec<usize>,
    pub by_id: HashMap<LinkId, usize>,
    incoming: u64,
    per_address: HashMap<IpAddr, usize>,
    deadlines: BTreeSet<(Time, usize)>,
    /// Links that have more to read although their descriptor may not say so.
    pub again: Vec<usize>,
    /// Links whose queue, interest or deadline may have changed.
    dirty: Vec<usize>,
    pub effects: VecDeque<Effect>,
    /// Links that never came to life.
    pub failed: VecDeque<(LinkId, LinkFailure)>,
    /// Links to peers whose own association waits to be accepted: that first.
    pub after_accepting: Vec<(LinkId, Destination)>,
}

/// A link and what is kept about it.
pub(super) struct Link {
    pub id: LinkId,
    pub connection: Connection,
    /// As the poller knows it.
    registered: Option<(RawFd, Interest)>,
    deadline: Option<Time>,
    /// Counted against this address.
    counted: Option<IpAddr>,
    pub again: bool,
    dirty: bool,
    /// The machine has done with it; it may hand over what is queued until then.
    pub closing: Option<Time>,
}

impl World {
    /// Opens listeners and announcement groups.
    pub fn open(mut poller: Box<dyn Poller>, config: DriverConfig) -> io::Result<World> {
        let (listeners, locals) = listen(&config)?;
        for (n, listener) in listeners.iter().enumerate() {
            poller.set(listener.fd(), LISTENERS + n, Interest::READ)?;
        }
        let ports: Vec<(Protocol, SocketAddr)> = config
            .listeners
            .iter()
            .zip(&locals)
            .filter(|((kind, ..), _)| *kind == LinkKind::Sctp)
            .map(|((_, protocol, _), at)| (*protocol, *at))
            .collect();
        let groups = config.multicast.as_ref().map(|multicast| Groups::open(multicast, &ports));
        for (n, fd) in groups.iter().flat_map(Groups::descriptors) {
            poller.set(fd, GROUPS + n, Interest::READ)?;
        }
        Ok(World {
            poller,
            limits: config.limits,
            listeners,
            locals,
            accept_paused: None,
            crowded: false,
            groups,
            reports: Reports::default(),
            links: Vec::new(),
            vacant: Vec::new(),
            by_id: HashMap::new(),
            incoming: 0,
            per_address: HashMap::new(),
            deadlines: BTreeSet::new(),
            again: Vec::new(),
            dirty: Vec::new(),
            effects: VecDeque::new(),
            failed: VecDeque::new(),
            after_accepting: Vec::new(),
        })
    }

    /// Where the listeners are.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.locals.clone()
    }

    /// How long to wait for descriptors.
    pub fn wait(&self, now: Time, timeout: Option<Time>, busy: bool) -> Option<Duration> {
        if busy {
            return Some(Duration::ZERO);
        }
        [
            timeout,
            self.deadlines.first().map(|(at, _)| *at),
            self.accept_paused,
            self.groups.as_ref().map(Groups::deadline),
        ]
        .into_iter()
        .flatten()
        .filter(|at| *at != Time::NEVER)
        .min()
        .map(|at| at.since(now))
    }

    /// The links whose deadline has passed.
    pub fn take_due(&mut self, now: Time) -> Vec<usize> {
        let mut due = Vec::new();
        while let Some(&(at, place)) = self.deadlines.first()
            && at <= now
        {
            self.deadlines.pop_first();
            if let Some(link) = self.links.get_mut(place).and_then(Option::as_mut) {
                link.deadline = None;
            }
            due.push(place);
        }
        due
    }

    pub fn insert(&mut self, id: LinkId, connection: Connection, counted: Option<IpAddr>) -> usize {
        let link = Link {
            id,
            connection,
            registered: None,
            deadline: None,
            counted,
            again: false,
            dirty: false,
            closing: None,
        };
        if let Some(address) = counted {
            *self.per_address.entry(address).or_default() += 1;
        }
        let place = match self.vacant.pop() {
            Some(place) => {
                self.links[place] = Some(link);
                place
            }
            None => {
                self.links.push(Some(link));
                self.links.len() - 1
            }
        };
        self.by_id.insert(id, place);
        self.touch(place);
        place
    }

    /// Forgets a link and closes its descriptor, breaking the link off or not.
    pub fn remove(&mut self, place: usize, abort: bool) {
        let Some(link) = self.links.get_mut(place).and_then(Option::take) else { return };
        if let Some((fd, _)) = link.registered {
            self.poller.forget(fd);
        }
        if let Some(at) = link.deadline {
            self.deadlines.remove(&(at, place));
        }
        if let Some(address) = link.counted
            && let Some(count) = self.per_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&address);
            }
        }
        if self.by_id.get(&link.id) == Some(&place) {
            self.by_id.remove(&link.id);
        }
        self.vacant.push(place);
        link.connection.close(abort);
    }

    /// Notes that a link is to be looked at by `synchronise`.
    pub fn touch(&mut self, place: usize) {
        if let Some(link) = self.links.get_mut(place).and_then(Option::as_mut)
            && !link.dirty
        {
            link.dirty = true;
            self.dirty.push(place);
        }
    }

    /// Writes what was queued and brings poller and deadlines up to date; whether anything failed meanwhile.
    pub fn synchronise(&mut self) -> bool {
        for place in std::mem::take(&mut self.dirty) {
            let Some(link) = self.links.get_mut(place).and_then(Option::as_mut) else { continue };
            link.dirty = false;
            link.connection.flush();
            let deadline = [link.connection.deadline(), link.closing].into_iter().flatten().min();
            if deadline != link.deadline {
                if let Some(at) = link.deadline {
                    self.deadlines.remove(&(at, place));
                }
                if let Some(at) = deadline {
                    self.deadlines.insert((at, place));
                }
                link.deadline = deadline;
            }
            let wanted = (link.connection.fd(), link.connection.interest());
            if link.registered == Some(wanted) {
                continue;
            }
            if let Some((fd, _)) = link.registered
                && fd != wanted.0
            {
                self.poller.forget(fd);
            }
            link.registered = Some(wanted);
            if let Err(error) = self.poller.set(wanted.0, LINKS + place, wanted.1) {
                log::error!("cannot wait for a link: {error}; closing it");
                let id = link.id;
                if self.by_id.contains_key(&id) {
                    self.failed.push_back((id, LinkFailure::NoResources));
                }
                self.remove(place, false);
            }
        }
        !self.failed.is_empty()
    }

    pub fn execute(&mut self, now: Time, effect: Effect) {
        match effect {
            Effect::Connect { link, to } => self.connect(now, link, to),
            Effect::Send { link, channel, bytes } => {
                if let Some(&place) = self.by_id.get(&link)
                    && let Some(slot) = &mut self.links[place]
                {
                    slot.connection.push(channel, bytes);
                    self.touch(place);
                }
            }
            Effect::Close { link, abort } => {
                self.after_accepting.retain(|(waiting, _)| *waiting != link);
                let Some(place) = self.by_id.remove(&link) else { return };
                if abort {
                    self.remove(place, true);
                } else if let Some(slot) = &mut self.links[place] {
                    slot.connection.finish();
                    slot.closing = Some(now + LINGER);
                    self.touch(place);
                }
            }
            Effect::Announce { protocol, audience, bytes } => {
                if let Some(groups) = &mut self.groups {
                    groups.announce(protocol, audience, &bytes);
                }
            }
            Effect::Datagram { to, bytes } => self.reports.send(to, &bytes),
        }
    }

    fn connect(&mut self, now: Time, link: LinkId, to: Destination) {
        let port = self.listeners.iter().find(|listener| {
            listener.is_port() && listener.protocol() == to.protocol && listener.kind() == to.kind
        });
        let begun = match port {
            Some(port) => Connection::connect_from(port, &to, &self.limits),
            None => Connection::connect(now, &to, &self.limits),
        };
        let error = match begun {
            Ok(connection) => {
                self.insert(link, connection, None);
                return;
            }
            Err(error) => error,
        };
        let why = match error.raw_os_error() {
            Some(libc::EISCONN | libc::EALREADY) if port.is_some() => {
                self.after_accepting.push((link, to));
                return;
            }
            Some(libc::EADDRNOTAVAIL) if port.is_some() => LinkFailure::Present,
            Some(libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH) => failure(&error),
            _ => LinkFailure::NoResources,
        };
        log::debug!("cannot connect to {:?} port {}: {error}", to.addresses.as_slice(), to.port);
        self.failed.push_back((link, why));
    }

    /// Tries again what had to wait for an association to be accepted.
    pub fn connect_after_accepting(&mut self, now: Time) {
        for (link, to) in std::mem::take(&mut self.after_accepting) {
            self.connect(now, link, to);
        }
    }

    /// A link's peer has begun anew on it: from now on it is another link, which the peer opened.
    pub fn renew(&mut self, place: usize) -> Option<(LinkId, Protocol)> {
        let link = self.links.get_mut(place).and_then(Option::as_mut)?;
        let protocol = link.connection.begin_anew()?;
        if self.by_id.get(&link.id) == Some(&place) {
            self.by_id.remove(&link.id);
        }
        link.id = LinkId::incoming(self.incoming);
        self.incoming += 1;
        self.by_id.insert(link.id, place);
        Some((link.id, protocol))
    }

    /// Accepts one connection. None if none waits; no place if it was refused.
    pub fn accept(&mut self, now: Time, index: usize) -> Option<(Option<usize>, LinkId, Protocol)> {
        let listener = self.listeners.get(index)?;
        let (kind, protocol) = (listener.kind(), listener.protocol());
        let socket = match listener.accept() {
            Ok(socket) => socket?,
            Err(error) => {
                if !self.crowded {
                    self.crowded = true;
                    log::error!(
                        "cannot accept connections: {error}; trying again every {} ms (is the limit of open files too low?)",
                        ACCEPT_PAUSE.as_millis()
                    );
                }
                self.pause_accepting(now);
                return None;
            }
        };
        let id = LinkId::incoming(self.incoming);
        self.incoming += 1;
        let peer = socket2::SockRef::from(&socket).peer_addr();
        let counted = plain_address(peer).map(|peer| peer.ip()).filter(|address| !address.is_loopback());
        let crowd = counted.and_then(|address| self.per_address.get(&address)).copied().unwrap_or(0);
        let full = self.links.len() - self.vacant.len() >= self.limits.links;
        if full || crowd >= self.limits.links_per_address {
            if !std::mem::replace(&mut self.crowded, true) {
                log::warn!("refusing connections: as many are open as the limits allow");
            }
            return Some((None, id, protocol));
        }
        self.crowded = false;
        match Connection::accepted(now, socket, kind, protocol, &self.limits) {
            Ok(connection) => Some((Some(self.insert(id, connection, counted)), id, protocol)),
            Err(error) => {
                log::debug!("lost a connection while accepting it: {error}");
                Some((None, id, protocol))
            }
        }
    }

    pub fn pause_accepting(&mut self, now: Time) {
        self.accept_paused = Some(now + ACCEPT_PAUSE);
        self.listen(Interest::NONE);
    }

    /// Ends the pause when its time has come; whether it did.
    pub fn resume_accepting(&mut self, now: Time) -> bool {
        let over = self.accept_paused.is_some_and(|until| now >= until);
        if over {
            self.accept_paused = None;
            self.listen(Interest::READ);
        }
        over
    }

    pub fn listen(&mut self, interest: Interest) {
        for (n, listener) in self.listeners.iter().enumerate() {
            if let Err(error) = self.poller.set(listener.fd(), LISTENERS + n, interest) {
                log::error!("cannot wait at {}: {error}", listener.local());
            }
        }
    }
}

/// Opens the listeners, and says where each entry of the configuration is. ASAP and ENRP over SCTP are ports; entries of one
/// protocol with the same port number are one port at several addresses. An entry with port 0 gets the port of an
/// earlier one that differs in what carries it and was given port 0 too.
fn listen(config: &DriverConfig) -> io::Result<(Vec<Listener>, Vec<SocketAddr>)> {
    let entries = &config.listeners;
    let mut attempt = 0;
    'anew: loop {
        attempt += 1;
        let mut listeners: Vec<Listener> = Vec::new();
        let mut locals: Vec<SocketAddr> = Vec::new();
        for (n, (kind, protocol, address)) in entries.iter().enumerate() {
            let is_port = *kind == LinkKind::Sctp && matches!(protocol, Protocol::Asap | Protocol::Enrp);
            if is_port
                && address.port() != 0
                && entries[..n].iter().any(|(k, p, a)| (k, p, a.port()) == (kind, protocol, address.port()))
            {
                // Bound with the first of them.
                locals.push(*address);
                continue;
            }
            let twin = entries
                .iter()
                .zip(&locals)
                .filter(|((k, p, a), _)| k != kind && p == protocol && a == address && a.port() == 0)
                .map(|(_, at)| at.port())
                .next();
            let at = SocketAddr::new(address.ip(), twin.unwrap_or(address.port()));
            let bound = if is_port {
                let further: Vec<IpAddr> = match address.port() {
                    0 => Vec::new(),
                    port => entries[n + 1..]
                        .iter()
                        .filter(|(k, p, a)| (k, p, a.port()) == (kind, protocol, port))
                        .map(|(_, _, a)| a.ip())
                        .collect(),
                };
                Listener::bind_port(*protocol, at, &further, BACKLOG, &config.limits)
            } else {
                Listener::bind_all(*kind, *protocol, at, &[], BACKLOG, &config.limits)
            };
            match bound {
                Ok(listener) => {
                    locals.push(listener.local());
                    listeners.push(listener);
                }
                // Somebody has the twin's port: another one for both.
                Err(error)
                    if error.kind() == io::ErrorKind::AddrInUse && twin.is_some() && attempt < PAIRS =>
                {
                    continue 'anew;
                }
                Err(error) => return Err(io::Error::new(error.kind(), format!("{address}: {error}"))),
            }
        }
        return Ok((listeners, locals));
    }
}
