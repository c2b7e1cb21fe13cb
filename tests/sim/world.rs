//! Nodes, pipes between them, time and faults. Knows the machines' contract and nothing of the protocol.

use crate::host::Host;
use asap::config::{Limits, RegistrarConfig};
use asap::machine::{Channel, Destination, Effect, Input, LinkFailure, LinkId, LinkKind, Machine, Protocol};
use asap::registrar::{Registrar, Setup};
use asap::types::{Rng, ServerId, Time, TransportAddress};
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

/// How long a transport keeps trying to get bytes through before it gives a link up.
const TRANSPORT_PATIENCE: Duration = Duration::from_secs(8);
/// How long a connection attempt into the void takes to fail.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);
/// More happenings than this in one instant are a loop without end.
const STEPS_PER_INSTANT: u64 = 200_000;

pub const ASAP_PORT: u16 = 3863;
pub const ENRP_PORT: u16 = 9901;
pub const ENDPOINT_PORT: u16 = 5000;
pub const SERVICE_PORT: u16 = 7000;

/// A machine within a process: a registrar or endpoint is slot 0, sessions come behind.
pub type Slot = u64;

/// What runs on a node.
pub enum Process {
    Registrar(Box<Registrar>),
    Host(Box<Host>),
}

impl Process {
    fn with<R>(&mut self, slot: Slot, act: impl FnOnce(&mut dyn Steppable) -> R) -> Option<R> {
        match self {
            Process::Registrar(registrar) => Some(act(&mut **registrar)),
            Process::Host(host) => host.machine(slot).map(act),
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
    paused: Option<Vec<Happening>>,
    /// The host is off: nobody says so to anyone.
    dark: bool,
    wakes: BTreeMap<Slot, Time>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct End {
    node: usize,
    life: u32,
    slot: Slot,
    link: LinkId,
    open: bool,
}

struct Pipe {
    ends: [End; 2],
    protocol: Protocol,
    /// Last scheduled delivery per receiving end: order is kept.
    last: [Time; 2],
    /// Held back by a cut, per receiving end.
    held: [Vec<Happening>; 2],
    /// The transport's patience is running.
    dying: bool,
}

#[derive(Clone, Debug)]
enum Happening {
    Arrive { pipe: usize, to: Destination },
    Up { pipe: usize },
    Fail { pipe: usize, why: LinkFailure },
    Deliver { pipe: usize, end: usize, channel: Channel, bytes: Vec<u8> },
    Down { pipe: usize, end: usize, why: LinkFailure },
    Patience { pipe: usize },
    Announce { node: usize, from: SocketAddr, bytes: Vec<u8> },
    Wake { node: usize, life: u32, slot: Slot },
}

pub struct World {
    pub now: Time,
    pub rng: Rng,
    pub nodes: Vec<Node>,
    queue: BTreeMap<(Time, u64), Happening>,
    sequence: u64,
    pipes: Vec<Pipe>,
    by_link: BTreeMap<(usize, u32, Slot, LinkId), (usize, usize)>,
    cuts: BTreeSet<(usize, usize)>,
    /// One-way latency, least and most.
    pub latency: (Duration, Duration),
    incoming: u64,
    trace: u64,
    steps: (Time, u64),
    /// Rare states that were reached, with how often.
    pub reached: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(seed: u64) -> World {
        World {
            now: Time::ZERO,
            rng: Rng::new(seed),
            nodes: Vec::new(),
            queue: BTreeMap::new(),
            sequence: 0,
            pipes: Vec::new(),
            by_link: BTreeMap::new(),
            cuts: BTreeSet::new(),
            latency: (Duration::from_micros(50), Duration::from_millis(2)),
            incoming: 0,
            trace: 0xcbf2_9ce4_8422_2325,
            steps: (Time::ZERO, 0),
            reached: BTreeMap::new(),
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
            wakes: BTreeMap::new(),
        });
        n
    }

    /// Starts a registrar with an empty handlespace.
    pub fn start_registrar(&mut self, node: usize, config: RegistrarConfig, announce: bool) {
        let transport = TransportAddress::Tcp {
            port: ASAP_PORT,
            transport_use: asap::types::TransportUse::DataOnly,
            address: self.nodes[node].address,
        };
        let id = ServerId::new(0x1000 + node as u32).expect("not zero");
        let seed = self.rng.next_u64();
        let registrar = {
            let setup = Setup { id, asap: vec![transport], enrp: Vec::new(), announce, peers: Vec::new() };
            Registrar::new(config, Limits::default(), seed, setup)
        };
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

    pub fn registrar(&self, node: usize) -> &Registrar {
        match &self.nodes[node].process {
            Some(Process::Registrar(registrar)) => registrar,
            Some(Process::Host(_)) | None => panic!("node {node} runs no registrar"),
        }
    }

    pub fn host(&self, node: usize) -> &Host {
        match &self.nodes[node].process {
            Some(Process::Host(host)) => host,
            Some(Process::Registrar(_)) | None => panic!("node {node} runs no host"),
        }
    }

    /// Lets the host's application do something now.
    pub fn tell(&mut self, node: usize, act: impl FnOnce(&mut Host, Time)) {
        let now = self.now;
        match &mut self.nodes[node].process {
            Some(Process::Host(host)) => act(host, now),
            Some(Process::Registrar(_)) | None => panic!("node {node} runs no host"),
        }
        self.settle(node);
    }

    pub fn count(&mut self, what: &'static str, times: u64) {
        if times > 0 {
            *self.reached.entry(what).or_default() += times;
        }
    }

    // Faults.

    /// Kills the process; the host's kernel tells its peers.
    pub fn crash(&mut self, node: usize) {
        self.note("crash", &[node as u8]);
        self.end_process(node);
        for pipe in 0..self.pipes.len() {
            for end in 0..2 {
                let here = self.pipes[pipe].ends[end];
                if here.node == node && here.open {
                    self.pipes[pipe].ends[end].open = false;
                    self.send(pipe, 1 - end, |pipe, end| Happening::Down {
                        pipe,
                        end,
                        why: LinkFailure::Reset,
                    });
                }
            }
        }
    }

    /// Switches the host off: nobody is told anything.
    pub fn darken(&mut self, node: usize) {
        self.note("dark", &[node as u8]);
        self.end_process(node);
        self.nodes[node].dark = true;
        for pipe in 0..self.pipes.len() {
            for end in 0..2 {
                let here = self.pipes[pipe].ends[end];
                if here.node == node && here.open {
                    self.pipes[pipe].ends[end].open = false;
                    self.run_patience(pipe);
                }
            }
        }
    }

    fn end_process(&mut self, node: usize) {
        let place = &mut self.nodes[node];
        place.process = None;
        place.paused = None;
        place.life += 1;
        place.wakes.clear();
    }

    /// Stops a process without ending it.
    pub fn pause(&mut self, node: usize) {
        self.note("pause", &[node as u8]);
        self.nodes[node].paused.get_or_insert_default();
    }

    /// Lets it go on: everything that waited comes at once.
    pub fn resume(&mut self, node: usize) {
        self.note("resume", &[node as u8]);
        for happening in self.nodes[node].paused.take().unwrap_or_default() {
            self.schedule(self.now, happening);
        }
    }

    /// Cuts the path between two nodes, both ways; bytes on the way wait.
    pub fn cut(&mut self, a: usize, b: usize) {
        self.note("cut", &[a as u8, b as u8]);
        self.cuts.insert((a.min(b), a.max(b)));
        for pipe in 0..self.pipes.len() {
            if self.is_cut(pipe) {
                self.run_patience(pipe);
            }
        }
    }

    /// Heals the path; what waited arrives.
    pub fn heal(&mut self, a: usize, b: usize) {
        self.note("heal", &[a as u8, b as u8]);
        self.cuts.remove(&(a.min(b), a.max(b)));
        for pipe in 0..self.pipes.len() {
            let [x, y] = self.pipes[pipe].ends;
            if (x.node.min(y.node), x.node.max(y.node)) != (a.min(b), a.max(b)) {
                continue;
            }
            self.pipes[pipe].dying = self.nodes[x.node].dark || self.nodes[y.node].dark;
            for end in 0..2 {
                let held = std::mem::take(&mut self.pipes[pipe].held[end]);
                self.count("bytes held by a cut arrive after it healed", held.len() as u64);
                for happening in held {
                    let at = self.order(pipe, end);
                    self.schedule(at, happening);
                }
            }
        }
    }

    /// Breaks every link between two nodes; both are told.
    pub fn reset_links(&mut self, a: usize, b: usize) {
        self.note("reset", &[a as u8, b as u8]);
        for pipe in 0..self.pipes.len() {
            let [x, y] = self.pipes[pipe].ends;
            if (x.node.min(y.node), x.node.max(y.node)) == (a.min(b), a.max(b)) {
                for end in 0..2 {
                    let at = self.order(pipe, end);
                    self.schedule(at, Happening::Down { pipe, end, why: LinkFailure::Reset });
                }
            }
        }
    }

    fn is_cut(&self, pipe: usize) -> bool {
        let [x, y] = self.pipes[pipe].ends;
        self.cuts.contains(&(x.node.min(y.node), x.node.max(y.node)))
    }

    fn run_patience(&mut self, pipe: usize) {
        if !std::mem::replace(&mut self.pipes[pipe].dying, true) {
            self.schedule(self.now + TRANSPORT_PATIENCE, Happening::Patience { pipe });
        }
    }

    // Time.

    fn schedule(&mut self, at: Time, happening: Happening) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), happening);
    }

    fn delay(&mut self) -> Duration {
        let (least, most) = self.latency;
        least + Duration::from_nanos(self.rng.below((most - least).as_nanos() as u64 + 1))
    }

    /// When something sent now to this end of a pipe arrives, behind all that was sent before.
    fn order(&mut self, pipe: usize, end: usize) -> Time {
        let at = (self.now + self.delay()).max(self.pipes[pipe].last[end]);
        self.pipes[pipe].last[end] = at;
        at
    }

    fn send(&mut self, pipe: usize, end: usize, happening: impl FnOnce(usize, usize) -> Happening) {
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
                if let Some(waiting) = &mut self.nodes[node].paused {
                    waiting.push(Happening::Wake { node, life, slot });
                    return;
                }
                self.nodes[node].wakes.remove(&slot);
                self.input(node, slot, Input::Timeout);
            }
            Happening::Announce { node, from, bytes } => {
                if let Some(waiting) = &mut self.nodes[node].paused {
                    waiting.push(Happening::Announce { node, from, bytes });
                } else if self.nodes[node].process.is_some() {
                    self.input(node, 0, Input::Announce { protocol: Protocol::Asap, from, bytes: &bytes });
                }
            }
            Happening::Arrive { pipe, to } => self.arrive(pipe, to),
            Happening::Up { pipe } => {
                if self.is_cut(pipe) {
                    self.schedule(
                        self.now + CONNECT_PATIENCE,
                        Happening::Fail { pipe, why: LinkFailure::TimedOut },
                    );
                } else {
                    self.up(pipe, 0, false);
                }
            }
            Happening::Fail { pipe, why } => self.down(pipe, 0, why),
            Happening::Deliver { pipe, end, channel, bytes } => {
                if self.is_cut(pipe) {
                    self.pipes[pipe].held[end].push(Happening::Deliver { pipe, end, channel, bytes });
                    return self.run_patience(pipe);
                }
                let here = self.pipes[pipe].ends[end];
                if !here.open || self.nodes[here.node].life != here.life {
                    if self.nodes[here.node].dark {
                        self.run_patience(pipe);
                    }
                    return;
                }
                if let Some(waiting) = &mut self.nodes[here.node].paused {
                    return waiting.push(Happening::Deliver { pipe, end, channel, bytes });
                }
                self.note("deliver", &bytes);
                let complete = self.pipes[pipe].protocol != Protocol::Plain;
                self.input(
                    here.node,
                    here.slot,
                    Input::Message { link: here.link, channel, bytes: &bytes, complete },
                );
            }
            Happening::Down { pipe, end, why } => {
                if self.is_cut(pipe) {
                    self.pipes[pipe].held[end].push(Happening::Down { pipe, end, why });
                    return self.run_patience(pipe);
                }
                self.down(pipe, end, why);
            }
            Happening::Patience { pipe } => {
                if std::mem::take(&mut self.pipes[pipe].dying) {
                    self.count("a transport lost patience", 1);
                    self.pipes[pipe].held = [Vec::new(), Vec::new()];
                    self.down(pipe, 0, LinkFailure::TimedOut);
                    self.down(pipe, 1, LinkFailure::TimedOut);
                }
            }
        }
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
        let cut = self.cuts.contains(&(from.node.min(target), from.node.max(target)));
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
        let now = self.now;
        let slot = match (&mut self.nodes[target].process, to.port) {
            (Some(Process::Registrar(_)), ASAP_PORT | ENRP_PORT) => Some(0),
            (Some(Process::Host(_)), ENDPOINT_PORT) => Some(0),
            (Some(Process::Host(host)), SERVICE_PORT) => host.accept(now, link),
            (Some(_) | None, _) => None,
        };
        let Some(slot) = slot else {
            self.count("a connection was refused", 1);
            return self.send(pipe, 0, |pipe, _| Happening::Fail { pipe, why: LinkFailure::Refused });
        };
        let life = self.nodes[target].life;
        self.pipes[pipe].ends[1] = End { node: target, life, slot, link, open: true };
        self.pipes[pipe].protocol = to.protocol;
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
        self.note("up", &[here.node as u8, there.node as u8]);
        let port = if incoming { SERVICE_PORT } else { 40_000 };
        let local = [SocketAddr::new(self.nodes[here.node].address, port)];
        let peer =
            [SocketAddr::new(self.nodes[there.node].address, if incoming { 40_000 } else { ASAP_PORT })];
        let input = Input::LinkUp {
            link: here.link,
            kind: LinkKind::Tcp,
            protocol: self.pipes[pipe].protocol,
            local: &local,
            peer: &peer,
            identity: None,
        };
        self.input(here.node, here.slot, input);
    }

    fn down(&mut self, pipe: usize, end: usize, why: LinkFailure) {
        let here = self.pipes[pipe].ends[end];
        if !here.open || self.nodes[here.node].life != here.life {
            return;
        }
        if let Some(waiting) = &mut self.nodes[here.node].paused {
            return waiting.push(Happening::Down { pipe, end, why });
        }
        self.pipes[pipe].ends[end].open = false;
        self.by_link.remove(&(here.node, here.life, here.slot, here.link));
        self.note("down", &[here.node as u8, why as u8]);
        self.input(here.node, here.slot, Input::LinkDown { link: here.link, why });
    }

    fn input(&mut self, node: usize, slot: Slot, input: Input<'_>) {
        let now = self.now;
        if let Some(process) = &mut self.nodes[node].process {
            process.with(slot, |machine| machine.step(now, input));
            self.settle(node);
        }
    }

    /// Lets a process's application react, carries out what its machines want, and checks its invariants.
    fn settle(&mut self, node: usize) {
        let now = self.now;
        loop {
            let mut wanted = Vec::new();
            let slots = match &mut self.nodes[node].process {
                None => return,
                Some(Process::Registrar(registrar)) => {
                    while registrar.poll_event().is_some() {}
                    vec![0]
                }
                Some(Process::Host(host)) => {
                    host.react(now);
                    host.slots()
                }
            };
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

    fn plan_wakes(&mut self, node: usize) {
        let slots = match &mut self.nodes[node].process {
            None => return,
            Some(Process::Registrar(_)) => vec![0],
            Some(Process::Host(host)) => host.slots(),
        };
        let life = self.nodes[node].life;
        for slot in slots {
            let Some(process) = &mut self.nodes[node].process else { return };
            let wanted = process.with(slot, |machine| machine.wake_at()).flatten();
            match wanted {
                Some(at) => {
                    let at = at.max(self.now);
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
                let there = End { open: false, ..here };
                self.pipes.push(Pipe {
                    ends: [here, there],
                    protocol: to.protocol,
                    last: [self.now; 2],
                    held: [Vec::new(), Vec::new()],
                    dying: false,
                });
                assert!(
                    self.by_link.insert((node, life, slot, link), (pipe, 0)).is_none(),
                    "a link id was used twice"
                );
                self.send(pipe, 1, |pipe, _| Happening::Arrive { pipe, to });
            }
            Effect::Send { link, channel, bytes } => {
                let Some(&(pipe, end)) = self.by_link.get(&(node, life, slot, link)) else { return };
                self.send(pipe, 1 - end, |pipe, end| Happening::Deliver { pipe, end, channel, bytes });
            }
            Effect::Close { link, abort } => {
                let Some((pipe, end)) = self.by_link.remove(&(node, life, slot, link)) else { return };
                self.pipes[pipe].ends[end].open = false;
                let why = if abort { LinkFailure::Reset } else { LinkFailure::Closed };
                self.send(pipe, 1 - end, |pipe, end| Happening::Down { pipe, end, why });
            }
            Effect::Announce { protocol, bytes } => {
                let port = if protocol == Protocol::Enrp { ENRP_PORT } else { ASAP_PORT };
                let from = SocketAddr::new(self.nodes[node].address, port);
                for other in 0..self.nodes.len() {
                    if other == node || self.cuts.contains(&(other.min(node), other.max(node))) {
                        continue;
                    }
                    let at = self.now + self.delay();
                    self.schedule(at, Happening::Announce { node: other, from, bytes: bytes.clone() });
                }
            }
        }
    }

    // Invariants.

    fn check(&self, node: usize) {
        match &self.nodes[node].process {
            None => {}
            Some(Process::Registrar(registrar)) => check_registrar(registrar),
            Some(Process::Host(host)) => host.check(),
        }
    }

    /// Mixes what happened into the trace.
    fn note(&mut self, what: &str, bytes: &[u8]) {
        for byte in self.now.as_nanos().to_be_bytes().iter().chain(what.as_bytes()).chain(bytes) {
            self.trace = (self.trace ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// A hash over everything that happened.
    pub fn trace(&self) -> u64 {
        self.trace
    }
}

/// What a handlespace promises at any moment: every element has this home or another's, fits its pool, and the checksum
/// kept equals the one computed afresh.
fn check_registrar(registrar: &Registrar) {
    let space = registrar.handlespace();
    let (mut elements, mut sum) = (0, 0u64);
    for (handle, traits, count) in space.pools() {
        let mut listed = 0;
        for entry in space.elements(handle) {
            listed += 1;
            assert_eq!(entry.element.policy.policy_type(), traits.policy_type, "a pool of two policies");
            assert_eq!(entry.element.user_transport.kind(), traits.transport, "a pool of two transports");
            assert!(entry.element.home.is_some(), "an element without home");
            if entry.element.home == Some(registrar.id()) {
                let mut block = handle.as_bytes().to_vec();
                block.resize(block.len().next_multiple_of(2), 0);
                block.extend(entry.element.id.0.to_be_bytes());
                sum += block.chunks(2).map(|w| u64::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u64>();
            }
        }
        assert_eq!(listed, count, "pool {handle} is miscounted");
        assert!(count > 0, "an empty pool is kept");
        elements += count;
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let kept = space.checksum(registrar.id(), asap::handlespace::View::Full);
    assert_eq!(kept.0, !(sum as u16), "the checksum kept differs from the one computed");
    assert_eq!(space.count(None), elements, "the handlespace is miscounted");
}
