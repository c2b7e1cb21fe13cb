//! One session (RFC 5352 3.7-3.9): at most one link to one element at a time (`conversation`), and the search for the
//! next element when there is none (`seeking`). Here are its states, its timers, and which of the two parts an input is for.

mod conversation;
mod seeking;

use self::conversation::Conversation;
use self::seeking::{Asked, Seek, User};
use super::outbox::{HandedOver, Outbox, UserMessage};
use super::selection::Candidates;
use super::{Counters, Event, State};
use crate::config::{Limits, SessionConfig};
use crate::machine::{Effect, Input, LinkFailure, LinkId, Machine};
use crate::timer::Timers;
use crate::types::{PeId, PoolElement, PoolHandle, Time};
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
    Failed(Loss),
    Over,
}

/// That there is no element any more, or not yet.
#[derive(Debug)]
struct Loss {
    /// When there last was an element, or when the session began.
    since: Time,
    /// Why the last link was lost.
    why: LinkFailure,
    /// Whose link that was, unless the application has left the element.
    element: Option<PeId>,
    /// Elements reported since.
    reported: BTreeSet<PeId>,
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
    /// The element lost is dead by now, if it was dying.
    Settled,
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

impl Session {
    /// A user's session with a pool; asks for its resolution at once. `own`: the user is itself an element of this
    /// pool (which may be another), and sends cards with these elements as its failover order, itself first.
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
        let why = LinkFailure::Unreachable;
        let seek = Seek {
            loss: Loss { since: now, why, element: None, reported: BTreeSet::new() },
            first: true,
            held_back: true,
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

    /// Changes the configuration (automatic failover, deadlines) from now on. Switched to automatic while the
    /// element has failed, the session moves on at the next timeout, which is due at once.
    pub fn configure(&mut self, config: SessionConfig) {
        self.config = sound(config);
        if !self.config.automatic_failover {
            self.timers.cancel(&Timer::Deadline);
        } else if matches!(self.phase, Phase::Failed(_)) {
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
            Phase::Seeking(_) | Phase::Failed(_) => None,
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
            Phase::Failed(_) => State::Failed,
            Phase::Over => State::Ended,
        }
    }

    /// The pool, on the user's side.
    pub fn pool(&self) -> Option<&PoolHandle> {
        self.user.as_ref().map(|user| &user.handle)
    }

    /// The element in use.
    pub fn current(&self) -> Option<&PoolElement> {
        self.conversation()?.element.as_ref()
    }

    fn conversation(&self) -> Option<&Conversation> {
        match &self.phase {
            Phase::Up(conversation) => Some(conversation),
            Phase::Accepting { .. }
            | Phase::Seeking(_)
            | Phase::Opening { .. }
            | Phase::Failed(_)
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

    fn end(&mut self, why: Option<LinkFailure>) {
        let element = self.current().map(|element| element.id);
        for message in self.outbox.take() {
            self.tell_failed(element, message);
        }
        self.timers = Timers::default();
        self.phase = Phase::Over;
        self.events.push_back(Event::Ended(why));
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
            Timer::Settled => self.advance(now),
            Timer::Retry => self.on_retry(now),
            Timer::MoveOn => {
                if self.config.automatic_failover
                    && let Some(loss) = self.take_loss()
                {
                    self.begin_failover(now, loss, None);
                }
            }
            Timer::Deadline => match &self.phase {
                Phase::Seeking(seek) => {
                    let why = seek.loss.why;
                    self.end(Some(why));
                }
                Phase::Opening { seek, link, .. } => {
                    let (link, why) = (*link, seek.loss.why);
                    self.effects.push_back(Effect::Close { link, abort: true });
                    self.end(Some(why));
                }
                Phase::Accepting { .. } | Phase::Up(_) | Phase::Failed(_) | Phase::Over => {}
            },
        }
    }

    /// Takes the loss that the application is to say how to go on after; a phase is to follow at once.
    fn take_loss(&mut self) -> Option<Loss> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Failed(loss) => Some(loss),
            other => {
                self.phase = other;
                None
            }
        }
    }

    /// Whether this is the link in use; anything else comes from one that is dead.
    fn is_current(&mut self, link: LinkId) -> bool {
        let current = match &self.phase {
            Phase::Accepting { link } | Phase::Opening { link, .. } => Some(*link),
            Phase::Up(conversation) => Some(conversation.link),
            Phase::Seeking(_) | Phase::Failed(_) | Phase::Over => None,
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
            Input::LinkUp { link, kind, protocol, peer, .. } => {
                if self.is_current(link) {
                    self.on_link_up(now, link, kind, protocol, peer);
                }
            }
            Input::LinkDown { link, why } => {
                if self.is_current(link) {
                    match &self.phase {
                        Phase::Opening { .. } => self.on_attempt_failed(now, why),
                        Phase::Up(_) => self.on_link_lost(now, why),
                        Phase::Accepting { .. } => self.end((why != LinkFailure::Closed).then_some(why)),
                        Phase::Seeking(_) | Phase::Failed(_) | Phase::Over => {}
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
