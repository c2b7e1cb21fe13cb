//! A context: one ASAP endpoint with the background thread that runs it (design section 3). The thread also keeps the
//! deadlines of sessions whose application is elsewhere, and tells sockets of what has become of their pools; what
//! there is to be done about it is done by the application's next call.

use super::attendant::Attendant;
use super::card::{self, Identity};
use super::errors::{self, error};
use super::fork::{self, Era, Guarded};
use super::report::{Own, Telling};
use super::signal::{Mail, Signal};
use super::{Error, Options, Result, Semantics, settings};
use crate::config::{EndpointConfig, Limits, PathLimits, Profile, SessionConfig};
use crate::endpoint::{
    Deregistration, Endpoint, Event, Offer, Query, RegistrationId, RequestFailure, RequestId, Resolution,
};
use crate::machine::{Destination, Effect, Input, LinkKind, Machine, Protocol};
use crate::name::{Carried, Settings};
use crate::runtime;
use crate::runtime::driver::{self, Driver, DriverConfig, Remote, Thread};
use crate::runtime::listener::has_sctp;
use crate::runtime::multicast::{Group, Multicast};
use crate::runtime::names::look_up;
use crate::runtime::poller::PollPoller;
use crate::timer::Timers;
use crate::types::{Addresses, Load, PeId, PoolHandle, Time, TransportAddress, TransportUse};
use crossbeam_channel::{Receiver, Sender, bounded};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// The port of ASAP (RFC 5352 9.2).
const ASAP_PORT: u16 = 3863;
/// How long a call that has no time-out of its own may wait for a registrar or an element.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the end of a context waits for registrars to confirm that its elements are gone.
const FAREWELL: Duration = Duration::from_secs(1);
/// The background thread answers by the deadline; so much later it is not going to any more.
const GRACE: Duration = Duration::from_millis(500);

/// A library instance: an endpoint, its background thread, and the sockets made with it. Cheap to clone; the last
/// clone stops it. The C functions use one for the whole process.
#[derive(Clone, Debug)]
pub struct Context {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    remote: Remote<Background>,
    thread: Guarded<Option<Thread>>,
    era: Era,
    session: SessionConfig,
    call_timeout: Duration,
    limits: Limits,
    semantics: Semantics,
    /// What environment and file said when it was started.
    settings: Settings,
    registrars: Guarded<Registrars>,
    /// Its second thread, once there is something for it.
    attendant: Guarded<Option<Attendant>>,
}

/// The registrars that were named, in code, environment or file, or by names of pools.
#[derive(Debug)]
struct Registrars {
    names: Vec<String>,
    /// None: nobody was named, and this host's is looked for.
    named: Option<Vec<Destination>>,
}

/// What became of a registration.
pub(super) type RegistrationOutcome = std::result::Result<(), RequestFailure>;

impl Context {
    /// Starts one. Environment and configuration file are read now, and registrars' names in them looked up, by the system's
    /// resolver; EINVAL if a value is wrong, or no registrar's name can be used; ENOENT and others if ASAP_CONFIG names no
    /// file that can be read.
    pub fn start(options: &Options) -> Result<Context> {
        fork::prepare();
        let settings = settings::given()?;
        let profile = options.profile.or(settings.profile).unwrap_or_default();
        let mut config = EndpointConfig::new(profile);
        config.dialect = options.dialect.or(settings.dialect).unwrap_or_default();
        if let Some(t7) = options.announce_timeout {
            config.t7_enrp_outdate = t7;
        }
        if let Some(t5) = options.connect_timeout {
            config.t5_serverhunt = t5;
        }
        if let Some(t) = options.response_timeout {
            config.t1_enrp_request = t;
            config.t2_registration = t;
            config.t3_deregistration = t;
        }
        if let Some(n) = options.request_max_trials {
            config.max_request_retransmit = n.saturating_sub(1);
            config.max_reg_attempt = n.max(1);
        }
        let limits = Limits { path: PathLimits::new(profile), ..Limits::default() };
        let limits =
            Limits { handle_bytes: limits.handle_bytes.min(options.semantics.handle_bytes), ..limits };
        let seed = runtime::entropy().map_err(|e| errors::system("cannot get random numbers", &e))?;
        let registrars = registrars(options, &settings)?;
        let looked_for = registrars.named.clone().unwrap_or_else(|| this_host(settings.transport));
        let multicast = (!options.no_announcements).then(|| match options.announce_group {
            Some(address) => {
                let (protocol, audience) = (Protocol::Asap, options.semantics.announcers);
                let groups = vec![Group { protocol, audience, address }];
                Multicast { groups, hear: true, loopback: false }
            }
            None => Multicast::usual(&[Protocol::Asap], has_sctp()),
        });
        log::info!(
            "registrars are looked for over {}",
            match settings.transport {
                Some(Carried::Sctp) => "SCTP alone",
                Some(Carried::Tcp) => "TCP alone",
                None if has_sctp() => "SCTP and TCP",
                None => "TCP: this system's kernel has no SCTP",
            }
        );
        // All addresses: the registrar link tells which of them the registrar can reach.
        let any = [IpAddr::from(Ipv6Addr::UNSPECIFIED), IpAddr::from(Ipv4Addr::UNSPECIFIED)];
        let mut failed = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for address in any {
            let mut endpoint = Endpoint::new(config.clone(), limits.clone(), seed);
            endpoint.set_transport(settings.transport.map(kind));
            endpoint.set_registrars(runtime::now(), looked_for.clone());
            // Over SCTP registrars are connected to from the port where they find the elements, too.
            let kinds: &[LinkKind] =
                if has_sctp() { &[LinkKind::Tcp, LinkKind::Sctp] } else { &[LinkKind::Tcp] };
            let at = SocketAddr::new(address, 0);
            let config = DriverConfig {
                listeners: kinds.iter().map(|kind| (*kind, Protocol::Asap, at)).collect(),
                multicast: multicast.clone(),
                limits: limits.clone(),
            };
            let mut background = Background::new(endpoint);
            background.telling = Telling::new(options.reporting, !seed);
            match Driver::new(background, Box::new(PollPoller::default()), config) {
                Ok(driver) => return Context::run(driver, options, profile, limits, settings, registrars),
                Err(e) => failed = e,
            }
        }
        Err(errors::system("cannot listen for registrars", &failed))
    }

    fn run(
        mut driver: Driver<Background>,
        options: &Options,
        profile: Profile,
        limits: Limits,
        settings: Settings,
        registrars: Registrars,
    ) -> Result<Context> {
        if let Some(at) = driver.local_addresses().first() {
            driver.machine().endpoint.set_listener(Some(TransportAddress::Tcp {
                port: at.port(),
                transport_use: TransportUse::DataOnly,
                address: at.ip(),
            }));
        }
        let remote = driver.remote();
        let told = |background: &mut Background, now, event| background.on_event(now, event);
        let thread = driver::spawn(driver, "asap", told)
            .map_err(|e| errors::system("cannot start the background thread", &e))?;
        let mut session = SessionConfig::new(profile);
        session.orderly_end_is_final = options.semantics.orderly_end_is_final;
        let context = Context {
            shared: Arc::new(Shared {
                remote,
                thread: Guarded::new(Some(thread)),
                era: Era::now(),
                session,
                call_timeout: options.call_timeout.or(settings.timeout).unwrap_or(CALL_TIMEOUT),
                limits,
                semantics: options.semantics,
                settings,
                registrars: Guarded::new(registrars),
                attendant: Guarded::new(None),
            }),
        };
        let shared = Arc::downgrade(&context.shared);
        context.tell(move |background, _| background.shared = shared)?;
        if options.semantics.maps_standard_streams {
            context.map_standard_streams();
        }
        Ok(context)
    }

    /// Does something with its second thread, which is started if need be.
    pub(super) fn attended<T>(&self, act: impl FnOnce(&Attendant) -> Result<T>) -> Result<T> {
        let mut attendant = self.shared.attendant.lock();
        let attendant = match &mut *attendant {
            Some(attendant) => attendant,
            none => none.insert(Attendant::start()?),
        };
        act(attendant)
    }

    /// The second thread, if there is one, from whoever ends it.
    pub(super) fn take_attendant(&self) -> Option<Attendant> {
        self.shared.attendant.lock().take()
    }

    /// Ends streams and all registrations, then the threads. Calls on what is left fail with ESHUTDOWN.
    pub(super) fn stop(&self) {
        if let Some(attendant) = self.take_attendant() {
            attendant.finish();
        }
        super::serve::leave_all(self);
        super::serve::join_askers();
        let gone: Result<()> = self.ask(None, Some(runtime::now() + FAREWELL), |background, now, reply| {
            background.leave(now, reply);
        });
        if let Err(e) = gone {
            log::warn!("elements may stay registered until they run out: {}", e.what);
        }
        self.shared.end();
    }

    /// Whether both are the same.
    pub(super) fn is(&self, other: &Context) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    fn is_at(&self, shared: *const Shared) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.shared), shared)
    }

    /// Whether it belongs to the process this one was forked from: its thread is not here.
    pub(super) fn is_inherited(&self) -> bool {
        self.shared.era.is_inherited()
    }

    /// What sessions made with it start with.
    pub(super) fn session_config(&self) -> &SessionConfig {
        &self.shared.session
    }

    /// How long calls without a time-out of their own may wait.
    pub(super) fn call_timeout(&self) -> Duration {
        self.shared.call_timeout
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Whose ways it has.
    pub(super) fn semantics(&self) -> &Semantics {
        &self.shared.semantics
    }

    /// What environment and file said.
    pub(super) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    /// Has registrars used that the name of a pool gives, beside those already named. DNS is asked, once for each.
    pub(super) fn use_registrars(&self, names: &[String]) -> Result<()> {
        let known = |name: &String| self.shared.registrars.lock().names.contains(name);
        let new: Vec<String> = names.iter().filter(|name| !known(name)).cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        let addresses = looked_up(&new, "registrar")?;
        let destinations = all_destinations(&addresses, self.shared.settings.transport);
        let mut registrars = self.shared.registrars.lock();
        registrars.names.extend(new);
        let named = registrars.named.get_or_insert_default();
        named.extend(destinations);
        let named = named.clone();
        drop(registrars);
        self.tell(move |background, now| background.endpoint.set_registrars(now, named))
    }

    /// Has the background thread do something, soon.
    pub(super) fn tell(&self, command: impl FnOnce(&mut Background, Time) + Send + 'static) -> Result<()> {
        if self.is_inherited() {
            return Err(errors::forked());
        }
        if self.shared.remote.call(Box::new(command)) { Ok(()) } else { Err(errors::stopped()) }
    }

    /// Has the background thread do something and waits for its reply, at the latest until shortly after `deadline`, or until
    /// `closing` says that nobody wants to know any more.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        closing: Option<&Receiver<Infallible>>,
        deadline: Option<Time>,
        command: impl FnOnce(&mut Background, Time, Sender<T>) + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = bounded(1);
        self.tell(move |background, now| command(background, now, reply))?;
        let never = crossbeam_channel::never();
        let late = deadline.map_or_else(crossbeam_channel::never, |at| {
            crossbeam_channel::after(at.since(runtime::now()) + GRACE)
        });
        crossbeam_channel::select! {
            recv(answer) -> answer => answer.map_err(|_| errors::stopped()),
            recv(closing.unwrap_or(&never)) -> _ => Err(error(libc::EBADF, "the socket was closed by another thread")),
            recv(late) -> _ => Err(errors::timed_out("what was asked of a registrar")),
        }
    }
}

impl Shared {
    fn end(&self) {
        let thread = self.thread.lock().take();
        let attendant = self.attendant.lock().take();
        if self.era.is_inherited() {
            if let Some(attendant) = attendant {
                attendant.forget();
            }
            // The thread, and whoever held the locks in these, is in the parent.
            std::mem::forget(thread);
            std::mem::forget(self.remote.clone());
            return;
        }
        if let Some(attendant) = attendant {
            attendant.finish();
        }
        if let Some(thread) = thread {
            self.remote.call(Box::new(|background, now| background.end_reports(now)));
            self.remote.stop();
            if let Err(e) = thread.join() {
                log::error!("the background thread has failed: {e}");
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.end();
    }
}

/// Those given in code, then those of environment and file. That nothing of what these say can be used is an error: this
/// host's registrar is not what was asked for.
fn registrars(options: &Options, settings: &Settings) -> Result<Registrars> {
    let mut names = options.registrar_names.clone();
    let mut all: Vec<Vec<SocketAddr>> = options.registrars.clone();
    all.extend(looked_up(&names, "registrar")?);
    let given = settings.registrars.clone().unwrap_or_default();
    if !given.is_empty() {
        match looked_up(&given, "ASAP_REGISTRARS, or registrars in the configuration file") {
            Ok(found) => all.extend(found),
            Err(e) if all.is_empty() => return Err(e),
            Err(_) => {}
        }
    }
    names.extend(given);
    let named = all.iter().any(|addresses| !addresses.is_empty());
    Ok(Registrars { names, named: named.then(|| all_destinations(&all, settings.transport)) })
}

/// The addresses of registrars by name; those without are left out, unless all are.
fn looked_up(names: &[String], place: &str) -> Result<Vec<Vec<SocketAddr>>> {
    let mut all = Vec::new();
    let mut useless = None;
    for name in names {
        match look_up(name, ASAP_PORT) {
            Ok(addresses) => all.push(addresses),
            Err(e) => {
                let what = format!(
                    "{place}: {name:?} is no registrar's address ({e}); say HOST:PORT,..., with an address or a DNS name as HOST"
                );
                log::warn!("{what}");
                useless = Some(errors::error(libc::EINVAL, what));
            }
        }
    }
    match useless {
        Some(error) if all.iter().all(Vec::is_empty) => Err(error),
        Some(_) | None => Ok(all),
    }
}

/// What links to registrars are of, if these carry all.
fn kind(carried: Carried) -> LinkKind {
    match carried {
        Carried::Tcp => LinkKind::Tcp,
        Carried::Sctp => LinkKind::Sctp,
    }
}

/// Where registrars are looked for if none is named.
fn this_host(transport: Option<Carried>) -> Vec<Destination> {
    let addresses = [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv6Addr::LOCALHOST.into()];
    all_destinations(&addresses.map(|ip| vec![SocketAddr::new(ip, ASAP_PORT)]), transport)
}

fn all_destinations(registrars: &[Vec<SocketAddr>], transport: Option<Carried>) -> Vec<Destination> {
    registrars.iter().flat_map(|addresses| destinations(addresses, transport)).collect()
}

/// One destination for each port among the addresses of one registrar.
fn destinations(addresses: &[SocketAddr], transport: Option<Carried>) -> Vec<Destination> {
    let mut by_port: Vec<(u16, Vec<IpAddr>)> = Vec::new();
    for address in addresses {
        match by_port.iter_mut().find(|(port, _)| *port == address.port()) {
            Some((_, ips)) => ips.push(address.ip()),
            None => by_port.push((address.port(), vec![address.ip()])),
        }
    }
    // SCTP where this kernel has it, and TCP: the hunt prefers the former.
    let kinds: &[LinkKind] = match transport.map(kind) {
        Some(only) => &[only],
        None if has_sctp() => &[LinkKind::Sctp, LinkKind::Tcp],
        None => &[LinkKind::Tcp],
    };
    let mut destinations = Vec::new();
    for (port, ips) in by_port {
        let Some(addresses) = Addresses::new(ips) else { continue };
        for kind in kinds {
            let addresses = addresses.clone();
            destinations.push(Destination { kind: *kind, protocol: Protocol::Asap, port, addresses });
        }
    }
    destinations
}

/// The name of a registration: pool and element.
pub(super) type Name = (PoolHandle, PeId);

/// Names a socket to the background thread.
pub(super) type SocketKey = u64;

#[derive(Debug)]
enum Asker {
    Call(Sender<std::result::Result<Resolution, RequestFailure>>),
    Session(PoolHandle, Weak<Signal>),
    /// Wants the elements as if they had changed.
    Watch(Weak<Signal>),
}

#[derive(Debug, Default)]
struct Registered {
    name: Option<Name>,
    registering: Option<Sender<RegistrationOutcome>>,
    leaving: Option<Sender<Deregistration>>,
    confirmed: bool,
    /// It is not to be renewed when it has run out.
    once: bool,
    load: Option<Load>,
    transport: Option<TransportAddress>,
}

/// What the background thread runs: the endpoint, and what sockets wait for.
#[derive(Debug)]
pub(super) struct Background {
    pub(super) endpoint: Endpoint,
    deadlines: Timers<SocketKey>,
    sleeping: BTreeMap<SocketKey, Weak<Signal>>,
    asking: BTreeMap<RequestId, Asker>,
    registrations: BTreeMap<RegistrationId, Registered>,
    names: BTreeMap<Name, RegistrationId>,
    watching: BTreeMap<PoolHandle, BTreeMap<SocketKey, Weak<Signal>>>,
    /// Who this context is to others, and the users to be told of it.
    identity: Arc<Identity>,
    users: BTreeMap<SocketKey, Weak<Signal>>,
    farewell: Option<Sender<()>>,
    /// Since when the registrar is in use.
    home_since: Option<Time>,
    telling: Option<Telling>,
    /// Whose sockets are reported on.
    shared: Weak<Shared>,
}

impl Background {
    fn new(endpoint: Endpoint) -> Background {
        Background {
            endpoint,
            deadlines: Timers::default(),
            sleeping: BTreeMap::new(),
            asking: BTreeMap::new(),
            registrations: BTreeMap::new(),
            names: BTreeMap::new(),
            watching: BTreeMap::new(),
            identity: Arc::new(Identity::default()),
            users: BTreeMap::new(),
            farewell: None,
            home_since: None,
            telling: None,
            shared: Weak::new(),
        }
    }

    /// Tells a monitor how things are, if it is time.
    fn report(&mut self, now: Time) {
        let Some(telling) = &mut self.telling else { return };
        let elements = self.registrations.values().filter_map(|registered| {
            let (name, transport) = registered.name.as_ref().zip(registered.transport.as_ref())?;
            Some(Own { name, load: registered.load, transport })
        });
        let shared = self.shared.as_ptr();
        telling.tell(now, &self.endpoint, self.home_since, elements, |socket| socket.context.is_at(shared));
    }

    /// Tells the monitor that all has ended.
    fn end_reports(&mut self, now: Time) {
        if let Some(telling) = &mut self.telling {
            telling.end(now);
        }
    }

    /// Makes a socket readable at a time, or no longer.
    pub(super) fn wake_at(&mut self, key: SocketKey, signal: Weak<Signal>, at: Option<Time>) {
        match at {
            Some(at) => {
                self.deadlines.set(key, at);
                self.sleeping.insert(key, signal);
            }
            None => {
                self.deadlines.cancel(&key);
                self.sleeping.remove(&key);
            }
        }
    }

    /// Resolves for a call.
    pub(super) fn resolve(
        &mut self,
        now: Time,
        query: Query,
        deadline: Time,
        reply: Sender<std::result::Result<Resolution, RequestFailure>>,
    ) {
        let request = self.endpoint.resolve(now, query, deadline);
        self.asking.insert(request, Asker::Call(reply));
    }

    /// Resolves for a session; the answer goes into its socket's mail.
    pub(super) fn resolve_for(&mut self, now: Time, query: Query, deadline: Time, signal: Weak<Signal>) {
        let handle = query.handle.clone();
        let request = self.endpoint.resolve(now, query, deadline);
        self.asking.insert(request, Asker::Session(handle, signal));
    }

    /// Has a socket told of every change of a pool from now on.
    pub(super) fn watch(&mut self, now: Time, handle: &PoolHandle, key: SocketKey, signal: Weak<Signal>) {
        let watchers = self.watching.entry(handle.clone()).or_default();
        if watchers.is_empty() {
            self.endpoint.subscribe(now, handle);
        }
        watchers.insert(key, signal);
    }

    /// The same, and it is told what is known now: it may have heard of the pool long ago.
    pub(super) fn watch_from_now(
        &mut self,
        now: Time,
        handle: &PoolHandle,
        key: SocketKey,
        signal: Weak<Signal>,
    ) {
        if let (Some(known), Some(signal)) = (self.endpoint.cached(handle), signal.upgrade()) {
            signal.post_pool(Some(Arc::new(known.clone())));
        }
        self.watch(now, handle, key, signal);
    }

    /// Has it told at once what there is in the pool, too.
    pub(super) fn look(&mut self, now: Time, handle: &PoolHandle, deadline: Time, signal: Weak<Signal>) {
        let query = Query { handle: handle.clone(), items: Some(u32::MAX), max_age: Duration::ZERO };
        let request = self.endpoint.resolve(now, query, deadline);
        self.asking.insert(request, Asker::Watch(signal));
    }

    /// The opposite of `watch`.
    pub(super) fn unwatch(&mut self, now: Time, handle: &PoolHandle, key: SocketKey) {
        let Some(watchers) = self.watching.get_mut(handle) else { return };
        watchers.remove(&key);
        if watchers.is_empty() {
            self.watching.remove(handle);
            self.endpoint.unsubscribe(now, handle);
        }
    }

    /// Has a user's socket told now and from now on who this context is to those it talks to.
    pub(super) fn introduce(&mut self, key: SocketKey, signal: Weak<Signal>) {
        if *self.identity != Identity::default()
            && let Some(signal) = signal.upgrade()
        {
            let identity = self.identity.clone();
            signal.post(|mail: &mut Mail| mail.identity = Some(identity));
        }
        self.users.insert(key, signal);
    }

    /// The opposite of `introduce`.
    pub(super) fn dismiss(&mut self, key: SocketKey) {
        self.users.remove(&key);
    }

    /// An element has come or gone, or the pool of the first has changed.
    fn identify(&mut self) {
        let mut standing =
            self.registrations.values().filter(|r| r.confirmed && !r.once && r.leaving.is_none());
        let own: Option<Name> = standing.find_map(|r| r.name.clone());
        let card = own.as_ref().and_then(|name| card::of_user(name, self.endpoint.cached(&name.0)));
        if own == self.identity.own && card::same(card.as_ref(), self.identity.card.as_ref()) {
            return;
        }
        self.identity = Arc::new(Identity { own, card });
        for signal in self.users.values().filter_map(Weak::upgrade) {
            let identity = self.identity.clone();
            signal.post(|mail: &mut Mail| mail.identity = Some(identity));
        }
    }

    /// Looks up which element is at one of these addresses (RFC 5352 6.6 A); a socket's session is told, if there is one.
    pub(super) fn recognize(&mut self, peer: &[SocketAddr], session: u32, signal: Weak<Signal>) {
        let Some((handle, id)) = peer.iter().find_map(|at| self.endpoint.element_at(*at)) else { return };
        if let Some(signal) = signal.upgrade() {
            signal.post(|mail: &mut Mail| mail.senders.push((session, handle, id)));
        }
    }

    /// Registers an element, or, `again`, changes its registration.
    pub(super) fn register(
        &mut self,
        now: Time,
        again: bool,
        offer: Offer,
        deadline: Time,
        reply: Option<Sender<RegistrationOutcome>>,
    ) {
        let name = (offer.handle.clone(), offer.id);
        let present = self.names.get(&name).copied();
        let (load, transport) = (offer.policy.load(), Some(offer.user_transport.clone()));
        if let Some(id) = present.filter(|_| again) {
            self.endpoint.update(now, id, offer, deadline);
            if let Some(registered) = self.registrations.get_mut(&id) {
                registered.registering = reply;
                (registered.load, registered.transport) = (load, transport);
            }
            return;
        }
        let id = self.endpoint.register(now, offer, deadline);
        // Under a name that is taken it is refused; the name stays the other's.
        let owned = present.is_none().then(|| {
            self.names.insert(name.clone(), id);
            name
        });
        self.registrations.insert(
            id,
            Registered { name: owned, registering: reply, load, transport, ..Registered::default() },
        );
    }

    /// Registers an element that the program serves and renews by itself.
    pub(super) fn register_once(
        &mut self,
        now: Time,
        offer: Offer,
        deadline: Time,
        reply: Option<Sender<RegistrationOutcome>>,
    ) {
        let name = (offer.handle.clone(), offer.id);
        self.register(now, true, offer, deadline, reply);
        let id = self.names.get(&name);
        if let Some(registered) = id.and_then(|id| self.registrations.get_mut(id)) {
            registered.once = true;
        }
    }

    /// Forgets a registration that was never confirmed.
    pub(super) fn withdraw(&mut self, now: Time, name: &Name) {
        let id = self.names.get(name);
        if id.and_then(|id| self.registrations.get(id)).is_some_and(|r| !r.confirmed) {
            self.deregister(now, name, now, None);
        }
    }

    /// Ends a registration. One that is not there has ended already.
    pub(super) fn deregister(
        &mut self,
        now: Time,
        name: &Name,
        deadline: Time,
        reply: Option<Sender<Deregistration>>,
    ) {
        let Some(id) = self.names.get(name).copied() else {
            if let Some(reply) = reply {
                let _ = reply.send(Deregistration::Confirmed);
            }
            return;
        };
        if let Some(registered) = self.registrations.get_mut(&id) {
            registered.registering = None;
            registered.leaving = reply;
            self.endpoint.deregister(now, id, deadline);
        }
    }

    fn leave(&mut self, now: Time, reply: Sender<()>) {
        let all: Vec<Name> = self.names.keys().cloned().collect();
        if all.is_empty() {
            let _ = reply.send(());
            return;
        }
        self.farewell = Some(reply);
        for name in all {
            self.deregister(now, &name, now + FAREWELL, None);
        }
    }

    fn on_event(&mut self, now: Time, event: Event) {
        if let Event::HomeChanged(home) = &event {
            self.home_since = home.as_ref().map(|_| now);
        }
        let speaks_for_us =
            |handle: &PoolHandle| self.identity.own.as_ref().is_some_and(|own| own.0 == *handle);
        let affected = match &event {
            Event::Registered { .. } | Event::Deregistered { .. } => true,
            Event::PoolChanged { handle, .. } => speaks_for_us(handle),
            Event::Resolved { outcome, .. } => outcome.as_ref().is_ok_and(|r| speaks_for_us(&r.handle)),
            Event::RegistrationFailed { .. } | Event::HomeChanged(_) | Event::HuntFailed(_) => false,
        };
        self.act_on(now, event);
        if affected {
            self.identify();
        }
    }

    fn act_on(&mut self, now: Time, event: Event) {
        match event {
            Event::Registered { registration, warnings } => {
                for warning in &warnings {
                    log::warn!("registered, but the registrar warns: {:?}", warning.code);
                }
                if let Some(registered) = self.registrations.get_mut(&registration) {
                    if let (false, Some((handle, id))) = (registered.confirmed, &registered.name) {
                        log::info!("in pool {handle} as element {id}");
                    }
                    registered.confirmed = true;
                    if let Some(reply) = registered.registering.take() {
                        let _ = reply.send(Ok(()));
                    }
                }
            }
            Event::RegistrationFailed { registration, why, retrying } => {
                let trying = if retrying { ", trying on" } else { "" };
                log::warn!("{}{trying}", errors::request("registration failed", &why).what);
                if let Some(registered) = self.registrations.get_mut(&registration)
                    && let Some(reply) = registered.registering.take()
                {
                    let _ = reply.send(Err(why));
                }
                if self.registrations.get(&registration).is_some_and(|r| r.name.is_none()) {
                    self.registrations.remove(&registration);
                }
            }
            Event::Deregistered { registration, how: Deregistration::Expired } => {
                match self.registrations.get(&registration) {
                    Some(Registered { once: true, .. }) => self.endpoint.deregister(now, registration, now),
                    Some(_) | None => log::warn!("a registration has run out and is being renewed"),
                }
            }
            Event::Deregistered { registration, how } => {
                if let Some(registered) = self.registrations.remove(&registration) {
                    if let Some(name) = registered.name {
                        self.names.remove(&name);
                    }
                    if let Some(reply) = registered.leaving {
                        let _ = reply.send(how);
                    }
                }
                if self.names.is_empty()
                    && let Some(reply) = self.farewell.take()
                {
                    let _ = reply.send(());
                }
            }
            Event::Resolved { request, outcome } => match self.asking.remove(&request) {
                Some(Asker::Call(reply)) => {
                    let _ = reply.send(outcome);
                }
                Some(Asker::Session(handle, signal)) => {
                    if let Some(signal) = signal.upgrade() {
                        signal.post(|mail: &mut Mail| mail.resolved.push((handle, outcome.map(Arc::new))));
                    }
                }
                Some(Asker::Watch(signal)) => {
                    let pool = match outcome {
                        Ok(resolution) => Some(Some(Arc::new(resolution))),
                        Err(RequestFailure::UnknownPool) => Some(None),
                        // The subscription goes on trying.
                        Err(_) => None,
                    };
                    if let (Some(pool), Some(signal)) = (pool, signal.upgrade()) {
                        signal.post_pool(pool);
                    }
                }
                None => {}
            },
            Event::PoolChanged { handle, resolution } => {
                let resolution = resolution.map(Arc::new);
                let watchers = self.watching.get(&handle).into_iter().flat_map(BTreeMap::values);
                for signal in watchers.filter_map(Weak::upgrade) {
                    signal.post_pool(resolution.clone());
                }
            }
            Event::HomeChanged(Some(home)) => match home.no_sctp {
                Some(why) => log::info!(
                    "using the registrar at {} over {}; over sctp: {}",
                    home.peer,
                    errors::kind(home.kind),
                    errors::why(why)
                ),
                None => log::info!("using the registrar at {} over {}", home.peer, errors::kind(home.kind)),
            },
            Event::HomeChanged(None) => log::info!("the registrar is lost, looking for another one"),
            Event::HuntFailed(tried) => {
                let why = RequestFailure::NoRegistrar(tried);
                log::info!("{}", errors::request("looking for a registrar", &why).what);
            }
        }
    }
}

impl Machine for Background {
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<'_>) {
        while let Some(key) = self.deadlines.pop_due(now) {
            if let Some(signal) = self.sleeping.remove(&key).and_then(|s| s.upgrade()) {
                signal.post(|mail: &mut Mail| mail.due = true);
            }
        }
        self.endpoint.handle(now, input);
        self.report(now);
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        let reports = self.telling.as_mut();
        self.endpoint.poll_effect().or_else(|| reports.and_then(Telling::poll_effect))
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.endpoint.poll_event()
    }

    fn poll_timeout(&self) -> Option<Time> {
        let reports = self.telling.as_ref().and_then(Telling::poll_timeout);
        [self.deadlines.next(), self.endpoint.poll_timeout(), reports].into_iter().flatten().min()
    }
}

/// The error of a registration that did not succeed.
pub(super) fn registration_failed(handle: &PoolHandle, why: &RequestFailure) -> Error {
    errors::request(&format!("registering in pool {handle}"), why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_one_registrar_with_one_port_are_one_destination() {
        let all: Vec<SocketAddr> =
            ["10.0.0.1:1", "10.0.0.2:1", "10.0.0.1:2"].iter().map(|a| a.parse().unwrap()).collect();
        let found = destinations(&all, Some(Carried::Tcp));
        assert_eq!(
            found.iter().map(|d| (d.port, d.addresses.as_slice().len())).collect::<Vec<_>>(),
            [(1, 2), (2, 1)]
        );
    }
}
