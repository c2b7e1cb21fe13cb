//! User data over UDP: a connected datagram socket, each datagram one whole message, no control channel.

use crate::config::Limits;
use crate::machine::{Channel, Destination, LinkFailure, LinkKind, Protocol, UserChannel};
use crate::runtime::link::{LinkEvent, failure, is_idle, plain_address};
use crate::runtime::poller::Interest;
use crate::types::Time;
use socket2::{Domain, SockAddr, Socket, Type};
use std::collections::VecDeque;
use std::io::{self, Read};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

/// The longest datagram there can be.
const MAX_DATAGRAM: usize = 65_535;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Fresh,
    Open,
    Over,
}

/// A connected datagram socket.
#[derive(Debug)]
pub(super) struct Udp {
    socket: Socket,
    stage: Stage,
    /// The reason for a `Down` that is still to be told.
    doomed: Option<LinkFailure>,
    queue: VecDeque<(Channel, Vec<u8>)>,
    queued: usize,
    limit: usize,
    pressed: bool,
    refused: Vec<(Channel, Vec<u8>)>,
    buffer: Vec<u8>,
}

impl Udp {
    pub fn connect(to: &Destination, limits: &Limits) -> io::Result<Udp> {
        let mut last = io::Error::from(io::ErrorKind::InvalidInput);
        let mut held = None;
        for address in to.addresses.as_slice() {
            let address = SocketAddr::new(*address, to.port);
            let socket =
                Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking().cloexec(), None)?;
            match socket.connect(&SockAddr::from(address)) {
                Ok(()) => return Ok(Udp::accepted(socket, limits)),
                Err(error) => last = error,
            }
            held = Some(socket);
        }
        let mut udp = Udp::accepted(held.ok_or(io::ErrorKind::InvalidInput)?, limits);
        udp.doomed = Some(failure(&last));
        Ok(udp)
    }

    pub fn accepted(socket: Socket, limits: &Limits) -> Udp {
        Udp {
            socket,
            stage: Stage::Fresh,
            doomed: None,
            queue: VecDeque::new(),
            queued: 0,
            limit: limits.queued_bytes_per_link,
            pressed: false,
            refused: Vec::new(),
            buffer: Vec::new(),
        }
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn interest(&self) -> Interest {
        match self.stage {
            Stage::Fresh | Stage::Open => Interest { read: true, write: !self.queue.is_empty() },
            Stage::Over => Interest::NONE,
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        let waiting = match self.stage {
            Stage::Fresh => true,
            Stage::Open => self.doomed.is_some() || !self.refused.is_empty(),
            Stage::Over => false,
        };
        waiting.then_some(Time::ZERO)
    }

    pub fn progress(&mut self, budget: usize, tell: &mut dyn FnMut(LinkEvent<'_>)) -> bool {
        if self.stage == Stage::Over {
            return false;
        }
        if self.doomed.is_none() && self.stage == Stage::Fresh {
            self.stage = Stage::Open;
            match (plain_address(self.socket.local_addr()), plain_address(self.socket.peer_addr())) {
                (Some(local), Some(peer)) => tell(LinkEvent::Up {
                    kind: LinkKind::Udp,
                    protocol: Protocol::Plain,
                    local: &[local],
                    peer: &[peer],
                }),
                _ => self.doomed = Some(LinkFailure::Unreachable),
            }
        }
        self.flush();
        for (channel, message) in self.refused.drain(..) {
            tell(LinkEvent::SendFailed { channel, message });
        }
        if self.pressed && self.queued <= self.limit / 2 {
            self.pressed = false;
            tell(LinkEvent::Writable);
        }
        let more = self.read(budget, tell);
        if let Some(why) = self.doomed.filter(|_| !more) {
            self.stage = Stage::Over;
            tell(LinkEvent::Down(why));
        }
        more
    }

    /// Returns whether more may be waiting.
    fn read(&mut self, budget: usize, tell: &mut dyn FnMut(LinkEvent<'_>)) -> bool {
        self.buffer.resize(MAX_DATAGRAM, 0);
        for _ in 0..budget {
            match (&self.socket).read(&mut self.buffer) {
                Ok(len) => tell(LinkEvent::Message {
                    channel: Channel::User(UserChannel::default()),
                    bytes: &self.buffer[..len],
                    complete: true,
                }),
                Err(error) if is_idle(&error) => return false,
                Err(error) => {
                    self.doomed.get_or_insert(failure(&error));
                    return false;
                }
            }
        }
        budget > 0
    }

    pub fn push(&mut self, channel: Channel, bytes: Vec<u8>) {
        match channel {
            Channel::User(_) => {}
            Channel::Asap | Channel::Enrp => return,
        }
        if self.stage == Stage::Over || self.doomed.is_some() {
            self.queue.push_back((channel, bytes));
            return;
        }
        if self.queued >= self.limit {
            self.doomed = Some(LinkFailure::Congested);
        }
        self.queued += bytes.len();
        self.queue.push_back((channel, bytes));
    }

    pub fn flush(&mut self) {
        while self.doomed.is_none()
            && self.stage != Stage::Over
            && let Some((_, bytes)) = self.queue.front()
        {
            match self.socket.send_with_flags(bytes, libc::MSG_NOSIGNAL) {
                Err(error) if is_idle(&error) => break,
                // An answer to an earlier datagram says that nobody is there.
                Err(error) if error.raw_os_error() != Some(libc::EMSGSIZE) => {
                    self.doomed = Some(failure(&error));
                }
                result => {
                    let Some((channel, bytes)) = self.queue.pop_front() else { break };
                    self.queued -= bytes.len();
                    if result.is_err() {
                        self.refused.push((channel, bytes));
                    }
                }
            }
        }
        self.pressed |= self.queued > self.limit / 2;
    }

    pub fn queued(&self) -> usize {
        self.queued
    }

    pub fn take_unsent(&mut self) -> Vec<(Channel, Vec<u8>)> {
        self.queued = 0;
        self.queue.drain(..).collect()
    }

    /// UDP has no end to tell the peer: done as soon as the queue is empty.
    pub fn finish(&mut self) {
        self.flush();
        if self.queue.is_empty() {
            self.doomed.get_or_insert(LinkFailure::Closed);
        }
    }
}
