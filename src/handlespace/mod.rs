//! The handlespace: pools and their elements, owners, lifetimes, checksums, marks, paging and selection
//! (RFC 5352 3.1, RFC 5353 3.6, RFC 5356). A data structure: no protocol, no I/O, no clock of its own.
//!
//! Finding, inserting, removing and selecting take O(log n) steps an element. Beside its [`Entry`] an element
//! costs well under 200 bytes.

mod owner;
mod pool;

use crate::machine::LinkId;
use crate::policy::{Policy, PolicyType};
use crate::types::{
    Identity, PeChecksum, PeId, PoolElement, PoolHandle, Rng, ServerId, Time, TransportAddress,
    TransportKind, TransportUse,
};
use owner::Owners;
use pool::Pool;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;

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
    /// As told to users and peers. Its `home` is its owner; an element without one belongs to nobody.
    pub element: PoolElement,
    /// Who registered it; none for elements learnt from other registrars.
    pub registrant: Option<Registrant>,
    /// When its registration runs out.
    pub expires: Option<Time>,
    /// ASAP_ENDPOINT_UNREACHABLE messages about it since its last sign of life.
    pub bad_reports: u32,
    /// Orders the changes of the element among registrars (docs/enrp-extensions.md section 3).
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
    Transport(TransportAddress),
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
    /// The element was there; this is a re-registration.
    Replaced {
        /// Its home before.
        previous_home: Option<ServerId>,
        /// Whether anything that is told about it to users or peers has changed.
        changed: bool,
    },
}

impl PoolTraits {
    fn of(element: &PoolElement) -> PoolTraits {
        PoolTraits {
            policy_type: element.policy.policy_type(),
            transport: element.user_transport.kind(),
            transport_use: element.user_transport.transport_use(),
        }
    }
}

/// A selection made for a user.
#[derive(Clone, Debug)]
pub struct Selection<'a> {
    /// The pool's overall policy (type; values of no meaning: those of the first element listed, else 0).
    pub policy: Policy,
    /// The selected elements, in order; none if none was eligible.
    pub entries: Vec<&'a Entry>,
}

/// Which part of the handlespace a peer can be told: what its dialect cannot express is left out of its tables and
/// of the checksum told to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum View {
    /// Everything.
    Full,
    /// What RSPLIB holds.
    Rsplib,
}

/// Pools and their elements.
#[derive(Debug)]
pub struct Handlespace {
    max_pools: usize,
    max_elements_per_pool: usize,
    max_elements: usize,
    /// The index in `pools` of each handle.
    handles: BTreeMap<PoolHandle, u32>,
    pools: Vec<Option<Pool>>,
    free_pools: Vec<u32>,
    /// Elements in all pools.
    len: usize,
    owners: Owners,
    /// When which slot of which pool runs out.
    expiries: BTreeSet<(Time, u32, u32)>,
    /// Slots selected last; kept for its capacity.
    selected: Vec<u32>,
    digest: Digest,
    rsplib_holds: Holds,
}

/// What the digest of an element is: told by the owner of a handlespace, which itself knows no encoding.
pub type Digest = fn(&PoolHandle, &PoolElement, u64) -> u64;
/// Whether an element is in a view: likewise.
pub type Holds = fn(&PoolHandle, &PoolElement) -> bool;

impl Handlespace {
    /// An empty handlespace with room for so many pools, elements per pool, and elements.
    pub fn new(pools: usize, elements_per_pool: usize, elements: usize) -> Handlespace {
        Handlespace {
            max_pools: pools,
            max_elements_per_pool: elements_per_pool,
            max_elements: elements,
            handles: BTreeMap::new(),
            pools: Vec::new(),
            free_pools: Vec::new(),
            len: 0,
            owners: Owners::default(),
            expiries: BTreeSet::new(),
            selected: Vec::new(),
            digest: |_, _, _| 0,
            rsplib_holds: |_, _| true,
        }
    }

    /// The same with this digest of an element, of its handle, itself and its version.
    pub fn digesting(self, digest: Digest) -> Handlespace {
        Handlespace { digest, ..self }
    }

    /// The same with this as what belongs to [`View::Rsplib`].
    pub fn viewed_by_rsplib(self, holds: Holds) -> Handlespace {
        Handlespace { rsplib_holds: holds, ..self }
    }

    /// Adds an element to its pool, making the pool if needed, or replaces it (RFC 5352 3.1 rules 1-3).
    /// Its life starts at `now`, its mark is cleared, reports against it are forgotten; its version stays. Nothing
    /// changes if it does not fit. An element that wants another policy type, transport or transport use
    /// has to leave first, even if it is the only one (rule 3: the same tests).
    pub fn insert(
        &mut self,
        now: Time,
        handle: &PoolHandle,
        element: PoolElement,
        registrant: Option<Registrant>,
    ) -> Result<Inserted, Misfit> {
        let expires = element.life.duration().map(|life| now + life);
        let version = self.entry(handle, element.id).map_or(0, |entry| entry.version);
        self.enter(handle, Entry { element, registrant, expires, bad_reports: 0, version })
    }

    /// The same for an element learnt from another registrar: its version comes with it, and its life is its home's to
    /// watch. Who registered it here stays noted.
    pub fn learn(
        &mut self,
        handle: &PoolHandle,
        element: PoolElement,
        version: u64,
    ) -> Result<Inserted, Misfit> {
        let registrant = self.entry(handle, element.id).and_then(|entry| entry.registrant.clone());
        self.enter(handle, Entry { element, registrant, expires: None, bad_reports: 0, version })
    }

    fn enter(&mut self, handle: &PoolHandle, entry: Entry) -> Result<Inserted, Misfit> {
        let Some(index) = self.handles.get(handle).copied() else {
            if self.handles.len() >= self.max_pools || !self.has_room(0) {
                return Err(Misfit::Full);
            }
            let index = self.add_pool(handle, PoolTraits::of(&entry.element));
            self.add_element(index, entry);
            return Ok(Inserted::NewPool);
        };
        let Some(pool) = self.pool(index) else { return Err(Misfit::Full) };
        pool.check(&entry.element)?;
        let Some(slot) = pool.slot_of(entry.element.id) else {
            if !self.has_room(pool.len()) {
                return Err(Misfit::Full);
            }
            self.add_element(index, entry);
            return Ok(Inserted::NewElement);
        };
        let Some(before) = self.take(index, slot) else { return Err(Misfit::Full) };
        let changed = before.element != entry.element;
        let previous_home = before.element.home;
        self.put(index, slot, entry);
        Ok(Inserted::Replaced { previous_home, changed })
    }

    /// Takes an element out, and its pool with it if it was the last.
    pub fn remove(&mut self, handle: &PoolHandle, id: PeId) -> Option<Entry> {
        let (index, slot) = self.find(handle, id)?;
        let entry = self.take(index, slot)?;
        self.len -= 1;
        let pool = self.pools.get_mut(index as usize)?.as_mut()?;
        pool.release(id, slot);
        if pool.len() == 0 {
            self.pools[index as usize] = None;
            self.free_pools.push(index);
            self.handles.remove(handle);
        }
        Some(entry)
    }

    /// An element.
    pub fn entry(&self, handle: &PoolHandle, id: PeId) -> Option<&Entry> {
        let (index, slot) = self.find(handle, id)?;
        Some(&self.pool(index)?.slot(slot)?.entry)
    }

    /// Changes what is kept about an element beside what is told about it. Says whether it is there.
    pub fn note(&mut self, handle: &PoolHandle, id: PeId, change: impl FnOnce(&mut Note<'_>)) -> bool {
        let Some((index, slot)) = self.find(handle, id) else { return false };
        let Some(Entry { registrant, expires, bad_reports, version, .. }) = self.entry_mut(index, slot)
        else {
            return false;
        };
        let before = (*expires, *version);
        change(&mut Note { registrant, expires, bad_reports, version });
        let after = (*expires, *version);
        self.reschedule(index, slot, before.0, after.0);
        if before.1 != after.1 {
            self.redigest(index, slot);
        }
        true
    }

    /// Changes the home of an element (takeover) and clears its mark. Says whether it is there.
    pub fn rehome(&mut self, handle: &PoolHandle, id: PeId, home: ServerId) -> bool {
        let Some((index, slot)) = self.find(handle, id) else { return false };
        let Some(entry) = self.take(index, slot) else { return false };
        let element = PoolElement { home: Some(home), ..entry.element };
        self.put(index, slot, Entry { element, ..entry });
        true
    }

    /// Clears the mark of an element. Says whether it is there.
    pub fn unmark(&mut self, handle: &PoolHandle, id: PeId) -> bool {
        let Some((index, slot)) = self.find(handle, id) else { return false };
        let Some(kept) = self.pools.get_mut(index as usize).and_then(|pool| pool.as_mut()?.slot_mut(slot))
        else {
            return false;
        };
        kept.sweep = kept.entry.element.home.map_or(0, |home| self.owners.sweep(home));
        true
    }

    /// Whether an element belongs to a view.
    pub fn is_in(&self, view: View, handle: &PoolHandle, id: PeId) -> bool {
        self.slot(handle, id).is_some_and(|slot| slot.is_in(view))
    }

    /// A pool's demands.
    pub fn traits(&self, handle: &PoolHandle) -> Option<&PoolTraits> {
        Some(&self.pool(*self.handles.get(handle)?)?.traits)
    }

    /// Selects up to `items` elements of a pool by its policy, only such as `eligible` admits: the others lose no turn,
    /// nor do they count as selected. None if there is no such pool.
    pub fn select(
        &mut self,
        handle: &PoolHandle,
        items: usize,
        rng: &mut Rng,
        eligible: impl Fn(&Entry) -> bool,
    ) -> Option<Selection<'_>> {
        let index = *self.handles.get(handle)?;
        let pool = self.pools.get_mut(index as usize)?.as_mut()?;
        self.selected.clear();
        pool.select(items, rng, eligible, &mut self.selected);
        let mut entries: Vec<&Entry> = Vec::with_capacity(self.selected.len());
        entries.extend(self.selected.iter().filter_map(|slot| Some(&pool.slot(*slot)?.entry)));
        let policy =
            entries.first().map_or(Policy::new(pool.traits.policy_type, &[]), |first| first.element.policy);
        Some(Selection { policy, entries })
    }

    /// All pools in order of handle, with the number of their elements.
    pub fn pools(&self) -> impl Iterator<Item = (&PoolHandle, &PoolTraits, usize)> {
        self.handles.iter().filter_map(|(handle, index)| {
            let pool = self.pool(*index)?;
            Some((handle, &pool.traits, pool.len()))
        })
    }

    /// The elements of a pool in order of identifier.
    pub fn elements(&self, handle: &PoolHandle) -> impl Iterator<Item = &Entry> {
        let pool = self.handles.get(handle).and_then(|index| self.pool(*index));
        pool.into_iter().flat_map(|pool| pool.behind(None)).map(|(_, slot)| &slot.entry)
    }

    /// When the next registration runs out.
    pub fn next_expiry(&self) -> Option<Time> {
        self.expiries.first().map(|(at, ..)| *at)
    }

    /// An element whose registration has run out by `now`, the earliest first; it is the caller's to remove it, or to
    /// give it another life with [`Handlespace::note`].
    pub fn expired(&self, now: Time) -> Option<(PoolHandle, PeId)> {
        let &(at, index, slot) = self.expiries.first()?;
        let pool = self.pool(index)?;
        (at <= now).then_some((pool.handle.clone(), pool.slot(slot)?.entry.element.id))
    }

    /// How many elements there are, or how many `owner` owns.
    pub fn count(&self, owner: Option<ServerId>) -> usize {
        owner.map_or(self.len, |owner| self.owners.count(owner))
    }

    /// The checksum over the elements `owner` owns, as seen through `view` (RFC 5353 3.6.2).
    pub fn checksum(&self, owner: ServerId, view: View) -> PeChecksum {
        self.owners.checksum(owner, view)
    }

    /// The digest over the elements `owner` owns: the sum of theirs.
    pub fn digest(&self, owner: ServerId) -> u64 {
        self.owners.digest(owner)
    }

    /// Who owns elements.
    pub fn owners(&self) -> impl Iterator<Item = ServerId> {
        self.owners.ids()
    }

    /// The elements of `owner`, in order of (handle, identifier).
    pub fn of_owner(&self, owner: ServerId) -> impl Iterator<Item = (PoolHandle, PeId)> {
        self.owners.elements(owner, None).map(|(handle, id)| (handle.clone(), id))
    }

    /// Marks every element of `owner` (RFC 5353 3.6.3); inserting or rehoming an element clears its mark.
    pub fn mark(&mut self, owner: ServerId) {
        self.owners.start_sweep(owner);
    }

    /// The elements of `owner` still marked, in order of (handle, identifier).
    pub fn marked(&self, owner: ServerId) -> Vec<(PoolHandle, PeId)> {
        let sweep = self.owners.sweep(owner);
        let is_marked = |handle: &PoolHandle, id| {
            self.slot(handle, id).is_some_and(|slot| slot.sweep != sweep).then(|| (handle.clone(), id))
        };
        self.owners.elements(owner, None).filter_map(|(handle, id)| is_marked(handle, id)).collect()
    }

    /// Elements of a view in order of (handle, identifier) behind `after`, those of `owner` only if given, as long as the sum
    /// of their sizes is at most `max_bytes`, but always one if there is one; and whether more follow. `size` is told
    /// whether the element is the first of its pool on this page. `after` need not exist any more.
    pub fn page(
        &self,
        after: Option<(&PoolHandle, PeId)>,
        owner: Option<ServerId>,
        view: View,
        max_bytes: usize,
        size: impl Fn(&PoolHandle, &Entry, bool) -> usize,
    ) -> (Vec<(&PoolHandle, &Entry)>, bool) {
        let after = after.map(|(handle, id)| (handle.clone(), id));
        match owner {
            Some(owner) => {
                let owned = self.owners.elements(owner, after);
                let slots = owned.filter_map(|(handle, id)| Some((handle, self.slot(handle, id)?)));
                let seen = slots.filter(|(_, slot)| slot.is_in(view));
                fill_page(seen.map(|(handle, slot)| (handle, &slot.entry)), max_bytes, size)
            }
            None => {
                let start = after.as_ref().map_or(Bound::Unbounded, |(handle, _)| Bound::Included(handle));
                let pools = self.handles.range::<PoolHandle, _>((start, Bound::Unbounded));
                let entries = pools.flat_map(|(handle, index)| {
                    let behind = after.as_ref().filter(|(last, _)| last == handle).map(|(_, id)| *id);
                    let slots = self.pool(*index).into_iter().flat_map(move |pool| pool.behind(behind));
                    let seen = slots.filter(move |(_, slot)| slot.is_in(view));
                    seen.map(move |(_, slot)| (handle, &slot.entry))
                });
                fill_page(entries, max_bytes, size)
            }
        }
    }

    fn has_room(&self, elements_in_pool: usize) -> bool {
        self.len < self.max_elements && elements_in_pool < self.max_elements_per_pool
    }

    fn pool(&self, index: u32) -> Option<&Pool> {
        self.pools.get(index as usize)?.as_ref()
    }

    fn pool_mut(&mut self, index: u32) -> Option<&mut Pool> {
        self.pools.get_mut(index as usize)?.as_mut()
    }

    fn slot(&self, handle: &PoolHandle, id: PeId) -> Option<&pool::Slot> {
        let (index, slot) = self.find(handle, id)?;
        self.pool(index)?.slot(slot)
    }

    /// The version of an element has changed.
    fn redigest(&mut self, index: u32, slot: u32) {
        let Some(Some(pool)) = self.pools.get_mut(index as usize) else { return };
        let handle = pool.handle.clone();
        let Some(kept) = pool.slot_mut(slot) else { return };
        let digest = (self.digest)(&handle, &kept.entry.element, kept.entry.version);
        let before = std::mem::replace(&mut kept.digest, digest);
        self.owners.redigest(kept.entry.element.home, before, digest);
    }

    fn entry_mut(&mut self, index: u32, slot: u32) -> Option<&mut Entry> {
        Some(&mut self.pool_mut(index)?.slot_mut(slot)?.entry)
    }

    fn find(&self, handle: &PoolHandle, id: PeId) -> Option<(u32, u32)> {
        let index = *self.handles.get(handle)?;
        Some((index, self.pool(index)?.slot_of(id)?))
    }

    fn add_pool(&mut self, handle: &PoolHandle, traits: PoolTraits) -> u32 {
        let index = self.free_pools.pop().unwrap_or(self.pools.len() as u32);
        let pool = Some(Pool::new(handle.clone(), traits));
        match self.pools.get_mut(index as usize) {
            Some(place) => *place = pool,
            None => self.pools.push(pool),
        }
        self.handles.insert(handle.clone(), index);
        index
    }

    fn add_element(&mut self, index: u32, entry: Entry) {
        if let Some(pool) = self.pool_mut(index) {
            let slot = pool.reserve(entry.element.id);
            self.len += 1;
            self.put(index, slot, entry);
        }
    }

    /// Fills a reserved slot, and enters it where it is counted.
    fn put(&mut self, index: u32, slot: u32, entry: Entry) {
        let expires = entry.expires;
        if let Some(Some(pool)) = self.pools.get_mut(index as usize) {
            let digest = (self.digest)(&pool.handle, &entry.element, entry.version);
            let rsplib_holds = (self.rsplib_holds)(&pool.handle, &entry.element);
            let (home, id) = (entry.element.home, entry.element.id);
            let sweep = self.owners.join(home, &pool.handle, id, digest, rsplib_holds);
            pool.fill(slot, pool::Slot { entry, sweep, digest, rsplib_holds });
        }
        self.reschedule(index, slot, None, expires);
    }

    /// Empties a slot, which stays reserved, and strikes it off where it was counted.
    fn take(&mut self, index: u32, slot: u32) -> Option<Entry> {
        let pool = self.pools.get_mut(index as usize)?.as_mut()?;
        let pool::Slot { entry, digest, rsplib_holds, .. } = pool.empty(slot)?;
        self.owners.leave(entry.element.home, &pool.handle, entry.element.id, digest, rsplib_holds);
        self.reschedule(index, slot, entry.expires, None);
        Some(entry)
    }

    fn reschedule(&mut self, index: u32, slot: u32, before: Option<Time>, after: Option<Time>) {
        if before == after {
            return;
        }
        if let Some(at) = before {
            self.expiries.remove(&(at, index, slot));
        }
        if let Some(at) = after {
            self.expiries.insert((at, index, slot));
        }
    }
}

fn fill_page<'a>(
    entries: impl Iterator<Item = (&'a PoolHandle, &'a Entry)>,
    max_bytes: usize,
    size: impl Fn(&PoolHandle, &Entry, bool) -> usize,
) -> (Vec<(&'a PoolHandle, &'a Entry)>, bool) {
    let mut page: Vec<(&PoolHandle, &Entry)> = Vec::new();
    let mut bytes = 0usize;
    for (handle, entry) in entries {
        let starts_pool = page.last().is_none_or(|(last, _)| *last != handle);
        bytes = bytes.saturating_add(size(handle, entry, starts_pool));
        if bytes > max_bytes && !page.is_empty() {
            return (page, true);
        }
        page.push((handle, entry));
    }
    (page, false)
}

/// What [`Handlespace::note`] lets its caller change.
#[derive(Debug)]
pub struct Note<'a> {
    /// Who registered it.
    pub registrant: &'a mut Option<Registrant>,
    /// When its registration runs out.
    pub expires: &'a mut Option<Time>,
    /// Reports against it.
    pub bad_reports: &'a mut u32,
    /// Its version.
    pub version: &'a mut u64,
}

#[cfg(test)]
mod tests;
