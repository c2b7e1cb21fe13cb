//! Pools without sockets of ours: basic mode, watching, and the names of policies.

use super::address;
use super::error::{guard, guard_or};
use super::layout::*;
use super::policy::{loadinfo, policy};
use super::{error, known_flags, pool_name, wait, wait_for};
use crate::name::Name;
use crate::policy::PolicyType;
use crate::socket::{self, Change, Result, Wait};
use crate::types::{
    Addresses, PeId, PoolElement, RegistrationLife, TransportAddress, TransportKind, TransportUse,
};
use std::ffi::CStr;
use std::os::raw::{c_char, c_int, c_uchar, c_uint};
use std::ptr;
use std::time::Duration;

/// libc has no name for it.
const IPPROTO_UDPLITE: c_int = 136;

fn protocol(kind: TransportKind) -> c_int {
    match kind {
        TransportKind::Dccp => libc::IPPROTO_DCCP,
        TransportKind::Sctp => libc::IPPROTO_SCTP,
        TransportKind::Tcp => libc::IPPROTO_TCP,
        TransportKind::Udp => libc::IPPROTO_UDP,
        TransportKind::UdpLite => IPPROTO_UDPLITE,
        TransportKind::Opaque => 0,
    }
}

/// One element as a list of one, made with malloc(3); none if it has no address (opaque transports).
fn addrinfo(element: &PoolElement) -> Result<Option<*mut rsp_addrinfo>> {
    let transport = &element.user_transport;
    let packed: Vec<Vec<u8>> = transport.socket_addresses().map(address::write).collect();
    let Some(first) = packed.first() else { return Ok(None) };
    let family = if first.len() == address::LARGEST { libc::AF_INET6 } else { libc::AF_INET };
    let socktype = match transport.kind() {
        TransportKind::Udp | TransportKind::UdpLite => libc::SOCK_DGRAM,
        TransportKind::Dccp | TransportKind::Sctp | TransportKind::Tcp | TransportKind::Opaque => {
            libc::SOCK_STREAM
        }
    };
    let (first_size, count) = (first.len(), packed.len());
    let packed = packed.concat();
    // SAFETY: malloc(3) of the sizes written; freed by rsp_freeaddrinfo.
    unsafe {
        let node = libc::malloc(size_of::<rsp_addrinfo>()).cast::<rsp_addrinfo>();
        // Programs may read the size of the largest address wherever one begins.
        let addresses = libc::calloc(1, packed.len() + address::LARGEST).cast::<u8>();
        if node.is_null() || addresses.is_null() {
            libc::free(node.cast());
            libc::free(addresses.cast());
            return error(libc::ENOMEM, "no memory for an element's addresses");
        }
        ptr::copy_nonoverlapping(packed.as_ptr(), addresses, packed.len());
        node.write(rsp_addrinfo {
            ai_family: family,
            ai_socktype: socktype,
            ai_protocol: protocol(transport.kind()),
            ai_addrlen: first_size,
            ai_addrs: count,
            ai_addr: addresses.cast(),
            ai_next: ptr::null_mut(),
            ai_pe_id: element.id.0,
        });
        Ok(Some(node))
    }
}

/// The elements as a list, and how many are in it.
fn addrinfo_list(elements: &[PoolElement]) -> Result<(*mut rsp_addrinfo, c_int)> {
    let mut first = ptr::null_mut();
    let mut count = 0;
    for element in elements.iter().rev() {
        match addrinfo(element) {
            Ok(Some(node)) => {
                // SAFETY: just made.
                unsafe { (*node).ai_next = first };
                first = node;
                count += 1;
            }
            Ok(None) => {}
            Err(problem) => {
                free_list(first);
                return Err(problem);
            }
        }
    }
    Ok((first, count))
}

fn free_list(mut node: *mut rsp_addrinfo) {
    while !node.is_null() {
        // SAFETY: a list made by addrinfo_list, by the callers' promise.
        unsafe {
            let next = (*node).ai_next;
            libc::free((*node).ai_addr.cast());
            libc::free(node.cast());
            node = next;
        }
    }
}

/// Looks a pool up: the elements in the order in which its policy wants them tried. For programs with
/// sockets of their own.
///
/// `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes. `rserpoolAddrInfo`: set to a
/// list, to be freed with `rsp_freeaddrinfo`; to NULL on failure. `items`: how many elements are wanted
/// at most; `RSPGETADDRS_DEFAULT`, `RSPGETADDRS_MAX`. `staleCacheValue`: a cached answer no older than
/// this many milliseconds will do; 0: ask.
/// Blocks until a registrar has answered, at most as long as `rsp_initialize` was told.
///
/// Returns the number of elements in the list; `REAI_NONAME`: no such pool; `REAI_MEMORY`;
/// `REAI_FAMILY`: no element with IP addresses; `REAI_SYSTEM`: see errno.
/// Errors: ENOENT (with REAI_NONAME), EFAULT, EINVAL, ENAMETOOLONG, EHOSTUNREACH (no registrar; the
/// sentence names those tried), ETIMEDOUT, EACCES (before `rsp_initialize`), ENOTSUP (in a child after
/// fork).
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.3, 6.9.1. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_getaddrinfo(
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    rserpoolAddrInfo: *mut *mut rsp_addrinfo,
    items: usize,
    staleCacheValue: c_uint,
) -> c_int {
    let failed = |error: &socket::Error| match error.errno {
        libc::ENOENT => REAI_NONAME,
        libc::ENOMEM => REAI_MEMORY,
        libc::EAFNOSUPPORT => REAI_FAMILY,
        _ => REAI_SYSTEM,
    };
    guard_or(failed, || {
        // SAFETY: the caller's promise.
        let name = unsafe { out_list(poolHandle, poolHandleSize, rserpoolAddrInfo)? };
        let handle = &name.handle;
        let items = match items {
            RSPGETADDRS_DEFAULT => None,
            items => Some(u32::try_from(items).unwrap_or(u32::MAX)),
        };
        let max_age = Duration::from_millis(staleCacheValue.into());
        let elements = socket::resolve(handle, items, max_age, wait_for(&name))?;
        let (list, count) = addrinfo_list(&elements)?;
        if count == 0 {
            return error(libc::EAFNOSUPPORT, format!("no element of pool \"{handle}\" has an IP address"));
        }
        // SAFETY: checked by out_list.
        unsafe { *rserpoolAddrInfo = list };
        Ok(count)
    })
}

/// Checks the arguments of functions that give a list, and empties the list.
///
/// # Safety
/// The pointers are NULL or good for what they are named for.
unsafe fn out_list(handle: *const c_uchar, size: usize, list: *mut *mut rsp_addrinfo) -> Result<Name> {
    if list.is_null() {
        return error(libc::EFAULT, "the place for the list is NULL");
    }
    // SAFETY: not NULL, and writable by the caller's promise.
    unsafe {
        *list = ptr::null_mut();
        pool_name(handle, size, None)
    }
}

/// Frees a list from `rsp_getaddrinfo`, `rsp_getprimaryserver` or `rsp_getnextserver`.
///
/// `rserpoolAddrInfo`: the list; NULL is ignored.
///
/// Threads: any. Fork: safe in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_freeaddrinfo(rserpoolAddrInfo: *mut rsp_addrinfo) {
    super::error::guard_void(|| free_list(rserpoolAddrInfo));
}

/// The server of a pool to turn to first (GETPRIMARYSERVER of RFC 5351 4.1). With `rsp_getnextserver`
/// all that a client with a list of servers needs.
///
/// `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes. `server`: set to a list of
/// one, to be freed with `rsp_freeaddrinfo`; to NULL on failure.
/// Blocks until a registrar has answered, at most as long as `rsp_initialize` was told.
///
/// Returns 0 or -1. Errors: ENOENT (no such pool), EAFNOSUPPORT (no element with IP addresses), EFAULT,
/// EINVAL, ENAMETOOLONG, EHOSTUNREACH (no registrar), ETIMEDOUT, EACCES (before `rsp_initialize`),
/// ENOMEM, ENOTSUP (in a child after fork).
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5351 4.1. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_getprimaryserver(
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    server: *mut *mut rsp_addrinfo,
) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        let name = unsafe { out_list(poolHandle, poolHandleSize, server)? };
        // SAFETY: checked by out_list.
        unsafe { *server = next_server(&name, None)? };
        Ok(0)
    })
}

/// Reports the failure of a server and gives the one to turn to next (GETNEXTSERVER of RFC 5351 4.1):
/// another one, as the pool is now.
///
/// `poolHandle`, `poolHandleSize`: the pool's name. `server`: from `rsp_getprimaryserver` or this
/// function: the server that failed. It is freed and replaced by the next; left as it is on failure.
/// Blocks until a registrar has answered, at most as long as `rsp_initialize` was told.
///
/// Returns 0 or -1. Errors: as `rsp_getprimaryserver`; ENOENT also when there is no other server.
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5351 4.1. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_getnextserver(
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    server: *mut *mut rsp_addrinfo,
) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        let (name, failed) = unsafe {
            if server.is_null() || (*server).is_null() {
                return error(libc::EFAULT, "there is no server that could have failed");
            }
            (pool_name(poolHandle, poolHandleSize, None)?, PeId((**server).ai_pe_id))
        };
        socket::report_failure(&name.handle, failed)?;
        let next = next_server(&name, Some(failed))?;
        // SAFETY: as above.
        unsafe { free_list(std::mem::replace(&mut *server, next)) };
        Ok(0)
    })
}

fn next_server(name: &Name, failed: Option<PeId>) -> Result<*mut rsp_addrinfo> {
    let handle = &name.handle;
    let elements = socket::resolve(handle, None, Duration::ZERO, wait_for(name))?;
    let mut others = elements.iter().filter(|element| Some(element.id) != failed).peekable();
    if others.peek().is_none() {
        return error(libc::ENOENT, format!("pool \"{handle}\" has no other element"));
    }
    for element in others {
        if let Some(server) = addrinfo(element)? {
            return Ok(server);
        }
    }
    error(libc::EAFNOSUPPORT, format!("no element of pool \"{handle}\" has an IP address"))
}

/// The transport in `info`.
///
/// # Safety
/// `info` is as the C documentation demands.
unsafe fn transport(info: &rsp_addrinfo) -> Result<TransportAddress> {
    if info.ai_addrs == 0 || info.ai_addrs > 64 {
        return error(libc::EINVAL, format!("{} addresses; 1 to 64 are possible", info.ai_addrs));
    }
    // SAFETY: as many addresses as said, by the caller's promise.
    let addresses = unsafe { address::read_packed(info.ai_addr, info.ai_addrs)? };
    let first = addresses[0];
    let port = first.port();
    if port == 0 || addresses.iter().any(|a| a.port() != port) {
        return error(libc::EINVAL, "the addresses need the same port, and not 0");
    }
    if info.ai_protocol != libc::IPPROTO_SCTP && addresses.len() > 1 {
        return error(libc::EINVAL, "only IPPROTO_SCTP can have more than one address");
    }
    let ips = addresses.iter().map(|a| a.ip()).collect();
    Ok(match (info.ai_protocol, Addresses::new(ips)) {
        (libc::IPPROTO_SCTP, Some(addresses)) => {
            TransportAddress::Sctp { port, transport_use: TransportUse::DataOnly, addresses }
        }
        (libc::IPPROTO_TCP, _) => {
            TransportAddress::Tcp { port, transport_use: TransportUse::DataOnly, address: first.ip() }
        }
        (libc::IPPROTO_UDP, _) => TransportAddress::Udp { port, address: first.ip() },
        (IPPROTO_UDPLITE, _) => TransportAddress::UdpLite { port, address: first.ip() },
        (other, _) => {
            return error(
                libc::EPROTONOSUPPORT,
                format!(
                    "protocol {other} is none of IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE and IPPROTO_SCTP"
                ),
            );
        }
    })
}

/// Registers a server that the program runs on a socket of its own, or renews the registration: the
/// library does not do that by itself here.
///
/// `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes. `rserpoolAddrInfo`: where
/// clients reach it (`ai_protocol`, `ai_addrs`, `ai_addr`), and its identifier `ai_pe_id`: 0: chosen by
/// the library and written there. `loadinfo`: policy and values. `registrationLife`: how long it stands
/// without being renewed, in milliseconds, rounded up to seconds; 0xffffffff: for ever. `flags`: 0 or
/// `REGF_DONTWAIT`. Blocks until a registrar has answered, at most as long as `rsp_initialize` was
/// told.
///
/// Returns 0, or (unsigned int)-1. Errors: EFAULT, EINVAL, ENAMETOOLONG, EPROTONOSUPPORT, EAFNOSUPPORT,
/// and as `rsp_register`.
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.1, 6.1. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_pe_registration(
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    rserpoolAddrInfo: *mut rsp_addrinfo,
    loadinfo: *const rsp_loadinfo,
    registrationLife: c_uint,
    flags: c_int,
) -> c_uint {
    guard(|| {
        if rserpoolAddrInfo.is_null() {
            return error(libc::EFAULT, "rserpoolAddrInfo is NULL");
        }
        // SAFETY: the caller's promise.
        let (name, policy, user_transport, id) = unsafe {
            let name = pool_name(poolHandle, poolHandleSize, None)?;
            let info = &*rserpoolAddrInfo;
            let policy = match name.settings.policy {
                Some(policy) if loadinfo.is_null() => policy,
                Some(_) | None => policy(loadinfo)?,
            };
            (name, policy, transport(info)?, PeId(info.ai_pe_id))
        };
        let life = match registrationLife {
            0 => return error(libc::EINVAL, "a registration life of 0"),
            c_uint::MAX => RegistrationLife::Infinite,
            ms => RegistrationLife::Seconds(ms.div_ceil(1000)),
        };
        let element = PoolElement {
            id,
            home: None,
            life,
            user_transport,
            policy,
            asap_transport: None,
            capabilities: None,
        };
        let wait = flag_wait(flags, REGF_DONTWAIT, &name)?;
        let id = socket::register_element(&name.handle, element, wait)?;
        // SAFETY: as above.
        unsafe { (*rserpoolAddrInfo).ai_pe_id = id.0 };
        Ok(0)
    })
}

fn flag_wait(flags: c_int, dont_wait: c_int, name: &Name) -> Result<Wait> {
    let flags = known_flags(flags.cast_unsigned(), dont_wait.cast_unsigned(), "registration")?;
    Ok(if flags != 0 { Wait::No } else { wait_for(name) })
}

/// Ends a registration made by `rsp_pe_registration`.
///
/// `poolHandle`, `poolHandleSize`: the pool. `identifier`: the element. `flags`: 0 or
/// `DEREGF_DONTWAIT`. Blocks until a registrar has answered, at most as long as `rsp_initialize` was
/// told.
///
/// Returns 0, also if it was not registered, or (unsigned int)-1. Errors: EFAULT, EINVAL, ENAMETOOLONG,
/// and as `rsp_deregister`.
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.2, 6.2. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_pe_deregistration(
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    identifier: u32,
    flags: c_int,
) -> c_uint {
    guard(|| {
        // SAFETY: the caller's promise.
        let name = unsafe { pool_name(poolHandle, poolHandleSize, None)? };
        let wait = flag_wait(flags, DEREGF_DONTWAIT, &name)?;
        socket::deregister_element(&name.handle, PeId(identifier), wait)?;
        Ok(0)
    })
}

/// Reports that an element could not be reached. The registrar looks at once whether it is still alive.
/// Does not block.
///
/// `poolHandle`, `poolHandleSize`: the pool. `identifier`: the element.
///
/// Returns 0, or (unsigned int)-1. Errors: EFAULT, EINVAL, ENAMETOOLONG, EACCES (before
/// `rsp_initialize`), ENOTSUP (in a child after fork).
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.5, 6.9.2. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_pe_failure(
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    identifier: u32,
) -> c_uint {
    guard(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { pool_name(poolHandle, poolHandleSize, None)? }.handle;
        socket::report_failure(&handle, PeId(identifier))?;
        Ok(0)
    })
}

/// Watches a pool.
///
/// `poolHandle`, `poolHandleSize`: the pool's name, any 1 to 1024 bytes. The pool need not exist yet.
///
/// Returns a descriptor for `rsp_watch_next`, `rsp_poll` and every event loop (readable: there is a
/// change), to be closed with `rsp_close`; or -1.
/// Errors: EFAULT, EINVAL, ENAMETOOLONG, EACCES (before `rsp_initialize`), EMFILE, ENFILE, ENOTSUP (in
/// a child after fork).
///
/// Threads: any. Fork: of no use in the child. RFC 5352 2.2.5 (S bit). Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_watch(poolHandle: *const c_uchar, poolHandleSize: usize) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        let handle = unsafe { pool_name(poolHandle, poolHandleSize, None)? }.handle;
        socket::watch(&handle)
    })
}

/// The next change of a watched pool.
///
/// `sd`: from `rsp_watch`. `change`: written. `size`: sizeof(struct rsp_poolchange) as the program was
/// compiled. `timeout`: milliseconds to wait; 0 or negative: not at all; INT_MAX: as long as it takes.
///
/// Returns 1: `change` is written; 0: nothing has changed in that time; -1 on failure.
/// Errors: EBADF, EOPNOTSUPP (not from `rsp_watch`), EFAULT, EINVAL (size), EINTR.
///
/// Threads: any; each change goes to one of them. Fork: of no use in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_watch_next(
    sd: c_int,
    change: *mut rsp_poolchange,
    size: usize,
    timeout: c_int,
) -> c_int {
    guard(|| {
        if change.is_null() {
            return error(libc::EFAULT, "change is NULL");
        }
        // The structure only ever grows at its end; a newer program's larger one is filled as far as we know it.
        if size < size_of::<rsp_poolchange>() {
            return error(
                libc::EINVAL,
                format!("{size} bytes for a change, it takes {}", size_of::<rsp_poolchange>()),
            );
        }
        let told = match socket::next_change(sd, wait(timeout)) {
            Ok(told) => told,
            Err(error) if error.errno == libc::EAGAIN => return Ok(0),
            Err(error) => return Err(error),
        };
        // SAFETY: all zeros is a value of it.
        let mut out: rsp_poolchange = unsafe { std::mem::zeroed() };
        let element = match told {
            Change::Added(element) => {
                out.rpc_type = RSP_POOL_ADDED;
                Some(element)
            }
            Change::Updated(element) => {
                out.rpc_type = RSP_POOL_UPDATED;
                Some(element)
            }
            Change::Removed(id) => {
                out.rpc_type = RSP_POOL_REMOVED;
                out.rpc_pe_id = id.0;
                None
            }
            Change::UpToDate => {
                out.rpc_type = RSP_POOL_UPTODATE;
                None
            }
        };
        if let Some(element) = element {
            out.rpc_pe_id = element.id.0;
            out.rpc_loadinfo = loadinfo(&element.policy);
            out.rpc_protocol = protocol(element.user_transport.kind());
            if let Some(first) = element.user_transport.socket_addresses().next() {
                out.rpc_addr = address::storage(first);
            }
        }
        // SAFETY: room for one, by the caller's promise.
        unsafe { change.write(out) };
        Ok(1)
    })
}

/// The name of a policy ("RoundRobin", "LeastUsedDegradation" and so on).
///
/// `policyType`: `PPT_ROUNDROBIN` and so on.
///
/// Returns a static string, or NULL if the policy is not known. Errors: EINVAL.
///
/// Threads: any. Fork: safe in the child. RFC 5356. Since 0.1.
#[unsafe(no_mangle)]
pub extern "C" fn rsp_getpolicybytype(policyType: c_uint) -> *const c_char {
    guard_or(
        |_| ptr::null(),
        || match PolicyType::from_number(policyType) {
            Some(policy_type) => Ok(c_name(policy_type).as_ptr()),
            None => error(libc::EINVAL, format!("0x{policyType:08x} is no policy known")),
        },
    )
}

/// The names with the NUL that C wants.
fn c_name(policy_type: PolicyType) -> &'static CStr {
    match policy_type {
        PolicyType::RoundRobin => c"RoundRobin",
        PolicyType::WeightedRoundRobin => c"WeightedRoundRobin",
        PolicyType::Random => c"Random",
        PolicyType::WeightedRandom => c"WeightedRandom",
        PolicyType::Priority => c"Priority",
        PolicyType::LeastUsed => c"LeastUsed",
        PolicyType::LeastUsedDegradation => c"LeastUsedDegradation",
        PolicyType::PriorityLeastUsed => c"PriorityLeastUsed",
        PolicyType::RandomizedLeastUsed => c"RandomizedLeastUsed",
        PolicyType::RandomizedPriorityLeastUsed => c"RandomizedPriorityLeastUsed",
        PolicyType::RandomizedLeastUsedDegradation => c"RandomizedLeastUsedDegradation",
        PolicyType::PriorityLeastUsedDegradation => c"PriorityLeastUsedDegradation",
        PolicyType::RandomizedPriorityLeastUsedDegradation => c"RandomizedPriorityLeastUsedDegradation",
        PolicyType::WeightedRandomDpf => c"WeightedRandomDPF",
        PolicyType::LeastUsedDpf => c"LeastUsedDPF",
        PolicyType::LeastUsedDegradationDpf => c"LeastUsedDegradationDPF",
    }
}

/// The policy with a name, as `rsp_getpolicybytype` spells it.
///
/// `policyName`: a C string.
///
/// Returns its type, or 0 if there is none. Errors: EINVAL, EFAULT.
///
/// Threads: any. Fork: safe in the child. RFC 5356. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_getpolicybyname(policyName: *const c_char) -> c_uint {
    guard_or(
        |_| 0,
        || {
            if policyName.is_null() {
                return error(libc::EFAULT, "policyName is NULL");
            }
            // SAFETY: a C string, by the caller's promise.
            let name = unsafe { CStr::from_ptr(policyName) }.to_string_lossy();
            match PolicyType::from_name(&name) {
                Some(policy_type) => Ok(policy_type.number()),
                None => error(libc::EINVAL, format!("no policy is named \"{name}\"")),
            }
        },
    )
}
