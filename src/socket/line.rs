//! One session with its connections, run in the caller's thread: carries the effects of the session machine out, and what
//! happens on the connections in. Says nothing about descriptors but that its transports join one.

use super::signal::Signal;
use crate::config::Limits;
use crate::machine::{Effect, Input, LinkFailure, LinkId, Machine, Protocol};
use crate::runtime::link::{Connection, LinkEvent};
use crate::runtime::poller::Interest;
use crate::session::{Event, Session};
use crate::types::Time;
use std::os::fd::RawFd;

#[derive(Debug)]
struct Link {
    id: LinkId,
    connection: Connection,
    up: bool,
    /// As it stands in the socket's descriptor.
    joined: Option<(RawFd, Interest)>,
}

/// A session at work.
#[derive(Debug)]
pub(super) struct Line {
    /// The machine. After a command to it, [`Line::run`] is to be called.
    pub(super) session: Session,
    links: Vec<Link>,
    /// Closed in order, but not everything is written yet.
    closing: Vec<Connection>,
    /// What has come of a message that has not ended yet.
    partial: Vec<u8>,
    /// Whether it has come over a link that knows where messages end.
    framed: bool,
    /// A connection holds more that waiting for its descriptor would not show.
    more: bool,
    token: u64,
}

impl Line {
    /// A session without connections. Its transports join descriptors under `token`.
    pub(super) fn new(session: Session, token: u64) -> Line {
        Line {
            session,
            links: Vec::new(),
            closing: Vec::new(),
            partial: Vec::new(),
            framed: true,
            more: false,
            token,
        }
    }

    /// A session on a connection that was accepted.
    pub(super) fn accepted(session: Session, token: u64, id: LinkId, connection: Connection) -> Line {
        let mut line = Line::new(session, token);
        line.links.push(Link { id, connection, up: false, joined: None });
        line
    }

    /// Does what can be done now. With `read`, takes in what has come until it has found something for the user; what is
    /// to be told is appended to `events`.
    pub(super) fn run(
        &mut self,
        now: Time,
        read: bool,
        limits: &Limits,
        signal: &Signal,
        events: &mut Vec<Event>,
    ) {
        let before = events.len();
        loop {
            self.progress(now, usize::from(read && events.len() == before), signal);
            if self.session.poll_timeout().is_some_and(|at| at <= now) {
                self.session.handle(now, Input::Timeout);
            }
            let acted = self.act(now, limits, signal);
            let told = events.len();
            while let Some(event) = self.session.poll_event() {
                self.assemble(event, events);
            }
            let reading = read && self.more && events.len() == before;
            if !acted && !reading && told == events.len() {
                break;
            }
        }
        self.join(signal);
    }

    /// Takes in all that has come, to the end: before the session leaves its element, so that the last cookie counts.
    pub(super) fn drain(&mut self, now: Time, limits: &Limits, signal: &Signal, events: &mut Vec<Event>) {
        let mut held = 0;
        loop {
            let before = events.len();
            self.run(now, true, limits, signal, events);
            for event in events.iter().skip(before) {
                if let Event::Received { bytes, .. } = event {
                    held += bytes.len();
                }
            }
            if events.len() == before || held > limits.user_message_bytes {
                break;
            }
        }
    }

    fn progress(&mut self, now: Time, budget: usize, signal: &Signal) {
        let session = &mut self.session;
        let (framed, mut more) = (&mut self.framed, false);
        let mut over = Vec::new();
        for link in &mut self.links {
            let (id, up) = (link.id, &mut link.up);
            let mut down = None;
            more |= link.connection.progress(now, budget, &mut |event| match event {
                LinkEvent::Up { kind, protocol, local, peer } => {
                    *up = true;
                    *framed = protocol == Protocol::Session;
                    let up = Input::LinkUp { link: id, kind, protocol, local, peer, identity: None };
                    session.handle(now, up);
                }
                LinkEvent::Message { channel, bytes, complete } => {
                    session.handle(now, Input::Message { link: id, channel, bytes, complete });
                }
                LinkEvent::Writable => session.handle(now, Input::Writable { link: id }),
                LinkEvent::SendFailed { channel, message } => {
                    session.handle(now, Input::SendFailed { link: id, channel, message });
                }
                LinkEvent::Down(why) => down = Some(why),
            });
            if let Some(why) = down {
                for (channel, message) in link.connection.take_unsent() {
                    session.handle(now, Input::SendFailed { link: id, channel, message });
                }
                session.handle(now, Input::LinkDown { link: id, why });
                over.push(id);
            }
        }
        for id in over {
            self.hang_up(id, false, signal);
        }
        self.more = more || (budget == 0 && self.more && !self.links.is_empty());
        self.closing.retain_mut(|connection| {
            let mut down = false;
            connection.progress(now, 0, &mut |event| down |= matches!(event, LinkEvent::Down(_)));
            let done = down || connection.queued() == 0;
            if done {
                signal.part(connection.fd());
            }
            !done
        });
    }

    /// Carries out what the session wants done; whether there was anything.
    fn act(&mut self, now: Time, limits: &Limits, signal: &Signal) -> bool {
        let mut acted = false;
        while let Some(effect) = self.session.poll_effect() {
            acted = true;
            match effect {
                Effect::Connect { link, to } => match Connection::connect(now, &to, limits) {
                    Ok(connection) => {
                        self.partial.clear();
                        self.links.push(Link { id: link, connection, up: false, joined: None });
                    }
                    Err(e) => {
                        log::debug!("cannot connect to an element: {e}");
                        let why = match e.kind() {
                            std::io::ErrorKind::Unsupported => LinkFailure::Unreachable,
                            _ => LinkFailure::NoResources,
                        };
                        self.session.handle(now, Input::LinkDown { link, why });
                    }
                },
                Effect::Send { link, channel, bytes } => {
                    if let Some(link) = self.links.iter_mut().find(|l| l.id == link) {
                        link.connection.push(channel, bytes);
                    }
                }
                Effect::Close { link, abort } => self.hang_up(link, abort, signal),
                // Sessions announce nothing.
                Effect::Announce { .. } => {}
            }
        }
        if acted {
            for link in &mut self.links {
                link.connection.flush();
            }
        }
        acted
    }

    fn hang_up(&mut self, id: LinkId, abort: bool, signal: &Signal) {
        let Some(at) = self.links.iter().position(|l| l.id == id) else { return };
        let mut link = self.links.remove(at);
        signal.part(link.connection.fd());
        link.connection.flush();
        if abort || link.connection.queued() == 0 {
            link.connection.close(abort);
        } else {
            link.connection.finish();
            self.closing.push(link.connection);
        }
    }

    /// Puts the pieces of a message together. Where nobody knows the ends of messages, each piece is told as it came.
    fn assemble(&mut self, event: Event, events: &mut Vec<Event>) {
        match event {
            Event::Received { bytes, channel, complete, from } if self.framed => {
                if !complete {
                    self.partial.extend_from_slice(&bytes);
                    return;
                }
                let bytes = if self.partial.is_empty() {
                    bytes
                } else {
                    self.partial.extend_from_slice(&bytes);
                    std::mem::take(&mut self.partial)
                };
                events.push(Event::Received { bytes, channel, complete, from });
            }
            other => events.push(other),
        }
    }

    fn join(&mut self, signal: &Signal) {
        for link in &mut self.links {
            let now = (link.connection.fd(), link.connection.interest());
            // While connecting, a new socket may have come under the old number.
            if link.joined != Some(now) || !link.up {
                if let Some((old, _)) = link.joined.filter(|(old, _)| *old != now.0) {
                    signal.part(old);
                }
                match signal.join(now.0, self.token, now.1) {
                    Ok(()) => link.joined = Some(now),
                    Err(e) => {
                        log::error!("descriptor {}: cannot wait for its transport: {e}", signal.number())
                    }
                }
            }
        }
        for connection in &self.closing {
            let _ = signal.join(connection.fd(), self.token, connection.interest());
        }
    }

    /// In a forked child, after its descriptor was renewed.
    pub(super) fn join_anew(&mut self, signal: &Signal) {
        for link in &mut self.links {
            link.joined = None;
        }
        self.join(signal);
    }

    /// Whether a message can be sent without being queued behind another.
    pub(super) fn has_room(&self) -> bool {
        self.links.iter().all(|l| l.connection.queued() == 0)
    }

    /// Whether there may be more to read, in memory.
    pub(super) fn has_more(&self) -> bool {
        self.more
    }

    /// Whether what was sent before an orderly end is still being written.
    pub(super) fn is_closing(&self) -> bool {
        !self.closing.is_empty()
    }

    /// When [`Line::run`] is wanted though no transport is ready.
    pub(super) fn wake_at(&self) -> Option<Time> {
        let links = self.links.iter().filter_map(|l| l.connection.deadline());
        links
            .chain(self.closing.iter().filter_map(Connection::deadline))
            .chain(self.session.poll_timeout())
            .min()
    }

    /// Whether the session waits for a time that has come.
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.session.poll_timeout().is_some_and(|at| at <= now)
    }

    /// A transport to wait on for room.
    pub(super) fn transport(&self) -> Option<(RawFd, Interest)> {
        let closing = self.closing.first().map(|c| (c.fd(), c.interest()));
        self.links.last().map(|l| (l.connection.fd(), l.connection.interest())).or(closing)
    }
}
