//! Calls of sockets(7) that know pools beside all else: what `asap/sockets.h` makes of those that a program has. What is
//! not about a pool goes to the C library as it is.

use super::address;
use super::error::{guard, guard_or};
use super::{console, error, parse_name};
use crate::name::Name;
use crate::runtime::environment;
use crate::socket::{self, Error, Result};
use std::ffi::{CStr, CString};
use std::io;
use std::os::raw::{c_char, c_int, c_void};

/// As getaddrinfo(3), which also takes names of pools: `pool://HANDLE?OPTION=VALUE&...` (docs/adopting.md).
///
/// `node`, `service`, `hints`, `result`: as getaddrinfo(3). For a pool's name the list has one address for streams that stands
/// for the pool in this process and its children: of 240.0.0.0/4, or of 100::/64 where `hints` asks for AF_INET6. Its port is the
/// service's and means nothing. `asap_connect` takes it; the list is freed by freeaddrinfo(3). Nobody is asked yet whether there is such a pool.
///
/// Returns 0 or an error for gai_strerror(3). Errors: as getaddrinfo(3); EAI_NONAME if something is wrong with a pool's name (`asap_last_error` says what),
/// EAI_SOCKTYPE if `hints` asks for anything but streams, EAI_MEMORY after 4096 different names.
///
/// Threads: any. Fork: any; addresses that a parent got hold in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn asap_getaddrinfo(
    node: *const c_char,
    service: *const c_char,
    hints: *const libc::addrinfo,
    result: *mut *mut libc::addrinfo,
) -> c_int {
    let failed = |e: &Error| match e.errno {
        libc::EPROTOTYPE => libc::EAI_SOCKTYPE,
        libc::ENOMEM => libc::EAI_MEMORY,
        _ => libc::EAI_NONAME,
    };
    guard_or(failed, || {
        // SAFETY: the caller's promise.
        let Some(pool) = (unsafe { pool(node)? }) else {
            // SAFETY: the caller's promise is the same.
            return Ok(unsafe { libc::getaddrinfo(node, service, hints, result) });
        };
        // SAFETY: all that a list's entry can be is numbers and NULL pointers.
        let empty = || unsafe { std::mem::zeroed::<libc::addrinfo>() };
        // SAFETY: NULL or readable, by the caller's promise.
        let mut wanted = unsafe { hints.as_ref() }.map_or_else(empty, |hints| *hints);
        if wanted.ai_socktype != 0 && wanted.ai_socktype != libc::SOCK_STREAM {
            let what = format!("pool {} is reached by streams (SOCK_STREAM)", pool.handle);
            return error(libc::EPROTOTYPE, what);
        }
        let address = stand_in(&pool, wanted.ai_family == libc::AF_INET6)?;
        wanted.ai_socktype = libc::SOCK_STREAM;
        wanted.ai_flags = (wanted.ai_flags & !libc::AI_ADDRCONFIG) | libc::AI_NUMERICHOST;
        // SAFETY: the same, with a text and hints of our own.
        Ok(unsafe { libc::getaddrinfo(address.as_ptr(), service, &raw const wanted, result) })
    })
}

/// As gethostbyname(3), which also takes names of pools, as `asap_getaddrinfo` does.
///
/// `name`: as gethostbyname(3). For a pool's name the result has one address of 240.0.0.0/4, which stands for the pool in this process
/// and its children; `asap_connect` takes it.
///
/// Returns as gethostbyname(3); NULL for an error. Errors: h_errno as by gethostbyname(3); HOST_NOT_FOUND if something is wrong
/// with a pool's name (`asap_last_error` says what), NO_RECOVERY after 4096 different names.
///
/// Threads: as gethostbyname(3), the result is of the process, not of the thread. Fork: any. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn asap_gethostbyname(name: *const c_char) -> *mut libc::hostent {
    // Of <netdb.h>.
    const HOST_NOT_FOUND: c_int = 1;
    const NO_RECOVERY: c_int = 3;
    unsafe extern "C" {
        fn gethostbyname(name: *const c_char) -> *mut libc::hostent;
        fn __h_errno_location() -> *mut c_int;
    }
    let failed = |e: &Error| {
        // SAFETY: the calling thread's h_errno is always there.
        unsafe { *__h_errno_location() = if e.errno == libc::ENOMEM { NO_RECOVERY } else { HOST_NOT_FOUND } };
        std::ptr::null_mut()
    };
    guard_or(failed, || {
        // SAFETY: the caller's promise.
        let Some(pool) = (unsafe { pool(name)? }) else {
            // SAFETY: the caller's promise is the same.
            return Ok(unsafe { gethostbyname(name) });
        };
        let address = stand_in(&pool, false)?;
        // SAFETY: a C string.
        Ok(unsafe { gethostbyname(address.as_ptr()) })
    })
}

/// The pool, if a host's name is one's.
///
/// # Safety
/// NULL or a C string.
unsafe fn pool(host: *const c_char) -> Result<Option<Name>> {
    if host.is_null() {
        return Ok(None);
    }
    // SAFETY: a C string, by the caller's promise.
    let host = unsafe { CStr::from_ptr(host) }.to_bytes();
    if !Name::is_one(host) {
        return Ok(None);
    }
    console::open()?;
    logged("a pool's name", parse_name(host)).map(Some)
}

/// The address that stands for a pool, as text.
fn stand_in(pool: &Name, v6: bool) -> Result<CString> {
    let address = socket::stand_in(pool, v6)?.to_string();
    CString::new(address).or_else(|_| error(libc::EIO, "an address with a NUL in it"))
}

/// As connect(2), which also takes addresses of `asap_getaddrinfo` that stand for pools: the descriptor becomes what `asap_open`
/// gives, with its number, and with O_NONBLOCK, FD_CLOEXEC, SO_RCVTIMEO and SO_SNDTIMEO as they were. The socket that it was is
/// closed: duplicates of it are not connected, and an epoll set has to be told of it (again) after this call. The library is
/// started if it does not run yet.
///
/// `fd`, `addr`, `len`: as connect(2); for a pool a TCP or SCTP (one-to-one) socket. Blocks as `asap_open` does, unless the descriptor is
/// non-blocking: then the result is EINPROGRESS, and the descriptor is writable as soon as an element is reached; if none is,
/// SO_ERROR is ECONNRESET.
///
/// Returns 0 or -1. Errors: as connect(2), and as `asap_open`, but ECONNREFUSED where that has ENOENT (no such pool);
/// EPROTONOSUPPORT (another kind of socket).
///
/// Threads: any. Fork: as `asap_open`. RFC 5352 3.3. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn asap_connect(fd: c_int, addr: *const libc::sockaddr, len: libc::socklen_t) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        let pool = unsafe { ip_address(addr, len) }.and_then(|at| socket::stands_for(at.ip()));
        let Some(name) = pool else {
            // SAFETY: the caller's promise is the same.
            return system("connect", unsafe { libc::connect(fd, addr, len) });
        };
        console::open()?;
        match logged("connect", socket::open_at(&name, fd)) {
            Ok(true) => Ok(0),
            Ok(false) => error(libc::EINPROGRESS, "no element is reached yet; poll for writing"),
            Err(e) if e.errno == libc::ENOENT => error(libc::ECONNREFUSED, e.what),
            Err(e) => Err(e),
        }
    })
}

/// The address that a program gives for a connection, if it is IP.
///
/// # Safety
/// `addr` is NULL or readable for `len` bytes.
unsafe fn ip_address(addr: *const libc::sockaddr, len: libc::socklen_t) -> Option<std::net::SocketAddr> {
    let len =
        usize::try_from(len).ok().filter(|len| !addr.is_null() && *len >= size_of::<libc::sa_family_t>())?;
    // SAFETY: not NULL, and long enough.
    let needed = match i32::from(unsafe { (&raw const (*addr).sa_family).read_unaligned() }) {
        libc::AF_INET => size_of::<libc::sockaddr_in>(),
        libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
        _ => return None,
    };
    if len < needed {
        return None;
    }
    // SAFETY: as long as its family demands.
    unsafe { address::read(addr) }.ok().map(|(address, _)| address)
}

/// As listen(2); then, if the environment has ASAP_POOL, registers the socket as `asap_serve` does, by that name (or handle), and
/// waits for no registrar: it is tried until there is one. Sockets that are not TCP or SCTP are left alone; so are those of
/// other ports where ASAP_POOL_PORT names one, and second ones of a port that is registered, as servers have for IPv4 and
/// IPv6. The library is started if it does not run yet.
///
/// `fd`, `backlog`: as listen(2).
///
/// Returns 0 or -1. Errors: as listen(2); with ASAP_POOL, EINVAL (its name, or a value in an ASAP_ variable), EMFILE, ENFILE, ENOMEM,
/// EAGAIN (no thread), and as `rsp_initialize`; the socket listens then all the same.
///
/// Threads: any. Fork: as `asap_serve`: a program that forks after this call and goes on in the child is in no pool; have it run
/// in the foreground. RFC 5352 3.1. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn asap_listen(fd: c_int, backlog: c_int) -> c_int {
    guard(|| {
        // SAFETY: no pointers.
        system("listen", unsafe { libc::listen(fd, backlog) })?;
        if let Some(pool) = environment::variable("ASAP_POOL") {
            console::open()?;
            logged("listen", serve_unasked(fd, &pool))?;
        }
        Ok(0)
    })
}

fn serve_unasked(fd: c_int, pool: &str) -> Result<()> {
    let name = parse_name(pool.as_bytes())?;
    let only = match environment::variable("ASAP_POOL_PORT").map(|port| port.parse()) {
        None => None,
        Some(Ok(port)) => Some(port),
        Some(Err(_)) => return error(libc::EINVAL, "ASAP_POOL_PORT is no port"),
    };
    socket::serve_unasked(fd, &name, only)
}

/// Logs why a call has failed: programs that know sockets only do not ask `asap_last_error`.
fn logged<T>(call: &str, result: Result<T>) -> Result<T> {
    result.inspect_err(|e| log::error!("{call}: {}", e.what))
}

/// As getpeername(2); for a descriptor of `asap_open`, or of `asap_connect` to a pool, the address of the element that it is at now.
///
/// `fd`, `addr`, `len`: as getpeername(2).
///
/// Returns 0 or -1. Errors: as getpeername(2); ENOTCONN (no element now: not yet, or failing over). Once a stream is over,
/// its address is that of a pair of sockets, AF_UNIX.
///
/// Threads: any. Fork: in a child streams of the parent have such an address, too. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn asap_getpeername(
    fd: c_int,
    addr: *mut libc::sockaddr,
    len: *mut libc::socklen_t,
) -> c_int {
    guard(|| {
        let Some(peer) = socket::stream_peer(fd) else {
            // SAFETY: the caller's promise is the same.
            return system("getpeername", unsafe { libc::getpeername(fd, addr, len) });
        };
        let bytes = address::write(peer?);
        if addr.is_null() || len.is_null() {
            return error(libc::EFAULT, "addr or len is NULL");
        }
        // SAFETY: not NULL, and as large as said by the caller's promise.
        unsafe {
            let room = usize::try_from(*len).unwrap_or(0).min(bytes.len());
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), addr.cast::<u8>(), room);
            *len = bytes.len() as libc::socklen_t;
        }
        Ok(0)
    })
}

/// As setsockopt(2); for a descriptor of `asap_open`, or of `asap_connect` to a pool, options of IP, IPv6 and TCP are taken and
/// mean nothing: what carries the stream has TCP_NODELAY, and is another one after a failover.
///
/// `fd`, `level`, `option`, `value`, `length`: as setsockopt(2).
///
/// Returns 0 or -1. Errors: as setsockopt(2).
///
/// Threads: any. Fork: as setsockopt(2); streams of the parent are ordinary sockets in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn asap_setsockopt(
    fd: c_int,
    level: c_int,
    option: c_int,
    value: *const c_void,
    length: libc::socklen_t,
) -> c_int {
    guard(|| match level {
        libc::IPPROTO_IP | libc::IPPROTO_IPV6 | libc::IPPROTO_TCP if socket::stream_peer(fd).is_some() => {
            Ok(0)
        }
        // SAFETY: the caller's promise is the same.
        _ => system("setsockopt", unsafe { libc::setsockopt(fd, level, option, value, length) }),
    })
}

/// What a call of the C library has returned.
fn system(call: &str, result: c_int) -> Result<c_int> {
    if result >= 0 {
        return Ok(result);
    }
    let e = io::Error::last_os_error();
    error(e.raw_os_error().unwrap_or(libc::EIO), format!("{call}: {e}"))
}
