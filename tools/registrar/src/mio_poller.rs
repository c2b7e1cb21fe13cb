//! epoll behind the runtime's `Poller`, for thousands of links. mio tells edges; here they are told again until the
//! descriptor has been read empty, as the runtime expects.

use asap::runtime::poller::{Interest, Poller, Ready};
use mio::unix::SourceFd;
use mio::{Events, Poll, Token};
use std::collections::HashMap;
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;

/// Descriptors told in one turn.
const EVENTS: usize = 1_024;

/// A poller on epoll.
pub struct MioPoller {
    poll: Poll,
    events: Events,
    /// Those that epoll knows, and what they are waited for.
    known: HashMap<RawFd, (usize, Interest)>,
    /// The descriptor of each token.
    descriptors: HashMap<usize, RawFd>,
    /// Descriptors that were ready last time: to be asked about again.
    told: Vec<usize>,
}

impl MioPoller {
    pub fn new() -> io::Result<MioPoller> {
        Ok(MioPoller {
            poll: Poll::new()?,
            events: Events::with_capacity(EVENTS),
            known: HashMap::new(),
            descriptors: HashMap::new(),
            told: Vec::new(),
        })
    }
}

fn interests(interest: Interest) -> Option<mio::Interest> {
    match (interest.read, interest.write) {
        (true, true) => Some(mio::Interest::READABLE | mio::Interest::WRITABLE),
        (true, false) => Some(mio::Interest::READABLE),
        (false, true) => Some(mio::Interest::WRITABLE),
        (false, false) => None,
    }
}

impl Poller for MioPoller {
    fn set(&mut self, fd: RawFd, token: usize, interest: Interest) -> io::Result<()> {
        let Some(wanted) = interests(interest) else {
            self.forget(fd);
            return Ok(());
        };
        let registry = self.poll.registry();
        match self.known.insert(fd, (token, interest)) {
            None => registry.register(&mut SourceFd(&fd), Token(token), wanted)?,
            Some((old, _)) => {
                self.descriptors.remove(&old);
                registry.reregister(&mut SourceFd(&fd), Token(token), wanted)?;
            }
        }
        self.descriptors.insert(token, fd);
        Ok(())
    }

    fn forget(&mut self, fd: RawFd) {
        if let Some((token, _)) = self.known.remove(&fd) {
            self.descriptors.remove(&token);
            // It may be closed already; epoll has forgotten it then.
            let _ = self.poll.registry().deregister(&mut SourceFd(&fd));
        }
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        for token in self.told.drain(..) {
            if let Some(fd) = self.descriptors.get(&token)
                && let Some((_, interest)) = self.known.get(fd)
                && let Some(wanted) = interests(*interest)
            {
                // Setting an interest again makes epoll look again.
                self.poll.registry().reregister(&mut SourceFd(fd), Token(token), wanted)?;
            }
        }
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        for event in &self.events {
            let gone = event.is_error() || event.is_read_closed() && event.is_write_closed();
            let token = event.token().0;
            ready.push(Ready {
                token,
                read: event.is_readable() || event.is_read_closed() || gone,
                write: event.is_writable() || gone,
            });
            self.told.push(token);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use asap::runtime::wake::Wake;

    fn tokens(poller: &mut MioPoller) -> Vec<usize> {
        let mut ready = Vec::new();
        poller.wait(Some(Duration::ZERO), &mut ready).unwrap();
        ready.iter().map(|ready| ready.token).collect()
    }

    #[test]
    fn tells_what_is_ready_until_it_is_no_longer() {
        let (one, two) = (Wake::new().unwrap(), Wake::new().unwrap());
        let mut poller = MioPoller::new().unwrap();
        poller.set(one.fd(), 1, Interest::READ).unwrap();
        poller.set(two.fd(), 2, Interest::READ).unwrap();
        assert!(tokens(&mut poller).is_empty());
        two.wake();
        for _ in 0..3 {
            assert_eq!(tokens(&mut poller), [2], "told again while it is readable");
        }
        two.clear();
        assert!(tokens(&mut poller).is_empty());
        two.wake();
        poller.set(two.fd(), 2, Interest::NONE).unwrap();
        assert!(tokens(&mut poller).is_empty());
        poller.set(two.fd(), 7, Interest::READ).unwrap();
        assert_eq!(tokens(&mut poller), [7]);
        poller.forget(two.fd());
        poller.forget(two.fd());
        assert!(tokens(&mut poller).is_empty());
    }
}
