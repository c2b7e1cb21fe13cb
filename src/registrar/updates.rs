//! Changes of elements told among registrars (RFC 5353 3.3), and which of two claims about an element holds.
//!
//! Each change its home makes to an element bears a version, one higher than any that registrar has seen (a Lamport
//! clock; docs/enrp-extensions.md section 3). Of two claims the one with the higher version holds, of equal ones that of the
//! higher home. So whatever the order in which changes arrive, all registrars end with the same.
//!
//! DEPARTS RFC 5353 3.3.2: a removal that is older than what is held, or of a registrar that is not the element's home while
//! its home lives, is ignored: the element has moved meanwhile.

use super::peers::{Addressee, PeerState};
use super::{ElementKey, Registrar};
use crate::handlespace::{Entry, Inserted};
use crate::types::{PoolElement, PoolHandle, ServerId, Time};
use crate::wire::{self, Dialect, EnrpMessage, UpdateAction, Versioned};
use std::collections::BTreeMap;

/// What became of a claim.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Claim {
    /// It holds; what is kept is as it says.
    Held,
    /// Something newer is known.
    Stale,
    /// The element does not fit in, or is beyond the limits.
    Refused,
}

/// Telling.
impl Registrar {
    /// An element of this registrar has changed: gives it the next version and tells every peer.
    pub(super) fn tell_changed(&mut self, key: &ElementKey) {
        let version = self.next_version();
        self.handlespace.note(&key.0, key.1, |note| *note.version = version);
        self.tell_entry(key, |_| true);
    }

    /// An element has registered again as it was. RFC 5353 3.3.1 has all peers told; to ours it is nothing new, for an
    /// element's life is its home's to watch.
    pub(super) fn tell_unchanged(&mut self, key: &ElementKey) {
        self.tell_entry(key, |addressee| !addressee.is_ours());
    }

    /// An element is taken out.
    pub(super) fn tell_removed(&mut self, handle: &PoolHandle, element: PoolElement) {
        let version = self.next_version();
        let element = PoolElement { home: Some(self.id), ..element };
        self.tell_update(UpdateAction::DelPe, handle, &element, version, |_| true);
    }

    fn tell_entry(&mut self, key: &ElementKey, whom: impl Fn(Addressee) -> bool) {
        let Some(entry) = self.handlespace.entry(&key.0, key.1) else { return };
        let (element, version) = (entry.element.clone(), entry.version);
        self.tell_update(UpdateAction::AddPe, &key.0, &element, version, whom);
    }

    /// Tells those peers that are `whom` and can hold the element. Not those that have shown no dialect: in which unit its
    /// life is to be told them is not known, and when they have shown it their audit finds what they miss.
    fn tell_update(
        &mut self,
        action: UpdateAction,
        handle: &PoolHandle,
        element: &PoolElement,
        version: u64,
        whom: impl Fn(Addressee) -> bool,
    ) {
        let mut encoded: BTreeMap<Addressee, Option<Vec<u8>>> = BTreeMap::new();
        for (link, addressee) in self.links_to_peers() {
            if !whom(addressee) || addressee == Addressee::Other(Dialect::Unknown) {
                continue;
            }
            let encode = || {
                let dialect = addressee.dialect();
                let update = EnrpMessage::HandleUpdate {
                    takeover_suggested: false,
                    header: self.header_for(None),
                    action,
                    handle: handle.clone(),
                    element: versioned(element.clone(), version, addressee),
                };
                dialect.holds(handle, element).then(|| update.encode(dialect).ok()).flatten()
            };
            let Some(bytes) = encoded.entry(addressee).or_insert_with(encode).clone() else { continue };
            self.out.counters.updates_told += 1;
            self.send_encoded(link, bytes);
        }
    }

    /// A version higher than any seen.
    pub(super) fn next_version(&mut self) -> u64 {
        self.latest_version = self.latest_version.saturating_add(1);
        self.latest_version
    }
}

/// Being told.
impl Registrar {
    pub(super) fn on_add(&mut self, now: Time, from: ServerId, handle: &PoolHandle, told: Versioned) {
        // Who tells of a change is the element's home (RFC 5353 3.3.1).
        if told.element.home.is_some_and(|home| home != from) {
            self.out.reject("an update from a registrar that is not the element's home");
            return;
        }
        let element = PoolElement { home: Some(from), ..told.element };
        self.out.counters.updates_heard += 1;
        self.take_in(now, handle, Versioned { element, ..told }, false);
    }

    pub(super) fn on_del(&mut self, now: Time, from: ServerId, handle: &PoolHandle, told: Versioned) {
        self.out.counters.updates_heard += 1;
        self.see_version(told.version);
        let Some(entry) = self.handlespace.entry(handle, told.element.id) else { return };
        let key: ElementKey = (handle.clone(), told.element.id);
        let (home, version) = (entry.element.home, entry.version);
        let holds = match told.version {
            Some(told) if home == Some(from) => told >= version,
            // Who lives knows better whether it has the element: another's removal, whatever its version, may have crossed the
            // element's move there.
            Some(told) => told > version && home.is_some_and(|home| home != self.id && !self.is_alive(home)),
            None => home == Some(from),
        };
        if !holds {
            self.out.counters.updates_stale += 1;
            // It is registered here: who had heard of the removal first hears the newer claim.
            if told.version.is_some_and(|told| told > version) && self.is_registered_here(entry) {
                self.tell_changed(&key);
            }
        } else if !self.reclaim(now, &key) {
            self.take_out(now, &key);
        }
    }

    /// A claim about an element, from its home's update or a table: keeps it if it holds. The element names its home.
    ///
    /// The table of what a registrar owns is `current`, and holds against whatever else is said to be its home's: a
    /// registrar that has started again, or has taken over what it had missed changes of, gives lower versions.
    pub(super) fn take_in(
        &mut self,
        now: Time,
        handle: &PoolHandle,
        told: Versioned,
        current: bool,
    ) -> Claim {
        let Versioned { element, version } = told;
        let Some(home) = element.home else { return Claim::Refused };
        self.see_version(version);
        let key: ElementKey = (handle.clone(), element.id);
        self.forget_inherited(&key, Some(home));
        let held = self.handlespace.entry(handle, element.id);
        if let Some(held) = held {
            let known_as_its = held.element.home == Some(home);
            let late =
                version.is_some_and(|version| (version, Some(home)) < (held.version, held.element.home));
            if late && !(current && known_as_its) {
                if known_as_its {
                    self.handlespace.unmark(handle, key.1);
                }
                self.out.counters.updates_stale += 1;
                return Claim::Stale;
            }
            // It is registered here, and the claim is on behalf of a registrar that may have died long ago.
            if self.is_registered_here(held) && home != self.id && !self.is_alive(home) {
                self.tell_changed(&key);
                self.out.counters.updates_stale += 1;
                return Claim::Stale;
            }
        }
        let version = version.or(held.map(|held| held.version)).unwrap_or_default();
        let size = wire::encode_element(&element, Dialect::Unknown).map_or(usize::MAX, |bytes| bytes.len());
        let fits = size <= self.limits.element_bytes && handle.as_bytes().len() <= self.limits.handle_bytes;
        if !fits || !self.has_home(now, home) {
            self.out.counters.updates_refused += 1;
            return Claim::Refused;
        }
        match self.handlespace.learn(handle, element, version) {
            Ok(Inserted::NewPool | Inserted::NewElement) => self.on_pool_changed(now, handle),
            Ok(Inserted::Replaced { previous_home, changed }) => {
                if previous_home == Some(self.id) && home != self.id {
                    self.let_go(&key);
                }
                if changed {
                    self.on_pool_changed(now, handle);
                }
                self.forget_inherited(&key, previous_home);
            }
            Err(_) => {
                self.out.counters.updates_refused += 1;
                return Claim::Refused;
            }
        }
        Claim::Held
    }

    pub(super) fn is_registered_here(&self, entry: &Entry) -> bool {
        entry.element.home == Some(self.id)
            && entry.registrant.as_ref().is_some_and(|registrant| registrant.link.is_some())
    }

    fn is_alive(&self, server: ServerId) -> bool {
        self.peers.state(server) == Some(PeerState::Alive)
    }

    /// Every element's home is this registrar or in the list of peers, where its silence is noticed.
    fn has_home(&mut self, now: Time, home: ServerId) -> bool {
        home == self.id || self.name_peer(now, home)
    }

    fn see_version(&mut self, version: Option<u64>) {
        self.latest_version = self.latest_version.max(version.unwrap_or_default());
    }
}

/// An element as a peer is told it.
pub(super) fn versioned(element: PoolElement, version: u64, addressee: Addressee) -> Versioned {
    let element = addressee.dialect().fitted(element);
    let capabilities = element.capabilities.filter(|_| addressee.is_ours());
    let version = addressee.is_ours().then_some(version);
    Versioned { element: PoolElement { capabilities, ..element }, version }
}
