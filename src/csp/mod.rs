//! The component status protocol of RSPLIB: small UDP datagrams by which registrars, elements and users tell a monitor that
//! they are there, what they do and with whom they are associated. No RFC describes it; the format is the one of
//! RSPLIB 3 on the wire (version 2.0).
//!
//! This file is the datagram; [`Reporter`] says when one is due. Neither sends anything: machines hand reports out as
//! [`crate::machine::Effect::Datagram`]. Nothing is acknowledged, and nobody is any worse for a report that is lost.

mod reporter;

pub use reporter::{Monitor, Reporter};

use crate::codec::{Reader, Truncated, Writer};
use crate::machine::LinkKind;
use crate::types::{Load, PeId, ServerId};
use std::fmt;
use std::time::Duration;

/// The port of monitors.
pub const CSP_PORT: u16 = 2960;
/// Associations that are told at most: more would not fit into a datagram of one Ethernet frame.
pub const MAX_ASSOCIATIONS: usize = 48;

const TYPE_REPORT: u8 = 1;
const FLAG_LAST: u8 = 1;
const VERSION: u32 = 0x0000_0200;
/// The bits of a component's identifier within its group.
const ID: u64 = (1 << 56) - 1;
/// Fields of text have this many bytes, the last of which is 0.
const TEXT: usize = 128;
const NO_WORKLOAD: u16 = 0xffff;
const MAX_WORKLOAD: u64 = 0xfffe;
const FIXED: usize = 288;
const ASSOCIATION: usize = 24;

/// What a component is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Group {
    /// A registrar (ENRP server).
    Registrar,
    /// A pool element.
    Element,
    /// A pool user.
    User,
    /// Something we do not know.
    Other(u8),
}

impl Group {
    fn number(self) -> u8 {
        match self {
            Group::Registrar => 1,
            Group::Element => 2,
            Group::User => 3,
            Group::Other(number) => number,
        }
    }
}

/// Who a component is: its group, and an identifier of 56 bits within it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ComponentId(u64);

impl ComponentId {
    /// A registrar; none: which one is not known.
    pub fn registrar(server: Option<ServerId>) -> ComponentId {
        ComponentId::within(Group::Registrar, server.map_or(0, |server| server.value().into()))
    }

    /// A pool element.
    pub fn element(id: PeId) -> ComponentId {
        ComponentId::within(Group::Element, id.0.into())
    }

    /// A pool user, which takes a random number.
    pub fn user(random: u64) -> ComponentId {
        ComponentId::within(Group::User, random)
    }

    /// The low 56 bits of `id` within a group.
    pub fn within(group: Group, id: u64) -> ComponentId {
        ComponentId(u64::from(group.number()) << 56 | (id & ID))
    }

    /// As on the wire, group in the highest byte.
    pub fn from_number(number: u64) -> ComponentId {
        ComponentId(number)
    }

    /// As on the wire.
    pub fn number(self) -> u64 {
        self.0
    }

    /// What it is.
    pub fn group(self) -> Group {
        match (self.0 >> 56) as u8 {
            1 => Group::Registrar,
            2 => Group::Element,
            3 => Group::User,
            number => Group::Other(number),
        }
    }

    /// Which one of its group; 0 if that is not known.
    pub fn id(self) -> u64 {
        self.0 & ID
    }
}

impl fmt::Debug for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", self.0)
    }
}

impl fmt::Display for ComponentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.group() {
            Group::Registrar | Group::Element => write!(f, "0x{:08x}", self.id()),
            Group::User => write!(f, "0x{:014x}", self.id()),
            Group::Other(_) => write!(f, "0x{:016x}", self.0),
        }
    }
}

/// A datagram.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// Whose it is.
    pub sender: ComponentId,
    /// For how long that has been running.
    pub uptime: Duration,
    /// When the next one is to be expected.
    pub interval: Duration,
    /// How it is; none: it has ended, and this is its last report.
    pub status: Option<Status>,
}

/// What a component tells of itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Status {
    /// Where it is: host and addresses. At most 127 bytes are told.
    pub location: String,
    /// What it does, for people. At most 127 bytes are told.
    pub text: String,
    /// How loaded it is, if it has a load; to 16 bits.
    pub workload: Option<Load>,
    /// With whom it talks; at most [`MAX_ASSOCIATIONS`] are told.
    pub associations: Vec<Association>,
}

/// One component's association with another.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Association {
    /// With whom.
    pub peer: ComponentId,
    /// For how long.
    pub duration: Duration,
    /// Over what: an IP protocol number.
    pub protocol: u16,
    /// The payload protocol identifier of what goes over it; 11 is ASAP, 12 is ENRP.
    pub ppid: u32,
}

impl Association {
    /// One over a link of this kind.
    pub fn over(kind: LinkKind, peer: ComponentId, duration: Duration, ppid: u32) -> Association {
        let protocol = match kind {
            LinkKind::Tcp => 6,
            LinkKind::Udp => 17,
            LinkKind::Sctp => 132,
        };
        Association { peer, duration, protocol, ppid }
    }
}

/// What is wrong with a datagram that is no report.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Malformed(pub &'static str);

impl From<Truncated> for Malformed {
    fn from(_: Truncated) -> Malformed {
        Malformed("too short")
    }
}

impl Report {
    /// The datagram.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::new();
        let ended = Status::default();
        let status = self.status.as_ref().unwrap_or(&ended);
        let associations = status.associations.get(..MAX_ASSOCIATIONS).unwrap_or(&status.associations);
        let flags = if self.status.is_none() { FLAG_LAST } else { 0 };
        out.u8(TYPE_REPORT);
        out.u8(flags);
        // At most 48 associations: it fits.
        out.u16((FIXED + ASSOCIATION * associations.len()) as u16);
        out.u32(VERSION);
        u64(&mut out, self.sender.0);
        u64(&mut out, micros(self.uptime));
        out.u32(u32::try_from(micros(self.interval)).unwrap_or(u32::MAX));
        text(&mut out, &status.location);
        text(&mut out, &status.text);
        out.u16(match (&self.status, status.workload) {
            // The last report has none, and says so in RSPLIB's way.
            (None, _) => 0,
            (Some(_), None) => NO_WORKLOAD,
            (Some(_), Some(load)) => scale(load.0.into(), u32::MAX.into(), MAX_WORKLOAD) as u16,
        });
        out.u16(associations.len() as u16);
        for association in associations {
            u64(&mut out, association.peer.0);
            u64(&mut out, micros(association.duration));
            out.u16(0);
            out.u16(association.protocol);
            out.u32(association.ppid);
        }
        // Nothing in it was opened, so nothing can have become too long.
        out.finish().unwrap_or_default()
    }

    /// Reads a datagram. Untrusted: every one is a report or malformed. What a terminal would obey is not in the texts.
    pub fn decode(bytes: &[u8]) -> Result<Report, Malformed> {
        let mut from = Reader::new(bytes);
        let (kind, flags, length) = (from.u8()?, from.u8()?, from.u16()?);
        if kind != TYPE_REPORT {
            return Err(Malformed("not a report"));
        }
        if usize::from(length) != bytes.len() {
            return Err(Malformed("its length is not the datagram's"));
        }
        if from.u32()? != VERSION {
            return Err(Malformed("of another version"));
        }
        let sender = ComponentId(read_u64(&mut from)?);
        let uptime = Duration::from_micros(read_u64(&mut from)?);
        let interval = Duration::from_micros(from.u32()?.into());
        let (location, said) = (read_text(&mut from)?, read_text(&mut from)?);
        let (workload, count) = (from.u16()?, from.u16()?);
        if from.rest().len() != ASSOCIATION * usize::from(count) {
            return Err(Malformed("it has not as many associations as it says"));
        }
        let mut associations = Vec::with_capacity(count.into());
        for _ in 0..count {
            let (peer, duration) = (ComponentId(read_u64(&mut from)?), read_u64(&mut from)?);
            from.u16()?;
            associations.push(Association {
                peer,
                duration: Duration::from_micros(duration),
                protocol: from.u16()?,
                ppid: from.u32()?,
            });
        }
        let workload = (workload != NO_WORKLOAD)
            .then(|| Load(scale(workload.into(), MAX_WORKLOAD, u32::MAX.into()) as u32));
        let status = Status { location, text: said, workload, associations };
        Ok(Report { sender, uptime, interval, status: (flags & FLAG_LAST == 0).then_some(status) })
    }
}

/// Where a component is, as RSPLIB writes it: `host: 10.1.1.1:3863, [fd00::1]:3863`.
pub fn location(host: &str, places: impl IntoIterator<Item = String>) -> String {
    let places: Vec<String> = places.into_iter().collect();
    match places.is_empty() {
        true => host.to_owned(),
        false => format!("{host}: {}", places.join(", ")),
    }
}

/// `value` of `from` as a part of `to`, rounded.
fn scale(value: u64, from: u64, to: u64) -> u64 {
    (value * to + from / 2) / from
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn u64(out: &mut Writer, value: u64) {
    out.bytes(&value.to_be_bytes());
}

fn read_u64(from: &mut Reader<'_>) -> Result<u64, Truncated> {
    from.array().map(u64::from_be_bytes)
}

fn text(out: &mut Writer, text: &str) {
    let text = plain(text);
    let end = (0..TEXT.min(text.len() + 1)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
    let mut field = [0; TEXT];
    field[..end].copy_from_slice(&text.as_bytes()[..end]);
    out.bytes(&field);
}

fn read_text(from: &mut Reader<'_>) -> Result<String, Truncated> {
    let field: [u8; TEXT] = from.array()?;
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(TEXT);
    Ok(plain(&String::from_utf8_lossy(&field[..end])))
}

/// Without what would move a cursor, ring a bell or turn the direction of writing.
fn plain(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if harmful(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(status: Option<Status>) -> Report {
        Report {
            sender: ComponentId::element(PeId(0x1234)),
            uptime: Duration::from_millis(1500),
            interval: Duration::from_secs(1),
            status,
        }
    }

    #[test]
    fn identifiers_have_a_group_and_56_bits() {
        let user = ComponentId::user(u64::MAX);
        assert_eq!((user.group(), user.id()), (Group::User, (1 << 56) - 1));
        assert_eq!(ComponentId::registrar(ServerId::new(0xaaa)).number(), 0x0100_0000_0000_0aaa);
        assert_eq!(ComponentId::registrar(None).id(), 0);
        assert_eq!(ComponentId::from_number(0xff00_0000_0000_0001).group(), Group::Other(0xff));
        assert_eq!(ComponentId::element(PeId(0xabcd)).to_string(), "0x0000abcd");
    }

    #[test]
    fn texts_are_cut_at_127_bytes_between_characters() {
        let long = "ä".repeat(100);
        let status = Status { location: long.clone(), text: "x".repeat(300), ..Status::default() };
        let read = Report::decode(&report(Some(status)).encode()).unwrap().status.unwrap();
        assert_eq!((read.location, read.text), ("ä".repeat(63), "x".repeat(127)));
    }

    #[test]
    fn no_text_moves_the_cursor_of_a_terminal() {
        let evil = "a\x1b[2Jb\nc\u{202e}d\u{9b}".to_owned();
        let mut bytes = report(Some(Status::default())).encode();
        bytes[28..28 + evil.len()].copy_from_slice(evil.as_bytes());
        assert_eq!(Report::decode(&bytes).unwrap().status.unwrap().location, "a?[2Jb?c?d?");
        let status = Status { text: evil, ..Status::default() };
        let read = Report::decode(&report(Some(status)).encode()).unwrap().status.unwrap();
        assert_eq!(read.text, "a?[2Jb?c?d?");
    }

    #[test]
    fn loads_are_told_to_16_bits_and_all_is_not_none() {
        let told = |load: Option<Load>| {
            let status = Status { workload: load, ..Status::default() };
            let bytes = report(Some(status)).encode();
            (bytes[284], bytes[285], Report::decode(&bytes).unwrap().status.unwrap().workload)
        };
        assert_eq!(told(None), (0xff, 0xff, None));
        assert_eq!(told(Some(Load(0))), (0, 0, Some(Load(0))));
        assert_eq!(told(Some(Load(u32::MAX))), (0xff, 0xfe, Some(Load(u32::MAX))));
        assert_eq!(told(Some(Load(0x8000_0000))).0, 0x7f);
    }

    #[test]
    fn a_report_tells_no_more_associations_than_a_frame_holds() {
        let peer = ComponentId::user(7);
        let association = Association { peer, duration: Duration::ZERO, protocol: 132, ppid: 0 };
        let status = Status { associations: vec![association; 3000], ..Status::default() };
        let bytes = report(Some(status)).encode();
        assert!(bytes.len() <= 1500 - 48, "{} bytes", bytes.len());
        let read = Report::decode(&bytes).unwrap();
        assert_eq!(read.status.unwrap().associations.len(), MAX_ASSOCIATIONS);
    }

    #[test]
    fn what_is_no_report_is_told_apart() {
        let good = report(None).encode();
        let wrong = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Report::decode(&bytes).unwrap_err().0
        };
        assert_eq!(wrong(0, 2), "not a report");
        assert_eq!(wrong(3, 0x21), "its length is not the datagram's");
        assert_eq!(wrong(6, 3), "of another version");
        assert_eq!(wrong(287, 1), "it has not as many associations as it says");
        assert_eq!(Report::decode(&[]).unwrap_err().0, "too short");
        let mut longer = good.clone();
        longer.push(0);
        assert_eq!(Report::decode(&longer).unwrap_err().0, "its length is not the datagram's");
    }
}
