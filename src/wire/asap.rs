//! ASAP messages (RFC 5352 2.2).

use super::{Decoded, Dialect, Rejected, TooLong};
use crate::policy::Policy;
use crate::types::{Capabilities, ErrorCause, PeId, PoolElement, PoolHandle, ServerId, TransportAddress};

/// A registration (RFC 5352 2.2.1). Its element's `capabilities` travel before the element.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The pool.
    pub handle: PoolHandle,
    /// The element.
    pub element: PoolElement,
}

/// A keep-alive (RFC 5352 2.2.7).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeepAlive {
    /// H: the sender wants to be the receiver's home.
    pub home: bool,
    /// The sender.
    pub server: Option<ServerId>,
    /// The pool.
    pub handle: PoolHandle,
    /// RSPLIB names the element, and so do ours to ours; the RFC does not.
    pub element: Option<PeId>,
}

/// The fourteen messages of ASAP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AsapMessage {
    /// 0x01, element to registrar.
    Registration(Registration),
    /// 0x02, element to registrar.
    Deregistration {
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PeId,
    },
    /// 0x03, registrar to element.
    RegistrationResponse {
        /// R: the registration is refused.
        reject: bool,
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PeId,
        /// Ours to ours: what the registrar can do; between handle and identifier.
        capabilities: Option<Capabilities>,
        /// Reasons, or warnings if not refused.
        error: Option<Vec<ErrorCause>>,
    },
    /// 0x04, registrar to element, also unasked when the registration has run out.
    DeregistrationResponse {
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PeId,
        /// Present: refused.
        error: Option<Vec<ErrorCause>>,
    },
    /// 0x05, user or element to registrar.
    HandleResolution {
        /// S: tell me when the pool changes.
        subscribe: bool,
        /// The pool.
        handle: PoolHandle,
        /// RSPLIB's option 0x803f: how many elements are wanted.
        items: Option<u32>,
        /// Ours: what the asker can do; after handle and option.
        capabilities: Option<Capabilities>,
    },
    /// 0x06, registrar to user or element.
    HandleResolutionResponse {
        /// A: changes of the pool will be told.
        accept_updates: bool,
        /// The pool.
        handle: PoolHandle,
        /// The pool's policy; absent means round robin.
        policy: Option<Policy>,
        /// The elements, each with its capability parameter before it if it has one.
        elements: Vec<PoolElement>,
        /// Present: refused.
        error: Option<Vec<ErrorCause>>,
    },
    /// 0x07, registrar to element.
    KeepAlive(KeepAlive),
    /// 0x08, element to registrar.
    KeepAliveAck {
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PeId,
    },
    /// 0x09, user or element to registrar.
    EndpointUnreachable {
        /// The pool.
        handle: PoolHandle,
        /// The element that could not be reached.
        element: PeId,
    },
    /// 0x0a, registrar to everyone in multicast reach.
    ServerAnnounce {
        /// The sender.
        server: Option<ServerId>,
        /// Where it serves ASAP; SCTP and TCP only.
        transports: Vec<TransportAddress>,
    },
    /// 0x0b, element to user.
    Cookie(Vec<u8>),
    /// 0x0c, user to its next element.
    CookieEcho(Vec<u8>),
    /// 0x0d, between user and element.
    BusinessCard {
        /// The sender's pool.
        handle: PoolHandle,
        /// Whom to turn to, in this order, when the sender fails.
        elements: Vec<PoolElement>,
    },
    /// 0x0e, to the sender of something not understood.
    Error(Vec<ErrorCause>),
}

pub(super) fn decode(_bytes: &[u8], _dialect: Dialect) -> Result<Decoded<AsapMessage>, Rejected> {
    todo!()
}

pub(super) fn encode(_message: &AsapMessage, _dialect: Dialect) -> Result<Vec<u8>, TooLong> {
    todo!()
}
