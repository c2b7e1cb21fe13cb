use super::*;
use crate::config::Profile;
use crate::policy::{Policy, PolicyType};
use crate::types::{Addresses, ErrorCause, RegistrationLife, TransportAddress, TransportUse};
use crate::wire::{AsapMessage, Dialect};
use std::net::{IpAddr, Ipv4Addr};

const MS: Duration = Duration::from_millis(1);
const DATA: UserChannel = UserChannel { ppid: 7, stream: 1, unordered: false };
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
    message.encode(Dialect::Rfc).unwrap()
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

// --- The first element

#[test]
fn resolves_connects_and_delivers_what_was_sent_meanwhile_in_order() {
    let mut rig = Rig::user(automatic());
    assert_eq!((rig.events(), rig.session.state()), (vec![resolve(5_000 * MS)], State::Connecting));
    rig.send(b"one");
    rig.resolved(&[tcp(1), tcp(2)]);
    rig.send(b"two");
    assert_eq!(rig.session.unsent(), 6);
    let (link, id) = rig.connecting();
    assert_eq!((link, id), (L0, 1));
    rig.up(link);
    rig.send(b"three");
    assert_eq!(rig.effects(), [sent(L0, b"one"), sent(L0, b"two"), sent(L0, b"three")]);
    let connected = Event::Connected { element: Some(PeId(1)), kind: LinkKind::Tcp, control: true };
    assert_eq!(rig.events(), [connected]);
    assert_eq!((rig.session.state(), rig.session.unsent()), (State::Connected, 0));
    assert_eq!(rig.session.poll_timeout().filter(|_| !rig.session.timers.is_empty()), None);
}

#[test]
fn the_transport_of_an_element_decides_link_and_protocol() {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let sctp = |transport_use| TransportAddress::Sctp {
        port: 9,
        transport_use,
        addresses: Addresses::new(vec![address, IpAddr::V4(Ipv4Addr::new(10, 0, 0, 9))]).unwrap(),
    };
    let cases = [
        (tcp(1), LinkKind::Tcp, Protocol::Session, 1),
        (plain(1), LinkKind::Tcp, Protocol::Plain, 1),
        (with_transport(1, sctp(TransportUse::DataOnly)), LinkKind::Sctp, Protocol::Plain, 2),
        (with_transport(1, sctp(TransportUse::DataPlusControl)), LinkKind::Sctp, Protocol::Session, 2),
        (with_transport(1, TransportAddress::Udp { port: 9, address }), LinkKind::Udp, Protocol::Plain, 1),
    ];
    for (element, kind, protocol, addresses) in cases {
        let mut rig = Rig::user(automatic());
        rig.resolved(&[element]);
        let effects = rig.effects();
        let [Effect::Connect { to, .. }] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!((to.kind, to.protocol, to.addresses.as_slice().len()), (kind, protocol, addresses));
    }
}

#[test]
fn elements_on_transports_without_sessions_are_passed_over() {
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let unusable = [
        with_transport(1, TransportAddress::Dccp { port: 1, service_code: 0, address }),
        with_transport(2, TransportAddress::UdpLite { port: 1, address }),
        with_transport(3, TransportAddress::Opaque(vec![1])),
    ];
    let mut rig = Rig::user(automatic());
    let mut all = unusable.to_vec();
    all.push(tcp(4));
    rig.resolved(&all);
    assert_eq!(rig.connecting().1, 4);

    let mut rig = Rig::user(automatic());
    rig.events();
    rig.resolved(&unusable);
    assert_eq!(rig.events(), [Event::FailoverFailed(NoElement::NotReached(vec![]))]);
}

#[test]
fn tries_the_elements_in_turn_and_reports_each_once() {
    let mut rig = Rig::user(automatic());
    rig.events();
    rig.resolved(&[tcp(1), tcp(2), tcp(3)]);
    assert_eq!(rig.connecting(), (L0, 1));
    rig.down(L0, LinkFailure::Refused);
    assert_eq!(rig.connecting(), (L1, 2));
    rig.pass(499 * MS);
    assert_eq!(rig.effects(), []);
    rig.pass(MS);
    let effects = rig.effects();
    assert_eq!(effects[0], Effect::Close { link: L1, abort: true });
    assert!(matches!(effects[1], Effect::Connect { link: L2, .. }));
    rig.down(L2, LinkFailure::NoResources);
    assert_eq!(rig.effects(), []);
    let missed = vec![
        (PeId(1), LinkFailure::Refused),
        (PeId(2), LinkFailure::TimedOut),
        (PeId(3), LinkFailure::NoResources),
    ];
    // That we have no descriptor left is not the third element's fault.
    let failed = Event::FailoverFailed(NoElement::NotReached(missed));
    assert_eq!(rig.events(), [unreachable(1), unreachable(2), failed]);
}

#[test]
fn after_a_fruitless_round_resolves_anew_and_goes_on_for_ever() {
    let mut rig = Rig::user(by_application());
    rig.resolved(&[tcp(1)]);
    for round in 0..100 {
        let (link, _) = rig.connecting();
        rig.events();
        rig.down(link, LinkFailure::Refused);
        let failed = Event::FailoverFailed(NoElement::NotReached(vec![(PeId(1), LinkFailure::Refused)]));
        let expected = if round == 0 { vec![unreachable(1), failed] } else { vec![failed] };
        assert_eq!((rig.events(), rig.session.state()), (expected, State::Connecting));
        rig.pass(49 * MS);
        assert_eq!(rig.events(), []);
        rig.pass(MS);
        assert_eq!(rig.events(), [resolve(Duration::ZERO)]);
        assert_eq!(rig.effects(), []);
        rig.resolved(&[tcp(1)]);
    }
}

#[test]
fn without_a_resolution_the_first_connection_keeps_asking() {
    let mut rig = Rig::user(automatic());
    rig.events();
    rig.unresolved(RequestFailure::UnknownPool);
    assert_eq!(rig.events(), [Event::FailoverFailed(NoElement::NotResolved(RequestFailure::UnknownPool))]);
    rig.pass(50 * MS);
    assert_eq!(rig.events(), [resolve(Duration::ZERO)]);
    rig.unresolved(RequestFailure::NoRegistrar(vec![]));
    assert!(matches!(rig.events()[..], [Event::FailoverFailed(NoElement::NotResolved(_))]));
    rig.pass(50 * MS);
    rig.resolved(&[tcp(1)]);
    assert_eq!(rig.connecting().1, 1);
}

#[test]
fn a_slow_resolution_is_waited_for_while_there_is_nobody_to_try() {
    let mut rig = Rig::user(automatic());
    rig.events();
    rig.pass(5_000 * MS);
    assert_eq!(rig.events(), [], "one question, and no verdict before its answer");
    rig.resolved(&[tcp(1)]);
    assert_eq!(rig.connecting().1, 1);
}

#[test]
fn the_policy_of_the_pool_decides() {
    let weighted = |id, load| {
        let policy = Policy::new(PolicyType::LeastUsed, &[load]);
        PoolElement { policy, ..tcp(id) }
    };
    let mut rig = Rig::user(automatic());
    rig.resolved(&[weighted(1, 900), weighted(2, 100), weighted(3, 500)]);
    assert_eq!(rig.connecting(), (L0, 2));
    rig.down(L0, LinkFailure::Refused);
    assert_eq!(rig.connecting(), (L1, 3));
    rig.down(L1, LinkFailure::Refused);
    assert_eq!(rig.connecting(), (L2, 1));
}

// --- Failover

#[test]
fn moves_on_in_the_same_instant_without_waiting_for_a_resolution() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting(), (L1, 2));
    assert_eq!(rig.events(), [Event::FailoverNecessary, unreachable(1), resolve(Duration::ZERO)]);
    assert_eq!(rig.session.state(), State::FailingOver);
    rig.pass(3 * MS);
    rig.up(L1);
    assert_eq!(rig.events(), [complete(2, false, 3 * MS)]);
    assert_eq!(rig.session.current(), Some(&tcp(2)));
    rig.resolved(&[tcp(2)]);
    assert_eq!((rig.effects(), rig.events(), rig.session.state()), (vec![], vec![], State::Connected));
}

#[test]
fn without_automatic_failover_waits_for_the_application() {
    let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::TimedOut);
    assert_eq!(rig.events(), [Event::FailoverNecessary, unreachable(1)]);
    assert_eq!((rig.effects(), rig.session.state()), (vec![], State::Failed));
    assert_eq!(rig.send_with(b"x", SendOptions::DEFAULT), Err(SendRefused::FailedOver));
    rig.pass(1_000 * MS);
    rig.session.fail_over(rig.now, true, 60_000 * MS);
    assert_eq!(rig.events(), [resolve(Duration::ZERO)], "reported already");
    let (link, id) = rig.connecting();
    assert_eq!(id, 2);
    rig.up(link);
    assert_eq!(rig.events(), [complete(2, false, 1_000 * MS)]);
}

#[test]
fn a_failover_of_the_application_is_one_round() {
    let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    rig.session.fail_over(rig.now, false, 60_000 * MS);
    rig.resolved(&[tcp(1), tcp(2)]);
    rig.down(L1, LinkFailure::Refused);
    rig.events();
    rig.down(L2, LinkFailure::Refused);
    let missed = vec![(PeId(2), LinkFailure::Refused), (PeId(1), LinkFailure::Refused)];
    assert_eq!(rig.events(), [Event::FailoverFailed(NoElement::NotReached(missed))]);
    assert_eq!(rig.session.state(), State::Failed);
    rig.effects();
    rig.pass(10_000 * MS);
    assert_eq!((rig.effects(), rig.session.state()), (vec![], State::Failed));
    rig.session.fail_over(rig.now, false, Duration::ZERO);
    assert_eq!(rig.effects(), [], "the list is too old");
    rig.resolved(&[tcp(2)]);
    let (link, _) = rig.connecting();
    rig.up(link);
    assert_eq!(rig.session.state(), State::Connected);
}

#[test]
fn an_application_may_leave_a_working_element_and_report_it() {
    for report in [false, true] {
        let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
        rig.session.fail_over(rig.now, report, Duration::ZERO);
        assert_eq!(rig.effects(), [Effect::Close { link: L0, abort: report }]);
        let expected = if report { vec![unreachable(1)] } else { vec![] };
        assert_eq!(rig.events(), [expected, vec![resolve(Duration::ZERO)]].concat());
        rig.resolved(&[tcp(1), tcp(2)]);
        assert_eq!(rig.connecting().1, 2, "the one just left comes last");
    }
}

#[test]
fn an_old_list_is_used_when_no_registrar_answers() {
    for slow in [false, true] {
        let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
        rig.session.fail_over(rig.now, false, Duration::ZERO);
        rig.effects();
        if slow {
            rig.pass(500 * MS);
        } else {
            rig.unresolved(RequestFailure::NoRegistrar(vec![]));
        }
        assert_eq!(rig.connecting().1, 2);
    }
}

#[test]
fn a_failover_during_a_failover_changes_nothing_but_ends_a_pause() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    rig.connecting();
    rig.events();
    rig.session.fail_over(rig.now, true, Duration::ZERO);
    assert_eq!((rig.effects(), rig.events()), (vec![], vec![]));
    rig.unresolved(RequestFailure::TimedOut);
    rig.down(L1, LinkFailure::Refused);
    let (link, _) = rig.connecting();
    rig.down(link, LinkFailure::Refused);
    rig.events();
    rig.session.fail_over(rig.now, true, Duration::ZERO);
    assert_eq!(rig.events(), [resolve(Duration::ZERO)]);
}

#[test]
fn a_link_that_comes_up_and_is_lost_again_starts_another_failover() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.down(L0, LinkFailure::Reset);
    rig.up(L1);
    rig.down(L1, LinkFailure::Reset);
    rig.up(L2);
    let events = rig.events();
    assert_eq!(events.iter().filter(|event| **event == Event::FailoverNecessary).count(), 2);
    assert_eq!(events.last(), Some(&complete(3, false, Duration::ZERO)));
    assert_eq!(rig.session.counters().failovers, 2);
}

#[test]
fn two_failures_in_one_instant_use_up_two_elements_once_each() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.down(L0, LinkFailure::Reset);
    rig.down(L0, LinkFailure::TimedOut);
    rig.down(L1, LinkFailure::Refused);
    rig.down(L1, LinkFailure::Refused);
    rig.session.handle(rig.now, Input::Timeout);
    let events = rig.events();
    assert_eq!(events, [Event::FailoverNecessary, unreachable(1), resolve(Duration::ZERO), unreachable(2)]);
    let connects = rig.effects().len();
    assert_eq!((connects, rig.session.counters().late_inputs), (2, 2));
    rig.up(L2);
    assert_eq!(rig.session.current().map(|element| element.id), Some(PeId(3)));
}

#[test]
fn a_pool_of_one_is_tried_again_at_once_and_then_with_pauses() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    rig.pass(1_000 * MS);
    rig.down(L0, LinkFailure::Reset);
    let (link, id) = rig.connecting();
    assert_eq!((link, id), (L1, 1));
    rig.down(L1, LinkFailure::Refused);
    assert_eq!(rig.effects(), []);
    rig.events();
    rig.resolved(&[tcp(1)]);
    assert_eq!(rig.effects(), []);
    assert!(matches!(rig.events()[..], [Event::FailoverFailed(_)]));
    rig.pass(50 * MS);
    rig.resolved(&[tcp(1)]);
    let (link, _) = rig.connecting();
    rig.up(link);
    assert_eq!(rig.events(), [resolve(Duration::ZERO), complete(1, false, 50 * MS)]);
}

#[test]
fn an_element_that_accepts_and_dies_at_once_makes_no_busy_loop() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    let mut link = L0;
    let mut connects = 0;
    let end = rig.now + 1_000 * MS;
    while rig.now < end {
        rig.down(link, LinkFailure::Reset);
        rig.session.resolved(rig.now, Ok(list(&[tcp(1), tcp(2)])));
        while let Some(effect) = rig.session.poll_effect() {
            if let Effect::Connect { link: next, .. } = effect {
                connects += 1;
                link = next;
                rig.up(next);
            }
        }
        rig.pass(MS);
    }
    assert!((10..=30).contains(&connects), "{connects} connects in a second");
}

#[test]
fn gives_up_at_the_deadline_and_returns_what_was_not_sent() {
    let config = SessionConfig { failover_deadline: Some(700 * MS), ..automatic() };
    let mut rig = Rig::at_first_of(config, &[tcp(1)]);
    rig.down(L0, LinkFailure::Reset);
    rig.send(b"kept");
    rig.down(L1, LinkFailure::Refused);
    rig.unresolved(RequestFailure::UnknownPool);
    rig.pass(699 * MS);
    assert_eq!(rig.session.state(), State::FailingOver);
    rig.events();
    rig.pass(MS);
    assert_eq!(rig.events(), [send_failed(None, b"kept"), Event::Ended(Some(LinkFailure::Reset))]);
    assert_eq!((rig.session.state(), rig.session.poll_timeout()), (State::Ended, None));
    assert_eq!(rig.send_with(b"x", SendOptions::DEFAULT), Err(SendRefused::Ended));
}

#[test]
fn the_deadline_closes_the_link_being_opened() {
    let config = SessionConfig { failover_deadline: Some(100 * MS), ..automatic() };
    let mut rig = Rig::at_first_of(config, &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::TimedOut);
    rig.effects();
    rig.pass(100 * MS);
    assert_eq!(rig.effects(), [Effect::Close { link: L1, abort: true }]);
    assert_eq!(rig.events().last(), Some(&Event::Ended(Some(LinkFailure::TimedOut))));
    rig.up(L1);
    assert_eq!((rig.session.state(), rig.effects()), (State::Ended, vec![]));
}

#[test]
fn switching_to_automatic_while_failed_moves_on() {
    let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    rig.session.configure(automatic());
    rig.pass(Duration::ZERO);
    assert_eq!(rig.connecting().1, 2);
}

#[test]
fn an_orderly_end_by_the_peer_ends_the_session() {
    for config in [automatic(), by_application()] {
        let mut rig = Rig::at_first_of(config, &[tcp(1), tcp(2)]);
        rig.down(L0, LinkFailure::Closed);
        assert_eq!((rig.effects(), rig.events()), (vec![], vec![Event::Ended(None)]));
        assert_eq!(rig.session.state(), State::Ended);
    }
}

#[test]
fn on_a_plain_link_the_end_of_the_data_is_no_failure_but_a_reset_is() {
    for (why, state) in [(LinkFailure::Closed, State::Ended), (LinkFailure::Reset, State::FailingOver)] {
        let mut rig = Rig::user(automatic());
        rig.resolved(&[plain(1), plain(2)]);
        rig.up_as(L0, LinkKind::Tcp, Protocol::Plain);
        rig.down(L0, why);
        assert_eq!(rig.session.state(), state);
    }
}

#[test]
fn a_pool_change_ends_the_wait_for_the_next_round() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    rig.down(L0, LinkFailure::Reset);
    rig.down(L1, LinkFailure::Refused);
    rig.unresolved(RequestFailure::TimedOut);
    rig.effects();
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(2)])));
    assert_eq!(rig.connecting().1, 2);
}

#[test]
fn an_attempt_at_an_element_that_leaves_the_pool_is_given_up_for_another() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    rig.effects();
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(3)])));
    let effects = rig.effects();
    assert_eq!(effects[0], Effect::Close { link: L1, abort: true });
    assert!(matches!(effects[1], Effect::Connect { link: L2, .. }));
}

#[test]
fn an_element_that_left_the_pool_and_is_silent_has_failed() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.send(b"request");
    rig.effects();
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(2)])));
    rig.pass(499 * MS);
    assert_eq!(rig.session.state(), State::Connected);
    rig.pass(MS);
    let effects = rig.effects();
    assert_eq!(effects[0], Effect::Close { link: L0, abort: true });
    assert!(matches!(effects[1], Effect::Connect { link: L1, .. }));
    assert_eq!(rig.session.counters().silent_elements, 1);
}

#[test]
fn an_element_that_left_the_pool_and_answers_stays() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(2)])));
    rig.pass(10_000 * MS);
    for _ in 0..5 {
        rig.send(b"request");
        rig.pass(400 * MS);
        rig.data(L0, b"answer");
        rig.pass(400 * MS);
    }
    assert_eq!(rig.session.state(), State::Connected);
    rig.send(b"request");
    rig.pass(1_000 * MS);
    assert_eq!(rig.session.state(), State::FailingOver);
}

#[test]
fn an_element_that_comes_back_to_the_pool_is_no_longer_watched() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.send(b"request");
    rig.session.pool_changed(rig.now, None);
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(1)])));
    rig.pass(10_000 * MS);
    assert_eq!(rig.session.state(), State::Connected);
}

#[test]
fn a_request_sent_late_in_the_watch_gets_its_full_time() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(2)])));
    rig.send(b"request");
    rig.pass(400 * MS);
    rig.data(L0, b"answer");
    rig.send(b"request");
    rig.pass(400 * MS);
    assert_eq!(rig.session.state(), State::Connected);
    rig.pass(400 * MS);
    assert_eq!(rig.session.state(), State::FailingOver);
}

#[test]
fn each_element_is_watched_for_itself() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.send(b"request");
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(2), tcp(3)])));
    rig.pass(400 * MS);
    rig.down(L0, LinkFailure::Reset);
    rig.up(L1);
    rig.send(b"request");
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(3)])));
    rig.pass(499 * MS);
    assert_eq!(rig.session.state(), State::Connected);
    rig.pass(MS);
    assert_eq!(rig.session.state(), State::FailingOver);
}

#[test]
fn with_a_resolution_overdue_a_failover_uses_the_list_held() {
    let mut rig = Rig::at_first_of(by_application(), &[tcp(1), tcp(2)]);
    rig.session.fail_over(rig.now, false, Duration::ZERO);
    rig.pass(500 * MS);
    rig.up(L1);
    rig.effects();
    rig.events();
    rig.session.fail_over(rig.now, false, Duration::ZERO);
    assert!(matches!(rig.effects()[..], [Effect::Close { .. }, Effect::Connect { .. }]));
    assert_eq!(rig.events(), [], "the question is still open");
}

#[test]
fn elements_not_reached_in_one_failover_are_tried_in_the_next() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.down(L0, LinkFailure::Reset);
    rig.down(L1, LinkFailure::Refused);
    rig.up(L2);
    rig.effects();
    rig.down(L2, LinkFailure::Reset);
    let mut tried = vec![rig.connecting().1];
    rig.down(LinkId::outgoing(3), LinkFailure::Refused);
    tried.push(rig.connecting().1);
    assert_eq!(tried, [1, 2], "the one suspected longest first");
}

#[test]
fn an_element_that_moved_gets_a_new_chance_at_once() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.down(L0, LinkFailure::Reset);
    rig.down(L1, LinkFailure::Refused);
    rig.unresolved(RequestFailure::TimedOut);
    rig.down(L2, LinkFailure::Refused);
    rig.effects();
    assert_eq!(rig.session.state(), State::FailingOver);
    let moved = PoolElement { user_transport: tcp(9).user_transport, ..tcp(2) };
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(1), moved])));
    assert_eq!(rig.connecting().1, 9);
}

// --- Cookies

#[test]
fn the_latest_cookie_is_the_first_thing_the_next_element_hears() {
    let own = Some((pool(), vec![tcp(9)]));
    let mut rig = Rig::user_with(automatic(), Limits::default(), own);
    rig.resolved(&[tcp(1), tcp(2)]);
    rig.up(L0);
    rig.control(L0, &asap(&AsapMessage::Cookie(b"old".to_vec())));
    rig.control(L0, &asap(&AsapMessage::Cookie(b"new, not a multiple of four".to_vec())));
    assert!(rig.session.has_cookie());
    rig.down(L0, LinkFailure::Reset);
    rig.send(b"next request");
    rig.effects();
    rig.events();
    rig.up(L1);
    let echo = AsapMessage::CookieEcho(b"new, not a multiple of four".to_vec());
    let own_card = AsapMessage::BusinessCard { handle: pool(), elements: vec![tcp(9)] };
    assert_eq!(rig.effects(), [said(L1, &echo), said(L1, &own_card), sent(L1, b"next request")]);
    assert_eq!(rig.events(), [complete(2, true, Duration::ZERO)]);
}

#[test]
fn a_cookie_that_arrives_right_before_the_loss_counts() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.control(L0, &asap(&AsapMessage::Cookie(b"last".to_vec())));
    rig.down(L0, LinkFailure::Reset);
    rig.effects();
    rig.up(L1);
    assert_eq!(rig.effects(), [said(L1, &AsapMessage::CookieEcho(b"last".to_vec()))]);
}

#[test]
fn a_cookie_outlives_elements_that_give_none() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.control(L0, &asap(&AsapMessage::Cookie(b"c".to_vec())));
    rig.down(L0, LinkFailure::Reset);
    rig.up(L1);
    rig.down(L1, LinkFailure::Reset);
    rig.effects();
    rig.up(L2);
    assert_eq!(rig.effects(), [said(L2, &AsapMessage::CookieEcho(b"c".to_vec()))]);
}

#[test]
fn a_cookie_of_the_greatest_length_is_echoed_unmodified() {
    let mut element = Rig::element(automatic(), None);
    element.up(LinkId::incoming(5));
    assert_eq!(element.session.send_cookie(element.now, &vec![7; 65_528]), Err(SendRefused::TooLong));
    element.session.send_cookie(element.now, &vec![7; 65_527]).unwrap();
    let effects = element.effects();
    let [Effect::Send { bytes, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.control(L0, bytes);
    rig.down(L0, LinkFailure::Reset);
    rig.effects();
    rig.up(L1);
    assert_eq!(rig.effects(), [said(L1, &AsapMessage::CookieEcho(vec![7; 65_527]))]);
}

#[test]
fn without_control_channel_no_cookie_is_echoed() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), plain(2)]);
    rig.control(L0, &asap(&AsapMessage::Cookie(b"c".to_vec())));
    rig.down(L0, LinkFailure::Reset);
    rig.effects();
    rig.events();
    rig.up_as(L1, LinkKind::Tcp, Protocol::Plain);
    assert_eq!((rig.effects(), rig.events()), (vec![], vec![complete(2, false, Duration::ZERO)]));
    assert!(rig.session.has_cookie());
}

// --- Business cards

#[test]
fn a_card_is_told_and_its_order_obeyed_at_failover() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.control(L0, &card(&[tcp(1), tcp(3), tcp(2)]));
    let told = Event::Card { handle: pool(), elements: vec![tcp(1), tcp(3), tcp(2)] };
    assert_eq!(rig.events(), [told]);
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting(), (L1, 3));
    rig.down(L1, LinkFailure::Refused);
    assert_eq!(rig.connecting(), (L2, 2));
}

#[test]
fn a_newer_card_replaces_the_older_one() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.control(L0, &card(&[tcp(3)]));
    rig.control(L0, &card(&[tcp(2)]));
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting(), (L1, 2));
}

#[test]
fn a_card_may_name_elements_the_registrar_did_not_tell_of_but_not_ones_that_left() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.control(L0, &card(&[tcp(3), tcp(4)]));
    rig.session.pool_changed(rig.now, Some(&list(&[tcp(1), tcp(2)])));
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting(), (L1, 4));
}

#[test]
fn a_card_of_another_pool_does_not_lead_the_session_there() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    let other = PoolHandle::new(b"other").unwrap();
    let elements = vec![tcp(7)];
    rig.control(L0, &asap(&AsapMessage::BusinessCard { handle: other.clone(), elements: elements.clone() }));
    assert_eq!(rig.events(), [Event::Card { handle: other, elements }]);
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting().1, 2);
}

#[test]
fn what_the_registrar_tells_of_an_element_overrides_the_card() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    let stale = PoolElement { user_transport: tcp(99).user_transport, ..tcp(2) };
    rig.control(L0, &card(&[stale]));
    rig.down(L0, LinkFailure::Reset);
    assert_eq!(rig.connecting().1, 2);
}

#[test]
fn an_element_gives_its_card_when_communication_begins() {
    let own = Some((pool(), vec![tcp(1), tcp(2)]));
    let mut rig = Rig::element(automatic(), own);
    let link = LinkId::incoming(5);
    rig.up(link);
    let elements = vec![tcp(1), tcp(2)];
    assert_eq!(rig.effects(), [said(link, &AsapMessage::BusinessCard { handle: pool(), elements })]);
    assert_eq!(rig.events(), [Event::Connected { element: None, kind: LinkKind::Tcp, control: true }]);
    rig.session.send_business_card(rig.now, &pool(), &[tcp(2)]).unwrap();
    let elements = vec![tcp(2)];
    assert_eq!(rig.effects(), [said(link, &AsapMessage::BusinessCard { handle: pool(), elements })]);
}

#[test]
fn a_peer_that_has_shown_nothing_gets_a_card_only_after_its_own_or_by_option() {
    let link = LinkId::incoming(5);
    let stripped = AsapMessage::BusinessCard { handle: pool(), elements: vec![plain(1)] };
    for unasked in [false, true] {
        let config = SessionConfig { unasked_business_card: unasked, ..automatic() };
        let mut rig = Rig::element(config, Some((pool(), vec![tcp(1)])));
        rig.up_as(link, LinkKind::Sctp, Protocol::Session);
        if !unasked {
            assert_eq!(rig.effects(), []);
            rig.control(link, &card(&[plain(8)]));
        }
        assert_eq!(rig.effects(), [said(link, &stripped)]);
        rig.control(link, &card(&[plain(8)]));
        assert_eq!(rig.effects(), [], "once");
    }
}

#[test]
fn a_user_that_is_no_element_gives_no_card() {
    let mut rig = Rig::user(automatic());
    rig.resolved(&[tcp(1)]);
    rig.effects();
    rig.up(L0);
    assert_eq!(rig.effects(), []);
}

#[test]
fn no_card_without_control_channel() {
    let own = Some((pool(), vec![tcp(9)]));
    let config = SessionConfig { unasked_business_card: true, ..automatic() };
    let mut rig = Rig::user_with(config, Limits::default(), own);
    rig.resolved(&[plain(1)]);
    rig.effects();
    rig.up_as(L0, LinkKind::Tcp, Protocol::Plain);
    assert_eq!(rig.effects(), []);
    let refused = rig.session.send_business_card(rig.now, &pool(), &[tcp(9)]);
    assert_eq!((refused, rig.effects()), (Err(SendRefused::NoControlChannel), vec![]));
}

#[test]
fn a_card_that_is_too_long_is_cut_at_its_end() {
    let many: Vec<_> = (0..4_000).map(|id| PoolElement { id: PeId(id), ..tcp(1) }).collect();
    let mut rig = Rig::element(automatic(), Some((pool(), many.clone())));
    let refused = rig.session.send_business_card(rig.now, &pool(), &many);
    assert_eq!(refused, Err(SendRefused::TooLong));
    rig.up(LinkId::incoming(5));
    let effects = rig.effects();
    let [Effect::Send { bytes, .. }] = effects.as_slice() else { panic!("{effects:?}") };
    let AsapMessage::BusinessCard { elements, .. } =
        AsapMessage::decode(bytes, Dialect::Rfc).unwrap().message
    else {
        panic!("a card")
    };
    assert!(elements.len() >= 500 && many.starts_with(&elements));
}

// --- Unsent messages and send options

#[test]
fn messages_the_link_gave_back_go_to_the_next_element_before_later_ones() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    for message in [b"1", b"2", b"3"] {
        rig.send(message);
    }
    rig.returned(L0, b"2");
    rig.returned(L0, b"3");
    rig.down(L0, LinkFailure::Reset);
    rig.send(b"4");
    rig.effects();
    rig.up(L1);
    assert_eq!(rig.effects(), [sent(L1, b"2"), sent(L1, b"3"), sent(L1, b"4")]);
}

#[test]
fn a_message_given_back_by_a_link_that_lives_on_is_reported() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.send(b"lost");
    rig.returned(L0, b"lost");
    assert_eq!(rig.events(), []);
    rig.pass(500 * MS);
    assert_eq!(rig.events(), [send_failed(Some(1), b"lost")]);
    assert_eq!(rig.session.state(), State::Connected);
}

#[test]
fn a_message_given_back_right_before_the_loss_survives_a_long_failover() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    rig.send(b"kept");
    rig.returned(L0, b"kept");
    rig.pass(100 * MS);
    rig.down(L0, LinkFailure::Reset);
    rig.pass(450 * MS);
    rig.effects();
    rig.up(L1);
    assert_eq!(rig.effects(), [sent(L1, b"kept")]);
}

#[test]
fn no_failover_gives_the_message_back_instead() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2), tcp(3)]);
    rig.send(b"a");
    rig.send_with(b"b", SendOptions::NO_FAILOVER).unwrap();
    rig.returned(L0, b"a");
    rig.returned(L0, b"b");
    rig.down(L0, LinkFailure::Reset);
    assert!(rig.events().contains(&send_failed(Some(1), b"b")));
    rig.send_with(b"c", SendOptions::NO_FAILOVER).unwrap();
    rig.send_with(b"d", SendOptions::FAILOVER).unwrap();
    rig.down(L1, LinkFailure::Refused);
    assert!(rig.events().contains(&send_failed(Some(2), b"c")));
    rig.effects();
    rig.up(L2);
    assert_eq!(rig.effects(), [sent(L2, b"a"), sent(L2, b"d")]);
}

#[test]
fn contradictory_and_unknown_options_and_the_ppid_of_asap_are_refused() {
    let bad = [
        SendOptions::FAILOVER | SendOptions::NO_FAILOVER,
        SendOptions::TO_SELF,
        SendOptions::TO_ALL | SendOptions::TO_LAST,
        SendOptions::TO_ALL,
        SendOptions(0x0020),
    ];
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    for options in bad {
        assert_eq!(rig.send_with(b"x", options), Err(SendRefused::BadOptions), "{options:?}");
    }
    let asap = UserChannel { ppid: 11, ..DATA };
    let refused = rig.session.send(rig.now, b"x".to_vec(), asap, SendOptions::DEFAULT);
    assert_eq!((refused, rig.effects()), (Err(SendRefused::BadOptions), vec![]));
    for options in [SendOptions::TO_LAST, SendOptions::FAILOVER, SendOptions::NO_FAILOVER] {
        assert_eq!(rig.send_with(b"x", options), Ok(()));
    }
}

#[test]
fn the_unordered_option_reaches_the_channel() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    rig.send_with(b"x", SendOptions::UNORDERED).unwrap();
    let channel = Channel::User(UserChannel { unordered: true, ..DATA });
    assert_eq!(rig.effects(), [Effect::Send { link: L0, channel, bytes: b"x".to_vec() }]);
}

#[test]
fn unsent_messages_are_bounded_and_room_is_told_once() {
    let limits = Limits { queued_bytes_per_link: 1_000, user_message_bytes: 5_000, ..Limits::default() };
    let mut rig = Rig::user_with(automatic(), limits, None);
    rig.events();
    assert_eq!(rig.send_with(&[0; 5_001], SendOptions::DEFAULT), Err(SendRefused::TooLong));
    rig.send(&[0; 5_000]);
    assert_eq!(rig.send_with(b"", SendOptions::DEFAULT), Err(SendRefused::Full));
    rig.resolved(&[tcp(1)]);
    assert_eq!(rig.events(), []);
    rig.up(L0);
    let connected = Event::Connected { element: Some(PeId(1)), kind: LinkKind::Tcp, control: true };
    assert_eq!(rig.events(), [connected, Event::Writable]);
    rig.session.handle(rig.now, Input::Writable { link: L0 });
    assert_eq!(rig.events(), [Event::Writable]);
}

#[test]
fn very_many_empty_messages_are_bounded_too() {
    let mut rig = Rig::user(automatic());
    let taken = (0..1_000_000).take_while(|_| rig.send_with(b"", SendOptions::DEFAULT).is_ok()).count();
    assert!((1_000..100_000).contains(&taken), "{taken}");
}

#[test]
fn sending_while_failing_over_is_kept_for_the_next_element() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    rig.down(L0, LinkFailure::Reset);
    rig.send(b"1");
    rig.down(L1, LinkFailure::Refused);
    rig.send(b"2");
    rig.unresolved(RequestFailure::UnknownPool);
    rig.pass(50 * MS);
    rig.effects();
    rig.send(b"3");
    rig.resolved(&[tcp(5)]);
    rig.connecting();
    rig.up(L2);
    assert_eq!(rig.effects(), [sent(L2, b"1"), sent(L2, b"2"), sent(L2, b"3")]);
}

// --- The control channel

#[test]
fn plain_peers_have_no_control_channel() {
    let mut rig = Rig::element(automatic(), None);
    let link = LinkId::incoming(5);
    rig.up_as(link, LinkKind::Tcp, Protocol::Plain);
    assert_eq!(rig.session.send_cookie(rig.now, b"c"), Err(SendRefused::NoControlChannel));
    rig.control(link, &asap(&AsapMessage::CookieEcho(b"c".to_vec())));
    let connected = Event::Connected { element: None, kind: LinkKind::Tcp, control: false };
    assert_eq!((rig.events(), rig.effects()), (vec![connected], vec![]));
    let channel = Channel::User(UserChannel::default());
    rig.session.handle(rig.now, Input::Message { link, channel, bytes: b"chunk", complete: false });
    let received = Event::Received {
        bytes: b"chunk".to_vec(),
        channel: UserChannel::default(),
        complete: false,
        from: None,
    };
    assert_eq!(rig.events(), [received]);
}

#[test]
fn a_user_has_no_cookie_to_give() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    assert_eq!(rig.session.send_cookie(rig.now, b"c"), Err(SendRefused::BadOptions));
}

#[test]
fn unknown_messages_are_reported_and_errors_never_are() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
    // Type bits 01: discard and report.
    let unknown = [0x7f, 0, 0, 8, 1, 2, 3, 4];
    rig.control(L0, &unknown);
    let cause = ErrorCause { code: crate::types::CauseCode::UnrecognizedMessage, info: unknown.to_vec() };
    assert_eq!(rig.effects(), [said(L0, &AsapMessage::Error(vec![cause]))]);
    // Type bits 00: discard in silence.
    rig.control(L0, &[0x3f, 0, 0, 4]);
    rig.control(L0, &asap(&AsapMessage::Error(vec![])));
    // An error with an unknown parameter that wants reporting.
    rig.control(L0, &[0x0e, 0, 0, 12, 0xff, 0xff, 0, 8, 0, 0, 0, 0]);
    rig.control(L0, &[0x0e, 0, 0, 12, 0xff, 0xff, 0, 80, 0, 0, 0, 0]);
    assert_eq!((rig.effects(), rig.events()), (vec![], vec![]));
    assert_eq!(rig.session.state(), State::Connected);
}

#[test]
fn messages_with_no_place_on_a_control_channel_are_reported() {
    let strays = [
        AsapMessage::CookieEcho(b"c".to_vec()),
        AsapMessage::Deregistration { handle: pool(), element: PeId(1) },
        AsapMessage::KeepAliveAck { handle: pool(), element: PeId(1) },
        AsapMessage::CookieEcho(vec![0; 65_527]),
    ];
    for stray in strays {
        let mut rig = Rig::at_first_of(automatic(), &[tcp(1)]);
        rig.control(L0, &asap(&stray));
        let effects = rig.effects();
        let [Effect::Send { bytes, .. }] = effects.as_slice() else { panic!("{effects:?}") };
        assert_eq!(bytes[0], 0x0e);
        assert_eq!(rig.events(), []);
    }
}

#[test]
fn no_control_message_disturbs_the_session() {
    let mut rig = Rig::at_first_of(automatic(), &[tcp(1), tcp(2)]);
    let card = card(&[tcp(1), tcp(2)]);
    for cut in 0..card.len() {
        rig.control(L0, &card[..cut]);
    }
    for first in 0..=255 {
        rig.control(L0, &[first, 0, 0, 8, first, first, first, first]);
    }
    rig.control(L0, &[]);
    assert_eq!(rig.session.state(), State::Connected);
}

// --- The element's side

#[test]
fn an_element_hears_the_cookie_echo_before_the_data_and_has_no_failover() {
    let mut rig = Rig::element(automatic(), None);
    let link = LinkId::incoming(5);
    assert_eq!(rig.session.state(), State::Connecting);
    rig.up(link);
    rig.control(link, &asap(&AsapMessage::CookieEcho(b"state".to_vec())));
    rig.data(link, b"request");
    rig.session.send_cookie(rig.now, b"next").unwrap();
    rig.send(b"answer");
    assert_eq!(rig.effects(), [said(link, &AsapMessage::Cookie(b"next".to_vec())), sent(link, b"answer")]);
    let received = Event::Received { bytes: b"request".to_vec(), channel: DATA, complete: true, from: None };
    assert_eq!(rig.events()[1..], [Event::CookieEcho(b"state".to_vec()), received]);
    rig.returned(link, b"answer");
    rig.down(link, LinkFailure::Reset);
    assert_eq!(rig.events(), [send_failed(None, b"answer"), Event::Ended(Some(LinkFailure::Reset))]);
    assert_eq!(rig.effects(), []);
    rig.session.fail_over(rig.now, true, Duration::ZERO);
    assert_eq!((rig.session.state(), rig.session.poll_timeout()), (State::Ended, None));
}

#[test]
fn an_elements_session_ends_in_order_when_the_user_closes() {
    let mut rig = Rig::element(automatic(), None);
    rig.up(LinkId::incoming(5));
    rig.down(LinkId::incoming(5), LinkFailure::Closed);
    assert_eq!(rig.events().last(), Some(&Event::Ended(None)));
}

#[test]
fn an_accepted_link_that_never_comes_up_ends_the_session() {
    let mut rig = Rig::element(automatic(), None);
    rig.down(LinkId::incoming(5), LinkFailure::Garbled);
    assert_eq!(rig.events(), [Event::Ended(Some(LinkFailure::Garbled))]);
}

// --- Ends and dead links

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
                Effect::Announce { .. } => panic!("sessions announce nothing"),
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
