//! Set-up and everything around the sockets: configuration, start and end, version, log.

use super::error::{guard, guard_or, guard_void};
use super::layout::*;
use super::{address, console};
use crate::csp::{CSP_PORT, ComponentId, Monitor};
use crate::runtime::names::look_up;
use crate::socket::{self, Options, Reporting, Result, Semantics};
use crate::types::PeId;
use parking_lot::{Mutex, RwLock};
use std::cell::Cell;
use std::ffi::{CStr, CString};
use std::net::SocketAddr;
use std::os::raw::{c_char, c_int, c_uint, c_void};
use std::ptr;
use std::time::Duration;

/// The default ASAP port, for registrars given without one.
const ASAP_PORT: u16 = 3863;

/// Clears `info`: everything at its default, but ri_csp_server and ri_csp_interval as the environment has them:
/// CSP_SERVER (HOST[:PORT]) and CSP_INTERVAL (milliseconds, at least 250). One of the variables is enough: port 2960
/// of this host, every second. A name in CSP_SERVER is looked up by this call.
///
/// `info`: 96 bytes to be written; NULL is ignored.
///
/// Threads: any; one at a time for the same `info`. Fork: safe in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_initinfo(info: *mut rsp_info) {
    guard_void(|| {
        if !info.is_null() {
            // SAFETY: the caller gives room for one; all zeros is a value of it.
            unsafe { ptr::write_bytes(info, 0, 1) };
            if let Some(monitor) = socket::monitor_of_environment() {
                let (server, interval) = (kept(monitor.address), monitor.interval.as_millis());
                // SAFETY: as above.
                unsafe {
                    (*info).ri_csp_server = server;
                    (*info).ri_csp_interval = c_uint::try_from(interval).unwrap_or(c_uint::MAX);
                }
            }
        }
    });
}

/// Frees what `rsp_initarg` put into `info`: the list of registrars, with free(3). The structure itself
/// is the caller's.
///
/// `info`: from `rsp_initinfo`; NULL is ignored. A second call does nothing.
///
/// Threads: any; one at a time for the same `info`. Fork: safe in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_freeinfo(info: *mut rsp_info) {
    guard_void(|| {
        if info.is_null() {
            return;
        }
        // SAFETY: the caller gives an initialised structure, whose list is ours or made with malloc(3) as documented.
        unsafe {
            let mut node = (*info).ri_registrars;
            (*info).ri_registrars = ptr::null_mut();
            while !node.is_null() {
                let next = (*node).rri_next;
                libc::free((*node).rri_addr.cast());
                libc::free(node.cast());
                node = next;
            }
        }
    });
}

/// Looks at one word of the command line.
///
/// `info`: from `rsp_initinfo`. `arg`: one of
///   -registrar=ADDRESS[:PORT][,ADDRESS[:PORT]...]   adds one registrar with these addresses (port 3863 unless given;
///                                                   IPv6 addresses with port in brackets), or those of DNS names
///   -asapannounce=auto | off | ADDRESS[:PORT]       listen for announcements on IANA's groups and RSPLIB's, not at all, or there
///   -registrarannouncetimeout=MS, -registrarconnecttimeout=MS, -registrarconnectmaxtrials=N, -registrarrequesttimeout=MS,
///   -registrarresponsetimeout=MS, -registrarrequestmaxtrials=N
///                                                   the fields of struct rsp_info with these names
///   -cspserver=ADDRESS[:PORT]                       report status there (port 2960 unless given), as often as
///   -cspinterval=MILLISECONDS                       says; 0: not at all
///   -cspidentifier=NUMBER                           as this pool element, whatever is registered (0x...: hexadecimal)
///
/// Returns 1 if the word was one of these and is now in `info`; 0 if not: it may be an option of the
/// program. A word of ours with a bad value also gives 0, and `asap_last_error` says what is wrong with
/// it. Nothing is printed. DNS names are looked up at once. (librsplib.so.3 has more words, and gives 0 for the six times and trials, too: docs/semantics.md.)
/// Errors: with 0, errno is EINVAL for a bad value, EFAULT for NULL, ENOMEM; otherwise unchanged.
///
/// Threads: any; one at a time for the same `info`. Fork: safe in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_initarg(info: *mut rsp_info, arg: *const c_char) -> c_int {
    guard_or(
        |_| 0,
        || {
            if info.is_null() || arg.is_null() {
                return super::error(libc::EFAULT, "rsp_initarg: info or arg is NULL");
            }
            // SAFETY: a C string and an initialised structure, by the caller's promise.
            let (word, info) = unsafe { (CStr::from_ptr(arg), &mut *info) };
            if word.to_bytes().starts_with(b"-log") && !Semantics::chosen().prints_nothing {
                return console::understood(word).map(c_int::from);
            }
            match word.to_string_lossy().split_once('=') {
                Some((name, value)) => understood(info, name, value).map(c_int::from),
                None => Ok(0),
            }
        },
    )
}

/// Takes a word of the command line in, if it is one of ours.
fn understood(info: &mut rsp_info, name: &str, value: &str) -> Result<bool> {
    let tuned = match name {
        "-registrar" => {
            add_registrar(info, value)?;
            return Ok(true);
        }
        "-asapannounce" => {
            (info.ri_disable_autoconfig, info.ri_registrar_announce) = match value {
                "off" => (1, ptr::null_mut()),
                "auto" => (0, ptr::null_mut()),
                group => match addresses(name, value, group, ASAP_PORT)?[0] {
                    group if group.ip().is_multicast() => (0, kept(group)),
                    _ => return bad(name, value, "neither auto, off nor a multicast ADDRESS[:PORT]"),
                },
            };
            return Ok(true);
        }
        "-cspserver" => {
            info.ri_csp_server = kept(addresses(name, value, value, CSP_PORT)?[0]);
            return Ok(true);
        }
        "-cspinterval" => {
            info.ri_csp_interval = number(name, value)?;
            return Ok(true);
        }
        "-cspidentifier" => {
            let parsed = match value.strip_prefix("0x") {
                Some(digits) => u32::from_str_radix(digits, 16),
                None => value.parse(),
            };
            let Ok(id) = parsed else { return bad(name, value, "no identifier of 32 bits") };
            info.ri_csp_identifier = ComponentId::element(PeId(id)).number();
            return Ok(true);
        }
        "-registrarannouncetimeout" => &mut info.ri_registrar_announce_timeout,
        "-registrarconnecttimeout" => &mut info.ri_registrar_connect_timeout,
        "-registrarconnectmaxtrials" => &mut info.ri_registrar_connect_max_trials,
        "-registrarrequesttimeout" => &mut info.ri_registrar_request_timeout,
        "-registrarresponsetimeout" => &mut info.ri_registrar_response_timeout,
        "-registrarrequestmaxtrials" => &mut info.ri_registrar_request_max_trials,
        _ => return Ok(false),
    };
    *tuned = number(name, value)?;
    Ok(Semantics::chosen().tuning_words_are_taken)
}

/// The addresses that `text`, which stands in a word of the command line, is or has in DNS.
fn addresses(name: &str, value: &str, text: &str, port: u16) -> Result<Vec<SocketAddr>> {
    match look_up(text, port) {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => bad(name, value, &format!("\"{text}\" has no address")),
        Err(e) => bad(name, value, &format!("\"{text}\" is no ADDRESS[:PORT] or NAME[:PORT]: {e}")),
    }
}

fn bad<T>(name: &str, value: &str, why: &str) -> Result<T> {
    super::error(libc::EINVAL, format!("{name}={value}: {why}"))
}

fn number(name: &str, value: &str) -> Result<c_uint> {
    value.parse().or_else(|_| bad(name, value, "no number"))
}

fn add_registrar(info: &mut rsp_info, list: &str) -> Result<()> {
    let mut packed = Vec::new();
    let mut count = 0;
    for text in list.split(',') {
        for address in addresses("-registrar", list, text, ASAP_PORT)? {
            packed.extend(address::write(address));
            count += 1;
        }
    }
    // SAFETY: malloc(3) of the sizes written; freed by rsp_freeinfo.
    unsafe {
        let node = libc::malloc(size_of::<rsp_registrar_info>()).cast::<rsp_registrar_info>();
        let addresses = libc::malloc(packed.len()).cast::<u8>();
        if node.is_null() || addresses.is_null() {
            libc::free(node.cast());
            libc::free(addresses.cast());
            return super::error(libc::ENOMEM, "no memory for a registrar's addresses");
        }
        ptr::copy_nonoverlapping(packed.as_ptr(), addresses, packed.len());
        node.write(rsp_registrar_info {
            rri_next: info.ri_registrars,
            rri_addr: addresses.cast(),
            rri_addrs: count,
        });
        info.ri_registrars = node;
    }
    Ok(())
}

/// A place for an address in `rsp_info`. `rsp_freeinfo` cannot free it (the program may have set its own), so each different
/// address is kept once, for good.
fn kept(address: SocketAddr) -> *mut libc::sockaddr {
    /// Never touched again by us once it is given out.
    struct Kept(Box<libc::sockaddr_storage>);
    static KEPT: Mutex<Vec<(SocketAddr, Kept)>> = Mutex::new(Vec::new());

    let mut all = KEPT.lock();
    let place = match all.iter().position(|(known, _)| *known == address) {
        Some(place) => place,
        None => {
            all.push((address, Kept(Box::new(address::storage(address)))));
            all.len() - 1
        }
    };
    (&raw mut *all[place].1.0).cast()
}

/// What `info` says, in our terms.
///
/// # Safety
/// `info` is an initialised structure.
unsafe fn options(info: &rsp_info) -> Result<Options> {
    let mut registrars = Vec::new();
    let mut node = info.ri_registrars;
    while !node.is_null() {
        // SAFETY: a list of registrars with as many addresses as each says, by the caller's promise.
        unsafe {
            registrars.push(address::read_packed((*node).rri_addr, (*node).rri_addrs)?);
            node = (*node).rri_next;
        }
    }
    registrars.retain(|addresses| !addresses.is_empty());
    let announce_group = if info.ri_registrar_announce.is_null() {
        None
    } else {
        // SAFETY: a socket address, by the caller's promise.
        Some(unsafe { address::read(info.ri_registrar_announce)? }.0)
    };
    let reporting = if info.ri_csp_server.is_null() || info.ri_csp_interval == 0 {
        Reporting::Off
    } else {
        // SAFETY: as above.
        let address = unsafe { address::read(info.ri_csp_server)? }.0;
        let monitor = Monitor { address, interval: Duration::from_millis(info.ri_csp_interval.into()) };
        let identifier =
            (info.ri_csp_identifier != 0).then(|| ComponentId::from_number(info.ri_csp_identifier));
        Reporting::To { monitor, identifier }
    };
    let time = |ms: u32| (ms > 0).then(|| Duration::from_millis(ms.into()));
    Ok(Options {
        registrars,
        no_announcements: info.ri_disable_autoconfig != 0,
        announce_group,
        announce_timeout: time(info.ri_registrar_announce_timeout),
        connect_timeout: time(info.ri_registrar_connect_timeout),
        response_timeout: time(info.ri_registrar_response_timeout),
        call_timeout: time(info.ri_registrar_request_timeout),
        request_max_trials: (info.ri_registrar_request_max_trials > 0)
            .then_some(info.ri_registrar_request_max_trials),
        reporting,
        ..Options::default()
    })
}

/// Starts the library: one background thread, with all signals blocked. To be called before any other
/// function that takes a descriptor or a pool handle.
///
/// `info`: set-up, read during the call only and not kept; its version fields are written. NULL: all
/// defaults, as after `rsp_initinfo`.
///
/// Returns 0; also when the library is running already: then nothing changes. -1 on failure.
/// Errors: EAFNOSUPPORT (an address in `info`), EFAULT, EINVAL (a value in an ASAP_ variable or in the
/// configuration file, or no registrar named there can be used: the sentence says which), ENOENT, EACCES (the
/// file that ASAP_CONFIG names), EMFILE, ENFILE, ENOMEM, EAGAIN (no thread). No registrar is needed yet; it is
/// looked for in the background. DNS names of registrars are looked up by this call, once; environment and
/// file are read by it (docs/adopting.md).
///
/// Threads: any. Fork: a child calls it again before it uses functions that need a registrar. RFC 5352
/// 3.6. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_initialize(info: *mut rsp_info) -> c_int {
    guard(|| {
        let options = if info.is_null() {
            Options::default()
        } else {
            // SAFETY: an initialised structure, by the caller's promise.
            unsafe { options(&*info)? }
        };
        console::open()?;
        socket::initialize(&options)?;
        if !info.is_null() {
            // SAFETY: as above.
            unsafe {
                (*info).ri_version = RSPLIB_VERSION;
                (*info).ri_revision = RSPLIB_REVISION;
            }
        }
        Ok(0)
    })
}

/// Closes every descriptor of the library that is still open, ends the registrations, and stops the
/// background thread. Afterwards `rsp_initialize` may be called again. Does nothing if the library is
/// not running. When it returns no function that was given to the library is being called, or will be.
///
/// Threads: any, while no other thread is inside an `rsp_*` call. Fork: in a child it closes what was
/// inherited and tells nobody. RFC 5352 3.2. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_cleanup() {
    guard_void(|| {
        socket::cleanup();
        console::close();
    });
}

/// The version of the library, "MAJOR.MINOR.PATCH". A static string.
///
/// Threads: any. Fork: safe in the child. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn asap_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// The logger we install when the program asks for its log.
struct Callback;

type LogFunction = unsafe extern "C" fn(c_int, *const c_char, *const c_char, *mut c_void);

/// A callback with its pointer.
#[derive(Clone, Copy)]
struct Target {
    callback: LogFunction,
    user: *mut c_void,
}

// SAFETY: asap_set_log's documentation demands a callback that any thread may call with this pointer.
unsafe impl Send for Target {}
// SAFETY: as above.
unsafe impl Sync for Target {}

static TARGET: RwLock<Option<Target>> = RwLock::new(None);
thread_local! {
    static IN_CALLBACK: Cell<bool> = const { Cell::new(false) };
}

static INSTALLED: Mutex<bool> = Mutex::new(false);

impl log::Log for Callback {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &log::Record<'_>) {
        // What the library logs on behalf of the callback itself is dropped: it would go round for ever.
        if IN_CALLBACK.replace(true) {
            return;
        }
        if let Some(target) = *TARGET.read() {
            let clean = |text: String| CString::new(text.replace('\0', "?")).unwrap_or_default();
            let (part, text) = (clean(record.target().to_string()), clean(record.args().to_string()));
            // SAFETY: two C strings that live during the call, and the program's own pointer.
            unsafe { (target.callback)(record.level() as c_int, part.as_ptr(), text.as_ptr(), target.user) };
        }
        IN_CALLBACK.set(false);
    }

    fn flush(&self) {}
}

/// Gives the library's log to the program. By itself the library logs nowhere and prints nothing, unless
/// whoever starts the program sets ASAP_LOG (docs/adopting.md): then it is printed to standard error, as long as
/// the program does not take it.
///
/// `callback`: called with each line, from any thread, also the library's own; what the library does on
/// its behalf is not logged. NULL ends the log. `level`: lines up to this level: 0 none, 1 errors, 2
/// warnings, 3 information, 4 debugging, 5 tracing. `user`: handed to the callback.
///
/// Returns 0 or -1. When it returns, the former callback is not running and will not be called again.
/// Errors: EINVAL (level), EDEADLK (called by the callback), EEXIST (the program, written in Rust, has
/// a logger of its own, which gets the lines).
///
/// Threads: any. Fork: safe in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn asap_set_log(callback: asap_log_callback, level: c_int, user: *mut c_void) -> c_int {
    guard(|| {
        let filter = match level {
            0 => log::LevelFilter::Off,
            1 => log::LevelFilter::Error,
            2 => log::LevelFilter::Warn,
            3 => log::LevelFilter::Info,
            4 => log::LevelFilter::Debug,
            5 => log::LevelFilter::Trace,
            other => return super::error(libc::EINVAL, format!("log level {other} is not within 0 to 5")),
        };
        if IN_CALLBACK.get() {
            return super::error(libc::EDEADLK, "asap_set_log was called by the callback it is to replace");
        }
        let mut installed = INSTALLED.lock();
        match callback {
            Some(callback) => install(&mut installed, Target { callback, user }, filter)?,
            None => uninstall(&installed),
        }
        Ok(0)
    })
}

fn install(installed: &mut bool, target: Target, filter: log::LevelFilter) -> Result<()> {
    if !*installed {
        if log::set_logger(&Callback).is_err() {
            return super::error(libc::EEXIST, "this program has a logger of its own already");
        }
        *installed = true;
    }
    *TARGET.write() = Some(target);
    log::set_max_level(filter);
    Ok(())
}

fn uninstall(installed: &bool) {
    if *installed {
        log::set_max_level(log::LevelFilter::Off);
        *TARGET.write() = None;
    }
}

/// Has a function of ours get the log, unless the program has it.
pub(super) fn log_unless_taken(callback: LogFunction, filter: log::LevelFilter) {
    let mut installed = INSTALLED.lock();
    if TARGET.read().is_none() {
        let _ = install(&mut installed, Target { callback, user: ptr::null_mut() }, filter);
    }
}

/// Ends that.
pub(super) fn end_log(callback: LogFunction) {
    let installed = INSTALLED.lock();
    let ours = TARGET.read().is_some_and(|target| ptr::fn_addr_eq(target.callback, callback));
    if ours {
        uninstall(&installed);
    }
}
