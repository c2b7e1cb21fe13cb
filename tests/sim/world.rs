//! Nodes, pipes between them, and time. Knows the machines' contract and nothing of the protocol. What goes wrong in it
//! is in `faults`; what is held against what it does, in `watch` and `invariants`.

use crate::faults::Faults;
use crate::host::Host;
use crate::invariants::check_registrar;
use crate::rsplib;
use crate::watch::Watch;
use asap::config::{Limits, RegistrarConfig};
use asap::machine::{
    Audience, Channel, Destination, Effect, Input, LinkFailure, LinkId, LinkKind, Machine, Protocol,
};
use asap::registrar::{Registrar, Setup};
use asap::types::{Addresses, PeId, Rng, ServerId, Time, TransportAddress, TransportUse};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long a connection attempt into the void takes to fail.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// More happenings than this in one instant are a loop without end.
const STEPS_PER_INSTANT: u64 = 200_000;
/// A port nobody listens on, from which links are opened.
const EPHEMERAL_PORT: u16 = 40_000;

pub const ASAP_PORT: u16 = 3863;
pub const ENRP_PORT: u16 = 9901;
pub const ENDPOINT_PORT: u16 = 5000;
/// The first of the ports at which a host's elements serve.
pub const SERVICE_PORT: u16 = 7000;

/// A machine within a process: a registrar or endpoint is slot 0, sessions come behind.
pub type Slot = u64;

/// What runs on a node.
pub enum Process {
    Registrar(Box<Registrar>),
    Host(Box<Host>),
    RsplibRegistrar(Box<rsplib::Registrar>),
    RsplibElement(Box<rsplib::Element>),
}

impl Process {
    fn with<R>(&mut self, slot: Slot, act: impl FnOnce(&mut dyn Steppable) -> R) -> Option<R> {
        match self {
            Process::Registrar(registrar) => Some(act(&mut **registrar)),
            Process::Host(host) => host.machine(slot).map(act),
            Process::RsplibRegistrar(registrar) => Some(act(&mut **registrar)),
            Process::RsplibElement(element) => Some(act(&mut **element)),
        }
    }
}

/// A machine without its events' type.
pub trait Steppable {
    fn step(&mut self, now: Time, input: Input<'_>);
    fn effect(&mut self) -> Option<Effect>;
    fn wake_at(&self) -> Option<Time>;
}

impl<M: Machine> Steppable for M {
    fn step(&mut self, now: Time, input: Input<'_>) {
        self.handle(now, input);
    }
    fn effect(&mut self) -> Option<Effect> {
        self.poll_effect()
    }
    fn wake_at(&self) -> Option<Time> {
        self.poll_timeout()
    }
}

/// A place where a process may run.
pub struct Node {
    pub address: IpAddr,
    pub process: Option<Process>,
    /// Counts the processes that ran here, so that what was meant for one never reaches the next.
    pub life: u32,
    /// Stopped (SIGSTOP): inputs wait here.
    pub(crate) paused: Option<Vec<Happening>>,
    /// The host is off: nobody says so to anyone.
    pub(crate) dark: bool,
    /// How far its clock has jumped ahead of the world's.
    pub(crate) ahead: Duration,
    pub(crate) wakes: BTreeMap<Slot, Time>,
    /// Inputs since its handlespace was last looked at as a whole.
    unchecked: usize,
}

impl Node {
    pub fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// The registrar that runs here, if one does.
    pub fn registrar(&self) -> Option<&Registrar> {
        match &self.process {
            Some(Process::Registrar(registrar)) => Some(registrar),
            Some(Process::Host(_) | Process::RsplibRegistrar(_) | Process::RsplibElement(_)) | None => None,
        }
    }

    pub fn rsplib_registrar(&self) -> Option<&rsplib::Registrar> {
        match &self.process {
            Some(Process::RsplibRegistrar(registrar)) => Some(registrar),
            Some(Process::Host(_) | Process::Registrar(_) | Process::RsplibElement(_)) | None => None,
        }
    }

    pub fn rsplib_element(&self) -> Option<&rsplib::Element> {
        match &self.process {
            Some(Process::RsplibElement(element)) => Some(element),
            Some(Process::Host(_) | Process::Registrar(_) | Process::RsplibRegistrar(_)) | None => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub node: usize,
    pub life: u32,
    pub slot: Slot,
    pub link: LinkId,
    pub open: bool,
}

pub(crate) struct Pipe {
    pub ends: [End; 2],
    pub kind: LinkKind,
    pub protocol: Protocol,
    /// Where it was opened to.
    port: u16,
    /// Last scheduled delivery per receiving end: order is kept.
    last: [Time; 2],
    /// Held back by a cut, per receiving end.
    pub held: [Vec<Happening>; 2],
    /// Bytes on their way, per receiving end.
    pub backlog: [usize; 2],
    /// The transport's patience is running, and ends then.
    pub dying: Option<Time>,
    /// Nothing gets through any more, and nobody has been told.
    pub void: bool,
    /// Who opened it knows that it is up.
    pub up: bool,
}

impl Pipe {
    /// Whether it runs between these two nodes.
    pub fn joins(&self, a: usize, b: usize) -> bool {
        let [x, y] = self.ends;
        (x.node == a && y.node == b) || (x.node == b && y.node == a)
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Happening {
    Arrive { pipe: usize, to: Destination },
    Up { pipe: usize },
    Fail { pipe: usize, why: LinkFailure },
    Deliver { pipe: usize, end: usize, channel: Channel, bytes: Vec<u8> },
    Down { pipe: usize, end: usize, why: LinkFailure },
    Known { pipe: usize, end: usize, why: LinkFailure },
    Patience { pipe: usize },
    Announce { node: usize, protocol: Protocol, audience: Audience, from: SocketAddr, bytes: Vec<u8> },
    Wake { node: usize, life: u32, slot: Slot },
}

/// How a registrar is started.
#[derive(Clone)]
pub struct Boot {
    pub id: u32,
    pub config: RegistrarConfig,
    pub limits: Limits,
    /// What carries ENRP; none: it serves none.
    pub enrp: Option<LinkKind>,
    pub announce: bool,
    /// The nodes of its configured peers.
    pub peers: Vec<usize>,
}

pub struct World {
    pub now: Time,
    pub rng: Rng,
    pub nodes: Vec<Node>,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    pub(crate) pipes: Vec<Pipe>,
    by_link: BTreeMap<(usize, u32, Slot, LinkId), (usize, usize)>,
    pub(crate) faults: Faults,
    /// One-way latency, least and most.
    pub latency: (Duration, Duration),
    incoming: u64,
    trace: u64,
    steps: (Time, u64),
    pub watch: Watch,
    /// Tell what happens among registrars, for who looks into a seed.
    pub log: bool,
    /// Identifiers of elements that were drawn: of 100,000 two would be the same.
    drawn: BTreeSet<PeId>,
    /// Rare states that were reached, with how often.
    pub reached: BTreeMap<&'static str, u64>,
    /// How long what is bounded took.
    pub took: BTreeMap<&'static str, Vec<Duration>>,
}

impl World {
    /// An identifier for a new element.
    pub fn draw_id(&mut self) -> PeId {
        loop {
            let id = PeId(self.rng.next_u64() as u32 | 1);
            if self.drawn.insert(id) {
                return id;
            }
        }
    }

    pub fn new(seed: u64) -> World {
        World {
            now: Time::ZERO,
            rng: Rng::new(seed),
            nodes: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            pipes: Vec::new(),
            by_link: BTreeMap::new(),
            faults: Faults::default(),
            latency: (Duration::from_micros(50), Duration::from_millis(2)),
            incoming: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            steps: (Time::ZERO, 0),
            watch: Watch::default(),
            log: false,
            reached: BTreeMap::new(),
            took: BTreeMap::new(),
            drawn: BTreeSet::new(),
        }
    }

    /// A place for a process; its address follows from its number.
    pub fn add_node(&mut self) -> usize {
        let n = self.nodes.len();
        let [high, low] = ((n + 1) as u16).to_be_bytes();
        self.nodes.push(Node {
            address: IpAddr::V4(Ipv4Addr::new(10, 1, high, low)),
            process: None,
            life: 0,
            paused: None,
            dark: false,
            ahead: Duration::ZERO,
            wakes: BTreeMap::new(),
            unchecked: 0,
        });
        n
    }

    /// Starts a registrar that serves no other registrars, with an empty handlespace.
    pub fn start_registrar(&mut self, node: usize, config: RegistrarConfig, announce: bool) {
        let id = 0x1000 + node as u32;
        self.boot(
            node,
            Boot { id, config, limits: Limits::default(), enrp: None, announce, peers: Vec::new() },
        );
    }

    /// Starts a registrar with an empty handlespace.
    pub fn boot(&mut self, node: usize, boot: Boot) {
        let address = self.nodes[node].address;
        let transport_use = TransportUse::DataOnly;
        let asap = vec![TransportAddress::Tcp { port: ASAP_PORT, transport_use, address }];
        let enrp = boot.enrp.map(|kind| match kind {
            LinkKind::Sctp => {
                TransportAddress::Sctp { port: ENRP_PORT, transport_use, addresses: Addresses::from(address) }
            }
            LinkKind::Tcp | LinkKind::Udp => {
                TransportAddress::Tcp { port: ENRP_PORT, transport_use, address }
            }
        });
        let kind = boot.enrp.unwrap_or(LinkKind::Tcp);
        let peers = boot.peers.iter().map(|peer| Destination {
            kind,
            protocol: Protocol::Enrp,
            port: ENRP_PORT,
            addresses: self.nodes[*peer].address.into(),
        });
        let setup = Setup {
            id: ServerId::new(boot.id).expect("not zero"),
            asap,
            enrp: enrp.into_iter().collect(),
            announce: boot.announce,
            peers: peers.collect(),
        };
        let seed = self.rng.next_u64();
        self.watch.on_boot(node, self.now, &boot);
        let registrar = Registrar::new(boot.config, boot.limits, seed, setup);
        self.start(node, Process::Registrar(Box::new(registrar)));
    }

    /// Starts a process on a node that has none.
    pub fn start(&mut self, node: usize, process: Process) {
        assert!(self.nodes[node].process.is_none(), "node {node} is taken");
        self.nodes[node].process = Some(process);
        self.nodes[node].dark = false;
        self.note("start", &[node as u8]);
        self.settle(node);
    }

    /// The destination of a registrar's ASAP listener.
    pub fn registrar_at(&self, node: usize) -> Destination {
        Destination {
            kind: LinkKind::Tcp,
            protocol: Protocol::Asap,
            port: ASAP_PORT,
            addresses: self.nodes[node].address.into(),
        }
    }

    /// The registrar that runs on a node, if one does.
    pub fn runs_registrar(&self, node: usize) -> Option<&Registrar> {
        self.nodes[node].registrar()
    }

    pub fn registrar(&self, node: usize) -> &Registrar {
        self.runs_registrar(node).unwrap_or_else(|| panic!("node {node} runs no registrar"))
    }

    pub fn host(&self, node: usize) -> &Host {
        match &self.nodes[node].process {
            Some(Process::Host(host)) => host,
            Some(Process::Registrar(_) | Process::RsplibRegistrar(_) | Process::RsplibElement(_)) | None => {
                panic!("node {node} runs no host")
            }
        }
    }

    /// The time by the node's own clock.
    pub fn clock(&self, node: usize) -> Time {
        self.now + self.nodes[node].ahead
    }

    /// Lets the host's application do something now.
    pub fn tell(&mut self, node: usize, act: impl FnOnce(&mut Host, Time)) {
        let now = self.clock(node);
        match &mut self.nodes[node].process {
            Some(Process::Host(host)) => act(host, now),
            Some(Process::Registrar(_) | Process::RsplibRegistrar(_) | Process::RsplibElement(_)) | None => {
                panic!("node {node} runs no host")
            }
        }
        self.settle(node);
    }

    pub fn count(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.reached.entry(what).or_default() += times;
        }
    }

    // Time.

    pub(crate) fn schedule(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), happening);
    }

    fn delay(&mut self, from: usize, to: usize) -> Duration {
        let (least, most) = self.latency;
        let plain = least + Duration::from_nanos(self.rng.below((most - least).as_nanos() as u64 + 1));
        match self.faults.slow.get(&(from, to)).copied() {
            // A slow path is an unsteady one.
            Some(more) => {
                plain + more / 2 + Duration::from_nanos(self.rng.below(more.as_nanos() as u64 / 2 + 1))
            }
            None => plain,
        }
    }

    /// When something sent now to this end of a pipe arrives, behind all that was sent before.
    pub(crate) fn order(&mut self, pipe: usize, end: usize) -> Time {
        let (from, to) = (self.pipes[pipe].ends[1 - end].node, self.pipes[pipe].ends[end].node);
        let at = (self.now + self.delay(from, to)).max(self.pipes[pipe].last[end]);
        self.pipes[pipe].last[end] = at;
        at
    }

    /// Takes back what is under way to one end of a pipe, in its order.
    pub(crate) fn take_under_way(&mut self, pipe: usize, end: usize) -> Vec<Happening> {
        let goes_there = |happening: &Happening| match happening {
            Happening::Deliver { pipe: on, end: to, .. } | Happening::Down { pipe: on, end: to, .. } => {
                (*on, *to) == (pipe, end)
            }
            Happening::Up { pipe: on } => (*on, 0) == (pipe, end),
            _ => false,
        };
        self.queue.extract_if(.., |_, happening| goes_there(happening)).map(|(_, it)| it).collect()
    }

    pub(crate) fn send(
        &mut self,
        pipe: usize,
        end: usize,
        happening: impl FnOnce(usize, usize) -> Happening,
    ) {
        let at = self.order(pipe, end);
        self.schedule(at, happening(pipe, end));
    }

    /// Runs for a while of virtual time.
    pub fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while self.queue.first_key_value().is_some_and(|((at, _), _)| *at <= until) {
            self.step();
        }
        self.now = until;
    }

    /// Runs until the condition holds; how long it took. Fails the seed when `bound` is over.
    pub fn run_until(
        &mut self,
        bound: Duration,
        what: &str,
        mut holds: impl FnMut(&World) -> bool,
    ) -> Duration {
        let start = self.now;
        let until = start + bound;
        while !holds(self) {
            let next = self.queue.first_key_value().map(|((at, _), _)| *at);
            match next {
                Some(at) if at <= until => self.step(),
                Some(_) | None => panic!("not within {bound:?}: {what}"),
            }
        }
        self.now.since(start)
    }

    fn step(&mut self) {
        let Some(((at, _), happening)) = self.queue.pop_first() else { return };
        assert!(at >= self.now, "time went back");
        self.now = at;
        if self.steps.0 != at {
            self.steps = (at, 0);
        }
        self.steps.1 += 1;
        assert!(self.steps.1 < STEPS_PER_INSTANT, "a loop without end at {at:?}: {happening:?}");
        self.happen(happening);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Wake { node, life, slot } => {
                if self.nodes[node].life != life || self.nodes[node].wakes.get(&slot) != Some(&self.now) {
                    return;
                }
                // A process that is stopped is woken when it goes on.
                if !self.nodes[node].is_paused() {
                    self.nodes[node].wakes.remove(&slot);
                    self.input(node, slot, Input::Timeout);
                }
            }
            Happening::Announce { node, protocol, audience, from, bytes } => {
                if let Some(waiting) = &mut self.nodes[node].paused {
                    waiting.push(Happening::Announce { node, protocol, audience, from, bytes });
                } else if self.nodes[node].process.is_some() {
                    self.note("announce", &bytes);
                    self.input(node, 0, Input::Announce { protocol, audience, from, bytes: &bytes });
                }
            }
            Happening::Arrive { pipe, to } => self.arrive(pipe, to),
            Happening::Up { pipe } => {
                if self.faults.is_cut(&self.pipes[pipe], 0) {
                    // It comes up yet if the cut heals in time.
                    self.pipes[pipe].held[0].push(Happening::Up { pipe });
                    self.schedule(
                        self.now + CONNECT_PATIENCE,
                        Happening::Fail { pipe, why: LinkFailure::TimedOut },
                    );
                } else {
                    self.up(pipe, 0, false);
                }
            }
            Happening::Fail { pipe, why } => {
                if !self.pipes[pipe].up {
                    self.pipes[pipe].held[0].clear();
                    self.down(pipe, 0, why);
                }
            }
            Happening::Deliver { pipe, end, channel, bytes } => self.deliver(pipe, end, channel, bytes),
            Happening::Down { pipe, end, why } => {
                if self.pipes[pipe].void {
                    return;
                }
                if self.faults.is_cut(&self.pipes[pipe], end) {
                    self.pipes[pipe].held[end].push(Happening::Down { pipe, end, why });
                    return self.run_patience(pipe);
                }
                self.down(pipe, end, why);
            }
            // The process's own host knows: no cut holds that back.
            Happening::Known { pipe, end, why } => self.down(pipe, end, why),
            Happening::Patience { pipe } => {
                if self.pipes[pipe].dying.is_some_and(|at| at <= self.now) {
                    self.pipes[pipe].dying = None;
                    self.pipes[pipe].void = false;
                    self.count("a transport lost patience", 1);
                    self.pipes[pipe].held = [Vec::new(), Vec::new()];
                    self.down(pipe, 0, LinkFailure::TimedOut);
                    self.down(pipe, 1, LinkFailure::TimedOut);
                }
            }
        }
    }

    fn deliver(&mut self, pipe: usize, end: usize, channel: Channel, bytes: Vec<u8>) {
        if self.pipes[pipe].void {
            return self.run_patience(pipe);
        }
        if self.faults.is_cut(&self.pipes[pipe], end) {
            self.pipes[pipe].held[end].push(Happening::Deliver { pipe, end, channel, bytes });
            return self.run_patience(pipe);
        }
        let here = self.pipes[pipe].ends[end];
        if !here.open || self.nodes[here.node].life != here.life {
            if self.nodes[here.node].dark {
                self.run_patience(pipe);
            } else {
                // Nobody knows of this link any more.
                let why = LinkFailure::Reset;
                self.send(pipe, 1 - end, |pipe, end| Happening::Down { pipe, end, why });
            }
            return;
        }
        if let Some(waiting) = &mut self.nodes[here.node].paused {
            return waiting.push(Happening::Deliver { pipe, end, channel, bytes });
        }
        let backlog = &mut self.pipes[pipe].backlog[end];
        *backlog = backlog.saturating_sub(bytes.len());
        self.note("deliver", &bytes);
        let from = self.pipes[pipe].ends[1 - end].node;
        if self.log && [from, here.node].iter().any(|node| self.nodes[*node].registrar().is_some()) {
            eprintln!("{:?} {from} -> {}: {}", self.now, here.node, crate::watch::describe(channel, &bytes));
        }
        if channel == Channel::Enrp {
            let from = self.nodes[from].address;
            self.watch.on_delivered(self.now, here.node, from, &bytes);
        }
        if channel == Channel::Asap {
            self.watch.on_delivered_asap(self.now, here.node, &bytes);
        }
        let complete = self.pipes[pipe].protocol != Protocol::Plain;
        self.input(
            here.node,
            here.slot,
            Input::Message { link: here.link, channel, bytes: &bytes, complete },
        );
    }

    fn arrive(&mut self, pipe: usize, to: Destination) {
        let target = self.nodes.iter().position(|node| to.addresses.as_slice().contains(&node.address));
        let from = self.pipes[pipe].ends[0];
        let Some(target) = target else {
            return self.schedule(
                self.now + CONNECT_PATIENCE,
                Happening::Fail { pipe, why: LinkFailure::Unreachable },
            );
        };
        let cut = self.faults.cuts.contains(&(from.node, target));
        if self.nodes[target].dark || cut {
            self.count("a connection attempt went into the void", 1);
            return self
                .schedule(self.now + CONNECT_PATIENCE, Happening::Fail { pipe, why: LinkFailure::TimedOut });
        }
        if self.nodes[target].paused.is_some() {
            // The kernel completes the connection; the process sees it when it goes on.
            if let Some(waiting) = &mut self.nodes[target].paused {
                waiting.push(Happening::Arrive { pipe, to });
            }
            return;
        }
        self.incoming += 1;
        let link = LinkId::incoming(self.incoming);
        let now = self.clock(target);
        let slot = match (&mut self.nodes[target].process, to.port) {
            (Some(Process::Registrar(_)), ASAP_PORT) => Some(0),
            (Some(Process::Registrar(registrar)), ENRP_PORT) => {
                self.watch.serves_enrp(target, registrar.id(), to.kind).then_some(0)
            }
            (Some(Process::Host(_)), ENDPOINT_PORT) => Some(0),
            (Some(Process::RsplibRegistrar(_)), ASAP_PORT | ENRP_PORT) => {
                (to.kind == LinkKind::Sctp).then_some(0)
            }
            (Some(Process::RsplibElement(_)), ENDPOINT_PORT) => (to.kind == LinkKind::Sctp).then_some(0),
            (Some(Process::Host(host)), SERVICE_PORT..) => host.accept(now, link, to.port),
            (Some(_) | None, _) => None,
        };
        let Some(slot) = slot else {
            self.count("a connection was refused", 1);
            return self.send(pipe, 0, |pipe, _| Happening::Fail { pipe, why: LinkFailure::Refused });
        };
        let life = self.nodes[target].life;
        self.pipes[pipe].ends[1] = End { node: target, life, slot, link, open: true };
        self.by_link.insert((target, life, slot, link), (pipe, 1));
        self.send(pipe, 0, |pipe, _| Happening::Up { pipe });
        self.input(target, slot, Input::Incoming { link, protocol: to.protocol });
        self.up(pipe, 1, true);
    }

    fn up(&mut self, pipe: usize, end: usize, incoming: bool) {
        let here = self.pipes[pipe].ends[end];
        let there = self.pipes[pipe].ends[1 - end];
        if !here.open || self.nodes[here.node].life != here.life {
            return;
        }
        if let (Some(waiting), false) = (&mut self.nodes[here.node].paused, incoming) {
            return waiting.push(Happening::Up { pipe });
        }
        self.pipes[pipe].up |= end == 0;
        self.note("up", &[here.node as u8, there.node as u8]);
        let Pipe { port, kind, protocol, .. } = self.pipes[pipe];
        // An association of a registrar leaves from where it listens.
        let opener = if kind == LinkKind::Sctp { port } else { EPHEMERAL_PORT };
        let (at_here, at_there) = if incoming { (port, opener) } else { (opener, port) };
        let local = [SocketAddr::new(self.nodes[here.node].address, at_here)];
        let peer = [SocketAddr::new(self.nodes[there.node].address, at_there)];
        let input =
            Input::LinkUp { link: here.link, kind, protocol, local: &local, peer: &peer, identity: None };
        self.input(here.node, here.slot, input);
    }

    fn down(&mut self, pipe: usize, end: usize, why: LinkFailure) {
        let here = self.pipes[pipe].ends[end];
        if !here.open || self.nodes[here.node].life != here.life {
            return;
        }
        if let Some(waiting) = &mut self.nodes[here.node].paused {
            return waiting.push(Happening::Known { pipe, end, why });
        }
        self.pipes[pipe].ends[end].open = false;
        self.by_link.remove(&(here.node, here.life, here.slot, here.link));
        self.note("down", &[here.node as u8, why as u8]);
        if self.pipes[pipe].protocol == Protocol::Enrp {
            let there = self.nodes[self.pipes[pipe].ends[1 - end].node].address;
            self.watch.on_link_lost(self.now, here.node, there);
        }
        self.input(here.node, here.slot, Input::LinkDown { link: here.link, why });
    }

    pub(crate) fn input(&mut self, node: usize, slot: Slot, input: Input<'_>) {
        let now = self.clock(node);
        if let Some(process) = &mut self.nodes[node].process {
            process.with(slot, |machine| machine.step(now, input));
            self.settle(node);
        }
    }

    /// Lets a process's application react, carries out what its machines want, and checks its invariants.
    pub(crate) fn settle(&mut self, node: usize) {
        let now = self.clock(node);
        loop {
            let (mut wanted, mut events) = (Vec::new(), Vec::new());
            let slots = match &mut self.nodes[node].process {
                None => return,
                Some(Process::Registrar(registrar)) => {
                    while let Some(event) = registrar.poll_event() {
                        events.push(event);
                    }
                    vec![0]
                }
                Some(Process::Host(host)) => {
                    host.react(now);
                    host.slots()
                }
                Some(Process::RsplibRegistrar(_) | Process::RsplibElement(_)) => vec![0],
            };
            for event in events {
                if self.log {
                    eprintln!("{:?} {node}: {event:?}", self.now);
                }
                self.watch.on_event(self.now, node, &event, &self.nodes);
            }
            let Some(process) = &mut self.nodes[node].process else { return };
            for slot in slots {
                process.with(slot, |machine| {
                    while let Some(effect) = machine.effect() {
                        wanted.push((slot, effect));
                    }
                });
            }
            if wanted.is_empty() {
                break;
            }
            for (slot, effect) in wanted {
                self.carry_out(node, slot, effect);
            }
        }
        self.check(node);
        self.plan_wakes(node);
    }

    pub(crate) fn plan_wakes(&mut self, node: usize) {
        let slots = match &mut self.nodes[node].process {
            None => return,
            Some(Process::Registrar(_) | Process::RsplibRegistrar(_) | Process::RsplibElement(_)) => vec![0],
            Some(Process::Host(host)) => host.slots(),
        };
        let (life, ahead) = (self.nodes[node].life, self.nodes[node].ahead.as_nanos() as u64);
        for slot in slots {
            let Some(process) = &mut self.nodes[node].process else { return };
            let wanted = process.with(slot, |machine| machine.wake_at()).flatten();
            match wanted {
                Some(at) => {
                    // By the world's clock.
                    let at = Time::from_nanos(at.as_nanos().saturating_sub(ahead)).max(self.now);
                    if self.nodes[node]
                        .wakes
                        .get(&slot)
                        .is_none_or(|planned| at < *planned || *planned < self.now)
                    {
                        self.nodes[node].wakes.insert(slot, at);
                        self.schedule(at, Happening::Wake { node, life, slot });
                    }
                }
                None => {
                    self.nodes[node].wakes.remove(&slot);
                }
            }
        }
    }

    fn carry_out(&mut self, node: usize, slot: Slot, effect: Effect) {
        let life = self.nodes[node].life;
        match effect {
            Effect::Connect { link, to } => {
                let here = End { node, life, slot, link, open: true };
                let pipe = self.pipes.len();
                // The far end is not known before the attempt arrives.
                let target =
                    self.nodes.iter().position(|node| to.addresses.as_slice().contains(&node.address));
                let there = End { open: false, node: target.unwrap_or(node), ..here };
                self.pipes.push(Pipe {
                    ends: [here, there],
                    kind: to.kind,
                    protocol: to.protocol,
                    port: to.port,
                    last: [self.now; 2],
                    held: [Vec::new(), Vec::new()],
                    backlog: [0; 2],
                    dying: None,
                    void: false,
                    up: false,
                });
                assert!(
                    self.by_link.insert((node, life, slot, link), (pipe, 0)).is_none(),
                    "a link id was used twice"
                );
                self.send(pipe, 1, |pipe, _| Happening::Arrive { pipe, to });
            }
            Effect::Send { link, channel, bytes } => {
                let Some(&(pipe, end)) = self.by_link.get(&(node, life, slot, link)) else { return };
                self.transmit(pipe, end, channel, bytes);
            }
            Effect::Close { link, abort } => {
                let Some((pipe, end)) = self.by_link.remove(&(node, life, slot, link)) else { return };
                self.pipes[pipe].ends[end].open = false;
                let why = if abort { LinkFailure::Reset } else { LinkFailure::Closed };
                self.send(pipe, 1 - end, |pipe, end| Happening::Down { pipe, end, why });
            }
            Effect::Announce { protocol, audience, bytes } => {
                let port = if protocol == Protocol::Enrp { ENRP_PORT } else { ASAP_PORT };
                let from = SocketAddr::new(self.nodes[node].address, port);
                for other in 0..self.nodes.len() {
                    let listens = protocol == Protocol::Asap || self.runs_registrar(other).is_some();
                    if other == node || !listens || self.faults.cuts.contains(&(node, other)) {
                        continue;
                    }
                    let at = self.now + self.delay(node, other);
                    let bytes = bytes.clone();
                    self.schedule(at, Happening::Announce { node: other, protocol, audience, from, bytes });
                }
            }
            // Nobody is asked to report here.
            Effect::Datagram { .. } => {}
        }
    }

    fn transmit(&mut self, pipe: usize, end: usize, channel: Channel, bytes: Vec<u8>) {
        let (node, other) = (self.pipes[pipe].ends[end].node, self.pipes[pipe].ends[1 - end].node);
        match channel {
            Channel::Enrp => {
                self.watch.on_sent(node, other, &bytes);
                if self.faults.loses(node, other, &bytes) {
                    self.count("a message was lost on a link that stayed", 1);
                    return;
                }
            }
            Channel::Asap => self.watch.on_sent_asap(node, &bytes),
            Channel::User(_) => {}
        }
        let backlog = &mut self.pipes[pipe].backlog[1 - end];
        *backlog += bytes.len();
        let waiting = *backlog;
        self.watch.on_backlog(waiting);
        if waiting > self.watch.queued_bytes_per_link(node) {
            // The runtime gives such a link up.
            self.count("a link was given up as congested", 1);
            self.send(pipe, 1 - end, |pipe, end| Happening::Down { pipe, end, why: LinkFailure::Reset });
            self.schedule(self.now, Happening::Known { pipe, end, why: LinkFailure::Congested });
            return;
        }
        self.send(pipe, 1 - end, |pipe, end| Happening::Deliver { pipe, end, channel, bytes });
    }

    // Invariants.

    fn check(&mut self, node: usize) {
        match &self.nodes[node].process {
            None => {}
            Some(Process::Registrar(registrar)) => {
                self.watch.on_standing(node, registrar.standing());
                // Looking at all of a large handlespace after every input would take all the time there is.
                let elements = registrar.handlespace().count(None);
                if self.nodes[node].unchecked >= elements / 16 {
                    check_registrar(registrar);
                    self.nodes[node].unchecked = 0;
                } else {
                    self.nodes[node].unchecked += 1;
                }
            }
            Some(Process::Host(host)) => host.check(),
            Some(Process::RsplibRegistrar(_) | Process::RsplibElement(_)) => {}
        }
    }

    /// Mixes what happened into the trace.
    pub(crate) fn note(&mut self, what: &str, bytes: &[u8]) {
        if self.log && bytes.len() < 3 {
            eprintln!("{:?} {what} {bytes:?}", self.now);
        }
        for byte in self.now.as_nanos().to_be_bytes().iter().chain(what.as_bytes()).chain(bytes) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// A hash over everything that happened.
    pub fn trace(&self) -> u64 {
        self.trace
    }
}
