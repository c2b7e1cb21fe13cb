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
pub use dialect::{Dialect, RSPLIB_ITEMS, Unspeakable};
pub use enrp::{EnrpHeader, EnrpMessage, Introduction, ServerInformation, UpdateAction, Versioned};

use crate::codec::Writer;
use crate::policy::Policy;
use crate::types::{CauseCode, ErrorCause, PoolElement, PoolHandle, TransportAddress};

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

/// The digest of an element as one of ours is told it (docs/enrp-extensions.md section 4): over the very bytes that
/// stand for it, and its pool handle, in a handle update.
pub fn digest_element(handle: &PoolHandle, element: &PoolElement, version: u64) -> u64 {
    let mut writer = Writer::new();
    parameter::put_pool_handle(&mut writer, handle);
    let versioned = Versioned { element: element.clone(), version: Some(version) };
    parameter::put_versioned(&mut writer, &versioned, Dialect::Rfc);
    let bytes = writer.finish().unwrap_or_default();
    // FNV-1a, and the last step of splitmix64 so that sums of digests do not cancel out.
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let mut hash = bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::PolicyType;
    use crate::types::{PeId, PoolHandle, RegistrationLife, TransportUse};

    const ADDRESS: &[u8] = b"\0\x01\0\x08\xc0\0\x02\x01";
    const ROUND_ROBIN: &[u8] = b"\0\x08\0\x08\0\0\0\x01";

    /// A parameter, padded.
    fn tlv(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut writer = Writer::new();
        let open = writer.open(kind);
        writer.bytes(value);
        writer.close(open);
        writer.finish().unwrap()
    }

    fn transport(kind: u16, fields: &[u8], addresses: &[&[u8]]) -> Vec<u8> {
        tlv(kind, &[fields, &addresses.concat()].concat())
    }

    /// A registration at pool "a" whose element holds these parameters.
    fn registration(parameters: &[&[u8]]) -> Vec<u8> {
        let fixed = b"\0\0\0\x01\0\0\0\0\0\0\0\x0a";
        let element = tlv(0x0a, &[&fixed[..], &parameters.concat()].concat());
        tlv(0x0100, &[tlv(9, b"a"), element].concat())
    }

    fn decode_user_transport(transport: &[u8], dialect: Dialect) -> Result<TransportAddress, Rejected> {
        match AsapMessage::decode(&registration(&[transport, ROUND_ROBIN]), dialect)?.message {
            AsapMessage::Registration(registration) => Ok(registration.element.user_transport),
            other => panic!("{other:?}"),
        }
    }

    fn invalid_values(of: &[u8]) -> Vec<ErrorCause> {
        vec![ErrorCause { code: CauseCode::InvalidValues, info: of.to_vec() }]
    }

    fn resolution(handle: &[u8]) -> AsapMessage {
        let handle = PoolHandle::new(handle).unwrap();
        AsapMessage::HandleResolution { subscribe: false, handle, items: None, capabilities: None }
    }

    #[test]
    fn numbers_are_sent_most_significant_byte_first() {
        let message =
            AsapMessage::KeepAliveAck { handle: PoolHandle::new(b"a").unwrap(), element: PeId(0x0102_0304) };
        let bytes = message.encode(Dialect::Rfc).unwrap();
        assert_eq!(bytes, b"\x08\0\0\x14\0\x09\0\x05a\0\0\0\0\x0e\0\x08\x01\x02\x03\x04");
    }

    #[test]
    fn parameters_are_padded_with_up_to_three_zeros_that_their_length_does_not_count() {
        for len in 1..9usize {
            let message = AsapMessage::Deregistration {
                handle: PoolHandle::new(&vec![0xff; len]).unwrap(),
                element: PeId(1),
            };
            let bytes = message.encode(Dialect::Rfc).unwrap();
            let padded = len.next_multiple_of(4);
            assert_eq!(bytes.len(), 4 + 4 + padded + 8);
            assert_eq!(usize::from(bytes[7]), 4 + len);
            assert!(bytes[8 + len..8 + padded].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn messages_are_padded_with_up_to_three_zeros_that_their_length_does_not_count() {
        for len in 1..9usize {
            let bytes = resolution(&vec![0xff; len]).encode(Dialect::Rfc).unwrap();
            let padded = len.next_multiple_of(4);
            assert_eq!(bytes.len(), 8 + padded);
            assert_eq!(usize::from(bytes[3]), 8 + len);
            assert!(bytes[8 + len..].iter().all(|byte| *byte == 0));
        }
    }

    #[test]
    fn what_padding_holds_is_ignored() {
        let parameter = b"\x02\0\0\x14\0\x09\0\x05a\x01\x02\x03\0\x0e\0\x08\0\0\0\x07";
        let expected =
            AsapMessage::Deregistration { handle: PoolHandle::new(b"a").unwrap(), element: PeId(7) };
        assert_eq!(AsapMessage::decode(parameter, Dialect::Rfc).unwrap().message, expected);
        let message = b"\x05\0\0\x09\0\x09\0\x05a\x01\x02\x03";
        assert_eq!(AsapMessage::decode(message, Dialect::Rfc).unwrap().message, resolution(b"a"));
    }

    #[test]
    fn dccp_udp_and_udp_lite_are_data_only_whatever_their_reserved_field_says() {
        for (kind, more) in [(0x3, &b"\0\0\0\x09"[..]), (0x6, b""), (0x7, b"")] {
            let bytes = transport(kind, &[&b"\0\x07\0\x01"[..], more].concat(), &[ADDRESS]);
            for dialect in [Dialect::Rfc, Dialect::Rsplib, Dialect::Unknown] {
                let decoded = decode_user_transport(&bytes, dialect).unwrap();
                assert_eq!(decoded.transport_use(), TransportUse::DataOnly);
                let cause = inconsistent_transport(&decoded);
                assert_eq!(cause.info[6..8], [0, 0], "the reserved field is sent as 0");
            }
        }
    }

    #[test]
    fn tcp_is_data_only_but_for_rsplib() {
        let bytes = transport(0x5, b"\0\x07\0\x01", &[ADDRESS]);
        for (dialect, transport_use) in [
            (Dialect::Rfc, TransportUse::DataOnly),
            (Dialect::Unknown, TransportUse::DataOnly),
            (Dialect::Rsplib, TransportUse::DataPlusControl),
        ] {
            assert_eq!(decode_user_transport(&bytes, dialect).unwrap().transport_use(), transport_use);
        }
    }

    #[test]
    fn sctp_transport_use_is_0_or_1() {
        for (field, transport_use) in [(0, TransportUse::DataOnly), (1, TransportUse::DataPlusControl)] {
            let bytes = transport(0x4, &[0, 7, 0, field], &[ADDRESS]);
            let decoded = decode_user_transport(&bytes, Dialect::Rfc).unwrap();
            assert_eq!(decoded.transport_use(), transport_use);
            assert_eq!(inconsistent_transport(&decoded).info, bytes);
        }
        for wrong in [[0, 2], [0xff, 0xff], [1, 0]] {
            let bytes = transport(0x4, &[&[0, 7], &wrong[..]].concat(), &[ADDRESS]);
            let rejected = decode_user_transport(&bytes, Dialect::Rfc).unwrap_err();
            assert_eq!(rejected.report, invalid_values(&bytes));
        }
    }

    #[test]
    fn refuses_a_transport_without_address_and_one_with_too_many() {
        for kind in 0x4..=0x7 {
            let bytes = transport(kind, b"\0\x07\0\0", &[]);
            assert_eq!(
                decode_user_transport(&bytes, Dialect::Rfc).unwrap_err().report,
                invalid_values(&bytes)
            );
            let bytes = transport(kind, b"\0\x07\0\0", &[ADDRESS, ADDRESS]);
            let decoded = decode_user_transport(&bytes, Dialect::Rfc);
            assert_eq!(decoded.is_ok(), kind == 0x4, "only SCTP is multi-homed");
        }
    }

    #[test]
    fn refuses_an_element_without_user_transport_and_one_with_two() {
        let sctp = transport(0x4, b"\0\x07\0\0", &[ADDRESS]);
        assert!(AsapMessage::decode(&registration(&[&sctp, ROUND_ROBIN]), Dialect::Rfc).is_ok());
        for (parameters, offending) in [
            (vec![ROUND_ROBIN], ROUND_ROBIN),
            (vec![ROUND_ROBIN, &sctp], ROUND_ROBIN),
            (vec![&sctp, &sctp, ROUND_ROBIN], &sctp),
        ] {
            let rejected = AsapMessage::decode(&registration(&parameters), Dialect::Rfc).unwrap_err();
            assert_eq!(rejected.report, invalid_values(offending));
        }
    }

    #[test]
    fn an_asap_transport_is_sctp_or_of_ours_tcp() {
        let user = transport(0x4, b"\0\x07\0\0", &[ADDRESS]);
        for kind in 0x4..=0x7 {
            let asap = transport(kind, b"\0\x08\0\0", &[ADDRESS]);
            let decoded = AsapMessage::decode(&registration(&[&user, ROUND_ROBIN, &asap]), Dialect::Rfc);
            match kind {
                0x4 | 0x5 => assert!(decoded.is_ok()),
                _ => assert_eq!(decoded.unwrap_err().report, invalid_values(&asap)),
            }
        }
    }

    #[test]
    fn every_policy_is_a_number_and_its_words() {
        for policy_type in PolicyType::all() {
            let policy = Policy::new(policy_type, &[0x0a0b_0c0d, 2, 3, 4]);
            let bytes = inconsistent_policy(&policy).info;
            let mut expected = vec![0, 8, 0, 8 + 4 * policy_type.words() as u8];
            expected.extend(policy_type.number().to_be_bytes());
            expected.extend(
                [0x0a0b_0c0du32, 2, 3, 4].iter().take(policy_type.words()).flat_map(|w| w.to_be_bytes()),
            );
            assert_eq!(bytes, expected, "{policy_type:?}");
        }
    }

    #[test]
    fn a_report_never_outgrows_an_error_message() {
        // So many parameters to report that their causes need twice the room of the message itself.
        let value = [&tlv(9, b"a")[..], &b"\xc0\x55\0\x04".repeat(16_000)].concat();
        let decoded = AsapMessage::decode(&tlv(0x0500, &value), Dialect::Rfc).unwrap();
        assert!(decoded.report.len() > 8_000);
        assert!(AsapMessage::Error(decoded.report).encode(Dialect::Rfc).is_ok());
        // One that is too long itself.
        let value = [&tlv(9, b"a")[..], &tlv(0xc055, &[0; 65_516])].concat();
        let decoded = AsapMessage::decode(&tlv(0x0500, &value), Dialect::Rfc).unwrap();
        assert_eq!(decoded.report, [ErrorCause::bare(CauseCode::Unspecified)]);
    }

    #[test]
    fn an_encoded_element_is_what_a_message_holds() {
        let element = PoolElement {
            id: PeId(1),
            home: None,
            life: RegistrationLife::Seconds(1),
            user_transport: TransportAddress::Opaque(b"odd".to_vec()),
            policy: Policy::ROUND_ROBIN,
            asap_transport: None,
            capabilities: Some(crate::types::Capabilities(3)),
        };
        let handle = PoolHandle::new(b"even").unwrap();
        let message =
            AsapMessage::Registration(Registration { handle, element: element.clone() }).encode(Dialect::Rfc);
        assert_eq!(message.unwrap()[12..], encode_element(&element, Dialect::Rfc).unwrap());
    }
}
