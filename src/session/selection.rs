//! Whom to turn to next: the elements of a pool in the order of its policy (RFC 5352 6.5.2, RFC 5356), the
//! order a business card asks for (RFC 5352 3.9 BC2), and what was found out about them by trying.
//!
//! Opens nothing and reports nothing.

use crate::endpoint::Resolution;
use crate::machine::{Destination, LinkFailure, LinkKind, Protocol};
use crate::policy::{PolicyType, Selector};
use crate::types::{Addresses, Capabilities, PeId, PoolElement, Rng, TransportAddress, TransportUse};
use std::collections::BTreeMap;

/// Whether a failure is a sign that the element itself cannot be reached, and so to be reported.
pub(super) fn tells_unreachable(why: LinkFailure) -> bool {
    match why {
        LinkFailure::Refused
        | LinkFailure::Unreachable
        | LinkFailure::TimedOut
        | LinkFailure::Reset
        | LinkFailure::Closed => true,
        LinkFailure::Garbled | LinkFailure::Congested | LinkFailure::NoResources | LinkFailure::Present => {
            false
        }
    }
}

/// How an element's user transport is reached, none if sessions have no such transport.
pub(super) fn destination(element: &PoolElement) -> Option<Destination> {
    let ours = element.capabilities.unwrap_or_default();
    let (kind, protocol, port, addresses) = match &element.user_transport {
        TransportAddress::Sctp { port, transport_use, addresses } => {
            let protocol = match transport_use {
                TransportUse::DataOnly => Protocol::Plain,
                TransportUse::DataPlusControl => Protocol::Session,
            };
            (LinkKind::Sctp, protocol, *port, addresses.clone())
        }
        TransportAddress::Tcp { port, address, .. } => {
            let protocol = if ours.contains(Capabilities::TCP_CONTROL_CHANNEL) {
                Protocol::Session
            } else {
                Protocol::Plain
            };
            (LinkKind::Tcp, protocol, *port, Addresses::from(*address))
        }
        TransportAddress::Udp { port, address } => {
            (LinkKind::Udp, Protocol::Plain, *port, Addresses::from(*address))
        }
        TransportAddress::Dccp { .. } | TransportAddress::UdpLite { .. } | TransportAddress::Opaque(_) => {
            return None;
        }
    };
    Some(Destination { kind, protocol, port, addresses })
}

/// What trying an element has shown.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// Its link was lost: last resort of this round. The number orders suspects, longest suspected first.
    Suspect(u64),
    /// It could not be reached: not again in this round.
    Failed,
}

/// The elements of one pool, as far as they can be reached.
#[derive(Debug)]
pub(super) struct Candidates {
    selector: Selector,
    policy: PolicyType,
    slots: Vec<Option<PoolElement>>,
    by_id: BTreeMap<PeId, u32>,
    card: Vec<PoolElement>,
    standing: BTreeMap<PeId, Standing>,
    suspicions: u64,
    rng: Rng,
}

impl Candidates {
    /// None yet.
    pub(super) fn new(seed: u64) -> Candidates {
        let policy = PolicyType::RoundRobin;
        Candidates {
            selector: Selector::for_user(policy),
            policy,
            slots: Vec::new(),
            by_id: BTreeMap::new(),
            card: Vec::new(),
            standing: BTreeMap::new(),
            suspicions: 0,
            rng: Rng::new(seed),
        }
    }

    /// A new round: this list, in its own order, and who could not be reached is tried again.
    pub(super) fn renew(&mut self, resolution: &Resolution) {
        self.update(resolution);
        self.standing.retain(|_, standing| *standing != Standing::Failed);
        self.slots.clear();
        self.by_id.clear();
        self.selector = Selector::for_user(self.policy);
        for element in &resolution.elements {
            self.insert(element, true);
        }
    }

    /// The list has changed: who stays keeps turn and standing, who moved elsewhere gets a new chance, who
    /// left is forgotten, on the card as well.
    pub(super) fn update(&mut self, resolution: &Resolution) {
        let listed: BTreeMap<PeId, &PoolElement> =
            resolution.elements.iter().map(|element| (element.id, element)).collect();
        let gone: Vec<PeId> = self.by_id.keys().copied().filter(|id| !listed.contains_key(id)).collect();
        for id in gone {
            self.forget(id);
        }
        let other_policy = self.policy != resolution.policy.policy_type();
        if other_policy {
            self.policy = resolution.policy.policy_type();
            self.selector = Selector::for_user(self.policy);
        }
        for element in &resolution.elements {
            self.insert(element, other_policy);
        }
    }

    /// The pool is gone.
    pub(super) fn clear(&mut self) {
        for id in self.by_id.keys().copied().collect::<Vec<_>>() {
            self.forget(id);
        }
    }

    fn forget(&mut self, id: PeId) {
        if let Some(slot) = self.by_id.remove(&id) {
            self.selector.remove(slot);
            if let Some(entry) = self.slots.get_mut(slot as usize) {
                *entry = None;
            }
        }
        self.standing.remove(&id);
        self.card.retain(|element| element.id != id);
    }

    fn insert(&mut self, element: &PoolElement, anew: bool) {
        if destination(element).is_none() {
            return self.forget(element.id);
        }
        let slot = match self.by_id.get(&element.id) {
            Some(&slot) => slot,
            None => match self.slots.iter().position(Option::is_none) {
                Some(free) => u32::try_from(free).unwrap_or(u32::MAX),
                None => {
                    self.slots.push(None);
                    u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
                }
            },
        };
        let Some(entry) = self.slots.get_mut(slot as usize) else { return };
        let known = entry.replace(element.clone());
        self.by_id.insert(element.id, slot);
        let moved = known.as_ref().is_some_and(|known| known.user_transport != element.user_transport);
        if moved {
            self.standing.remove(&element.id);
        }
        let out = self.standing.contains_key(&element.id);
        let same_values = known.as_ref().is_some_and(|known| known.policy == element.policy);
        let in_place = same_values && !moved && !anew;
        if !out && !in_place {
            self.selector.set(slot, &element.policy);
        }
    }

    /// Obeys a business card: its elements come first, in its order (BC2).
    pub(super) fn set_card(&mut self, elements: Vec<PoolElement>) {
        self.card = elements;
    }

    /// The next element by policy alone; none if nobody is left but suspects.
    pub(super) fn next_by_policy(&mut self) -> Option<PoolElement> {
        let mut picked = Vec::with_capacity(1);
        self.selector.select(1, &mut self.rng, &mut picked);
        self.slots.get(*picked.first()? as usize)?.clone()
    }

    /// The next element to try: by the card, then by policy, then the suspects; none: the round is over.
    pub(super) fn next(&mut self) -> Option<PoolElement> {
        if let Some(element) = self.next_on_card() {
            return Some(element.clone());
        }
        self.next_by_policy().or_else(|| self.suspects().next())
    }

    fn next_on_card(&self) -> Option<&PoolElement> {
        let listed = self
            .card
            .iter()
            .find(|element| !self.standing.contains_key(&element.id) && destination(element).is_some())?;
        // What the registrar tells of an element is more recent than what a card says.
        Some(self.element(listed.id).unwrap_or(listed))
    }

    /// The elements whose link was lost, the one suspected longest first.
    pub(super) fn suspects(&self) -> impl Iterator<Item = PoolElement> {
        let suspects = self.standing.iter().filter_map(|(id, standing)| match standing {
            Standing::Suspect(since) => Some((*since, *id)),
            Standing::Failed => None,
        });
        let mut suspects: Vec<(u64, PeId)> = suspects.collect();
        suspects.sort_unstable();
        suspects.into_iter().filter_map(|(_, id)| {
            self.element(id).or_else(|| self.card.iter().find(|element| element.id == id)).cloned()
        })
    }

    /// Whether somebody is left in this round of whom nothing bad is known.
    pub(super) fn any_unblemished(&self) -> bool {
        !self.selector.is_empty() || self.next_on_card().is_some()
    }

    /// The link to this element was lost.
    pub(super) fn suspect(&mut self, id: PeId) {
        self.suspicions += 1;
        self.mark(id, Standing::Suspect(self.suspicions));
    }

    /// Whether its link was lost, and nothing has absolved it since.
    pub(super) fn is_suspect(&self, id: PeId) -> bool {
        matches!(self.standing.get(&id), Some(Standing::Suspect(_)))
    }

    /// This element could not be reached.
    pub(super) fn fail(&mut self, id: PeId) {
        self.mark(id, Standing::Failed);
    }

    fn mark(&mut self, id: PeId, standing: Standing) {
        self.standing.insert(id, standing);
        if let Some(slot) = self.by_id.get(&id) {
            self.selector.remove(*slot);
        }
    }

    /// This element was reached; those that were not are suspects from now on, in the next round last.
    pub(super) fn reached(&mut self, id: PeId) {
        self.absolve(id);
        for standing in self.standing.values_mut() {
            if *standing == Standing::Failed {
                self.suspicions += 1;
                *standing = Standing::Suspect(self.suspicions);
            }
        }
    }

    /// A new round on the same list: who could not be reached is tried again.
    pub(super) fn try_again(&mut self) {
        let failed = self.standing.iter().filter(|(_, standing)| **standing == Standing::Failed);
        for id in failed.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.absolve(id);
        }
    }

    /// Nothing is held against this element any more.
    pub(super) fn absolve(&mut self, id: PeId) {
        if self.standing.remove(&id).is_none() {
            return;
        }
        let Some(slot) = self.by_id.get(&id).copied() else { return };
        if let Some(Some(element)) = self.slots.get(slot as usize) {
            self.selector.set(slot, &element.policy);
        }
    }

    /// An element of the list.
    pub(super) fn element(&self, id: PeId) -> Option<&PoolElement> {
        self.slots.get(*self.by_id.get(&id)? as usize)?.as_ref()
    }

    /// All elements of the list in order of identifier.
    pub(super) fn elements(&self) -> impl Iterator<Item = &PoolElement> {
        self.by_id.keys().filter_map(|id| self.element(*id))
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }
}
