//! The parameters of RFC 5354 3, ours and RSPLIB's private ones, and the rules for parameters that are not
//! recognised. Which parameters a message has is not known here.

use super::dialect::{Dialect, read_transport_use, transport_use_field};
use super::enrp::{Introduction, Versioned};
use super::report::{Refused, Report};
use crate::codec::{Reader, Truncated, Writer};
use crate::policy::{Policy, PolicyType};
use crate::types::{
    Addresses, Capabilities, CauseCode, ErrorCause, PeChecksum, PeId, PoolElement, PoolHandle, ServerId,
    TransportAddress,
};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

pub(super) const IPV4_ADDRESS: u16 = 0x01;
pub(super) const IPV6_ADDRESS: u16 = 0x02;
pub(super) const DCCP_TRANSPORT: u16 = 0x03;
pub(super) const SCTP_TRANSPORT: u16 = 0x04;
pub(super) const TCP_TRANSPORT: u16 = 0x05;
pub(super) const UDP_TRANSPORT: u16 = 0x06;
pub(super) const UDP_LITE_TRANSPORT: u16 = 0x07;
pub(super) const POLICY: u16 = 0x08;
pub(super) const POOL_HANDLE: u16 = 0x09;
pub(super) const POOL_ELEMENT: u16 = 0x0a;
pub(super) const SERVER_INFORMATION: u16 = 0x0b;
pub(super) const OPERATION_ERROR: u16 = 0x0c;
pub(super) const COOKIE: u16 = 0x0d;
pub(super) const PE_IDENTIFIER: u16 = 0x0e;
pub(super) const PE_CHECKSUM: u16 = 0x0f;
pub(super) const OPAQUE_TRANSPORT: u16 = 0x10;
/// RSPLIB's: how many elements a handle resolution wants.
const HANDLE_RESOLUTION_OPTION: u16 = 0x803f;
/// Ours: docs/tcp.md section 2.
const CAPABILITY: u16 = 0xa5a9;

const USER_TRANSPORTS: &[u16] =
    &[DCCP_TRANSPORT, SCTP_TRANSPORT, TCP_TRANSPORT, UDP_TRANSPORT, UDP_LITE_TRANSPORT, OPAQUE_TRANSPORT];

/// One parameter.
#[derive(Clone, Copy)]
pub(super) struct Tlv<'a> {
    kind: u16,
    /// Type, length and value, without padding.
    whole: &'a [u8],
    value: &'a [u8],
    /// What stood directly before it.
    pub(super) before: Private<'a>,
}

/// Private parameters: they are of types that whoever does not know them skips in silence, and so do we
/// wherever they mean nothing.
#[derive(Clone, Copy, Default)]
pub(super) struct Private<'a> {
    capability: Option<&'a [u8]>,
    resolution_option: Option<&'a [u8]>,
}

/// The parameters in a message, or in a parameter.
pub(super) struct Parameters<'a> {
    reader: Reader<'a>,
    next: Option<Tlv<'a>>,
    private: Private<'a>,
    /// The message or parameter that holds them.
    holder: &'a [u8],
}

impl<'a> Parameters<'a> {
    /// Those in `reader`, the rest of the message or parameter `holder`.
    pub(super) fn new(reader: Reader<'a>, holder: &'a [u8]) -> Parameters<'a> {
        Parameters { reader, next: None, private: Private::default(), holder }
    }

    /// A field of 32 bits before the first parameter.
    pub(super) fn word(&mut self, report: &mut Report) -> Result<u32, Refused> {
        self.reader.u32().map_err(|Truncated| self.malformed("a fixed field is missing", report))
    }

    /// A registrar's identifier before the first parameter; 0 means none.
    pub(super) fn server_id(&mut self, report: &mut Report) -> Result<Option<ServerId>, Refused> {
        self.word(report).map(ServerId::new)
    }

    /// The next parameter if it is of one of these kinds.
    pub(super) fn optional(
        &mut self,
        kinds: &[u16],
        report: &mut Report,
    ) -> Result<Option<Tlv<'a>>, Refused> {
        self.look(report)?;
        Ok(self.next.take_if(|next| kinds.contains(&next.kind)))
    }

    /// The next parameter, which must be of one of these kinds.
    pub(super) fn required(
        &mut self,
        kinds: &[u16],
        missing: &'static str,
        report: &mut Report,
    ) -> Result<Tlv<'a>, Refused> {
        if let Some(found) = self.optional(kinds, report)? {
            return Ok(found);
        }
        Err(match self.next {
            Some(other) => report.invalid(other.whole, missing),
            None => self.malformed(missing, report),
        })
    }

    /// There must be no further parameter. Says what stood before the end.
    pub(super) fn end(&mut self, report: &mut Report) -> Result<Private<'a>, Refused> {
        self.look(report)?;
        match self.next {
            Some(surplus) => Err(report.invalid(surplus.whole, "a parameter out of place")),
            None => Ok(self.private),
        }
    }

    /// Goes to the next parameter that is known, by the rules of RFC 5354 3 for those that are not.
    fn look(&mut self, report: &mut Report) -> Result<(), Refused> {
        while self.next.is_none() && !self.reader.is_empty() {
            let Ok((kind, whole, value)) = read_tlv(&mut self.reader) else {
                return Err(self.malformed("a parameter's length does not fit", report));
            };
            match (kind, kind >> 14) {
                (IPV4_ADDRESS..=OPAQUE_TRANSPORT, _) => {
                    self.next = Some(Tlv { kind, whole, value, before: std::mem::take(&mut self.private) });
                }
                (CAPABILITY, _) => self.private.capability = Some(whole),
                (HANDLE_RESOLUTION_OPTION, _) => self.private.resolution_option = Some(whole),
                (_, 0b00) => return Err(Refused(UNRECOGNIZED)),
                (_, 0b01) => {
                    report.push(CauseCode::UnrecognizedParameter, whole);
                    return Err(Refused(UNRECOGNIZED));
                }
                (_, 0b10) => {}
                (_, _) => report.push(CauseCode::UnrecognizedParameter, whole),
            }
        }
        Ok(())
    }

    /// The message or parameter that holds them is wrong.
    pub(super) fn malformed(&self, why: &'static str, report: &mut Report) -> Refused {
        report.invalid(self.holder, why)
    }
}

const UNRECOGNIZED: &str = "an unrecognised parameter that may not be skipped";

/// A parameter or error cause: its code, the whole without padding, and its value.
fn read_tlv<'a>(reader: &mut Reader<'a>) -> Result<(u16, &'a [u8], &'a [u8]), Truncated> {
    let mut inner = *reader;
    let kind = inner.u16()?;
    let len = usize::from(inner.u16()?);
    let value = inner.bytes(len.checked_sub(4).ok_or(Truncated)?)?;
    let whole = reader.bytes(len)?;
    reader.skip_padding(len);
    Ok((kind, whole, value))
}

impl<'a> Tlv<'a> {
    fn invalid(&self, why: &'static str, report: &mut Report) -> Refused {
        report.invalid(self.whole, why)
    }

    /// Its value, which must be a number of `N` bytes.
    fn fixed<const N: usize>(&self, why: &'static str, report: &mut Report) -> Result<[u8; N], Refused> {
        self.value.try_into().map_err(|_| self.invalid(why, report))
    }

    /// As pool handle (RFC 5354 3.9).
    pub(super) fn pool_handle(&self, report: &mut Report) -> Result<PoolHandle, Refused> {
        PoolHandle::new(self.value).ok_or_else(|| self.invalid("an empty pool handle", report))
    }

    /// As PE identifier (RFC 5354 3.14).
    pub(super) fn pe_id(&self, report: &mut Report) -> Result<PeId, Refused> {
        self.fixed("a PE identifier of wrong length", report).map(|id| PeId(u32::from_be_bytes(id)))
    }

    /// As PE checksum (RFC 5354 3.15).
    pub(super) fn checksum(&self, report: &mut Report) -> Result<PeChecksum, Refused> {
        self.fixed("a PE checksum of wrong length", report).map(|sum| PeChecksum(u16::from_be_bytes(sum)))
    }

    /// As cookie (RFC 5354 3.13).
    pub(super) fn cookie(&self) -> Vec<u8> {
        self.value.to_vec()
    }

    /// As pool member selection policy (RFC 5354 3.8; the values are RFC 5356's).
    pub(super) fn policy(&self, report: &mut Report) -> Result<Policy, Refused> {
        let mut reader = Reader::new(self.value);
        let Ok(number) = reader.u32() else {
            return Err(self.invalid("a policy without type", report));
        };
        let Some(policy_type) = PolicyType::from_number(number) else {
            return Err(self.invalid("an unknown policy type", report));
        };
        let mut words = [0; Policy::MAX_WORDS];
        for word in words.iter_mut().take(policy_type.words()) {
            *word = reader.u32().map_err(|Truncated| self.invalid("a policy with too few values", report))?;
        }
        if !reader.is_empty() {
            return Err(self.invalid("a policy with too many values", report));
        }
        Ok(Policy::new(policy_type, &words))
    }

    /// As operation error (RFC 5354 3.12).
    pub(super) fn causes(&self, report: &mut Report) -> Result<Vec<ErrorCause>, Refused> {
        let mut reader = Reader::new(self.value);
        let mut causes = Vec::new();
        while !reader.is_empty() {
            let Ok((code, _, info)) = read_tlv(&mut reader) else {
                return Err(self.invalid("an error cause's length does not fit", report));
            };
            causes.push(ErrorCause { code: cause_code(code), info: info.to_vec() });
        }
        if causes.is_empty() {
            return Err(self.invalid("an operation error without cause", report));
        }
        Ok(causes)
    }

    /// As one of the transports (RFC 5354 3.3-3.7, 3.16).
    pub(super) fn transport(
        &self,
        dialect: Dialect,
        report: &mut Report,
    ) -> Result<TransportAddress, Refused> {
        if self.kind == OPAQUE_TRANSPORT {
            return Ok(TransportAddress::Opaque(self.value.to_vec()));
        }
        let mut reader = Reader::new(self.value);
        let (Ok(port), Ok(field)) = (reader.u16(), reader.u16()) else {
            return Err(self.invalid("a transport without port", report));
        };
        let bad_use = "a transport use that does not exist";
        Ok(match self.kind {
            SCTP_TRANSPORT => TransportAddress::Sctp {
                port,
                transport_use: read_transport_use(field).ok_or_else(|| self.invalid(bad_use, report))?,
                addresses: self.addresses(reader, report)?,
            },
            TCP_TRANSPORT => TransportAddress::Tcp {
                port,
                transport_use: dialect.read_tcp_use(field).ok_or_else(|| self.invalid(bad_use, report))?,
                address: self.one_address(reader, report)?,
            },
            UDP_TRANSPORT => TransportAddress::Udp { port, address: self.one_address(reader, report)? },
            UDP_LITE_TRANSPORT => {
                TransportAddress::UdpLite { port, address: self.one_address(reader, report)? }
            }
            DCCP_TRANSPORT => {
                let service_code = reader
                    .u32()
                    .map_err(|Truncated| self.invalid("a DCCP transport without code", report))?;
                TransportAddress::Dccp { port, service_code, address: self.one_address(reader, report)? }
            }
            _ => return Err(self.invalid("not a transport", report)),
        })
    }

    fn addresses(&self, reader: Reader<'a>, report: &mut Report) -> Result<Addresses, Refused> {
        let mut parameters = Parameters::new(reader, self.whole);
        let mut addresses = Vec::new();
        while let Some(tlv) = parameters.optional(&[IPV4_ADDRESS, IPV6_ADDRESS], report)? {
            addresses.push(tlv.address(report)?);
        }
        parameters.end(report)?;
        Addresses::new(addresses).ok_or_else(|| self.invalid("a transport without address", report))
    }

    fn one_address(&self, reader: Reader<'a>, report: &mut Report) -> Result<IpAddr, Refused> {
        let addresses = self.addresses(reader, report)?;
        match *addresses.as_slice() {
            [address] => Ok(address),
            _ => Err(self.invalid("a transport with more than one address", report)),
        }
    }

    fn address(&self, report: &mut Report) -> Result<IpAddr, Refused> {
        let why = "an address of wrong length";
        if self.kind == IPV4_ADDRESS {
            self.fixed::<4>(why, report).map(|bytes| Ipv4Addr::from(bytes).into())
        } else {
            self.fixed::<16>(why, report).map(|bytes| Ipv6Addr::from(bytes).into())
        }
    }

    /// As pool element (RFC 5354 3.10), with the capabilities that stand before it.
    pub(super) fn pool_element(&self, dialect: Dialect, report: &mut Report) -> Result<PoolElement, Refused> {
        let mut parameters = Parameters::new(Reader::new(self.value), self.whole);
        let id = parameters.word(report)?;
        let home = parameters.server_id(report)?;
        let Some(life) = dialect.read_life(parameters.word(report)?) else {
            return Err(self.invalid("a negative registration life", report));
        };
        let user_transport = parameters
            .required(USER_TRANSPORTS, "a pool element without user transport", report)?
            .transport(dialect, report)?;
        let policy =
            parameters.required(&[POLICY], "a pool element without policy", report)?.policy(report)?;
        let asap_transport = match parameters.optional(REGISTRAR_TRANSPORTS, report)? {
            Some(transport) => Some(transport.transport(dialect, report)?),
            None => None,
        };
        parameters.end(report)?;
        Ok(PoolElement {
            id: PeId(id),
            home,
            life,
            user_transport,
            policy,
            asap_transport,
            capabilities: self.before.capabilities(report)?,
        })
    }

    /// As server information (RFC 5354 3.11).
    pub(super) fn server_information(
        &self,
        dialect: Dialect,
        report: &mut Report,
    ) -> Result<(Option<ServerId>, TransportAddress), Refused> {
        let mut parameters = Parameters::new(Reader::new(self.value), self.whole);
        let server = parameters.server_id(report)?;
        let transport = parameters
            .required(REGISTRAR_TRANSPORTS, "a server information without SCTP or TCP transport", report)?
            .transport(dialect, report)?;
        parameters.end(report)?;
        Ok((server, transport))
    }
}

/// Transports on which ASAP and ENRP themselves are spoken.
///
/// DEPARTS RFC 5354 3.10 and 3.11: SCTP only. Those of ours that have no SCTP name TCP (docs/tcp.md section 1).
pub(super) const REGISTRAR_TRANSPORTS: &[u16] = &[SCTP_TRANSPORT, TCP_TRANSPORT];

impl Private<'_> {
    /// The capability parameter, if there was one.
    pub(super) fn capabilities(&self, report: &mut Report) -> Result<Option<Capabilities>, Refused> {
        Ok(self
            .capability_words(report)?
            .map(|(word, _)| Capabilities(word))
            .filter(|told| !told.contains(NOT_OURS)))
    }

    /// The capability parameter's first word, and a reader of those behind it.
    fn capability_words(&self, report: &mut Report) -> Result<Option<(u32, Reader<'_>)>, Refused> {
        let Some(whole) = self.capability else { return Ok(None) };
        match whole.get(4..).and_then(|value| value.split_first_chunk()) {
            Some((word, rest)) if rest.len() % 4 == 0 => {
                Ok(Some((u32::from_be_bytes(*word), Reader::new(rest))))
            }
            _ => Err(report.invalid(whole, "a capability parameter of wrong length")),
        }
    }

    /// As what a registrar says of itself (docs/enrp-extensions.md section 2); what is left out is 0 or none.
    pub(super) fn introduction(&self, report: &mut Report) -> Result<Option<Introduction>, Refused> {
        let Some((word, mut more)) = self.capability_words(report)? else { return Ok(None) };
        let heartbeat = more.u32().unwrap_or_default();
        Ok(Some(Introduction {
            capabilities: Capabilities(word),
            heartbeat: Duration::from_millis(heartbeat.into()),
            incarnation: u64_in(&mut more).unwrap_or_default(),
            registrars: more.u32().unwrap_or_default(),
            digest: u64_in(&mut more),
        }))
    }

    /// The version of the element behind the parameter (docs/enrp-extensions.md section 3).
    pub(super) fn version(&self, report: &mut Report) -> Result<Option<u64>, Refused> {
        Ok(self.capability_words(report)?.and_then(|(_, mut more)| u64_in(&mut more)))
    }

    /// The number in RSPLIB's handle resolution option, if there was one.
    pub(super) fn items(&self, report: &mut Report) -> Result<Option<u32>, Refused> {
        let Some(whole) = self.resolution_option else { return Ok(None) };
        match whole.get(4..).and_then(|value| value.try_into().ok()) {
            Some(items) => Ok(Some(u32::from_be_bytes(items))),
            None => Err(report.invalid(whole, "a handle resolution option of wrong length")),
        }
    }
}

fn u64_in(words: &mut Reader<'_>) -> Option<u64> {
    let high = words.u32().ok()?;
    Some(u64::from(high) << 32 | u64::from(words.u32().ok()?))
}

/// The element has not shown the parameter itself: its registrar wrote it, for the words behind.
const NOT_OURS: Capabilities = Capabilities(1 << 31);

fn cause_code(code: u16) -> CauseCode {
    match code {
        0x0 => CauseCode::Unspecified,
        0x1 => CauseCode::UnrecognizedParameter,
        0x2 => CauseCode::UnrecognizedMessage,
        0x3 => CauseCode::InvalidValues,
        0x4 => CauseCode::NonUniquePeId,
        0x5 => CauseCode::InconsistentPoolingPolicy,
        0x6 => CauseCode::LackOfResources,
        0x7 => CauseCode::InconsistentTransportType,
        0x8 => CauseCode::InconsistentDataControlConfiguration,
        0x9 => CauseCode::UnknownPoolHandle,
        0xa => CauseCode::RejectedDueToSecurity,
        other => CauseCode::Other(other),
    }
}

fn cause_number(code: CauseCode) -> u16 {
    match code {
        CauseCode::Unspecified => 0x0,
        CauseCode::UnrecognizedParameter => 0x1,
        CauseCode::UnrecognizedMessage => 0x2,
        CauseCode::InvalidValues => 0x3,
        CauseCode::NonUniquePeId => 0x4,
        CauseCode::InconsistentPoolingPolicy => 0x5,
        CauseCode::LackOfResources => 0x6,
        CauseCode::InconsistentTransportType => 0x7,
        CauseCode::InconsistentDataControlConfiguration => 0x8,
        CauseCode::UnknownPoolHandle => 0x9,
        CauseCode::RejectedDueToSecurity => 0xa,
        CauseCode::Other(other) => other,
    }
}

fn put_bytes(writer: &mut Writer, kind: u16, value: &[u8]) {
    let open = writer.open(kind);
    writer.bytes(value);
    writer.close(open);
}

pub(super) fn put_pool_handle(writer: &mut Writer, handle: &PoolHandle) {
    put_bytes(writer, POOL_HANDLE, handle.as_bytes());
}

pub(super) fn put_pe_id(writer: &mut Writer, id: PeId) {
    put_bytes(writer, PE_IDENTIFIER, &id.0.to_be_bytes());
}

pub(super) fn put_checksum(writer: &mut Writer, checksum: PeChecksum) {
    put_bytes(writer, PE_CHECKSUM, &checksum.0.to_be_bytes());
}

pub(super) fn put_cookie(writer: &mut Writer, cookie: &[u8]) {
    put_bytes(writer, COOKIE, cookie);
}

pub(super) fn put_items(writer: &mut Writer, items: Option<u32>) {
    if let Some(items) = items {
        put_bytes(writer, HANDLE_RESOLUTION_OPTION, &items.to_be_bytes());
    }
}

pub(super) fn put_capabilities(writer: &mut Writer, capabilities: Option<Capabilities>) {
    if let Some(Capabilities(bits)) = capabilities {
        put_bytes(writer, CAPABILITY, &bits.to_be_bytes());
    }
}

/// What a registrar says of itself.
pub(super) fn put_introduction(writer: &mut Writer, introduction: &Introduction) {
    let Introduction { capabilities, heartbeat, incarnation, registrars, digest } = introduction;
    let open = writer.open(CAPABILITY);
    writer.u32(capabilities.0);
    writer.u32(u32::try_from(heartbeat.as_millis()).unwrap_or(u32::MAX));
    put_u64(writer, *incarnation);
    writer.u32(*registrars);
    if let Some(digest) = digest {
        put_u64(writer, *digest);
    }
    writer.close(open);
}

fn put_u64(writer: &mut Writer, value: u64) {
    writer.bytes(&value.to_be_bytes());
}

pub(super) fn put_policy(writer: &mut Writer, policy: &Policy) {
    let open = writer.open(POLICY);
    writer.u32(policy.policy_type().number());
    for word in policy.words() {
        writer.u32(*word);
    }
    writer.close(open);
}

/// An operation error; without any cause it says that the error is unspecified, since there must be one.
pub(super) fn put_causes(writer: &mut Writer, causes: &[ErrorCause]) {
    let open = writer.open(OPERATION_ERROR);
    for cause in causes {
        put_bytes(writer, cause_number(cause.code), &cause.info);
    }
    if causes.is_empty() {
        put_bytes(writer, cause_number(CauseCode::Unspecified), &[]);
    }
    writer.close(open);
}

pub(super) fn put_transport(writer: &mut Writer, transport: &TransportAddress, dialect: Dialect) {
    let (kind, field) = match transport {
        TransportAddress::Opaque(value) => return put_bytes(writer, OPAQUE_TRANSPORT, value),
        TransportAddress::Dccp { .. } => (DCCP_TRANSPORT, 0),
        TransportAddress::Sctp { transport_use, .. } => (SCTP_TRANSPORT, transport_use_field(*transport_use)),
        TransportAddress::Tcp { transport_use, .. } => (TCP_TRANSPORT, dialect.tcp_use_field(*transport_use)),
        TransportAddress::Udp { .. } => (UDP_TRANSPORT, 0),
        TransportAddress::UdpLite { .. } => (UDP_LITE_TRANSPORT, 0),
    };
    let open = writer.open(kind);
    writer.u16(transport.port().unwrap_or_default());
    writer.u16(field);
    if let TransportAddress::Dccp { service_code, .. } = transport {
        writer.u32(*service_code);
    }
    for address in transport.addresses() {
        match address {
            IpAddr::V4(address) => put_bytes(writer, IPV4_ADDRESS, &address.octets()),
            IpAddr::V6(address) => put_bytes(writer, IPV6_ADDRESS, &address.octets()),
        }
    }
    writer.close(open);
}

/// A pool element without its capabilities.
pub(super) fn put_bare_element(writer: &mut Writer, element: &PoolElement, dialect: Dialect) {
    let open = writer.open(POOL_ELEMENT);
    writer.u32(element.id.0);
    writer.u32(server_id_word(element.home));
    writer.u32(dialect.life_word(element.life));
    put_transport(writer, &element.user_transport, dialect);
    put_policy(writer, &element.policy);
    if let Some(transport) = &element.asap_transport {
        put_transport(writer, transport, dialect);
    }
    writer.close(open);
}

/// A pool element, behind its capabilities.
pub(super) fn put_element(writer: &mut Writer, element: &PoolElement, dialect: Dialect) {
    put_capabilities(writer, element.capabilities);
    put_bare_element(writer, element, dialect);
}

/// A pool element behind its capabilities and its version, if that is to be told.
pub(super) fn put_versioned(writer: &mut Writer, versioned: &Versioned, dialect: Dialect) {
    let Versioned { element, version } = versioned;
    let Some(version) = version else { return put_element(writer, element, dialect) };
    let open = writer.open(CAPABILITY);
    writer.u32(element.capabilities.unwrap_or(NOT_OURS).0);
    put_u64(writer, *version);
    writer.close(open);
    put_bare_element(writer, element, dialect);
}

pub(super) fn put_server_information(
    writer: &mut Writer,
    server: Option<ServerId>,
    transport: &TransportAddress,
    dialect: Dialect,
) {
    let open = writer.open(SERVER_INFORMATION);
    writer.u32(server_id_word(server));
    put_transport(writer, transport, dialect);
    writer.close(open);
}

/// How a registrar's identifier, or the lack of one, stands on the wire.
pub(super) fn server_id_word(server: Option<ServerId>) -> u32 {
    server.map_or(0, ServerId::value)
}
