//! The start (RFC 5353 3.2): a mentor, its list of peers, its table, and then service.
//!
//! The mentor is the first registrar that answers, of those configured and those that heard this one announce itself; the
//! others are back-ups. With nobody to wait for, a registrar serves at once. When all that could be mentors are starting
//! themselves, the one of lowest identifier begins to serve, and the others learn from it. No start takes longer than
//! a bound: what is missing then, audits will bring.
//!
//! Endpoints that come meanwhile are accepted, and what they say is held back until there is an answer to it.

use super::peers::{PeerState, Standing};
use super::table::{Outcome, Purpose};
use super::{Event, Registrar, Wake};
use crate::machine::{LinkFailure, LinkId};
use crate::types::{ServerId, Time};
use crate::wire::{Dialect, EnrpMessage, ServerInformation};
use std::collections::BTreeSet;
use std::time::Duration;

/// How long a start may take without a table under way, in times of MAX-TIME-NO-RESPONSE.
const LONGEST_START: u32 = 10;
/// How long a configured registrar that neither answers nor refuses is waited for, in the same unit.
const LONGEST_SEARCH: u32 = 4;
/// Bytes of endpoints' messages held back.
const MOST_HELD_BACK: usize = 1 << 20;

/// How far the start has come.
#[derive(Debug)]
pub(super) struct Startup {
    stage: Stage,
    begun: Option<Time>,
    /// Registrars that could not help.
    unhelpful: BTreeSet<ServerId>,
    held_back: Vec<(LinkId, Vec<u8>)>,
    held_bytes: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Looking for a mentor.
    Seeking,
    /// The mentor has been asked for its list.
    Listing { mentor: ServerId, link: LinkId },
    /// The mentor's table is under way.
    Downloading { mentor: ServerId },
    /// Over.
    Done,
}

impl Startup {
    /// `alone`: there is nobody to look for.
    pub(super) fn new(alone: bool) -> Startup {
        let stage = if alone { Stage::Done } else { Stage::Seeking };
        Startup { stage, begun: None, unhelpful: BTreeSet::new(), held_back: Vec::new(), held_bytes: 0 }
    }

    pub(super) fn is_over(&self) -> bool {
        self.stage == Stage::Done
    }
}

impl Registrar {
    /// Something happened, or did not in time, while starting.
    pub(super) fn on_startup_timeout(&mut self, now: Time) {
        let no_response = self.config.max_time_no_response;
        let begun = *self.startup.begun.get_or_insert(now);
        let over = now.since(begun) >= no_response * LONGEST_START;
        match self.startup.stage {
            Stage::Done => {}
            Stage::Downloading { .. } => {}
            Stage::Listing { .. } | Stage::Seeking if over => self.serve(now, None),
            Stage::Listing { mentor, .. } => self.on_unhelpful(now, mentor),
            Stage::Seeking => {
                // Those that were starting may be ready now.
                self.startup.unhelpful.clear();
                self.seek(now);
            }
        }
    }

    /// Asks the next possible mentor, or serves if there is none.
    pub(super) fn seek(&mut self, now: Time) {
        if self.startup.stage != Stage::Seeking {
            return;
        }
        let begun = *self.startup.begun.get_or_insert(now);
        let no_response = self.config.max_time_no_response;
        let candidates: Vec<ServerId> = self.live_peers().into_iter().collect();
        let mentor = candidates.iter().find(|server| !self.startup.unhelpful.contains(server)).copied();
        if let Some(mentor) = mentor {
            self.ask_for_list(now, mentor);
            return;
        }
        let waited = now.since(begun);
        let (serve, look_again) = if candidates.is_empty() {
            let enough_heard = !self.announce_on || waited >= no_response;
            let nobody = self.links.all_failed() && enough_heard;
            (nobody || waited >= no_response * LONGEST_SEARCH, no_response)
        } else {
            // All are starting: one has to be first.
            (candidates.iter().all(|server| self.id < *server), no_response / 2)
        };
        if serve {
            self.serve(now, None);
        } else {
            // Whoever is heard meanwhile does not put it off.
            let at = now + look_again;
            if self.timers.deadline(&Wake::Startup).is_none_or(|set| at < set) {
                self.timers.set(Wake::Startup, at);
            }
        }
    }

    fn ask_for_list(&mut self, now: Time, mentor: ServerId) {
        let Some(link) = self.link_to(mentor) else {
            self.startup.unhelpful.insert(mentor);
            self.timers.set(Wake::Startup, now + self.config.max_time_no_response);
            return;
        };
        self.startup.stage = Stage::Listing { mentor, link };
        let header = self.header_for(Some(mentor));
        self.send_enrp(link, &EnrpMessage::ListRequest { header });
        self.timers.set(Wake::Startup, now + self.config.max_time_no_response);
    }

    pub(super) fn on_list_response(
        &mut self,
        now: Time,
        link: LinkId,
        from: ServerId,
        reject: bool,
        servers: Vec<ServerInformation>,
    ) {
        let starting = self.startup.stage == (Stage::Listing { mentor: from, link });
        let asked = self.peers.find_mut(from).is_some_and(|known| std::mem::take(&mut known.lists.asked));
        if !starting && !asked {
            self.out.reject("a list of peers that was not asked for");
            return;
        }
        if reject {
            if starting {
                self.on_unhelpful(now, from);
            }
            return;
        }
        let heard_from = self.links.up(link).map(|up| up.addresses.clone()).unwrap_or_default();
        for ServerInformation { server, transport } in servers {
            let Some(server) = server.filter(|server| *server != self.id) else { continue };
            // One that serves already need not watch who may be gone: it connects, and then knows.
            if !starting || self.name_peer(now, server) {
                self.learn_target(now, server, &transport, &heard_from);
            }
        }
        if starting {
            self.startup.stage = Stage::Downloading { mentor: from };
            self.timers.cancel(&Wake::Startup);
            if !self.download(now, link, from, Purpose::Start) {
                self.on_unhelpful(now, from);
            }
        }
    }

    pub(super) fn on_start_table(&mut self, now: Time, from: ServerId, outcome: Outcome) {
        match outcome {
            Outcome::Complete => self.serve(now, Some(from)),
            Outcome::Rejected | Outcome::Interrupted => self.on_unhelpful(now, from),
        }
    }

    pub(super) fn on_start_link_gone(&mut self, now: Time, gone: LinkId) {
        match self.startup.stage {
            Stage::Listing { mentor, link } if link == gone => self.on_unhelpful(now, mentor),
            // Perhaps it was the last that could have been a mentor's.
            Stage::Seeking => self.timers.set(Wake::Startup, now),
            Stage::Listing { .. } | Stage::Downloading { .. } | Stage::Done => {}
        }
    }

    /// The mentor did not help: the next.
    fn on_unhelpful(&mut self, now: Time, mentor: ServerId) {
        if self.startup.is_over() {
            return;
        }
        self.out.counters.mentors_lost += 1;
        self.startup.unhelpful.insert(mentor);
        self.startup.stage = Stage::Seeking;
        self.seek(now);
    }

    /// The start is over.
    fn serve(&mut self, now: Time, mentor: Option<ServerId>) {
        self.startup.stage = Stage::Done;
        self.startup.unhelpful.clear();
        self.timers.cancel(&Wake::Startup);
        if self.announce_on {
            self.timers.set(Wake::Announce, now);
        }
        // Those that have answered have not told yet what they own, nor heard what this registrar does.
        self.tell_presence(true);
        self.adopt_own(now);
        self.out.events.push_back(Event::Serving { mentor });
        self.startup.held_bytes = 0;
        for (link, bytes) in std::mem::take(&mut self.startup.held_back) {
            self.on_asap_bytes(now, link, &bytes);
        }
    }

    /// Holds an endpoint's message back until the start is over.
    pub(super) fn hold_back(&mut self, now: Time, link: LinkId, bytes: &[u8]) {
        if self.startup.held_bytes.saturating_add(bytes.len()) > MOST_HELD_BACK {
            self.on_client_down(now, link, LinkFailure::Congested);
            self.refuse_link(link);
            return;
        }
        self.startup.held_bytes += bytes.len();
        self.startup.held_back.push((link, bytes.to_vec()));
    }

    /// RFC 5353 3.2.2.2: all peers known, to one that starts.
    pub(super) fn on_list_request(&mut self, link: LinkId, from: ServerId) {
        let header = self.header_for(Some(from));
        let reject = self.standing() == Standing::Starting;
        let is_there = |state| match state {
            PeerState::Alive | PeerState::Suspected => true,
            PeerState::Named | PeerState::TakenOver => false,
        };
        let peers = self.peers.list().filter(|peer| !reject && peer.server != from && is_there(peer.state));
        let dialect = self.links.up(link).map_or(Dialect::Unknown, |up| up.dialect);
        let information = peers.filter_map(|peer| {
            let transport = peer.transport.clone().filter(|transport| dialect.reaches(transport))?;
            let transport = dialect.fitted_transport(transport);
            Some(ServerInformation { server: Some(peer.server), transport })
        });
        let servers: Vec<ServerInformation> = information.collect();
        let mut message = EnrpMessage::ListResponse { reject, header, servers };
        // So many addresses that one message does not hold them: those it does.
        while !self.send_enrp(link, &message)
            && let EnrpMessage::ListResponse { servers, .. } = &mut message
            && servers.pop().is_some()
        {}
    }

    /// How often this registrar is announced on the group of ENRP: more often while it looks for a mentor.
    pub(super) fn announce_peer(&mut self, now: Time) {
        let starting = self.standing() == Standing::Starting;
        self.announce_presence(starting);
        let interval = if starting {
            self.config.max_time_no_response / 3
        } else {
            (self.config.peer_heartbeat_cycle * 5).max(Duration::from_secs(1))
        };
        self.timers.set(Wake::AnnouncePeer, now + interval.max(Duration::from_millis(10)));
    }
}
