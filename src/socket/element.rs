//! The pool element's side of sockets: listening, registering (RFC 5352 6.1, 6.2), and the sessions users open.

use super::call::{Carrier, Inner, Role, Socket};
use super::errors::{self, error};
use super::inbox::Item;
use super::line::Line;
use super::signal::Mail;
use super::{Kind, Notification, Result, Wait, context, table, user};
use crate::endpoint::{Deregistration, Offer, Resolution};
use crate::machine::{LinkId, LinkKind, Protocol};
use crate::policy::Policy;
use crate::runtime::link::Connection;
use crate::runtime::listener::Listener;
use crate::runtime::poller::Interest;
use crate::runtime::{self, readiness};
use crate::session::{Event, Session};
use crate::timer::Timers;
use crate::types::{
    Capabilities, PeId, PoolElement, PoolHandle, RegistrationLife, Time, TransportAddress, TransportUse,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
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

/// A pool element.
#[derive(Debug)]
pub(super) struct Element {
    listener: Listener,
    joined: bool,
    /// The system has no room for another client: until when none is looked for.
    pause: Option<Time>,
    /// `listen` was called, or the element has registered.
    listening: bool,
    registered: Option<(PoolHandle, PeId)>,
    /// Whether sessions have a control channel.
    control: bool,
    /// The elements of our pool: our users' next ones.
    pool: Option<Arc<Resolution>>,
    sessions: BTreeMap<u32, Service>,
    /// Sessions told to have ended whose last messages are still being written.
    leaving: Vec<Line<Session>>,
    timers: Timers<u32>,
    hot: BTreeSet<u32>,
    links: u64,
}

/// A session at a descriptor with many.
#[derive(Debug)]
struct Service {
    line: Line<Session>,
    /// The application was told that it has begun.
    added: bool,
    /// It was ended by the application.
    ended_here: bool,
}

impl Element {
    fn new(listener: Listener) -> Element {
        Element {
            listener,
            joined: false,
            pause: None,
            listening: false,
            registered: None,
            control: true,
            pool: None,
            sessions: BTreeMap::new(),
            leaving: Vec::new(),
            timers: Timers::default(),
            hot: BTreeSet::new(),
            links: 0,
        }
    }

    pub(super) fn local(&self) -> SocketAddr {
        self.listener.local()
    }

    /// Whether users are taken on by `accept`.
    pub(super) fn accepts(&self, kind: Kind) -> bool {
        kind == Kind::Stream
    }

    /// Whether a client waits to be accepted.
    pub(super) fn has_client(&self) -> bool {
        let mut fds = [libc::pollfd { fd: self.listener.fd(), events: libc::POLLIN, revents: 0 }];
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
            if service.line.is_closing() {
                self.leaving.push(service.line);
            }
        }
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

    pub(super) fn join_anew(&mut self, signal: &super::signal::Signal) {
        self.joined = false;
        self.join(signal);
        for service in self.sessions.values_mut() {
            service.line.join_anew(signal);
        }
    }

    fn join(&mut self, signal: &super::signal::Signal) {
        if self.listening && !self.joined && self.pause.is_none() {
            let interest = Interest { read: true, write: false };
            match signal.join(self.listener.fd(), LISTENER, interest) {
                Ok(()) => self.joined = true,
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
        inner_config: &crate::config::SessionConfig,
        now: Time,
    ) -> Result<Option<(LinkId, Session, Connection)>> {
        let doing = "cannot accept a client";
        let Some(client) = self.listener.accept().map_err(|e| errors::system(doing, &e))? else {
            return Ok(None);
        };
        let limits = socket.context.limits();
        let protocol = if self.control { Protocol::Session } else { Protocol::Plain };
        let connection = Connection::accepted(now, client, LinkKind::Tcp, protocol, limits)
            .map_err(|e| errors::system(doing, &e))?;
        let link = LinkId::incoming(self.links);
        self.links += 1;
        let session = Session::element(now, inner_config.clone(), limits.clone(), link, self.card());
        Ok(Some((link, session, connection)))
    }

    /// Whom our users should turn to when we fail.
    fn card(&self) -> Option<(PoolHandle, Vec<PoolElement>)> {
        let (handle, id) = self.registered.as_ref()?;
        let others = self.pool.as_ref()?.elements.iter().filter(|e| e.id != *id);
        let others: Vec<PoolElement> = others.cloned().collect();
        (!others.is_empty()).then(|| (handle.clone(), others))
    }

    fn free_number(&self) -> u32 {
        let mut free = 1;
        for number in self.sessions.keys() {
            if *number != free {
                break;
            }
            free += 1;
        }
        free
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
        inner.role = Role::Element(Box::new(Element::new(listener(socket, addresses)?)));
        Ok(())
    })
}

fn listener(socket: &Socket, addresses: &[SocketAddr]) -> Result<Listener> {
    match socket.carrier {
        Carrier::Tcp => {}
        Carrier::Udp => {
            return Err(error(
                libc::EOPNOTSUPP,
                "pool elements over UDP are not served by these functions yet; serve plain UDP and register it (asapctl register, rsp_pe_registration)",
            ));
        }
    }
    let candidates = match addresses {
        [] if socket.v4_only => vec![SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0)],
        [] => [IpAddr::from(Ipv6Addr::UNSPECIFIED), Ipv4Addr::UNSPECIFIED.into()]
            .map(|a| SocketAddr::new(a, 0))
            .to_vec(),
        [one] => vec![*one],
        [..] => {
            return Err(error(
                libc::EOPNOTSUPP,
                "TCP binds to one address, or to all of them; more than one are for SCTP",
            ));
        }
    };
    let mut failed = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
    for address in candidates {
        match Listener::bind(LinkKind::Tcp, Protocol::Session, address, BACKLOG) {
            Ok(listener) => return Ok(listener),
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
        inner.role = Role::Element(Box::new(Element::new(listener(socket, &[])?)));
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
    let client = socket.until(super::call::Goal::Readable, deadline, &mut |inner, now| {
        let options = inner.options.clone();
        match &mut inner.role {
            Role::Element(element) if element.listening && element.accepts(socket.kind) => {
                Ok(element.welcome(socket, &options.session, now)?.map(|client| (client, options)))
            }
            Role::Element(element) if element.accepts(socket.kind) => {
                Err(error(libc::EINVAL, "the socket does not listen; call rsp_listen() or rsp_register() first"))
            }
            Role::Element(_) => Err(error(
                libc::EOPNOTSUPP,
                "a SOCK_SEQPACKET element has all sessions on one descriptor; receive from it, or use SOCK_STREAM",
            )),
            Role::Fresh => Err(error(libc::EINVAL, "the socket does not listen; call rsp_listen() or rsp_register() first")),
            Role::User(_) | Role::Accepted(_) | Role::Dispatch(_) | Role::Watch(_) | Role::Closed => {
                Err(error(libc::EINVAL, "the socket is no pool element's"))
            }
        }
    })?;
    let ((link, session, connection), options) =
        client.ok_or_else(|| errors::would_block("no client came"))?;
    let line = Line::accepted(session, ACCEPTED.into(), link, connection);
    let role = Role::Accepted(Box::new(line));
    let accepted =
        Socket::new(&socket.context(), Kind::Stream, socket.carrier, socket.v4_only, role, options)?;
    accepted.with(|inner, now| {
        accepted.service(inner, now);
        Ok(())
    })?;
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
        let at = element.local();
        let control =
            if control_channel { Capabilities::TCP_CONTROL_CHANNEL } else { Capabilities::default() };
        let life = renewal.saturating_mul(3).as_millis().div_ceil(1000).max(1);
        let offer = Offer {
            handle: handle.clone(),
            id: again.or(id).unwrap_or(random),
            life: RegistrationLife::Seconds(u32::try_from(life).unwrap_or(u32::MAX).min(i32::MAX as u32)),
            renewal: Some(renewal),
            user_transport: TransportAddress::Tcp {
                port: at.port(),
                transport_use: TransportUse::DataOnly,
                address: at.ip(),
            },
            policy: *policy,
            capabilities: control | Capabilities::BUSINESS_CARD,
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
        if let Some(e) = failed.filter(|_| socket.context.semantics().failures_are_told) {
            let _ = socket.context().tell(move |b, now| b.withdraw(now, &name));
            return Err(e);
        }
    }
    let entered = socket.with(|inner, _| {
        if let Role::Element(element) = &mut inner.role {
            element.registered = Some(name.clone());
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
    })?;
    let refused = deregistered(&name.0, how);
    if matches!(&refused, Err(e) if e.errno != libc::ETIMEDOUT) {
        let _ = socket.with(|inner, _| {
            if let Role::Element(element) = &mut inner.role {
                element.registered = Some(name);
            }
            Ok(())
        });
    }
    refused
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
    if let Some(pool) = mail.pool {
        element.pool = pool;
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
    let mut due = if read { std::mem::take(&mut element.hot) } else { BTreeSet::new() };
    while let Some(session) = element.timers.pop_due(now) {
        due.insert(session);
    }
    let awake = ready.iter().filter_map(|token| u32::try_from(*token).ok());
    due.extend(awake.filter(|session| *session != 0 && !element.hot.contains(session)));
    for _ in 0..if ready.contains(&LISTENER) { WELCOMES } else { 0 } {
        match element.welcome(socket, &config, now) {
            Ok(Some((link, session, connection))) => {
                let number = element.free_number();
                let line = Line::accepted(session, number.into(), link, connection);
                element.sessions.insert(number, Service { line, added: false, ended_here: false });
                due.insert(number);
            }
            Ok(None) => break,
            Err(e) => {
                // The client waits in the kernel and would keep the descriptor readable.
                log::warn!("{}", e.what);
                socket.signal.part(element.listener.fd());
                element.joined = false;
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
}

/// Runs one of the sessions of a descriptor with many.
pub(super) fn run(socket: &Socket, inner: &mut Inner, now: Time, session: u32, read: bool) {
    let mut events = Vec::new();
    if let Role::Element(element) = &mut inner.role
        && let Some(service) = element.sessions.get_mut(&session)
    {
        service.line.run(now, read, socket.context.limits(), &socket.signal, &mut events);
        match service.line.wake_at() {
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
        Event::Connected { .. } => {
            service.added = true;
            inner.inbox.notify(Notification::SessionAdd { session });
        }
        Event::Ended(why) => {
            if service.added {
                if why.is_none() && !service.ended_here {
                    inner.inbox.notify(Notification::Shutdown { session });
                }
                inner.inbox.notify(Notification::SessionRemove { session });
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
            let _ = socket.context().tell(move |b, now| b.endpoint.cache_populate(now, &handle));
        }
        Event::SendFailed { message, .. } => {
            log::debug!("session {session}: a message of {} bytes was not delivered", message.len());
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
            Role::Accepted(line) => {
                let mut events = Vec::new();
                line.run(now, false, self.context.limits(), &self.signal, &mut events);
                for event in events {
                    on_accepted_event(self, inner, event);
                }
            }
            Role::Element(_) => run(self, inner, now, session, false),
            Role::Fresh | Role::Dispatch(_) | Role::Watch(_) | Role::Closed => {}
        }
    }
}
