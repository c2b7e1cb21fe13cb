//! The handlespace: pools and their elements, owners, lifetimes, checksums, marks, paging and selection
//! (RFC 5352 3.1, RFC 5353 3.6, RFC 5356). A data structure: no protocol, no I/O, no clock of its own.

use crate::machine::LinkId;
use crate::policy::{Policy, PolicyType};
use crate::types::{
    Identity, PeChecksum, PeId, PoolElement, PoolHandle, Rng, ServerId, Time, TransportKind, TransportUse,
};
use std::net::IpAddr;

/// Who registered an element.
#[derive(Clone, Debug)]
pub struct Registrant {
    /// The link it came on, while that link is up.
    pub link: Option<LinkId>,
    /// Who the peer proved to be.
    pub identity: Option<Identity>,
    /// The peer's addresses on that link.
    pub addresses: Vec<IpAddr>,
}

/// An element as kept.
#[derive(Clone, Debug)]
pub struct Entry {
    /// As told to users and peers; `home` is always known.
    pub element: PoolElement,
    /// Who registered it; none for elements learnt from other registrars.
    pub registrant: Option<Registrant>,
    /// When its registration runs out.
    pub expires: Option<Time>,
    /// ASAP_ENDPOINT_UNREACHABLE messages about it since its last sign of life.
    pub bad_reports: u32,
    /// Reserved for ENRP: orders changes of the element beyond RFC 5353.
    pub version: u64,
}

/// What a pool demands of its elements: set by the first (RFC 5352 3.1 rule 1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolTraits {
    /// Its policy.
    pub policy_type: PolicyType,
    /// Its transport protocol.
    pub transport: TransportKind,
    /// Its data/control channel configuration.
    pub transport_use: TransportUse,
}

/// Why an element does not fit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Misfit {
    /// The pool has another policy: this one (of its first element).
    Policy(Policy),
    /// The pool uses another transport protocol: that of this element.
    Transport(crate::types::TransportAddress),
    /// The pool has another data/control channel configuration.
    TransportUse,
    /// The handlespace, or the pool, is full.
    Full,
}

/// What [`Handlespace::insert`] did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// The pool is new, and the element its first.
    NewPool,
    /// The element is new in the pool.
    NewElement,
    /// The element was there; it was owned by this registrar.
    Replaced {
        /// Its home before.
        previous_home: Option<ServerId>,
        /// Whether anything a user could see has changed.
        changed: bool,
    },
}

/// A selection made for a user.
#[derive(Clone, Debug)]
pub struct Selection<'a> {
    /// The pool's overall policy (type; values of no meaning: those of the first element listed).
    pub policy: Policy,
    /// The selected elements, in order.
    pub entries: Vec<&'a Entry>,
}

/// Which part of the handlespace a peer can be told: what its dialect cannot express is left out of its tables and
/// of the checksum told to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum View {
    /// Everything.
    Full,
}

/// Pools and their elements.
#[derive(Debug)]
pub struct Handlespace {}

#[allow(unused_variables)]
impl Handlespace {
    /// An empty handlespace with room for so many pools, elements per pool, and elements.
    pub fn new(pools: usize, elements_per_pool: usize, elements: usize) -> Handlespace {
        todo!()
    }
    /// Adds an element to its pool, making the pool if needed, or replaces it (RFC 5352 3.1 rules 1-3).
    /// Its life starts at `now`. Nothing changes if it does not fit.
    pub fn insert(
        &mut self,
        now: Time,
        handle: &PoolHandle,
        element: PoolElement,
        registrant: Option<Registrant>,
    ) -> Result<Inserted, Misfit> {
        todo!()
    }
    /// Takes an element out, and its pool with it if it was the last.
    pub fn remove(&mut self, handle: &PoolHandle, id: PeId) -> Option<Entry> {
        todo!()
    }
    /// An element.
    pub fn entry(&self, handle: &PoolHandle, id: PeId) -> Option<&Entry> {
        todo!()
    }
    /// Changes what is kept about an element beside what users see: registrant, reports, version, and its life
    /// (starting again at `now`).
    pub fn note(&mut self, handle: &PoolHandle, id: PeId, change: impl FnOnce(&mut Note<'_>)) -> bool {
        todo!()
    }
    /// Changes the home of an element (takeover).
    pub fn rehome(&mut self, handle: &PoolHandle, id: PeId, home: ServerId) -> bool {
        todo!()
    }
    /// A pool's demands.
    pub fn traits(&self, handle: &PoolHandle) -> Option<&PoolTraits> {
        todo!()
    }
    /// Selects up to `items` elements of a pool by its policy, only such as `eligible` admits.
    pub fn select(
        &mut self,
        handle: &PoolHandle,
        items: usize,
        rng: &mut Rng,
        eligible: impl Fn(&Entry) -> bool,
    ) -> Option<Selection<'_>> {
        todo!()
    }
    /// All pools in order of handle.
    pub fn pools(&self) -> impl Iterator<Item = (&PoolHandle, &PoolTraits, usize)> {
        std::iter::empty()
    }
    /// The elements of a pool in order of identifier.
    pub fn elements(&self, handle: &PoolHandle) -> impl Iterator<Item = &Entry> {
        std::iter::empty()
    }
    /// When the next registration runs out.
    pub fn next_expiry(&self) -> Option<Time> {
        todo!()
    }
    /// An element whose registration has run out by `now`; it is the caller's to remove it.
    pub fn expired(&self, now: Time) -> Option<(PoolHandle, PeId)> {
        todo!()
    }
    /// How many elements there are, or how many `owner` owns.
    pub fn count(&self, owner: Option<ServerId>) -> usize {
        todo!()
    }
    /// The checksum over the elements `owner` owns, as seen through `view` (RFC 5353 3.6.2).
    pub fn checksum(&self, owner: ServerId, view: View) -> PeChecksum {
        todo!()
    }
    /// Marks every element of `owner` (RFC 5353 3.6.3); inserting or rehoming an element clears its mark.
    pub fn mark(&mut self, owner: ServerId) {
        todo!()
    }
    /// The elements of `owner` still marked.
    pub fn marked(&self, owner: ServerId) -> Vec<(PoolHandle, PeId)> {
        todo!()
    }
    /// Elements in order of (handle, identifier) behind `after`, those of `owner` only if given, as long as the `size`
    /// of each with its pool fits into `max_bytes`; and whether more follow.
    pub fn page(
        &self,
        after: Option<(&PoolHandle, PeId)>,
        owner: Option<ServerId>,
        max_bytes: usize,
        size: impl Fn(&PoolHandle, &Entry, bool) -> usize,
    ) -> (Vec<(&PoolHandle, &Entry)>, bool) {
        todo!()
    }
}

/// What [`Handlespace::note`] lets its caller change.
#[derive(Debug)]
pub struct Note<'a> {
    /// Who registered it.
    pub registrant: &'a mut Option<Registrant>,
    /// Reports against it.
    pub bad_reports: &'a mut u32,
    /// Its version.
    pub version: &'a mut u64,
}
