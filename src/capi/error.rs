//! errno, the sentence behind it, and the guard that keeps panics on our side. No allocation is kept
//! per thread, so a thread that ends, or a library that is unloaded, leaves nothing behind.

use crate::socket::{Error, Result};
use std::cell::UnsafeCell;
use std::os::raw::{c_char, c_int, c_uint};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Longer sentences are cut.
const CAPACITY: usize = 1024;

thread_local! {
    static LAST: UnsafeCell<[u8; CAPACITY]> = const { UnsafeCell::new([0; CAPACITY]) };
}

/// What a failed call returns.
pub(super) trait Failed {
    /// The value.
    const FAILED: Self;
}

impl Failed for c_int {
    const FAILED: c_int = -1;
}

impl Failed for isize {
    const FAILED: isize = -1;
}

impl Failed for c_uint {
    const FAILED: c_uint = c_uint::MAX;
}

/// Runs a call; an error goes to errno and `asap_last_error`.
pub(super) fn guard<T: Failed>(call: impl FnOnce() -> Result<T>) -> T {
    guard_or(|_| T::FAILED, call)
}

/// As [`guard`], for calls that may only seem to succeed. What has failed then is told all the same, and by errno alone: one that has
/// succeeded leaves it as it was.
pub(super) fn guard_hidden(call: impl FnOnce() -> Result<Option<Error>>) -> c_int {
    // SAFETY: the calling thread's errno is always there.
    let before = unsafe { *libc::__errno_location() };
    guard(|| {
        match call()? {
            Some(hidden) => tell(&hidden),
            // SAFETY: as above.
            None => unsafe { *libc::__errno_location() = before },
        }
        Ok(0)
    })
}

/// As [`guard`], with a value for each error.
pub(super) fn guard_or<T>(failed: impl FnOnce(&Error) -> T, call: impl FnOnce() -> Result<T>) -> T {
    let error = match catch_unwind(AssertUnwindSafe(call)) {
        Ok(Ok(value)) => return value,
        Ok(Err(error)) => error,
        Err(panic) => {
            let text = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no message");
            let what = format!("a defect in libasap ({text}); please report it");
            // Dropping a payload may panic again.
            std::mem::forget(panic);
            Error { errno: libc::EIO, what }
        }
    };
    tell(&error);
    failed(&error)
}

/// Sets errno and `asap_last_error`.
fn tell(error: &Error) {
    set_last(&error.what);
    // SAFETY: the calling thread's errno is always there.
    unsafe { *libc::__errno_location() = error.errno };
}

/// Runs a call that has nothing to return.
pub(super) fn guard_void(call: impl FnOnce()) {
    guard_or(
        |_| (),
        || {
            call();
            Ok(())
        },
    );
}

fn set_last(what: &str) {
    let mut end = what.len().min(CAPACITY - 1);
    while !what.is_char_boundary(end) {
        end -= 1;
    }
    // A thread whose locals are already gone has nobody to read it.
    let _ = LAST.try_with(|last| {
        // SAFETY: only this thread reaches the buffer, and no reference to it outlives this closure; C holds a
        // pointer, which the documentation says to be good until the next failing call.
        let buffer = unsafe { &mut *last.get() };
        for (to, from) in buffer.iter_mut().zip(what.as_bytes()[..end].iter()) {
            // A NUL within would hide the rest.
            *to = if *from == 0 { b'?' } else { *from };
        }
        buffer[end] = 0;
    });
}

/// The sentence that belongs to the calling thread's last failed `rsp_*` or `asap_*` call: what failed,
/// what was tried, what to do.
///
/// Returns a NUL-terminated UTF-8 string, never NULL; empty if nothing has failed yet. It is the
/// library's: do not free it; it holds until the thread's next failing call.
///
/// Threads: each thread has its own. Fork: safe in the child. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn asap_last_error() -> *const c_char {
    LAST.try_with(|last| last.get().cast::<c_char>().cast_const()).unwrap_or(c"".as_ptr())
}
