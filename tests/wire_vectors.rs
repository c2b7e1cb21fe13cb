//! The vector files in `tests/vectors`: every legal message decodes to its value and encodes to its bytes again,
//! every malformed one is refused with its cause, and every cut of a legal one is harmless.

use asap::types::{CauseCode, ErrorCause};
use asap::wire::{AsapMessage, Decoded, Dialect, EnrpMessage, Rejected, TooLong};
use std::collections::BTreeSet;
use std::fmt::Debug;

#[derive(Clone, PartialEq, Debug)]
enum Message {
    Asap(AsapMessage),
    Enrp(EnrpMessage),
}

impl Message {
    fn decode(protocol: &str, bytes: &[u8], dialect: Dialect) -> Result<Decoded<Message>, Rejected> {
        match protocol {
            "asap" => AsapMessage::decode(bytes, dialect)
                .map(|Decoded { message, report }| Decoded { message: Message::Asap(message), report }),
            "enrp" => EnrpMessage::decode(bytes, dialect)
                .map(|Decoded { message, report }| Decoded { message: Message::Enrp(message), report }),
            other => panic!("no protocol {other}"),
        }
    }

    fn encode(&self, dialect: Dialect) -> Result<Vec<u8>, TooLong> {
        match self {
            Message::Asap(message) => message.encode(dialect),
            Message::Enrp(message) => message.encode(dialect),
        }
    }

    fn value(&self) -> String {
        match self {
            Message::Asap(message) => format!("{message:?}"),
            Message::Enrp(message) => format!("{message:?}"),
        }
    }

    fn is_error(&self) -> bool {
        matches!(self, Message::Asap(AsapMessage::Error(_)) | Message::Enrp(EnrpMessage::Error { .. }))
    }
}

struct Vector {
    name: &'static str,
    protocol: &'static str,
    dialect: Dialect,
    class: &'static str,
    bytes: Vec<u8>,
    value: &'static str,
}

fn vectors() -> Vec<Vector> {
    let files = [
        include_str!("vectors/rfc.txt"),
        include_str!("vectors/rsplib.txt"),
        include_str!("vectors/malformed.txt"),
    ];
    let mut vectors = Vec::new();
    for line in files.into_iter().flat_map(str::lines).filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let fields: Vec<&str> = line.splitn(5, '|').map(str::trim).collect();
        let [name, dialect, class, hex, value] = fields[..] else { panic!("not five fields: {line}") };
        vectors.push(Vector {
            name,
            protocol: &name[..4],
            dialect: match dialect {
                "rfc" => Dialect::Rfc,
                "rsplib" => Dialect::Rsplib,
                "unknown" => Dialect::Unknown,
                other => panic!("no dialect {other}"),
            },
            class,
            bytes: from_hex(hex),
            value,
        });
    }
    vectors
}

fn from_hex(hex: &str) -> Vec<u8> {
    assert!(hex.len().is_multiple_of(2), "half a byte: {hex}");
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// Causes as the vector files write them.
fn causes(report: &[ErrorCause]) -> String {
    let mut out = String::new();
    for cause in report {
        let number = match cause.code {
            CauseCode::Unspecified => 0,
            CauseCode::UnrecognizedParameter => 1,
            CauseCode::UnrecognizedMessage => 2,
            CauseCode::InvalidValues => 3,
            other => panic!("decoding reports no {other:?}"),
        };
        out += &format!(" {number}");
        if !cause.info.is_empty() {
            out += &format!(":{}", hex(&cause.info));
        }
    }
    out
}

fn outcome(decoded: &Result<Decoded<Message>, Rejected>) -> String {
    match decoded {
        Ok(decoded) if decoded.report.is_empty() => decoded.message.value(),
        Ok(decoded) => format!("{} ; report{}", decoded.message.value(), causes(&decoded.report)),
        Err(rejected) => {
            let word = if rejected.is_incomplete() { "incomplete" } else { "refused" };
            format!("{word}{}", causes(&rejected.report))
        }
    }
}

#[test]
fn legal_messages_decode_and_encode_identically() {
    let legal: Vec<Vector> = vectors().into_iter().filter(|v| v.class == "legal").collect();
    for vector in &legal {
        let decoded = Message::decode(vector.protocol, &vector.bytes, vector.dialect);
        assert_eq!(outcome(&decoded), vector.value, "{}", vector.name);
        let encoded = decoded.unwrap().message.encode(vector.dialect).unwrap();
        assert_eq!(hex(&encoded), hex(&vector.bytes), "{}", vector.name);
    }
    let types: BTreeSet<(&str, u8)> = legal.iter().map(|v| (v.protocol, v.bytes[0])).collect();
    let all = (1..=14).map(|kind| ("asap", kind)).chain((1..=10).map(|kind| ("enrp", kind)));
    assert_eq!(types, all.collect(), "each message has a legal vector");
}

#[test]
fn tolerated_messages_decode_to_a_value_with_a_canonical_form() {
    for vector in vectors().iter().filter(|v| v.class == "tolerated") {
        let decoded = Message::decode(vector.protocol, &vector.bytes, vector.dialect);
        assert_eq!(outcome(&decoded), vector.value, "{}", vector.name);
        let decoded = decoded.unwrap();
        let canonical = assert_canonical(&decoded.message, vector);
        assert!(canonical != vector.bytes || !decoded.report.is_empty(), "{} is legal", vector.name);
    }
}

#[test]
fn malformed_messages_are_refused_with_their_cause() {
    let mut seen = 0;
    for vector in vectors().iter().filter(|v| v.class == "malformed") {
        let decoded = Message::decode(vector.protocol, &vector.bytes, vector.dialect);
        assert_eq!(outcome(&decoded), vector.value, "{}: {decoded:?}", vector.name);
        seen += 1;
    }
    assert!(seen >= 150);
}

#[test]
fn every_class_is_one_of_three_and_every_name_is_unique() {
    let vectors = vectors();
    assert!(vectors.iter().all(|v| ["legal", "tolerated", "malformed"].contains(&v.class)));
    let names: BTreeSet<&str> = vectors.iter().map(|v| v.name).collect();
    assert_eq!(names.len(), vectors.len());
}

/// The value's encoding decodes to the value, with nothing to report.
fn assert_canonical(message: &Message, vector: &Vector) -> Vec<u8> {
    let canonical = message.encode(vector.dialect).unwrap();
    let again = Message::decode(vector.protocol, &canonical, vector.dialect).unwrap();
    assert_eq!(&again.message, message, "{}", vector.name);
    assert!(again.report.is_empty(), "{}", vector.name);
    assert_eq!(again.message.encode(vector.dialect).unwrap(), canonical, "{}", vector.name);
    canonical
}

fn message_len(bytes: &[u8]) -> usize {
    usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))
}

#[test]
fn a_message_cut_bare_is_incomplete() {
    for vector in vectors().iter().filter(|v| v.class == "legal") {
        for len in 0..vector.bytes.len() {
            let cut = &vector.bytes[..len];
            let decoded = Message::decode(vector.protocol, cut, vector.dialect);
            if len < message_len(&vector.bytes) {
                assert!(decoded.unwrap_err().is_incomplete(), "{} cut to {len}", vector.name);
            } else {
                // Only padding was cut off.
                assert_eq!(outcome(&decoded), vector.value, "{} cut to {len}", vector.name);
            }
        }
    }
}

#[test]
fn a_message_cut_with_its_lengths_patched_is_refused_with_its_cause_or_has_a_canonical_form() {
    let (mut refused, mut decoded_anyway) = (0, 0);
    for vector in vectors().iter().filter(|v| v.class == "legal") {
        let starts = containers(vector);
        for len in 4..message_len(&vector.bytes) {
            let mut cut = vector.bytes[..len].to_vec();
            for &start in starts.iter().filter(|&&start| start + 4 <= len) {
                let patched = u16::try_from(len - start).unwrap();
                let field = u16::from_be_bytes([cut[start + 2], cut[start + 3]]).min(patched);
                cut[start + 2..start + 4].copy_from_slice(&field.to_be_bytes());
            }
            match Message::decode(vector.protocol, &cut, vector.dialect) {
                Ok(decoded) => {
                    decoded_anyway += 1;
                    assert!(decoded.report.is_empty());
                    assert_canonical(&decoded.message, vector);
                }
                Err(rejected) => {
                    refused += 1;
                    assert!(!rejected.is_incomplete(), "{} cut to {len}", vector.name);
                    assert_cause(&rejected, &cut, vector);
                }
            }
        }
    }
    assert!(refused > 1000 && decoded_anyway > 1000, "{refused} refused, {decoded_anyway} not");
}

/// Exactly "invalid values", about the message or a parameter in it; nothing if the message is an error itself.
fn assert_cause(rejected: &Rejected, bytes: &[u8], vector: &Vector) {
    let is_error =
        Message::decode(vector.protocol, &vector.bytes, vector.dialect).unwrap().message.is_error();
    match rejected.report.as_slice() {
        [] => assert!(is_error, "{}: no cause", vector.name),
        [cause] => {
            assert!(!is_error, "{}: an answer to an error", vector.name);
            assert_eq!(cause.code, CauseCode::InvalidValues, "{}", vector.name);
            assert_eq!(message_len(&cause.info), cause.info.len(), "{}", vector.name);
            assert!(bytes.windows(cause.info.len()).any(|w| w == cause.info), "{}", vector.name);
        }
        more => panic!("{}: {more:?}", vector.name),
    }
}

/// Where the message and its parameters begin, nested ones too: an independent, much simpler reader.
fn containers(vector: &Vector) -> Vec<usize> {
    let bytes = &vector.bytes;
    let fixed = match (vector.protocol, bytes[0]) {
        ("asap", 7 | 10) => 8,
        ("asap", _) => 4,
        (_, 4 | 7..=9) => 16,
        (_, _) => 12,
    };
    let mut starts = vec![0];
    nested(bytes, fixed, message_len(bytes), false, &mut starts);
    starts
}

fn nested(bytes: &[u8], mut at: usize, end: usize, in_error: bool, starts: &mut Vec<usize>) {
    while at + 4 <= end {
        starts.push(at);
        let kind = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
        let len = message_len(&bytes[at..]);
        let fixed = match kind {
            _ if in_error => None,
            0x3 => Some(12),
            0x4..=0x7 | 0xb => Some(8),
            0xa => Some(16),
            0xc => Some(4),
            _ => None,
        };
        if let Some(fixed) = fixed {
            nested(bytes, at + fixed, at + len, kind == 0xc, starts);
        }
        at += len.next_multiple_of(4);
    }
}
