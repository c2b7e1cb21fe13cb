//! The messages of ASAP (RFC 5352 2.2) and ENRP (RFC 5353 2), the parameters they are made of (RFC 5354),
//! the rules for what is not recognised (RFC 5354 3, 4), and the dialects.
//!
//! Decoding is total: every input gives a message or a [`Rejected`], allocates no more than a small multiple of the bytes
//! present, and never panics. Encoding a decoded message gives its canonical form.

mod asap;
mod dialect;
mod enrp;
mod message;
mod parameter;
mod report;

pub use asap::{AsapMessage, KeepAlive, Registration};
pub use dialect::Dialect;
pub use enrp::{EnrpHeader, EnrpMessage, ServerInformation, UpdateAction};

use crate::codec::Writer;
use crate::policy::Policy;
use crate::types::{CauseCode, ErrorCause, PoolElement, TransportAddress};

/// The payload protocol identifier of ASAP (RFC 5352 5).
pub const PPID_ASAP: u32 = 11;
/// The payload protocol identifier of ENRP.
pub const PPID_ENRP: u32 = 12;

/// A message, and what the sender is to be told about it although it was understood.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decoded<M> {
    /// The message.
    pub message: M,
    /// Unrecognised parameters that were skipped and want reporting (type bits 11).
    pub report: Vec<ErrorCause>,
}

/// Why a message was not accepted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejected {
    /// What the sender is to be told, in an ASAP_ERROR or ENRP_ERROR; empty: nothing.
    pub report: Vec<ErrorCause>,
    /// What is wrong, for a log.
    pub why: &'static str,
}

/// Why a message with fewer bytes than its length says is rejected.
const INCOMPLETE: &str = "fewer bytes than the message length says";

impl Rejected {
    /// Whether the bytes are only the beginning of a message. Message boundaries are the transport's or
    /// [`crate::codec::MessageSplitter`]'s, so more bytes will not come.
    pub fn is_incomplete(&self) -> bool {
        self.why == INCOMPLETE
    }
}

/// A message that cannot be said in 65,535 bytes, or not in this dialect.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TooLong;

impl AsapMessage {
    /// Decodes one message; the padding behind it may be there or not.
    pub fn decode(bytes: &[u8], dialect: Dialect) -> Result<Decoded<AsapMessage>, Rejected> {
        asap::decode(bytes, dialect)
    }

    /// Encodes the message, padded to four bytes.
    pub fn encode(&self, dialect: Dialect) -> Result<Vec<u8>, TooLong> {
        asap::encode(self, dialect)
    }
}

impl EnrpMessage {
    /// Decodes one message; the padding behind it may be there or not.
    pub fn decode(bytes: &[u8], dialect: Dialect) -> Result<Decoded<EnrpMessage>, Rejected> {
        enrp::decode(bytes, dialect)
    }

    /// Encodes the message, padded to four bytes.
    pub fn encode(&self, dialect: Dialect) -> Result<Vec<u8>, TooLong> {
        enrp::encode(self, dialect)
    }
}

/// The encoded Pool Element parameter (RFC 5354 3.10), with the capability parameter before it if
/// `element.capabilities` says so, padded: for keeping it encoded in a handlespace.
pub fn encode_element(element: &PoolElement, dialect: Dialect) -> Result<Vec<u8>, TooLong> {
    let mut writer = Writer::new();
    parameter::put_element(&mut writer, element, dialect);
    writer.finish().ok_or(TooLong)
}

/// A cause that carries a pool's policy (RFC 5354 3.12.6).
pub fn inconsistent_policy(policy: &Policy) -> ErrorCause {
    cause(CauseCode::InconsistentPoolingPolicy, |writer| parameter::put_policy(writer, policy))
}

/// A cause that carries a pool's transport (RFC 5354 3.12.8).
pub fn inconsistent_transport(transport: &TransportAddress) -> ErrorCause {
    cause(CauseCode::InconsistentTransportType, |writer| {
        parameter::put_transport(writer, transport, Dialect::Rfc);
    })
}

/// A cause that carries an element with values the receiver cannot accept (RFC 5354 3.12.4).
pub fn invalid_element(element: &PoolElement) -> ErrorCause {
    cause(CauseCode::InvalidValues, |writer| parameter::put_bare_element(writer, element, Dialect::Rfc))
}

/// A cause that carries a parameter; one too long to be a parameter is left out.
fn cause(code: CauseCode, put: impl FnOnce(&mut Writer)) -> ErrorCause {
    let mut writer = Writer::new();
    put(&mut writer);
    ErrorCause { code, info: writer.finish_unpadded().unwrap_or_default() }
}
