//! Pools for programs with plain descriptors: one to read and write, and those at which they listen.

use super::error::guard;
use super::layout::rsp_loadinfo;
use super::policy::{loadinfo, policy};
use super::{console, error, parse_name};
use crate::name::Name;
use crate::policy::Policy;
use crate::socket::{self, Health, Result, Serving, Wait};
use crate::types::PeId;
use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_uint, c_void};
use std::time::Duration;

/// `asap_serve`: return at once, and go on trying in the background.
pub const ASAP_DONTWAIT: c_int = 1;

/// Asked whether the program is well; see `asap_serve`. `fd`: the descriptor. `load`: the policy and values it is
/// registered with, to be changed if they are others now. `user`: as given. Returns 0: well; -1: the element
/// is to be in no pool until the next answer.
pub type asap_health_callback =
    Option<unsafe extern "C" fn(fd: c_int, load: *mut rsp_loadinfo, user: *mut c_void) -> c_int>;

/// How a descriptor is served. Set asc_size, leave what is to have its default NULL or 0:
/// `struct asap_serve_config config = {.asc_size = sizeof(config)};`
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct asap_serve_config {
    /// sizeof(struct asap_serve_config), so that a program need not know what later versions add.
    pub asc_size: usize,
    /// Policy and values; NULL: those of the name, else of ASAP_POLICY or the configuration file, else round robin.
    pub asc_load: *const rsp_loadinfo,
    /// Asked whether the program is well; NULL: as long as it lives it is.
    pub asc_health: asap_health_callback,
    /// Handed to asc_health.
    pub asc_user: *mut c_void,
    /// How often it is asked, milliseconds; 0: 1000.
    pub asc_health_interval: c_uint,
    /// How long an answer may take, milliseconds, before the program counts as not well; 0: 5000.
    pub asc_health_timeout: c_uint,
    /// How often the registration is renewed, milliseconds; it stands three times as long. 0: 30000.
    pub asc_interval: c_uint,
    /// The element's identifier; 0: random.
    pub asc_pe_id: u32,
}

/// The name at `name`: `pool://...`, or a handle that is a C string.
///
/// # Safety
/// NULL or a C string.
pub(super) unsafe fn c_name(name: *const c_char) -> Result<Name> {
    if name.is_null() {
        return error(libc::EFAULT, "the pool's name is NULL");
    }
    // SAFETY: a C string, by the caller's promise.
    parse_name(unsafe { CStr::from_ptr(name) }.to_bytes())
}

/// Opens a stream of bytes to a pool: a plain descriptor for read(2), write(2), poll(2), stdio, TLS libraries,
/// sendfile(2) and whatever else takes a connected stream socket. To be closed with close(2), which ends the
/// session. The library is started if it does not run yet.
///
/// `name`: `pool://HANDLE?OPTION=VALUE&...` (docs/adopting.md), or a handle as it is. `flags`: 0 or SOCK_NONBLOCK.
///
/// Blocks until an element is reached, as long as the name's `timeout` says (10 s). With SOCK_NONBLOCK it does not, and the
/// descriptor is non-blocking: it is writable as soon as an element is reached, and if none is, it fails with
/// ECONNRESET (`asap_last_error` cannot say why; the log can).
///
/// It is one end of a pair of sockets (AF_UNIX), which a thread of the library relays. Who does not read is not read
/// for; shutdown(SHUT_WR) reaches a plain TCP server as the end of the data, and changes nothing for
/// a server of `rsp_*`, whose sessions have no such end. A server's end in order reads as 0. When the element fails, what it sent
/// is read, then ECONNRESET is, once; writing gives EPIPE (and SIGPIPE, as with every socket). With
/// `failover=resume` in the name the stream goes on at another element instead, with the bytes that were not handed to
/// the transport yet; those that were may be lost or be dealt with unanswered: that is for protocols that
/// can tell. A plain TCP server that is killed ends its connections as if in order, so without `failover=resume` that
/// may read as 0.
///
/// What was written before close(2) is sent, for up to 30 s, and for up to 2 s when the process ends by exit(3) or returns from main.
///
/// Returns a descriptor, close-on-exec, or -1.
/// Errors: EFAULT, EINVAL (the name, the sentence says what; flags; a value in an ASAP_ variable), ENAMETOOLONG, ENOENT (no such pool), EHOSTUNREACH
/// (no registrar; the sentence names those tried), ECONNREFUSED, ETIMEDOUT (no element answers), EMFILE, ENFILE,
/// ENOMEM, EAGAIN (no thread); as `rsp_initialize` if it starts the library. A stream takes up to five descriptors.
///
/// Threads: any. Fork: the child may use descriptors it inherits, which the parent goes on relaying; when the parent
/// ends they fail with ECONNRESET. Those it opens itself are its own. RFC 5352 3.3, 6.5. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn asap_open(name: *const c_char, flags: c_int) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        let name = unsafe { c_name(name)? };
        if flags & !libc::SOCK_NONBLOCK != 0 {
            return error(libc::EINVAL, format!("unknown flags 0x{:x}", flags & !libc::SOCK_NONBLOCK));
        }
        console::open()?;
        socket::open(&name, flags != 0)
    })
}

/// Makes a server of the program's an element of a pool: a TCP or SCTP (one-to-one) socket that listens, or a bound UDP
/// socket. The program goes on accepting and serving at it as before, and the library keeps the
/// registration alive. Called again for the same descriptor it changes policy values and interval. The library is
/// started if it does not run yet.
///
/// `fd`: the socket; it stays the program's. `name`: `pool://HANDLE?OPTION=VALUE&...` (docs/adopting.md), or a handle as
/// it is. `config`: read during the call only; NULL: all defaults. `flags`: 0 or ASAP_DONTWAIT. Blocks until a registrar has
/// answered, as long as the name's `timeout` says (10 s), unless ASAP_DONTWAIT.
///
/// The element leaves its pool with `asap_unserve`, with exit(3), and within 250 ms of the program's closing the
/// descriptor or ending to listen. A process that is killed is taken out by the registrar, and its clients see
/// their connections end.
///
/// asc_health is called by a thread of the library's own, of which there is one for each descriptor that has it, with no
/// lock held and all signals blocked, never twice at once. It may block, and may call any function but `asap_unserve` for this
/// descriptor. Best let it look at something that the program's own loop sets, a counter say: that is
/// well only if the loop is. While it answers -1, or does not answer for asc_health_timeout, the element is in no pool;
/// sessions go on.
///
/// Returns 0 or -1: not registered, or registered as before.
/// Errors: EFAULT, EINVAL (the name; a value in an ASAP_ variable; the structure; flags; not bound, or not listening; served in another pool or with another
/// identifier), EBADF, ENOTSOCK, EPROTONOSUPPORT (another kind of socket), EISCONN, and as `rsp_register`; as `rsp_initialize`
/// if it starts the library.
///
/// Threads: any. Fork: the parent goes on being the element, whoever accepts; a child that is to be one calls it itself,
/// for a socket of its own. RFC 5352 3.1, 6.1. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn asap_serve(
    fd: c_int,
    name: *const c_char,
    config: *const asap_serve_config,
    flags: c_int,
) -> c_int {
    guard(|| {
        if flags & !ASAP_DONTWAIT != 0 {
            return error(libc::EINVAL, format!("unknown flags 0x{:x}", flags & !ASAP_DONTWAIT));
        }
        // SAFETY: the caller's promise.
        let (name, serving) = unsafe { (c_name(name)?, serving(config)?) };
        let wait = if flags & ASAP_DONTWAIT != 0 { Wait::No } else { Wait::Default };
        console::open()?;
        socket::serve(fd, &name, serving, wait)?;
        Ok(0)
    })
}

/// # Safety
/// `config` is NULL or as the C documentation demands.
unsafe fn serving(config: *const asap_serve_config) -> Result<Serving> {
    let mut serving = Serving::default();
    if config.is_null() {
        return Ok(serving);
    }
    // SAFETY: every version begins with its size.
    let size = unsafe { (&raw const (*config).asc_size).read() };
    if size < size_of::<asap_serve_config>() {
        let what = format!("asc_size is {size}; set it to sizeof(struct asap_serve_config)");
        return error(libc::EINVAL, what);
    }
    // SAFETY: as large as we know it.
    let config = unsafe { *config };
    let time = |ms: c_uint, default| if ms == 0 { default } else { Duration::from_millis(ms.into()) };
    if !config.asc_load.is_null() {
        // SAFETY: the caller's promise.
        serving.policy = Some(unsafe { policy(config.asc_load)? });
    }
    serving.id = (config.asc_pe_id != 0).then_some(PeId(config.asc_pe_id));
    serving.renewal = time(config.asc_interval, serving.renewal);
    serving.interval = time(config.asc_health_interval, serving.interval);
    serving.patience = time(config.asc_health_timeout, serving.patience);
    serving.health = config.asc_health.map(|callback| health(callback, config.asc_user));
    Ok(serving)
}

fn health(
    callback: unsafe extern "C" fn(c_int, *mut rsp_loadinfo, *mut c_void) -> c_int,
    user: *mut c_void,
) -> Health {
    struct User(*mut c_void);
    // SAFETY: the documentation demands a callback that a thread of ours may call with this pointer.
    unsafe impl Send for User {}
    impl User {
        fn pointer(&self) -> *mut c_void {
            self.0
        }
    }
    let user = User(user);
    Box::new(move |fd, present: &Policy| {
        let mut load = loadinfo(present);
        // SAFETY: a structure that lives during the call, and the program's own pointer.
        let well = unsafe { callback(fd, &raw mut load, user.pointer()) } == 0;
        // SAFETY: as above.
        let told = unsafe { policy(&raw const load) };
        well.then(|| {
            told.unwrap_or_else(|e| {
                log::warn!("descriptor {fd}: the load told is none: {}", e.what);
                *present
            })
        })
    })
}

/// Takes a served descriptor out of its pool. The descriptor stays open and the program may go on serving those who are there.
///
/// `fd`: given to `asap_serve`. Blocks until a registrar has confirmed it, at most as long as `rsp_initialize` was told, and
/// until asc_health, if it is being called, returns; it is not called any more then.
///
/// Returns 0, or -1. After ETIMEDOUT and EHOSTUNREACH the registration is no longer renewed and runs out by itself.
/// Errors: EINVAL (not served), EDEADLK (called by its asc_health), ETIMEDOUT, EHOSTUNREACH, EACCES, EPERM (refused).
///
/// Threads: any. Fork: EINVAL in the child. RFC 5352 3.2. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn asap_unserve(fd: c_int) -> c_int {
    guard(|| socket::unserve(fd).map(|()| 0))
}
