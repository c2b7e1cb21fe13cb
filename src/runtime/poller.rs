//! Waiting for descriptors: the seam between the loops here and what waits. poll(2) in the library (epoll
//! sets are shared with forked children), mio in the daemon.

use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// What a descriptor is waited for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Interest {
    /// Until it can be read.
    pub read: bool,
    /// Until it can be written.
    pub write: bool,
}

/// A descriptor that is ready.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ready {
    /// As given to [`Poller::set`].
    pub token: usize,
    /// It can be read, or has an error or hang-up.
    pub read: bool,
    /// It can be written, or has an error or hang-up.
    pub write: bool,
}

/// Waits for descriptors, level-triggered (or so that its user cannot tell the difference).
pub trait Poller: Send {
    /// Waits for `fd` from now on; replaces the interest if it is known.
    fn set(&mut self, fd: RawFd, token: usize, interest: Interest) -> io::Result<()>;
    /// Forgets `fd`; to be called before it is closed.
    fn forget(&mut self, fd: RawFd);
    /// Waits until something is ready or the time is over; appends what is ready. EINTR is no error.
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()>;
}

/// poll(2).
#[derive(Debug, Default)]
pub struct PollPoller {}
