//! What of the library is open in this process, by number: its sockets, and descriptors of the program's that were mapped
//! among them.

use super::call::Socket;
use super::context::Context;
use super::errors;
use super::fork::Guarded;
use super::{Error, Result};
use crate::runtime::duplicate::Duplicate;

use std::os::fd::RawFd;
use std::sync::Arc;

/// A descriptor of the program's under a number of its own.
#[derive(Debug)]
pub(super) struct Mapped {
    pub(super) duplicate: Duplicate,
    pub(super) context: Context,
}

/// What there is under a number.
pub(super) enum Entry {
    Socket(Arc<Socket>),
    Mapped(Arc<Mapped>),
}

impl Entry {
    fn belongs_to(&self, context: &Context) -> bool {
        match self {
            Entry::Socket(socket) => socket.belongs_to(context),
            Entry::Mapped(mapped) => mapped.context.is(context),
        }
    }
}

static TABLE: Guarded<Vec<Option<Entry>>> = Guarded::new(Vec::new());

fn place(sd: RawFd) -> Option<usize> {
    usize::try_from(sd).ok()
}

/// Enters a socket under its number.
pub(super) fn enter(socket: Arc<Socket>) -> RawFd {
    let sd = socket.number();
    put(sd, Entry::Socket(socket));
    sd
}

/// Enters a mapped descriptor under a number.
pub(super) fn map(sd: RawFd, mapped: Mapped) {
    put(sd, Entry::Mapped(Arc::new(mapped)));
}

fn put(sd: RawFd, entry: Entry) {
    let Some(at) = place(sd) else { return };
    let mut table = TABLE.lock();
    if table.len() <= at {
        table.resize_with(at + 1, || None);
    }
    let stale = table.get_mut(at).and_then(|place| place.replace(entry));
    drop(table);
    match stale {
        Some(Entry::Socket(stale)) => {
            // The kernel gave us a number that was ours: somebody closed it with plain close().
            log::warn!("descriptor {sd} was closed without rsp_close()");
            stale.abandon();
        }
        Some(Entry::Mapped(stale)) => {
            log::warn!("descriptor {sd} was closed without rsp_unmapsocket()");
            if stale.duplicate.number() == sd {
                // The number is the new one's, which must not be closed.
                std::mem::forget(stale);
            }
        }
        None => {}
    }
}

/// The socket with this number.
pub(super) fn find(sd: RawFd) -> Result<Arc<Socket>> {
    match TABLE.lock().get(place(sd).unwrap_or(usize::MAX)) {
        Some(Some(Entry::Socket(socket))) => Ok(socket.clone()),
        Some(Some(Entry::Mapped(_))) => Err(errors::mapped(sd)),
        Some(None) | None => Err(errors::bad_descriptor(sd)),
    }
}

/// The mapped descriptor with this number, if it is one.
pub(super) fn find_mapped(sd: RawFd) -> Option<Arc<Mapped>> {
    match TABLE.lock().get(place(sd)?)? {
        Some(Entry::Mapped(mapped)) => Some(mapped.clone()),
        Some(Entry::Socket(_)) | None => None,
    }
}

/// Takes out what has this number.
pub(super) fn remove(sd: RawFd) -> Result<Entry> {
    let mut table = TABLE.lock();
    place(sd).and_then(|at| table.get_mut(at)?.take()).ok_or_else(|| errors::bad_descriptor(sd))
}

/// Takes a mapped descriptor out; anything else stays.
pub(super) fn remove_mapped(sd: RawFd) -> Result<Arc<Mapped>> {
    let mut table = TABLE.lock();
    let place = place(sd).and_then(|at| table.get_mut(at));
    let bad = || -> Error { errors::error(libc::EBADF, format!("descriptor {sd} is no mapped one")) };
    let place = place.ok_or_else(bad)?;
    match place.take() {
        Some(Entry::Mapped(mapped)) => Ok(mapped),
        other => {
            *place = other;
            Err(bad())
        }
    }
}

/// Looks at every socket, a few at a time: nobody else gets at the table meanwhile. No socket is kept from being dropped by
/// whoever lets it go.
pub(super) fn glance(mut look: impl FnMut(&Socket)) {
    const FEW: usize = 256;
    let mut from = 0;
    loop {
        let table = TABLE.lock();
        let Some(rest) = table.get(from..).filter(|rest| !rest.is_empty()) else { return };
        for entry in rest.iter().take(FEW).flatten() {
            match entry {
                Entry::Socket(socket) => look(socket),
                Entry::Mapped(_) => {}
            }
        }
        from += FEW;
    }
}

/// Takes everything of a context out; its sockets are returned.
pub(super) fn remove_all(context: &Context) -> Vec<Arc<Socket>> {
    let mut table = TABLE.lock();
    let ours = |entry: &mut Option<Entry>| {
        if entry.as_ref().is_some_and(|entry| entry.belongs_to(context)) { entry.take() } else { None }
    };
    let all: Vec<Entry> = table.iter_mut().filter_map(ours).collect();
    drop(table);
    let socket = |entry| match entry {
        Entry::Socket(socket) => Some(socket),
        Entry::Mapped(_) => None,
    };
    all.into_iter().filter_map(socket).collect()
}
