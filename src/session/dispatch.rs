//! Sending message by message on an unconnected socket: to a pool handle (RFC 5352 6.5.1), to a pool element
//! handle (6.5.3), with the delivery options of 6.5.5; who sent what came is named by pool element handle (6.6).
//!
//! Links to elements are opened as needed and kept; the one not used for the longest time is closed when there are too
//! many. There is no session: nothing is said about failover but by [`Event::SendFailed`].

mod lane;
mod posting;

use self::lane::{Lane, LaneState};
use self::posting::{Pool, Posted, Target};
use super::machine::sound;
use super::outbox::{self, UserMessage};
use super::{Counters, SendOptions, SendRefused};
use crate::config::{Limits, SessionConfig};
use crate::endpoint::{RequestFailure, Resolution};
use crate::machine::{Channel, Effect, Input, LinkFailure, LinkId, Machine, UserChannel};
use crate::timer::Timers;
use crate::types::{PeId, PoolElement, PoolHandle, Time};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

/// What a [`Dispatch`] tells its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Resolve this pool. Each is to be answered, once, with [`Dispatch::resolved`].
    Resolve {
        /// The pool.
        handle: PoolHandle,
        /// A cached answer no older than this will do.
        max_age: Duration,
    },
    /// Report this element unreachable (RFC 5352 3.5).
    Unreachable {
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PeId,
    },
    /// An element sent its business card, to be told to the endpoint ([`crate::endpoint::Endpoint::on_card`]).
    Card {
        /// The element's pool.
        handle: PoolHandle,
        /// Whom to turn to when it fails.
        elements: Vec<PoolElement>,
    },
    /// A message came.
    Received {
        /// The pool of the element it came from.
        handle: PoolHandle,
        /// The element it came from.
        element: PeId,
        /// The data.
        bytes: Vec<u8>,
        /// How it travelled.
        channel: UserChannel,
        /// Whether a message ends here.
        complete: bool,
    },
    /// The pool could not be resolved and nothing is known of it; a `SendFailed` for each message to it follows.
    Unresolved {
        /// The pool.
        handle: PoolHandle,
        /// Why.
        why: RequestFailure,
    },
    /// Error.Report (RFC 5352 6.7): this message was not delivered.
    SendFailed {
        /// To which pool.
        handle: PoolHandle,
        /// To which element, if one was chosen.
        element: Option<PeId>,
        /// The message.
        message: Vec<u8>,
        /// How it was to travel.
        channel: UserChannel,
    },
    /// Room for more messages after `SendRefused::Full`.
    Writable,
}

/// Sends each message for itself. Default failover (neither FAILOVER nor NO_FAILOVER given) is
/// [`SessionConfig::automatic_failover`].
#[derive(Debug)]
pub struct Dispatch {
    config: SessionConfig,
    limits: Limits,
    seed: u64,
    own: BTreeSet<(PoolHandle, PeId)>,
    card: Option<(PoolHandle, Vec<PoolElement>)>,
    pools: BTreeMap<PoolHandle, Pool>,
    lanes: BTreeMap<LinkId, Lane>,
    by_element: BTreeMap<(PoolHandle, PeId), LinkId>,
    next_link: u64,
    uses: u64,
    timers: Timers<Timer>,
    effects: VecDeque<Effect>,
    events: VecDeque<Event>,
    counters: Counters,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    /// The link being opened.
    Attempt(LinkId),
    /// Whether a link that gave back messages lives on.
    Returned(LinkId),
    /// The element gets another chance.
    Absolve(PoolHandle, PeId),
}

impl Dispatch {
    /// Sends nothing yet. `own`: the elements that the sender is itself (for TO_ALL and TO_SELF).
    pub fn new(
        config: SessionConfig,
        limits: Limits,
        seed: u64,
        own: impl IntoIterator<Item = (PoolHandle, PeId)>,
    ) -> Dispatch {
        Dispatch {
            config: sound(config),
            limits,
            seed,
            own: own.into_iter().collect(),
            card: None,
            pools: BTreeMap::new(),
            lanes: BTreeMap::new(),
            by_element: BTreeMap::new(),
            next_link: 0,
            uses: 0,
            timers: Timers::default(),
            effects: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Sends a message to a pool, or to one element of it. It is kept while the pool is being resolved or the link
    /// opened. Tells the element if one is chosen already.
    ///
    /// Copies sent by TO_ALL do not fail over: every other element has its own. An element that the pool no longer has
    /// counts as unreachable.
    pub fn send(
        &mut self,
        now: Time,
        to: &PoolHandle,
        element: Option<PeId>,
        message: Vec<u8>,
        channel: UserChannel,
        options: SendOptions,
    ) -> Result<Option<PeId>, SendRefused> {
        let by_default = self.config.automatic_failover;
        let mut message = outbox::accept(message, channel, options, by_default, &self.limits)?;
        let (all, last) = (options.contains(SendOptions::TO_ALL), options.contains(SendOptions::TO_LAST));
        let target = match element {
            Some(_) if all || last => return Err(SendRefused::BadOptions),
            Some(id) => Target::Element(id),
            None if last => Target::Last,
            None if all => {
                message.failover = false;
                Target::All { to_self: options.contains(SendOptions::TO_SELF) }
            }
            None => Target::Any,
        };
        let posted = Posted { message, target, tried: Vec::new(), refreshed: false };
        let max_age = self.config.stale_cache_value;
        self.uses += 1;
        let used = self.uses;
        self.make_room_for_pool(to)?;
        let seed = self.seed;
        let pool = self.pools.entry(to.clone()).or_insert_with(|| Pool::new(seed));
        pool.used = used;
        match pool.told {
            Some(told) if pool.waiting.is_empty() => {
                // RFC 5352 3.3 C3 leaves the choice: a stale list is used, and brought up to date beside.
                if now.since(told) > max_age {
                    self.ask(to, max_age);
                }
                self.post(now, to, posted, true)
            }
            Some(_) | None => {
                pool.waiting.push(posted, &self.limits)?;
                self.ask(to, max_age);
                Ok(None)
            }
        }
    }

    /// The answer to [`Event::Resolve`].
    pub fn resolved(&mut self, now: Time, handle: &PoolHandle, outcome: Result<Resolution, RequestFailure>) {
        let Some(pool) = self.pools.get_mut(handle) else { return };
        pool.resolving = false;
        match outcome {
            Ok(resolution) => {
                pool.told = Some(resolution.at);
                pool.candidates.update(&resolution);
            }
            Err(why) if pool.told.is_none() => {
                self.events.push_back(Event::Unresolved { handle: handle.clone(), why });
                for posted in pool.waiting.take() {
                    self.tell_failed(handle, None, posted.message);
                }
            }
            // What is known already has to do.
            Err(_) => {}
        }
        let waiting = self.pools.get_mut(handle).map(|pool| pool.waiting.take()).unwrap_or_default();
        for posted in waiting {
            // What does not fit any more was told, nothing is to be refused here.
            let _ = self.post(now, handle, posted, false);
        }
        self.tell_room(handle);
    }

    /// The pool has changed (by subscription).
    pub fn pool_changed(&mut self, handle: &PoolHandle, resolution: Option<&Resolution>) {
        let Some(pool) = self.pools.get_mut(handle) else { return };
        match resolution {
            Some(resolution) => {
                pool.told = Some(resolution.at);
                pool.candidates.update(resolution);
            }
            None => {
                pool.told = None;
                pool.candidates.clear();
            }
        }
    }

    /// The elements that the sender is itself, from now on.
    pub fn set_own(&mut self, own: impl IntoIterator<Item = (PoolHandle, PeId)>) {
        self.own = own.into_iter().collect();
    }

    /// The business card of a sender that is itself an element (RFC 5352 3.9), for elements reached from now on.
    pub fn set_business_card(&mut self, card: Option<(PoolHandle, Vec<PoolElement>)>) {
        self.card = card;
    }

    /// Closes all links; messages still kept come back as [`Event::SendFailed`].
    pub fn close(&mut self) {
        for (link, lane) in std::mem::take(&mut self.lanes) {
            let abort = matches!(lane.state, LaneState::Opening { .. });
            self.effects.push_back(Effect::Close { link, abort });
            let mut outbox = lane.outbox;
            for posted in outbox.take() {
                self.tell_failed(&lane.handle, Some(lane.element.id), posted.message);
            }
        }
        for (handle, mut pool) in std::mem::take(&mut self.pools) {
            for posted in pool.waiting.take() {
                self.tell_failed(&handle, None, posted.message);
            }
        }
        self.by_element.clear();
        self.timers = Timers::default();
    }

    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn tell_failed(&mut self, handle: &PoolHandle, element: Option<PeId>, message: UserMessage) {
        let UserMessage { bytes: message, channel, .. } = message;
        self.events.push_back(Event::SendFailed { handle: handle.clone(), element, message, channel });
    }

    fn on_timer(&mut self, now: Time, timer: Timer) {
        match timer {
            Timer::Attempt(link) => {
                self.effects.push_back(Effect::Close { link, abort: true });
                self.on_lane_down(now, link, LinkFailure::TimedOut);
            }
            Timer::Returned(link) => {
                // The link lives on: the element was not found unreachable, so there is no failover.
                let Some(lane) = self.lanes.get_mut(&link) else { return };
                let (handle, id) = (lane.handle.clone(), lane.element.id);
                for posted in lane.outbox.take() {
                    self.tell_failed(&handle, Some(id), posted.message);
                }
            }
            Timer::Absolve(handle, id) => {
                if let Some(pool) = self.pools.get_mut(&handle) {
                    pool.candidates.absolve(id);
                }
            }
        }
    }
}

impl Machine for Dispatch {
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<'_>) {
        let link = match &input {
            Input::LinkUp { link, .. }
            | Input::LinkDown { link, .. }
            | Input::Message { link, .. }
            | Input::SendFailed { link, .. }
            | Input::Writable { link } => Some(*link),
            Input::Incoming { .. } | Input::Announce { .. } | Input::Timeout => None,
        };
        if link.is_some_and(|link| !self.lanes.contains_key(&link)) {
            self.counters.late_inputs += 1;
            return;
        }
        match input {
            Input::LinkUp { link, kind, protocol, .. } => self.on_lane_up(link, kind, protocol),
            Input::LinkDown { link, why } => self.on_lane_down(now, link, why),
            Input::Message { link, channel, bytes, complete } => {
                self.on_message(link, channel, bytes, complete);
            }
            Input::SendFailed { link, channel: Channel::User(channel), message } => {
                self.on_send_failed(now, link, channel, message);
            }
            Input::Writable { .. } => self.events.push_back(Event::Writable),
            Input::Timeout => {
                while let Some(timer) = self.timers.pop_due(now) {
                    self.on_timer(now, timer);
                }
            }
            Input::SendFailed { .. } | Input::Incoming { .. } | Input::Announce { .. } => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }
}

#[cfg(test)]
mod tests;
