//! What is said while there is an element, on either side: messages, cookies, business cards (RFC 5352 3.8, 3.9, 6.5.5), whether the
//! element is silent, and what becomes of messages when it is lost. Reads no control message itself (`control`).

use super::{Loss, Phase, Session, Timer};
use crate::machine::{Channel, Effect, LinkFailure, LinkId, LinkKind, Protocol, UserChannel};
use crate::session::control::{self, Said, Side};
use crate::session::outbox::{self, HandedOver, UserMessage};
use crate::session::selection::tells_unreachable;
use crate::session::{Event, SendOptions, SendRefused};
use crate::types::{PeId, PoolElement, PoolHandle, Time};
use std::collections::BTreeSet;
use std::net::SocketAddr;

/// A link that is up.
#[derive(Debug)]
pub(super) struct Conversation {
    pub(super) link: LinkId,
    /// None on the element's side.
    pub(super) element: Option<PoolElement>,
    /// The user that is itself an element (element's side).
    sender: Option<(PoolHandle, PeId)>,
    /// The peer's addresses.
    peer: Vec<SocketAddr>,
    pub(super) since: Time,
    pub(super) control: bool,
    /// The peer has shown that it is one of ours.
    pub(super) ours: bool,
    /// The peer has shown that it understands business cards.
    pub(super) shown: bool,
    pub(super) card_sent: bool,
    /// A message has come on it.
    pub(super) fruitful: bool,
    /// The element has left the pool.
    pub(super) gone: bool,
    /// Something was sent since a message came.
    pub(super) unanswered: bool,
    /// A message came since the element was last put under watch.
    pub(super) heard: bool,
}

impl Session {
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
            Phase::Failed(_) => Err(SendRefused::FailedOver),
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
            | Phase::Failed(_) => Err(SendRefused::NoControlChannel),
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

    /// Gives no business card any more on links to come.
    pub fn withdraw_business_card(&mut self) {
        self.own = None;
    }

    /// The user was found to be this element by its address (RFC 5352 6.6 A; element's side). What it said of itself
    /// counts more.
    pub fn identify_sender(&mut self, handle: PoolHandle, id: PeId) {
        if let Phase::Up(conversation) = &mut self.phase {
            conversation.sender.get_or_insert((handle, id));
        }
    }

    /// The element that the user is itself, as far as it is known (element's side).
    pub fn sender(&self) -> Option<&(PoolHandle, PeId)> {
        self.conversation()?.sender.as_ref()
    }

    /// The peer's addresses while there is one.
    pub fn peer_addresses(&self) -> &[SocketAddr] {
        self.conversation().map_or(&[], |conversation| &conversation.peer)
    }

    /// Error.Report for messages that must not go to another element.
    pub(super) fn give_up_bound(&mut self, element: Option<PeId>) {
        for message in self.outbox.take_bound() {
            self.tell_failed(element, message);
        }
        self.tell_room();
    }

    pub(super) fn tell_failed(&mut self, element: Option<PeId>, message: UserMessage) {
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

    pub(super) fn on_link_up(
        &mut self,
        now: Time,
        link: LinkId,
        kind: LinkKind,
        protocol: Protocol,
        peer: &[SocketAddr],
    ) {
        let (seek, element) = match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Accepting { .. } => (None, None),
            Phase::Opening { seek, element, .. } => (Some(seek), Some(element)),
            Phase::Up(mut conversation) if self.user.is_none() && protocol == Protocol::Session => {
                // A client that was silent, and so taken for one without control channel, has one after all.
                conversation.control = true;
                conversation.ours = kind == LinkKind::Tcp;
                conversation.shown = control::shows_cards(kind, protocol, None);
                self.phase = Phase::Up(conversation);
                self.give_card();
                return;
            }
            other @ (Phase::Seeking(_) | Phase::Up(_) | Phase::Failed(_) | Phase::Over) => {
                self.phase = other;
                return;
            }
        };
        for timer in [Timer::Attempt, Timer::Settled, Timer::Retry, Timer::Deadline] {
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
            shown: control::shows_cards(kind, protocol, element.as_ref()),
            element,
            sender: None,
            peer: peer.to_vec(),
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
                Event::FailoverComplete { element, has_cookie, gap: now.since(seek.loss.since) }
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

    pub(super) fn on_link_lost(&mut self, now: Time, why: LinkFailure) {
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
        if why == LinkFailure::Closed && self.config.orderly_end_is_final {
            return self.end(None);
        }
        self.counters.links_lost += 1;
        user.fruitless = if fruitless { user.fruitless.saturating_add(1) } else { 0 };
        user.candidates.suspect(id);
        self.events.push_back(Event::FailoverNecessary);
        let mut reported = BTreeSet::new();
        // Who ends in order is there.
        if why != LinkFailure::Closed && tells_unreachable(why) {
            self.report(id);
            reported.insert(id);
        }
        self.give_up_bound(Some(id));
        let loss = Loss { since: now, why, element: Some(id), reported };
        if self.config.automatic_failover {
            self.begin_failover(now, loss, None);
        } else {
            self.phase = Phase::Failed(loss);
        }
    }

    /// Puts an element that has left the pool under watch, unless it is.
    pub(super) fn watch(&mut self, now: Time) {
        let Phase::Up(conversation) = &mut self.phase else { return };
        if self.timers.deadline(&Timer::Silence).is_none() {
            conversation.heard = false;
            self.timers.set(Timer::Silence, now + self.config.connect_timeout);
        }
    }

    pub(super) fn on_watch_over(&mut self, now: Time) {
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

    pub(super) fn on_message(&mut self, channel: Channel, bytes: &[u8], complete: bool) {
        let Phase::Up(conversation) = &mut self.phase else { return };
        conversation.heard = true;
        conversation.fruitful = true;
        let element = conversation.element.as_ref().map(|element| element.id);
        let from = element.or_else(|| conversation.sender.as_ref().map(|(_, id)| *id));
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
                // Over SCTP nothing else has told yet: only ours put the parameter there, and only for ours.
                conversation.ours |= elements.iter().any(|element| element.capabilities.is_some());
                // RFC 5352 6.6 has senders named by their pool element handle, and a card names the pool only. Among ours the
                // first element on a user's card is the user itself (docs/tcp.md 3); it has to be where the user is.
                let named = elements.first().filter(|first| {
                    let at = first.user_transport.addresses();
                    conversation.peer.iter().any(|peer| at.contains(&peer.ip()))
                });
                if side == Side::Element
                    && conversation.ours
                    && let Some(first) = named
                {
                    conversation.sender = Some((handle.clone(), first.id));
                }
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

    pub(super) fn on_send_failed(&mut self, now: Time, channel: Channel, message: Vec<u8>) {
        let Channel::User(channel) = channel else { return };
        self.counters.returned_messages += 1;
        let failover = !self.handed_over.recall(&message, channel);
        if channel.expires.is_some_and(|until| until <= now) {
            let element = self.current().map(|element| element.id);
            return self.tell_failed(element, UserMessage { bytes: message, channel, failover });
        }
        self.outbox.give_back(UserMessage { bytes: message, channel, failover });
        if self.timers.deadline(&Timer::Returned).is_none() {
            self.timers.set(Timer::Returned, now + self.config.connect_timeout);
        }
    }

    /// The link that gave back messages lives on: the element was not found unreachable, so there is no failover
    /// for them.
    pub(super) fn on_returned_over(&mut self) {
        let element = self.current().map(|element| element.id);
        for message in self.outbox.take() {
            self.tell_failed(element, message);
        }
    }
}
