//! ASAP messages (RFC 5352 2.2).

use super::message::{Header, finish, head};
use super::parameter::{
    COOKIE, OPERATION_ERROR, PE_IDENTIFIER, POLICY, POOL_ELEMENT, POOL_HANDLE, Parameters,
    REGISTRAR_TRANSPORTS, Tlv, put_capabilities, put_causes, put_cookie, put_element, put_items, put_pe_id,
    put_policy, put_pool_handle, put_transport, server_id_word,
};
use super::report::{Refused, Report};
use super::{Decoded, Dialect, Rejected, TooLong};
use crate::codec::Writer;
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
        /// Ours: what the asker can do; before the option, for RSPLIB refuses a message with anything behind it.
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

const REGISTRATION: u8 = 0x01;
const DEREGISTRATION: u8 = 0x02;
const REGISTRATION_RESPONSE: u8 = 0x03;
const DEREGISTRATION_RESPONSE: u8 = 0x04;
const HANDLE_RESOLUTION: u8 = 0x05;
const HANDLE_RESOLUTION_RESPONSE: u8 = 0x06;
const ENDPOINT_KEEP_ALIVE: u8 = 0x07;
const ENDPOINT_KEEP_ALIVE_ACK: u8 = 0x08;
const ENDPOINT_UNREACHABLE: u8 = 0x09;
const SERVER_ANNOUNCE: u8 = 0x0a;
const ASAP_COOKIE: u8 = 0x0b;
const ASAP_COOKIE_ECHO: u8 = 0x0c;
const BUSINESS_CARD: u8 = 0x0d;
const ERROR: u8 = 0x0e;

pub(super) fn decode(bytes: &[u8], dialect: Dialect) -> Result<Decoded<AsapMessage>, Rejected> {
    let mut report = Report::new();
    let message =
        Header::read(bytes, &mut report).and_then(|header| decode_value(&header, dialect, &mut report));
    if bytes.first() == Some(&ERROR) {
        report.silence();
    }
    report.conclude(message)
}

fn decode_value(header: &Header<'_>, dialect: Dialect, report: &mut Report) -> Result<AsapMessage, Refused> {
    let mut parameters = Parameters::new(header.value, header.whole);
    let message = match header.kind {
        REGISTRATION => AsapMessage::Registration(Registration {
            handle: handle(&mut parameters, report)?,
            element: parameters
                .required(&[POOL_ELEMENT], "no pool element", report)?
                .pool_element(dialect, report)?,
        }),
        DEREGISTRATION => AsapMessage::Deregistration {
            handle: handle(&mut parameters, report)?,
            element: identifier(&mut parameters, report)?.pe_id(report)?,
        },
        REGISTRATION_RESPONSE => {
            let handle = handle(&mut parameters, report)?;
            let identifier = identifier(&mut parameters, report)?;
            AsapMessage::RegistrationResponse {
                reject: header.flag(),
                handle,
                element: identifier.pe_id(report)?,
                capabilities: identifier.before.capabilities(report)?,
                error: error(&mut parameters, report)?,
            }
        }
        DEREGISTRATION_RESPONSE => AsapMessage::DeregistrationResponse {
            handle: handle(&mut parameters, report)?,
            element: identifier(&mut parameters, report)?.pe_id(report)?,
            error: error(&mut parameters, report)?,
        },
        HANDLE_RESOLUTION => {
            let handle = handle(&mut parameters, report)?;
            let behind = parameters.end(report)?;
            AsapMessage::HandleResolution {
                subscribe: header.flag(),
                handle,
                items: behind.items(report)?,
                capabilities: behind.capabilities(report)?,
            }
        }
        HANDLE_RESOLUTION_RESPONSE => AsapMessage::HandleResolutionResponse {
            accept_updates: header.flag(),
            handle: handle(&mut parameters, report)?,
            policy: match parameters.optional(&[POLICY], report)? {
                Some(policy) => Some(policy.policy(report)?),
                None => None,
            },
            elements: elements(&mut parameters, dialect, report)?,
            error: error(&mut parameters, report)?,
        },
        ENDPOINT_KEEP_ALIVE => AsapMessage::KeepAlive(KeepAlive {
            home: header.flag(),
            server: parameters.server_id(report)?,
            handle: handle(&mut parameters, report)?,
            element: match parameters.optional(&[PE_IDENTIFIER], report)? {
                Some(identifier) => Some(identifier.pe_id(report)?),
                None => None,
            },
        }),
        ENDPOINT_KEEP_ALIVE_ACK => AsapMessage::KeepAliveAck {
            handle: handle(&mut parameters, report)?,
            element: identifier(&mut parameters, report)?.pe_id(report)?,
        },
        ENDPOINT_UNREACHABLE => AsapMessage::EndpointUnreachable {
            handle: handle(&mut parameters, report)?,
            element: identifier(&mut parameters, report)?.pe_id(report)?,
        },
        SERVER_ANNOUNCE => {
            let server = parameters.server_id(report)?;
            let mut transports = Vec::new();
            while let Some(transport) = parameters.optional(REGISTRAR_TRANSPORTS, report)? {
                transports.push(transport.transport(dialect, report)?);
            }
            AsapMessage::ServerAnnounce { server, transports }
        }
        ASAP_COOKIE => AsapMessage::Cookie(cookie(&mut parameters, report)?),
        ASAP_COOKIE_ECHO => AsapMessage::CookieEcho(cookie(&mut parameters, report)?),
        BUSINESS_CARD => AsapMessage::BusinessCard {
            handle: handle(&mut parameters, report)?,
            elements: elements(&mut parameters, dialect, report)?,
        },
        ERROR => AsapMessage::Error(
            parameters.required(&[OPERATION_ERROR], "no operation error", report)?.causes(report)?,
        ),
        _ => return Err(header.unrecognized(report)),
    };
    parameters.end(report)?;
    Ok(message)
}

fn handle(parameters: &mut Parameters<'_>, report: &mut Report) -> Result<PoolHandle, Refused> {
    parameters.required(&[POOL_HANDLE], "no pool handle", report)?.pool_handle(report)
}

fn identifier<'a>(parameters: &mut Parameters<'a>, report: &mut Report) -> Result<Tlv<'a>, Refused> {
    parameters.required(&[PE_IDENTIFIER], "no PE identifier", report)
}

fn cookie(parameters: &mut Parameters<'_>, report: &mut Report) -> Result<Vec<u8>, Refused> {
    Ok(parameters.required(&[COOKIE], "no cookie", report)?.cookie())
}

fn error(parameters: &mut Parameters<'_>, report: &mut Report) -> Result<Option<Vec<ErrorCause>>, Refused> {
    match parameters.optional(&[OPERATION_ERROR], report)? {
        Some(error) => error.causes(report).map(Some),
        None => Ok(None),
    }
}

fn elements(
    parameters: &mut Parameters<'_>,
    dialect: Dialect,
    report: &mut Report,
) -> Result<Vec<PoolElement>, Refused> {
    let mut elements = Vec::new();
    while let Some(element) = parameters.optional(&[POOL_ELEMENT], report)? {
        elements.push(element.pool_element(dialect, report)?);
    }
    Ok(elements)
}

pub(super) fn encode(message: &AsapMessage, dialect: Dialect) -> Result<Vec<u8>, TooLong> {
    let mut writer = Writer::new();
    let w = &mut writer;
    let open = w.open(message_head(message));
    match message {
        AsapMessage::Registration(Registration { handle, element }) => {
            put_pool_handle(w, handle);
            put_element(w, element, dialect);
        }
        AsapMessage::Deregistration { handle, element }
        | AsapMessage::KeepAliveAck { handle, element }
        | AsapMessage::EndpointUnreachable { handle, element } => {
            put_pool_handle(w, handle);
            put_pe_id(w, *element);
        }
        AsapMessage::RegistrationResponse { reject: _, handle, element, capabilities, error } => {
            put_pool_handle(w, handle);
            put_capabilities(w, *capabilities);
            put_pe_id(w, *element);
            put_error(w, error);
        }
        AsapMessage::DeregistrationResponse { handle, element, error } => {
            put_pool_handle(w, handle);
            put_pe_id(w, *element);
            put_error(w, error);
        }
        AsapMessage::HandleResolution { subscribe: _, handle, items, capabilities } => {
            put_pool_handle(w, handle);
            put_capabilities(w, *capabilities);
            put_items(w, *items);
        }
        AsapMessage::HandleResolutionResponse { accept_updates: _, handle, policy, elements, error } => {
            put_pool_handle(w, handle);
            if let Some(policy) = policy {
                put_policy(w, policy);
            }
            put_elements(w, elements, dialect);
            put_error(w, error);
        }
        AsapMessage::KeepAlive(KeepAlive { home: _, server, handle, element }) => {
            w.u32(server_id_word(*server));
            put_pool_handle(w, handle);
            if let Some(element) = element {
                put_pe_id(w, *element);
            }
        }
        AsapMessage::ServerAnnounce { server, transports } => {
            w.u32(server_id_word(*server));
            for transport in transports {
                put_transport(w, transport, dialect);
            }
        }
        AsapMessage::Cookie(cookie) | AsapMessage::CookieEcho(cookie) => put_cookie(w, cookie),
        AsapMessage::BusinessCard { handle, elements } => {
            put_pool_handle(w, handle);
            put_elements(w, elements, dialect);
        }
        AsapMessage::Error(causes) => put_causes(w, causes),
    }
    dialect.close_message(w, open);
    finish(writer)
}

fn message_head(message: &AsapMessage) -> u16 {
    let (kind, flag) = match message {
        AsapMessage::Registration(_) => (REGISTRATION, false),
        AsapMessage::Deregistration { .. } => (DEREGISTRATION, false),
        AsapMessage::RegistrationResponse { reject, .. } => (REGISTRATION_RESPONSE, *reject),
        AsapMessage::DeregistrationResponse { .. } => (DEREGISTRATION_RESPONSE, false),
        AsapMessage::HandleResolution { subscribe, .. } => (HANDLE_RESOLUTION, *subscribe),
        AsapMessage::HandleResolutionResponse { accept_updates, .. } => {
            (HANDLE_RESOLUTION_RESPONSE, *accept_updates)
        }
        AsapMessage::KeepAlive(keep_alive) => (ENDPOINT_KEEP_ALIVE, keep_alive.home),
        AsapMessage::KeepAliveAck { .. } => (ENDPOINT_KEEP_ALIVE_ACK, false),
        AsapMessage::EndpointUnreachable { .. } => (ENDPOINT_UNREACHABLE, false),
        AsapMessage::ServerAnnounce { .. } => (SERVER_ANNOUNCE, false),
        AsapMessage::Cookie(_) => (ASAP_COOKIE, false),
        AsapMessage::CookieEcho(_) => (ASAP_COOKIE_ECHO, false),
        AsapMessage::BusinessCard { .. } => (BUSINESS_CARD, false),
        AsapMessage::Error(_) => (ERROR, false),
    };
    head(kind, flag)
}

fn put_elements(writer: &mut Writer, elements: &[PoolElement], dialect: Dialect) {
    for element in elements {
        put_element(writer, element, dialect);
    }
}

fn put_error(writer: &mut Writer, error: &Option<Vec<ErrorCause>>) {
    if let Some(causes) = error {
        put_causes(writer, causes);
    }
}
