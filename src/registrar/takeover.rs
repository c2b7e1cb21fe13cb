//! Taking over the elements of a registrar that is silent (RFC 5353 3.5): what `contests` decides is carried out here,
//! and the target's elements are adopted.
//!
//! Adoption: the elements' home changes at once, here and at every peer, and users notice nothing. Then each element
//! is asked by an ASAP_ENDPOINT_KEEP_ALIVE with the H bit, in turn (`liveness`). Its acknowledgement makes it an element
//! like any other, and only then it gets a version of its own: had it one before, an update to each peer would be needed at
//! once. An element that has registered elsewhere meanwhile is that registrar's, by its version.
//!
//! A registrar that lives and hears that it was taken over has been silent for longer than anybody would wait. It accepts
//! for the elements that have no link to it any more: they are being asked by the other one. Those that have one the other
//! could not reach: they stay, and everybody is told so.
//!
//! Does not decide who is silent: `peers` does.

use super::contests::{Contests, Live, Order, Output, Say, Voter, Wait};
use super::peers::{Peer, PeerState};
use super::{ElementKey, Event, Registrar, Removal, Standing, Wake};
use crate::handlespace::Registrant;
use crate::machine::LinkId;
use crate::types::{ServerId, Time};
use crate::wire::{Dialect, EnrpMessage};
use std::time::Duration;

/// How long a completed takeover is remembered: longer than the slowest peer may need to miss the target.
const MEMORY: Duration = Duration::from_secs(600);

/// How long one that is not ours may take for a takeover: RSPLIB gives its own up after 5 s, and those completed show
/// only by the checksum in its next presence, 2.4 s later.
const FOREIGN_TAKEOVER: Duration = Duration::from_secs(8);

/// Arbitration.
impl Registrar {
    /// A peer has been silent too long and did not answer when asked: its elements are to be taken over.
    pub(super) fn begin_takeover(&mut self, now: Time, target: ServerId) {
        if self.has_been_emptied(target) {
            self.forget_peer(now, target);
        } else {
            self.contest(now, |contests, live, out| contests.begin(target, live, out));
        }
    }

    /// In a mixed scope one that owns nothing is only forgotten, as RSPLIB does: if one of RSPLIB's has taken it over nobody
    /// says so, and those of ours who know acknowledge to nobody else.
    fn has_been_emptied(&self, target: ServerId) -> bool {
        self.order() == Order::LowerWins && self.handlespace.count(Some(target)) == 0
    }

    /// Something was heard of a peer itself: who is about to take it over gives up.
    pub(super) fn on_target_alive(&mut self, now: Time, target: ServerId) {
        self.contest(now, |contests, live, out| contests.on_alive(target, live, out));
    }

    /// A peer is not alive any more, for all that is known, or off the list: nobody waits for its acknowledgement, and
    /// what it was told it has to be told again when it is back.
    pub(super) fn on_peer_gone(&mut self, now: Time, _server: ServerId) {
        self.contest(now, |contests, live, out| contests.review(live, out));
    }

    pub(super) fn on_init_takeover(&mut self, now: Time, from: ServerId, target: ServerId) {
        self.contest(now, |contests, live, out| contests.on_init(from, target, live, out));
    }

    pub(super) fn on_init_takeover_ack(&mut self, now: Time, from: ServerId, target: ServerId) {
        self.contest(now, |contests, live, out| contests.on_ack(from, target, live, out));
    }

    pub(super) fn on_takeover_server(&mut self, now: Time, from: ServerId, target: ServerId) {
        if target == self.id {
            self.on_taken_over(from);
        } else {
            self.contest(now, |contests, live, out| contests.on_takeover(from, target, live, out));
        }
    }

    /// This registrar was asleep: what it has begun to take over is only suspected again.
    pub(super) fn abandon_takeovers(&mut self, now: Time) {
        let mut begun = Vec::new();
        self.contest(now, |contests, _, out| begun = contests.abandon(out));
        for target in begun {
            self.suspect_again(target);
        }
    }

    pub(super) fn on_contest_timeout(&mut self, now: Time, target: ServerId) {
        let open = self.contests.is_initiating(target) || self.contests.has_yielded(target);
        if open && self.has_been_emptied(target) {
            self.contest(now, |contests, _, out| contests.end(target, out));
            self.forget_peer(now, target);
        } else {
            self.contest(now, |contests, live, out| contests.on_timeout(target, live, out));
        }
    }

    /// Which registrars are alive may have changed, and with them the order.
    pub(super) fn review_order(&mut self, now: Time) {
        self.contest(now, |_, _, _| {});
    }

    fn contest(&mut self, now: Time, act: impl FnOnce(&mut Contests, &Live, &mut Vec<Output>)) {
        self.review_hearing();
        let voter = |peer: &Peer| match peer.state {
            PeerState::Alive if peer.ours => Some((peer.server, Voter::Ours)),
            PeerState::Alive => Some((peer.server, Voter::Foreign)),
            PeerState::Suspected => Some((peer.server, Voter::Unheard)),
            PeerState::Named | PeerState::TakenOver => None,
        };
        let (live, mut out) = (self.peers.list().filter_map(voter).collect(), Vec::new());
        self.contests.set_order(self.order(), &live, &mut out);
        act(&mut self.contests, &live, &mut out);
        for output in out {
            self.carry_out(now, output);
        }
    }

    fn carry_out(&mut self, now: Time, output: Output) {
        match output {
            Output::Send { to, say, target } => {
                let (header, target) = (self.header_for(Some(to)), Some(target));
                let message = match say {
                    Say::Init => EnrpMessage::InitTakeover { header, target },
                    Say::Ack => EnrpMessage::InitTakeoverAck { header, target },
                    Say::Takeover => EnrpMessage::TakeoverServer { header, target },
                };
                // Without a link it is said again: to who is silent because of it, or when it is back.
                self.send_to(to, message);
            }
            Output::Probe(target) => {
                if let Some(link) = self.link_to(target) {
                    self.send_presence(link, true);
                }
            }
            Output::ShowLife => self.tell_presence(false),
            Output::Wake(target, wait) => {
                let wait = match wait {
                    Wait::Rounds(rounds) => self.config.max_time_no_response.saturating_mul(rounds),
                    Wait::Foreign => FOREIGN_TAKEOVER.max(self.config.max_time_no_response * 4),
                    Wait::Memory => MEMORY,
                };
                self.timers.set(Wake::Contest(target), now + wait);
            }
            Output::NoWake(target) => _ = self.timers.cancel(&Wake::Contest(target)),
            Output::Begun(target) => {
                self.out.counters.takeovers_begun += 1;
                self.out.events.push_back(Event::TakeoverBegun { target });
            }
            Output::Yielded { target, to } => {
                self.out.counters.takeovers_yielded += 1;
                self.out.events.push_back(Event::TakeoverYielded { target, to });
                // RFC 5353 3.5.1: it is not watched any more.
                self.stop_watching(target);
            }
            Output::Averted(target) => {
                self.out.counters.takeovers_averted += 1;
                self.out.events.push_back(Event::TakeoverAverted { target });
            }
            Output::Suspect(target) => self.suspect(now, target),
            Output::Adopt(target) => self.adopt(now, target),
            Output::Follow { target, home } => self.follow(now, target, home),
            Output::Concede { target, home } => {
                for key in self.liveness.adopted_from(target) {
                    self.let_go(&key);
                    self.inherit(&key, home);
                }
            }
        }
    }

    /// The table of one that sends no ENRP_TAKEOVER_SERVER, as RSPLIB does not: where nothing is left of whom it wanted to take
    /// over, it has done so.
    pub(super) fn on_table_of_winner(&mut self, now: Time, winner: ServerId) {
        for target in self.contests.yielded_to(winner) {
            if self.handlespace.count(Some(target)) == 0 {
                self.on_takeover_server(now, winner, target);
            }
        }
    }

    /// Another registrar has taken the target over (RFC 5353 3.5.2).
    ///
    /// DEPARTS RFC 5353 3.5.2: of a target that is heard, the elements are not the winner's by that alone. What it says may have
    /// been long under way, and the target may have come back, and have told of its elements, since. Those the winner has
    /// reached it tells of with a higher version.
    fn follow(&mut self, now: Time, target: ServerId, home: ServerId) {
        let lives = |server| {
            let known = self.peers.find(server);
            known.is_some_and(|known| known.peer.ours && known.peer.state == PeerState::Alive)
        };
        if lives(target) && lives(home) {
            self.expect_moves(target, home);
            self.out.events.push_back(Event::TakenOver { target, by: home, elements: 0 });
            return;
        }
        let keys: Vec<ElementKey> = self.handlespace.of_owner(target).collect();
        for key in &keys {
            self.inherit(key, home);
        }
        self.out.events.push_back(Event::TakenOver { target, by: home, elements: keys.len() });
        self.strike_off(now, target);
    }

    /// RFC 5353 3.5.2: the target leaves the list of peers, unless it is heard here: then it would be back at once.
    fn strike_off(&mut self, now: Time, target: ServerId) {
        if !self.live_peers().contains(&target) {
            self.forget_peer(now, target);
        }
    }
}

/// Adoption.
impl Registrar {
    fn adopt(&mut self, now: Time, target: ServerId) {
        let elements = self.adopt_elements(now, target);
        self.out.counters.takeovers_completed += 1;
        self.out.events.push_back(Event::TakenOver { target, by: self.id, elements });
        self.strike_off(now, target);
    }

    fn adopt_elements(&mut self, now: Time, from: ServerId) -> usize {
        let keys: Vec<ElementKey> = self.handlespace.of_owner(from).collect();
        let elements = keys.len();
        for key in keys {
            self.adopt_element(now, key, from);
        }
        elements
    }

    pub(super) fn adopt_element(&mut self, now: Time, key: ElementKey, from: ServerId) {
        self.out.counters.elements_adopted += 1;
        self.handlespace.rehome(&key.0, key.1, self.id);
        let Some(entry) = self.handlespace.entry(&key.0, key.1) else { return };
        // How much of its life is over only its home knew.
        let expires = entry.element.life.duration().map(|life| now + life);
        let registered = self.is_registered_here(entry);
        let can_be_asked = entry.element.asap_transport.is_some();
        self.handlespace.note(&key.0, key.1, |note| *note.expires = expires);
        if registered {
            // It came here once and was lost to the target since; its link is still up.
            self.watch(now, key.clone());
            self.tell_changed(&key);
        } else {
            self.await_adopted(now, key, from, can_be_asked);
        }
    }

    /// RSPLIB's registrars may suggest (flag 0x01) that this one take an element of theirs over: it fits better, by their reckoning.
    /// It is done if the element can be asked. When it has acknowledged everybody is told; if it does not, it stays
    /// where it is.
    pub(super) fn on_suggested(&mut self, now: Time, from: ServerId, key: ElementKey) {
        let Some(entry) = self.handlespace.entry(&key.0, key.1) else { return };
        let sane = entry.element.home == Some(from)
            && entry.element.asap_transport.is_some()
            && self.standing() == Standing::Serving;
        if sane {
            self.handlespace.rehome(&key.0, key.1, self.id);
            self.out.counters.elements_adopted += 1;
            self.await_adopted(now, key, from, true);
        }
    }

    /// An element does not answer. One that a live registrar of RSPLIB has suggested is that one's still.
    pub(super) fn on_unreachable(&mut self, now: Time, key: &ElementKey) {
        let owner = self.liveness.adopted_of(key).filter(|owner| {
            let peer = self.peers.find(*owner).map(|known| &known.peer);
            peer.is_some_and(|peer| peer.dialect == Dialect::Rsplib && peer.state == PeerState::Alive)
        });
        match owner {
            Some(owner) => {
                self.forget_liveness(key);
                self.handlespace.rehome(&key.0, key.1, owner);
            }
            None => self.remove(now, key, Removal::Unreachable),
        }
    }

    /// After a start: elements that belonged to this registrar before are asked whether they still do.
    pub(super) fn adopt_own(&mut self, now: Time) {
        self.adopt_elements(now, self.id);
    }

    /// An adopted element has acknowledged on a link opened to it: it is an element like any other from now on, as if it
    /// had registered on this link.
    pub(super) fn on_adoption_acknowledged(&mut self, now: Time, link: LinkId, key: &ElementKey) {
        let Some(client) = self.clients.find_mut(link) else { return };
        client.elements.insert(key.clone());
        let registrant = Registrant {
            link: Some(link),
            identity: client.identity.clone(),
            addresses: client.addresses.clone(),
        };
        self.handlespace.note(&key.0, key.1, |note| *note.registrant = Some(registrant));
        self.out.counters.adoptions_acknowledged += 1;
        self.watch(now, key.clone());
        self.tell_changed(key);
    }

    /// This registrar itself was taken over, yet it lives. It keeps the elements that have a link here: had the other one
    /// reached them, they would have gone to it, and closed that link. Two that took each other over would else give up
    /// to each other what only they can reach.
    fn on_taken_over(&mut self, by: ServerId) {
        let keys: Vec<ElementKey> = self.handlespace.of_owner(self.id).collect();
        let mut elements = 0;
        for key in keys {
            let Some(entry) = self.handlespace.entry(&key.0, key.1) else { continue };
            if self.is_registered_here(entry) {
                self.tell_changed(&key);
                continue;
            }
            self.let_go(&key);
            self.inherit(&key, by);
            elements += 1;
        }
        self.out.events.push_back(Event::TakenOver { target: self.id, by, elements });
        self.tell_presence(false);
    }

    /// Its home gives an element up that has a link here on which it once registered. Says whether it is taken back: if
    /// it is dead, a keep-alive on that link shows it soon.
    pub(super) fn reclaim(&mut self, now: Time, key: &ElementKey) -> bool {
        let Some(entry) = self.handlespace.entry(&key.0, key.1) else { return false };
        let has_link = entry.registrant.as_ref().is_some_and(|registrant| registrant.link.is_some());
        if !has_link || entry.element.home == Some(self.id) {
            return false;
        }
        let expires = entry.element.life.duration().map(|life| now + life);
        self.handlespace.rehome(&key.0, key.1, self.id);
        self.handlespace.note(&key.0, key.1, |note| *note.expires = expires);
        self.out.counters.elements_reclaimed += 1;
        self.watch(now, key.clone());
        self.tell_changed(key);
        true
    }
}
