//! The handle cache (RFC 5352 3.3 C1-C4): what registrars told about pools, and in what order it is handed out.
//!
//! An answer is handed out the first time in the registrar's order. Every later use gets the elements in the order
//! in which the pool's policy selects them next, so that sessions of one process spread over a pool although they
//! share one answer (RFC 5356 has the user select among what it knows).
//!
//! It asks nobody: whether an entry is fresh enough is the question's to say.

use super::{Query, Resolution};
use crate::policy::{Policy, Selector};
use crate::types::{PeId, PoolElement, PoolHandle, Rng, Time};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

#[derive(Debug)]
struct Entry {
    resolution: Resolution,
    /// How many elements had been asked for; none: all.
    asked: Option<u32>,
    /// The elements in selection order, from the second use on.
    selector: Option<Selector>,
    /// How many elements the first use got; none: not used yet.
    first_use: Option<usize>,
    stamp: u64,
}

/// The cache.
#[derive(Debug)]
pub(super) struct Cache {
    entries: BTreeMap<PoolHandle, Entry>,
    /// Longest unused first.
    by_use: BTreeSet<(u64, PoolHandle)>,
    next_stamp: u64,
    limit: usize,
}

impl Cache {
    pub(super) fn new(limit: usize) -> Cache {
        Cache { entries: BTreeMap::new(), by_use: BTreeSet::new(), next_stamp: 0, limit: limit.max(1) }
    }

    /// Keeps what was told; the entry longest unused makes room.
    pub(super) fn insert(&mut self, resolution: Resolution, asked: Option<u32>) {
        let handle = resolution.handle.clone();
        self.remove(&handle);
        while self.entries.len() >= self.limit
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            self.entries.remove(&oldest);
        }
        let stamp = self.stamp();
        self.by_use.insert((stamp, handle.clone()));
        self.entries.insert(handle, Entry { resolution, asked, selector: None, first_use: None, stamp });
    }

    pub(super) fn remove(&mut self, handle: &PoolHandle) {
        if let Some(entry) = self.entries.remove(handle) {
            self.by_use.remove(&(entry.stamp, handle.clone()));
        }
    }

    /// Takes out an element that was found dead; the entry goes with its last element.
    pub(super) fn remove_element(&mut self, handle: &PoolHandle, id: PeId) {
        let Some(entry) = self.entries.get_mut(handle) else { return };
        entry.resolution.elements.retain(|e| e.id != id);
        entry.selector = None;
        if entry.resolution.elements.is_empty() {
            self.remove(handle);
        }
    }

    pub(super) fn peek(&self, handle: &PoolHandle) -> Option<&Resolution> {
        self.entries.get(handle).map(|entry| &entry.resolution)
    }

    /// The answer to a query, if the entry is young enough and holds enough.
    pub(super) fn answer(&mut self, now: Time, query: &Query, rng: &mut Rng) -> Option<Resolution> {
        let entry = self.entries.get(&query.handle)?;
        let complete = entry.asked.is_none_or(|asked| entry.resolution.elements.len() < asked as usize);
        let enough = complete || query.items.is_some_and(|wanted| entry.asked.is_some_and(|a| a >= wanted));
        if query.max_age.is_zero() || now.since(entry.resolution.at) > query.max_age || !enough {
            return None;
        }
        self.draw(&query.handle, query.items, rng)
    }

    /// Hands out up to `items` elements of an entry.
    pub(super) fn draw(
        &mut self,
        handle: &PoolHandle,
        items: Option<u32>,
        rng: &mut Rng,
    ) -> Option<Resolution> {
        let stamp = self.stamp();
        let entry = self.entries.get_mut(handle)?;
        self.by_use.remove(&(entry.stamp, handle.clone()));
        self.by_use.insert((stamp, handle.clone()));
        entry.stamp = stamp;
        let count = entry.resolution.elements.len();
        let items = items.map_or(count, |items| count.min(items as usize));
        let mut drawn = entry.resolution.clone();
        match entry.first_use {
            None => {
                entry.first_use = Some(items);
                drawn.elements.truncate(items);
            }
            Some(first) => {
                let mut slots = Vec::new();
                let selector = entry.selector.get_or_insert_with(|| {
                    let mut selector = in_order(&entry.resolution.policy, &entry.resolution.elements);
                    selector.select(first, rng, &mut slots);
                    slots.clear();
                    selector
                });
                selector.select(items, rng, &mut slots);
                let told = &entry.resolution.elements;
                drawn.elements = slots.iter().filter_map(|slot| told.get(*slot as usize).cloned()).collect();
            }
        }
        Some(drawn)
    }

    /// The element whose user transport has this address.
    pub(super) fn element_at(&self, address: SocketAddr) -> Option<(PoolHandle, PeId)> {
        self.entries.iter().find_map(|(handle, entry)| {
            entry
                .resolution
                .elements
                .iter()
                .find(|e| e.user_transport.socket_addresses().any(|a| a == address))
                .map(|e| (handle.clone(), e.id))
        })
    }

    fn stamp(&mut self) -> u64 {
        self.next_stamp += 1;
        self.next_stamp
    }
}

/// The selector over elements as told. An element's own policy counts only as a bearer of the values of the pool's
/// policy (RFC 5352 2.2.6).
fn in_order(policy: &Policy, elements: &[PoolElement]) -> Selector {
    let mut selector = Selector::for_user(policy.policy_type());
    for (slot, element) in (0..).zip(elements) {
        let same = element.policy.policy_type() == policy.policy_type();
        selector.set(slot, if same { &element.policy } else { policy });
    }
    selector
}
