//! Waiting for descriptors, their names, and their options.

use super::error::guard;
use super::layout::*;
use super::{bytes, bytes_mut, error};
use crate::socket::{self, Result, Semantics, Wait};
use crate::types::{PeId, PoolHandle};
use std::os::raw::{c_int, c_uchar, c_uint, c_void};
use std::ptr;
use std::time::Duration;

/// As poll(2), for descriptors of the library and ordinary ones alike. POLLIN: `rsp_recvmsg` or
/// `rsp_accept` has something to give. POLLOUT: `rsp_sendmsg` would not wait: all that was sent before is
/// written, or sending fails at once.
///
/// `fds`, `nfds`: as poll(2). `timeout`: milliseconds; 0: do not wait; negative: as long as it takes.
///
/// Returns how many entries have `revents`, 0 when the time is up, or -1. A descriptor that is not open
/// gives POLLNVAL in its `revents`.
/// Errors: EFAULT, EINVAL (nfds beyond what a process may have open), EINTR (a signal came), ENOMEM.
///
/// Threads: any. Fork: works in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_poll(fds: *mut libc::pollfd, nfds: c_uint, timeout: c_int) -> c_int {
    guard(|| {
        let fds = if nfds == 0 {
            &mut []
        } else if fds.is_null() {
            return error(libc::EFAULT, "fds is NULL");
        } else if nfds > c_int::MAX.unsigned_abs() {
            return error(libc::EINVAL, format!("{nfds} descriptors are too many"));
        } else {
            // SAFETY: as many entries as said, by the caller's promise.
            unsafe { std::slice::from_raw_parts_mut(fds, nfds as usize) }
        };
        let wait = match u64::try_from(timeout) {
            Err(_) => Wait::Forever,
            Ok(0) => Wait::No,
            Ok(ms) => Wait::For(Duration::from_millis(ms)),
        };
        socket::poll(fds, wait).map(|ready| c_int::try_from(ready).unwrap_or(c_int::MAX))
    })
}

/// As select(2), for descriptors of the library and ordinary ones alike, up to 1023; `rsp_poll` has no
/// such limit.
///
/// `nfds`: the highest descriptor plus one, 0 to 1024. `readfds`, `writefds`, `exceptfds`: what to look
/// at, and on return what is ready; may be NULL. `timeout`: not changed; NULL: as long as it takes.
///
/// Returns how many bits are set, 0 when the time is up, or -1: the sets are as they were.
/// Errors: EBADF (a descriptor that is not open), EINVAL (nfds, timeout), EINTR (a signal came), ENOMEM.
///
/// Threads: any. Fork: works in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_select(
    nfds: c_int,
    readfds: *mut libc::fd_set,
    writefds: *mut libc::fd_set,
    exceptfds: *mut libc::fd_set,
    timeout: *const libc::timeval,
) -> c_int {
    guard(|| {
        if !(0..=libc::FD_SETSIZE as c_int).contains(&nfds) {
            return error(libc::EINVAL, format!("nfds {nfds} is not within 0 to {}", libc::FD_SETSIZE));
        }
        // SAFETY: NULL or a timeval, by the caller's promise.
        let wait = match unsafe { timeout.as_ref() } {
            None => Wait::Forever,
            Some(time) => match (u64::try_from(time.tv_sec), u32::try_from(time.tv_usec)) {
                (Ok(0), Ok(0)) => Wait::No,
                (Ok(seconds), Ok(micros)) if micros < 1_000_000 => {
                    Wait::For(Duration::new(seconds, micros * 1000))
                }
                _ => return error(libc::EINVAL, "the time-out is negative or has a million microseconds"),
            },
        };
        let sets: [(*mut libc::fd_set, i16, i16); 3] = [
            (readfds, libc::POLLIN, libc::POLLIN | libc::POLLHUP | libc::POLLERR),
            (writefds, libc::POLLOUT, libc::POLLOUT | libc::POLLERR),
            (exceptfds, libc::POLLPRI, libc::POLLPRI),
        ];
        let mut fds = Vec::new();
        for fd in 0..nfds {
            let mut events = 0;
            for (set, asked, _) in sets {
                // SAFETY: not NULL, and a set by the caller's promise; fd is below FD_SETSIZE.
                if !set.is_null() && unsafe { libc::FD_ISSET(fd, set) } {
                    events |= asked;
                }
            }
            if events != 0 {
                fds.push(libc::pollfd { fd, events, revents: 0 });
            }
        }
        socket::poll(&mut fds, wait)?;
        if let Some(bad) = fds.iter().find(|entry| entry.revents & libc::POLLNVAL != 0) {
            return error(libc::EBADF, format!("descriptor {} is not open", bad.fd));
        }
        let mut count = 0;
        for entry in &fds {
            for (set, asked, ready) in sets {
                if set.is_null() || entry.events & asked == 0 {
                    continue;
                }
                if entry.revents & ready != 0 {
                    count += 1;
                } else {
                    // SAFETY: as above.
                    unsafe { libc::FD_CLR(entry.fd, set) };
                }
            }
        }
        Ok(count)
    })
}

/// Hands a name out.
///
/// # Safety
/// The pointers are as the C documentation demands.
unsafe fn name(
    (handle, id): (PoolHandle, Option<PeId>),
    pool_handle: *mut c_uchar,
    size: *mut usize,
    identifier: *mut u32,
) -> Result<c_int> {
    let bytes = handle.as_bytes();
    // SAFETY: each pointer NULL or good for what is read or written, by the caller's promise.
    unsafe {
        if !pool_handle.is_null() {
            if size.is_null() {
                return error(libc::EFAULT, "poolHandleSize is NULL");
            }
            if *size < bytes.len() {
                let what = format!("the handle has {} bytes, there is room for {}", bytes.len(), *size);
                *size = bytes.len();
                return error(libc::ENOBUFS, what);
            }
            ptr::copy_nonoverlapping(bytes.as_ptr(), pool_handle, bytes.len());
        }
        if !size.is_null() {
            *size = bytes.len();
        }
        if !identifier.is_null() {
            *identifier = id.map_or(0, |id| id.0);
        }
    }
    Ok(0)
}

/// The pool and identifier that a server is registered as.
///
/// `sd`: a registered socket. `poolHandle`: where the handle goes, not NUL-terminated; may be NULL.
/// `poolHandleSize`: room there, replaced by the handle's length; may be NULL if `poolHandle` is.
/// `identifier`: where the element's identifier goes; may be NULL.
///
/// Returns 0 or -1. Errors: EBADF, EFAULT, EINVAL (not registered), ENOBUFS (too little room;
/// `poolHandleSize` says how much it takes).
///
/// Threads: any. Fork: works in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_getsockname(
    sd: c_int,
    poolHandle: *mut c_uchar,
    poolHandleSize: *mut usize,
    identifier: *mut u32,
) -> c_int {
    guard(|| {
        let (handle, id) = socket::local_name(sd)?;
        // SAFETY: the caller's promise.
        unsafe { name((handle, Some(id)), poolHandle, poolHandleSize, identifier) }
    })
}

/// The pool and element that a user is connected to.
///
/// `sd`: a connected socket, or one from `rsp_accept`: then it is the pool and element that the user is
/// itself, if that is known. The others: as `rsp_getsockname`; the identifier is 0 while the session
/// has no element.
///
/// Returns 0 or -1. Errors: EBADF, EFAULT, ENOTCONN, ENOBUFS (too little room; `poolHandleSize` says
/// how much it takes).
///
/// Threads: any. Fork: works in the child. RFC 5352 6.6. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_getpeername(
    sd: c_int,
    poolHandle: *mut c_uchar,
    poolHandleSize: *mut usize,
    identifier: *mut u32,
) -> c_int {
    guard(|| {
        let named = socket::peer_name(sd)?;
        // SAFETY: the caller's promise.
        unsafe { name(named, poolHandle, poolHandleSize, identifier) }
    })
}

/// Milliseconds for C, rounded up so that a short time does not become none.
fn milliseconds(time: Duration) -> c_int {
    c_int::try_from(time.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX)
}

fn wait_milliseconds(wait: Wait) -> c_int {
    match wait {
        Wait::Default | Wait::No => 0,
        Wait::For(time) => milliseconds(time),
        Wait::Forever => -1,
    }
}

/// Reads an option of a socket.
///
/// `sd`: a socket (or a mapped descriptor: as getsockopt(2)). `level`: `SOL_RSERPOOL`. `option`:
/// `RSP_AUTO_FAILOVER` and so on. `value`, `length`:
/// where it goes, and the room there, replaced by its length: an int.
///
/// Returns 0 or -1. Errors: EBADF, EFAULT, EINVAL (too little room), ENOPROTOOPT (level or option
/// unknown).
///
/// Threads: any. Fork: works in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_getsockopt(
    sd: c_int,
    level: c_int,
    option: c_int,
    value: *mut c_void,
    length: *mut libc::socklen_t,
) -> c_int {
    guard(|| {
        if value.is_null() || length.is_null() {
            // A bad descriptor is told first.
            socket::socket_options(sd)?;
            return error(libc::EFAULT, "value or length is NULL");
        }
        // SAFETY: as much room as is said, by the caller's promise.
        let room = unsafe { bytes_mut(value.cast(), *length as usize, "value")? };
        if let Some(done) = socket::mapped_option(sd, level, option, room) {
            // SAFETY: not NULL, and writable by the caller's promise.
            unsafe { *length = libc::socklen_t::try_from(done?).unwrap_or(libc::socklen_t::MAX) };
            return Ok(0);
        }
        let options = socket::socket_options(sd)?;
        if room.len() < size_of::<c_int>() {
            return error(libc::EINVAL, "an option takes the room of an int");
        }
        let time = |time: Option<Duration>| time.map_or(0, milliseconds);
        let number = match (level, option) {
            (SOL_RSERPOOL, RSP_AUTO_FAILOVER) => options.session.automatic_failover.into(),
            (SOL_RSERPOOL, RSP_FAILOVER_DEADLINE) => time(options.session.failover_deadline),
            (SOL_RSERPOOL, RSP_CONNECT_TIMEOUT) => milliseconds(options.session.connect_timeout),
            (SOL_RSERPOOL, RSP_CALL_TIMEOUT) => time(options.call_timeout),
            (SOL_RSERPOOL, RSP_RECV_TIMEOUT) => wait_milliseconds(options.receive_wait),
            (SOL_RSERPOOL, RSP_SEND_TIMEOUT) => wait_milliseconds(options.send_wait),
            (SOL_RSERPOOL, RSP_UNASKED_BUSINESS_CARD) => options.session.unasked_business_card.into(),
            (SOL_RSERPOOL, RSP_IDLE_TIMEOUT) => milliseconds(options.idle_timeout),
            _ => return unknown_option(level, option),
        };
        // SAFETY: room for an int, and for its length, by the caller's promise.
        unsafe {
            value.cast::<c_int>().write_unaligned(number);
            *length = size_of::<c_int>() as libc::socklen_t;
        }
        Ok(0)
    })
}

fn unknown_option<T>(level: c_int, option: c_int) -> Result<T> {
    error(
        libc::ENOPROTOOPT,
        format!("level {level}, option {option} is no option of ours (level SOL_RSERPOOL, options RSP_...)"),
    )
}

fn out_of_range<T>(option: c_int, number: c_int) -> Result<T> {
    error(libc::EINVAL, format!("{number} is out of range for option {option}"))
}

/// Sets an option of a socket, from now on. Sessions accepted from it inherit it.
///
/// `sd`: a socket (or a mapped descriptor: as setsockopt(2)). `level`: `SOL_RSERPOOL`. `option`:
/// `RSP_AUTO_FAILOVER` and so on, with units and ranges. `value`, `length`: an int, and its size.
///
/// Returns 0 or -1. Errors: EBADF, EFAULT, EINVAL (out of range, length), ENOPROTOOPT (level or option
/// unknown).
///
/// Threads: any. Fork: works in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_setsockopt(
    sd: c_int,
    level: c_int,
    option: c_int,
    value: *const c_void,
    length: libc::socklen_t,
) -> c_int {
    guard(|| {
        if !value.is_null() {
            // SAFETY: as many bytes as is said, by the caller's promise.
            let given = unsafe { bytes(value.cast(), length as usize, "value")? };
            if let Some(done) = socket::set_mapped_option(sd, level, option, given) {
                return done.map(|()| 0);
            }
        }
        let mut options = socket::socket_options(sd)?;
        if value.is_null() {
            return error(libc::EFAULT, "value is NULL");
        }
        if length as usize != size_of::<c_int>() {
            return error(libc::EINVAL, "an option is an int");
        }
        // SAFETY: an int, by the caller's promise.
        let number = unsafe { value.cast::<c_int>().read_unaligned() };
        let flag = || match number {
            0 => Ok(false),
            1 => Ok(true),
            _ => out_of_range(option, number),
        };
        let time = || match u64::try_from(number) {
            Ok(0) => Ok(None),
            Ok(ms) => Ok(Some(Duration::from_millis(ms))),
            Err(_) => out_of_range(option, number),
        };
        let waiting = || match u64::try_from(number) {
            Ok(0) => Ok(Wait::No),
            Ok(ms) => Ok(Wait::For(Duration::from_millis(ms))),
            Err(_) if number == -1 => Ok(Wait::Forever),
            Err(_) => out_of_range(option, number),
        };
        match (level, option) {
            (SOL_RSERPOOL, RSP_AUTO_FAILOVER) => options.session.automatic_failover = flag()?,
            (SOL_RSERPOOL, RSP_FAILOVER_DEADLINE) => options.session.failover_deadline = time()?,
            (SOL_RSERPOOL, RSP_CONNECT_TIMEOUT) => match time()? {
                Some(time) => options.session.connect_timeout = time,
                None => return out_of_range(option, number),
            },
            (SOL_RSERPOOL, RSP_CALL_TIMEOUT) => options.call_timeout = time()?,
            (SOL_RSERPOOL, RSP_RECV_TIMEOUT) => options.receive_wait = waiting()?,
            (SOL_RSERPOOL, RSP_SEND_TIMEOUT) => options.send_wait = waiting()?,
            (SOL_RSERPOOL, RSP_UNASKED_BUSINESS_CARD) => options.session.unasked_business_card = flag()?,
            (SOL_RSERPOOL, RSP_IDLE_TIMEOUT) => match time()? {
                Some(time) => options.idle_timeout = time,
                None => return out_of_range(option, number),
            },
            _ => return unknown_option(level, option),
        }
        socket::set_socket_options(sd, &options)?;
        Ok(0)
    })
}

/// Says how the SCTP associations that a descriptor opens from now on try their paths: those of
/// `rsp_connect` and failovers; for a server those it accepts, if it is called before `rsp_bind`,
/// `rsp_listen` and `rsp_register`. Over other transports it has no effect.
///
/// `sd`: a socket. `params`: what is to change; a field that is 0 stays as it is. Filled in with what then
/// is the case.
///
/// Returns 0, or -1: nothing has changed. Errors: EBADF, EFAULT, EINVAL (sp_rto_initial is not from sp_rto_min
/// to sp_rto_max; over 65535 failures).
///
/// Threads: any. Fork: works in the child. RFC 9260 16. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_update_session_parameters(
    sd: c_int,
    params: *mut rserpool_session_parameters,
) -> c_int {
    guard(|| {
        let mut options = socket::socket_options(sd)?;
        if params.is_null() {
            return error(libc::EFAULT, "params is NULL");
        }
        // SAFETY: not NULL, and readable by the caller's promise.
        let asked = unsafe { params.read() };
        let path = &mut options.path;
        for (time, ms) in [
            (&mut path.rto_initial, asked.sp_rto_initial),
            (&mut path.rto_min, asked.sp_rto_min),
            (&mut path.rto_max, asked.sp_rto_max),
            (&mut path.heartbeat, asked.sp_hbinterval),
        ] {
            if ms > 0 {
                *time = Duration::from_millis(ms.into());
            }
        }
        for (count, number) in [
            (&mut path.association_max_retrans, asked.sp_assoc_max_rxt),
            (&mut path.path_max_retrans, asked.sp_path_max_rxt),
        ] {
            match u16::try_from(number) {
                Ok(0) => {}
                Ok(number) => *count = number,
                Err(_) => return error(libc::EINVAL, format!("{number} failures; 65535 are possible")),
            }
        }
        if !Semantics::chosen().odd_arguments_are_errors {
            path.rto_min = path.rto_min.min(path.rto_initial);
            path.rto_max = path.rto_max.max(path.rto_initial);
        }
        if path.rto_initial < path.rto_min || path.rto_initial > path.rto_max {
            return error(
                libc::EINVAL,
                format!(
                    "the initial time-out, {} ms, is not within {} and {} ms",
                    milliseconds(path.rto_initial),
                    milliseconds(path.rto_min),
                    milliseconds(path.rto_max)
                ),
            );
        }
        let ms = |time: Duration| u32::try_from(time.as_millis()).unwrap_or(u32::MAX);
        let now = rserpool_session_parameters {
            sp_rto_initial: ms(path.rto_initial),
            sp_rto_min: ms(path.rto_min),
            sp_rto_max: ms(path.rto_max),
            sp_assoc_max_rxt: path.association_max_retrans.into(),
            sp_path_max_rxt: path.path_max_retrans.into(),
            sp_hbinterval: ms(path.heartbeat),
        };
        socket::set_socket_options(sd, &options)?;
        // SAFETY: as above, and writable.
        unsafe { params.write(now) };
        Ok(0)
    })
}
