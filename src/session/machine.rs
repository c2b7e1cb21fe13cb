//! One session (RFC 5352 3.7-3.9): at most one link to one element at a time, and the search for the next element
//! when there is none. The search goes in rounds: each element of the list once, whose link was lost last; after
//! a fruitless round a pause, and a new resolution.
//!
//! The RFC leaves open how long anything of this takes; see [`SessionConfig`].

use super::control::{self, Said, Side};
use super::outbox::{self, HandedOver, Outbox, UserMessage};
use super::selection::{Candidates, destination};
use super::{Counters, Event, NoElement, SendOptions, SendRefused, State};
use crate::config::{Limits, SessionConfig};
use crate::endpoint::{RequestFailure, Resolution};
use crate::machine::{Channel, Effect, Input, LinkFailure, LinkId, LinkKind, Machine, Protocol, UserChannel};
use crate::timer::Timers;
use crate::types::{Capabilities, PeId, PoolElement, PoolHandle, Time};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

/// A session, on either side.
///
/// After each call effects and events are to be drained. Messages sent while an element is reached go to its link at once
/// (how much may wait there is the runtime's to bound); while there is none they are kept, up to
/// [`Limits::queued_bytes_per_link`], and go to the next element in order. So do messages that the link gives
/// back ([`Input::SendFailed`]).
#[derive(Debug)]
pub struct Session {
    config: SessionConfig,
    limits: Limits,
    phase: Phase,
    /// On the user's side only.
    user: Option<User>,
    /// The business card we give.
    own: Option<(PoolHandle, Vec<PoolElement>)>,
    /// Messages kept for the next element; while a link is up, those it gave back.
    outbox: Outbox<UserMessage>,
    handed_over: HandedOver,
    timers: Timers<Timer>,
    effects: VecDeque<Effect>,
    events: VecDeque<Event>,
    counters: Counters,
}

/// What only a user has.
#[derive(Debug)]
struct User {
    handle: PoolHandle,
    candidates: Candidates,
    /// When the list held was told.
    told: Option<Time>,
    cookie: Option<Vec<u8>>,
    resolution: Asked,
    next_link: u64,
    /// Links in sequence that came up and were lost again soon without a message.
    fruitless: usize,
}

/// Whether the answer to an [`Event::Resolve`] is outstanding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Asked {
    No,
    Yes,
    /// It takes so long that nobody waits for it any more.
    Overdue,
}

#[derive(Debug)]
enum Phase {
    /// The link is accepted, but not up yet.
    Accepting {
        link: LinkId,
    },
    /// No link: waiting for a resolution, or for the next round.
    Seeking(Seek),
    Opening {
        seek: Seek,
        link: LinkId,
        element: PoolElement,
    },
    Up(Conversation),
    /// The element is lost, and the application to say how to go on.
    Failed {
        since: Time,
        why: LinkFailure,
        reported: BTreeSet<PeId>,
    },
    Over,
}

/// The search for an element.
#[derive(Debug)]
struct Seek {
    /// When there last was an element, or when the session began.
    since: Time,
    first: bool,
    /// Why the last link was lost.
    why: LinkFailure,
    /// The list held is not to be used before the resolution asked for is answered or overdue; then a new round begins.
    held_back: bool,
    /// Elements reported in this search.
    reported: BTreeSet<PeId>,
    /// Tried in vain in this round.
    missed: Vec<(PeId, LinkFailure)>,
    unresolved: Option<RequestFailure>,
}

/// A link that is up.
#[derive(Debug)]
struct Conversation {
    link: LinkId,
    /// None on the element's side.
    element: Option<PoolElement>,
    since: Time,
    control: bool,
    /// The peer has shown that it is one of ours.
    ours: bool,
    /// The peer has shown that it understands business cards.
    shown: bool,
    card_sent: bool,
    /// A message has come on it.
    fruitful: bool,
    /// The element has left the pool.
    gone: bool,
    /// Something was sent since a message came.
    unanswered: bool,
    /// A message came since the element was last put under watch.
    heard: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Timer {
    /// The link being opened.
    Attempt,
    /// Whether the element that has left the pool is silent.
    Silence,
    /// Whether a link that gave back messages lives on.
    Returned,
    /// The answer to a resolution.
    Patience,
    /// The next round.
    Retry,
    /// Automatic failover was switched on while one was needed.
    MoveOn,
    /// The end of the failover.
    Deadline,
}

/// Without a pause of any length trying again would never let time pass.
pub(super) fn sound(config: SessionConfig) -> SessionConfig {
    let least = Duration::from_millis(1);
    SessionConfig {
        connect_timeout: config.connect_timeout.max(least),
        resolution_retry: config.resolution_retry.max(least),
        ..config
    }
}

/// Whether a failure is a sign that the element itself cannot be reached, and so to be reported.
pub(super) fn tells_unreachable(why: LinkFailure) -> bool {
    match why {
        LinkFailure::Refused
        | LinkFailure::Unreachable
        | LinkFailure::TimedOut
        | LinkFailure::Reset
        | LinkFailure::Closed => true,
        LinkFailure::Garbled | LinkFailure::Congested | LinkFailure::NoResources => false,
    }
}

/// Whether a peer has shown that it understands business cards: over a framed TCP link both are ours.
pub(super) fn shows_cards(kind: LinkKind, protocol: Protocol, element: Option<&PoolElement>) -> bool {
    let announced = element.and_then(|e| e.capabilities).unwrap_or_default();
    kind == LinkKind::Tcp && protocol == Protocol::Session || announced.contains(Capabilities::BUSINESS_CARD)
}

impl Session {
    /// A user's session with a pool; asks for its resolution at once. `own`: the user is itself an element of
    /// that pool, and sends cards with these elements as its failover order.
    pub fn user(
        now: Time,
        config: SessionConfig,
        limits: Limits,
        seed: u64,
        handle: PoolHandle,
        own: Option<(PoolHandle, Vec<PoolElement>)>,
    ) -> Session {
        let user = User {
            handle,
            candidates: Candidates::new(seed),
            told: None,
            cookie: None,
            resolution: Asked::No,
            next_link: 0,
            fruitless: 0,
        };
        let seek = Seek {
            since: now,
            first: true,
            why: LinkFailure::Unreachable,
            held_back: true,
            reported: BTreeSet::new(),
            missed: Vec::new(),
            unresolved: None,
        };
        let max_age = config.stale_cache_value;
        let mut session = Session::new(config, limits, Phase::Seeking(seek), Some(user), own);
        session.ask(now, max_age);
        session
    }

    /// An element's side of a session on an accepted link (its `LinkUp` still to come).
    pub fn element(
        now: Time,
        config: SessionConfig,
        limits: Limits,
        link: LinkId,
        own: Option<(PoolHandle, Vec<PoolElement>)>,
    ) -> Session {
        let _ = now;
        Session::new(config, limits, Phase::Accepting { link }, None, own)
    }

    fn new(
        config: SessionConfig,
        limits: Limits,
        phase: Phase,
        user: Option<User>,
        own: Option<(PoolHandle, Vec<PoolElement>)>,
    ) -> Session {
        Session {
            config: sound(config),
            limits,
            phase,
            user,
            own,
            outbox: Outbox::default(),
            handed_over: HandedOver::default(),
            timers: Timers::default(),
            effects: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// The answer to [`Event::Resolve`].
    pub fn resolved(&mut self, now: Time, outcome: Result<Resolution, RequestFailure>) {
        let Some(user) = &mut self.user else { return };
        user.resolution = Asked::No;
        self.timers.cancel(&Timer::Patience);
        let new_round = match &mut self.phase {
            Phase::Seeking(seek) => std::mem::take(&mut seek.held_back),
            Phase::Accepting { .. }
            | Phase::Opening { .. }
            | Phase::Up(_)
            | Phase::Failed { .. }
            | Phase::Over => false,
        };
        match outcome {
            Ok(resolution) => {
                user.told = Some(resolution.at);
                if new_round {
                    user.candidates.renew(&resolution);
                } else {
                    user.candidates.update(&resolution);
                }
            }
            Err(why) => {
                // The list held stays, even if the registrar knows no such pool: it may have just started, and
                // the elements may still have to find it.
                if new_round {
                    user.candidates.try_again();
                }
                if let Phase::Seeking(seek) = &mut self.phase {
                    seek.unresolved = Some(why);
                }
            }
        }
        self.skip_pause();
        self.advance(now);
    }

    /// The pool has changed (by subscription): order of failover follows, and if the element in use is gone from
    /// it and its link is silent, the session moves on. Silent is an element that lets something of ours go unanswered
    /// for [`SessionConfig::connect_timeout`] after it left the pool; a link on which nothing is outstanding stays.
    pub fn pool_changed(&mut self, now: Time, resolution: Option<&Resolution>) {
        let Some(user) = &mut self.user else { return };
        match resolution {
            Some(resolution) => {
                user.told = Some(resolution.at);
                user.candidates.update(resolution);
            }
            None => user.candidates.clear(),
        }
        match &mut self.phase {
            Phase::Up(conversation) => {
                let id = conversation.element.as_ref().map(|element| element.id);
                conversation.gone =
                    id.is_some_and(|id| !resolution.is_some_and(|r| r.elements.iter().any(|e| e.id == id)));
                if !conversation.gone {
                    self.timers.cancel(&Timer::Silence);
                } else if conversation.unanswered {
                    self.watch(now);
                }
            }
            Phase::Seeking(seek) => {
                if user.candidates.any_unblemished() {
                    seek.held_back = false;
                }
                self.skip_pause();
                self.advance(now);
            }
            Phase::Opening { link, element, .. } => {
                // Others are there: waiting for one that is known to have left would only cost time.
                let (link, id) = (*link, element.id);
                if user.candidates.element(id).is_none() && user.candidates.any_unblemished() {
                    self.effects.push_back(Effect::Close { link, abort: true });
                    self.abandon_attempt(now);
                }
            }
            Phase::Accepting { .. } | Phase::Failed { .. } | Phase::Over => {}
        }
    }

    /// Sends a message, or keeps it for the next element while there is none.
    ///
    /// A session has one element at a time, so TO_LAST changes nothing and TO_ALL is refused. Without option a message
    /// may fail over as long as no byte of it was handed to the transport.
    pub fn send(
        &mut self,
        now: Time,
        message: Vec<u8>,
        channel: UserChannel,
        options: SendOptions,
    ) -> Result<(), SendRefused> {
        if options.contains(SendOptions::TO_ALL) {
            return Err(SendRefused::BadOptions);
        }
        let message = outbox::accept(message, channel, options, true, &self.limits)?;
        match &mut self.phase {
            Phase::Accepting { .. } | Phase::Seeking(_) | Phase::Opening { .. } => {
                self.outbox.push(message, &self.limits)
            }
            Phase::Up(conversation) => {
                conversation.unanswered = true;
                let (link, gone) = (conversation.link, conversation.gone);
                if gone {
                    self.watch(now);
                }
                self.hand_over(link, message);
                Ok(())
            }
            Phase::Failed { .. } => Err(SendRefused::FailedOver),
            Phase::Over => Err(SendRefused::Ended),
        }
    }

    /// Gives the user a cookie (element's side, RFC 5352 3.8). The latest one counts. At most 65,527 bytes.
    pub fn send_cookie(&mut self, now: Time, cookie: &[u8]) -> Result<(), SendRefused> {
        let _ = now;
        if self.user.is_some() {
            return Err(SendRefused::BadOptions);
        }
        match &self.phase {
            Phase::Up(conversation) if conversation.control => {
                let bytes = control::cookie(cookie)?;
                let link = conversation.link;
                self.counters.cookies += 1;
                self.effects.push_back(Effect::Send { link, channel: Channel::Asap, bytes });
                Ok(())
            }
            Phase::Over => Err(SendRefused::Ended),
            Phase::Accepting { .. }
            | Phase::Up(_)
            | Phase::Seeking(_)
            | Phase::Opening { .. }
            | Phase::Failed { .. } => Err(SendRefused::NoControlChannel),
        }
    }

    /// Sends a business card, or a new one (RFC 5352 3.9). It replaces the one given at the start, also for elements
    /// reached later. A peer that has not shown that it understands cards gets it when it does.
    pub fn send_business_card(
        &mut self,
        now: Time,
        handle: &PoolHandle,
        elements: &[PoolElement],
    ) -> Result<(), SendRefused> {
        let _ = now;
        if matches!(self.phase, Phase::Over) {
            return Err(SendRefused::Ended);
        }
        control::card(handle, elements, true)?;
        self.own = Some((handle.clone(), elements.to_vec()));
        if let Phase::Up(conversation) = &mut self.phase {
            conversation.card_sent = false;
            if !conversation.control {
                return Err(SendRefused::NoControlChannel);
            }
        }
        self.give_card();
        Ok(())
    }

    /// Moves on to another element on the application's behalf; `report` the present one as unreachable.
    /// `max_age`: a resolution no older than this will do.
    ///
    /// A list older than that is used after all when the resolution fails or takes longer than
    /// [`SessionConfig::connect_timeout`]. Without automatic failover there is one round of trying.
    pub fn fail_over(&mut self, now: Time, report: bool, max_age: Duration) {
        let Some(user) = &mut self.user else { return };
        let fresh = user.told.is_some_and(|told| now.since(told) <= max_age);
        match &mut self.phase {
            Phase::Up(conversation) => {
                let link = conversation.link;
                let id = conversation.element.as_ref().map(|element| element.id);
                self.effects.push_back(Effect::Close { link, abort: report });
                let mut reported = BTreeSet::new();
                if let Some(id) = id {
                    user.candidates.suspect(id);
                    if report {
                        self.report(id);
                        reported.insert(id);
                    }
                }
                self.give_up_bound(id);
                self.begin_failover(now, now, LinkFailure::TimedOut, reported, (!fresh).then_some(max_age));
            }
            Phase::Failed { since, why, reported } => {
                let (since, why, reported) = (*since, *why, std::mem::take(reported));
                self.begin_failover(now, since, why, reported, (!fresh).then_some(max_age));
            }
            Phase::Seeking(_) => {
                if self.timers.cancel(&Timer::Retry).is_some() {
                    self.on_retry(now);
                }
            }
            Phase::Accepting { .. } | Phase::Opening { .. } | Phase::Over => {}
        }
    }

    /// Changes the configuration (automatic failover, deadlines) from now on. Switched to automatic while the
    /// element has failed, the session moves on at the next timeout, which is due at once.
    pub fn configure(&mut self, config: SessionConfig) {
        self.config = sound(config);
        if !self.config.automatic_failover {
            self.timers.cancel(&Timer::Deadline);
        } else if matches!(self.phase, Phase::Failed { .. }) {
            self.timers.set(Timer::MoveOn, Time::ZERO);
        }
    }

    /// Ends the session. Messages still kept come back as [`Event::SendFailed`].
    pub fn close(&mut self, now: Time, abort: bool) {
        let _ = now;
        let link = match &self.phase {
            Phase::Up(conversation) => Some((conversation.link, abort)),
            Phase::Accepting { link } => Some((*link, abort)),
            Phase::Opening { link, .. } => Some((*link, true)),
            Phase::Seeking(_) | Phase::Failed { .. } => None,
            Phase::Over => return,
        };
        if let Some((link, abort)) = link {
            self.effects.push_back(Effect::Close { link, abort });
        }
        self.end(None);
    }

    /// Its state.
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Accepting { .. } => State::Connecting,
            Phase::Seeking(seek) | Phase::Opening { seek, .. } => {
                if seek.first {
                    State::Connecting
                } else {
                    State::FailingOver
                }
            }
            Phase::Up(_) => State::Connected,
            Phase::Failed { .. } => State::Failed,
            Phase::Over => State::Ended,
        }
    }

    /// The pool, on the user's side.
    pub fn pool(&self) -> Option<&PoolHandle> {
        self.user.as_ref().map(|user| &user.handle)
    }

    /// The element in use.
    pub fn current(&self) -> Option<&PoolElement> {
        match &self.phase {
            Phase::Up(conversation) => conversation.element.as_ref(),
            Phase::Accepting { .. }
            | Phase::Seeking(_)
            | Phase::Opening { .. }
            | Phase::Failed { .. }
            | Phase::Over => None,
        }
    }

    /// Whether a cookie is held.
    pub fn has_cookie(&self) -> bool {
        self.user.as_ref().is_some_and(|user| user.cookie.is_some())
    }

    /// Bytes of user messages kept for the next element.
    pub fn unsent(&self) -> usize {
        self.outbox.bytes()
    }

    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    fn ask(&mut self, now: Time, max_age: Duration) {
        let Some(user) = &mut self.user else { return };
        if user.resolution == Asked::No {
            user.resolution = Asked::Yes;
            self.events.push_back(Event::Resolve { handle: user.handle.clone(), max_age });
        }
        if user.resolution == Asked::Yes {
            self.timers.set(Timer::Patience, now + self.config.connect_timeout);
        }
    }

    fn report(&mut self, element: PeId) {
        let Some(user) = &self.user else { return };
        self.events.push_back(Event::Unreachable { handle: user.handle.clone(), element });
    }

    /// Starts looking for another element. `wait_for`: the list held must not be used before a resolution no older
    /// than this was tried.
    fn begin_failover(
        &mut self,
        now: Time,
        since: Time,
        why: LinkFailure,
        reported: BTreeSet<PeId>,
        wait_for: Option<Duration>,
    ) {
        let (missed, unresolved) = (Vec::new(), None);
        let held_back = wait_for.is_some();
        self.phase =
            Phase::Seeking(Seek { since, first: false, why, held_back, reported, missed, unresolved });
        if self.config.automatic_failover
            && let Some(deadline) = self.config.failover_deadline
        {
            self.timers.set(Timer::Deadline, now + deadline);
        }
        self.ask(now, wait_for.unwrap_or(Duration::ZERO));
        if let Some(user) = &self.user
            && user.resolution == Asked::Overdue
            && let Phase::Seeking(seek) = &mut self.phase
        {
            seek.held_back = false;
        }
        self.advance(now);
    }

    /// Whether links come up and are lost again at once, more than once around: moving on at once would be a
    /// busy loop.
    fn flapping(&self) -> bool {
        self.user.as_ref().is_some_and(|user| user.fruitless > user.candidates.len())
    }

    /// Ends the pause between rounds when somebody new can be tried.
    fn skip_pause(&mut self) {
        if !self.flapping() && self.user.as_ref().is_some_and(|user| user.candidates.any_unblemished()) {
            self.timers.cancel(&Timer::Retry);
        }
    }

    /// While seeking: opens a link to the next element, if there is one and it is time.
    fn advance(&mut self, now: Time) {
        let flapping = self.flapping();
        let Phase::Seeking(seek) = &mut self.phase else { return };
        let Some(user) = &mut self.user else { return };
        if seek.held_back || self.timers.deadline(&Timer::Retry).is_some() {
            return;
        }
        if flapping {
            self.timers.set(Timer::Retry, now + self.config.resolution_retry);
            return;
        }
        // The list holds reachable transports only; a card may come with others, which `next` leaves out.
        let next = user.candidates.next().and_then(|element| Some((destination(&element)?, element)));
        let Some((to, element)) = next else {
            match user.resolution {
                Asked::Yes => {}
                Asked::No | Asked::Overdue => self.end_round(now),
            }
            return;
        };
        let link = LinkId::outgoing(user.next_link);
        user.next_link += 1;
        self.counters.attempts += 1;
        let Phase::Seeking(seek) = std::mem::replace(&mut self.phase, Phase::Over) else { return };
        self.phase = Phase::Opening { seek, link, element };
        self.timers.set(Timer::Attempt, now + self.config.connect_timeout);
        self.effects.push_back(Effect::Connect { link, to });
    }

    /// Nobody could be reached.
    fn end_round(&mut self, now: Time) {
        let Phase::Seeking(seek) = &mut self.phase else { return };
        self.counters.rounds_failed += 1;
        let missed = std::mem::take(&mut seek.missed);
        let why = match seek.unresolved.take() {
            Some(why) if missed.is_empty() => NoElement::NotResolved(why),
            Some(_) | None => NoElement::NotReached(missed),
        };
        self.events.push_back(Event::FailoverFailed(why));
        if seek.first || self.config.automatic_failover {
            self.timers.set(Timer::Retry, now + self.config.resolution_retry);
        } else {
            let (since, why) = (seek.since, seek.why);
            let reported = std::mem::take(&mut seek.reported);
            if let Some(user) = &mut self.user {
                user.candidates.try_again();
            }
            self.phase = Phase::Failed { since, why, reported };
        }
    }

    /// The pause is over: a new round, on a new resolution if there is one soon.
    fn on_retry(&mut self, now: Time) {
        let Phase::Seeking(seek) = &mut self.phase else { return };
        let Some(user) = &mut self.user else { return };
        if user.fruitless > user.candidates.len() {
            user.fruitless = user.candidates.len();
            return self.advance(now);
        }
        if user.resolution == Asked::Overdue {
            user.candidates.try_again();
            return self.advance(now);
        }
        seek.held_back = true;
        self.ask(now, Duration::ZERO);
    }

    fn on_patience_over(&mut self, now: Time) {
        let Some(user) = &mut self.user else { return };
        if user.candidates.len() == 0 && matches!(self.phase, Phase::Seeking(_)) {
            // Nobody to go on with: the answer, or the reason why there is none, is worth the wait.
            self.timers.set(Timer::Patience, now + self.config.connect_timeout);
            return;
        }
        if user.resolution == Asked::Yes {
            user.resolution = Asked::Overdue;
        }
        if let Phase::Seeking(seek) = &mut self.phase {
            if std::mem::take(&mut seek.held_back) {
                user.candidates.try_again();
            }
            self.advance(now);
        }
    }

    /// The link being opened came to nothing.
    fn on_attempt_failed(&mut self, now: Time, why: LinkFailure) {
        let Phase::Opening { seek, element, .. } = &mut self.phase else { return };
        let id = element.id;
        self.counters.attempts_failed += 1;
        seek.missed.push((id, why));
        let first_time = tells_unreachable(why) && seek.reported.insert(id);
        if let Some(user) = &mut self.user {
            user.candidates.fail(id);
        }
        if first_time {
            self.report(id);
        }
        self.give_up_bound(Some(id));
        self.abandon_attempt(now);
    }

    fn abandon_attempt(&mut self, now: Time) {
        self.timers.cancel(&Timer::Attempt);
        if let Phase::Opening { seek, .. } = std::mem::replace(&mut self.phase, Phase::Over) {
            self.phase = Phase::Seeking(seek);
        }
        self.advance(now);
    }

    /// Error.Report for messages that must not go to another element.
    fn give_up_bound(&mut self, element: Option<PeId>) {
        for message in self.outbox.take_bound() {
            self.tell_failed(element, message);
        }
        self.tell_room();
    }

    fn tell_failed(&mut self, element: Option<PeId>, message: UserMessage) {
        let UserMessage { bytes: message, channel, .. } = message;
        self.events.push_back(Event::SendFailed { element, message, channel });
    }

    fn tell_room(&mut self) {
        if self.outbox.room_again(&self.limits) {
            self.events.push_back(Event::Writable);
        }
    }

    fn hand_over(&mut self, link: LinkId, message: UserMessage) {
        if !message.failover {
            self.handed_over.note(&message, &self.limits);
        }
        let channel = Channel::User(message.channel);
        self.effects.push_back(Effect::Send { link, channel, bytes: message.bytes });
    }

    fn on_link_up(&mut self, now: Time, link: LinkId, kind: LinkKind, protocol: Protocol) {
        let (seek, element) = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Accepting { .. } => (None, None),
            Phase::Opening { seek, element, .. } => (Some(seek), Some(element)),
            Phase::Up(mut conversation) if self.user.is_none() && protocol == Protocol::Session => {
                // A client that was silent, and so taken for one without control channel, has one after all.
                conversation.control = true;
                conversation.ours = kind == LinkKind::Tcp;
                conversation.shown = shows_cards(kind, protocol, None);
                self.phase = Phase::Up(conversation);
                self.give_card();
                return;
            }
            other @ (Phase::Seeking(_) | Phase::Up(_) | Phase::Failed { .. } | Phase::Over) => {
                self.phase = other;
                return;
            }
        };
        for timer in [Timer::Attempt, Timer::Retry, Timer::Deadline] {
            self.timers.cancel(&timer);
        }
        let control = protocol == Protocol::Session;
        let id = element.as_ref().map(|element| element.id);
        self.handed_over = HandedOver::default();
        let framed = kind == LinkKind::Tcp && control;
        let mut conversation = Conversation {
            link,
            since: now,
            control,
            ours: framed || element.as_ref().is_some_and(|element| element.capabilities.is_some()),
            shown: shows_cards(kind, protocol, element.as_ref()),
            element,
            card_sent: false,
            fruitful: false,
            gone: false,
            unanswered: false,
            heard: false,
        };
        let mut has_cookie = false;
        if let (Some(user), Some(id)) = (&mut self.user, id) {
            user.candidates.reached(id);
            // The cookie comes before all else on the new control channel (RFC 5352 3.8).
            if control && let Some(echo) = user.cookie.as_deref().and_then(control::cookie_echo) {
                has_cookie = true;
                self.counters.cookies_echoed += 1;
                self.effects.push_back(Effect::Send { link, channel: Channel::Asap, bytes: echo });
            }
        }
        let kept = self.outbox.take();
        conversation.unanswered = !kept.is_empty();
        self.phase = Phase::Up(conversation);
        self.give_card();
        for message in kept {
            self.hand_over(link, message);
        }
        self.events.push_back(match (seek, id) {
            (Some(seek), Some(element)) if !seek.first => {
                self.counters.failovers += 1;
                Event::FailoverComplete { element, has_cookie, gap: now.since(seek.since) }
            }
            (_, element) => Event::Connected { element, kind, control },
        });
        self.tell_room();
    }

    /// Sends our business card once on this link, if the peer is to have it. A user has one to give only if it is
    /// an element, too.
    fn give_card(&mut self) {
        let (Phase::Up(conversation), Some((handle, elements))) = (&mut self.phase, &self.own) else {
            return;
        };
        // DEPARTS RFC 5352 3.9: an element should always send its card. There are implementations that cannot read
        // one, so by default only those get it that are known to (see SessionConfig::unasked_business_card).
        let welcome = conversation.shown || self.config.unasked_business_card;
        if !conversation.control || !welcome || conversation.card_sent {
            return;
        }
        let Some(card) = control::fitting_card(handle, elements, conversation.ours) else { return };
        conversation.card_sent = true;
        self.effects.push_back(Effect::Send { link: conversation.link, channel: Channel::Asap, bytes: card });
    }

    fn on_link_lost(&mut self, now: Time, why: LinkFailure) {
        let Phase::Up(conversation) = &self.phase else { return };
        let id = conversation.element.as_ref().map(|element| element.id);
        let short = now.since(conversation.since) < self.config.connect_timeout;
        let fruitless = short && !conversation.fruitful;
        self.timers.cancel(&Timer::Silence);
        self.timers.cancel(&Timer::Returned);
        let (Some(user), Some(id)) = (&mut self.user, id) else {
            let why = (why != LinkFailure::Closed).then_some(why);
            return self.end(why);
        };
        if why == LinkFailure::Closed {
            return self.end(None);
        }
        self.counters.links_lost += 1;
        user.fruitless = if fruitless { user.fruitless.saturating_add(1) } else { 0 };
        user.candidates.suspect(id);
        self.events.push_back(Event::FailoverNecessary);
        let mut reported = BTreeSet::new();
        if tells_unreachable(why) {
            self.report(id);
            reported.insert(id);
        }
        self.give_up_bound(Some(id));
        if self.config.automatic_failover {
            self.begin_failover(now, now, why, reported, None);
        } else {
            self.phase = Phase::Failed { since: now, why, reported };
        }
    }

    fn end(&mut self, why: Option<LinkFailure>) {
        let element = self.current().map(|element| element.id);
        for message in self.outbox.take() {
            self.tell_failed(element, message);
        }
        self.timers = Timers::default();
        self.phase = Phase::Over;
        self.events.push_back(Event::Ended(why));
    }

    /// Puts an element that has left the pool under watch, unless it is.
    fn watch(&mut self, now: Time) {
        let Phase::Up(conversation) = &mut self.phase else { return };
        if self.timers.deadline(&Timer::Silence).is_none() {
            conversation.heard = false;
            self.timers.set(Timer::Silence, now + self.config.connect_timeout);
        }
    }

    fn on_watch_over(&mut self, now: Time) {
        let Phase::Up(conversation) = &self.phase else { return };
        let (link, heard) = (conversation.link, conversation.heard);
        if !conversation.gone || !conversation.unanswered {
            return;
        }
        if heard {
            return self.watch(now);
        }
        self.counters.silent_elements += 1;
        self.effects.push_back(Effect::Close { link, abort: true });
        self.on_link_lost(now, LinkFailure::TimedOut);
    }

    fn on_message(&mut self, channel: Channel, bytes: &[u8], complete: bool) {
        let Phase::Up(conversation) = &mut self.phase else { return };
        conversation.heard = true;
        conversation.fruitful = true;
        let from = conversation.element.as_ref().map(|element| element.id);
        match channel {
            Channel::User(channel) => {
                conversation.unanswered = false;
                if let Some(user) = &mut self.user {
                    user.fruitless = 0;
                }
                self.events.push_back(Event::Received { bytes: bytes.to_vec(), channel, complete, from });
            }
            Channel::Asap if conversation.control => self.on_control(bytes),
            Channel::Asap | Channel::Enrp => self.counters.rejected_messages += 1,
        }
    }

    fn on_control(&mut self, bytes: &[u8]) {
        let Phase::Up(conversation) = &mut self.phase else { return };
        let side = if self.user.is_some() { Side::User } else { Side::Element };
        let (said, answer) = control::read(bytes, side);
        if let Some(bytes) = answer {
            self.counters.rejected_messages += 1;
            self.effects.push_back(Effect::Send { link: conversation.link, channel: Channel::Asap, bytes });
        }
        match said {
            Said::Nothing => {}
            Said::Cookie(cookie) => {
                if let Some(user) = &mut self.user {
                    self.counters.cookies += 1;
                    user.cookie = Some(cookie);
                }
            }
            Said::CookieEcho(cookie) => {
                self.counters.cookies_echoed += 1;
                self.events.push_back(Event::CookieEcho(cookie));
            }
            Said::Card { handle, elements } => {
                self.counters.cards += 1;
                conversation.shown = true;
                // A card of another pool says nothing about where this session may go.
                if let Some(user) = &mut self.user
                    && user.handle == handle
                {
                    user.candidates.set_card(elements.clone());
                }
                self.events.push_back(Event::Card { handle, elements });
                self.give_card();
            }
        }
    }

    fn on_send_failed(&mut self, now: Time, channel: Channel, message: Vec<u8>) {
        let Channel::User(channel) = channel else { return };
        self.counters.returned_messages += 1;
        let failover = !self.handed_over.recall(&message, channel);
        self.outbox.give_back(UserMessage { bytes: message, channel, failover });
        if self.timers.deadline(&Timer::Returned).is_none() {
            self.timers.set(Timer::Returned, now + self.config.connect_timeout);
        }
    }

    /// The link that gave back messages lives on: the element was not found unreachable, so there is no failover
    /// for them.
    fn on_returned_over(&mut self) {
        let element = self.current().map(|element| element.id);
        for message in self.outbox.take() {
            self.tell_failed(element, message);
        }
    }

    fn on_timer(&mut self, now: Time, timer: Timer) {
        match timer {
            Timer::Attempt => {
                if let Phase::Opening { link, .. } = &self.phase {
                    let link = *link;
                    self.effects.push_back(Effect::Close { link, abort: true });
                    self.on_attempt_failed(now, LinkFailure::TimedOut);
                }
            }
            Timer::Silence => self.on_watch_over(now),
            Timer::Returned => self.on_returned_over(),
            Timer::Patience => self.on_patience_over(now),
            Timer::Retry => self.on_retry(now),
            Timer::MoveOn => {
                if self.config.automatic_failover
                    && let Phase::Failed { since, why, reported } = &mut self.phase
                {
                    let (since, why, reported) = (*since, *why, std::mem::take(reported));
                    self.begin_failover(now, since, why, reported, None);
                }
            }
            Timer::Deadline => match &self.phase {
                Phase::Seeking(seek) => {
                    let why = seek.why;
                    self.end(Some(why));
                }
                Phase::Opening { seek, link, .. } => {
                    let (link, why) = (*link, seek.why);
                    self.effects.push_back(Effect::Close { link, abort: true });
                    self.end(Some(why));
                }
                Phase::Accepting { .. } | Phase::Up(_) | Phase::Failed { .. } | Phase::Over => {}
            },
        }
    }

    /// Whether this is the link in use; anything else comes from one that is dead.
    fn is_current(&mut self, link: LinkId) -> bool {
        let current = match &self.phase {
            Phase::Accepting { link } | Phase::Opening { link, .. } => Some(*link),
            Phase::Up(conversation) => Some(conversation.link),
            Phase::Seeking(_) | Phase::Failed { .. } | Phase::Over => None,
        };
        if current != Some(link) {
            self.counters.late_inputs += 1;
        }
        current == Some(link)
    }
}

impl Machine for Session {
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::LinkUp { link, kind, protocol, .. } => {
                if self.is_current(link) {
                    self.on_link_up(now, link, kind, protocol);
                }
            }
            Input::LinkDown { link, why } => {
                if self.is_current(link) {
                    match &self.phase {
                        Phase::Opening { .. } => self.on_attempt_failed(now, why),
                        Phase::Up(_) => self.on_link_lost(now, why),
                        Phase::Accepting { .. } => self.end((why != LinkFailure::Closed).then_some(why)),
                        Phase::Seeking(_) | Phase::Failed { .. } | Phase::Over => {}
                    }
                }
            }
            Input::Message { link, channel, bytes, complete } => {
                if self.is_current(link) {
                    self.on_message(channel, bytes, complete);
                }
            }
            Input::SendFailed { link, channel, message } => {
                if self.is_current(link) && matches!(self.phase, Phase::Up(_)) {
                    self.on_send_failed(now, channel, message);
                }
            }
            Input::Writable { link } => {
                if self.is_current(link) {
                    self.events.push_back(Event::Writable);
                }
            }
            Input::Timeout => {
                while let Some(timer) = self.timers.pop_due(now) {
                    self.on_timer(now, timer);
                }
            }
            Input::Incoming { .. } | Input::Announce { .. } => {}
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
