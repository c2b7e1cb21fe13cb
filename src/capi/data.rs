//! Messages, cookies and notifications, out and in.

use super::error::{guard, guard_void};
use super::layout::*;
use super::{bytes, bytes_mut, error, known_flags, pool_name, wait};
use crate::session::SendOptions;
use crate::socket::{self, Incoming, Notification, Outgoing, Result, Wait};
use crate::types::PeId;
use std::ffi::CString;
use std::os::raw::{c_char, c_int, c_uchar, c_uint, c_void};

/// PPID of ASAP, as the rinfo of a cookie echo carries it.
const ASAP_PPID: u32 = 11;

/// The parts of a message that all sending functions share.
fn outgoing(session: u32, ppid: u32, stream: u16, time_to_live: u32) -> Outgoing {
    Outgoing { session, ppid: u32::from_be(ppid), stream, time_to_live, ..Outgoing::default() }
}

/// Sends a message on a session.
///
/// `sd`: a socket. `data`, `dataLength`: the message; up to 16 MiB. Over SCTP, to a peer that is not of this
/// library, an empty message (RFC 9260 3.3.1) and one longer than the system's send buffer come back, as undelivered. `msgFlags`: 0, or MSG_DONTWAIT and
/// MSG_NOSIGNAL (which is always on). `sessionID`: which session of the descriptor; 0: the one it is
/// connected by. `sctpPPID`: payload protocol identifier in network byte order. `sctpStreamID`: stream.
/// `sctpTimeToLive`: milliseconds after which it need not be sent any more and, if it was not, comes back
/// as undelivered; 0: no limit. `sctpFlags`:
/// `RSP_UNORDERED`, `RSP_ABORT`, `RSP_EOF` OR-ed; the last two may come without data and end the
/// session. `timeout`: milliseconds to wait for room; 0 or negative: not at all; INT_MAX: as long as it
/// takes.
///
/// Returns `dataLength`: written, or, without waiting, taken. It may be lost with its element all the
/// same: only an answer proves that it was dealt with. Otherwise -1, and nothing was taken.
/// Errors: EBADF, EFAULT, EINVAL (flags), EAGAIN (no room in time; the descriptor becomes readable when
/// there is), EINTR, EMSGSIZE, ENOTCONN (no such session), EPIPE (the element has failed: call
/// `rsp_forcefailover`; or the session has ended), ECOMM (SOCK_STREAM: earlier messages did not get
/// there; told once).
///
/// Threads: any. Fork: works in the child. RFC 5352 6.5. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_sendmsg(
    sd: c_int,
    data: *const c_void,
    dataLength: usize,
    msgFlags: c_uint,
    sessionID: rserpool_session_t,
    sctpPPID: u32,
    sctpStreamID: u16,
    sctpTimeToLive: u32,
    sctpFlags: u16,
    timeout: c_int,
) -> isize {
    guard(|| {
        let mut how = outgoing(sessionID.cast_unsigned(), sctpPPID, sctpStreamID, sctpTimeToLive);
        known_flags(sctpFlags.into(), (RSP_UNORDERED | RSP_ABORT | RSP_EOF).into(), "message")?;
        how.eof = sctpFlags & RSP_EOF != 0;
        how.abort = sctpFlags & RSP_ABORT != 0;
        if sctpFlags & RSP_UNORDERED != 0 {
            how.options = SendOptions::UNORDERED;
        }
        let wait = send_wait(msgFlags, wait(timeout))?;
        // SAFETY: the caller's promise.
        let data = unsafe { bytes(data.cast(), dataLength, "the message")? };
        sent(socket::send(sd, data, &how, wait)?)
    })
}

/// Lets the message's flags have their say.
fn send_wait(flags: c_uint, otherwise: Wait) -> Result<Wait> {
    let (dont_wait, no_signal) = (libc::MSG_DONTWAIT.unsigned_abs(), libc::MSG_NOSIGNAL.unsigned_abs());
    let flags = known_flags(flags, dont_wait | no_signal, "sending")?;
    Ok(if flags & dont_wait != 0 { Wait::No } else { otherwise })
}

fn sent(bytes: usize) -> Result<isize> {
    Ok(isize::try_from(bytes).unwrap_or(isize::MAX))
}

/// Sends a message on the session the descriptor is connected by. As `rsp_sendmsg` with all else 0, but
/// it waits as RSP_SEND_TIMEOUT says. To a descriptor of `rsp_mapsocket` as write(2).
///
/// `sd`: a connected socket, or a mapped descriptor. `data`, `dataLength`: the message. `flags`: 0,
/// MSG_DONTWAIT, MSG_NOSIGNAL.
///
/// Returns `dataLength`, or -1. Errors: as `rsp_sendmsg`, or as write(2).
///
/// Threads: any. Fork: works in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_send(sd: c_int, data: *const c_void, dataLength: usize, flags: c_int) -> isize {
    guard(|| {
        // SAFETY: the caller's promise.
        let data = unsafe { bytes(data.cast(), dataLength, "the message")? };
        let wait = send_wait(flags.cast_unsigned(), Wait::Default)?;
        sent(socket::write(sd, data, wait)?)
    })
}

/// As `rsp_send` without flags.
///
/// `fd`: a connected socket, or a mapped descriptor. `data`, `dataLength`: the message.
///
/// Returns `dataLength` (mapped: how many bytes were written), or -1. Errors: as `rsp_sendmsg`, or as write(2).
///
/// Threads: any. Fork: works in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_write(fd: c_int, data: *const c_char, dataLength: usize) -> isize {
    guard(|| {
        // SAFETY: the caller's promise.
        let data = unsafe { bytes(data.cast(), dataLength, "the message")? };
        sent(socket::write(fd, data, Wait::Default)?)
    })
}

/// Sends a message to a pool or to one of its elements, without a connection of the program's own (RFC
/// 5352 6.5.1, 6.5.3). The library keeps a session with each element so used; answers come by
/// `rsp_recvmsg`, with the element in `rinfo_pe_id`.
///
/// `sd`: a SOCK_SEQPACKET socket that is neither connected nor a server's. `poolHandle`,
/// `poolHandleSize`: the pool. `peID`: the element; 0: whichever its policy selects. `data`,
/// `dataLength`: the message. `options`: `ASAP_...` OR-ed (RFC 5352 6.5.5). `sctpPPID` to
/// `sctpTimeToLive`: as `rsp_sendmsg`. `timeout`: milliseconds to wait, for the look-up, too; 0 or
/// negative: not at all; INT_MAX: as long as it takes.
///
/// Returns `dataLength`, or -1: nothing was taken. What cannot be delivered (no such pool or element,
/// no registrar, the element failed and the options forbid another) comes back from `rsp_recvmsg` with
/// `MSG_RSERPOOL_UNDELIVERED`.
/// Errors: EBADF, EFAULT, EINVAL (empty handle; options unknown or in contradiction), ENAMETOOLONG,
/// EISCONN, EOPNOTSUPP (SOCK_STREAM, a server's socket), EAGAIN, EINTR, EMSGSIZE, ENOTSUP (in a child
/// after fork).
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 6.5. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_sendto_pool(
    sd: c_int,
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    peID: u32,
    data: *const c_void,
    dataLength: usize,
    options: u32,
    sctpPPID: u32,
    sctpStreamID: u16,
    sctpTimeToLive: u32,
    timeout: c_int,
) -> isize {
    guard(|| {
        const KNOWN: u32 = ASAP_SEND_FAILOVER
            | ASAP_SEND_NO_FAILOVER
            | ASAP_SEND_TO_LAST
            | ASAP_SEND_TO_ALL
            | ASAP_SEND_TO_SELF
            | ASAP_SCTP_UNORDER;
        if options & !KNOWN != 0 {
            return error(libc::EINVAL, format!("unknown delivery options 0x{:x}", options & !KNOWN));
        }
        // SAFETY: the caller's promise.
        let (handle, data) = unsafe {
            (
                pool_name(poolHandle, poolHandleSize, Some(sd))?.handle,
                bytes(data.cast(), dataLength, "the message")?,
            )
        };
        let mut how = outgoing(0, sctpPPID, sctpStreamID, sctpTimeToLive);
        how.options = SendOptions(options);
        how.to = Some((handle, (peID != 0).then_some(PeId(peID))));
        sent(socket::send(sd, data, &how, wait(timeout))?)
    })
}

/// Gives the session's user a state cookie (RFC 5352 3.8): when the user's next element is another one,
/// that gets it before anything else. Send it before the answer it belongs to, and a server that is
/// killed loses nothing: see c-examples/stateful_server.c.
///
/// `sd`: a server's descriptor. `cookie`, `cookieSize`: 1 to 65000 bytes. `sessionID`: which session of
/// the descriptor; 0: its only one. `timeout`: milliseconds to wait for room; 0 or negative: not at
/// all; INT_MAX: as long as it takes.
///
/// Returns `cookieSize`, or -1.
/// Errors: EBADF, EFAULT, EINVAL (empty; a user's session), ENOTCONN (no such session), EMSGSIZE,
/// EAGAIN, EINTR, EPIPE (the session has ended), EOPNOTSUPP (a plain client without control channel).
///
/// Threads: any. Fork: works in the child. RFC 5352 2.2.12, 3.8. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_send_cookie(
    sd: c_int,
    cookie: *const c_uchar,
    cookieSize: usize,
    sessionID: rserpool_session_t,
    timeout: c_int,
) -> isize {
    guard(|| {
        // SAFETY: the caller's promise.
        let cookie = unsafe { bytes(cookie, cookieSize, "the cookie")? };
        if cookie.is_empty() {
            return error(libc::EINVAL, "the cookie is empty");
        }
        sent(socket::send_cookie(sd, cookie, sessionID.cast_unsigned(), wait(timeout))?)
    })
}

/// A notification as C has it.
fn notification(what: Notification) -> [u8; size_of::<rserpool_notification>()] {
    let length = size_of::<rserpool_notification>() as u32;
    let change = |session, state| (u32::from(RSERPOOL_SESSION_CHANGE), state, session, false);
    let (kind, state, session, has_cookie) = match what {
        Notification::SessionAdd { session } => change(session, RSERPOOL_SESSION_ADD),
        Notification::SessionRemove { session } => change(session, RSERPOOL_SESSION_REMOVE),
        Notification::FailoverNecessary { session, has_cookie } => {
            (u32::from(RSERPOOL_FAILOVER), RSERPOOL_FAILOVER_NECESSARY, session, has_cookie)
        }
        Notification::FailoverComplete { session, has_cookie } => {
            (u32::from(RSERPOOL_FAILOVER), RSERPOOL_FAILOVER_COMPLETE, session, has_cookie)
        }
        // Its session stands where the others have their state.
        Notification::Shutdown { session } => (u32::from(RSERPOOL_SHUTDOWN_EVENT), session, 0, false),
    };
    let mut bytes = [0; size_of::<rserpool_notification>()];
    bytes[..2].copy_from_slice(&(kind as u16).to_ne_bytes());
    bytes[4..8].copy_from_slice(&length.to_ne_bytes());
    bytes[8..12].copy_from_slice(&state.to_ne_bytes());
    bytes[12..16].copy_from_slice(&session.to_ne_bytes());
    bytes[16] = has_cookie.into();
    bytes
}

/// Writes a notification, as much of it as fits; how much that is.
fn put(what: Notification, buffer: &mut [u8]) -> usize {
    let all = notification(what);
    let bytes = all.len().min(buffer.len());
    buffer[..bytes].copy_from_slice(&all[..bytes]);
    bytes
}

/// Writes a notification in words: "RSERPOOL_FAILOVER for session 1, state=RSERPOOL_FAILOVER_NECESSARY,
/// cookie=yes". No end of line follows.
///
/// `notification`: as `rsp_recvmsg` gives it. `fd`: where to; the program's own stream. With NULL for either
/// nothing is done.
///
/// Threads: any, as fputs(3). Fork: safe in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_print_notification(
    notification: *const rserpool_notification,
    fd: *mut libc::FILE,
) {
    guard_void(|| {
        if notification.is_null() || fd.is_null() {
            return;
        }
        // SAFETY: readable, by the caller's promise; in a buffer of bytes it may stand anywhere.
        let words =
            in_words(unsafe { notification.cast::<[u8; size_of::<rserpool_notification>()]>().read() });
        if let Ok(words) = CString::new(words) {
            // SAFETY: a C string that lives during the call, and an open stream, by the caller's promise.
            unsafe { libc::fputs(words.as_ptr(), fd) };
        }
    });
}

/// The words for a notification.
fn in_words(bytes: [u8; size_of::<rserpool_notification>()]) -> String {
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let (kind, state, session) = (u16::from_ne_bytes([bytes[0], bytes[1]]), word(8), word(12));
    let named = |names: [(u32, &str); 2]| match names.iter().find(|(number, _)| *number == state) {
        Some((_, name)) => (*name).to_owned(),
        None => format!("unknown ({state})"),
    };
    match kind {
        RSERPOOL_FAILOVER => {
            let state = named([
                (RSERPOOL_FAILOVER_NECESSARY, "RSERPOOL_FAILOVER_NECESSARY"),
                (RSERPOOL_FAILOVER_COMPLETE, "RSERPOOL_FAILOVER_COMPLETE"),
            ]);
            let cookie = if bytes[16] != 0 { "yes" } else { "no" };
            format!("RSERPOOL_FAILOVER for session {session}, state={state}, cookie={cookie}")
        }
        RSERPOOL_SESSION_CHANGE => {
            let state = named([
                (RSERPOOL_SESSION_ADD, "RSERPOOL_SESSION_ADD"),
                (RSERPOOL_SESSION_REMOVE, "RSERPOOL_SESSION_REMOVE"),
            ]);
            format!("RSERPOOL_SESSION_CHANGE for session {session}, state={state}")
        }
        // Its session stands where the others have their state.
        RSERPOOL_SHUTDOWN_EVENT => format!("RSERPOOL_SHUTDOWN_EVENT for session {state}"),
        other => format!("unknown notification ({other})"),
    }
}

/// What `rsp_recvmsg` and `rsp_recvfullmsg` do.
///
/// # Safety
/// The pointers are as the C documentation demands.
unsafe fn receive(
    sd: c_int,
    buffer: *mut c_void,
    size: usize,
    rinfo: *mut rsp_sndrcvinfo,
    msg_flags: *mut c_int,
    full: bool,
    timeout: c_int,
) -> Result<isize> {
    if msg_flags.is_null() {
        return error(libc::EFAULT, "msg_flags is NULL");
    }
    // SAFETY: the caller's promise.
    let buffer = unsafe { bytes_mut(buffer.cast(), size, "the buffer")? };
    let mut info = rsp_sndrcvinfo::default();
    let (bytes, flags) = match socket::receive(sd, buffer, full, wait(timeout))? {
        Incoming::Data { bytes, ppid, stream, session, from, end_of_record } => {
            info.rinfo_session = session.cast_signed();
            info.rinfo_ppid = ppid.to_be();
            info.rinfo_pe_id = from.map_or(0, |id| id.0);
            info.rinfo_stream = stream;
            (bytes, if end_of_record { libc::MSG_EOR } else { 0 })
        }
        Incoming::CookieEcho { bytes, session } => {
            info.rinfo_session = session.cast_signed();
            info.rinfo_ppid = ASAP_PPID;
            (bytes, MSG_RSERPOOL_COOKIE_ECHO | libc::MSG_EOR)
        }
        Incoming::Undelivered { bytes, ppid, stream, session, to } => {
            info.rinfo_session = session.cast_signed();
            info.rinfo_ppid = ppid.to_be();
            info.rinfo_pe_id = to.map_or(0, |id| id.0);
            info.rinfo_stream = stream;
            (bytes, MSG_RSERPOOL_UNDELIVERED | libc::MSG_EOR)
        }
        Incoming::Notification(what) => {
            let bytes = put(what, buffer);
            let end = if bytes == size_of::<rserpool_notification>() { libc::MSG_EOR } else { 0 };
            (bytes, MSG_RSERPOOL_NOTIFICATION | end)
        }
        Incoming::End => (0, 0),
    };
    // SAFETY: not NULL, and writable by the caller's promise; rinfo may be NULL.
    unsafe {
        *msg_flags = flags;
        if !rinfo.is_null() {
            *rinfo = info;
        }
    }
    sent(bytes)
}

/// Receives what comes next on any session of a descriptor: data, a notification, or a cookie that a
/// user brings.
///
/// `sd`: a socket. `buffer`, `bufferLength`: where to; at least 20 bytes, or notifications are cut.
/// `rinfo`: where it came from; may be NULL. `msg_flags`: written: MSG_EOR when a message ends here;
/// `MSG_RSERPOOL_NOTIFICATION`, `MSG_RSERPOOL_COOKIE_ECHO` or `MSG_RSERPOOL_UNDELIVERED` when it is not
/// data. `timeout`: milliseconds to wait; 0 or negative: not at all; INT_MAX: as long as it takes.
///
/// Returns the number of bytes; a message longer than the buffer comes in pieces, the last with
/// MSG_EOR. 0 without MSG_EOR: the session has ended. -1 on failure.
/// Errors: EBADF, EFAULT, EINVAL (length), EAGAIN (nothing came), EINTR, EMSGSIZE (a cookie, or a
/// message that came back, is longer than the buffer; it is still there), ENOTCONN, ECONNRESET (the
/// session is lost; on SOCK_STREAM the element has failed: call `rsp_forcefailover`), ECOMM
/// (SOCK_STREAM: messages sent earlier did not get there; told once), and what else became of the
/// connection.
///
/// A server sees in `rinfo_pe_id` which element its user is itself, if any: a program that has
/// registered a socket of its own is named by it, by the one registered first if there are several. That
/// is what the user says of itself, checked only against its address; over UDP it is found by address and
/// port, in the pools known, and not before the first message.
///
/// When the element fails and RSP_AUTO_FAILOVER is off, each call gives `RSERPOOL_FAILOVER_NECESSARY`
/// until `rsp_forcefailover` is called. With it on the same notification comes once, and
/// `RSERPOOL_FAILOVER_COMPLETE` follows. Then send again what had no answer.
///
/// Threads: any; each message goes to one of them. Fork: works in the child. RFC 5352 6.6. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_recvmsg(
    sd: c_int,
    buffer: *mut c_void,
    bufferLength: usize,
    rinfo: *mut rsp_sndrcvinfo,
    msg_flags: *mut c_int,
    timeout: c_int,
) -> isize {
    // SAFETY: the caller's promise.
    guard(|| unsafe { receive(sd, buffer, bufferLength, rinfo, msg_flags, false, timeout) })
}

/// As `rsp_recvmsg`, but it goes on until the message is complete or the buffer is full.
///
/// Parameters, returns and errors: as `rsp_recvmsg`. When the time is up before the message is
/// complete, what is there is returned, without MSG_EOR.
///
/// Threads: any; each message goes to one of them. Fork: works in the child. RFC 5352 6.6. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_recvfullmsg(
    sd: c_int,
    buffer: *mut c_void,
    bufferLength: usize,
    rinfo: *mut rsp_sndrcvinfo,
    msg_flags: *mut c_int,
    timeout: c_int,
) -> isize {
    // SAFETY: the caller's promise.
    guard(|| unsafe { receive(sd, buffer, bufferLength, rinfo, msg_flags, true, timeout) })
}

/// What a program that reads is told.
fn told(got: Incoming, buffer: &mut [u8]) -> Result<isize> {
    match got {
        Incoming::Data { bytes, .. }
        | Incoming::CookieEcho { bytes, .. }
        | Incoming::Undelivered { bytes, .. } => sent(bytes),
        Incoming::Notification(what) => sent(put(what, buffer)),
        Incoming::End => Ok(0),
    }
}

/// Receives data. Notifications are passed over, and so are cookies: a server that lives on cookies
/// uses `rsp_recvmsg`. Waits as RSP_RECV_TIMEOUT says. From a descriptor of `rsp_mapsocket` as read(2).
///
/// `sd`: a socket, or a mapped descriptor. `buffer`, `bufferLength`: where to. `flags`: 0 or
/// MSG_DONTWAIT.
///
/// Returns the number of bytes, 0 at the end of the session, or -1.
/// Errors: EBADF, EFAULT, EINVAL (flags), EAGAIN (nothing came), EINTR, ENOTCONN, EPIPE, ECONNRESET
/// (the element has failed: call `rsp_forcefailover`), ECOMM (SOCK_STREAM: messages sent earlier did
/// not get there; told once), or as read(2).
///
/// Threads: any. Fork: works in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_recv(
    sd: c_int,
    buffer: *mut c_void,
    bufferLength: usize,
    flags: c_int,
) -> isize {
    guard(|| {
        let flags = known_flags(flags.cast_unsigned(), libc::MSG_DONTWAIT.unsigned_abs(), "receiving")?;
        // SAFETY: the caller's promise.
        let buffer = unsafe { bytes_mut(buffer.cast(), bufferLength, "the buffer")? };
        let wait = if flags != 0 { Wait::No } else { Wait::Default };
        told(socket::read(sd, buffer, wait)?, buffer)
    })
}

/// As `rsp_recv` without flags.
///
/// `fd`: a socket, or a mapped descriptor. `buffer`, `bufferLength`: where to.
///
/// Returns the number of bytes, 0 at the end of the session, or -1. Errors: as `rsp_recv`, or as read(2).
///
/// Threads: any. Fork: works in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_read(fd: c_int, buffer: *mut c_void, bufferLength: usize) -> isize {
    guard(|| {
        // SAFETY: the caller's promise.
        let buffer = unsafe { bytes_mut(buffer.cast(), bufferLength, "the buffer")? };
        told(socket::read(fd, buffer, Wait::Default)?, buffer)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notifications_have_the_documented_bytes() {
        let complete = notification(Notification::FailoverComplete { session: 1, has_cookie: true });
        assert_eq!(complete, [2, 0, 0, 0, 20, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0]);
        let shutdown = notification(Notification::Shutdown { session: 7 });
        assert_eq!(shutdown, [3, 0, 0, 0, 20, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let add = notification(Notification::SessionAdd { session: 3 });
        assert_eq!(add, [1, 0, 0, 0, 20, 0, 0, 0, 1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn notifications_are_told_in_words() {
        let words = |what| in_words(notification(what));
        assert_eq!(
            words(Notification::FailoverNecessary { session: 1, has_cookie: true }),
            "RSERPOOL_FAILOVER for session 1, state=RSERPOOL_FAILOVER_NECESSARY, cookie=yes"
        );
        assert_eq!(
            words(Notification::SessionRemove { session: 4 }),
            "RSERPOOL_SESSION_CHANGE for session 4, state=RSERPOOL_SESSION_REMOVE"
        );
        assert_eq!(words(Notification::Shutdown { session: 9 }), "RSERPOOL_SHUTDOWN_EVENT for session 9");
        assert_eq!(in_words([0xff; 20]), "unknown notification (65535)");
    }
}
