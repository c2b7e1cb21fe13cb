//! A host: an endpoint, sessions on both sides, and the applications above them. The service keeps its state (how many
//! requests, and a running hash over them) in the cookie; the client knows what every answer must be.

use crate::world::{ENDPOINT_PORT, SERVICE_PORT, Slot, Steppable};
use asap::config::{EndpointConfig, Limits, Profile, SessionConfig};
use asap::endpoint::{
    Endpoint, Event as EndpointEvent, Offer, Query, RegistrationId, RequestFailure, RequestId, Resolution,
};
use asap::machine::{Destination, LinkId, UserChannel};
use asap::policy::Policy;
use asap::session::{Event as SessionEvent, SendOptions, Session, State};
use asap::types::{
    Capabilities, PeId, PoolHandle, RegistrationLife, Rng, Time, TransportAddress, TransportUse,
};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

/// Mixes request `number` into the state the service carries.
fn mix(hash: u64, number: u64) -> u64 {
    (hash ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
}

fn two(a: u64, b: u64) -> Vec<u8> {
    [a.to_be_bytes(), b.to_be_bytes()].concat()
}

fn parse_two(bytes: &[u8]) -> (u64, u64) {
    assert_eq!(bytes.len(), 16, "a message was cut or joined");
    let (a, b) = bytes.split_at(8);
    (u64::from_be_bytes(a.try_into().expect("8")), u64::from_be_bytes(b.try_into().expect("8")))
}

/// The service's side of one session.
struct Service {
    session: Session,
    last: u64,
    hash: u64,
}

/// A client of the stateful service.
pub struct Client {
    pub session: Session,
    /// The request waiting for its answer.
    number: u64,
    hash: u64,
    asked: bool,
    pub answered: u64,
    /// How many requests it has; 0 keeps asking for ever.
    goal: u64,
    pub replays: u64,
    pub failovers: u64,
    pub cookies_echoed: u64,
    /// Longest time without an element.
    pub worst_gap: Duration,
    pub ended: bool,
}

enum App {
    Service(Box<Service>),
    Client(Box<Client>),
}

impl App {
    fn session(&mut self) -> &mut Session {
        match self {
            App::Service(service) => &mut service.session,
            App::Client(client) => &mut client.session,
        }
    }
}

pub struct Host {
    pub endpoint: Endpoint,
    address: IpAddr,
    profile: Profile,
    rng: Rng,
    apps: BTreeMap<Slot, App>,
    next_slot: Slot,
    questions: BTreeMap<RequestId, Option<Slot>>,
    /// What became of plain resolutions, in order.
    pub resolved: Vec<(Time, Result<Resolution, RequestFailure>)>,
    pub registered: u64,
    /// What its elements have offered and not taken back.
    offers: BTreeMap<(PoolHandle, PeId), (RegistrationId, Offer)>,
    next_port: u16,
    pub failures: u64,
    pub expired: u64,
    pub hunts_failed: u64,
    /// The latest news of each subscribed pool.
    pub pools: BTreeMap<PoolHandle, Option<Resolution>>,
    pub changes: u64,
}

impl Host {
    pub fn new(address: IpAddr, profile: Profile, seed: u64, registrars: Vec<Destination>) -> Host {
        let mut rng = Rng::new(seed);
        let mut endpoint = Endpoint::new(EndpointConfig::new(profile), Limits::default(), rng.next_u64());
        endpoint.set_registrars(Time::ZERO, registrars);
        let listener =
            TransportAddress::Tcp { port: ENDPOINT_PORT, transport_use: TransportUse::DataOnly, address };
        endpoint.set_listener(Some(listener));
        Host {
            endpoint,
            address,
            profile,
            rng,
            apps: BTreeMap::new(),
            next_slot: 1,
            questions: BTreeMap::new(),
            resolved: Vec::new(),
            registered: 0,
            offers: BTreeMap::new(),
            next_port: SERVICE_PORT,
            failures: 0,
            expired: 0,
            hunts_failed: 0,
            pools: BTreeMap::new(),
            changes: 0,
        }
    }

    /// Lets registrars ask its elements over SCTP, as those of RSPLIB do.
    pub fn listen_over_sctp(&mut self) {
        let (port, transport_use) = (ENDPOINT_PORT, TransportUse::DataOnly);
        let listener = TransportAddress::Sctp { port, transport_use, addresses: self.address.into() };
        self.endpoint.set_listener(Some(listener));
    }

    // What the application does.

    /// Offers an element; several may be offered by one host, each at its own port.
    pub fn serve(&mut self, now: Time, handle: &PoolHandle, id: PeId, policy: Policy, life: Duration) {
        let offer = Offer {
            handle: handle.clone(),
            id,
            life: RegistrationLife::Seconds(life.as_secs() as u32),
            renewal: None,
            user_transport: TransportAddress::Tcp {
                port: self.next_port,
                transport_use: TransportUse::DataOnly,
                address: self.address,
            },
            policy,
            capabilities: Capabilities::TCP_CONTROL_CHANNEL | Capabilities::BUSINESS_CARD,
        };
        self.next_port += 1;
        let registration = self.endpoint.register(now, offer.clone(), now + Duration::from_secs(60));
        self.offers.insert((handle.clone(), id), (registration, offer));
    }

    /// The elements it offers.
    pub fn offered(&self) -> impl Iterator<Item = &(PoolHandle, PeId)> {
        self.offers.keys()
    }

    /// Takes all its elements back.
    pub fn stop_serving(&mut self, now: Time) {
        for (registration, _) in std::mem::take(&mut self.offers).into_values() {
            self.endpoint.deregister(now, registration, now + Duration::from_secs(30));
        }
    }

    /// Takes one of its elements back.
    pub fn withdraw(&mut self, now: Time, key: &(PoolHandle, PeId)) {
        if let Some((registration, _)) = self.offers.remove(key) {
            self.endpoint.deregister(now, registration, now + Duration::from_secs(30));
        }
    }

    /// Gives one of its elements other policy values.
    pub fn change(&mut self, now: Time, key: &(PoolHandle, PeId), policy: Policy) {
        if let Some((registration, offer)) = self.offers.get_mut(key) {
            offer.policy = policy;
            self.endpoint.update(now, *registration, offer.clone(), now + Duration::from_secs(60));
        }
    }

    pub fn resolve(&mut self, now: Time, handle: &PoolHandle, deadline: Duration) {
        let query = Query { handle: handle.clone(), items: None, max_age: Duration::ZERO };
        let request = self.endpoint.resolve(now, query, now + deadline);
        self.questions.insert(request, None);
    }

    /// Starts a client that asks `goal` requests (0: for ever) and moves on by itself when its element fails.
    pub fn connect(&mut self, now: Time, handle: &PoolHandle, goal: u64) -> Slot {
        let config = SessionConfig {
            automatic_failover: true,
            failover_deadline: Some(Duration::from_secs(600)),
            ..SessionConfig::new(self.profile)
        };
        let seed = self.rng.next_u64();
        let session = Session::user(now, config, Limits::default(), seed, handle.clone(), None);
        self.endpoint.subscribe(now, handle);
        let client = Client {
            session,
            number: 1,
            hash: 0,
            asked: false,
            answered: 0,
            goal,
            replays: 0,
            failovers: 0,
            cookies_echoed: 0,
            worst_gap: Duration::ZERO,
            ended: false,
        };
        let slot = self.next_slot;
        self.next_slot += 1;
        self.apps.insert(slot, App::Client(Box::new(client)));
        slot
    }

    /// Lets a client have so many requests in all.
    pub fn ask_until(&mut self, now: Time, slot: Slot, goal: u64) {
        if let Some(App::Client(client)) = self.apps.get_mut(&slot) {
            client.goal = goal;
            if client.session.state() == State::Connected && !client.asked {
                client.ask(now);
            }
        }
    }

    pub fn client(&self, slot: Slot) -> &Client {
        match &self.apps[&slot] {
            App::Client(client) => client,
            App::Service(_) => panic!("no client"),
        }
    }

    // What the world does.

    pub fn accept(&mut self, now: Time, link: LinkId, port: u16) -> Option<Slot> {
        let served = |(_, offer): &(RegistrationId, Offer)| offer.user_transport.port() == Some(port);
        if !self.offers.values().any(served) {
            return None;
        }
        let session = Session::element(now, SessionConfig::new(self.profile), Limits::default(), link, None);
        let slot = self.next_slot;
        self.next_slot += 1;
        self.apps.insert(slot, App::Service(Box::new(Service { session, last: 0, hash: 0 })));
        Some(slot)
    }

    pub fn slots(&self) -> Vec<Slot> {
        std::iter::once(0).chain(self.apps.keys().copied()).collect()
    }

    pub fn machine(&mut self, slot: Slot) -> Option<&mut dyn Steppable> {
        if slot == 0 {
            return Some(&mut self.endpoint);
        }
        let app = self.apps.get_mut(&slot)?;
        Some(app.session())
    }

    /// Carries conclusions between endpoint, sessions and applications until nothing moves.
    pub fn react(&mut self, now: Time) {
        loop {
            let mut moved = false;
            while let Some(event) = self.endpoint.poll_event_now() {
                moved = true;
                self.on_endpoint(now, event);
            }
            for slot in self.apps.keys().copied().collect::<Vec<_>>() {
                while let Some(event) =
                    self.apps.get_mut(&slot).and_then(|app| app.session().poll_event_now())
                {
                    moved = true;
                    self.on_session(now, slot, event);
                }
            }
            if !moved {
                break;
            }
        }
        self.apps.retain(|_, app| match app {
            App::Service(service) => service.session.state() != State::Ended,
            App::Client(_) => true,
        });
    }

    fn on_endpoint(&mut self, now: Time, event: EndpointEvent) {
        match event {
            EndpointEvent::Registered { .. } => self.registered += 1,
            EndpointEvent::RegistrationFailed { .. } => self.failures += 1,
            EndpointEvent::Deregistered { how, .. } => {
                if how == asap::endpoint::Deregistration::Expired {
                    self.expired += 1;
                }
            }
            EndpointEvent::Resolved { request, outcome } => match self.questions.remove(&request) {
                Some(Some(slot)) => {
                    if let Some(app) = self.apps.get_mut(&slot) {
                        app.session().resolved(now, outcome);
                    }
                }
                Some(None) => self.resolved.push((now, outcome)),
                None => panic!("an answer nobody asked for, or a second one"),
            },
            EndpointEvent::PoolChanged { handle, resolution } => {
                self.changes += 1;
                for app in self.apps.values_mut() {
                    if app.session().pool() == Some(&handle) {
                        app.session().pool_changed(now, resolution.as_ref());
                    }
                }
                self.pools.insert(handle, resolution);
            }
            EndpointEvent::HomeChanged(_) => {}
            EndpointEvent::HuntFailed(_) => self.hunts_failed += 1,
        }
    }

    fn on_session(&mut self, now: Time, slot: Slot, event: SessionEvent) {
        match event {
            SessionEvent::Resolve { handle, max_age } => {
                let query = Query { handle, items: None, max_age };
                let request = self.endpoint.resolve(now, query, now + Duration::from_secs(5));
                self.questions.insert(request, Some(slot));
                return;
            }
            SessionEvent::Unreachable { handle, element } => {
                self.endpoint.report_unreachable(now, &handle, element);
                return;
            }
            SessionEvent::Card { handle, .. } => {
                self.endpoint.cache_populate(now, &handle);
                return;
            }
            _ => {}
        }
        match self.apps.get_mut(&slot) {
            Some(App::Service(service)) => service.on_event(now, event),
            Some(App::Client(client)) => client.on_event(now, event),
            None => {}
        }
    }

    /// What holds at any moment.
    pub fn check(&self) {
        for app in self.apps.values() {
            if let App::Client(client) = app {
                assert!(
                    client.session.unsent() <= Limits::default().queued_bytes_per_link,
                    "a queue without bound"
                );
            }
        }
    }
}

/// Polling events by name, as the machine trait is not in scope where its other methods would be ambiguous.
trait PollNow<E> {
    fn poll_event_now(&mut self) -> Option<E>;
}

impl<M: asap::machine::Machine> PollNow<M::Event> for M {
    fn poll_event_now(&mut self) -> Option<M::Event> {
        self.poll_event()
    }
}

impl Service {
    fn on_event(&mut self, now: Time, event: SessionEvent) {
        match event {
            SessionEvent::CookieEcho(cookie) => (self.last, self.hash) = parse_two(&cookie),
            SessionEvent::Received { bytes, .. } => {
                let (number, _) = parse_two(&bytes);
                if number == self.last + 1 {
                    self.last = number;
                    self.hash = mix(self.hash, number);
                    self.session.send_cookie(now, &two(self.last, self.hash)).expect("a control channel");
                }
                assert_eq!(number, self.last, "the service was asked out of order, or forgot");
                let answer = two(self.last, self.hash);
                // The client may have gone meanwhile.
                let _ = self.session.send(now, answer, UserChannel::default(), SendOptions::DEFAULT);
            }
            _ => {}
        }
    }
}

impl Client {
    fn ask(&mut self, now: Time) {
        if self.goal != 0 && self.answered >= self.goal {
            return;
        }
        let request = two(self.number, 0);
        self.session.send(now, request, UserChannel::default(), SendOptions::DEFAULT).expect("taken");
        self.asked = true;
    }

    fn on_event(&mut self, now: Time, event: SessionEvent) {
        match event {
            SessionEvent::Connected { .. } => self.ask(now),
            SessionEvent::Received { bytes, .. } => {
                let (number, hash) = parse_two(&bytes);
                if number + 1 == self.number {
                    // The answer to a request that was repeated.
                    assert_eq!(hash, self.hash, "a repeated answer differs");
                    return;
                }
                assert_eq!(number, self.number, "an answer was lost");
                self.hash = mix(self.hash, number);
                assert_eq!(hash, self.hash, "the state was lost on the way");
                (self.number, self.answered, self.asked) = (number + 1, self.answered + 1, false);
                self.ask(now);
            }
            SessionEvent::FailoverComplete { has_cookie, gap, .. } => {
                self.failovers += 1;
                self.cookies_echoed += u64::from(has_cookie);
                self.worst_gap = self.worst_gap.max(gap);
                if self.asked {
                    self.replays += 1;
                }
                self.ask(now);
            }
            SessionEvent::Ended(_) => self.ended = true,
            _ => {}
        }
    }
}
