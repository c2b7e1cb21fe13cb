//! What is said on a control channel (RFC 5352 3.8, 3.9): cookies, business cards, and errors about what was not
//! understood (RFC 5352 2.2.14). Decides nothing about sessions.

use super::SendRefused;
use crate::machine::{LinkKind, Protocol};
use crate::types::{Capabilities, CauseCode, ErrorCause, PoolElement, PoolHandle};
use crate::wire::{AsapMessage, Dialect, TooLong};

/// Which end of a session we are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    User,
    Element,
}

/// What came.
#[derive(Debug)]
pub(super) enum Said {
    /// A cookie to keep (user's side).
    Cookie(Vec<u8>),
    /// A cookie that the user brings from another element (element's side).
    CookieEcho(Vec<u8>),
    /// A business card.
    Card { handle: PoolHandle, elements: Vec<PoolElement> },
    /// Nothing to act on.
    Nothing,
}

/// Reads a control message; also what to answer, if anything. An error is never answered (`wire` sees to
/// that).
pub(super) fn read(bytes: &[u8], side: Side) -> (Said, Option<Vec<u8>>) {
    let (said, report) = match AsapMessage::decode(bytes, Dialect::Rfc) {
        Err(rejected) => (Said::Nothing, rejected.report),
        Ok(decoded) => match (sort(decoded.message, side), decoded.report) {
            (Some(said), report) => (said, report),
            // A known message in the wrong place; the RFC names no cause for that, this one comes nearest.
            (None, _) => {
                let code = CauseCode::UnrecognizedMessage;
                (Said::Nothing, vec![ErrorCause { code, info: bytes.to_vec() }])
            }
        },
    };
    let answer = if report.is_empty() { None } else { error(report) };
    (said, answer)
}

/// What a message means on this side; none: it has no place on a control channel.
fn sort(message: AsapMessage, side: Side) -> Option<Said> {
    match (message, side) {
        (AsapMessage::Cookie(cookie), Side::User) => Some(Said::Cookie(cookie)),
        (AsapMessage::CookieEcho(cookie), Side::Element) => Some(Said::CookieEcho(cookie)),
        (AsapMessage::BusinessCard { handle, elements }, Side::User | Side::Element) => {
            Some(Said::Card { handle, elements })
        }
        (AsapMessage::Error(_), Side::User | Side::Element) => Some(Said::Nothing),
        (AsapMessage::Cookie(_), Side::Element)
        | (AsapMessage::CookieEcho(_), Side::User)
        | (
            AsapMessage::Registration(_)
            | AsapMessage::Deregistration { .. }
            | AsapMessage::RegistrationResponse { .. }
            | AsapMessage::DeregistrationResponse { .. }
            | AsapMessage::HandleResolution { .. }
            | AsapMessage::HandleResolutionResponse { .. }
            | AsapMessage::KeepAlive(_)
            | AsapMessage::KeepAliveAck { .. }
            | AsapMessage::EndpointUnreachable { .. }
            | AsapMessage::ServerAnnounce { .. },
            Side::User | Side::Element,
        ) => None,
    }
}

/// A control message as it is said: with its padding counted, as RSPLIB wants it and everybody else can read it, unless it has no
/// room for that. (Cards are for ours.)
fn say(message: &AsapMessage) -> Result<Vec<u8>, TooLong> {
    message.encode(Dialect::Rsplib).or_else(|_| message.encode(Dialect::Rfc))
}

fn error(report: Vec<ErrorCause>) -> Option<Vec<u8>> {
    let bare = report.first().map(|cause| ErrorCause::bare(cause.code));
    match say(&AsapMessage::Error(report)) {
        Ok(bytes) => Some(bytes),
        // The offending message fills a whole message by itself: the cause goes without it.
        Err(_) => say(&AsapMessage::Error(vec![bare?])).ok(),
    }
}

/// An ASAP_COOKIE.
pub(super) fn cookie(cookie: &[u8]) -> Result<Vec<u8>, SendRefused> {
    say(&AsapMessage::Cookie(cookie.to_vec())).map_err(|_| SendRefused::TooLong)
}

/// An ASAP_COOKIE_ECHO. A cookie that came in a message fits into one.
pub(super) fn cookie_echo(cookie: &[u8]) -> Option<Vec<u8>> {
    say(&AsapMessage::CookieEcho(cookie.to_vec())).ok()
}

/// An ASAP_BUSINESS_CARD. Elements carry their capabilities only to a peer that is one of ours.
pub(super) fn card(
    handle: &PoolHandle,
    elements: &[PoolElement],
    to_ours: bool,
) -> Result<Vec<u8>, SendRefused> {
    let mut elements = elements.to_vec();
    if !to_ours {
        for element in &mut elements {
            element.capabilities = None;
        }
    }
    let card = AsapMessage::BusinessCard { handle: handle.clone(), elements };
    card.encode(Dialect::Rfc).map_err(|_| SendRefused::TooLong)
}

/// A card that fits into a message, cut at its end, where the least preferred elements are, if it must be.
pub(super) fn fitting_card(handle: &PoolHandle, elements: &[PoolElement], to_ours: bool) -> Option<Vec<u8>> {
    let mut len = elements.len();
    loop {
        match card(handle, elements.get(..len)?, to_ours) {
            Ok(card) => return Some(card),
            Err(_) if len > 0 => len /= 2,
            Err(_) => return None,
        }
    }
}

/// Whether a peer has shown that it understands business cards: over a framed TCP link both are ours.
pub(super) fn shows_cards(kind: LinkKind, protocol: Protocol, element: Option<&PoolElement>) -> bool {
    let announced = element.and_then(|e| e.capabilities).unwrap_or_default();
    kind == LinkKind::Tcp && protocol == Protocol::Session || announced.contains(Capabilities::BUSINESS_CARD)
}
