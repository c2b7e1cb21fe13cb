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
mod plain;
mod policy;
mod pool;
mod registrar;
mod session;
mod sockets;
mod tags;

pub use context::*;
pub use data::*;
pub use error::asap_last_error;
pub use layout::*;
pub use mapping::*;
pub use options::*;
pub use plain::*;
pub use pool::*;
pub use registrar::*;
pub use session::*;
pub use sockets::*;
pub use tags::*;

use crate::name::{self, Name, Settings};
use crate::socket::{self, Error, Result, Semantics, Wait};
use crate::types::PoolHandle;
use std::os::raw::{c_int, c_uchar, c_uint};
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

/// The pool named at `handle`: by its handle, or by a name ([`crate::name`]), of which this call heeds what it says beside;
/// `sd` is the descriptor the call is made for, if there is one.
///
/// # Safety
/// As [`bytes`].
unsafe fn pool_name(handle: *const c_uchar, len: usize, sd: Option<c_int>) -> Result<Name> {
    if handle.is_null() {
        return error(libc::EFAULT, "the pool handle is NULL");
    }
    if len > name::MAX_LEN {
        return too_long(len);
    }
    // SAFETY: the caller's promise.
    let name = parse_name(unsafe { bytes(handle, len, "the pool handle")? })?;
    socket::heed(&name.settings, sd)?;
    Ok(name)
}

fn too_long<T>(len: usize) -> Result<T> {
    error(libc::ENAMETOOLONG, format!("the pool handle has {len} bytes, {MAX_HANDLE} are allowed"))
}

/// The pool named by these bytes.
fn parse_name(bytes: &[u8]) -> Result<Name> {
    if bytes.len() > name::MAX_LEN {
        return too_long(bytes.len());
    }
    let name = if Name::is_one(bytes) {
        Name::parse(bytes).or_else(|what| error(libc::EINVAL, what))?
    } else {
        match PoolHandle::new(bytes) {
            Some(handle) => Name { handle, settings: Settings::default() },
            None => return error(libc::EINVAL, "the pool handle is empty"),
        }
    };
    match name.handle.as_bytes().len() {
        len if len > MAX_HANDLE => too_long(len),
        _ => Ok(name),
    }
}

/// Flags without those that there are not: these are an error, but not to RSPLIB's programs.
fn known_flags(flags: c_uint, known: c_uint, what: &str) -> Result<c_uint> {
    let unknown = flags & !known;
    if unknown != 0 && Semantics::chosen().odd_arguments_are_errors {
        return error(libc::EINVAL, format!("unknown {what} flags 0x{unknown:x}"));
    }
    Ok(flags & known)
}

/// How long a call waits that takes no time-out: as the pool's name says, or as usual.
fn wait_for(name: &Name) -> Wait {
    name.settings.timeout.map_or(Wait::Default, Wait::For)
}

/// Milliseconds of a call: 0 and negative ones mean "do not wait", INT_MAX "as long as it takes".
fn wait(milliseconds: c_int) -> Wait {
    match milliseconds {
        c_int::MAX => Wait::Forever,
        ms if ms <= 0 => Wait::No,
        ms => Wait::For(Duration::from_millis(ms.unsigned_abs().into())),
    }
}
