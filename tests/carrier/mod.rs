//! What carries the links and sessions of tests: TCP, or SCTP if ASAP_TRANSPORT says so, as it does in the lab
//! (`tests/lab/run loopback`). Tests about TCP alone have it in their names, and are not run over SCTP.

// Each test binary uses some of it.
#![allow(dead_code)]

use asap::machine::LinkKind;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd;

/// Of links and sessions.
pub fn carrier() -> LinkKind {
    match std::env::var("ASAP_TRANSPORT").as_deref() {
        Ok("sctp") => LinkKind::Sctp,
        _ => LinkKind::Tcp,
    }
}

/// As the registrar's standard output calls it.
pub fn name() -> &'static str {
    if carrier() == LinkKind::Sctp { "sctp" } else { "tcp" }
}

/// The payload protocol identifier of ASAP (RFC 5352 9.3).
pub const ASAP: u32 = 11;

/// A socket of the test's own. Over SCTP each write is a message with this payload protocol identifier, and a read does not go
/// beyond one.
pub fn socket(domain: Domain, ppid: u32) -> Socket {
    if carrier() == LinkKind::Tcp {
        return Socket::new(domain, Type::STREAM, None).unwrap();
    }
    let socket = Socket::new(domain, Type::STREAM, Some(Protocol::SCTP)).unwrap();
    // A window of less than two of loopback's packets of 64 KiB is not announced anew when it opens.
    socket.set_recv_buffer_size(1 << 20).unwrap();
    let defaults = libc::sctp_sndinfo {
        snd_sid: 0,
        snd_flags: 0,
        snd_ppid: ppid.to_be(),
        snd_context: 0,
        snd_assoc_id: 0,
    };
    let size = std::mem::size_of_val(&defaults) as libc::socklen_t;
    // SAFETY: the structure outlives the call, and is as long as is said.
    let result = unsafe {
        let value = std::ptr::from_ref(&defaults).cast();
        libc::setsockopt(socket.as_raw_fd(), libc::IPPROTO_SCTP, libc::SCTP_DEFAULT_SNDINFO, value, size)
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    socket
}

/// A connection of the test's own; [`TcpStream`] does for SCTP as well.
pub fn dial(to: SocketAddr, ppid: u32) -> TcpStream {
    let socket = socket(Domain::for_address(to), ppid);
    socket.connect(&to.into()).unwrap();
    socket.into()
}
