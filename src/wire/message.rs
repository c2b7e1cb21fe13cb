//! What ASAP and ENRP messages have in common (RFC 5354 4): the header, its length, and the rule for types that
//! are not recognised.

use super::report::{Refused, Report};
use super::{INCOMPLETE, TooLong};
use crate::codec::{Reader, Writer, padding};
use crate::types::CauseCode;

/// A message's header, and a reader of what follows it.
pub(super) struct Header<'a> {
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) value: Reader<'a>,
    /// All of the message, without padding behind it.
    pub(super) whole: &'a [u8],
}

/// The bit that every message with one flag has.
const LOWEST: u8 = 1;

impl<'a> Header<'a> {
    /// Reads the header. The padding behind a message may be there or not.
    pub(super) fn read(bytes: &'a [u8], report: &mut Report) -> Result<Header<'a>, Refused> {
        let mut reader = Reader::new(bytes);
        let (Ok(kind), Ok(flags), Ok(len)) = (reader.u8(), reader.u8(), reader.u16()) else {
            return Err(report.unspecified(INCOMPLETE));
        };
        let len = usize::from(len);
        let Some(value_len) = len.checked_sub(4) else {
            return Err(report.unspecified("a message length below that of the header"));
        };
        let (Ok(value), Ok(whole)) = (reader.bytes(value_len), Reader::new(bytes).bytes(len)) else {
            return Err(report.unspecified(INCOMPLETE));
        };
        if reader.rest().len() > padding(len) {
            return Err(report.invalid(whole, "bytes behind the message"));
        }
        Ok(Header { kind, flags, value: Reader::new(value), whole })
    }

    /// The flag in the lowest bit, the only one most messages have.
    pub(super) fn flag(&self) -> bool {
        self.flags & LOWEST != 0
    }

    /// The message is of no type that is known.
    pub(super) fn unrecognized(&self, report: &mut Report) -> Refused {
        if self.kind >> 6 == 0b01 {
            report.push(CauseCode::UnrecognizedMessage, self.whole);
        }
        Refused("an unrecognised message type")
    }
}

/// The first two bytes of a message whose one flag, in the lowest bit, is `flag`.
pub(super) fn head(kind: u8, flag: bool) -> u16 {
    u16::from_be_bytes([kind, if flag { LOWEST } else { 0 }])
}

/// The finished message.
pub(super) fn finish(writer: Writer) -> Result<Vec<u8>, TooLong> {
    writer.finish().ok_or(TooLong)
}
