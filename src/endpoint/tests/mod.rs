//! The endpoint driven directly: inputs in, effects and events out, time by hand.

mod dialect;
mod hunting;
mod registering;
mod resolving;
mod storm;

use super::*;
use crate::config::Profile;
use crate::policy::PolicyType;
use crate::types::{CauseCode, Load, TransportUse};
use crate::wire::Registration;

/// An endpoint with everything it has said so far.
struct Rig {
    endpoint: Endpoint,
    now: Time,
}

const MS: fn(u64) -> Duration = Duration::from_millis;

/// Round numbers, whatever the profiles say.
fn config() -> EndpointConfig {
    EndpointConfig { t1_enrp_request: MS(500), ..EndpointConfig::new(Profile::Lan) }
}

impl Rig {
    fn new() -> Rig {
        Rig::with(config(), Limits::default())
    }

    fn with(config: EndpointConfig, limits: Limits) -> Rig {
        Rig { endpoint: Endpoint::new(config, limits, 7), now: Time::from_nanos(1_000_000_000) }
    }

    /// With these registrars configured, by the last byte of their address.
    fn knowing(registrars: &[u8]) -> Rig {
        let mut rig = Rig::new();
        rig.know(registrars);
        rig
    }

    fn know(&mut self, registrars: &[u8]) {
        self.endpoint.set_registrars(self.now, registrars.iter().copied().map(to).collect());
    }

    /// With a home, the first of these registrars, reached over the first link opened, and nothing left unsaid.
    fn at_home(registrars: &[u8]) -> Rig {
        let mut rig = Rig::knowing(registrars);
        rig.resolve("nobody", 0);
        rig.up(link(0));
        rig.message(link(0), &refusal("nobody", CauseCode::UnknownPoolHandle));
        rig.drain();
        rig
    }

    fn input(&mut self, input: Input<'_>) {
        self.endpoint.handle(self.now, input);
    }

    /// Lets time pass, with a timeout whenever the endpoint wants one.
    fn pass(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.endpoint.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.input(Input::Timeout);
        }
        self.now = end;
        self.input(Input::Timeout);
    }

    fn up(&mut self, link: LinkId) {
        self.input(Input::LinkUp {
            link,
            kind: LinkKind::Tcp,
            protocol: Protocol::Asap,
            local: &["10.0.0.99:40000".parse().unwrap()],
            peer: &[],
            identity: None,
        });
    }

    fn down(&mut self, link: LinkId, why: LinkFailure) {
        self.input(Input::LinkDown { link, why });
    }

    /// A registrar opens a link to the endpoint's listener.
    fn incoming(&mut self, n: u64) -> LinkId {
        let link = LinkId::incoming(n);
        self.input(Input::Incoming { link, protocol: Protocol::Asap });
        self.input(Input::LinkUp {
            link,
            kind: LinkKind::Tcp,
            protocol: Protocol::Asap,
            local: &["10.0.0.99:3900".parse().unwrap()],
            peer: &[SocketAddr::from(([10, 0, 0, 50], 40_001))],
            identity: None,
        });
        link
    }

    fn message(&mut self, link: LinkId, message: &AsapMessage) {
        self.bytes(link, &message.encode(Dialect::Unknown).unwrap());
    }

    fn bytes(&mut self, link: LinkId, bytes: &[u8]) {
        self.input(Input::Message { link, channel: Channel::Asap, bytes, complete: true });
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.endpoint.poll_effect()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.endpoint.poll_event()).collect()
    }

    fn drain(&mut self) {
        self.effects();
        self.events();
    }

    /// The links opened since last asked (other effects are dropped), and to which registrar.
    fn connects(&mut self) -> Vec<(LinkId, u8)> {
        let connect = |effect| match effect {
            Effect::Connect { link, to } => Some((link, last_byte(&to))),
            _ => None,
        };
        self.effects().into_iter().filter_map(connect).collect()
    }

    /// The messages sent since last asked (other effects are dropped).
    fn sent(&mut self) -> Vec<(LinkId, AsapMessage)> {
        self.effects().into_iter().filter_map(sent).collect()
    }

    fn resolve(&mut self, handle: &str, max_age_ms: u64) -> RequestId {
        let query = Query { handle: pool(handle), items: None, max_age: MS(max_age_ms) };
        let deadline = self.now + Duration::from_secs(10);
        self.endpoint.resolve(self.now, query, deadline)
    }

    /// Subscribes, and drops what is said about it.
    fn subscribe_quietly(&mut self, handle: &str) {
        self.endpoint.subscribe(self.now, &pool(handle));
        self.drain();
    }

    fn register(&mut self, handle: &str, id: u32) -> RegistrationId {
        let deadline = self.now + Duration::from_secs(10);
        self.endpoint.register(self.now, offer(handle, id), deadline)
    }

    fn update(&mut self, registration: RegistrationId, offer: Offer) {
        let deadline = self.now + Duration::from_secs(10);
        self.endpoint.update(self.now, registration, offer, deadline);
    }

    fn deregister(&mut self, registration: RegistrationId) {
        let deadline = self.now + Duration::from_secs(10);
        self.endpoint.deregister(self.now, registration, deadline);
    }
}

fn sent(effect: Effect) -> Option<(LinkId, AsapMessage)> {
    match effect {
        Effect::Send { link, bytes, .. } => {
            Some((link, AsapMessage::decode(&bytes, Dialect::Unknown).unwrap().message))
        }
        _ => None,
    }
}

fn closed(effects: &[Effect]) -> Vec<LinkId> {
    let close = |effect: &Effect| match effect {
        Effect::Close { link, .. } => Some(*link),
        _ => None,
    };
    effects.iter().filter_map(close).collect()
}

fn to(registrar: u8) -> Destination {
    Destination {
        kind: LinkKind::Tcp,
        protocol: Protocol::Asap,
        port: 3863,
        addresses: IpAddr::from([10, 0, 0, registrar]).into(),
    }
}

fn last_byte(to: &Destination) -> u8 {
    match to.addresses.as_slice()[0] {
        IpAddr::V4(ip) => ip.octets()[3],
        IpAddr::V6(ip) => ip.octets()[15],
    }
}

fn link(n: u64) -> LinkId {
    LinkId::outgoing(n)
}

fn pool(handle: &str) -> PoolHandle {
    PoolHandle::new(handle.as_bytes()).unwrap()
}

fn tcp(port: u16) -> TransportAddress {
    TransportAddress::Tcp {
        port,
        transport_use: TransportUse::DataOnly,
        address: IpAddr::from([10, 0, 0, 99]),
    }
}

fn offer(handle: &str, id: u32) -> Offer {
    Offer {
        handle: pool(handle),
        id: PeId(id),
        life: RegistrationLife::Seconds(300),
        renewal: None,
        user_transport: tcp(7),
        policy: Policy::ROUND_ROBIN,
        capabilities: Capabilities::TCP_CONTROL_CHANNEL,
    }
}

fn element(id: u32) -> PoolElement {
    PoolElement {
        id: PeId(id),
        home: ServerId::new(0x1111),
        life: RegistrationLife::Seconds(300),
        user_transport: tcp(7000 + id as u16),
        policy: Policy::ROUND_ROBIN,
        asap_transport: None,
        capabilities: None,
    }
}

fn granted(handle: &str, id: u32) -> AsapMessage {
    AsapMessage::RegistrationResponse {
        reject: false,
        handle: pool(handle),
        element: PeId(id),
        capabilities: None,
        error: None,
    }
}

fn rejected(handle: &str, id: u32, code: CauseCode) -> AsapMessage {
    AsapMessage::RegistrationResponse {
        reject: true,
        handle: pool(handle),
        element: PeId(id),
        capabilities: None,
        error: Some(vec![ErrorCause::bare(code)]),
    }
}

fn deregistered(handle: &str, id: u32) -> AsapMessage {
    AsapMessage::DeregistrationResponse { handle: pool(handle), element: PeId(id), error: None }
}

fn answer(handle: &str, ids: &[u32]) -> AsapMessage {
    AsapMessage::HandleResolutionResponse {
        accept_updates: false,
        handle: pool(handle),
        policy: Some(Policy::ROUND_ROBIN),
        elements: ids.iter().copied().map(element).collect(),
        error: None,
    }
}

/// An answer that accepts the subscription, or a change told because of it.
fn update(handle: &str, ids: &[u32]) -> AsapMessage {
    match answer(handle, ids) {
        AsapMessage::HandleResolutionResponse { handle, policy, elements, error, .. } => {
            AsapMessage::HandleResolutionResponse { accept_updates: true, handle, policy, elements, error }
        }
        other => other,
    }
}

fn refusal(handle: &str, code: CauseCode) -> AsapMessage {
    AsapMessage::HandleResolutionResponse {
        accept_updates: false,
        handle: pool(handle),
        policy: None,
        elements: Vec::new(),
        error: Some(vec![ErrorCause::bare(code)]),
    }
}

fn keep_alive(home: bool, server: u32, handle: &str, element: Option<u32>) -> AsapMessage {
    AsapMessage::KeepAlive(KeepAlive {
        home,
        server: ServerId::new(server),
        handle: pool(handle),
        element: element.map(PeId),
    })
}

fn ids(resolution: &Resolution) -> Vec<u32> {
    resolution.elements.iter().map(|e| e.id.0).collect()
}

/// What the requests in these events came to.
fn outcomes(events: Vec<Event>) -> Vec<(RequestId, Result<Vec<u32>, RequestFailure>)> {
    let outcome = |event| match event {
        Event::Resolved { request, outcome } => Some((request, outcome.map(|r| ids(&r)))),
        _ => None,
    };
    events.into_iter().filter_map(outcome).collect()
}
