//! A session between a pool user and a pool element (RFC 5352 3.7-3.9, 6.5): choosing the element, data and
//! control channel, cookie, business card, and moving on to the next element when one fails.
//!
//! [`Session`] is one conversation with one element at a time; [`Dispatch`] sends each message for itself to a
//! pool or an element, as an unconnected socket does. Resolving and reporting are the endpoint's business; both ask for
//! them by events.

mod control;
pub mod dispatch;
mod machine;
mod outbox;
mod selection;

pub use dispatch::Dispatch;
pub use machine::Session;

use crate::endpoint::RequestFailure;
use crate::machine::{LinkFailure, LinkKind, UserChannel};
use crate::types::{PeId, PoolElement, PoolHandle};
use std::time::Duration;

/// Message delivery options (RFC 5352 6.5.5), OR-ed.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct SendOptions(pub u32);

impl std::ops::BitOr for SendOptions {
    type Output = SendOptions;
    fn bitor(self, other: SendOptions) -> SendOptions {
        SendOptions(self.0 | other.0)
    }
}

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

    const ALL_KNOWN: SendOptions = SendOptions(0x101f);

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
    /// Options that are unknown, contradict each other or have no meaning here (TO_ALL on a session, a cookie from
    /// a user), or user data under the payload protocol identifier of ASAP (RFC 5352 5). EINVAL.
    BadOptions,
}

/// Why a round of trying to reach an element came to nothing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoElement {
    /// The pool could not be resolved.
    NotResolved(RequestFailure),
    /// These were tried, in this order. Empty: no element has a transport that sessions can use.
    NotReached(Vec<(PeId, LinkFailure)>),
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Counters {
    pub attempts: u64,
    pub attempts_failed: u64,
    pub rounds_failed: u64,
    pub links_lost: u64,
    pub silent_elements: u64,
    pub failovers: u64,
    pub cookies: u64,
    pub cookies_echoed: u64,
    pub cards: u64,
    pub rejected_messages: u64,
    pub late_inputs: u64,
    pub returned_messages: u64,
}

/// What a session tells its owner.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// Resolve this pool. Each is to be answered, once, with [`Session::resolved`].
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
    /// The peer sent its business card, to be told to the endpoint ([`crate::endpoint::Endpoint::on_card`]).
    Card {
        /// The peer's pool.
        handle: PoolHandle,
        /// Whom to turn to when it fails.
        elements: Vec<PoolElement>,
    },
    /// The first element is reached.
    Connected {
        /// Which (none on the element's side).
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
        /// The element it came from (RFC 5352 6.6): on the user's side its element; on the element's side the user, if that
        /// is known to be an element itself.
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
    /// No element could be reached in this round. The first connection and an automatic failover go on
    /// trying (the latter until its deadline); a failover of the application's is over, the state `Failed` again.
    FailoverFailed(NoElement),
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
