//! TCP links: connecting, queue, reading, ending in order. ASAP and ENRP links are a stream of messages, sessions
//! are framed or plain as docs/tcp.md says. The frames themselves are `framing`'s, the queue is `outbox`'s.

use crate::codec::{MessageSplitter, padding};
use crate::config::Limits;
use crate::machine::{Channel, Destination, LinkFailure, LinkKind, Protocol, UserChannel};
use crate::runtime;
use crate::runtime::framing::{self, Beginning, FrameReader, MAX_FRAME, PREAMBLE, Unit};
use crate::runtime::link::{LinkEvent, failure, is_idle, plain_address};
use crate::runtime::outbox::{Outbox, Piece};
use crate::runtime::poller::Interest;
use crate::types::Time;
use socket2::{Domain, SockAddr, Socket, TcpKeepalive, Type};
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

/// How long a listener waits for the preamble (docs/tcp.md section 3).
const PREAMBLE_WAIT: Duration = Duration::from_millis(200);
/// How long an address may stay silent while others have not been tried; doubles each round.
const PATIENCE: Duration = Duration::from_millis(200);
/// Bytes read at once; on the stack, also of callers' threads.
const READ: usize = 32 << 10;
/// What is queued is written without waiting for the next flush when there is more of it than this.
const EAGER: usize = 64 << 10;
/// Bytes read and dropped at close, so that the end goes out as FIN and not as RST.
const DISCARD: usize = 1 << 20;

#[derive(Debug)]
enum Stage {
    Connecting(Attempt),
    /// Accepted; `Up` is still to be told.
    Fresh,
    /// Accepted; finds out who is there until then.
    Detecting(Time),
    Open,
    /// We end in order; `shut` once FIN has been sent.
    Ending {
        shut: bool,
    },
    /// `Down` was told. After the peer's FIN our direction still works.
    Over {
        writable: bool,
    },
}

/// The address being tried and those to try after it.
#[derive(Debug)]
struct Attempt {
    current: (SocketAddr, Duration),
    until: Option<Time>,
    others: VecDeque<(SocketAddr, Duration)>,
    /// For each of them, how long the link may go unacknowledged.
    unacknowledged: Option<Duration>,
}

/// How the bytes that come are read.
#[derive(Debug)]
enum Decoder {
    /// Nobody knows yet.
    Undecided,
    /// As they come, unless they begin with a preamble after all: the peer was silent for so long that it was taken for a plain
    /// client, but it may have been busy, or what it sent may have been lost once. Nothing was written to it yet.
    Silent,
    /// As they come.
    Raw,
    /// ASAP or ENRP messages.
    Messages(MessageSplitter, Channel),
    /// Frames, after so many bytes of the peer's preamble have been seen.
    Frames(usize, Box<FrameReader>),
}

/// A TCP connection.
#[derive(Debug)]
pub(super) struct Tcp {
    socket: Socket,
    /// The socket of the previous address, until its owner had a chance to forget it.
    retired: Option<Socket>,
    stage: Stage,
    protocol: Protocol,
    decoder: Decoder,
    /// Bytes read and not yet decoded, from `held_at` on.
    held: Vec<u8>,
    held_at: usize,
    outbox: Outbox,
    /// Of bytes queued: half of it is the low-water mark.
    limit: usize,
    /// As much queued is congestion.
    most: usize,
    user_limit: usize,
    /// More than the low-water mark was queued.
    pressed: bool,
    /// Their time was over before anything of them was written.
    expired: Vec<(Channel, Vec<u8>)>,
    /// Writing has failed: what has come is still read before `Down`.
    broken: Option<LinkFailure>,
    /// `Down` is to be told at once.
    doomed: Option<LinkFailure>,
    /// Whether our direction has an end before the link's.
    half: Half,
}

/// The end of our direction, while the peer's goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Half {
    None,
    /// When everything is written.
    Wanted,
    Shut,
}

/// How reading ended.
enum Reading {
    /// Nothing more is there.
    Idle,
    /// The budget is used up.
    Budget,
    /// The link is over.
    End(LinkFailure),
}

impl Tcp {
    pub fn connect(now: Time, to: &Destination, limits: &Limits) -> io::Result<Tcp> {
        let mut others: VecDeque<_> = to
            .addresses
            .as_slice()
            .iter()
            .map(|address| (SocketAddr::new(*address, to.port), PATIENCE))
            .collect();
        let current = others.pop_front().ok_or(io::ErrorKind::InvalidInput)?;
        let unacknowledged = unacknowledged(to.protocol, limits);
        let socket = tcp_socket(current.0, unacknowledged)?;
        let attempt = Attempt { current, until: None, others, unacknowledged };
        let mut tcp = Tcp::new(socket, Stage::Open, to.protocol, limits);
        if let Err(error) = tcp.dial(now, attempt) {
            tcp.doomed = Some(error);
        }
        Ok(tcp)
    }

    pub fn accepted(now: Time, socket: Socket, protocol: Protocol, limits: &Limits) -> io::Result<Tcp> {
        // A peer that is gone already shows when the socket is read.
        let _ = socket.set_tcp_nodelay(true);
        let _ = bound_silence(&socket, unacknowledged(protocol, limits));
        let stage = match protocol {
            Protocol::Session => Stage::Detecting(now + PREAMBLE_WAIT),
            Protocol::Asap | Protocol::Enrp | Protocol::Plain => Stage::Fresh,
        };
        Ok(Tcp::new(socket, stage, protocol, limits))
    }

    fn new(socket: Socket, stage: Stage, protocol: Protocol, limits: &Limits) -> Tcp {
        let decoder = match (protocol, &stage) {
            (Protocol::Asap, _) => Decoder::Messages(MessageSplitter::default(), Channel::Asap),
            (Protocol::Enrp, _) => Decoder::Messages(MessageSplitter::default(), Channel::Enrp),
            (Protocol::Plain, _) => Decoder::Raw,
            (Protocol::Session, Stage::Detecting(_)) => Decoder::Undecided,
            (Protocol::Session, _) => {
                Decoder::Frames(0, Box::new(FrameReader::new(limits.user_message_bytes)))
            }
        };
        let mut outbox = Outbox::default();
        if matches!(decoder, Decoder::Frames(..)) {
            outbox.push(Piece::bare(&PREAMBLE));
        }
        Tcp {
            socket,
            retired: None,
            stage,
            protocol,
            decoder,
            held: Vec::new(),
            held_at: 0,
            outbox,
            limit: limits.queued_bytes_per_link,
            most: match protocol {
                Protocol::Asap | Protocol::Enrp => limits.queued_bytes_per_link,
                Protocol::Session | Protocol::Plain => {
                    limits.queued_bytes_per_link.saturating_add(limits.user_message_bytes)
                }
            },
            user_limit: limits.user_message_bytes,
            pressed: false,
            expired: Vec::new(),
            broken: None,
            doomed: None,
            half: Half::None,
        }
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn interest(&self) -> Interest {
        let write = !self.outbox.is_empty() && self.broken.is_none();
        match self.stage {
            Stage::Connecting(_) => Interest { read: false, write: true },
            Stage::Detecting(_) => Interest::READ,
            Stage::Fresh | Stage::Open | Stage::Ending { .. } => Interest { read: true, write },
            Stage::Over { writable } => Interest { read: false, write: writable && write },
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        if matches!(self.stage, Stage::Over { .. }) {
            return None;
        }
        if self.doomed.is_some() || self.broken.is_some() || !self.expired.is_empty() {
            return Some(Time::ZERO);
        }
        match &self.stage {
            Stage::Connecting(attempt) => attempt.until,
            Stage::Fresh => Some(Time::ZERO),
            Stage::Detecting(until) => Some(*until),
            Stage::Open | Stage::Ending { .. } | Stage::Over { .. } => None,
        }
    }

    pub fn progress(&mut self, now: Time, budget: usize, tell: &mut dyn FnMut(LinkEvent<'_>)) -> bool {
        self.retired = None;
        if let Stage::Over { .. } = self.stage {
            self.flush();
            return false;
        }
        if let Stage::Connecting(_) = self.stage
            && self.doomed.is_none()
        {
            match self.connected(now) {
                Ok(true) => self.up(tell),
                Ok(false) => return false,
                Err(why) => self.doomed = Some(why),
            }
        }
        if let Some(why) = self.doomed {
            self.down(why, tell);
            return false;
        }
        match self.stage {
            Stage::Fresh => self.up(tell),
            Stage::Detecting(until) => match self.detect(now >= until) {
                Ok(true) => self.up(tell),
                Ok(false) => return false,
                Err(why) => {
                    self.down(why, tell);
                    return false;
                }
            },
            Stage::Connecting(_) | Stage::Open | Stage::Ending { .. } | Stage::Over { .. } => {}
        }
        self.flush();
        for (channel, message) in self.expired.drain(..) {
            tell(LinkEvent::SendFailed { channel, message });
        }
        if self.pressed && self.outbox.bytes() <= self.limit / 2 {
            self.pressed = false;
            tell(LinkEvent::Writable);
        }
        match self.read(budget, tell) {
            Reading::Idle => {
                // What came before the failure has been told.
                if let Some(why) = self.broken.filter(|_| budget > 0) {
                    self.down(why, tell);
                }
                false
            }
            Reading::Budget => budget > 0 || self.held_at < self.held.len(),
            Reading::End(why) => {
                self.down(why, tell);
                false
            }
        }
    }

    fn down(&mut self, why: LinkFailure, tell: &mut dyn FnMut(LinkEvent<'_>)) {
        let writable = why == LinkFailure::Closed && matches!(self.stage, Stage::Open);
        self.stage = Stage::Over { writable };
        self.held = Vec::new();
        self.held_at = 0;
        tell(LinkEvent::Down(why));
    }

    fn up(&mut self, tell: &mut dyn FnMut(LinkEvent<'_>)) {
        let local = plain_address(self.socket.local_addr());
        let peer = plain_address(self.socket.peer_addr());
        let (Some(local), Some(peer)) = (local, peer) else {
            self.doomed = Some(LinkFailure::Reset);
            self.stage = Stage::Open;
            return;
        };
        self.stage = Stage::Open;
        tell(LinkEvent::Up { kind: LinkKind::Tcp, protocol: self.protocol, local: &[local], peer: &[peer] });
    }

    // ---- connecting ----

    /// Starts an attempt, or the next one if it fails at once; an error when all have failed.
    fn dial(&mut self, now: Time, mut attempt: Attempt) -> Result<(), LinkFailure> {
        loop {
            let (address, patience) = attempt.current;
            attempt.until = (!attempt.others.is_empty()).then(|| now + patience);
            let error = match self.socket.connect(&SockAddr::from(address)) {
                Ok(()) => None,
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => None,
                Err(error) => Some(error),
            };
            match error {
                None => {
                    self.stage = Stage::Connecting(attempt);
                    return Ok(());
                }
                Some(error) => self.next(&mut attempt, failure(&error))?,
            }
        }
    }

    /// Makes the socket for the next address; `why` when there is none.
    fn next(&mut self, attempt: &mut Attempt, why: LinkFailure) -> Result<(), LinkFailure> {
        attempt.current = attempt.others.pop_front().ok_or(why)?;
        let socket =
            tcp_socket(attempt.current.0, attempt.unacknowledged).map_err(|error| failure(&error))?;
        let old = std::mem::replace(&mut self.socket, socket);
        // The one the owner waits on is the first one since the last progress.
        self.retired.get_or_insert(old);
        Ok(())
    }

    /// Whether the attempt under way has succeeded. If it has failed the next one is started.
    fn connected(&mut self, now: Time) -> Result<bool, LinkFailure> {
        let Stage::Connecting(attempt) = &mut self.stage else { return Ok(true) };
        let why = match self.socket.take_error() {
            Ok(Some(error)) => failure(&error),
            Err(error) => failure(&error),
            Ok(None) => match self.socket.peer_addr() {
                Ok(peer) => {
                    // TCP's simultaneous open lets a socket connect to itself when its ephemeral port is
                    // the one it asks for, and nobody listens there.
                    let myself = plain_address(self.socket.local_addr()) == plain_address(Ok(peer));
                    if !myself {
                        return Ok(true);
                    }
                    LinkFailure::Refused
                }
                Err(_) if attempt.until.is_none_or(|until| now < until) => return Ok(false),
                Err(_) => {
                    let (address, patience) = attempt.current;
                    attempt.others.push_back((address, patience * 2));
                    LinkFailure::TimedOut
                }
            },
        };
        let others = std::mem::take(&mut attempt.others);
        let mut attempt = Attempt { until: None, others, ..*attempt };
        self.next(&mut attempt, why)?;
        self.dial(now, attempt)?;
        Ok(false)
    }

    // ---- finding out who is there ----

    /// Whether it is decided what the peer speaks.
    fn detect(&mut self, late: bool) -> Result<bool, LinkFailure> {
        let mut buffer = [MaybeUninit::uninit(); READ];
        let end = match receive(&self.socket, &mut buffer) {
            Ok(bytes) => {
                self.held.extend_from_slice(bytes);
                bytes.is_empty()
            }
            Err(error) if is_idle(&error) => false,
            Err(error) => return Err(failure(&error)),
        };
        match framing::beginning(&self.held) {
            Beginning::Framed => {
                self.held_at = PREAMBLE.len();
                let reader = FrameReader::new(self.user_limit);
                self.decoder = Decoder::Frames(PREAMBLE.len(), Box::new(reader));
                // What was pushed before this was known is framed after the preamble.
                let early = self.outbox.take_messages();
                self.outbox.push(Piece::bare(&PREAMBLE));
                for (channel, bytes) in early {
                    self.push(channel, bytes);
                }
                Ok(true)
            }
            Beginning::OtherVersion => Err(LinkFailure::Garbled),
            Beginning::Open if !end && !late => Ok(false),
            Beginning::Open | Beginning::Plain => {
                self.protocol = Protocol::Plain;
                self.decoder = if self.held.is_empty() { Decoder::Silent } else { Decoder::Raw };
                self.outbox.drop_control();
                Ok(true)
            }
        }
    }

    // ---- reading ----

    fn read(&mut self, budget: usize, tell: &mut dyn FnMut(LinkEvent<'_>)) -> Reading {
        if budget == 0 {
            return Reading::Budget;
        }
        let mut left = budget;
        // Bytes of a message that is not complete yet cost as well, or one peer could keep us here.
        let mut reads = budget.max(8);
        let held = std::mem::take(&mut self.held);
        let at = std::mem::take(&mut self.held_at);
        if !self.ending() {
            // Also what the decoder itself holds from last time.
            match self.decode(&held[at..], &mut left, tell) {
                Ok(taken) if at + taken < held.len() => {
                    (self.held, self.held_at) = (held, at + taken);
                    return Reading::Budget;
                }
                Ok(_) => {}
                Err(why) => return Reading::End(why),
            }
        }
        loop {
            if left == 0 || reads == 0 {
                return Reading::Budget;
            }
            reads -= 1;
            let mut buffer = [MaybeUninit::uninit(); READ];
            let bytes = match receive(&self.socket, &mut buffer) {
                Ok([]) => return Reading::End(self.ended()),
                Ok(bytes) => bytes,
                Err(error) if is_idle(&error) => return Reading::Idle,
                Err(error) => return Reading::End(failure(&error)),
            };
            if self.ending() {
                continue;
            }
            match self.decode(bytes, &mut left, tell) {
                Ok(taken) if taken < bytes.len() => {
                    self.held.extend_from_slice(&bytes[taken..]);
                    return Reading::Budget;
                }
                Ok(_) => {}
                Err(why) => return Reading::End(why),
            }
        }
    }

    /// Whether what comes is dropped.
    fn ending(&self) -> bool {
        matches!(self.stage, Stage::Ending { .. })
    }

    /// What FIN means.
    fn ended(&self) -> LinkFailure {
        match &self.decoder {
            _ if self.ending() => LinkFailure::Closed,
            Decoder::Frames(..) => LinkFailure::Reset,
            Decoder::Silent | Decoder::Raw | Decoder::Messages(..) | Decoder::Undecided => {
                self.broken.unwrap_or(LinkFailure::Closed)
            }
        }
    }

    /// Tells what `bytes` say, as long as the budget lasts; how many were taken.
    fn decode(
        &mut self,
        bytes: &[u8],
        left: &mut usize,
        tell: &mut dyn FnMut(LinkEvent<'_>),
    ) -> Result<usize, LinkFailure> {
        if matches!(self.decoder, Decoder::Silent) && !bytes.is_empty() {
            match framing::beginning(bytes) {
                Beginning::Framed => {
                    self.protocol = Protocol::Session;
                    self.decoder = Decoder::Frames(0, Box::new(FrameReader::new(self.user_limit)));
                    self.outbox.push(Piece::bare(&PREAMBLE));
                    self.up(tell);
                }
                Beginning::OtherVersion => return Err(LinkFailure::Garbled),
                Beginning::Open | Beginning::Plain => self.decoder = Decoder::Raw,
            }
        }
        let mut message = |channel, bytes: &[u8], complete| {
            *left -= 1;
            tell(LinkEvent::Message { channel, bytes, complete });
            *left > 0
        };
        match &mut self.decoder {
            Decoder::Undecided => Ok(bytes.len()),
            Decoder::Silent | Decoder::Raw => {
                if !bytes.is_empty() {
                    message(Channel::User(UserChannel::default()), bytes, false);
                }
                Ok(bytes.len())
            }
            Decoder::Messages(splitter, channel) => {
                splitter.push(bytes);
                loop {
                    match splitter.next_message() {
                        Ok(Some(whole)) => {
                            if !message(*channel, whole, true) {
                                return Ok(bytes.len());
                            }
                        }
                        Ok(None) => {
                            // An idle link holds no buffer.
                            if splitter.pending() == 0 {
                                *splitter = MessageSplitter::default();
                            }
                            return Ok(bytes.len());
                        }
                        Err(_) => return Err(LinkFailure::Garbled),
                    }
                }
            }
            Decoder::Frames(seen, reader) => {
                let preamble = bytes.len().min(PREAMBLE.len() - *seen);
                let (head, mut rest) = bytes.split_at(preamble);
                if head != &PREAMBLE[*seen..*seen + preamble] {
                    return Err(LinkFailure::Garbled);
                }
                *seen += preamble;
                loop {
                    let more = match reader.next(&mut rest) {
                        Ok(Some(Unit::User(channel, bytes))) => message(Channel::User(channel), bytes, true),
                        Ok(Some(Unit::Control(bytes))) => message(Channel::Asap, bytes, true),
                        Ok(Some(Unit::End)) => return Err(LinkFailure::Closed),
                        Ok(None) => false,
                        Err(_) => return Err(LinkFailure::Garbled),
                    };
                    if !more {
                        return Ok(bytes.len() - rest.len());
                    }
                }
            }
        }
    }

    // ---- writing ----

    pub fn push(&mut self, channel: Channel, mut bytes: Vec<u8>) {
        if matches!(self.stage, Stage::Ending { .. } | Stage::Over { writable: false }) {
            return;
        }
        if self.outbox.bytes() >= self.most {
            self.doomed = Some(LinkFailure::Congested);
        }
        if let (Decoder::Silent, Channel::User(_)) = (&self.decoder, channel) {
            self.decoder = Decoder::Raw;
        }
        match (&self.decoder, channel) {
            (Decoder::Messages(..), Channel::Asap | Channel::Enrp) => {
                bytes.resize(bytes.len() + padding(bytes.len()), 0);
                self.outbox.push(Piece::new(channel, &[], bytes));
            }
            (Decoder::Frames(..), Channel::Asap) => {
                // The encoder has padded the message; a frame holds what the message's own length says.
                if let Some(&[_, _, high, low]) = bytes.first_chunk() {
                    bytes.truncate(usize::from(u16::from_be_bytes([high, low])).max(4));
                }
                self.outbox.push(Piece::new(channel, &framing::control_header(bytes.len()), bytes));
            }
            (Decoder::Frames(..), Channel::User(user)) if bytes.len() <= MAX_FRAME => {
                let header = framing::user_header(user, bytes.len(), true);
                self.outbox.push(Piece::new(channel, &header, bytes));
            }
            (Decoder::Frames(..), Channel::User(user)) => {
                let count = bytes.len().div_ceil(MAX_FRAME);
                for (n, chunk) in bytes.chunks(MAX_FRAME).enumerate() {
                    let header = framing::user_header(user, chunk.len(), n + 1 == count);
                    let mut piece = Piece::new(channel, &header, chunk.to_vec());
                    piece.first = n == 0;
                    self.outbox.push(piece);
                }
            }
            (Decoder::Silent | Decoder::Raw, Channel::User(_))
            | (Decoder::Undecided, Channel::User(_) | Channel::Asap) => {
                self.outbox.push(Piece::new(channel, &[], bytes));
            }
            // No such channel on this link.
            (Decoder::Messages(..), Channel::User(_))
            | (Decoder::Frames(..), Channel::Enrp)
            | (Decoder::Silent | Decoder::Raw, Channel::Asap | Channel::Enrp)
            | (Decoder::Undecided, Channel::Enrp) => {}
        }
        if self.outbox.bytes() > EAGER {
            self.flush();
        }
        self.pressed |= self.outbox.bytes() > self.limit / 2;
    }

    pub fn flush(&mut self) {
        match self.stage {
            Stage::Open | Stage::Ending { .. } | Stage::Over { writable: true } => {}
            Stage::Connecting(_) | Stage::Fresh | Stage::Detecting(_) | Stage::Over { writable: false } => {
                return;
            }
        }
        if self.broken.is_some() || self.doomed.is_some() {
            return;
        }
        self.expired.append(&mut self.outbox.take_expired(runtime::now()));
        match self.outbox.write(&self.socket) {
            Ok(()) => {}
            Err(error) if is_idle(&error) => return,
            Err(error) => {
                self.broken = Some(failure(&error));
                return;
            }
        }
        if let Stage::Ending { shut: shut @ false } = &mut self.stage {
            *shut = true;
            let _ = self.socket.shutdown(Shutdown::Write);
        } else if self.half == Half::Wanted {
            self.half = Half::Shut;
            let _ = self.socket.shutdown(Shutdown::Write);
        }
    }

    pub fn end_writing(&mut self) {
        if self.half == Half::None && matches!(self.decoder, Decoder::Silent | Decoder::Raw) {
            self.half = Half::Wanted;
            self.flush();
        }
    }

    pub fn queued(&self) -> usize {
        if self.broken.is_some() { 0 } else { self.outbox.bytes() }
    }

    pub fn take_unsent(&mut self) -> Vec<(Channel, Vec<u8>)> {
        let mut unsent = std::mem::take(&mut self.expired);
        unsent.append(&mut self.outbox.take_messages());
        unsent.retain(|(channel, _)| matches!(channel, Channel::User(_)));
        unsent
    }

    pub fn finish(&mut self) {
        match self.stage {
            Stage::Open | Stage::Fresh | Stage::Over { writable: true } => {
                if let Decoder::Frames(..) = self.decoder {
                    self.outbox.push(Piece::bare(&framing::end_frame()));
                }
                self.stage = Stage::Ending { shut: false };
                self.flush();
            }
            // Nobody has seen anything of it yet.
            Stage::Connecting(_) | Stage::Detecting(_) => self.doomed = Some(LinkFailure::Closed),
            Stage::Ending { .. } | Stage::Over { writable: false } => {}
        }
    }

    pub fn close(mut self, abort: bool) {
        if abort {
            let _ = self.socket.set_linger(Some(Duration::ZERO));
            return;
        }
        self.finish();
        if let Stage::Ending { shut: true } = self.stage {
            let mut dropped = 0;
            let mut buffer = [MaybeUninit::uninit(); READ];
            while dropped < DISCARD
                && let Ok(bytes) = receive(&self.socket, &mut buffer)
                && !bytes.is_empty()
            {
                dropped += bytes.len();
            }
        }
    }
}

/// How long a link may go unacknowledged. The user's data may wait for as long as its reader likes.
fn unacknowledged(protocol: Protocol, limits: &Limits) -> Option<Duration> {
    match protocol {
        Protocol::Asap | Protocol::Enrp => limits.path.tcp_unacknowledged,
        Protocol::Session | Protocol::Plain => None,
    }
}

fn tcp_socket(address: SocketAddr, unacknowledged: Option<Duration>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_tcp_nodelay(true)?;
    bound_silence(&socket, unacknowledged)?;
    Ok(socket)
}

/// Has the link end when the other end acknowledges nothing for so long. One on which nothing is sent is asked by the kernel after as
/// long (at least a second, its unit) and every second from then on: an element may have nothing to say for minutes.
fn bound_silence(socket: &Socket, unacknowledged: Option<Duration>) -> io::Result<()> {
    socket.set_tcp_user_timeout(unacknowledged)?;
    if let Some(idle) = unacknowledged {
        let second = Duration::from_secs(1);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(idle.max(second)).with_interval(second))?;
    }
    Ok(())
}

/// Reads what is there, nothing at the peer's FIN.
fn receive<'a>(socket: &Socket, buffer: &'a mut [MaybeUninit<u8>]) -> io::Result<&'a [u8]> {
    let len = socket.recv(buffer)?.min(buffer.len());
    // SAFETY: recv(2) has written the first `len` bytes, and `len` is within the buffer.
    Ok(unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), len) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::now;
    use std::net::{IpAddr, Ipv4Addr};

    #[test]
    fn only_links_of_registrars_are_given_up_when_unacknowledged() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let limits = Limits::default();
        for (protocol, bound) in [
            (Protocol::Asap, limits.path.tcp_unacknowledged),
            (Protocol::Enrp, limits.path.tcp_unacknowledged),
            (Protocol::Session, None),
            (Protocol::Plain, None),
        ] {
            let to =
                Destination { kind: LinkKind::Tcp, protocol, port: at.port(), addresses: at.ip().into() };
            let connecting = Tcp::connect(Time::ZERO, &to, &limits).unwrap();
            let (socket, _) = listener.accept().unwrap();
            let accepted = Tcp::accepted(Time::ZERO, socket.into(), protocol, &limits).unwrap();
            for Tcp { socket, .. } in [&connecting, &accepted] {
                assert_eq!(socket.tcp_user_timeout().unwrap(), bound, "{protocol:?}");
                assert_eq!(socket.keepalive().unwrap(), bound.is_some(), "{protocol:?}");
                assert!(bound.is_none_or(|bound| socket.tcp_keepalive_time().unwrap() == bound));
            }
        }
    }

    #[test]
    fn connecting_to_oneself_is_refused() {
        // A socket that dials its own port is connected to itself, as happens by chance on loopback.
        let localhost = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((localhost, 0)).into()).unwrap();
        let own = socket.local_addr().unwrap();
        socket.connect(&own).unwrap();
        socket.set_nonblocking(true).unwrap();
        let to = Destination {
            kind: LinkKind::Tcp,
            protocol: Protocol::Asap,
            port: own.as_socket().unwrap().port(),
            addresses: localhost.into(),
        };
        let mut tcp = Tcp::connect(now(), &to, &Limits::default()).unwrap();
        tcp.socket = socket;
        let mut told = Vec::new();
        tcp.progress(now(), 1, &mut |event| told.push(format!("{event:?}")));
        assert_eq!(told, ["Down(Refused)"]);
    }
}
