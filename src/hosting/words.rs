//! What happens, in words for an operator.

use crate::handlespace::Entry;
use crate::machine::{LinkFailure, LinkKind, Protocol};
use crate::policy::Policy;
use crate::registrar::{Dialect, PeerState, Removal, Standing};
use crate::types::{CauseCode, ErrorCause, RegistrationLife, TransportAddress, TransportKind};

pub(super) fn transport_kind(kind: TransportKind) -> &'static str {
    match kind {
        TransportKind::Dccp => "dccp",
        TransportKind::Sctp => "sctp",
        TransportKind::Tcp => "tcp",
        TransportKind::Udp => "udp",
        TransportKind::UdpLite => "udp-lite",
        TransportKind::Opaque => "opaque",
    }
}

pub(super) fn transport(transport: &TransportAddress) -> String {
    let mut words = vec![transport_kind(transport.kind()).to_owned()];
    words.extend(transport.socket_addresses().map(|address| address.to_string()));
    words.join(" ")
}

pub(super) fn policy(policy: &Policy) -> String {
    let mut words = vec![policy.policy_type().name().to_owned()];
    words.extend(policy.words().iter().map(u32::to_string));
    words.join(" ")
}

pub(super) fn kind(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Tcp => "tcp",
        LinkKind::Sctp => "sctp",
        LinkKind::Udp => "udp",
    }
}

pub(super) fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Asap => "asap",
        Protocol::Enrp => "enrp",
        Protocol::Session => "session",
        Protocol::Plain => "plain",
    }
}

/// An element that has come.
pub(super) fn element(entry: &Entry) -> String {
    let element = &entry.element;
    let life = match element.life {
        RegistrationLife::Infinite => "for ever".to_owned(),
        RegistrationLife::Seconds(s) => format!("for {s} s"),
        RegistrationLife::Unitless(s) => format!("for {s} s, if those are seconds"),
        RegistrationLife::Milliseconds(ms) => format!("for {ms} ms"),
    };
    format!("{}, {}, {life}", transport(&element.user_transport), policy(&element.policy))
}

pub(super) fn removal(why: Removal) -> &'static str {
    match why {
        Removal::Deregistered => "it deregistered",
        Removal::Expired => "its registration ran out",
        Removal::Unreachable => "it does not answer",
        Removal::Reported => "too many users could not reach it",
    }
}

pub(super) fn causes(causes: &[ErrorCause]) -> String {
    let words: Vec<String> = causes.iter().map(|cause| code(cause.code)).collect();
    if words.is_empty() { "no cause given".to_owned() } else { words.join("; ") }
}

fn code(code: CauseCode) -> String {
    let words = match code {
        CauseCode::Unspecified => "no cause given",
        CauseCode::UnrecognizedParameter => "unrecognized parameter",
        CauseCode::UnrecognizedMessage => "unrecognized message",
        CauseCode::InvalidValues => {
            "invalid values (is an address not the sender's own? see --proxy-registration)"
        }
        CauseCode::NonUniquePeId => "another element has that identifier",
        CauseCode::InconsistentPoolingPolicy => "the pool has another policy",
        CauseCode::LackOfResources => "no room (see the --max options)",
        CauseCode::InconsistentTransportType => "the pool uses another transport protocol",
        CauseCode::InconsistentDataControlConfiguration => "the pool has another data/control configuration",
        CauseCode::UnknownPoolHandle => "no such pool",
        CauseCode::RejectedDueToSecurity => "not authorised",
        CauseCode::Other(number) => return format!("cause {number}"),
    };
    words.to_owned()
}

pub(super) fn failure(why: LinkFailure) -> &'static str {
    match why {
        LinkFailure::Refused => "nobody listens there",
        LinkFailure::Unreachable => "no route",
        LinkFailure::TimedOut => "no answer",
        LinkFailure::Reset => "connection reset",
        LinkFailure::Closed => "it closed the connection",
        LinkFailure::Present => "there is an association with it already",
        LinkFailure::Garbled => "what came is not ENRP",
        LinkFailure::Congested => "it does not read",
        LinkFailure::NoResources => "no descriptor or memory",
    }
}

pub(super) fn peer_state(state: PeerState) -> &'static str {
    match state {
        PeerState::Named => "named",
        PeerState::Alive => "alive",
        PeerState::Suspected => "suspected",
        PeerState::TakenOver => "taken over",
    }
}

pub(super) fn dialect(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Unknown => "unknown",
        Dialect::Rfc => "rfc",
        Dialect::Rsplib => "rsplib",
    }
}

pub(super) fn standing(standing: Standing) -> &'static str {
    match standing {
        Standing::Starting => "starting",
        Standing::Serving => "serving",
        Standing::Doubting => "doubting",
    }
}
