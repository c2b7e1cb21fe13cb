//! Who owns which elements, their checksums (RFC 5353 3.6.2), digests and sweeps (3.6.3).
//!
//! A checksum is kept as the plain sum of the elements' 16-bit words and folded when asked for: adding and
//! subtracting are then exact, where a folded sum would no longer tell "nothing" (0xffff) from a sum that happens to
//! be a multiple of 0xffff (0).
//!
//! A mark is not set on each element: an owner's sweeps are numbered, an element bears the number of the sweep
//! in which it was last seen, and is marked when that is not its owner's present one.

use super::View;
use crate::types::{PeChecksum, PeId, PoolHandle, ServerId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

#[derive(Debug, Default)]
pub(super) struct Owners(BTreeMap<ServerId, Owner>);

#[derive(Debug, Default)]
struct Owner {
    count: usize,
    /// The sum of the words for each view. 2^32 elements of the longest handles fit.
    sums: [u64; View::ALL.len()],
    /// The sum of the elements' digests.
    digest: u64,
    sweep: u64,
    elements: BTreeMap<PoolHandle, BTreeSet<PeId>>,
}

impl Owners {
    /// Counts an element as its owner's; gives the owner's present sweep.
    pub(super) fn join(
        &mut self,
        owner: Option<ServerId>,
        handle: &PoolHandle,
        id: PeId,
        digest: u64,
        rsplib_holds: bool,
    ) -> u64 {
        let Some(id_of_owner) = owner else { return 0 };
        let owner = self.0.entry(id_of_owner).or_default();
        owner.count += 1;
        for (view, sum) in View::ALL.iter().zip(&mut owner.sums) {
            *sum += view.words(handle, id, rsplib_holds);
        }
        owner.digest = owner.digest.wrapping_add(digest);
        match owner.elements.get_mut(handle) {
            Some(ids) => {
                ids.insert(id);
            }
            None => {
                owner.elements.insert(handle.clone(), BTreeSet::from([id]));
            }
        }
        owner.sweep
    }

    /// Takes back what [`Owners::join`] did.
    pub(super) fn leave(
        &mut self,
        owner: Option<ServerId>,
        handle: &PoolHandle,
        id: PeId,
        digest: u64,
        rsplib_holds: bool,
    ) {
        let Some(id_of_owner) = owner else { return };
        let Some(owner) = self.0.get_mut(&id_of_owner) else { return };
        owner.count -= 1;
        for (view, sum) in View::ALL.iter().zip(&mut owner.sums) {
            *sum -= view.words(handle, id, rsplib_holds);
        }
        owner.digest = owner.digest.wrapping_sub(digest);
        if let Some(ids) = owner.elements.get_mut(handle) {
            ids.remove(&id);
            if ids.is_empty() {
                owner.elements.remove(handle);
            }
        }
        if owner.count == 0 {
            self.0.remove(&id_of_owner);
        }
    }

    /// An element of this owner has another digest.
    pub(super) fn redigest(&mut self, owner: Option<ServerId>, before: u64, after: u64) {
        if let Some(owner) = owner.and_then(|owner| self.0.get_mut(&owner)) {
            owner.digest = owner.digest.wrapping_sub(before).wrapping_add(after);
        }
    }

    pub(super) fn digest(&self, owner: ServerId) -> u64 {
        self.0.get(&owner).map_or(0, |owner| owner.digest)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = ServerId> {
        self.0.keys().copied()
    }

    /// The elements of an owner in order of (handle, identifier) behind `after`.
    pub(super) fn elements(
        &self,
        owner: ServerId,
        after: Option<(PoolHandle, PeId)>,
    ) -> impl Iterator<Item = (&PoolHandle, PeId)> {
        let start = after.as_ref().map_or(Bound::Unbounded, |(handle, _)| Bound::Included(handle));
        let pools =
            self.0.get(&owner).map(|owner| owner.elements.range::<PoolHandle, _>((start, Bound::Unbounded)));
        pools.into_iter().flatten().flat_map(move |(handle, ids)| {
            let behind = after.as_ref().filter(|(last, _)| last == handle).map(|(_, id)| *id);
            let start = behind.map_or(Bound::Unbounded, Bound::Excluded);
            ids.range((start, Bound::Unbounded)).map(move |id| (handle, *id))
        })
    }

    pub(super) fn count(&self, owner: ServerId) -> usize {
        self.0.get(&owner).map_or(0, |owner| owner.count)
    }

    pub(super) fn checksum(&self, owner: ServerId, view: View) -> PeChecksum {
        let mut sum = self.0.get(&owner).map_or(0, |owner| owner.sums[view as usize]);
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        PeChecksum(!(sum as u16))
    }

    pub(super) fn start_sweep(&mut self, owner: ServerId) {
        if let Some(owner) = self.0.get_mut(&owner) {
            owner.sweep += 1;
        }
    }

    pub(super) fn sweep(&self, owner: ServerId) -> u64 {
        self.0.get(&owner).map_or(0, |owner| owner.sweep)
    }
}

impl View {
    const ALL: [View; 2] = [View::Full, View::Rsplib];

    /// What an element adds to the sum in this view: the words of the handle, padded to an even length, and of the
    /// identifier.
    fn words(self, handle: &PoolHandle, id: PeId, rsplib_holds: bool) -> u64 {
        match self {
            View::Rsplib if !rsplib_holds => 0,
            View::Full | View::Rsplib => {
                let word =
                    |pair: &[u8]| u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
                let of_handle: u64 = handle.as_bytes().chunks(2).map(word).sum();
                of_handle + u64::from(id.0 >> 16) + u64::from(id.0 & 0xffff)
            }
        }
    }
}
