//! A registrar (ENRP server): keeps the handlespace, serves elements and users (RFC 5352), and talks to other
//! registrars (RFC 5353).
//!
//! * `clients`: the links to endpoints, and how many there may be;
//! * `registration`: the rules by which elements come and go (RFC 5352 3.1, 3.2);
//! * `resolution`: answers to users, and the changes told to those who asked for them (3.3, 2.2.5);
//! * `liveness`: keep-alives, probes, reports, and elements whose link is lost (3.4, 3.5);
//! * `announce`: being found (3.6);
//! * `links`: the links to other registrars, and where there may be one;
//! * `peers`: the other registrars, whether they are there, and saying that this one is (RFC 5353 3.4);
//! * `startup`: a mentor, its list and its table (RFC 5353 3.2);
//! * `table`: the handlespace from one registrar to another, in pages (RFC 5353 3.2.3);
//! * `audit`: whether what is held of a peer's elements is what it has (RFC 5353 3.6);
//! * `doubt`: a registrar that has reason to think that it is itself in trouble;
//! * `updates`: changes of elements told among registrars, and which of two claims holds (RFC 5353 3.3);
//! * `contests`: who takes over a registrar that is silent (RFC 5353 3.5.1);
//! * `takeover`: what becomes of its elements (3.5.2);
//! * `status`: what a monitor is told of all this.
//!
//! This file holds what they share: the links' inputs in, effects and events out, and the one way in which an element
//! is taken out.

mod announce;
mod audit;
mod clients;
pub mod contests;
mod doubt;
mod links;
mod liveness;
mod peers;
mod registration;
mod resolution;
mod startup;
mod status;
mod table;
mod takeover;
mod updates;

#[cfg(test)]
mod tests;

pub use crate::wire::Dialect;
pub use peers::{Peer, PeerState, Standing};

use crate::config::{DialectSetting, Limits, RegistrarConfig};
use crate::handlespace::{Entry, Handlespace};
use crate::machine::{
    Audience, Channel, Destination, Effect, Input, LinkFailure, LinkId, LinkKind, Machine, Protocol,
};
use crate::timer::Timers;
use crate::types::{ErrorCause, PeId, PoolHandle, Rng, ServerId, Time, TransportAddress, TransportKind};
use crate::wire::{self, AsapMessage, Decoded, Registration, Rejected};
use announce::Announcer;
use clients::Clients;
use contests::Contests;
use doubt::Doubt;
use links::Links;
use liveness::Liveness;
use peers::Peers;
use resolution::Subscriptions;
use startup::Startup;
use status::Telling;
use std::collections::VecDeque;
use std::time::Duration;
use table::Tables;

/// Why an element was taken out.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Removal {
    /// It deregistered.
    Deregistered,
    /// Its registration ran out.
    Expired,
    /// It did not acknowledge a keep-alive, or could not be reached with one.
    Unreachable,
    /// Too many reports (MAX-BAD-PE-REPORT).
    Reported,
}

/// What a registrar tells its owner, for its log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Event {
    /// An element was added.
    Added {
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PeId,
    },
    /// An element was taken out.
    Removed {
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PeId,
        /// Why.
        why: Removal,
    },
    /// A registration was refused.
    Refused {
        /// The pool.
        handle: PoolHandle,
        /// The element.
        element: PeId,
        /// For these causes.
        causes: Vec<ErrorCause>,
    },
    /// A message was not accepted.
    Rejected {
        /// What was wrong with it.
        why: &'static str,
    },
    /// A link to another registrar is up.
    PeerUp {
        /// Its identifier, once it has told it.
        server: ServerId,
    },
    /// The link to another registrar is lost, or could not be opened; it is tried again and not told again.
    PeerDown {
        /// Where it was expected.
        to: Destination,
        /// Why.
        why: LinkFailure,
    },
    /// The start is over.
    Serving {
        /// Whose handlespace was taken over; none: there was nobody.
        mentor: Option<ServerId>,
    },
    /// A registrar's own table has been compared with what was held of it.
    PeerAudited {
        /// Its identifier.
        server: ServerId,
        /// Elements that turned out to be gone.
        removed: usize,
    },
    /// Another registrar has this one's identifier, so this one took another.
    Renamed {
        /// The identifier before.
        from: ServerId,
        /// The identifier now.
        to: ServerId,
    },
    /// This registrar was asleep, or hears nobody: it accuses no one for a while.
    Doubting,
    /// It has heard a peer again, or the while is over.
    DoubtEnded,
    /// This registrar asks the others to let it take one over that is silent.
    TakeoverBegun {
        /// The silent one.
        target: ServerId,
    },
    /// It leaves that to another registrar.
    TakeoverYielded {
        /// The silent one.
        target: ServerId,
        /// To whom.
        to: ServerId,
    },
    /// The silent one has been heard after all.
    TakeoverAverted {
        /// That one.
        target: ServerId,
    },
    /// A registrar was taken over.
    TakenOver {
        /// Which; this registrar itself if others took it for dead.
        target: ServerId,
        /// The one that did it; this registrar, or another.
        by: ServerId,
        /// How many elements have another home for it.
        elements: usize,
    },
    /// A registrar has been silent too long, or its last link is lost: it is asked for a sign of life.
    PeerSuspected {
        /// Its identifier.
        server: ServerId,
    },
}

/// Counts since the start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[allow(missing_docs)]
pub struct Counters {
    pub registrations: u64,
    pub reregistrations: u64,
    pub refusals: u64,
    pub deregistrations: u64,
    /// Deregistrations refused, for somebody else's element.
    pub deregistrations_refused: u64,
    pub resolutions: u64,
    pub unknown_pools: u64,
    /// Subscriptions not accepted, for want of room.
    pub subscriptions_refused: u64,
    pub updates_pushed: u64,
    pub keep_alives_sent: u64,
    pub keep_alive_acks: u64,
    /// Keep-alives sent at once, after a report or the loss of a link; also among `keep_alives_sent`.
    pub probes: u64,
    pub reports: u64,
    pub expired: u64,
    pub unreachable: u64,
    /// Elements removed for MAX-BAD-PE-REPORT.
    pub reported: u64,
    pub announcements: u64,
    pub rejected_messages: u64,
    /// ASAP_ERROR and ENRP_ERROR received.
    pub errors_received: u64,
    pub links_refused: u64,
    /// ENRP messages received.
    pub enrp_messages: u64,
    /// Handle updates sent, one a peer.
    pub updates_told: u64,
    pub updates_heard: u64,
    /// Claims of peers about elements of which something newer was known.
    pub updates_stale: u64,
    /// Claims about elements that do not fit into their pools, or for which there is no room.
    pub updates_refused: u64,
    /// Elements of this registrar that came to have another home.
    pub elements_lost: u64,
    /// Audits of peers begun, because what is held of their elements is not what they have.
    pub audits: u64,
    /// Elements found gone by an audit.
    pub swept: u64,
    pub table_pages_sent: u64,
    pub tables_refused: u64,
    /// Elements in tables received.
    pub table_entries: u64,
    /// Mentors that did not help.
    pub mentors_lost: u64,
    /// Times this registrar had reason to think that it was itself in trouble.
    pub doubts: u64,
    /// Times another registrar was found to have this one's identifier.
    pub collisions: u64,
    /// Peers asked for a sign of life because they were silent, or their link was lost.
    pub suspicions: u64,
    /// Among them those that did not answer.
    pub accusations: u64,
    /// Takeovers this registrar asked for.
    pub takeovers_begun: u64,
    /// Those it left to another registrar.
    pub takeovers_yielded: u64,
    /// Those that came to nothing because the target was heard.
    pub takeovers_averted: u64,
    /// Those it won.
    pub takeovers_completed: u64,
    /// Elements taken over from other registrars.
    pub elements_adopted: u64,
    /// Among them those that acknowledged it.
    pub adoptions_acknowledged: u64,
    /// Elements another home gave up while they had a link to this registrar.
    pub elements_reclaimed: u64,
}

/// Who and where a registrar is, and whom it knows from the start.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its identifier.
    pub id: ServerId,
    /// Where it serves ASAP, as announced.
    pub asap: Vec<TransportAddress>,
    /// Where it serves ENRP, as told to its peers; the first is its server information.
    pub enrp: Vec<TransportAddress>,
    /// Whether it announces itself on the multicast groups.
    pub announce: bool,
    /// Other registrars by configuration: the first that answers is the mentor (RFC 5353 3.2.1).
    pub peers: Vec<Destination>,
}

/// The machine.
#[derive(Debug)]
pub struct Registrar {
    id: ServerId,
    /// Drawn at random when it started.
    incarnation: u64,
    config: RegistrarConfig,
    limits: Limits,
    asap: Vec<TransportAddress>,
    enrp: Vec<TransportAddress>,
    handlespace: Handlespace,
    /// The highest version of an element seen anywhere.
    latest_version: u64,
    clients: Clients,
    subscriptions: Subscriptions,
    liveness: Liveness,
    announcer: Announcer,
    links: Links,
    peers: Peers,
    startup: Startup,
    tables: Tables,
    doubt: Doubt,
    /// Whether it announces itself.
    announce_on: bool,
    contests: Contests,
    timers: Timers<Wake>,
    rng: Rng,
    out: Outbox,
    /// The number of the next link to be opened.
    next_link: u64,
    /// The monitor, if somebody wants to be told.
    telling: Option<Telling>,
    /// Set by [`Registrar::shutdown`].
    closed: bool,
}

impl Registrar {
    /// A registrar with an empty handlespace.
    pub fn new(config: RegistrarConfig, limits: Limits, seed: u64, setup: Setup) -> Registrar {
        let Setup { id, asap, enrp, announce, peers } = setup;
        // Whoever is waited for is asked again, several times; with no time between there would be no end to it.
        let max_time_no_response = config.max_time_no_response.max(Duration::from_millis(10));
        let config = RegistrarConfig { max_time_no_response, ..config };
        let mut timers = Timers::default();
        let startup = Startup::new(peers.is_empty() && !announce);
        if !startup.is_over() {
            timers.set(Wake::Startup, Time::ZERO);
        }
        if announce {
            timers.set(Wake::AnnouncePeer, Time::ZERO);
        }
        let links = Links::new(peers, &config);
        for target in links.targets() {
            timers.set(Wake::ConnectPeer(target), Time::ZERO);
        }
        Registrar {
            id,
            incarnation: Rng::new(!seed).next_u64().max(1),
            handlespace: Handlespace::new(limits.pools, limits.elements_per_pool, limits.elements)
                .digesting(wire::digest_element)
                .viewed_by_rsplib(|handle, element| Dialect::Rsplib.holds(handle, element)),
            latest_version: 0,
            clients: Clients::new(&limits),
            subscriptions: Subscriptions::default(),
            liveness: Liveness::new(config.keep_alives_per_second),
            announcer: Announcer::default(),
            links,
            peers: Peers::default(),
            startup,
            tables: Tables::default(),
            doubt: Doubt::default(),
            announce_on: announce,
            contests: Contests::new(id),
            timers,
            rng: Rng::new(seed),
            out: Outbox::default(),
            next_link: 0,
            telling: None,
            closed: false,
            config,
            limits,
            asap,
            enrp,
        }
    }
    /// Its identifier.
    pub fn id(&self) -> ServerId {
        self.id
    }
    /// The handlespace, to look at.
    pub fn handlespace(&self) -> &Handlespace {
        &self.handlespace
    }
    /// What it does at present.
    pub fn standing(&self) -> Standing {
        match (self.startup.is_over(), self.doubt.is_on()) {
            (false, _) => Standing::Starting,
            (true, true) => Standing::Doubting,
            (true, false) => Standing::Serving,
        }
    }
    /// Links to endpoints that are up.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }
    /// The other registrars known, in order of identifier.
    pub fn peers(&self) -> impl Iterator<Item = &Peer> {
        self.peers.list()
    }
    /// Counts since the start.
    pub fn counters(&self) -> &Counters {
        &self.out.counters
    }
    /// Closes every link in order, so that endpoints go elsewhere at once. The registrar does nothing from then
    /// on but turn away who comes; its handlespace stays to be looked at.
    pub fn shutdown(&mut self, now: Time) {
        if !self.closed {
            self.report_end(now, self.id);
        }
        self.closed = true;
        for link in self.clients.drain().into_iter().chain(self.links.drain()) {
            self.out.close(link, false);
        }
        self.timers = Timers::default();
        self.liveness = Liveness::new(self.config.keep_alives_per_second);
        self.subscriptions = Subscriptions::default();
        self.peers.clear();
        self.contests = Contests::new(self.id);
    }
}

impl Machine for Registrar {
    type Event = Event;

    fn handle(&mut self, now: Time, input: Input<'_>) {
        if self.closed {
            if let Input::Incoming { link, .. } = input {
                self.out.close(link, true);
            }
            return;
        }
        self.notice_sleep(now, self.poll_timeout());
        match input {
            Input::Incoming { link, protocol } => self.on_incoming(link, protocol),
            Input::LinkUp { link, kind, protocol: _, local, peer, identity } => {
                if self.links.has(link) {
                    self.on_peer_up(now, link, kind, local, peer);
                } else if self.clients.up(link, kind, peer, identity, self.dialect_of_link(kind)) {
                    self.on_probe_link_up(link);
                } else if self.clients.is_opening(link) {
                    self.clients.down(link);
                    self.refuse_link(link);
                }
            }
            Input::LinkDown { link, why } => {
                if self.links.has(link) {
                    self.on_peer_down(now, link, why);
                } else {
                    self.on_client_down(now, link, why);
                }
            }
            Input::Message { link, channel, bytes, complete } => {
                self.on_message(now, link, channel, bytes, complete);
            }
            Input::SendFailed { link, channel: _, message } => self.on_send_failed(now, link, &message),
            Input::Writable { .. } => {}
            Input::Announce { protocol: Protocol::Enrp, audience, from, bytes } => {
                self.on_peer_announcement(now, audience, from, bytes);
            }
            Input::Announce { protocol: _, audience: _, from: _, bytes } => self.on_announce(now, bytes),
            Input::Timeout => self.on_timeout(now),
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.out.effects.pop_front()
    }

    fn poll_event(&mut self) -> Option<Event> {
        self.out.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Time> {
        if self.closed {
            return None;
        }
        [self.timers.next(), self.liveness.next_timeout(), self.handlespace.next_expiry()]
            .into_iter()
            .flatten()
            .min()
    }
}

impl Registrar {
    fn on_incoming(&mut self, link: LinkId, protocol: Protocol) {
        let welcome = match protocol {
            Protocol::Asap => self.clients.open(link),
            Protocol::Enrp => self.links.accept(link),
            Protocol::Session | Protocol::Plain => false,
        };
        if !welcome {
            self.refuse_link(link);
        }
    }

    fn refuse_link(&mut self, link: LinkId) {
        self.out.counters.links_refused += 1;
        self.out.close(link, true);
    }

    fn on_client_down(&mut self, now: Time, link: LinkId, why: LinkFailure) {
        self.on_probe_link_down(now, link, why);
        if let Some(client) = self.clients.down(link) {
            self.subscriptions.forget_link(link, &client);
            self.on_registering_link_lost(now, client);
        }
    }

    fn on_message(&mut self, now: Time, link: LinkId, channel: Channel, bytes: &[u8], complete: bool) {
        match channel {
            Channel::Asap if complete && self.startup.is_over() => self.on_asap_bytes(now, link, bytes),
            Channel::Asap if complete => self.hold_back(now, link, bytes),
            Channel::Enrp if complete => self.on_enrp(now, link, bytes),
            Channel::Asap | Channel::Enrp | Channel::User(_) => self.out.reject("not a control message"),
        }
    }

    fn on_asap_bytes(&mut self, now: Time, link: LinkId, bytes: &[u8]) {
        let Some(client) = self.clients.find(link) else { return };
        let mut decoded = AsapMessage::decode(bytes, client.dialect);
        if let Ok(Decoded { message, .. }) = &decoded {
            let shown = client.dialect.after_asap(message, bytes);
            if shown != client.dialect {
                self.on_client_shown(now, link, shown);
                decoded = AsapMessage::decode(bytes, shown);
            }
        }
        match decoded {
            Ok(Decoded { message, report }) => {
                self.report_unrecognised(link, report);
                self.on_asap(now, link, message);
            }
            Err(Rejected { report, why }) => {
                self.out.reject(why);
                self.report_unrecognised(link, report);
            }
        }
    }

    /// What one is taken to speak with whom a link comes up.
    fn dialect_of_link(&self, kind: LinkKind) -> Dialect {
        Dialect::of_link(self.config.dialect, kind == LinkKind::Sctp)
    }

    /// An endpoint has shown what it speaks: also what the lives mean with which it has registered before.
    fn on_client_shown(&mut self, now: Time, link: LinkId, dialect: Dialect) {
        let Some(client) = self.clients.find_mut(link) else { return };
        client.dialect = dialect;
        for key in client.elements.clone() {
            self.settle_life(now, &key, dialect);
        }
    }

    fn on_asap(&mut self, now: Time, link: LinkId, message: AsapMessage) {
        match message {
            AsapMessage::Registration(Registration { handle, element }) => {
                self.on_registration(now, link, handle, element);
            }
            AsapMessage::Deregistration { handle, element } => {
                self.on_deregistration(now, link, handle, element)
            }
            AsapMessage::HandleResolution { subscribe, handle, items, capabilities } => {
                if capabilities.is_some()
                    && let Some(client) = self.clients.find_mut(link)
                {
                    client.ours = true;
                }
                self.on_handle_resolution(link, handle, items, subscribe);
            }
            AsapMessage::KeepAliveAck { handle, element } => {
                self.on_keep_alive_ack(now, link, (handle, element))
            }
            AsapMessage::EndpointUnreachable { handle, element } => {
                self.on_endpoint_unreachable(now, link, (handle, element));
            }
            AsapMessage::Error(_) => self.out.counters.errors_received += 1,
            AsapMessage::RegistrationResponse { .. }
            | AsapMessage::DeregistrationResponse { .. }
            | AsapMessage::HandleResolutionResponse { .. }
            | AsapMessage::KeepAlive(_)
            | AsapMessage::ServerAnnounce { .. } => self.out.reject("a message only a registrar sends"),
            AsapMessage::Cookie(_) | AsapMessage::CookieEcho(_) | AsapMessage::BusinessCard { .. } => {
                self.out.reject("a message for elements and users only");
            }
        }
    }

    /// Nothing is to be reported of an error, or answering it might never end: `wire` sees to that.
    fn report_unrecognised(&mut self, link: LinkId, report: Vec<ErrorCause>) {
        if !report.is_empty() {
            self.send(link, &AsapMessage::Error(report));
        }
    }

    fn on_announce(&mut self, now: Time, bytes: &[u8]) {
        // What else is said on the group, ENRP among it, is not for the ASAP side and no fault.
        if let Ok(Decoded { message: AsapMessage::ServerAnnounce { server: Some(server), .. }, .. }) =
            AsapMessage::decode(bytes, Dialect::Unknown)
            && server != self.id
        {
            self.announcer.on_heard(now, server);
        }
    }

    fn on_timeout(&mut self, now: Time) {
        while let Some(wake) = self.timers.pop_due(now) {
            match wake {
                Wake::Announce => self.announce(now),
                Wake::AnnouncePeer => self.announce_peer(now),
                Wake::Doubt => self.on_doubt_timeout(),
                Wake::Startup => self.on_startup_timeout(now),
                Wake::Page(link) => self.on_page_timeout(now, link),
                Wake::PushChanges => self.push_changes(now),
                Wake::Heartbeat => self.on_heartbeat(now),
                Wake::ConnectPeer(target) => self.connect_peer(now, target),
                Wake::Peer(server) => self.on_peer_timeout(now, server),
                Wake::Contest(target) => self.on_contest_timeout(now, target),
                Wake::Report => self.on_report_due(now),
            }
        }
        self.on_liveness_timeout(now);
        while let Some(key) = self.handlespace.expired(now) {
            self.remove(now, &key, Removal::Expired);
        }
    }

    fn announce(&mut self, now: Time) {
        // RSPLIB's programs take the source for the address, which is none that TCP could be had at.
        let to_rsplib =
            self.speaks_to_rsplib(&self.asap).then(|| (Audience::Rsplib, Dialect::Rsplib, Vec::new()));
        let to_all = (Audience::Standard, Dialect::Unknown, self.asap.clone());
        for (audience, dialect, transports) in std::iter::once(to_all).chain(to_rsplib) {
            let announcement = AsapMessage::ServerAnnounce { server: Some(self.id), transports };
            if let Ok(bytes) = announcement.encode(dialect) {
                self.out.effects.push_back(Effect::Announce { protocol: Protocol::Asap, audience, bytes });
                self.out.counters.announcements += 1;
            }
        }
        // At least 10 ms, whatever the configuration says: this goes to everybody.
        let interval =
            self.announcer.interval(now, self.config.t6_serverannounce).max(Duration::from_millis(10));
        self.timers.set(Wake::Announce, now + interval);
    }

    /// Whether what is said with these transports is said on RSPLIB's groups, too.
    fn speaks_to_rsplib(&self, transports: &[TransportAddress]) -> bool {
        self.config.dialect != DialectSetting::Rfc
            && transports.iter().any(|transport| transport.kind() == TransportKind::Sctp)
    }

    /// Takes an element out, and tells whom it concerns.
    fn remove(&mut self, now: Time, key: &ElementKey, why: Removal) {
        let (handle, element) = key;
        // RFC 5352 3.2 tells an element when its registration has run out. One of ours is also told that it was
        // taken for dead, so that it need not wait for its next re-registration to be found again.
        let is_ours = self
            .handlespace
            .entry(handle, *element)
            .is_some_and(|entry| entry.element.capabilities.is_some());
        let told = match why {
            Removal::Expired => true,
            Removal::Unreachable | Removal::Reported => is_ours,
            Removal::Deregistered => false,
        };
        if let Some(link) = self.link_to_element(key).filter(|_| told) {
            let (handle, element) = (handle.clone(), *element);
            self.send(link, &AsapMessage::DeregistrationResponse { handle, element, error: None });
        }
        let Some(entry) = self.take_out(now, key) else { return };
        self.tell_removed(handle, entry.element);
        let counters = &mut self.out.counters;
        match why {
            Removal::Deregistered => counters.deregistrations += 1,
            Removal::Expired => counters.expired += 1,
            Removal::Unreachable => counters.unreachable += 1,
            Removal::Reported => counters.reported += 1,
        }
        self.out.events.push_back(Event::Removed { handle: handle.clone(), element: *element, why });
    }

    /// The one way in which any element goes.
    fn take_out(&mut self, now: Time, key: &ElementKey) -> Option<Entry> {
        let (handle, element) = key;
        let entry = self.handlespace.remove(handle, *element)?;
        self.forget_liveness(key);
        self.forget_inherited(key, entry.element.home);
        if let Some(link) = entry.registrant.as_ref().and_then(|registrant| registrant.link)
            && let Some(client) = self.clients.find_mut(link)
        {
            client.elements.remove(key);
        }
        self.on_pool_changed(now, handle);
        Some(entry)
    }

    /// Sends a message to an endpoint; false if it cannot be said in one message or the link is gone.
    fn send(&mut self, link: LinkId, message: &AsapMessage) -> bool {
        let Some(client) = self.clients.find(link) else { return false };
        let Ok(bytes) = message.encode(client.dialect) else { return false };
        self.out.effects.push_back(Effect::Send { link, channel: Channel::Asap, bytes });
        true
    }

    fn next_link(&mut self) -> LinkId {
        self.next_link += 1;
        LinkId::outgoing(self.next_link)
    }
}

/// A pool element, by the names it has in every message.
type ElementKey = (PoolHandle, PeId);

/// What the registrar wakes up for, beside its elements (`liveness`, `handlespace`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Wake {
    Announce,
    /// On the group of ENRP.
    AnnouncePeer,
    Startup,
    /// Doubt has lasted long enough.
    Doubt,
    /// A page of a table has not come.
    Page(LinkId),
    PushChanges,
    Heartbeat,
    /// To where a registrar may be (`links`).
    ConnectPeer(u32),
    /// A peer is silent, or has not answered.
    Peer(ServerId),
    /// A takeover of this registrar is under way.
    Contest(ServerId),
    /// A monitor is to be told.
    Report,
}

/// What is to be done and told, until it is asked for.
#[derive(Debug, Default)]
struct Outbox {
    effects: VecDeque<Effect>,
    events: VecDeque<Event>,
    counters: Counters,
}

impl Outbox {
    fn close(&mut self, link: LinkId, abort: bool) {
        self.effects.push_back(Effect::Close { link, abort });
    }

    fn reject(&mut self, why: &'static str) {
        self.counters.rejected_messages += 1;
        self.events.push_back(Event::Rejected { why });
    }
}
