//! What holds for every message and for all bytes: round trips, no panic, no allocation beyond a small multiple of
//! the bytes that are there.

use asap::codec::MessageSplitter;
use asap::policy::{Policy, PolicyType};
use asap::types::{
    Addresses, Capabilities, CauseCode, ErrorCause, PeChecksum, PeId, PoolElement, PoolHandle,
    RegistrationLife, ServerId, TransportAddress, TransportUse,
};
use asap::wire::{
    AsapMessage, Dialect, EnrpHeader, EnrpMessage, Introduction, KeepAlive, Registration, ServerInformation,
    UpdateAction, Versioned,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::net::IpAddr;
use std::time::Duration;

/// Counts what the current thread has allocated.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: passes everything on to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|sum| sum.set(sum.get() + layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What `work` allocates in all, freed or not.
fn allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    let result = work();
    (result, ALLOCATED.get() - before)
}

/// A byte of the message may cost this many of memory, growing vectors included.
const PER_BYTE: usize = 24;
/// Whatever its length.
const CONSTANT: usize = 256;

fn dialect() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::Rfc), Just(Dialect::Rsplib), Just(Dialect::Unknown)]
}

fn handle() -> impl Strategy<Value = PoolHandle> {
    vec(any::<u8>(), 1..40).prop_map(|bytes| PoolHandle::new(&bytes).unwrap())
}

fn server() -> impl Strategy<Value = Option<ServerId>> {
    any::<u32>().prop_map(ServerId::new)
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
}

fn transport_use() -> impl Strategy<Value = TransportUse> {
    prop_oneof![Just(TransportUse::DataOnly), Just(TransportUse::DataPlusControl)]
}

fn registrar_transport(dialect: Dialect) -> impl Strategy<Value = TransportAddress> {
    prop_oneof![
        (any::<u16>(), transport_use(), vec(address(), 1..5)).prop_map(|(port, transport_use, addresses)| {
            TransportAddress::Sctp { port, transport_use, addresses: Addresses::new(addresses).unwrap() }
        }),
        (any::<u16>(), transport_use(), address()).prop_map(move |(port, transport_use, address)| {
            let transport_use =
                if dialect == Dialect::Rsplib { transport_use } else { TransportUse::DataOnly };
            TransportAddress::Tcp { port, transport_use, address }
        }),
    ]
}

fn user_transport(dialect: Dialect) -> impl Strategy<Value = TransportAddress> {
    prop_oneof![
        registrar_transport(dialect),
        (any::<u16>(), address()).prop_map(|(port, address)| TransportAddress::Udp { port, address }),
        (any::<u16>(), address()).prop_map(|(port, address)| TransportAddress::UdpLite { port, address }),
        (any::<u16>(), any::<u32>(), address()).prop_map(|(port, service_code, address)| {
            TransportAddress::Dccp { port, service_code, address }
        }),
        vec(any::<u8>(), 0..20).prop_map(TransportAddress::Opaque),
    ]
}

fn policy() -> impl Strategy<Value = Policy> {
    let types: Vec<PolicyType> = PolicyType::all().collect();
    (proptest::sample::select(types), any::<[u32; 4]>()).prop_map(|(kind, words)| Policy::new(kind, &words))
}

fn life(dialect: Dialect) -> impl Strategy<Value = RegistrationLife> {
    prop_oneof![
        1 => Just(RegistrationLife::Infinite),
        4 => (0..=0x7fff_ffffu32).prop_map(move |n| match dialect {
            Dialect::Rsplib => RegistrationLife::Milliseconds(n),
            Dialect::Rfc => RegistrationLife::Seconds(n),
            Dialect::Unknown => RegistrationLife::Unitless(n),
        }),
    ]
}

fn capabilities() -> impl Strategy<Value = Option<Capabilities>> {
    // The highest bit is for registrars among themselves.
    of((0..1u32 << 31).prop_map(Capabilities))
}

prop_compose! {
    fn element(dialect: Dialect)(
        id in any::<u32>(),
        home in server(),
        life in life(dialect),
        user_transport in user_transport(dialect),
        policy in policy(),
        asap_transport in of(registrar_transport(dialect)),
        capabilities in capabilities(),
    ) -> PoolElement {
        PoolElement { id: PeId(id), home, life, user_transport, policy, asap_transport, capabilities }
    }
}

fn causes() -> impl Strategy<Value = Vec<ErrorCause>> {
    let code = prop_oneof![
        Just(CauseCode::Unspecified),
        Just(CauseCode::UnrecognizedParameter),
        Just(CauseCode::UnrecognizedMessage),
        Just(CauseCode::InvalidValues),
        Just(CauseCode::NonUniquePeId),
        Just(CauseCode::InconsistentPoolingPolicy),
        Just(CauseCode::LackOfResources),
        Just(CauseCode::InconsistentTransportType),
        Just(CauseCode::InconsistentDataControlConfiguration),
        Just(CauseCode::UnknownPoolHandle),
        Just(CauseCode::RejectedDueToSecurity),
        (0x0b..=u16::MAX).prop_map(CauseCode::Other),
    ];
    vec((code, vec(any::<u8>(), 0..30)).prop_map(|(code, info)| ErrorCause { code, info }), 1..4)
}

fn asap_message(dialect: Dialect) -> impl Strategy<Value = AsapMessage> {
    let pe = || any::<u32>().prop_map(PeId);
    let elements = || vec(element(dialect), 0..6);
    prop_oneof![
        (handle(), element(dialect))
            .prop_map(|(handle, element)| AsapMessage::Registration(Registration { handle, element })),
        (handle(), pe()).prop_map(|(handle, element)| AsapMessage::Deregistration { handle, element }),
        (any::<bool>(), handle(), pe(), capabilities(), of(causes())).prop_map(
            |(reject, handle, element, capabilities, error)| AsapMessage::RegistrationResponse {
                reject,
                handle,
                element,
                capabilities,
                error
            }
        ),
        (handle(), pe(), of(causes())).prop_map(|(handle, element, error)| {
            AsapMessage::DeregistrationResponse { handle, element, error }
        }),
        (any::<bool>(), handle(), of(any::<u32>()), capabilities()).prop_map(
            |(subscribe, handle, items, capabilities)| AsapMessage::HandleResolution {
                subscribe,
                handle,
                items,
                capabilities
            }
        ),
        (any::<bool>(), handle(), of(policy()), elements(), of(causes())).prop_map(
            |(accept_updates, handle, policy, elements, error)| AsapMessage::HandleResolutionResponse {
                accept_updates,
                handle,
                policy,
                elements,
                error
            }
        ),
        (any::<bool>(), server(), handle(), of(pe())).prop_map(|(home, server, handle, element)| {
            AsapMessage::KeepAlive(KeepAlive { home, server, handle, element })
        }),
        (handle(), pe()).prop_map(|(handle, element)| AsapMessage::KeepAliveAck { handle, element }),
        (handle(), pe()).prop_map(|(handle, element)| AsapMessage::EndpointUnreachable { handle, element }),
        (server(), vec(registrar_transport(dialect), 0..4))
            .prop_map(|(server, transports)| AsapMessage::ServerAnnounce { server, transports }),
        vec(any::<u8>(), 0..100).prop_map(AsapMessage::Cookie),
        vec(any::<u8>(), 0..100).prop_map(AsapMessage::CookieEcho),
        (handle(), elements()).prop_map(|(handle, elements)| AsapMessage::BusinessCard { handle, elements }),
        causes().prop_map(AsapMessage::Error),
    ]
}

fn enrp_message(dialect: Dialect) -> impl Strategy<Value = EnrpMessage> {
    let header = || (server(), server()).prop_map(|(sender, receiver)| EnrpHeader { sender, receiver });
    let information = || {
        (server(), registrar_transport(dialect))
            .prop_map(|(server, transport)| ServerInformation { server, transport })
    };
    let action = prop_oneof![Just(UpdateAction::AddPe), Just(UpdateAction::DelPe)];
    let introduction = (any::<u32>(), any::<u32>(), any::<u64>(), of(any::<u64>())).prop_map(
        |(capabilities, heartbeat, incarnation, digest)| Introduction {
            capabilities: Capabilities(capabilities),
            heartbeat: Duration::from_millis(heartbeat.into()),
            incarnation,
            registrars: heartbeat ^ 1,
            digest,
        },
    );
    let versioned =
        || (element(dialect), of(any::<u64>())).prop_map(|(element, version)| Versioned { element, version });
    prop_oneof![
        (any::<bool>(), header(), of(any::<u16>().prop_map(PeChecksum)), of(introduction), of(information()))
            .prop_map(|(reply_required, header, checksum, introduction, server)| EnrpMessage::Presence {
                reply_required,
                header,
                checksum,
                introduction,
                server
            }),
        (any::<bool>(), header())
            .prop_map(|(owned_only, header)| EnrpMessage::HandleTableRequest { owned_only, header }),
        (any::<bool>(), any::<bool>(), header(), vec((handle(), vec(versioned(), 1..4)), 0..4)).prop_map(
            |(more, reject, header, pools)| EnrpMessage::HandleTableResponse { more, reject, header, pools }
        ),
        (any::<bool>(), header(), action, handle(), versioned()).prop_map(
            |(takeover_suggested, header, action, handle, element)| EnrpMessage::HandleUpdate {
                takeover_suggested,
                header,
                action,
                handle,
                element
            }
        ),
        header().prop_map(|header| EnrpMessage::ListRequest { header }),
        (any::<bool>(), header(), vec(information(), 0..4))
            .prop_map(|(reject, header, servers)| { EnrpMessage::ListResponse { reject, header, servers } }),
        (header(), server()).prop_map(|(header, target)| EnrpMessage::InitTakeover { header, target }),
        (header(), server()).prop_map(|(header, target)| EnrpMessage::InitTakeoverAck { header, target }),
        (header(), server()).prop_map(|(header, target)| EnrpMessage::TakeoverServer { header, target }),
        (header(), causes()).prop_map(|(header, causes)| EnrpMessage::Error { header, causes }),
    ]
}

/// Both protocols in one dialect.
fn messages() -> impl Strategy<Value = (Dialect, AsapMessage, EnrpMessage)> {
    dialect().prop_flat_map(|dialect| (Just(dialect), asap_message(dialect), enrp_message(dialect)))
}

/// Decodes as both protocols in all dialects. What is accepted has a canonical form; what is to be reported fits into
/// an error message.
fn try_all(bytes: &[u8]) {
    for dialect in [Dialect::Unknown, Dialect::Rfc, Dialect::Rsplib] {
        let (asap, cost) = allocated(|| AsapMessage::decode(bytes, dialect));
        assert!(cost <= CONSTANT + PER_BYTE * bytes.len(), "{cost} for {} bytes", bytes.len());
        let report = match asap {
            Ok(decoded) => {
                let canonical = decoded.message.encode(dialect).unwrap();
                assert_eq!(AsapMessage::decode(&canonical, dialect).unwrap().message, decoded.message);
                decoded.report
            }
            Err(rejected) => rejected.report,
        };
        AsapMessage::Error(report).encode(dialect).unwrap();

        let (enrp, cost) = allocated(|| EnrpMessage::decode(bytes, dialect));
        assert!(cost <= CONSTANT + PER_BYTE * bytes.len(), "{cost} for {} bytes", bytes.len());
        let causes = match enrp {
            Ok(decoded) => {
                let canonical = decoded.message.encode(dialect).unwrap();
                assert_eq!(EnrpMessage::decode(&canonical, dialect).unwrap().message, decoded.message);
                decoded.report
            }
            Err(rejected) => rejected.report,
        };
        let header = EnrpHeader { sender: None, receiver: None };
        EnrpMessage::Error { header, causes }.encode(dialect).unwrap();
    }
}

/// One change of a message.
#[derive(Clone, Debug)]
enum Mutation {
    Set(prop::sample::Index, u8),
    Remove(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Swap(prop::sample::Index, prop::sample::Index),
}

fn mutation() -> impl Strategy<Value = Mutation> {
    use prop::sample::Index;
    let parameter = prop_oneof![
        vec(any::<u8>(), 4),
        (0u8..0x12, any::<u8>()).prop_map(|(kind, len)| vec![0, kind, 0, len]),
        any::<[u8; 2]>().prop_map(|[kind, more]| vec![0x80 | kind, more, 0, 4]),
    ];
    prop_oneof![
        3 => (any::<Index>(), any::<u8>()).prop_map(|(at, to)| Mutation::Set(at, to)),
        1 => any::<Index>().prop_map(Mutation::Remove),
        1 => (any::<Index>(), parameter).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        1 => (any::<Index>(), any::<Index>()).prop_map(|(a, b)| Mutation::Swap(a, b)),
    ]
}

fn mutate(bytes: &mut Vec<u8>, mutations: &[Mutation], repair_length: bool) {
    for mutation in mutations {
        if bytes.len() < 4 {
            return;
        }
        match mutation {
            Mutation::Set(at, to) => {
                let at = at.index(bytes.len());
                bytes[at] = *to;
            }
            Mutation::Remove(at) => {
                // Words, so that what follows stays aligned.
                let at = at.index(bytes.len() / 4) * 4;
                bytes.drain(at..(at + 4).min(bytes.len()));
            }
            Mutation::Insert(at, more) => {
                let at = at.index(bytes.len() / 4) * 4;
                bytes.splice(at..at, more.iter().copied());
            }
            Mutation::Swap(a, b) => {
                let words = bytes.len() / 4;
                for i in 0..4 {
                    bytes.swap(a.index(words) * 4 + i, b.index(words) * 4 + i);
                }
            }
        }
    }
    if repair_length && bytes.len() >= 4 {
        let len = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(512) })]

    #[test]
    fn messages_survive_the_wire((dialect, asap, enrp) in messages()) {
        let bytes = asap.encode(dialect).unwrap();
        prop_assert!(bytes.len().is_multiple_of(4));
        let decoded = AsapMessage::decode(&bytes, dialect).unwrap();
        prop_assert_eq!(decoded.message, asap);
        prop_assert!(decoded.report.is_empty());

        let bytes = enrp.encode(dialect).unwrap();
        prop_assert!(bytes.len().is_multiple_of(4));
        let decoded = EnrpMessage::decode(&bytes, dialect).unwrap();
        prop_assert_eq!(decoded.message, enrp);
        prop_assert!(decoded.report.is_empty());
    }

    #[test]
    fn messages_survive_a_stream(((dialect, a, b), step) in (messages(), 1usize..9)) {
        let stream = [a.encode(dialect).unwrap(), b.encode(dialect).unwrap(), a.encode(dialect).unwrap()].concat();
        let mut splitter = MessageSplitter::default();
        let mut messages = Vec::new();
        for bytes in stream.chunks(step) {
            splitter.push(bytes);
            while let Some(message) = splitter.next_message().unwrap() {
                messages.push(message.to_vec());
            }
        }
        prop_assert_eq!(messages.len(), 3);
        prop_assert_eq!(&AsapMessage::decode(&messages[0], dialect).unwrap().message, &a);
        prop_assert_eq!(&EnrpMessage::decode(&messages[1], dialect).unwrap().message, &b);
        prop_assert_eq!(&AsapMessage::decode(&messages[2], dialect).unwrap().message, &a);
    }

    #[test]
    fn arbitrary_bytes_are_harmless(kind in 0u8..0x50, flags in any::<u8>(), value in vec(any::<u8>(), 0..300)) {
        let mut bytes = vec![kind, flags, 0, 0];
        bytes.extend(value);
        try_all(&bytes);
        let len = u16::try_from(bytes.len()).unwrap();
        bytes[2..4].copy_from_slice(&len.to_be_bytes());
        try_all(&bytes);
    }

    #[test]
    fn mutated_messages_are_harmless(
        (dialect, asap, enrp) in messages(),
        mutations in vec(mutation(), 1..6),
        repair_length in any::<bool>(),
    ) {
        for mut bytes in [asap.encode(dialect).unwrap(), enrp.encode(dialect).unwrap()] {
            mutate(&mut bytes, &mutations, repair_length);
            try_all(&bytes);
        }
    }
}

/// A message of this type, as long as a message can be, of as many copies of `parameter` as there is room for.
fn full_of(kind: u8, fixed: &[u8], parameter: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, 0, 0, 0];
    bytes.extend(fixed);
    while bytes.len() + parameter.len() <= 0xffff {
        bytes.extend(parameter);
    }
    let len = u16::try_from(bytes.len()).unwrap();
    bytes[2..4].copy_from_slice(&len.to_be_bytes());
    bytes
}

#[test]
fn the_smallest_parts_that_can_be_repeated_cost_a_small_multiple_of_their_bytes() {
    let handle = b"\0\x09\0\x05a\0\0\0";
    // A pool element with an empty opaque transport and round robin.
    let element = b"\0\x0a\0\x1c\0\0\0\x01\0\0\0\0\0\0\0\x01\0\x10\0\x04\0\x08\0\x08\0\0\0\x01";
    let entry = [&handle[..], element].concat();
    let ids = &[0; 8];
    for bytes in [
        full_of(6, handle, element),
        full_of(0x0d, handle, element),
        full_of(5, handle, b"\xc0\x55\0\x04"),
        full_of(5, handle, b"\x80\x55\0\x04"),
        full_of(5, ids, b"\xff\xff\0\x04"),
        full_of(3, ids, &entry),
        full_of(3, ids, handle),
        full_of(6, ids, b"\0\x0b\0\x18\0\0\0\x01\0\x04\0\x10\0\0\0\0\0\x01\0\x08\x01\x01\x01\x01"),
        full_of(0x0a, &[0; 4], b"\0\x04\0\x10\0\0\0\0\0\x01\0\x08\x01\x01\x01\x01"),
        // One operation error of many causes, and one transport of many addresses.
        full_of(0x0e, b"\0\x0c\xff\xf8", b"\0\x09\0\x04"),
        full_of(0x0a, b"\0\0\0\x01\0\x04\xff\xf4\0\0\0\0", b"\0\x01\0\x08\x01\x01\x01\x01"),
        // Lengths that claim more than there is.
        full_of(5, b"\0\x09\xff\xff", b"\0\x09\xff\xff"),
        full_of(0x0b, b"", b"\0\x0d\xff\xff"),
    ] {
        try_all(&bytes);
    }
}

#[test]
fn a_message_longer_than_its_length_can_say_is_not_encoded() {
    let dialect = Dialect::Rfc;
    let handle = PoolHandle::new(&[1; PoolHandle::MAX_LEN]).unwrap();
    let resolution =
        |handle| AsapMessage::HandleResolution { subscribe: false, handle, items: None, capabilities: None };
    assert!(resolution(handle).encode(dialect).is_err());
    let longest = PoolHandle::new(&[1; 65_527]).unwrap();
    let bytes = resolution(longest.clone()).encode(dialect).unwrap();
    assert_eq!(AsapMessage::decode(&bytes, dialect).unwrap().message, resolution(longest));
    assert!(AsapMessage::Cookie(vec![0; 65_528]).encode(dialect).is_err());
    assert!(AsapMessage::Cookie(vec![0; 65_527]).encode(dialect).is_ok());
}

#[test]
fn an_error_without_cause_says_unspecified() {
    for dialect in [Dialect::Rfc, Dialect::Rsplib] {
        let bytes = AsapMessage::Error(Vec::new()).encode(dialect).unwrap();
        let unspecified = AsapMessage::Error(vec![ErrorCause::bare(CauseCode::Unspecified)]);
        assert_eq!(AsapMessage::decode(&bytes, dialect).unwrap().message, unspecified);
    }
}

#[test]
fn a_life_is_told_in_the_unit_of_the_dialect_rounded_up() {
    let told = |life, dialect| {
        let element = PoolElement {
            id: PeId(1),
            home: None,
            life,
            user_transport: TransportAddress::Opaque(vec![]),
            policy: Policy::ROUND_ROBIN,
            asap_transport: None,
            capabilities: None,
        };
        let bytes = asap::wire::encode_element(&element, dialect).unwrap();
        i32::from_be_bytes(bytes[12..16].try_into().unwrap())
    };
    use RegistrationLife::{Infinite, Milliseconds, Seconds, Unitless};
    for (life, rfc, unknown, rsplib) in [
        (Infinite, -1, -1, -1),
        (Seconds(0), 0, 0, 0),
        (Seconds(30), 30, 30, 30_000),
        (Seconds(i32::MAX as u32), i32::MAX, i32::MAX, i32::MAX),
        (Seconds(u32::MAX), i32::MAX, i32::MAX, i32::MAX),
        (Milliseconds(1), 1, 1, 1),
        (Milliseconds(30_000), 30, 30_000, 30_000),
        (Milliseconds(u32::MAX), 4_294_968, i32::MAX, i32::MAX),
        (Unitless(30_000), 30_000, 30_000, 30_000),
    ] {
        assert_eq!(told(life, Dialect::Rfc), rfc, "{life:?}");
        // In the unit it came in.
        assert_eq!(told(life, Dialect::Unknown), unknown, "{life:?}");
        assert_eq!(told(life, Dialect::Rsplib), rsplib, "{life:?}");
    }
}
