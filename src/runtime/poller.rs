//! Waiting for descriptors: the seam between the loops here and what waits. poll(2) in the library (epoll
//! sets are shared with forked children), mio in the daemon.

use crate::runtime::fork::Private;
use std::collections::HashMap;
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

impl Interest {
    /// Nothing: not even errors are told.
    pub const NONE: Interest = Interest { read: false, write: false };
    /// Until it can be read.
    pub const READ: Interest = Interest { read: true, write: false };
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
    /// Forgets `fd`; to be called before it is closed. Forgetting what is not known does nothing.
    fn forget(&mut self, fd: RawFd);
    /// Waits until something is ready or the time is over; appends what is ready. EINTR is no error: it
    /// may return early with nothing.
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()>;
}

/// poll(2). Descriptors may be of any number: there is no FD_SETSIZE. What is waited for is closed in forked children.
#[derive(Debug, Default)]
pub struct PollPoller {
    entries: Vec<libc::pollfd>,
    tokens: Vec<usize>,
    places: HashMap<RawFd, (usize, Private)>,
}

impl Poller for PollPoller {
    fn set(&mut self, fd: RawFd, token: usize, interest: Interest) -> io::Result<()> {
        let read = if interest.read { libc::POLLIN } else { 0 };
        let write = if interest.write { libc::POLLOUT } else { 0 };
        // A negative number is passed over, so that a hang-up nobody waits for does not keep poll awake.
        let entry = libc::pollfd {
            fd: if interest == Interest::NONE { !fd } else { fd },
            events: read | write,
            revents: 0,
        };
        if let Some(&(place, _)) = self.places.get(&fd) {
            self.entries[place] = entry;
            self.tokens[place] = token;
        } else {
            self.places.insert(fd, (self.entries.len(), Private::new(fd)));
            self.entries.push(entry);
            self.tokens.push(token);
        }
        Ok(())
    }

    fn forget(&mut self, fd: RawFd) {
        let Some((place, _)) = self.places.remove(&fd) else { return };
        self.entries.swap_remove(place);
        self.tokens.swap_remove(place);
        if let Some(moved) = self.entries.get(place) {
            let fd = if moved.fd < 0 { !moved.fd } else { moved.fd };
            if let Some(moved) = self.places.get_mut(&fd) {
                moved.0 = place;
            }
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        let mut count = poll(&mut self.entries, timeout)?;
        for (entry, token) in self.entries.iter().zip(&self.tokens) {
            if count == 0 {
                break;
            }
            if entry.revents != 0 {
                count -= 1;
                let gone = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;
                ready.push(Ready {
                    token: *token,
                    read: entry.revents & (libc::POLLIN | gone) != 0,
                    write: entry.revents & (libc::POLLOUT | gone) != 0,
                });
            }
        }
        Ok(())
    }
}

/// poll(2) once; how many entries are ready, none when a signal came. The time is rounded up to
/// milliseconds, so that a deadline has passed when the wait is over.
pub fn poll(entries: &mut [libc::pollfd], timeout: Option<Duration>) -> io::Result<usize> {
    let millis = timeout
        .map_or(-1, |timeout| i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
    // SAFETY: the pointer and the length are those of one exclusively borrowed slice.
    let count = unsafe { libc::poll(entries.as_mut_ptr(), entries.len() as libc::nfds_t, millis) };
    match usize::try_from(count) {
        Ok(count) => Ok(count),
        Err(_) => match io::Error::last_os_error() {
            error if error.kind() == io::ErrorKind::Interrupted => {
                entries.iter_mut().for_each(|entry| entry.revents = 0);
                Ok(0)
            }
            error => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::wake::Wake;

    fn tokens(poller: &mut PollPoller) -> Vec<usize> {
        let mut ready = Vec::new();
        poller.wait(Some(Duration::ZERO), &mut ready).unwrap();
        ready.iter().map(|ready| ready.token).collect()
    }

    #[test]
    fn tells_what_is_ready_until_it_is_no_longer() {
        let (one, two) = (Wake::new().unwrap(), Wake::new().unwrap());
        let mut poller = PollPoller::default();
        poller.set(one.fd(), 1, Interest::READ).unwrap();
        poller.set(two.fd(), 2, Interest::READ).unwrap();
        assert!(tokens(&mut poller).is_empty());
        two.wake();
        two.wake();
        assert_eq!(tokens(&mut poller), [2]);
        assert_eq!(tokens(&mut poller), [2]);
        two.clear();
        assert!(tokens(&mut poller).is_empty());
    }

    #[test]
    fn forgets_and_replaces() {
        let wakes: Vec<Wake> = (0..4).map(|_| Wake::new().unwrap()).collect();
        let mut poller = PollPoller::default();
        for (token, wake) in wakes.iter().enumerate() {
            wake.wake();
            poller.set(wake.fd(), token, Interest::READ).unwrap();
        }
        poller.forget(wakes[0].fd());
        poller.forget(wakes[0].fd());
        poller.set(wakes[1].fd(), 1, Interest::NONE).unwrap();
        poller.set(wakes[2].fd(), 20, Interest { read: true, write: true }).unwrap();
        let mut seen = tokens(&mut poller);
        seen.sort_unstable();
        assert_eq!(seen, [3, 20]);
        poller.forget(wakes[1].fd());
        poller.set(wakes[0].fd(), 7, Interest::READ).unwrap();
        assert!(tokens(&mut poller).contains(&7));
    }
}
