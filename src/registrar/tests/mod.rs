//! The registrar as seen from its links: every test drives the machine by inputs and reads its effects and events.

mod clients;
mod cluster;
mod liveness;
mod patience;
mod peers;
mod registration;
mod resolution;
mod rsplib;
mod startup;
mod status;
mod takeover;
mod updates;

use super::*;
use crate::config::Profile;
use crate::csp::Report;
use crate::machine::LinkKind;
use crate::policy::{Policy, PolicyType};
use crate::types::{
    Addresses, Capabilities, CauseCode, Identity, PoolElement, RegistrationLife, TransportUse,
};
use crate::wire::{EnrpMessage, KeepAlive};
use std::net::{IpAddr, SocketAddr};

/// An effect, decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Done {
    Asap(LinkId, AsapMessage),
    Enrp(LinkId, EnrpMessage),
    Connect(LinkId, Destination),
    Close(LinkId, bool),
    Announce(Audience, AsapMessage),
    Report(Report),
}

fn setup() -> Setup {
    Setup { id: me(), asap: Vec::new(), enrp: Vec::new(), announce: false, peers: Vec::new() }
}

struct World {
    registrar: Registrar,
    now: Time,
    links: u64,
    /// Everything done since it was last taken, and when.
    done: Vec<(Time, Done)>,
    events: Vec<Event>,
}

fn config() -> RegistrarConfig {
    RegistrarConfig::new(Profile::Lan)
}

fn server_id(id: u32) -> ServerId {
    ServerId::new(id).unwrap()
}

fn me() -> ServerId {
    server_id(0xaaaa)
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

impl World {
    fn new() -> World {
        World::with(config(), Limits::default())
    }

    fn with(config: RegistrarConfig, limits: Limits) -> World {
        World::of(Registrar::new(config, limits, 7, setup()))
    }

    fn of(registrar: Registrar) -> World {
        World {
            registrar,
            now: Time::from_nanos(1_000_000_000),
            links: 0,
            done: Vec::new(),
            events: Vec::new(),
        }
    }

    fn input(&mut self, input: Input<'_>) {
        self.registrar.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(effect) = self.registrar.poll_effect() {
            let done = match effect {
                Effect::Send { link, channel: Channel::Asap, bytes } => {
                    Done::Asap(link, AsapMessage::decode(&bytes, Dialect::Rfc).expect("well formed").message)
                }
                Effect::Send { link, channel: Channel::Enrp, bytes } => {
                    Done::Enrp(link, EnrpMessage::decode(&bytes, Dialect::Rfc).expect("well formed").message)
                }
                Effect::Send { channel: Channel::User(_), .. } => panic!("user data from a registrar"),
                Effect::Connect { link, to } => Done::Connect(link, to),
                Effect::Close { link, abort } => Done::Close(link, abort),
                Effect::Announce { protocol, audience, bytes } => {
                    assert_eq!(protocol, Protocol::Asap);
                    Done::Announce(
                        audience,
                        AsapMessage::decode(&bytes, Dialect::Rfc).expect("well formed").message,
                    )
                }
                Effect::Datagram { bytes, .. } => Done::Report(Report::decode(&bytes).expect("well formed")),
            };
            self.done.push((self.now, done));
        }
        while let Some(event) = self.registrar.poll_event() {
            self.events.push(event);
        }
    }

    /// What was done since the last call.
    fn done(&mut self) -> Vec<Done> {
        std::mem::take(&mut self.done).into_iter().map(|(_, done)| done).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Lets time pass, waking the registrar when it asks for it and not otherwise.
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(at) = self.registrar.poll_timeout().filter(|at| *at <= end) {
            let before = self.now;
            self.now = self.now.max(at);
            self.input(Input::Timeout);
            assert!(
                self.now > before || self.registrar.poll_timeout() != Some(at),
                "wants to be woken at {at:?} without end"
            );
        }
        self.now = end;
    }

    fn incoming(&mut self, protocol: Protocol) -> LinkId {
        self.links += 1;
        let link = LinkId::incoming(self.links);
        self.input(Input::Incoming { link, protocol });
        link
    }

    fn up(&mut self, link: LinkId, kind: LinkKind, peer: &[&str], identity: Option<&str>) {
        let peer: Vec<SocketAddr> = peer.iter().map(|a| SocketAddr::new(ip(a), 40_000)).collect();
        let identity = identity.map(|name| Identity(name.into()));
        let local = [SocketAddr::new(ip("10.0.0.100"), 3863)];
        self.input(Input::LinkUp {
            link,
            kind,
            protocol: Protocol::Asap,
            local: &local,
            peer: &peer,
            identity,
        });
    }

    /// A TCP client from this address.
    fn client(&mut self, address: &str) -> LinkId {
        let link = self.incoming(Protocol::Asap);
        self.up(link, LinkKind::Tcp, &[address], None);
        link
    }

    fn identified(&mut self, address: &str, identity: &str) -> LinkId {
        let link = self.incoming(Protocol::Asap);
        self.up(link, LinkKind::Tcp, &[address], Some(identity));
        link
    }

    fn sctp_client(&mut self, addresses: &[&str]) -> LinkId {
        let link = self.incoming(Protocol::Asap);
        self.up(link, LinkKind::Sctp, addresses, None);
        link
    }

    fn down(&mut self, link: LinkId) {
        self.input(Input::LinkDown { link, why: LinkFailure::Reset });
    }

    fn send(&mut self, link: LinkId, message: &AsapMessage) {
        let bytes = message.encode(Dialect::Rfc).expect("fits");
        self.send_bytes(link, &bytes);
    }

    fn send_bytes(&mut self, link: LinkId, bytes: &[u8]) {
        self.input(Input::Message { link, channel: Channel::Asap, bytes, complete: true });
    }

    /// Sends a message and gives the one answer to it.
    fn ask(&mut self, link: LinkId, message: &AsapMessage) -> AsapMessage {
        self.done.clear();
        self.send(link, message);
        let mut messages: Vec<(LinkId, AsapMessage)> = Vec::new();
        for done in self.done() {
            match done {
                Done::Asap(to, message) => messages.push((to, message)),
                Done::Announce(..) => panic!("unasked: {done:?}"),
                Done::Enrp(..) | Done::Connect(..) | Done::Close(..) | Done::Report(_) => {}
            }
        }
        match messages.as_slice() {
            [(to, answer)] if *to == link => answer.clone(),
            other => panic!("one answer expected, got {other:?}"),
        }
    }

    /// Registers; gives the causes if refused.
    fn register(&mut self, link: LinkId, pool: &str, element: &PoolElement) -> Result<(), Vec<CauseCode>> {
        match self.ask(link, &registration(pool, element)) {
            AsapMessage::RegistrationResponse { reject, handle: h, element: id, error, .. } => {
                assert_eq!((h, id), (handle(pool), element.id));
                let codes = error.unwrap_or_default().iter().map(|cause| cause.code).collect();
                if reject {
                    return Err(codes);
                }
                assert_eq!(codes, [], "a warning");
                Ok(())
            }
            other => panic!("not a registration response: {other:?}"),
        }
    }

    /// Deregisters; says whether it was granted.
    fn deregister(&mut self, link: LinkId, pool: &str, id: u32) -> bool {
        let message = AsapMessage::Deregistration { handle: handle(pool), element: PeId(id) };
        match self.ask(link, &message) {
            AsapMessage::DeregistrationResponse { handle: h, element, error } => {
                assert_eq!((h, element), (handle(pool), PeId(id)));
                if let Some(causes) = &error {
                    assert_eq!(causes, &[ErrorCause::bare(CauseCode::RejectedDueToSecurity)]);
                }
                error.is_none()
            }
            other => panic!("not a deregistration response: {other:?}"),
        }
    }

    /// The identifiers of the elements in the answer to a resolution, in order; none if the pool is unknown.
    fn resolve(&mut self, link: LinkId, pool: &str) -> Option<Vec<u32>> {
        match self.ask(link, &resolution(pool, None, false)) {
            AsapMessage::HandleResolutionResponse { elements, error: None, .. } => Some(ids(&elements)),
            AsapMessage::HandleResolutionResponse { elements, error: Some(causes), policy, .. } => {
                assert!(elements.is_empty() && policy.is_none());
                assert_eq!(causes, [ErrorCause::bare(CauseCode::UnknownPoolHandle)]);
                None
            }
            other => panic!("not a resolution response: {other:?}"),
        }
    }

    fn has(&self, pool: &str, id: u32) -> bool {
        self.registrar.handlespace().entry(&handle(pool), PeId(id)).is_some()
    }

    fn element(&self, pool: &str, id: u32) -> &PoolElement {
        &self.registrar.handlespace().entry(&handle(pool), PeId(id)).expect("registered").element
    }

    /// The keep-alives among what was done since the last call: on which link, for which pool.
    fn keep_alives(&mut self) -> Vec<(LinkId, KeepAlive)> {
        self.done()
            .into_iter()
            .filter_map(|done| match done {
                Done::Asap(link, AsapMessage::KeepAlive(keep_alive)) => Some((link, keep_alive)),
                _ => None,
            })
            .collect()
    }

    fn acknowledge(&mut self, link: LinkId, pool: &str, id: u32) {
        self.send(link, &AsapMessage::KeepAliveAck { handle: handle(pool), element: PeId(id) });
    }

    /// Lets time pass while every element named acknowledges its keep-alives at once on the link it is asked on.
    fn pass_alive(&mut self, time: Duration, alive: &[(&str, u32)]) {
        let end = self.now + time;
        while self.now < end {
            self.pass(ms(10));
            for (link, asked) in self.keep_alives() {
                for (pool, id) in alive {
                    if handle(pool) == asked.handle && asked.element.is_none_or(|named| named == PeId(*id)) {
                        self.acknowledge(link, pool, *id);
                    }
                }
            }
        }
    }

    /// The link the registrar is about to open, and where to.
    fn connecting(&mut self) -> Option<(LinkId, Destination)> {
        self.done().into_iter().find_map(|done| match done {
            Done::Connect(link, to) => Some((link, to)),
            _ => None,
        })
    }

    fn removed(&mut self) -> Vec<(u32, Removal)> {
        let removed = |event| match event {
            Event::Removed { element, why, .. } => Some((element.0, why)),
            _ => None,
        };
        self.events().into_iter().filter_map(removed).collect()
    }
}

fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

fn handle(name: &str) -> PoolHandle {
    PoolHandle::new(name.as_bytes()).expect("a handle")
}

fn tcp(address: &str, port: u16) -> TransportAddress {
    TransportAddress::Tcp { port, transport_use: TransportUse::DataOnly, address: ip(address) }
}

fn sctp(addresses: &[&str], port: u16, transport_use: TransportUse) -> TransportAddress {
    let addresses = Addresses::new(addresses.iter().map(|a| ip(a)).collect()).expect("not empty");
    TransportAddress::Sctp { port, transport_use, addresses }
}

/// An element of round robin with an ASAP transport on the same address.
fn element(id: u32, address: &str) -> PoolElement {
    PoolElement {
        id: PeId(id),
        home: None,
        life: RegistrationLife::Seconds(300),
        user_transport: tcp(address, 7),
        policy: Policy::ROUND_ROBIN,
        asap_transport: Some(tcp(address, 3_000)),
        capabilities: None,
    }
}

fn ours(element: PoolElement) -> PoolElement {
    PoolElement { capabilities: Some(Capabilities::TCP_CONTROL_CHANNEL), ..element }
}

fn registration(pool: &str, element: &PoolElement) -> AsapMessage {
    AsapMessage::Registration(Registration { handle: handle(pool), element: element.clone() })
}

fn resolution(pool: &str, items: Option<u32>, subscribe: bool) -> AsapMessage {
    AsapMessage::HandleResolution { subscribe, handle: handle(pool), items, capabilities: None }
}

fn ids(elements: &[PoolElement]) -> Vec<u32> {
    elements.iter().map(|element| element.id.0).collect()
}

fn weighted(element: PoolElement, weight: u32) -> PoolElement {
    PoolElement { policy: Policy::new(PolicyType::WeightedRoundRobin, &[weight]), ..element }
}
