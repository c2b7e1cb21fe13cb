//! How the registrar at the other end of a link speaks: what shows it, and what must not be said to one that is RSPLIB's or may be.
//! docs/rsplib-dialect.md says the same for people.
//!
//! Until it has shown itself a registrar over SCTP is spoken to as RSPLIB's, which one by the RFCs understands too, but for lives:
//! those it takes for seconds, too long, and gets again in its unit as soon as it is known.
//!
//! What RSPLIB's process would not survive is held back until then. A registrar that otherwise says nothing of itself is asked, by
//! a message of a type that does not exist: one by the RFCs reports it (RFC 5354 4), RSPLIB's says nothing.

use super::Offer;
use crate::config::DialectSetting;
use crate::machine::LinkKind;
use crate::types::{CauseCode, PoolHandle, RegistrationLife};
use crate::wire::{AsapMessage, Dialect, Unspeakable};
use std::time::Duration;

/// The question: a header whose type has the bits that ask for a report.
pub(super) const QUESTION: [u8; 4] = [0x4f, 0, 0, 4];
/// How long its answer is waited for. Then there is none.
pub(super) const ANSWER_TIME: Duration = Duration::from_secs(2);

/// What is known of how a registrar speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acquaintance {
    dialect: Dialect,
    /// It has answered a registration, and not as ours do.
    stranger: bool,
    asked: bool,
}

/// Whether something may be said.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Permission {
    Granted,
    /// Not before it is known who it is.
    Later,
    Never(Unspeakable),
}

impl Acquaintance {
    /// What one is taken to speak with whom a link comes up. RSPLIB has SCTP only.
    pub(super) fn new(setting: DialectSetting, kind: LinkKind) -> Acquaintance {
        let dialect = Dialect::of_link(setting, kind == LinkKind::Sctp);
        Acquaintance { dialect, stranger: false, asked: false }
    }

    /// How its messages are read.
    pub(super) fn heard_as(self) -> Dialect {
        self.dialect
    }

    /// How it is spoken to.
    ///
    /// DEPARTS RFC 5354 3.10: to a registrar that has shown neither dialect a life is said in milliseconds. Taken for seconds it is
    /// too long, and repeated soon; the other way round an element of an RSPLIB registrar would be lost to its peers within a second.
    pub(super) fn spoken(self) -> Dialect {
        match self.dialect {
            Dialect::Rfc => Dialect::Rfc,
            Dialect::Unknown | Dialect::Rsplib => Dialect::Rsplib,
        }
    }

    /// Whether it may be one that tells no changes of pools, and few elements if asked for no number.
    pub(super) fn may_be_rsplib(self) -> bool {
        self.spoken() == Dialect::Rsplib
    }

    /// Takes in what a message, with these bytes, shows of its sender; whether something new is known. Who shows that it is one of
    /// ours, or knows what RSPLIB does not, speaks as the RFCs say, whatever was thought.
    pub(super) fn hear(&mut self, message: &AsapMessage, bytes: &[u8]) -> bool {
        let before = self.dialect;
        self.dialect =
            if is_beyond_rsplib(message) { Dialect::Rfc } else { self.dialect.after_asap(message, bytes) };
        if self.dialect == Dialect::Unknown {
            self.stranger |= matches!(message, AsapMessage::RegistrationResponse { .. });
            // Ours name the element, too, but to those only whom they have told that they are ours.
            let names_element = matches!(message, AsapMessage::KeepAlive(it) if it.element.is_some());
            if self.stranger && names_element {
                self.dialect = Dialect::Rsplib;
            }
        }
        self.dialect != before
    }

    /// Whether it is to be asked who it is, now and never again.
    pub(super) fn ask(&mut self) -> bool {
        self.dialect == Dialect::Unknown && !std::mem::replace(&mut self.asked, true)
    }

    /// The time for an answer is over; whether something new is known.
    pub(super) fn on_no_answer(&mut self) -> bool {
        let news = self.asked && self.dialect == Dialect::Unknown;
        if news {
            self.dialect = Dialect::Rsplib;
        }
        news
    }

    /// Whether it may be told of a pool, and of what is registered in it.
    pub(super) fn permits(self, handle: &PoolHandle, offer: Option<&Offer>) -> Permission {
        let unspeakable = Unspeakable::of(handle, offer.map(|offer| (&offer.policy, &offer.user_transport)));
        match (unspeakable, self.dialect) {
            (None, _) | (Some(_), Dialect::Rfc) => Permission::Granted,
            (Some(_), Dialect::Unknown) => Permission::Later,
            (Some(what), Dialect::Rsplib) => Permission::Never(what),
        }
    }

    /// Whether a life said to it before it was known is to be repeated in its unit.
    pub(super) fn repeats(self, life: RegistrationLife, said_in: Dialect) -> bool {
        life != RegistrationLife::Infinite && said_in != self.spoken()
    }
}

/// What only a registrar by the RFCs says to a user or an element: pools' changes, pools with long handles, and that it has
/// no such message as [`QUESTION`].
fn is_beyond_rsplib(message: &AsapMessage) -> bool {
    match message {
        AsapMessage::HandleResolutionResponse { accept_updates, .. } => *accept_updates,
        AsapMessage::KeepAlive(keep_alive) => Unspeakable::of(&keep_alive.handle, None).is_some(),
        AsapMessage::Error(causes) => causes.iter().any(|cause| {
            cause.code == CauseCode::UnrecognizedMessage && cause.info.starts_with(&QUESTION[..1])
        }),
        AsapMessage::Registration(_)
        | AsapMessage::RegistrationResponse { .. }
        | AsapMessage::Deregistration { .. }
        | AsapMessage::DeregistrationResponse { .. }
        | AsapMessage::HandleResolution { .. }
        | AsapMessage::KeepAliveAck { .. }
        | AsapMessage::EndpointUnreachable { .. }
        | AsapMessage::ServerAnnounce { .. }
        | AsapMessage::Cookie(_)
        | AsapMessage::CookieEcho(_)
        | AsapMessage::BusinessCard { .. } => false,
    }
}
