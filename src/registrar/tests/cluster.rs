//! Several registrars with links between them that deliver at once and in order, unless they are cut.

use super::*;
use crate::handlespace::View;
use std::collections::{BTreeMap, BTreeSet};

/// An input that owns its bytes.
enum Delivery {
    Incoming(LinkId),
    Up { link: LinkId, local: SocketAddr, peer: SocketAddr },
    Down(LinkId, LinkFailure),
    Message(LinkId, Channel, Vec<u8>),
    Announce(Audience, SocketAddr, Vec<u8>),
}

pub(super) struct Node {
    pub(super) registrar: Registrar,
    pub(super) up: bool,
    seed: u64,
    setup: Setup,
    config: RegistrarConfig,
}

pub(super) struct Cluster {
    pub(super) now: Time,
    pub(super) nodes: Vec<Node>,
    /// The other end of each link.
    ends: BTreeMap<(usize, LinkId), (usize, LinkId)>,
    links: u64,
    queue: VecDeque<(usize, Delivery)>,
    /// Pairs, lower first, between which nothing goes: neither messages nor news of their loss.
    cut: BTreeSet<(usize, usize)>,
    /// ENRP messages delivered: from, to, what.
    pub(super) delivered: Vec<(usize, usize, EnrpMessage)>,
    /// Messages to registrars that the test plays.
    pub(super) strangers: Vec<(LinkId, EnrpMessage)>,
    losing: bool,
    /// Messages to endpoints.
    pub(super) asap: Vec<(usize, LinkId, AsapMessage)>,
    pub(super) events: Vec<(usize, Event)>,
}

pub(super) fn address(node: usize) -> String {
    format!("10.0.0.{}", node + 1)
}

pub(super) fn id(node: usize) -> ServerId {
    server_id(0x1000 * (u32::try_from(node).unwrap() + 1))
}

pub(super) fn at(node: usize) -> Destination {
    let addresses = Addresses::from(ip(&address(node)));
    Destination { kind: LinkKind::Tcp, protocol: Protocol::Enrp, port: 9901, addresses }
}

impl Cluster {
    /// So many registrars, each with these others by configuration; none is up yet.
    pub(super) fn new(count: usize, peers: impl Fn(usize) -> Vec<usize>) -> Cluster {
        let setup = |node: usize| Setup {
            id: id(node),
            asap: Vec::new(),
            enrp: vec![tcp(&address(node), 9901)],
            announce: false,
            peers: peers(node).into_iter().map(at).collect(),
        };
        Cluster::of((0..count).map(|node| (config(), setup(node))).collect())
    }

    pub(super) fn of(setups: Vec<(RegistrarConfig, Setup)>) -> Cluster {
        let node = |(index, (config, setup)): (usize, (RegistrarConfig, Setup))| Node {
            registrar: Registrar::new(config.clone(), Limits::default(), index as u64, setup.clone()),
            up: false,
            seed: index as u64,
            setup,
            config,
        };
        Cluster {
            now: Time::from_nanos(1_000_000_000),
            nodes: setups.into_iter().enumerate().map(node).collect(),
            ends: BTreeMap::new(),
            links: 0,
            queue: VecDeque::new(),
            cut: BTreeSet::new(),
            delivered: Vec::new(),
            strangers: Vec::new(),
            losing: false,
            asap: Vec::new(),
            events: Vec::new(),
        }
    }

    /// All of them know each other.
    pub(super) fn full(count: usize) -> Cluster {
        Cluster::new(count, |node| (0..count).filter(|other| *other != node).collect())
    }

    /// The same, up, and serving.
    pub(super) fn running(count: usize) -> Cluster {
        let mut cluster = Cluster::full(count);
        for node in 0..count {
            cluster.start(node);
            cluster.pass(ms(100));
        }
        cluster.pass(ms(1_000));
        cluster.expect_serving();
        cluster
    }

    pub(super) fn expect_serving(&self) {
        for node in self.nodes.iter().filter(|node| node.up) {
            assert_eq!(node.registrar.standing(), Standing::Serving);
        }
    }

    pub(super) fn registrar(&mut self, node: usize) -> &mut Registrar {
        &mut self.nodes[node].registrar
    }

    /// Starts a registrar with an empty memory.
    pub(super) fn start(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        it.seed += 100;
        it.registrar = Registrar::new(it.config.clone(), Limits::default(), it.seed, it.setup.clone());
        it.up = true;
        self.input(node, Input::Timeout);
        self.settle();
    }

    /// Kills a registrar; its kernel tells its peers.
    pub(super) fn kill(&mut self, node: usize) {
        self.nodes[node].up = false;
        let ends: Vec<(usize, LinkId)> = self.ends.keys().filter(|(at, _)| *at == node).copied().collect();
        for end in ends {
            self.disconnect(end, LinkFailure::Reset);
        }
        self.settle();
    }

    /// Nothing goes between these two any more, without notice.
    pub(super) fn cut(&mut self, a: usize, b: usize) {
        self.cut.insert((a.min(b), a.max(b)));
    }

    /// It goes again; what was sent meanwhile is lost with the links it was sent on.
    pub(super) fn heal(&mut self, a: usize, b: usize) {
        self.cut.remove(&(a.min(b), a.max(b)));
        let between = |((at, _), (other, _)): (&(usize, LinkId), &(usize, LinkId))| {
            (*at, *other) == (a, b) || (*at, *other) == (b, a)
        };
        let ends: Vec<(usize, LinkId)> =
            self.ends.iter().filter(|(k, v)| between((k, v))).map(|(k, _)| *k).collect();
        for end in ends {
            self.disconnect(end, LinkFailure::Reset);
            self.queue.push_back((end.0, Delivery::Down(end.1, LinkFailure::Reset)));
        }
        self.settle();
    }

    fn is_cut(&self, a: usize, b: usize) -> bool {
        self.cut.contains(&(a.min(b), a.max(b)))
    }

    fn disconnect(&mut self, end: (usize, LinkId), why: LinkFailure) {
        if let Some(other) = self.ends.remove(&end) {
            self.ends.remove(&other);
            if !self.is_cut(end.0, other.0) {
                self.queue.push_back((other.0, Delivery::Down(other.1, why)));
            }
        }
    }

    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let next = |(index, node): (usize, &Node)| {
                Some((node.registrar.poll_timeout().filter(|_| node.up)?.max(self.now), index))
            };
            let due = self.nodes.iter().enumerate().filter_map(next).min().filter(|(at, _)| *at <= end);
            let Some((at, node)) = due else { break };
            self.now = at;
            self.input(node, Input::Timeout);
            self.settle();
        }
        self.now = end;
    }

    pub(super) fn settle(&mut self) {
        while self.step() {}
    }

    /// Delivers one thing; false if there is none.
    pub(super) fn step(&mut self) -> bool {
        let Some((node, delivery)) = self.queue.pop_front() else { return false };
        match delivery {
            Delivery::Incoming(link) => {
                self.input(node, Input::Incoming { link, protocol: Protocol::Enrp });
            }
            Delivery::Up { link, local, peer } => self.input(
                node,
                Input::LinkUp {
                    link,
                    kind: LinkKind::Tcp,
                    protocol: Protocol::Enrp,
                    local: &[local],
                    peer: &[peer],
                    identity: None,
                },
            ),
            Delivery::Down(link, why) => self.input(node, Input::LinkDown { link, why }),
            Delivery::Message(link, channel, bytes) => {
                self.input(node, Input::Message { link, channel, bytes: &bytes, complete: true });
            }
            Delivery::Announce(audience, from, bytes) => {
                let input = Input::Announce { protocol: Protocol::Enrp, audience, from, bytes: &bytes };
                self.input(node, input);
            }
        }
        true
    }

    /// One more, not up yet.
    pub(super) fn add(&mut self, setup: Setup) {
        let (seed, config) = (self.nodes.len() as u64 + 50, config());
        let registrar = Registrar::new(config.clone(), Limits::default(), seed, setup.clone());
        self.nodes.push(Node { registrar, up: false, seed, setup, config });
    }

    /// This one, when it starts, announces itself.
    pub(super) fn announce(&mut self, node: usize) {
        self.nodes[node].setup.announce = true;
    }

    /// This one, when it starts, has this identifier.
    pub(super) fn identify(&mut self, node: usize, id: ServerId) {
        self.nodes[node].setup.id = id;
    }

    pub(super) fn setup(&self, node: usize) -> Setup {
        self.nodes[node].setup.clone()
    }

    pub(super) fn configure(&mut self, node: usize, config: RegistrarConfig) {
        self.nodes[node].config = config;
    }

    pub(super) fn input(&mut self, node: usize, input: Input<'_>) {
        if !self.nodes[node].up {
            return;
        }
        self.nodes[node].registrar.handle(self.now, input);
        self.drain(node);
    }

    /// An input of a client or an element: delivered with all that follows.
    pub(super) fn give(&mut self, node: usize, input: Input<'_>) {
        self.input(node, input);
        self.settle();
    }

    fn drain(&mut self, node: usize) {
        while let Some(effect) = self.nodes[node].registrar.poll_effect() {
            match effect {
                Effect::Connect { link, to } => self.connect(node, link, &to),
                Effect::Send { link, channel: Channel::Asap, bytes } => {
                    let message = AsapMessage::decode(&bytes, Dialect::Rfc).expect("well formed").message;
                    self.asap.push((node, link, message));
                }
                Effect::Send { link, channel, bytes } => {
                    let message = EnrpMessage::decode(&bytes, Dialect::Rfc).expect("well formed").message;
                    let Some((to, end)) = self.ends.get(&(node, link)).copied() else {
                        self.strangers.push((link, message));
                        continue;
                    };
                    if !self.is_cut(node, to) && !self.losing {
                        self.delivered.push((node, to, message));
                        self.queue.push_back((to, Delivery::Message(end, channel, bytes)));
                    }
                }
                Effect::Close { link, .. } => self.disconnect((node, link), LinkFailure::Closed),
                Effect::Announce { protocol: Protocol::Enrp, audience, bytes } => {
                    let from = SocketAddr::new(ip(&address(node)), 40_000);
                    for to in 0..self.nodes.len() {
                        if to == node || self.is_cut(node, to) {
                            continue;
                        }
                        self.queue.push_back((to, Delivery::Announce(audience, from, bytes.clone())));
                    }
                }
                Effect::Announce { .. } | Effect::Datagram { .. } => {}
            }
        }
        while let Some(event) = self.nodes[node].registrar.poll_event() {
            self.events.push((node, event));
        }
    }

    fn connect(&mut self, node: usize, link: LinkId, to: &Destination) {
        let is_there = |other: &usize| ip(&address(*other)) == to.addresses.as_slice()[0];
        let Some(other) = (0..self.nodes.len()).find(is_there) else { return };
        if self.is_cut(node, other) {
            return;
        }
        if to.protocol != Protocol::Enrp || !self.nodes[other].up || to.port != 9901 {
            self.queue.push_back((node, Delivery::Down(link, LinkFailure::Refused)));
            return;
        }
        self.links += 1;
        let incoming = LinkId::incoming(self.links);
        self.ends.insert((node, link), (other, incoming));
        self.ends.insert((other, incoming), (node, link));
        let from = SocketAddr::new(ip(&address(node)), 50_000);
        let listener = SocketAddr::new(ip(&address(other)), 9901);
        self.queue.push_back((other, Delivery::Incoming(incoming)));
        self.queue.push_back((other, Delivery::Up { link: incoming, local: listener, peer: from }));
        self.queue.push_back((node, Delivery::Up { link, local: from, peer: listener }));
    }

    /// An endpoint's link to a registrar.
    pub(super) fn client(&mut self, node: usize, from: &str) -> LinkId {
        self.links += 1;
        let link = LinkId::incoming(self.links);
        self.give(node, Input::Incoming { link, protocol: Protocol::Asap });
        let up = Input::LinkUp {
            link,
            kind: LinkKind::Tcp,
            protocol: Protocol::Asap,
            local: &[SocketAddr::new(ip(&address(node)), 3863)],
            peer: &[SocketAddr::new(ip(from), 40_000)],
            identity: None,
        };
        self.give(node, up);
        link
    }

    /// The link of a registrar that the test plays.
    pub(super) fn stranger(&mut self, node: usize, from: &str) -> LinkId {
        self.links += 1;
        let link = LinkId::incoming(self.links);
        self.give(node, Input::Incoming { link, protocol: Protocol::Enrp });
        let up = Input::LinkUp {
            link,
            kind: LinkKind::Tcp,
            protocol: Protocol::Enrp,
            local: &[SocketAddr::new(ip(&address(node)), 9901)],
            peer: &[SocketAddr::new(ip(from), 40_000)],
            identity: None,
        };
        self.give(node, up);
        link
    }

    /// Messages between registrars are lost, their links are not.
    pub(super) fn lose_messages(&mut self, losing: bool) {
        self.losing = losing;
    }

    /// A message of one registrar to another, as if it came late.
    pub(super) fn tell(&mut self, to: usize, from: usize, message: &EnrpMessage) {
        let bytes = message.encode(Dialect::Rfc).unwrap();
        let (sender, channel) = (self.nodes[from].registrar.id(), Channel::Enrp);
        let link = self.nodes[to].registrar.link_to(sender).expect("a link");
        self.give(to, Input::Message { link, channel, bytes: &bytes, complete: true });
    }

    pub(super) fn say(&mut self, node: usize, link: LinkId, message: &AsapMessage) {
        let bytes = message.encode(Dialect::Rfc).expect("fits");
        self.give(node, Input::Message { link, channel: Channel::Asap, bytes: &bytes, complete: true });
    }

    /// An element that registers and never has to acknowledge a keep-alive in these tests' time, unless it is left to.
    pub(super) fn register(&mut self, node: usize, pool: &str, element: &PoolElement) -> LinkId {
        let from = element.user_transport.addresses()[0].to_string();
        let link = self.client(node, &from);
        self.say(node, link, &registration(pool, element));
        link
    }

    /// Acknowledges every keep-alive.
    pub(super) fn pass_alive(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.pass(ms(10));
            for (node, link, message) in std::mem::take(&mut self.asap) {
                let AsapMessage::KeepAlive(asked) = message else { continue };
                let held = &self.nodes[node].registrar;
                let mut ids = held.clients.find(link).map(|c| c.elements.clone()).unwrap_or_default();
                ids.retain(|(handle, id)| {
                    *handle == asked.handle && asked.element.is_none_or(|named| named == *id)
                });
                for (handle, element) in ids {
                    self.say(node, link, &AsapMessage::KeepAliveAck { handle, element });
                }
            }
        }
    }

    /// Every element a registrar holds: pool, identifier, home, version.
    pub(super) fn held(&self, node: usize) -> Vec<(String, u32, u32, u64)> {
        let space = self.nodes[node].registrar.handlespace();
        let (page, _) = space.page(None, None, View::Full, usize::MAX, |_, _, _| 0);
        let line = |(handle, entry): (&PoolHandle, &Entry)| {
            let home = entry.element.home.map_or(0, ServerId::value);
            (handle.to_string(), entry.element.id.0, home, entry.version)
        };
        page.into_iter().map(line).collect()
    }

    /// That all that are up hold the same.
    pub(super) fn expect_same(&self) -> Vec<(String, u32, u32, u64)> {
        let mut up = (0..self.nodes.len()).filter(|node| self.nodes[*node].up);
        let first = up.next().expect("one is up");
        let held = self.held(first);
        for node in up {
            assert_eq!(self.held(node), held, "{node} and {first}");
            for owner in self.nodes[first].registrar.handlespace().owners() {
                let (a, b) = (&self.nodes[first].registrar, &self.nodes[node].registrar);
                assert_eq!(a.handlespace().digest(owner), b.handlespace().digest(owner));
                assert_eq!(
                    a.handlespace().checksum(owner, View::Full),
                    b.handlespace().checksum(owner, View::Full)
                );
            }
        }
        held
    }

    pub(super) fn states(&self, node: usize) -> Vec<(ServerId, PeerState)> {
        self.nodes[node].registrar.peers().map(|peer| (peer.server, peer.state)).collect()
    }
}
