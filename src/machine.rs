//! The contract between protocol machines and the world that runs them (the runtime, or the simulator).
//!
//! A machine is a function of its inputs: it is told what happened and when, and asked afterwards what is
//! to be done ([`Machine::poll_effect`]), what is to be told to its owner ([`Machine::poll_event`]), and
//! when it wants to be woken ([`Machine::poll_timeout`]). It has no clock, no sockets, no entropy.

use crate::types::{Addresses, Identity, Time};
use std::net::SocketAddr;

/// A link: an ordered pipe of messages to one peer. An identifier is used once and is dead after
/// [`Input::LinkDown`] or [`Effect::Close`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LinkId(u64);

impl LinkId {
    const INCOMING: u64 = 1 << 63;

    /// The `n`th link a machine opens; the machine numbers them.
    pub const fn outgoing(n: u64) -> LinkId {
        LinkId(n & !Self::INCOMING)
    }

    /// The `n`th link somebody opened to us; the runtime numbers them.
    pub const fn incoming(n: u64) -> LinkId {
        LinkId(n | Self::INCOMING)
    }

    /// Whether the peer opened it.
    pub const fn is_incoming(self) -> bool {
        self.0 & Self::INCOMING != 0
    }
}

/// What carries a link.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LinkKind {
    /// A TCP connection.
    Tcp,
    /// A kernel SCTP association.
    Sctp,
    /// UDP datagrams to and from one address (user data only).
    Udp,
}

/// What a link is for; decides listener, framing and payload protocol identifier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// ASAP between a registrar and an endpoint.
    Asap,
    /// ENRP between registrars.
    Enrp,
    /// A session between a pool user and a pool element, with a control channel.
    Session,
    /// User data alone: no control channel, and over TCP no message boundaries.
    Plain,
}

/// For whom an announcement is. Each has groups of its own, and things are said there in its own form.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Audience {
    /// Everybody, as the RFCs say.
    Standard,
    /// RSPLIB's programs: they take the source of a datagram, address and port, for the SCTP transport of its sender. So what
    /// is said to them leaves from the port number of the sender's SCTP port, and is not said if there is none.
    Rsplib,
}

/// Which of a link's channels a message belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Channel {
    /// ASAP messages (PPID 11): all of an ASAP link, the control channel of a session.
    Asap,
    /// ENRP messages (PPID 12).
    Enrp,
    /// The user's data.
    User(UserChannel),
}

/// How a message of user data travels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct UserChannel {
    /// Payload protocol identifier, host order.
    pub ppid: u32,
    /// Stream number.
    pub stream: u16,
    /// Out-of-order delivery is welcome (effective over SCTP only).
    pub unordered: bool,
    /// When the message need not be sent any more; none for one that came. SCTP gives up one under way, too, unless it goes in
    /// pieces; other transports one of which nothing was sent.
    pub expires: Option<Time>,
}

/// Where a link is to be opened to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Destination {
    /// What carries it.
    pub kind: LinkKind,
    /// What it is for.
    pub protocol: Protocol,
    /// The peer's port.
    pub port: u16,
    /// The peer's addresses; a transport with one address per link tries them in turn.
    pub addresses: Addresses,
}

/// Why a link went down, or never came up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LinkFailure {
    /// Nobody listens there.
    Refused,
    /// No route, or the network says no.
    Unreachable,
    /// No answer in time.
    TimedOut,
    /// The peer broke it off, or a framed session link ended without end-of-session frame.
    Reset,
    /// The peer closed it in order: on a framed session link an end-of-session frame was seen (one that ends
    /// without it is `Reset`, also when it ended by FIN), on any other the end of the stream.
    Closed,
    /// The bytes that came are not of the link's protocol.
    Garbled,
    /// More waited to be sent than the limit allows.
    Congested,
    /// The system had no descriptor, memory or permission for it.
    NoResources,
    /// There is a link to that peer already: between two SCTP ports there is one association, whoever opened it. It came up,
    /// or is being opened, under another identifier.
    Present,
}

/// What a machine is told.
#[derive(Clone, Debug)]
pub enum Input<'a> {
    /// A peer opened a link to the listener for `protocol`; `LinkUp` follows when it is ready.
    Incoming {
        /// Numbered by the runtime.
        link: LinkId,
        /// Whose listener.
        protocol: Protocol,
    },
    /// The link can be used. Told a second time when a session's peer that was taken for one without control channel turns
    /// out to have one.
    LinkUp {
        /// Which.
        link: LinkId,
        /// What carries it.
        kind: LinkKind,
        /// What it turned out to be: a session's listener may meet a peer without control channel.
        protocol: Protocol,
        /// Our addresses on it.
        local: &'a [SocketAddr],
        /// The peer's addresses on it.
        peer: &'a [SocketAddr],
        /// Who the peer proved to be.
        identity: Option<Identity>,
    },
    /// The link is gone, or could not be opened.
    LinkDown {
        /// Which.
        link: LinkId,
        /// Why.
        why: LinkFailure,
    },
    /// A whole message came.
    Message {
        /// On which link.
        link: LinkId,
        /// On which of its channels.
        channel: Channel,
        /// The message. Untrusted.
        bytes: &'a [u8],
        /// Whether this is the end of a message (over a plain byte stream nobody knows: false).
        complete: bool,
    },
    /// A message could not be delivered; the link may live on.
    SendFailed {
        /// On which link.
        link: LinkId,
        /// On which channel.
        channel: Channel,
        /// The message as given in [`Effect::Send`].
        message: Vec<u8>,
    },
    /// The link had more waiting than its low-water mark, and has no longer.
    Writable {
        /// Which.
        link: LinkId,
    },
    /// A datagram came on an announcement group.
    Announce {
        /// Whose group: ASAP or ENRP.
        protocol: Protocol,
        /// For whom the group is.
        audience: Audience,
        /// Its source.
        from: SocketAddr,
        /// The datagram. Untrusted.
        bytes: &'a [u8],
    },
    /// Time has passed. May come early or twice.
    Timeout,
}

/// What a machine wants done. In order; none may be dropped.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect {
    /// Open a link. Answered by `LinkUp` or `LinkDown`.
    Connect {
        /// Numbered by the machine.
        link: LinkId,
        /// To where.
        to: Destination,
    },
    /// Send a message. On a dead link it is dropped without a word.
    Send {
        /// On which link.
        link: LinkId,
        /// On which of its channels.
        channel: Channel,
        /// The message.
        bytes: Vec<u8>,
    },
    /// Close a link; no `LinkDown` follows.
    Close {
        /// Which.
        link: LinkId,
        /// Break it off (true), or deliver what was sent first.
        abort: bool,
    },
    /// Send a datagram to the announcement groups of `protocol` that are for `audience`, on every interface.
    Announce {
        /// ASAP or ENRP.
        protocol: Protocol,
        /// For whom.
        audience: Audience,
        /// The datagram.
        bytes: Vec<u8>,
    },
    /// Send a datagram to somebody who never answers, as a monitor does not. Whether it gets there is not told.
    Datagram {
        /// To whom.
        to: SocketAddr,
        /// The datagram.
        bytes: Vec<u8>,
    },
}

/// A protocol machine.
///
/// * `now` never goes back.
/// * [`Input::Timeout`] may come early or twice.
/// * No input panics, allocates what it claims, or returns an error: bad bytes become an error message to
///   the peer, a closed link, or a counted drop.
/// * After each call of `handle` or of a command, effects and events are to be drained.
pub trait Machine {
    /// What it tells its owner.
    type Event;

    /// Takes in what happened.
    fn handle(&mut self, now: Time, input: Input<'_>);

    /// The next thing to be done.
    fn poll_effect(&mut self) -> Option<Effect>;

    /// The next thing to be told.
    fn poll_event(&mut self) -> Option<Self::Event>;

    /// When [`Input::Timeout`] is wanted; may lie in the past.
    fn poll_timeout(&self) -> Option<Time>;
}
