//! The pool element's side of sockets: listening, registering (RFC 5352 6.1, 6.2), and the sessions users open.

use super::call::{Carrier, Inner, Role, Socket};
use super::card;
use super::context::Name;
use super::errors::{self, error};
use super::inbox::Item;
use super::line::Line;
use super::semantics::hidden;
use super::signal::{Attention, Mail, Signal};
use super::{Kind, Notification, Result, Wait, context, table, user};
use crate::config::{Limits, SessionConfig};
use crate::endpoint::{Deregistration, Offer, Resolution};
use crate::machine::{LinkId, LinkKind, Protocol};
use crate::policy::Policy;
use crate::runtime::link::Connection;
use crate::runtime::listener::{Given, Listener};
use crate::runtime::poller::Interest;
use crate::runtime::udp::{Datagrams, Sender};
use crate::runtime::{self, readiness};
use crate::session::{Event, Session, State};
use crate::timer::Timers;
use crate::types::{
    Addresses, Capabilities, PeId, PoolHandle, RegistrationLife, Time, TransportAddress, TransportUse,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// The number of an accepted descriptor's only session.
pub(super) const ACCEPTED: u32 = 1;
/// Clients the kernel keeps while the application does not call.
const BACKLOG: i32 = 4096;
/// Clients taken on in one call.
const WELCOMES: usize = 64;
/// How long no client is taken on after the system had no room for one.
const PAUSE: Duration = Duration::from_millis(100);
/// The listener's token; sessions have their numbers.
const LISTENER: u64 = 0;

/// Where users come in.
#[derive(Debug)]
enum Door {
    /// A connection or association for each session.
    Links(Listener),
    /// One socket for all; the sessions by who sends.
    Udp(Datagrams, BTreeMap<Sender, u32>),
}

/// A pool element.
#[derive(Debug)]
pub(super) struct Element {
    door: Door,
    /// What the door is waited for in the socket's descriptor, if it is.
    joined: Option<Interest>,
    /// The system has no room for another client: until when none is looked for.
    pause: Option<Time>,
    /// `listen` was called, or the element has registered.
    listening: bool,
    registered: Option<Name>,
    /// Whether sessions have a control channel.
    control: bool,
    /// The elements of our pool: our users' next ones.
    pool: Option<Arc<Resolution>>,
    sessions: BTreeMap<u32, Service>,
    /// Sessions told to have ended whose last messages are still being written.
    leaving: Vec<Line<Session>>,
    timers: Timers<u32>,
    hot: BTreeSet<u32>,
    /// Over UDP: those for which the common socket had no room.
    stuck: BTreeSet<u32>,
    /// Numbers below the highest that are free again.
    freed: BTreeSet<u32>,
    links: u64,
}

/// A session with a descriptor of its own.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) line: Line<Session>,
    /// The element it belongs to, if that is registered: its pool is watched, for the business card.
    own: Option<Name>,
    pool: Option<Arc<Resolution>>,
}

/// A session at a descriptor with many.
#[derive(Debug)]
struct Service {
    line: Line<Session>,
    /// The application was told that it has begun.
    added: bool,
    /// It was ended by the application, or for being idle.
    ended_here: bool,
    /// Over UDP: whose it is, and when something last came.
    datagrams: Option<(Sender, Time)>,
}

impl Service {
    /// When a session without connection ends if nothing comes.
    fn idle_at(&self, idle: Duration) -> Option<Time> {
        let (_, heard) = self.datagrams?;
        (self.line.machine.state() != State::Ended).then(|| heard + idle)
    }
}

impl Door {
    fn fd(&self) -> RawFd {
        match self {
            Door::Links(listener) => listener.fd(),
            Door::Udp(datagrams, _) => datagrams.fd(),
        }
    }

    fn local(&self) -> SocketAddr {
        match self {
            Door::Links(listener) => listener.local(),
            Door::Udp(datagrams, _) => datagrams.local(),
        }
    }
}

impl Element {
    fn new(door: Door) -> Element {
        Element {
            door,
            joined: None,
            pause: None,
            listening: false,
            registered: None,
            control: true,
            pool: None,
            sessions: BTreeMap::new(),
            leaving: Vec::new(),
            timers: Timers::default(),
            hot: BTreeSet::new(),
            stuck: BTreeSet::new(),
            freed: BTreeSet::new(),
            links: 0,
        }
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.door.local()
    }

    /// What is registered for it, and what is told beside it. An unspecified address stands for those the registrar sees.
    fn transport(&self, control: bool) -> (TransportAddress, Capabilities) {
        let (port, address) = (self.local().port(), self.local().ip());
        let kind = match &self.door {
            Door::Links(listener) => listener.kind(),
            Door::Udp(..) => LinkKind::Udp,
        };
        match kind {
            LinkKind::Sctp => {
                let transport_use =
                    if control { TransportUse::DataPlusControl } else { TransportUse::DataOnly };
                let addresses = Addresses::from(address);
                (TransportAddress::Sctp { port, transport_use, addresses }, Capabilities::BUSINESS_CARD)
            }
            LinkKind::Tcp => {
                let speaks =
                    if control { Capabilities::TCP_CONTROL_CHANNEL } else { Capabilities::default() };
                let transport_use = TransportUse::DataOnly;
                (TransportAddress::Tcp { port, transport_use, address }, speaks | Capabilities::BUSINESS_CARD)
            }
            // There is no control channel over UDP.
            LinkKind::Udp => (TransportAddress::Udp { port, address }, Capabilities::default()),
        }
    }

    /// Whether users are taken on by `accept`.
    pub(super) fn accepts(&self, kind: Kind) -> bool {
        kind == Kind::Stream
    }

    /// Whether a client waits to be accepted.
    pub(super) fn has_client(&self) -> bool {
        let mut fds = [libc::pollfd { fd: self.door.fd(), events: libc::POLLIN, revents: 0 }];
        self.listening && matches!(readiness::wait(&mut fds, Some(Duration::ZERO)), Ok(1))
    }

    pub(super) fn registered(&self) -> Option<&(PoolHandle, PeId)> {
        self.registered.as_ref()
    }

    pub(super) fn line(&mut self, session: u32) -> Option<&mut Line<Session>> {
        // Whoever has a session of theirs gets to it, also to one about to end.
        let service = self.sessions.get_mut(&session)?;
        Some(&mut service.line)
    }

    /// The sessions it has on this descriptor.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Line<Session>> {
        self.sessions.values().map(|service| &service.line)
    }

    /// The application ends the session: it needs not be told that the other side did.
    pub(super) fn ended_here(&mut self, session: u32) {
        if let Some(service) = self.sessions.get_mut(&session) {
            service.ended_here = true;
        }
    }

    /// The application knows that the session has ended: its number is free.
    pub(super) fn forget(&mut self, session: u32) {
        if let Some(service) = self.sessions.remove(&session) {
            self.timers.cancel(&session);
            self.hot.remove(&session);
            self.stuck.remove(&session);
            self.freed.insert(session);
            self.part(session, service.datagrams);
            if service.line.is_closing() {
                self.leaving.push(service.line);
            }
        }
    }

    /// The idle time-out is another: the next call looks after all sessions that have one.
    pub(super) fn reconsider(&mut self) {
        let all = self.sessions.iter().filter(|(_, service)| service.datagrams.is_some());
        self.hot.extend(all.map(|(number, _)| *number));
    }

    pub(super) fn has_more(&self) -> bool {
        !self.hot.is_empty()
    }

    pub(super) fn wake_at(&self) -> Option<Time> {
        [self.timers.next(), self.pause].into_iter().flatten().min()
    }

    /// A session that has something to write.
    pub(super) fn busiest(&self) -> Option<&Line<Session>> {
        self.sessions.values().map(|s| &s.line).find(|line| !line.has_room())
    }

    pub(super) fn join_anew(&mut self, signal: &Signal) {
        self.joined = None;
        self.join(signal);
        for service in self.sessions.values_mut() {
            service.line.join_anew(signal);
        }
    }

    fn join(&mut self, signal: &Signal) {
        let interest = Interest { read: true, write: !self.stuck.is_empty() };
        if self.listening && self.joined != Some(interest) && self.pause.is_none() {
            match signal.join(self.door.fd(), LISTENER, interest) {
                Ok(()) => self.joined = Some(interest),
                Err(e) => log::error!("descriptor {}: cannot wait for clients: {e}", signal.number()),
            }
        }
    }

    /// Ends the registration; the sessions are left to be ended.
    pub(super) fn leave(self, socket: &Socket) -> Vec<Line<Session>> {
        if let Some((handle, id)) = self.registered {
            let (key, deadline) = (socket.key, runtime::now() + socket.context.call_timeout());
            let _ = socket.context().tell(move |background, now| {
                background.unwatch(now, &handle, key);
                background.deregister(now, &(handle, id), deadline, None);
            });
        }
        self.sessions.into_values().map(|s| s.line).chain(self.leaving).collect()
    }

    /// Takes on the next client.
    fn welcome(
        &mut self,
        socket: &Socket,
        inner_config: &SessionConfig,
        now: Time,
    ) -> Result<Option<(LinkId, Session, Connection)>> {
        let doing = "cannot accept a client";
        let Door::Links(listener) = &self.door else { return Ok(None) };
        let Some(client) = listener.accept().map_err(|e| errors::system(doing, &e))? else {
            return Ok(None);
        };
        let limits = socket.context.limits();
        let protocol = if self.control { Protocol::Session } else { Protocol::Plain };
        let connection = Connection::accepted(now, client, listener.kind(), protocol, limits)
            .map_err(|e| errors::system(doing, &e))?;
        let link = LinkId::incoming(self.links);
        self.links += 1;
        let session = Session::element(now, inner_config.clone(), limits.clone(), link, self.card());
        Ok(Some((link, session, connection)))
    }

    /// Takes in the next datagram, if there is one: which session it is for, none if for nobody.
    fn take_in(
        &mut self,
        limits: &Limits,
        config: &SessionConfig,
        now: Time,
    ) -> std::io::Result<Option<Option<u32>>> {
        let full = self.sessions.len() >= limits.links;
        let Door::Udp(datagrams, by_sender) = &mut self.door else { return Ok(None) };
        let Some((sender, bytes)) = datagrams.receive()? else { return Ok(None) };
        let session = match by_sender.get(&sender) {
            Some(session) => *session,
            // The standing sessions come first: anybody can send under any address.
            None if full => {
                log::debug!("no session for {}: there are {} already", sender.address(), limits.links);
                return Ok(Some(None));
            }
            None => {
                let link = LinkId::incoming(self.links);
                self.links += 1;
                let session = free_number(&mut self.freed, self.sessions.len());
                // RFC 5354 3.6: no control information over UDP, so no card.
                let machine = Session::element(now, config.clone(), limits.clone(), link, None);
                let connection = datagrams.connection(sender, limits);
                let line = Line::accepted(machine, session.into(), link, connection);
                by_sender.insert(sender, session);
                let service = Service { line, added: false, ended_here: false, datagrams: None };
                self.sessions.insert(session, service);
                session
            }
        };
        if let Some(service) = self.sessions.get_mut(&session) {
            service.datagrams = Some((sender, now));
            service.line.deliver(bytes);
        }
        Ok(Some(Some(session)))
    }

    /// Frees the sender of a session for a new one.
    fn part(&mut self, session: u32, datagrams: Option<(Sender, Time)>) {
        if let (Door::Udp(_, by_sender), Some((sender, _))) = (&mut self.door, datagrams)
            && by_sender.get(&sender) == Some(&session)
        {
            by_sender.remove(&sender);
        }
    }

    /// Whom our users should turn to when we fail.
    fn card(&self) -> Option<card::Card> {
        card::of_element(self.registered.as_ref(), self.pool.as_deref())
    }

    /// The pool has changed: the sessions to which a new card went.
    fn recommend(&mut self, pool: Option<Arc<Resolution>>, now: Time, signal: &Signal) -> Vec<u32> {
        let before = self.card();
        self.pool = pool;
        let card = self.card();
        attend(self.registered.as_ref(), card.as_ref(), signal);
        if card::same(before.as_ref(), card.as_ref()) {
            return Vec::new();
        }
        for service in self.sessions.values_mut() {
            give(&mut service.line.machine, now, card.as_ref());
        }
        self.sessions.keys().copied().collect()
    }
}

/// The lowest number that no session has; all below the highest are in use or among `freed`.
fn free_number(freed: &mut BTreeSet<u32>, in_use: usize) -> u32 {
    freed.pop_first().unwrap_or_else(|| u32::try_from(in_use).map_or(u32::MAX, |n| n.saturating_add(1)))
}

/// Has the descriptor become readable when the card is to be another.
fn attend(own: Option<&Name>, card: Option<&card::Card>, signal: &Signal) {
    signal.attend(own.map_or(Attention::Never, |(_, id)| {
        let others = card.into_iter().flat_map(|(_, elements)| elements.iter().map(|e| e.id));
        Attention::Card(*id, others.collect())
    }));
}

/// Has a session send a card, or no more.
fn give(session: &mut Session, now: Time, card: Option<&card::Card>) {
    match card {
        // Whether it can be sent, now or ever, is the session's to know.
        Some((handle, elements)) => {
            let _ = session.send_business_card(now, handle, elements);
        }
        None => session.withdraw_business_card(),
    }
}

impl Accepted {
    /// The element it belongs to, if that is registered.
    pub(super) fn own(&self) -> Option<&Name> {
        self.own.as_ref()
    }

    /// The pool has changed.
    pub(super) fn recommend(&mut self, pool: Option<Arc<Resolution>>, now: Time, signal: &Signal) {
        let before = card::of_element(self.own.as_ref(), self.pool.as_deref());
        self.pool = pool;
        let card = card::of_element(self.own.as_ref(), self.pool.as_deref());
        attend(self.own.as_ref(), card.as_ref(), signal);
        if !card::same(before.as_ref(), card.as_ref()) {
            give(&mut self.line.machine, now, card.as_ref());
        }
    }

    /// Takes back what the background thread does for it.
    pub(super) fn leave(&self, socket: &Socket) {
        if let Some((handle, _)) = self.own.clone() {
            let key = socket.key;
            let _ = socket.context().tell(move |b, now| b.unwatch(now, &handle, key));
        }
    }
}

/// Binds the transport.
pub(super) fn bind(socket: &Socket, addresses: &[SocketAddr]) -> Result<()> {
    socket.with(|inner, _| {
        match &inner.role {
            Role::Fresh => {}
            Role::Element(_) => return Err(error(libc::EINVAL, "the socket is bound already")),
            Role::User(_) | Role::Accepted(_) => {
                return Err(error(libc::EISCONN, "the socket has a session"));
            }
            Role::Dispatch(_) | Role::Watch(_) | Role::Closed => return Err(taken()),
        }
        let door = door(socket, inner, addresses)?;
        inner.role = Role::Element(Box::new(Element::new(door)));
        Ok(())
    })
}

/// Takes a socket of the program's for the element's, as it is: bound and listening already, or not yet. A user has no
/// use for it, but keeps it until it is closed.
pub(super) fn adopt(socket: &Socket, given: Given) -> Result<()> {
    socket.with(|inner, _| {
        let (bound, listening) = (given.local(), given.is_listening());
        inner.given = Some(given);
        if let Some(at) = bound {
            let door = door(socket, inner, &[at])?;
            let element = Element::new(door);
            inner.role = Role::Element(Box::new(element));
            if listening {
                self::element(socket, inner)?;
            }
        }
        Ok(())
    })
}

fn door(socket: &Socket, inner: &mut Inner, addresses: &[SocketAddr]) -> Result<Door> {
    match (socket.carrier, socket.kind) {
        (Carrier::Tcp | Carrier::Sctp, Kind::SeqPacket | Kind::Stream) | (Carrier::Udp, Kind::SeqPacket) => {}
        (Carrier::Udp, Kind::Stream) => {
            return Err(error(
                libc::EOPNOTSUPP,
                "UDP carries messages, and there is nothing to accept: a pool element over UDP is a SOCK_SEQPACKET socket",
            ));
        }
    }
    let candidates = match addresses {
        [] if socket.v4_only => vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)],
        [] => [IpAddr::from(Ipv6Addr::UNSPECIFIED), Ipv4Addr::UNSPECIFIED.into()]
            .map(|a| SocketAddr::new(a, 0))
            .to_vec(),
        [one, ..] if socket.carrier == Carrier::Sctp => vec![*one],
        [one] => vec![*one],
        [..] => {
            return Err(error(
                libc::EOPNOTSUPP,
                "TCP and UDP bind to one address, or to all of them; more than one are for SCTP",
            ));
        }
    };
    let further: Vec<IpAddr> = addresses.iter().skip(1).map(SocketAddr::ip).collect();
    let limits = &Limits { path: inner.options.path.clone(), ..socket.context.limits().clone() };
    let mut failed = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in candidates {
        let given = inner.given.as_ref();
        let links = |kind| match given {
            Some(given) => Listener::bind_given(given, Protocol::Session, address, &further, BACKLOG, limits),
            None => Listener::bind_all(kind, Protocol::Session, address, &further, BACKLOG, limits),
        };
        let bound = match socket.carrier {
            Carrier::Tcp => links(LinkKind::Tcp).map(Door::Links),
            Carrier::Sctp => links(LinkKind::Sctp).map(Door::Links),
            Carrier::Udp => Datagrams::bind(address, given).map(|d| Door::Udp(d, BTreeMap::new())),
        };
        match bound {
            Ok(door) => {
                inner.given = None;
                return Ok(door);
            }
            Err(e) => failed = e,
        }
    }
    let wanted: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Err(errors::system(
        &format!(
            "cannot listen at {}",
            if wanted.is_empty() { "any address".into() } else { wanted.join(", ") }
        ),
        &failed,
    ))
}

/// Listens for sessions; binds first if need be.
pub(super) fn listen(socket: &Socket) -> Result<()> {
    socket.with(|inner, _| {
        element(socket, inner)?;
        Ok(())
    })
}

/// The listening element this socket is, or becomes.
fn element<'a>(socket: &Socket, inner: &'a mut Inner) -> Result<&'a mut Element> {
    if matches!(inner.role, Role::Fresh) {
        let door = door(socket, inner, &[])?;
        inner.role = Role::Element(Box::new(Element::new(door)));
    }
    match &mut inner.role {
        Role::Element(element) => {
            element.listening = true;
            element.join(&socket.signal);
            Ok(element)
        }
        Role::User(_) | Role::Accepted(_) => {
            Err(error(libc::EISCONN, "the socket has a session; an element needs one of its own"))
        }
        Role::Fresh | Role::Dispatch(_) | Role::Watch(_) | Role::Closed => Err(taken()),
    }
}

/// Accepts a session as a socket of its own.
pub(super) fn accept(socket: &Socket, wait: Wait) -> Result<i32> {
    let deadline = Socket::deadline(wait, Duration::from_secs(u64::MAX / 4));
    // What there is to be received does not matter.
    let client = socket.until(super::call::Goal::Room, deadline, &mut |inner, now| {
        socket.service(inner, now);
        let options = inner.options.clone();
        let refusal = match &mut inner.role {
            Role::Element(element) if element.listening && element.accepts(socket.kind) => {
                let client = element.welcome(socket, &options.session, now)?;
                let own = (element.registered.clone(), element.pool.clone());
                return Ok(client.map(|client| (client, options, own)));
            }
            Role::Element(element) if !element.accepts(socket.kind) => error(
                libc::EOPNOTSUPP,
                "a SOCK_SEQPACKET element has all sessions on one descriptor; receive from it, or use SOCK_STREAM",
            ),
            Role::Element(_) | Role::Fresh => {
                error(libc::EINVAL, "the socket does not listen; call rsp_listen() or rsp_register() first")
            }
            Role::User(_) | Role::Accepted(_) | Role::Dispatch(_) | Role::Watch(_) | Role::Closed => {
                error(libc::EINVAL, "the socket is no pool element's")
            }
        };
        socket.context.semantics().idle(refusal)
    })?;
    let ((link, session, connection), options, (own, pool)) =
        client.ok_or_else(|| errors::would_block("no client came"))?;
    let line = Line::accepted(session, ACCEPTED.into(), link, connection);
    let watched = own.clone();
    let role = Role::Accepted(Box::new(Accepted { line, own, pool }));
    let accepted =
        Socket::new(&socket.context(), Kind::Stream, socket.carrier, socket.v4_only, role, options)?;
    accepted.with(|inner, now| {
        if let Role::Accepted(accepted_one) = &mut inner.role {
            let pool = accepted_one.pool.clone();
            accepted_one.recommend(pool, now, &accepted.signal);
        }
        accepted.service(inner, now);
        Ok(())
    })?;
    if let Some((handle, _)) = watched {
        let (key, signal) = (accepted.key, Arc::downgrade(&accepted.signal));
        let _ = socket.context().tell(move |b, now| b.watch_from_now(now, &handle, key, signal));
    }
    Ok(table::enter(accepted))
}

/// Registers, or changes the registration.
#[allow(clippy::too_many_arguments)]
pub(super) fn register(
    socket: &Socket,
    handle: &PoolHandle,
    policy: &Policy,
    renewal: Duration,
    id: Option<PeId>,
    control_channel: bool,
    wait: Wait,
) -> Result<PeId> {
    let limit = socket.context.limits().handle_bytes;
    if handle.as_bytes().len() > limit {
        return Err(errors::handle_too_long(handle, limit));
    }
    let deadline = Socket::deadline(wait, socket.call_timeout()?);
    let random = runtime::entropy().map_err(|e| errors::system("cannot get random numbers", &e))?;
    let random = PeId(((random >> 32) as u32).max(1));
    let (offer, again) = socket.with(|inner, _| {
        let element = element(socket, inner)?;
        let again = match &element.registered {
            Some((pool, _)) if pool != handle => {
                return Err(error(
                    libc::EINVAL,
                    format!("the socket is registered in pool {pool}; rsp_deregister() it first"),
                ));
            }
            Some((_, present)) if id.is_some_and(|id| id != *present) => {
                return Err(error(
                    libc::EINVAL,
                    format!("the socket is registered as {present}; an identifier cannot be changed"),
                ));
            }
            Some((_, present)) => Some(*present),
            None => None,
        };
        element.control = control_channel;
        let (user_transport, capabilities) = element.transport(control_channel);
        let life = renewal.saturating_mul(3).as_millis().div_ceil(1000).max(1);
        let offer = Offer {
            handle: handle.clone(),
            id: again.or(id).unwrap_or(random),
            life: RegistrationLife::Seconds(u32::try_from(life).unwrap_or(u32::MAX).min(i32::MAX as u32)),
            renewal: Some(renewal),
            user_transport,
            policy: *policy,
            capabilities,
        };
        Ok((offer, again.is_some()))
    })?;
    let name = (handle.clone(), offer.id);
    let id = offer.id;
    let latest = deadline.unwrap_or(Time::NEVER);
    if wait == Wait::No {
        // Its outcome is in the log; it is tried until deregistered.
        let patience = runtime::now() + socket.call_timeout()?;
        socket.context().tell(move |b, now| b.register(now, again, offer, patience, None))?;
    } else {
        let outcome = socket.context().ask(Some(&socket.closing), deadline, move |b, now, reply| {
            b.register(now, again, offer, latest, Some(reply));
        });
        let failed = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(why)) => Some(context::registration_failed(handle, &why)),
            Err(e) => Some(e),
        };
        if let Some(e) = failed
            && let Err(e) = hidden(socket.context.semantics(), Err(e), ())
        {
            let _ = socket.context().tell(move |b, now| b.withdraw(now, &name));
            return Err(e);
        }
    }
    let entered = socket.with(|inner, _| {
        if let Role::Element(element) = &mut inner.role {
            element.registered = Some(name.clone());
            attend(Some(&name), element.card().as_ref(), &socket.signal);
        }
        Ok(())
    });
    if let Err(e) = entered {
        // Closed meanwhile by another thread, which did not know of it.
        let _ = socket.context().tell(move |b, now| b.deregister(now, &name, now, None));
        return Err(e);
    }
    if !again {
        let (key, signal, pool) = (socket.key, Arc::downgrade(&socket.signal), handle.clone());
        let _ = socket.context().tell(move |b, now| {
            b.watch(now, &pool, key, signal.clone());
            b.look(now, &pool, now + Duration::from_secs(10), signal);
        });
    }
    Ok(id)
}

/// Ends the registration.
pub(super) fn deregister(socket: &Socket, wait: Wait) -> Result<()> {
    let deadline = Socket::deadline(wait, socket.call_timeout()?);
    let name = socket.with(|inner, _| match &mut inner.role {
        Role::Element(element) => element.registered.take().ok_or(()).map_err(|()| not_registered()),
        Role::Fresh
        | Role::User(_)
        | Role::Accepted(_)
        | Role::Dispatch(_)
        | Role::Watch(_)
        | Role::Closed => Err(not_registered()),
    })?;
    let (key, pool) = (socket.key, name.0.clone());
    socket.context().tell(move |b, now| b.unwatch(now, &pool, key))?;
    if wait == Wait::No {
        let patience = runtime::now() + socket.call_timeout()?;
        return socket.context().tell(move |b, now| b.deregister(now, &name, patience, None));
    }
    let (latest, asked) = (deadline.unwrap_or(Time::NEVER), name.clone());
    let how = socket.context().ask(Some(&socket.closing), deadline, move |b, now, reply| {
        b.deregister(now, &asked, latest, Some(reply));
    });
    let refused = match how {
        Ok(how) => deregistered(&name.0, how),
        Err(e) => return hidden(socket.context.semantics(), Err(e), ()),
    };
    if matches!(&refused, Err(e) if e.errno != libc::ETIMEDOUT) {
        let _ = socket.with(|inner, _| {
            if let Role::Element(element) = &mut inner.role {
                element.registered = Some(name);
            }
            Ok(())
        });
    }
    hidden(socket.context.semantics(), refused, ())
}

fn taken() -> super::Error {
    error(libc::EOPNOTSUPP, "the socket sends to pools, or watches one; an element needs one of its own")
}

fn not_registered() -> super::Error {
    error(libc::EINVAL, "the socket is not registered")
}

/// The result of a deregistration.
pub(super) fn deregistered(handle: &PoolHandle, how: Deregistration) -> Result<()> {
    match how {
        Deregistration::Confirmed | Deregistration::Expired => Ok(()),
        Deregistration::Unconfirmed => Err(error(
            libc::ETIMEDOUT,
            format!(
                "no registrar confirmed in time that the element has left pool {handle}; its registration runs out by itself"
            ),
        )),
        Deregistration::Refused(causes) => {
            let why = crate::endpoint::RequestFailure::Rejected(causes);
            Err(errors::request(&format!("leaving pool {handle}"), &why))
        }
    }
}

/// Does what has become possible.
pub(super) fn service(socket: &Socket, inner: &mut Inner, now: Time, mail: Mail, read: bool) {
    let config = inner.options.session.clone();
    let Role::Element(element) = &mut inner.role else { return };
    let mut due: BTreeSet<u32> = BTreeSet::new();
    if let Some(pool) = mail.pool {
        due.extend(element.recommend(pool, now, &socket.signal));
    }
    for (session, handle, id) in mail.senders {
        if let Some(service) = element.sessions.get_mut(&session) {
            service.line.machine.identify_sender(handle, id);
        }
    }
    if element.accepts(socket.kind) || !element.listening {
        return;
    }
    if element.pause.is_some_and(|until| until <= now) {
        element.pause = None;
        element.join(&socket.signal);
    }
    let mut ready = Vec::new();
    socket.signal.ready(&mut ready);
    // Sessions of which there is more to read are left alone while something waits to be received: going through all of them
    // for each message taken would cost the square of their number.
    if read {
        due.append(&mut element.hot);
    }
    while let Some(session) = element.timers.pop_due(now) {
        due.insert(session);
    }
    let awake = ready.iter().filter_map(|token| u32::try_from(*token).ok());
    due.extend(awake.filter(|session| *session != 0 && !element.hot.contains(session)));
    if ready.contains(&LISTENER) {
        due.extend(element.stuck.iter());
    }
    for _ in 0..if ready.contains(&LISTENER) { WELCOMES } else { 0 } {
        match element.welcome(socket, &config, now) {
            Ok(Some((link, session, connection))) => {
                let number = free_number(&mut element.freed, element.sessions.len());
                let line = Line::accepted(session, number.into(), link, connection);
                let service = Service { line, added: false, ended_here: false, datagrams: None };
                element.sessions.insert(number, service);
                due.insert(number);
            }
            Ok(None) => break,
            Err(e) => {
                // The client waits in the kernel and would keep the descriptor readable.
                log::warn!("{}", e.what);
                socket.signal.part(element.door.fd());
                element.joined = None;
                element.pause = Some(now + PAUSE);
                break;
            }
        }
    }
    element.leaving.retain_mut(|line| {
        line.run(now, false, socket.context.limits(), &socket.signal, &mut Vec::new());
        line.is_closing()
    });
    for session in due {
        run(socket, inner, now, session, read);
    }
    if read && ready.contains(&LISTENER) {
        take_in(socket, inner, now, &config);
    }
    if let Role::Element(element) = &mut inner.role {
        element.join(&socket.signal);
    }
}

/// Takes in datagrams until there is something for the application.
fn take_in(socket: &Socket, inner: &mut Inner, now: Time, config: &SessionConfig) {
    for _ in 0..WELCOMES {
        let Role::Element(element) = &mut inner.role else { return };
        if !inner.inbox.is_empty() {
            return;
        }
        match element.take_in(socket.context.limits(), config, now) {
            Ok(None) => return,
            Ok(Some(None)) => {}
            Ok(Some(Some(session))) => run(socket, inner, now, session, true),
            // Whatever it is of which the socket tells: reading goes on with the next call.
            Err(e) => {
                log::debug!("descriptor {}: receiving: {e}", socket.number());
                return;
            }
        }
    }
}

/// Runs one of the sessions of a descriptor with many.
pub(super) fn run(socket: &Socket, inner: &mut Inner, now: Time, session: u32, read: bool) {
    let mut events = Vec::new();
    let idle = inner.options.idle_timeout;
    if let Role::Element(element) = &mut inner.role
        && let Some(service) = element.sessions.get_mut(&session)
    {
        if service.idle_at(idle).is_some_and(|at| at <= now) {
            service.ended_here = true;
            service.line.machine.close(now, false);
        }
        service.line.run(now, read, socket.context.limits(), &socket.signal, &mut events);
        if service.datagrams.is_some() && !service.line.has_room() {
            element.stuck.insert(session);
        } else {
            element.stuck.remove(&session);
        }
        match [service.line.wake_at(), service.idle_at(idle)].into_iter().flatten().min() {
            Some(at) => element.timers.set(session, at),
            None => {
                element.timers.cancel(&session);
            }
        }
        if service.line.has_more() {
            element.hot.insert(session);
        }
    }
    for event in events {
        on_event(socket, inner, session, event);
    }
}

fn on_event(socket: &Socket, inner: &mut Inner, session: u32, event: Event) {
    let Role::Element(element) = &mut inner.role else { return };
    let Some(service) = element.sessions.get_mut(&session) else { return };
    match event {
        Event::Connected { kind, .. } => {
            service.added = true;
            // A user's TCP connection comes from a port of its own, which no element has registered.
            if kind != LinkKind::Tcp {
                let peer = service.line.machine.peer_addresses().to_vec();
                let signal = Arc::downgrade(&socket.signal);
                let _ = socket.context().tell(move |b, _| b.recognize(&peer, session, signal));
            }
            inner.inbox.notify(Notification::SessionAdd { session });
        }
        Event::Ended(why) => {
            let datagrams = service.datagrams;
            if service.added {
                if why.is_none() && !service.ended_here {
                    inner.inbox.notify(Notification::Shutdown { session });
                }
                inner.inbox.notify(Notification::SessionRemove { session });
                // Should more come from there, that is a new session.
                element.part(session, datagrams);
            } else {
                element.forget(session);
            }
        }
        other => common_event(socket, inner, session, other),
    }
}

/// An event of the session of an accepted descriptor.
pub(super) fn on_accepted_event(socket: &Socket, inner: &mut Inner, event: Event) {
    match event {
        Event::Ended(None) => inner.inbox.end(Ok(())),
        Event::Ended(Some(_)) if !socket.context.semantics().stream_loss_is_error => inner.inbox.end(Ok(())),
        Event::Ended(Some(why)) => {
            inner.inbox.end(Err(errors::link("the session's user is lost", why)));
        }
        other => common_event(socket, inner, ACCEPTED, other),
    }
}

fn common_event(socket: &Socket, inner: &mut Inner, session: u32, event: Event) {
    match event {
        Event::Received { bytes, channel, complete, from } => {
            inner.inbox.push(Item::Data { bytes, taken: 0, channel, complete, session, from });
        }
        Event::CookieEcho(bytes) => inner.inbox.push(Item::CookieEcho { bytes, session }),
        Event::Card { handle, .. } => {
            let _ = socket.context().tell(move |b, now| b.endpoint.on_card(now, &handle));
        }
        Event::SendFailed { message, .. } if socket.kind == Kind::Stream => {
            inner.inbox.lose(message.len());
        }
        Event::SendFailed { element: to, message: bytes, channel } => {
            inner.inbox.push(Item::Undelivered { bytes, channel, session, to });
        }
        Event::Writable | Event::Connected { .. } | Event::Ended(_) => {}
        // What only a user's side does.
        Event::Resolve { .. }
        | Event::Unreachable { .. }
        | Event::FailoverNecessary
        | Event::FailoverComplete { .. }
        | Event::FailoverFailed(_) => {}
    }
}

impl Socket {
    /// Carries out what a session was just told to do.
    pub(super) fn flush(&self, inner: &mut Inner, now: Time, session: u32) {
        match &mut inner.role {
            Role::User(_) => user::service(self, inner, now, Mail::default(), false),
            Role::Accepted(accepted) => {
                let mut events = Vec::new();
                accepted.line.run(now, false, self.context.limits(), &self.signal, &mut events);
                for event in events {
                    on_accepted_event(self, inner, event);
                }
            }
            Role::Element(_) => run(self, inner, now, session, false),
            Role::Fresh | Role::Dispatch(_) | Role::Watch(_) | Role::Closed => {}
        }
    }
}
