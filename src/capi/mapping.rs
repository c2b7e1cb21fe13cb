//! Ordinary descriptors of the program's among those of the library.

use super::error::guard;
use crate::socket;
use std::os::raw::c_int;

/// Gives an ordinary descriptor a number beside those of sockets, for programs that read, write and wait
/// for both by the same functions: `rsp_read` and `rsp_write` are read(2) and write(2) of it, `rsp_getsockopt`
/// and `rsp_setsockopt` go to the kernel, `rsp_poll` and `rsp_select` know it (as they know every descriptor).
/// Anything else gives ENOTSOCK.
///
/// `fd`: an open descriptor, none of the library's. `toSD`: the number it is to have, which must be free; -1:
/// any.
///
/// Returns the number, above 2 unless asked for: a duplicate of `fd`, close-on-exec. `fd` itself is as before,
/// and remains to be closed by the program. -1 on failure.
/// Errors: EACCES (before `rsp_initialize`), EBADF (`fd` is not open), EINVAL (`fd` is one of the library's;
/// `toSD` below -1 or impossible), EMFILE (`toSD` is taken, or no number is free), ENOTSUP (in a child after
/// fork).
///
/// Threads: any. Fork: the child has its own copy. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_mapsocket(fd: c_int, toSD: c_int) -> c_int {
    guard(|| match toSD {
        -1 => socket::map(fd, None),
        number if number < 0 => super::error(libc::EINVAL, format!("{number} is no number for a descriptor")),
        number => socket::map(fd, Some(number)),
    })
}

/// Takes the number of a mapped descriptor back: closes the duplicate. `rsp_close` does the same.
///
/// `sd`: from `rsp_mapsocket`.
///
/// Returns 0 or -1. Errors: EBADF (not a mapped one; also for a socket of the library).
///
/// Threads: any; a read that waits goes on. Fork: closes this process's copy only. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_unmapsocket(sd: c_int) -> c_int {
    guard(|| socket::unmap(sd).map(|()| 0))
}
