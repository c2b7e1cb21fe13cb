//! A registrar (ENRP server): keeps the handlespace, serves elements and users (RFC 5352), and talks to other
//! registrars (RFC 5353).

use crate::config::{Limits, RegistrarConfig};
use crate::handlespace::Handlespace;
use crate::machine::{Destination, Effect, Input, Machine};
use crate::types::{ErrorCause, PeId, PoolHandle, ServerId, Time, TransportAddress};

/// Why an element was taken out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Removal {
    /// It deregistered.
    Deregistered,
    /// Its registration ran out.
    Expired,
    /// It did not acknowledge a keep-alive, or could not be reached with one.
    Unreachable,
    /// Too many reports (MAX-BAD-PE-REPORT).
    Reported,
}

/// What a registrar tells its owner, for its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// An element was added.
    Added {
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PeId,
    },
    /// An element was taken out.
    Removed {
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PeId,
        /// Why.
        why: Removal,
    },
    /// A registration was refused.
    Refused {
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PeId,
        /// For these causes.
        causes: Vec<ErrorCause>,
    },
    /// A message was not accepted.
    Rejected {
        /// What was wrong with it.
        why: &'static str,
    },
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Counters {
    pub registrations: u64,
    pub reregistrations: u64,
    pub refusals: u64,
    pub deregistrations: u64,
    pub resolutions: u64,
    pub unknown_pools: u64,
    pub updates_pushed: u64,
    pub keep_alives_sent: u64,
    pub keep_alive_acks: u64,
    pub probes: u64,
    pub reports: u64,
    pub expired: u64,
    pub unreachable: u64,
    pub announcements: u64,
    pub rejected_messages: u64,
    pub links_refused: u64,
}

/// The machine.
#[derive(Debug)]
pub struct Registrar {}

#[allow(unused_variables)]
impl Registrar {
    /// A registrar with an empty handlespace. `asap`: where it serves ASAP, as announced; `announce`: whether
    /// it announces itself; `peers`: other registrars by configuration.
    pub fn new(
        id: ServerId,
        config: RegistrarConfig,
        limits: Limits,
        seed: u64,
        asap: Vec<TransportAddress>,
        announce: bool,
        peers: Vec<Destination>,
    ) -> Registrar {
        todo!()
    }
    /// Its identifier.
    pub fn id(&self) -> ServerId {
        todo!()
    }
    /// The handlespace, to look at.
    pub fn handlespace(&self) -> &Handlespace {
        todo!()
    }
    /// Links to endpoints that are up.
    pub fn clients(&self) -> usize {
        todo!()
    }
    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        todo!()
    }
    /// Closes every link in order, so that endpoints go elsewhere at once.
    pub fn shutdown(&mut self, now: Time) {
        todo!()
    }
}

#[allow(unused_variables)]
impl Machine for Registrar {
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
