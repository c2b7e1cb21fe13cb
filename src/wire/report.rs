//! What the sender of a message is to be told about it: collected while the message is decoded, and never more
//! than an error message can carry.

use super::{Decoded, Rejected};
use crate::codec::padding;
use crate::types::{CauseCode, ErrorCause};

/// Causes found so far.
pub(super) struct Report {
    causes: Vec<ErrorCause>,
    room: usize,
}

/// The message is not accepted, and why. What the sender is to be told is in the report.
pub(super) struct Refused(pub(super) &'static str);

/// What an ENRP_ERROR has room for behind its header, its two identifiers and the head of its parameter.
const ROOM: usize = u16::MAX as usize - 4 - 8 - 4;

impl Report {
    pub(super) fn new() -> Report {
        Report { causes: Vec::new(), room: ROOM }
    }

    /// Adds a cause. One that does not fit into an error message becomes an unspecified one: the others are nothing
    /// without their information.
    pub(super) fn push(&mut self, code: CauseCode, info: &[u8]) {
        let size = 4 + info.len() + padding(info.len());
        if let Some(room) = self.room.checked_sub(size) {
            self.room = room;
            self.causes.push(ErrorCause { code, info: info.to_vec() });
        } else if let Some(room) = self.room.checked_sub(4) {
            self.room = room;
            self.causes.push(ErrorCause::bare(CauseCode::Unspecified));
        }
    }

    /// Adds that `whole`, a parameter or the message itself, holds invalid values (RFC 5354 3.12.4).
    pub(super) fn invalid(&mut self, whole: &[u8], why: &'static str) -> Refused {
        self.push(CauseCode::InvalidValues, whole);
        Refused(why)
    }

    /// Adds that something is wrong that cannot be shown, because it is not even of type, length and value.
    pub(super) fn unspecified(&mut self, why: &'static str) -> Refused {
        self.push(CauseCode::Unspecified, &[]);
        Refused(why)
    }

    /// For messages that are errors themselves.
    ///
    /// DEPARTS RFC 5352 2.2.14 and RFC 5353 3.7: an error about an error could be answered with another one, for
    /// ever.
    pub(super) fn silence(&mut self) {
        self.causes.clear();
    }

    /// The outcome of decoding.
    pub(super) fn conclude<M>(self, message: Result<M, Refused>) -> Result<Decoded<M>, Rejected> {
        match message {
            Ok(message) => Ok(Decoded { message, report: self.causes }),
            Err(Refused(why)) => Err(Rejected { report: self.causes, why }),
        }
    }
}
