//! Sets of descriptors that are a descriptor themselves (epoll), and waiting for a few descriptors at once (poll).

use crate::runtime::poller::Interest;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// An epoll descriptor: readable while one of its members is ready, level-triggered.
#[derive(Debug)]
pub struct ReadySet {
    fd: OwnedFd,
}

impl ReadySet {
    /// An empty set, close-on-exec.
    pub fn new() -> io::Result<ReadySet> {
        // SAFETY: no pointers; a descriptor that is not negative is ours alone.
        let fd = checked(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: just made.
        Ok(ReadySet { fd: unsafe { OwnedFd::from_raw_fd(fd) } })
    }

    /// The set's own descriptor.
    pub fn fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }

    /// Adds a member, or changes what it is waited for. No interest at all still tells errors and hang-ups.
    pub fn set(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        let mut events = 0;
        if interest.read {
            events |= libc::EPOLLIN;
        }
        if interest.write {
            events |= libc::EPOLLOUT;
        }
        self.change(fd, token, events)
    }

    /// Adds a member that is told once each time it becomes readable, writable, or its peer ends.
    pub fn set_edges(&self, fd: RawFd, token: u64) -> io::Result<()> {
        self.change(fd, token, libc::EPOLLIN | libc::EPOLLOUT | libc::EPOLLRDHUP | libc::EPOLLET)
    }

    fn change(&self, fd: RawFd, token: u64, events: i32) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events as u32, u64: token };
        // SAFETY: `event` outlives the calls.
        let changed = checked(unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_MOD, fd, &raw mut event) });
        match changed {
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => {
                // SAFETY: as above.
                checked(unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) })?;
                Ok(())
            }
            other => other.map(|_| ()),
        }
    }

    /// Takes a member out; to be called before it is closed, for a forked child may hold it open.
    pub fn forget(&self, fd: RawFd) {
        // SAFETY: no pointers but the null that EPOLL_CTL_DEL ignores. Not being a member is no harm.
        unsafe { libc::epoll_ctl(self.fd(), libc::EPOLL_CTL_DEL, fd, std::ptr::null_mut()) };
    }

    /// The tokens of up to 64 members that are ready now; those not told this time come first the next.
    pub fn ready(&self, tokens: &mut Vec<u64>) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 64];
        // SAFETY: the kernel writes at most the 64 events there is room for.
        let n = unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), events.len() as i32, 0) };
        tokens.extend(events.iter().take(usize::try_from(n).unwrap_or(0)).map(|e| e.u64));
    }

    /// Puts a new, empty set under the same number. The old one stays what it was for whoever else holds it:
    /// that is how a forked child parts from its parent's.
    pub fn renew(&self) -> io::Result<()> {
        let new = ReadySet::new()?;
        // SAFETY: both descriptors are ours; the number stays owned by `self`.
        checked(unsafe { libc::dup3(new.fd(), self.fd(), libc::O_CLOEXEC) })?;
        Ok(())
    }

    /// Gives the number up without closing it: it was closed behind our back and may be somebody else's by now.
    pub fn abandon(self) {
        let _ = self.fd.into_raw_fd();
    }
}

/// Waits until one of `fds` is ready or the time is over; how many are. A signal ends it early with
/// `ErrorKind::Interrupted`. The time is never cut short by rounding.
pub fn wait(fds: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let spec = timeout.map(|t| libc::timespec {
        tv_sec: libc::time_t::try_from(t.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(t.subsec_nanos() as i32),
    });
    let spec = spec.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: `fds` and `spec` outlive the call; a null mask leaves signals alone.
    let n =
        checked(unsafe { libc::ppoll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, spec, std::ptr::null()) })?;
    Ok(n as usize)
}

fn checked(result: i32) -> io::Result<i32> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    fn readable(fd: RawFd) -> bool {
        let mut fds = [libc::pollfd { fd, events: libc::POLLIN, revents: 0 }];
        wait(&mut fds, Some(Duration::ZERO)).unwrap() == 1
    }

    const READ: Interest = Interest { read: true, write: false };

    #[test]
    fn a_set_is_readable_while_a_member_is() {
        let set = ReadySet::new().unwrap();
        let (mut a, b) = UnixStream::pair().unwrap();
        set.set(b.as_raw_fd(), 7, READ).unwrap();
        assert!(!readable(set.fd()));
        a.write_all(b"x").unwrap();
        assert!(readable(set.fd()));
        let mut tokens = Vec::new();
        set.ready(&mut tokens);
        assert_eq!(tokens, [7]);
        set.forget(b.as_raw_fd());
        assert!(!readable(set.fd()));
    }

    #[test]
    fn a_renewed_set_keeps_its_number_and_loses_its_members() {
        let set = ReadySet::new().unwrap();
        let (mut a, b) = UnixStream::pair().unwrap();
        set.set(b.as_raw_fd(), 7, READ).unwrap();
        a.write_all(b"x").unwrap();
        let number = set.fd();
        set.renew().unwrap();
        assert_eq!(set.fd(), number);
        assert!(!readable(number));
        set.set(b.as_raw_fd(), 8, READ).unwrap();
        assert!(readable(number));
    }
}
