//! Waiting for several descriptors, RSerPool ones and ordinary ones mixed, in both directions. The kernel shows only that an
//! RSerPool descriptor is worth a call; what the call would find is looked up here.

use super::call::{Inner, Role, Socket};
use super::{Result, Wait, errors, table};
use crate::runtime::{self, readiness};
use crate::session::State;
use crate::types::Time;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// See [`super::poll`].
pub(super) fn poll(fds: &mut [libc::pollfd], wait: Wait) -> Result<usize> {
    let deadline = Socket::deadline(wait, Duration::from_secs(u64::MAX / 4));
    let sockets: Vec<Option<Arc<Socket>>> = fds.iter().map(|p| table::find(p.fd).ok()).collect();
    loop {
        let mut wake_at = deadline;
        let mut found = 0;
        for (fd, socket) in fds.iter_mut().zip(&sockets) {
            fd.revents = 0;
            let Some(socket) = socket else { continue };
            let (revents, at) = look(socket, fd.events);
            fd.revents = revents;
            found += usize::from(revents != 0);
            wake_at = [wake_at, at].into_iter().flatten().min();
        }
        let now = runtime::now();
        let over = found > 0 || deadline.is_some_and(|at| at <= now);
        // Our descriptors are waited for until they are worth a look, ordinary ones for what was asked.
        let mut waited: Vec<libc::pollfd> = fds
            .iter()
            .zip(&sockets)
            .map(|(fd, socket)| match socket {
                Some(socket) => {
                    libc::pollfd { fd: waiting_fd(socket, fd.events), events: libc::POLLIN, revents: 0 }
                }
                None => libc::pollfd { revents: 0, ..*fd },
            })
            .collect();
        let inside: Option<Vec<_>> = sockets.iter().flatten().map(|s| s.signal.enter()).collect();
        let mut timeout = if over { Some(Duration::ZERO) } else { wake_at.map(|at| at.since(now)) };
        if !over && waited.iter().zip(&sockets).any(|(w, s)| s.is_some() && w.fd < 0) {
            timeout = Some(timeout.unwrap_or(GLANCE).min(GLANCE));
        }
        if inside.is_some() {
            match readiness::wait(&mut waited, timeout) {
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => return Err(errors::interrupted()),
                Err(e) => return Err(errors::system("cannot wait", &e)),
            }
        }
        drop(inside);
        for ((fd, waited), _) in fds.iter_mut().zip(&waited).zip(&sockets).filter(|(_, s)| s.is_none()) {
            fd.revents = waited.revents;
            found += usize::from(fd.revents != 0);
        }
        if over || found > 0 {
            return Ok(found);
        }
    }
}

/// A descriptor that is readable all the time for what the caller did not ask for is looked at so often.
const GLANCE: Duration = Duration::from_millis(20);

/// The descriptor to wait on: none if it would not stop being readable, for it was not asked for that.
fn waiting_fd(socket: &Socket, asked: i16) -> RawFd {
    if asked & libc::POLLIN != 0 {
        return socket.number();
    }
    let pending = socket.with(|inner, _| Ok(!inner.inbox.is_empty()));
    if pending.unwrap_or(false) { -1 } else { socket.number() }
}

/// What can be done on a socket now of what was asked, and when to look again.
fn look(socket: &Socket, asked: i16) -> (i16, Option<Time>) {
    let seen = socket.with(|inner, now| {
        socket.service(inner, now);
        let mut revents = 0;
        if is_readable(socket, inner) {
            revents |= libc::POLLIN;
        }
        if is_writable(inner) {
            revents |= libc::POLLOUT;
        }
        Ok((revents & asked | inner.hang_up(), inner.wake_at()))
    });
    // Closed meanwhile.
    seen.unwrap_or((libc::POLLNVAL, None))
}

fn is_readable(socket: &Socket, inner: &Inner) -> bool {
    if !inner.inbox.is_empty() || inner.inbox.has_ended() {
        return true;
    }
    match &inner.role {
        Role::User(user) => user.stands_still(socket),
        Role::Watch(watch) => watch.has_change(),
        Role::Element(element) => element.accepts(socket.kind) && element.has_client(),
        Role::Fresh | Role::Accepted(_) | Role::Dispatch(_) | Role::Closed => false,
    }
}

/// Whether sending would not wait: there is room, or it would fail at once.
fn is_writable(inner: &Inner) -> bool {
    match &inner.role {
        Role::User(user) => match user.line.machine.state() {
            State::Connected => user.line.has_room(),
            State::Failed | State::Ended => true,
            State::Connecting | State::FailingOver => false,
        },
        Role::Accepted(accepted) => accepted.line.machine.state() == State::Ended || accepted.line.has_room(),
        Role::Element(element) => element.busiest().is_none(),
        Role::Dispatch(line) => line.has_room(),
        Role::Fresh | Role::Watch(_) | Role::Closed => false,
    }
}
