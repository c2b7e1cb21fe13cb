//! Watching a pool: a descriptor on which its changes can be received.

use super::call::{self, Carrier, Goal, Role, Socket};
use super::context::Context;
use super::signal::{Attention, Mail};
use super::{Change, Kind, Result, Wait, errors, table};
use crate::endpoint::Resolution;
use crate::types::{PeId, PoolElement, PoolHandle};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// A watched pool.
#[derive(Debug)]
pub(super) struct Watch {
    handle: PoolHandle,
    /// As the application knows it, or will when it has received all changes.
    known: BTreeMap<PeId, PoolElement>,
    changes: VecDeque<Change>,
    /// All there were at the start were found.
    complete: bool,
}

impl Watch {
    /// Finds out what has changed.
    pub(super) fn compare(&mut self, mail: Mail) {
        let Some(pool) = mail.pool else { return };
        let now = pool.as_deref().map(|p: &Resolution| p.elements.as_slice()).unwrap_or_default();
        let mut gone: Vec<PeId> = self.known.keys().copied().collect();
        for element in now {
            gone.retain(|id| *id != element.id);
            match self.known.insert(element.id, element.clone()) {
                None => self.changes.push_back(Change::Added(element.clone())),
                Some(old) if old != *element => self.changes.push_back(Change::Updated(element.clone())),
                Some(_) => {}
            }
        }
        for id in gone {
            self.known.remove(&id);
            self.changes.push_back(Change::Removed(id));
        }
        if !std::mem::replace(&mut self.complete, true) {
            self.changes.push_back(Change::UpToDate);
        }
    }

    pub(super) fn has_change(&self) -> bool {
        !self.changes.is_empty()
    }

    pub(super) fn handle(&self) -> &PoolHandle {
        &self.handle
    }

    /// Ends it.
    pub(super) fn leave(&self, socket: &Socket) {
        let (key, handle) = (socket.key, self.handle.clone());
        let _ = socket.context().tell(move |background, now| background.unwatch(now, &handle, key));
    }
}

/// Watches a pool from now on.
pub(super) fn watch(context: &Context, handle: &PoolHandle) -> Result<i32> {
    if handle.as_bytes().len() > context.limits().handle_bytes {
        return Err(errors::handle_too_long(handle, context.limits().handle_bytes));
    }
    let watch =
        Watch { handle: handle.clone(), known: BTreeMap::new(), changes: VecDeque::new(), complete: false };
    let role = Role::Watch(Box::new(watch));
    let options = call::initial_options(context);
    let socket = Socket::new(context, Kind::SeqPacket, Carrier::Tcp, false, role, options)?;
    socket.signal.attend(Attention::Always);
    let (handle, key, signal) = (handle.clone(), socket.key, Arc::downgrade(&socket.signal));
    let patience = context.call_timeout();
    context.tell(move |background, now| {
        background.watch(now, &handle, key, signal.clone());
        background.look(now, &handle, now + patience, signal);
    })?;
    Ok(table::enter(socket))
}

/// The next change.
pub(super) fn next_change(socket: &Socket, wait: Wait) -> Result<Change> {
    let deadline = Socket::deadline(wait, Duration::from_secs(u64::MAX / 4));
    let change = socket.until(Goal::Readable, deadline, &mut |inner, now| {
        socket.service(inner, now);
        match &mut inner.role {
            Role::Watch(watch) => Ok(watch.changes.pop_front()),
            Role::Fresh
            | Role::User(_)
            | Role::Element(_)
            | Role::Accepted(_)
            | Role::Dispatch(_)
            | Role::Closed => {
                Err(errors::error(libc::EOPNOTSUPP, "the descriptor is not one of rsp_watch()"))
            }
        }
    })?;
    change.ok_or_else(|| errors::would_block("no change came"))
}
