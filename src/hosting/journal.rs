//! What a registrar tells its owner, as lines of the log; and the last takeover, for those who ask.

use super::words;
use crate::registrar::{Event, Registrar};
use crate::types::{ServerId, Time};
use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// A registrar that was taken over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Takeover {
    pub at: Time,
    pub target: ServerId,
    pub by: ServerId,
    pub elements: usize,
}

/// The last one, shared with the administration.
pub(super) type LastTakeover = Arc<Mutex<Option<Takeover>>>;

/// Writes events to the log.
#[derive(Debug, Default)]
pub(super) struct Journal {
    /// When a message that was not accepted was last worth a line, and how many have come since.
    rejected: Time,
    suppressed: u64,
    last_takeover: LastTakeover,
}

impl Journal {
    pub(super) fn last_takeover(&self) -> LastTakeover {
        Arc::clone(&self.last_takeover)
    }

    pub(super) fn note(&mut self, registrar: &Registrar, now: Time, event: &Event) {
        match event {
            Event::Added { handle, element } => {
                let entry = registrar.handlespace().entry(handle, *element);
                let how = entry.map(words::element).unwrap_or_default();
                log::info!("pool {handle}: element {element} registered ({how})");
            }
            Event::Removed { handle, element, why } => {
                log::info!("pool {handle}: element {element} removed: {}", words::removal(*why));
            }
            Event::Refused { handle, element, causes } => {
                log::warn!("pool {handle}: element {element} refused: {}", words::causes(causes));
            }
            Event::Rejected { why } => {
                // Whoever sends garbage does not fill the disk.
                if now.since(self.rejected) < Duration::from_secs(1) {
                    self.suppressed += 1;
                    return;
                }
                let more = match std::mem::take(&mut self.suppressed) {
                    0 => String::new(),
                    n => format!(" ({n} more since the last line)"),
                };
                self.rejected = now;
                log::warn!("a message was not accepted: {why}{more}");
            }
            Event::Serving { mentor: Some(mentor) } => {
                log::info!("serving, with the handlespace of registrar {mentor}")
            }
            Event::Serving { mentor: None } => log::info!("serving"),
            Event::PeerAudited { server, removed } => {
                log::info!("registrar {server}: compared its elements; {removed} were gone");
            }
            Event::Renamed { from, to } => {
                log::warn!("another registrar is {from}, too: this one is {to} from now on");
            }
            Event::Doubting => {
                log::warn!("no peer is heard, or this registrar was asleep: accusing nobody for a while")
            }
            Event::DoubtEnded => log::info!("no doubt any more"),
            Event::PeerSuspected { server } => log::warn!("registrar {server}: silent"),
            Event::TakeoverBegun { target } => log::warn!("registrar {target}: about to take it over"),
            Event::TakeoverYielded { target, to } => {
                log::info!("registrar {target}: registrar {to} takes it over");
            }
            Event::TakeoverAverted { target } => {
                log::info!("registrar {target}: heard again, not taken over")
            }
            Event::TakenOver { target, by, elements } => {
                let (target, by, elements) = (*target, *by, *elements);
                // Others tell when they are done, and then there is nothing left to count.
                if elements > 0 {
                    *self.last_takeover.lock() = Some(Takeover { at: now, target, by, elements });
                }
                log::warn!("registrar {target}: taken over by registrar {by}, with {elements} elements");
            }
            Event::PeerUp { server } => log::info!("registrar {server}: connected"),
            Event::PeerDown { to, why } => {
                let address = to.addresses.as_slice().first().map(|ip| SocketAddr::new(*ip, to.port));
                let address = address.map(|address| address.to_string()).unwrap_or_default();
                log::warn!("registrar at {address}: not connected: {}; trying again", words::failure(*why));
            }
        }
    }
}
