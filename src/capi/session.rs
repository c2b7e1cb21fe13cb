//! Sockets from `rsp_socket` to `rsp_close`, but for data ([`super::data`]), and waiting and options
//! ([`super::options`]).

use super::address;
use super::error::{guard, guard_hidden};
use super::layout::*;
use super::policy::policy;
use super::{error, known_flags, pool_name, wait, wait_for};
use crate::policy::Policy;
use crate::socket::{self, Failover, FailoverCallback, Kind, Result, Semantics, Wait};
use crate::types::PeId;
use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_uchar, c_uint, c_void};
use std::sync::Arc;
use std::time::Duration;

/// Creates a socket.
///
/// `domain`: AF_INET, AF_INET6, or 0 for both. `type`: SOCK_SEQPACKET (messages, with notifications; a
/// server serves all its sessions on this one descriptor) or SOCK_STREAM (one session a descriptor; a
/// server calls `rsp_accept`). `protocol`: what a server's sessions are carried by: IPPROTO_TCP,
/// IPPROTO_SCTP, or 0: what works best; IPPROTO_UDP: datagrams, SOCK_SEQPACKET only: nothing is sent
/// again that gets lost, there are no cookies, and a session ends when its user is silent for
/// RSP_IDLE_TIMEOUT. A client takes what the server it connects to has.
///
/// Returns a descriptor of the kernel, or -1. Readable in poll(2), select(2), epoll(7) and every event
/// loop means: call an `rsp_*` function, which may return EAGAIN. The number stays the same through
/// failovers. Never read(2), write(2) or close(2) it.
/// Errors: EACCES (before `rsp_initialize`), EAFNOSUPPORT, EINVAL (type), EPROTONOSUPPORT (protocol;
/// for IPPROTO_SCTP where there is none), EMFILE, ENFILE, ENOMEM, ENOTSUP (in a child after fork).
///
/// Threads: any. Fork: the child may go on with sessions that it inherits. RFC 5352 6. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_socket(domain: c_int, r#type: c_int, protocol: c_int) -> c_int {
    guard(|| socket::socket(domain, kind(r#type)?, protocol))
}

fn kind(socket_type: c_int) -> Result<Kind> {
    // The kernel's socket flags are what we do anyway.
    match socket_type & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK) {
        libc::SOCK_SEQPACKET | libc::SOCK_DGRAM => Ok(Kind::SeqPacket),
        libc::SOCK_STREAM => Ok(Kind::Stream),
        other => {
            error(libc::EINVAL, format!("socket type {other} is neither SOCK_SEQPACKET nor SOCK_STREAM"))
        }
    }
}

/// Creates a server's socket at one that the program has made itself: with options of its own, or given
/// to it, bound and listening already, by whoever started it.
///
/// `domain`, `type`, `protocol`: as `rsp_socket`; `protocol` 0 or what `fd` has. `fd`: a socket of TCP, UDP
/// or one-to-one SCTP, not connected; it need not be bound, nor listen. Negative: as `rsp_socket`.
///
/// Returns a descriptor, as `rsp_socket`; `fd` is closed then, the library has the socket under a number of
/// its own. Or -1: `fd` is still the program's. A client may be made of the descriptor, too, but has no use
/// for `fd`.
/// Errors: as `rsp_socket`; EBADF, ENOTSOCK, EPROTONOSUPPORT (`fd` is a socket of another kind), EPROTOTYPE
/// (`protocol` is not that of `fd`), EISCONN (`fd` is connected), EINVAL (`fd` is one of the library's),
/// EOPNOTSUPP (SOCK_STREAM over UDP).
///
/// Threads: any. Fork: not useful in the child. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_socket_internal(domain: c_int, r#type: c_int, protocol: c_int, fd: c_int) -> c_int {
    guard(|| {
        let kind = kind(r#type)?;
        if fd < 0 { socket::socket(domain, kind, protocol) } else { socket::socket_of(fd, kind, protocol) }
    })
}

/// Binds a server's socket to addresses of this host.
///
/// `sd`: from `rsp_socket`. `addrs`: `count` addresses, packed one behind the other (16 bytes each for
/// IPv4, 28 for IPv6), all with the same port or port 0 (any); NULL with `count` 0: all addresses, any
/// port.
///
/// Returns 0 or -1. Errors: EBADF, EFAULT, EINVAL (bound already; count below 0 or over 64), EISCONN,
/// EOPNOTSUPP (more than one address over TCP or UDP; SOCK_STREAM over UDP), EAFNOSUPPORT, EADDRINUSE, EADDRNOTAVAIL, EACCES.
///
/// Threads: any. Fork: not useful in the child. RFC 5352 6.1. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_bind(sd: c_int, addrs: *const libc::sockaddr, count: c_int) -> c_int {
    guard(|| {
        let count = match usize::try_from(count) {
            Ok(count) if count <= 64 => count,
            _ => return error(libc::EINVAL, format!("{count} addresses; 0 to 64 are possible")),
        };
        // SAFETY: as many addresses as said, by the caller's promise.
        let addresses = unsafe { address::read_packed(addrs, count)? };
        socket::bind(sd, &addresses)?;
        Ok(0)
    })
}

/// Listens for sessions. A socket that is not bound is bound to all addresses and any port. May be
/// called again to change the backlog.
///
/// `sd`: from `rsp_socket`. `backlog`: as listen(2), but without effect: as many as the system allows
/// may wait.
///
/// Returns 0 or -1. Errors: EBADF, EISCONN, EADDRINUSE, EMFILE.
///
/// Threads: any. Fork: not useful in the child. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_listen(sd: c_int, backlog: c_int) -> c_int {
    guard(|| socket::listen(sd, backlog).map(|()| 0))
}

/// Registers a server as an element of a pool, or changes its registration: policy values, interval.
/// Binds and listens if that is still to be done. The library renews the registration, and moves it to
/// another registrar when one is lost.
///
/// `sd`: from `rsp_socket`. `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes.
/// `loadinfo`: policy and values; NULL: round robin. `reregistrationInterval`: milliseconds between renewals (0: 30000);
/// the registration stands three times as long without one. `flags`: `REGF_...` OR-ed.
/// Blocks until a registrar has answered (see RSP_CALL_TIMEOUT), unless `REGF_DONTWAIT`.
///
/// Returns 0, or -1: nothing has changed: not registered, or registered as before.
/// Errors: EBADF, EFAULT, EINVAL (flags, policy, empty handle, other handle than before; refused by the
/// registrar: a value, say an address that is not this host's), EISCONN (it has a session),
/// ENAMETOOLONG, EHOSTUNREACH (no registrar; the sentence names those tried), ETIMEDOUT (a registrar is
/// there but does not answer), EACCES or EPERM (refused), EEXIST (identifier taken), EPROTOTYPE (the
/// pool has another policy, transport or control channel), ENOSPC (the registrar is full), EADDRINUSE,
/// ENOTSUP (in a child after fork).
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.1, 6.1. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_register(
    sd: c_int,
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    loadinfo: *const rsp_loadinfo,
    reregistrationInterval: c_uint,
    flags: c_int,
) -> c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        register(sd, (poolHandle, poolHandleSize), loadinfo, reregistrationInterval, flags, None)
    })
}

/// What `rsp_register` and `rsp_register_tags` do.
///
/// # Safety
/// The pointers are as the C documentation demands.
pub(super) unsafe fn register(
    sd: c_int,
    (handle, size): (*const c_uchar, usize),
    loadinfo: *const rsp_loadinfo,
    interval: c_uint,
    flags: c_int,
    id: Option<PeId>,
) -> Result<c_int> {
    const KNOWN: c_int = REGF_DONTWAIT | REGF_CONTROLCHANNEL | REGF_DAEMONMODE | REGF_DATAONLY;
    let flags = known_flags(flags.cast_unsigned(), KNOWN.cast_unsigned(), "registration")?.cast_signed();
    if flags & REGF_CONTROLCHANNEL != 0 && flags & REGF_DATAONLY != 0 {
        return error(libc::EINVAL, "REGF_CONTROLCHANNEL and REGF_DATAONLY contradict each other");
    }
    // SAFETY: the caller's promise.
    let name = unsafe { pool_name(handle, size, Some(sd))? };
    let policy = match name.settings.policy {
        Some(policy) if loadinfo.is_null() => policy,
        None if loadinfo.is_null() => Policy::ROUND_ROBIN,
        // SAFETY: as above.
        Some(_) | None => unsafe { policy(loadinfo)? },
    };
    let renewal = match interval {
        0 => socket::DEFAULT_RENEWAL,
        ms => Duration::from_millis(ms.into()),
    };
    let wait = if flags & REGF_DONTWAIT != 0 { Wait::No } else { wait_for(&name) };
    socket::register(sd, &name.handle, &policy, renewal, id, flags & REGF_DATAONLY == 0, wait)?;
    Ok(0)
}

/// Ends a registration. Sessions go on.
///
/// `sd`: a registered socket. `flags`: 0 or `DEREGF_DONTWAIT`. Blocks until a registrar has confirmed
/// (see RSP_CALL_TIMEOUT), unless `DEREGF_DONTWAIT`.
///
/// Returns 0, or -1. After EHOSTUNREACH and ETIMEDOUT the registration is no longer renewed and runs
/// out by itself; when refused it stands.
/// Errors: EBADF, EINVAL (flags; not registered), EHOSTUNREACH, ETIMEDOUT (no registrar, or it did not
/// answer), EACCES, EPERM (refused), ENOTSUP (in a child after fork).
///
/// Threads: any. Fork: ENOTSUP in the child. RFC 5352 3.2, 6.2. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_deregister(sd: c_int, flags: c_int) -> c_int {
    guard(|| {
        let flags = known_flags(flags.cast_unsigned(), DEREGF_DONTWAIT.cast_unsigned(), "deregistration")?;
        let wait = if flags != 0 { Wait::No } else { Wait::Default };
        socket::deregister(sd, wait)?;
        Ok(0)
    })
}

/// Accepts a session as a descriptor of its own (SOCK_STREAM servers).
///
/// `sd`: a listening SOCK_STREAM socket. `timeout`: milliseconds to wait; 0 or negative: not at all;
/// INT_MAX: as long as it takes.
///
/// Returns the session's descriptor, to be closed with `rsp_close`, or -1.
/// Errors: EBADF, EAGAIN (none has come), EINVAL (not listening), EOPNOTSUPP (SOCK_SEQPACKET), EINTR,
/// EMFILE, ENFILE.
///
/// Threads: any; several may wait at once. Fork: accepted sessions go on in the child. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_accept(sd: c_int, timeout: c_int) -> c_int {
    let forever = timeout < 0 && !Semantics::chosen().negative_accepts_return;
    guard(|| socket::accept(sd, if forever { Wait::Forever } else { wait(timeout) }))
}

/// Connects to a pool: looks it up, and opens a session with the element its policy selects; if that
/// cannot be reached, with the next.
///
/// `sd`: from `rsp_socket`. `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes.
/// `staleCacheValue`: a cached answer of a registrar no older than this many milliseconds will do; 0:
/// ask. Blocks until an element is reached (see RSP_CALL_TIMEOUT).
///
/// Returns 0, or -1: not connected.
/// Errors: EBADF, EFAULT, EINVAL (empty handle), ENAMETOOLONG, EISCONN, EALREADY (another thread is
/// connecting it), EOPNOTSUPP (bound, listening, or not for sessions), ENOENT (no such pool: nobody is
/// registered in it now), EHOSTUNREACH (no registrar; the sentence names those tried), ECONNREFUSED (no
/// element accepts), ETIMEDOUT (registrar or elements do not answer), ENOTSUP (in a child after fork).
/// The socket is then as it was: call it again.
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.3, 6.5. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_connect(
    sd: c_int,
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    staleCacheValue: c_uint,
) -> c_int {
    guard_hidden(|| {
        // SAFETY: the caller's promise.
        let name = unsafe { pool_name(poolHandle, poolHandleSize, Some(sd))? };
        let max_age = Duration::from_millis(staleCacheValue.into());
        socket::connect(sd, &name.handle, max_age, wait_for(&name))
    })
}

/// Whether the user's session holds a cookie of its element.
///
/// `sd`: a connected socket.
///
/// Returns 1 or 0, or -1. Errors: EBADF, ENOTCONN (not a user's socket).
///
/// Threads: any. Fork: works in the child. RFC 5352 3.8. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_has_cookie(sd: c_int) -> c_int {
    guard(|| socket::has_cookie(sd).map(c_int::from))
}

/// Moves a user's session on to another element: selects it, connects, and brings it the cookie.
///
/// `sd`: a connected socket, its element failed or not. `flags`: `FFF_NONE` or `FFF_UNREACHABLE`
/// (report the present element to the registrar). `staleCacheValue`: a cached answer of a registrar no
/// older than this many milliseconds will do; 0: ask. Blocks until an element is reached (see
/// RSP_CALL_TIMEOUT).
///
/// Returns 0: `RSERPOOL_FAILOVER_COMPLETE` follows on SOCK_SEQPACKET; send again what had no answer. Or
/// -1: the session has no element; call it again.
/// Errors: EBADF, EINVAL (flags), ENOTCONN (never connected, or ended), EOPNOTSUPP (a server's socket),
/// ENOENT (the pool is gone), EHOSTUNREACH (no registrar), ECONNREFUSED (no element accepts), ECONNRESET,
/// ETIMEDOUT, EPIPE (given up at RSP_FAILOVER_DEADLINE), ENOTSUP (in a child after fork).
///
/// Threads: any. Fork: the child uses the elements known already. RFC 5352 3.5, 3.7. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_forcefailover(sd: c_int, flags: c_uint, staleCacheValue: c_uint) -> c_int {
    guard_hidden(|| {
        let unreachable = known_flags(flags, FFF_UNREACHABLE, "failover")? != 0;
        socket::force_failover(sd, unreachable, Duration::from_millis(staleCacheValue.into()), Wait::Default)
    })
}

/// Says what a session is doing, for the reports of the component status protocol (see ri_csp_server): the
/// monitor shows it from the next report on, instead of a count of sessions.
///
/// `sd`: a socket with sessions. `sessionID`: which; 0: the one it is connected by. `statusText`: a C string,
/// of which the first 127 bytes count.
///
/// Returns 0 or -1. Errors: EBADF, EFAULT, ENOTCONN (no such session).
///
/// Threads: any. Fork: works in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_csp_setstatus(
    sd: c_int,
    sessionID: rserpool_session_t,
    statusText: *const c_char,
) -> c_int {
    guard(|| {
        if statusText.is_null() {
            return error(libc::EFAULT, "statusText is NULL");
        }
        // SAFETY: a C string, by the caller's promise.
        let text = unsafe { CStr::from_ptr(statusText) }.to_string_lossy();
        socket::set_status(sd, sessionID.cast_unsigned(), &text)?;
        Ok(0)
    })
}

/// Sets a function to be called after each failover of a user's session: to count, to log, or to send
/// what the new element must know beyond the cookie (RFC 5351 4.3).
///
/// What the new element gets, in this order: the last cookie, first of all (RFC 5352 3.8); the messages
/// kept for it, which are those of which the failed element was not sent a byte and those sent since it
/// failed; what the callback sends. A message of the call within which the callback is called, or of
/// another thread, may go before what the callback sends. A program whose first message to a new element
/// must be its own (a login) leaves `RSP_AUTO_FAILOVER` off and sends with `ASAP_SEND_NO_FAILOVER`: then
/// nothing is kept, messages not sent come back (SOCK_SEQPACKET), sending fails with EPIPE until the
/// program calls `rsp_forcefailover`, and what it sends after that is the first the new element gets
/// after the cookie.
///
/// `sd`: a user's socket. `callback`: called within an `rsp_*` call on the descriptor, by the thread
/// that made it; it may use the descriptor, except `rsp_close`. NULL: none. `user`: handed to the
/// callback. On a server's socket it is never called.
///
/// Returns 0 or -1. Errors: EBADF.
///
/// Threads: any; the callback must be fit for every thread that uses the descriptor. Fork: works in the
/// child. RFC 5351 4.3. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_set_failover_callback(
    sd: c_int,
    callback: rsp_failover_callback,
    user: *mut c_void,
) -> c_int {
    struct User(*mut c_void);
    // SAFETY: the documentation demands a callback that every thread using the descriptor may call with this pointer.
    unsafe impl Send for User {}
    // SAFETY: as above.
    unsafe impl Sync for User {}
    impl User {
        fn pointer(&self) -> *mut c_void {
            self.0
        }
    }

    guard(|| {
        let user = User(user);
        let callback = callback.map(|callback| -> FailoverCallback {
            Arc::new(move |sd, failover: &Failover| {
                let info = rsp_failover_info {
                    rfi_session: failover.session.cast_signed(),
                    rfi_from: failover.from.map_or(0, |id| id.0),
                    rfi_to: failover.to.0,
                    rfi_has_cookie: failover.has_cookie.into(),
                    rfi_gap: u64::try_from(failover.gap.as_micros()).unwrap_or(u64::MAX),
                };
                // SAFETY: a structure that lives during the call, and the program's own pointer.
                unsafe { callback(sd, &info, user.pointer()) };
            })
        });
        socket::set_failover_callback(sd, callback)?;
        Ok(0)
    })
}

/// Closes a descriptor: ends its sessions in order, and its registration. Waits up to 2 s for what was
/// sent and is not written yet.
///
/// `sd`: any descriptor of the library: from `rsp_socket`, `rsp_accept`, `rsp_watch` or `rsp_mapsocket`.
///
/// Returns 0 or -1. Errors: EBADF. Threads that wait on the descriptor return with EBADF.
///
/// Threads: any. Fork: in either process it closes that process's copy only. RFC 5352 3.2. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_close(sd: c_int) -> c_int {
    guard(|| socket::close(sd).map(|()| 0))
}
