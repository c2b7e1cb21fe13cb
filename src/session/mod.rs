//! A session between a pool user and a pool element (RFC 5352 3.7-3.9, 6.5): choosing the element, data and
//! control channel, cookie, business card, and moving on to the next element when one fails.
//!
//! Resolving and reporting are the endpoint's business; the session asks for them by events.

use crate::config::{Limits, SessionConfig};
use crate::endpoint::{RequestFailure, Resolution};
use crate::machine::{Effect, Input, LinkFailure, LinkId, LinkKind, Machine, UserChannel};
use crate::types::{PeId, PoolElement, PoolHandle, Time};
use std::time::Duration;

/// Message delivery options (RFC 5352 6.5.5), OR-ed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SendOptions(pub u32);

impl SendOptions {
    /// ASAP_USE_DEFAULT.
    pub const DEFAULT: SendOptions = SendOptions(0);
    /// ASAP_SEND_FAILOVER: send again to another element if this one fails.
    pub const FAILOVER: SendOptions = SendOptions(0x0001);
    /// ASAP_SEND_NO_FAILOVER: give the message back instead.
    pub const NO_FAILOVER: SendOptions = SendOptions(0x0002);
    /// ASAP_SEND_TO_LAST: to the element the previous message to this pool went to.
    pub const TO_LAST: SendOptions = SendOptions(0x0004);
    /// ASAP_SEND_TO_ALL: a copy to every element but the sender.
    pub const TO_ALL: SendOptions = SendOptions(0x0008);
    /// ASAP_SEND_TO_SELF: with TO_ALL, to the sender too.
    pub const TO_SELF: SendOptions = SendOptions(0x0010);
    /// ASAP_SCTP_UNORDER.
    pub const UNORDERED: SendOptions = SendOptions(0x1000);

    /// Whether all bits of `other` are set.
    pub fn contains(self, other: SendOptions) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Why a message was not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendRefused {
    /// More waits than the limit allows; `Event::Writable` follows. EAGAIN.
    Full,
    /// Longer than the limit. EMSGSIZE.
    TooLong,
    /// The element has failed and failover is the application's to start. EPIPE.
    FailedOver,
    /// The session has ended. EPIPE.
    Ended,
    /// There is no control channel (cookies, cards). EOPNOTSUPP.
    NoControlChannel,
    /// Options that contradict each other. EINVAL.
    BadOptions,
}

/// What a session tells its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Resolve this pool; answer with [`Session::resolved`].
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
    /// The peer sent its business card: populate the cache with its pool (BC1).
    Card {
        /// The peer's pool.
        handle: PoolHandle,
        /// Whom to turn to when it fails.
        elements: Vec<PoolElement>,
    },
    /// The first element is reached.
    Connected {
        /// Which (0-valued on the element's side).
        element: Option<PeId>,
        /// What carries the session.
        kind: LinkKind,
        /// Whether there is a control channel.
        control: bool,
    },
    /// The user's data came.
    Received {
        /// The data.
        bytes: Vec<u8>,
        /// How it travelled.
        channel: UserChannel,
        /// Whether a message ends here.
        complete: bool,
        /// The element it came from, if it came from one.
        from: Option<PeId>,
    },
    /// The user came from another element and brought its cookie (element's side).
    CookieEcho(Vec<u8>),
    /// The element has failed. With automatic failover the session is already moving on.
    FailoverNecessary,
    /// The session goes on at another element.
    FailoverComplete {
        /// Which.
        element: PeId,
        /// Whether a cookie was echoed to it.
        has_cookie: bool,
        /// How long the session was without element.
        gap: Duration,
    },
    /// No element could be reached this time; it goes on trying until its deadline if automatic.
    FailoverFailed(RequestFailure),
    /// Error.Report (RFC 5352 6.7): this message was not delivered.
    SendFailed {
        /// To which element.
        element: Option<PeId>,
        /// The message.
        message: Vec<u8>,
        /// How it was to travel.
        channel: UserChannel,
    },
    /// Room for more messages after `SendRefused::Full`.
    Writable,
    /// The session has ended: closed in order by either side (none), or for this reason.
    Ended(Option<LinkFailure>),
}

/// The state a session is in.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum State {
    /// Looking for the first element.
    Connecting,
    /// At an element.
    Connected,
    /// The element has failed; waiting for the application's failover.
    Failed,
    /// Looking for the next element.
    FailingOver,
    /// Over.
    Ended,
}

/// A session, on either side.
#[derive(Debug)]
pub struct Session {}

#[allow(unused_variables)]
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
        todo!()
    }
    /// An element's side of a session on an accepted link (its `LinkUp` still to come).
    pub fn element(
        now: Time,
        config: SessionConfig,
        limits: Limits,
        link: LinkId,
        own: Option<(PoolHandle, Vec<PoolElement>)>,
    ) -> Session {
        todo!()
    }
    /// The answer to [`Event::Resolve`].
    pub fn resolved(&mut self, now: Time, outcome: Result<Resolution, RequestFailure>) {
        todo!()
    }
    /// The pool has changed (by subscription): order of failover follows, and if the element in use is gone from
    /// it and its link is silent, the session moves on.
    pub fn pool_changed(&mut self, now: Time, resolution: Option<&Resolution>) {
        todo!()
    }
    /// Sends a message, or keeps it for the next element while there is none.
    pub fn send(
        &mut self,
        now: Time,
        message: Vec<u8>,
        channel: UserChannel,
        options: SendOptions,
    ) -> Result<(), SendRefused> {
        todo!()
    }
    /// Gives the user a cookie (element's side, RFC 5352 3.8).
    pub fn send_cookie(&mut self, now: Time, cookie: &[u8]) -> Result<(), SendRefused> {
        todo!()
    }
    /// Sends a business card, or a new one (RFC 5352 3.9).
    pub fn send_business_card(
        &mut self,
        now: Time,
        handle: &PoolHandle,
        elements: &[PoolElement],
    ) -> Result<(), SendRefused> {
        todo!()
    }
    /// Moves on to another element on the application's behalf; `report` the present one as unreachable.
    /// `max_age`: a resolution no older than this will do.
    pub fn fail_over(&mut self, now: Time, report: bool, max_age: Duration) {
        todo!()
    }
    /// Changes the configuration (automatic failover, deadlines) from now on.
    pub fn configure(&mut self, config: SessionConfig) {
        todo!()
    }
    /// Ends the session.
    pub fn close(&mut self, now: Time, abort: bool) {
        todo!()
    }
    /// Its state.
    pub fn state(&self) -> State {
        todo!()
    }
    /// The pool, on the user's side.
    pub fn handle(&self) -> Option<&PoolHandle> {
        todo!()
    }
    /// The element in use.
    pub fn current(&self) -> Option<&PoolElement> {
        todo!()
    }
    /// Whether a cookie is held.
    pub fn has_cookie(&self) -> bool {
        todo!()
    }
    /// Bytes of user messages kept for the next element.
    pub fn unsent(&self) -> usize {
        todo!()
    }
}

#[allow(unused_variables)]
impl Machine for Session {
    type Event = Event;
    fn handle(&mut self, now: Time, input: Input<'_>) {
        todo!()
    }
    fn poll_effect(&mut self) -> Option<Effect> {
        todo!()
    }
    fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
    fn poll_timeout(&self) -> Option<Time> {
        todo!()
    }
}
