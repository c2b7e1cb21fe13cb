mod conversation;
mod seeking;

use super::*;
use crate::config::Profile;
use crate::endpoint::{RequestFailure, Resolution};
use crate::machine::{Channel, LinkKind, Protocol, UserChannel};
use crate::policy::{Policy, PolicyType};
use crate::session::{SendOptions, SendRefused};
use crate::types::{Addresses, Capabilities, ErrorCause, RegistrationLife, TransportAddress, TransportUse};
use crate::wire::{AsapMessage, Dialect};
use std::net::{IpAddr, Ipv4Addr};

const MS: Duration = Duration::from_millis(1);
const DATA: UserChannel = UserChannel { ppid: 7, stream: 1, unordered: false, expires: None };
const BOTH: Capabilities = Capabilities(3);

fn pool() -> PoolHandle {
    PoolHandle::new(b"pool").unwrap()
}

fn tcp(id: u32) -> PoolElement {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, u8::try_from(id).unwrap()));
    PoolElement {
        id: PeId(id),
        home: None,
        life: RegistrationLife::Seconds(60),
        user_transport: TransportAddress::Tcp { port: 1000, transport_use: TransportUse::DataOnly, address },
        policy: Policy::ROUND_ROBIN,
        asap_transport: None,
        capabilities: Some(BOTH),
    }
}

fn plain(id: u32) -> PoolElement {
    PoolElement { capabilities: None, ..tcp(id) }
}

fn with_transport(id: u32, user_transport: TransportAddress) -> PoolElement {
    PoolElement { user_transport, ..plain(id) }
}

fn list(elements: &[PoolElement]) -> Resolution {
    let policy = elements.first().map_or(Policy::ROUND_ROBIN, |element| element.policy);
    Resolution { handle: pool(), policy, elements: elements.to_vec(), at: Time::ZERO }
}

fn asap(message: &AsapMessage) -> Vec<u8> {
    let padding_counted = match message {
        AsapMessage::BusinessCard { .. } => None,
        _ => message.encode(Dialect::Rsplib).ok(),
    };
    padding_counted.unwrap_or_else(|| message.encode(Dialect::Rfc).unwrap())
}

fn card(elements: &[PoolElement]) -> Vec<u8> {
    asap(&AsapMessage::BusinessCard { handle: pool(), elements: elements.to_vec() })
}

fn automatic() -> SessionConfig {
    SessionConfig { automatic_failover: true, ..SessionConfig::new(Profile::Lan) }
}

fn by_application() -> SessionConfig {
    SessionConfig::new(Profile::Lan)
}

/// A session with the world around it played by hand.
struct Rig {
    now: Time,
    session: Session,
}

impl Rig {
    fn user_with(config: SessionConfig, limits: Limits, own: Option<(PoolHandle, Vec<PoolElement>)>) -> Rig {
        let now = Time::from_nanos(1_000_000_000);
        Rig { now, session: Session::user(now, config, limits, 1, pool(), own) }
    }

    fn user(config: SessionConfig) -> Rig {
        Rig::user_with(config, Limits::default(), None)
    }

    /// A user at the first of these elements, everything so far drained.
    fn at_first_of(config: SessionConfig, elements: &[PoolElement]) -> Rig {
        let mut rig = Rig::user(config);
        rig.resolved(elements);
        let (link, _) = rig.connecting();
        rig.up(link);
        assert_eq!(rig.session.current().map(|element| element.id), elements.first().map(|e| e.id));
        rig.effects();
        rig.events();
        rig
    }

    fn element(config: SessionConfig, own: Option<(PoolHandle, Vec<PoolElement>)>) -> Rig {
        let now = Time::from_nanos(1_000_000_000);
        let link = LinkId::incoming(5);
        Rig { now, session: Session::element(now, config, Limits::default(), link, own) }
    }

    fn resolved(&mut self, elements: &[PoolElement]) {
        self.session.resolved(self.now, Ok(list(elements)));
    }

    fn unresolved(&mut self, why: RequestFailure) {
        self.session.resolved(self.now, Err(why));
    }

    fn effects(&mut self) -> Vec<Effect> {
        std::iter::from_fn(|| self.session.poll_effect()).collect()
    }

    fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    /// The one connect under way, and the last byte of its address (the elements' number).
    fn connecting(&mut self) -> (LinkId, u32) {
        let connects: Vec<_> = self
            .effects()
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Connect { link, to } => Some((link, to)),
                _ => None,
            })
            .collect();
        let [(link, to)] = connects.as_slice() else { panic!("one connect, not {connects:?}") };
        let IpAddr::V4(address) = to.addresses.as_slice()[0] else { panic!("IPv4") };
        (*link, address.octets()[3].into())
    }

    fn up_as(&mut self, link: LinkId, kind: LinkKind, protocol: Protocol) {
        let (local, peer, identity) = (&[][..], &[][..], None);
        self.session.handle(self.now, Input::LinkUp { link, kind, protocol, local, peer, identity });
    }

    fn up(&mut self, link: LinkId) {
        self.up_as(link, LinkKind::Tcp, Protocol::Session);
    }

    fn down(&mut self, link: LinkId, why: LinkFailure) {
        self.session.handle(self.now, Input::LinkDown { link, why });
    }

    fn control(&mut self, link: LinkId, bytes: &[u8]) {
        let channel = Channel::Asap;
        self.session.handle(self.now, Input::Message { link, channel, bytes, complete: true });
    }

    fn data(&mut self, link: LinkId, bytes: &[u8]) {
        let channel = Channel::User(DATA);
        self.session.handle(self.now, Input::Message { link, channel, bytes, complete: true });
    }

    fn returned(&mut self, link: LinkId, message: &[u8]) {
        let message = message.to_vec();
        self.session.handle(self.now, Input::SendFailed { link, channel: Channel::User(DATA), message });
    }

    fn send(&mut self, message: &[u8]) {
        self.send_with(message, SendOptions::DEFAULT).unwrap();
    }

    fn send_with(&mut self, message: &[u8], options: SendOptions) -> Result<(), SendRefused> {
        self.session.send(self.now, message.to_vec(), DATA, options)
    }

    /// Lets time pass, with every timeout on the way.
    fn pass(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some(at) = self.session.poll_timeout().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.session.handle(self.now, Input::Timeout);
        }
        self.now = end;
        self.session.handle(self.now, Input::Timeout);
    }
}

const L0: LinkId = LinkId::outgoing(0);
const L1: LinkId = LinkId::outgoing(1);
const L2: LinkId = LinkId::outgoing(2);

fn resolve(max_age: Duration) -> Event {
    Event::Resolve { handle: pool(), max_age }
}

fn unreachable(id: u32) -> Event {
    Event::Unreachable { handle: pool(), element: PeId(id) }
}

fn complete(id: u32, has_cookie: bool, gap: Duration) -> Event {
    Event::FailoverComplete { element: PeId(id), has_cookie, gap }
}

fn sent(link: LinkId, bytes: &[u8]) -> Effect {
    Effect::Send { link, channel: Channel::User(DATA), bytes: bytes.to_vec() }
}

fn said(link: LinkId, message: &AsapMessage) -> Effect {
    Effect::Send { link, channel: Channel::Asap, bytes: asap(message) }
}

fn send_failed(id: Option<u32>, message: &[u8]) -> Event {
    Event::SendFailed { element: id.map(PeId), message: message.to_vec(), channel: DATA }
}

// --- Ends and dead links

#[test]
fn an_element_that_ends_in_order_has_ended_the_session_or_failed_unreported() {
    for orderly_end_is_final in [true, false] {
        let config = SessionConfig { orderly_end_is_final, ..by_application() };
        let mut rig = Rig::at_first_of(config, &[tcp(1), tcp(2)]);
        rig.effects();
        rig.events();
        rig.down(L0, LinkFailure::Closed);
        if orderly_end_is_final {
            assert_eq!((rig.events(), rig.session.state()), (vec![Event::Ended(None)], State::Ended));
            continue;
        }
        assert_eq!((rig.events(), rig.session.state()), (vec![Event::FailoverNecessary], State::Failed));
        rig.session.fail_over(rig.now, false, Duration::MAX);
        assert_eq!(rig.session.state(), State::FailingOver);
        rig.up(L1);
        assert_eq!(rig.session.current().map(|element| element.id), Some(PeId(2)));
    }
}

#[test]
fn inputs_of_dead_links_are_ignored() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.control(L0, &asap(&AsapMessage::Cookie(b"good".to_vec())));
    rig.down(L0, LinkFailure::Reset);
    rig.up(L1);
    rig.effects();
    rig.events();
    rig.data(L0, b"late");
    rig.control(L0, &asap(&AsapMessage::Cookie(b"late".to_vec())));
    rig.returned(L0, b"late");
    rig.up(L0);
    rig.down(L0, LinkFailure::Closed);
    rig.session.handle(rig.now, Input::Writable { link: L0 });
    assert_eq!((rig.effects(), rig.events(), rig.session.unsent()), (vec![], vec![], 0));
    assert_eq!(rig.session.counters().late_inputs, 6);
    rig.down(L1, LinkFailure::Reset);
    rig.effects();
    rig.up(L2);
    assert_eq!(rig.effects(), [said(L2, &AsapMessage::CookieEcho(b"good".to_vec()))]);
}

#[test]
fn closing_ends_in_every_state() {
    let mut connected = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    connected.session.close(connected.now, false);
    assert_eq!(connected.effects(), [Effect::Close { link: L0, abort: false }]);

    let mut opening = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    opening.down(L0, LinkFailure::Reset);
    opening.effects();
    opening.session.close(opening.now, false);
    assert_eq!(opening.effects(), [Effect::Close { link: L1, abort: true }]);

    let mut failed = Rig::at_first_of(by_application(), &[tcp(1)]);
    failed.down(L0, LinkFailure::Reset);
    failed.session.close(failed.now, true);

    let mut seeking = Rig::user(automatic());
    seeking.send(b"never");
    seeking.session.close(seeking.now, false);
    assert!(seeking.events().contains(&send_failed(None, b"never")));
    seeking.resolved(&[tcp(1)]);
    assert_eq!((seeking.effects(), seeking.events()), (vec![], vec![]));

    let mut accepting = Rig::element(automatic(), None);
    accepting.session.close(accepting.now, true);
    assert_eq!(accepting.effects(), [Effect::Close { link: LinkId::incoming(5), abort: true }]);

    for rig in [&mut connected, &mut opening, &mut failed, &mut accepting] {
        assert_eq!(rig.events().last(), Some(&Event::Ended(None)));
        rig.session.close(rig.now, true);
        assert_eq!((rig.events(), rig.effects()), (vec![], vec![]));
        assert_eq!((rig.session.state(), rig.session.poll_timeout()), (State::Ended, None));
    }
}

#[test]
fn timers_of_zero_length_do_not_stop_time() {
    let config =
        SessionConfig { connect_timeout: Duration::ZERO, resolution_retry: Duration::ZERO, ..automatic() };
    let mut rig = Rig::user(config);
    rig.resolved(&[tcp(1), tcp(2)]);
    rig.pass(100 * MS);
    assert!(rig.session.counters().attempts_failed >= 2);
}

#[test]
fn same_seed_and_inputs_give_the_same_effects() {
    let run = || {
        let random = |id| {
            let policy = Policy::new(PolicyType::Random, &[]);
            PoolElement { policy, ..tcp(id) }
        };
        let mut rig = Rig::user(automatic());
        rig.resolved(&[random(1), random(2), random(3), random(4)]);
        for link in 0..4 {
            rig.down(LinkId::outgoing(link), LinkFailure::Refused);
        }
        rig.pass(60 * MS);
        (rig.effects(), rig.events())
    };
    assert_eq!(run(), run());
}

// --- Everything at once

/// What the outside can see of a session's links and messages, held against its promises.
#[derive(Default)]
struct Witness {
    opening: Option<LinkId>,
    up: Option<LinkId>,
    used: BTreeSet<u64>,
    accepted: usize,
    sent: usize,
    given_back: usize,
    ended: bool,
}

impl Witness {
    fn check(&mut self, rig: &mut Rig) {
        for effect in rig.effects() {
            assert!(!self.ended, "{effect:?} after the end");
            match effect {
                Effect::Connect { link, .. } => {
                    assert_eq!((self.opening, self.up), (None, None), "one link at a time");
                    let n = (0..=self.used.len() as u64).find(|n| LinkId::outgoing(*n) == link).unwrap();
                    assert!(self.used.insert(n), "an identifier is used once");
                    self.opening = Some(link);
                }
                Effect::Send { link, channel, .. } => {
                    assert_eq!(self.up, Some(link), "nothing is sent on a dead link");
                    self.sent += usize::from(matches!(channel, Channel::User(_)));
                }
                Effect::Close { link, .. } => {
                    assert!(self.opening == Some(link) || self.up == Some(link));
                    (self.opening, self.up) = (None, None);
                }
                Effect::Announce { .. } | Effect::Datagram { .. } => panic!("sessions announce nothing"),
            }
        }
        for event in rig.events() {
            assert!(!self.ended, "{event:?} after the end");
            match event {
                Event::SendFailed { .. } => self.given_back += 1,
                Event::Ended(_) => self.ended = true,
                _ => {}
            }
        }
        let kept = rig.session.outbox.take();
        assert_eq!(self.accepted, self.sent + self.given_back + kept.len(), "no message is lost or doubled");
        for message in kept {
            rig.session.outbox.give_back(message);
        }
        assert_eq!(self.up.is_some(), rig.session.state() == State::Connected);
        assert_eq!(self.ended, rig.session.state() == State::Ended);
        assert!(!self.ended || rig.session.poll_timeout().is_none());
        let waiting = matches!(rig.session.state(), State::Connecting | State::FailingOver);
        let asked = rig.session.user.as_ref().is_some_and(|user| user.resolution != Asked::No);
        assert!(!waiting || asked || rig.session.poll_timeout().is_some(), "nothing will wake it");
    }
}

#[test]
fn holds_its_promises_whatever_happens_in_whatever_order() {
    let mut seen = Counters::default();
    for seed in 0..400 {
        let mut rng = crate::types::Rng::new(seed);
        let config = SessionConfig {
            automatic_failover: seed % 3 != 0,
            failover_deadline: (seed % 5 == 0).then_some(2_000 * MS),
            ..by_application()
        };
        let own = (seed % 2 == 0).then(|| (pool(), vec![tcp(9)]));
        let mut rig = Rig::user_with(config, Limits::default(), own);
        let mut witness = Witness::default();
        for step in 0..300_u32 {
            let some_list = |rng: &mut crate::types::Rng| {
                let ids = (1..=6).filter(|_| rng.below(2) == 0).collect::<Vec<_>>();
                ids.into_iter().map(|id| if id == 6 { plain(6) } else { tcp(id) }).collect::<Vec<_>>()
            };
            let old = LinkId::outgoing(rng.below(8));
            match rng.below(16) {
                0..=2 => {
                    if let Some(link) = witness.opening.take() {
                        witness.up = Some(link);
                        rig.up(link);
                    }
                }
                3 | 4 => {
                    let why = [LinkFailure::Refused, LinkFailure::Reset, LinkFailure::NoResources];
                    if let Some(link) = witness.opening.take().or(witness.up.take()) {
                        rig.down(link, why[rng.below(3) as usize]);
                    }
                }
                5 | 6 => {
                    let list = some_list(&mut rng);
                    rig.resolved(&list);
                }
                7 => rig.unresolved(RequestFailure::UnknownPool),
                8 => {
                    let resolution = list(&some_list(&mut rng));
                    rig.session.pool_changed(rig.now, (rng.below(8) > 0).then_some(&resolution));
                }
                9 | 10 => {
                    let options = SendOptions(rng.below(3) as u32);
                    if rig.send_with(&step.to_be_bytes(), options).is_ok() {
                        witness.accepted += 1;
                    }
                }
                11 => {
                    if let Some(link) = witness.up {
                        rig.control(link, &asap(&AsapMessage::Cookie(vec![1])));
                        rig.control(link, &card(&some_list(&mut rng)));
                        rig.data(link, b"data");
                    }
                }
                12 => rig.session.fail_over(rig.now, rng.below(2) == 0, rng.below(2) as u32 * 10_000 * MS),
                13 => {
                    if witness.up != Some(old) && witness.opening != Some(old) {
                        rig.up(old);
                        rig.data(old, b"late");
                        rig.returned(old, b"late");
                        rig.down(old, LinkFailure::Closed);
                    }
                }
                14 => {
                    if let Some(link) = witness.up.filter(|_| witness.sent > 0) {
                        witness.sent -= 1;
                        rig.returned(link, &step.to_be_bytes());
                    }
                }
                _ => {
                    let by = Duration::from_millis(rng.below(700));
                    let end = rig.now + by;
                    while let Some(at) = rig.session.poll_timeout().filter(|at| *at <= end) {
                        rig.now = rig.now.max(at);
                        rig.session.handle(rig.now, Input::Timeout);
                        witness.check(&mut rig);
                    }
                    rig.now = end;
                }
            }
            witness.check(&mut rig);
        }
        rig.session.close(rig.now, false);
        witness.check(&mut rig);
        assert!(witness.ended);
        let counters = rig.session.counters();
        seen.failovers += counters.failovers;
        seen.cookies_echoed += counters.cookies_echoed;
        seen.silent_elements += counters.silent_elements;
        seen.rounds_failed += counters.rounds_failed;
        seen.late_inputs += counters.late_inputs;
        seen.returned_messages += counters.returned_messages;
    }
    // The rare states were reached.
    let rare = [
        seen.failovers,
        seen.cookies_echoed,
        seen.silent_elements,
        seen.rounds_failed,
        seen.late_inputs,
        seen.returned_messages,
    ];
    assert!(rare.iter().all(|count| *count > 20), "{seen:?}");
}
