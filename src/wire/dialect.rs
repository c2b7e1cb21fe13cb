//! The one place where a dialect makes a difference: the unit of registration lives, the transport use of
//! TCP, and what a message's length counts. Everything else is read alike from everyone.

use crate::codec::{Open, Writer};
use crate::config::DialectSetting;
use crate::types::{RegistrationLife, TransportUse};

/// How the peer of a link, or the sender of an announcement, speaks.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Dialect {
    /// Not known yet; taken for the RFC's.
    #[default]
    Unknown,
    /// As the RFCs say.
    Rfc,
    /// As RSPLIB does.
    Rsplib,
}

impl From<DialectSetting> for Dialect {
    /// What one that has not shown its own yet is taken to speak.
    fn from(setting: DialectSetting) -> Dialect {
        match setting {
            DialectSetting::Auto => Dialect::Unknown,
            DialectSetting::Rfc => Dialect::Rfc,
            DialectSetting::Rsplib => Dialect::Rsplib,
        }
    }
}

const INFINITE: i32 = -1;

impl Dialect {
    /// What a registration life (RFC 5354 3.10) means: -1 for ever, the RFC's seconds or RSPLIB's milliseconds.
    /// None for other negative numbers.
    pub(super) fn read_life(self, word: u32) -> Option<RegistrationLife> {
        let life = word.cast_signed();
        if life == INFINITE {
            return Some(RegistrationLife::Infinite);
        }
        let life = u32::try_from(life).ok()?;
        Some(match self {
            Dialect::Unknown | Dialect::Rfc => RegistrationLife::Seconds(life),
            Dialect::Rsplib => RegistrationLife::Milliseconds(life),
        })
    }

    /// How a registration life is said; rounded up, and at most what 31 bits hold.
    pub(super) fn life_word(self, life: RegistrationLife) -> u32 {
        let finite = match (life, self) {
            (RegistrationLife::Infinite, _) => return INFINITE.cast_unsigned(),
            (RegistrationLife::Seconds(s), Dialect::Unknown | Dialect::Rfc) => s,
            (RegistrationLife::Seconds(s), Dialect::Rsplib) => s.saturating_mul(1000),
            (RegistrationLife::Milliseconds(ms), Dialect::Unknown | Dialect::Rfc) => ms.div_ceil(1000),
            (RegistrationLife::Milliseconds(ms), Dialect::Rsplib) => ms,
        };
        finite.min(i32::MAX.cast_unsigned())
    }

    /// What the 16 bits behind a TCP port mean: reserved in RFC 5354 3.5, the transport use for RSPLIB.
    /// None for a use that does not exist.
    pub(super) fn read_tcp_use(self, field: u16) -> Option<TransportUse> {
        match self {
            Dialect::Unknown | Dialect::Rfc => Some(TransportUse::DataOnly),
            Dialect::Rsplib => read_transport_use(field),
        }
    }

    /// The 16 bits behind a TCP port.
    pub(super) fn tcp_use_field(self, transport_use: TransportUse) -> u16 {
        match self {
            Dialect::Unknown | Dialect::Rfc => 0,
            Dialect::Rsplib => transport_use_field(transport_use),
        }
    }

    /// Closes a message. Its length does not count the padding behind it (RFC 5354 4), but RSPLIB's does.
    pub(super) fn close_message(self, writer: &mut Writer, open: Open) {
        match self {
            Dialect::Unknown | Dialect::Rfc => {}
            Dialect::Rsplib => writer.pad(),
        }
        writer.close(open);
    }
}

/// The transport use with this number (RFC 5354 3.4).
pub(super) fn read_transport_use(field: u16) -> Option<TransportUse> {
    match field {
        0 => Some(TransportUse::DataOnly),
        1 => Some(TransportUse::DataPlusControl),
        _ => None,
    }
}

/// Its number.
pub(super) fn transport_use_field(transport_use: TransportUse) -> u16 {
    match transport_use {
        TransportUse::DataOnly => 0,
        TransportUse::DataPlusControl => 1,
    }
}
