//! Whatever happens in whatever order: some hundred worlds of seeded chance, each of them calm in the end.

use super::*;
use crate::types::Rng;
use std::collections::BTreeSet;

const POOLS: [&str; 3] = ["a", "b", "c"];

/// What the endpoint has open, and what it has been told.
struct World {
    rig: Rig,
    rng: Rng,
    connecting: BTreeSet<LinkId>,
    up: BTreeSet<LinkId>,
    /// Messages not answered yet.
    unanswered: Vec<(LinkId, AsapMessage)>,
    next_incoming: u64,
    next_element: u32,
    /// Requests under way, with their deadlines.
    requests: BTreeMap<RequestId, Time>,
    /// Registrations not ended, with what was told last, and whether they are to end.
    registrations: BTreeMap<RegistrationId, (u32, Standing)>,
    subscriptions: [usize; 3],
    told: usize,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    Untold,
    Registered,
    Failed,
    Refused,
    Leaving,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            rig: Rig::knowing(&[1, 2, 3, 4]),
            rng: Rng::new(seed),
            connecting: BTreeSet::new(),
            up: BTreeSet::new(),
            unanswered: Vec::new(),
            next_incoming: 0,
            next_element: 0,
            requests: BTreeMap::new(),
            registrations: BTreeMap::new(),
            subscriptions: [0; 3],
            told: 0,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.rng.below(bound as u64) as usize
    }

    fn one<T: Clone>(&mut self, of: Vec<T>) -> Option<T> {
        let at = self.below(of.len());
        of.get(at).cloned()
    }

    /// Takes in what the endpoint wants and says, and holds it to its promises.
    fn settle(&mut self) {
        for effect in self.rig.effects() {
            match effect {
                Effect::Connect { link, .. } => {
                    assert!(!link.is_incoming() && self.connecting.insert(link));
                }
                Effect::Close { link, .. } => {
                    assert!(self.connecting.remove(&link) | self.up.remove(&link), "closes what is open");
                }
                Effect::Send { link, channel, bytes } => {
                    assert!(self.up.contains(&link) && channel == Channel::Asap, "sends on open links");
                    let message = AsapMessage::decode(&bytes, Dialect::Unknown).unwrap().message;
                    self.unanswered.push((link, message));
                }
                Effect::Announce { .. } | Effect::Datagram { .. } => {
                    panic!("an endpoint does not announce")
                }
            }
        }
        let outgoing = self.up.iter().filter(|l| !l.is_incoming()).count() + self.connecting.len();
        assert!(outgoing <= 3, "{outgoing} connections");
        if let Some(home) = &self.rig.endpoint.ctx.home {
            assert!(self.up.contains(&home.link));
        }
        self.unanswered.retain(|(link, _)| self.up.contains(link));
        for event in self.rig.events() {
            self.told += 1;
            match event {
                Event::Resolved { request, outcome } => {
                    assert!(self.requests.remove(&request).is_some(), "told once: {outcome:?}");
                }
                Event::Registered { registration, .. } => self.note(registration, Standing::Registered),
                Event::RegistrationFailed { registration, retrying, .. } => {
                    let standing = if retrying { Standing::Failed } else { Standing::Refused };
                    self.note(registration, standing);
                }
                Event::Deregistered { registration, how: Deregistration::Expired } => {
                    self.note(registration, Standing::Untold);
                }
                Event::Deregistered { registration, .. } => {
                    let (_, standing) = self.registrations.remove(&registration).expect("told once");
                    assert_eq!(standing, Standing::Leaving);
                }
                Event::PoolChanged { handle, .. } => {
                    let at = POOLS.iter().position(|name| pool(name) == handle).unwrap();
                    assert!(self.subscriptions[at] > 0);
                }
                Event::HomeChanged(_) | Event::HuntFailed(_) => {}
            }
        }
        assert!(self.requests.values().all(|deadline| *deadline > self.rig.now), "told by the deadline");
    }

    fn note(&mut self, registration: RegistrationId, standing: Standing) {
        let (_, last) = self.registrations.get_mut(&registration).expect("not ended");
        assert_ne!(*last, Standing::Leaving, "nothing but the end is told of what is to end");
        *last = standing;
    }

    fn step(&mut self) {
        let name = POOLS[self.below(3)];
        let soon = self.rig.now + MS(1 + self.rng.below(2_000));
        match self.below(22) {
            0 | 1 => {
                let query = Query { handle: pool(name), items: None, max_age: MS(self.rng.below(2) * 100) };
                let id = self.rig.endpoint.resolve(self.rig.now, query, soon);
                self.requests.insert(id, soon);
            }
            2 => {
                let all = self.requests.keys().copied().collect();
                if let Some(id) = self.one(all) {
                    self.settle();
                    self.requests.remove(&id);
                    self.rig.endpoint.cancel(id);
                }
            }
            3 => {
                self.next_element += 1;
                let offer = offer("a", self.next_element);
                let id = self.rig.endpoint.register(self.rig.now, offer, soon);
                self.registrations.insert(id, (self.next_element, Standing::Untold));
            }
            4 => {
                let all = self.registrations.keys().copied().collect();
                if let Some(id) = self.one(all) {
                    self.rig.endpoint.update(self.rig.now, id, offer("a", 0), soon);
                }
            }
            5 => {
                let all = self.registrations.keys().copied().collect();
                if let Some(id) = self.one(all) {
                    self.settle();
                    if let Some((_, standing)) = self.registrations.get_mut(&id) {
                        *standing = Standing::Leaving;
                    }
                    self.rig.endpoint.deregister(self.rig.now, id, soon);
                }
            }
            6 => {
                let at = self.below(3);
                self.subscriptions[at] += 1;
                self.rig.endpoint.subscribe(self.rig.now, &pool(POOLS[at]));
            }
            7 => {
                let at = self.below(3);
                self.settle();
                self.subscriptions[at] = self.subscriptions[at].saturating_sub(1);
                self.rig.endpoint.unsubscribe(self.rig.now, &pool(POOLS[at]));
            }
            8 => self.rig.endpoint.report_unreachable(self.rig.now, &pool(name), PeId(1)),
            9 => {
                let registrar = self.below(8) as u8;
                let message = AsapMessage::ServerAnnounce {
                    server: ServerId::new(registrar.into()),
                    transports: vec![TransportAddress::Tcp {
                        port: 3863,
                        transport_use: TransportUse::DataOnly,
                        address: [10, 0, 0, registrar].into(),
                    }],
                };
                let bytes = message.encode(Dialect::Unknown).unwrap();
                let from = SocketAddr::from(([10, 0, 0, registrar], 3863));
                self.rig.input(Input::Announce {
                    protocol: Protocol::Asap,
                    audience: Audience::Standard,
                    from,
                    bytes: &bytes,
                });
            }
            10 | 11 => self.bring_up(),
            12 => {
                if let Some(link) = self.one(self.connecting.iter().copied().collect()) {
                    self.connecting.remove(&link);
                    self.rig.down(link, LinkFailure::Refused);
                }
            }
            13 => {
                if let Some(link) = self.one(self.up.iter().copied().collect()) {
                    self.up.remove(&link);
                    self.rig.down(link, LinkFailure::Reset);
                }
            }
            14 => {
                let link = LinkId::incoming(self.next_incoming);
                self.next_incoming += 1;
                self.up.insert(link);
                self.rig.incoming(link_number(link));
            }
            15 => {
                let (home, server) = (self.below(2) == 1, self.rng.below(8) as u32);
                if let Some(link) = self.one(self.up.iter().copied().collect()) {
                    self.rig.message(link, &keep_alive(home, server, "a", None));
                }
            }
            16 => {
                if let Some(link) = self.one(self.up.iter().copied().collect()) {
                    let mut bytes = answer(name, &[1, 2]).encode(Dialect::Unknown).unwrap();
                    let (at, value) = (self.below(bytes.len()), self.below(256));
                    bytes[at] = value as u8;
                    let length = self.below(bytes.len() + 1);
                    bytes.truncate(length);
                    self.rig.bytes(link, &bytes);
                }
            }
            17 => {
                if let Some((link, message)) = self.one(self.unanswered.clone()) {
                    let message = message.encode(Dialect::Unknown).unwrap();
                    self.rig.input(Input::SendFailed { link, channel: Channel::Asap, message });
                }
            }
            18 | 19 => {
                let how = self.below(6);
                if let Some((link, message)) = self.one(self.unanswered.clone()) {
                    self.reply(link, &message, how);
                }
            }
            20 => {
                if let Some((link, message)) = self.unanswered.pop() {
                    self.reply(link, &message, 0);
                }
            }
            _ => {
                let by = MS(self.rng.below(700));
                let end = self.rig.now + by;
                while let Some(at) = self.rig.endpoint.poll_timeout().filter(|at| *at <= end) {
                    self.rig.now = self.rig.now.max(at);
                    self.rig.input(Input::Timeout);
                    self.settle();
                }
                self.rig.now = end;
                self.rig.input(Input::Timeout);
            }
        }
        // Machines are asked for their timers after every input.
        while self.rig.endpoint.poll_timeout().is_some_and(|at| at <= self.rig.now) {
            self.rig.input(Input::Timeout);
        }
        self.settle();
    }

    fn bring_up(&mut self) {
        if let Some(link) = self.one(self.connecting.iter().copied().collect()) {
            self.connecting.remove(&link);
            self.up.insert(link);
            self.rig.up(link);
        }
    }

    /// Answers a message: 0 as asked, else sometimes with a refusal.
    fn reply(&mut self, link: LinkId, message: &AsapMessage, how: usize) {
        let bare = || vec![ErrorCause::bare(CauseCode::Unspecified)];
        match message {
            AsapMessage::Registration(Registration { handle, element }) => {
                let reject = how == 5;
                let error = reject.then(bare);
                let (handle, element) = (handle.clone(), element.id);
                let capabilities = None;
                let message =
                    AsapMessage::RegistrationResponse { reject, handle, element, capabilities, error };
                self.rig.message(link, &message);
            }
            AsapMessage::Deregistration { handle, element } => {
                let error = (how == 5).then(bare);
                let (handle, element) = (handle.clone(), *element);
                self.rig.message(link, &AsapMessage::DeregistrationResponse { handle, element, error });
            }
            AsapMessage::HandleResolution { handle, subscribe, .. } => {
                let unknown = how == 5;
                self.rig.message(
                    link,
                    &AsapMessage::HandleResolutionResponse {
                        accept_updates: *subscribe && !unknown && how != 4,
                        handle: handle.clone(),
                        policy: None,
                        elements: if unknown { vec![] } else { vec![element(1), element(2 + how as u32)] },
                        error: unknown.then(|| vec![ErrorCause::bare(CauseCode::UnknownPoolHandle)]),
                    },
                );
            }
            _ => {}
        }
    }

    /// From now on everything works.
    fn calm(&mut self) {
        for _ in 0..40 {
            self.settle();
            while !self.connecting.is_empty() {
                self.bring_up();
                self.settle();
            }
            for (link, message) in std::mem::take(&mut self.unanswered) {
                if self.up.contains(&link) {
                    self.reply(link, &message, 0);
                    self.settle();
                }
            }
            let end = self.rig.now + MS(100);
            while let Some(at) = self.rig.endpoint.poll_timeout().filter(|at| *at <= end) {
                self.rig.now = self.rig.now.max(at);
                self.rig.input(Input::Timeout);
                self.settle();
            }
            self.rig.now = end;
        }
    }
}

fn link_number(link: LinkId) -> u64 {
    (0..).find(|n| LinkId::incoming(*n) == link).unwrap()
}

fn weather(seed: u64, steps: usize) -> World {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world
}

#[test]
fn keeps_its_promises_in_any_weather_and_is_well_when_it_is_calm() {
    let mut reached = Counters::default();
    let mut standings = BTreeMap::new();
    for seed in 0..250 {
        let mut world = weather(seed, 400);
        for (_, standing) in world.registrations.values() {
            *standings.entry(format!("{standing:?}")).or_insert(0) += 1;
        }
        world.calm();
        assert!(world.requests.is_empty(), "seed {seed}");
        for (id, standing) in world.registrations.values() {
            assert!(
                matches!(standing, Standing::Registered | Standing::Refused),
                "seed {seed}: element {id} is {standing:?}"
            );
        }
        let counters = world.rig.endpoint.counters();
        reached.adoptions += counters.adoptions;
        reached.cache_hits += counters.cache_hits;
        reached.updates_received += counters.updates_received;
        reached.reports_sent += counters.reports_sent;
        reached.rejected_messages += counters.rejected_messages;
        reached.homes += counters.homes;
    }
    assert_eq!(standings.len(), 5, "{standings:?}");
    let rare = [reached.adoptions, reached.cache_hits, reached.updates_received, reached.reports_sent];
    assert!(rare.iter().all(|count| *count > 100), "{reached:?}");
    assert!(reached.rejected_messages > 100 && reached.homes > 1_000, "{reached:?}");
}

#[test]
fn the_same_seed_and_inputs_give_the_same_trace() {
    for seed in 0..20 {
        let trace = |seed| {
            let world = weather(seed, 300);
            format!("{:?} {:?} {} {:?}", world.rig.endpoint, world.unanswered, world.told, world.rig.now)
        };
        assert_eq!(trace(seed), trace(seed));
    }
}
