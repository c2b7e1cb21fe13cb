//! The C functions: check, one safe call, convert. What they mean is decided in [`crate::socket`]; what
//! they look like in C, byte for byte, is decided here (RFC 5352 6, RFC 5351 4, RFC 6458 for the style;
//! the `rsp_*` names and layouts are RSPLIB's).
//!
//! The doc comments are the C documentation: `cbindgen` copies them into `include/asap.h`, so they are
//! written for C programmers. Every entry point runs in `error::guard`: a panic becomes -1 and EIO,
//! never an unwinding into the host program.

// The contract of a C function is its C documentation, not a Rust `# Safety` section.
#![allow(clippy::missing_safety_doc, non_camel_case_types, non_snake_case)]
#![allow(rustdoc::broken_intra_doc_links, rustdoc::invalid_html_tags)]

mod address;
mod console;
mod context;
mod data;
mod error;
mod layout;
mod mapping;
mod options;
mod policy;
mod pool;
mod registrar;
mod session;
mod tags;

pub use context::*;
pub use data::*;
pub use error::asap_last_error;
pub use layout::*;
pub use mapping::*;
pub use options::*;
pub use pool::*;
pub use registrar::*;
pub use session::*;
pub use tags::*;

use crate::socket::{Error, Result, Wait};
use crate::types::PoolHandle;
use std::os::raw::{c_int, c_uchar};
use std::time::Duration;

/// The longest pool handle the functions take, in bytes.
const MAX_HANDLE: usize = 1024;

/// An error with this errno and sentence.
fn error<T>(errno: c_int, what: impl Into<String>) -> Result<T> {
    Err(Error { errno, what: what.into() })
}

/// The bytes at `data`; NULL only with length 0.
///
/// # Safety
/// `data` is NULL or readable for `len` bytes while the result lives.
unsafe fn bytes<'a>(data: *const c_uchar, len: usize, name: &str) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if data.is_null() {
        return error(libc::EFAULT, format!("{name} is NULL"));
    }
    if isize::try_from(len).is_err() {
        return error(libc::EINVAL, format!("{name} has the impossible length {len}"));
    }
    // SAFETY: not NULL, a length that an object can have, and readable by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts(data, len) })
}

/// The writable bytes at `data`; NULL only with length 0.
///
/// # Safety
/// `data` is NULL or points to `len` bytes that nobody else uses while the result lives.
unsafe fn bytes_mut<'a>(data: *mut c_uchar, len: usize, name: &str) -> Result<&'a mut [u8]> {
    if len == 0 {
        return Ok(&mut []);
    }
    if data.is_null() {
        return error(libc::EFAULT, format!("{name} is NULL"));
    }
    if isize::try_from(len).is_err() {
        return error(libc::EINVAL, format!("{name} has the impossible length {len}"));
    }
    // SAFETY: not NULL, a length that an object can have, and ours for the call by the caller's promise.
    Ok(unsafe { std::slice::from_raw_parts_mut(data, len) })
}

/// The pool handle at `handle`.
///
/// # Safety
/// As [`bytes`].
unsafe fn pool_handle(handle: *const c_uchar, len: usize) -> Result<PoolHandle> {
    if handle.is_null() {
        return error(libc::EFAULT, "the pool handle is NULL");
    }
    if len > MAX_HANDLE {
        return error(
            libc::ENAMETOOLONG,
            format!("the pool handle has {len} bytes, {MAX_HANDLE} are allowed"),
        );
    }
    // SAFETY: the caller's promise.
    match PoolHandle::new(unsafe { bytes(handle, len, "the pool handle")? }) {
        Some(handle) => Ok(handle),
        None => error(libc::EINVAL, "the pool handle is empty"),
    }
}

/// Milliseconds of a call: 0 and negative ones mean "do not wait", INT_MAX "as long as it takes".
fn wait(milliseconds: c_int) -> Wait {
    match milliseconds {
        c_int::MAX => Wait::Forever,
        ms if ms <= 0 => Wait::No,
        ms => Wait::For(Duration::from_millis(ms.unsigned_abs().into())),
    }
}
