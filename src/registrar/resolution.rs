//! Answers to users (RFC 5352 3.3), and pool changes told to those who asked for them (2.2.5, S bit).
//!
//! Changes are not told one by one: the first marks its pool, and a moment later every subscriber gets the pool as it
//! is then, at most so many in one go. So a burst costs one message a subscriber, and a large pool with many
//! subscribers never floods the links.
//!
//! DEPARTS RFC 5352 3.3: a response lists not all elements of the pool but as many as were asked for, as one message
//! holds, and as the asker can reach.

use super::clients::Client;
use super::{Registrar, Wake};
use crate::handlespace::Entry;
use crate::machine::{Effect, LinkId};
use crate::types::{Addresses, CauseCode, ErrorCause, PoolElement, PoolHandle, Time, TransportAddress};
use crate::wire::{self, AsapMessage, Dialect};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Duration;

/// How long changes of a pool are gathered before they are told.
const PUSH_INTERVAL: Duration = Duration::from_millis(10);
/// Responses pushed in one such interval, and their bytes, which take time to make: a large pool that always changes must
/// leave some for everybody else.
const PUSHES_PER_INTERVAL: usize = 1_000;
const PUSHED_BYTES_PER_INTERVAL: usize = 1 << 20;
const LONGEST_MESSAGE: usize = 65_535;

/// Who is told of which pool's changes.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    /// By pool and link, with the number of elements asked for.
    pools: BTreeMap<PoolHandle, BTreeMap<LinkId, Option<u32>>>,
    /// Pools that changed since they were last told.
    changed: BTreeSet<PoolHandle>,
    /// What is still to be told.
    queue: BTreeSet<(PoolHandle, LinkId)>,
    /// Told last: the queue is gone through in turns, so that a busy pool does not hold up the others.
    told: Option<(PoolHandle, LinkId)>,
}

impl Subscriptions {
    fn add(&mut self, handle: &PoolHandle, link: LinkId, items: Option<u32>) {
        self.pools.entry(handle.clone()).or_default().insert(link, items);
    }

    fn remove(&mut self, handle: &PoolHandle, link: LinkId) {
        if let Some(links) = self.pools.get_mut(handle) {
            links.remove(&link);
            if links.is_empty() {
                self.pools.remove(handle);
                self.changed.remove(handle);
            }
        }
        self.queue.remove(&(handle.clone(), link));
    }

    pub(super) fn forget_link(&mut self, link: LinkId, client: &Client) {
        for handle in &client.subscriptions {
            self.remove(handle, link);
        }
    }

    /// The next one to be told, with the number of elements it asked for.
    fn next(&mut self) -> Option<(PoolHandle, LinkId, Option<u32>)> {
        let after = self.told.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.queue.range((after, Bound::Unbounded)).next().or_else(|| self.queue.first())?.clone();
        self.queue.remove(&next);
        self.told = Some(next.clone());
        let (handle, link) = next;
        let items = self.pools.get(&handle)?.get(&link).copied()?;
        Some((handle, link, items))
    }
}

impl Registrar {
    pub(super) fn on_handle_resolution(
        &mut self,
        link: LinkId,
        handle: PoolHandle,
        items: Option<u32>,
        subscribe: bool,
    ) {
        self.out.counters.resolutions += 1;
        let room = self.clients.find(link).is_some_and(|client| {
            client.subscriptions.contains(&handle)
                || client.subscriptions.len() < self.limits.subscriptions_per_link
        });
        if subscribe && !room {
            self.out.counters.subscriptions_refused += 1;
        }
        // The latest request counts: S = 0 asks for no updates, and ends those asked for before.
        let accepted = self.answer(link, &handle, items, subscribe && room) && subscribe && room;
        if !accepted {
            self.unsubscribe(link, &handle);
        } else if let Some(client) = self.clients.find_mut(link) {
            client.subscriptions.insert(handle.clone());
            self.subscriptions.add(&handle, link, items);
        }
    }

    /// Something users can see of this pool has changed.
    pub(super) fn on_pool_changed(&mut self, now: Time, handle: &PoolHandle) {
        if self.subscriptions.pools.contains_key(handle) {
            self.subscriptions.changed.insert(handle.clone());
            self.push_later(now);
        }
    }

    pub(super) fn push_changes(&mut self, now: Time) {
        for handle in std::mem::take(&mut self.subscriptions.changed) {
            let links = self.subscriptions.pools.get(&handle).into_iter().flat_map(BTreeMap::keys);
            self.subscriptions.queue.extend(links.map(|link| (handle.clone(), *link)));
        }
        let mut bytes = 0usize;
        for _ in 0..PUSHES_PER_INTERVAL {
            if bytes >= PUSHED_BYTES_PER_INTERVAL {
                break;
            }
            let Some((handle, link, items)) = self.subscriptions.next() else { break };
            self.out.counters.updates_pushed += 1;
            // The pool is gone: its subscribers are told, and hear no more of it (RFC 5352 2.2.5).
            if !self.answer(link, &handle, items, true) {
                self.unsubscribe(link, &handle);
            }
            if let Some(Effect::Send { bytes: pushed, .. }) = self.out.effects.back() {
                bytes = bytes.saturating_add(pushed.len());
            }
        }
        if !self.subscriptions.queue.is_empty() {
            self.push_later(now);
        }
    }

    fn push_later(&mut self, now: Time) {
        if self.timers.deadline(&Wake::PushChanges).is_none() {
            self.timers.set(Wake::PushChanges, now + PUSH_INTERVAL);
        }
    }

    fn unsubscribe(&mut self, link: LinkId, handle: &PoolHandle) {
        if let Some(client) = self.clients.find_mut(link)
            && client.subscriptions.remove(handle)
        {
            self.subscriptions.remove(handle, link);
        }
    }

    /// Sends the pool to a client, or that there is none; says whether there was one.
    fn answer(
        &mut self,
        link: LinkId,
        handle: &PoolHandle,
        items: Option<u32>,
        accept_updates: bool,
    ) -> bool {
        let Some(client) = self.clients.find(link) else { return false };
        let (on_loopback, ours, dialect) = (client.is_loopback(), client.ours, client.dialect);
        let items = match items {
            None | Some(0) => self.config.resolution_items,
            Some(items) => items,
        };
        let items = self.items_that_fit(handle, items, dialect).min(dialect.most_items());
        let eligible = |entry: &Entry| {
            (on_loopback || is_reachable_from_elsewhere(entry)) && dialect.resolves(&entry.element)
        };
        let selection = self.handlespace.select(handle, items, &mut self.rng, eligible);
        let (policy, elements) = match selection {
            Some(selection) => {
                let told = |entry: &&Entry| {
                    told_element(entry, on_loopback, ours).map(|element| dialect.fitted(element))
                };
                (Some(selection.policy), selection.entries.iter().filter_map(told).collect())
            }
            None => (None, Vec::new()),
        };
        // RFC 5352 2.2.6: a positive response has at least one element. To a client that can reach none of them the
        // pool is as good as unknown.
        if elements.is_empty() {
            self.out.counters.unknown_pools += 1;
            let error = Some(vec![ErrorCause::bare(CauseCode::UnknownPoolHandle)]);
            let handle = handle.clone();
            self.send(
                link,
                &AsapMessage::HandleResolutionResponse {
                    accept_updates: false,
                    handle,
                    policy: None,
                    elements,
                    error,
                },
            );
            return false;
        }
        let response = |elements| AsapMessage::HandleResolutionResponse {
            accept_updates,
            handle: handle.clone(),
            // Not needed for round robin, but then nobody has to guess.
            policy,
            elements,
            error: None,
        };
        let message = response(elements);
        if !self.send(link, &message)
            && let AsapMessage::HandleResolutionResponse { elements, .. } = message
        {
            let elements = leading_that_fit(elements, room_for_elements(handle), dialect);
            self.send(link, &response(elements));
        }
        true
    }

    /// How many elements of the pool to select, given how many are wanted (0: all): no more than one message holds, or
    /// elements would count as selected that nobody is told of. Measured by the pool's first element, since those
    /// of one pool hardly differ in size; what then is too much is cut off.
    fn items_that_fit(&self, handle: &PoolHandle, wanted: u32, dialect: Dialect) -> usize {
        const NEVER_TOO_MANY: usize = 32;
        let wanted = if wanted == 0 { usize::MAX } else { usize::try_from(wanted).unwrap_or(usize::MAX) };
        if wanted <= NEVER_TOO_MANY {
            return wanted;
        }
        let size = self
            .handlespace
            .elements(handle)
            .next()
            .and_then(|entry| told_element(entry, true, true))
            .and_then(|element| wire::encode_element(&element, dialect).ok())
            .map_or(1, |bytes| bytes.len().max(1));
        wanted.min((room_for_elements(handle) / size).max(NEVER_TOO_MANY))
    }
}

/// Bytes for elements in a resolution response: less its header, the handle (padded), and the longest policy.
fn room_for_elements(handle: &PoolHandle) -> usize {
    LONGEST_MESSAGE.saturating_sub(4 + 4 + handle.as_bytes().len() + 3 + 20)
}

fn leading_that_fit(elements: Vec<PoolElement>, mut room: usize, dialect: Dialect) -> Vec<PoolElement> {
    let fits = |element: &PoolElement| {
        let size = wire::encode_element(element, dialect).map_or(usize::MAX, |bytes| bytes.len());
        let rest = room.checked_sub(size);
        room = rest.unwrap_or(0);
        rest.is_some()
    };
    elements.into_iter().take_while(fits).collect()
}

/// Design: loopback addresses are answered to loopback clients only; elsewhere they mean another machine.
fn is_reachable_from_elsewhere(entry: &Entry) -> bool {
    let addresses = entry.element.user_transport.addresses();
    addresses.is_empty() || !addresses.iter().all(IpAddr::is_loopback)
}

/// An element as a client is told of it: where its ASAP endpoint is, is no user's business.
fn told_element(entry: &Entry, on_loopback: bool, ours: bool) -> Option<PoolElement> {
    let element = &entry.element;
    let user_transport = match &element.user_transport {
        TransportAddress::Sctp { port, transport_use, addresses } if !on_loopback => {
            let kept = addresses.as_slice().iter().filter(|a| !a.is_loopback()).copied().collect();
            TransportAddress::Sctp {
                port: *port,
                transport_use: *transport_use,
                addresses: Addresses::new(kept)?,
            }
        }
        transport @ (TransportAddress::Sctp { .. }
        | TransportAddress::Dccp { .. }
        | TransportAddress::Tcp { .. }
        | TransportAddress::Udp { .. }
        | TransportAddress::UdpLite { .. }
        | TransportAddress::Opaque(_)) => transport.clone(),
    };
    Some(PoolElement {
        id: element.id,
        home: element.home,
        life: element.life,
        user_transport,
        policy: element.policy,
        asap_transport: None,
        capabilities: element.capabilities.filter(|_| ours),
    })
}
