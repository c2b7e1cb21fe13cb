//! Sending message by message on an unconnected socket: to a pool handle (RFC 5352 6.5.1), to a pool element
//! handle (6.5.3), with the delivery options of 6.5.5; who sent what came is named by pool element handle (6.6).
//!
//! Links to elements are opened as needed and kept; the one not used for the longest time is closed when there are too
//! many. There is no session: nothing is said about failover but by [`Event::SendFailed`].

use super::control::{self, Said, Side};
use super::machine::{shows_cards, sound, tells_unreachable};
use super::outbox::{self, HandedOver, Outbox, UserMessage};
use super::selection::{Candidates, destination};
use super::{Counters, SendOptions, SendRefused};
use crate::config::{Limits, SessionConfig};
use crate::endpoint::{RequestFailure, Resolution};
use crate::machine::{Channel, Effect, Input, LinkFailure, LinkId, LinkKind, Machine, Protocol, UserChannel};
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

#[derive(Debug)]
struct Pool {
    candidates: Candidates,
    /// When the list held was told.
    told: Option<Time>,
    resolving: bool,
    /// Messages that wait for the resolution.
    waiting: Outbox<Posted>,
    /// Where the previous message went.
    last: Option<PeId>,
    /// The cookie of an element whose messages are moving to another.
    cookie: Option<Vec<u8>>,
    used: u64,
}

/// For whom a message is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Target {
    Any,
    Last,
    Element(PeId),
    All { to_self: bool },
}

/// A message, and what became of it so far.
#[derive(Clone, Debug)]
struct Posted {
    message: UserMessage,
    target: Target,
    /// Elements that failed with it, in order.
    tried: Vec<PeId>,
    /// The pool has been resolved anew for it.
    refreshed: bool,
}

impl AsRef<UserMessage> for Posted {
    fn as_ref(&self) -> &UserMessage {
        &self.message
    }
}

/// A link to an element.
#[derive(Debug)]
struct Lane {
    handle: PoolHandle,
    element: PoolElement,
    state: LaneState,
    /// What waits for the link, or was given back by it.
    outbox: Outbox<Posted>,
    used: u64,
}

#[derive(Debug)]
enum LaneState {
    Opening {
        /// A cookie to be echoed first.
        echo: Option<Vec<u8>>,
    },
    Up {
        control: bool,
        ours: bool,
        shown: bool,
        card_sent: bool,
        cookie: Option<Vec<u8>>,
        handed_over: HandedOver,
    },
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

    /// Pools are remembered up to [`Limits::cache_entries`]; the one not used for the longest time gives way, if
    /// nothing is under way there.
    fn make_room_for_pool(&mut self, handle: &PoolHandle) -> Result<(), SendRefused> {
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

    fn ask(&mut self, handle: &PoolHandle, max_age: Duration) {
        if let Some(pool) = self.pools.get_mut(handle)
            && !std::mem::replace(&mut pool.resolving, true)
        {
            self.events.push_back(Event::Resolve { handle: handle.clone(), max_age });
        }
    }

    fn tell_failed(&mut self, handle: &PoolHandle, element: Option<PeId>, message: UserMessage) {
        let UserMessage { bytes: message, channel, .. } = message;
        self.events.push_back(Event::SendFailed { handle: handle.clone(), element, message, channel });
    }

    /// Tells room again in the queue of a pool.
    fn tell_room(&mut self, handle: &PoolHandle) {
        if self.pools.get_mut(handle).is_some_and(|pool| pool.waiting.room_again(&self.limits)) {
            self.events.push_back(Event::Writable);
        }
    }

    /// Chooses whom a message goes to, and sends it there. `refusable`: it may be refused for lack of room.
    fn post(
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

    /// Opens a link to an element; none if there are too many already and none can be spared.
    fn open(
        &mut self,
        now: Time,
        handle: &PoolHandle,
        element: PoolElement,
        failover: bool,
    ) -> Option<LinkId> {
        let to = destination(&element)?;
        while self.lanes.len() >= self.limits.links {
            let spare = self
                .lanes
                .iter()
                .filter(|(_, lane)| matches!(lane.state, LaneState::Up { .. }) && lane.outbox.is_empty());
            let oldest = spare.min_by_key(|(_, lane)| lane.used).map(|(link, _)| *link)?;
            self.forget_lane(oldest);
            self.effects.push_back(Effect::Close { link: oldest, abort: false });
        }
        let link = LinkId::outgoing(self.next_link);
        self.next_link += 1;
        self.counters.attempts += 1;
        let echo = if failover { self.pools.get_mut(handle)?.cookie.take() } else { None };
        self.by_element.insert((handle.clone(), element.id), link);
        let state = LaneState::Opening { echo };
        let lane = Lane { handle: handle.clone(), element, state, outbox: Outbox::default(), used: 0 };
        self.lanes.insert(link, lane);
        self.timers.set(Timer::Attempt(link), now + self.config.connect_timeout);
        self.effects.push_back(Effect::Connect { link, to });
        Some(link)
    }

    fn forget_lane(&mut self, link: LinkId) -> Option<Lane> {
        let lane = self.lanes.remove(&link)?;
        self.by_element.remove(&(lane.handle.clone(), lane.element.id));
        self.timers.cancel(&Timer::Attempt(link));
        self.timers.cancel(&Timer::Returned(link));
        Some(lane)
    }

    fn on_lane_up(&mut self, link: LinkId, kind: LinkKind, protocol: Protocol) {
        let Some(lane) = self.lanes.get_mut(&link) else { return };
        let LaneState::Opening { echo } = &mut lane.state else { return };
        let echo = echo.take();
        self.timers.cancel(&Timer::Attempt(link));
        let control = protocol == Protocol::Session;
        if control && let Some(bytes) = echo.as_deref().and_then(control::cookie_echo) {
            self.counters.cookies_echoed += 1;
            self.effects.push_back(Effect::Send { link, channel: Channel::Asap, bytes });
        }
        let mut handed_over = HandedOver::default();
        let kept = lane.outbox.take();
        let room = lane.outbox.room_again(&self.limits);
        let framed = kind == LinkKind::Tcp && control;
        for posted in &kept {
            if posted.message.failover != self.config.automatic_failover {
                handed_over.note(&posted.message, &self.limits);
            }
        }
        lane.state = LaneState::Up {
            control,
            ours: framed || lane.element.capabilities.is_some(),
            shown: shows_cards(kind, protocol, Some(&lane.element)),
            card_sent: false,
            cookie: echo,
            handed_over,
        };
        let (handle, id) = (lane.handle.clone(), lane.element.id);
        if let Some(pool) = self.pools.get_mut(&handle) {
            pool.candidates.absolve(id);
        }
        self.timers.cancel(&Timer::Absolve(handle, id));
        self.give_card(link);
        for posted in kept {
            let channel = Channel::User(posted.message.channel);
            self.effects.push_back(Effect::Send { link, channel, bytes: posted.message.bytes });
        }
        if room {
            self.events.push_back(Event::Writable);
        }
    }

    /// As a session does (see there for the departure).
    fn give_card(&mut self, link: LinkId) {
        let (Some((handle, elements)), Some(lane)) = (&self.card, self.lanes.get_mut(&link)) else { return };
        let LaneState::Up { control: true, ours, shown, card_sent, .. } = &mut lane.state else { return };
        if *card_sent || !*shown && !self.config.unasked_business_card {
            return;
        }
        if let Some(bytes) = control::fitting_card(handle, elements, *ours) {
            *card_sent = true;
            self.effects.push_back(Effect::Send { link, channel: Channel::Asap, bytes });
        }
    }

    fn on_lane_down(&mut self, now: Time, link: LinkId, why: LinkFailure) {
        let Some(mut lane) = self.forget_lane(link) else { return };
        let (handle, id) = (lane.handle, lane.element.id);
        let cookie = match lane.state {
            LaneState::Opening { echo } => {
                self.counters.attempts_failed += 1;
                echo
            }
            LaneState::Up { cookie, .. } => {
                self.counters.links_lost += 1;
                cookie
            }
        };
        let undelivered = lane.outbox.take();
        if lane.outbox.room_again(&self.limits) {
            self.events.push_back(Event::Writable);
        }
        // An element may close a link nobody uses; only then is nothing wrong with it.
        if why != LinkFailure::Closed || !undelivered.is_empty() {
            if let Some(pool) = self.pools.get_mut(&handle) {
                pool.candidates.suspect(id);
                let again = now + self.config.stale_cache_value.max(self.config.connect_timeout);
                self.timers.set(Timer::Absolve(handle.clone(), id), again);
            }
            if tells_unreachable(why) {
                self.events.push_back(Event::Unreachable { handle: handle.clone(), element: id });
            }
        }
        if cookie.is_some()
            && let Some(pool) = self.pools.get_mut(&handle)
        {
            pool.cookie = cookie;
        }
        for mut posted in undelivered {
            if posted.message.failover {
                self.counters.failovers += 1;
                posted.tried.push(id);
                // Taken once, it is not refused now; what has no place is told.
                let _ = self.post(now, &handle, posted, false);
            } else {
                self.tell_failed(&handle, Some(id), posted.message);
            }
        }
    }

    fn on_message(&mut self, link: LinkId, channel: Channel, bytes: &[u8], complete: bool) {
        let Some(lane) = self.lanes.get_mut(&link) else { return };
        self.uses += 1;
        lane.used = self.uses;
        let (handle, element) = (lane.handle.clone(), lane.element.id);
        match (channel, &mut lane.state) {
            (Channel::User(channel), LaneState::Up { .. }) => {
                let bytes = bytes.to_vec();
                self.events.push_back(Event::Received { handle, element, bytes, channel, complete });
            }
            (Channel::Asap, LaneState::Up { control: true, .. }) => self.on_control(link, bytes),
            (Channel::Asap | Channel::Enrp, LaneState::Up { .. }) | (_, LaneState::Opening { .. }) => {
                self.counters.rejected_messages += 1;
            }
        }
    }

    fn on_control(&mut self, link: LinkId, bytes: &[u8]) {
        let Some(lane) = self.lanes.get_mut(&link) else { return };
        let LaneState::Up { cookie, shown, .. } = &mut lane.state else { return };
        let (said, answer) = control::read(bytes, Side::User);
        if let Some(bytes) = answer {
            self.counters.rejected_messages += 1;
            self.effects.push_back(Effect::Send { link, channel: Channel::Asap, bytes });
        }
        match said {
            Said::Nothing | Said::CookieEcho(_) => {}
            Said::Cookie(latest) => {
                self.counters.cookies += 1;
                *cookie = Some(latest);
            }
            Said::Card { handle, elements } => {
                self.counters.cards += 1;
                *shown = true;
                if lane.handle == handle
                    && let Some(pool) = self.pools.get_mut(&handle)
                {
                    pool.candidates.set_card(elements.clone());
                }
                self.events.push_back(Event::Card { handle, elements });
                self.give_card(link);
            }
        }
    }

    fn on_send_failed(&mut self, now: Time, link: LinkId, channel: UserChannel, message: Vec<u8>) {
        let Some(lane) = self.lanes.get_mut(&link) else { return };
        let LaneState::Up { handed_over, .. } = &mut lane.state else { return };
        self.counters.returned_messages += 1;
        let failover = self.config.automatic_failover ^ handed_over.recall(&message, channel);
        let message = UserMessage { bytes: message, channel, failover };
        let tried = Vec::new();
        lane.outbox.give_back(Posted { message, target: Target::Any, tried, refreshed: false });
        if self.timers.deadline(&Timer::Returned(link)).is_none() {
            self.timers.set(Timer::Returned(link), now + self.config.connect_timeout);
        }
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

impl Pool {
    fn new(seed: u64) -> Pool {
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
