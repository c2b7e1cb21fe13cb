//! Steps: a small world of few addresses, pools and elements, so that what random steps say has something to do with
//! what was said before.

use asap::machine::{Audience, Channel, Destination, LinkFailure, LinkKind, Protocol, UserChannel};
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
use proptest::sample::{Index, select};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Something that happens to a machine. Links are named by an index into those there have been.
#[derive(Clone, Debug)]
pub enum Step {
    Incoming(Protocol),
    Up(Index, LinkKind, Protocol, Vec<SocketAddr>, Vec<SocketAddr>),
    Down(Index, LinkFailure),
    Message(Index, Channel, Vec<u8>, bool),
    /// What was last sent on the link comes back as a message.
    Reflect(Index),
    /// What was last sent on the link could not be delivered.
    Undelivered(Index),
    /// What was never sent could not be delivered.
    FalselyUndelivered(Index, Channel, Vec<u8>),
    Writable(Index),
    Announce(Audience, SocketAddr, Vec<u8>),
    /// Time passes, with a wake-up at the end of it only.
    Leap(Duration),
    /// The machine is woken when it asks for it.
    Wait(Duration),
    /// Twice, and not asked for.
    Timeout,
}

pub const ADDRESSES: [&str; 10] = [
    "10.0.0.1",
    "::ffff:10.0.0.1",
    "10.0.0.2",
    "127.0.0.1",
    "::1",
    "::ffff:127.0.0.1",
    "2001:db8::1",
    "fe80::1",
    "0.0.0.0",
    "239.0.0.1",
];

pub fn address() -> impl Strategy<Value = IpAddr> {
    // Usually one of the first few, where registrations succeed.
    prop_oneof![3 => 0..3usize, 1 => 0..ADDRESSES.len()].prop_map(|at| ADDRESSES[at].parse().unwrap())
}

fn socket_address() -> impl Strategy<Value = SocketAddr> {
    (address(), prop_oneof![Just(0), Just(7), Just(3863), Just(9901)])
        .prop_map(|(ip, port)| SocketAddr::new(ip, port))
}

pub fn handle() -> impl Strategy<Value = PoolHandle> {
    prop_oneof![
        6 => select(vec!["a", "b", "c"]).prop_map(|name| PoolHandle::new(name.as_bytes()).unwrap()),
        1 => (1..3000usize).prop_map(|len| PoolHandle::new(&vec![b'x'; len]).unwrap()),
    ]
}

pub fn pe_id() -> impl Strategy<Value = PeId> {
    prop_oneof![6 => (0..5u32).prop_map(PeId), 1 => any::<u32>().prop_map(PeId)]
}

pub fn server() -> impl Strategy<Value = Option<ServerId>> {
    prop_oneof![Just(0u32), Just(1), Just(2), any::<u32>()].prop_map(ServerId::new)
}

/// A transport that ASAP runs over.
pub fn registrar_transport() -> BoxedStrategy<TransportAddress> {
    let port = || prop_oneof![1 => Just(0u16), 9 => 1..5u16];
    let transport_use =
        || prop_oneof![3 => Just(TransportUse::DataOnly), 1 => Just(TransportUse::DataPlusControl)];
    prop_oneof![
        2 => (port(), address()).prop_map(|(port, address)| {
            TransportAddress::Tcp { port, transport_use: TransportUse::DataOnly, address }
        }),
        1 => (port(), transport_use(), vec(address(), 1..4)).prop_map(|(port, transport_use, addresses)| {
            TransportAddress::Sctp { port, transport_use, addresses: Addresses::new(addresses).unwrap() }
        }),
    ]
    .boxed()
}

pub fn transport() -> BoxedStrategy<TransportAddress> {
    prop_oneof![
        8 => registrar_transport(),
        1 => (any::<u16>(), address()).prop_map(|(port, address)| TransportAddress::Udp { port, address }),
        1 => vec(any::<u8>(), 0..20).prop_map(TransportAddress::Opaque),
    ]
    .boxed()
}

pub fn policy() -> impl Strategy<Value = Policy> {
    let types: Vec<PolicyType> = PolicyType::all().collect();
    let word = || prop_oneof![Just(0), Just(1), Just(u32::MAX), any::<u32>()];
    prop_oneof![
        4 => Just(Policy::ROUND_ROBIN),
        1 => (select(types), vec(word(), 4)).prop_map(|(kind, words)| Policy::new(kind, &words)),
    ]
}

fn life() -> impl Strategy<Value = RegistrationLife> {
    prop_oneof![
        Just(RegistrationLife::Infinite),
        select(vec![0, 1, 30, 300, 0x7fff_ffff]).prop_map(RegistrationLife::Seconds),
    ]
}

prop_compose! {
    pub fn element()(
        id in pe_id(),
        home in server(),
        life in life(),
        user_transport in transport(),
        policy in policy(),
        asap_transport in of(registrar_transport()),
        capabilities in of((0..4u32).prop_map(Capabilities)),
    ) -> PoolElement {
        PoolElement { id, home, life, user_transport, policy, asap_transport, capabilities }
    }
}

fn causes() -> impl Strategy<Value = Vec<ErrorCause>> {
    let code = select(vec![
        CauseCode::Unspecified,
        CauseCode::UnrecognizedMessage,
        CauseCode::UnknownPoolHandle,
        CauseCode::NonUniquePeId,
        CauseCode::LackOfResources,
        CauseCode::Other(0x7777),
    ]);
    vec((code, vec(any::<u8>(), 0..9)).prop_map(|(code, info)| ErrorCause { code, info }), 1..3)
}

fn asap_message() -> BoxedStrategy<AsapMessage> {
    let capabilities = || of((0..4u32).prop_map(Capabilities));
    prop_oneof![
        6 => (handle(), element())
            .prop_map(|(handle, element)| AsapMessage::Registration(Registration { handle, element })),
        2 => (handle(), pe_id()).prop_map(|(handle, element)| AsapMessage::Deregistration { handle, element }),
        2 => (any::<bool>(), handle(), pe_id(), capabilities(), of(causes())).prop_map(
            |(reject, handle, element, capabilities, error)| AsapMessage::RegistrationResponse {
                reject, handle, element, capabilities, error
            }
        ),
        1 => (handle(), pe_id(), of(causes())).prop_map(|(handle, element, error)| {
            AsapMessage::DeregistrationResponse { handle, element, error }
        }),
        4 => (any::<bool>(), handle(), of(select(vec![0, 1, 3, u32::MAX])), capabilities()).prop_map(
            |(subscribe, handle, items, capabilities)| AsapMessage::HandleResolution {
                subscribe, handle, items, capabilities
            }
        ),
        3 => (any::<bool>(), handle(), of(policy()), vec(element(), 0..4), of(causes())).prop_map(
            |(accept_updates, handle, policy, elements, error)| AsapMessage::HandleResolutionResponse {
                accept_updates, handle, policy, elements, error
            }
        ),
        3 => (any::<bool>(), server(), handle(), of(pe_id())).prop_map(|(home, server, handle, element)| {
            AsapMessage::KeepAlive(KeepAlive { home, server, handle, element })
        }),
        3 => (handle(), pe_id()).prop_map(|(handle, element)| AsapMessage::KeepAliveAck { handle, element }),
        3 => (handle(), pe_id())
            .prop_map(|(handle, element)| AsapMessage::EndpointUnreachable { handle, element }),
        1 => announcement(),
        1 => vec(any::<u8>(), 0..40).prop_map(AsapMessage::Cookie),
        1 => vec(any::<u8>(), 0..40).prop_map(AsapMessage::CookieEcho),
        1 => (handle(), vec(element(), 0..4))
            .prop_map(|(handle, elements)| AsapMessage::BusinessCard { handle, elements }),
        2 => causes().prop_map(AsapMessage::Error),
    ]
    .boxed()
}

pub fn announcement() -> impl Strategy<Value = AsapMessage> {
    let transports = vec(registrar_transport(), 0..4);
    (server(), transports).prop_map(|(server, transports)| AsapMessage::ServerAnnounce { server, transports })
}

fn enrp_message() -> BoxedStrategy<EnrpMessage> {
    let header = || (server(), server()).prop_map(|(sender, receiver)| EnrpHeader { sender, receiver });
    let information = || {
        registrar_transport().prop_map(|transport| ServerInformation { server: ServerId::new(5), transport })
    };
    let introduction =
        (any::<u16>(), 0..3u64, of(any::<u64>())).prop_map(|(heartbeat, incarnation, digest)| Introduction {
            capabilities: Capabilities::default(),
            heartbeat: Duration::from_millis(heartbeat.into()),
            incarnation,
            registrars: 1,
            digest,
        });
    let versioned =
        || (element(), of(any::<u64>())).prop_map(|(element, version)| Versioned { element, version });
    prop_oneof![
        (any::<bool>(), header(), any::<u16>(), of(introduction), of(information())).prop_map(
            |(reply_required, header, checksum, introduction, server)| EnrpMessage::Presence {
                reply_required,
                header,
                checksum: Some(PeChecksum(checksum)),
                introduction,
                server
            }
        ),
        (any::<bool>(), header())
            .prop_map(|(owned_only, header)| EnrpMessage::HandleTableRequest { owned_only, header }),
        (any::<bool>(), any::<bool>(), header(), vec((handle(), vec(versioned(), 0..3)), 0..3)).prop_map(
            |(more, reject, header, pools)| EnrpMessage::HandleTableResponse { more, reject, header, pools }
        ),
        (header(), handle(), versioned(), any::<bool>()).prop_map(|(header, handle, element, add)| {
            let action = if add { UpdateAction::AddPe } else { UpdateAction::DelPe };
            EnrpMessage::HandleUpdate { takeover_suggested: !add, header, action, handle, element }
        }),
        header().prop_map(|header| EnrpMessage::ListRequest { header }),
        (any::<bool>(), header(), vec(information(), 0..3))
            .prop_map(|(reject, header, servers)| EnrpMessage::ListResponse { reject, header, servers }),
        (header(), causes()).prop_map(|(header, causes)| EnrpMessage::Error { header, causes }),
    ]
    .boxed()
}

/// Bytes as they may come: legal, with some changed, cut, prolonged, or none of it.
pub fn bytes() -> BoxedStrategy<Vec<u8>> {
    let legal = prop_oneof![
        8 => asap_message().prop_map(|message| message.encode(Dialect::Rfc).unwrap()),
        2 => enrp_message().prop_map(|message| message.encode(Dialect::Rfc).unwrap()),
    ];
    let mutated =
        (legal, vec((any::<Index>(), any::<u8>()), 0..4), of(any::<Index>()), vec(any::<u8>(), 0..6))
            .prop_map(|(mut bytes, changes, cut, more)| {
                for (at, byte) in changes {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
                if let Some(cut) = cut {
                    let len = cut.index(bytes.len());
                    bytes.truncate(len);
                } else {
                    bytes.extend(more);
                }
                bytes
            });
    prop_oneof![
        12 => asap_message().prop_map(|message| message.encode(Dialect::Rfc).unwrap()),
        2 => enrp_message().prop_map(|message| message.encode(Dialect::Rfc).unwrap()),
        3 => mutated,
        1 => vec(any::<u8>(), 0..64),
        // An error that nobody can read, or that holds what nobody can.
        1 => vec(any::<u8>(), 0..16).prop_map(|tail| [&[0x0e, 0, 0, 4 + tail.len() as u8][..], &tail].concat()),
        // Unrecognised messages and parameters that want reporting.
        1 => Just(b"\x4f\0\0\x04".to_vec()),
        1 => Just(b"\x05\0\0\x10\0\x09\0\x05a\0\0\0\xc0\x55\0\x04".to_vec()),
        1 => Just(b"\x0e\0\0\x08\xc0\x55\0\x04".to_vec()),
    ]
    .boxed()
}

pub fn kind() -> impl Strategy<Value = LinkKind> {
    prop_oneof![4 => Just(LinkKind::Tcp), 2 => Just(LinkKind::Sctp), 1 => Just(LinkKind::Udp)]
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![
        8 => Just(Protocol::Asap),
        2 => Just(Protocol::Enrp),
        2 => Just(Protocol::Session),
        1 => Just(Protocol::Plain),
    ]
}

pub fn failure() -> impl Strategy<Value = LinkFailure> {
    select(vec![
        LinkFailure::Refused,
        LinkFailure::Unreachable,
        LinkFailure::TimedOut,
        LinkFailure::Reset,
        LinkFailure::Closed,
        LinkFailure::Garbled,
        LinkFailure::Congested,
        LinkFailure::NoResources,
    ])
}

fn channel() -> impl Strategy<Value = Channel> {
    prop_oneof![
        8 => Just(Channel::Asap),
        2 => Just(Channel::Enrp),
        2 => (0..3u32, 0..2u16, any::<bool>())
            .prop_map(|(ppid, stream, unordered)| Channel::User(UserChannel { ppid, stream, unordered, expires: None })),
    ]
}

pub fn destination() -> impl Strategy<Value = Destination> {
    (kind(), 1..4u16, vec(address(), 1..3)).prop_map(|(kind, port, addresses)| Destination {
        kind,
        protocol: Protocol::Asap,
        port,
        addresses: Addresses::new(addresses).unwrap(),
    })
}

pub fn span() -> impl Strategy<Value = Duration> {
    let millis = select(vec![0, 1, 10, 100, 400, 1_000, 5_000, 60_000, 3_600_000, 100_000_000_000]);
    prop_oneof![6 => millis.prop_map(Duration::from_millis), 1 => (0..u64::from(u32::MAX)).prop_map(Duration::from_nanos)]
}

pub fn step() -> BoxedStrategy<Step> {
    let short = select(vec![1, 50, 500]).prop_map(Duration::from_millis);
    prop_oneof![
        4 => protocol().prop_map(Step::Incoming),
        8 => (any::<Index>(), kind(), protocol(), vec(socket_address(), 0..3), vec(socket_address(), 0..3))
            .prop_map(|(link, kind, protocol, local, peer)| Step::Up(link, kind, protocol, local, peer)),
        3 => (any::<Index>(), failure()).prop_map(|(link, why)| Step::Down(link, why)),
        20 => (any::<Index>(), channel(), bytes(), prop::bool::weighted(0.95))
            .prop_map(|(link, channel, bytes, complete)| Step::Message(link, channel, bytes, complete)),
        3 => any::<Index>().prop_map(Step::Reflect),
        2 => any::<Index>().prop_map(Step::Undelivered),
        1 => (any::<Index>(), channel(), bytes())
            .prop_map(|(link, channel, bytes)| Step::FalselyUndelivered(link, channel, bytes)),
        1 => any::<Index>().prop_map(Step::Writable),
        2 => (prop_oneof![Just(Audience::Standard), Just(Audience::Rsplib)], socket_address(), prop_oneof![
            announcement().prop_map(|message| message.encode(Dialect::Rfc).unwrap()),
            bytes(),
        ]).prop_map(|(audience, from, bytes)| Step::Announce(audience, from, bytes)),
        2 => span().prop_map(Step::Leap),
        4 => short.prop_map(Step::Wait),
        1 => Just(Step::Timeout),
    ]
    .boxed()
}
