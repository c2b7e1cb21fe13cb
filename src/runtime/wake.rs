//! Waking a thread that waits for descriptors (eventfd).

use std::io;
use std::os::fd::RawFd;

/// A descriptor that becomes readable when woken.
#[derive(Debug)]
pub struct Wake {}

#[allow(unused_variables)]
impl Wake {
    /// A new one, non-blocking and close-on-exec.
    pub fn new() -> io::Result<Wake> {
        todo!()
    }
    /// The descriptor to wait on.
    pub fn fd(&self) -> RawFd {
        todo!()
    }
    /// Makes it readable.
    pub fn wake(&self) {
        todo!()
    }
    /// Makes it unreadable again.
    pub fn clear(&self) {
        todo!()
    }
}
