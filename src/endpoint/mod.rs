//! The ASAP endpoint of pool elements and pool users (RFC 5352 3): finding a registrar, registering, resolving,
//! the cache, keep-alives, reports. Session data does not pass here (see [`crate::session`]).
//!
//! The parts: `hunt` finds the home registrar and keeps to it; `registration`, `resolution` (with its `cache`) and
//! `report` say what they want of a registrar, and do not care which one it is. They share a `context`. This file is the facade: it
//! passes inputs on, answers keep-alives, and joins the parts: whoever needs a registrar makes the hunt run, and whoever waits
//! for one is told when there is a new one.
//!
//! Nothing is sent and no link opened until something needs a registrar. The home is kept when nothing does any more.

mod acquaintance;
mod cache;
mod context;
mod hunt;
mod registration;
mod report;
mod resolution;

use crate::config::{EndpointConfig, Limits};
use crate::machine::{
    Audience, Channel, Destination, Effect, Input, LinkFailure, LinkId, LinkKind, Machine, Protocol,
};
use crate::policy::Policy;
use crate::types::{
    Capabilities, ErrorCause, PeId, PoolElement, PoolHandle, RegistrationLife, ServerId, Time,
    TransportAddress,
};
pub use crate::wire::Unspeakable;
use crate::wire::{AsapMessage, Dialect, KeepAlive};
use acquaintance::Acquaintance;
use context::{Context, HomeLink, Timer};
use hunt::Hunt;
use registration::Registrations;
use report::Reports;
use resolution::Resolutions;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Names a handle resolution under way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RequestId(pub u64);

/// Names a registration, from [`Endpoint::register`] to its end.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RegistrationId(pub u64);

/// What an element registers (RFC 5352 3.1 R2).
#[derive(Clone, Debug)]
pub struct Offer {
    /// The pool.
    pub handle: PoolHandle,
    /// Its identifier, good random numbers from the runtime.
    pub id: PeId,
    /// How long the registration is to stand.
    pub life: RegistrationLife,
    /// How often it is renewed; none: T4 as the life gives it.
    pub renewal: Option<Duration>,
    /// Where users reach it. An unspecified address becomes ours on the link to the registrar.
    pub user_transport: TransportAddress,
    /// Its policy and policy values.
    pub policy: Policy,
    /// What it can do beyond the RFCs.
    pub capabilities: Capabilities,
}

/// The elements of a pool, in the order in which they are to be tried: as a registrar told them, or, when the answer
/// has been used before, as the pool's policy selects among them next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resolution {
    /// The pool.
    pub handle: PoolHandle,
    /// Its policy.
    pub policy: Policy,
    /// Its elements, at least one.
    pub elements: Vec<PoolElement>,
    /// When it was told.
    pub at: Time,
}

/// What a request came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RequestFailure {
    /// The registrar does not know the pool.
    UnknownPool,
    /// The registrar refused, for these causes.
    Rejected(Vec<ErrorCause>),
    /// No registrar answered; these were tried in the last round.
    NoRegistrar(Vec<(Destination, LinkFailure)>),
    /// A registrar is there but did not answer in time.
    TimedOut,
    /// More requests wait than the limit allows.
    TooMany,
    /// The registrar is RSPLIB's, or does not show that it is not, and cannot be told this.
    NotForRsplib(Unspeakable),
}

/// Why a registration ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deregistration {
    /// As asked, confirmed by a registrar.
    Confirmed,
    /// As asked, but no registrar confirmed it in time; it runs out by itself.
    Unconfirmed,
    /// Refused: the registration stands until it runs out; it is not renewed any more.
    Refused(Vec<ErrorCause>),
    /// The registrar said that it has run out; it is being renewed.
    Expired,
}

/// What the endpoint tells its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// A registrar has confirmed the registration (first time, or after a change or a new home).
    Registered {
        /// Which.
        registration: RegistrationId,
        /// Warnings of the registrar, usually none.
        warnings: Vec<ErrorCause>,
    },
    /// The registration did not succeed.
    RegistrationFailed {
        /// Which.
        registration: RegistrationId,
        /// Why.
        why: RequestFailure,
        /// Whether it goes on trying (no registrar), or has given up (refused).
        retrying: bool,
    },
    /// The registration has ended.
    Deregistered {
        /// Which.
        registration: RegistrationId,
        /// How.
        how: Deregistration,
    },
    /// A resolution is done.
    Resolved {
        /// Which.
        request: RequestId,
        /// With what.
        outcome: Result<Resolution, RequestFailure>,
    },
    /// A subscribed pool has changed; none: it is gone.
    PoolChanged {
        /// The pool.
        handle: PoolHandle,
        /// Its elements now.
        resolution: Option<Resolution>,
    },
    /// The home registrar was found, changed or lost.
    HomeChanged(Option<Home>),
    /// One round of the server hunt ended without a registrar: these were tried. It goes on while anything needs one.
    HuntFailed(Vec<(Destination, LinkFailure)>),
}

/// The registrar this endpoint uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Home {
    /// Its identifier, once it has shown it.
    pub server: Option<ServerId>,
    /// Where it was reached.
    pub peer: SocketAddr,
    /// Over what.
    pub kind: LinkKind,
    /// Over TCP: what became of trying it over SCTP first, if that was tried.
    pub no_sctp: Option<LinkFailure>,
}

/// What a user asks to resolve.
#[derive(Clone, Debug)]
pub struct Query {
    /// The pool.
    pub handle: PoolHandle,
    /// How many elements are wanted at most; none: the endpoint's default; zero: all there are.
    pub items: Option<u32>,
    /// A cached answer no older than this will do; zero: ask (C1-C4).
    pub max_age: Duration,
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Counters {
    pub hunts: u64,
    pub homes: u64,
    pub registrations_sent: u64,
    pub resolutions_sent: u64,
    pub cache_hits: u64,
    pub keep_alives: u64,
    pub adoptions: u64,
    pub reports_sent: u64,
    pub reports_suppressed: u64,
    pub updates_received: u64,
    pub rejected_messages: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Endpoint {
    ctx: Context,
    hunt: Hunt,
    registrations: Registrations,
    resolutions: Resolutions,
    reports: Reports,
    /// Links that registrars opened, the home's not among them.
    incoming: BTreeMap<LinkId, Incoming>,
}

/// As many links others may hold to this endpoint. A registrar probes over one, and few have a reason to; but the
/// listener is open to everybody, and the descriptors are the application's.
const MAX_INCOMING: usize = 64;

/// A link that somebody opened to this endpoint: a registrar, as long as nothing else is known.
#[derive(Debug)]
struct Incoming {
    /// None until it is up.
    caller: Option<Caller>,
    /// When it came, or last spoke to an element of ours.
    of_use: Time,
}

/// Who is at the other end of a link that is up.
#[derive(Clone, Debug)]
struct Caller {
    kind: LinkKind,
    /// Its addresses; at least one.
    peers: Vec<SocketAddr>,
    local: Vec<IpAddr>,
    acquaintance: Acquaintance,
}

/// What an unanswered request says about the home registrar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Doubt {
    /// Nothing.
    None,
    /// It may be gone: another one is looked for beside it (RFC 5352 3.7.2).
    Suspect,
    /// Nothing at all has come from it through all repetitions: its link is given up.
    Silent,
}

impl Endpoint {
    /// An endpoint that knows no registrar yet.
    pub fn new(config: EndpointConfig, limits: Limits, seed: u64) -> Endpoint {
        Endpoint {
            hunt: Hunt::new(config.t5_serverhunt),
            registrations: Registrations::default(),
            resolutions: Resolutions::new(limits.cache_entries),
            reports: Reports::default(),
            incoming: BTreeMap::new(),
            ctx: Context::new(config, limits, seed),
        }
    }

    /// The registrars given by configuration, in order of preference. Announced ones come in addition.
    pub fn set_registrars(&mut self, now: Time, registrars: Vec<Destination>) {
        self.ctx.tick(now);
        self.hunt.set_registrars(&mut self.ctx, registrars);
        self.settle();
    }

    /// Announced registrars are to be reached over this alone; none: over whatever they announce.
    pub fn set_transport(&mut self, only: Option<LinkKind>) {
        self.hunt.set_transport(only);
    }

    /// Where registrars can open links to this endpoint: goes into registrations as ASAP transport when the
    /// link to the registrar is TCP (DEPARTS RFC 5354 3.10; see docs/tcp.md). An unspecified address stands for
    /// the endpoint's own on that link. None, or anything but TCP: no such listener.
    pub fn set_listener(&mut self, listener: Option<TransportAddress>) {
        self.registrations.set_listener(listener);
    }

    /// Registers an element; it is kept registered until [`Endpoint::deregister`]. The first outcome is told
    /// by `deadline` at the latest. An identifier that this endpoint already has in that pool is refused.
    pub fn register(&mut self, now: Time, offer: Offer, deadline: Time) -> RegistrationId {
        self.ctx.tick(now);
        let id = self.registrations.register(&mut self.ctx, offer, deadline);
        self.settle();
        id
    }

    /// Changes policy values, transport, life and renewal; the registration is renewed at once, and its outcome told by
    /// `deadline`. Pool and identifier stay as they are, whatever the offer says. Does nothing once deregistered.
    pub fn update(&mut self, now: Time, registration: RegistrationId, offer: Offer, deadline: Time) {
        self.ctx.tick(now);
        self.registrations.update(&mut self.ctx, registration, offer, deadline);
        self.settle();
    }

    /// Ends a registration; told by `deadline` at the latest. Does nothing if it has ended, or is ending.
    pub fn deregister(&mut self, now: Time, registration: RegistrationId, deadline: Time) {
        self.ctx.tick(now);
        self.registrations.deregister(&mut self.ctx, registration, deadline);
        self.settle();
    }

    /// Resolves a pool handle; told by `deadline` at the latest.
    pub fn resolve(&mut self, now: Time, query: Query, deadline: Time) -> RequestId {
        self.ctx.tick(now);
        let id = self.resolutions.resolve(&mut self.ctx, query, deadline);
        self.settle();
        id
    }

    /// Forgets a resolution nobody waits for any more.
    pub fn cancel(&mut self, request: RequestId) {
        self.resolutions.cancel(&mut self.ctx, request);
        self.settle();
    }

    /// Asks registrars to tell changes of a pool (S bit) while anybody is subscribed; calls are counted. What the pool is
    /// like when it is first told counts as a change.
    pub fn subscribe(&mut self, now: Time, handle: &PoolHandle) {
        self.ctx.tick(now);
        self.resolutions.subscribe(&mut self.ctx, handle);
        self.settle();
    }

    /// Takes back one [`Endpoint::subscribe`].
    pub fn unsubscribe(&mut self, now: Time, handle: &PoolHandle) {
        self.ctx.tick(now);
        self.resolutions.unsubscribe(&mut self.ctx, handle);
        self.settle();
    }

    /// Reports an element that could not be reached (RFC 5352 3.5), at most once per event; too many are
    /// held back (RFC 5355 threat 8). The cache forgets the element.
    pub fn report_unreachable(&mut self, now: Time, handle: &PoolHandle, id: PeId) {
        self.ctx.tick(now);
        self.resolutions.cache.remove_element(handle, id);
        self.reports.report(&mut self.ctx, handle, id);
        self.settle();
    }

    /// CachePopulateRequest (RFC 5352 6.3).
    pub fn cache_populate(&mut self, now: Time, handle: &PoolHandle) {
        self.ctx.tick(now);
        self.resolutions.populate(&mut self.ctx, handle);
        self.settle();
    }

    /// A business card named this pool: it is resolved if the cache knows nothing of it (RFC 5352 3.9 BC1). What the card says
    /// of its elements is for the session it came on: its sender could name any pool, and any elements.
    pub fn on_card(&mut self, now: Time, handle: &PoolHandle) {
        self.ctx.tick(now);
        self.resolutions.on_card(&mut self.ctx, handle);
        self.settle();
    }

    /// CachePurgeRequest (RFC 5352 6.4).
    pub fn cache_purge(&mut self, handle: &PoolHandle) {
        self.resolutions.cache.remove(handle);
    }

    /// What the cache holds on a pool, fresh or not.
    pub fn cached(&self, handle: &PoolHandle) -> Option<&Resolution> {
        self.resolutions.cache.peek(handle)
    }

    /// The cached element whose user transport has this address (RFC 5352 6.6 A).
    pub fn element_at(&self, address: SocketAddr) -> Option<(PoolHandle, PeId)> {
        self.resolutions.cache.element_at(address)
    }

    /// The registrar in use.
    pub fn home(&self) -> Option<&Home> {
        self.ctx.home.as_ref().map(|home| &home.home)
    }

    /// Whether a registrar is being looked for.
    pub fn is_hunting(&self) -> bool {
        self.hunt.is_on()
    }

    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        &self.ctx.counters
    }

    /// Runs the hunt if a registrar is wanted and there is none, and only then (beside a home that does not answer it is
    /// started by whoever finds that out).
    fn settle(&mut self) {
        let wanted = self.registrations.need_registrar()
            || self.resolutions.need_registrar()
            || self.reports.need_registrar();
        if !wanted {
            self.hunt.stop(&mut self.ctx);
        } else if self.ctx.home.is_none() {
            self.hunt.start(&mut self.ctx);
        }
    }

    fn on_home_lost(&mut self) {
        self.registrations.on_home_lost(&mut self.ctx);
        self.resolutions.on_home_lost(&mut self.ctx);
    }

    fn on_home(&mut self) {
        self.registrations.on_home(&mut self.ctx);
        self.resolutions.on_home(&mut self.ctx);
        self.reports.on_home(&mut self.ctx);
    }

    /// It is known how the home registrar speaks: what was held back for it is sent or given up, and what was said in another unit
    /// is repeated.
    fn on_acquainted(&mut self) {
        self.ctx.timers.cancel(&Timer::Acquaintance);
        self.registrations.on_acquainted(&mut self.ctx);
        self.resolutions.on_home(&mut self.ctx);
    }

    fn lose_home(&mut self, close: bool) {
        self.hunt.lose_home(&mut self.ctx, close);
        self.on_home_lost();
    }

    fn is_home(&self, link: LinkId) -> bool {
        self.ctx.home.as_ref().is_some_and(|home| home.link == link)
    }

    fn on_doubt(&mut self, doubt: Doubt) {
        match doubt {
            Doubt::None => {}
            Doubt::Suspect => self.hunt.start(&mut self.ctx),
            Doubt::Silent => self.lose_home(true),
        }
    }

    fn on_due(&mut self, timer: Timer) {
        let ctx = &mut self.ctx;
        let doubt = match timer {
            Timer::T1Request(handle) => self.resolutions.on_t1(ctx, &handle),
            Timer::T2Registration(id) => self.registrations.on_t2(ctx, id),
            Timer::T3Deregistration(id) => self.registrations.on_t3(ctx, id),
            Timer::T4Reregistration(id) => {
                self.registrations.on_t4(ctx, id);
                Doubt::None
            }
            Timer::T5ServerHunt => {
                self.hunt.on_t5(ctx);
                Doubt::None
            }
            Timer::Fallback => {
                self.hunt.on_fallback(ctx);
                Doubt::None
            }
            Timer::T7Outdate(number) => {
                self.hunt.on_t7(number);
                Doubt::None
            }
            Timer::RequestDeadline(id) => {
                self.resolutions.on_deadline(ctx, id);
                Doubt::None
            }
            Timer::OutcomeDeadline(id) => {
                self.registrations.on_deadline(ctx, id);
                Doubt::None
            }
            Timer::Subscription(handle) => {
                self.resolutions.on_subscription_timer(ctx, &handle);
                Doubt::None
            }
            Timer::Reports => {
                self.reports.on_timer(ctx);
                Doubt::None
            }
            Timer::Acquaintance => {
                if ctx.home.as_mut().is_some_and(|home| home.acquaintance.on_no_answer()) {
                    self.on_acquainted();
                }
                Doubt::None
            }
        };
        self.on_doubt(doubt);
    }

    /// Somebody opens a link. Among too many the one that was of no use for the longest time gives way: whoever holds
    /// many, and says nothing an element of ours would answer, must not keep a registrar out.
    fn on_incoming(&mut self, link: LinkId) {
        let most = MAX_INCOMING.min(self.ctx.limits.links);
        if self.incoming.len() >= most {
            let idle = self.incoming.iter().min_by_key(|(_, incoming)| incoming.of_use);
            let Some(idle) = idle.map(|(link, _)| *link) else { return self.turn_away(link) };
            self.turn_away(idle);
        }
        self.incoming.insert(link, Incoming { caller: None, of_use: self.ctx.now });
    }

    fn turn_away(&mut self, link: LinkId) {
        self.incoming.remove(&link);
        self.ctx.act(Effect::Close { link, abort: true });
    }

    fn on_link_up(&mut self, link: LinkId, kind: LinkKind, local: &[SocketAddr], peer: &[SocketAddr]) {
        if link.is_incoming() {
            let Some(incoming) = self.incoming.get_mut(&link) else { return };
            if peer.is_empty() {
                return self.turn_away(link);
            }
            let local = local.iter().map(SocketAddr::ip).collect();
            let peers = peer.to_vec();
            let acquaintance = Acquaintance::new(self.ctx.config.dialect, kind);
            incoming.caller = Some(Caller { kind, peers, local, acquaintance });
        } else {
            self.on_attempt_up(link, kind, local, peer);
        }
    }

    fn on_attempt_up(&mut self, link: LinkId, kind: LinkKind, local: &[SocketAddr], peer: &[SocketAddr]) {
        if self.hunt.on_link_up(&mut self.ctx, link, kind, local, peer) {
            // There may have been a home before, one that did not answer.
            self.on_home_lost();
            self.on_home();
        }
    }

    fn on_link_down(&mut self, link: LinkId, why: LinkFailure) {
        if self.is_home(link) {
            self.lose_home(false);
        } else if self.incoming.remove(&link).is_none()
            && !(why == LinkFailure::Present && self.turn_to_caller(link))
        {
            self.hunt.on_link_down(&mut self.ctx, link, why);
        }
    }

    /// The registrar to be connected to has come to us first, and between two SCTP ports there is one association: its
    /// link is taken for the one that was to be opened. Whether there is such a link.
    fn turn_to_caller(&mut self, attempt: LinkId) -> bool {
        let Some(to) = self.hunt.attempt(attempt) else { return false };
        let is_it = |caller: &Caller| {
            caller.kind == to.kind
                && caller
                    .peers
                    .iter()
                    .any(|at| at.port() == to.port && to.addresses.as_slice().contains(&at.ip()))
        };
        let found = self.incoming.iter().find(|(_, incoming)| incoming.caller.as_ref().is_some_and(is_it));
        let Some(link) = found.map(|(link, _)| *link) else { return false };
        let Some(caller) = self.incoming.remove(&link).and_then(|incoming| incoming.caller) else {
            return false;
        };
        self.hunt.replace_attempt(attempt, link);
        let local: Vec<_> = caller.local.iter().map(|ip| SocketAddr::new(*ip, 0)).collect();
        self.on_attempt_up(link, caller.kind, &local, &caller.peers);
        true
    }

    fn on_message(&mut self, link: LinkId, bytes: &[u8]) {
        let is_home = self.is_home(link);
        if is_home && let Some(home) = &mut self.ctx.home {
            home.heard = self.ctx.now;
            // It answers after all: no other one is needed.
            self.hunt.stop(&mut self.ctx);
        }
        // None: a link that was closed meanwhile.
        let Some(acquaintance) = self.acquaintance(link) else { return };
        let (heard_as, dialect) = (acquaintance.heard_as(), acquaintance.spoken());
        let message = match AsapMessage::decode(bytes, heard_as) {
            Ok(decoded) => {
                self.ctx.send_error(link, decoded.report, dialect);
                decoded.message
            }
            Err(rejected) => {
                self.ctx.counters.rejected_messages += 1;
                self.ctx.send_error(link, rejected.report, dialect);
                return;
            }
        };
        let news = self.acquaintance(link).is_some_and(|acquaintance| acquaintance.hear(&message, bytes));
        let ctx = &mut self.ctx;
        match message {
            AsapMessage::KeepAlive(keep_alive) => self.on_keep_alive(link, dialect, keep_alive),
            AsapMessage::RegistrationResponse { reject, handle, element, error, .. } if is_home => {
                self.registrations.on_response(ctx, (handle, element), reject, error.unwrap_or_default());
            }
            AsapMessage::DeregistrationResponse { handle, element, error } if is_home => {
                self.registrations.on_deregistration_response(ctx, (handle, element), error);
            }
            // Who has asked it whether it lives, and has had no answer, says so where it has asked. Anybody could: no more comes of it
            // than a registration at home.
            AsapMessage::DeregistrationResponse { handle, element, error: None } => {
                if !self.registrations.renew(ctx, &(handle, element)) {
                    ctx.counters.rejected_messages += 1;
                }
            }
            AsapMessage::HandleResolutionResponse { accept_updates, handle, policy, elements, error }
                if is_home =>
            {
                let outcome = match error {
                    Some(causes) => Err(causes),
                    // Without the parameter it is round robin (RFC 5352 2.2.6).
                    None => Ok((policy.unwrap_or(Policy::ROUND_ROBIN), elements)),
                };
                self.resolutions.on_response(ctx, accept_updates, handle, outcome);
            }
            // What of ours was not understood is repeated or given up by its timer.
            AsapMessage::Error(causes) => {
                if is_home && let Some(home) = &mut ctx.home {
                    home.complaint = causes;
                }
            }
            // Answers of somebody who was not asked, and messages that are not for endpoints.
            AsapMessage::RegistrationResponse { .. }
            | AsapMessage::DeregistrationResponse { .. }
            | AsapMessage::HandleResolutionResponse { .. }
            | AsapMessage::Registration(_)
            | AsapMessage::Deregistration { .. }
            | AsapMessage::HandleResolution { .. }
            | AsapMessage::KeepAliveAck { .. }
            | AsapMessage::EndpointUnreachable { .. }
            | AsapMessage::ServerAnnounce { .. }
            | AsapMessage::Cookie(_)
            | AsapMessage::CookieEcho(_)
            | AsapMessage::BusinessCard { .. } => ctx.counters.rejected_messages += 1,
        }
        if news && is_home {
            self.on_acquainted();
        }
    }

    /// What is known of the registrar at the other end of a link that is up.
    fn acquaintance(&mut self, link: LinkId) -> Option<&mut Acquaintance> {
        match &mut self.ctx.home {
            Some(home) if home.link == link => Some(&mut home.acquaintance),
            Some(_) | None => {
                let caller = self.incoming.get_mut(&link)?.caller.as_mut()?;
                Some(&mut caller.acquaintance)
            }
        }
    }

    /// KA1, KA2. The acknowledgement goes back on the link the keep-alive came on.
    fn on_keep_alive(&mut self, link: LinkId, dialect: Dialect, keep_alive: KeepAlive) {
        let named = self.registrations.matching(&keep_alive.handle, keep_alive.element);
        if named.is_empty() {
            return;
        }
        self.ctx.counters.keep_alives += 1;
        if let Some(incoming) = self.incoming.get_mut(&link) {
            incoming.of_use = self.ctx.now;
        }
        for (_, element) in &named {
            let ack = AsapMessage::KeepAliveAck { handle: keep_alive.handle.clone(), element: *element };
            // It fits: the keep-alive did.
            let _ = self.ctx.send(link, &ack, dialect);
        }
        if let Some(home) = &mut self.ctx.home
            && home.link == link
        {
            home.home.server = keep_alive.server.or(home.home.server);
            return;
        }
        let known = self.ctx.home.as_ref().and_then(|home| home.home.server);
        if !keep_alive.home || (known.is_some() && known == keep_alive.server) {
            return;
        }
        let Some(caller) = self.incoming.remove(&link).and_then(|incoming| incoming.caller) else { return };
        let Some(peer) = caller.peers.first().copied() else { return };
        self.ctx.counters.adoptions += 1;
        let new = HomeLink {
            link,
            kind: caller.kind,
            home: Home { server: keep_alive.server, peer, kind: caller.kind, no_sctp: None },
            local: caller.local,
            destination: None,
            heard: self.ctx.now,
            acquaintance: caller.acquaintance,
            complaint: Vec::new(),
        };
        self.hunt.adopt(&mut self.ctx, new);
        self.registrations.on_home_adopted(&mut self.ctx, &named);
        self.resolutions.on_home_lost(&mut self.ctx);
        self.resolutions.on_home(&mut self.ctx);
        self.reports.on_home(&mut self.ctx);
    }

    fn on_announce(&mut self, audience: Audience, from: SocketAddr, bytes: &[u8]) {
        match AsapMessage::decode(bytes, Dialect::Unknown).map(|decoded| decoded.message) {
            Ok(AsapMessage::ServerAnnounce { server, transports }) => {
                self.hunt.on_announce(&mut self.ctx, audience, from, server, &transports);
            }
            Ok(_) | Err(_) => self.ctx.counters.rejected_messages += 1,
        }
    }
}

impl Machine for Endpoint {
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<'_>) {
        self.ctx.tick(now);
        match input {
            Input::Incoming { link, protocol: Protocol::Asap } => self.on_incoming(link),
            Input::Incoming { link, protocol: Protocol::Enrp | Protocol::Session | Protocol::Plain } => {
                self.turn_away(link);
            }
            Input::LinkUp { link, kind, protocol: _, local, peer, identity: _ } => {
                self.on_link_up(link, kind, local, peer);
            }
            Input::LinkDown { link, why } => self.on_link_down(link, why),
            Input::Message { link, channel: Channel::Asap, bytes, complete: _ } => {
                self.on_message(link, bytes)
            }
            Input::Message { .. } => self.ctx.counters.rejected_messages += 1,
            // The registrar is unreachable (RFC 5352 3.7.1). The message is not sent again on this link; whoever
            // wanted it sent makes it anew for the next home.
            Input::SendFailed { link, .. } if self.is_home(link) => self.lose_home(true),
            Input::SendFailed { .. } | Input::Writable { .. } | Input::Timeout => {}
            Input::Announce { protocol: _, audience, from, bytes } => self.on_announce(audience, from, bytes),
        }
        // What has come counts, also at the very instant of a deadline.
        while let Some(timer) = self.ctx.timers.pop_due(self.ctx.now) {
            self.on_due(timer);
        }
        self.settle();
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.ctx.effects.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.ctx.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.ctx.timers.next()
    }
}

#[cfg(test)]
mod tests;
