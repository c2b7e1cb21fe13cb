//! One session (or dispatch) with its connections, run in the caller's thread: carries the effects of the machine out, and
//! what happens on the connections in. Says nothing about descriptors but that its transports join one.

use super::signal::Signal;
use crate::config::{Limits, PathLimits};
use crate::machine::{Destination, Effect, Input, LinkFailure, LinkId, LinkKind, Machine, Protocol};
use crate::runtime::link::{Connection, LinkEvent};
use crate::runtime::poller::Interest;
use crate::types::Time;
use std::io;
use std::os::fd::RawFd;

#[derive(Debug)]
struct Link {
    id: LinkId,
    connection: Connection,
    /// Since when, and over what.
    up: Option<(Time, LinkKind)>,
    /// It knows where messages end.
    framed: bool,
    /// What has come of a message that has not ended yet.
    partial: Vec<u8>,
    /// As it stands in the socket's descriptor.
    joined: Option<(RawFd, Interest)>,
}

/// A machine at work.
#[derive(Debug)]
pub(super) struct Line<M> {
    /// After a command to it, [`Line::run`] is to be called.
    pub(super) machine: M,
    links: Vec<Link>,
    /// Closed in order, but not everything is written yet.
    closing: Vec<Connection>,
    /// A connection holds more that waiting for its descriptor would not show.
    more: bool,
    /// Bytes taken in.
    received: usize,
    token: u64,
    /// How connections to be opened try their paths, if not as the limits say.
    pub(super) path: Option<PathLimits>,
    /// What the application says the session is doing.
    pub(super) status: String,
    /// The application writes no more, which is passed on where there is no framing to end.
    silent: bool,
    /// The payload protocol identifier of what was sent last.
    pub(super) ppid: u32,
}

impl<M: Machine> Line<M> {
    /// A machine without connections. Its transports join descriptors under `token`.
    pub(super) fn new(machine: M, token: u64) -> Line<M> {
        let (links, closing, status) = (Vec::new(), Vec::new(), String::new());
        Line {
            machine,
            links,
            closing,
            more: false,
            received: 0,
            token,
            path: None,
            status,
            silent: false,
            ppid: 0,
        }
    }

    /// A session on a connection that was accepted.
    pub(super) fn accepted(machine: M, token: u64, id: LinkId, connection: Connection) -> Line<M> {
        let mut line = Line::new(machine, token);
        line.open(id, connection);
        line
    }

    fn open(&mut self, id: LinkId, connection: Connection) {
        let partial = Vec::new();
        self.links.push(Link { id, connection, up: None, framed: false, partial, joined: None });
    }

    /// The connections that are up: since when, and over what.
    pub(super) fn connections(&self) -> impl Iterator<Item = (Time, LinkKind)> + '_ {
        self.links.iter().filter_map(|link| link.up)
    }

    /// Hands in a datagram that has come on a shared transport; [`Line::run`] takes it in.
    pub(super) fn deliver(&mut self, bytes: Vec<u8>) {
        if let Some(link) = self.links.last_mut() {
            link.connection.deliver(bytes);
        }
    }

    /// Does what can be done now. With `read`, takes in what has come until it has found something for the user; what is
    /// to be told is appended to `events`.
    pub(super) fn run(
        &mut self,
        now: Time,
        read: bool,
        limits: &Limits,
        signal: &Signal,
        events: &mut Vec<M::Event>,
    ) {
        let before = events.len();
        loop {
            self.progress(now, usize::from(read && events.len() == before), signal);
            if self.machine.poll_timeout().is_some_and(|at| at <= now) {
                self.machine.handle(now, Input::Timeout);
            }
            let acted = self.act(now, limits, signal);
            let told = events.len();
            while let Some(event) = self.machine.poll_event() {
                events.push(event);
            }
            let reading = read && self.more && events.len() == before;
            if !acted && !reading && told == events.len() {
                break;
            }
        }
        if self.silent {
            let plain = self.links.iter_mut().filter(|link| link.up.is_some() && !link.framed);
            plain.for_each(|link| link.connection.end_writing());
        }
        self.join(signal);
    }

    /// The application writes no more, on this connection and on those to come. A plain TCP peer finds FIN; framed sessions,
    /// which have no such end, go on.
    pub(super) fn end_writing(&mut self) {
        self.silent = true;
    }

    /// Breaks off what is still being written after an orderly end.
    pub(super) fn drop_closing(&mut self, signal: &Signal) {
        for connection in self.closing.drain(..) {
            if !connection.shares_socket() {
                signal.part(connection.fd());
            }
            connection.close(true);
        }
    }

    /// Takes in all that has come, to the end: before the session leaves its element, so that the last cookie counts.
    pub(super) fn drain(&mut self, now: Time, limits: &Limits, signal: &Signal, events: &mut Vec<M::Event>) {
        let most = self.received.saturating_add(limits.user_message_bytes);
        loop {
            let before = events.len();
            self.run(now, true, limits, signal, events);
            if events.len() == before || self.received > most {
                break;
            }
        }
    }

    fn progress(&mut self, now: Time, budget: usize, signal: &Signal) {
        let (machine, received) = (&mut self.machine, &mut self.received);
        let mut more = false;
        let mut over = Vec::new();
        for link in &mut self.links {
            let Link { id, connection, up, framed, partial, .. } = link;
            let id = *id;
            let mut down = None;
            more |= connection.progress(now, budget, &mut |event| match event {
                LinkEvent::Up { kind, protocol, local, peer } => {
                    *up = Some((now, kind));
                    *framed = protocol == Protocol::Session;
                    let up = Input::LinkUp { link: id, kind, protocol, local, peer, identity: None };
                    machine.handle(now, up);
                }
                LinkEvent::Message { channel, bytes, complete } => {
                    *received = received.saturating_add(bytes.len());
                    // Where nobody knows the ends of messages, each piece is handed on as it came.
                    if *framed && !complete {
                        partial.extend_from_slice(bytes);
                    } else if partial.is_empty() {
                        machine.handle(now, Input::Message { link: id, channel, bytes, complete });
                    } else {
                        partial.extend_from_slice(bytes);
                        let bytes = std::mem::take(partial);
                        machine.handle(now, Input::Message { link: id, channel, bytes: &bytes, complete });
                    }
                }
                LinkEvent::Writable => machine.handle(now, Input::Writable { link: id }),
                LinkEvent::SendFailed { channel, message } => {
                    machine.handle(now, Input::SendFailed { link: id, channel, message });
                }
                LinkEvent::Down(why) => down = Some(why),
            });
            if let Some(why) = down {
                for (channel, message) in connection.take_unsent() {
                    machine.handle(now, Input::SendFailed { link: id, channel, message });
                }
                machine.handle(now, Input::LinkDown { link: id, why });
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
            if done && !connection.shares_socket() {
                signal.part(connection.fd());
            }
            !done
        });
    }

    /// Carries out what the session wants done; whether there was anything.
    fn act(&mut self, now: Time, limits: &Limits, signal: &Signal) -> bool {
        let mut acted = false;
        while let Some(effect) = self.machine.poll_effect() {
            acted = true;
            match effect {
                Effect::Connect { link, to } => match self.connect(now, &to, limits) {
                    Ok(connection) => self.open(link, connection),
                    Err(e) => {
                        log::debug!("cannot connect to an element: {e}");
                        let why = match e.kind() {
                            io::ErrorKind::Unsupported => LinkFailure::Unreachable,
                            _ => LinkFailure::NoResources,
                        };
                        self.machine.handle(now, Input::LinkDown { link, why });
                    }
                },
                Effect::Send { link, channel, bytes } => {
                    if let Some(link) = self.links.iter_mut().find(|l| l.id == link) {
                        link.connection.push(channel, bytes);
                    }
                }
                Effect::Close { link, abort } => self.hang_up(link, abort, signal),
                // Sessions announce and report nothing.
                Effect::Announce { .. } | Effect::Datagram { .. } => {}
            }
        }
        if acted {
            for link in &mut self.links {
                link.connection.flush();
            }
        }
        acted
    }

    fn connect(&self, now: Time, to: &Destination, limits: &Limits) -> io::Result<Connection> {
        match &self.path {
            Some(path) => Connection::connect(now, to, &Limits { path: path.clone(), ..limits.clone() }),
            None => Connection::connect(now, to, limits),
        }
    }

    fn hang_up(&mut self, id: LinkId, abort: bool, signal: &Signal) {
        let Some(at) = self.links.iter().position(|l| l.id == id) else { return };
        let mut link = self.links.remove(at);
        if !link.connection.shares_socket() {
            signal.part(link.connection.fd());
        }
        link.connection.flush();
        if abort || link.connection.queued() == 0 {
            link.connection.close(abort);
        } else {
            link.connection.finish();
            self.closing.push(link.connection);
        }
    }

    fn join(&mut self, signal: &Signal) {
        // A shared transport is its owner's to join.
        for link in self.links.iter_mut().filter(|l| !l.connection.shares_socket()) {
            let now = (link.connection.fd(), link.connection.interest());
            // While connecting, a new socket may have come under the old number.
            if link.joined != Some(now) || link.up.is_none() {
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
        for connection in self.closing.iter().filter(|c| !c.shares_socket()) {
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

    /// Whether so much is queued on a link that another message might be too much for it.
    pub(super) fn is_full(&self, limits: &Limits) -> bool {
        self.links.iter().any(|l| l.connection.queued() >= limits.queued_bytes_per_link)
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
            .chain(self.machine.poll_timeout())
            .min()
    }

    /// Whether the session waits for a time that has come.
    pub(super) fn is_due(&self, now: Time) -> bool {
        self.machine.poll_timeout().is_some_and(|at| at <= now)
    }

    /// A transport to wait on for room.
    pub(super) fn transport(&self) -> Option<(RawFd, Interest)> {
        let closing = self.closing.first().map(|c| (c.fd(), c.interest()));
        self.links.last().map(|l| (l.connection.fd(), l.connection.interest())).or(closing)
    }
}
