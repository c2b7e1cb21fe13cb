//! The world the machines live in: sockets, clock, entropy, threads. The one place with system calls.
//! Cannot decode a message.

pub mod admin;
pub mod driver;
pub mod duplicate;
pub mod environment;
pub mod fork;
mod framing;
pub mod interfaces;
pub mod link;
pub mod listener;
pub mod multicast;
pub mod names;
mod outbox;
pub mod pair;
pub mod poller;
pub mod readiness;
mod reports;
mod sctp;
mod tcp;
pub mod udp;
pub mod wake;
mod world;

use crate::types::Time;
use std::mem::MaybeUninit;
use std::os::fd::RawFd;
use std::time::Instant;

/// A monotonic clock; every reading of one process comes from the same start.
pub fn now() -> Time {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    Time::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Good random bits for identifiers and seeds, from the system.
pub fn entropy() -> std::io::Result<u64> {
    getrandom::u64().map_err(std::io::Error::from)
}

/// Which file a descriptor is, whatever number it has: one that was closed may be another's by now.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct FileId {
    device: libc::dev_t,
    inode: libc::ino_t,
}

impl FileId {
    /// That of a descriptor; none if it is not open.
    pub fn of(fd: RawFd) -> Option<FileId> {
        let mut stat = MaybeUninit::<libc::stat>::uninit();
        // SAFETY: `stat` has room for what fstat writes.
        if unsafe { libc::fstat(fd, stat.as_mut_ptr()) } != 0 {
            return None;
        }
        // SAFETY: fstat succeeded and has filled it.
        let stat = unsafe { stat.assume_init() };
        Some(FileId { device: stat.st_dev, inode: stat.st_ino })
    }
}

/// Has a function called when the process ends by exit(3) or by returning from main. The first call counts.
pub fn at_exit(run: fn()) {
    static RUN: std::sync::OnceLock<fn()> = std::sync::OnceLock::new();
    extern "C" fn call() {
        if let Some(run) = RUN.get() {
            // Nothing may unwind into exit.
            let _ = std::panic::catch_unwind(*run);
        }
    }
    if RUN.set(run).is_ok() {
        // SAFETY: a function without arguments that lives as long as the code does. Without memory it is not called.
        unsafe { libc::atexit(call) };
    }
}
