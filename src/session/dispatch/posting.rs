//! Whom a message goes to (RFC 5352 6.5.1, 6.5.3, 6.5.5): the pools known, messages that wait for a resolution, the choice for each
//! message, also after elements have failed with it. The links are `lane`'s.

use super::{Dispatch, Event, LaneState};
use crate::machine::{Channel, Effect};
use crate::session::SendRefused;
use crate::session::outbox::{Outbox, UserMessage};
use crate::session::selection::Candidates;
use crate::types::{PeId, PoolElement, PoolHandle, Time};
use std::collections::BTreeSet;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Pool {
    pub(super) candidates: Candidates,
    /// When the list held was told.
    pub(super) told: Option<Time>,
    pub(super) resolving: bool,
    /// Messages that wait for the resolution.
    pub(super) waiting: Outbox<Posted>,
    /// Where the previous message went.
    pub(super) last: Option<PeId>,
    /// The cookie of an element whose messages are moving to another.
    pub(super) cookie: Option<Vec<u8>>,
    pub(super) used: u64,
}

/// For whom a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Target {
    Any,
    Last,
    Element(PeId),
    All { to_self: bool },
}

/// A message, and what became of it so far.
#[derive(Clone, Debug)]
pub(super) struct Posted {
    pub(super) message: UserMessage,
    pub(super) target: Target,
    /// Elements that failed with it, in order.
    pub(super) tried: Vec<PeId>,
    /// The pool has been resolved anew for it.
    pub(super) refreshed: bool,
}

impl AsRef<UserMessage> for Posted {
    fn as_ref(&self) -> &UserMessage {
        &self.message
    }
}

impl Pool {
    pub(super) fn new(seed: u64) -> Pool {
        Pool {
            candidates: Candidates::new(seed),
            told: None,
            resolving: false,
            waiting: Outbox::default(),
            last: None,
            cookie: None,
            used: 0,
        }
    }
}

impl Dispatch {
    /// Pools are remembered up to [`Limits::cache_entries`]; the one not used for the longest time gives way, if
    /// nothing is under way there.
    pub(super) fn make_room_for_pool(&mut self, handle: &PoolHandle) -> Result<(), SendRefused> {
        if self.pools.contains_key(handle) || self.pools.len() < self.limits.cache_entries.max(1) {
            return Ok(());
        }
        let in_use: BTreeSet<&PoolHandle> = self.lanes.values().map(|lane| &lane.handle).collect();
        let idle = self
            .pools
            .iter()
            .filter(|(handle, pool)| !pool.resolving && pool.waiting.is_empty() && !in_use.contains(handle));
        let oldest = idle.min_by_key(|(_, pool)| pool.used).map(|(handle, _)| handle.clone());
        self.pools.remove(&oldest.ok_or(SendRefused::Full)?);
        Ok(())
    }

    pub(super) fn ask(&mut self, handle: &PoolHandle, max_age: Duration) {
        if let Some(pool) = self.pools.get_mut(handle)
            && !std::mem::replace(&mut pool.resolving, true)
        {
            self.events.push_back(Event::Resolve { handle: handle.clone(), max_age });
        }
    }

    /// Tells room again in the queue of a pool.
    pub(super) fn tell_room(&mut self, handle: &PoolHandle) {
        if self.pools.get_mut(handle).is_some_and(|pool| pool.waiting.room_again(&self.limits)) {
            self.events.push_back(Event::Writable);
        }
    }

    /// Chooses whom a message goes to, and sends it there. `refusable`: it may be refused for lack of room.
    pub(super) fn post(
        &mut self,
        now: Time,
        handle: &PoolHandle,
        mut posted: Posted,
        refusable: bool,
    ) -> Result<Option<PeId>, SendRefused> {
        if let Target::All { to_self } = posted.target {
            self.post_to_all(now, handle, posted, to_self);
            return Ok(None);
        }
        let Some(element) = self.choose(handle, &posted) else {
            if std::mem::replace(&mut posted.refreshed, true) {
                let element = match posted.target {
                    Target::Element(id) => Some(id),
                    Target::Any | Target::Last | Target::All { .. } => posted.tried.last().copied(),
                };
                self.tell_failed(handle, element, posted.message);
            } else if let Some(pool) = self.pools.get_mut(handle) {
                // Perhaps the registrar knows of others by now.
                pool.waiting.give_back(posted);
                self.ask(handle, Duration::ZERO);
            }
            return Ok(None);
        };
        let id = element.id;
        self.deliver(now, handle, element, posted, refusable)?;
        if let Some(pool) = self.pools.get_mut(handle) {
            pool.last = Some(id);
        }
        Ok(Some(id))
    }

    fn post_to_all(&mut self, now: Time, handle: &PoolHandle, posted: Posted, to_self: bool) {
        let Some(pool) = self.pools.get(handle) else { return };
        let own = |element: &PoolElement| self.own.contains(&(handle.clone(), element.id));
        let receivers = pool.candidates.elements().filter(|element| to_self || !own(element));
        for element in receivers.cloned().collect::<Vec<_>>() {
            let copy = Posted { target: Target::Element(element.id), refreshed: true, ..posted.clone() };
            let message = copy.message.clone();
            let id = element.id;
            if self.deliver(now, handle, element, copy, true).is_err() {
                self.tell_failed(handle, Some(id), message);
            }
        }
    }

    fn choose(&mut self, handle: &PoolHandle, posted: &Posted) -> Option<PoolElement> {
        let pool = self.pools.get_mut(handle)?;
        let untried = |element: &PoolElement| !posted.tried.contains(&element.id);
        let named = match posted.target {
            Target::Element(id) => Some(id),
            Target::Last => pool.last,
            Target::Any | Target::All { .. } => None,
        };
        if let Some(id) = named {
            // The element may have left the pool and its link still work.
            let lane = self.by_element.get(&(handle.clone(), id)).and_then(|link| self.lanes.get(link));
            let named = pool.candidates.element(id).or_else(|| lane.map(|lane| &lane.element));
            if let Some(element) = named.filter(|element| untried(element)) {
                return Some(element.clone());
            }
            if matches!(posted.target, Target::Element(_)) && !posted.message.failover {
                return None;
            }
        }
        if !posted.tried.is_empty() {
            // A failover: the business card of the failed element has its say (RFC 5352 3.9 BC2).
            let next = pool.candidates.next();
            if let Some(element) = next.filter(|element| untried(element)) {
                return Some(element);
            }
        }
        for _ in 0..=pool.candidates.len() {
            match pool.candidates.next_by_policy() {
                Some(element) if untried(&element) => return Some(element),
                Some(_) => {}
                None => break,
            }
        }
        pool.candidates.suspects().find(untried)
    }

    fn deliver(
        &mut self,
        now: Time,
        handle: &PoolHandle,
        element: PoolElement,
        posted: Posted,
        refusable: bool,
    ) -> Result<(), SendRefused> {
        let id = element.id;
        let known = self.by_element.get(&(handle.clone(), id)).copied();
        let Some(link) = known.or_else(|| self.open(now, handle, element, !posted.tried.is_empty())) else {
            self.tell_failed(handle, Some(id), posted.message);
            return Ok(());
        };
        let Some(lane) = self.lanes.get_mut(&link) else { return Ok(()) };
        self.uses += 1;
        lane.used = self.uses;
        match &mut lane.state {
            LaneState::Opening { .. } if refusable => lane.outbox.push(posted, &self.limits),
            LaneState::Opening { .. } => {
                lane.outbox.give_back(posted);
                Ok(())
            }
            LaneState::Up { handed_over, .. } => {
                if posted.message.failover != self.config.automatic_failover {
                    handed_over.note(&posted.message, &self.limits);
                }
                let channel = Channel::User(posted.message.channel);
                self.effects.push_back(Effect::Send { link, channel, bytes: posted.message.bytes });
                Ok(())
            }
        }
    }
}
