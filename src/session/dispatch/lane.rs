//! The links to elements: opened when needed, what is said on them (RFC 5352 3.8, 3.9), what becomes of their messages when they are
//! lost. Chooses nobody (`posting`).

use super::{Dispatch, Event, Posted, Target, Timer};
use crate::machine::{Channel, Effect, LinkFailure, LinkId, LinkKind, Protocol, UserChannel};
use crate::session::control::{self, Said, Side};
use crate::session::outbox::{HandedOver, Outbox, UserMessage};
use crate::session::selection::{destination, tells_unreachable};
use crate::types::{PoolElement, PoolHandle, Time};

/// A link to an element.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) handle: PoolHandle,
    pub(super) element: PoolElement,
    pub(super) state: LaneState,
    /// What waits for the link, or was given back by it.
    pub(super) outbox: Outbox<Posted>,
    pub(super) used: u64,
}

#[derive(Debug)]
pub(super) enum LaneState {
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

impl Dispatch {
    /// Opens a link to an element; none if there are too many already and none can be spared.
    pub(super) fn open(
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

    pub(super) fn forget_lane(&mut self, link: LinkId) -> Option<Lane> {
        let lane = self.lanes.remove(&link)?;
        self.by_element.remove(&(lane.handle.clone(), lane.element.id));
        self.timers.cancel(&Timer::Attempt(link));
        self.timers.cancel(&Timer::Returned(link));
        Some(lane)
    }

    pub(super) fn on_lane_up(&mut self, link: LinkId, kind: LinkKind, protocol: Protocol) {
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
            shown: control::shows_cards(kind, protocol, Some(&lane.element)),
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

    pub(super) fn on_lane_down(&mut self, now: Time, link: LinkId, why: LinkFailure) {
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

    pub(super) fn on_message(&mut self, link: LinkId, channel: Channel, bytes: &[u8], complete: bool) {
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

    pub(super) fn on_send_failed(&mut self, now: Time, link: LinkId, channel: UserChannel, message: Vec<u8>) {
        let Some(lane) = self.lanes.get_mut(&link) else { return };
        let LaneState::Up { handed_over, .. } = &mut lane.state else { return };
        self.counters.returned_messages += 1;
        let failover = self.config.automatic_failover ^ handed_over.recall(&message, channel);
        let message = UserMessage { bytes: message, channel, failover };
        if channel.expires.is_some_and(|until| until <= now) {
            let (handle, id) = (lane.handle.clone(), lane.element.id);
            return self.tell_failed(&handle, Some(id), message);
        }
        let tried = Vec::new();
        lane.outbox.give_back(Posted { message, target: Target::Any, tried, refreshed: false });
        if self.timers.deadline(&Timer::Returned(link)).is_none() {
            self.timers.set(Timer::Returned(link), now + self.config.connect_timeout);
        }
    }
}
