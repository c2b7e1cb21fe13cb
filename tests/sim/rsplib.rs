//! RSPLIB's registrar and an element of its library, as far as they matter to ours: what they say, in their dialect, when,
//! and what they do not. Small, and faithful in what is peculiar:
//!
//! * only ENRP_PRESENCE is a sign of life; every 2.4 s to each peer; 5 s of silence and 5 s without answer accuse;
//! * the lower identifier wins a takeover; everybody but the target must acknowledge, and whether all have is only looked
//!   at when an acknowledgement comes; after 5 s it is given up; no ENRP_TAKEOVER_SERVER and no update follow it;
//! * a takeover is acknowledged of anybody, known or not, alive or not;
//! * a checksum that differs has the table asked for again, at each presence; what is not in it is gone;
//! * an update makes its sender the home without a word to the element; every re-registration is told to all;
//! * lives are milliseconds and end for others' elements only.

use crate::world::{ASAP_PORT, ENDPOINT_PORT, ENRP_PORT};
use asap::handlespace::{Handlespace, View};
use asap::machine::{Channel, Destination, Effect, Input, LinkId, LinkKind, Machine, Protocol};
use asap::policy::Policy;
use asap::types::{
    Addresses, PeChecksum, PeId, PoolElement, PoolHandle, RegistrationLife, Rng, ServerId, Time,
    TransportAddress, TransportUse,
};
use asap::wire::{
    AsapMessage, Dialect, EnrpHeader, EnrpMessage, KeepAlive, Registration, ServerInformation, UpdateAction,
    Versioned,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

const HEARTBEAT: Duration = Duration::from_millis(2_444);
/// MAX-TIME-LAST-HEARD, MAX-TIME-NO-RESPONSE, the time a takeover may take, keep-alives and the wait for their answer, and for
/// a mentor.
const FIVE_SECONDS: Duration = Duration::from_secs(5);
/// Elements in a page of a table: of 1,400 bytes.
const PAGE: usize = 24;
const REGISTRATION_INTERVAL: Duration = Duration::from_secs(30);

pub type Key = (PoolHandle, PeId);

fn sctp(port: u16, address: IpAddr) -> TransportAddress {
    TransportAddress::Sctp {
        port,
        transport_use: TransportUse::DataOnly,
        addresses: Addresses::from(address),
    }
}

fn destination(protocol: Protocol, port: u16, address: IpAddr) -> Destination {
    Destination { kind: LinkKind::Sctp, protocol, port, addresses: address.into() }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Wake {
    Heartbeat,
    Mentor,
    Peer(ServerId),
    Takeover(ServerId),
}

struct Peer {
    at: IpAddr,
    asked: bool,
    /// Where its table was left off.
    cursor: usize,
    /// Its whole table has been asked for.
    downloads: bool,
    /// What its own table, which has been asked for, has not shown yet.
    unseen: Option<BTreeSet<Key>>,
}

struct Held {
    element: PoolElement,
    /// The link it registered on.
    link: Option<LinkId>,
    /// When it is asked, or has to have answered, or ends.
    at: Time,
    asked: bool,
}

/// The registrar.
pub struct Registrar {
    pub id: ServerId,
    address: IpAddr,
    rng: Rng,
    peers: BTreeMap<ServerId, Peer>,
    /// Links of ENRP and to whom, those of ASAP and to where.
    enrp: BTreeMap<LinkId, (IpAddr, bool)>,
    asap: BTreeMap<LinkId, (IpAddr, bool)>,
    /// What waits for a link to come up.
    waiting: BTreeMap<LinkId, Vec<Vec<u8>>>,
    elements: BTreeMap<Key, Held>,
    takeovers: BTreeMap<ServerId, BTreeSet<ServerId>>,
    starting: bool,
    wakes: BTreeMap<Wake, Time>,
    next_link: u64,
    out: VecDeque<Effect>,
    /// Whom it has taken over, and not heard since.
    pub taken: BTreeSet<ServerId>,
    pub completed: u64,
    pub expired: u64,
    /// Tables asked for because a checksum differed.
    pub resyncs: u64,
}

impl Registrar {
    /// It is told of these from the start.
    pub fn new(now: Time, id: ServerId, address: IpAddr, seed: u64, peers: &[IpAddr]) -> Registrar {
        let mut registrar = Registrar {
            id,
            address,
            rng: Rng::new(seed),
            peers: BTreeMap::new(),
            enrp: BTreeMap::new(),
            asap: BTreeMap::new(),
            waiting: BTreeMap::new(),
            elements: BTreeMap::new(),
            takeovers: BTreeMap::new(),
            starting: true,
            wakes: BTreeMap::from([(Wake::Mentor, now + FIVE_SECONDS), (Wake::Heartbeat, now + HEARTBEAT)]),
            next_link: 0,
            out: VecDeque::new(),
            taken: BTreeSet::new(),
            completed: 0,
            expired: 0,
            resyncs: 0,
        };
        for peer in peers {
            let presence = registrar.presence(None, true);
            registrar.send_to_address(*peer, &presence);
        }
        registrar
    }

    /// What it holds, and each element's home.
    pub fn held(&self) -> BTreeMap<Key, ServerId> {
        let home = |held: &Held| held.element.home.expect("a home");
        self.elements.iter().map(|(key, held)| (key.clone(), home(held))).collect()
    }

    pub fn peers(&self) -> BTreeSet<ServerId> {
        self.peers.keys().copied().collect()
    }

    fn header(&self, receiver: Option<ServerId>) -> EnrpHeader {
        EnrpHeader { sender: Some(self.id), receiver }
    }

    fn checksum(&self, owner: ServerId) -> PeChecksum {
        let mut space = Handlespace::new(1_000, 100_000, 100_000);
        for ((handle, _), held) in self.elements.iter().filter(|(_, held)| held.element.home == Some(owner)) {
            let _ = space.learn(handle, held.element.clone(), 0);
        }
        space.checksum(owner, View::Full)
    }

    fn presence(&self, receiver: Option<ServerId>, reply_required: bool) -> EnrpMessage {
        EnrpMessage::Presence {
            reply_required,
            header: self.header(receiver),
            checksum: Some(self.checksum(self.id)),
            introduction: None,
            server: Some(ServerInformation {
                server: Some(self.id),
                transport: sctp(ENRP_PORT, self.address),
            }),
        }
    }

    fn encode(message: &EnrpMessage) -> Vec<u8> {
        message.encode(Dialect::Rsplib).expect("fits")
    }

    fn open(&mut self, to: Destination) -> LinkId {
        self.next_link += 1;
        let link = LinkId::outgoing(self.next_link);
        let address = to.addresses.as_slice()[0];
        let links = if to.protocol == Protocol::Enrp { &mut self.enrp } else { &mut self.asap };
        links.insert(link, (address, false));
        self.out.push_back(Effect::Connect { link, to });
        link
    }

    fn send(&mut self, link: LinkId, channel: Channel, bytes: Vec<u8>) {
        let up = self.enrp.get(&link).or(self.asap.get(&link)).is_some_and(|(_, up)| *up);
        if up {
            self.out.push_back(Effect::Send { link, channel, bytes });
        } else {
            self.waiting.entry(link).or_default().push(bytes);
        }
    }

    fn send_to_address(&mut self, address: IpAddr, message: &EnrpMessage) {
        let there = self.enrp.iter().filter(|(_, (at, _))| *at == address);
        let link = there.max_by_key(|(link, (_, up))| (*up, **link)).map(|(link, _)| *link);
        let link = link.unwrap_or_else(|| self.open(destination(Protocol::Enrp, ENRP_PORT, address)));
        self.send(link, Channel::Enrp, Self::encode(message));
    }

    fn send_to(&mut self, peer: ServerId, message: &EnrpMessage) {
        if let Some(at) = self.peers.get(&peer).map(|peer| peer.at) {
            self.send_to_address(at, message);
        }
    }

    fn tell(&mut self, action: UpdateAction, key: &Key, element: &PoolElement) {
        for peer in self.peers() {
            let element = Versioned { element: element.clone(), version: None };
            let (header, handle) = (self.header(Some(peer)), key.0.clone());
            let takeover_suggested = false;
            self.send_to(
                peer,
                &EnrpMessage::HandleUpdate { takeover_suggested, header, action, handle, element },
            );
        }
    }

    fn learn_peer(&mut self, now: Time, id: ServerId, at: IpAddr) {
        if id == self.id || self.peers.contains_key(&id) {
            return;
        }
        self.peers.insert(id, Peer { at, asked: false, cursor: 0, downloads: self.starting, unseen: None });
        self.wakes.insert(Wake::Peer(id), now + FIVE_SECONDS);
        let presence = self.presence(Some(id), true);
        self.send_to(id, &presence);
        let header = self.header(Some(id));
        self.send_to(id, &EnrpMessage::ListRequest { header });
        if self.starting {
            self.starting = false;
            self.send_to(id, &EnrpMessage::HandleTableRequest { owned_only: false, header });
        }
    }

    fn on_enrp(&mut self, now: Time, link: LinkId, bytes: &[u8]) {
        let Some((address, _)) = self.enrp.get(&link).copied() else { return };
        let decoded = EnrpMessage::decode(bytes, Dialect::Rsplib).expect("what ours send it understands");
        let Some(from) = decoded.message.header().sender else { return };
        match decoded.message {
            EnrpMessage::Presence { reply_required, checksum, server, .. } => {
                // It accepts a presence only with both, and from where its sender says it is.
                let (Some(checksum), Some(server)) = (checksum, server) else { return };
                let TransportAddress::Sctp { port: ENRP_PORT, addresses, .. } = &server.transport else {
                    return;
                };
                if !addresses.as_slice().contains(&address) {
                    return;
                }
                self.learn_peer(now, from, address);
                if reply_required {
                    let presence = self.presence(Some(from), false);
                    self.send_to(from, &presence);
                }
                let differs = checksum != self.checksum(from);
                let Some(peer) = self.peers.get_mut(&from) else { return };
                peer.asked = false;
                self.takeovers.remove(&from);
                self.taken.remove(&from);
                self.wakes.remove(&Wake::Takeover(from));
                self.wakes.insert(Wake::Peer(from), now + FIVE_SECONDS);
                if differs && peer.unseen.is_none() && !peer.downloads {
                    let owned = self.elements.iter().filter(|(_, held)| held.element.home == Some(from));
                    peer.unseen = Some(owned.map(|(key, _)| key.clone()).collect());
                    self.resyncs += 1;
                    let header = self.header(Some(from));
                    self.send_to(from, &EnrpMessage::HandleTableRequest { owned_only: true, header });
                }
            }
            EnrpMessage::HandleTableRequest { owned_only, .. } => {
                self.on_table_request(from, link, owned_only)
            }
            EnrpMessage::HandleTableResponse { more, reject, pools, .. } => {
                let unseen = self.peers.get_mut(&from).and_then(|peer| peer.unseen.take());
                if reject {
                    return;
                }
                let audit = unseen.is_some();
                if let Some(peer) = self.peers.get_mut(&from).filter(|_| !more) {
                    peer.downloads = false;
                }
                let mut unseen = unseen.unwrap_or_default();
                for (handle, elements) in pools {
                    for told in elements {
                        unseen.remove(&(handle.clone(), told.element.id));
                        self.take_in(now, handle.clone(), told.element);
                    }
                }
                if more {
                    if let Some(peer) = self.peers.get_mut(&from).filter(|_| audit) {
                        peer.unseen = Some(unseen);
                    }
                    let header = self.header(Some(from));
                    self.send_to(from, &EnrpMessage::HandleTableRequest { owned_only: audit, header });
                } else {
                    self.elements
                        .retain(|key, held| !(unseen.contains(key) && held.element.home == Some(from)));
                }
            }
            EnrpMessage::HandleUpdate { action, handle, element, .. } => match action {
                UpdateAction::AddPe => self.take_in(now, handle, element.element),
                UpdateAction::DelPe => _ = self.elements.remove(&(handle, element.element.id)),
            },
            EnrpMessage::ListRequest { .. } => {
                let servers = self.peers.iter().map(|(id, peer)| ServerInformation {
                    server: Some(*id),
                    transport: sctp(ENRP_PORT, peer.at),
                });
                let (reject, servers) = (false, servers.collect());
                let answer = EnrpMessage::ListResponse { reject, header: self.header(Some(from)), servers };
                self.send(link, Channel::Enrp, Self::encode(&answer));
            }
            EnrpMessage::ListResponse { servers, .. } => {
                for ServerInformation { server, transport } in servers {
                    if let (Some(server), TransportAddress::Sctp { addresses, .. }) = (server, transport) {
                        self.learn_peer(now, server, addresses.as_slice()[0]);
                    }
                }
            }
            EnrpMessage::InitTakeover { target: Some(target), .. } => {
                if target == self.id {
                    for peer in self.peers() {
                        let presence = self.presence(Some(peer), false);
                        self.send_to(peer, &presence);
                    }
                    return;
                }
                if self.takeovers.contains_key(&target) {
                    if from > self.id {
                        return;
                    }
                    self.takeovers.remove(&target);
                    self.wakes.remove(&Wake::Takeover(target));
                }
                let (header, target) = (self.header(Some(from)), Some(target));
                self.send(
                    link,
                    Channel::Enrp,
                    Self::encode(&EnrpMessage::InitTakeoverAck { header, target }),
                );
            }
            EnrpMessage::InitTakeoverAck { target: Some(target), .. } => {
                let Some(missing) = self.takeovers.get_mut(&target) else { return };
                missing.remove(&from);
                if missing.is_empty() {
                    self.complete(now, target);
                }
            }
            EnrpMessage::TakeoverServer { target: Some(target), .. } => {
                self.peers.remove(&target);
                for held in self.elements.values_mut().filter(|held| held.element.home == Some(target)) {
                    held.element.home = Some(from);
                }
            }
            EnrpMessage::InitTakeover { .. }
            | EnrpMessage::InitTakeoverAck { .. }
            | EnrpMessage::TakeoverServer { .. }
            | EnrpMessage::Error { .. } => {}
        }
    }

    fn on_table_request(&mut self, from: ServerId, link: LinkId, owned_only: bool) {
        let header = self.header(Some(from));
        let (mut more, mut reject, mut pools) = (false, true, Vec::new());
        if let Some(peer) = self.peers.get_mut(&from) {
            let all = self.elements.iter();
            let listed: Vec<_> =
                all.filter(|(_, held)| !owned_only || held.element.home == Some(self.id)).collect();
            let page = listed.iter().skip(peer.cursor).take(PAGE);
            more = listed.len() > peer.cursor + PAGE;
            peer.cursor = if more { peer.cursor + PAGE } else { 0 };
            reject = false;
            for ((handle, _), held) in page {
                let told = Versioned { element: held.element.clone(), version: None };
                match pools.last_mut().filter(|(last, _): &&mut (PoolHandle, Vec<_>)| last == handle) {
                    Some((_, elements)) => elements.push(told),
                    None => pools.push((handle.clone(), vec![told])),
                }
            }
        }
        let answer = EnrpMessage::HandleTableResponse { more, reject, header, pools };
        self.send(link, Channel::Enrp, Self::encode(&answer));
    }

    /// An element as another tells it. It accepts none without home and without an ASAP transport of SCTP.
    fn take_in(&mut self, now: Time, handle: PoolHandle, element: PoolElement) {
        assert!(element.home.is_some(), "an element without home is told to RSPLIB");
        let asap = element.asap_transport.as_ref();
        assert!(
            matches!(asap, Some(TransportAddress::Sctp { .. })),
            "an element that cannot be asked is told to RSPLIB"
        );
        if element.home == Some(self.id) {
            return;
        }
        let life = element.life.duration().unwrap_or(Duration::from_secs(1 << 20));
        let key = (handle, element.id);
        let link = self.elements.get(&key).and_then(|held| held.link);
        self.elements.insert(key, Held { element, link, at: now + life, asked: false });
    }

    fn complete(&mut self, now: Time, target: ServerId) {
        self.takeovers.remove(&target);
        self.wakes.remove(&Wake::Takeover(target));
        self.wakes.remove(&Wake::Peer(target));
        self.peers.remove(&target);
        self.taken.insert(target);
        self.completed += 1;
        let orphans = self.elements.iter().filter(|(_, held)| held.element.home == Some(target));
        for key in orphans.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            if let Some(held) = self.elements.get_mut(&key) {
                held.element.home = Some(self.id);
                (held.at, held.asked) = (now + FIVE_SECONDS, true);
            }
            self.ask(&key, true);
        }
    }

    fn ask(&mut self, key: &Key, home: bool) {
        let Some(held) = self.elements.get(key) else { return };
        let at = match &held.element.asap_transport {
            Some(TransportAddress::Sctp { addresses, .. }) => addresses.as_slice()[0],
            _ => return,
        };
        let known = self.asap.iter().filter(|(_, (address, _))| *address == at).map(|(link, _)| *link).max();
        let link = held.link.or(known);
        let link = link.unwrap_or_else(|| self.open(destination(Protocol::Asap, ENDPOINT_PORT, at)));
        let (server, handle, element) = (Some(self.id), key.0.clone(), Some(key.1));
        let asked = AsapMessage::KeepAlive(KeepAlive { home, server, handle, element });
        self.send(link, Channel::Asap, asked.encode(Dialect::Rsplib).expect("fits"));
    }

    fn remove(&mut self, key: &Key) {
        let Some(held) = self.elements.remove(key) else { return };
        if held.element.home == Some(self.id) {
            self.tell(UpdateAction::DelPe, key, &held.element);
        }
    }

    fn on_asap(&mut self, now: Time, link: LinkId, bytes: &[u8]) {
        let Some((address, _)) = self.asap.get(&link).copied() else { return };
        let Ok(decoded) = AsapMessage::decode(bytes, Dialect::Rsplib) else { return };
        let answer = match decoded.message {
            AsapMessage::Registration(Registration { handle, element }) => {
                let (key, id) = ((handle.clone(), element.id), element.id);
                let asap_transport = Some(sctp(ENDPOINT_PORT, address));
                let element =
                    PoolElement { home: Some(self.id), asap_transport, capabilities: None, ..element };
                self.tell(UpdateAction::AddPe, &key, &element);
                let at = now + FIVE_SECONDS;
                self.elements.insert(key, Held { element, link: Some(link), at, asked: false });
                AsapMessage::RegistrationResponse {
                    reject: false,
                    handle,
                    element: id,
                    error: None,
                    capabilities: None,
                }
            }
            AsapMessage::Deregistration { handle, element } => {
                self.remove(&(handle.clone(), element));
                AsapMessage::DeregistrationResponse { handle, element, error: None }
            }
            AsapMessage::KeepAliveAck { handle, element } => {
                if let Some(held) = self.elements.get_mut(&(handle, element))
                    && held.element.home == Some(self.id)
                {
                    (held.at, held.asked) = (now + FIVE_SECONDS, false);
                    held.link = Some(link);
                }
                return;
            }
            _ => return,
        };
        self.send(link, Channel::Asap, answer.encode(Dialect::Rsplib).expect("fits"));
    }

    fn on_timeout(&mut self, now: Time) {
        let due = self.wakes.iter().filter(|(_, at)| **at <= now).map(|(wake, _)| *wake);
        for wake in due.collect::<Vec<_>>() {
            self.wakes.remove(&wake);
            match wake {
                Wake::Mentor => self.starting = false,
                Wake::Heartbeat => {
                    for peer in self.peers() {
                        let presence = self.presence(Some(peer), false);
                        self.send_to(peer, &presence);
                    }
                    let next = self.rng.spread(HEARTBEAT, 12);
                    self.wakes.insert(Wake::Heartbeat, now + next);
                }
                Wake::Peer(peer) => self.on_silence(now, peer),
                Wake::Takeover(target) => {
                    // Nobody asks about it any more, and its elements live out their lives.
                    self.takeovers.remove(&target);
                    self.peers.remove(&target);
                    self.expired += 1;
                }
            }
        }
        let due = self.elements.iter().filter(|(_, held)| held.at <= now).map(|(key, _)| key.clone());
        for key in due.collect::<Vec<_>>() {
            let Some(held) = self.elements.get_mut(&key) else { continue };
            if held.element.home == Some(self.id) && !held.asked {
                (held.at, held.asked) = (now + FIVE_SECONDS, true);
                self.ask(&key, false);
            } else {
                self.remove(&key);
            }
        }
    }

    fn on_silence(&mut self, now: Time, silent: ServerId) {
        let Some(peer) = self.peers.get_mut(&silent) else { return };
        if !std::mem::replace(&mut peer.asked, true) {
            self.wakes.insert(Wake::Peer(silent), now + FIVE_SECONDS);
            let presence = self.presence(Some(silent), true);
            return self.send_to(silent, &presence);
        }
        if !self.elements.values().any(|held| held.element.home == Some(silent)) {
            self.peers.remove(&silent);
            return;
        }
        for to in self.peers() {
            let (header, target) = (self.header(Some(to)), Some(silent));
            self.send_to(to, &EnrpMessage::InitTakeover { header, target });
        }
        let others = self.peers().into_iter().filter(|peer| *peer != silent).collect();
        self.takeovers.insert(silent, others);
        self.wakes.insert(Wake::Takeover(silent), now + FIVE_SECONDS);
    }

    fn on_down(&mut self, link: LinkId) {
        self.waiting.remove(&link);
        self.enrp.remove(&link);
        if self.asap.remove(&link).is_some() {
            let lost = self.elements.iter().filter(|(_, held)| held.link == Some(link));
            for key in lost.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
                let own = self.elements.get(&key).is_some_and(|held| held.element.home == Some(self.id));
                match self.elements.get_mut(&key) {
                    Some(held) if !own => held.link = None,
                    _ => self.remove(&key),
                }
            }
        }
    }

    fn on_up(&mut self, link: LinkId, protocol: Protocol, peer: IpAddr) {
        let links = if protocol == Protocol::Enrp { &mut self.enrp } else { &mut self.asap };
        links.insert(link, (peer, true));
        let channel = if protocol == Protocol::Enrp { Channel::Enrp } else { Channel::Asap };
        for bytes in self.waiting.remove(&link).unwrap_or_default() {
            self.out.push_back(Effect::Send { link, channel, bytes });
        }
    }
}

impl Machine for Registrar {
    type Event = ();

    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::LinkUp { link, protocol, peer, .. } => {
                self.on_up(link, protocol, peer[0].ip());
            }
            Input::LinkDown { link, .. } => self.on_down(link),
            Input::Message { link, channel: Channel::Enrp, bytes, .. } => self.on_enrp(now, link, bytes),
            Input::Message { link, channel: Channel::Asap, bytes, .. } => self.on_asap(now, link, bytes),
            Input::Timeout => self.on_timeout(now),
            Input::Message { .. }
            | Input::Incoming { .. }
            | Input::SendFailed { .. }
            | Input::Writable { .. }
            | Input::Announce { .. } => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.out.pop_front()
    }

    fn poll_event(&mut self) -> Option<()> {
        None
    }

    fn poll_timeout(&self) -> Option<Time> {
        self.wakes.values().copied().chain(self.elements.values().map(|held| held.at)).min()
    }
}

/// One pool element of RSPLIB's library. It notices the loss of its registrar only when it registers again, 30 s later, or
/// when another registrar makes itself its home.
pub struct Element {
    pub key: Key,
    address: IpAddr,
    registrars: VecDeque<IpAddr>,
    registrar: Option<(LinkId, bool)>,
    next: Time,
    links: u64,
    out: VecDeque<Effect>,
    /// How often another registrar has made itself its home.
    pub adopted: u64,
}

impl Element {
    pub fn new(now: Time, key: Key, address: IpAddr, registrars: &[IpAddr]) -> Element {
        let (registrars, next) = (registrars.iter().copied().collect(), now);
        Element {
            key,
            address,
            registrars,
            registrar: None,
            next,
            links: 0,
            out: VecDeque::new(),
            adopted: 0,
        }
    }

    fn say(&mut self, link: LinkId, message: &AsapMessage) {
        let bytes = message.encode(Dialect::Rsplib).expect("fits");
        self.out.push_back(Effect::Send { link, channel: Channel::Asap, bytes });
    }

    fn register(&mut self, link: LinkId) {
        let element = PoolElement {
            id: self.key.1,
            home: None,
            life: RegistrationLife::Milliseconds(3 * REGISTRATION_INTERVAL.as_millis() as u32),
            user_transport: sctp(7_000, self.address),
            policy: Policy::ROUND_ROBIN,
            asap_transport: None,
            capabilities: None,
        };
        let registration = Registration { handle: self.key.0.clone(), element };
        self.say(link, &AsapMessage::Registration(registration));
    }
}

impl Machine for Element {
    type Event = ();

    fn handle(&mut self, now: Time, input: Input<'_>) {
        match input {
            Input::Timeout if now >= self.next => {
                self.next = now + REGISTRATION_INTERVAL;
                match self.registrar {
                    Some((link, true)) => self.register(link),
                    Some((_, false)) => {}
                    None => {
                        self.links += 1;
                        let link = LinkId::outgoing(self.links);
                        self.registrar = Some((link, false));
                        let to = destination(Protocol::Asap, ASAP_PORT, self.registrars[0]);
                        self.registrars.rotate_left(1);
                        self.out.push_back(Effect::Connect { link, to });
                    }
                }
            }
            Input::LinkUp { link, .. } if self.registrar == Some((link, false)) => {
                self.registrar = Some((link, true));
                self.register(link);
            }
            Input::LinkDown { link, .. } if self.registrar.is_some_and(|(it, _)| it == link) => {
                let failed = self.registrar.take().is_some_and(|(_, up)| !up);
                // A hunt goes on until it finds one.
                if failed {
                    self.next = now + Duration::from_secs(1);
                }
            }
            Input::Message { link, bytes, .. } => {
                let Ok(decoded) = AsapMessage::decode(bytes, Dialect::Rsplib) else { return };
                let AsapMessage::KeepAlive(asked) = decoded.message else { return };
                if asked.handle != self.key.0 || asked.element.is_some_and(|id| id != self.key.1) {
                    return;
                }
                if asked.home
                    && let Some((before, _)) = self.registrar.replace((link, true))
                    && before != link
                {
                    self.adopted += 1;
                    self.out.push_back(Effect::Close { link: before, abort: true });
                }
                let (handle, element) = self.key.clone();
                self.say(link, &AsapMessage::KeepAliveAck { handle, element });
            }
            _ => {}
        }
    }

    fn poll_effect(&mut self) -> Option<Effect> {
        self.out.pop_front()
    }

    fn poll_event(&mut self) -> Option<()> {
        None
    }

    fn poll_timeout(&self) -> Option<Time> {
        Some(self.next)
    }
}
