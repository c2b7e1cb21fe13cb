//! An independent reader of our messages: tshark names each of the 24 and finds nothing malformed in them.

mod tools;

use asap::policy::{Policy, PolicyType};
use asap::types::{
    Addresses, Capabilities, CauseCode, ErrorCause, PeChecksum, PeId, PoolElement, PoolHandle,
    RegistrationLife, ServerId, TransportAddress, TransportUse,
};
use asap::wire::{
    self, AsapMessage, Dialect, EnrpHeader, EnrpMessage, Introduction, KeepAlive, Registration,
    ServerInformation, UpdateAction, Versioned,
};
use std::collections::BTreeSet;
use std::process::Command;
use tools::have;

#[test]
fn tshark_names_all_24_messages_and_finds_none_malformed() {
    if !have("tshark", "tshark") {
        return;
    }
    let mut packets = Vec::new();
    for dialect in [Dialect::Rfc, Dialect::Rsplib] {
        for capabilities in [None, Some(Capabilities::TCP_CONTROL_CHANNEL | Capabilities::BUSINESS_CARD)] {
            packets.extend(
                asap_messages(capabilities).iter().map(|m| (wire::PPID_ASAP, m.encode(dialect).unwrap())),
            );
            packets.extend(
                enrp_messages(capabilities).iter().map(|m| (wire::PPID_ENRP, m.encode(dialect).unwrap())),
            );
        }
    }
    let seen = dissect(&packets);
    assert_eq!(seen.len(), packets.len(), "one line a packet");
    for ((ppid, message), line) in packets.iter().zip(&seen) {
        let (asap, enrp) =
            if *ppid == wire::PPID_ASAP { (Some(message[0]), None) } else { (None, Some(message[0])) };
        assert_eq!((line.asap, line.enrp), (asap, enrp), "{message:02x?}");
        assert_eq!(line.complaint, "", "{message:02x?}");
    }
    let types: BTreeSet<_> = seen.iter().map(|line| (line.asap, line.enrp)).collect();
    assert_eq!(types.len(), 24);
}

#[test]
fn tshark_finds_nothing_malformed_in_our_answers_to_malformed_messages() {
    if !have("tshark", "tshark") {
        return;
    }
    let element =
        b"\0\x0a\0\x20\0\0\0\x77\0\0\0\0\0\0\x01\x2c\0\x04\0\x08\x13\x88\0\x01\0\x08\0\x08\0\0\0\x01";
    let mut packets = Vec::new();
    for wrong in [
        &b"\x05"[..],
        b"\x05\0\0\0",
        b"\x05\0\0\x04",
        b"\x05\0\0\x08\0\x09\0\x04",
        b"\x4f\0\0\x09\0\x09\0\x05a",
        b"\x02\0\0\x0e\0\x09\0\x05a\0\0\0\x40\x55\0\x05b",
        &[&b"\x01\0\0\x2c\0\x09\0\x05a\0\0\0"[..], element].concat(),
    ] {
        let asap = AsapMessage::decode(wrong, Dialect::Rfc).unwrap_err();
        assert!(!asap.report.is_empty());
        packets.push((wire::PPID_ASAP, AsapMessage::Error(asap.report).encode(Dialect::Rfc).unwrap()));
        let enrp = EnrpMessage::decode(wrong, Dialect::Rfc).unwrap_err();
        let header = EnrpHeader { sender: ServerId::new(1), receiver: None };
        let error = EnrpMessage::Error { header, causes: enrp.report };
        packets.push((wire::PPID_ENRP, error.encode(Dialect::Rfc).unwrap()));
    }
    let seen = dissect(&packets);
    assert_eq!(seen.len(), packets.len());
    for ((_, message), line) in packets.iter().zip(&seen) {
        assert_eq!(line.complaint, "", "{message:02x?}");
    }
}

#[test]
fn tshark_would_tell_if_a_message_were_malformed() {
    if !have("tshark", "tshark") {
        return;
    }
    // A handle resolution response with a pool element that ends in the middle of a transport.
    let bad = b"\x06\0\0\x20\0\x09\0\x05a\0\0\0\0\x0a\0\x14\0\0\0\x77\0\0\0\0\0\0\x01\x2c\0\x04\0\x10";
    let seen = dissect(&[(wire::PPID_ASAP, bad.to_vec())]);
    assert_ne!(seen[0].complaint, "");
}

/// What tshark says about a packet.
struct Line {
    asap: Option<u8>,
    enrp: Option<u8>,
    complaint: String,
}

fn dissect(packets: &[(u32, Vec<u8>)]) -> Vec<Line> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("messages.pcap");
    std::fs::write(&file, pcap(packets)).unwrap();
    let fields = ["asap.message_type", "enrp.message_type", "_ws.malformed", "_ws.expert.message"];
    let output = Command::new("tshark")
        .args(["-n", "-r"])
        .arg(&file)
        .args(["-T", "fields", "-E", "separator=;", "-E", "aggregator=+"])
        .args(fields.iter().flat_map(|field| ["-e", field]))
        .env("HOME", folder.path())
        .output()
        .expect("tshark cannot be run: install the Debian package `tshark` (apt-get install tshark)");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let lines: Vec<Line> = text
        .lines()
        .map(|line| {
            let cells: Vec<&str> = line.split(';').collect();
            let [asap, enrp, malformed, expert] = cells[..] else { panic!("not four fields: {line}") };
            // An error message may hold another message, which tshark dissects too.
            let first = |cell: &str| cell.split('+').next().and_then(|number| number.parse().ok());
            Line { asap: first(asap), enrp: first(enrp), complaint: format!("{malformed}{expert}") }
        })
        .collect();
    lines
}

/// A capture of Ethernet frames, each with one message in one SCTP data chunk.
fn pcap(packets: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0002_0004, 0, 0, 0x0004_0000, 1] {
        out.extend(word.to_be_bytes());
    }
    for (number, (ppid, message)) in (1u32..).zip(packets) {
        let port: u16 = if *ppid == wire::PPID_ASAP { 3863 } else { 9901 };
        let mut chunk = vec![0, 3];
        chunk.extend(u16::try_from(16 + message.len()).unwrap().to_be_bytes());
        chunk.extend(number.to_be_bytes());
        chunk.extend([0, 0]);
        chunk.extend((number as u16 - 1).to_be_bytes());
        chunk.extend(ppid.to_be_bytes());
        chunk.extend(message);
        let mut sctp = Vec::new();
        sctp.extend(40_000u16.to_be_bytes());
        sctp.extend(port.to_be_bytes());
        sctp.extend([0, 0, 0, 1]);
        sctp.extend([0; 4]);
        sctp.extend(chunk);
        let checksum = crc32c(&sctp);
        sctp[8..12].copy_from_slice(&checksum.to_le_bytes());

        let mut ip = vec![0x45, 0];
        ip.extend(u16::try_from(20 + sctp.len()).unwrap().to_be_bytes());
        ip.extend([0, 0, 0x40, 0, 64, 132, 0, 0]);
        ip.extend([192, 0, 2, 1, 192, 0, 2, 2]);
        let sum: u32 = ip.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
        let checksum = !((sum & 0xffff) + (sum >> 16)) as u16;
        ip[10..12].copy_from_slice(&checksum.to_be_bytes());

        let frame = [&[2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0][..], &ip, &sctp].concat();
        let len = u32::try_from(frame.len()).unwrap();
        for word in [number, 0, len, len] {
            out.extend(word.to_be_bytes());
        }
        out.extend(frame);
    }
    out
}

/// The checksum of SCTP (RFC 9260 appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 };
        }
    }
    !crc
}

fn handle() -> PoolHandle {
    PoolHandle::new(b"EchoPool1").unwrap()
}

fn sctp(port: u16, transport_use: TransportUse) -> TransportAddress {
    let addresses = vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    TransportAddress::Sctp { port, transport_use, addresses: Addresses::new(addresses).unwrap() }
}

fn tcp(port: u16) -> TransportAddress {
    let address = "192.0.2.1".parse().unwrap();
    TransportAddress::Tcp { port, transport_use: TransportUse::DataOnly, address }
}

fn elements(capabilities: Option<Capabilities>) -> Vec<PoolElement> {
    let address = "2001:db8::1".parse().unwrap();
    let element = |user_transport, policy, asap_transport| PoolElement {
        id: PeId(0x1001),
        home: ServerId::new(0x1111_1111),
        life: RegistrationLife::Seconds(300),
        user_transport,
        policy,
        asap_transport,
        capabilities,
    };
    let mut elements = vec![
        element(
            sctp(7, TransportUse::DataPlusControl),
            Policy::ROUND_ROBIN,
            Some(sctp(3863, TransportUse::DataOnly)),
        ),
        element(tcp(80), Policy::new(PolicyType::WeightedRandom, &[3]), Some(tcp(4000))),
        element(
            TransportAddress::Udp { port: 53, address },
            Policy::new(PolicyType::LeastUsedDegradation, &[1, 2]),
            None,
        ),
        element(
            TransportAddress::UdpLite { port: 53, address },
            Policy::new(PolicyType::Priority, &[1]),
            None,
        ),
        element(
            TransportAddress::Dccp { port: 53, service_code: 0x6469_7363, address },
            Policy::new(PolicyType::RandomizedLeastUsed, &[1]),
            None,
        ),
        element(TransportAddress::Opaque(b"unix:/a".to_vec()), Policy::new(PolicyType::Random, &[]), None),
    ];
    for policy_type in PolicyType::all() {
        elements.push(element(tcp(80), Policy::new(policy_type, &[5, 6, 7, 8]), None));
    }
    elements
}

fn causes() -> Vec<ErrorCause> {
    let carrying = |code, info: &[u8]| ErrorCause { code, info: info.to_vec() };
    vec![
        ErrorCause::bare(CauseCode::Unspecified),
        carrying(CauseCode::UnrecognizedParameter, b"\xc0\x55\0\x07abc"),
        carrying(CauseCode::UnrecognizedMessage, b"\x4f\0\0\x04"),
        wire::invalid_element(&elements(None)[0]),
        ErrorCause::bare(CauseCode::NonUniquePeId),
        wire::inconsistent_policy(&Policy::new(PolicyType::WeightedRoundRobin, &[1])),
        ErrorCause::bare(CauseCode::LackOfResources),
        wire::inconsistent_transport(&tcp(80)),
        ErrorCause::bare(CauseCode::InconsistentDataControlConfiguration),
        ErrorCause::bare(CauseCode::UnknownPoolHandle),
        ErrorCause::bare(CauseCode::RejectedDueToSecurity),
    ]
}

fn asap_messages(capabilities: Option<Capabilities>) -> Vec<AsapMessage> {
    let (handle, element) = (handle(), PeId(0x1001));
    let elements = elements(capabilities);
    vec![
        AsapMessage::Registration(Registration { handle: handle.clone(), element: elements[0].clone() }),
        AsapMessage::Deregistration { handle: handle.clone(), element },
        AsapMessage::RegistrationResponse {
            reject: true,
            handle: handle.clone(),
            element,
            capabilities,
            error: Some(causes()),
        },
        AsapMessage::DeregistrationResponse { handle: handle.clone(), element, error: Some(causes()) },
        AsapMessage::HandleResolution {
            subscribe: true,
            handle: handle.clone(),
            items: Some(3),
            capabilities,
        },
        AsapMessage::HandleResolutionResponse {
            accept_updates: true,
            handle: handle.clone(),
            policy: Some(Policy::ROUND_ROBIN),
            elements: elements.clone(),
            error: None,
        },
        AsapMessage::KeepAlive(KeepAlive {
            home: true,
            server: ServerId::new(1),
            handle: handle.clone(),
            element: capabilities.is_some().then_some(element),
        }),
        AsapMessage::KeepAliveAck { handle: handle.clone(), element },
        AsapMessage::EndpointUnreachable { handle: handle.clone(), element },
        AsapMessage::ServerAnnounce {
            server: ServerId::new(1),
            transports: vec![sctp(3863, TransportUse::DataOnly), tcp(3863)],
        },
        AsapMessage::Cookie(b"state".to_vec()),
        AsapMessage::CookieEcho(b"state".to_vec()),
        AsapMessage::BusinessCard { handle, elements },
        AsapMessage::Error(causes()),
    ]
}

fn enrp_messages(capabilities: Option<Capabilities>) -> Vec<EnrpMessage> {
    let header = EnrpHeader { sender: ServerId::new(1), receiver: ServerId::new(2) };
    let target = ServerId::new(3);
    let version = capabilities.map(|_| 5);
    let versioned = |element| Versioned { element, version };
    let elements: Vec<Versioned> = elements(capabilities).into_iter().map(versioned).collect();
    let servers = vec![
        ServerInformation { server: ServerId::new(1), transport: sctp(9901, TransportUse::DataOnly) },
        ServerInformation { server: ServerId::new(2), transport: tcp(9901) },
    ];
    vec![
        EnrpMessage::Presence {
            reply_required: true,
            header,
            checksum: Some(PeChecksum(0x16ae)),
            introduction: capabilities.map(|capabilities| Introduction {
                capabilities,
                heartbeat: std::time::Duration::from_millis(200),
                incarnation: 7,
                registrars: 9,
                digest: Some(8),
            }),
            server: capabilities.map(|_| servers[0].clone()),
        },
        EnrpMessage::HandleTableRequest { owned_only: true, header },
        EnrpMessage::HandleTableResponse {
            more: true,
            reject: false,
            header,
            pools: vec![(handle(), elements.clone()), (PoolHandle::new(b"echo").unwrap(), elements.clone())],
        },
        EnrpMessage::HandleUpdate {
            takeover_suggested: false,
            header,
            action: UpdateAction::DelPe,
            handle: handle(),
            element: elements[0].clone(),
        },
        EnrpMessage::ListRequest { header },
        EnrpMessage::ListResponse { reject: false, header, servers },
        EnrpMessage::InitTakeover { header, target },
        EnrpMessage::InitTakeoverAck { header, target },
        EnrpMessage::TakeoverServer { header, target },
        EnrpMessage::Error { header, causes: causes() },
    ]
}
