//! Taking over the elements of a registrar that is silent (RFC 5353 3.5): arbitration among those who noticed, and the
//! adoption of its elements.
//!
//! Does not decide who is silent: `peers` does.

#![allow(dead_code)]

use super::Registrar;
use crate::types::{ServerId, Time};

impl Registrar {
    /// A peer has been silent too long and did not answer when asked: its elements are to be taken over.
    pub(super) fn begin_takeover(&mut self, _now: Time, _target: ServerId) {}

    /// Something was heard of a peer itself: who is about to take it over gives up.
    pub(super) fn on_target_alive(&mut self, _now: Time, _target: ServerId) {}

    /// A peer is gone from the list of peers: nobody waits for its acknowledgement any more.
    pub(super) fn on_peer_gone(&mut self, _now: Time, _server: ServerId) {}

    /// After a start: elements that belonged to this registrar before.
    pub(super) fn adopt_own(&mut self, _now: Time) {}

    pub(super) fn on_init_takeover(&mut self, _now: Time, _from: ServerId, _target: ServerId) {}

    pub(super) fn on_init_takeover_ack(&mut self, _now: Time, _from: ServerId, _target: ServerId) {}

    pub(super) fn on_takeover_server(&mut self, _now: Time, _from: ServerId, _target: ServerId) {}
}
