//! Links over kernel SCTP (RFC 5354 3.2, RFC 6458): one association a link, on a socket of its own: a one-to-one socket, or
//! one peeled off a port's one-to-many socket. So each has a send buffer of its own, and one whose peer does not read
//! stops no other. Messages keep their boundaries; ASAP and ENRP are told from the user's data by their payload protocol identifiers (11 and 12, RFC 5352
//! 2.1 and RFC 5353 2). The system calls are `kernel`'s.

pub(super) mod kernel;
mod pieces;

use crate::config::Limits;
use crate::machine::{Channel, Destination, LinkFailure, LinkKind, Protocol, UserChannel};
use crate::runtime;
use crate::runtime::link::{LinkEvent, failure, is_idle};
use crate::runtime::poller::Interest;
use crate::types::Time;
use kernel::{Envelope, Manner, Notice, Received};
use pieces::{Assembly, Memory};
use socket2::{Domain, Socket};
use std::collections::VecDeque;
use std::io;
use std::mem::MaybeUninit;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, RawFd};

/// Payload protocol identifiers.
const ASAP: u32 = 11;
const ENRP: u32 = 12;
/// Bytes read at once; on the stack, also of callers' threads.
const READ: usize = 32 << 10;
/// Reads at close, so that nothing unread turns the end into an abort.
const DISCARD: usize = 64;
/// The longest ASAP or ENRP message, with its padding.
const MAX_CONTROL: usize = 65_536;
/// Notifications of which none follows another while an association comes up.
const FIRST_NOTICES: usize = 8;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Connecting,
    /// Accepted; `Up` is still to be told.
    Fresh,
    Open,
    /// We end in order; `shut` once SHUTDOWN is under way.
    Ending {
        shut: bool,
    },
    Over,
}

/// A message of which not all has come.
#[derive(Debug)]
struct Partial {
    envelope: Envelope,
    number: u16,
    bytes: Vec<u8>,
}

/// A message that comes back in fragments.
#[derive(Debug)]
struct Returning {
    channel: Channel,
    bytes: Vec<u8>,
}

/// A message to be sent.
#[derive(Debug)]
struct Waiting {
    channel: Channel,
    bytes: Vec<u8>,
    /// How much of it went, in pieces.
    sent: usize,
}

/// An association.
#[derive(Debug)]
pub(super) struct Sctp {
    socket: Socket,
    stage: Stage,
    protocol: Protocol,
    queue: VecDeque<Waiting>,
    queued: usize,
    limit: usize,
    /// Bytes queued that end the link.
    most: usize,
    user_limit: usize,
    pressed: bool,
    partial: Option<Partial>,
    /// The peer takes and sends long messages in pieces.
    in_pieces: bool,
    assembly: Assembly,
    memory: Memory,
    /// Bytes that the system can hold of what was sent.
    room: usize,
    /// A notification of which not all was read.
    notice: Vec<u8>,
    returning: Option<Returning>,
    /// Handed to the system, and given back unsent when the association ended.
    returned: Vec<(Channel, Vec<u8>)>,
    /// Too long, or for a stream that is not there.
    refused: Vec<(Channel, Vec<u8>)>,
    /// What a notification said about the end; told when all that came before has been read.
    ended: Option<LinkFailure>,
    /// `Down` is to be told at once.
    doomed: Option<LinkFailure>,
    /// What the peer's new incarnation sends is waiting.
    restarted: bool,
}

/// Before connecting or listening for this protocol: says that long messages may come in pieces.
pub(super) fn offer_pieces(socket: &Socket, protocol: Protocol) -> io::Result<()> {
    match protocol {
        Protocol::Session => kernel::adapt(socket, pieces::INDICATION),
        Protocol::Asap | Protocol::Enrp | Protocol::Plain => Ok(()),
    }
}

impl Sctp {
    /// Begins one association to all the addresses: the system goes on to the next one when one is silent.
    pub fn connect(to: &Destination, limits: &Limits) -> io::Result<Sctp> {
        let mut addresses: Vec<SocketAddr> =
            to.addresses.as_slice().iter().map(|address| SocketAddr::new(*address, to.port)).collect();
        let socket = if addresses.iter().any(SocketAddr::is_ipv6) {
            match kernel::open(Domain::IPV6) {
                Err(error)
                    if error.raw_os_error() == Some(libc::EAFNOSUPPORT)
                        && addresses.iter().any(SocketAddr::is_ipv4) =>
                {
                    // No IPv6 here.
                    addresses.retain(SocketAddr::is_ipv4);
                    kernel::open(Domain::IPV4)?
                }
                socket => {
                    let socket = socket?;
                    socket.set_only_v6(false)?;
                    socket
                }
            }
        } else {
            kernel::open(Domain::IPV4)?
        };
        kernel::prepare(&socket, &limits.path)?;
        kernel::tune(&socket)?;
        offer_pieces(&socket, to.protocol)?;
        let begun = kernel::connect(&socket, &addresses);
        let mut sctp = Sctp::new(socket, Stage::Connecting, to.protocol, limits);
        sctp.doomed = begun.err().map(|error| failure(&error));
        Ok(sctp)
    }

    /// The same from a port's one-to-many socket, so that the association leaves from that port. Errors, beside those of the
    /// system: EISCONN if the port has an association with the peer that nobody has accepted yet,
    /// EADDRNOTAVAIL if there is one that has been.
    pub fn connect_from(port: &Socket, to: &Destination, limits: &Limits) -> io::Result<Sctp> {
        let addresses = to.addresses.as_slice().iter();
        let mut addresses: Vec<_> = addresses.map(|address| SocketAddr::new(*address, to.port)).collect();
        let v4 = port.domain()? == Domain::IPV4;
        if v4 || port.only_v6()? {
            addresses.retain(|address| address.is_ipv4() == v4);
        }
        if addresses.is_empty() {
            // The port does not have this family.
            return Sctp::connect(to, limits);
        }
        let association = kernel::connect(port, &addresses)?;
        // Before it is up: how setting it up went is told on its own socket.
        let socket = kernel::peel_off(port, association).map_err(|error| match error.raw_os_error() {
            // It is over already.
            Some(libc::EINVAL) => io::Error::from_raw_os_error(libc::ECONNREFUSED),
            _ => error,
        })?;
        Ok(Sctp::new(socket, Stage::Connecting, to.protocol, limits))
    }

    pub fn accepted(socket: Socket, protocol: Protocol, limits: &Limits) -> Sctp {
        let tuned = kernel::tune(&socket);
        let mut sctp = Sctp::new(socket, Stage::Fresh, protocol, limits);
        // A peer that is gone already shows when the socket is read.
        if let Err(error) = tuned {
            log::debug!("an association ended while it was accepted: {error}");
            sctp.ended = Some(LinkFailure::Reset);
        }
        sctp
    }

    fn new(socket: Socket, stage: Stage, protocol: Protocol, limits: &Limits) -> Sctp {
        let limit = limits.queued_bytes_per_link;
        // It takes one message more than its buffer has room for.
        let room = socket.send_buffer_size().unwrap_or(usize::MAX).saturating_add(2 * pieces::MOST);
        Sctp {
            socket,
            stage,
            protocol,
            queue: VecDeque::new(),
            queued: 0,
            limit,
            most: match protocol {
                // What is longer than the buffer waits here, with control messages behind it.
                Protocol::Session | Protocol::Plain => limit.saturating_add(limits.user_message_bytes),
                Protocol::Asap | Protocol::Enrp => limit,
            },
            user_limit: limits.user_message_bytes,
            pressed: false,
            partial: None,
            in_pieces: false,
            assembly: Assembly::default(),
            memory: Memory::default(),
            room,
            notice: Vec::new(),
            returning: None,
            returned: Vec::new(),
            refused: Vec::new(),
            ended: None,
            doomed: None,
            restarted: false,
        }
    }

    pub fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    pub fn interest(&self) -> Interest {
        match self.stage {
            Stage::Connecting => Interest::READ,
            Stage::Fresh | Stage::Open | Stage::Ending { .. } => {
                Interest { read: true, write: !self.queue.is_empty() && self.ended.is_none() }
            }
            Stage::Over => Interest::NONE,
        }
    }

    pub fn deadline(&self) -> Option<Time> {
        let waiting = match self.stage {
            Stage::Over => false,
            Stage::Fresh => true,
            Stage::Connecting | Stage::Open | Stage::Ending { .. } => {
                self.doomed.is_some() || self.ended.is_some() || !self.refused.is_empty()
            }
        };
        waiting.then_some(Time::ZERO)
    }

    pub fn progress(&mut self, budget: usize, tell: &mut dyn FnMut(LinkEvent<'_>)) -> bool {
        if self.stage == Stage::Over {
            return false;
        }
        if self.stage == Stage::Fresh {
            self.up(tell);
        }
        if let Some(why) = self.doomed {
            self.down(why, tell);
            return false;
        }
        self.flush();
        self.report(tell);
        let more = self.read(budget, tell);
        if let Some(why) = self.doomed {
            self.down(why, tell);
            return false;
        }
        if self.ended.is_none() && !more {
            // The association lives, so their time was over. The system's clock has its own grain.
            let over = runtime::now();
            for (mut channel, message) in self.returned.drain(..) {
                if let Channel::User(user) = &mut channel {
                    user.expires = user.expires.map(|until| until.min(over));
                }
                tell(LinkEvent::SendFailed { channel, message });
            }
        }
        more
    }

    fn report(&mut self, tell: &mut dyn FnMut(LinkEvent<'_>)) {
        for (channel, message) in self.refused.drain(..) {
            tell(LinkEvent::SendFailed { channel, message });
        }
        if self.pressed && self.queued <= self.limit / 2 {
            self.pressed = false;
            tell(LinkEvent::Writable);
        }
    }

    fn down(&mut self, why: LinkFailure, tell: &mut dyn FnMut(LinkEvent<'_>)) {
        self.stage = Stage::Over;
        self.partial = None;
        tell(LinkEvent::Down(why));
    }

    fn up(&mut self, tell: &mut dyn FnMut(LinkEvent<'_>)) {
        let (local, peer) =
            match (kernel::local_addresses(&self.socket), kernel::peer_addresses(&self.socket)) {
                (Ok(local), Ok(peer)) => (local, peer),
                // It is over already, and may have left something to be read; but there is nobody to speak of.
                (Err(error), _) | (_, Err(error)) => {
                    log::debug!("an association ended before it was used: {error}");
                    self.doomed = Some(LinkFailure::Reset);
                    return;
                }
            };
        if local.iter().any(|address| peer.contains(address)) {
            // Connected to itself: the ephemeral port is the one asked for, and nobody listens there.
            self.doomed = Some(LinkFailure::Refused);
            return;
        }
        self.stage = Stage::Open;
        // What the peer says of itself came with this, before all data.
        for _ in 0..FIRST_NOTICES {
            if self.doomed.is_some() || !kernel::has_notice(&self.socket) {
                break;
            }
            let mut buffer = [MaybeUninit::uninit(); 512];
            if let Ok(Received::Notice { len, complete }) = kernel::receive(&self.socket, &mut buffer) {
                // SAFETY: `receive` has filled that many bytes of the buffer.
                let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), len) };
                self.take_notice(bytes, complete, tell);
            }
        }
        if peer.len() > 1 {
            // A path that was not heard of yet is not used; the system would look at it after a while only.
            for address in &peer {
                kernel::probe(&self.socket, *address);
            }
        }
        tell(LinkEvent::Up { kind: LinkKind::Sctp, protocol: self.protocol, local: &local, peer: &peer });
    }

    // ---- reading ----

    /// Returns whether more may be waiting.
    fn read(&mut self, budget: usize, tell: &mut dyn FnMut(LinkEvent<'_>)) -> bool {
        let mut left = budget;
        // Pieces of a message and notifications cost as well, or one peer could keep us here.
        let mut reads = budget.saturating_mul(4);
        while left > 0 && reads > 0 && self.doomed.is_none() {
            reads -= 1;
            let mut buffer = [MaybeUninit::uninit(); READ];
            let received = match kernel::receive(&self.socket, &mut buffer) {
                Ok(received) => received,
                Err(error) if is_idle(&error) => {
                    self.doomed = self.ended;
                    return false;
                }
                Err(error) => {
                    // The socket says once why it is over, perhaps to who was sending.
                    self.doomed = Some(match self.ended {
                        Some(why) if why != LinkFailure::Reset => why,
                        Some(_) | None => failure(&error),
                    });
                    return false;
                }
            };
            let filled = match received {
                Received::Data { len, .. } | Received::Notice { len, .. } => len,
                Received::End => 0,
            };
            // SAFETY: `receive` has filled that many bytes of the buffer.
            let bytes = unsafe { std::slice::from_raw_parts(buffer.as_ptr().cast::<u8>(), filled) };
            match received {
                Received::Data { envelope, number, complete, .. } => {
                    // While we end nobody wants it; before COMM_UP there is none.
                    if self.stage == Stage::Open && self.on_data(bytes, envelope, number, complete, tell) {
                        left -= 1;
                    }
                }
                Received::Notice { complete, .. } => self.take_notice(bytes, complete, tell),
                Received::End => self.doomed = Some(self.ended.unwrap_or(LinkFailure::Closed)),
            }
        }
        budget > 0 && self.doomed.is_none()
    }

    /// Takes in a piece of a message; whether that completed it.
    fn on_data(
        &mut self,
        bytes: &[u8],
        envelope: Envelope,
        number: u16,
        complete: bool,
        tell: &mut dyn FnMut(LinkEvent<'_>),
    ) -> bool {
        let Some(channel) = self.channel(envelope) else {
            if complete {
                log::debug!("dropped a message with payload protocol identifier {}", envelope.ppid);
            }
            return complete;
        };
        // Pieces of one message come without others in between (fragment interleave level 0 or 1): what belongs to
        // another one means that the rest of the first will not come.
        let mut partial = self
            .partial
            .take()
            .filter(|begun| begun.envelope == envelope && (envelope.unordered || begun.number == number));
        let held = partial.as_ref().map_or(0, |begun| begun.bytes.len());
        let most = match channel {
            Channel::User(_) => self.user_limit,
            Channel::Asap | Channel::Enrp => MAX_CONTROL,
        };
        if bytes.len() > most.saturating_sub(held) {
            self.doomed = Some(LinkFailure::Garbled);
            return false;
        }
        if complete && held == 0 {
            self.deliver(channel, bytes, tell);
            return true;
        }
        let begun = partial.get_or_insert_with(|| Partial { envelope, number, bytes: Vec::new() });
        begun.bytes.extend_from_slice(bytes);
        if complete {
            self.deliver(channel, &begun.bytes, tell);
        } else {
            self.partial = partial;
        }
        complete
    }

    /// A whole message of SCTP's has come: one of the peer's, or a piece of one.
    fn deliver(&mut self, channel: Channel, bytes: &[u8], tell: &mut dyn FnMut(LinkEvent<'_>)) {
        match channel {
            Channel::User(user) if self.in_pieces && user.ppid == pieces::PPID => {
                match self.assembly.take(user.stream, bytes, self.user_limit) {
                    Ok(Some((user, bytes))) => {
                        tell(LinkEvent::Message {
                            channel: Channel::User(user),
                            bytes: &bytes,
                            complete: true,
                        });
                    }
                    Ok(None) => {}
                    Err(pieces::Bad) => self.doomed = Some(LinkFailure::Garbled),
                }
            }
            Channel::Asap | Channel::Enrp | Channel::User(_) => {
                tell(LinkEvent::Message { channel, bytes, complete: true });
            }
        }
    }

    fn take_notice(&mut self, bytes: &[u8], complete: bool, tell: &mut dyn FnMut(LinkEvent<'_>)) {
        self.notice.extend_from_slice(bytes);
        if complete {
            let whole = std::mem::take(&mut self.notice);
            self.on_notice(kernel::notice(&whole), tell);
        }
    }

    fn on_notice(&mut self, notice: Notice<'_>, tell: &mut dyn FnMut(LinkEvent<'_>)) {
        match notice {
            Notice::Up(_) => {
                if self.stage == Stage::Connecting {
                    self.up(tell);
                    self.flush();
                }
            }
            // The socket's error, read after all that waits, says more.
            Notice::Lost => {
                self.ended.get_or_insert(LinkFailure::Reset);
            }
            Notice::Restarted => {
                self.restarted = self.stage == Stage::Open;
                self.doomed = Some(LinkFailure::Reset);
            }
            Notice::Shutdown | Notice::Complete => self.ended = Some(LinkFailure::Closed),
            Notice::PartialAborted => self.partial = None,
            Notice::Adaptation(said) => self.in_pieces = said == pieces::INDICATION,
            Notice::Dry => {
                self.memory.forget();
                kernel::tell_when_dry(&self.socket, false);
            }
            Notice::Failed { envelope, context, first, last, sent, bytes } => {
                self.on_failed(envelope, context, [first, last], sent, bytes);
            }
            Notice::Other => {}
        }
    }

    /// A fragment of a message comes back. Those of one message come one after the other, all of them; if the last one was
    /// not sent the peer does not have the message.
    fn on_failed(
        &mut self,
        envelope: Envelope,
        context: u32,
        [first, last]: [bool; 2],
        sent: bool,
        bytes: &[u8],
    ) {
        if self.in_pieces && envelope.ppid == pieces::PPID {
            if last && !sent {
                self.returned.extend(self.memory.recall(context));
            }
            return;
        }
        let Some(mut channel) = self.channel(envelope) else { return };
        if first {
            if let Channel::User(user) = &mut channel {
                user.expires = expiry(context, runtime::now());
            }
            self.returning = Some(Returning { channel, bytes: Vec::new() });
        }
        let Some(returning) = &mut self.returning else { return };
        returning.bytes.extend_from_slice(bytes);
        if last && let Some(whole) = self.returning.take().filter(|_| !sent) {
            self.returned.push((whole.channel, whole.bytes));
        }
    }

    /// Which channel a message belongs to; none if it has no business here.
    fn channel(&self, envelope: Envelope) -> Option<Channel> {
        let Envelope { stream, ppid, unordered } = envelope;
        let user = UserChannel { ppid, stream, unordered, expires: None };
        match (self.protocol, envelope.ppid) {
            (Protocol::Asap | Protocol::Session, ASAP) => Some(Channel::Asap),
            (Protocol::Enrp, ENRP) => Some(Channel::Enrp),
            (Protocol::Asap | Protocol::Enrp, _) => None,
            (Protocol::Session | Protocol::Plain, _) => Some(Channel::User(user)),
        }
    }

    // ---- writing ----

    pub fn push(&mut self, channel: Channel, bytes: Vec<u8>) {
        match (self.protocol, channel) {
            (Protocol::Asap | Protocol::Session, Channel::Asap)
            | (Protocol::Enrp, Channel::Enrp)
            | (Protocol::Session | Protocol::Plain, Channel::User(_)) => {}
            // No such channel on this link.
            (Protocol::Enrp | Protocol::Plain, Channel::Asap)
            | (Protocol::Asap | Protocol::Session | Protocol::Plain, Channel::Enrp)
            | (Protocol::Asap | Protocol::Enrp, Channel::User(_)) => return,
        }
        if matches!(self.stage, Stage::Ending { .. }) {
            return;
        }
        if self.stage != Stage::Over && self.queued >= self.most {
            self.doomed.get_or_insert(LinkFailure::Congested);
        }
        self.queued += bytes.len();
        self.queue.push_back(Waiting { channel, bytes, sent: 0 });
        self.pressed |= self.queued > self.limit / 2;
    }

    /// Hands over a message, or a piece of one; how much of it went in the latter case.
    fn send(&self, message: &Waiting) -> (usize, io::Result<()>) {
        let Waiting { channel, bytes, sent } = message;
        let mut manner = Manner { prompt: self.queue.len() == 1, ..Manner::default() };
        let (ppid, user) = match channel {
            Channel::Asap => (ASAP, UserChannel::default()),
            Channel::Enrp => (ENRP, UserChannel::default()),
            Channel::User(user) => (user.ppid, *user),
        };
        let mut envelope = Envelope { stream: user.stream, ppid, unordered: user.unordered };
        if *sent == 0
            && let Some(until) = user.expires
        {
            let now = runtime::now();
            if until <= now {
                return (bytes.len(), Err(io::Error::from_raw_os_error(libc::ETIME)));
            }
            (manner.lifetime, manner.context) = (lifetime(until, now), context(until));
        }
        if !self.in_pieces || *channel != Channel::User(user) || !pieces::wanted(user, bytes.len()) {
            return (bytes.len(), kernel::send(&self.socket, envelope, manner, &[], bytes));
        }
        let (head, to, last) = pieces::next(user, bytes.len(), *sent);
        envelope = Envelope { ppid: pieces::PPID, unordered: false, ..envelope };
        // Once it is begun it is sent to its end: the system would give up single pieces.
        manner.lifetime = 0;
        manner.context = if last { self.memory.next_id() } else { 0 };
        manner.prompt &= last;
        (to - sent, kernel::send(&self.socket, envelope, manner, &head, &bytes[*sent..to]))
    }

    /// The first message, or so many bytes of it, went to the system.
    fn on_sent(&mut self, len: usize) {
        self.queued -= len;
        self.memory.on_sent(len, self.room);
        let Some(message) = self.queue.front_mut() else { return };
        message.sent += len;
        if message.sent < message.bytes.len() {
            return;
        }
        let Some(Waiting { channel, bytes, .. }) = self.queue.pop_front() else { return };
        if let Channel::User(user) = channel
            && self.in_pieces
            && pieces::wanted(user, bytes.len())
        {
            self.memory.keep((channel, bytes));
            kernel::tell_when_dry(&self.socket, true);
        }
    }

    pub fn flush(&mut self) {
        match self.stage {
            Stage::Open | Stage::Ending { .. } => {}
            Stage::Connecting | Stage::Fresh | Stage::Over => return,
        }
        while self.ended.is_none()
            && self.doomed.is_none()
            && let Some(message) = self.queue.front()
        {
            let (len, sent) = self.send(message);
            match sent {
                Ok(()) => self.on_sent(len),
                Err(error) if is_idle(&error) => break,
                // Too long for the send buffer and the peer takes no pieces, empty, a stream the association does not have,
                // or its time is over.
                Err(error)
                    if matches!(error.raw_os_error(), Some(libc::EMSGSIZE | libc::EINVAL | libc::ETIME)) =>
                {
                    if let Some(message) = self.queue.pop_front() {
                        self.queued -= message.bytes.len() - message.sent;
                        self.refused.push((message.channel, message.bytes));
                    }
                }
                Err(error) => {
                    // What came before is read before it is told.
                    self.ended = Some(failure(&error));
                    break;
                }
            }
        }
        if let Stage::Ending { shut: shut @ false } = &mut self.stage
            && self.queue.is_empty()
        {
            *shut = true;
            // From now on the system goes on by itself, whatever becomes of us.
            let _ = self.socket.set_linger(None);
            if let Err(error) = kernel::shut_down(&self.socket) {
                log::debug!("cannot end an association in order: {error}");
            }
        }
    }

    pub fn queued(&self) -> usize {
        if self.stage == Stage::Over || self.ended.is_some() { 0 } else { self.queued }
    }

    pub fn take_unsent(&mut self) -> Vec<(Channel, Vec<u8>)> {
        self.queued = 0;
        let mut unsent = std::mem::take(&mut self.returned);
        unsent.append(&mut self.refused);
        unsent.extend(self.queue.drain(..).map(|message| (message.channel, message.bytes)));
        unsent.retain(|(channel, _)| matches!(channel, Channel::User(_)));
        unsent
    }

    /// After `Down`, when another incarnation of the peer has taken over the association: begins anew as one that was accepted.
    pub fn begin_anew(&mut self) -> Option<Protocol> {
        if self.stage != Stage::Over || !std::mem::take(&mut self.restarted) {
            return None;
        }
        self.stage = Stage::Fresh;
        (self.ended, self.doomed, self.returning, self.pressed) = (None, None, None, false);
        self.queued = 0;
        (self.in_pieces, self.assembly, self.memory) = (false, Assembly::default(), Memory::default());
        self.queue.clear();
        self.returned.clear();
        self.refused.clear();
        Some(self.protocol)
    }

    pub fn finish(&mut self) {
        match self.stage {
            Stage::Open => {
                self.stage = Stage::Ending { shut: false };
                self.flush();
            }
            // Nobody has seen anything of it yet.
            Stage::Connecting | Stage::Fresh => self.doomed = Some(LinkFailure::Closed),
            Stage::Ending { .. } | Stage::Over => {}
        }
    }

    pub fn close(mut self, abort: bool) {
        if abort {
            // `tune` has seen to it that closing the descriptor sends ABORT.
            let _ = self.socket.set_linger(Some(std::time::Duration::ZERO));
            return;
        }
        self.finish();
        if let Stage::Ending { shut: true } = self.stage {
            let mut buffer = [MaybeUninit::uninit(); READ];
            for _ in 0..DISCARD {
                match kernel::receive(&self.socket, &mut buffer) {
                    Ok(Received::Data { .. } | Received::Notice { .. }) => {}
                    Ok(Received::End) | Err(_) => break,
                }
            }
        }
    }
}

/// Milliseconds, no fewer than there are.
fn lifetime(until: Time, now: Time) -> u32 {
    u32::try_from(until.since(now).as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX)
}

/// When a message's time is over, to the millisecond and modulo 2^32 of them: as much as goes with it through the system. 0: never.
fn context(until: Time) -> u32 {
    ((until.as_nanos() / 1_000_000) as u32).max(1)
}

/// The time that a context stands for.
fn expiry(context: u32, now: Time) -> Option<Time> {
    if context == 0 {
        return None;
    }
    let now = now.as_nanos() / 1_000_000;
    let ahead = i64::from(context.wrapping_sub(now as u32).cast_signed());
    Some(Time::from_nanos(now.saturating_add_signed(ahead).saturating_mul(1_000_000)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_end_of_a_messages_time_survives_the_system() {
        let day = Duration::from_secs(24 * 3600);
        let start = Time::from_nanos(0);
        for now in [start, start + day, start + 49 * day, start + 400 * day] {
            for ahead in [Duration::ZERO, Duration::from_millis(1), Duration::from_secs(60), 20 * day] {
                let until = now + ahead + Duration::from_millis(1);
                assert_eq!(expiry(context(until), now), Some(until));
                assert_eq!(expiry(context(until), until + day), Some(until), "seen later");
            }
        }
        assert_eq!(expiry(0, start + day), None);
        assert_eq!(lifetime(start + Duration::from_micros(1_001), start), 2);
    }
}
