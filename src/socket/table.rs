//! The sockets of this process by descriptor number.

use super::Result;
use super::call::Socket;
use super::context::Context;
use super::errors;
use super::fork::Guarded;

use std::os::fd::RawFd;
use std::sync::Arc;

static TABLE: Guarded<Vec<Option<Arc<Socket>>>> = Guarded::new(Vec::new());

fn place(sd: RawFd) -> Option<usize> {
    usize::try_from(sd).ok()
}

/// Enters a socket under its number.
pub(super) fn enter(socket: Arc<Socket>) -> RawFd {
    let sd = socket.number();
    let Some(at) = place(sd) else { return sd };
    let mut table = TABLE.lock();
    if table.len() <= at {
        table.resize_with(at + 1, || None);
    }
    let stale = table.get_mut(at).and_then(|entry| entry.replace(socket));
    drop(table);
    if let Some(stale) = stale {
        // The kernel gave us a number that was ours: somebody closed it with plain close().
        log::warn!("descriptor {sd} was closed without rsp_close()");
        stale.abandon();
    }
    sd
}

/// The socket with this number.
pub(super) fn find(sd: RawFd) -> Result<Arc<Socket>> {
    let table = TABLE.lock();
    place(sd).and_then(|at| table.get(at)?.clone()).ok_or_else(|| errors::bad_descriptor(sd))
}

/// Takes a socket out.
pub(super) fn remove(sd: RawFd) -> Result<Arc<Socket>> {
    let mut table = TABLE.lock();
    place(sd).and_then(|at| table.get_mut(at)?.take()).ok_or_else(|| errors::bad_descriptor(sd))
}

/// Takes all sockets of a context out.
pub(super) fn remove_all(context: &Context) -> Vec<Arc<Socket>> {
    let mut table = TABLE.lock();
    let ours = |entry: &mut Option<Arc<Socket>>| {
        if entry.as_ref().is_some_and(|s| s.belongs_to(context)) { entry.take() } else { None }
    };
    table.iter_mut().filter_map(ours).collect()
}
