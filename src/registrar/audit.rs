//! Whether what is held of a peer's elements is what it has (RFC 5353 3.6): by checksum with any, by digest with ours; and
//! if not, its own table, with mark and sweep.
//!
//! A peer of ours is audited when two of its presences in a row do not agree: a change may be under way on another link.
//! After an audit there is a pause, doubled as long as it did not help, so that two registrars that cannot agree (one has
//! no room, or their pools have other policies) do not exchange tables without end.

use super::table::{Outcome, Purpose};
use super::{ElementKey, Event, Registrar, Standing};
use crate::handlespace::View;
use crate::machine::LinkId;
use crate::types::{PeChecksum, ServerId, Time};
use std::collections::BTreeSet;
use std::time::Duration;

/// Presences of ours in a row that do not agree before their sender is audited.
const DISAGREEMENTS: u32 = 2;
/// The pause after an audit, in heartbeats, and the longest.
const FIRST_PAUSE: u32 = 1;
const LONGEST_PAUSE: u32 = 50;

/// The audits of one peer.
#[derive(Debug, Default)]
pub(super) struct Audit {
    /// Presences in a row that did not agree.
    disagreements: u32,
    /// A table is under way.
    running: bool,
    not_before: Time,
    /// After the next audit, if there is none since the last agreement: zero.
    pause: Duration,
    /// Who has taken over what the peer owned when it was silent, since they agreed last.
    taken_by: Option<ServerId>,
    /// Elements that are the peer's by a takeover, and of which it has not told itself.
    inherited: BTreeSet<ElementKey>,
    /// What the peer told last.
    checksum: Option<PeChecksum>,
    digest: Option<u64>,
}

impl Registrar {
    /// A peer has told the checksum, or the digest, over its own elements.
    pub(super) fn compare(
        &mut self,
        now: Time,
        link: LinkId,
        from: ServerId,
        checksum: Option<PeChecksum>,
        digest: Option<u64>,
    ) {
        let settled = self.standing() != Standing::Starting;
        let checksum_agrees = checksum.map(|it| it == self.handlespace.checksum(from, View::Full));
        let digest_agrees = digest.map(|it| it == self.handlespace.digest(from));
        let Some(known) = self.peers.find_mut(from) else { return };
        known.peer.checksum_agrees = checksum_agrees;
        known.peer.digest_agrees = digest_agrees;
        let audit = &mut known.audit;
        (audit.checksum, audit.digest) = (checksum, digest);
        match digest_agrees.or(checksum_agrees) {
            None => return,
            Some(true) => {
                (audit.disagreements, audit.pause, audit.not_before) = (0, Duration::ZERO, Time::ZERO);
                audit.taken_by = None;
                return;
            }
            Some(false) => audit.disagreements = audit.disagreements.saturating_add(1),
        }
        let enough = if digest.is_some() { DISAGREEMENTS } else { 1 };
        if !settled || audit.running || audit.disagreements < enough || now < audit.not_before {
            return;
        }
        audit.running = true;
        self.out.counters.audits += 1;
        self.handlespace.mark(from);
        if !self.download(now, link, from, Purpose::Audit) {
            self.end_audit(now, from);
        }
    }

    pub(super) fn on_audit_table(&mut self, now: Time, from: ServerId, outcome: Outcome) {
        self.end_audit(now, from);
        match outcome {
            Outcome::Complete => {
                self.sweep(now, from);
                self.on_table_of_winner(now, from);
                let checksum = self.handlespace.checksum(from, View::Full);
                let digest = self.handlespace.digest(from);
                if let Some(audit) = self.peers.find_mut(from).map(|known| &mut known.audit) {
                    let helped = match audit.digest {
                        Some(told) => told == digest,
                        None => audit.checksum == Some(checksum),
                    };
                    if helped {
                        (audit.pause, audit.not_before) = (Duration::ZERO, Time::ZERO);
                    }
                }
            }
            Outcome::Rejected | Outcome::Interrupted => {}
        }
    }

    fn end_audit(&mut self, now: Time, from: ServerId) {
        let cycle = self.config.peer_heartbeat_cycle;
        let Some(known) = self.peers.find_mut(from) else { return };
        let audit = &mut known.audit;
        audit.running = false;
        audit.disagreements = 0;
        audit.pause = (audit.pause * 2).clamp(cycle * FIRST_PAUSE, cycle * LONGEST_PAUSE);
        audit.not_before = now + audit.pause;
    }

    /// A peer that lives was taken over: of its elements those it does not have any more are the winner's, if that one has them.
    pub(super) fn expect_moves(&mut self, from: ServerId, to: ServerId) {
        if let Some(known) = self.peers.find_mut(from) {
            known.audit.taken_by = Some(to);
        }
    }

    /// An element becomes a peer's by a takeover. Whether that one knows it shows when it tells of it.
    pub(super) fn inherit(&mut self, key: &ElementKey, home: ServerId) {
        self.handlespace.rehome(&key.0, key.1, home);
        if let Some(known) = self.peers.find_mut(home).filter(|known| known.peer.ours) {
            known.audit.inherited.insert(key.clone());
        }
    }

    /// Its home has told of an element, or it is another's, or gone.
    pub(super) fn forget_inherited(&mut self, key: &ElementKey, home: Option<ServerId>) {
        if let Some(known) = home.and_then(|home| self.peers.find_mut(home)) {
            known.audit.inherited.remove(key);
        }
    }

    /// What the peer did not list is gone (RFC 5353 3.6.3), unless the element is connected here: then it is this
    /// registrar's. Or another one has taken it over, whose own audit shows whether it has it. Or the peer has only inherited
    /// it, without having heard of it, maybe: then it is asked from here.
    fn sweep(&mut self, now: Time, from: ServerId) {
        let mut removed = 0usize;
        let heir = self.peers.find_mut(from).and_then(|known| known.audit.taken_by.take());
        let heir = heir.filter(|server| self.live_peers().contains(server));
        for key in self.handlespace.marked(from) {
            let connected = self
                .handlespace
                .entry(&key.0, key.1)
                .and_then(|entry| entry.registrant.as_ref())
                .is_some_and(|registrant| registrant.link.is_some());
            let inherited = self.peers.find_mut(from).is_some_and(|known| known.audit.inherited.remove(&key));
            if connected {
                self.claim(now, key);
            } else if let Some(heir) = heir {
                self.inherit(&key, heir);
            } else if inherited {
                self.adopt_element(now, key, from);
            } else {
                self.take_out(now, &key);
                removed += 1;
            }
        }
        self.out.counters.swept += u64::try_from(removed).unwrap_or(u64::MAX);
        self.out.events.push_back(Event::PeerAudited { server: from, removed });
    }

    /// Makes an element that is connected here one of this registrar's.
    pub(super) fn claim(&mut self, now: Time, key: ElementKey) {
        if self.handlespace.rehome(&key.0, key.1, self.id) {
            let life = self.handlespace.entry(&key.0, key.1).and_then(|entry| entry.element.life.duration());
            self.handlespace.note(&key.0, key.1, |note| *note.expires = life.map(|life| now + life));
            self.tell_changed(&key);
            self.on_pool_changed(now, &key.0);
            self.watch(now, key);
        }
    }
}
