//! Tag lists, and the functions that take one: each is another function with a list as its last argument.
//! A list is read up to its end and not a byte beyond, whatever its entries say.

use super::error;
use super::error::{guard, guard_or};
use super::layout::*;
use super::{pool, session};
use crate::socket::{self, Result};
use crate::types::PeId;
use std::os::raw::{c_int, c_uchar, c_uint};
use std::time::Duration;

/// How many entries are looked at: a list that goes on and on goes round.
const MOST: usize = 1024;

/// What a list says that means something to us.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Tags {
    identifier: Option<PeId>,
    connect_timeout: Option<Duration>,
}

/// Reads a list.
///
/// # Safety
/// `list` is NULL or a list as the C documentation has it.
unsafe fn read(list: *const TagItem) -> Result<Tags> {
    let mut tags = Tags::default();
    let mut next = list;
    // Entries that count for nothing.
    let mut skipped = 0;
    for _ in 0..MOST {
        if next.is_null() {
            return Ok(tags);
        }
        // SAFETY: the list has not ended yet, by the caller's promise.
        let TagItem { Tag: tag, Data: value } = unsafe { *next };
        next = next.wrapping_add(1);
        match tag {
            // Even where it is to be skipped: what is behind the end is not ours to read.
            RSP_TAG_DONE => return Ok(tags),
            _ if skipped > 0 => skipped -= 1,
            RSP_TAG_MORE => next = value as *const TagItem,
            RSP_TAG_SKIP => skipped = value.max(1),
            RSP_TAG_PE_IDENTIFIER => match u32::try_from(value) {
                Ok(id) => tags.identifier = (id != 0).then_some(PeId(id)),
                Err(_) => {
                    return error(libc::EINVAL, format!("{value} is no identifier of a pool element"));
                }
            },
            RSP_TAG_CONNECT_TIMEOUT => match value {
                0 => return error(libc::EINVAL, "a connect time-out of 0"),
                _ => tags.connect_timeout = Some(Duration::from_millis(value.div_ceil(1000))),
            },
            // RSP_TAG_IGNORE, those without effect, and those nobody knows.
            _ => {}
        }
    }
    error(libc::EINVAL, format!("the tag list has no end within {MOST} entries"))
}

/// Has a descriptor's connections be opened as the list says.
fn set_connect_timeout(sd: c_int, tags: &Tags) -> Result<()> {
    if let Some(time) = tags.connect_timeout {
        let mut options = socket::socket_options(sd)?;
        options.session.connect_timeout = time;
        socket::set_socket_options(sd, &options)?;
    }
    Ok(())
}

/// As `rsp_register`, with tags.
///
/// `tags`: a list; known is `RSP_TAG_PE_IDENTIFIER`. The others: as `rsp_register`.
///
/// Returns 0 or -1. Errors: as `rsp_register`; EINVAL (the list; another identifier than the socket is
/// registered by), EEXIST (the pool has an element with this identifier).
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.1, 6.1. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_register_tags(
    sd: c_int,
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    loadinfo: *const rsp_loadinfo,
    reregistrationInterval: c_uint,
    flags: c_int,
    tags: *const TagItem,
) -> c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        let id = read(tags)?.identifier;
        session::register(sd, (poolHandle, poolHandleSize), loadinfo, reregistrationInterval, flags, id)
    })
}

/// As `rsp_deregister`, with tags.
///
/// `tags`: a list; none is known here. The others: as `rsp_deregister`.
///
/// Returns 0 or -1. Errors: as `rsp_deregister`; EINVAL (the list).
///
/// Threads: any. Fork: ENOTSUP in the child. RFC 5352 3.2, 6.2. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_deregister_tags(sd: c_int, flags: c_int, tags: *const TagItem) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { read(tags)? };
        Ok(session::rsp_deregister(sd, flags))
    })
}

/// As `rsp_accept`, with tags.
///
/// `tags`: a list; none is known here. The others: as `rsp_accept`.
///
/// Returns the session's descriptor, or -1. Errors: as `rsp_accept`; EINVAL (the list).
///
/// Threads: any; several may wait at once. Fork: accepted sessions go on in the child. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_accept_tags(sd: c_int, timeout: c_int, tags: *const TagItem) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        unsafe { read(tags)? };
        Ok(session::rsp_accept(sd, timeout))
    })
}

/// As `rsp_connect`, with tags.
///
/// `tags`: a list; known is `RSP_TAG_CONNECT_TIMEOUT`. The others: as `rsp_connect`.
///
/// Returns 0 or -1. Errors: as `rsp_connect`; EINVAL (the list).
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.3, 6.5. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_connect_tags(
    sd: c_int,
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    staleCacheValue: c_uint,
    tags: *const TagItem,
) -> c_int {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        set_connect_timeout(sd, &read(tags)?)?;
        Ok(session::rsp_connect(sd, poolHandle, poolHandleSize, staleCacheValue))
    })
}

/// As `rsp_forcefailover`, with tags.
///
/// `tags`: a list; known is `RSP_TAG_CONNECT_TIMEOUT`. The others: as `rsp_forcefailover`.
///
/// Returns 0 or -1. Errors: as `rsp_forcefailover`; EINVAL (the list).
///
/// Threads: any. Fork: the child uses the elements known already. RFC 5352 3.5, 3.7. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_forcefailover_tags(
    sd: c_int,
    flags: c_uint,
    staleCacheValue: c_uint,
    tags: *const TagItem,
) -> c_int {
    guard(|| {
        // SAFETY: the caller's promise.
        set_connect_timeout(sd, &unsafe { read(tags)? })?;
        Ok(session::rsp_forcefailover(sd, flags, staleCacheValue))
    })
}

/// As `rsp_getaddrinfo`, with tags.
///
/// `tags`: a list; none is known here. The others: as `rsp_getaddrinfo`.
///
/// Returns the number of elements in the list, or `REAI_...`. Errors: as `rsp_getaddrinfo`; EINVAL (the
/// list, with REAI_SYSTEM).
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.3, 6.9.1. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_getaddrinfo_tags(
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    rserpoolAddrInfo: *mut *mut rsp_addrinfo,
    items: usize,
    staleCacheValue: c_uint,
    tags: *const TagItem,
) -> c_int {
    guard_or(
        |_| REAI_SYSTEM,
        // SAFETY: the caller's promise.
        || unsafe {
            read(tags)?;
            Ok(pool::rsp_getaddrinfo(poolHandle, poolHandleSize, rserpoolAddrInfo, items, staleCacheValue))
        },
    )
}

/// As `rsp_pe_registration`, with tags.
///
/// `tags`: a list; none is known here: the identifier is `ai_pe_id`. The others: as `rsp_pe_registration`.
///
/// Returns 0, or (unsigned int)-1. Errors: as `rsp_pe_registration`; EINVAL (the list).
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.1, 6.1. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_pe_registration_tags(
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    rserpoolAddrInfo: *mut rsp_addrinfo,
    loadinfo: *const rsp_loadinfo,
    registrationLife: c_uint,
    flags: c_int,
    tags: *const TagItem,
) -> c_uint {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        read(tags)?;
        Ok(pool::rsp_pe_registration(
            poolHandle,
            poolHandleSize,
            rserpoolAddrInfo,
            loadinfo,
            registrationLife,
            flags,
        ))
    })
}

/// As `rsp_pe_deregistration`, with tags.
///
/// `tags`: a list; none is known here. The others: as `rsp_pe_deregistration`.
///
/// Returns 0, or (unsigned int)-1. Errors: as `rsp_pe_deregistration`; EINVAL (the list).
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.2, 6.2. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_pe_deregistration_tags(
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    identifier: u32,
    flags: c_int,
    tags: *const TagItem,
) -> c_uint {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        read(tags)?;
        Ok(pool::rsp_pe_deregistration(poolHandle, poolHandleSize, identifier, flags))
    })
}

/// As `rsp_pe_failure`, with tags.
///
/// `tags`: a list; none is known here. The others: as `rsp_pe_failure`.
///
/// Returns 0, or (unsigned int)-1. Errors: as `rsp_pe_failure`; EINVAL (the list).
///
/// Threads: any. Fork: ENOTSUP in the child until `rsp_initialize`. RFC 5352 3.5, 6.9.2. Since 0.1.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rsp_pe_failure_tags(
    poolHandle: *const c_uchar,
    poolHandleSize: usize,
    identifier: u32,
    tags: *const TagItem,
) -> c_uint {
    // SAFETY: the caller's promise.
    guard(|| unsafe {
        read(tags)?;
        Ok(pool::rsp_pe_failure(poolHandle, poolHandleSize, identifier))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::raw::c_ulong;

    const fn item(tag: c_uint, data: c_ulong) -> TagItem {
        TagItem { Tag: tag, Data: data }
    }

    const END: TagItem = item(RSP_TAG_DONE, 0);

    /// Reads a list that ends where the slice does: Miri or a sanitizer sees anything beyond.
    fn taken(list: &[TagItem]) -> Result<Tags> {
        let list = list.to_vec();
        // SAFETY: the lists of these tests end, or point to one that does.
        unsafe { read(list.as_ptr()) }
    }

    fn identifier(list: &[TagItem]) -> Option<u32> {
        taken(list).unwrap().identifier.map(|id| id.0)
    }

    #[test]
    fn an_empty_list_says_nothing() {
        // SAFETY: NULL is a list.
        assert_eq!(unsafe { read(std::ptr::null()) }, Ok(Tags::default()));
        assert_eq!(taken(&[END]), Ok(Tags::default()));
        assert_eq!(taken(&[item(RSP_TAG_IGNORE, 9), END]), Ok(Tags::default()));
        assert_eq!(taken(&[item(RSP_TAG_MORE, 0)]), Ok(Tags::default()));
    }

    #[test]
    fn known_tags_are_found_among_others() {
        let list = [item(77, 1), item(RSP_TAG_PE_IDENTIFIER, 5), item(RSP_TAG_CONNECT_TIMEOUT, 1_500), END];
        let all = taken(&list).unwrap();
        assert_eq!(all.identifier, Some(PeId(5)));
        assert_eq!(all.connect_timeout, Some(Duration::from_millis(2)));
        assert_eq!(identifier(&[item(RSP_TAG_PE_IDENTIFIER, 0), END]), None);
        assert!(taken(&[item(RSP_TAG_PE_IDENTIFIER, 1 << 32), END]).is_err());
        assert!(taken(&[item(RSP_TAG_CONNECT_TIMEOUT, 0), END]).is_err());
    }

    #[test]
    fn the_list_goes_on_where_more_points_to() {
        let second = [item(RSP_TAG_PE_IDENTIFIER, 6), END];
        let first = [item(RSP_TAG_MORE, second.as_ptr() as c_ulong)];
        assert_eq!(identifier(&first), Some(6));
    }

    #[test]
    fn skipped_entries_count_for_nothing_but_the_end() {
        let one = item(RSP_TAG_PE_IDENTIFIER, 1);
        let two = item(RSP_TAG_PE_IDENTIFIER, 2);
        for value in [0, 1] {
            assert_eq!(identifier(&[item(RSP_TAG_SKIP, value), one, END]), None);
            assert_eq!(identifier(&[item(RSP_TAG_SKIP, value), one, two, END]), Some(2));
        }
        assert_eq!(identifier(&[item(RSP_TAG_SKIP, 2), one, two, END]), None);
        assert_eq!(identifier(&[two, item(RSP_TAG_SKIP, c_ulong::MAX), one, END]), Some(2));
    }

    #[test]
    fn a_list_that_goes_round_is_refused() {
        let mut list = [item(RSP_TAG_IGNORE, 0), item(RSP_TAG_MORE, 0)];
        list[1].Data = list.as_ptr() as c_ulong;
        // SAFETY: a list that goes round, in this frame.
        assert_eq!(unsafe { read(list.as_ptr()) }.unwrap_err().errno, libc::EINVAL);
    }
}
