//! Registrars that a program hosts itself.

use super::error::{guard, guard_or, guard_void};
use crate::config::{DialectSetting, Profile};
use crate::hosting::{ASAP_PORT, Admin, Announce, ENRP_PORT, Listener, Running, Settings};
use crate::runtime::names::look_up;
use crate::socket::{Error, Result, monitor_of_environment};
use crate::types::ServerId;
use std::ffi::{CStr, OsStr};
use std::io;
use std::net::SocketAddr;
use std::os::raw::{c_char, c_int, c_uint, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::ptr;

/// `asap_registrar_address`: where it serves servers and clients.
pub const ASAP_REGISTRAR_ASAP: c_int = 1;
/// `asap_registrar_address`: where it serves other registrars.
pub const ASAP_REGISTRAR_ENRP: c_int = 2;

/// `arc_flags`: accept servers that register addresses other than their own.
pub const ASAP_REGISTRAR_PROXY: c_uint = 1;

/// What a registrar is told. Set arc_size, leave what is to have its default NULL or 0:
/// `struct asap_registrar_config config = {.arc_size = sizeof(config)};`
///
/// Addresses are numbers, "10.0.0.1:3863" or "[::1]:3863"; port 0 is any that is free. Lists are separated by commas.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct asap_registrar_config {
    /// sizeof(struct asap_registrar_config), so that a program need not know what later versions add.
    pub arc_size: usize,
    /// Where it serves servers and clients (ASAP); default "127.0.0.1:3863".
    pub arc_asap: *const c_char,
    /// Where it serves other registrars (ENRP); default "127.0.0.1:9901".
    pub arc_enrp: *const c_char,
    /// ENRP addresses or DNS names of other registrars, with or without port; default none. Its own address
    /// among them does no harm: all registrars of a cluster can be told the same.
    pub arc_peers: *const c_char,
    /// "auto": it announces itself and finds others on the usual multicast groups, if it serves more than this
    /// host; "off": not at all; or groups of your own for servers and clients, "GROUP:PORT" or, for
    /// RSPLIB's programs, "rsplib:GROUP:PORT". Default "auto".
    pub arc_announce: *const c_char,
    /// Groups of your own for registrars among themselves.
    pub arc_announce_enrp: *const c_char,
    /// Timers: "lan", "wan" or "rfc"; default "lan".
    pub arc_profile: *const c_char,
    /// Path of the administration socket, for asapctl; default none.
    pub arc_admin: *const c_char,
    /// Its identifier among registrars; 0: random.
    pub arc_id: c_uint,
    /// 0 or ASAP_REGISTRAR_PROXY.
    pub arc_flags: c_uint,
    /// Pools at most; 0: 100000.
    pub arc_max_pools: usize,
    /// Elements in all pools at most; 0: 1000000.
    pub arc_max_elements: usize,
    /// Connections at most; 0: 65536. Each takes a descriptor of the process.
    pub arc_max_links: usize,
    /// How others are taken to speak: "rfc", "rsplib", or "auto", found out from each; default "auto"
    /// (docs/rsplib-dialect.md). Appended: a program compiled before it has the default.
    pub arc_dialect: *const c_char,
}

/// A registrar that this program hosts; see `asap_registrar_start`.
#[derive(Debug)]
pub struct asap_registrar {
    running: Running,
}

/// Starts a registrar within this program, in a background thread of its own (two with an administration
/// socket) with all signals blocked. A program may host several. It needs no rsp_initialize(), and the
/// program's own sockets find it like any other registrar: by its address (`asap_registrar_address`).
///
/// `config`: read during the call only and not kept; NULL: all defaults.
///
/// Returns the registrar, to be given to `asap_registrar_stop`; NULL on failure. When it returns the ports are
/// open; it serves at once, or as soon as it has taken over the pools from the registrars it was told of.
/// Errors: EADDRINUSE, EADDRNOTAVAIL, EACCES (a port or the administration socket), EINVAL (a value in `config`:
/// the sentence says which), ENOENT (the administration socket's directory), EMFILE, ENFILE, ENOMEM, ENOBUFS,
/// EAGAIN (no thread). DNS names in arc_peers are looked up by this call, once.
///
/// With CSP_SERVER or CSP_INTERVAL in the environment it reports how it is, as `rsp_initinfo` says.
///
/// Threads: any. Fork: the registrar stays with the parent; a child closes its copies of the descriptors, and
/// may start one of its own. RFC 5353 3.2. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn asap_registrar_start(config: *const asap_registrar_config) -> *mut asap_registrar {
    guard_or(
        |_| ptr::null_mut(),
        || {
            // SAFETY: NULL, or a structure of the size it says, by the caller's promise.
            let settings = unsafe { settings(config)? };
            let running = Running::start(settings).map_err(|error| cannot_start(&error))?;
            Ok(Box::into_raw(Box::new(asap_registrar { running })))
        },
    )
}

/// Tells where a registrar listens: "127.0.0.1:40001", or several separated by commas, as ASAP_REGISTRARS,
/// "-registrar=..." of `rsp_initarg` and arc_peers take it. Ports that were to be any are the ones chosen;
/// wildcard addresses are told as given.
///
/// `registrar`: from `asap_registrar_start`. `protocol`: ASAP_REGISTRAR_ASAP or ASAP_REGISTRAR_ENRP. `buffer`: room for
/// `length` bytes; the text is NUL-terminated, and cut if there is too little room. NULL with length 0 to ask for the
/// length alone.
///
/// Returns the length of the whole text without its NUL (as snprintf does), or -1.
/// Errors: EFAULT, EINVAL (`protocol`).
///
/// Threads: any, until `asap_registrar_stop`. Fork: safe in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn asap_registrar_address(
    registrar: *const asap_registrar,
    protocol: c_int,
    buffer: *mut c_char,
    length: usize,
) -> c_int {
    guard(|| {
        if registrar.is_null() || buffer.is_null() && length > 0 {
            return super::error(libc::EFAULT, "asap_registrar_address: registrar or buffer is NULL");
        }
        // SAFETY: a registrar that has not been stopped, by the caller's promise.
        let listeners = unsafe { (*registrar).running.listeners() };
        let wanted: fn(&Listener) -> bool = match protocol {
            ASAP_REGISTRAR_ASAP => Listener::serves_endpoints,
            ASAP_REGISTRAR_ENRP => Listener::serves_registrars,
            other => {
                return super::error(
                    libc::EINVAL,
                    format!("{other} is neither ASAP_REGISTRAR_ASAP nor ASAP_REGISTRAR_ENRP"),
                );
            }
        };
        let mut addresses: Vec<String> = Vec::new();
        for listener in listeners.iter().filter(|listener| wanted(listener)) {
            let address = listener.address.to_string();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        let text = addresses.join(",");
        if length > 0 {
            let room = text.len().min(length - 1);
            // SAFETY: the caller gives room for `length` bytes, of which these are no more.
            unsafe {
                ptr::copy_nonoverlapping(text.as_ptr(), buffer.cast::<u8>(), room);
                *buffer.add(room) = 0;
            }
        }
        Ok(c_int::try_from(text.len()).unwrap_or(c_int::MAX))
    })
}

/// Ends a registrar in order: its clients are told to go to another one, its peers notice at once, its threads have
/// ended and its descriptors are closed when this returns (a quarter of a second at most).
///
/// `registrar`: from `asap_registrar_start`, not to be used any more; NULL is ignored.
///
/// Threads: any but a log callback, once. Fork: in a child it forgets the parent's registrar and tells nobody. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn asap_registrar_stop(registrar: *mut asap_registrar) {
    guard_void(|| {
        if !registrar.is_null() {
            // SAFETY: made by asap_registrar_start and given back once, by the caller's promise.
            drop(unsafe { Box::from_raw(registrar) });
        }
    });
}

/// What C says, in our terms.
///
/// # Safety
/// `config` is NULL or readable for the size it says.
unsafe fn settings(config: *const asap_registrar_config) -> Result<Settings> {
    if config.is_null() {
        return Ok(Settings { monitor: monitor_of_environment(), ..Settings::default() });
    }
    // SAFETY: the caller's promise, for this and what follows: a structure with NUL-terminated strings or NULL.
    let config = unsafe { read_config(config)? };
    let default = Settings::default();
    let limits = default.limits;
    let or = |given: usize, default: usize| if given == 0 { default } else { given };
    // SAFETY: as above.
    unsafe {
        Ok(Settings {
            asap: addresses("arc_asap", config.arc_asap, ASAP_PORT)?.unwrap_or(default.asap),
            enrp: addresses("arc_enrp", config.arc_enrp, ENRP_PORT)?.unwrap_or(default.enrp),
            peers: peers(config.arc_peers)?,
            announce: announce(config.arc_announce, config.arc_announce_enrp)?,
            id: ServerId::new(config.arc_id),
            profile: match text("arc_profile", config.arc_profile)? {
                None => default.profile,
                Some(name) => match Profile::by_name(name) {
                    Some(profile) => profile,
                    None => return invalid(format!("arc_profile: \"{name}\" is neither lan, wan nor rfc")),
                },
            },
            dialect: match text("arc_dialect", config.arc_dialect)? {
                None => default.dialect,
                Some(name) => match DialectSetting::by_name(name) {
                    Some(dialect) => dialect,
                    None => {
                        return invalid(format!("arc_dialect: \"{name}\" is neither auto, rfc nor rsplib"));
                    }
                },
            },
            proxy_registration: match config.arc_flags {
                0 => false,
                ASAP_REGISTRAR_PROXY => true,
                other => return invalid(format!("arc_flags: {other:#x} is not known here")),
            },
            limits: crate::config::Limits {
                pools: or(config.arc_max_pools, limits.pools),
                elements: or(config.arc_max_elements, limits.elements),
                links: or(config.arc_max_links, limits.links),
                ..limits
            },
            admin: match config.arc_admin.is_null() {
                true => Admin::Off,
                // A path is bytes.
                false => {
                    Admin::At(PathBuf::from(OsStr::from_bytes(CStr::from_ptr(config.arc_admin).to_bytes())))
                }
            },
            monitor: monitor_of_environment(),
        })
    }
}

/// The structure of a program that may know less than this library, or more.
///
/// # Safety
/// `config` is readable for the size it says.
unsafe fn read_config(config: *const asap_registrar_config) -> Result<asap_registrar_config> {
    const KNOWN: usize = size_of::<asap_registrar_config>();
    // SAFETY: every version begins with its size.
    let size = unsafe { (&raw const (*config).arc_size).read_unaligned() };
    if size < size_of::<usize>() + size_of::<*const c_void>() || size > 64 * KNOWN {
        return invalid(format!("arc_size: {size} is no size of a struct asap_registrar_config"));
    }
    // SAFETY: `size` bytes are there.
    let beyond = unsafe { super::bytes(config.cast(), size, "config")? }.get(KNOWN..).unwrap_or_default();
    if beyond.iter().any(|byte| *byte != 0) {
        return invalid("this libasap is older than the header the program was compiled with, and does not know all of its config".to_string());
    }
    // SAFETY: all zeros is a value of it, and no more is copied than either side has.
    unsafe {
        let mut read: asap_registrar_config = std::mem::zeroed();
        ptr::copy_nonoverlapping(config.cast::<u8>(), (&raw mut read).cast::<u8>(), size.min(KNOWN));
        Ok(read)
    }
}

fn invalid<T>(what: String) -> Result<T> {
    super::error(libc::EINVAL, what)
}

/// # Safety
/// `at` is NULL or a C string that lives as long as the result.
unsafe fn text<'a>(name: &str, at: *const c_char) -> Result<Option<&'a str>> {
    if at.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    match unsafe { CStr::from_ptr(at) }.to_str() {
        Ok(text) => Ok(Some(text)),
        Err(_) => invalid(format!("{name} is not text")),
    }
}

/// # Safety
/// As [`text`].
unsafe fn addresses(name: &str, at: *const c_char, port: u16) -> Result<Option<Vec<SocketAddr>>> {
    // SAFETY: the caller's promise.
    let Some(list) = (unsafe { text(name, at)? }) else { return Ok(None) };
    let mut found = Vec::new();
    for word in list.split(',').map(str::trim) {
        match super::address::parse(word, port) {
            Some(address) => found.push(address),
            None => {
                return invalid(format!("{name}: \"{word}\" is no ADDRESS:PORT (numbers; IPv6 in brackets)"));
            }
        }
    }
    Ok(Some(found))
}

/// # Safety
/// As [`text`].
unsafe fn peers(at: *const c_char) -> Result<Vec<SocketAddr>> {
    // SAFETY: the caller's promise.
    let list = unsafe { text("arc_peers", at)? }.unwrap_or_default();
    let mut found = Vec::new();
    for word in list.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        match look_up(word, ENRP_PORT) {
            Ok(addresses) => found.extend(addresses),
            Err(error) => {
                return invalid(format!("arc_peers: \"{word}\" is no registrar's address ({error})"));
            }
        }
    }
    Ok(found)
}

/// # Safety
/// As [`text`], for both.
unsafe fn announce(asap: *const c_char, enrp: *const c_char) -> Result<Announce> {
    // SAFETY: the caller's promise.
    let (asap, enrp) = unsafe { (text("arc_announce", asap)?, text("arc_announce_enrp", enrp)?) };
    match Announce::by_words(asap, enrp) {
        Ok(announce) => Ok(announce),
        Err(word) => invalid(format!(
            "arc_announce, arc_announce_enrp: \"{word}\" is neither auto, off nor a multicast GROUP:PORT"
        )),
    }
}

fn cannot_start(error: &io::Error) -> Error {
    let errno = error.raw_os_error().unwrap_or(match error.kind() {
        io::ErrorKind::AddrInUse => libc::EADDRINUSE,
        io::ErrorKind::AddrNotAvailable => libc::EADDRNOTAVAIL,
        io::ErrorKind::PermissionDenied => libc::EACCES,
        io::ErrorKind::InvalidInput => libc::EINVAL,
        io::ErrorKind::NotFound => libc::ENOENT,
        io::ErrorKind::OutOfMemory => libc::ENOMEM,
        _ => libc::ENOBUFS,
    });
    Error { errno, what: format!("cannot start a registrar: {error}") }
}
