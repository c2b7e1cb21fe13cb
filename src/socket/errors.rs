//! Errors as an application sees them: which errno, and a sentence that says what failed, what was tried and what to do.
//! The table of all of them is this file.

use super::Error;
use crate::endpoint::{RequestFailure, Unspeakable};
use crate::machine::{Destination, LinkFailure, LinkKind};
use crate::session::SendRefused;
use crate::types::{CauseCode, ErrorCause, PoolHandle};
use std::fmt::Write;
use std::io;
use std::os::fd::RawFd;

/// An error made of an errno and a sentence.
pub(super) fn error(errno: i32, what: impl Into<String>) -> Error {
    Error { errno, what: what.into() }
}

/// A system call failed.
pub(super) fn system(doing: &str, e: &io::Error) -> Error {
    error(e.raw_os_error().unwrap_or(libc::EIO), format!("{doing}: {e}"))
}

pub(super) fn bad_descriptor(sd: RawFd) -> Error {
    error(libc::EBADF, format!("descriptor {sd} is no open RSerPool socket"))
}

pub(super) fn mapped(sd: RawFd) -> Error {
    error(
        libc::ENOTSOCK,
        format!(
            "descriptor {sd} is a mapped one: it can be read, written and waited for, and has no sessions"
        ),
    )
}

pub(super) fn closed(sd: RawFd) -> Error {
    error(libc::EBADF, format!("socket {sd} was closed by another thread"))
}

pub(super) fn dead(sd: RawFd) -> Error {
    error(
        libc::EIO,
        format!("socket {sd} is dead after an internal error; close it and report the error, please"),
    )
}

pub(super) fn not_initialized() -> Error {
    error(libc::EACCES, "the library is not initialised: call rsp_initialize() first")
}

pub(super) fn forked() -> Error {
    error(
        libc::ENOTSUP,
        "this process was forked from one that uses the library; what needs a registrar works after it has called rsp_initialize() itself",
    )
}

pub(super) fn stopped() -> Error {
    error(libc::ESHUTDOWN, "the library was shut down by rsp_cleanup() meanwhile")
}

pub(super) fn handle_too_long(handle: &PoolHandle, limit: usize) -> Error {
    let n = handle.as_bytes().len();
    error(libc::ENAMETOOLONG, format!("the pool handle has {n} bytes; at most {limit} are allowed"))
}

pub(super) fn not_connected(sd: RawFd, doing: &str) -> Error {
    error(
        libc::ENOTCONN,
        format!("cannot {doing}: socket {sd} has no session; rsp_connect() it, or rsp_accept() one"),
    )
}

pub(super) fn no_session(sd: RawFd, session: u32) -> Error {
    error(libc::ENOTCONN, format!("socket {sd} has no session {session}; it has ended, or never was"))
}

/// The element of a socket without notifications has failed.
pub(super) fn element_lost(sd: RawFd) -> Error {
    error(
        libc::ECONNRESET,
        format!(
            "the element of socket {sd} has failed; rsp_forcefailover() goes on at another, or set automatic failover"
        ),
    )
}

/// Messages that were taken earlier are lost, on a socket that cannot give them back.
pub(super) fn not_delivered(messages: usize, bytes: usize) -> Error {
    let which = if messages == 1 { "a message".to_owned() } else { format!("{messages} messages") };
    error(
        libc::ECOMM,
        format!(
            "{which} sent earlier ({bytes} bytes in all) did not get there and will not be sent again; this call has done nothing, the socket can be used on"
        ),
    )
}

pub(super) fn would_block(doing: &str) -> Error {
    error(
        libc::EAGAIN,
        format!("{doing} in the time given; wait until the descriptor is readable and call again"),
    )
}

pub(super) fn in_progress(doing: &str) -> Error {
    error(libc::EINPROGRESS, format!("{doing} goes on; the descriptor becomes readable when it is done"))
}

pub(super) fn timed_out(doing: &str) -> Error {
    error(libc::ETIMEDOUT, format!("{doing} was not done in the time given"))
}

pub(super) fn interrupted() -> Error {
    error(libc::EINTR, "a signal came while waiting; call again")
}

/// A request to a registrar failed.
pub(super) fn request(doing: &str, failure: &RequestFailure) -> Error {
    match failure {
        RequestFailure::UnknownPool => error(
            libc::ENOENT,
            format!("{doing}: the registrar knows no such pool; no element is registered in it now"),
        ),
        RequestFailure::Rejected(causes) => {
            let first = causes.first().map_or(CauseCode::Unspecified, |c| c.code);
            error(
                cause_errno(first),
                format!("{doing}: refused by the registrar: {}", causes_in_words(causes)),
            )
        }
        RequestFailure::NoRegistrar(tried) => error(
            libc::EHOSTUNREACH,
            format!(
                "{doing}: no registrar answers{}; start one (asap-registrar), or name one that runs in ASAP_REGISTRARS",
                tried_in_words(tried)
            ),
        ),
        RequestFailure::TimedOut => error(
            libc::ETIMEDOUT,
            format!("{doing}: a registrar is there, but it did not answer in time; try again"),
        ),
        RequestFailure::TooMany => {
            error(libc::ENOBUFS, format!("{doing}: too many requests wait for a registrar; try again later"))
        }
        RequestFailure::NotForRsplib(what) => {
            let (errno, what) = match what {
                Unspeakable::LongHandle => (libc::ENAMETOOLONG, "pool handles of more than 32 bytes"),
                Unspeakable::NoWeight => (libc::EINVAL, "a weighted random policy with weight 0"),
                Unspeakable::Transport => (libc::EPROTONOSUPPORT, "transports other than SCTP, TCP and UDP"),
            };
            error(
                errno,
                format!(
                    "{doing}: the registrar is RSPLIB's, or does not show that it is not, and RSPLIB has no {what}; if it is another, ASAP_DIALECT=rfc says so"
                ),
            )
        }
    }
}

/// The elements of a pool are known, but none could be reached: `failure` is what became of the last.
pub(super) fn link(doing: &str, failure: LinkFailure) -> Error {
    error(link_errno(failure), format!("{doing}: {}", why(failure)))
}

/// A message was not taken.
pub(super) fn send(sd: RawFd, refused: SendRefused) -> Error {
    match refused {
        SendRefused::Full => would_block("no room for the message came"),
        SendRefused::TooLong => {
            error(libc::EMSGSIZE, "the message is longer than the limit; send it in pieces")
        }
        SendRefused::FailedOver => error(
            libc::EPIPE,
            format!("the element of socket {sd} has failed; call rsp_forcefailover() to go on at another"),
        ),
        SendRefused::Ended => error(libc::EPIPE, format!("the session of socket {sd} has ended")),
        SendRefused::NoControlChannel => error(
            libc::EOPNOTSUPP,
            "this session has no control channel, so no cookies: the other side is a plain client or server, or chose data only",
        ),
        SendRefused::BadOptions => error(libc::EINVAL, "these send options contradict each other"),
    }
}

fn cause_errno(code: CauseCode) -> i32 {
    match code {
        CauseCode::RejectedDueToSecurity => libc::EACCES,
        CauseCode::LackOfResources => libc::ENOSPC,
        CauseCode::UnknownPoolHandle => libc::ENOENT,
        CauseCode::NonUniquePeId => libc::EEXIST,
        CauseCode::UnrecognizedParameter | CauseCode::UnrecognizedMessage => libc::EPROTO,
        CauseCode::InvalidValues => libc::EINVAL,
        CauseCode::InconsistentPoolingPolicy
        | CauseCode::InconsistentTransportType
        | CauseCode::InconsistentDataControlConfiguration => libc::EPROTOTYPE,
        CauseCode::Other(0x10 | 0x11 | 0xf000 | 0xf003 | 0xf005 | 0xf008) => libc::EINVAL,
        CauseCode::Other(0xf002) => libc::EEXIST,
        CauseCode::Other(0x100a) => libc::EPROTOTYPE,
        CauseCode::Other(0x100b) => libc::EPROTONOSUPPORT,
        CauseCode::Unspecified | CauseCode::Other(_) => libc::EPERM,
    }
}

fn causes_in_words(causes: &[ErrorCause]) -> String {
    if causes.is_empty() {
        return "it gave no cause".to_owned();
    }
    let words: Vec<String> = causes.iter().map(|c| cause_in_words(c.code)).collect();
    words.join("; ")
}

fn cause_in_words(code: CauseCode) -> String {
    let words = match code {
        CauseCode::Unspecified => "unspecified error",
        CauseCode::UnrecognizedParameter => "it does not know a parameter of the request",
        CauseCode::UnrecognizedMessage => "it does not know the request",
        CauseCode::InvalidValues => {
            "a value is invalid (is the address the element listens on one of this host's, and of the link to the registrar?)"
        }
        CauseCode::NonUniquePeId => "another element of the pool has this identifier",
        CauseCode::InconsistentPoolingPolicy => {
            "the pool has another policy; use that one, or another pool handle"
        }
        CauseCode::LackOfResources => "it has no room for it",
        CauseCode::InconsistentTransportType => {
            "the pool's elements use another transport; use that one, or another pool handle"
        }
        CauseCode::InconsistentDataControlConfiguration => {
            "the pool's elements differ in having a control channel; do as they do"
        }
        CauseCode::UnknownPoolHandle => "it knows no such pool",
        CauseCode::RejectedDueToSecurity => "the credentials shown do not allow it",
        // RSPLIB's own numbers.
        CauseCode::Other(0x10) => "it could not read the request",
        CauseCode::Other(0x11) => {
            "it takes a value for invalid (is there an address other than loopback and link-local ones?)"
        }
        CauseCode::Other(0x100a) => {
            "the pool's elements use another transport protocol; use that one, or another pool handle"
        }
        CauseCode::Other(0x100b) => "it does not have this policy",
        CauseCode::Other(0xf000) => "0 is no identifier of an element",
        CauseCode::Other(0xf002) => "another element of the pool has this identifier",
        CauseCode::Other(0xf003) => "it takes the policy for invalid",
        CauseCode::Other(0xf005) => "it takes the addresses or the port for invalid",
        CauseCode::Other(0xf008) => {
            "none of the element's addresses is one of the association with the registrar, and not loopback or link-local"
        }
        CauseCode::Other(code) => return format!("cause 0x{code:04x}"),
    };
    words.to_owned()
}

/// What carries a link, in a word.
pub(super) fn kind(kind: LinkKind) -> &'static str {
    match kind {
        LinkKind::Tcp => "tcp",
        LinkKind::Sctp => "sctp",
        LinkKind::Udp => "udp",
    }
}

fn tried_in_words(tried: &[(Destination, LinkFailure)]) -> String {
    let mut words = String::new();
    for (to, failure) in tried {
        words.push_str(if words.is_empty() { ", tried " } else { ", " });
        let kind = kind(to.kind);
        let addresses: Vec<String> = to
            .addresses
            .as_slice()
            .iter()
            .map(|a| std::net::SocketAddr::new(*a, to.port).to_string())
            .collect();
        let _ = write!(words, "{kind} {} ({})", addresses.join("/"), why(*failure));
    }
    words
}

fn link_errno(why: LinkFailure) -> i32 {
    match why {
        LinkFailure::Refused => libc::ECONNREFUSED,
        LinkFailure::Unreachable => libc::EHOSTUNREACH,
        LinkFailure::TimedOut => libc::ETIMEDOUT,
        LinkFailure::Reset | LinkFailure::Closed => libc::ECONNRESET,
        LinkFailure::Garbled => libc::EPROTO,
        LinkFailure::Present => libc::EISCONN,
        LinkFailure::Congested | LinkFailure::NoResources => libc::ENOBUFS,
    }
}

/// What became of a link, in words.
pub(super) fn why(why: LinkFailure) -> &'static str {
    match why {
        LinkFailure::Refused => "connection refused: nobody listens there",
        LinkFailure::Unreachable => "not reachable",
        LinkFailure::TimedOut => "no answer",
        LinkFailure::Reset => "broken off by the other side",
        LinkFailure::Closed => "closed by the other side without ending the session",
        LinkFailure::Present => "there is an association with it already",
        LinkFailure::Garbled => "what came is not the protocol expected",
        LinkFailure::Congested => "more waits to be sent than the limit allows",
        LinkFailure::NoResources => "the system has no descriptor, memory or permission for it",
    }
}
