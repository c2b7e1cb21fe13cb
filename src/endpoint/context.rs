//! What the parts of the endpoint share: the clock reading, the generator, the timers, the home link, and the
//! queues of effects and events. It hides how a message gets onto a link; it decides nothing.

use super::acquaintance::{ANSWER_TIME, Acquaintance, Permission, QUESTION};
use super::{Counters, Event, Home, Offer, RegistrationId, RequestId};
use crate::config::{EndpointConfig, Limits};
use crate::machine::{Channel, Destination, Effect, LinkFailure, LinkId, LinkKind};
use crate::timer::Timers;
use crate::types::{ErrorCause, PoolHandle, Rng, Time};
use crate::wire::{AsapMessage, Dialect, TooLong};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

/// Everything the endpoint waits for. The order decides between timers due at the same instant: answers to the
/// owner before repetitions.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Timer {
    /// A resolution's deadline.
    RequestDeadline(RequestId),
    /// The deadline of a registration's or deregistration's outcome.
    OutcomeDeadline(RegistrationId),
    /// T1-ENRPrequest.
    T1Request(PoolHandle),
    /// T2-registration.
    T2Registration(RegistrationId),
    /// T3-deregistration.
    T3Deregistration(RegistrationId),
    /// T4-reregistration.
    T4Reregistration(RegistrationId),
    /// T5-Serverhunt.
    T5ServerHunt,
    /// SCTP has had its time: registrars that it has not reached are tried over TCP, too.
    Fallback,
    /// T7-ENRPoutdate of an announced address, by its number.
    T7Outdate(u64),
    /// A subscription that the registrar does not hold is asked for again.
    Subscription(PoolHandle),
    /// The oldest report kept for want of a registrar is given up.
    Reports,
    /// The home registrar was asked how it speaks, and has had its time.
    Acquaintance,
}

/// The link to the home registrar.
#[derive(Debug)]
pub(super) struct HomeLink {
    pub(super) link: LinkId,
    pub(super) kind: LinkKind,
    pub(super) home: Home,
    /// Our addresses on it.
    pub(super) local: Vec<IpAddr>,
    /// What was connected to; none if the registrar opened the link.
    pub(super) destination: Option<Destination>,
    /// When something last came on it (or it came up).
    pub(super) heard: Time,
    pub(super) acquaintance: Acquaintance,
    /// What it last did not understand, in its words: an ASAP_ERROR does not say of which message.
    pub(super) complaint: Vec<ErrorCause>,
}

/// As many failed attempts are remembered to be told. There is no end to those that announcements may cause.
pub(super) const MAX_TRIED: usize = 64;

/// What the parts of the endpoint share.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) now: Time,
    pub(super) config: EndpointConfig,
    pub(super) limits: Limits,
    pub(super) rng: Rng,
    pub(super) timers: Timers<Timer>,
    pub(super) counters: Counters,
    pub(super) home: Option<HomeLink>,
    /// Whom this hunt has tried, each with its last failure: what is told when a deadline passes without a home.
    pub(super) tried: Vec<(Destination, LinkFailure)>,
    pub(super) effects: VecDeque<Effect>,
    pub(super) events: VecDeque<Event>,
}

impl Context {
    pub(super) fn new(config: EndpointConfig, limits: Limits, seed: u64) -> Context {
        Context {
            now: Time::ZERO,
            config,
            limits,
            rng: Rng::new(seed),
            timers: Timers::default(),
            counters: Counters::default(),
            home: None,
            tried: Vec::new(),
            effects: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// Takes over the clock reading, which never goes back.
    pub(super) fn tick(&mut self, now: Time) {
        self.now = self.now.max(now);
    }

    /// Sets a timer, never to this very instant: a variable configured as zero must not make the machine spin.
    pub(super) fn set_timer(&mut self, timer: Timer, after: Duration) {
        self.timers.set(timer, self.now + after.max(Duration::from_millis(1)));
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.events.push_back(event);
    }

    pub(super) fn act(&mut self, effect: Effect) {
        self.effects.push_back(effect);
    }

    pub(super) fn note_tried(&mut self, to: &Destination, why: LinkFailure) {
        let room = self.tried.len() < MAX_TRIED;
        match self.tried.iter_mut().find(|(tried, _)| tried == to) {
            Some((_, last)) => *last = why,
            None if room => self.tried.push((to.clone(), why)),
            None => {}
        }
    }

    /// Sends a message to the home registrar. False: there is none.
    pub(super) fn send_home(&mut self, message: &AsapMessage) -> Result<bool, TooLong> {
        let Some(home) = &self.home else { return Ok(false) };
        let (link, dialect) = (home.link, home.acquaintance.spoken());
        self.send(link, message, dialect).map(|()| true)
    }

    /// Whether the home registrar, if there is one, may be told of a pool and of what is registered in it. If that cannot be said before
    /// it is known how it speaks, it is asked.
    pub(super) fn permission(&mut self, handle: &PoolHandle, offer: Option<&Offer>) -> Permission {
        let Some(home) = &mut self.home else { return Permission::Later };
        let permission = home.acquaintance.permits(handle, offer);
        if permission == Permission::Later && home.acquaintance.ask() {
            let link = home.link;
            self.act(Effect::Send { link, channel: Channel::Asap, bytes: QUESTION.to_vec() });
            self.set_timer(Timer::Acquaintance, ANSWER_TIME);
        }
        permission
    }

    pub(super) fn send(
        &mut self,
        link: LinkId,
        message: &AsapMessage,
        dialect: Dialect,
    ) -> Result<(), TooLong> {
        let bytes = message.encode(dialect)?;
        self.act(Effect::Send { link, channel: Channel::Asap, bytes });
        Ok(())
    }

    /// Tells the sender of something not understood; nothing if there is nothing to tell. (What is wrong with an
    /// error message is never told: decoding keeps it to itself.)
    pub(super) fn send_error(&mut self, link: LinkId, causes: Vec<ErrorCause>, dialect: Dialect) {
        if !causes.is_empty() {
            // Causes that do not fit in a message cannot be told.
            let _ = self.send(link, &AsapMessage::Error(causes), dialect);
        }
    }
}
