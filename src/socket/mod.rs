//! What a descriptor means: contexts with their background thread, the descriptor table, blocking,
//! notifications, session I/O in the caller's thread (design: the transport is read and written by whoever calls).

use crate::config::SessionConfig;
use crate::policy::Policy;
use crate::session::SendOptions;
use crate::types::{PeId, PoolElement, PoolHandle};
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

/// A failed call: what errno says, and a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// An errno value of the C library.
    pub errno: i32,
    /// What failed, what was tried, what to do.
    pub what: String,
}

/// The result of a call.
pub type Result<T> = std::result::Result<T, Error>;

/// How long a call may block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wait {
    /// As long as the descriptor's `call_timeout`, or the context's, says.
    Default,
    /// Not at all.
    No,
    /// So long.
    For(Duration),
    /// As long as it takes.
    Forever,
}

/// What [`initialize`] is told; every field has a default.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Registrars to use, before `ASAP_REGISTRARS`, announcements and loopback. Empty: those.
    pub registrars: Vec<Vec<SocketAddr>>,
    /// Do not listen for announcements.
    pub no_announcements: bool,
    /// The announcement group, if not the IANA ones.
    pub announce_group: Option<SocketAddr>,
    /// Replaces T7 (how long an announced registrar is believed).
    pub announce_timeout: Option<Duration>,
    /// Replaces T5 (one round of the server hunt).
    pub connect_timeout: Option<Duration>,
    /// Replaces T1-T3.
    pub response_timeout: Option<Duration>,
    /// How long a call that has no time-out of its own and needs a registrar or an element may block; default 10 s.
    pub call_timeout: Option<Duration>,
    /// Replaces MAX-REQUEST-RETRANSMIT.
    pub request_max_trials: Option<u32>,
    /// Timers.
    pub profile: crate::config::Profile,
}

/// The kind of an RSerPool socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Messages with notifications; an element serves many sessions on one descriptor.
    SeqPacket,
    /// One session a descriptor; elements accept.
    Stream,
}

/// What came, or happened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Incoming {
    /// User data: bytes were copied out.
    Data {
        /// How many.
        bytes: usize,
        /// Payload protocol identifier, host order.
        ppid: u32,
        /// Stream.
        stream: u16,
        /// The session it belongs to.
        session: u32,
        /// The element it came from, if it came from one.
        from: Option<PeId>,
        /// Whether a message ends here.
        end_of_record: bool,
    },
    /// A cookie echo: bytes were copied out.
    CookieEcho {
        /// How many.
        bytes: usize,
        /// The session.
        session: u32,
    },
    /// Error.Report (RFC 5352 6.7): a message of ours that was not delivered and will not be sent again; its bytes were copied out.
    Undelivered {
        /// How many.
        bytes: usize,
        /// Payload protocol identifier, host order.
        ppid: u32,
        /// Stream.
        stream: u16,
        /// The session it was sent on.
        session: u32,
        /// The element it was meant for.
        to: Option<PeId>,
    },
    /// A notification.
    Notification(Notification),
    /// The peer has closed (0 at the C level).
    End,
}

/// RSPLIB's notifications.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs)]
pub enum Notification {
    SessionAdd { session: u32 },
    SessionRemove { session: u32 },
    FailoverNecessary { session: u32, has_cookie: bool },
    FailoverComplete { session: u32, has_cookie: bool },
    Shutdown { session: u32 },
}

/// How a message is sent.
#[derive(Clone, Debug, Default)]
#[allow(missing_docs)]
pub struct Outgoing {
    pub session: u32,
    pub ppid: u32,
    pub stream: u16,
    /// Milliseconds after which the message need not be sent any more; 0: never.
    pub time_to_live: u32,
    pub options: SendOptions,
    /// End the session in order after this message (SCTP_EOF).
    pub eof: bool,
    /// Break the session off (SCTP_ABORT).
    pub abort: bool,
    /// To this pool (unconnected sockets, RFC 5352 6.5.1), and to this element of it (6.5.3).
    pub to: Option<(PoolHandle, Option<PeId>)>,
}

/// What can be set on a descriptor. Sessions accepted from it, or made by it, inherit it.
#[derive(Clone, Debug)]
pub struct SocketOptions {
    /// Automatic failover, its deadline, the connect time-out, business cards.
    pub session: SessionConfig,
    /// How long calls without a time-out of their own that need a registrar or an element may block (connect, register,
    /// deregister, failover); none: the context's default.
    pub call_timeout: Option<Duration>,
    /// How long `rsp_read` and `rsp_recv` wait.
    pub receive_wait: Wait,
    /// How long `rsp_write` and `rsp_send` wait.
    pub send_wait: Wait,
}

/// A failover that has just succeeded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failover {
    /// The session.
    pub session: u32,
    /// The element that failed, if there was one.
    pub from: Option<PeId>,
    /// Where the session goes on.
    pub to: PeId,
    /// Whether a cookie was echoed to it.
    pub has_cookie: bool,
    /// How long the session was without element.
    pub gap: Duration,
}

/// Called by the thread that is inside a call on the descriptor, with no lock held, after the new element was reached and before unsent messages
/// go to it (RFC 5351 4.3): it may send.
pub type FailoverCallback = Arc<dyn Fn(RawFd, &Failover) + Send + Sync>;

/// One change of a watched pool.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// The element is in the pool; the first time for every element found there.
    Added(PoolElement),
    /// The element has changed.
    Updated(PoolElement),
    /// The element has left.
    Removed(PeId),
    /// The elements present at the start, or after a new registrar was found, have all been told.
    UpToDate,
}

macro_rules! api {
    ($($(#[$doc:meta])* fn $name:ident($($arg:ident: $ty:ty),*) $(-> $ret:ty)?;)*) => {
        $($(#[$doc])* #[allow(unused_variables)] pub fn $name($($arg: $ty),*) $(-> $ret)? { todo!() })*
    };
}

api! {
    /// Starts the default context. A second call does nothing and succeeds.
    fn initialize(options: &Options) -> Result<()>;
    /// Closes what is left, stops and joins the background thread.
    fn cleanup();
    /// A new descriptor: a real one, for poll, select and epoll (readability only). `protocol` 0: automatic.
    fn socket(domain: i32, kind: Kind, protocol: i32) -> Result<RawFd>;
    /// Binds the element's transport. No addresses: all, ephemeral port.
    fn bind(sd: RawFd, addresses: &[SocketAddr]) -> Result<()>;
    /// Listens for sessions.
    fn listen(sd: RawFd, backlog: i32) -> Result<()>;
    /// Accepts a session as a descriptor of its own (`Kind::Stream`).
    fn accept(sd: RawFd, wait: Wait) -> Result<RawFd>;
    /// Connects to a pool; blocks until the first element is reached. `max_age`: a cached resolution no older will do.
    fn connect(sd: RawFd, handle: &PoolHandle, max_age: Duration, wait: Wait) -> Result<()>;
    /// Registers as an element of a pool, or changes the registration. `renewal`: how often it is renewed (its life is three times that). `id`: chosen
    /// at random if none. With `Wait::No` it returns at once and goes on in the background.
    fn register(sd: RawFd, handle: &PoolHandle, policy: &Policy, renewal: Duration, id: Option<PeId>, control_channel: bool, wait: Wait) -> Result<PeId>;
    /// Ends the registration.
    fn deregister(sd: RawFd, wait: Wait) -> Result<()>;
    /// Closes a descriptor and what is behind it.
    fn close(sd: RawFd) -> Result<()>;
    /// Sends a message.
    fn send(sd: RawFd, message: &[u8], how: &Outgoing, wait: Wait) -> Result<usize>;
    /// Gives a session's user a cookie.
    fn send_cookie(sd: RawFd, cookie: &[u8], session: u32, wait: Wait) -> Result<usize>;
    /// Receives what comes next; `full`: go on until the message ends or the buffer is full.
    fn receive(sd: RawFd, buffer: &mut [u8], full: bool, wait: Wait) -> Result<Incoming>;
    /// Moves the session on to another element; `report` the present one. Blocks until reached.
    fn force_failover(sd: RawFd, report: bool, max_age: Duration, wait: Wait) -> Result<()>;
    /// Whether the session holds a cookie.
    fn has_cookie(sd: RawFd) -> Result<bool>;
    /// The pool and identifier this descriptor is registered as.
    fn local_name(sd: RawFd) -> Result<(PoolHandle, PeId)>;
    /// The pool and element this descriptor is connected to.
    fn peer_name(sd: RawFd) -> Result<(PoolHandle, Option<PeId>)>;
    /// What can be done on a descriptor now (POLLIN, POLLOUT, POLLERR, POLLHUP), ordinary descriptors included; blocks as `wait` says. Returns how many have any.
    fn poll(fds: &mut [libc::pollfd], wait: Wait) -> Result<usize>;
    /// Resolves a handle (basic mode).
    fn resolve(handle: &PoolHandle, items: Option<u32>, max_age: Duration, wait: Wait) -> Result<Vec<PoolElement>>;
    /// Registers an element that the program serves by itself (basic mode); again to renew it. `life` as given, not renewed.
    fn register_element(handle: &PoolHandle, element: PoolElement, wait: Wait) -> Result<PeId>;
    /// Takes it out again.
    fn deregister_element(handle: &PoolHandle, id: PeId, wait: Wait) -> Result<()>;
    /// Reports an element that could not be reached (basic mode, Transport.Failure of RFC 5352 6.9.2).
    fn report_failure(handle: &PoolHandle, id: PeId) -> Result<()>;
    /// A descriptor on which every change of the pool can be received.
    fn watch(handle: &PoolHandle) -> Result<RawFd>;
    /// The next change of a watched pool; EAGAIN if there is none.
    fn next_change(sd: RawFd, wait: Wait) -> Result<Change>;
    /// What is set on a descriptor.
    fn socket_options(sd: RawFd) -> Result<SocketOptions>;
    /// Sets it, from now on.
    fn set_socket_options(sd: RawFd, options: &SocketOptions) -> Result<()>;
    /// Sets or takes back the function called after each failover of a user's session.
    fn set_failover_callback(sd: RawFd, callback: Option<FailoverCallback>) -> Result<()>;
}
