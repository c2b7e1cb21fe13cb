//! As much of ENRP (RFC 5353) as keeps another registrar from taking this one for dead: links to and from peers, and
//! ENRP_PRESENCE every PEER-HEARTBEAT-CYCLE and when a reply is required.
//!
//! This registrar does not share its handlespace yet. It refuses to hand out its table and its list of peers (R = 1),
//! as RFC 5353 3.2 lets a server do that is not ready, and leaves updates and takeovers to those they concern.

use super::{Event, Registrar, Wake};
use crate::handlespace::View;
use crate::machine::{Channel, Destination, Effect, LinkFailure, LinkId, LinkKind};
use crate::types::{Addresses, Capabilities, ErrorCause, ServerId, Time, TransportAddress, TransportUse};
use crate::wire::{Decoded, Dialect, EnrpHeader, EnrpMessage, Rejected, ServerInformation};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

/// The first pause before a configured peer is tried again, and the longest: it doubles in between.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(10);
/// Links from peers, and peers remembered. Far more registrars than one operational scope has.
const MAX_PEERS: usize = 256;

/// Another registrar.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    /// Its identifier.
    pub server: ServerId,
    /// How it is thought to be.
    pub state: PeerState,
    /// When it was last heard.
    pub last_heard: Time,
    /// Where it says it serves ENRP.
    pub transport: Option<TransportAddress>,
    /// Whether it is one of ours: it has shown the capability parameter.
    pub ours: bool,
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
    /// Silent still: this registrar has begun to take its elements over.
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

/// Links to other registrars, and who they are.
#[derive(Debug)]
pub(super) struct Peers {
    configured: Vec<Configured>,
    links: BTreeMap<LinkId, PeerLink>,
    known: BTreeMap<ServerId, Peer>,
}

#[derive(Debug)]
struct Configured {
    to: Destination,
    /// The pause after the next failure.
    retry: Duration,
}

#[derive(Debug)]
struct PeerLink {
    /// The configured peer it was opened to; none if the peer opened it.
    configured: Option<usize>,
    state: LinkState,
}

#[derive(Debug)]
enum LinkState {
    Opening,
    Up {
        /// Where this registrar serves ENRP, as far as this link tells.
        own: Option<TransportAddress>,
        /// Who is at the other end, once it has said so.
        peer: Option<ServerId>,
    },
}

impl Peers {
    pub(super) fn new(configured: Vec<Destination>) -> Peers {
        let configured = configured.into_iter().map(|to| Configured { to, retry: FIRST_RETRY }).collect();
        Peers { configured, links: BTreeMap::new(), known: BTreeMap::new() }
    }

    pub(super) fn known(&self) -> impl Iterator<Item = &Peer> {
        self.known.values()
    }

    pub(super) fn has(&self, link: LinkId) -> bool {
        self.links.contains_key(&link)
    }

    fn is_up(&self, link: LinkId) -> bool {
        matches!(self.links.get(&link), Some(PeerLink { state: LinkState::Up { .. }, .. }))
    }

    /// Takes in a link that a peer opened; false if there are too many.
    pub(super) fn accept(&mut self, link: LinkId) -> bool {
        let room = self.links.len() < MAX_PEERS;
        if room {
            self.links.insert(link, PeerLink { configured: None, state: LinkState::Opening });
        }
        room
    }

    pub(super) fn drain(&mut self) -> Vec<LinkId> {
        std::mem::take(&mut self.links).into_keys().collect()
    }
}

impl Registrar {
    pub(super) fn connect_peer(&mut self, index: usize) {
        let Some(to) = self.peers.configured.get(index).map(|configured| configured.to.clone()) else {
            return;
        };
        let link = self.next_link();
        self.peers.links.insert(link, PeerLink { configured: Some(index), state: LinkState::Opening });
        self.out.effects.push_back(Effect::Connect { link, to });
    }

    pub(super) fn on_peer_up(&mut self, now: Time, link: LinkId, kind: LinkKind, local: &[SocketAddr]) {
        let Some(peer_link) = self.peers.links.get_mut(&link) else { return };
        // A link that was accepted has the listener's port at this end; so has one opened over SCTP.
        let own =
            (link.is_incoming() || kind == LinkKind::Sctp).then(|| own_transport(kind, local)).flatten();
        peer_link.state = LinkState::Up { own, peer: None };
        if let Some(configured) = peer_link.configured.and_then(|index| self.peers.configured.get_mut(index))
        {
            configured.retry = FIRST_RETRY;
        }
        self.send_presence(link, true);
        if self.timers.deadline(&Wake::Heartbeat).is_none() {
            self.timers.set(Wake::Heartbeat, now + self.config.peer_heartbeat_cycle);
        }
    }

    pub(super) fn on_peer_down(&mut self, now: Time, link: LinkId, why: LinkFailure) {
        let Some(index) = self.peers.links.remove(&link).and_then(|peer_link| peer_link.configured) else {
            return;
        };
        let Some(configured) = self.peers.configured.get_mut(index) else { return };
        self.timers.set(Wake::ConnectPeer(index), now + configured.retry);
        configured.retry = (configured.retry * 2).min(LONGEST_RETRY);
        self.out.events.push_back(Event::PeerDown { to: configured.to.clone(), why });
    }

    pub(super) fn on_heartbeat(&mut self, now: Time) {
        let links: Vec<LinkId> = self.peers.links.keys().copied().collect();
        for link in &links {
            self.send_presence(*link, false);
        }
        if !links.is_empty() {
            let cycle = self.config.peer_heartbeat_cycle.max(Duration::from_millis(10));
            self.timers.set(Wake::Heartbeat, now + cycle);
        }
    }

    pub(super) fn on_enrp(&mut self, now: Time, link: LinkId, bytes: &[u8]) {
        if !self.peers.is_up(link) {
            self.out.reject("an ENRP message from an endpoint");
            return;
        }
        self.out.counters.enrp_messages += 1;
        match EnrpMessage::decode(bytes, Dialect::Unknown) {
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

    fn on_enrp_message(&mut self, now: Time, link: LinkId, message: EnrpMessage) {
        match message {
            EnrpMessage::Presence { reply_required, header, checksum: _, capabilities: _, server } => {
                self.on_heard(now, link, header, server.map(|information| information.transport));
                if reply_required {
                    self.send_presence(link, false);
                }
            }
            EnrpMessage::HandleTableRequest { owned_only: _, header } => {
                self.on_heard(now, link, header, None);
                let header = self.header(link);
                let pools = Vec::new();
                self.send_enrp(
                    link,
                    &EnrpMessage::HandleTableResponse { more: false, reject: true, header, pools },
                );
            }
            EnrpMessage::ListRequest { header } => {
                self.on_heard(now, link, header, None);
                let header = self.header(link);
                self.send_enrp(
                    link,
                    &EnrpMessage::ListResponse { reject: true, header, servers: Vec::new() },
                );
            }
            EnrpMessage::HandleTableResponse { header, .. }
            | EnrpMessage::HandleUpdate { header, .. }
            | EnrpMessage::ListResponse { header, .. } => {
                self.on_heard(now, link, header, None);
                self.out.counters.enrp_ignored += 1;
            }
            EnrpMessage::InitTakeover { header, target } => {
                self.on_heard(now, link, header, None);
                if let (Some(from), Some(target)) = (header.sender, target) {
                    self.on_init_takeover(now, from, target);
                }
            }
            EnrpMessage::InitTakeoverAck { header, target } => {
                self.on_heard(now, link, header, None);
                if let (Some(from), Some(target)) = (header.sender, target) {
                    self.on_init_takeover_ack(now, from, target);
                }
            }
            EnrpMessage::TakeoverServer { header, target } => {
                self.on_heard(now, link, header, None);
                if let (Some(from), Some(target)) = (header.sender, target) {
                    self.on_takeover_server(now, from, target);
                }
            }
            EnrpMessage::Error { .. } => self.out.counters.errors_received += 1,
        }
    }

    /// Every message of a peer is a sign of its life.
    fn on_heard(&mut self, now: Time, link: LinkId, header: EnrpHeader, transport: Option<TransportAddress>) {
        let Some(server) = header.sender.filter(|server| *server != self.id) else { return };
        if let Some(PeerLink { state: LinkState::Up { peer, .. }, .. }) = self.peers.links.get_mut(&link)
            && *peer != Some(server)
        {
            *peer = Some(server);
            self.out.events.push_back(Event::PeerUp { server });
        }
        if !self.peers.known.contains_key(&server) && self.peers.known.len() >= MAX_PEERS {
            let quietest =
                self.peers.known.values().min_by_key(|peer| peer.last_heard).map(|peer| peer.server);
            quietest.and_then(|server| self.peers.known.remove(&server));
        }
        let peer = self.peers.known.entry(server).or_insert_with(|| Peer {
            server,
            state: PeerState::Alive,
            last_heard: now,
            transport: None,
            ours: false,
            checksum_agrees: None,
            digest_agrees: None,
        });
        peer.last_heard = now;
        peer.transport = transport.or(peer.transport.take());
    }

    fn header(&self, link: LinkId) -> EnrpHeader {
        let receiver = match self.peers.links.get(&link).map(|peer_link| &peer_link.state) {
            Some(LinkState::Up { peer, .. }) => *peer,
            Some(LinkState::Opening) | None => None,
        };
        EnrpHeader { sender: Some(self.id), receiver }
    }

    fn send_presence(&mut self, link: LinkId, reply_required: bool) {
        let Some(PeerLink { state: LinkState::Up { own, .. }, .. }) = self.peers.links.get(&link) else {
            return;
        };
        let server = own.clone().map(|transport| ServerInformation { server: Some(self.id), transport });
        let message = EnrpMessage::Presence {
            reply_required,
            header: self.header(link),
            checksum: Some(self.handlespace.checksum(self.id, View::Full)),
            capabilities: Some(Capabilities::default()),
            server,
        };
        self.send_enrp(link, &message);
    }

    fn report_to_peer(&mut self, link: LinkId, causes: Vec<ErrorCause>) {
        if !causes.is_empty() {
            let header = self.header(link);
            self.send_enrp(link, &EnrpMessage::Error { header, causes });
        }
    }

    fn send_enrp(&mut self, link: LinkId, message: &EnrpMessage) {
        if let Ok(bytes) = message.encode(Dialect::Unknown) {
            self.out.effects.push_back(Effect::Send { link, channel: Channel::Enrp, bytes });
        }
    }
}

fn own_transport(kind: LinkKind, local: &[SocketAddr]) -> Option<TransportAddress> {
    let (first, transport_use) = (local.first()?, TransportUse::DataOnly);
    let (port, address) = (first.port(), first.ip().to_canonical());
    match kind {
        LinkKind::Tcp => Some(TransportAddress::Tcp { port, transport_use, address }),
        LinkKind::Sctp => {
            let addresses = Addresses::new(local.iter().map(|local| local.ip().to_canonical()).collect())?;
            Some(TransportAddress::Sctp { port, transport_use, addresses })
        }
        LinkKind::Udp => None,
    }
}
