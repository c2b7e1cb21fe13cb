//! Sending message by message on an unconnected socket: each to a pool, or to one element of it (RFC 5352 6.5.1, 6.5.3).

use super::call::{Inner, Role, Socket};
use super::errors;
use super::inbox::Item;
use super::line::Line;
use super::signal::Mail;
use super::{Kind, Result};
use crate::endpoint::{Query, RequestFailure, Resolution};
use crate::runtime;
use crate::session::dispatch::{Dispatch, Event};
use crate::types::Time;
use std::sync::Arc;

/// The session number of what has no session.
const NONE: u32 = 0;

/// The dispatch this socket is, or becomes.
pub(super) fn dispatch<'a>(socket: &Socket, inner: &'a mut Inner) -> Result<&'a mut Line<Dispatch>> {
    if matches!(inner.role, Role::Fresh) && socket.kind == Kind::SeqPacket {
        let seed = runtime::entropy().map_err(|e| errors::system("cannot get random numbers", &e))?;
        let (config, limits) = (inner.options.session.clone(), socket.context.limits().clone());
        // Which elements are our own is told by the background thread, before any answer of a registrar.
        let own = std::iter::empty();
        let mut line = Line::new(Dispatch::new(config, limits, seed, own), 1);
        line.path = Some(inner.options.path.clone());
        inner.role = Role::Dispatch(Box::new(line));
        let (key, signal) = (socket.key, Arc::downgrade(&socket.signal));
        let _ = socket.context().tell(move |b, _| b.introduce(key, signal));
    }
    match &mut inner.role {
        Role::Dispatch(line) => Ok(line),
        Role::User(_) | Role::Accepted(_) => Err(errors::error(
            libc::EISCONN,
            "the socket has a session; send to pools from a socket of its own",
        )),
        Role::Fresh | Role::Element(_) | Role::Watch(_) | Role::Closed => Err(errors::error(
            libc::EOPNOTSUPP,
            "messages are sent to pools from unconnected SOCK_SEQPACKET sockets that are no pool element's",
        )),
    }
}

/// Does what has become possible.
pub(super) fn service(socket: &Socket, inner: &mut Inner, now: Time, mail: Mail, read: bool) {
    let mut events = Vec::new();
    if let Role::Dispatch(line) = &mut inner.role {
        if let Some(identity) = mail.identity {
            line.machine.set_own(identity.own.clone());
            line.machine.set_business_card(identity.card.clone());
        }
        for (handle, outcome) in mail.resolved {
            line.machine.resolved(now, &handle, outcome.map(|r| Resolution::clone(&r)));
        }
    }
    loop {
        if let Role::Dispatch(line) = &mut inner.role {
            line.run(now, read, socket.context.limits(), &socket.signal, &mut events);
        }
        let mut again = false;
        for event in events.drain(..) {
            again |= on_event(socket, inner, now, event);
        }
        if !again {
            break;
        }
    }
}

/// Draws the conclusions of an event; whether the dispatch was told something and is to run again.
fn on_event(socket: &Socket, inner: &mut Inner, now: Time, event: Event) -> bool {
    let Role::Dispatch(line) = &mut inner.role else { return false };
    match event {
        Event::Resolve { handle, max_age } => {
            let deadline = now + inner.options.call_timeout.unwrap_or(socket.context.call_timeout());
            let (signal, query) =
                (Arc::downgrade(&socket.signal), Query { handle: handle.clone(), items: None, max_age });
            let asked = socket.context().tell(move |b, now| b.resolve_for(now, query, deadline, signal));
            if asked.is_err() {
                line.machine.resolved(now, &handle, Err(RequestFailure::NoRegistrar(Vec::new())));
                return true;
            }
        }
        Event::Unreachable { handle, element } => {
            let _ = socket.context().tell(move |b, now| b.endpoint.report_unreachable(now, &handle, element));
        }
        Event::Card { handle, .. } => {
            let _ = socket.context().tell(move |b, now| b.endpoint.on_card(now, &handle));
        }
        Event::Received { element, bytes, channel, complete, .. } => {
            let from = Some(element);
            inner.inbox.push(Item::Data { bytes, taken: 0, channel, complete, session: NONE, from });
        }
        Event::Unresolved { handle, why } => {
            log::info!("{}", errors::request(&format!("sending to pool {handle}"), &why).what);
        }
        Event::SendFailed { element, message, channel, .. } => {
            inner.inbox.push(Item::Undelivered { bytes: message, channel, session: NONE, to: element });
        }
        Event::Writable => {}
    }
    false
}
