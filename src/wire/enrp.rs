//! ENRP messages (RFC 5353 2).

use super::message::{Header, finish, head};
use super::parameter::{
    OPERATION_ERROR, PE_CHECKSUM, POOL_ELEMENT, POOL_HANDLE, Parameters, SERVER_INFORMATION, Tlv, put_causes,
    put_checksum, put_introduction, put_pool_handle, put_server_information, put_versioned, server_id_word,
};
use super::report::{Refused, Report};
use super::{Decoded, Dialect, Rejected, TooLong};
use crate::codec::Writer;
use crate::types::{
    Capabilities, ErrorCause, PeChecksum, PoolElement, PoolHandle, ServerId, TransportAddress,
};
use std::time::Duration;

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

/// What a registrar of ours says of itself (docs/enrp-extensions.md section 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Introduction {
    /// What it can do beyond the RFCs.
    pub capabilities: Capabilities,
    /// How often it says that it is there, in whole milliseconds; zero: not told.
    pub heartbeat: Duration,
    /// Drawn at random when it started; 0: not told. Tells apart two registrars of one identifier.
    pub incarnation: u64,
    /// Which registrars it takes for alive: the sum of what their identifiers make, itself among them; 0: not told.
    pub registrars: u32,
    /// The digest of its own elements; none while it is starting.
    pub digest: Option<u64>,
}

/// A pool element as one registrar tells it another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Versioned {
    /// The element.
    pub element: PoolElement,
    /// Orders the changes of the element (docs/enrp-extensions.md section 3); only ours tell it each other.
    pub version: Option<u64>,
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
        /// Over the sender's own elements; it should be there.
        checksum: Option<PeChecksum>,
        /// Ours: what the sender says of itself; between checksum and server information.
        introduction: Option<Introduction>,
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
        pools: Vec<(PoolHandle, Vec<Versioned>)>,
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
        element: Versioned,
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

const PRESENCE: u8 = 0x01;
const HANDLE_TABLE_REQUEST: u8 = 0x02;
const HANDLE_TABLE_RESPONSE: u8 = 0x03;
const HANDLE_UPDATE: u8 = 0x04;
const LIST_REQUEST: u8 = 0x05;
const LIST_RESPONSE: u8 = 0x06;
const INIT_TAKEOVER: u8 = 0x07;
const INIT_TAKEOVER_ACK: u8 = 0x08;
const TAKEOVER_SERVER: u8 = 0x09;
const ERROR: u8 = 0x0a;

/// Update actions.
const ADD_PE: u32 = 0;
const DEL_PE: u32 = 1;

/// M in a handle table response, beside R in the lowest bit.
const MORE_TO_SEND: u8 = 2;

pub(super) fn decode(bytes: &[u8], dialect: Dialect) -> Result<Decoded<EnrpMessage>, Rejected> {
    let mut report = Report::new();
    let message =
        Header::read(bytes, &mut report).and_then(|header| decode_value(&header, dialect, &mut report));
    if bytes.first() == Some(&ERROR) {
        report.silence();
    }
    report.conclude(message)
}

fn decode_value(message: &Header<'_>, dialect: Dialect, report: &mut Report) -> Result<EnrpMessage, Refused> {
    // Before anything else is read: an unrecognised message may be shorter than the identifiers.
    if !(PRESENCE..=ERROR).contains(&message.kind) {
        return Err(message.unrecognized(report));
    }
    let mut parameters = Parameters::new(message.value, message.whole);
    let header =
        EnrpHeader { sender: parameters.server_id(report)?, receiver: parameters.server_id(report)? };
    let decoded = match message.kind {
        PRESENCE => {
            let checksum = match parameters.optional(&[PE_CHECKSUM], report)? {
                Some(checksum) => Some(checksum.checksum(report)?),
                None => None,
            };
            let information = parameters.optional(&[SERVER_INFORMATION], report)?;
            let before = match &information {
                Some(information) => information.before,
                None => parameters.end(report)?,
            };
            EnrpMessage::Presence {
                reply_required: message.flag(),
                header,
                checksum,
                introduction: before.introduction(report)?,
                server: match information {
                    Some(information) => Some(server_information(&information, dialect, report)?),
                    None => None,
                },
            }
        }
        HANDLE_TABLE_REQUEST => EnrpMessage::HandleTableRequest { owned_only: message.flag(), header },
        HANDLE_TABLE_RESPONSE => EnrpMessage::HandleTableResponse {
            more: message.flags & MORE_TO_SEND != 0,
            reject: message.flag(),
            header,
            pools: pools(&mut parameters, dialect, report)?,
        },
        HANDLE_UPDATE => {
            // The lower half is reserved.
            let action = match parameters.word(report)? >> 16 {
                ADD_PE => UpdateAction::AddPe,
                DEL_PE => UpdateAction::DelPe,
                _ => return Err(parameters.malformed("an update action that does not exist", report)),
            };
            EnrpMessage::HandleUpdate {
                takeover_suggested: message.flag(),
                header,
                action,
                handle: parameters.required(&[POOL_HANDLE], "no pool handle", report)?.pool_handle(report)?,
                element: versioned(
                    &parameters.required(&[POOL_ELEMENT], "no pool element", report)?,
                    dialect,
                    report,
                )?,
            }
        }
        LIST_REQUEST => EnrpMessage::ListRequest { header },
        LIST_RESPONSE => {
            let mut servers = Vec::new();
            while let Some(information) = parameters.optional(&[SERVER_INFORMATION], report)? {
                servers.push(server_information(&information, dialect, report)?);
            }
            EnrpMessage::ListResponse { reject: message.flag(), header, servers }
        }
        INIT_TAKEOVER => EnrpMessage::InitTakeover { header, target: parameters.server_id(report)? },
        INIT_TAKEOVER_ACK => EnrpMessage::InitTakeoverAck { header, target: parameters.server_id(report)? },
        TAKEOVER_SERVER => EnrpMessage::TakeoverServer { header, target: parameters.server_id(report)? },
        ERROR => EnrpMessage::Error {
            header,
            causes: parameters.required(&[OPERATION_ERROR], "no operation error", report)?.causes(report)?,
        },
        _ => return Err(message.unrecognized(report)),
    };
    parameters.end(report)?;
    Ok(decoded)
}

fn server_information(
    tlv: &Tlv<'_>,
    dialect: Dialect,
    report: &mut Report,
) -> Result<ServerInformation, Refused> {
    tlv.server_information(dialect, report).map(|(server, transport)| ServerInformation { server, transport })
}

fn versioned(tlv: &Tlv<'_>, dialect: Dialect, report: &mut Report) -> Result<Versioned, Refused> {
    Ok(Versioned { element: tlv.pool_element(dialect, report)?, version: tlv.before.version(report)? })
}

/// Pool entries. One without elements says nothing and is left out, whatever RFC 5353 2.3 has its sender do.
fn pools(
    parameters: &mut Parameters<'_>,
    dialect: Dialect,
    report: &mut Report,
) -> Result<Vec<(PoolHandle, Vec<Versioned>)>, Refused> {
    let mut pools = Vec::new();
    while let Some(handle) = parameters.optional(&[POOL_HANDLE], report)? {
        let handle = handle.pool_handle(report)?;
        let mut elements = Vec::new();
        while let Some(element) = parameters.optional(&[POOL_ELEMENT], report)? {
            elements.push(versioned(&element, dialect, report)?);
        }
        if !elements.is_empty() {
            pools.push((handle, elements));
        }
    }
    Ok(pools)
}

pub(super) fn encode(message: &EnrpMessage, dialect: Dialect) -> Result<Vec<u8>, TooLong> {
    let mut writer = Writer::new();
    let w = &mut writer;
    let open = w.open(message_head(message));
    let EnrpHeader { sender, receiver } = message.header();
    w.u32(server_id_word(sender));
    w.u32(server_id_word(receiver));
    match message {
        EnrpMessage::Presence { reply_required: _, header: _, checksum, introduction, server } => {
            if let Some(checksum) = checksum {
                put_checksum(w, *checksum);
            }
            if let Some(introduction) = introduction {
                put_introduction(w, introduction);
            }
            if let Some(ServerInformation { server, transport }) = server {
                put_server_information(w, *server, transport, dialect);
            }
        }
        EnrpMessage::HandleTableRequest { .. } | EnrpMessage::ListRequest { .. } => {}
        EnrpMessage::HandleTableResponse { more: _, reject: _, header: _, pools } => {
            for (handle, elements) in pools {
                put_pool_handle(w, handle);
                for element in elements {
                    put_versioned(w, element, dialect);
                }
            }
        }
        EnrpMessage::HandleUpdate { takeover_suggested: _, header: _, action, handle, element } => {
            let action = match action {
                UpdateAction::AddPe => ADD_PE,
                UpdateAction::DelPe => DEL_PE,
            };
            w.u32(action << 16);
            put_pool_handle(w, handle);
            put_versioned(w, element, dialect);
        }
        EnrpMessage::ListResponse { reject: _, header: _, servers } => {
            for ServerInformation { server, transport } in servers {
                put_server_information(w, *server, transport, dialect);
            }
        }
        EnrpMessage::InitTakeover { header: _, target }
        | EnrpMessage::InitTakeoverAck { header: _, target }
        | EnrpMessage::TakeoverServer { header: _, target } => w.u32(server_id_word(*target)),
        EnrpMessage::Error { header: _, causes } => put_causes(w, causes),
    }
    dialect.close_message(w, open);
    finish(writer)
}

fn message_head(message: &EnrpMessage) -> u16 {
    let (kind, flag) = match message {
        EnrpMessage::Presence { reply_required, .. } => (PRESENCE, *reply_required),
        EnrpMessage::HandleTableRequest { owned_only, .. } => (HANDLE_TABLE_REQUEST, *owned_only),
        EnrpMessage::HandleTableResponse { more, reject, .. } => {
            let more = if *more { MORE_TO_SEND } else { 0 };
            return head(HANDLE_TABLE_RESPONSE, *reject) | u16::from(more);
        }
        EnrpMessage::HandleUpdate { takeover_suggested, .. } => (HANDLE_UPDATE, *takeover_suggested),
        EnrpMessage::ListRequest { .. } => (LIST_REQUEST, false),
        EnrpMessage::ListResponse { reject, .. } => (LIST_RESPONSE, *reject),
        EnrpMessage::InitTakeover { .. } => (INIT_TAKEOVER, false),
        EnrpMessage::InitTakeoverAck { .. } => (INIT_TAKEOVER_ACK, false),
        EnrpMessage::TakeoverServer { .. } => (TAKEOVER_SERVER, false),
        EnrpMessage::Error { .. } => (ERROR, false),
    };
    head(kind, flag)
}

impl EnrpMessage {
    /// Who sends the message, and for whom it is.
    pub fn header(&self) -> EnrpHeader {
        match self {
            EnrpMessage::Presence { header, .. }
            | EnrpMessage::HandleTableRequest { header, .. }
            | EnrpMessage::HandleTableResponse { header, .. }
            | EnrpMessage::HandleUpdate { header, .. }
            | EnrpMessage::ListRequest { header }
            | EnrpMessage::ListResponse { header, .. }
            | EnrpMessage::InitTakeover { header, .. }
            | EnrpMessage::InitTakeoverAck { header, .. }
            | EnrpMessage::TakeoverServer { header, .. }
            | EnrpMessage::Error { header, .. } => *header,
        }
    }
}
