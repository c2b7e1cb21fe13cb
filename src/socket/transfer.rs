//! Sending and receiving on sockets that have sessions.

use super::call::{Goal, Inner, Role, Socket};
use super::line::Line;
use super::signal::Mail;
use super::{Incoming, Notification, Outgoing, Result, Wait, dispatch, element, errors, user};
use crate::machine::UserChannel;
use crate::runtime;
use crate::session::{SendOptions, SendRefused, Session};
use crate::types::{PeId, PoolHandle, Time};
use std::time::Duration;

/// "As long as it takes", where options do not say otherwise.
const LONG: Duration = Duration::from_secs(u64::MAX / 4);

/// Receives what comes next.
pub(super) fn receive(socket: &Socket, buffer: &mut [u8], full: bool, wait: Wait) -> Result<Incoming> {
    let can = |inner: &Inner| match &inner.role {
        Role::Accepted(_) | Role::User(_) | Role::Dispatch(_) => true,
        Role::Element(element) => !element.accepts(socket.kind),
        Role::Fresh | Role::Watch(_) | Role::Closed => false,
    };
    let wait = bounded_by(wait, socket.with(|inner, _| Ok(inner.options.receive_wait))?);
    let deadline = Socket::deadline(wait, LONG);
    let got = socket.until(Goal::Readable, deadline, &mut |inner, now| {
        socket.service(inner, now);
        if !can(inner) {
            let refusal = errors::not_connected(socket.number(), "receive");
            let fresh = matches!(inner.role, Role::Fresh);
            return if fresh { socket.context.semantics().idle(refusal) } else { Err(refusal) };
        }
        if let Some(incoming) = inner.inbox.take(buffer, full)? {
            if let (Incoming::Notification(Notification::SessionRemove { session }), Role::Element(element)) =
                (&incoming, &mut inner.role)
            {
                element.forget(*session);
            }
            return Ok(Some(incoming));
        }
        match &inner.role {
            Role::User(user) => user.standing(socket),
            Role::Fresh
            | Role::Element(_)
            | Role::Accepted(_)
            | Role::Dispatch(_)
            | Role::Watch(_)
            | Role::Closed => Ok(None),
        }
    })?;
    got.ok_or_else(|| errors::would_block("nothing came"))
}

/// Receives user data, and what else a program that reads is to see.
pub(super) fn read(socket: &Socket, buffer: &mut [u8], wait: Wait) -> Result<Incoming> {
    let options = socket.with(|inner, _| Ok(inner.options.clone()))?;
    let wait = bounded_by(wait, options.receive_wait);
    let until = Socket::deadline(wait, LONG);
    loop {
        let rest = until.map_or(Wait::Forever, |at| Wait::For(at.since(runtime::now())));
        let got = receive(socket, buffer, false, rest)?;
        if !socket.context.semantics().read_gives_data_only {
            return Ok(got);
        }
        match got {
            Incoming::Data { .. } | Incoming::End => return Ok(got),
            Incoming::Notification(Notification::FailoverNecessary { .. })
                if !options.session.automatic_failover =>
            {
                return Err(errors::send(socket.number(), SendRefused::FailedOver));
            }
            Incoming::Notification(_) | Incoming::CookieEcho { .. } | Incoming::Undelivered { .. } => {}
        }
    }
}

/// The wait that is meant by the default.
fn bounded_by(wait: Wait, default: Wait) -> Wait {
    match wait {
        Wait::Default => default,
        Wait::No | Wait::For(_) | Wait::Forever => wait,
    }
}

/// The longest text of a status.
const STATUS: usize = 127;

/// Keeps what a session is doing.
pub(super) fn set_status(socket: &Socket, session: u32, text: &str) -> Result<()> {
    let mut end = text.len().min(STATUS);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    socket.with(|inner, _| {
        session_of(socket, inner, session)?.status = text.get(..end).unwrap_or_default().to_owned();
        Ok(())
    })
}

/// What was said of it last.
pub(super) fn status(socket: &Socket, session: u32) -> Result<String> {
    socket.with(|inner, _| Ok(session_of(socket, inner, session)?.status.clone()))
}

/// Sends a message.
pub(super) fn send(socket: &Socket, message: &[u8], how: &Outgoing, wait: Wait) -> Result<usize> {
    let channel = UserChannel {
        ppid: how.ppid,
        stream: how.stream,
        unordered: how.options.contains(SendOptions::UNORDERED),
        expires: (how.time_to_live > 0)
            .then(|| runtime::now() + Duration::from_millis(how.time_to_live.into())),
    };
    if let Some((handle, element)) = &how.to {
        return post(socket, message, handle, *element, channel, how.options, wait);
    }
    let end = how.eof || how.abort;
    let mut waiting = Some(message);
    if message.is_empty() && end {
        waiting = None;
    }
    push(socket, how.session, wait, message.len(), end, &mut |line, now| {
        if let Some(message) = waiting {
            line.machine.send(now, message.to_vec(), channel, how.options)?;
            line.ppid = how.ppid;
            waiting = None;
        }
        if end {
            line.machine.close(now, how.abort);
        }
        Ok(())
    })
}

/// Sends a message to a pool, or to an element of it.
fn post(
    socket: &Socket,
    message: &[u8],
    handle: &PoolHandle,
    element: Option<PeId>,
    channel: UserChannel,
    options: SendOptions,
    wait: Wait,
) -> Result<usize> {
    let limit = socket.context.limits().handle_bytes;
    if handle.as_bytes().len() > limit {
        return Err(errors::handle_too_long(handle, limit));
    }
    let wait = bounded_by(wait, socket.with(|inner, _| Ok(inner.options.send_wait))?);
    let mut taken = false;
    let done = socket.until(Goal::Room, Socket::deadline(wait, LONG), &mut |inner, now| {
        socket.service(inner, now);
        let line = dispatch::dispatch(socket, inner)?;
        if !taken {
            // Who does not wait for the last byte could go on until a link is congested.
            if line.is_full(socket.context.limits()) {
                return Ok(None);
            }
            match line.machine.send(now, handle, element, message.to_vec(), channel, options) {
                Ok(_) => taken = true,
                Err(SendRefused::Full) => return Ok(None),
                Err(refused) => return Err(errors::send(socket.number(), refused)),
            }
            dispatch::service(socket, inner, now, Mail::default(), false);
        }
        let line = dispatch::dispatch(socket, inner)?;
        Ok((line.has_room() || wait == Wait::No).then_some(()))
    });
    finished(done, taken, message.len())
}

fn finished(done: Result<Option<()>>, taken: bool, size: usize) -> Result<usize> {
    match done {
        Err(e) if !taken => Err(e),
        Ok(None) if !taken => Err(errors::would_block("no room to send came")),
        // A signal, a close or the end of time while the last bytes are being written: the message is on its way.
        Err(_) | Ok(_) => Ok(size),
    }
}

/// Gives a session's user a cookie.
pub(super) fn send_cookie(socket: &Socket, cookie: &[u8], session: u32, wait: Wait) -> Result<usize> {
    push(socket, session, wait, cookie.len(), false, &mut |line, now| line.machine.send_cookie(now, cookie))
}

/// Has a session take something.
type Give<'a> = dyn FnMut(&mut Line<Session>, Time) -> std::result::Result<(), SendRefused> + 'a;

/// Has a session take something as soon as there is room, and waits until it is written.
fn push(
    socket: &Socket,
    session: u32,
    wait: Wait,
    size: usize,
    end: bool,
    give: &mut Give<'_>,
) -> Result<usize> {
    let wait = bounded_by(wait, socket.with(|inner, _| Ok(inner.options.send_wait))?);
    let deadline = Socket::deadline(wait, LONG);
    let mut taken = false;
    let done = socket.until(Goal::Room, deadline, &mut |inner, now| {
        if !taken {
            socket.service(inner, now);
            inner.inbox.take_loss()?;
            let line = line(socket, inner, session)?;
            if !line.has_room() {
                return Ok(None);
            }
            match give(line, now) {
                Ok(()) => {
                    taken = true;
                    if let Role::Element(element) = &mut inner.role
                        && end
                    {
                        element.ended_here(session);
                    }
                }
                Err(SendRefused::Full) => return Ok(None),
                Err(refused) => return Err(errors::send(socket.number(), refused)),
            }
        }
        socket.flush(inner, now, session);
        // What is taken is taken: what becomes of it is told by receiving calls.
        let written = line(socket, inner, session).map_or(true, |line| line.has_room() && !line.is_closing());
        Ok((written || wait == Wait::No).then_some(()))
    });
    finished(done, taken, size)
}

/// A session that something is to be sent in.
fn line<'a>(socket: &Socket, inner: &'a mut Inner, session: u32) -> Result<&'a mut Line<Session>> {
    if let Role::User(user) = &mut inner.role {
        if user.is_nowhere() {
            return Err(errors::send(socket.number(), SendRefused::FailedOver));
        }
        if !user.is_connected() {
            user.standing(socket)?;
        }
    }
    session_of(socket, inner, session)
}

/// A session, in whatever state.
fn session_of<'a>(socket: &Socket, inner: &'a mut Inner, session: u32) -> Result<&'a mut Line<Session>> {
    let sd = socket.number();
    let any = !socket.context.semantics().odd_arguments_are_errors;
    match &mut inner.role {
        Role::User(user) if any || session <= user::SESSION => Ok(&mut user.line),
        Role::Accepted(accepted) if any || session <= element::ACCEPTED => Ok(&mut accepted.line),
        Role::User(_) | Role::Accepted(_) => Err(errors::no_session(sd, session)),
        Role::Element(element) => element.line(session).ok_or_else(|| errors::no_session(sd, session)),
        Role::Fresh | Role::Dispatch(_) | Role::Watch(_) | Role::Closed => {
            Err(errors::not_connected(sd, "send"))
        }
    }
}
