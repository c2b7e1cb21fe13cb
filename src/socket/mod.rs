//! What a descriptor means: contexts with their background thread, the descriptor table, blocking,
//! notifications, session I/O in the caller's thread (design section 3).
//!
//! * [`Context`] owns the background thread, which runs the ASAP endpoint; no user data pass through it.
//! * A socket (`call`) is a lock around what it has become: `user`, `element`, an accepted session, `dispatch`, or `watch`. A session with
//!   its connections is a `line`, what waits to be received an `inbox`, the kernel's descriptor a `signal`.
//! * `transfer` sends and receives, `poll` waits for many, `report` tells a monitor what goes on, `fork` says what happens in children, `errors` is the table of errors.
//!
//! All functions may be called from any thread at any time. A descriptor is readable when a call would find something; the
//! call may still find nothing (EAGAIN). Closing a descriptor wakes the calls that wait on it (EBADF).

mod attendant;
mod call;
mod card;
mod context;
mod dispatch;
mod element;
mod errors;
mod fork;
mod inbox;
mod line;
mod poll;
mod relay;
mod report;
mod semantics;
mod serve;
mod settings;
mod signal;
mod stand_in;
mod table;
mod transfer;
mod user;
mod watch;

pub use context::Context;
pub use report::{Reporting, monitor_of_environment};
pub use semantics::Semantics;
pub use serve::{Health, Serving};

use call::{Carrier, Inner, Role, Socket};
use fork::Guarded;
use semantics::Call;
use table::{Entry, Mapped};

use crate::config::{PathLimits, SessionConfig};
use crate::endpoint::{Offer, Query};
use crate::machine::LinkKind;
use crate::name::{Carried, Name, Settings};
use crate::policy::Policy;
use crate::runtime;
use crate::runtime::duplicate::Duplicate;
use crate::runtime::listener::{Given, close_given, has_sctp};
use crate::session::SendOptions;
use crate::types::{PeId, PoolElement, PoolHandle, Time};
use std::net::{IpAddr, SocketAddr};
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
    /// More of them, by address or DNS name, with or without port.
    pub registrar_names: Vec<String>,
    /// Do not listen for announcements.
    pub no_announcements: bool,
    /// The announcement group, if not IANA's and RSPLIB's.
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
    /// Timers; none: those of the profile that `ASAP_PROFILE` names (`lan`, `wan`, `rfc`), else `lan`.
    pub profile: Option<crate::config::Profile>,
    /// How registrars speak; none: as `ASAP_DIALECT` says (`auto`, `rfc`, `rsplib`), else `auto`.
    pub dialect: Option<crate::config::DialectSetting>,
    /// Whose ways it has.
    pub semantics: Semantics,
    /// Whether it reports how it is, by the component status protocol.
    pub reporting: Reporting,
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
    /// How long the session of a user over UDP goes on without a datagram from it: there is no other way to tell that it
    /// has left.
    pub idle_timeout: Duration,
    /// How long SCTP associations opened from now on try their paths.
    pub path: PathLimits,
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

/// How often a registration is renewed where nobody has said so.
pub const DEFAULT_RENEWAL: Duration = Duration::from_secs(30);

static DEFAULT: Guarded<Option<Context>> = Guarded::new(None);

/// The context of the free functions.
fn default_context() -> Result<Context> {
    let context = DEFAULT.lock().clone().ok_or_else(errors::not_initialized)?;
    if context.is_inherited() { Err(errors::forked()) } else { Ok(context) }
}

/// Starts the default context. A second call does nothing and succeeds. In a forked child it starts one of the child's own.
pub fn initialize(options: &Options) -> Result<()> {
    let runs = |default: &Option<Context>| default.as_ref().is_some_and(|c| !c.is_inherited());
    if runs(&DEFAULT.lock()) {
        return Ok(());
    }
    let context = Context::start(options)?;
    let mut default = DEFAULT.lock();
    if runs(&default) {
        // Another thread was faster.
        drop(default);
        context.close();
    } else {
        // A parent's lives on in the sockets that were made with it.
        *default = Some(context);
    }
    Ok(())
}

/// Closes what is left, stops and joins the background thread. Does nothing if there is none.
pub fn cleanup() {
    let context = DEFAULT.lock().take();
    if let Some(context) = context {
        context.close();
    }
}

impl Context {
    /// Closes all its descriptors and stops it: elements are deregistered, sessions ended in order.
    pub fn close(&self) {
        if !self.is_inherited() {
            self.stop();
        }
        for socket in table::remove_all(self) {
            socket.shut();
        }
    }

    /// As [`socket`], in this context.
    pub fn socket(&self, domain: i32, kind: Kind, protocol: i32) -> Result<RawFd> {
        let v4_only = match domain {
            libc::AF_INET => true,
            libc::AF_UNSPEC | libc::AF_INET6 => false,
            _ => {
                let what =
                    format!("address family {domain}: only AF_UNSPEC, AF_INET and AF_INET6 are served");
                return Err(errors::error(libc::EAFNOSUPPORT, what));
            }
        };
        let carrier = match protocol {
            0 if self.settings().transport == Some(Carried::Sctp) => Carrier::Sctp,
            0 | libc::IPPROTO_TCP => Carrier::Tcp,
            libc::IPPROTO_UDP => Carrier::Udp,
            libc::IPPROTO_SCTP if !self.semantics().protocol_is_binding && !has_sctp() => Carrier::Tcp,
            libc::IPPROTO_SCTP => Carrier::Sctp,
            _ => {
                let what = format!(
                    "protocol {protocol}: only 0 (automatic), IPPROTO_TCP, IPPROTO_SCTP and IPPROTO_UDP are served"
                );
                return Err(errors::error(libc::EPROTONOSUPPORT, what));
            }
        };
        if carrier == Carrier::Sctp && !has_sctp() {
            return Err(errors::error(
                libc::EPROTONOSUPPORT,
                "this system's kernel has no SCTP (on Linux `modprobe sctp` may load it); give protocol 0 to have the best there is",
            ));
        }
        let options = call::initial_options(self);
        Ok(table::enter(Socket::new(self, kind, carrier, v4_only, Role::Fresh, options)?))
    }

    /// As [`socket_of`], in this context.
    pub fn socket_of(&self, fd: RawFd, kind: Kind, protocol: i32) -> Result<RawFd> {
        if table::find_mapped(fd).is_some() || table::find(fd).is_ok() {
            return Err(errors::error(libc::EINVAL, format!("descriptor {fd} is the library's own already")));
        }
        let options = call::initial_options(self);
        let given = Given::new(fd).map_err(|e| errors::system("cannot use the socket that was given", &e))?;
        let (carrier, own) = match given.kind() {
            LinkKind::Tcp => (Carrier::Tcp, libc::IPPROTO_TCP),
            LinkKind::Sctp => (Carrier::Sctp, libc::IPPROTO_SCTP),
            LinkKind::Udp => (Carrier::Udp, libc::IPPROTO_UDP),
        };
        if protocol != 0 && protocol != own {
            let what = format!("protocol {protocol} is asked for, and the socket given has {own}");
            return Err(errors::error(libc::EPROTOTYPE, what));
        }
        let socket = Socket::new(self, kind, carrier, false, Role::Fresh, options)?;
        element::adopt(&socket, given)?;
        close_given(fd);
        Ok(table::enter(socket))
    }

    /// As [`resolve`], in this context.
    pub fn resolve(
        &self,
        handle: &PoolHandle,
        items: Option<u32>,
        max_age: Duration,
        wait: Wait,
    ) -> Result<Vec<PoolElement>> {
        self.check(handle)?;
        let deadline = Socket::deadline(wait, self.call_timeout());
        let latest = deadline.unwrap_or(Time::NEVER);
        let items = items.or(self.semantics().default_items);
        let query = Query { handle: handle.clone(), items, max_age };
        let outcome = self.ask(None, deadline, move |b, now, reply| b.resolve(now, query, latest, reply))?;
        match outcome {
            Ok(resolution) => Ok(resolution.elements),
            Err(_) if wait == Wait::No => {
                Err(errors::would_block("the pool's elements are not known yet, no answer came"))
            }
            Err(why) => Err(errors::request(&format!("resolving pool {handle}"), &why)),
        }
    }

    /// As [`register_element`], in this context.
    pub fn register_element(&self, handle: &PoolHandle, element: PoolElement, wait: Wait) -> Result<PeId> {
        self.check(handle)?;
        let random = runtime::entropy().map_err(|e| errors::system("cannot get random numbers", &e))?;
        let id = if element.id.0 == 0 { PeId(((random >> 32) as u32).max(1)) } else { element.id };
        let name = (handle.clone(), id);
        let offer = Offer {
            handle: handle.clone(),
            id,
            life: element.life,
            renewal: Some(Duration::from_secs(u64::from(u32::MAX))),
            user_transport: element.user_transport,
            policy: element.policy,
            capabilities: element.capabilities.unwrap_or_default(),
        };
        let deadline = Socket::deadline(wait, self.call_timeout());
        if wait == Wait::No {
            let patience = runtime::now() + self.call_timeout();
            self.tell(move |b, now| b.register_once(now, offer, patience, None))?;
            return Ok(id);
        }
        let latest = deadline.unwrap_or(Time::NEVER);
        let outcome =
            self.ask(None, deadline, move |b, now, reply| b.register_once(now, offer, latest, Some(reply)));
        let failed = match outcome {
            Ok(Ok(())) => return Ok(id),
            Ok(Err(why)) => context::registration_failed(handle, &why),
            Err(e) => e,
        };
        let _ = self.tell(move |b, now| b.withdraw(now, &name));
        Err(failed)
    }

    /// As [`deregister_element`], in this context.
    pub fn deregister_element(&self, handle: &PoolHandle, id: PeId, wait: Wait) -> Result<()> {
        self.check(handle)?;
        let deadline = Socket::deadline(wait, self.call_timeout());
        let name = (handle.clone(), id);
        if wait == Wait::No {
            let patience = runtime::now() + self.call_timeout();
            return self.tell(move |b, now| b.deregister(now, &name, patience, None));
        }
        let latest = deadline.unwrap_or(Time::NEVER);
        let how =
            self.ask(None, deadline, move |b, now, reply| b.deregister(now, &name, latest, Some(reply)))?;
        element::deregistered(handle, how)
    }

    /// As [`report_failure`], in this context.
    pub fn report_failure(&self, handle: &PoolHandle, id: PeId) -> Result<()> {
        self.check(handle)?;
        let handle = handle.clone();
        self.tell(move |b, now| b.endpoint.report_unreachable(now, &handle, id))
    }

    /// As [`map`], in this context.
    pub fn map(&self, fd: RawFd, number: Option<RawFd>) -> Result<RawFd> {
        // Those mapped from the start have the numbers of what they stand for: they may be meant by these.
        let standard = self.semantics().maps_standard_streams && (0..3).contains(&fd);
        if table::find_mapped(fd).is_some() && !standard || table::find(fd).is_ok() {
            return Err(errors::error(libc::EINVAL, format!("descriptor {fd} is the library's own already")));
        }
        let duplicate =
            Duplicate::new(fd, number).map_err(|e| errors::system("cannot map a descriptor", &e))?;
        let sd = duplicate.number();
        self.check_number(sd)?;
        table::map(sd, Mapped { duplicate, context: self.clone() });
        Ok(sd)
    }

    /// Standard input, output and error, as far as they are open and not mapped already.
    fn map_standard_streams(&self) {
        for fd in 0..3 {
            if table::find_mapped(fd).is_none()
                && table::find(fd).is_err()
                && let Ok(duplicate) = Duplicate::new(fd, None)
            {
                table::map(fd, Mapped { duplicate, context: self.clone() });
            }
        }
    }

    /// Whether a descriptor with this number may be given out.
    fn check_number(&self, sd: RawFd) -> Result<()> {
        match self.semantics().descriptor_limit {
            Some(limit) if sd >= limit => Err(errors::error(
                libc::EMFILE,
                format!("no descriptor below {limit} is free, which is as far as this program can go"),
            )),
            Some(_) | None => Ok(()),
        }
    }

    /// As [`watch`], in this context.
    pub fn watch(&self, handle: &PoolHandle) -> Result<RawFd> {
        watch::watch(self, handle)
    }

    fn check(&self, handle: &PoolHandle) -> Result<()> {
        let limit = self.limits().handle_bytes;
        if handle.as_bytes().len() > limit { Err(errors::handle_too_long(handle, limit)) } else { Ok(()) }
    }
}

/// Heeds what the name of a pool says beside the handle, before a call in which it is given: its registrars are used from now
/// on, and `sd`, if there is one, has its time-outs. Other calls wait as [`Settings::timeout`] says.
///
/// Errors: EINVAL (none of its registrars has an address); as [`socket()`], EBADF.
pub fn heed(settings: &Settings, sd: Option<RawFd>) -> Result<()> {
    if let Some(registrars) = &settings.registrars {
        default_context()?.use_registrars(registrars)?;
    }
    match sd {
        Some(sd) if *settings != Settings::default() => {
            let mut options = socket_options(sd)?;
            options.apply_name(settings);
            set_socket_options(sd, &options)
        }
        Some(_) | None => Ok(()),
    }
}

/// A new descriptor: a real one, for poll, select and epoll (readability only). `protocol` 0: automatic.
///
/// Errors: EACCES before [`initialize`], ENOTSUP in a forked child before its own, EAFNOSUPPORT, EPROTONOSUPPORT, EMFILE.
pub fn socket(domain: i32, kind: Kind, protocol: i32) -> Result<RawFd> {
    default_context()?.socket(domain, kind, protocol)
}

/// As [`socket`], for a pool element at a socket that the program has made: TCP, UDP or one-to-one SCTP, bound and listening
/// already or not. On success `fd` is closed: the library has it under a number of its own.
///
/// Errors: as [`socket`]; EBADF, ENOTSOCK, EPROTONOSUPPORT (another kind of socket), EPROTOTYPE, EISCONN, EINVAL (one of ours).
pub fn socket_of(fd: RawFd, kind: Kind, protocol: i32) -> Result<RawFd> {
    default_context()?.socket_of(fd, kind, protocol)
}

/// Binds the element's transport. No addresses: all, ephemeral port. Clients that connect from now on wait to be served.
///
/// Errors: EINVAL if bound already, EISCONN, EOPNOTSUPP for more than one address, and what the system says (EADDRINUSE ...).
pub fn bind(sd: RawFd, addresses: &[SocketAddr]) -> Result<()> {
    let socket = table::find(sd)?;
    socket.told(Call::Listen, element::bind(&socket, addresses))
}

/// Listens for sessions; binds first if that was not done. May be called again. How many clients may wait is not for
/// `backlog` to say: 4,096, or what the system allows (net.core.somaxconn).
///
/// Errors: as [`bind`].
pub fn listen(sd: RawFd, backlog: i32) -> Result<()> {
    let _ = backlog;
    let socket = table::find(sd)?;
    socket.told(Call::Listen, element::listen(&socket))
}

/// Accepts a session as a descriptor of its own (`Kind::Stream`).
///
/// Errors: EAGAIN when none came in time, EINVAL if not listening, EOPNOTSUPP on a `Kind::SeqPacket` socket.
pub fn accept(sd: RawFd, wait: Wait) -> Result<RawFd> {
    let socket = table::find(sd)?;
    element::accept(&socket, wait)
}

/// Connects to a pool; blocks until the first element is reached. `max_age`: a cached resolution no older will do. With
/// `Wait::No` it fails with EINPROGRESS and goes on; the descriptor becomes readable when it has failed, and a sent message
/// waits for the connection.
///
/// Errors: ENOENT (unknown pool), EHOSTUNREACH (no registrar), ECONNREFUSED, ETIMEDOUT ... (no element reached: what became of the
/// last tried), EISCONN, EALREADY, EOPNOTSUPP, ENAMETOOLONG. The socket is then as it was. An error for a result: it only seems to have
/// succeeded ([`Semantics::failures_are_told`]).
pub fn connect(sd: RawFd, handle: &PoolHandle, max_age: Duration, wait: Wait) -> Result<Option<Error>> {
    let socket = table::find(sd)?;
    let begun = runtime::now();
    let result = user::connect(&socket, handle, max_age, wait);
    socket.slowed(begun, wait, &result);
    socket.told_or_hidden(Call::Connect, result)
}

/// Registers as an element of a pool, or changes the registration. `renewal`: how often it is renewed (its life is three times that). `id`: chosen
/// at random if none. With `Wait::No` it returns at once and goes on in the background. What is registered for a socket bound to
/// all addresses is the address by which this host reaches the registrar.
///
/// Errors: EHOSTUNREACH (no registrar), ETIMEDOUT; refused: EPROTOTYPE (the pool's policy or transport is another), EINVAL (a
/// value is invalid), EEXIST (the identifier is another's), ENOSPC (the registrar has no room), EACCES (credentials), EPERM (no cause
/// given); EINVAL (registered otherwise), EISCONN, ENAMETOOLONG. Unless the socket was registered before, nothing stays registered.
pub fn register(
    sd: RawFd,
    handle: &PoolHandle,
    policy: &Policy,
    renewal: Duration,
    id: Option<PeId>,
    control_channel: bool,
    wait: Wait,
) -> Result<PeId> {
    let socket = table::find(sd)?;
    socket
        .told(Call::Register, element::register(&socket, handle, policy, renewal, id, control_channel, wait))
}

/// Ends the registration. Sessions go on.
///
/// Errors: EINVAL if not registered; ETIMEDOUT if no registrar confirmed it: the registration runs out by itself; EACCES,
/// EPERM ... if refused: then it stands.
pub fn deregister(sd: RawFd, wait: Wait) -> Result<()> {
    let socket = table::find(sd)?;
    socket.told(Call::Deregister, element::deregister(&socket, wait))
}

/// Closes a descriptor and what is behind it: sessions end in order, an element leaves its pool. Waits up to 2 s for what was
/// sent and is not written yet. After a fork, a side that has not used the descriptor since just lets go of it.
///
/// Errors: EBADF.
pub fn close(sd: RawFd) -> Result<()> {
    match table::remove(sd)? {
        Entry::Socket(socket) => socket.shut(),
        Entry::Mapped(mapped) => {
            if mapped.context.semantics().close_reaches_original {
                mapped.duplicate.close_original();
            }
        }
    }
    Ok(())
}

/// Gives an ordinary descriptor of the program's a number that [`read`], [`fn@write`], [`poll`] and the options take beside those of
/// sockets: a duplicate of it, as `number` if one is given.
///
/// Errors: EBADF, EMFILE (no number is free, or not this one), EINVAL (`fd` is one of ours already; an impossible number), EACCES
/// before [`initialize`].
pub fn map(fd: RawFd, number: Option<RawFd>) -> Result<RawFd> {
    default_context()?.map(fd, number)
}

/// Takes the number back. The program's own descriptor stays open.
///
/// Errors: EBADF, also for a socket.
pub fn unmap(sd: RawFd) -> Result<()> {
    table::remove_mapped(sd).map(drop)
}

/// Receives user data; notifications and cookies are passed over (if not, RSPLIB's ways are wanted). Of a mapped descriptor what read(2) gives. With
/// `Wait::Default` it waits as the socket's `receive_wait` says.
///
/// Errors: as [`receive`]; EPIPE when the element has failed and the application is to move on.
pub fn read(sd: RawFd, buffer: &mut [u8], wait: Wait) -> Result<Incoming> {
    let Some(mapped) = table::find_mapped(sd) else {
        return transfer::read(&*table::find(sd)?, buffer, wait);
    };
    match mapped.duplicate.read(buffer).map_err(|e| errors::system("cannot read", &e))? {
        0 => Ok(Incoming::End),
        bytes => {
            Ok(Incoming::Data { bytes, ppid: 0, stream: 0, session: 0, from: None, end_of_record: false })
        }
    }
}

/// Sends a message on the session a socket is connected by. To a mapped descriptor what write(2) takes. With `Wait::Default` it waits as the
/// socket's `send_wait` says.
///
/// Errors: as [`send`].
pub fn write(sd: RawFd, message: &[u8], wait: Wait) -> Result<usize> {
    match table::find_mapped(sd) {
        Some(mapped) => mapped.duplicate.write(message).map_err(|e| errors::system("cannot write", &e)),
        None => send(sd, message, &Outgoing::default(), wait),
    }
}

/// What getsockopt(2) says of a mapped descriptor: how many bytes of `value` were written. None: it is not mapped.
pub fn mapped_option(sd: RawFd, level: i32, option: i32, value: &mut [u8]) -> Option<Result<usize>> {
    let done = table::find_mapped(sd)?.duplicate.option(level, option, value);
    Some(done.map_err(|e| errors::system("cannot read the option", &e)))
}

/// setsockopt(2) for a mapped descriptor. None: it is not mapped.
pub fn set_mapped_option(sd: RawFd, level: i32, option: i32, value: &[u8]) -> Option<Result<()>> {
    let done = table::find_mapped(sd)?.duplicate.set_option(level, option, value);
    Some(done.map_err(|e| errors::system("cannot set the option", &e)))
}

/// Says what a session is doing, for reports of the component status protocol: up to 127 bytes of text, the rest is cut.
///
/// Errors: ENOTCONN (no such session).
pub fn set_status(sd: RawFd, session: u32, text: &str) -> Result<()> {
    let socket = table::find(sd)?;
    socket.told(Call::SetStatus, transfer::set_status(&socket, session, text))
}

/// What was said.
///
/// Errors: ENOTCONN (no such session).
pub fn status(sd: RawFd, session: u32) -> Result<String> {
    transfer::status(&*table::find(sd)?, session)
}

/// Sends a message. Returns when it is written, or, with `Wait::No`, taken.
///
/// Errors: EAGAIN (no room in time; nothing was sent), EPIPE (the element has failed, or the session has ended), ENOTCONN (no
/// session), EMSGSIZE, EINVAL (options), ECOMM (`Kind::Stream`: earlier messages did not get there; told once, this one was
/// not taken), EBADF, EINTR.
pub fn send(sd: RawFd, message: &[u8], how: &Outgoing, wait: Wait) -> Result<usize> {
    let socket = table::find(sd)?;
    socket.told(Call::Send, transfer::send(&socket, message, how, wait))
}

/// Gives a session's user a cookie, which it brings along to the next element should this one fail.
///
/// Errors: as [`send`]; EOPNOTSUPP if the session has no control channel.
pub fn send_cookie(sd: RawFd, cookie: &[u8], session: u32, wait: Wait) -> Result<usize> {
    let socket = table::find(sd)?;
    socket.told(Call::SendCookie, transfer::send_cookie(&socket, cookie, session, wait))
}

/// Receives what comes next. Messages longer than the buffer come in pieces, the last with `end_of_record`. `full`: where the transport
/// knows no messages, as much as is there and fits.
///
/// Errors: EAGAIN (nothing came in time), ENOTCONN, ECONNRESET and others (the session is lost), EMSGSIZE (a cookie echo does not
/// fit; it stays), ECOMM (`Kind::Stream`: messages sent earlier did not get there; told once), EBADF, EINTR.
pub fn receive(sd: RawFd, buffer: &mut [u8], full: bool, wait: Wait) -> Result<Incoming> {
    transfer::receive(&*table::find(sd)?, buffer, full, wait)
}

/// Moves the session on to another element; `report` the present one. Blocks until reached. What the old one sent and was not
/// received yet is dropped, but its last cookie counts. With `Wait::No` it fails with EINPROGRESS and goes on; a notification
/// tells its success.
///
/// Errors: as [`connect`]; ENOTCONN if there is no session. It can be tried again.
pub fn force_failover(sd: RawFd, report: bool, max_age: Duration, wait: Wait) -> Result<Option<Error>> {
    let socket = table::find(sd)?;
    let begun = runtime::now();
    let result = user::force_failover(&socket, report, max_age, wait);
    socket.slowed(begun, wait, &result);
    socket.told_or_hidden(Call::FailOver, result)
}

/// Whether the session holds a cookie.
///
/// Errors: ENOTCONN if the socket is no pool user's.
pub fn has_cookie(sd: RawFd) -> Result<bool> {
    let socket = table::find(sd)?;
    socket.with(|inner, now| {
        socket.service(inner, now);
        match &inner.role {
            Role::User(user) => Ok(user.line.machine.has_cookie()),
            Role::Fresh
            | Role::Element(_)
            | Role::Accepted(_)
            | Role::Dispatch(_)
            | Role::Watch(_)
            | Role::Closed => Err(errors::not_connected(sd, "hold a cookie")),
        }
    })
}

/// The pool and identifier this descriptor is registered as.
///
/// Errors: EINVAL if it is not registered.
pub fn local_name(sd: RawFd) -> Result<(PoolHandle, PeId)> {
    let socket = table::find(sd)?;
    let name = socket.with(|inner, _| match &inner.role {
        Role::Element(element) => element.registered().cloned().ok_or_else(|| not_registered(sd)),
        Role::Fresh
        | Role::User(_)
        | Role::Accepted(_)
        | Role::Dispatch(_)
        | Role::Watch(_)
        | Role::Closed => Err(not_registered(sd)),
    });
    socket.told(Call::Name, name)
}

fn not_registered(sd: RawFd) -> Error {
    errors::error(libc::EINVAL, format!("socket {sd} is not registered in a pool"))
}

/// The pool and element this descriptor is connected to; of an accepted session the element its user is itself, if that is
/// known (RFC 5352 6.6).
///
/// Errors: ENOTCONN.
pub fn peer_name(sd: RawFd) -> Result<(PoolHandle, Option<PeId>)> {
    let socket = table::find(sd)?;
    let name = socket.with(|inner, _| match &inner.role {
        Role::User(user) => Ok((user.handle().clone(), user.line.machine.current().map(|e| e.id))),
        Role::Watch(watch) => Ok((watch.handle().clone(), None)),
        Role::Accepted(accepted) => match accepted.line.machine.sender() {
            Some((handle, id)) => Ok((handle.clone(), Some(*id))),
            None => Err(errors::error(
                libc::ENOTCONN,
                format!("the user of socket {sd} is not known to be an element itself"),
            )),
        },
        Role::Fresh | Role::Element(_) | Role::Dispatch(_) | Role::Closed => {
            Err(errors::not_connected(sd, "name the peer"))
        }
    });
    socket.told(Call::Name, name)
}

/// Where the element's transport listens.
///
/// Errors: EINVAL if it is not bound.
pub fn local_address(sd: RawFd) -> Result<SocketAddr> {
    let unbound = || errors::error(libc::EINVAL, format!("socket {sd} is not bound"));
    table::find(sd)?.with(|inner, _| inner.listening_at().ok_or_else(unbound))
}

/// What can be done on a descriptor now (POLLIN, POLLOUT, POLLERR, POLLHUP), ordinary descriptors included; blocks as `wait` says. Returns how many have any.
///
/// Errors: EINTR, ENOMEM.
pub fn poll(fds: &mut [libc::pollfd], wait: Wait) -> Result<usize> {
    poll::poll(fds, wait)
}

/// Resolves a handle (basic mode).
///
/// Errors: ENOENT (unknown pool), EHOSTUNREACH (no registrar), ETIMEDOUT, EAGAIN (`Wait::No`, not in the cache), ENAMETOOLONG.
pub fn resolve(
    handle: &PoolHandle,
    items: Option<u32>,
    max_age: Duration,
    wait: Wait,
) -> Result<Vec<PoolElement>> {
    default_context()?.resolve(handle, items, max_age, wait)
}

/// Registers an element that the program serves by itself (basic mode); again to renew it. `life` as given, not renewed.
///
/// Errors: as [`register`].
pub fn register_element(handle: &PoolHandle, element: PoolElement, wait: Wait) -> Result<PeId> {
    default_context()?.register_element(handle, element, wait)
}

/// Takes it out again. Not being registered is no error.
///
/// Errors: as [`deregister`].
pub fn deregister_element(handle: &PoolHandle, id: PeId, wait: Wait) -> Result<()> {
    default_context()?.deregister_element(handle, id, wait)
}

/// Reports an element that could not be reached (basic mode, Transport.Failure of RFC 5352 6.9.2).
///
/// Errors: ENAMETOOLONG. Whether a registrar hears of it is not told.
pub fn report_failure(handle: &PoolHandle, id: PeId) -> Result<()> {
    default_context()?.report_failure(handle, id)
}

/// A descriptor on which every change of the pool can be received.
///
/// Errors: as [`socket`], ENAMETOOLONG. That there is no registrar or no such pool is no error: it may come.
pub fn watch(handle: &PoolHandle) -> Result<RawFd> {
    default_context()?.watch(handle)
}

/// The next change of a watched pool; EAGAIN if there is none.
///
/// Errors: EAGAIN, EOPNOTSUPP if the descriptor is not one of [`watch`], EINTR.
pub fn next_change(sd: RawFd, wait: Wait) -> Result<Change> {
    watch::next_change(&*table::find(sd)?, wait)
}

/// What is set on a descriptor.
pub fn socket_options(sd: RawFd) -> Result<SocketOptions> {
    table::find(sd)?.with(|inner, _| Ok(inner.options.clone()))
}

/// Sets it, from now on.
pub fn set_socket_options(sd: RawFd, options: &SocketOptions) -> Result<()> {
    let socket = table::find(sd)?;
    socket.with(|inner: &mut Inner, now| {
        inner.options = options.clone();
        match &mut inner.role {
            Role::User(user) => {
                user.line.machine.configure(options.session.clone());
                user.line.path = Some(options.path.clone());
            }
            Role::Accepted(accepted) => accepted.line.machine.configure(options.session.clone()),
            Role::Element(element) => element.reconsider(),
            Role::Dispatch(line) => line.path = Some(options.path.clone()),
            Role::Fresh | Role::Watch(_) | Role::Closed => {}
        }
        socket.service(inner, now);
        Ok(())
    })
}

/// Sets or takes back the function called after each failover of a user's session.
pub fn set_failover_callback(sd: RawFd, callback: Option<FailoverCallback>) -> Result<()> {
    table::find(sd)?.with(|inner, _| {
        inner.callback = callback;
        Ok(())
    })
}

/// Opens a stream to a pool: a plain descriptor, one end of a pair of sockets, for read(2), write(2) and whatever else takes one. The
/// library is started if it does not run. With `nonblocking` the call does not wait for an element: the descriptor is writable
/// when one is reached, and fails with ECONNRESET when none is.
///
/// Errors: as [`connect`]; EMFILE, EAGAIN (no thread), EINVAL (a registrar's name).
pub fn open(name: &Name, nonblocking: bool) -> Result<RawFd> {
    attendant::open_new(name, nonblocking)
}

/// The same under the number of a socket of the program's, which is closed: TCP or one-to-one SCTP, not connected. The stream is
/// non-blocking if that is, and has its time-outs. True: an element is reached; false: nobody waited for one.
///
/// Errors: as [`open`]; EBADF, ENOTSOCK, EPROTONOSUPPORT (another kind of socket), EISCONN, EALREADY (a stream already,
/// which has no element yet).
pub fn open_at(name: &Name, number: RawFd) -> Result<bool> {
    attendant::open_at(name, number)
}

/// The address that stands for a name in this process, IPv4 or `v6`.
///
/// Errors: ENOMEM (too many names).
pub fn stand_in(name: &Name, v6: bool) -> Result<IpAddr> {
    stand_in::address(name, v6)
}

/// The name that an address stands for, if it does.
pub fn stands_for(address: IpAddr) -> Option<Name> {
    stand_in::name(address)
}

/// The address of the element that a stream is at; none: the descriptor is no stream of this process.
///
/// Errors: ENOTCONN (no element now).
pub fn stream_peer(fd: RawFd) -> Option<Result<SocketAddr>> {
    attendant::peer(fd)
}

/// Registers a descriptor of the program's at which it serves: listening (TCP, one-to-one SCTP) or bound (UDP). It stays the
/// program's; when that closes it, its element leaves the pool. Called again it changes policy values and renewal. The library
/// is started if it does not run.
///
/// Errors: EBADF, ENOTSOCK, EPROTONOSUPPORT, EISCONN, EINVAL (not bound or listening; served otherwise; a registrar's name), and as [`register`].
pub fn serve(fd: RawFd, name: &Name, serving: Serving, wait: Wait) -> Result<PeId> {
    serve::serve(fd, name, serving, wait)
}

/// Registers what a program listens at that knows nothing of it: waits for no registrar, and leaves alone what is not TCP or SCTP, has
/// another port than `only`, or the port of one that is registered (as sockets for IPv4 and IPv6 have).
///
/// Errors: as [`serve`].
pub fn serve_unasked(fd: RawFd, name: &Name, only: Option<u16>) -> Result<()> {
    serve::serve_unasked(fd, name, only)
}

/// Takes it out of its pool; the descriptor stays open. When this returns nobody asks about its health any more.
///
/// Errors: EINVAL (not served), EDEADLK (called by who is asked), and as [`deregister`].
pub fn unserve(fd: RawFd) -> Result<()> {
    serve::unserve(fd)
}
