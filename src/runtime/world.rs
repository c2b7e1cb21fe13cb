//! Everything a driver has but its machine: links with their places and deadlines, listeners, announcement groups,
//! poller. Carries out effects; what comes of them is the driver's to tell.

use crate::config::Limits;
use crate::machine::{Effect, LinkFailure, LinkId, Protocol};
use crate::runtime::driver::DriverConfig;
use crate::runtime::link::{Connection, plain_address};
use crate::runtime::listener::Listener;
use crate::runtime::multicast::Groups;
use crate::runtime::poller::{Interest, Poller};
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
    /// Until when no connection is accepted, after the system had no room.
    pub accept_paused: Option<Time>,
    crowded: bool,
    pub groups: Option<Groups>,
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
        let mut listeners = Vec::new();
        for (n, (kind, protocol, address)) in config.listeners.iter().enumerate() {
            let listener = Listener::bind_all(*kind, *protocol, *address, &[], BACKLOG, &config.limits)
                .map_err(|error| io::Error::new(error.kind(), format!("{address}: {error}")))?;
            poller.set(listener.fd(), LISTENERS + n, Interest::READ)?;
            listeners.push(listener);
        }
        let groups = config.multicast.as_ref().map(Groups::open);
        for (n, fd) in groups.iter().flat_map(Groups::descriptors) {
            poller.set(fd, GROUPS + n, Interest::READ)?;
        }
        Ok(World {
            poller,
            limits: config.limits,
            listeners,
            accept_paused: None,
            crowded: false,
            groups,
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
        })
    }

    /// Where the listeners are.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(Listener::local).collect()
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
            Effect::Connect { link, to } => match Connection::connect(now, &to, &self.limits) {
                Ok(connection) => {
                    self.insert(link, connection, None);
                }
                Err(error) => {
                    log::debug!("cannot connect to {:?} port {}: {error}", to.addresses.as_slice(), to.port);
                    self.failed.push_back((link, LinkFailure::NoResources));
                }
            },
            Effect::Send { link, channel, bytes } => {
                if let Some(&place) = self.by_id.get(&link)
                    && let Some(slot) = &mut self.links[place]
                {
                    slot.connection.push(channel, bytes);
                    self.touch(place);
                }
            }
            Effect::Close { link, abort } => {
                let Some(place) = self.by_id.remove(&link) else { return };
                if abort {
                    self.remove(place, true);
                } else if let Some(slot) = &mut self.links[place] {
                    slot.connection.finish();
                    slot.closing = Some(now + LINGER);
                    self.touch(place);
                }
            }
            Effect::Announce { protocol, bytes } => {
                if let Some(groups) = &mut self.groups {
                    groups.announce(protocol, &bytes);
                }
            }
        }
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

    pub fn resume_accepting(&mut self, now: Time) {
        if self.accept_paused.is_some_and(|until| now >= until) {
            self.accept_paused = None;
            self.listen(Interest::READ);
        }
    }

    pub fn listen(&mut self, interest: Interest) {
        for (n, listener) in self.listeners.iter().enumerate() {
            if let Err(error) = self.poller.set(listener.fd(), LISTENERS + n, interest) {
                log::error!("cannot wait at {}: {error}", listener.local());
            }
        }
    }
}
