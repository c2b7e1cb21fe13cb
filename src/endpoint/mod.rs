//! The ASAP endpoint of pool elements and pool users (RFC 5352 3): finding a registrar, registering, resolving,
//! the cache, keep-alives, reports. Session data does not pass here (see [`crate::session`]).

use crate::config::{EndpointConfig, Limits};
use crate::machine::{Destination, Effect, Input, LinkFailure, Machine};
use crate::policy::Policy;
use crate::types::{
    Capabilities, ErrorCause, PeId, PoolElement, PoolHandle, RegistrationLife, ServerId, Time,
    TransportAddress,
};
use std::net::SocketAddr;
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
    /// Where users reach it.
    pub user_transport: TransportAddress,
    /// Its policy and policy values.
    pub policy: Policy,
    /// What it can do beyond the RFCs.
    pub capabilities: Capabilities,
}

/// The elements of a pool as a registrar told them, in the order it told them.
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
}

/// Why a registration ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Deregistration {
    /// As asked, confirmed by a registrar.
    Confirmed,
    /// As asked, but no registrar confirmed it in time; it runs out by itself.
    Unconfirmed,
    /// Refused: the registration stands.
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
    /// One round of the server hunt ended without a registrar.
    HuntFailed(Vec<(Destination, LinkFailure)>),
}

/// The registrar this endpoint uses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Home {
    /// Its identifier, once it has shown it.
    pub server: Option<ServerId>,
    /// Where it was reached.
    pub peer: SocketAddr,
}

/// What a user asks to resolve.
#[derive(Clone, Debug)]
pub struct Query {
    /// The pool.
    pub handle: PoolHandle,
    /// How many elements are wanted; none: the endpoint's default.
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
pub struct Endpoint {}

#[allow(unused_variables)]
impl Endpoint {
    /// An endpoint that knows no registrar yet.
    pub fn new(config: EndpointConfig, limits: Limits, seed: u64) -> Endpoint {
        todo!()
    }
    /// The registrars given by configuration, in order of preference. Announced ones come in addition.
    pub fn set_registrars(&mut self, now: Time, registrars: Vec<Destination>) {
        todo!()
    }
    /// Where registrars can open links to this endpoint: goes into registrations as ASAP transport when the
    /// link to the registrar is TCP (DEPARTS RFC 5354 3.10; see docs/tcp.md). None: no such listener.
    pub fn set_listener(&mut self, listener: Option<TransportAddress>) {
        todo!()
    }
    /// Registers an element; it is kept registered until [`Endpoint::deregister`]. The first outcome is told
    /// by `deadline` at the latest.
    pub fn register(&mut self, now: Time, offer: Offer, deadline: Time) -> RegistrationId {
        todo!()
    }
    /// Changes policy values, life and renewal; the registration is renewed at once.
    pub fn update(&mut self, now: Time, registration: RegistrationId, offer: Offer, deadline: Time) {
        todo!()
    }
    /// Ends a registration; told by `deadline` at the latest.
    pub fn deregister(&mut self, now: Time, registration: RegistrationId, deadline: Time) {
        todo!()
    }
    /// Resolves a pool handle; told by `deadline` at the latest.
    pub fn resolve(&mut self, now: Time, query: Query, deadline: Time) -> RequestId {
        todo!()
    }
    /// Forgets a resolution nobody waits for any more.
    pub fn cancel(&mut self, request: RequestId) {
        todo!()
    }
    /// Asks registrars to tell changes of a pool (S bit) while anybody is subscribed; calls are counted.
    pub fn subscribe(&mut self, now: Time, handle: &PoolHandle) {
        todo!()
    }
    /// Takes back one [`Endpoint::subscribe`].
    pub fn unsubscribe(&mut self, now: Time, handle: &PoolHandle) {
        todo!()
    }
    /// Reports an element that could not be reached (RFC 5352 3.5), at most once per event; too many are
    /// held back (RFC 5355 threat 8).
    pub fn report_unreachable(&mut self, now: Time, handle: &PoolHandle, id: PeId) {
        todo!()
    }
    /// CachePopulateRequest (RFC 5352 6.3).
    pub fn cache_populate(&mut self, now: Time, handle: &PoolHandle) {
        todo!()
    }
    /// CachePurgeRequest (RFC 5352 6.4).
    pub fn cache_purge(&mut self, handle: &PoolHandle) {
        todo!()
    }
    /// What the cache holds on a pool, fresh or not.
    pub fn cached(&self, handle: &PoolHandle) -> Option<&Resolution> {
        todo!()
    }
    /// The cached element whose user transport has this address (RFC 5352 6.6 A).
    pub fn element_at(&self, address: SocketAddr) -> Option<(PoolHandle, PeId)> {
        todo!()
    }
    /// The registrar in use.
    pub fn home(&self) -> Option<&Home> {
        todo!()
    }
    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        todo!()
    }
}

#[allow(unused_variables)]
impl Machine for Endpoint {
    type Event = Event;
    fn handle(&mut self, now: Time, input: Input<'_>) {
        todo!()
    }
    fn poll_effect(&mut self) -> Option<Effect> {
        todo!()
    }
    fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
    fn poll_timeout(&self) -> Option<Time> {
        todo!()
    }
}
