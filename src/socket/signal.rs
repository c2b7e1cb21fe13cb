//! The kernel descriptor of a socket, and what other threads leave for the socket's next call.
//!
//! The descriptor is a set (epoll) that holds the transport sockets in use. While something waits that none of them
//! would tell of, it also holds an eventfd, made when first needed and never shared between sockets: epoll refuses
//! a file that is reachable over too many nested sets.

use super::card::{self, Identity};
use super::fork::Guarded;
use crate::endpoint::{RequestFailure, Resolution};
use crate::runtime::poller::Interest;
use crate::runtime::readiness::ReadySet;
use crate::runtime::wake::Wake;
use crate::types::{PeId, PoolHandle};
use std::io;
use std::os::fd::RawFd;
use std::sync::Arc;

/// The eventfd's token in the set; transports have others.
const OWN_TOKEN: u64 = u64::MAX;

/// What the background thread has left for a socket.
#[derive(Debug, Default)]
pub(super) struct Mail {
    /// The answers to resolutions that were asked for.
    pub(super) resolved: Vec<(PoolHandle, Result<Arc<Resolution>, RequestFailure>)>,
    /// The pool has changed: its elements now, none if it is gone. Only the latest counts.
    pub(super) pool: Option<Option<Arc<Resolution>>>,
    /// Who this context is to those its users talk to, if that has changed.
    pub(super) identity: Option<Arc<Identity>>,
    /// Elements found to be at the other end of sessions, by their address.
    pub(super) senders: Vec<(u32, PoolHandle, PeId)>,
    /// The deadline it was asked to watch has passed.
    pub(super) due: bool,
}

/// Which changes of its pool a socket wants to be woken for; the rest it finds at its next call.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Attention {
    /// None.
    Never,
    /// All.
    Always,
    /// That this element is gone.
    Loss(PeId),
    /// That the business card of this element, which names these others, is to be another.
    Card(PeId, Vec<PeId>),
}

#[derive(Debug)]
struct State {
    /// None once it is closed and nobody waits on it any more.
    set: Option<ReadySet>,
    event: Option<Wake>,
    raised: bool,
    closed: bool,
    /// Calls that wait on the descriptor now. Its number stays taken until they have left.
    waiting: usize,
    mail: Mail,
    /// Something in the mail is worth a call.
    urgent: bool,
    attention: Attention,
}

/// A descriptor with a letter box.
#[derive(Debug)]
pub(super) struct Signal {
    number: RawFd,
    state: Guarded<State>,
}

impl State {
    fn show(&mut self, readable: bool) {
        if readable == self.raised {
            return;
        }
        if readable && self.event.is_none() {
            let Some(set) = &self.set else { return };
            let event = Wake::new().and_then(|event| {
                set.set(event.fd(), OWN_TOKEN, Interest { read: true, write: false })?;
                Ok(event)
            });
            match event {
                Ok(event) => self.event = Some(event),
                Err(e) => log::error!("descriptor {}: cannot make it readable: {e}", set.fd()),
            }
        }
        if let Some(event) = &self.event {
            if readable {
                event.wake()
            } else {
                event.clear()
            }
            self.raised = readable;
        }
    }
}

impl Signal {
    /// A new descriptor, not readable.
    pub(super) fn new() -> io::Result<Signal> {
        let set = ReadySet::new()?;
        Ok(Signal {
            number: set.fd(),
            state: Guarded::new(State {
                set: Some(set),
                event: None,
                raised: false,
                closed: false,
                waiting: 0,
                mail: Mail::default(),
                urgent: false,
                attention: Attention::Never,
            }),
        })
    }

    /// The descriptor's number.
    pub(super) fn number(&self) -> RawFd {
        self.number
    }

    /// Leaves something and makes the descriptor readable.
    pub(super) fn post(&self, write: impl FnOnce(&mut Mail)) {
        let mut state = self.state.lock();
        write(&mut state.mail);
        state.urgent = true;
        state.show(true);
    }

    /// Leaves the news that the pool has changed; makes the descriptor readable if the socket cares.
    pub(super) fn post_pool(&self, pool: Option<Arc<Resolution>>) {
        let mut state = self.state.lock();
        let wanted = match &state.attention {
            Attention::Never => false,
            Attention::Always => true,
            Attention::Loss(id) => !pool.as_ref().is_some_and(|p| p.elements.iter().any(|e| e.id == *id)),
            Attention::Card(id, others) => card::is_outdated(*id, others, pool.as_deref()),
        };
        state.mail.pool = Some(pool);
        if wanted {
            state.urgent = true;
            state.show(true);
        }
    }

    /// Says which pool changes matter from now on.
    pub(super) fn attend(&self, to: Attention) {
        self.state.lock().attention = to;
    }

    /// Takes what was left.
    pub(super) fn take_mail(&self) -> Mail {
        let mut state = self.state.lock();
        state.urgent = false;
        std::mem::take(&mut state.mail)
    }

    /// At the end of a call: whether the next call would find something that no transport tells of.
    pub(super) fn settle(&self, pending: bool) {
        let mut state = self.state.lock();
        let readable = pending || state.urgent || state.closed;
        state.show(readable);
    }

    /// Has the descriptor become readable when `fd` is ready.
    pub(super) fn join(&self, fd: RawFd, token: u64, interest: Interest) -> io::Result<()> {
        match &self.state.lock().set {
            Some(set) => set.set(fd, token, interest),
            None => Ok(()),
        }
    }

    /// The opposite; to be called before `fd` is closed.
    pub(super) fn part(&self, fd: RawFd) {
        if let Some(set) = &self.state.lock().set {
            set.forget(fd);
        }
    }

    /// The tokens of transports that are ready (some of them, if they are many).
    pub(super) fn ready(&self, tokens: &mut Vec<u64>) {
        if let Some(set) = &self.state.lock().set {
            set.ready(tokens);
        }
        tokens.retain(|t| *t != OWN_TOKEN);
    }

    /// Keeps the number taken while the caller waits on it. None: it is closed.
    pub(super) fn enter(&self) -> Option<Inside<'_>> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.waiting += 1;
        Some(Inside(self))
    }

    /// Wakes those who wait, for the last time; the number is given back when the last has left.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        if state.waiting == 0 {
            state.set = None;
            state.event = None;
        } else {
            state.show(true);
        }
    }

    /// In a forked child: parts from the parent's set, under the same number. All transports are to join again.
    pub(super) fn renew(&self) -> io::Result<()> {
        let mut state = self.state.lock();
        if let Some(set) = &state.set {
            set.renew()?;
        }
        state.event = None;
        state.raised = false;
        state.waiting = 0;
        Ok(())
    }

    /// In a forked child, before `close`: those who wait are threads of the parent.
    pub(super) fn forget_waiting(&self) {
        self.state.lock().waiting = 0;
    }

    /// The number was closed behind our back and is somebody else's now: it is left alone.
    pub(super) fn abandon(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        if let Some(set) = state.set.take() {
            set.abandon();
        }
    }
}

/// A call that waits on a descriptor.
#[derive(Debug)]
pub(super) struct Inside<'a>(&'a Signal);

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state.lock();
        state.waiting = state.waiting.saturating_sub(1);
        if state.closed && state.waiting == 0 {
            state.set = None;
            state.event = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::readiness;
    use std::time::Duration;

    fn readable(signal: &Signal) -> bool {
        let mut fds = [libc::pollfd { fd: signal.number(), events: libc::POLLIN, revents: 0 }];
        readiness::wait(&mut fds, Some(Duration::ZERO)).unwrap() == 1 && fds[0].revents == libc::POLLIN
    }

    #[test]
    fn mail_makes_readable_until_it_was_taken_and_the_call_has_settled() {
        let signal = Signal::new().unwrap();
        assert!(!readable(&signal));
        signal.post(|mail| mail.due = true);
        assert!(readable(&signal));
        signal.settle(false);
        assert!(readable(&signal), "nobody has taken it");
        assert!(signal.take_mail().due);
        signal.settle(false);
        assert!(!readable(&signal));
        signal.settle(true);
        assert!(readable(&signal));
    }

    #[test]
    fn a_pool_change_wakes_only_when_the_element_is_gone() {
        let signal = Signal::new().unwrap();
        signal.attend(Attention::Never);
        signal.post_pool(None);
        assert!(!readable(&signal));
        signal.attend(Attention::Loss(PeId(1)));
        signal.post_pool(None);
        assert!(readable(&signal));
    }

    #[test]
    fn a_closed_number_stays_taken_while_a_call_waits_on_it() {
        let signal = Signal::new().unwrap();
        let inside = signal.enter().unwrap();
        signal.close();
        assert!(readable(&signal), "whoever waits is woken");
        assert!(signal.enter().is_none());
        drop(inside);
        let mut fds = [libc::pollfd { fd: signal.number(), events: libc::POLLIN, revents: 0 }];
        let n = readiness::wait(&mut fds, Some(Duration::ZERO)).unwrap();
        // Another test may have been given the number meanwhile; it is not readable as ours was.
        assert!(n == 0 || fds[0].revents != libc::POLLIN);
    }
}
