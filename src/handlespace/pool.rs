//! One pool: its elements in slots, by identifier, and in selection order.

use super::{Entry, Misfit, PoolTraits, View};
use crate::policy::Selector;
use crate::types::{PeId, PoolElement, PoolHandle, Rng};
use std::collections::BTreeMap;
use std::ops::Bound;

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) handle: PoolHandle,
    pub(super) traits: PoolTraits,
    ids: BTreeMap<PeId, u32>,
    /// Boxed, so that the room a vector keeps in reserve is small.
    slots: Vec<Option<Box<Slot>>>,
    free: Vec<u32>,
    selector: Selector,
}

/// An element with what only the handlespace knows about it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) entry: Entry,
    /// The number of its owner's sweep in which it was last seen (see `owner`).
    pub(super) sweep: u64,
    /// What it adds to its owner's digest.
    pub(super) digest: u64,
    /// Whether it belongs to [`View::Rsplib`].
    pub(super) rsplib_holds: bool,
}

impl Slot {
    pub(super) fn is_in(&self, view: View) -> bool {
        match view {
            View::Full => true,
            View::Rsplib => self.rsplib_holds,
        }
    }
}

impl Pool {
    pub(super) fn new(handle: PoolHandle, traits: PoolTraits) -> Pool {
        let selector = Selector::new(traits.policy_type);
        Pool { handle, traits, ids: BTreeMap::new(), slots: Vec::new(), free: Vec::new(), selector }
    }

    /// Elements, or slots reserved for them.
    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether the element is as the pool demands. Its peers' example is that of lowest identifier.
    pub(super) fn check(&self, element: &PoolElement) -> Result<(), Misfit> {
        let Some((_, Slot { entry: Entry { element: example, .. }, .. })) = self.behind(None).next() else {
            return Ok(());
        };
        let PoolTraits { policy_type, transport, transport_use } = PoolTraits::of(element);
        if policy_type != self.traits.policy_type {
            Err(Misfit::Policy(example.policy))
        } else if transport != self.traits.transport {
            Err(Misfit::Transport(example.user_transport.clone()))
        } else if transport_use != self.traits.transport_use {
            Err(Misfit::TransportUse)
        } else {
            Ok(())
        }
    }

    pub(super) fn slot_of(&self, id: PeId) -> Option<u32> {
        self.ids.get(&id).copied()
    }

    pub(super) fn slot(&self, slot: u32) -> Option<&Slot> {
        self.slots.get(slot as usize)?.as_deref()
    }

    pub(super) fn slot_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.slots.get_mut(slot as usize)?.as_deref_mut()
    }

    /// The elements with identifiers behind this one, in their order.
    pub(super) fn behind(&self, id: Option<PeId>) -> impl Iterator<Item = (PeId, &Slot)> {
        let start = id.map_or(Bound::Unbounded, Bound::Excluded);
        let ids = self.ids.range((start, Bound::Unbounded));
        ids.filter_map(|(id, slot)| Some((*id, self.slot(*slot)?)))
    }

    /// A slot for an element that has none.
    pub(super) fn reserve(&mut self, id: PeId) -> u32 {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            (self.slots.len() - 1) as u32
        });
        self.ids.insert(id, slot);
        slot
    }

    /// Gives up the emptied slot of an element.
    pub(super) fn release(&mut self, id: PeId, slot: u32) {
        self.ids.remove(&id);
        self.selector.remove(slot);
        self.free.push(slot);
    }

    /// Fills a reserved slot.
    pub(super) fn fill(&mut self, slot: u32, filled: Slot) {
        self.selector.set(slot, &filled.entry.element.policy);
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = Some(Box::new(filled));
        }
    }

    /// Empties a slot; until it is filled again or released the selector remembers its element's turn.
    pub(super) fn empty(&mut self, slot: u32) -> Option<Slot> {
        Some(*self.slots.get_mut(slot as usize)?.take()?)
    }

    pub(super) fn select(
        &mut self,
        items: usize,
        rng: &mut Rng,
        eligible: impl Fn(&Entry) -> bool,
        out: &mut Vec<u32>,
    ) {
        let slots = &self.slots;
        let eligible = |slot: u32| matches!(slots.get(slot as usize), Some(Some(it)) if eligible(&it.entry));
        self.selector.select_among(items, rng, eligible, out);
    }
}
