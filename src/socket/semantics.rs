//! Where libasap and RSPLIB differ in what a program sees, each difference a field, read in this module and nowhere else:
//! `libasap.so` and a library for RSPLIB's programs are the same but for this value. docs/semantics.md is its table.

use super::{Error, Result};
use crate::machine::Audience;
use std::os::fd::RawFd;
use std::sync::OnceLock;
use std::time::Duration;

/// Where libasap and RSPLIB differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Semantics {
    /// Connecting, registering, deregistering and failing over fail when they have failed. Otherwise they succeed: a
    /// registration is tried on and a user is told FAILOVER_NECESSARY by its next call.
    pub failures_are_told: bool,
    /// A protocol asked for is the one there is, or an error. Otherwise IPPROTO_SCTP is a wish: without SCTP in the kernel
    /// what works best is taken.
    pub protocol_is_binding: bool,
    /// Every descriptor given out is below this; there is EMFILE instead of others.
    pub descriptor_limit: Option<RawFd>,
    /// Standard input, output and error are mapped, as 0, 1 and 2, from the start.
    pub maps_standard_streams: bool,
    /// Closing a mapped descriptor also closes the one it was made from.
    pub close_reaches_original: bool,
    /// Reading and writing wait unless told otherwise.
    pub plain_calls_wait: bool,
    /// Reading gives user data and nothing else. Otherwise it also gives notifications and cookies, as bytes.
    pub read_gives_data_only: bool,
    /// An element that ends a session in order ends it for good. Otherwise that is a failure like every other.
    pub orderly_end_is_final: bool,
    /// On a stream socket the loss of the other side is an error. Otherwise it looks like an orderly end.
    pub stream_loss_is_error: bool,
    /// How many elements a look-up that says nothing about it gives; none: as many as the registrar tells.
    pub default_items: Option<u32>,
    /// The longest pool handle.
    pub handle_bytes: usize,
    /// errno is RSPLIB's for sessions that there are not, sockets in the wrong state, and registrars that do not answer.
    pub rsplib_errnos: bool,
    /// Whose registrars are announced on a group that the program names. It matters for those that do not say where they are.
    pub announcers: Audience,
    /// A failed attempt to connect or to fail over takes at least so long: programs that are not told try again at once.
    pub failing_takes: Duration,
    /// Flags that there are not, sessions that a socket with one session has not, and session parameters that contradict each other are
    /// errors. Otherwise the flags are ignored, its session is meant, and the parameters are made to fit.
    pub odd_arguments_are_errors: bool,
    /// Receiving or accepting where nothing can come is an error, at once. Otherwise nothing comes in the time given.
    pub idle_sockets_refuse: bool,
    /// Accepting with a negative time-out does not wait. Otherwise it waits as long as it takes.
    pub negative_accepts_return: bool,
    /// Words of the command line that set a time or a number of trials are taken for the library's. Otherwise they have their effect, and are
    /// not.
    pub tuning_words_are_taken: bool,
    /// The library prints nothing that nobody has asked for (ASAP_LOG). Otherwise it prints its log as `-loglevel=` and its like say, and
    /// without them its errors.
    pub prints_nothing: bool,
}

impl Semantics {
    /// What libasap does.
    pub const ASAP: Semantics = Semantics {
        failures_are_told: true,
        protocol_is_binding: true,
        descriptor_limit: None,
        maps_standard_streams: false,
        close_reaches_original: false,
        plain_calls_wait: true,
        read_gives_data_only: true,
        orderly_end_is_final: true,
        stream_loss_is_error: true,
        default_items: None,
        handle_bytes: 1024,
        rsplib_errnos: false,
        announcers: Audience::Standard,
        failing_takes: Duration::ZERO,
        odd_arguments_are_errors: true,
        idle_sockets_refuse: true,
        negative_accepts_return: true,
        tuning_words_are_taken: true,
        prints_nothing: true,
    };

    /// What RSPLIB 3 does.
    pub const RSPLIB: Semantics = Semantics {
        failures_are_told: false,
        protocol_is_binding: false,
        descriptor_limit: Some(1024),
        maps_standard_streams: true,
        close_reaches_original: true,
        plain_calls_wait: false,
        read_gives_data_only: false,
        orderly_end_is_final: false,
        stream_loss_is_error: false,
        default_items: Some(1),
        handle_bytes: 32,
        rsplib_errnos: true,
        announcers: Audience::Rsplib,
        failing_takes: Duration::from_millis(250),
        odd_arguments_are_errors: false,
        idle_sockets_refuse: false,
        negative_accepts_return: false,
        tuning_words_are_taken: false,
        prints_nothing: false,
    };
}

static CHOSEN: OnceLock<Semantics> = OnceLock::new();

impl Semantics {
    /// Makes this the ways of the C functions, for good, if nobody has before: `librsplib.so.3` does when it is loaded.
    pub fn choose(self) {
        let _ = CHOSEN.set(self);
    }

    /// The ways of the C functions; libasap's unless others were chosen. They are what [`Semantics::default`] gives, too.
    pub fn chosen() -> &'static Semantics {
        CHOSEN.get().unwrap_or(&Semantics::ASAP)
    }
}

impl Default for Semantics {
    fn default() -> Semantics {
        *Semantics::chosen()
    }
}

/// The calls whose errno values differ.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Call {
    Connect,
    Deregister,
    FailOver,
    Listen,
    Name,
    Register,
    Send,
    SendCookie,
    SetStatus,
}

impl Semantics {
    /// The result of a call as the program is to see it.
    pub(super) fn told<T>(&self, call: Call, result: Result<T>) -> Result<T> {
        result.map_err(|e| match self.rsplib_errnos {
            true => Error { errno: rsplib_errno(call, e.errno), ..e },
            false => e,
        })
    }
}

fn rsplib_errno(call: Call, errno: i32) -> i32 {
    match (call, errno) {
        (Call::Connect, libc::EISCONN | libc::EALREADY) => libc::EBADF,
        (Call::Deregister | Call::Register, libc::EINVAL) => libc::EBADF,
        (Call::FailOver | Call::Name | Call::Send, libc::ENOTCONN) | (Call::Name, libc::EINVAL) => {
            libc::EBADF
        }
        (Call::Listen, libc::EISCONN) => libc::EINVAL,
        (Call::Connect | Call::FailOver, libc::EHOSTUNREACH | libc::ETIMEDOUT | libc::ECONNREFUSED) => {
            libc::EIO
        }
        (Call::SendCookie | Call::SetStatus, libc::ENOTCONN) => libc::EINVAL,
        (_, errno) => errno,
    }
}

impl Semantics {
    /// What a call is to do that waits where nothing can come.
    pub(super) fn idle<T>(&self, refusal: Error) -> Result<Option<T>> {
        if self.idle_sockets_refuse { Err(refusal) } else { Ok(None) }
    }
}

/// A program of RSPLIB's goes on as if the call had succeeded; only the log says that it has not.
pub(super) fn hidden<T>(semantics: &Semantics, result: Result<T>, done: T) -> Result<T> {
    match result {
        Err(e) if !semantics.failures_are_told => {
            log::error!("{}; the program is not told", e.what);
            Ok(done)
        }
        other => other,
    }
}
