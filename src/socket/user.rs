//! The pool user's side of a socket: connecting to a pool, being told of failures, moving on (RFC 5352 6.5, 3.7).

use super::call::{Goal, Inner, Role, Socket};
use super::inbox::Item;
use super::line::Line;
use super::signal::{Attention, Mail};
use super::{Error, Failover, Incoming, Kind, Notification, Result, Wait, errors};
use crate::endpoint::{Query, RequestFailure, Resolution};
use crate::machine::LinkFailure;
use crate::runtime;
use crate::session::{Event, NoElement, Session, State};
use crate::types::{PeId, PoolHandle, Time};
use std::sync::Arc;
use std::time::Duration;

/// How much longer than the registrar's answer is waited for: when the time is up, it says what was tried.
const LAST_WORD: Duration = Duration::from_millis(100);

/// The number of a user's only session.
pub(super) const SESSION: u32 = 1;

/// A pool user.
#[derive(Debug)]
pub(super) struct User {
    pub(super) line: Line<Session>,
    handle: PoolHandle,
    /// The first element was reached at some time.
    connected: bool,
    /// The element in use, or used last.
    element: Option<PeId>,
    /// What became of the last search that was fruitless.
    failure: Option<Error>,
    /// Until when a first search goes on while elements do not answer.
    give_up: Time,
    /// The first search is over without success.
    hopeless: bool,
    /// That the first search has failed was not told to the application, which believes to have a session.
    untold: bool,
    /// A failover has succeeded since the application asked for one.
    moved: bool,
    /// What was last heard of the pool: a forked child has nobody to ask.
    known: Option<Arc<Resolution>>,
    /// How old the first resolution may be.
    max_age: Option<Duration>,
    /// When the present call gives up.
    patience: Option<Time>,
    watching: bool,
}

impl User {
    /// Whether every call finds the same until the application does something about it.
    pub(super) fn stands_still(&self, _socket: &Socket) -> bool {
        match self.line.machine.state() {
            State::Failed | State::Ended => true,
            State::Connecting => self.hopeless,
            State::Connected | State::FailingOver => false,
        }
    }

    /// What a receiving call finds when nothing waits to be received.
    pub(super) fn standing(&self, socket: &Socket) -> Result<Option<Incoming>> {
        let failed = match self.line.machine.state() {
            State::Failed => true,
            State::Connecting => self.untold && self.hopeless,
            State::Connected | State::FailingOver | State::Ended => false,
        };
        match (self.line.machine.state(), socket.kind) {
            (_, Kind::SeqPacket) if failed => {
                let has_cookie = self.line.machine.has_cookie();
                let necessary = Notification::FailoverNecessary { session: SESSION, has_cookie };
                Ok(Some(Incoming::Notification(necessary)))
            }
            (_, Kind::Stream) if failed => match socket.context.semantics().stream_loss_is_error {
                true => Err(errors::element_lost(socket.number())),
                false => Ok(Some(Incoming::End)),
            },
            (State::Connecting, _) => self.failure.clone().filter(|_| self.hopeless).map_or(Ok(None), Err),
            (State::Failed | State::Connected | State::FailingOver | State::Ended, _) => Ok(None),
        }
    }

    /// Whether the application has to move the session on, though it was never told that it could not be connected.
    pub(super) fn is_nowhere(&self) -> bool {
        !self.connected && self.untold && self.hopeless
    }

    pub(super) fn handle(&self) -> &PoolHandle {
        &self.handle
    }

    pub(super) fn is_connected(&self) -> bool {
        self.connected
    }

    /// Takes back what the background thread does for this session.
    pub(super) fn leave(&self, socket: &Socket) {
        let (key, handle) = (socket.key, self.watching.then(|| self.handle.clone()));
        let _ = socket.context().tell(move |background, now| {
            background.dismiss(key);
            if let Some(handle) = handle {
                background.unwatch(now, &handle, key);
            }
        });
    }
}

/// Connects a socket to a pool. What it failed with, if the application is not to be told.
pub(super) fn connect(
    socket: &Socket,
    handle: &PoolHandle,
    max_age: Duration,
    wait: Wait,
) -> Result<Option<Error>> {
    let limits = socket.context.limits();
    if handle.as_bytes().len() > limits.handle_bytes {
        return Err(errors::handle_too_long(handle, limits.handle_bytes));
    }
    let call_timeout = socket.call_timeout()?;
    let deadline = Socket::deadline(wait, call_timeout);
    let seed = runtime::entropy().map_err(|e| errors::system("cannot get random numbers", &e))?;
    socket.with(|inner, now| {
        match &inner.role {
            Role::Fresh => {}
            Role::User(user) if user.line.machine.state() == State::Ended => user.leave(socket),
            Role::User(user) if user.hopeless => user.leave(socket),
            Role::User(user) if !user.connected => {
                return Err(errors::error(libc::EALREADY, "the socket is being connected already"));
            }
            Role::User(_) | Role::Accepted(_) => {
                return Err(errors::error(
                    libc::EISCONN,
                    "the socket has a session already; use another socket",
                ));
            }
            Role::Element(_) | Role::Dispatch(_) | Role::Watch(_) | Role::Closed => {
                return Err(errors::error(
                    libc::EOPNOTSUPP,
                    "the socket is a pool element's, sends to pools, or watches one; use another one to connect",
                ));
            }
        }
        let config = inner.options.session.clone();
        let session = Session::user(now, config, limits.clone(), seed, handle.clone(), None);
        let mut line = Line::new(session, 1);
        line.path = Some(inner.options.path.clone());
        inner.inbox = super::inbox::Inbox::default();
        inner.role = Role::User(Box::new(User {
            line,
            handle: handle.clone(),
            connected: false,
            element: None,
            failure: None,
            give_up: now + call_timeout,
            hopeless: false,
            untold: false,
            moved: false,
            known: None,
            max_age: Some(max_age),
            patience: deadline,
            watching: false,
        }));
        let (key, signal) = (socket.key, Arc::downgrade(&socket.signal));
        let _ = socket.context().tell(move |background, _| background.introduce(key, signal));
        Ok(())
    })?;
    let mut failure = None;
    let until = deadline.map(|at| if wait == Wait::No { at } else { at + LAST_WORD });
    let done = uninterrupted(socket, until, &mut |inner, now| {
        socket.service(inner, now);
        let Role::User(user) = &mut inner.role else { return Err(errors::closed(socket.number())) };
        failure.clone_from(&user.failure);
        match (user.connected, user.failure.clone().filter(|_| user.hopeless)) {
            (true, _) => Ok(Some(())),
            (false, Some(e)) => Err(e),
            (false, None) => Ok(None),
        }
    });
    let failed = match done {
        Ok(Some(())) => return Ok(None),
        Ok(None) if wait == Wait::No => return Err(errors::in_progress("connecting")),
        Ok(None) => failure.unwrap_or_else(|| errors::timed_out(&format!("connecting to pool {handle}"))),
        Err(e) => e,
    };
    if !socket.context.semantics().failures_are_told {
        log::warn!("{}; the program is told that it has to fail over", failed.what);
        return socket.with(|inner, _| {
            if let Role::User(user) = &mut inner.role {
                user.untold = true;
                user.hopeless = true;
                user.failure = Some(failed.clone());
            }
            Ok(Some(failed))
        });
    }
    // As it was before, so that the application can try again.
    let _ = socket.with(|inner, _| {
        if let Role::User(user) = std::mem::replace(&mut inner.role, Role::Fresh) {
            user.leave(socket);
        }
        Ok(())
    });
    Err(failed)
}

/// Moves the session on to another element. What it failed with, if the application is not to be told.
pub(super) fn force_failover(
    socket: &Socket,
    report: bool,
    max_age: Duration,
    wait: Wait,
) -> Result<Option<Error>> {
    match move_on(socket, report, max_age, wait) {
        // That there is no such pool any more is the only failure of which a program may not be told.
        Err(e) if e.errno == libc::ENOENT && !socket.context.semantics().failures_are_told => {
            log::warn!("{}; the program is told that it has to fail over", e.what);
            Ok(Some(e))
        }
        other => other.map(|()| None),
    }
}

fn move_on(socket: &Socket, report: bool, max_age: Duration, wait: Wait) -> Result<()> {
    let deadline = Socket::deadline(wait, socket.call_timeout()?);
    socket.with(|inner, now| {
        // The old element's last words are read first: its last cookie counts.
        socket.service(inner, now);
        let mut last_words = Vec::new();
        match &mut inner.role {
            Role::User(user) if user.untold && !user.connected => {}
            Role::User(user) if user.line.machine.state() != State::Ended && user.connected => {
                user.line.drain(now, socket.context.limits(), &socket.signal, &mut last_words);
            }
            Role::User(user) if !user.connected && !user.untold => {
                return Err(user
                    .failure
                    .clone()
                    .unwrap_or_else(|| errors::not_connected(socket.number(), "fail over")));
            }
            Role::User(_) => {
                return Err(errors::error(libc::ENOTCONN, "the session has ended; rsp_connect() anew"));
            }
            Role::Fresh | Role::Dispatch(_) | Role::Watch(_) | Role::Closed => {
                return Err(errors::not_connected(socket.number(), "fail over"));
            }
            Role::Element(_) | Role::Accepted(_) => {
                return Err(errors::error(
                    libc::EOPNOTSUPP,
                    "only the pool user's side of a session can fail over",
                ));
            }
        }
        for event in last_words {
            on_event(socket, inner, now, event);
        }
        // What the old element had to say is no answer to what will be asked of the new one.
        inner.inbox.clear();
        if let Role::User(user) = &mut inner.role {
            user.failure = None;
            user.moved = false;
            user.hopeless = false;
            user.give_up = deadline.unwrap_or(Time::NEVER);
            user.patience = deadline;
            user.line.machine.fail_over(now, report, max_age);
        }
        Ok(())
    })?;
    let done = uninterrupted(socket, deadline, &mut |inner, now| {
        socket.service(inner, now);
        let Role::User(user) = &mut inner.role else { return Err(errors::closed(socket.number())) };
        match (user.moved, user.line.machine.state(), user.failure.clone()) {
            (true, _, _) => Ok(Some(())),
            (false, State::Failed | State::Ended, Some(e)) => Err(e),
            (false, State::Connecting, Some(e)) if user.hopeless => Err(e),
            (false, State::Ended, None) => {
                Err(errors::send(socket.number(), crate::session::SendRefused::Ended))
            }
            (false, State::Failed, None)
            | (false, State::Connecting | State::Connected | State::FailingOver, _) => Ok(None),
        }
    })?;
    match done {
        Some(()) => Ok(()),
        None if wait == Wait::No => Err(errors::in_progress("the failover")),
        None => {
            let tried = socket.with(|inner, _| match &inner.role {
                Role::User(user) => Ok(user.failure.clone()),
                Role::Fresh
                | Role::Element(_)
                | Role::Accepted(_)
                | Role::Dispatch(_)
                | Role::Watch(_)
                | Role::Closed => Ok(None),
            })?;
            Err(tried.unwrap_or_else(|| errors::timed_out("the failover")))
        }
    }
}

/// As [`Socket::until`], for what is not to be left half done because of a signal.
pub(super) fn uninterrupted<T>(
    socket: &Socket,
    deadline: Option<Time>,
    attempt: &mut dyn FnMut(&mut Inner, Time) -> Result<Option<T>>,
) -> Result<Option<T>> {
    loop {
        match socket.until(Goal::Readable, deadline, attempt) {
            Err(e) if e.errno == libc::EINTR => {}
            other => return other,
        }
    }
}

/// Does what has become possible.
pub(super) fn service(socket: &Socket, inner: &mut Inner, now: Time, mail: Mail, read: bool) {
    let mut events = Vec::new();
    let limits = socket.context.limits();
    if let Role::User(user) = &mut inner.role {
        if let Some(identity) = mail.identity {
            match &identity.card {
                // Whether it can be sent now is the session's to know.
                Some((handle, elements)) => {
                    let _ = user.line.machine.send_business_card(now, handle, elements);
                }
                None => user.line.machine.withdraw_business_card(),
            }
        }
        let leaving = match &mail.pool {
            Some(pool) => {
                !pool.as_ref().is_some_and(|p| p.elements.iter().any(|e| Some(e.id) == user.element))
            }
            None => user.line.is_due(now),
        };
        if leaving && user.line.machine.state() == State::Connected {
            user.line.drain(now, limits, &socket.signal, &mut events);
        }
        if let Some(pool) = mail.pool {
            user.line.machine.pool_changed(now, pool.as_deref());
            user.known = pool.or(user.known.take());
        }
        for (_, outcome) in mail.resolved {
            if let Ok(resolution) = &outcome {
                user.known = Some(resolution.clone());
            }
            user.line.machine.resolved(now, outcome.map(|r| Resolution::clone(&r)));
        }
    }
    let mut read = read && events.is_empty();
    loop {
        if let Role::User(user) = &mut inner.role {
            user.line.run(now, read, limits, &socket.signal, &mut events);
        }
        let mut again = false;
        for event in events.drain(..) {
            again |= on_event(socket, inner, now, event);
        }
        read &= inner.inbox.is_empty();
        if !again {
            break;
        }
    }
}

/// Draws the conclusions of an event; whether the session was told something and is to run again.
fn on_event(socket: &Socket, inner: &mut Inner, now: Time, event: Event) -> bool {
    let seqpacket = socket.kind == Kind::SeqPacket;
    let automatic = inner.options.session.automatic_failover;
    let Role::User(user) = &mut inner.role else { return false };
    match event {
        Event::Resolve { handle, max_age } => {
            let max_age = user.max_age.take().unwrap_or(max_age);
            let latest = now + inner.options.call_timeout.unwrap_or(socket.context.call_timeout());
            let deadline = user.patience.filter(|at| *at > now).map_or(latest, |at| at.min(latest));
            let (key, signal) = (socket.key, Arc::downgrade(&socket.signal));
            let first = !std::mem::replace(&mut user.watching, true);
            let asked = socket.context().tell(move |background, now| {
                // The subscription travels with the first question: a second one would cost another session its turn.
                if first {
                    background.watch(now, &handle, key, signal.clone());
                }
                let query = Query { handle, items: None, max_age };
                background.resolve_for(now, query, deadline, signal);
            });
            if asked.is_err() {
                let known = user.known.as_ref().map(|r| Resolution::clone(r));
                user.line.machine.resolved(now, known.ok_or(RequestFailure::NoRegistrar(Vec::new())));
                return true;
            }
        }
        Event::Unreachable { handle, element } => {
            let _ = socket.context().tell(move |b, now| b.endpoint.report_unreachable(now, &handle, element));
        }
        Event::Card { handle, .. } => {
            let _ = socket.context().tell(move |b, now| b.endpoint.on_card(now, &handle));
        }
        Event::Connected { element, .. } => {
            user.connected = true;
            if std::mem::take(&mut user.untold) {
                // What connecting should have done, a failover has.
                user.moved = true;
                user.failure = None;
                if seqpacket {
                    let complete = Notification::FailoverComplete { session: SESSION, has_cookie: false };
                    inner.inbox.notify(complete);
                }
            }
            user.element = element;
            socket.signal.attend(element.map_or(Attention::Never, Attention::Loss));
        }
        Event::Received { bytes, channel, complete, from } => {
            inner.inbox.push(Item::Data { bytes, taken: 0, channel, complete, session: SESSION, from });
        }
        // Only elements get them.
        Event::CookieEcho(_) => {}
        Event::FailoverNecessary => {
            socket.signal.attend(Attention::Always);
            if seqpacket && automatic {
                let has_cookie = user.line.machine.has_cookie();
                inner.inbox.notify(Notification::FailoverNecessary { session: SESSION, has_cookie });
            }
        }
        Event::FailoverComplete { element, has_cookie, gap } => {
            user.moved = true;
            user.failure = None;
            let from = user.element.replace(element);
            socket.signal.attend(Attention::Loss(element));
            inner.failovers.push(Failover { session: SESSION, from, to: element, has_cookie, gap });
            if seqpacket {
                inner.inbox.notify(Notification::FailoverComplete { session: SESSION, has_cookie });
            }
        }
        Event::FailoverFailed(why) => {
            // Who is busy may answer yet; an element that refuses does not exist, nor does a registrar that was not found.
            let busy = match &why {
                NoElement::NotResolved(why) => *why == RequestFailure::TimedOut,
                NoElement::NotReached(missed) => missed.iter().any(|(_, why)| *why == LinkFailure::TimedOut),
            };
            user.hopeless = !user.connected && (!busy || now >= user.give_up);
            user.failure = Some(no_element(&user.handle, &why));
        }
        Event::SendFailed { element, message, channel } => {
            if seqpacket {
                inner.inbox.push(Item::Undelivered {
                    bytes: message,
                    channel,
                    session: SESSION,
                    to: element,
                });
            } else {
                inner.inbox.lose(message.len());
            }
        }
        Event::Writable => {}
        Event::Ended(None) => {
            if seqpacket {
                inner.inbox.notify(Notification::Shutdown { session: SESSION });
            }
            inner.inbox.end(Ok(()));
        }
        Event::Ended(Some(why)) => {
            let lost = errors::link(&format!("the session with pool {} is lost", user.handle), why);
            inner.inbox.end(Err(user.failure.clone().unwrap_or(lost)));
        }
    }
    false
}

fn no_element(handle: &PoolHandle, why: &NoElement) -> Error {
    let doing = format!("no element of pool {handle} is reached");
    match why {
        NoElement::NotResolved(failure) => errors::request(&doing, failure),
        NoElement::NotReached(missed) => {
            let last = missed.last().map_or(LinkFailure::Unreachable, |(_, why)| *why);
            let tried: Vec<String> =
                missed.iter().map(|(id, why)| format!("{id} ({})", errors::why(*why))).collect();
            let mut e = errors::link(&doing, last);
            if !tried.is_empty() {
                e.what = format!("{doing}; tried {}", tried.join(", "));
            }
            e
        }
    }
}
