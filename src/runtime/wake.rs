//! Waking a thread that waits for descriptors (eventfd).

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

/// A descriptor that becomes readable when woken. Any thread may wake it.
#[derive(Debug)]
pub struct Wake {
    event: File,
}

impl Wake {
    /// A new one, non-blocking and close-on-exec.
    pub fn new() -> io::Result<Wake> {
        // SAFETY: eventfd takes no pointers; its result is checked before use.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: `fd` was just opened and belongs to nobody else.
        Ok(Wake { event: unsafe { File::from_raw_fd(fd) } })
    }

    /// The descriptor to wait on.
    pub fn fd(&self) -> RawFd {
        self.event.as_raw_fd()
    }

    /// Makes it readable. Waking what is awake does nothing.
    pub fn wake(&self) {
        // Fails only when the counter is full, and then it is readable.
        let _ = (&self.event).write(&1u64.to_ne_bytes());
    }

    /// Makes it unreadable again.
    pub fn clear(&self) {
        // Fails only when nobody has woken it.
        let _ = (&self.event).read(&mut [0; 8]);
    }
}
