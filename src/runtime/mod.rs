//! The world the machines live in: sockets, clock, entropy, threads. The one place with system calls.
//! Cannot decode a message.

pub mod admin;
pub mod driver;
pub mod duplicate;
pub mod fork;
mod framing;
pub mod interfaces;
pub mod link;
pub mod listener;
pub mod multicast;
pub mod names;
mod outbox;
pub mod poller;
pub mod readiness;
mod reports;
mod sctp;
mod tcp;
pub mod udp;
pub mod wake;
mod world;

use crate::types::Time;
use std::time::Instant;

/// A monotonic clock; every reading of one process comes from the same start.
pub fn now() -> Time {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    let start = *START.get_or_init(Instant::now);
    Time::from_nanos(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

/// Good random bits for identifiers and seeds, from the system.
pub fn entropy() -> std::io::Result<u64> {
    getrandom::u64().map_err(std::io::Error::from)
}
