//! One connection to one peer, non-blocking, without a thread of its own: framing, queue, connecting. Each kind of
//! link is a file of its own below; used by the driver for ASAP and ENRP links, and by callers' threads for
//! sessions (docs/tcp.md).

use crate::config::Limits;
use crate::machine::{Channel, Destination, LinkFailure, LinkKind, Protocol};
use crate::runtime::poller::Interest;
use crate::types::Time;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{OwnedFd, RawFd};

/// What happened on a connection.
#[derive(Debug)]
pub enum LinkEvent<'a> {
    /// It can be used.
    Up {
        /// What carries it.
        kind: LinkKind,
        /// What it turned out to be: `Session` or `Plain` where that was to be found out.
        protocol: Protocol,
        /// Our addresses.
        local: &'a [SocketAddr],
        /// The peer's.
        peer: &'a [SocketAddr],
    },
    /// A message, or a piece of one.
    Message {
        /// On this channel.
        channel: Channel,
        /// Untrusted.
        bytes: &'a [u8],
        /// Whether the message ends here.
        complete: bool,
    },
    /// The queue has drained below its low-water mark after having been above it.
    Writable,
    /// It is over; nothing follows.
    Down(LinkFailure),
}

/// A connection.
#[derive(Debug)]
pub struct Connection {}

#[allow(unused_variables)]
impl Connection {
    /// Begins to connect. A list of addresses is tried in turn.
    pub fn connect(now: Time, to: &Destination, limits: &Limits) -> io::Result<Connection> {
        todo!()
    }
    /// Takes on an accepted socket. `Session` finds out whether the peer speaks the framing.
    pub fn accepted(
        now: Time,
        socket: OwnedFd,
        kind: LinkKind,
        protocol: Protocol,
        limits: &Limits,
    ) -> io::Result<Connection> {
        todo!()
    }
    /// The descriptor to wait on. Changes only while connecting (the next address).
    pub fn fd(&self) -> RawFd {
        todo!()
    }
    /// What to wait for now.
    pub fn interest(&self) -> Interest {
        todo!()
    }
    /// When [`Connection::progress`] is wanted without readiness (preamble, connect).
    pub fn deadline(&self) -> Option<Time> {
        todo!()
    }
    /// Does what can be done without blocking, telling what happened. At most `budget` messages are
    /// delivered per call; returns whether more may be waiting.
    pub fn progress(&mut self, now: Time, budget: usize, tell: &mut dyn FnMut(LinkEvent<'_>)) -> bool {
        todo!()
    }
    /// Queues a message and writes what can be written. Errors are told by `progress`.
    pub fn send(&mut self, channel: Channel, bytes: Vec<u8>) {
        todo!()
    }
    /// Bytes queued and not written.
    pub fn queued(&self) -> usize {
        todo!()
    }
    /// Takes back the user messages of which no byte was handed to the transport.
    pub fn take_unsent(&mut self) -> Vec<(Channel, Vec<u8>)> {
        todo!()
    }
    /// Closes: breaks off (RST), or sends what is queued as far as it goes without blocking and closes in order.
    /// Dropping a connection only closes the descriptor (for forked children).
    pub fn close(self, abort: bool) {
        todo!()
    }
}
