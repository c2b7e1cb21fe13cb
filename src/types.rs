//! The RFCs' vocabulary as types that cannot hold an illegal value (RFC 5354), and the two things every
//! machine needs beside it: a clock reading and a seeded generator.
//!
//! Wire sentinels (0, -1) do not occur here: they live and die in `wire/`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

/// A clock reading: nanoseconds since the start of the world it belongs to. Never goes back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(u64);

impl Time {
    /// The first instant.
    pub const ZERO: Time = Time(0);
    /// Later than every deadline.
    pub const NEVER: Time = Time(u64::MAX);

    /// The reading `nanos` nanoseconds after the start.
    pub const fn from_nanos(nanos: u64) -> Time {
        Time(nanos)
    }

    /// Nanoseconds since the start.
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// Time from `earlier` until now, zero if `earlier` is later.
    pub fn since(self, earlier: Time) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

impl std::ops::Add<Duration> for Time {
    type Output = Time;
    fn add(self, by: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(by.as_nanos()).unwrap_or(u64::MAX)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:06}s", self.0 / 1_000_000_000, self.0 % 1_000_000_000 / 1000)
    }
}

/// The name of a pool: 1 to 65,531 arbitrary bytes (RFC 5354 3.9). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolHandle(Arc<[u8]>);

impl PoolHandle {
    /// The longest handle a parameter can carry.
    pub const MAX_LEN: usize = 65_531;

    /// The handle with these bytes; `None` if there are none or more than [`PoolHandle::MAX_LEN`].
    pub fn new(bytes: &[u8]) -> Option<PoolHandle> {
        (1..=Self::MAX_LEN).contains(&bytes.len()).then(|| PoolHandle(bytes.into()))
    }

    /// The handle's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for PoolHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

impl fmt::Debug for PoolHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

/// Identifies a pool element within its pool (RFC 5354 3.14).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeId(pub u32);

impl fmt::Display for PeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

impl fmt::Debug for PeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Identifies a registrar (RFC 5353 2.1). On the wire 0 stands for "none", so it is no identifier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerId(NonZeroU32);

impl ServerId {
    /// The identifier with this value, none for 0.
    pub fn new(id: u32) -> Option<ServerId> {
        NonZeroU32::new(id).map(ServerId)
    }

    /// Its value, never 0.
    pub fn value(self) -> u32 {
        self.0.get()
    }
}

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:08x}", self.0)
    }
}

impl fmt::Debug for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How long a registration stands without being renewed (RFC 5354 3.10), in the unit it came in, so that
/// it can be handed on unchanged.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RegistrationLife {
    /// For ever.
    Infinite,
    /// The RFC's unit: 0 to 2^31-1 seconds.
    Seconds(u32),
    /// RSPLIB's unit: milliseconds.
    Milliseconds(u32),
    /// Of one whose unit is not known yet: taken for seconds, which is the longer time, and handed on as the number it is.
    Unitless(u32),
}

impl RegistrationLife {
    /// The life as a duration, none if infinite.
    pub fn duration(self) -> Option<Duration> {
        match self {
            RegistrationLife::Infinite => None,
            RegistrationLife::Seconds(s) | RegistrationLife::Unitless(s) => {
                Some(Duration::from_secs(s.into()))
            }
            RegistrationLife::Milliseconds(ms) => Some(Duration::from_millis(ms.into())),
        }
    }
}

/// A load: 0 is idle, `u32::MAX` is fully loaded (RFC 5356 3.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Load(pub u32);

/// Whether a transport carries ASAP control messages beside the data (RFC 5354 3.4).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TransportUse {
    /// Data only.
    DataOnly,
    /// Data, and a control channel for cookies and business cards.
    DataPlusControl,
}

/// A transport protocol's name, without addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TransportKind {
    /// DCCP (RFC 5354 3.3).
    Dccp,
    /// SCTP (RFC 5354 3.4).
    Sctp,
    /// TCP (RFC 5354 3.5).
    Tcp,
    /// UDP (RFC 5354 3.6).
    Udp,
    /// UDP-Lite (RFC 5354 3.7).
    UdpLite,
    /// Anything else (RFC 5354 3.16).
    Opaque,
}

/// At least one IP address, in the order given.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Addresses(Vec<IpAddr>);

impl Addresses {
    /// The list, none if it is empty.
    pub fn new(addresses: Vec<IpAddr>) -> Option<Addresses> {
        (!addresses.is_empty()).then_some(Addresses(addresses))
    }

    /// The addresses, never empty.
    pub fn as_slice(&self) -> &[IpAddr] {
        &self.0
    }
}

impl From<IpAddr> for Addresses {
    fn from(address: IpAddr) -> Addresses {
        Addresses(vec![address])
    }
}

/// Where and by which protocol something is reached (RFC 5354 3.3-3.7, 3.16).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum TransportAddress {
    /// DCCP, data only.
    Dccp {
        /// Port number.
        port: u16,
        /// DCCP service code.
        service_code: u32,
        /// The one address.
        address: IpAddr,
    },
    /// SCTP, possibly multi-homed.
    Sctp {
        /// Port number.
        port: u16,
        /// Whether a control channel is offered.
        transport_use: TransportUse,
        /// All addresses of the endpoint.
        addresses: Addresses,
    },
    /// TCP. The RFC makes it data only; our control channel over it is offered by [`Capabilities`].
    Tcp {
        /// Port number.
        port: u16,
        /// Always `DataOnly` in the RFC dialect; RSPLIB fills this field.
        transport_use: TransportUse,
        /// The one address.
        address: IpAddr,
    },
    /// UDP, data only.
    Udp {
        /// Port number.
        port: u16,
        /// The one address.
        address: IpAddr,
    },
    /// UDP-Lite, data only.
    UdpLite {
        /// Port number.
        port: u16,
        /// The one address.
        address: IpAddr,
    },
    /// Bytes that only the application understands.
    Opaque(Vec<u8>),
}

impl TransportAddress {
    /// The protocol's name.
    pub fn kind(&self) -> TransportKind {
        match self {
            TransportAddress::Dccp { .. } => TransportKind::Dccp,
            TransportAddress::Sctp { .. } => TransportKind::Sctp,
            TransportAddress::Tcp { .. } => TransportKind::Tcp,
            TransportAddress::Udp { .. } => TransportKind::Udp,
            TransportAddress::UdpLite { .. } => TransportKind::UdpLite,
            TransportAddress::Opaque(_) => TransportKind::Opaque,
        }
    }

    /// The transport use; data only where the RFC has no such field.
    pub fn transport_use(&self) -> TransportUse {
        match self {
            TransportAddress::Sctp { transport_use, .. } | TransportAddress::Tcp { transport_use, .. } => {
                *transport_use
            }
            TransportAddress::Dccp { .. }
            | TransportAddress::Udp { .. }
            | TransportAddress::UdpLite { .. }
            | TransportAddress::Opaque(_) => TransportUse::DataOnly,
        }
    }

    /// The port, none for an opaque transport.
    pub fn port(&self) -> Option<u16> {
        match self {
            TransportAddress::Dccp { port, .. }
            | TransportAddress::Sctp { port, .. }
            | TransportAddress::Tcp { port, .. }
            | TransportAddress::Udp { port, .. }
            | TransportAddress::UdpLite { port, .. } => Some(*port),
            TransportAddress::Opaque(_) => None,
        }
    }

    /// The IP addresses, none for an opaque transport.
    pub fn addresses(&self) -> &[IpAddr] {
        match self {
            TransportAddress::Sctp { addresses, .. } => addresses.as_slice(),
            TransportAddress::Dccp { address, .. }
            | TransportAddress::Tcp { address, .. }
            | TransportAddress::Udp { address, .. }
            | TransportAddress::UdpLite { address, .. } => std::slice::from_ref(address),
            TransportAddress::Opaque(_) => &[],
        }
    }

    /// Address and port pairs, none for an opaque transport.
    pub fn socket_addresses(&self) -> impl Iterator<Item = SocketAddr> + '_ {
        let port = self.port().unwrap_or(0);
        self.addresses().iter().map(move |a| SocketAddr::new(*a, port))
    }
}

/// What one of ours can do beyond the RFCs, as announced in our capability parameter. Who sends the
/// parameter at all is one of ours.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Capabilities(pub u32);

impl Capabilities {
    /// The element's TCP user transport speaks the framing of docs/tcp.md and has a control channel.
    pub const TCP_CONTROL_CHANNEL: Capabilities = Capabilities(1 << 0);
    /// Business cards are understood.
    pub const BUSINESS_CARD: Capabilities = Capabilities(1 << 1);
    /// Of a registrar: it takes one of RSPLIB for alive, by its own hearing.
    pub const HEARS_RSPLIB: Capabilities = Capabilities(1 << 2);

    /// Whether all of `other` are among these.
    pub fn contains(self, other: Capabilities) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::ops::BitOr for Capabilities {
    type Output = Capabilities;
    fn bitor(self, other: Capabilities) -> Capabilities {
        Capabilities(self.0 | other.0)
    }
}

/// A pool element as registered, resolved and told among registrars (RFC 5354 3.10).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PoolElement {
    /// Its identifier, unique in the pool.
    pub id: PeId,
    /// The registrar that owns it, none while undetermined.
    pub home: Option<ServerId>,
    /// How long the registration stands.
    pub life: RegistrationLife,
    /// Where users reach it.
    pub user_transport: TransportAddress,
    /// Its pool member selection policy and policy values.
    pub policy: crate::policy::Policy,
    /// Where registrars reach its ASAP endpoint, filled in by its home.
    pub asap_transport: Option<TransportAddress>,
    /// What it can do beyond the RFCs, if it is one of ours. In a message this is a parameter of its own
    /// right before the element's; senders strip it (`None`) for peers that are not ours.
    pub capabilities: Option<Capabilities>,
}

/// The checksum over a registrar's elements (RFC 5353 3.6.2), as it stands on the wire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct PeChecksum(pub u16);

/// The eleven error causes (RFC 5354 3.12), and those others use.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CauseCode {
    /// No cause given.
    Unspecified,
    /// Carries the parameter.
    UnrecognizedParameter,
    /// Carries the message.
    UnrecognizedMessage,
    /// Carries the offending parameter.
    InvalidValues,
    /// The identifier is taken by another element of the pool.
    NonUniquePeId,
    /// Carries the pool's policy.
    InconsistentPoolingPolicy,
    /// The sender has no room for what was asked.
    LackOfResources,
    /// Carries the pool's transport.
    InconsistentTransportType,
    /// Transport use differs from the pool's.
    InconsistentDataControlConfiguration,
    /// No such pool.
    UnknownPoolHandle,
    /// Refused for lack of credentials.
    RejectedDueToSecurity,
    /// A code of somebody else's.
    Other(u16),
}

/// An error cause with its cause-specific information, as carried.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ErrorCause {
    /// What is wrong.
    pub code: CauseCode,
    /// Cause-specific information: an encoded parameter or message, or nothing.
    pub info: Vec<u8>,
}

impl ErrorCause {
    /// A cause without information.
    pub fn bare(code: CauseCode) -> ErrorCause {
        ErrorCause { code, info: Vec::new() }
    }
}

/// Who is at the other end of a link, proved by its security layer.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Identity(pub Arc<str>);

/// A small seeded generator (SplitMix64) for jitter and lotteries: same seed, same draws, everywhere.
/// Not for secrets or identifiers; those come from the system's entropy in `runtime/`.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The generator for this seed.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 if `bound` is 0); the bias is under `bound` / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// `mean` varied evenly by up to `percent` per cent either way.
    pub fn spread(&mut self, mean: Duration, percent: u32) -> Duration {
        let nanos = u64::try_from(mean.as_nanos()).unwrap_or(u64::MAX);
        let half = nanos / 100 * u64::from(percent.min(100));
        Duration::from_nanos(nanos - half + self.below(half.saturating_mul(2).saturating_add(1)))
    }
}
