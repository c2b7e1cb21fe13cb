//! Doubt of oneself: a registrar that was asleep, or that hears neither its peers nor its elements, has more reason to
//! think that it is itself in trouble than that all the others are.
//!
//! It then accuses no peer, and in the second case takes no element for dead, until a peer is heard or a bounded time has
//! passed. It serves meanwhile. The RFCs know nothing of this. One without peers has nobody to compare itself with, and
//! does not doubt.

use super::peers::PeerState;
use super::{ElementKey, Event, Registrar, Wake};
use crate::types::Time;
use std::collections::BTreeSet;
use std::time::Duration;

/// So many elements at least must be owned for their silence to mean something.
const FEWEST: usize = 8;
/// A registrar that was woken so much too late was asleep, whatever its configuration.
const LATEST: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// By when it ends at the latest.
    until: Option<Time>,
    /// The deadline that was missed last: more than one input may come before it is met.
    missed: Option<Time>,
    /// When this registrar last found that it had slept.
    woken: Option<Time>,
    /// Own elements that have not answered since the peers fell silent, and since when there are such.
    silent: BTreeSet<ElementKey>,
    since: Option<Time>,
}

impl Doubt {
    pub(super) fn is_on(&self) -> bool {
        self.until.is_some()
    }

    /// Whether it has slept until less than this ago.
    pub(super) fn has_slept(&self, now: Time, ago: Duration) -> bool {
        self.woken.is_some_and(|woken| now.since(woken) <= ago)
    }

    /// The element has answered, or is gone.
    pub(super) fn forget(&mut self, key: &ElementKey) {
        self.silent.remove(key);
    }
}

impl Registrar {
    /// Something came, or the time. If it should have been long ago, this registrar was asleep.
    pub(super) fn notice_sleep(&mut self, now: Time, wanted: Option<Time>) {
        let late = wanted.map_or(Duration::ZERO, |at| now.since(at));
        if late <= self.config.max_time_no_response.min(LATEST) {
            return;
        }
        self.doubt.woken = Some(now);
        if wanted == std::mem::replace(&mut self.doubt.missed, wanted) {
            return;
        }
        if self.startup.is_over() {
            let a_while = self.config.max_time_last_heard + self.config.max_time_no_response;
            self.doubt(now, now + a_while);
        } else {
            // It accuses nobody before it serves, which may be now.
            self.reconsider(now);
        }
    }

    fn doubt(&mut self, now: Time, until: Time) {
        if !self.reconsider(now) {
            return;
        }
        if self.doubt.until.is_none() {
            self.out.counters.doubts += 1;
            self.out.events.push_back(Event::Doubting);
        }
        self.doubt.until = Some(until);
        self.timers.set(Wake::Doubt, until);
        self.tell_presence(true);
    }

    /// What was concluded of peers holds no longer. Takeovers are given up; and peers get the time an answer takes, those
    /// suspected, too: what they sent meanwhile may lie unread. Says whether there are any.
    pub(super) fn reconsider(&mut self, now: Time) -> bool {
        self.abandon_takeovers(now);
        let watched: Vec<_> = self
            .peers
            .list()
            .filter(|peer| match peer.state {
                PeerState::Alive | PeerState::Suspected => true,
                PeerState::Named | PeerState::TakenOver => false,
            })
            .map(|peer| peer.server)
            .collect();
        for server in &watched {
            self.timers.set(Wake::Peer(*server), now + self.config.max_time_no_response);
        }
        !watched.is_empty()
    }

    /// A peer is heard, or the time is over.
    pub(super) fn end_doubt(&mut self) {
        self.doubt.silent.clear();
        self.doubt.since = None;
        if self.doubt.until.take().is_some() {
            self.timers.cancel(&Wake::Doubt);
            self.out.events.push_back(Event::DoubtEnded);
        }
    }

    pub(super) fn on_doubt_timeout(&mut self) {
        // `since` stays: whoever is silent now is silent for good, until a peer is heard.
        if self.doubt.until.take().is_some() {
            self.doubt.silent.clear();
            self.out.events.push_back(Event::DoubtEnded);
        }
    }

    /// An own element has not acknowledged a keep-alive. Whether that may be this registrar's own trouble: all peers are
    /// silent, too, and so are more than half of the elements, or there has not been time enough to ask them all.
    pub(super) fn may_be_cut_off(&mut self, now: Time, key: &ElementKey) -> bool {
        let owned = self.handlespace.count(Some(self.id));
        let met = self.peers.list().filter(|peer| peer.state != PeerState::Named);
        let last_heard = met.map(|peer| peer.last_heard).max();
        let silent = last_heard.is_some_and(|at| now.since(at) > self.config.max_time_last_heard);
        if !silent || owned < FEWEST {
            return false;
        }
        let since = *self.doubt.since.get_or_insert(now);
        let until = since + self.config.longest_doubt;
        if now >= until {
            return false;
        }
        self.doubt.silent.insert(key.clone());
        let round = self.config.keep_alive_interval * 3 / 2 + self.config.keep_alive_timeout;
        if self.doubt.silent.len() * 2 > owned {
            if !self.doubt.is_on() {
                self.doubt(now, until);
            }
            true
        } else {
            now < since + round
        }
    }
}
