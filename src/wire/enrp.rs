//! ENRP messages (RFC 5353 2).

use super::{Decoded, Dialect, Rejected, TooLong};
use crate::types::{
    Capabilities, ErrorCause, PeChecksum, PoolElement, PoolHandle, ServerId, TransportAddress,
};

/// The identifiers every ENRP message begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EnrpHeader {
    /// Who sends it; none only from a peer that is wrong.
    pub sender: Option<ServerId>,
    /// For whom; none: for all, or not known.
    pub receiver: Option<ServerId>,
}

/// A registrar and where it serves ENRP (RFC 5354 3.11).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerInformation {
    /// Its identifier; none in entries a peer has not heard of yet.
    pub server: Option<ServerId>,
    /// Its transport: SCTP in the RFC, TCP among ours.
    pub transport: TransportAddress,
}

/// What a handle update does (RFC 5353 2.4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UpdateAction {
    /// ADD_PE.
    AddPe,
    /// DEL_PE.
    DelPe,
}

/// The ten messages of ENRP.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum EnrpMessage {
    /// 0x01.
    Presence {
        /// R: answer me.
        reply_required: bool,
        /// Sender and receiver.
        header: EnrpHeader,
        /// Over the sender's own elements.
        checksum: PeChecksum,
        /// Ours: what the sender can do; between checksum and server information.
        capabilities: Option<Capabilities>,
        /// Where the sender is.
        server: Option<ServerInformation>,
    },
    /// 0x02.
    HandleTableRequest {
        /// W: only elements the receiver owns.
        owned_only: bool,
        /// Sender and receiver.
        header: EnrpHeader,
    },
    /// 0x03.
    HandleTableResponse {
        /// M: ask again for more.
        more: bool,
        /// R: refused.
        reject: bool,
        /// Sender and receiver.
        header: EnrpHeader,
        /// Pools with their elements.
        pools: Vec<(PoolHandle, Vec<PoolElement>)>,
    },
    /// 0x04.
    HandleUpdate {
        /// RSPLIB's private flag 0x01: the sender suggests that the receiver take the element over.
        takeover_suggested: bool,
        /// Sender and receiver.
        header: EnrpHeader,
        /// Added or removed.
        action: UpdateAction,
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PoolElement,
    },
    /// 0x05.
    ListRequest {
        /// Sender and receiver.
        header: EnrpHeader,
    },
    /// 0x06.
    ListResponse {
        /// R: refused.
        reject: bool,
        /// Sender and receiver.
        header: EnrpHeader,
        /// The peers the sender knows.
        servers: Vec<ServerInformation>,
    },
    /// 0x07.
    InitTakeover {
        /// Sender and receiver.
        header: EnrpHeader,
        /// Whose elements are to be taken over.
        target: Option<ServerId>,
    },
    /// 0x08.
    InitTakeoverAck {
        /// Sender and receiver.
        header: EnrpHeader,
        /// Whose elements are to be taken over.
        target: Option<ServerId>,
    },
    /// 0x09.
    TakeoverServer {
        /// Sender and receiver.
        header: EnrpHeader,
        /// Whose elements were taken over.
        target: Option<ServerId>,
    },
    /// 0x0a.
    Error {
        /// Sender and receiver.
        header: EnrpHeader,
        /// What was wrong.
        causes: Vec<ErrorCause>,
    },
}

pub(super) fn decode(_bytes: &[u8], _dialect: Dialect) -> Result<Decoded<EnrpMessage>, Rejected> {
    todo!()
}

pub(super) fn encode(_message: &EnrpMessage, _dialect: Dialect) -> Result<Vec<u8>, TooLong> {
    todo!()
}
