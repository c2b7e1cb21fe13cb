//! The other registrars (RFC 5353 3.4): who they are, whether they are there, and saying that this one is.
//!
//! Every heartbeat each peer gets an ENRP_PRESENCE. A peer that has not been heard for longer than its patience is asked
//! for one; one that does not answer is accused, and `takeover` does the rest. The patience for a peer follows from how often
//! it says it is there, or has been heard, so that a slow peer is not accused by a fast one. A lost link shortens all
//! this to the time an answer may take. Who is heard directly is alive, whoever says otherwise.
//!
//! DEPARTS RFC 5353 3.4.3: an announcement on the multicast group is no sign of life. Anybody can send one, and a dead peer
//! must not live on by them.

use super::audit::Audit;
use super::contests::Order;
use super::links::preferred;
use super::{ElementKey, Event, Registrar, Wake};
use crate::handlespace::View;
use crate::machine::{Audience, Channel, Effect, LinkId, Protocol};
use crate::types::{
    Capabilities, CauseCode, ErrorCause, PeChecksum, PoolElement, ServerId, Time, TransportAddress,
};
use crate::wire::{
    Decoded, Dialect, EnrpHeader, EnrpMessage, Introduction, Rejected, ServerInformation, UpdateAction,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// Peers remembered. Far more registrars than one operational scope has.
const MAX_PEERS: usize = 256;
/// MAX-TIME-LAST-HEARD and MAX-TIME-NO-RESPONSE of RFC 5353 4.2, for peers that are not ours.
const RFC_LAST_HEARD: Duration = Duration::from_secs(61);
pub(super) const RFC_NO_RESPONSE: Duration = Duration::from_secs(5);
/// RSPLIB's registrars expect a presence every 2.4 s, and after 5 s without take over, whatever profile this one has.
const RSPLIB_HEARTBEAT: Duration = Duration::from_secs(2);
/// How long one may be silent: 2.5 of its intervals at their longest.
const RSPLIB_LAST_HEARD: Duration = Duration::from_secs(7);
/// The longest interval between heartbeats that is believed.
const LONGEST_HEARTBEAT: Duration = Duration::from_secs(60);

/// Another registrar.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its identifier.
    pub server: ServerId,
    /// How it is thought to be.
    pub state: PeerState,
    /// When it was last heard; when it was first heard of, if never.
    pub last_heard: Time,
    /// Where it says it serves ENRP.
    pub transport: Option<TransportAddress>,
    /// Whether it is one of ours: it has shown the capability parameter.
    pub ours: bool,
    /// How it speaks.
    pub dialect: Dialect,
    /// Whether the checksum it last told is the one over what is held here as its elements; none: not told.
    pub checksum_agrees: Option<bool>,
    /// The same for the digest, which only ours tell.
    pub digest_agrees: Option<bool>,
}

/// How another registrar is thought to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PeerState {
    /// Heard of, but not yet by itself.
    Named,
    /// Heard within its time.
    Alive,
    /// Silent too long: asked for a sign of life (RFC 5353 3.5).
    Suspected,
    /// Silent still: its elements are being taken over, by this registrar or another.
    TakenOver,
}

/// What a registrar does at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// It looks for a mentor, or takes in the mentor's handlespace (RFC 5353 3.2); it serves nobody yet.
    Starting,
    /// It serves.
    Serving,
    /// It serves, but accuses nobody: it has reason to think that it is itself cut off or was asleep.
    Doubting,
}

/// How a peer is told of elements.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Addressee {
    /// One of ours: with versions and capabilities.
    Ours,
    /// Another, in its dialect.
    Other(Dialect),
}

impl Addressee {
    pub(super) fn is_ours(self) -> bool {
        self == Addressee::Ours
    }

    pub(super) fn dialect(self) -> Dialect {
        match self {
            Addressee::Ours => Dialect::Rfc,
            Addressee::Other(dialect) => dialect,
        }
    }

    /// What it can be told of. One that has shown nothing may be RSPLIB's.
    pub(super) fn view(self) -> View {
        match self.dialect() {
            Dialect::Rfc => View::Full,
            Dialect::Unknown | Dialect::Rsplib => View::Rsplib,
        }
    }
}

/// The list of peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    known: BTreeMap<ServerId, Known>,
    /// The others have been told that one of RSPLIB's is among them.
    hears_rsplib: bool,
}

/// A peer with what only this module needs to know.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) peer: Peer,
    /// Links that are up with it at the other end.
    pub(super) links: BTreeSet<LinkId>,
    /// There is none yet, or it has ended the last of them, or its host has, and it has not been heard since.
    lost: bool,
    incarnation: u64,
    /// It takes a registrar of RSPLIB for alive, by its own hearing.
    hears_rsplib: bool,
    pub(super) audit: Audit,
    pub(super) lists: ListsCompared,
    /// How often it says that it says it is there; zero: it does not say.
    heartbeat: Duration,
    /// When its last presence came, and the longest time between two, slowly forgotten.
    last_presence: Option<Time>,
    longest_gap: Duration,
    /// Whether two presences have been heard, so that `longest_gap` means something.
    gauged: bool,
}

/// Whether a peer takes the same registrars for alive.
#[derive(Debug, Default)]
pub(super) struct ListsCompared {
    /// Presences in a row that did not agree.
    disagreements: u32,
    not_before: Time,
    /// Since its list was last asked for.
    pause: Duration,
    /// It has been asked for its list, and has not answered yet.
    pub(super) asked: bool,
}

impl Known {
    fn new(now: Time, server: ServerId) -> Known {
        Known {
            peer: Peer {
                server,
                state: PeerState::Named,
                last_heard: now,
                transport: None,
                ours: false,
                dialect: Dialect::Unknown,
                checksum_agrees: None,
                digest_agrees: None,
            },
            links: BTreeSet::new(),
            lost: true,
            incarnation: 0,
            hears_rsplib: false,
            audit: Audit::default(),
            lists: ListsCompared::default(),
            heartbeat: Duration::ZERO,
            last_presence: None,
            longest_gap: Duration::ZERO,
            gauged: false,
        }
    }

    pub(super) fn addressee(&self) -> Addressee {
        if self.peer.ours { Addressee::Ours } else { Addressee::Other(self.peer.dialect) }
    }

    /// It is alive, for all that is known.
    fn is_in_scope(&self) -> bool {
        match self.peer.state {
            PeerState::Alive | PeerState::Suspected => true,
            PeerState::Named | PeerState::TakenOver => false,
        }
    }

    fn on_presence(&mut self, now: Time, introduction: Option<&Introduction>) {
        if let Some(told) = introduction {
            self.peer.ours = true;
            self.hears_rsplib = told.capabilities.contains(Capabilities::HEARS_RSPLIB);
            self.heartbeat = told.heartbeat.min(LONGEST_HEARTBEAT);
            self.incarnation = told.incarnation;
        }
        if let Some(before) = self.last_presence.replace(now) {
            // A pause of its own must not make a peer of ours trusted for long: it has said how often it will be heard.
            let most = if self.heartbeat.is_zero() { LONGEST_HEARTBEAT } else { self.heartbeat * 4 };
            self.longest_gap = now.since(before).min(most).max(self.longest_gap / 8 * 7);
            self.gauged = true;
        }
    }
}

impl Peers {
    pub(super) fn list(&self) -> impl Iterator<Item = &Peer> {
        self.known.values().map(|known| &known.peer)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (ServerId, &Known)> {
        self.known.iter().map(|(server, known)| (*server, known))
    }

    pub(super) fn find(&self, server: ServerId) -> Option<&Known> {
        self.known.get(&server)
    }

    pub(super) fn find_mut(&mut self, server: ServerId) -> Option<&mut Known> {
        self.known.get_mut(&server)
    }

    pub(super) fn state(&self, server: ServerId) -> Option<PeerState> {
        self.known.get(&server).map(|known| known.peer.state)
    }

    pub(super) fn clear(&mut self) {
        self.known.clear();
    }
}

/// What other parts, `takeover` first of all, need to know of peers and to do with them.
impl Registrar {
    /// The peers that are alive.
    pub(super) fn live_peers(&self) -> BTreeSet<ServerId> {
        let alive = self.peers.list().filter(|peer| peer.state == PeerState::Alive);
        alive.map(|peer| peer.server).collect()
    }

    /// The two identifiers a message begins with.
    pub(super) fn header_for(&self, receiver: Option<ServerId>) -> EnrpHeader {
        EnrpHeader { sender: Some(self.id), receiver }
    }

    /// Sends a message to a peer; false if there is no link to it, or the message is too long.
    pub(super) fn send_to(&mut self, server: ServerId, message: EnrpMessage) -> bool {
        let Some(link) = self.link_to(server) else { return false };
        self.send_enrp(link, &message)
    }

    /// One link to each peer that has any, and how it is told of elements.
    pub(super) fn links_to_peers(&self) -> Vec<(LinkId, Addressee)> {
        let link = |(server, known): (ServerId, &Known)| {
            Some((preferred(self.id, server, &known.links)?, known.addressee()))
        };
        self.peers.iter().filter_map(link).collect()
    }

    /// Whether a registrar of RSPLIB is alive, as this one hears itself.
    pub(super) fn hears_rsplib(&self) -> bool {
        self.peers.iter().any(|(_, known)| known.peer.dialect == Dialect::Rsplib && known.is_in_scope())
    }

    /// Which of two registrars goes on when both want to take over a third. Of what others say counts only what they hear
    /// themselves, or it would keep itself up.
    pub(super) fn order(&self) -> Order {
        let live = self.peers.iter().map(|(_, known)| known).filter(|known| known.is_in_scope());
        Order::of_scope(live.map(|known| known.hears_rsplib || known.peer.dialect == Dialect::Rsplib))
    }

    /// Whether it hears a registrar of RSPLIB has changed, and the others must know before anything else is said.
    pub(super) fn review_hearing(&mut self) {
        let hears = self.hears_rsplib();
        if hears != std::mem::replace(&mut self.peers.hears_rsplib, hears) {
            self.tell_presence(false);
        }
    }

    /// A peer that was about to be taken over has its time to answer once more.
    pub(super) fn suspect_again(&mut self, server: ServerId) {
        if let Some(known) = self.peers.find_mut(server) {
            known.peer.state = PeerState::Suspected;
        }
    }

    /// Somebody takes this peer over: it is not watched meanwhile (RFC 5353 3.5.1, "not active").
    pub(super) fn stop_watching(&mut self, server: ServerId) {
        if let Some(known) = self.peers.find_mut(server) {
            known.peer.state = PeerState::TakenOver;
            self.timers.cancel(&Wake::Peer(server));
        }
    }

    /// Strikes a peer off the list. If it is heard again it is a new one.
    pub(super) fn forget_peer(&mut self, now: Time, server: ServerId) {
        if self.peers.known.remove(&server).is_some() {
            self.timers.cancel(&Wake::Peer(server));
            self.on_peer_gone(now, server);
        }
    }

    /// A peer is named by another, by its elements, or by itself; false if there are too many.
    pub(super) fn name_peer(&mut self, now: Time, server: ServerId) -> bool {
        if server == self.id {
            return false;
        }
        if self.peers.find(server).is_some() {
            return true;
        }
        if self.peers.known.len() >= MAX_PEERS {
            let spare = |(_, known): &(ServerId, &Known)| {
                known.links.is_empty() && self.handlespace.count(Some(known.peer.server)) == 0
            };
            let quietest = self.peers.iter().filter(spare).min_by_key(|(_, known)| known.peer.last_heard);
            let Some((quietest, _)) = quietest else { return false };
            self.forget_peer(now, quietest);
        }
        self.peers.known.insert(server, Known::new(now, server));
        self.watch_peer(now, server);
        true
    }
}

/// Saying that this registrar is there, and hearing that others are.
impl Registrar {
    /// A link is up: says who this is, and asks who that is.
    pub(super) fn introduce(&mut self, now: Time, link: LinkId) {
        self.send_presence(link, true);
        let next = now + self.heartbeat_interval();
        if self.timers.deadline(&Wake::Heartbeat).is_none_or(|at| at > next) {
            self.timers.set(Wake::Heartbeat, next);
        }
    }

    fn heartbeat_interval(&self) -> Duration {
        let longest = if self.links.may_reach_rsplib() { RSPLIB_HEARTBEAT } else { Duration::MAX };
        self.config.peer_heartbeat_cycle.min(longest).max(Duration::from_millis(10))
    }

    pub(super) fn on_heartbeat(&mut self, now: Time) {
        let mut links: Vec<LinkId> = self.links_to_peers().into_iter().map(|(link, _)| link).collect();
        // A link on which nothing is sent would not be noticed when it is dead, and its target not tried again.
        links.extend(self.links.strangers(|server| self.peers.find(server).is_some()));
        for link in links {
            self.send_presence(link, false);
        }
        if !self.links.is_empty() {
            self.timers.set(Wake::Heartbeat, now + self.heartbeat_interval());
        }
    }

    /// Whether this registrar's own elements can be told: not while it is only finding out which they are.
    fn is_settled(&self) -> bool {
        self.standing() != Standing::Starting
    }

    fn presence(&self, reply_required: bool, link: Option<LinkId>) -> EnrpMessage {
        let up = link.and_then(|link| self.links.up(link));
        let peer = up.and_then(|up| self.peers.find(up.peer?));
        let addressee = match (peer, up) {
            (Some(known), _) => known.addressee(),
            (None, Some(up)) => Addressee::Other(up.dialect),
            (None, None) => Addressee::Other(Dialect::Unknown),
        };
        let may_be_rsplib = addressee.view() == View::Rsplib;
        let of_link = up.and_then(|up| up.own.as_ref());
        // RSPLIB accepts a presence only from where it says that its sender is: from the addresses of the association.
        let own = if may_be_rsplib { of_link.or(self.enrp.first()) } else { self.enrp.first().or(of_link) };
        let own = own.cloned().map(|own| match may_be_rsplib {
            true => Dialect::Rsplib.fitted_transport(own),
            false => own,
        });
        let settled = self.is_settled();
        let hears_rsplib = self.hears_rsplib();
        EnrpMessage::Presence {
            reply_required,
            header: self.header_for(up.and_then(|up| up.peer)),
            // DEPARTS RFC 5353 3.6.1: none while starting. What the elements are that this registrar owned before it
            // started again it learns from its mentor; until then its peers must not take them for gone. But RSPLIB hears no
            // presence without; ours mind the digest.
            checksum: (settled || may_be_rsplib)
                .then(|| self.handlespace.checksum(self.id, addressee.view())),
            introduction: Some(Introduction {
                capabilities: if hears_rsplib { Capabilities::HEARS_RSPLIB } else { Capabilities::default() },
                heartbeat: self.config.peer_heartbeat_cycle,
                incarnation: self.incarnation,
                registrars: self.registrars_known(),
                digest: settled.then(|| self.handlespace.digest(self.id)),
            }),
            server: own.map(|transport| ServerInformation { server: Some(self.id), transport }),
        }
    }

    /// Says on the group of ENRP that this registrar is there, if it can say where.
    pub(super) fn announce_presence(&mut self, reply_required: bool) {
        let message = self.presence(reply_required, None);
        if !self.enrp.is_empty()
            && let Ok(bytes) = message.encode(Dialect::Unknown)
        {
            self.push_presence(Audience::Standard, bytes);
        }
        // RSPLIB reads the port in the server information, and takes the source for the address. Without a checksum it would not
        // take it for a presence.
        if let EnrpMessage::Presence { checksum: Some(_), server: Some(own), .. } = &message
            && self.speaks_to_rsplib(std::slice::from_ref(&own.transport))
            && let Ok(bytes) = message.encode(Dialect::Rsplib)
        {
            self.push_presence(Audience::Rsplib, bytes);
        }
    }

    fn push_presence(&mut self, audience: Audience, bytes: Vec<u8>) {
        self.out.effects.push_back(Effect::Announce { protocol: Protocol::Enrp, audience, bytes });
    }

    pub(super) fn send_presence(&mut self, link: LinkId, reply_required: bool) {
        let message = self.presence(reply_required, Some(link));
        self.send_enrp(link, &message);
    }

    /// Says to every peer that this registrar is there, and how it stands.
    pub(super) fn tell_presence(&mut self, reply_required: bool) {
        for (link, _) in self.links_to_peers() {
            self.send_presence(link, reply_required);
        }
    }

    pub(super) fn on_enrp(&mut self, now: Time, link: LinkId, bytes: &[u8]) {
        if self.links.up(link).is_none() {
            self.out.reject("an ENRP message from an endpoint");
            return;
        }
        self.out.counters.enrp_messages += 1;
        match self.decode_enrp(now, link, bytes) {
            Ok(Decoded { message, report }) => {
                self.report_to_peer(link, report);
                self.on_enrp_message(now, link, message);
            }
            Err(Rejected { report, why }) => {
                self.out.reject(why);
                self.report_to_peer(link, report);
            }
        }
    }

    /// Decodes a message in the dialect of its sender, which may show only by it.
    fn decode_enrp(
        &mut self,
        now: Time,
        link: LinkId,
        bytes: &[u8],
    ) -> Result<Decoded<EnrpMessage>, Rejected> {
        let Some(up) = self.links.up(link) else { return EnrpMessage::decode(bytes, Dialect::Unknown) };
        let decoded = EnrpMessage::decode(bytes, up.dialect);
        let Ok(Decoded { message, .. }) = &decoded else { return decoded };
        let mut shown = up.dialect.after_enrp(message, bytes, up.port.unwrap_or_default(), &up.addresses);
        let known = message.header().sender.and_then(|sender| self.peers.find(sender));
        if let Some(known) = known.filter(|_| shown == Dialect::Unknown) {
            // From an earlier link.
            shown = known.peer.dialect;
        }
        if shown == up.dialect {
            return decoded;
        }
        let peer = up.peer;
        if let Some(up) = self.links.up_mut(link) {
            up.dialect = shown;
        }
        if let Some(peer) = peer {
            self.on_peer_shown(now, peer, shown);
        }
        EnrpMessage::decode(bytes, shown)
    }

    /// A peer has shown how it speaks: also what the lives mean that it has told before.
    fn on_peer_shown(&mut self, now: Time, server: ServerId, dialect: Dialect) {
        let Some(known) = self.peers.find_mut(server) else { return };
        if std::mem::replace(&mut known.peer.dialect, dialect) != Dialect::Unknown {
            return;
        }
        for (handle, id) in self.handlespace.of_owner(server).collect::<Vec<_>>() {
            let Some(entry) = self.handlespace.entry(&handle, id) else { continue };
            let life = dialect.settle_life(entry.element.life);
            if life != entry.element.life {
                let (element, version) = (PoolElement { life, ..entry.element.clone() }, entry.version);
                let settled = self.handlespace.learn(&handle, element, version);
                if settled.is_ok() {
                    self.on_pool_changed(now, &handle);
                }
            }
        }
    }

    fn on_enrp_message(&mut self, now: Time, link: LinkId, message: EnrpMessage) {
        let header = message.header();
        let Some(from) = header.sender else {
            self.out.reject("an ENRP message without sender");
            return;
        };
        let speaks_rsplib = self.links.up(link).is_some_and(|up| up.dialect == Dialect::Rsplib);
        if from == self.id
            && speaks_rsplib
            && let EnrpMessage::Error { .. } = message
        {
            // RSPLIB gives an error the identifiers of the message it is about.
            self.out.counters.errors_received += 1;
            return;
        }
        if from == self.id {
            self.on_namesake(now, link, &message);
            return;
        }
        let introduced = matches!(message, EnrpMessage::Presence { introduction: Some(_), .. });
        if self.is_impostor(now, link, from, &message) || !self.on_heard(now, link, from, introduced) {
            return;
        }
        // RSPLIB does not look at the receiver, nor always say the right one.
        if !speaks_rsplib && header.receiver.is_some_and(|receiver| receiver != self.id) {
            self.out.reject("an ENRP message for another registrar");
            return;
        }
        match message {
            EnrpMessage::Presence { reply_required, header: _, checksum, introduction, server } => {
                let transport = server.map(|information| information.transport);
                self.on_presence(now, link, from, checksum, introduction, transport);
                if reply_required {
                    self.send_presence(link, false);
                }
            }
            EnrpMessage::HandleUpdate { takeover_suggested, header: _, action, handle, element } => {
                let key: ElementKey = (handle.clone(), element.element.id);
                match action {
                    UpdateAction::AddPe => {
                        self.on_add(now, from, &handle, element);
                        if takeover_suggested && speaks_rsplib {
                            self.on_suggested(now, from, key);
                        }
                    }
                    UpdateAction::DelPe => self.on_del(now, from, &handle, element),
                }
            }
            EnrpMessage::InitTakeover { header: _, target } => {
                if let Some(target) = target {
                    self.on_init_takeover(now, from, target);
                }
            }
            EnrpMessage::InitTakeoverAck { header: _, target } => {
                if let Some(target) = target {
                    self.on_init_takeover_ack(now, from, target);
                }
            }
            EnrpMessage::TakeoverServer { header: _, target } => {
                if let Some(target) = target {
                    self.on_takeover_server(now, from, target);
                }
            }
            EnrpMessage::HandleTableRequest { owned_only, header: _ } => {
                self.on_table_request(now, link, from, owned_only);
            }
            EnrpMessage::HandleTableResponse { more, reject, header: _, pools } => {
                self.on_table_response(now, link, from, (more, reject), pools);
            }
            EnrpMessage::ListRequest { header: _ } => self.on_list_request(link, from),
            EnrpMessage::ListResponse { reject, header: _, servers } => {
                self.on_list_response(now, link, from, reject, servers);
            }
            EnrpMessage::Error { header: _, causes } => {
                self.out.counters.errors_received += 1;
                if causes.iter().any(|cause| cause.code == CauseCode::NonUniquePeId) {
                    self.rename(now);
                }
            }
        }
    }

    /// Every message of a peer is a sign of its life, and this one may show that it is one of ours: before anything is decided
    /// about takeovers, in which others need not be waited for. False if there are too many peers.
    fn on_heard(&mut self, now: Time, link: LinkId, from: ServerId, introduced: bool) -> bool {
        let Some((before, incarnation)) = self.links.up(link).map(|up| (up.peer, up.incarnation)) else {
            return false;
        };
        if before != Some(from)
            && let Some(renamed) = before
        {
            self.on_renamed(now, link, renamed);
        }
        let is_new = self.peers.find(from).is_none();
        if !self.name_peer(now, from) {
            self.out.counters.links_refused += 1;
            self.break_off(now, link);
            return false;
        }
        self.end_doubt();
        let Some(known) = self.peers.find_mut(from) else { return false };
        known.peer.last_heard = now;
        known.lost = false;
        known.peer.ours |= introduced;
        let state = std::mem::replace(&mut known.peer.state, PeerState::Alive);
        if let Some(up) = self.links.up(link) {
            known.peer.dialect = up.dialect;
        }
        if known.links.insert(link) || before != Some(from) {
            // What was measured on other links says nothing about how often it is heard now.
            known.last_presence = None;
            // The end of a link that has shown to be one of ours is that under another identifier, too.
            known.peer.ours |= incarnation != 0;
            self.links.identify(link, from);
            self.out.events.push_back(Event::PeerUp { server: from });
            // RFC 5353 3.4.1. On a link that has just come up it has been asked already.
            if is_new && before.is_some() {
                self.send_presence(link, true);
            }
        }
        match state {
            PeerState::Alive => {}
            PeerState::Named | PeerState::Suspected | PeerState::TakenOver => self.watch_peer(now, from),
        }
        // Also of one that was alive for this registrar all along: another may doubt it.
        self.on_target_alive(now, from);
        true
    }

    /// The other end of a link has another identifier than before. If it has no other link there is nobody any more who
    /// goes by the old one. Elements that still do are about to be told anew; those that are not have lost their home.
    fn on_renamed(&mut self, now: Time, link: LinkId, before: ServerId) {
        let Some(known) = self.peers.find_mut(before) else { return };
        known.links.remove(&link);
        if !known.links.is_empty() {
            return;
        }
        if self.handlespace.count(Some(before)) == 0 {
            self.forget_peer(now, before);
        } else {
            self.on_links_lost(now, before);
        }
    }

    fn on_presence(
        &mut self,
        now: Time,
        link: LinkId,
        from: ServerId,
        checksum: Option<PeChecksum>,
        introduction: Option<Introduction>,
        transport: Option<TransportAddress>,
    ) {
        let Some(known) = self.peers.find_mut(from) else { return };
        known.on_presence(now, introduction.as_ref());
        if let (Some(up), Some(told)) = (self.links.up_mut(link), &introduction) {
            up.incarnation = told.incarnation;
        }
        if let Some(transport) = transport {
            let addresses = self.links.up(link).map(|up| up.addresses.clone()).unwrap_or_default();
            self.learn_target(now, from, &transport, &addresses);
            if let Some(known) = self.peers.find_mut(from) {
                known.peer.transport = Some(transport);
            }
        }
        // Now it is known how often it will be heard.
        self.watch_peer(now, from);
        if let Some(told) = &introduction {
            self.compare_lists(now, link, from, told.registrars);
        }
        // One of ours that is starting tells a checksum only for the sake of RSPLIB.
        let checksum = checksum.filter(|_| introduction.is_none_or(|told| told.digest.is_some()));
        let digest = introduction.and_then(|told| told.digest);
        self.compare(now, link, from, checksum, digest);
        self.review_order(now);
        self.seek(now);
    }

    /// Which registrars this one takes for alive, itself among them, as one number.
    fn registrars_known(&self) -> u32 {
        let mix = |server: ServerId| {
            let hash = server.value().wrapping_mul(0x9e37_79b1);
            hash ^ (hash >> 15)
        };
        let alive = self.peers.list().filter(|peer| peer.state == PeerState::Alive).map(|peer| peer.server);
        alive.chain([self.id]).map(mix).fold(0, u32::wrapping_add)
    }

    /// RFC 5353 has a list of peers fetched at the start only. Two that start at the same time with one mentor would
    /// never learn of each other: so a peer of ours that knows others than this registrar does is asked for its list.
    fn compare_lists(&mut self, now: Time, link: LinkId, from: ServerId, theirs: u32) {
        let differs = theirs != 0 && theirs != self.registrars_known();
        let settled = self.is_settled();
        let cycle = self.config.peer_heartbeat_cycle;
        let Some(known) = self.peers.find_mut(from) else { return };
        if !differs {
            known.lists = ListsCompared::default();
            return;
        }
        known.lists.disagreements = known.lists.disagreements.saturating_add(1);
        if settled && known.lists.disagreements >= 2 && now >= known.lists.not_before {
            let pause = (known.lists.pause * 2).clamp(cycle * 2, cycle * 50);
            known.lists = ListsCompared { disagreements: 0, not_before: now + pause, pause, asked: true };
            let header = self.header_for(Some(from));
            self.send_enrp(link, &EnrpMessage::ListRequest { header });
        }
    }

    /// A message with this registrar's own identifier: its own, on a link to itself, or another's.
    fn on_namesake(&mut self, now: Time, link: LinkId, message: &EnrpMessage) {
        let EnrpMessage::Presence { introduction, .. } = message else { return };
        let theirs = introduction.map_or(0, |told| told.incarnation);
        let they_serve = introduction.is_none_or(|told| told.digest.is_some());
        if theirs == self.incarnation {
            // Told by the end that opened the link: the other would leave it to be opened again.
            if !link.is_incoming() {
                self.links.forget_target(link);
                self.break_off(now, link);
            }
        } else if self.standing() == Standing::Starting || they_serve && self.incarnation > theirs {
            self.rename(now);
        }
    }

    /// Whether the sender goes by the identifier of another registrar that is there: then it is told. Of two who never
    /// speak with each other this is how they learn of it. One that has started again is no impostor: its old
    /// links are silent.
    fn is_impostor(&mut self, now: Time, link: LinkId, from: ServerId, message: &EnrpMessage) -> bool {
        let EnrpMessage::Presence { introduction: Some(told), .. } = message else { return false };
        let Some(known) = self.peers.find(from) else { return false };
        let recently = known.heartbeat * 2;
        let differs =
            |other: &&LinkId| self.links.up(**other).is_some_and(|up| up.incarnation != told.incarnation);
        if known.incarnation == told.incarnation
            || known.incarnation == 0
            || now.since(known.peer.last_heard) > recently
            || known.links.iter().filter(|other| **other != link).find(differs).is_none()
        {
            return false;
        }
        let causes = vec![ErrorCause::bare(CauseCode::NonUniquePeId)];
        let header = self.header_for(Some(from));
        self.send_enrp(link, &EnrpMessage::Error { header, causes });
        true
    }

    /// Another registrar has this one's identifier: this one takes another, and its elements with it.
    fn rename(&mut self, now: Time) {
        let from = self.id;
        let is_free = |id: &ServerId| *id != from && self.peers.find(*id).is_none();
        let mut drawn = std::iter::repeat_with(|| ServerId::new(self.rng.next_u64() as u32)).flatten();
        let Some(to) = drawn.find(is_free) else { return };
        self.reconsider(now);
        self.id = to;
        self.contests.rename(to);
        self.out.counters.collisions += 1;
        self.out.events.push_back(Event::Renamed { from, to });
        self.report_end(now, from);
        let (owned, _) = self.handlespace.page(None, Some(from), View::Full, usize::MAX, |_, _, _| 0);
        let owned: Vec<ElementKey> =
            owned.into_iter().map(|(handle, entry)| (handle.clone(), entry.element.id)).collect();
        for key in owned {
            let registered =
                self.handlespace.entry(&key.0, key.1).is_some_and(|entry| entry.registrant.is_some());
            let taken_over = self.liveness.adopted_of(&key).is_some_and(|owner| owner != from);
            // The rest is the namesake's.
            if registered || taken_over {
                self.handlespace.rehome(&key.0, key.1, to);
                self.tell_changed(&key);
            } else {
                self.take_out(now, &key);
            }
        }
        for link in self.links.all_up() {
            self.send_presence(link, true);
        }
    }

    /// A presence on the multicast group: only a hint where a registrar may be (RFC 5353 6.2).
    pub(super) fn on_peer_announcement(
        &mut self,
        now: Time,
        audience: Audience,
        from: SocketAddr,
        bytes: &[u8],
    ) {
        let Ok(Decoded { message: EnrpMessage::Presence { header, introduction, server, .. }, .. }) =
            EnrpMessage::decode(bytes, Dialect::Unknown)
        else {
            return;
        };
        let (Some(server), Some(information)) = (header.sender, server) else { return };
        // Its own comes back on some networks; another's with its identifier is one to be spoken with.
        let is_own =
            server == self.id && introduction.is_some_and(|told| told.incarnation == self.incarnation);
        if !is_own && self.link_to(server).is_none() {
            let transport = match (audience, information.transport) {
                // RSPLIB lists every address of its machine, loopback among them: the source is one that can be reached. Ours
                // say the same on all groups.
                (Audience::Rsplib, TransportAddress::Sctp { port, transport_use, .. })
                    if introduction.is_none() =>
                {
                    TransportAddress::Sctp { port, transport_use, addresses: from.ip().to_canonical().into() }
                }
                (_, transport) => transport,
            };
            self.learn_announced(now, server, &transport, from.ip());
        }
    }

    fn report_to_peer(&mut self, link: LinkId, causes: Vec<ErrorCause>) {
        if !causes.is_empty() {
            let header = self.header_for(self.links.up(link).and_then(|up| up.peer));
            self.send_enrp(link, &EnrpMessage::Error { header, causes });
        }
    }

    /// False if the message is too long.
    pub(super) fn send_enrp(&mut self, link: LinkId, message: &EnrpMessage) -> bool {
        let Some(up) = self.links.up(link) else { return false };
        let Ok(bytes) = message.encode(up.dialect) else { return false };
        self.send_encoded(link, bytes);
        true
    }

    pub(super) fn send_encoded(&mut self, link: LinkId, bytes: Vec<u8>) {
        self.out.effects.push_back(Effect::Send { link, channel: Channel::Enrp, bytes });
    }
}

/// Watching (RFC 5353 3.4.3).
impl Registrar {
    /// How long a peer may be silent before it is asked.
    fn patience(&self, known: &Known) -> Duration {
        let configured = self.config.max_time_last_heard;
        if known.peer.dialect == Dialect::Rsplib {
            // The first of its presences come close together and say nothing of how often it will be heard.
            return configured.max(RSPLIB_LAST_HEARD).max(known.longest_gap / 2 * 5);
        }
        let least = if known.peer.ours || known.gauged { configured } else { configured.max(RFC_LAST_HEARD) };
        least.max(known.heartbeat.max(known.longest_gap) / 2 * 5)
    }

    /// How long it may then take to answer.
    fn response_time(&self, known: &Known) -> Duration {
        let configured = self.config.max_time_no_response;
        let least = if known.peer.ours { configured } else { configured.max(RFC_NO_RESPONSE) };
        least.max(known.heartbeat / 4)
    }

    fn watch_peer(&mut self, now: Time, server: ServerId) {
        let Some(known) = self.peers.find(server) else { return };
        let at = match known.peer.state {
            // It has yet to be connected to, and may not even be there any more.
            PeerState::Named => known.peer.last_heard + self.config.max_time_last_heard * 2,
            PeerState::Alive => known.peer.last_heard + self.patience(known),
            // Where it is not a lost link that says so, its own silence counts from when it was heard, whoever else suspects it.
            PeerState::Suspected => {
                let silent = known.peer.last_heard + self.patience(known);
                let from = if known.lost { now } else { now.max(silent) };
                from + self.response_time(known)
            }
            PeerState::TakenOver => return,
        };
        self.timers.set(Wake::Peer(server), at);
    }

    pub(super) fn on_peer_timeout(&mut self, now: Time, server: ServerId) {
        let Some(known) = self.peers.find(server) else { return };
        match known.peer.state {
            PeerState::Named => self.suspect(now, server),
            PeerState::Alive if known.peer.last_heard + self.patience(known) > now => {
                self.watch_peer(now, server);
            }
            PeerState::Alive => self.suspect(now, server),
            PeerState::Suspected if self.standing() != Standing::Serving => self.watch_peer(now, server),
            PeerState::Suspected => {
                self.stop_watching(server);
                self.out.counters.accusations += 1;
                self.begin_takeover(now, server);
            }
            PeerState::TakenOver => {}
        }
    }

    /// Its last link is lost: whether it is there shows now.
    pub(super) fn on_links_lost(&mut self, now: Time, server: ServerId) {
        if let Some(known) = self.peers.find_mut(server) {
            known.lost = true;
        }
        match self.peers.state(server) {
            Some(PeerState::Alive) => self.suspect(now, server),
            // It did not answer on a link that was dead: it may on another.
            Some(PeerState::Named | PeerState::Suspected | PeerState::TakenOver) | None => {
                self.reconnect(now, server);
            }
        }
    }

    /// Asks a peer for a sign of life, over a new link if there is none.
    pub(super) fn suspect(&mut self, now: Time, server: ServerId) {
        let Some(known) = self.peers.find_mut(server) else { return };
        known.peer.state = PeerState::Suspected;
        self.out.counters.suspicions += 1;
        self.out.events.push_back(Event::PeerSuspected { server });
        self.watch_peer(now, server);
        self.on_peer_gone(now, server);
        match self.link_to(server) {
            Some(link) => self.send_presence(link, true),
            None => self.reconnect(now, server),
        }
    }
}
