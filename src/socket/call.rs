//! A socket: its state under its lock, and the way every call goes: lock, do what can be done now, unlock, and if that was not
//! enough, wait on the descriptor and begin again. No lock is held while waiting or while the application's functions run.

use super::context::{Context, SocketKey};
use super::element::{Accepted, Element};
use super::fork::{Era, Guarded};
use super::inbox::Inbox;
use super::line::Line;
use super::semantics::Call;
use super::signal::Signal;
use super::user::User;
use super::watch::Watch;
use super::{Failover, FailoverCallback, Kind, Result, SocketOptions, Wait, errors};
use crate::machine::Machine;
use crate::name::Settings;
use crate::runtime::listener::Given;
use crate::runtime::{self, readiness};
use crate::session::Session;
use crate::session::dispatch::Dispatch;
use crate::types::Time;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How often a call that waits for room looks around when the descriptor is readable all the time, for something that another
/// call has to take.
const GLANCE: Duration = Duration::from_millis(50);
/// How long an orderly close waits for what was sent before it.
const LINGER: Duration = Duration::from_secs(2);

/// How long a user over UDP may be silent. Address translators are to keep their state for two minutes (RFC 4787 4.3).
const IDLE: Duration = Duration::from_secs(120);

/// What carries a socket's sessions.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Carrier {
    /// TCP with the framing of docs/tcp.md, or plain.
    Tcp,
    /// Kernel SCTP.
    Sctp,
    /// UDP.
    Udp,
}

/// What a socket has become.
#[derive(Debug)]
pub(super) enum Role {
    /// Nothing yet.
    Fresh,
    /// A pool user with its session.
    User(Box<User>),
    /// A pool element with its listener and, if it does not accept, its sessions.
    Element(Box<Element>),
    /// A session that was accepted.
    Accepted(Box<Accepted>),
    /// Unconnected: each message goes to a pool of its own.
    Dispatch(Box<Line<Dispatch>>),
    /// The changes of a pool.
    Watch(Box<Watch>),
    /// Closed.
    Closed,
}

/// What a socket's lock guards.
pub(super) struct Inner {
    pub(super) role: Role,
    pub(super) inbox: Inbox,
    pub(super) options: SocketOptions,
    /// A socket of the program's that an element is to listen at.
    pub(super) given: Option<Given>,
    /// Failovers the callback is to be told of as soon as the lock is given back.
    pub(super) failovers: Vec<Failover>,
    pub(super) callback: Option<FailoverCallback>,
    /// When the background thread makes the descriptor readable.
    alarm: Option<Time>,
    era: Era,
    /// Dropped at close: wakes who waits for the background thread.
    open: Option<Sender<Infallible>>,
}

/// A socket.
pub(super) struct Socket {
    pub(super) context: Context,
    pub(super) kind: Kind,
    pub(super) carrier: Carrier,
    /// Whether only IPv4 is wanted.
    pub(super) v4_only: bool,
    pub(super) signal: Arc<Signal>,
    pub(super) key: SocketKey,
    pub(super) closing: Receiver<Infallible>,
    inner: Guarded<Inner>,
}

/// What a call waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Goal {
    /// That the descriptor becomes readable.
    Readable,
    /// Room to send, whatever else there is to be received.
    Room,
}

impl Socket {
    /// A new socket, under the kernel's next number.
    pub(super) fn new(
        context: &Context,
        kind: Kind,
        carrier: Carrier,
        v4_only: bool,
        role: Role,
        options: SocketOptions,
    ) -> Result<Arc<Socket>> {
        static KEYS: AtomicU64 = AtomicU64::new(1);
        let signal = Signal::new().map_err(|e| errors::system("cannot make a descriptor", &e))?;
        context.check_number(signal.number())?;
        let (open, closing) = bounded(0);
        Ok(Arc::new(Socket {
            context: context.clone(),
            kind,
            carrier,
            v4_only,
            signal: Arc::new(signal),
            key: KEYS.fetch_add(1, Ordering::Relaxed),
            closing,
            inner: Guarded::new(Inner {
                role,
                inbox: Inbox::default(),
                options,
                given: None,
                failovers: Vec::new(),
                callback: None,
                alarm: None,
                era: Era::now(),
                open: Some(open),
            }),
        }))
    }

    /// The result of a call as the program is to see it.
    pub(super) fn told<T>(&self, call: Call, result: Result<T>) -> Result<T> {
        self.context.semantics().told(call, result)
    }

    /// Has an attempt to reach an element that has failed take its time, if that is wanted.
    pub(super) fn slowed(&self, begun: Time, wait: Wait, result: &Result<Option<super::Error>>) {
        let failed = match result {
            Ok(hidden) => hidden.is_some(),
            Err(e) => matches!(
                e.errno,
                libc::ECONNREFUSED | libc::ECONNRESET | libc::EHOSTUNREACH | libc::ENOENT | libc::ETIMEDOUT
            ),
        };
        let until = begun + self.context.semantics().failing_takes;
        if failed && wait != Wait::No {
            std::thread::sleep(until.since(runtime::now()));
        }
    }

    /// The same of a call that may only seem to succeed.
    pub(super) fn told_or_hidden(
        &self,
        call: Call,
        result: Result<Option<super::Error>>,
    ) -> Result<Option<super::Error>> {
        match result {
            Ok(Some(hidden)) => Ok(self.told::<()>(call, Err(hidden)).err()),
            other => self.told(call, other),
        }
    }

    /// Its descriptor number.
    pub(super) fn number(&self) -> RawFd {
        self.signal.number()
    }

    /// Whether it was made with this context.
    pub(super) fn belongs_to(&self, context: &Context) -> bool {
        self.context.is(context)
    }

    /// Where the endpoint is that serves this socket: in a forked child that has initialised the library, its own.
    pub(super) fn context(&self) -> Context {
        if self.context.is_inherited()
            && let Ok(own) = super::default_context()
        {
            return own;
        }
        self.context.clone()
    }

    /// When a wait ends: `Wait::Default` is `default`; none is never.
    pub(super) fn deadline(wait: Wait, default: Duration) -> Option<Time> {
        let now = runtime::now();
        match wait {
            Wait::Default => Some(now + default),
            Wait::No => Some(now),
            Wait::For(time) => Some(now + time),
            Wait::Forever => None,
        }
    }

    /// How long calls that need others may take when they are not told.
    pub(super) fn call_timeout(&self) -> Result<Duration> {
        self.with(|inner, _| Ok(inner.options.call_timeout.unwrap_or(self.context.call_timeout())))
    }

    /// One go: locks, does, settles, unlocks, tells the callback.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Inner, Time) -> Result<T>) -> Result<T> {
        let mut act = Some(act);
        let attempt = &mut |inner: &mut Inner, now: Time| match act.take() {
            Some(act) => act(inner, now).map(Some),
            None => Ok(None),
        };
        let done = self.until(Goal::Readable, Some(Time::ZERO), attempt)?;
        done.ok_or_else(|| errors::dead(self.number()))
    }

    /// Tries until there is a result or an error, or the deadline is over (none). It is tried at least once.
    pub(super) fn until<T>(
        &self,
        goal: Goal,
        deadline: Option<Time>,
        attempt: &mut dyn FnMut(&mut Inner, Time) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        loop {
            let now = runtime::now();
            let over = deadline.is_some_and(|at| at <= now);
            let mut inner = self.inner.lock_sound().ok_or_else(|| errors::dead(self.number()))?;
            if matches!(inner.role, Role::Closed) {
                return Err(errors::closed(self.number()));
            }
            self.adopt(&mut inner);
            let outcome = attempt(&mut inner, now);
            let wake_at = inner.wake_at();
            let pending = inner.is_pending(self) || wake_at.is_some_and(|at| at <= now);
            self.signal.settle(pending);
            let finished = over || !matches!(outcome, Ok(None));
            if finished {
                self.set_alarm(&mut inner, wake_at);
            }
            let told = std::mem::take(&mut inner.failovers);
            let callback = inner.callback.clone().filter(|_| !told.is_empty());
            let transport = if goal == Goal::Room && pending { inner.transport() } else { None };
            drop(inner);
            if let Some(callback) = callback {
                for failover in &told {
                    callback(self.number(), failover);
                }
            }
            match outcome {
                Err(e) => return Err(e),
                Ok(Some(result)) => return Ok(Some(result)),
                Ok(None) if over => return Ok(None),
                Ok(None) => {}
            }
            if told.is_empty() {
                let until = [deadline, wake_at].into_iter().flatten().min();
                self.wait(goal == Goal::Room && pending, transport, until)?;
            }
        }
    }

    /// Waits until the descriptor is readable. Where that is no news, for the transport, and not for long.
    fn wait(&self, glance: bool, transport: Option<(RawFd, i16)>, until: Option<Time>) -> Result<()> {
        let _inside = self.signal.enter().ok_or_else(|| errors::closed(self.number()))?;
        let (fd, events) = match transport {
            Some(transport) if glance => transport,
            Some(_) | None => (self.number(), libc::POLLIN),
        };
        let mut fds = [libc::pollfd { fd, events, revents: 0 }];
        let fds = if glance && transport.is_none() { &mut fds[..0] } else { &mut fds[..] };
        let mut timeout = until.map(|at| at.since(runtime::now()));
        if glance {
            timeout = Some(timeout.unwrap_or(GLANCE).min(GLANCE));
        }
        match readiness::wait(fds, timeout) {
            Ok(_) => Ok(()),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => Err(errors::interrupted()),
            Err(e) => Err(errors::system("cannot wait", &e)),
        }
    }

    /// Has the background thread make the descriptor readable when the session wants to be called.
    fn set_alarm(&self, inner: &mut Inner, at: Option<Time>) {
        // An alarm that comes too early does no harm; one that is set anew at each call would.
        let changed = match (inner.alarm, at) {
            (Some(set), Some(at)) => at < set || set <= runtime::now(),
            (None, at) => at.is_some(),
            (Some(_), None) => true,
        };
        if changed {
            inner.alarm = at;
            let (key, signal) = (self.key, Arc::downgrade(&self.signal));
            // Without background thread (a forked child) the application's next call finds out by itself.
            let _ = self.context().tell(move |background, _| background.wake_at(key, signal, at));
        }
    }

    /// After a fork: whoever makes a call goes on with what was open.
    fn adopt(&self, inner: &mut Inner) {
        if !inner.era.is_shared() {
            return;
        }
        if inner.era.is_inherited() {
            if let Err(e) = self.signal.renew() {
                log::error!("descriptor {}: cannot make it anew after a fork: {e}", self.number());
            }
            inner.alarm = None;
            match &mut inner.role {
                Role::User(user) => user.line.join_anew(&self.signal),
                Role::Accepted(accepted) => accepted.line.join_anew(&self.signal),
                Role::Dispatch(line) => line.join_anew(&self.signal),
                Role::Element(element) => element.join_anew(&self.signal),
                Role::Fresh | Role::Watch(_) | Role::Closed => {}
            }
        }
        inner.era = Era::now();
    }

    /// Does what has become possible, taking in more only if nothing waits to be received.
    pub(super) fn service(&self, inner: &mut Inner, now: Time) {
        let mail = self.signal.take_mail();
        if mail.due {
            inner.alarm = None;
        }
        let read = inner.inbox.is_empty();
        match &mut inner.role {
            Role::Fresh | Role::Closed => {}
            Role::User(_) => super::user::service(self, inner, now, mail, read),
            Role::Element(_) => super::element::service(self, inner, now, mail, read),
            Role::Accepted(accepted) => {
                if let Some(pool) = mail.pool {
                    accepted.recommend(pool, now, &self.signal);
                }
                for (_, handle, id) in mail.senders {
                    accepted.line.machine.identify_sender(handle, id);
                }
                let mut events = Vec::new();
                accepted.line.run(now, read, self.context.limits(), &self.signal, &mut events);
                for event in events {
                    super::element::on_accepted_event(self, inner, event);
                }
            }
            Role::Dispatch(_) => super::dispatch::service(self, inner, now, mail, read),
            Role::Watch(watch) => watch.compare(mail),
        }
    }

    /// Looks at what it has become; none if another thread is inside of it.
    pub(super) fn glance<T>(&self, look: impl FnOnce(&Role) -> T) -> Option<T> {
        self.inner.try_lock_sound().map(|inner| look(&inner.role))
    }

    /// Ends whatever there is, in order. The socket is out of the table already.
    pub(super) fn shut(&self) {
        let mut inner = match self.inner.lock_sound() {
            Some(inner) => inner,
            // Half done: nothing of it can be trusted but that it is to be closed.
            None => self.inner.lock(),
        };
        let role = std::mem::replace(&mut inner.role, Role::Closed);
        let (era, alarm, open) = (inner.era, inner.alarm.take(), inner.open.take());
        if era.is_inherited() {
            self.signal.forget_waiting();
            std::mem::forget(open);
        } else {
            drop(open);
        }
        inner.inbox.clear();
        inner.given = None;
        drop(inner);
        if alarm.is_some() {
            let (key, signal) = (self.key, Arc::downgrade(&self.signal));
            let _ = self.context().tell(move |background, _| background.wake_at(key, signal, None));
        }
        if !era.is_shared() {
            match role {
                Role::User(user) => {
                    user.leave(self);
                    self.end(vec![user.line]);
                }
                Role::Element(element) => {
                    let lines = element.leave(self);
                    self.end(lines);
                }
                Role::Accepted(accepted) => {
                    accepted.leave(self);
                    self.end(vec![accepted.line]);
                }
                Role::Dispatch(mut line) => {
                    let key = self.key;
                    let _ = self.context().tell(move |background, _| background.dismiss(key));
                    line.machine.close();
                    self.linger(vec![*line]);
                }
                Role::Watch(watch) => watch.leave(self),
                Role::Fresh | Role::Closed => {}
            }
        }
        self.signal.close();
    }

    /// Ends sessions in order, and waits a little for what they still have to send.
    fn end(&self, mut lines: Vec<Line<Session>>) {
        for line in &mut lines {
            line.machine.close(runtime::now(), false);
        }
        self.linger(lines);
    }

    fn linger<M: Machine>(&self, mut lines: Vec<Line<M>>) {
        let give_up = runtime::now() + LINGER;
        let mut events = Vec::new();
        loop {
            let now = runtime::now();
            for line in &mut lines {
                line.run(now, false, self.context.limits(), &self.signal, &mut events);
            }
            lines.retain(|line| line.is_closing());
            if lines.is_empty() || now >= give_up {
                return;
            }
            let transports = lines.iter().filter_map(|line| line.transport());
            let mut fds: Vec<libc::pollfd> =
                transports.map(|(fd, i)| libc::pollfd { fd, events: events_of(i), revents: 0 }).collect();
            // Whether it was a signal, time, or a transport: the loop looks again.
            let _ = readiness::wait(&mut fds, Some(give_up.since(now)));
        }
    }

    /// The number is somebody else's now.
    pub(super) fn abandon(&self) {
        self.signal.abandon();
        self.shut();
    }
}

/// What poll(2) calls an interest.
pub(super) fn events_of(interest: crate::runtime::poller::Interest) -> i16 {
    let read = if interest.read { libc::POLLIN } else { 0 };
    read | if interest.write { libc::POLLOUT } else { 0 }
}

impl Inner {
    /// Whether the next call would find something of which no transport tells.
    fn is_pending(&self, socket: &Socket) -> bool {
        if !self.inbox.is_empty() {
            return true;
        }
        match &self.role {
            Role::User(user) => user.stands_still(socket) || user.line.has_more(),
            Role::Accepted(accepted) => accepted.line.has_more() || self.inbox.has_ended(),
            Role::Element(element) => element.has_more(),
            Role::Dispatch(line) => line.has_more(),
            Role::Watch(watch) => watch.has_change(),
            Role::Fresh | Role::Closed => false,
        }
    }

    pub(super) fn wake_at(&self) -> Option<Time> {
        match &self.role {
            Role::User(user) => user.line.wake_at(),
            Role::Accepted(accepted) => accepted.line.wake_at(),
            Role::Dispatch(line) => line.wake_at(),
            Role::Element(element) => element.wake_at(),
            Role::Fresh | Role::Watch(_) | Role::Closed => None,
        }
    }

    fn transport(&self) -> Option<(RawFd, i16)> {
        let transport = match &self.role {
            Role::User(user) => user.line.transport(),
            Role::Accepted(accepted) => accepted.line.transport(),
            Role::Element(element) => element.busiest().and_then(Line::transport),
            Role::Dispatch(line) => line.transport(),
            Role::Fresh | Role::Watch(_) | Role::Closed => None,
        };
        // Only room is waited for: what there is to be received is for another call.
        transport.map(|(fd, interest)| (fd, events_of(interest) & libc::POLLOUT))
    }

    /// POLLHUP once the session is over and everything was received.
    pub(super) fn hang_up(&self) -> i16 {
        if self.inbox.is_empty() && self.inbox.has_ended() { libc::POLLHUP } else { 0 }
    }

    /// The address of the listener.
    pub(super) fn listening_at(&self) -> Option<SocketAddr> {
        match &self.role {
            Role::Element(element) => Some(element.local()),
            Role::Fresh
            | Role::User(_)
            | Role::Accepted(_)
            | Role::Dispatch(_)
            | Role::Watch(_)
            | Role::Closed => None,
        }
    }
}

/// The options a socket starts with.
pub(super) fn initial_options(context: &Context) -> SocketOptions {
    let wait = if context.semantics().plain_calls_wait { Wait::Forever } else { Wait::No };
    let mut options = SocketOptions {
        session: context.session_config().clone(),
        call_timeout: None,
        receive_wait: wait,
        send_wait: wait,
        idle_timeout: IDLE,
        path: context.limits().path.clone(),
    };
    options.apply(&Settings { timeout: None, ..context.settings().clone() });
    options
}
