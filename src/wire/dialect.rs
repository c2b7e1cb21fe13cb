//! The one place where a dialect makes a difference: how the other end of a link is found to speak, the unit of registration
//! lives, the transport use of TCP, what a message's length counts, and what RSPLIB cannot be told.
//! docs/rsplib-dialect.md says the same for people.
//!
//! Not yet known means fail long: a life that came in an unknown unit is taken for seconds, and handed on as the number
//! it was.

use super::{AsapMessage, EnrpMessage, ServerInformation};
use crate::codec::{Open, Writer};
use crate::config::DialectSetting;
use crate::policy::{Policy, PolicyType};
use crate::types::{
    Addresses, CauseCode, ErrorCause, PeId, PoolElement, PoolHandle, RegistrationLife, TransportAddress,
    TransportUse,
};
use std::net::IpAddr;

/// How the peer of a link, or the sender of an announcement, speaks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Dialect {
    /// Not known yet.
    #[default]
    Unknown,
    /// As the RFCs say. Ours do among themselves.
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

/// The longest pool handle RSPLIB holds. A longer one ends its process.
const RSPLIB_HANDLE: usize = 32;
/// The most elements of a resolution response it reads, and its registrar tells. Asked for no number the latter tells three.
pub const RSPLIB_ITEMS: u16 = 128;
/// The most addresses of a transport it reads.
const RSPLIB_ADDRESSES: usize = 64;
/// Error causes RSPLIB has given numbers of its own, none of which are the RFC's.
const RSPLIB_CAUSES: &[u16] =
    &[0x10, 0x11, 0x1009, 0x100a, 0x100b, 0xf000, 0xf002, 0xf003, 0xf005, 0xf006, 0xf007, 0xf008];

/// How the other end of a link is found to speak.
impl Dialect {
    /// What one is taken to speak with whom a link has just come up: RSPLIB has SCTP only.
    pub fn of_link(setting: DialectSetting, over_sctp: bool) -> Dialect {
        match Dialect::from(setting) {
            Dialect::Unknown if !over_sctp => Dialect::Rfc,
            other => other,
        }
    }

    /// What the sender of an ASAP message speaks, given what was known before. Who shows our capability parameter is one
    /// of ours, whatever was thought; what else is known stays.
    pub fn after_asap(self, message: &AsapMessage, bytes: &[u8]) -> Dialect {
        match (asap_sign(message), self) {
            (Sign::Ours, _) => Dialect::Rfc,
            (_, Dialect::Rfc | Dialect::Rsplib) => self,
            (Sign::Shows(dialect), Dialect::Unknown) => dialect,
            (Sign::None, Dialect::Unknown) => {
                length_shows(bytes, || message.encode(Dialect::Rfc).ok()).unwrap_or_default()
            }
        }
    }

    /// The same for an ENRP message, which came from this port at these addresses.
    pub fn after_enrp(self, message: &EnrpMessage, bytes: &[u8], port: u16, addresses: &[IpAddr]) -> Dialect {
        match (enrp_sign(message, port, addresses), self) {
            (Sign::Ours, _) => Dialect::Rfc,
            (_, Dialect::Rfc | Dialect::Rsplib) => self,
            (Sign::Shows(dialect), Dialect::Unknown) => dialect,
            (Sign::None, Dialect::Unknown) => {
                length_shows(bytes, || message.encode(Dialect::Rfc).ok()).unwrap_or_default()
            }
        }
    }
}

/// What a message shows of its sender.
enum Sign {
    /// It is one of ours.
    Ours,
    /// It speaks this.
    Shows(Dialect),
    /// Nothing.
    None,
}

fn asap_sign(message: &AsapMessage) -> Sign {
    let ours = match message {
        AsapMessage::Registration(registration) => registration.element.capabilities.is_some(),
        AsapMessage::RegistrationResponse { capabilities, .. }
        | AsapMessage::HandleResolution { capabilities, .. } => capabilities.is_some(),
        // Capabilities in an answer are those of elements, of which only ours tell.
        AsapMessage::HandleResolutionResponse { elements, .. } => {
            elements.iter().any(|element| element.capabilities.is_some())
        }
        AsapMessage::Deregistration { .. }
        | AsapMessage::DeregistrationResponse { .. }
        | AsapMessage::KeepAlive(_)
        | AsapMessage::KeepAliveAck { .. }
        | AsapMessage::EndpointUnreachable { .. }
        | AsapMessage::ServerAnnounce { .. }
        | AsapMessage::Cookie(_)
        | AsapMessage::CookieEcho(_)
        | AsapMessage::BusinessCard { .. }
        | AsapMessage::Error(_) => false,
    };
    let shows = match message {
        _ if ours => return Sign::Ours,
        // Its private option. Ours, who have it too, show their parameter behind it.
        AsapMessage::HandleResolution { items: Some(_), .. } => Dialect::Rsplib,
        // It knows no subscriptions.
        AsapMessage::HandleResolution { subscribe: true, .. }
        | AsapMessage::HandleResolutionResponse { accept_updates: true, .. } => Dialect::Rfc,
        // It leaves the ASAP transport to its registrar.
        AsapMessage::Registration(registration) if registration.element.asap_transport.is_some() => {
            Dialect::Rfc
        }
        // The address is the datagram's.
        AsapMessage::ServerAnnounce { transports, .. } => match transports.is_empty() {
            true => Dialect::Rsplib,
            false => Dialect::Rfc,
        },
        AsapMessage::Error(causes) if has_causes_of_rsplib(causes) => Dialect::Rsplib,
        AsapMessage::RegistrationResponse { error: Some(causes), .. }
        | AsapMessage::DeregistrationResponse { error: Some(causes), .. }
        | AsapMessage::HandleResolutionResponse { error: Some(causes), .. }
            if has_causes_of_rsplib(causes) =>
        {
            Dialect::Rsplib
        }
        AsapMessage::Registration(_)
        | AsapMessage::Deregistration { .. }
        | AsapMessage::RegistrationResponse { .. }
        | AsapMessage::DeregistrationResponse { .. }
        | AsapMessage::HandleResolution { .. }
        | AsapMessage::HandleResolutionResponse { .. }
        | AsapMessage::KeepAlive(_)
        | AsapMessage::KeepAliveAck { .. }
        | AsapMessage::EndpointUnreachable { .. }
        | AsapMessage::Cookie(_)
        | AsapMessage::CookieEcho(_)
        | AsapMessage::BusinessCard { .. }
        | AsapMessage::Error(_) => return Sign::None,
    };
    Sign::Shows(shows)
}

fn enrp_sign(message: &EnrpMessage, port: u16, addresses: &[IpAddr]) -> Sign {
    let shows = match message {
        EnrpMessage::Presence { introduction: Some(_), .. } => return Sign::Ours,
        // Always with checksum and server information, and from the very port the latter names: all that RSPLIB accepts
        // itself. A registrar by the RFCs may leave out either, and connect from anywhere.
        EnrpMessage::Presence { checksum: Some(_), server: Some(information), .. }
            if is_from(information, port, addresses) =>
        {
            Dialect::Rsplib
        }
        EnrpMessage::Presence { .. } => Dialect::Rfc,
        EnrpMessage::HandleUpdate { takeover_suggested: true, .. } => Dialect::Rsplib,
        EnrpMessage::HandleUpdate { element, .. } if element.version.is_some() => return Sign::Ours,
        EnrpMessage::HandleTableResponse { pools, .. }
            if pools.iter().flat_map(|(_, elements)| elements).any(|element| element.version.is_some()) =>
        {
            return Sign::Ours;
        }
        // A peer of its configuration it has not heard of yet.
        EnrpMessage::ListResponse { servers, .. } if servers.iter().any(|it| it.server.is_none()) => {
            Dialect::Rsplib
        }
        EnrpMessage::Error { causes, .. } if has_causes_of_rsplib(causes) => Dialect::Rsplib,
        EnrpMessage::HandleUpdate { .. }
        | EnrpMessage::HandleTableRequest { .. }
        | EnrpMessage::HandleTableResponse { .. }
        | EnrpMessage::ListRequest { .. }
        | EnrpMessage::ListResponse { .. }
        | EnrpMessage::InitTakeover { .. }
        | EnrpMessage::InitTakeoverAck { .. }
        | EnrpMessage::TakeoverServer { .. }
        | EnrpMessage::Error { .. } => return Sign::None,
    };
    Sign::Shows(shows)
}

fn is_from(information: &ServerInformation, port: u16, addresses: &[IpAddr]) -> bool {
    let transport = &information.transport;
    matches!(transport, TransportAddress::Sctp { .. })
        && transport.port() == Some(port)
        && transport.addresses().iter().any(|address| addresses.contains(&address.to_canonical()))
}

fn has_causes_of_rsplib(causes: &[ErrorCause]) -> bool {
    let is_its = |code| matches!(code, CauseCode::Other(number) if RSPLIB_CAUSES.contains(&number));
    causes.iter().any(|cause| is_its(cause.code))
}

/// What the length a message says shows, if there is padding behind its last parameter: the RFC's does not count it.
fn length_shows(bytes: &[u8], canonical: impl FnOnce() -> Option<Vec<u8>>) -> Option<Dialect> {
    let length =
        |bytes: &[u8]| Some(u16::from_be_bytes(bytes.get(2..4).and_then(|field| field.try_into().ok())?));
    let told = length(bytes)?;
    if !told.is_multiple_of(4) {
        return Some(Dialect::Rfc);
    }
    let by_the_rfc = length(&canonical()?)?;
    (by_the_rfc < told && by_the_rfc.next_multiple_of(4) == told).then_some(Dialect::Rsplib)
}

/// Lives, lengths and fields.
impl Dialect {
    /// What a registration life (RFC 5354 3.10) means: -1 for ever, the RFC's seconds or RSPLIB's milliseconds.
    /// None for other negative numbers.
    pub(super) fn read_life(self, word: u32) -> Option<RegistrationLife> {
        let life = word.cast_signed();
        if life == INFINITE {
            return Some(RegistrationLife::Infinite);
        }
        let life = u32::try_from(life).ok()?;
        Some(self.settle_life(RegistrationLife::Unitless(life)))
    }

    /// A life that came from one who turns out to speak this.
    pub fn settle_life(self, life: RegistrationLife) -> RegistrationLife {
        match (life, self) {
            (RegistrationLife::Unitless(number), Dialect::Rfc) => RegistrationLife::Seconds(number),
            (RegistrationLife::Unitless(number), Dialect::Rsplib) => RegistrationLife::Milliseconds(number),
            (RegistrationLife::Unitless(_), Dialect::Unknown)
            | (
                RegistrationLife::Infinite | RegistrationLife::Seconds(_) | RegistrationLife::Milliseconds(_),
                _,
            ) => life,
        }
    }

    /// How a registration life is said; rounded up, and at most what 31 bits hold. To one whose dialect is not known, and of
    /// one whose unit is not, it is the number that came.
    pub(super) fn life_word(self, life: RegistrationLife) -> u32 {
        let finite = match (life, self) {
            (RegistrationLife::Infinite, _) => return INFINITE.cast_unsigned(),
            (RegistrationLife::Seconds(s), Dialect::Unknown | Dialect::Rfc) => s,
            (RegistrationLife::Seconds(s), Dialect::Rsplib) => s.saturating_mul(1000),
            (RegistrationLife::Milliseconds(ms), Dialect::Rfc) => ms.div_ceil(1000),
            (RegistrationLife::Milliseconds(ms), Dialect::Unknown | Dialect::Rsplib) => ms,
            (RegistrationLife::Unitless(number), _) => number,
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

/// What cannot be told.
impl Dialect {
    /// Whether a registrar that speaks this can be told of an element and keep it. RSPLIB's has no handles over 32 bytes, no DCCP,
    /// UDP-Lite or opaque transports, no elements without an ASAP transport over SCTP, and no use for loopback and link-local
    /// addresses; a handle that is too long, or a weighted lottery with weight 0, ends its process. One that has shown nothing
    /// may be RSPLIB's.
    pub fn holds(self, handle: &PoolHandle, element: &PoolElement) -> bool {
        match self {
            Dialect::Rfc => true,
            Dialect::Unknown | Dialect::Rsplib => {
                let asap = element.asap_transport.as_ref();
                handle.as_bytes().len() <= RSPLIB_HANDLE
                    && is_told_to_rsplib(element)
                    && asap.is_some_and(|it| matches!(it, TransportAddress::Sctp { .. }) && is_usable(it))
            }
        }
    }

    /// Whether a user that speaks this can be told of an element. One that has shown nothing is spared what would end
    /// RSPLIB's process.
    pub fn resolves(self, element: &PoolElement) -> bool {
        match self {
            Dialect::Rfc => true,
            Dialect::Unknown => !is_lottery_without_weight(&element.policy),
            Dialect::Rsplib => is_told_to_rsplib(element),
        }
    }

    /// The most elements a resolution response may have.
    pub fn most_items(self) -> usize {
        match self {
            Dialect::Rfc => usize::MAX,
            Dialect::Unknown | Dialect::Rsplib => RSPLIB_ITEMS.into(),
        }
    }

    /// Whether a registrar that speaks this can use what is told of where another one is.
    pub fn reaches(self, transport: &TransportAddress) -> bool {
        match self {
            Dialect::Rfc => true,
            Dialect::Unknown | Dialect::Rsplib => {
                matches!(transport, TransportAddress::Sctp { .. }) && is_usable(transport)
            }
        }
    }

    /// The element as one that speaks this is told it: RSPLIB's without the addresses it does not take.
    pub fn fitted(self, element: PoolElement) -> PoolElement {
        match self {
            Dialect::Unknown | Dialect::Rfc => element,
            Dialect::Rsplib => PoolElement {
                user_transport: self.fitted_transport(element.user_transport),
                asap_transport: element.asap_transport.map(|it| self.fitted_transport(it)),
                ..element
            },
        }
    }

    /// The same for a transport.
    pub fn fitted_transport(self, transport: TransportAddress) -> TransportAddress {
        match (self, &transport) {
            (Dialect::Rsplib, TransportAddress::Sctp { port, transport_use, addresses }) => {
                let kept = addresses.as_slice().iter().copied().filter(is_beyond_the_link).collect();
                match Addresses::new(kept) {
                    Some(addresses) => {
                        TransportAddress::Sctp { port: *port, transport_use: *transport_use, addresses }
                    }
                    None => transport,
                }
            }
            (Dialect::Unknown | Dialect::Rfc, _)
            | (
                Dialect::Rsplib,
                TransportAddress::Dccp { .. }
                | TransportAddress::Tcp { .. }
                | TransportAddress::Udp { .. }
                | TransportAddress::UdpLite { .. }
                | TransportAddress::Opaque(_),
            ) => transport,
        }
    }
}

/// What RSPLIB's registrars cannot be told: some of it would end their processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unspeakable {
    /// A pool handle of more than 32 bytes.
    LongHandle,
    /// A weighted random policy with weight 0.
    NoWeight,
    /// A user transport other than SCTP, TCP and UDP.
    Transport,
}

impl Unspeakable {
    /// What of a pool, and of an element's policy and user transport, cannot be told.
    pub fn of(handle: &PoolHandle, element: Option<(&Policy, &TransportAddress)>) -> Option<Unspeakable> {
        if handle.as_bytes().len() > RSPLIB_HANDLE {
            return Some(Unspeakable::LongHandle);
        }
        let (policy, user_transport) = element?;
        if is_lottery_without_weight(policy) {
            return Some(Unspeakable::NoWeight);
        }
        (!is_kind_of_rsplib(user_transport)).then_some(Unspeakable::Transport)
    }
}

/// What RSPLIB's registrars and users both ask of an element.
fn is_told_to_rsplib(element: &PoolElement) -> bool {
    is_kind_of_rsplib(&element.user_transport)
        && is_usable(&element.user_transport)
        && element.id != PeId(0)
        && !is_lottery_without_weight(&element.policy)
}

fn is_kind_of_rsplib(user_transport: &TransportAddress) -> bool {
    match user_transport {
        TransportAddress::Sctp { .. } | TransportAddress::Tcp { .. } | TransportAddress::Udp { .. } => true,
        TransportAddress::Dccp { .. } | TransportAddress::UdpLite { .. } | TransportAddress::Opaque(_) => {
            false
        }
    }
}

/// A weight of 0 means "no service" in RFC 5356 3.2; RSPLIB's process does not survive a draw with one.
fn is_lottery_without_weight(policy: &Policy) -> bool {
    match policy.policy_type() {
        PolicyType::WeightedRandom | PolicyType::WeightedRandomDpf => policy.weight() == Some(0),
        PolicyType::RoundRobin
        | PolicyType::WeightedRoundRobin
        | PolicyType::Random
        | PolicyType::Priority
        | PolicyType::LeastUsed
        | PolicyType::LeastUsedDegradation
        | PolicyType::PriorityLeastUsed
        | PolicyType::RandomizedLeastUsed
        | PolicyType::RandomizedPriorityLeastUsed
        | PolicyType::RandomizedLeastUsedDegradation
        | PolicyType::PriorityLeastUsedDegradation
        | PolicyType::RandomizedPriorityLeastUsedDegradation
        | PolicyType::LeastUsedDpf
        | PolicyType::LeastUsedDegradationDpf => false,
    }
}

fn is_usable(transport: &TransportAddress) -> bool {
    let addresses = transport.addresses();
    transport.port() != Some(0)
        && addresses.len() <= RSPLIB_ADDRESSES
        && addresses.iter().any(is_beyond_the_link)
}

/// RSPLIB drops addresses of loopback and link-local scope when it reads them.
fn is_beyond_the_link(address: &IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => !v4.is_loopback() && !v4.is_link_local(),
        IpAddr::V6(v6) => !v6.is_loopback() && !v6.is_unicast_link_local(),
    }
}

const INFINITE: i32 = -1;

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
